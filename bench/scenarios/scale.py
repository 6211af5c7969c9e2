"""Many workers in one cluster, and many clusters."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

from dask_controller.kube.client import Kubernetes
from dask_controller.shell.caller import OPERATOR
from dask_synth.render import render

from ..api import Replicas, greatest_age
from ..manifests import cluster, dask_cluster
from ..measure import Bench, Space
from ..operators import OURS, THEIRS, Operator
from ..result import Result


def workers(bench: Bench) -> None:
    """One cluster of --workers: started, stopped; and how old its status becomes meanwhile."""
    with bench.operator(OURS) as ours:
        for _ in range(bench.options.repeat):
            for operator in (bench.native, ours):  # in turns, so that what else the machine does concerns both
                for size in bench.options.workers:
                    start_and_stop(bench, operator, size)
    if not bench.options.brief:
        with bench.operator(THEIRS) as theirs:
            start_and_stop(bench, theirs, min(bench.options.workers))  # it is slow, and its rate is known then


def largest(bench: Bench) -> None:
    """One cluster of --largest workers, once: started, stopped; and how old its status becomes meanwhile."""
    with bench.operator(OURS) as ours:
        for operator in (bench.native, ours):
            start_and_stop(bench, operator, bench.options.largest)


def clusters(bench: Bench) -> None:
    """--clusters clusters of 2 at once; what the objects alone take is `no operator`."""
    number = bench.options.clusters
    with bench.operator(OURS) as ours:
        for _ in range(bench.options.repeat):
            for operator in (bench.native, ours):
                start_clusters(bench, operator, number)
    for _ in range(bench.options.repeat):
        create_clusters(bench, bench.nobody, number)
    if not bench.options.brief:
        with bench.operator(THEIRS) as theirs:
            start_clusters(bench, theirs, number)


def profile(bench: Bench, folder: Path) -> None:
    """What our operator does in the scenarios `workers` and `clusters`, by py-spy."""
    with bench.unkept(), bench.operator(OURS) as ours:
        with ours.profiled(folder / "workers.speedscope.json"):
            start_and_stop(bench, ours, max(bench.options.workers))
        with ours.profiled(folder / "clusters.speedscope.json"):
            start_clusters(bench, ours, bench.options.clusters)


# --- one cluster ------------------------------------------------------------------------------------------------------


def start_and_stop(bench: Bench, operator: Operator, size: int) -> None:
    """Seconds until the workers of one cluster run, and until they are gone."""
    with bench.namespace() as space, space.replicas(operator, "big") as status:
        began = time.monotonic()
        with bench.measured(f"start {size:,} workers", operator):
            space.create(cluster(operator, "big", size))
            space.running(size)
        if operator.name == THEIRS:
            return  # it asks a scheduler, which no fake node has, and removes no worker for minutes
        age(space, status, operator, f"age of status, start {size:,} workers", began)
        began = time.monotonic()
        with bench.measured(f"stop {size:,} workers", operator):
            space.scale(operator, "big", 0)
            space.gone()
        age(space, status, operator, f"age of status, stop {size:,} workers", began)


def age(space: Space, status: Replicas, operator: Operator, what: str, began: float) -> None:
    """How old the number in the status became since ``began``; it is awaited until it is true."""
    bench, pods = space.bench, space.pods
    try:
        bench.wait(status, lambda: status.said == pods.living)
    except TimeoutError:
        bench.add(Result(what, operator.name, math.inf))
        return
    told = sum(1 for moment in status.history if moment.time >= began)
    late = status.history[-1].time - pods.history[-1].time
    detail = f"told {told} times, the last {late:.2f} s after the end"
    bench.add(Result(what, operator.name, greatest_age(pods.history, status.history, since=began), detail=detail))


# --- many clusters ----------------------------------------------------------------------------------------------------


def start_clusters(bench: Bench, operator: Operator, number: int) -> None:
    """Seconds until all workers of many clusters of two workers run."""
    with bench.namespace() as space, bench.measured(f"start {number:,} clusters x 2", operator):
        space.create(*(cluster(operator, f"c{n}", 2) for n in range(number)))
        space.running(2 * number)


def create_clusters(bench: Bench, nobody: Operator, number: int) -> None:
    """Seconds until the workers run if all that the operator would make is simply created: no operator is faster.

    No status is written. An operator of ours must not run.
    """

    async def create(namespace: str) -> None:
        async with Kubernetes.from_environment(OPERATOR, str(bench.plane.kubeconfig)) as kubernetes:
            await asyncio.gather(*(create_one(kubernetes, namespace, f"c{n}") for n in range(number)))

    async def create_one(kubernetes: Kubernetes, namespace: str, name: str) -> None:
        manifest = dask_cluster(name, 2)
        manifest["metadata"]["namespace"] = namespace
        owner = await kubernetes.create(manifest)
        for child in render(owner, namespace=namespace, domain="cluster.local"):
            if child["kind"] == "DaskWorkerGroup":
                group = await kubernetes.create(child)
                for pod in render(group, namespace=namespace, domain="cluster.local"):
                    await kubernetes.create(pod)
            elif child["kind"] != "Pod":
                await kubernetes.create(child)

    with bench.namespace() as space, bench.measured(f"start {number:,} clusters x 2", nobody):
        asyncio.run(create(space.name))
        space.running(2 * number)
