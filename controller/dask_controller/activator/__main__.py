"""``python -m dask_controller.activator``: the process."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import logging
import os
import resource
import signal
import sys
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dask_crds import names
from dask_crds.kinds import RESOURCES

from ..kube.api import ApiError, Caller
from ..kube.client import Kubernetes
from ..kube.credentials import ConfigError
from ..kube.lease import Lease
from ..kube.metrics import Metrics, serve
from ..kube.process import die, own_lease, supervise, trouble
from ..kube.workqueue import Queue
from .rooms import Key, Rooms

logger = logging.getLogger(__name__)

ACTIVATOR = Caller(
    kinds={kind: RESOURCES[kind] for kind in ("DaskCluster", "EndpointSlice", "Event", "Lease")},
    field_manager=names.ACTIVATOR,
    status_manager=names.ACTIVATOR,
    user_agent=f"{names.ACTIVATOR}/{importlib.metadata.version('dask-gitops')}",
)
#: Clusters that are worked on at a time.
WORKERS = 8
#: How long to take the Services back after a signal; a Pod is killed after 30 s.
CLOSE_SECONDS = 20.0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dask_controller.activator",
        description="Wakes Dask clusters that have `wake: OnConnect` when somebody connects to their schedulers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    scope = parser.add_mutually_exclusive_group(required=True)
    scope.add_argument("--all-namespaces", action="store_true", help="serve every namespace")
    scope.add_argument("--namespace", action="append", metavar="NAME", help="serve this namespace; may be repeated")
    parser.add_argument(
        "--address", default=os.environ.get("POD_IP"), help="IP address at which Services find this process"
    )
    parser.add_argument(
        "--leader-elect", action="store_true", help="wait for the Lease before acting; needs POD_NAMESPACE"
    )
    parser.add_argument("--port", type=int, default=8080, help="port of /healthz, /readyz and /metrics; 0 for none")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = arguments()
    options = parser.parse_args(argv)
    if not options.address:
        parser.error("--address or the environment variable POD_IP is needed")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    allow_many_files()
    try:
        asyncio.run(_run(options))
    except ConfigError as error:
        sys.exit(f"{names.ACTIVATOR}: {error}")


def allow_many_files() -> None:
    """Have as many open files as we may: each cluster that sleeps is one, and containers begin with 1,024 often."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(options: argparse.Namespace) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    measured = Metrics("dask_activator")
    async with AsyncExitStack() as stack:
        kubernetes = await stack.enter_async_context(
            Kubernetes.from_environment(ACTIVATOR, on_request=measured.requested)
        )
        queue: Queue[Key] = Queue(
            expected=ApiError,
            log_fields=lambda key: key.log_fields,
            on_done=measured.reconciled,
            tenant=lambda key: key.namespace,
        )
        rooms = Rooms(kubernetes, options.address, options.namespace, queue)
        lease = own_lease(kubernetes, names.ACTIVATOR) if options.leader_elect else None
        await stack.enter_async_context(_shown(options, measured, rooms, lease))
        for informer in rooms.informers.values():
            supervise(informer.run(), f"the watch of {informer.resource.plural} ended")
        if not await _unless(ended, _lead(lease, rooms)):
            return
        if lease is not None:
            stack.push_async_callback(lease.release)
            supervise(lease.keep(), "leadership was lost")
        working = supervise(queue.run(rooms.reconcile, workers=WORKERS), "the queue ended")
        await asyncio.sleep(0)  # the queue takes nothing before it runs
        for key in rooms.all_keys():
            queue.add(key, prompt=True)
        logger.info("serving %s", "all namespaces" if options.all_namespaces else ", ".join(options.namespace))
        await ended.wait()
        working.remove_done_callback(die)
        await queue.drain(CLOSE_SECONDS / 4)
        async with asyncio.timeout(CLOSE_SECONDS):
            await rooms.close()


def _shown(
    options: argparse.Namespace, measured: Metrics, rooms: Rooms, lease: Lease | None
) -> AbstractAsyncContextManager[Any]:
    """Show how it is going; nowhere if the port is 0."""
    measured.observe(rooms.queue, rooms.informers, lambda: lease is None or lease.held)
    measured.registry.register(_Doors(rooms))
    if not options.port:
        return nullcontext()
    return serve(
        measured,
        healthy=lambda: trouble(rooms.queue, rooms.informers.values()),
        ready=lambda: _unready(rooms),
        port=options.port,
    )


async def _lead(lease: Lease | None, rooms: Rooms) -> None:
    if lease is not None:
        await lease.acquire()
    await asyncio.gather(*(informer.synced.wait() for informer in rooms.informers.values()))


async def _unless(ended: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Whether ``work`` came to its end before a signal did."""
    task, signalled = asyncio.create_task(work), asyncio.create_task(ended.wait())
    await asyncio.wait([task, signalled], return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if not task.done():
        task.cancel()
        return False
    await task
    return True


def _unready(rooms: Rooms) -> str | None:
    synced = all(informer.synced.is_set() for informer in rooms.informers.values())
    return None if synced else "the watch caches are being filled"


class _Doors(Collector):
    """How many clusters are stood in for, and who is at their doors."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("dask_activator_doors", "Clusters that are stood in for.", self._rooms.doors)
        yield GaugeMetricFamily(
            "dask_activator_connections", "Connections, held and passed on.", self._rooms.connections
        )
        yield CounterMetricFamily("dask_activator_wakes", "Clusters that were woken.", self._rooms.wakes)


if __name__ == "__main__":
    main()
