"""What to do about a job: its cluster, its runner, and the tidying up afterwards.

A run is terminal once ``Complete`` or ``Failed`` is True in the stored status. That is written before anything is
deleted, and nothing is started again for the same ``spec.runId``, whatever is missing later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from dask_crds import names
from dask_crds.model import Condition, DaskJob, DaskJobStatus, PastRun, Progress, SchedulerLoss
from dask_resources.job import job_cluster, job_revision, run_label, runner_job
from dask_resources.scheduler import DEFAULT_CLUSTER_DOMAIN

from . import fence, versions
from .actions import Action, Apply, Ask, Delete, Event, Outcome, Patch, Plan
from .conditions import condition, find, is_true, merge, named_problem, readiness
from .observed import Manifest, ObservedJob, Pod, Problem, owner_uid
from .time import Time, format_time, parse_time

#: How often progress is asked for, and written if it has changed.
PROGRESS_SECONDS = 15.0
#: How often it is looked whether enough workers have registered, and whose versions are known.
REGISTRATION_POLL_SECONDS = 2.0
#: How often it is looked why Kubernetes makes no Pod of a runner; only events tell.
CREATION_POLL_SECONDS = 5.0
#: Lost schedulers after which a run starts again, even with a smaller ``backoffLimit``: the program is not to blame.
RESTARTS = 3
#: Past runs that status remembers.
HISTORY = 5

DELETION_POLICIES = {
    "Always": ("Complete", "Failed"),
    "OnSuccess": ("Complete",),
    "Never": (),
}


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


def plan_job(o: ObservedJob, now: Time, *, domain: str = DEFAULT_CLUSTER_DOMAIN) -> Plan:
    """What to do about a job now."""
    if wants_new_run(o.job) and (leftovers := _leftovers(o)):
        return Plan(actions=tuple(leftovers))
    if is_terminal(o.job) and not wants_new_run(o.job):
        return _tidy_up(o, now)
    ask = _question(o, now)
    if ask is not None and o.answers is None:
        return Plan(ask=ask)
    if not wants_new_run(o.job) and (o.job.status.job_status is None or ending(o, now) or _loses_scheduler(o)):
        return Plan()  # status first: what is written next must not happen twice, or cannot be undone
    return Plan(actions=tuple(_advance(o, now, domain)), requeue_after=_next_look(o, now))


def _advance(o: ObservedJob, now: Time, domain: str) -> list[Action]:
    """Bring up the cluster, then, when it is ready, the runner."""
    actions: list[Action] = []
    suspended = bool(o.job.spec.suspend)
    desired = job_cluster(o.job)
    if suspended:
        desired["spec"]["suspend"] = True
    if o.cluster is None or (_owned(o, o.cluster.metadata) and bool(o.cluster.spec.suspend) != suspended):
        actions.append(Apply(desired))
    scheduler = fence.identity(o.scheduler_pods) or ""
    if o.runner is None:
        if o.cluster is not None and not suspended and not _missing(o):
            actions.append(Apply(_runner(o, scheduler, now, domain)))
    elif owner_uid(o.runner) == o.job.uid:
        if _is_condemned(o):
            message = "the scheduler was lost, and with it all work: the runner is started again"
            actions += [Event("SchedulerLost", message, True), _delete_runner(o, o.runner)]
        elif suspended and not _is_suspended(o.runner):
            actions.append(_switch_runner(o, {"spec": {"suspend": True}}))
        elif _is_suspended(o.runner) and not suspended and not _missing(o):
            annotations = {names.SCHEDULER_ID: scheduler}
            actions.append(_switch_runner(o, {"spec": {"suspend": False}, "metadata": {"annotations": annotations}}))
    return actions


def _runner(o: ObservedJob, scheduler: str, now: Time, domain: str) -> dict[str, Any]:
    """The runner's Job, with what is left of failures and time."""
    loss = _loss(o.job)
    left = None
    if o.job.spec.active_deadline_seconds is not None:
        left = max(1, int(o.job.spec.active_deadline_seconds - _active_seconds(o.job, now)))
    return runner_job(
        o.job,
        domain=domain,
        scheduler_id=scheduler,
        failures=loss.failures if loss else 0,
        deadline_seconds=left,
    )


