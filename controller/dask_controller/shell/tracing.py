"""Spans of reconciles for OpenTelemetry: what was looked at, decided and done, and how long each took.

Off unless asked for; then a collector gets them by OTLP. The SDK's own variables (``OTEL_TRACES_SAMPLER``,
``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_RESOURCE_ATTRIBUTES``, ...) hold:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from itertools import islice
from typing import Any

#: Actions that a span names, and characters of each.
MOST_ACTIONS, LONGEST_ACTION = 50, 300
#: Seconds that an attempt to send spans may take, and that sending the last ones may take at the end.
EXPORT_SECONDS, END_SECONDS = 5.0, 1.0

Attributes = Mapping[str, str | int | bool | list[str]]


class Span:
    """Something that takes time; this one is not told to anybody."""

    def note(self, attributes: Attributes) -> None:
        """What is known of it meanwhile."""


class Tracer:
    """Makes spans, each within the one that the task is in. This one makes none that are told."""

    def span(self, name: str, attributes: Attributes | None = None) -> AbstractContextManager[Span]:
        """A span as long as the context; an exception that leaves it is noted."""
        return contextlib.nullcontext(Span())


class _TracedSpan(Span):
    def __init__(self, span: Any) -> None:
        self._span = span

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)


class _OpenTelemetry(Tracer):
    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer

    @contextlib.contextmanager
    def span(self, name: str, attributes: Attributes | None = None) -> Any:
        with self._tracer.start_as_current_span(name, attributes=attributes) as span:
            yield _TracedSpan(span)


@contextlib.asynccontextmanager
async def tracing(url: str | None) -> AsyncGenerator[Tracer, None]:
    """Send spans to a collector while the context lasts.

    Args:
        url: of the collector, such as ``http://collector.monitoring:4318``; ``None`` for none.

    Yields:
        What makes them.
    """
    if url is None:
        yield Tracer()
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        sys.exit(f"--trace needs {error.name}: pip install 'dask-gitops[tracing]'")
    resource = Resource.create({"service.name": "dask-operator", "service.version": version("dask-gitops")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
    # In a thread of its own; of spans that nobody takes it keeps some thousand.
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield _OpenTelemetry(provider.get_tracer("dask_controller"))
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(provider.force_flush, int(END_SECONDS * 1000)), END_SECONDS)


def told(actions: Iterable[str]) -> list[str]:
    """Actions as an attribute."""
    return [action[:LONGEST_ACTION] for action in islice(actions, MOST_ACTIONS)]
