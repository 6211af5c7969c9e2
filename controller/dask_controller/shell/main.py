"""The operator's process: arguments, leadership, wiring.

kopf is the shell of the process (signals, login, the watches of the four kinds); what its watches report only puts a
key into our queue.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import secrets
import socket
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, cast

import kopf
import yaml

from dask_crds import names
from dask_crds.model import KINDS
from dask_resources.scheduler import DEFAULT_CLUSTER_DOMAIN

from . import credentials
from .execute import log_fields
from .kubernetes import RESOURCES, ApiError, Kubernetes
from .lease import Lease
from .metrics import Metrics, serve
from .queue import Queue
from .reconcile import Reconciler
from .schedulers import Schedulers
from .start import start
from .world import CLUSTER_GATHER_SECONDS, GATHER_SECONDS, Key, World

logger = logging.getLogger(__name__)

#: Seconds in which nothing at all gets done though there is something to do, or a watch is silent: then reconciling has
#: stopped. That somebody waits for so long is no reason to restart for all.
STUCK_SECONDS = 300.0
#: How long reconciliations that are under way may take to end after a signal; a Pod is killed after 30 s.
DRAIN_SECONDS = 10.0
RESYNC_SECONDS = 600.0
#: How long the definitions of our kinds are waited for.
CRD_SECONDS = 20


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="dask-controller", description="The operator for Dask on Kubernetes.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the operator", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    scope = run.add_mutually_exclusive_group(required=True)
    scope.add_argument("--all-namespaces", action="store_true", help="serve every namespace")
    scope.add_argument("--namespace", action="append", metavar="NAME", help="serve this namespace; may be repeated")
    run.add_argument("--cluster-domain", default=DEFAULT_CLUSTER_DOMAIN, help="DNS domain of the Kubernetes cluster")
    run.add_argument(
        "--not-inherited",
        action="append",
        default=[],
        metavar="PREFIX",
        help="beginning of labels and annotations that no child takes over from a Dask resource, besides those by "
        "which known tools track or queue; may be repeated",
    )
    run.add_argument(
        "--leader-elect", action="store_true", help="wait for the Lease before acting; needs POD_NAMESPACE"
    )
    run.add_argument("--port", type=int, default=8080, help="port of /healthz, /readyz and /metrics; 0 for none")
    run.add_argument("--workers", type=int, default=16, help="how many resources are worked on at a time")
    run.add_argument(
        "--requests",
        type=int,
        default=32,
        help="how many API requests may be under way at a time; each resource gets an equal share",
    )
    run.add_argument("--log-format", choices=("plain", "full", "json"), default="plain", help="format of log lines")
    run.add_argument("--verbose", action="store_true", help="log what is done and why")
    once = commands.add_parser("start", help="create a DaskJob and follow it to its end, as a scheduled job does")
    once.add_argument("file", type=Path, help="its manifest; needs POD_NAMESPACE, JOB_NAME and JOB_UID, see `start.py`")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    options = arguments().parse_args(argv)
    if options.command == "start":
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        try:
            sys.exit(asyncio.run(start(yaml.safe_load(options.file.read_text()))))
        except (credentials.ConfigError, OSError, yaml.YAMLError) as error:
            sys.exit(f"dask-controller start: {error}")
    kopf.configure(verbose=options.verbose, log_format=kopf.LogFormat[options.log_format.upper()])
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line per event is a third of kopf's time
    try:
        asyncio.run(run(options))
    except KeyboardInterrupt:
        sys.exit(130)


async def run(options: argparse.Namespace) -> None:
    """Run until a signal comes, or leadership is lost."""
    measured = Metrics()
    async with AsyncExitStack() as stack:
        kubernetes = await stack.enter_async_context(
            Kubernetes.from_environment(connections=options.requests, on_request=measured.requested)
        )
        await _check_crds(kubernetes, options.namespace)
        queue: Queue[Key] = Queue(
            expected=ApiError,
            log_fields=lambda key: log_fields(*key),
            on_done=measured.reconciled,
            tenant=lambda key: key.namespace,
            per_tenant=None if len(options.namespace or ()) == 1 else options.workers - options.workers // 4,
            reserved=options.workers // 4,
        )
        working: asyncio.Task[None] | None = None

        def wake(key: Key, seconds: float) -> None:
            if working is not None:  # a replica in waiting follows what happens, and all are looked at when it leads
                queue.add_after(key, seconds)

        world = World(kubernetes, options.namespace, wake)
        schedulers = Schedulers[Key](lambda key, prompt: queue.add(key, prompt=prompt))
        stack.push_async_callback(schedulers.close)
        reconciler = Reconciler(
            kubernetes,
            world,
            schedulers,
            domain=options.cluster_domain,
            not_inherited=options.not_inherited,
            share=max(1, options.requests // options.workers),
            is_prompt=queue.is_prompt,
            clock=kubernetes.now,
        )
        lease = _lease(kubernetes) if options.leader_elect else None

        def leading() -> bool:
            return lease is None or lease.held

        measured.observe(queue, world.informers, leading)
        if options.port:
            probes = serve(
                measured,
                healthy=lambda: _trouble(queue, world) if leading() else None,
                ready=lambda: None if not leading() or world.is_synced else "the watch caches are being filled",
                port=options.port,
            )
            await stack.enter_async_context(probes)
        # Before leadership: who takes over has the caches filled by then, however much there is.
        for plural, informer in world.informers.items():
            _supervise(informer.run(), f"the watch of {plural} ended")
        if lease is not None:
            await lease.acquire()
            stack.push_async_callback(lease.release)
            _supervise(lease.keep(), "leadership was lost")
        await world.synced()
        gc.freeze()  # what was read at start lives as long as we do; collecting it over and over costs most of the CPU
        _supervise(_resync(kubernetes, queue, options.namespace), "the resync ended")
        working = _supervise(queue.run(reconciler, workers=options.workers), "the queue ended")
        for key in world.unobserved():  # now, before kopf lists all that has been there for long
            queue.add(key, prompt=True)
        logger.info("serving %s", "all namespaces" if options.all_namespaces else ", ".join(options.namespace))
        try:
            await kopf.operator(
                registry=_registry(queue, world, kubernetes),
                settings=_settings(),
                clusterwide=options.all_namespaces,
                namespaces=options.namespace or (),
                standalone=True,
                identity=cast("Any", _identity()),  # kopf guesses from the name of the user, who has none
            )
        finally:
            working.remove_done_callback(_die)
            await queue.drain(DRAIN_SECONDS)


async def _check_crds(kubernetes: Kubernetes, namespaces: Sequence[str] | None) -> None:
    """Exit if the API server does not know the four kinds, or we may not read them: kopf would stay silent and deaf.

    It looks only once which kinds there are, so it is waited until the API server tells of all: a GitOps tool applies
    their definitions at the same time as our Deployment.
    """
    for _ in range(CRD_SECONDS):
        try:
            if {RESOURCES[kind].plural for kind in KINDS} <= await kubernetes.served(names.GROUP, names.VERSION):
                break
        except ApiError as error:
            if error.status != 404:
                raise
        await asyncio.sleep(1)
    for kind in KINDS:
        pages = kubernetes.pages(RESOURCES[kind], namespaces[0] if namespaces else None, metadata_only=True)
        try:
            async with aclosing(pages):
                await anext(pages)
        except ApiError as error:
            if error.status in (403, 404):
                sys.exit(f"{RESOURCES[kind].plural}.{names.GROUP}: {error}. Install the CRDs and the RBAC rules first.")
            raise


async def _resync(kubernetes: Kubernetes, queue: Queue[Key], namespaces: Sequence[str] | None) -> None:
    """Look at every resource now and then: what a watch has missed, or nobody can watch, heals by itself."""
    scopes: Sequence[str | None] = namespaces or [None]
    while True:
        await asyncio.sleep(RESYNC_SECONDS)
        for kind in KINDS:
            for namespace in scopes:
                try:
                    found = await kubernetes.list(kind, namespace, metadata_only=True)
                except ApiError as error:
                    logger.warning("resync of %s: %s", kind, error)
                    continue
                for manifest in found:
                    queue.add(Key(kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"]))


def _lease(kubernetes: Kubernetes) -> Lease:
    namespace = os.environ.get("POD_NAMESPACE")
    if not namespace:
        sys.exit("--leader-elect needs the environment variable POD_NAMESPACE")
    return Lease(kubernetes, namespace, names.FIELD_MANAGER, _identity())


def _identity() -> str:
    """Unique to this process: a container that restarts in its Pod must not take itself for the old leader."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"


