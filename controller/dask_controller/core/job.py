"""What to do about a job: its cluster, its runner, and the tidying up afterwards.

A run is terminal once ``Complete`` or ``Failed`` is True in the stored status. That is written before anything is
deleted, and nothing is started again for the same ``spec.runId``, whatever is missing later.
"""

from __future__ import annotations

from typing import Any

from dask_crds import names
from dask_resources.job import job_cluster, run_label, runner_job
from dask_resources.scheduler import DEFAULT_CLUSTER_DOMAIN

from . import fence
from .actions import Action, Apply, Ask, Delete, Event, Patch, Plan
from .conditions import find, is_true
from .job_run import (
    active_seconds,
    ending,
    enforces_versions,
    is_condemned,
    is_finished,
    is_suspended,
    is_terminal,
    leftover_scheduler,
    loses_scheduler,
    loss_of,
    minimum_workers,
    missing,
    owned,
    waits,
    wants_new_run,
)
from .observed import Manifest, ObservedJob, owner_uid
from .time import Time, parse_time

#: How often progress is asked for, and written if it has changed.
PROGRESS_SECONDS = 15.0
#: How often it is looked whether enough workers have registered, and whose versions are known.
REGISTRATION_POLL_SECONDS = 2.0
#: How often it is looked why Kubernetes makes no Pod of a runner; only events tell.
CREATION_POLL_SECONDS = 5.0

DELETION_POLICIES = {
    "Always": ("Complete", "Failed"),
    "OnSuccess": ("Complete",),
    "Never": (),
}


def plan_job(o: ObservedJob, now: Time, *, domain: str = DEFAULT_CLUSTER_DOMAIN) -> Plan:
    """What to do about a job now."""
    if wants_new_run(o.job) and (leftovers := _leftovers(o)):
        return Plan(actions=tuple(leftovers))
    if is_terminal(o.job) and not wants_new_run(o.job):
        return _tidy_up(o, now)
    ask = _question(o)
    if ask is not None and o.answers is None:
        return Plan(ask=ask)
    if not wants_new_run(o.job) and (o.job.status.job_status is None or ending(o, now) or loses_scheduler(o)):
        return Plan()  # status first: what is written next must not happen twice, or cannot be undone
    return Plan(actions=tuple(_advance(o, now, domain)), requeue_after=_next_look(o, now))


def _advance(o: ObservedJob, now: Time, domain: str) -> list[Action]:
    """Bring up the cluster, then, when it is ready, the runner."""
    actions: list[Action] = []
    suspended = bool(o.job.spec.suspend)
    desired = job_cluster(o.job)
    if suspended:
        desired["spec"]["suspend"] = True
    if o.cluster is None:
        actions += [Apply(desired, new=True)] if leftover_scheduler(o) is None else []
    elif owned(o, o.cluster.metadata) and bool(o.cluster.spec.suspend) != suspended:
        actions.append(Apply(desired))
    scheduler = fence.identity(o.scheduler_pods) or ""
    if o.runner is None:
        if o.cluster is not None and not suspended and not missing(o):
            actions.append(Apply(_runner(o, scheduler, now, domain), new=True))
    elif owner_uid(o.runner) == o.job.uid:
        if is_condemned(o):
            message = "the scheduler was lost, and with it all work: the runner is started again"
            actions += [Event("SchedulerLost", message, True), _delete_runner(o, o.runner)]
        elif suspended and not is_suspended(o.runner):
            actions.append(_switch_runner(o, {"spec": {"suspend": True}}))
        elif is_suspended(o.runner) and not suspended and not missing(o):
            annotations = {names.SCHEDULER_ID: scheduler}
            actions.append(_switch_runner(o, {"spec": {"suspend": False}, "metadata": {"annotations": annotations}}))
    return actions


def _runner(o: ObservedJob, scheduler: str, now: Time, domain: str) -> dict[str, Any]:
    """The runner's Job, with what is left of failures and time."""
    loss = loss_of(o.job)
    left = None
    if o.job.spec.active_deadline_seconds is not None:
        left = max(1, int(o.job.spec.active_deadline_seconds - active_seconds(o.job, now)))
    return runner_job(
        o.job,
        domain=domain,
        scheduler_id=scheduler,
        failures=loss.failures if loss else 0,
        deadline_seconds=left,
    )


