"""What to do about a job: its cluster, its runner, and the tidying up afterwards.

A run is terminal once ``Complete`` or ``Failed`` is True in the stored status. That is written before anything is
deleted, and nothing is started again for the same ``spec.runId``, whatever is missing later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from dask_crds import names
from dask_crds.model import Condition, DaskJob, DaskJobStatus
from dask_resources.job import job_cluster, run_label, runner_job
from dask_resources.scheduler import DEFAULT_CLUSTER_DOMAIN

from .actions import Action, Apply, Delete, Outcome, Patch, Plan
from .conditions import condition, find, is_true, merge, readiness
from .observed import Manifest, ObservedJob, Pod, Problem, owner_uid
from .time import Time, format_time, parse_time

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
    if wants_new_run(o.job):
        leftovers = _leftovers(o)
        return Plan(actions=tuple(leftovers)) if leftovers else _start(o, domain)
    if is_terminal(o.job):
        return _tidy_up(o, now)
    if o.job.status.job_status is None or ending(o, now) is not None:
        return Plan()  # status first: what is written next must not happen twice, or cannot be undone
    return _start(o, domain)


def _start(o: ObservedJob, domain: str) -> Plan:
    """Bring up the cluster, then, when its scheduler is ready, the runner."""
    actions: list[Action] = []
    suspended = bool(o.job.spec.suspend)
    desired = job_cluster(o.job)
    if suspended:
        desired["spec"]["suspend"] = True
    if o.cluster is None or (_owned(o, o.cluster.metadata) and bool(o.cluster.spec.suspend) != suspended):
        actions.append(Apply(desired))
    if o.runner is not None:
        if owner_uid(o.runner) == o.job.uid and bool(o.runner["spec"].get("suspend")) != suspended:
            patch = {"spec": {"suspend": suspended}}
            actions.append(Patch("Job", o.job.namespace, names.runner(o.job.name), patch))
    elif o.cluster is not None and not suspended and is_true(o.cluster.status.conditions, "SchedulerReady"):
        actions.append(Apply(runner_job(o.job, domain=domain)))
    return Plan(actions=tuple(actions))


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
    if o.runner is None:
        return (
            Ending("Failed", "RunnerLost", "the runner's Job was deleted before it had finished", now)
            if running
            else None
        )
    if owner_uid(o.runner) != o.job.uid:
        return None
    if (complete := _job_condition(o.runner, "Complete")) is not None:
        return Ending("Complete", "Completed", "the runner has completed", _time(complete, now))
    if (failed := _job_condition(o.runner, "Failed")) is not None:
        reason, message = failed.get("reason") or "Failed", failed.get("message") or "the runner has failed"
        problem = next((p.problem for p in o.pods if p.problem), None)
        return Ending("Failed", reason, f"{message}; {problem.message}" if problem else message, _time(failed, now))
    if running and (o.cluster is None or o.cluster.metadata.get("deletionTimestamp")):
        return Ending("Failed", "ClusterLost", "the cluster was deleted while the runner was running", now)
    return None


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
    ]
    return DaskJobStatus(
        observed_generation=job.generation,
        job_status=state,
        cluster_name=job.name if o.cluster is not None else None,
        job_runner_pod_name=_runner_pod(o),
        start_time=started,
        run_id=_run_id(job),
        conditions=merge(before, conditions, generation=job.generation, now=now),
    )


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
    if pod is not None:
        if pod.problem is not None:
            return "the runner", Problem(pod.problem.reason, pod.problem.message)
        doing = {"Pending": "starting", "Running": "running"}.get(pod.phase, "ending")
        return f"runner {pod.name} is {doing}", None
    if o.runner is not None:
        return "the runner is being created", None
    if o.cluster is None:
        return "the cluster is being created", None
    found = find(o.cluster.status.conditions, "SchedulerReady")
    if found is not None and found.status != "True" and found.reason != "Progressing":
        return "the scheduler", Problem(found.reason, found.message)
    return "waiting for the scheduler to be ready", None


def _ended(o: ObservedJob, end: Ending, now: Time) -> DaskJobStatus:
    succeeded = end.type == "Complete"
    started = o.job.status.start_time or (o.runner or {}).get("status", {}).get("startTime")
    conditions = [
        *_terminal_readiness(succeeded, end),
        condition("Complete", succeeded, end.reason, end.message if succeeded else ""),
        condition("Failed", not succeeded, end.reason, "" if succeeded else end.message),
    ]
    return DaskJobStatus(
        observed_generation=o.job.generation,
        job_status="Successful" if succeeded else "Failed",
        cluster_name=o.job.name,
        job_runner_pod_name=_runner_pod(o),
        start_time=started,
        end_time=format_time(end.time),
        run_id=_run_id(o.job),
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
    conditions = merge(status.conditions, status.conditions or [], generation=o.job.generation, now=now)
    return DaskJobStatus(
        observed_generation=o.job.generation,
        job_status=status.job_status,
        cluster_name=status.cluster_name,
        job_runner_pod_name=status.job_runner_pod_name,
        start_time=status.start_time,
        end_time=status.end_time,
        run_id=status.run_id,
        conditions=conditions,
    )