def _supervise(work: Coroutine[Any, Any, None], ending: str) -> asyncio.Task[None]:
    """Run ``work`` in the background; when it ends, so does the process, and Kubernetes starts it anew."""
    task = asyncio.get_running_loop().create_task(work, name=ending)
    task.add_done_callback(_die)
    return task


def _die(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        logger.critical("%s: %r", task.get_name(), task.exception())
        os._exit(1)


def _trouble(queue: Queue[Key], world: World) -> str | None:
    if queue.idle_seconds() > STUCK_SECONDS:
        return f"nothing has been reconciled for {queue.idle_seconds():.0f} s, though there is something to do"
    if not world.is_synced:
        return None
    silent = [plural for plural, informer in world.informers.items() if informer.age_seconds() > STUCK_SECONDS]
    return f"nothing heard of {', '.join(silent)}" if silent else None


class _NoDiffBase(kopf.AnnotationsDiffBaseStorage):
    """kopf keeps no copy of a resource in its annotations, and computes none."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        pass


class _NoProgress(kopf.AnnotationsProgressStorage):
    """kopf keeps no progress in annotations: our handlers have none."""

    def clear(self, *, essence: Any) -> Any:
        return essence


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # else it needs to watch CRDs and namespaces, and waits 54 s where it may not
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.consistency_timeout = 0
    settings.watching.chunk_size = 50  # of a list, which is decoded as a whole
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    return settings


def _registry(queue: Queue[Key], world: World, kubernetes: Kubernetes) -> kopf.OperatorRegistry:
    """Handlers: every event of the four kinds wakes its resource. They hold no state and write nothing."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        # Metadata only: all that is wanted is what has changed, and a spec may have a megabyte.
        server, session = kubernetes.metadata_session()
        return kopf.AiohttpSession(server=server, aiohttp_session=session)

    for kind in KINDS:
        on_event = kopf.on.event(
            names.GROUP, names.VERSION, RESOURCES[kind].plural, registry=registry, id=f"wake-{kind}"
        )
        on_event(_wake(queue, world, kind))
    return registry


def _wake(queue: Queue[Key], world: World, kind: str) -> Any:
    gather = CLUSTER_GATHER_SECONDS if kind == "DaskCluster" else GATHER_SECONDS

    async def wake(name: str, namespace: str, meta: Any, memo: kopf.Memo, **_: Any) -> None:
        key, generation = Key(kind, namespace, name), meta.get("generation")
        seen = memo.get("generation")
        if seen is None:  # not seen by us: maybe by the operator before
            seen = ((world.cached(key) or {}).get("status") or {}).get("observedGeneration")
        memo["generation"] = generation
        # What is asked for is looked at now, before all else. A status is mostly our own: what it comes with gathers.
        asked = seen != generation
        queue.add_after(key, 0.0 if asked else gather, prompt=asked)

    return wake
