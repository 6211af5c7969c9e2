"""What to do about a worker group: how many Pods, which ones go, which ones are replaced.

First every Pod is put into a bucket, then the buckets are counted. The words:

finished   ended for good; deleted, and replaced by a new one.
draining   in the ledger: told to hand over its work and data, deleted when the scheduler says that it has. One that is
           wanted again stays in the ledger until the scheduler says that it works again.
kept       all others that are not being deleted.
outdated   kept, but made from another template than the group's present one.
waiting    kept, but its worker does not run or the scheduler does not know it: nothing is lost with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain

import msgspec
from msgspec import Struct

from dask_crds import names
from dask_crds.model import DaskWorkerGroupStatus, DrainingWorker, RollingUpdate, UpdateStrategy
from dask_resources.metadata import metadata_patch, owner_reference, tracked
from dask_resources.pod import main_container
from dask_resources.worker import drain_timeout, stop_seconds, worker_labels, worker_metadata, worker_revision

from .actions import STEP, Ask, Create, Delete, Event, Outcome, Patch, Plan, Worker, step
from .autoscaler import number_for
from .conditions import merge, readiness
from .observed import ObservedGroup, Pod, Problem, made_by_another
from .time import Time, format_time, time_or

#: A Pod that has lived for less than this is not replaced before as much time has passed again, else a broken image, an
#: init container that fails or a kubelet that refuses would make Pods as fast as the API server takes them.
SHORT_LIFE_SECONDS = 30.0
#: How often the scheduler is asked about a drain; it cannot be watched.
DRAIN_POLL_SECONDS = 1.0
#: Workers that drain at a time: each is an entry of status, which the API server takes up to some size.
MOST_DRAINING = 500
#: Workers that the scheduler is asked to compare when some have to go.
MOST_COMPARED = 5000
#: Characters of a note in the ledger.
LONGEST_NOTE = 300
#: How the note begins of a worker that is wanted again. It has a new time to drain if it has to go after all.
_WANTED_AGAIN = "waiting for the scheduler's word to work again"


class Buckets(Struct, frozen=True, kw_only=True):
    """The Pods of a group by what can be done with them, newest first."""

    finished: tuple[Pod, ...]
    draining: tuple[Pod, ...]
    kept: tuple[Pod, ...]
    outdated: tuple[Pod, ...]  #: those of ``kept`` that are outdated

    @property
    def compared(self) -> tuple[Pod, ...]:
        """Those of ``kept`` among which is chosen who goes, outdated ones first."""
        if len(self.kept) <= MOST_COMPARED:
            return self.kept
        outdated = {p.name for p in self.outdated}
        return tuple(sorted(self.kept, key=lambda p: p.name not in outdated)[:MOST_COMPARED])


def buckets(o: ObservedGroup) -> Buckets:
    """Sort the Pods of a group. Pods that are being deleted are in no bucket: they are gone already."""
    revision = worker_revision(o.group)
    ledger = {entry.name for entry in o.group.status.draining or ()}
    living = sorted((p for p in o.pods if not p.deleting), key=lambda p: (-p.created, -(p.ordinal or 0)))
    ended = {p.name for p in living if _has_ended(p, o)}
    active = [p for p in living if p.name not in ended]
    kept = tuple(p for p in active if p.name not in ledger)
    return Buckets(
        finished=tuple(p for p in living if p.name in ended),
        draining=tuple(p for p in active if p.name in ledger),
        kept=kept,
        outdated=tuple(p for p in kept if p.labels.get(names.REVISION) != revision),
    )


def _has_ended(pod: Pod, o: ObservedGroup) -> bool:
    """Whether a Pod will not work again: it has ended, or its worker has, while a sidecar is still up."""
    if pod.is_finished:
        return True
    name = main_container(o.group.spec.worker.spec, names.WORKER)
    main = next((c for c in pod.containers if c.name == name), None)
    if main is None or main.running or main.finished is None:
        return False
    declared = next(c for c in o.group.spec.worker.spec["containers"] if c["name"] == name)
    if "restartPolicy" in declared:  # has rules of its own
        return False
    return pod.restart_policy == "Never" or (pod.restart_policy == "OnFailure" and main.exit_code == 0)


def desired_replicas(o: ObservedGroup) -> int:
    """How many workers the group works towards now."""
    if o.cluster is None or o.cluster.spec.suspend:
        return 0
    number = number_for(o.autoscaler, o.group)
    desired = o.group.spec.worker.replicas if number is None else number
    return max(0, min(desired, _most_workers(o, desired)))


def _most_workers(o: ObservedGroup, otherwise: int) -> int:
    """How many workers a job leaves room for in the quota, so that its runner can start."""
    assert o.cluster is not None
    owners = o.cluster.metadata.get("ownerReferences") or ()
    of_job = any(owner.get("controller") and owner.get("kind") == "DaskJob" for owner in owners)
    text = str((o.cluster.metadata.get("annotations") or {}).get(names.MOST_WORKERS))
    said = text.isascii() and text.isdecimal() and len(text) < 10
    return int(text) if said and of_job and o.group.name == names.default_group(o.cluster.name) else otherwise


class Limits(Struct, frozen=True):
    """Bounds of a rolling update, in Pods."""

    surge: int
    unavailable: int


def limits(strategy: UpdateStrategy | None, desired: int) -> Limits:
    """``maxSurge`` rounds up, ``maxUnavailable`` rounds down, and both are never zero, as in a Deployment."""
    rolling = (strategy and strategy.rolling_update) or RollingUpdate()
    surge = _pods(rolling.max_surge, desired, math.ceil)
    unavailable = _pods(rolling.max_unavailable or 0, desired, math.floor)
    return Limits(surge or (0 if unavailable else 1), unavailable)


def _pods(value: int | str, desired: int, rounded: Callable[[float], int]) -> int:
    # An object from before there was a bound may have a percentage of any length, or none at all.
    if isinstance(value, int):
        return max(0, value)
    digits = value.removesuffix("%")[:9]
    return rounded(desired * int(digits) / 100) if digits.isascii() and digits.isdecimal() else 0


class Decision(Struct, frozen=True, kw_only=True):
    """How many Pods to add and which ones to let go."""

    create: int
    resume: tuple[Pod, ...]  #: draining ones that are wanted again; they count as kept
    excess: int  #: how many kept Pods must go because the group is too large
    roll: int  #: how many outdated Pods may go because newer ones have taken their place
    spare: int  #: how many of these may be ready ones

    @property
    def resumed(self) -> Set[str]:
        """Names of those that are wanted again."""
        return {p.name for p in self.resume}


def decide(o: ObservedGroup, b: Buckets, now: Time) -> Decision:
    """Count. Never more Pods than desired plus surge, finished ones and those being deleted apart.

    Nor are there ever fewer ready ones than desired minus unavailable because of what is decided here.
    """
    desired = desired_replicas(o)
    strategy = o.group.spec.worker.update_strategy or UpdateStrategy()
    revision = worker_revision(o.group)
    accepts_outdated = strategy.type == "OnDelete"
    recoverable = [p for p in b.draining if accepts_outdated or p.labels.get(names.REVISION) == revision]
    # Until the last outdated one is gone: one that drains takes its place still.
    rolling = desired > 0 and not accepts_outdated and bool(b.outdated or len(recoverable) < len(b.draining))
    limit = limits(strategy, desired) if rolling else Limits(0, 0)
    most = desired + limit.surge
    outdated = len(b.outdated) if rolling else 0

    # Wanted again: what drains is taken back before anything new is made, unless it is outdated.
    missing = max(0, min(desired - (len(b.kept) - outdated), most - len(b.kept)))
    resume = tuple(recoverable[:missing])
    kept = len(b.kept) + len(resume)
    draining = len(b.draining) - len(resume)

    held_back = sum(1 for p in b.finished if _replaceable_at(p, o, now) > now)
    create = max(0, min(missing - len(resume), most - kept - draining) - held_back)

    excess = max(0, kept - most)
    ready = sum(1 for p in (*b.kept, *resume) if p.ready)
    broken = sum(1 for p in b.outdated if not p.ready)
    spare = max(0, ready - excess - (desired - limit.unavailable))
    # Outdated Pods that are not ready serve nobody: they may go as soon as there is something to replace them with.
    roll = min(outdated - min(excess, outdated), spare + broken)
    return Decision(create=create, resume=resume, excess=excess, roll=roll, spare=spare)


def _replaceable_at(pod: Pod, o: ObservedGroup, now: Time) -> Time:
    """When a finished Pod may be replaced.

    By the API server's clock, as `now` is: those of the nodes may be minutes off. Of theirs it counts for how long the
    Pod lived, and when it ended, as far as that can be; neither can hasten anything, nor delay it for long.
    """
    ended = pod.finished
    if ended is None:
        ended = pod.container(main_container(o.group.spec.worker.spec, names.WORKER)).finished
    lived = max(0.0, ended - pod.started) if ended is not None and pod.started is not None else 0.0
    if lived >= SHORT_LIFE_SECONDS:
        return pod.created + SHORT_LIFE_SECONDS
    known = ended if ended is not None and ended <= now else pod.created
    return max(pod.created + lived, known) + SHORT_LIFE_SECONDS


def plan_worker_group(o: ObservedGroup, now: Time) -> Plan:
    """What to do about a group now."""
    if made_by_another(o.group.spec.cluster, o.scheduler):
        return Plan()
    b = buckets(o)
    decision = decide(o, b, now)
    scheduler_runs = any(p.phase == "Running" and not p.deleting for p in o.scheduler_pods)
    leaving = decision.excess + decision.roll
    ask = _questions(b, decision, leaving) if scheduler_runs else None
    if ask is not None and o.answers is None:
        return Plan(ask=ask)

    chosen = victims(b, decision, o)
    drains = scheduler_runs and drain_timeout(o.group) > 0
    lost = [p for p in chosen if not drains or _is_waiting(p, o)]
    begun = [p for p in chosen if drains and not _is_waiting(p, o)][: max(0, MOST_DRAINING - len(b.draining))]
    due, late, notes = _drained(o, b, decision, now, scheduler_runs=scheduler_runs)
    ended = chain((p for p in b.finished if _replaceable_at(p, o, now) <= now), due)
    grace = stop_seconds(o.group)
    actions = step(
        chain(
            (Delete("Pod", p.namespace, p.name, p.uid, p.resource_version, grace) for p in lost),
            (Delete("Pod", p.namespace, p.name, p.uid, grace_seconds=grace) for p in ended),
        ),
        chain(_adoption(o), _relabelled(o, (*b.kept, *b.draining))),
        (Create(o.group, ordinal) for ordinal in free_ordinals(o.pods, min(decision.create, STEP), o.taken)),
        _timeouts(o, late),
    )
    # Those that are deleted now stay in the ledger until they are seen to be gone: the deletion may fail.
    notes |= {p.name: "" for p in (*begun, *due)}
    return Plan(actions=actions, requeue_after=_next_look(o, b, begun, notes, now), notes=notes)


def _next_look(o: ObservedGroup, b: Buckets, begun: Sequence[Pod], notes: Mapping[str, str], now: Time) -> float | None:
    """Seconds until a look is due though neither a watch nor the scheduler tells of anything."""
    looks = [wait for p in b.finished if (wait := _replaceable_at(p, o, now) - now) > 0]
    if begun:
        looks.append(DRAIN_POLL_SECONDS)
    ledger = (since for name, since in _since(o, now).items() if name in notes and not _is_wanted(notes[name]))
    looks += [max(DRAIN_POLL_SECONDS, since + drain_timeout(o.group) - now) for since in ledger]
    return min(looks, default=None)


def _questions(b: Buckets, decision: Decision, leaving: int) -> Ask | None:
    resumed = decision.resumed
    going = [p for p in b.draining if p.name not in resumed]
    if not (leaving or going or decision.resume):
        return None
    return Ask(
        every=DRAIN_POLL_SECONDS if going or decision.resume else None,
        registered=_workers(b.compared) if leaving else (),
        rank=_workers(p for p in b.compared if p.phase == "Running") if leaving else (),
        retire=_workers(going),
        resume=_workers(decision.resume),
    )


def _workers(pods: Iterable[Pod]) -> tuple[Worker, ...]:
    return tuple(Worker(p.worker_name or p.name, p.own_ips) for p in pods)


def _is_waiting(pod: Pod, o: ObservedGroup) -> bool:
    """Whether nothing can be lost with a Pod: its worker does not run, or the scheduler does not know it."""
    if o.answers is None or o.answers.registered is None:
        return pod.phase != "Running"
    return (pod.worker_name or pod.name) not in o.answers.registered


def victims(b: Buckets, decision: Decision, o: ObservedGroup) -> list[Pod]:
    """The Pods that go.

    Not running or not registered first (newest first), then not ready, then outdated, then by the scheduler.
    """
    ranked = (o.answers and o.answers.ranked) or ()
    rank = {name: position for position, name in enumerate(ranked)}
    outdated = {p.name for p in b.outdated}

    def order(pod: Pod) -> tuple[bool, bool, bool, int, float]:
        return (
            not _is_waiting(pod, o),
            pod.ready,
            pod.name not in outdated,
            rank.get(pod.worker_name or pod.name, len(rank)),
            -pod.created,
        )

    first = sorted(b.compared, key=order)[: decision.excess]
    going = {p.name for p in first}
    rest = sorted((p for p in b.compared if p.name in outdated - going), key=order)
    broken = [p for p in rest if not p.ready]
    replaced = [*broken, *[p for p in rest if p.ready][: decision.spare]]
    return [*first, *replaced[: decision.roll]]


def _drained(
    o: ObservedGroup, b: Buckets, decision: Decision, now: Time, *, scheduler_runs: bool
) -> tuple[list[Pod], dict[str, str], dict[str, str]]:
    """Of the draining Pods: those to delete now, what those still have whose time is over, and what status says."""
    since, resumed = _since(o, now), decision.resumed
    due: list[Pod] = []
    late: dict[str, str] = {}
    notes: dict[str, str] = {}
    for pod in b.draining:
        if pod.name in resumed:
            if why := _why_paused(pod, o, scheduler_runs=scheduler_runs):
                notes[pod.name] = f"{_WANTED_AGAIN}: {why}"
            continue
        state = _retirement(pod, o) if scheduler_runs else "unknown"
        if state in ("retired", "unknown"):
            due.append(pod)
        elif now - since[pod.name] >= drain_timeout(o.group):
            due.append(pod)
            late[pod.name] = state
        else:
            notes[pod.name] = state
    return due, late, notes


def _since(o: ObservedGroup, now: Time) -> dict[str, Time]:
    """Since when the Pods in the ledger drain. Others may have written into status whatever they like."""
    created = {p.name: p.created for p in o.pods}
    return {
        entry.name: now
        if _is_wanted(entry.message)
        else min(now, max(time_or(entry.since, now), created.get(entry.name, -math.inf)))
        for entry in o.group.status.draining or ()
    }


def _is_wanted(note: str | None) -> bool:
    """Whether the note of a Pod in the ledger says that it is wanted again."""
    return (note or "").startswith(_WANTED_AGAIN)


def _retirement(pod: Pod, o: ObservedGroup) -> str:
    if o.answers is None or o.answers.retirement is None:
        return f"waiting for the scheduler: {o.answers.silent if o.answers else 'not asked'}"
    state = o.answers.retirement.get(pod.worker_name or pod.name, "unknown")
    return f"it says: {state}" if _is_wanted(state) else state


def _why_paused(pod: Pod, o: ObservedGroup, *, scheduler_runs: bool) -> str:
    """Why a Pod that is wanted again may still be paused; empty once it works.

    A scheduler's module that does not tell what became of it has been told all the same.
    """
    if not scheduler_runs or o.answers is None:
        return "there is none now"
    if o.answers.silent:
        return o.answers.silent
    state = (o.answers.resumption or {}).get(pod.worker_name or pod.name, "running")
    return "" if state != "resuming" else "it has been told"


def _timeouts(o: ObservedGroup, late: Mapping[str, str]) -> Iterator[Event]:
    """A warning for each Pod that goes although it may still hold something."""
    over = f"its time to drain is over ({drain_timeout(o.group)} s)"
    return (Event("DrainTimeout", f"{name} is deleted, as {over}: {state}", True) for name, state in late.items())


def free_ordinals(pods: Iterable[Pod], count: int, taken: Set[int] = frozenset()) -> list[int]:
    """The ``count`` lowest places that are free.

    Pods that are being deleted have theirs still, and others may have taken names: these are ``taken``.
    """
    present = {p.ordinal for p in pods}
    free: list[int] = []
    ordinal = 0
    while len(free) < count:
        if ordinal not in present and ordinal not in taken:
            free.append(ordinal)
        ordinal += 1
    return free


def _adoption(o: ObservedGroup) -> Sequence[Patch]:
    """An owner reference for a group that a client made, or that has lost its cluster, so that it goes with this one.

    A group that a GitOps tool tracks stays without: Argo CD does not prune objects that have an owner. It is no apply:
    that would take away whatever else we have applied to it before.
    """
    if o.cluster is None or not o.cluster.uid or tracked(o.group.metadata):
        return []
    references = o.group.metadata.get("ownerReferences") or []
    # Of an earlier cluster: the garbage collector is about to take it, and would spare it for the sake of this one.
    if any(
        o.cluster.uid == reference.get("uid") or reference.get("kind") == o.cluster.kind for reference in references
    ):
        return []
    reference = {**owner_reference(o.cluster), "controller": False}
    # The list is replaced as a whole: only if nobody has added to it meanwhile.
    version = {"resourceVersion": o.group.metadata.get("resourceVersion")}
    patch = {"metadata": {**version, "ownerReferences": [*references, reference]}}
    return [Patch("DaskWorkerGroup", o.group.namespace, o.group.name, patch, o.group.uid)]


def _relabelled(o: ObservedGroup, pods: Iterable[Pod]) -> Iterator[Patch]:
    """Labels and annotations of running workers brought up to date; that needs no restart."""
    desired = worker_metadata(o.group)
    return (
        Patch("Pod", pod.namespace, pod.name, {"metadata": patch}, pod.uid)
        for pod in pods
        if (patch := metadata_patch(desired, pod.last_applied))
    )


def worker_group_status(o: ObservedGroup, plan: Plan, outcomes: Sequence[Outcome], now: Time) -> DaskWorkerGroupStatus:
    """The status after the plan was executed."""
    b = buckets(o)
    gone = {out.action.name for out in outcomes if isinstance(out.action, Delete) and not out.error}
    active = [p for p in (*b.kept, *b.draining) if p.name not in gone]
    created = sum(1 for out in outcomes if isinstance(out.action, Create) and not out.error)
    desired = desired_replicas(o)
    outdated = [p for p in b.outdated if p.name not in gone]
    revision = worker_revision(o.group)
    updated = sum(1 for p in active if p.labels.get(names.REVISION) == revision)
    ready = sum(1 for p in active if p.ready)
    ledger = _ledger(o, plan, active, now)
    before, another = o.group.status.conditions, made_by_another(o.group.spec.cluster, o.scheduler)
    replicas = len(active) + created
    waiting = _waiting_for(o, ledger, ready=ready, desired=desired, outdated=len(outdated), replicas=replicas)
    status = DaskWorkerGroupStatus(
        observed_generation=o.group.generation,
        replicas=replicas,
        ready_replicas=ready,
        updated_replicas=updated + created,
        desired_replicas=desired,
        autoscaler=o.autoscaler.name if o.autoscaler and number_for(o.autoscaler, o.group) is not None else None,
        selector=",".join(f"{key}={value}" for key, value in worker_labels(o.group).items()),
        draining=ledger or None,
    )
    progressed = format_time(now) if _progressed(o.group.status, status) else o.group.status.last_progress_time
    conditions = readiness(
        before,
        problem=another or _group_problem(o, b, waiting, now),
        waiting=waiting,
        outcomes=outcomes,
        generation=o.group.generation,
        now=now,
        stalled=another is not None,
        ready="Suspended" if o.cluster is not None and o.cluster.spec.suspend else "Ready",
        message=_are_ready(desired, desired)
        + (f", {len(outdated)} with the old template until you delete them (OnDelete)" if outdated else "")
        + (f"; DaskAutoscaler {status.autoscaler} sets the number" if status.autoscaler else ""),
        deadline=not ledger,  # `drainTimeoutSeconds` bounds that
        progress=time_or(progressed, now) if progressed else None,
    )
    merged = merge(before, conditions, generation=o.group.generation, now=now)
    return msgspec.structs.replace(status, last_progress_time=progressed, conditions=merged)


def _progressed(before: DaskWorkerGroupStatus, after: DaskWorkerGroupStatus) -> bool:
    """Whether something was achieved. Pods that are merely created again and again are no achievement."""

    def outdated(status: DaskWorkerGroupStatus) -> int:
        return (status.replicas or 0) - (status.updated_replicas or 0)

    return (
        before.observed_generation != after.observed_generation
        or (after.ready_replicas or 0) > (before.ready_replicas or 0)
        or outdated(after) < outdated(before)
    )


def _ledger(o: ObservedGroup, plan: Plan, active: Sequence[Pod], now: Time) -> list[DrainingWorker]:
    """The draining workers: those noted by the plan that still exist; ``since`` is kept."""
    said = {entry.name: time_or(entry.since, now) for entry in o.group.status.draining or ()}
    since = _since(o, now) | {name: said[name] for name, note in plan.notes.items() if _is_wanted(note)}
    present = {p.name for p in active}
    return [
        DrainingWorker(name=name, since=format_time(since.get(name, now)), message=note[:LONGEST_NOTE] or None)
        for name, note in sorted(plan.notes.items())
        if name in present
    ]


def _waiting_for(
    o: ObservedGroup, ledger: Sequence[DrainingWorker], *, ready: int, desired: int, outdated: int, replicas: int
) -> str:
    if o.cluster is None:
        return f"DaskCluster {o.group.spec.cluster} does not exist in this namespace"
    wanted = sum(1 for entry in ledger if _is_wanted(entry.message))
    if going := len(ledger) - wanted:
        return f"{_workers_are(going)} draining"
    if wanted:
        return f"{_workers_are(wanted)} {ledger[0].message}"
    on_delete = (o.group.spec.worker.update_strategy or UpdateStrategy()).type == "OnDelete"
    if outdated and not on_delete:
        return f"{outdated} worker{' still has' if outdated == 1 else 's still have'} the old template"
    if ready < desired or replicas < desired:
        return _are_ready(min(ready, desired), desired)
    if replicas > desired:
        return f"{_workers_are(replicas - desired)} to go: {desired} wanted"
    return ""


def _workers_are(count: int) -> str:
    return "1 worker is" if count == 1 else f"{count} workers are"


def _are_ready(ready: int, desired: int) -> str:
    return f"{ready} of {desired} {'worker is' if desired == 1 else 'workers are'} ready"


def _group_problem(o: ObservedGroup, b: Buckets, waiting: str, now: Time) -> Problem | None:
    if o.cluster is None:
        return Problem("ClusterNotFound", waiting)
    if not waiting:
        return None
    held_back = [p for p in b.finished if _replaceable_at(p, o, now) > now]
    problems = [p.problem for p in (*b.kept, *b.finished) if p.problem is not None and not p.ready]
    problems += [
        Problem("Ended", f"{p.name}: its worker ended soon after its start") for p in held_back if p.problem is None
    ]
    if not problems:
        return None
    same = [p for p in problems if p.reason == problems[0].reason]
    more = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
    return Problem(problems[0].reason, f"{waiting}; {same[-1].message}{more}")