def _switch_runner(o: ObservedJob, patch: Manifest) -> Patch:
    return Patch("Job", o.job.namespace, names.runner(o.job.name), patch)


def _is_suspended(runner: Manifest) -> bool:
    return bool(runner["spec"].get("suspend"))


def _missing(o: ObservedJob) -> str:
    """What the runner has to wait for; empty when it may start."""
    if fence.identity(o.scheduler_pods) is None:
        return "waiting for the scheduler to be ready"
    if o.runner is None and (remaining := [p.name for p in o.pods if not p.is_finished]):
        return f"waiting for {remaining[0]} of the run before to end"
    wanted = _minimum_workers(o.job)
    if not wanted or o.answers is None:
        return ""
    if o.answers.progress is None:
        return f"waiting for the scheduler: {o.answers.silent}"
    registered = o.answers.progress.workers
    return "" if registered >= wanted else f"{registered} of {wanted} workers have registered"


def _minimum_workers(job: DaskJob) -> int:
    """Workers that must have registered before the runner starts; to compare versions takes one."""
    if job.spec.minimum_ready_workers is not None:
        return job.spec.minimum_ready_workers
    return 1 if _enforces_versions(job) and job.spec.cluster.spec.worker.replicas else 0


def _enforces_versions(job: DaskJob) -> bool:
    return job.spec.version_policy == "Enforce"


def _waits(o: ObservedJob) -> bool:
    """Whether the runner is still to be started, or to be resumed."""
    return o.runner is None or _is_suspended(o.runner)


def _question(o: ObservedJob, now: Time) -> Ask | None:
    """What the scheduler has to be asked, if it can be asked at all."""
    if o.cluster is None or o.job.spec.suspend or fence.identity(o.scheduler_pods) is None:
        return None
    if _waits(o):
        return Ask(progress=True, versions=_enforces_versions(o.job)) if _minimum_workers(o.job) else None
    unknown = find(o.job.status.conditions, "VersionsConsistent") is None
    due = (
        o.job.status.progress is None
        or now - parse_time(o.job.status.progress.last_update_time) >= PROGRESS_SECONDS
        or (o.runner is not None and _finished(o.runner))
    )
    started = any(p.phase != "Pending" for p in o.pods)
    return Ask(progress=due, versions=unknown) if started and (due or unknown) else None


def _next_look(o: ObservedJob, now: Time) -> float | None:
    """Seconds until a look is due though no watch tells of anything."""
    if o.job.spec.suspend:
        return None
    looks = []
    if _waits(o):
        if o.job.spec.active_deadline_seconds is not None:
            looks.append(o.job.spec.active_deadline_seconds - _active_seconds(o.job, now))
        if _minimum_workers(o.job) and fence.identity(o.scheduler_pods) is not None:
            looks.append(REGISTRATION_POLL_SECONDS)
    elif not o.pods:
        looks.append(CREATION_POLL_SECONDS)
    else:
        gate = _enforces_versions(o.job) and find(o.job.status.conditions, "VersionsConsistent") is None
        looks.append(REGISTRATION_POLL_SECONDS if gate else PROGRESS_SECONDS)
    return max(0.0, min(looks)) if looks else None


def _active_seconds(job: DaskJob, now: Time) -> float:
    """For how long the run has been going on, time spent suspended apart."""
    since = None if wants_new_run(job) else job.status.active_since
    return now - parse_time(since) if since else 0.0


# --- the scheduler fence ----------------------------------------------------------------------------------------------


def _loss(job: DaskJob) -> SchedulerLoss | None:
    return None if wants_new_run(job) else job.status.scheduler_loss


def _is_condemned(o: ObservedJob) -> bool:
    """Whether the runner is one that, by stored status, has lost its scheduler."""
    loss = _loss(o.job)
    return o.runner is not None and loss is not None and loss.runner_uid == o.runner["metadata"]["uid"]


def _scheduler_is_lost(o: ObservedJob) -> bool:
    """Whether the runner goes on without the scheduler that it was started for."""
    if o.runner is None or o.job.spec.suspend or _is_suspended(o.runner) or _finished(o.runner):
        return False
    started_for = (o.runner["metadata"].get("annotations") or {}).get(names.SCHEDULER_ID, "")
    return started_for != "" and fence.is_lost(started_for, o.scheduler_pods)


