"""Workers that wait for quota of the real Kueue, each by itself, beside a native Job that waits as a whole."""

from __future__ import annotations

import math
import time
from collections import Counter

from tests.cluster import components
from tests.support import kueue

from ..api import Manifest, Workloads
from ..manifests import queued_cluster, queued_job
from ..measure import Bench, listed
from ..operators import NATIVE, OURS, Operator, cpu_seconds
from ..result import Result

QUEUE = "team"


def queued(bench: Bench) -> None:
    """--queued workers admitted by Kueue, if that has been built, each by itself; a native Job of as many Pods."""
    if components.find(kueue.PROGRAM) is None:
        bench.say(f"left out: `python -m tests.cluster {kueue.PROGRAM}` builds Kueue")
        return
    assert bench.nobody  # installs our CRDs; the operator starts beside Kueue, so that it need not look for it again
    with kueue.kueue(bench.plane), bench.operator(OURS) as ours:
        for manifest in (kueue.flavor("bench"), kueue.cluster_queue("bench", "bench", "1000")):
            bench.api.create(manifest)
        with bench.unkept():
            for operator in (bench.native, ours):
                start(bench, operator, 2)
        for _ in range(bench.options.repeat):
            for size in bench.options.queued:
                start(bench, bench.native, size)
                start(bench, ours, size)
                start(bench, ours, size, guaranteed=True)


def start(bench: Bench, operator: Operator, size: int, *, guaranteed: bool = False) -> None:
    """Seconds until all workers have quota, and until they run; and who wrote what.

    Those that are ``guaranteed`` have it together, as a Job's Pods have.
    """
    with bench.namespace() as space:
        space.create(kueue.local_queue(QUEUE, "bench"))
        with Workloads(bench.api, space.name) as workloads:
            cpu, others, writes = operator.cpu_seconds(), _cpu_seconds(bench), _writes(bench, operator)
            began = time.monotonic()
            space.create(_manifest(operator, size, size if guaranteed else 0))
            try:
                space.running(size)
                runs = time.monotonic() - began
            except TimeoutError:
                runs = math.inf
            asked = 1 if operator.name == NATIVE or guaranteed else size + 1
            admitted = workloads.since(asked) - began if runs < math.inf else runs
            waited = workloads.waited()
            bench.settle(2, "what is written afterwards")
            written = {who: numbers - writes[who] for who, numbers in _writes(bench, operator).items()}
            used, used_by_others = operator.cpu_seconds() - cpu, _cpu_seconds(bench) - others
        detail = "; ".join(f"writes of {who}: {listed(dict(sorted(n.items())))}" for who, n in written.items())
        for who, seconds in sorted(used_by_others.items()):
            detail += f"; {seconds:.1f} s of CPU of {who}"
        detail += f"; a Workload waits for {waited:.2f} s (median)"
        what = f"{size:,} {'guaranteed' if guaranteed else 'queued'} workers"
        bench.add(Result(f"{what} have quota", operator.name, admitted))
        writes_of_its_own = written[operator.name].total()
        bench.add(
            Result(
                f"{what} run",
                operator.name,
                runs,
                cpu_seconds=used,
                peak_mib=operator.peak_mib(),
                writes=writes_of_its_own,
                detail=detail,
            )
        )


def _manifest(operator: Operator, size: int, guaranteed: int) -> Manifest:
    if operator.name == NATIVE:
        return queued_job("big", size, QUEUE)
    return queued_cluster("big", size, QUEUE, guaranteed=guaranteed)


def _cpu_seconds(bench: Bench) -> Counter[str]:
    """CPU time so far of those that all work for."""
    return Counter({who: cpu_seconds(bench.plane.processes.running(who).pid) for who in ("apiserver", kueue.PROGRAM)})


def _writes(bench: Bench, operator: Operator) -> dict[str, Counter[str]]:
    """Of an operator and of Kueue so far, by resource."""
    found = {each.name: each.writes() for each in (operator, bench.queues)}
    for numbers in found.values():
        numbers.pop("leases", None)
    return found
