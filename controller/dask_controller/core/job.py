"""What to do about a job: its cluster, its runner, and the tidying up afterwards.

A run is terminal once ``Complete`` or ``Failed`` is True in the stored status. That is written before anything is
deleted, and nothing is started again for the same ``spec.runId``, whatever is missing later.
"""

from __future__ import annotations

from typing import Any

from dask_crds import names
from dask_crds.model import DaskCluster
from dask_resources.job import job_cluster, runner_job
from dask_resources.scheduler import DEFAULT_CLUSTER_DOMAIN

from . import runner_room
from .actions import Action, Apply, Ask, Delete, Event, Patch, Plan
from .conditions import find, is_true
from .job_ending import ending
from .job_own import own
from .job_run import (
    active_seconds,
    enforces_versions,
    former_cluster,
    former_runner,
    has_its_scheduler,
    is_condemned,
    is_outdated,
    is_terminal,
    least_workers,
    leftover_scheduler,
    loses_scheduler,
    loss_of,
    minimum_workers,
    missing,
    scheduler_life,
    waits,
    wants_new_run,
)
from .observed import Manifest, ObservedJob
from .runner import is_adopted, is_finished, is_held, is_suspended, lacks_pod, suspended_at
from .time import Time, format_time, time_or

#: How often progress is asked for, and written if it has changed.
PROGRESS_SECONDS = 15.0
#: How often it is looked whether enough workers have registered, and whose versions are known.
REGISTRATION_POLL_SECONDS = 2.0
#: How often it is looked why Kubernetes makes no Pod of a runner; only events tell.
CREATION_POLL_SECONDS = 5.0
#: How often it is looked whether a name is free that somebody else has.
OBSTACLE_POLL_SECONDS = 10.0
#: A runner that somebody else resumes though the job is suspended is suspended again, at most this often.
SUSPEND_AGAIN_SECONDS = 60.0

DELETION_POLICIES = {
    "Always": ("Complete", "Failed"),
    "OnSuccess": ("Complete",),
    "Never": (),
}


def plan_job(o: ObservedJob, now: Time, *, domain: str = DEFAULT_CLUSTER_DOMAIN) -> Plan:
    """What to do about a job now."""
    o = own(o)
    if wants_new_run(o.job) and (former_runner(o) or former_cluster(o)):
        return Plan(actions=tuple(_clear_away(o)))
    if is_terminal(o.job) and not wants_new_run(o.job):
        return _tidy_up(o, now)
    ask = _question(o)
    if ask is not None and o.answers is None:
        return Plan(ask=ask)
    if not wants_new_run(o.job) and (o.job.status.job_status is None or ending(o, now) or loses_scheduler(o)):
        return Plan()  # status first: what is written next must not happen twice, or cannot be undone
    return Plan(actions=(*_cluster(o), *_start(o, now, domain)), requeue_after=_next_look(o, now))


def _cluster(o: ObservedJob) -> list[Action]:
    """Bring up the cluster, made from the templates of the runner."""
    if o.cluster is None:
        in_the_way = o.obstacle is not None or leftover_scheduler(o) is not None
        return [] if in_the_way else [Apply(job_cluster(o.job), new=True)]
    if is_outdated(o):
        return [_delete_cluster(o.cluster)]
    # What the job decides about its cluster, whoever has changed it; the rest is the cluster's own from now on.
    patch: dict[str, Any] = {}
    if bool(o.cluster.spec.suspend) != bool(o.job.spec.suspend):
        patch["suspend"] = True if o.job.spec.suspend else None
    if o.cluster.spec.idle_timeout:
        patch["idleTimeout"] = None  # it would be deleted while the runner waits, see `_tidy_up`
    return [_patch_cluster(o.cluster, patch)] if patch else []


def _start(o: ObservedJob, now: Time, domain: str) -> list[Action]:
    """Start the runner, or suspend it, or resume it."""
    suspended = bool(o.job.spec.suspend)
    if o.runner is None:
        free = o.cluster is not None and o.obstacle is None and not is_outdated(o)
        if free and not suspended and not missing(o):
            return [Apply(_runner(o, now, domain), new=True)]
        return []
    if is_condemned(o):
        message = "the scheduler was lost, and with it all work: the runner is started again"
        return [Event("SchedulerLost", message, True), *_delete_runner(o.runner)]
    if is_adopted(o):
        return [_note_suspension(o.runner, now)]
    if suspended:
        due = (suspended_at(o.runner) or 0.0) + SUSPEND_AGAIN_SECONDS
        return [_note_suspension(o.runner, now)] if not is_suspended(o.runner) and now >= due else []
    if not is_suspended(o.runner):
        return runner_room.makes_room(o, least_workers(o.job), now)
    if missing(o):
        return []
    life = {names.SCHEDULER_ID: scheduler_life(o)}
    if is_held(o):  # whoever holds it starts it, with the scheduler that there is then
        return [] if has_its_scheduler(o) else [_patch_runner(o.runner, annotations=life)]
    return [_patch_runner(o.runner, suspend=False, annotations={**life, names.SUSPENDED: None})]