def _loses_scheduler(o: ObservedJob) -> bool:
    """Whether the runner is to be condemned now."""
    policy = o.job.spec.on_scheduler_lost or "RestartJob"
    return policy == "RestartJob" and not _is_condemned(o) and _scheduler_is_lost(o)


def _scheduler_loss(o: ObservedJob) -> SchedulerLoss | None:
    """The record of losses as it is to be stored."""
    loss = _loss(o.job)
    if o.runner is not None and _loses_scheduler(o):
        before = loss or SchedulerLoss(count=0)
        failed = (o.runner.get("status") or {}).get("failed") or 0
        uid = o.runner["metadata"]["uid"]
        return SchedulerLoss(runner_uid=uid, count=before.count + 1, failures=before.failures + failed)
    if loss is not None and loss.runner_uid and o.runner is not None and not _is_condemned(o):
        return replace(loss, runner_uid=None)  # its successor is there
    return loss


def _retries(o: ObservedJob) -> int:
    """How often the runner was started again, for whatever reason."""
    loss = _scheduler_loss(o)
    before = loss.count + loss.failures if loss else 0
    if o.runner is None or (loss is not None and loss.runner_uid == o.runner["metadata"]["uid"]):
        return before or (o.job.status.retries or 0 if not wants_new_run(o.job) else 0)
    failed = (o.runner.get("status") or {}).get("failed") or 0
    return before + max(0, failed - (1 if _job_condition(o.runner, "Failed") else 0))


# --- the end ----------------------------------------------------------------------------------------------------------


def _owned(o: ObservedJob, metadata: Manifest) -> bool:
    return owner_uid({"metadata": metadata}) == o.job.uid


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
        elif _owned(o, o.cluster.metadata) and not o.cluster.metadata.get("deletionTimestamp"):
            actions.append(_delete_cluster(o))
    if o.runner is not None and not _finished(o.runner):
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


def _finished(runner: Manifest) -> bool:
    return _job_condition(runner, "Complete") is not None or _job_condition(runner, "Failed") is not None


def _job_condition(runner: Manifest, type: str) -> Manifest | None:
    conditions = (runner.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == type and c["status"] == "True"), None)


def ending(o: ObservedJob, now: Time) -> Ending | None:
    """How the present run has ended, ``None`` while it goes on."""
    running = o.job.status.job_status == "Running"
    deadline, waited = o.job.spec.active_deadline_seconds, _active_seconds(o.job, now)
    if deadline is not None and waited >= deadline and _waits(o) and not o.job.spec.suspend:
        waiting, problem = _waiting_for(o)
        message = f"the runner has not started within {deadline} s: {problem.message if problem else waiting}"
        return Ending("Failed", "DeadlineExceeded", message, now)
    if o.runner is None:
        loss = _loss(o.job)
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
    if policy == "Ignore" or _is_condemned(o) or not _scheduler_is_lost(o):
        return None
    if policy == "Fail":
        return Ending("Failed", "SchedulerLost", "the scheduler was restarted, and with it all work was lost", now)
    loss = _loss(o.job)
    limit = max(RESTARTS, o.job.spec.backoff_limit or 0)
    if loss is not None and loss.count >= limit:
        return Ending("Failed", "SchedulerLost", f"the scheduler was lost again after {loss.count} new starts", now)
    return None


def _wrong_versions(o: ObservedJob, now: Time) -> Ending | None:
    found = _versions_condition(o)
    if not _enforces_versions(o.job) or found is None or found.status == "True":
        return None
    return Ending("Failed", "VersionMismatch", found.message, now)


def _versions_condition(o: ObservedJob) -> Condition | None:
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


