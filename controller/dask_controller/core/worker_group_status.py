"""What a worker group's status says."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dask_crds.model import DaskWorkerGroupStatus, UpdateStrategy
from dask_crds.names import Label
from dask_crds.reasons import Reason
from dask_resources.worker import worker_labels, worker_revision

from .actions import CreateWorker, Delete, Outcome, Plan
from .autoscaler import number_for
from .conditions import Standing, merge, readiness
from .ledger import entries, is_wanted
from .limits import workers_wait
from .observed import ObservedGroup
from .ownership import foreign_scheduler
from .pod import Problem
from .queue_status import workers_waiting
from .time import Time, format_time, time_or
from .worker_group import Buckets, buckets, desired_replicas, replaceable_at


def worker_group_status(o: ObservedGroup, plan: Plan, outcomes: Sequence[Outcome], now: Time) -> DaskWorkerGroupStatus:
    """The status after the plan was executed."""
    b, desired, revision = buckets(o), desired_replicas(o), worker_revision(o.group, o.certificates)
    gone = {out.action.name for out in outcomes if isinstance(out.action, Delete) and not out.error}
    active = [p for p in (*b.kept, *b.draining, *b.revoked) if p.name not in gone]
    created = sum(1 for out in outcomes if isinstance(out.action, CreateWorker) and not out.error)
    outdated = sum(1 for p in b.outdated if p.name not in gone)
    before, another = o.group.status.conditions, foreign_scheduler(o.group.spec.cluster, o.scheduler_deployment)
    status = DaskWorkerGroupStatus(
        observed_generation=o.group.generation,
        replicas=len(active) + created,
        ready_replicas=sum(1 for p in active if p.ready),
        updated_replicas=sum(1 for p in active if p.labels.get(Label.REVISION) == revision) + created,
        desired_replicas=desired,
        autoscaler=o.autoscaler.name if o.autoscaler and number_for(o.autoscaler, o.group) is not None else None,
        selector=",".join(f"{key}={value}" for key, value in worker_labels(o.group).items()),
        draining=entries(o, plan.draining, active, now) or None,
    )
    waiting = _waiting_for(o, status, outdated)
    progressed = format_time(now) if _progressed(o.group.status, status) else o.group.status.last_progress_time
    quota = (workers_waiting(o.queue, desired) or workers_wait(o.places, desired)) if waiting else None
    if quota is not None:
        waiting = f"{waiting}; {quota.message}"
    standing = Standing(
        waiting=waiting,
        problem=another or _group_problem(o, b, waiting, now) or (quota and Problem(quota.reason, waiting)),
        lasting=another is not None,
        bounded=not status.draining and quota is None,  # `drainTimeoutSeconds` bounds that; nothing bounds a queue
        progress=time_or(progressed, now) if progressed else None,
        ready=Reason.SUSPENDED if o.cluster is not None and o.cluster.spec.suspend else Reason.READY,
        message=_are_ready(desired, desired)
        + (f", {outdated} with the old template until you delete them (OnDelete)" if outdated else "")
        + (f"; DaskAutoscaler {status.autoscaler} sets the number" if status.autoscaler else ""),
    )
    conditions = readiness(standing, outcomes, before, o.group.generation, now)
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


def _waiting_for(o: ObservedGroup, status: DaskWorkerGroupStatus, outdated: int) -> str:
    if o.cluster is None:
        return f"DaskCluster {o.group.spec.cluster} does not exist in this namespace"
    replicas, ready, desired = status.replicas or 0, status.ready_replicas or 0, status.desired_replicas or 0
    ledger = status.draining or []
    wanted = sum(1 for entry in ledger if is_wanted(entry.message))
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
        return Problem(Reason.CLUSTER_NOT_FOUND, waiting)
    if not waiting:
        return None
    held_back = [p for p in b.finished if replaceable_at(p, o, now) > now]
    problems = [p.problem for p in (*b.kept, *b.finished) if p.problem is not None and not p.ready]
    problems += [
        Problem(Reason.ENDED, f"{p.name}: its worker ended soon after its start")
        for p in held_back
        if p.problem is None
    ]
    if not problems:
        return None
    same = [p for p in problems if p.reason == problems[0].reason]
    more = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
    return Problem(problems[0].reason, f"{waiting}; {same[-1].message}{more}")
