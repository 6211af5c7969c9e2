"""What a job's status says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from dask_crds.model import Condition, DaskJob, DaskJobStatus, PastRun, Progress
from dask_resources.job import job_revision

from .actions import Outcome, Plan
from .conditions import condition, merge, readiness
from .job import PROGRESS_SECONDS
from .job_ending import Ending, ending, versions_condition
from .job_own import own
from .job_run import (
    former_cluster,
    former_runner,
    has_its_scheduler,
    is_outdated,
    is_terminal,
    retries,
    scheduler_loss,
    wants_new_run,
)
from .job_words import waiting_for
from .observed import ObservedJob
from .runner import is_finished, is_held, last_problem, newest
from .time import Time, format_time, time_or

#: Past runs that status remembers, and characters of what it remembers of why each ended so.
HISTORY, LONGEST_PAST = 5, 512


def job_status(o: ObservedJob, plan: Plan, outcomes: Sequence[Outcome], now: Time) -> DaskJobStatus:
    """The status after the plan was executed."""
    o = own(o)
    job = o.job
    if is_terminal(job) and not wants_new_run(job):
        return _terminal_status(o, now)
    if wants_new_run(job) and (former_runner(o) or former_cluster(o)):
        return _cleared_away(o, outcomes, now)
    before = [] if wants_new_run(job) else job.status.conditions
    end = None if wants_new_run(job) else ending(o, now)
    if end is not None:
        return _ended(o, end, now)
    state = _job_state(o)
    runner_started = ((o.runner or {}).get("status") or {}).get("startTime")
    started = None if wants_new_run(job) else job.status.start_time
    if state == "Running" and not started:
        started = runner_started or format_time(now)
    waiting, problem = waiting_for(o, now)
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
            # A run takes as long as it takes, and a queue as well.
            deadline=state != "Running" and not is_held(o),
            progress=time_or(runner_started, 0.0) if runner_started else None,
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
        revision=_revision(o),
        active_since=_active_since(job, now),
        retries=retries(o) or None,
        last_problem=_last_problem(o),
        progress=_progress(o, now),
        scheduler_loss=scheduler_loss(o),
        history=_history(job),
        conditions=merge(before, conditions, generation=job.generation, now=now),
    )


def _cleared_away(o: ObservedJob, outcomes: Sequence[Outcome], now: Time) -> DaskJobStatus:
    """While the remains of the run before go, its status stands; only ``Ready`` tells why the next has not begun."""
    job, runner, cluster = o.job, former_runner(o), former_cluster(o)
    remains = [
        *([f"Job {runner['metadata']['name']}"] if runner is not None else []),
        *([f"DaskCluster {cluster.name}"] if cluster is not None else []),
    ]
    ready = readiness(
        job.status.conditions,
        problem=None,
        waiting=f"waiting for {' and '.join(remains)} of the run before to be gone",
        outcomes=outcomes,
        generation=job.generation,
        now=now,
    )
    told = {c.type: c for c in ready}
    stands = [told.get(c.type, c) for c in job.status.conditions or ()]
    return replace(job.status, conditions=merge(job.status.conditions, stands, generation=job.generation, now=now))


def _begins(job: DaskJob) -> bool:
    """Whether a run begins with the status that is written next."""
    return job.status.job_status is None or wants_new_run(job)


def _revision(o: ObservedJob) -> str | None:
    """Of the templates of the run, which are settled when its runner is made."""
    settled = o.runner is not None or is_outdated(o)
    return o.job.status.revision if settled and not _begins(o.job) else job_revision(o.job)


def _last_problem(o: ObservedJob) -> str | None:
    return last_problem(o, None if wants_new_run(o.job) else o.job.status.last_problem)


def _active_since(job: DaskJob, now: Time) -> str | None:
    if job.spec.suspend:
        return None
    return (None if _begins(job) else job.status.active_since) or format_time(now)


def _history(job: DaskJob) -> list[PastRun] | None:
    """The runs before the one that status speaks of."""
    past = job.status.history or []
    if wants_new_run(job):
        last = job.status
        ends = (c for c in last.conditions or () if c.type in ("Complete", "Failed") and c.status == "True")
        end = next(ends, None)
        run = PastRun(
            run_id=last.run_id,
            job_status=last.job_status,
            reason=end.reason if end is not None else None,
            message=end.message[:LONGEST_PAST] if end is not None else None,
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
    if found.total == 0 and o.runner is not None and not has_its_scheduler(o):
        return before  # of a new scheduler, which knows nothing of the run: the program has shut down the one it had
    last = o.runner is not None and is_finished(o.runner)
    if before is not None and now - time_or(before.last_update_time, 0.0) < PROGRESS_SECONDS and not last:
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


def _last_progress(o: ObservedJob, succeeded: bool, now: Time) -> Progress | None:
    """How far the tasks were in the end; of a success rather nothing than that nothing was done."""
    progress = _progress(o, now)
    return None if succeeded and progress is not None and progress.tasks_done == 0 else progress


def _findings(o: ObservedJob) -> list[Condition]:
    """Conditions that stand beside the course of the run."""
    found = versions_condition(o)
    return [*([found] if found else []), _up_to_date(o)]


def _up_to_date(o: ObservedJob) -> Condition:
    job = o.job
    yet_to_come = o.runner is None and not is_terminal(job)
    if _begins(job) or yet_to_come or job.status.revision in (None, job_revision(job)):
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
    pod = newest(o)
    return pod.name if pod else (None if wants_new_run(o.job) else o.job.status.job_runner_pod_name)


def _ended(o: ObservedJob, end: Ending, now: Time) -> DaskJobStatus:
    succeeded = end.type == "Complete"
    started = o.job.status.start_time or ((o.runner or {}).get("status") or {}).get("startTime")
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
        duration_seconds=max(0, round(end.time - time_or(started, end.time))) if started else None,
        retries=retries(o) or None,
        last_problem=_last_problem(o),
        progress=_last_progress(o, succeeded, now),
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
    conditions = merge(status.conditions, [*stands, _up_to_date(o)], generation=o.job.generation, now=now)
    return replace(status, observed_generation=o.job.generation, conditions=conditions)
