"""One run of a job: what it waits for, whether it has lost its scheduler, how it has ended."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from dask_crds import names
from dask_crds.model import Condition, DaskJob, SchedulerLoss

from . import fence, versions
from .conditions import condition, find, is_true, named_problem
from .observed import Manifest, ObservedJob, Pod, Problem, owner_uid
from .time import Time, parse_time

#: Lost schedulers after which a run starts again, even with a smaller ``backoffLimit``: the program is not to blame.
RESTARTS = 3


class Ending(Struct, frozen=True):
    """How a run ended."""

    type: str  #: ``Complete`` or ``Failed``
    reason: str
    message: str
    time: Time


def is_terminal(job: DaskJob) -> bool:
    """Whether the run that ``status`` speaks of has ended, as stored."""
    return is_true(job.status.conditions, "Complete") or is_true(job.status.conditions, "Failed")


def wants_new_run(job: DaskJob) -> bool:
    """Whether the last run has ended and ``spec.runId`` asks for another."""
    return is_terminal(job) and (job.spec.run_id or "") != (job.status.run_id or "")


def active_seconds(job: DaskJob, now: Time) -> float:
    """For how long the run has been going on, time spent suspended apart."""
    since = None if wants_new_run(job) else job.status.active_since
    return now - parse_time(since) if since else 0.0


def waits(o: ObservedJob) -> bool:
    """Whether the runner is still to be started, or to be resumed."""
    return o.runner is None or is_suspended(o.runner)


def is_suspended(runner: Manifest) -> bool:
    """Whether the runner's Job is suspended."""
    return bool(runner["spec"].get("suspend"))


def is_finished(runner: Manifest) -> bool:
    """Whether the runner's Job has ended, well or not."""
    return _job_condition(runner, "Complete") is not None or _job_condition(runner, "Failed") is not None


def _job_condition(runner: Manifest, type: str) -> Manifest | None:
    conditions = (runner.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == type and c["status"] == "True"), None)


def owned(o: ObservedJob, metadata: Manifest) -> bool:
    """Whether the object of that metadata is the job's own."""
    return owner_uid({"metadata": metadata}) == o.job.uid


def missing(o: ObservedJob) -> str:
    """What the runner has to wait for; empty when it may start."""
    if fence.identity(o.scheduler_pods) is None:
        return "waiting for the scheduler to be ready"
    if o.runner is None and (remaining := [p.name for p in o.pods if not p.is_finished]):
        return f"waiting for {remaining[0]} of the run before to end"
    wanted = minimum_workers(o.job)
    if not wanted or o.answers is None:
        return ""
    if o.answers.progress is None:
        return f"waiting for the scheduler: {o.answers.silent}"
    registered = o.answers.progress.workers
    return "" if registered >= wanted else f"{registered} of {wanted} workers have registered"


def leftover_scheduler(o: ObservedJob) -> Pod | None:
    """A scheduler whose cluster is gone and that is not: it must not be taken for that of the next cluster."""
    return next((p for p in o.scheduler_pods if not p.deleting), None) if o.cluster is None else None


def minimum_workers(job: DaskJob) -> int:
    """Workers that must have registered before the runner starts; to compare versions takes one."""
    if job.spec.minimum_ready_workers is not None:
        return job.spec.minimum_ready_workers
    return 1 if enforces_versions(job) and job.spec.cluster.spec.worker.replicas else 0


def enforces_versions(job: DaskJob) -> bool:
    """Whether different versions of Dask fail the run."""
    return job.spec.version_policy == "Enforce"


def waiting_for(o: ObservedJob) -> tuple[str, Problem | None]:
    """What the run is at, and what is wrong with it, if anything."""
    if o.job.spec.suspend:
        stopping = o.scheduler_pods or any(not p.is_finished for p in o.pods)
        return "runner and cluster are being stopped" if stopping else "", None
    if o.cluster is not None and not owned(o, o.cluster.metadata):
        text = f"DaskCluster {o.cluster.name} exists and belongs to somebody else; rename it or the job"
        return text, Problem("NameConflict", text)
    if o.runner is not None and owner_uid(o.runner) != o.job.uid:
        text = f"Job {names.runner(o.job.name)} exists and belongs to somebody else; rename it or the DaskJob"
        return text, Problem("NameConflict", text)
    pod: Pod | None = max(o.pods, key=lambda p: p.created, default=None)
    if is_condemned(o):
        return "the scheduler was lost: the runner is started again", None
    if pod is not None:
        if pod.problem is not None:
            return "the runner", Problem(pod.problem.reason, pod.problem.message)
        doing = {"Pending": "starting", "Running": "running"}.get(pod.phase, "ending")
        return f"runner {pod.name} is {doing}", None
    if o.runner is not None and not is_suspended(o.runner):
        if o.creation_problem:
            return "the runner", named_problem("FailedCreate", o.creation_problem)
        return "the runner is being created", None
    if (leftover := leftover_scheduler(o)) is not None:
        return f"waiting for scheduler {leftover.name} of the cluster before to end", None
    if o.cluster is None:
        return "the cluster is being created", None
    if fence.identity(o.scheduler_pods) is None:
        found = find(o.cluster.status.conditions, "SchedulerReady")
        if found is not None and found.status != "True" and found.reason != "Progressing":
            return "the scheduler", Problem(found.reason, found.message)
    lacking = missing(o)
    workers = find(o.cluster.status.conditions, "WorkersReady")
    if "registered" in lacking and workers is not None and workers.status != "True" and workers.reason != "Progressing":
        return lacking, Problem(workers.reason, f"{lacking}; {workers.message}")
    return lacking or "the runner is about to start", None


