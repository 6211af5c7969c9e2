"""What a new status tells the metrics that count: what has changed since the one before, and what came of drains."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from dask_crds import metrics
from dask_crds.metrics import Metric
from dask_crds.model import (
    DaskAutoscaler,
    DaskAutoscalerStatus,
    DaskCluster,
    DaskClusterStatus,
    DaskJob,
    DaskJobStatus,
    DaskObject,
)
from dask_crds.model.shared import Status

from .actions import Delete, Outcome
from .conditions import find
from .ledger import since
from .observed import Observed, ObservedGroup
from .questions import Retire
from .time import Time, time_or

#: What a scheduler says of a worker that drains, in its module's words (`dask_gitops_retirement.py`).
_LEFT = re.compile(r"(?:it says: )?retiring: (\d{1,9}) tasks and (\d{1,9}) results left")
_HELD = re.compile(r"(?:it says: )?refused: holds the only copy of (\d{1,9}) keys")
_BUSY = re.compile(r"(?:it says: )?refused: runs (\d{1,9}) tasks")


class Count(Struct, frozen=True):
    """Something to add to a counter of an object, or of an observation in a histogram the value."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


def told(
    observed: Observed | None, value: DaskObject, status: Status, outcomes: Sequence[Outcome], now: Time
) -> Iterator[Count]:
    """What to count once ``status`` has taken the place of that of ``value``."""
    yield from _transitions(value, status, now)
    match value, status:
        case DaskCluster(), DaskClusterStatus():
            yield from _scheduler(value, status)
        case DaskJob(), DaskJobStatus():
            yield from _run(value, status, now)
        case DaskAutoscaler(), DaskAutoscalerStatus():
            yield from _scaling(value, status)
    if isinstance(observed, ObservedGroup):
        yield from _drains(observed, outcomes, now)


def _transitions(value: DaskObject, status: Status, now: Time) -> Iterator[Count]:
    """How long conditions were as they no longer are."""
    for old in value.status.conditions or ():
        new = find(status.conditions, old.type)
        if new is not None and new.status != old.status:
            seconds = now - time_or(old.last_transition_time, now)
            yield Count(metrics.CONDITION_SECONDS, (value.kind, old.type, old.status), max(0.0, seconds))


def _scheduler(value: DaskCluster, status: DaskClusterStatus) -> Iterator[Count]:
    before = value.status.scheduler_pod_uid
    if before and status.scheduler_pod_uid and status.scheduler_pod_uid != before and not value.spec.suspend:
        yield Count(metrics.SCHEDULER_REPLACEMENTS, (value.namespace, value.name), 1)


def _run(value: DaskJob, status: DaskJobStatus, now: Time) -> Iterator[Count]:
    before = value.status
    if status.job_status == before.job_status:
        return
    if status.job_status == "Running" and before.active_since:
        yield Count(metrics.JOB_WAIT, (), max(0.0, now - time_or(before.active_since, now)))
    if status.job_status in ("Successful", "Failed") and status.start_time and status.end_time:
        seconds = time_or(status.end_time, now) - time_or(status.start_time, now)
        yield Count(metrics.JOB_DURATION, (status.job_status,), max(0.0, seconds))


def _scaling(value: DaskAutoscaler, status: DaskAutoscalerStatus) -> Iterator[Count]:
    before, after = value.status.desired_replicas, status.desired_replicas
    if before is not None and after is not None and before != after:
        labels = value.namespace, value.spec.cluster, value.name, "up" if after > before else "down"
        yield Count(metrics.AUTOSCALER_CHANGES, labels, 1)


class _Left(Struct, frozen=True):
    """What a draining worker still has."""

    tasks: int = 0
    results: int = 0


def _left(said: str | None) -> _Left | None:
    """By the scheduler's words; ``None``: it says something else."""
    if said == "retired":
        return _Left()
    if found := _LEFT.match(said or ""):
        return _Left(int(found[1]), int(found[2]))
    if found := _HELD.match(said or ""):
        return _Left(results=int(found[1]))
    if found := _BUSY.match(said or ""):
        return _Left(tasks=int(found[1]))
    return None


def _drains(o: ObservedGroup, outcomes: Sequence[Outcome], now: Time) -> Iterator[Count]:
    """What has become of the workers in the ledger since the last look."""
    said = (o.answers.of(Retire) if o.answers else None) or {}
    deleted = {out.action.uid for out in outcomes if isinstance(out.action, Delete) and not out.error}
    begun, pods = since(o, now), {p.name: p for p in o.pods}
    labels = o.group.namespace, o.group.spec.cluster, o.group.name
    moved = tasks = results = 0
    for entry in o.group.status.draining or ():
        pod = pods.get(entry.name)
        if pod is None:
            continue
        state = said.get(pod.known_as)
        now_left, had = _left(state), _left(entry.message)
        if had is not None and now_left is not None:
            moved += max(0, had.results - now_left.results)
        if pod.uid in deleted:
            outcome = (
                "completed" if state == "retired" else "timed_out" if state not in (None, "unknown") else "unknown"
            )
            yield Count(metrics.DRAIN_SECONDS, (outcome,), now - begun[pod.name])
            if outcome == "timed_out" and now_left is not None:
                tasks, results = tasks + now_left.tasks, results + now_left.results
    for metric, number in (
        (metrics.RESULTS_MOVED, moved),
        (metrics.RESULTS_LOST, results),
        (metrics.TASKS_LOST, tasks),
    ):
        if number:
            yield Count(metric, labels, number)