def job_status(o: ObservedJob, plan: Plan, outcomes: Sequence[Outcome], now: Time) -> DaskJobStatus:
    """The status after the plan was executed."""
    job = o.job
    if is_terminal(job) and not wants_new_run(job):
        return _terminal_status(o, now)
    if wants_new_run(job) and any(isinstance(action, Delete) for action in plan.actions):
        return job.status  # the old run's remains are being removed; its status stands until the new run starts
    before = [] if wants_new_run(job) else job.status.conditions
    end = None if wants_new_run(job) else ending(o, now)
    if end is not None:
        return _ended(o, end, now)
    state = _job_state(o)
    started = None if wants_new_run(job) else job.status.start_time
    if state == "Running" and not started:
        started = (o.runner or {}).get("status", {}).get("startTime") or format_time(now)
    waiting, problem = _waiting_for(o)
    conditions = [
        *readiness(before, problem=problem, waiting=waiting, outcomes=outcomes, now=now),
        condition("Complete", False, state),
        condition("Failed", False, state),
        condition("Suspended", bool(job.spec.suspend), "Suspended" if job.spec.suspend else "NotSuspended"),
        *_findings(o),
    ]
    return DaskJobStatus(
        observed_generation=job.generation,
        job_status=state,
        cluster_name=job.name if o.cluster is not None else None,
        job_runner_pod_name=_runner_pod(o),
        start_time=started,
        run_id=_run_id(job),
        revision=_revision(job),
        active_since=_active_since(job, now),
        retries=_retries(o) or None,
        progress=_progress(o, now),
        scheduler_loss=_scheduler_loss(o),
        history=_history(job),
        conditions=merge(before, conditions, generation=job.generation, now=now),
    )


def _begins(job: DaskJob) -> bool:
    """Whether a run begins with the status that is written next."""
    return job.status.job_status is None or wants_new_run(job)


def _revision(job: DaskJob) -> str | None:
    return job_revision(job) if _begins(job) else job.status.revision


def _active_since(job: DaskJob, now: Time) -> str | None:
    if job.spec.suspend:
        return None
    return (None if _begins(job) else job.status.active_since) or format_time(now)


def _history(job: DaskJob) -> list[PastRun] | None:
    """The runs before the one that status speaks of."""
    past = job.status.history or []
    if wants_new_run(job):
        last = job.status
        reason = next((c.reason for c in last.conditions or () if c.type in ("Complete", "Failed")), None)
        run = PastRun(
            run_id=last.run_id,
            job_status=last.job_status,
            reason=reason,
            start_time=last.start_time,
            end_time=last.end_time,
        )
        past = [run, *past][:HISTORY]
    return past or None


def _progress(o: ObservedJob, now: Time) -> Progress | None:
    """How far the tasks are; moved on only when it has changed, and not too often."""
    before = None if wants_new_run(o.job) else o.job.status.progress
    found = o.answers.progress if o.answers else None
    if found is None or (o.runner is None and before is None):
        return before
    last = o.runner is not None and _finished(o.runner)
    if before is not None and now - parse_time(before.last_update_time) < PROGRESS_SECONDS and not last:
        return before
    after = Progress(
        tasks_total=found.total,
        tasks_done=found.done,
        percent=100 * found.done // found.total if found.total else 0,
        workers=found.workers,
        last_update_time=format_time(now),
    )
    if before is not None and replace(after, last_update_time=before.last_update_time) == before:
        return before
    return after


def _findings(o: ObservedJob) -> list[Condition]:
    """Conditions that stand beside the course of the run."""
    found = _versions_condition(o)
    return [*([found] if found else []), _up_to_date(o.job)]


def _up_to_date(job: DaskJob) -> Condition:
    if _begins(job) or job.status.revision in (None, job_revision(job)):
        return condition("UpToDate", True, "UpToDate")
    message = "the templates have changed since this run began; to run them, set spec.runId to a new value"
    return condition("UpToDate", False, "SpecChanged", message)


def _run_id(job: DaskJob) -> str | None:
    """The run that is going on; a changed ``spec.runId`` has to wait until it has ended."""
    if job.status.job_status is None or wants_new_run(job):
        return job.spec.run_id
    return job.status.run_id


def _job_state(o: ObservedJob) -> Any:
    """``jobStatus`` as clients know it; it never goes back within a run."""
    order = ["JobCreated", "ClusterCreated", "Running"]
    state = "JobCreated" if o.cluster is None else "ClusterCreated"
    if o.runner is not None and any(p.phase != "Pending" for p in o.pods):
        state = "Running"
    last = o.job.status.job_status
    if last in order and not wants_new_run(o.job) and order.index(last) > order.index(state):
        return last
    return state


