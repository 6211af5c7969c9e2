"""What a job's status says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from dask_crds.model import Condition, DaskJob, DaskJobStatus, PastRun, Progress
from dask_resources.job import job_revision

from .actions import Delete, Outcome, Plan
from .conditions import condition, merge, readiness
from .job import PROGRESS_SECONDS
from .job_run import (
    Ending,
    ending,
    is_finished,
    is_terminal,
    retries,
    scheduler_loss,
    versions_condition,
    waiting_for,
    wants_new_run,
)
from .observed import ObservedJob
from .time import Time, format_time, parse_time

#: Past runs that status remembers.
HISTORY = 5


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
    waiting, problem = waiting_for(o)
    conditions = [
        *readiness(
            before,
            problem=problem,
            waiting=waiting,
            outcomes=outcomes,
            generation=job.generation,
            now=now,
            ready="Suspended" if job.spec.suspend else "Ready",
            message="suspended as asked" if job.spec.suspend else "",
            deadline=state != "Running",  # a run takes as long as it takes
        ),
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
        retries=retries(o) or None,
        progress=_progress(o, now),
        scheduler_loss=scheduler_loss(o),
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
    last = o.runner is not None and is_finished(o.runner)
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
    found = versions_condition(o)
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
        retries=retries(o) or None,
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
