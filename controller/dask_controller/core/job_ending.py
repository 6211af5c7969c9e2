"""How a run ends, and by what."""

from __future__ import annotations

from msgspec import Struct

from dask_crds.model import Condition

from . import versions
from .conditions import condition, find
from .job_run import (
    RESTARTS,
    active_seconds,
    enforces_versions,
    is_condemned,
    loss_of,
    scheduler_is_lost,
    waits,
    wants_new_run,
)
from .job_words import stopped, waiting_for
from .observed import Manifest, ObservedJob
from .runner import is_decided, is_finished, job_condition
from .time import Time, time_or


class Ending(Struct, frozen=True):
    """How a run ended."""

    type: str  #: ``Complete`` or ``Failed``
    reason: str
    message: str
    time: Time


def ending(o: ObservedJob, now: Time) -> Ending | None:
    """How the present run has ended, ``None`` while it goes on.

    Not before the runner's Job has ended: until then its Pods may be at work, and what waits for the end of the run
    would start beside them.
    """
    if o.runner is not None and is_decided(o):
        return _end_of_runner(o, o.runner, now) if is_finished(o.runner) else None
    running = o.job.status.job_status == "Running"
    deadline, waited = o.job.spec.active_deadline_seconds, active_seconds(o.job, now)
    if deadline is not None and waited >= deadline and waits(o) and not o.job.spec.suspend:
        waiting, problem = waiting_for(o, now)
        message = f"the runner has not started within {deadline} s: {problem.message if problem else waiting}"
        return Ending("Failed", "DeadlineExceeded", message, now)
    if o.runner is None:
        loss = loss_of(o.job)
        if not running or (loss is not None and loss.runner_uid):
            return _wrong_versions(o, now)
        gone = "the runner's Job was deleted before it had finished"
        taken = f"; {o.obstacle.message}" if o.obstacle is not None and o.cluster is not None else ""
        return Ending("Failed", "RunnerLost", gone + taken, now)
    if running and o.cluster is None:
        return Ending("Failed", "ClusterFailed", "the cluster was deleted while the runner was running", now)
    return _lost_for_good(o, now) or _wrong_versions(o, now)


def _end_of_runner(o: ObservedJob, runner: Manifest, now: Time) -> Ending:
    """What a Job says that has ended."""
    if (complete := job_condition(runner, "Complete")) is not None:
        return Ending("Complete", "Completed", "the runner has completed", _time(complete, now))
    failed = job_condition(runner, "Failed") or {}
    return Ending("Failed", failed.get("reason") or "Failed", stopped(o, failed, "was stopped"), _time(failed, now))


def _lost_for_good(o: ObservedJob, now: Time) -> Ending | None:
    """The end by ``onSchedulerLost``, if the run is not to start again."""
    policy = o.job.spec.on_scheduler_lost or "RestartJob"
    if policy == "Ignore" or is_condemned(o) or not scheduler_is_lost(o):
        return None
    if policy == "Fail":
        return Ending("Failed", "SchedulerLost", "the scheduler was restarted, and with it all work was lost", now)
    loss = loss_of(o.job)
    limit = max(RESTARTS, o.job.spec.backoff_limit or 0)
    if loss is not None and loss.count >= limit:
        return Ending("Failed", "SchedulerLost", f"the scheduler was lost again after {loss.count} new starts", now)
    return None


def _wrong_versions(o: ObservedJob, now: Time) -> Ending | None:
    found = versions_condition(o)
    if not enforces_versions(o.job) or found is None or found.status == "True":
        return None
    return Ending("Failed", "VersionMismatch", found.message, now)


def versions_condition(o: ObservedJob) -> Condition | None:
    """``VersionsConsistent``, once everybody is known; then it stands for the rest of the run."""
    known = None if wants_new_run(o.job) else find(o.job.status.conditions, "VersionsConsistent")
    found = o.answers.versions if o.answers else None
    if known is not None or found is None:
        return known
    if different := versions.differences(found):
        return condition("VersionsConsistent", False, "VersionMismatch", different)
    return condition("VersionsConsistent", True, "Consistent") if versions.is_complete(found) else None


def _time(found: Manifest, now: Time) -> Time:
    return time_or(found.get("lastTransitionTime") or "", now)
