"""Metrics for Prometheus, named after controller-runtime's where they exist, and the probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

from .informer import Informer
from .queue import Queue
from .world import Key

RECONCILE_TOTAL = Counter("controller_runtime_reconcile", "Reconciliations.", ["controller", "result"])
RECONCILE_SECONDS = Histogram("controller_runtime_reconcile_time_seconds", "Time of a reconciliation.", ["controller"])
REQUESTS_TOTAL = Counter("rest_client_requests", "Requests to the API server.", ["method", "resource", "code"])
_QUEUE_DEPTH = Gauge("workqueue_depth", "Keys that are due.")
_QUEUE_OLDEST = Gauge("workqueue_oldest_seconds", "How long the first key has waited.")
_OBJECTS = Gauge("dask_operator_informer_objects", "Objects in a watch cache.", ["resource"])
_RELISTS = Gauge("dask_operator_informer_relists", "How often a watch cache was filled from a list.", ["resource"])
_AGE = Gauge("dask_operator_informer_age_seconds", "Seconds since a watch was last heard of.", ["resource"])
LEADER = Gauge("leader_election_master_status", "1 while this process leads.")


def count_request(verb: str, resource: str, status: int) -> None:
    """Count a request to the API server."""
    REQUESTS_TOTAL.labels(verb, resource, str(status)).inc()


def observe_reconcile(key: Key, seconds: float, error: BaseException | None) -> None:
    """Count and time a reconciliation."""
    RECONCILE_TOTAL.labels(key.kind.lower(), "error" if error else "success").inc()
    RECONCILE_SECONDS.labels(key.kind.lower()).observe(seconds)


def watch(queue: Queue[Key], informers: Mapping[str, Informer[Any]]) -> None:
    """Let the gauges read the queue and the caches when they are scraped."""
    _QUEUE_DEPTH.set_function(lambda: len(queue))
    _QUEUE_OLDEST.set_function(queue.oldest_seconds)
    for plural, informer in informers.items():
        _OBJECTS.labels(plural).set_function(informer.__len__)
        _RELISTS.labels(plural).set_function(partial(getattr, informer, "relists"))
        _AGE.labels(plural).set_function(informer.age_seconds)


async def serve(port: int, *, healthy: Callable[[], str], ready: Callable[[], str]) -> web.AppRunner:
    """Serve ``/healthz``, ``/readyz`` and ``/metrics``.

    kopf's own liveness server opens only after its startup handlers, too late for a process that waits for its lease.

    Args:
        port: TCP port, on all addresses.
        healthy: what is wrong, empty for nothing; a process that is not healthy should be restarted.
        ready: what is missing, empty for nothing.
    """

    def probe(check: Callable[[], str]) -> Callable[[web.Request], Any]:
        async def handle(_: web.Request) -> web.Response:
            trouble = check()
            return web.Response(text=trouble or "ok", status=503 if trouble else 200)

        return handle

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", probe(healthy))
    app.router.add_get("/readyz", probe(ready))
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
