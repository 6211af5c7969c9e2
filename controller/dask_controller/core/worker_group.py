"""What to do about a worker group: how many Pods, which ones go, which ones are replaced.

First every Pod is put into a bucket, then the buckets are counted. The words:

finished   ended for good; deleted, and replaced by a new one.
draining   in the ledger: told to hand over its work and data, deleted when the scheduler says that it has.
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
from dask_resources.worker import drain_timeout, stop_seconds, worker_labels, worker_metadata, worker_revision

from .actions import STEP, Apply, Ask, Create, Delete, Event, Outcome, Patch, Plan, Worker, step
from .conditions import merge, readiness
from .observed import ObservedGroup, Pod, Problem, made_by_another
from .time import Time, format_time, parse_time

#: A Pod that ended sooner than this after its start is not replaced before as much time has passed again, else a
#: broken image with ``restartPolicy: Never`` would create Pods as fast as the API server takes them.
SHORT_LIFE_SECONDS = 30.0
#: How often the scheduler is asked about a drain; it cannot be watched.
DRAIN_POLL_SECONDS = 1.0
#: Workers that drain at a time: each is an entry of status, which the API server takes up to some size.
MOST_DRAINING = 500
#: Workers that the scheduler is asked to compare when some have to go.
MOST_COMPARED = 5000


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
    active = [p for p in living if not p.is_finished]
    kept = tuple(p for p in active if p.name not in ledger)
    return Buckets(
        finished=tuple(p for p in living if p.is_finished),
        draining=tuple(p for p in active if p.name in ledger),
        kept=kept,
        outdated=tuple(p for p in kept if p.labels.get(names.REVISION) != revision),
    )


def desired_replicas(o: ObservedGroup) -> int:
    """How many workers the group works towards now."""
    if o.cluster is None or o.cluster.spec.suspend:
        return 0
    if o.autoscaler is not None and o.autoscaler.status.desired_replicas is not None:
        return o.autoscaler.status.desired_replicas
    return o.group.spec.worker.replicas


class Limits(Struct, frozen=True):
    """Bounds of a rolling update, in Pods."""

    surge: int
    unavailable: int


def limits(strategy: UpdateStrategy | None, desired: int) -> Limits:
    """``maxSurge`` rounds up, ``maxUnavailable`` rounds down, and both are never zero, as in a Deployment."""
    rolling = (strategy and strategy.rolling_update) or RollingUpdate()
    surge = _pods(rolling.max_surge, desired, math.ceil)
    unavailable = _pods(rolling.max_unavailable, desired, math.floor)
    return Limits(surge or (0 if unavailable else 1), unavailable)


def _pods(value: int | str, desired: int, rounded: Callable[[float], int]) -> int:
    # An object from before there was a bound may have a percentage of any length.
    return value if isinstance(value, int) else rounded(desired * int(value.rstrip("%")[:9]) / 100)


class Decision(Struct, frozen=True, kw_only=True):
    """How many Pods to add and which ones to let go."""

    create: int
    resume: tuple[Pod, ...]  #: draining ones that are wanted again
    excess: int  #: how many kept Pods must go because the group is too large
    roll: int  #: how many outdated Pods may go because newer ones have taken their place

    @property
    def resumed(self) -> Set[str]:
        """Names of those that are wanted again."""
        return {p.name for p in self.resume}


def decide(o: ObservedGroup, b: Buckets, now: Time) -> Decision:
    """Count. Never more Pods than desired plus surge, finished ones and those being deleted apart."""
    desired = desired_replicas(o)
    strategy = o.group.spec.worker.update_strategy or UpdateStrategy()
    rolling = bool(b.outdated) and strategy.type == "RollingUpdate" and desired > 0
    limit = limits(strategy, desired) if rolling else Limits(0, 0)

    # Wanted again: what drains is taken back before anything new is made, unless it is outdated.
    revision = worker_revision(o.group)
    recoverable = [p for p in b.draining if p.labels.get(names.REVISION) == revision]
    resume = tuple(recoverable[: max(0, desired - len(b.kept))])
    kept = len(b.kept) + len(resume)
    draining = len(b.draining) - len(resume)

    held_back = sum(1 for p in b.finished if not _replaceable(p, now))
    if rolling:
        updated = kept - len(b.outdated)
        room = desired + limit.surge - kept - draining
        create = max(0, min(desired - updated, room))
    else:
        create = max(0, desired - kept)
    create = max(0, create - held_back)

    excess = max(0, kept - desired - limit.surge)
    ready = sum(1 for p in b.kept if p.ready)
    broken = sum(1 for p in b.outdated if not p.ready)
    spare = max(0, ready - (desired - limit.unavailable))
    # Outdated Pods that are not ready serve nobody: they may go as soon as there is something to replace them with.
    roll = min(len(b.outdated) - min(excess, len(b.outdated)), spare + broken) if rolling else 0
    return Decision(create=create, resume=resume, excess=excess, roll=max(0, roll))


def _replaceable(pod: Pod, now: Time) -> bool:
    """Whether a finished Pod may be replaced already."""
    if pod.finished is None or pod.started is None:
        return True
    lived = pod.finished - pod.started
    return lived >= SHORT_LIFE_SECONDS or now - pod.finished >= SHORT_LIFE_SECONDS


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
    due, notes = _drained(o, b, decision, now, scheduler_runs=scheduler_runs)
    ended = chain((p for p in b.finished if _replaceable(p, now)), due)
    grace = stop_seconds(o.group)
    actions = step(
        chain(
            (Delete("Pod", p.namespace, p.name, p.uid, p.resource_version, grace) for p in lost),
            (Delete("Pod", p.namespace, p.name, p.uid, grace_seconds=grace) for p in ended),
        ),
        chain(_adoption(o), _relabelled(o, (*b.kept, *b.draining))),
        (Create(o.group, ordinal) for ordinal in free_ordinals(o.pods, min(decision.create, STEP))),
        _timeouts(o, due, now),
    )
    # Those that are deleted now stay in the ledger until they are seen to be gone: the deletion may fail.
    notes |= {p.name: "" for p in (*begun, *due)}
    return Plan(actions=actions, requeue_after=_next_look(o, b, begun, notes, now), notes=notes)


def _next_look(o: ObservedGroup, b: Buckets, begun: Sequence[Pod], notes: Mapping[str, str], now: Time) -> float | None:
    """Seconds until a look is due though neither a watch nor the scheduler tells of anything."""
    looks = [p.finished + SHORT_LIFE_SECONDS - now for p in b.finished if p.finished and not _replaceable(p, now)]
    if begun:
        looks.append(DRAIN_POLL_SECONDS)
    ledger = (parse_time(entry.since) for entry in o.group.status.draining or () if entry.name in notes)
    looks += [max(DRAIN_POLL_SECONDS, since + drain_timeout(o.group) - now) for since in ledger]
    return min(looks, default=None)


def _questions(b: Buckets, decision: Decision, leaving: int) -> Ask | None:
    resumed = decision.resumed
    going = [p for p in b.draining if p.name not in resumed]
    if not (leaving or going or decision.resume):
        return None
    return Ask(
        every=DRAIN_POLL_SECONDS if going else None,
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
    """The Pods that go: not running or not registered first (newest first), then outdated, then by the scheduler."""
    ranked = (o.answers and o.answers.ranked) or ()
    rank = {name: position for position, name in enumerate(ranked)}
    outdated = {p.name for p in b.outdated}

    def order(pod: Pod) -> tuple[bool, bool, int, float]:
        return (
            not _is_waiting(pod, o),
            pod.name not in outdated,
            rank.get(pod.worker_name or pod.name, len(rank)),
            -pod.created,
        )

    first = sorted(b.compared, key=order)[: decision.excess]
    going = {p.name for p in first}
    rest = sorted((p for p in b.compared if p.name in outdated - going), key=lambda p: (p.ready, order(p)))
    return [*first, *rest[: decision.roll]]


def _drained(
    o: ObservedGroup, b: Buckets, decision: Decision, now: Time, *, scheduler_runs: bool
) -> tuple[list[Pod], dict[str, str]]:
    """Of the draining Pods: those to delete now, and what status says of the others."""
    since = {entry.name: parse_time(entry.since) for entry in o.group.status.draining or ()}
    resumed = decision.resumed
    due: list[Pod] = []
    notes: dict[str, str] = {}
    for pod in b.draining:
        if pod.name in resumed:
            continue
        state = _retirement(pod, o) if scheduler_runs else "unknown"
        if state in ("retired", "unknown") or now - since[pod.name] >= drain_timeout(o.group):
            due.append(pod)
        else:
            notes[pod.name] = state
    return due, notes


def _retirement(pod: Pod, o: ObservedGroup) -> str:
    if o.answers is None or o.answers.retirement is None:
        return f"waiting for the scheduler: {o.answers.silent if o.answers else 'not asked'}"
    return o.answers.retirement.get(pod.worker_name or pod.name, "unknown")


def _timeouts(o: ObservedGroup, due: Sequence[Pod], now: Time) -> Sequence[Event]:
    """A warning for each Pod that goes although it may still hold something."""
    if not o.scheduler_pods:
        return []
    return [
        Event("DrainTimeout", f"{p.name} is deleted after {drain_timeout(o.group)} s of draining: {state}", True)
        for p in due
        if (state := _retirement(p, o)) not in ("retired", "unknown")
    ]


def free_ordinals(pods: Iterable[Pod], count: int) -> list[int]:
    """The ``count`` lowest places that no Pod has, those being deleted included: their names are still taken."""
    taken = {p.ordinal for p in pods}
    free: list[int] = []
    ordinal = 0
    while len(free) < count:
        if ordinal not in taken:
            free.append(ordinal)
        ordinal += 1
    return free


def _adoption(o: ObservedGroup) -> Sequence[Apply]:
    """An owner reference for a group that a client made, so that it goes with its cluster.

    A group that a GitOps tool tracks stays without: Argo CD does not prune objects that have an owner.
    """
    if o.cluster is None or not o.cluster.uid or tracked(o.group.metadata):
        return []
    references = o.group.metadata.get("ownerReferences") or []
    if any(reference.get("uid") == o.cluster.uid for reference in references):
        return []
    reference = {**owner_reference(o.cluster), "controller": False}
    metadata = {"name": o.group.name, "namespace": o.group.namespace, "uid": o.group.uid}
    body = {"metadata": {**metadata, "ownerReferences": [reference]}}
    return [Apply({"apiVersion": f"{names.GROUP}/{names.VERSION}", "kind": "DaskWorkerGroup", **body})]


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
    waiting = _waiting_for(
        o, b, ready=ready, desired=desired, outdated=len(outdated), leaving=len(ledger), active=len(active) + created
    )
    status = DaskWorkerGroupStatus(
        observed_generation=o.group.generation,
        replicas=len(active) + created,
        ready_replicas=ready,
        updated_replicas=updated + created,
        desired_replicas=desired,
        selector=",".join(f"{key}={value}" for key, value in worker_labels(o.group).items()),
        draining=ledger or None,
    )
    progressed = format_time(now) if _progressed(o.group.status, status) else o.group.status.last_progress_time
    conditions = readiness(
        before,
        problem=another or _group_problem(o, b, waiting),
        waiting=waiting,
        outcomes=outcomes,
        generation=o.group.generation,
        now=now,
        stalled=another is not None,
        ready="Suspended" if o.cluster is not None and o.cluster.spec.suspend else "Ready",
        message=f"{desired} of {desired} workers are ready",
        deadline=not ledger,  # `drainTimeoutSeconds` bounds that
        progress=parse_time(progressed) if progressed else None,
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
    since = {entry.name: entry.since for entry in o.group.status.draining or ()}
    present = {p.name for p in active}
    return [
        DrainingWorker(name=name, since=since.get(name) or format_time(now), message=note or None)
        for name, note in sorted(plan.notes.items())
        if name in present
    ]


def _waiting_for(
    o: ObservedGroup, b: Buckets, *, ready: int, desired: int, outdated: int, leaving: int, active: int
) -> str:
    if o.cluster is None:
        return f"DaskCluster {o.group.spec.cluster} does not exist in this namespace"
    if leaving:
        return f"{leaving} workers are draining"
    on_delete = (o.group.spec.worker.update_strategy or UpdateStrategy()).type == "OnDelete"
    if outdated and not on_delete:
        return f"{outdated} workers still have the old template"
    if ready < desired or active != desired:
        return f"{ready} of {desired} workers are ready"
    return ""


def _group_problem(o: ObservedGroup, b: Buckets, waiting: str) -> Problem | None:
    if o.cluster is None:
        return Problem("ClusterNotFound", waiting)
    if not waiting:
        return None
    problems = [p.problem for p in (*b.kept, *b.finished) if p.problem is not None and not p.ready]
    if not problems:
        return None
    same = [p for p in problems if p.reason == problems[0].reason]
    more = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
    return Problem(problems[0].reason, f"{waiting}; {same[-1].message}{more}")
