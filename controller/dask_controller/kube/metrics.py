"""Metrics for Prometheus, and what is served: them and the probes.

Names are those of controller-runtime, client-go and its workqueue where they have the thing, so that dashboards and
alerts made for those work here: https://book.kubebuilder.io/reference/metrics-reference.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .informer import Informer
from .small_http import CONNECTION_SECONDS, Answer, Page, Secure, listen
from .workqueue import Queue, Result

#: Says what is wrong, or ``None``.
Probe = Callable[[], str | None]

#: Upper bounds in seconds: most reconciles are one read; starting a thousand Pods takes minutes.
SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0)

#: How old the metrics may be that are shown: rendering takes milliseconds, and whoever asks all the time must not take
#: them from the operator.
RENDER_SECONDS = 1.0


class Key(Protocol):
    """What the queue holds."""

    @property
    def kind(self) -> str:
        """Kind of the resource to reconcile."""
        ...


class Metrics:
    """What is measured; each instance has a registry of its own.

    Args:
        prefix: beginning of the names of those metrics that no other controller has.

    Attributes:
        registry: what is shown.
        more: gives the text of further metrics, which is shown behind.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.registry = registry = CollectorRegistry()
        self.more: Callable[[], str] = str
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._reconciles = Counter(
            "controller_runtime_reconcile", "Reconciles by their result.", ["controller", "result"], registry=registry
        )
        self._errors = Counter(
            "controller_runtime_reconcile_errors", "Reconciles that failed.", ["controller"], registry=registry
        )
        self._worked = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Length of a reconcile.",
            ["controller"],
            buckets=SECONDS,
            registry=registry,
        )
        self._waited = Histogram(
            "workqueue_queue_duration_seconds",
            "How long a key waited for a worker.",
            buckets=SECONDS,
            registry=registry,
        )
        self._retries = Counter("workqueue_retries", "Keys put back because of a failure.", registry=registry)
        self._requests = Counter(
            "rest_client_requests",
            "Requests to the API server; code 0 means that there was no answer.",
            ["verb", "resource", "code"],
            registry=registry,
        )

    def requested(self, verb: str, resource: str, code: int) -> None:
        """A request to the API server ended: the hook of `Kubernetes`."""
        self._requests.labels(verb, resource, str(code)).inc()

    def reconciled(self, key: Key, result: Result, waited_seconds: float, worked_seconds: float) -> None:
        """A reconcile ended: the hook of `Queue`."""
        controller = key.kind.lower()
        self._reconciles.labels(controller, result).inc()
        self._worked.labels(controller).observe(worked_seconds)
        self._waited.observe(waited_seconds)
        if result == "error":
            self._errors.labels(controller).inc()
            self._retries.inc()

    def observe(self, queue: Queue[Any], informers: Mapping[str, Informer[Any]], leading: Callable[[], bool]) -> None:
        """From now on show also these; to be called once.

        Args:
            queue: the work queue.
            informers: the caches by plural.
            leading: whether we are the leader.
        """
        self.registry.register(_Present(self._prefix, queue, informers, leading))


class _Present(Collector):
    """What is read when somebody asks, rather than counted; `serve` asks in the event loop's thread, as it must be."""

    def __init__(
        self, prefix: str, queue: Queue[Any], informers: Mapping[str, Informer[Any]], leading: Callable[[], bool]
    ) -> None:
        self._prefix = prefix
        self._queue = queue
        self._informers = informers
        self._leading = leading

    def collect(self) -> Iterable[Metric]:
        queue = self._queue
        yield GaugeMetricFamily("workqueue_depth", "Keys that wait for a worker.", queue.depth)
        yield GaugeMetricFamily(
            "workqueue_oldest_seconds", "How long the first key has waited.", queue.oldest_seconds()
        )
        yield GaugeMetricFamily(
            "workqueue_longest_running_processor_seconds",
            "How long the slowest worker has been at its key.",
            queue.longest_running_seconds(),
        )
        yield GaugeMetricFamily("controller_runtime_active_workers", "Keys that are being reconciled.", queue.active)
        yield GaugeMetricFamily("leader_election_master_status", "1 while this process leads.", float(self._leading()))
        objects = GaugeMetricFamily(f"{self._prefix}_informer_objects", "Objects in the cache.", labels=["resource"])
        relists = CounterMetricFamily(f"{self._prefix}_informer_relists", "Complete lists.", labels=["resource"])
        age = GaugeMetricFamily(
            f"{self._prefix}_informer_age_seconds",
            "Seconds since the API server was heard on the quietest watch; up to 150 is normal.",
            labels=["resource"],
        )
        for resource, informer in self._informers.items():
            objects.add_metric([resource], len(informer.store))
            relists.add_metric([resource], informer.relists)
            age.add_metric([resource], informer.age_seconds())
        yield from (objects, relists, age)


@contextlib.asynccontextmanager
async def serve(
    metrics: Metrics,
    *,
    healthy: Probe,
    ready: Probe,
    port: int,
    host: str | None = None,
    seconds: float = CONNECTION_SECONDS,
    elsewhere: bool = False,
) -> AsyncGenerator[int, None]:
    """Answer ``/metrics``, ``/healthz`` and ``/readyz`` while the context lasts; see `small_http` for what is bounded.

    kopf's own probes answer only after its start-up handlers: too late for a process that waits for its lease.

    Args:
        metrics: what to show.
        healthy: why the process should be restarted.
        ready: why it is of no use yet.
        port: TCP port; 0 for a free one.
        host: address to listen on; ``None`` for all, IPv4 and IPv6.
        seconds: how long a connection may last.
        elsewhere: the metrics are served by `serve_secured`, and not here.

    Yields:
        The port.
    """
    pages: dict[str, Page] = {"/healthz": lambda: _answer(healthy()), "/readyz": lambda: _answer(ready())}
    if not elsewhere:
        pages |= _shown(metrics)
    async with listen(pages, port=port, host=host, seconds=seconds) as bound:
        yield bound


@contextlib.asynccontextmanager
async def serve_secured(
    metrics: Metrics, secure: Secure, *, port: int, host: str | None = None, seconds: float = CONNECTION_SECONDS
) -> AsyncGenerator[int, None]:
    """Answer ``/metrics`` over TLS, and to those alone whom the guard lets; the rest as `serve`."""
    async with listen(_shown(metrics), port=port, host=host, seconds=seconds, secure=secure) as bound:
        yield bound


def _shown(metrics: Metrics) -> dict[str, Page]:
    render = sparing(lambda: generate_latest(metrics.registry) + metrics.more().encode())
    return {"/metrics": lambda: Answer(render(), content_type=CONTENT_TYPE_LATEST)}


def sparing(render: Callable[[], bytes], seconds: float = RENDER_SECONDS) -> Callable[[], bytes]:
    """What ``render`` says; in the ``seconds`` after, what it said last."""
    said, due = b"", -math.inf

    def say() -> bytes:
        nonlocal said, due
        now = asyncio.get_running_loop().time()
        if now >= due:
            said, due = render(), now + seconds
        return said

    return say


def _answer(problem: str | None) -> Answer:
    if problem is None:
        return Answer(b"ok")
    return Answer(problem.encode(), HTTPStatus.SERVICE_UNAVAILABLE)
