"""Spans, as a collector gets them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.support.collector import Collector

from dask_controller.shell.tracing import LONGEST_ACTION, MOST_ACTIONS, Tracer, told, tracing


async def test_spans_are_sent_with_what_encloses_them() -> None:
    with Collector() as collector:
        async with tracing(collector.url) as tracer:
            with tracer.span("reconcile", {"dask.kind": "DaskCluster"}), tracer.span("act") as span:
                span.note({"dask.actions": ["created Pod a"], "dask.errors": 0})
        (act,), (reconcile,) = collector.named("act"), collector.named("reconcile")
    assert act.parent_span_id == reconcile.span_id
    assert collector.attributes(act) == {"dask.actions": ["created Pod a"], "dask.errors": 0}
    assert collector.attributes(reconcile) == {"dask.kind": "DaskCluster"}


async def test_an_error_is_the_status_of_its_span_and_goes_on() -> None:
    with Collector() as collector:
        async with tracing(collector.url) as tracer:
            with pytest.raises(ValueError, match="broken"), tracer.span("reconcile"):
                raise ValueError("broken")
        (reconcile,) = collector.named("reconcile")
    assert reconcile.status.code == reconcile.status.STATUS_CODE_ERROR


async def test_a_collector_that_is_away_holds_nobody_up() -> None:
    async with tracing("http://127.0.0.1:1") as tracer:
        with tracer.span("reconcile"):
            pass


def test_nothing_is_loaded_that_is_not_asked_for() -> None:
    loaded = "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    command = [sys.executable, "-c", f"import sys; import dask_controller.__main__; {loaded}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


async def test_without_it_there_is_nothing() -> None:
    async with tracing(None) as tracer:
        assert type(tracer) is Tracer
        with tracer.span("reconcile") as span:
            span.note({"a": 1})


async def test_it_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SystemExit, match=r"pip install 'dask-gitops\[tracing\]'"):
        async with tracing("http://127.0.0.1:1"):
            pass


def test_a_span_stays_small() -> None:
    actions = told("x" * 10_000 for _ in range(10_000))
    assert (len(actions), len(actions[0])) == (MOST_ACTIONS, LONGEST_ACTION)
