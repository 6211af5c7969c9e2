"""What a job's status says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec.structs import replace

from dask_crds.model import Bundle, Condition, DaskJobStatus, PastRun, Progress, SchedulerLoss
from dask_crds.reasons import Reason
from dask_resources.job import job_revision

from . import queue_status
from .actions import Outcome, Plan
from .conditions import Standing, condition, merge, readiness
from .job import PROGRESS_SECONDS
from .observed import ObservedJob
from .questions import TaskProgress
from .record import bundle
from .run import Run
from .run_words import Ending, ending, waiting_for
from .time import Time, format_time, time_or
from .time_spent import time_spent

#: Past runs that status remembers, and characters of what it remembers of why each ended so.
HISTORY, LONGEST_PAST = 5, 512
#: What ``jobStatus`` says of a run that goes on, in this order.
_STATES: tuple[Literal["JobCreated", "ClusterCreated", "Running"], ...] = ("JobCreated", "ClusterCreated", "Running")


def job_status(o: ObservedJob, plan: Plan, outcomes: Sequence[Outcome], now: Time) -> DaskJobStatus:
    """The status after the plan was executed."""
    run = Run(o, now)
    if run.ended:
        return _terminal_status(run)
    if run.remains:
        return _waits_for_remains(run, outcomes)
    end = None if run.is_next else ending(run)
    if end is not None:
        return _ended(run, end)
    return _goes_on(run, outcomes)


def _goes_on(run: Run, outcomes: Sequence[Outcome]) -> DaskJobStatus:
    job, state, suspended = run.job, _STATES[_state(run)], bool(run.job.spec.suspend)
    runner_started = run.runner.started if run.runner is not None else None
    started = run.status.start_time
    if state == "Running" and not started:
        started = runner_started or format_time(run.now)
    waiting, problem = waiting_for(run)
    asked, progress = queue_status.is_suspended(run.queued, suspended), _progress(run)
    standing = queue_status.standing(run.queued) or Standing(
        waiting=waiting,
        problem=problem,
        bounded=state != "Running" and not run.is_held,  # a run takes as long as it takes, and a queue as well
        progress=time_or(runner_started, 0.0) if runner_started else None,
        ready=Reason.SUSPENDED if suspended else Reason.READY,
        message="suspended as asked" if suspended else "",
    )
    conditions = [
        *readiness(standing, outcomes, run.status.conditions, job.generation, run.now),
        condition("Complete", False, Reason(state)),
        condition("Failed", False, Reason(state)),
        condition("Suspended", asked, Reason.SUSPENDED if asked else Reason.NOT_SUSPENDED),
        *queue_status.admitted(run.queued),
        *_findings(run),
    ]
    return DaskJobStatus(
        observed_generation=job.generation,
        job_status=state,
        cluster_name=job.name if run.cluster is not None else None,
        job_runner_pod_name=_runner_pod(run),
        start_time=started,
        run_id=job.spec.run_id if run.begins else run.status.run_id,  # another has to wait until this run has ended
        revision=_revision(run),
        active_since=None if suspended else run.status.active_since or format_time(run.now),
        retries=_retries(run) or None,
        last_problem=_last_problem(run),
        progress=progress,
        time_spent=time_spent(run, wanted=progress is not run.status.progress),
        bundle=_bundle(run),
        scheduler_loss=_scheduler_loss(run),
        history=_history(run),
        conditions=merge(run.status.conditions, conditions, generation=job.generation, now=run.now),
    )


def _waits_for_remains(run: Run, outcomes: Sequence[Outcome]) -> DaskJobStatus:
    """While the remains of the run before go, its status stands; only ``Ready`` tells why the next has not begun."""
    job, before = run.job, run.job.status.conditions
    remains = " and ".join(f"{it.kind} {it.name}" for it in run.remains)
    standing = Standing(waiting=f"waiting for {remains} of the run before to be gone")
    ready = readiness(standing, outcomes, before, job.generation, run.now)
    told = {c.type: c for c in ready}
    stands = [told.get(c.type, c) for c in before or ()]
    return replace(job.status, conditions=merge(before, stands, generation=job.generation, now=run.now))


def _revision(run: Run) -> str | None:
    """Of the templates of the run, which are settled when its runner is made."""
    settled = run.runner is not None or run.is_outdated
    return run.status.revision if settled and not run.begins else job_revision(run.job)


def _last_problem(run: Run) -> str | None:
    stored = run.status.last_problem
    return run.runner.last_problem(stored) if run.runner is not None else stored


def _history(run: Run) -> list[PastRun] | None:
    """The runs before this one."""
    last = run.job.status
    past = last.history or []
    if run.is_next:
        ends = (c for c in last.conditions or () if c.type in ("Complete", "Failed") and c.status == "True")
        end = next(ends, None)
        before = PastRun(
            run_id=last.run_id,
            job_status=last.job_status,
            reason=end.reason if end is not None else None,
            message=end.message[:LONGEST_PAST] if end is not None else None,
            start_time=last.start_time,
            end_time=last.end_time,
            bundle=last.bundle,
        )
        past = [before, *past][:HISTORY]
    return past or None


def _progress(run: Run) -> Progress | None:
    """How far the tasks are; moved on only when it has changed, and not too often."""
    before, found = run.status.progress, run.answers.of(TaskProgress) if run.answers else None
    if found is None or (run.runner is None and before is None):
        return before
    if found.total == 0 and run.runner is not None and not run.has_its_scheduler:
        return before  # of a new scheduler, which knows nothing of the run: the program has shut down the one it had
    last = run.runner is not None and run.runner.is_finished
    if before is not None and run.now - time_or(before.last_update_time, 0.0) < PROGRESS_SECONDS and not last:
        return before
    after = Progress(
        tasks_total=found.total,
        tasks_done=found.done,
        percent=100 * found.done // found.total if found.total else 0,
        workers=found.workers,
        last_update_time=format_time(run.now),
    )
    if before is not None and replace(after, last_update_time=before.last_update_time) == before:
        return before
    return after


def _last_progress(run: Run, succeeded: bool) -> Progress | None:
    """How far the tasks were in the end; of a success rather nothing than that nothing was done."""
    progress = _progress(run)
    return None if succeeded and progress is not None and progress.tasks_done == 0 else progress


def _bundle(run: Run) -> Bundle | None:
    history = run.cluster.spec.history if run.cluster is not None else None
    return bundle(run.status.bundle, history, run.answers) if history is not None else run.status.bundle


def _scheduler_loss(run: Run) -> SchedulerLoss | None:
    """The record of losses as it is to be stored."""
    loss, runner = run.loss, run.runner
    if runner is not None and run.loss_is_new:
        before = loss or SchedulerLoss(count=0)
        return SchedulerLoss(runner_uid=runner.uid, count=before.count + 1, failures=before.failures + runner.failures)
    if loss is not None and loss.runner_uid and runner is not None and not run.has_lost_scheduler:
        return replace(loss, runner_uid=None)  # its successor is there
    return loss


def _retries(run: Run) -> int:
    """How often the runner was started again, for whatever reason."""
    loss, runner = _scheduler_loss(run), run.runner
    before = loss.count + loss.failures if loss else 0
    if runner is None or (loss is not None and loss.runner_uid == runner.uid):
        return before or run.status.retries or 0
    if runner.is_finished:
        return before + max(0, runner.failures - (1 if runner.conditions.get("Failed") else 0))
    limit = max(0, (run.job.spec.backoff_limit or 0) - (loss.failures if loss else 0))
    # The last failure may be counted already.
    return before + (min(runner.failures, limit) if runner.is_decided else runner.failures)


def _findings(run: Run) -> list[Condition]:
    """Conditions that stand beside the course of the run."""
    return [*([run.versions] if run.versions else []), _up_to_date(run)]


def _up_to_date(run: Run) -> Condition:
    yet_to_come = run.begins or (run.runner is None and not run.ended)
    if yet_to_come or run.status.revision in (None, job_revision(run.job)):
        return condition("UpToDate", True, Reason.UP_TO_DATE)
    message = "the templates have changed since this run began; to run them, set spec.runId to a new value"
    return condition("UpToDate", False, Reason.SPEC_CHANGED, message)


def _state(run: Run) -> int:
    """The place in `_STATES`; it never goes back within a run."""
    state = 2 if run.is_running else 0 if run.cluster is None else 1
    last = run.status.job_status
    return max(state, _STATES.index(last)) if last in _STATES else state


def _runner_pod(run: Run) -> str | None:
    """The runner's present Pod, else its last one."""
    pod = run.runner.newest if run.runner is not None else None
    return pod.name if pod else run.status.job_runner_pod_name


