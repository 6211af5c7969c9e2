"""What goes wrong: the operator is killed; somebody asks for what cannot be."""

from __future__ import annotations

import contextlib
import math
import subprocess
import time
from collections.abc import Iterator

from ..api import Refused
from ..manifests import DASK, cluster, quota
from ..measure import Bench, Space
from ..operators import OURS, Operator
from ..result import Result
from .neighbours import posted

MILLIONS = 6_000_000
MANY = 100_000
QUOTA = 10
#: The operator is killed when it has taken so much memory: the machine is needed for other things.
MOST_MIB = 2048


def killed(bench: Bench) -> None:
    """kill -9 of the operator, and a new cluster of 2 at once: with nothing there, and with --many clusters of 2."""
    nothing = "2 workers after kill -9, nothing there"
    with bench.operator(OURS) as ours:
        after_kill(bench, ours, nothing)
        with bench.namespace() as crowded:
            number = bench.options.many
            bench.say(f"{number:,} clusters: {posted(crowded, ours, number)}")
            crowded.running(2 * number)
            bench.settle(10, "all is created")
            after_kill(bench, ours, f"2 workers after kill -9, {number:,} clusters there", nothing)
            bench.say("deleting them")


def after_kill(bench: Bench, operator: Operator, what: str, than: str = "") -> None:
    """Seconds from the kill until two workers of a new cluster run; most of it is the Lease, which has to run out."""

    def kill() -> None:
        operator.kill()
        operator.start()

    bench.two_workers(operator, what, than, before=kill)


def absurd(bench: Bench) -> None:
    """6,000,000 replicas; 100,000 with a quota of 10 Pods: memory, and a cluster of 2 beside it."""
    with bench.operator(OURS) as ours:
        bench.alone(ours)
        before = "memory before absurd numbers"
        bench.memory(ours, before)
        with limited(bench) as space:
            space.create(cluster(ours, "big", 2))
            space.running(2)
            if accepted(bench, space, ours):
                endured(bench, ours, f"{MILLIONS:,} workers asked for", before)
        bench.restart(ours)
        with limited(bench) as space:
            try:
                space.create(cluster(ours, "big", MANY))
            except Refused as error:
                bench.add(Result(f"{MANY:,} replicas", ours.name, 1, "refused", detail=str(error)))
            else:
                endured(bench, ours, f"{MANY:,} workers asked for, a quota of {QUOTA} Pods", before)


@contextlib.contextmanager
def limited(bench: Bench) -> Iterator[Space]:
    """A namespace with a quota of Pods."""
    with bench.namespace() as space:
        space.create(quota(QUOTA))
        path = f"/api/v1/namespaces/{space.name}/resourcequotas/quota"
        bench.until(lambda: "used" in ((bench.api.get(path) or {}).get("status") or {}))  # none is let in before
        yield space


def accepted(bench: Bench, space: Space, operator: Operator) -> bool:
    """Whether the API server takes the absurd number, by ``kubectl scale``."""
    target = ("-n", space.name, f"daskworkergroups.{DASK.partition('/')[0]}/big-default")
    try:
        said, taken = bench.plane.kubectl("scale", f"--replicas={MILLIONS}", *target), True
    except subprocess.CalledProcessError as error:
        said, taken = error.stderr, False
    detail = " ".join(said.split())
    bench.add(Result(f"kubectl scale --replicas={MILLIONS}", operator.name, int(not taken), "refused", detail=detail))
    return taken


def endured(bench: Bench, operator: Operator, what: str, before: str) -> None:
    """Memory and CPU meanwhile, then a cluster of two beside it; a process that takes too much is killed."""
    most, began = 0.0, time.monotonic()
    with bench.sampled(operator, f"CPU, {what}"):
        while operator.alive and most < MOST_MIB and time.monotonic() < began + bench.options.seconds:
            time.sleep(0.5)
            most = max(most, operator.memory_mib())
    ending = "" if operator.alive else ", then it ended by itself"
    if most > MOST_MIB:
        operator.kill()
        ending = ", then it was killed by us"
    detail = f"at most, within {time.monotonic() - began:.0f} s{ending}"
    bench.add(Result(f"memory, {what}", operator.name, most, "MiB", before, detail=detail))
    if ending:
        return
    try:
        bench.two_workers(operator, f"2 workers beside {what}")
    except RuntimeError as error:
        if operator.alive:
            raise
        last = str(error).strip().rpartition("\n")[2]
        bench.add(Result(f"2 workers beside {what}", operator.name, math.inf, detail=f"the operator ended: {last}"))
