"""What a run is at, in words, and what is wrong with it, if anything."""

from __future__ import annotations

from dask_crds import names
from dask_crds.model import DaskCluster

from . import runner_room
from .conditions import find, named_problem
from .job_run import (
    active_seconds,
    is_condemned,
    is_outdated,
    is_reachable,
    least_workers,
    leftover_scheduler,
    missing,
)
from .observed import Manifest, ObservedJob, Problem
from .runner import (
    annotation,
    holder,
    is_decided,
    is_held,
    is_suspended,
    job_condition,
    lacks_pod,
    last_problem,
    newest,
)
from .time import Time


def waiting_for(o: ObservedJob, now: Time) -> tuple[str, Problem | None]:
    """What the run is at, and what is wrong with it, if anything."""
    if o.runner is not None and is_decided(o):
        return _runner_is(o, o.runner, now)
    if o.obstacle is not None:
        return o.obstacle.message, o.obstacle if o.obstacle.reason == "NameConflict" else None
    if o.job.spec.suspend:
        return _stopping_all(o), None
    if is_condemned(o):
        return "the scheduler was lost: the runner is started again", None
    if o.runner is not None:
        return _runner_is(o, o.runner, now)
    if (leftover := leftover_scheduler(o)) is not None:
        return f"waiting for scheduler {leftover.name} of the cluster before to end", None
    if o.cluster is None:
        return "the cluster is being created", None
    if is_outdated(o):
        return "the templates have changed: the cluster is made anew", None
    return _waiting_for_cluster(o, o.cluster)


def _stopping_all(o: ObservedJob) -> str:
    """What is still to be stopped of a suspended job."""
    if o.runner is not None and not is_suspended(o.runner) and annotation(o.runner, names.SUSPENDED):
        who = holder(o.runner) or "somebody else"
        return f"Job {names.runner(o.job.name)} was resumed by {who}; it is stopped again"
    stopping = o.scheduler_pods or o.former or any(not p.is_finished for p in o.pods)
    return "runner and cluster are being stopped" if stopping else ""


def _runner_is(o: ObservedJob, runner: Manifest, now: Time) -> tuple[str, Problem | None]:
    """What a runner is at whose Job is there."""
    if job_condition(runner, "SuccessCriteriaMet"):
        return "the runner has completed, its Pod is ending", None
    if (decision := job_condition(runner, "FailureTarget")) is not None:
        text = stopped(o, decision, "is being stopped")
        return text, Problem(decision.get("reason") or "Failed", text)
    pod = newest(o)
    if pod is not None and pod.deleting and not pod.is_finished and not is_suspended(runner):
        overdue = (deadline := o.job.spec.active_deadline_seconds) and active_seconds(o.job, now) >= deadline
        return f"runner {pod.name} is being stopped" + (f" after its deadline of {deadline} s" if overdue else ""), None
    if is_held(o):
        who = holder(runner) or "somebody else"
        text = f"Job {names.runner(o.job.name)} is held back by {who}, who has set its spec.suspend"
        return text, Problem("SuspendedByAnother", text)
    if is_suspended(runner):
        return _waiting_for_cluster(o, o.cluster) if o.cluster is not None else ("the cluster is being created", None)
    if lacks_pod(o) and o.creation_problem:
        return "the runner", named_problem("FailedCreate", runner_room.in_words(o, least_workers(o.job)))
    if pod is not None:
        if pod.problem is not None:
            return "the runner", Problem(pod.problem.reason, pod.problem.message)
        doing = {"Pending": "starting", "Running": "running"}.get(pod.phase, "ending")
        return f"runner {pod.name} is {doing}", None
    return "the runner is being created", None


def stopped(o: ObservedJob, decision: Manifest, how: str) -> str:
    """Why a runner is stopped, in words: those of Kubernetes, and what was last seen of its Pod."""
    deadline, words = o.job.spec.active_deadline_seconds, decision.get("message") or "the runner has failed"
    if decision.get("reason") == "DeadlineExceeded" and deadline is not None:
        words = f"the runner {how} after its deadline of {deadline} s"
    problem = last_problem(o, o.job.status.last_problem)
    return f"{words}; {problem}" if problem else words


def _waiting_for_cluster(o: ObservedJob, cluster: DaskCluster) -> tuple[str, Problem | None]:
    lacking = missing(o)
    if not is_reachable(o):
        found = find(cluster.status.conditions, "SchedulerReady")
        if found is not None and found.status != "True" and found.reason != "Progressing":
            return "the scheduler", Problem(found.reason, found.message)
    workers = find(cluster.status.conditions, "WorkersReady")
    if "registered" in lacking and workers is not None and workers.status != "True" and workers.reason != "Progressing":
        return lacking, Problem(workers.reason, f"{lacking}; {workers.message}")
    return lacking or "the runner is about to start", None
