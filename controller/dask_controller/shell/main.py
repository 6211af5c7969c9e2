"""The operator's process: arguments, leadership, wiring.

What kopf does is in `handlers`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import kopf
import msgspec
import yaml

from dask_crds import names
from dask_crds.kinds import RESOURCES
from dask_crds.model import KINDS
from dask_crds.names import Label
from dask_resources.scheduler import DEFAULT_CLUSTER_DOMAIN

from ..core.limits import Limits
from ..kube.access import Access, Certificate
from ..kube.api import ApiError
from ..kube.client import Kubernetes
from ..kube.credentials import ConfigError
from ..kube.lease import Lease
from ..kube.metrics import Metrics, serve, serve_secured
from ..kube.process import die, identity, own_lease, supervise, trouble
from ..kube.small_http import Secure
from ..kube.workqueue import Queue
from ..schedulers.pollers import SchedulerPollers
from . import handlers as handlers  # kopf finds them by their decorators
from .caches import Caches, Key
from .caller import OPERATOR
from .departed import Departed
from .domain_metrics import DomainMetrics
from .keyring import Keyring
from .limited import take_places
from .places import Places
from .reconcile import Reconciler
from .scheduled_job import follow
from .tracing import tracing
from .wakeups import wake_by
from .witness import Witness

logger = logging.getLogger(__name__)

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
    _what(run)
    _how(run)
    once = commands.add_parser("start", help="create a DaskJob and follow it to its end, as a scheduled job does")
    once.add_argument("file", type=Path, help="its manifest; needs POD_NAMESPACE, JOB_NAME and JOB_UID")
    return parser


def _what(run: argparse.ArgumentParser) -> None:
    """What is served, and within which bounds."""
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
    run.add_argument("--owner-label", default=Label.OWNER, metavar="KEY", help="label that tells whose a resource is")
    run.add_argument(
        "--limits",
        type=_limits,
        metavar="JSON",
        help='how many "workers", "clusters" and running "jobs" there may be at a time, "by" "namespace" or "owner" '
        'within one, with others for some "namespaces"; what is beyond that waits in line',
    )


def _how(run: argparse.ArgumentParser) -> None:
    """How the process works and what it shows."""
    run.add_argument(
        "--leader-elect", action="store_true", help="wait for the Lease before acting; needs POD_NAMESPACE"
    )
    run.add_argument("--port", type=int, default=8080, help="port of /healthz, /readyz and /metrics; 0 for none")
    run.add_argument(
        "--metrics-tls",
        type=Path,
        metavar="FOLDER",
        help="with tls.crt and tls.key: serve /metrics over TLS, to whom RBAC lets `get` that path, and not at --port",
    )
    run.add_argument("--metrics-port", type=int, default=8443, help="where, if --metrics-tls is given")
    run.add_argument("--workers", type=int, default=16, help="how many resources are worked on at a time")
    run.add_argument(
        "--requests",
        type=int,
        default=32,
        help="how many API requests may be under way at a time; each resource gets an equal share",
    )
    run.add_argument("--log-format", choices=("plain", "full", "json"), default="plain", help="format of log lines")
    run.add_argument("--trace", metavar="URL", help="send spans of reconciles to this collector by OTLP over HTTP")
    run.add_argument("--verbose", action="store_true", help="log what is done and why")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    options = arguments().parse_args(argv)
    if options.command == "start":
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        try:
            sys.exit(asyncio.run(follow(yaml.safe_load(options.file.read_text()), OPERATOR)))
        except (ConfigError, OSError, yaml.YAMLError) as error:
            sys.exit(f"dask-controller start: {error}")
    kopf.configure(verbose=options.verbose, log_format=kopf.LogFormat[options.log_format.upper()])
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line per event is a third of kopf's time
    try:
        asyncio.run(run(options))
    except KeyboardInterrupt:
        sys.exit(130)


async def run(options: argparse.Namespace) -> None:
    """Run until a signal comes, or leadership is lost."""
    measured = Metrics("dask_operator")
    async with AsyncExitStack() as stack:
        kubernetes = await stack.enter_async_context(
            Kubernetes.from_environment(OPERATOR, connections=options.requests, on_request=measured.requested)
        )
        await _check_crds(kubernetes, options.namespace)
        queue = _queue(options, measured)

        def wake(key: Key, seconds: float) -> None:
            if queue.is_running:  # a replica in waiting follows what happens, and all are looked at when it leads
                queue.add_after(key, seconds)

        caches = _caches(options, kubernetes, wake)
        pollers = SchedulerPollers[Key](lambda key, prompt: queue.add(key, prompt=prompt))
        stack.push_async_callback(pollers.close)
        lease = own_lease(kubernetes, names.FIELD_MANAGER) if options.leader_elect else None
        domain = await stack.enter_async_context(_shown(options, measured, queue, caches, lease, kubernetes))
        _follow(caches)  # before leadership: who takes over has them filled by then, however much there is
        if lease is not None:
            await lease.acquire()
            stack.push_async_callback(lease.release)
            supervise(lease.keep(), "leadership was lost")
        await asyncio.gather(caches.keyring.load(kubernetes), caches.synced(), caches.queues.known.wait())
        await take_places(caches, kubernetes, options.namespace)
        supervise(caches.queues.tell_positions(), "nobody tells places in the queues of Kueue any more")
        gc.freeze()  # what was read at start lives as long as we do; collecting it over and over costs most of the CPU
        supervise(_resync(kubernetes, queue, caches.keyring, options.namespace, domain), "the resync ended")
        reconciler = await stack.enter_async_context(_reconciler(options, kubernetes, caches, pollers, queue, domain))
        working = supervise(queue.run(reconciler, workers=options.workers), "the queue ended")
        for key in caches.unobserved():  # now, before kopf lists all that has been there for long
            queue.add(key, prompt=True)
        logger.info("serving %s", "all namespaces" if options.all_namespaces else ", ".join(options.namespace))
        try:
            await kopf.operator(
                memo=kopf.Memo(kubernetes=kubernetes, caches=caches, queue=queue),  # see `handlers`
                clusterwide=options.all_namespaces,
                namespaces=options.namespace or (),
                standalone=True,
                identity=cast("Any", identity()),  # kopf guesses from the name of the user, who has none
            )
        finally:
            working.remove_done_callback(die)
            await queue.drain(DRAIN_SECONDS)


def _queue(options: argparse.Namespace, measured: Metrics) -> Queue[Key]:
    return Queue(
        expected=ApiError,
        log_fields=lambda key: key.log_fields,
        on_done=measured.reconciled,
        tenant=lambda key: key.namespace,
        per_tenant=None if len(options.namespace or ()) == 1 else options.workers - options.workers // 4,
        reserved=options.workers // 4,
    )


def _caches(options: argparse.Namespace, kubernetes: Kubernetes, wake: Callable[[Key, float], None]) -> Caches:
    keyring = Keyring(os.environ.get("POD_NAMESPACE"))
    places = Places(options.limits, options.owner_label, wake) if options.limits is not None else None
    return Caches(kubernetes, options.namespace, wake_by(wake), keyring, Departed(kubernetes.now), places)


def _limits(text: str) -> Limits:
    try:
        return Limits.read(text)
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@asynccontextmanager
async def _reconciler(
    options: argparse.Namespace,
    kubernetes: Kubernetes,
    caches: Caches,
    pollers: SchedulerPollers[Key],
    queue: Queue[Key],
    witness: Witness,
) -> AsyncGenerator[Reconciler, None]:
    async with tracing(options.trace) as tracer:
        yield Reconciler(
            kubernetes,
            caches,
            pollers,
            domain=options.cluster_domain,
            not_inherited=options.not_inherited,
            parallel_requests=max(1, options.requests // options.workers),
            is_prompt=queue.is_prompt,
            clock=kubernetes.now,
            witness=witness,
            tracer=tracer,
        )


@asynccontextmanager
async def _shown(
    options: argparse.Namespace,
    measured: Metrics,
    queue: Queue[Key],
    caches: Caches,
    lease: Lease | None,
    kubernetes: Kubernetes,
) -> AsyncGenerator[DomainMetrics, None]:
    """Show how it is going, while the context lasts; nowhere if the port is 0."""

    def leading() -> bool:
        return lease is None or lease.held

    domain = DomainMetrics(measured.registry, caches, leading, options.owner_label, kubernetes.now)
    measured.more = domain.text
    measured.observe(queue, {i.resource.plural: i for i in caches.informers.values()}, leading)
    probes = serve(
        measured,
        healthy=lambda: trouble(queue, caches.informers.values()) if leading() else None,
        ready=lambda: None if not leading() or caches.are_synced else "the watch caches are being filled",
        port=options.port,
        elsewhere=options.metrics_tls is not None,
    )
    async with probes if options.port else nullcontext(), _secured(options, measured, kubernetes):
        yield domain


def _secured(
    options: argparse.Namespace, measured: Metrics, kubernetes: Kubernetes
) -> AbstractAsyncContextManager[Any]:
    """Show the metrics to those alone who may see them, if that is asked for."""
    if options.metrics_tls is None:
        return nullcontext()
    try:
        certificate = Certificate(options.metrics_tls)
    except OSError as error:
        sys.exit(
            f"--metrics-tls: {options.metrics_tls} must have tls.crt and tls.key, as a Secret of that type: {error}"
        )
    supervise(certificate.keep(), "nobody looked after the certificate of the metrics")
    secure = Secure(certificate.context, Access(kubernetes))
    return serve_secured(measured, secure, port=options.metrics_port)


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


def _follow(caches: Caches) -> None:
    for informer in caches.informers.values():
        supervise(informer.run(), f"the watch of {informer.resource.plural} ended")
    supervise(caches.queues.run(), "the watches of Kueue ended")


async def _resync(
    kubernetes: Kubernetes,
    queue: Queue[Key],
    keyring: Keyring,
    namespaces: Sequence[str] | None,
    domain: DomainMetrics,
) -> None:
    """Look at every resource now and then: what a watch has missed, or nobody can watch, heals by itself."""
    scopes: Sequence[str | None] = namespaces or [None]
    while True:
        await asyncio.sleep(RESYNC_SECONDS)
        try:
            await keyring.load(kubernetes)
        except ApiError as error:
            logger.warning("the operator's key: %s", error)
        for kind in KINDS:
            for namespace in scopes:
                try:
                    there = kubernetes.each(kind, namespace, metadata_only=True)
                    found = {Key(kind, it["metadata"]["namespace"], it["metadata"]["name"]) async for it in there}
                except ApiError as error:
                    logger.warning("resync of %s: %s", kind, error)
                    continue
                known = domain.jobs(namespace) if kind == "DaskJob" else set()  # some may be gone
                for key in known | found:
                    queue.add(key)