def _ended(run: Run, end: Ending) -> DaskJobStatus:
    job, succeeded = run.job, end.type == "Complete"
    started = run.status.start_time or (run.runner.started if run.runner is not None else None)
    on_success, on_failure = (end.message, "") if succeeded else ("", end.message)
    conditions = [
        # For kstatus: a completed job is current, a failed one has failed and will not get better by itself.
        condition("Ready", succeeded, end.reason, end.message),
        condition("Reconciling", False, end.reason),
        condition("Stalled", not succeeded, end.reason, on_failure),
        condition("Complete", succeeded, end.reason, on_success),
        condition("Failed", not succeeded, end.reason, on_failure),
        *_findings(run),
    ]
    return replace(
        run.status,
        observed_generation=job.generation,
        job_status="Successful" if succeeded else "Failed",
        cluster_name=job.name,
        job_runner_pod_name=_runner_pod(run),
        start_time=started,
        end_time=format_time(end.time),
        duration_seconds=max(0, round(end.time - time_or(started, end.time))) if started else None,
        retries=_retries(run) or None,
        last_problem=_last_problem(run),
        progress=_last_progress(run, succeeded),
        time_spent=time_spent(run, wanted=True, end=end.time),
        bundle=_bundle(run),
        conditions=merge(run.status.conditions, conditions, generation=job.generation, now=run.now),
    )


def _terminal_status(run: Run) -> DaskJobStatus:
    """A terminal status stands; only the generation that it was compared with moves on."""
    job, conditions = run.job, run.status.conditions
    stands = [c for c in conditions or () if c.type != "UpToDate"]
    after = merge(conditions, [*stands, _up_to_date(run)], generation=job.generation, now=run.now)
    return replace(run.status, observed_generation=job.generation, conditions=after)