def _runner_pod(o: ObservedJob) -> str | None:
    """The runner's present Pod, else its last one."""
    newest = max(o.pods, key=lambda p: (not p.deleting, not p.is_finished, p.created), default=None)
    return newest.name if newest else (None if wants_new_run(o.job) else o.job.status.job_runner_pod_name)


def _waiting_for(o: ObservedJob) -> tuple[str, Problem | None]:
    if o.job.spec.suspend:
        return "suspended as asked", None
    if o.cluster is not None and not _owned(o, o.cluster.metadata):
        text = f"DaskCluster {o.cluster.name} exists and belongs to somebody else; rename it or the job"
        return text, Problem("NameConflict", text)
    if o.runner is not None and owner_uid(o.runner) != o.job.uid:
        text = f"Job {names.runner(o.job.name)} exists and belongs to somebody else; rename it or the DaskJob"
        return text, Problem("NameConflict", text)
    pod: Pod | None = max(o.pods, key=lambda p: p.created, default=None)
    if _is_condemned(o):
        return "the scheduler was lost: the runner is started again", None
    if pod is not None:
        if pod.problem is not None:
            return "the runner", Problem(pod.problem.reason, pod.problem.message)
        doing = {"Pending": "starting", "Running": "running"}.get(pod.phase, "ending")
        return f"runner {pod.name} is {doing}", None
    if o.runner is not None and not _is_suspended(o.runner):
        if o.creation_problem:
            return "the runner", named_problem("FailedCreate", o.creation_problem)
        return "the runner is being created", None
    if o.cluster is None:
        return "the cluster is being created", None
    if fence.identity(o.scheduler_pods) is None:
        found = find(o.cluster.status.conditions, "SchedulerReady")
        if found is not None and found.status != "True" and found.reason != "Progressing":
            return "the scheduler", Problem(found.reason, found.message)
    missing = _missing(o)
    workers = find(o.cluster.status.conditions, "WorkersReady")
    if "registered" in missing and workers is not None and workers.status != "True" and workers.reason != "Progressing":
        return missing, Problem(workers.reason, f"{missing}; {workers.message}")
    return missing or "the runner is about to start", None


def _ended(o: ObservedJob, end: Ending, now: Time) -> DaskJobStatus:
    succeeded = end.type == "Complete"
    started = o.job.status.start_time or (o.runner or {}).get("status", {}).get("startTime")
    conditions = [
        *_terminal_readiness(succeeded, end),
        condition("Complete", succeeded, end.reason, end.message if succeeded else ""),
        condition("Failed", not succeeded, end.reason, "" if succeeded else end.message),
        *_findings(o),
    ]
    return replace(
        o.job.status,
        observed_generation=o.job.generation,
        job_status="Successful" if succeeded else "Failed",
        cluster_name=o.job.name,
        job_runner_pod_name=_runner_pod(o),
        start_time=started,
        end_time=format_time(end.time),
        duration_seconds=max(0, round(end.time - parse_time(started))) if started else None,
        retries=_retries(o) or None,
        progress=_progress(o, now),
        conditions=merge(o.job.status.conditions, conditions, generation=o.job.generation, now=now),
    )


def _terminal_readiness(succeeded: bool, end: Ending) -> list[Condition]:
    """For kstatus: a completed job is current, a failed one has failed and will not get better by itself."""
    return [
        condition("Ready", succeeded, end.reason, end.message),
        condition("Reconciling", False, end.reason),
        condition("Stalled", not succeeded, end.reason, "" if succeeded else end.message),
    ]


def _terminal_status(o: ObservedJob, now: Time) -> DaskJobStatus:
    """A terminal status stands; only the generation that it was compared with moves on."""
    status = o.job.status
    stands = [c for c in status.conditions or () if c.type != "UpToDate"]
    conditions = merge(status.conditions, [*stands, _up_to_date(o.job)], generation=o.job.generation, now=now)
    return replace(status, observed_generation=o.job.generation, conditions=conditions)
