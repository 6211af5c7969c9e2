"""The workers of a group whose cluster waits in a queue of Kueue: which may run, and on whose quota.

Guaranteed ones run on the base of their cluster. Each further one is a Workload of its own, *surplus*: it is asked for
while the group wants it, its Pod is made when it is admitted, and it is deleted, which gives its quota back, when that
Pod is gone. A worker whose quota was taken back drains like any other that has to go. Then the quota is given back, and
its Workload stays in the queue: when it comes next is Kueue's business, which may let it wait after a failure.

At any time the Pods of a Workload, terminating ones included, are no more than were granted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import count, islice, repeat

from msgspec import Struct

from dask_crds import names
from dask_crds.model import DaskWorkerGroup
from dask_crds.names import Label
from dask_resources.queue import WORKER, Placement, Priority, pod_set, surplus_workload

from .actions import Action, Apply, Delete
from .pod import Pod, Problem
from .queue import release, told_ready
from .queue_workload import Workload
from .time import Time

#: Workers that wait in the queue at a time once Kueue has said of one that there is no quota, at least: half as many as
#: were admitted. As long as it has not, four times as many: each round with Kueue takes time, and 500 come in five.
FEWEST_PENDING = 4


class Grant(Struct, frozen=True):
    """Quota for some workers."""

    count: int
    placement: Placement


class GroupQueue(Struct, frozen=True, kw_only=True):
    """The quota of a worker group."""

    base: Workload | None = None  #: of its cluster, or of the job that has made that
    surplus: tuple[Workload, ...] = ()  #: those whose controller is the group
    grants: Mapping[str, Grant] = {}  #: what new Pods may be made on, by Workload
    holding: Mapping[str, int] = {}  #: Workers that may go on running, by Workload
    priority: Priority = Priority()  #: of surplus
    problem: Problem | None = None  #: why no surplus can be asked for, or used
    unavailable: bool = False  #: whether Kueue is not there to be asked: what runs goes on
    left: bool = False  #: whether the cluster does not wait in a queue any more

    @property
    def limits(self) -> bool:
        """Whether workers need quota."""
        return not self.left

    @property
    def guaranteed(self) -> int:
        """Workers that are part of the base."""
        return self.holding.get(self.base.name, 0) if self.base is not None else 0

    def is_guaranteed(self, pod: Pod) -> bool:
        """Whether a worker runs on the base."""
        return self.base is not None and pod.workload == self.base.name

    def granted(self, pods: Sequence[Pod]) -> int:
        """How many workers may run."""
        if self.unavailable:
            return sum(1 for p in pods if not p.deleting and not p.is_finished)
        return sum(self.holding.values())

    def is_revoked(self, pod: Pod) -> bool:
        """Whether a worker has lost its quota, or never had any."""
        return self.limits and not self.unavailable and pod.workload not in self.holding


def free(queue: GroupQueue | None, pods: Sequence[Pod]) -> Iterator[tuple[str, Placement]]:
    """What new workers may be made on, one after the other: a Workload, the base first; or nothing, without end."""
    if queue is None or queue.left:
        yield from repeat(("", Placement()))
        return
    used = Counter(p.workload for p in pods if not p.is_finished)
    for name, grant in queue.grants.items():
        yield from repeat((name, grant.placement), max(0, grant.count - used[name]))


def priority_name(group: DaskWorkerGroup) -> str:
    """The WorkloadPriorityClass of surplus workers, if the template names one."""
    template = group.spec.worker.metadata
    return ((template and template.labels) or {}).get(Label.PRIORITY_CLASS, "")


def below(base: Workload) -> Priority:
    """The priority of surplus workers that have no class of their own.

    Of what has the same priority Kueue preempts what was admitted last, in whole seconds, and base and surplus are
    often admitted in one second. So the base ranks higher, else all would go where two workers had sufficed.
    """
    return Priority(max(base.priority - 1, -(2**31)))


def revision_of(group: DaskWorkerGroup) -> str:
    """Hash of what the template says now, as far as that matters to quota; taken once for hundreds of Workloads."""
    return pod_set(WORKER, 1, group.spec.worker.spec).revision


def is_current(of: Workload, revision: str) -> bool:
    """Whether a surplus Workload was made of the template with that hash."""
    return of.revisions.get(WORKER) == revision


def _waits_elsewhere(of: Workload, queue: GroupQueue) -> bool:
    """Whether a Workload that is in line has another place there than it would be given now."""
    if queue.base is None or queue.problem is not None or not of.is_pending:
        return False
    wanted = queue.base.queue, queue.priority.value, queue.priority.class_name
    return (of.queue, of.priority, of.priority_class) != wanted


def _most_pending(useful: Sequence[Workload]) -> int:
    """How many more may be asked for now. One that is not active is not in line, and may stay so for ever."""
    admitted, waiting = sum(w.is_admitted for w in useful), [w for w in useful if w.active and not w.is_admitted]
    scarce = any(w.condition("QuotaReserved").get("status") == "False" for w in waiting)
    return max(FEWEST_PENDING, admitted // 2) * (1 if scarce else 4) - len(waiting)


def staying(group: DaskWorkerGroup, kept: Sequence[Pod], outdated: Sequence[Pod]) -> set[str]:
    """The Workloads of workers that are not to be replaced."""
    strategy = group.spec.worker.update_strategy
    replaced = {p.name for p in outdated} if strategy is None or strategy.type != "OnDelete" else set()
    return {p.workload for p in kept if p.name not in replaced}


def surplus_actions(
    group: DaskWorkerGroup,
    queue: GroupQueue | None,
    pods: Sequence[Pod],
    wanted: int,
    now: Time,
    about_to_be_used: Set[str] = frozenset(),
    to_stay: Set[str] = frozenset(),
) -> Iterator[Action]:
    """What is to be told to Kueue about the workers beyond the base.

    Args:
        group: the group.
        queue: its quota.
        pods: of the group.
        wanted: workers that the group works towards.
        now: the time.
        about_to_be_used: Workloads on which Pods are made now.
        to_stay: Workloads of Pods that are not to be replaced: whatever is noted at these, they are not asked for anew.
    """
    if queue is None or queue.unavailable:
        return
    there = [w for w in queue.surplus if not w.deleting]
    if queue.left:
        yield from map(Delete.of, there)
        return
    used = {p.workload for p in pods if not p.is_finished} | about_to_be_used
    ready = {p.workload for p in pods if p.ready and not p.deleting}
    revision = revision_of(group)
    of_use = (w for w in there if is_current(w, revision) or w.name in to_stay)
    useful = [w for w in of_use if not (w.is_finished or _waits_elsewhere(w, queue))]
    lost = {w.name for w in there} - {w.name for w in useful}
    yield from (Delete.of(w) for w in there if w.name in lost and w.name not in used)
    beyond = max(0, wanted - queue.guaranteed)
    yield from _asked_for(group, queue, useful, beyond, used)
    if len(useful) <= beyond:  # else it is seen first which of them are given up
        yield from (release(w, now) for w in useful if w.is_evicted and w.is_reserved and w.name not in used)
    told = (told_ready(w, now, ready=w.name in ready) for w in useful if w.is_admitted)
    yield from (patch for patch in told if patch is not None)


def _asked_for(
    group: DaskWorkerGroup, queue: GroupQueue, useful: Sequence[Workload], wanted: int, used: Set[str]
) -> Iterator[Action]:
    """What is asked for, or given back, so that as many Workloads as ``wanted`` are ``useful``."""
    missing = wanted - len(useful)
    if missing < 0:
        # Those that wait first, and of these the ones that came last.
        idle = sorted((w for w in useful if w.name not in used), key=lambda w: (w.is_admitted, -w.created, w.name))
        yield from map(Delete.of, idle[:-missing])
    elif missing and queue.base is not None and queue.problem is None:
        most = _most_pending(useful)
        taken = {w.name for w in queue.surplus}
        numbers = (n for n in count() if names.surplus_workload(group.name, n) not in taken)
        for number in islice(numbers, min(missing, max(0, most))):
            yield Apply(surplus_workload(group, number, queue.base.queue, queue.priority), new=True)