# --- the scheduler fence ----------------------------------------------------------------------------------------------


def loss_of(job: DaskJob) -> SchedulerLoss | None:
    """The record of lost schedulers of the present run, as stored."""
    return None if wants_new_run(job) else job.status.scheduler_loss


def is_condemned(o: ObservedJob) -> bool:
    """Whether the runner is one that, by stored status, has lost its scheduler."""
    loss = loss_of(o.job)
    return o.runner is not None and loss is not None and loss.runner_uid == o.runner["metadata"]["uid"]


def _scheduler_is_lost(o: ObservedJob) -> bool:
    """Whether the runner goes on without the scheduler that it was started for."""
    if o.runner is None or o.job.spec.suspend or is_suspended(o.runner) or is_finished(o.runner):
        return False
    started_for = (o.runner["metadata"].get("annotations") or {}).get(names.SCHEDULER_ID, "")
    return started_for != "" and fence.is_lost(started_for, o.scheduler_pods)


def loses_scheduler(o: ObservedJob) -> bool:
    """Whether the runner is to be condemned now."""
    policy = o.job.spec.on_scheduler_lost or "RestartJob"
    return policy == "RestartJob" and not is_condemned(o) and _scheduler_is_lost(o)


def scheduler_loss(o: ObservedJob) -> SchedulerLoss | None:
    """The record of losses as it is to be stored."""
    loss = loss_of(o.job)
    if o.runner is not None and loses_scheduler(o):
        before = loss or SchedulerLoss(count=0)
        failed = (o.runner.get("status") or {}).get("failed") or 0
        uid = o.runner["metadata"]["uid"]
        return SchedulerLoss(runner_uid=uid, count=before.count + 1, failures=before.failures + failed)
    if loss is not None and loss.runner_uid and o.runner is not None and not is_condemned(o):
        return replace(loss, runner_uid=None)  # its successor is there
    return loss


def retries(o: ObservedJob) -> int:
    """How often the runner was started again, for whatever reason."""
    loss = scheduler_loss(o)
    before = loss.count + loss.failures if loss else 0
    if o.runner is None or (loss is not None and loss.runner_uid == o.runner["metadata"]["uid"]):
        return before or (o.job.status.retries or 0 if not wants_new_run(o.job) else 0)
    failed = (o.runner.get("status") or {}).get("failed") or 0
    return before + max(0, failed - (1 if _job_condition(o.runner, "Failed") else 0))


# --- the end ----------------------------------------------------------------------------------------------------------


def ending(o: ObservedJob, now: Time) -> Ending | None:
    """How the present run has ended, ``None`` while it goes on."""
    running = o.job.status.job_status == "Running"
    deadline, waited = o.job.spec.active_deadline_seconds, active_seconds(o.job, now)
    if deadline is not None and waited >= deadline and waits(o) and not o.job.spec.suspend:
        waiting, problem = waiting_for(o)
        message = f"the runner has not started within {deadline} s: {problem.message if problem else waiting}"
        return Ending("Failed", "DeadlineExceeded", message, now)
    if o.runner is None:
        loss = loss_of(o.job)
        if not running or (loss is not None and loss.runner_uid):
            return _wrong_versions(o, now)
        return Ending("Failed", "RunnerLost", "the runner's Job was deleted before it had finished", now)
    if owner_uid(o.runner) != o.job.uid:
        return None
    if (complete := _job_condition(o.runner, "Complete")) is not None:
        return Ending("Complete", "Completed", "the runner has completed", _time(complete, now))
    if (failed := _job_condition(o.runner, "Failed")) is not None:
        reason, message = failed.get("reason") or "Failed", failed.get("message") or "the runner has failed"
        problem = next((p.problem for p in o.pods if p.problem), None)
        return Ending("Failed", reason, f"{message}; {problem.message}" if problem else message, _time(failed, now))
    if running and (o.cluster is None or o.cluster.metadata.get("deletionTimestamp")):
        return Ending("Failed", "ClusterFailed", "the cluster was deleted while the runner was running", now)
    return _lost_for_good(o, now) or _wrong_versions(o, now)


def _lost_for_good(o: ObservedJob, now: Time) -> Ending | None:
    """The end by ``onSchedulerLost``, if the run is not to start again."""
    policy = o.job.spec.on_scheduler_lost or "RestartJob"
    if policy == "Ignore" or is_condemned(o) or not _scheduler_is_lost(o):
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
    return parse_time(found["lastTransitionTime"]) if found.get("lastTransitionTime") else now
