"""Clusters that sleep until somebody connects: what they cost while they do, and how fast one of them wakes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from dask_crds import names
from dask_crds.names import Label

from ..api import Manifest
from ..manifests import DASK, dask_cluster
from ..measure import ALONE, Bench, Space
from ..operators import OURS, Operator
from ..result import Result

WORKERS = 2
LOOK_SECONDS = 1.0


def asleep(bench: Bench) -> None:
    """--many clusters that sleep until somebody connects: memory, CPU and writes; time to wake one."""
    number = bench.options.many
    with bench.operator(OURS) as ours, bench.activator as activator:
        bench.alone(ours)
        before = memory(bench, ours, "operator and activator, memory before any cluster sleeps")
        with bench.namespace() as space:
            with bench.measured(f"{number:,} clusters fall asleep", activator):
                space.create(*(sleeping(f"c{n}") for n in range(number)))
                until(bench, lambda: len(doors(bench, space)) == number)
            bench.settle(20, "all sleep")
            memory(bench, ours, f"operator and activator, memory with {number:,} clusters asleep", before)
            with bench.sampled(activator, f"CPU of the activator, {number:,} asleep"):
                bench.share(ours, f"CPU of the operator, {number:,} asleep")
            for n in range(bench.options.repeat):
                wake(bench, ours, space, f"c{n}")
            bench.say("deleting them")


def sleeping(name: str) -> Manifest:
    """A cluster that has never run."""
    made = dask_cluster(name, WORKERS)
    made["spec"] |= {"suspend": True, "wake": "OnConnect"}
    return made


def memory(bench: Bench, ours: Operator, what: str, before: float = 0.0) -> float:
    """Of operator and activator together, in MiB; what they share with one another is counted once."""
    bench.settle(10, "for memory")
    each = {who.name: who.memory_mib() for who in (ours, bench.activator)}
    total = sum(each.values())
    detail = ", ".join(f"{name} {mebibytes:.1f}" for name, mebibytes in each.items())
    more = f"; {total - before:.1f} MiB more than before" if before else ""
    bench.add(Result(what, OURS, total, "MiB", detail=detail + more))
    return total


def doors(bench: Bench, space: Space) -> dict[str, int]:
    """Where the clusters that sleep can be knocked for."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{space.name}/endpointslices"
    found = bench.api.get(f"{path}?labelSelector={Label.SLICE_MANAGER}%3D{names.ACTIVATOR}")
    return {each["metadata"]["name"]: each["ports"][0]["port"] for each in (found or {}).get("items", ())}


def until(bench: Bench, holds: Callable[[], bool]) -> None:
    """As `Bench.until`, but looking seldom: a list of all that sleeps costs the API server what others need."""
    deadline = time.monotonic() + bench.options.patience
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {bench.options.patience:.0f} s")
        time.sleep(LOOK_SECONDS)


def wake(bench: Bench, ours: Operator, space: Space, name: str) -> None:
    """From the first byte until its workers run, and back to sleep."""
    port = doors(bench, space)[names.doorway(name)]
    cluster = f"/apis/{DASK}/namespaces/{space.name}/daskclusters/{name}"
    with (
        bench.measured(f"wake one of {bench.options.many:,}: {WORKERS} workers", ours, ALONE),
        socket.create_connection(("127.0.0.1", port)),
    ):
        space.running(WORKERS)
    bench.api.request("PATCH", cluster, {"spec": {"suspend": True}})
    space.gone()
    until(bench, lambda: names.doorway(name) in doors(bench, space))