def _runner(o: ObservedJob, now: Time, domain: str) -> dict[str, Any]:
    """The runner's Job, with what is left of failures and time."""
    loss = loss_of(o.job)
    left = None
    if o.job.spec.active_deadline_seconds is not None:
        left = max(1, int(o.job.spec.active_deadline_seconds - active_seconds(o.job, now)))
    return runner_job(
        o.job,
        domain=domain,
        scheduler_id=scheduler_life(o) or "",
        failures=loss.failures if loss else 0,
        deadline_seconds=left,
    )


def _note_suspension(runner: Manifest, now: Time) -> Patch:
    return _patch_runner(runner, suspend=True, annotations={names.SUSPENDED: format_time(now)})


def _question(o: ObservedJob) -> Ask | None:
    """What the scheduler has to be asked, if it can be asked at all."""
    if o.job.spec.suspend or scheduler_life(o) is None or is_held(o):
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
    looks = [OBSTACLE_POLL_SECONDS] if o.obstacle is not None else []
    if o.job.spec.suspend:
        if o.runner is not None and not is_suspended(o.runner):
            looks.append((suspended_at(o.runner) or now) + SUSPEND_AGAIN_SECONDS - now)
    elif waits(o):
        if o.job.spec.active_deadline_seconds is not None:
            looks.append(o.job.spec.active_deadline_seconds - active_seconds(o.job, now))
    elif lacks_pod(o):
        looks.append(CREATION_POLL_SECONDS)
    if o.answers is not None and o.answers.progress is not None and o.job.status.progress is not None:
        # An answer that came too early to be written, see `job_status._progress`.
        due = time_or(o.job.status.progress.last_update_time, 0.0) + PROGRESS_SECONDS - now
        looks += [due] if due > 0 else []
    return max(0.0, min(looks)) if looks else None


def _clear_away(o: ObservedJob) -> list[Action]:
    """What an earlier run left goes before the next one starts."""
    runner, cluster = former_runner(o), former_cluster(o)
    return [
        *(_delete_runner(runner) if runner is not None else []),
        *([_delete_cluster(cluster)] if cluster is not None else []),
    ]


def _tidy_up(o: ObservedJob, now: Time) -> Plan:
    """After the run: the cluster by ``deletionPolicy``, the runner's Pod and logs by ``ttlSecondsAfterFinished``."""
    ended = time_or(o.job.status.end_time or "", 0.0)
    policy = DELETION_POLICIES[o.job.spec.cluster.deletion_policy or "Always"]
    actions: list[Action] = []
    dues: list[float] = []
    if o.cluster is not None and any(is_true(o.job.status.conditions, type) for type in policy):
        due = ended + (o.job.spec.cluster.deletion_delay_seconds or 0)
        if now < due:
            dues.append(due - now)
        else:
            actions.append(_delete_cluster(o.cluster))
    elif o.cluster is not None:
        actions += _hand_over(o, o.cluster)
    if o.runner is not None and not is_finished(o.runner):
        actions += _delete_runner(o.runner)  # it has lost its cluster and would wait for ever
    elif o.runner is not None and o.job.spec.ttl_seconds_after_finished is not None:
        due = ended + o.job.spec.ttl_seconds_after_finished
        if now < due:
            dues.append(due - now)
        else:
            actions += _delete_runner(o.runner)
    return Plan(actions=tuple(actions), requeue_after=min(dues, default=None))


def _hand_over(o: ObservedJob, cluster: DaskCluster) -> list[Action]:
    """What the run has withheld from a cluster that outlives it: its idle timeout, and workers that stood back."""
    timeout = o.job.spec.cluster.spec.idle_timeout
    handed = [_patch_cluster(cluster, {"idleTimeout": timeout})] if timeout and not cluster.spec.idle_timeout else []
    return [*handed, *runner_room.gives_back(o)]


def _patch_cluster(cluster: DaskCluster, spec: Manifest) -> Patch:
    return Patch("DaskCluster", cluster.namespace, cluster.name, {"spec": spec}, cluster.uid)


def _patch_runner(runner: Manifest, *, annotations: Manifest, suspend: bool | None = None) -> Patch:
    metadata = runner["metadata"]
    spec = {} if suspend is None else {"spec": {"suspend": suspend}}
    patch = {**spec, "metadata": {"annotations": annotations}}
    return Patch("Job", metadata["namespace"], metadata["name"], patch, metadata["uid"])


def _delete_cluster(cluster: DaskCluster) -> Delete:
    return Delete("DaskCluster", cluster.namespace, cluster.name, cluster.uid)


def _delete_runner(runner: Manifest) -> list[Action]:
    """Nothing is to be done about one that is on its way out."""
    metadata = runner["metadata"]
    if metadata.get("deletionTimestamp"):
        return []
    return [Delete("Job", metadata["namespace"], metadata["name"], metadata["uid"])]
