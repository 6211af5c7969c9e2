"""Memory, and what is done while nothing happens."""

from __future__ import annotations

import statistics
import time

from ..api import Manifest
from ..manifests import POD, autoscaler, cluster, group
from ..measure import Bench, listed
from ..operators import OURS
from ..result import Result

GROUPS = 25
SIZE = 1_000_000  #: bytes of each, about; an object may have 1.5 MiB


def per_pod(bench: Bench) -> None:
    """Memory for each Pod: the slope of a line through some sizes up to twice the largest of --workers."""
    most = max(bench.options.workers)
    points: list[tuple[int, float]] = []
    with bench.operator(OURS) as ours, bench.namespace() as space:
        space.create(cluster(ours, "big", 20))
        space.running(20)
        for size in (0, most // 2, most, 2 * most):
            space.scale(ours, "big", size)
            bench.wait(space.pods, lambda size=size: space.pods.running == size == space.pods.there)
            bench.settle(10, f"{size:,} workers run")
            points.append((size, ours.memory_mib()))
        slope = statistics.linear_regression(*zip(*points, strict=True)).slope * 1.048576
    detail = ", ".join(f"{size:,}: {memory:.1f} MiB" for size, memory in points)
    bench.add(Result("memory for each Pod", OURS, slope, "MB", detail=detail))


def large(bench: Bench) -> None:
    """Memory with 25 worker groups of 1 MB, as one value and as many short ones; also after a restart."""
    for name, pod in (("one value", one_value), ("short arguments", short_arguments)):
        before, after = "memory with a small cluster", f"memory with {GROUPS} groups of 1 MB, {name}"
        with bench.operator(OURS) as ours, bench.namespace() as space:
            space.create(cluster(ours, "small", 2))
            space.running(2)
            bench.memory(ours, before)
            # Without workers: theirs are no part of what is kept.
            space.create(*(group(f"large-{n}", "small", 0, pod(n)) for n in range(GROUPS)))
            bench.settle(15, "they are looked at")
            bench.memory(ours, after, before)
            bench.restart(ours)
            bench.memory(ours, f"{after}, after a restart", before)


def one_value(n: int) -> Manifest:
    """A PodSpec with a huge variable."""
    container = {**POD["containers"][0], "env": [{"name": "LARGE", "value": str(n) * (SIZE // len(str(n)))}]}
    return {"containers": [container]}


def short_arguments(n: int) -> Manifest:
    """A PodSpec of the same size, of which each of many short strings is an object in memory."""
    container = {**POD["containers"][0], "args": [f"{n:02}-{k:05}" for k in range(SIZE // 11)]}
    return {"containers": [container]}


def idle(bench: Bench) -> None:
    """Writes in a minute in which nothing happens to clusters, more worker groups, and autoscalers."""
    clusters, seconds = 10, bench.options.seconds
    with bench.operator(OURS) as ours, bench.namespace() as space:
        for n in range(clusters):
            space.create(cluster(ours, f"c{n}", 2), group(f"c{n}-more", f"c{n}"), autoscaler(f"c{n}"))
        space.running(4 * clusters)
        time.sleep(15)
        before = ours.writes()
        bench.settle(seconds, "nothing happens")
        writes = ours.writes() - before
    renewals = writes.pop("leases", 0)
    detail = (
        f"{clusters} clusters with 2 groups and an autoscaler each: {listed(writes)}; {renewals} renewals of the Lease"
    )
    bench.add(Result(f"writes in {seconds:.0f} idle s", OURS, writes.total(), "", detail=detail))
