"""A small cluster beside much larger ones: what others ask for should not be its concern."""

from __future__ import annotations

import contextlib
import math
import time

from ..api import Pods
from ..manifests import cluster, workers_of
from ..measure import ALONE, SMALL_PATIENCE, Bench, Space
from ..operators import NATIVE, OURS, Operator
from ..result import Result


def beside(bench: Bench) -> None:
    """A cluster of 2 alone, and while another one starts as many as the largest of --workers."""
    size = max(bench.options.workers)
    with bench.operator(OURS) as ours:
        for operator in (bench.native, ours):
            bench.alone(operator)
        for _ in range(bench.options.repeat):
            for operator in (bench.native, ours):
                beside_one(bench, operator, size)


def beside_one(bench: Bench, operator: Operator, size: int) -> None:
    """Seconds until two workers run while many others are being started."""
    with bench.namespaces(2) as (small, crowded):
        crowded.create(cluster(operator, "big", size))
        bench.wait(crowded.pods, lambda: crowded.pods.there > size // 20)
        with bench.measured(f"2 workers beside {size:,}", operator, ALONE) as detail:
            small.create(cluster(operator, "small", 2))
            small.running(2)
            detail.append(f"{crowded.pods.there:,} of {size:,} Pods existed then")
        crowded.running(size)


def behind(bench: Bench) -> None:
    """--many clusters of 2, and one more right behind them; memory and CPU with so many."""
    with bench.operator(OURS) as ours:
        for operator in (bench.native, ours):
            bench.alone(operator)
            for awaited in (True, False):
                behind_many(bench, operator, bench.options.many, awaited=awaited)


def behind_many(bench: Bench, operator: Operator, number: int, *, awaited: bool) -> None:
    """Seconds until one more cluster of two runs: created when the others run, or as soon as they are asked for.

    Who keeps status has more to do when they run: CPU and writes until all is told are a row of their own.
    """
    with_memory = awaited and operator.name != NATIVE
    nothing = f"memory before {number:,} clusters"
    if with_memory:
        bench.memory(operator, nothing)
    with bench.namespaces(2) as (elsewhere, crowded), crowded.follow(workers_of(operator, "late")) as near:
        places = {"another namespace": (elsewhere, elsewhere.pods), "the same namespace": (crowded, near)}
        told = f"start {number:,} clusters x 2, until all is told"
        with bench.measured(told, operator) if with_memory else contextlib.nullcontext():
            with bench.measured(f"start {number:,} clusters x 2", operator) as detail:
                detail.append(posted(crowded, operator, number))
                if not awaited:
                    one_more(bench, operator, f"2 workers behind {number:,} x 2 just asked for", places)
                crowded.running(2 * number + (0 if awaited else 2))
            if awaited:
                one_more(bench, operator, f"2 workers behind {number:,} x 2 that run", places)
            if with_memory:
                bench.quiet(operator)
        if with_memory:
            bench.memory(operator, f"memory with {number:,} clusters x 2, {3 * number:,} Pods", nothing)
            bench.share(operator, f"CPU with {number:,} clusters x 2, nothing asked")
        bench.say("deleting them")


def posted(space: Space, operator: Operator, number: int) -> str:
    """Ask for many clusters, and say how long that took."""
    began = time.monotonic()
    space.create(*(cluster(operator, f"c{n}", 2) for n in range(number)))
    return f"asked for within {time.monotonic() - began:.1f} s"


def one_more(bench: Bench, operator: Operator, what: str, places: dict[str, tuple[Space, Pods]]) -> None:
    """Another cluster of two in each place, at once."""
    began = {}
    for place, (space, _) in places.items():
        began[place] = time.monotonic()
        space.create(cluster(operator, "late", 2))
    for place, (_, pods) in places.items():
        seconds = math.inf
        with contextlib.suppress(TimeoutError):
            bench.wait(pods, lambda pods=pods: pods.running == 2, SMALL_PATIENCE)
            seconds = pods.since(running=2) - began[place]
        bench.add(Result(f"{what}, {place}", operator.name, seconds, than=ALONE))