def _switch_runner(o: ObservedJob, patch: Manifest) -> Patch:
    return Patch("Job", o.job.namespace, names.runner(o.job.name), patch)


def _question(o: ObservedJob) -> Ask | None:
    """What the scheduler has to be asked, if it can be asked at all."""
    if o.cluster is None or o.job.spec.suspend or fence.identity(o.scheduler_pods) is None:
        return None
    if waits(o):
        versions = enforces_versions(o.job)
        return (
            Ask(every=REGISTRATION_POLL_SECONDS, progress=True, versions=versions) if minimum_workers(o.job) else None
        )
    if all(p.phase == "Pending" for p in o.pods):
        return None
    unknown = find(o.job.status.conditions, "VersionsConsistent") is None
    if o.runner is not None and is_finished(o.runner):
        return Ask(progress=True, versions=unknown)  # the last word, so not one from before
    gate = enforces_versions(o.job) and unknown
    return Ask(every=REGISTRATION_POLL_SECONDS if gate else PROGRESS_SECONDS, progress=True, versions=unknown)


def _next_look(o: ObservedJob, now: Time) -> float | None:
    """Seconds until a look is due though neither a watch nor the scheduler tells of anything."""
    if o.job.spec.suspend:
        return None
    looks = []
    if waits(o):
        if o.job.spec.active_deadline_seconds is not None:
            looks.append(o.job.spec.active_deadline_seconds - active_seconds(o.job, now))
    elif not o.pods:
        looks.append(CREATION_POLL_SECONDS)
    elif o.answers is not None and o.answers.progress is not None and o.job.status.progress is not None:
        # An answer that came too early to be written, see `job_status._progress`.
        due = parse_time(o.job.status.progress.last_update_time) + PROGRESS_SECONDS - now
        looks += [due] if due > 0 else []
    return max(0.0, min(looks)) if looks else None


def _leftovers(o: ObservedJob) -> list[Action]:
    """What an earlier run left; it goes before the next one starts."""
    wanted = run_label(o.job)
    deletions: list[Action] = []
    if o.runner is not None and o.runner["metadata"].get("labels", {}).get(names.RUN_ID) != wanted:
        deletions.append(_delete_runner(o, o.runner))
    if o.cluster is not None and o.cluster.metadata.get("labels", {}).get(names.RUN_ID) != wanted:
        deletions.append(_delete_cluster(o))
    return deletions


def _tidy_up(o: ObservedJob, now: Time) -> Plan:
    """After the run: the cluster by ``deletionPolicy``, the runner's Pod and logs by ``ttlSecondsAfterFinished``."""
    ended = parse_time(o.job.status.end_time) if o.job.status.end_time else now
    policy = DELETION_POLICIES[o.job.spec.cluster.deletion_policy or "Always"]
    actions: list[Action] = []
    dues: list[float] = []
    if o.cluster is not None and any(is_true(o.job.status.conditions, type) for type in policy):
        due = ended + (o.job.spec.cluster.deletion_delay_seconds or 0)
        if now < due:
            dues.append(due - now)
        elif owned(o, o.cluster.metadata) and not o.cluster.metadata.get("deletionTimestamp"):
            actions.append(_delete_cluster(o))
    if o.runner is not None and not is_finished(o.runner):
        actions.append(_delete_runner(o, o.runner))  # it has lost its cluster and would wait for ever
    elif o.runner is not None and o.job.spec.ttl_seconds_after_finished is not None:
        due = ended + o.job.spec.ttl_seconds_after_finished
        if now < due:
            dues.append(due - now)
        else:
            actions.append(_delete_runner(o, o.runner))
    return Plan(actions=tuple(actions), requeue_after=min(dues, default=None))


def _delete_cluster(o: ObservedJob) -> Delete:
    assert o.cluster is not None
    return Delete("DaskCluster", o.cluster.namespace, o.cluster.name, o.cluster.uid)


def _delete_runner(o: ObservedJob, runner: Manifest) -> Delete:
    return Delete("Job", o.job.namespace, runner["metadata"]["name"], runner["metadata"]["uid"])
