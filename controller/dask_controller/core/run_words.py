"""What a run is at, what is wrong with it, and how it has ended: in words."""

from __future__ import annotations

from msgspec import Struct

from dask_crds.model import DaskCluster
from dask_crds.reasons import Reason

from . import runner_room
from .conditions import named_problem, unmet
from .pod import Manifest, Problem
from .run import Run
from .runner import Runner
from .time import Time, time_or

#: Lost schedulers after which a run starts again, even with a smaller ``backoffLimit``: the program is not to blame.
RESTARTS = 3


class Ending(Struct, frozen=True):
    """How a run has ended."""

    type: str  #: ``Complete`` or ``Failed``
    reason: str
    message: str
    time: Time


def ending(run: Run) -> Ending | None:
    """How the run has ended, ``None`` while it goes on.

    Not before the runner's Job has ended: until then its Pods may be at work, and what waits for the end of the run
    would start beside them.
    """
    if run.runner is not None and run.runner.is_decided:
        return _end_of_runner(run, run.runner) if run.runner.is_finished else None
    running = run.status.job_status == "Running"
    deadline = run.job.spec.active_deadline_seconds
    if deadline is not None and run.active_seconds >= deadline and run.waits and not run.job.spec.suspend:
        waiting, problem = waiting_for(run)
        message = f"the runner has not started within {deadline} s: {problem.message if problem else waiting}"
        return Ending("Failed", Reason.DEADLINE_EXCEEDED, message, run.now)
    if run.runner is None:
        if not running or (run.loss is not None and run.loss.runner_uid):
            return _wrong_versions(run)
        gone = "the runner's Job was deleted before it had finished"
        taken = f"; {run.obstacle.message}" if run.obstacle is not None and run.cluster is not None else ""
        return Ending("Failed", Reason.RUNNER_LOST, gone + taken, run.now)
    if running and run.cluster is None:
        message = "the cluster was deleted while the runner was running"
        return Ending("Failed", Reason.CLUSTER_FAILED, message, run.now)
    return _lost_for_good(run) or _wrong_versions(run)


def _end_of_runner(run: Run, runner: Runner) -> Ending:
    """What a Job says that has ended."""
    complete, failed = runner.conditions.get("Complete"), runner.conditions.get("Failed") or {}
    time = time_or((complete or failed).get("lastTransitionTime") or "", run.now)
    if complete is not None:
        return Ending("Complete", Reason.COMPLETED, "the runner has completed", time)
    return Ending("Failed", failed.get("reason") or Reason.FAILED, _stopped(run, runner, failed, "was stopped"), time)


def _lost_for_good(run: Run) -> Ending | None:
    """The end by ``onSchedulerLost``, if the run is not to start again."""
    policy = run.job.spec.on_scheduler_lost or "RestartJob"
    if policy == "Ignore" or run.has_lost_scheduler or not run.scheduler_is_lost:
        return None
    message = "the scheduler was restarted, and with it all work was lost"
    if policy != "Fail":
        if run.loss is None or run.loss.count < max(RESTARTS, run.job.spec.backoff_limit or 0):
            return None
        message = f"the scheduler was lost again after {run.loss.count} new starts"
    return Ending("Failed", Reason.SCHEDULER_LOST, message, run.now)


def _wrong_versions(run: Run) -> Ending | None:
    if not run.enforces_versions or run.versions is None or run.versions.status == "True":
        return None
    return Ending("Failed", Reason.VERSION_MISMATCH, run.versions.message, run.now)


def waiting_for(run: Run) -> tuple[str, Problem | None]:
    """What the run is at, and what is wrong with it, if anything."""
    if run.runner is not None and run.runner.is_decided:
        return _runner_is(run, run.runner)
    if run.obstacle is not None:
        return run.obstacle.message, run.obstacle if run.obstacle.reason == Reason.NAME_CONFLICT else None
    if run.job.spec.suspend:
        return _stopping_all(run), None
    if run.has_lost_scheduler:
        return "the scheduler was lost: the runner is started again", None
    if run.runner is not None:
        return _runner_is(run, run.runner)
    if run.leftover is not None:
        return f"waiting for scheduler {run.leftover.name} of the cluster before to end", None
    if run.is_outdated:
        return "the templates have changed: the cluster is made anew", None
    return _waiting_for_cluster(run, run.cluster)


def _stopping_all(run: Run) -> str:
    """What is still to be stopped of a suspended job."""
    runner = run.runner
    if runner is not None and not runner.is_suspended and runner.note:
        return f"Job {runner.name} was resumed by {runner.holder or 'somebody else'}; it is stopped again"
    working = runner is not None and any(not p.is_finished for p in runner.pods)
    return "runner and cluster are being stopped" if run.scheduler_pods or run.former_pods or working else ""


def _runner_is(run: Run, runner: Runner) -> tuple[str, Problem | None]:
    """What a runner is at whose Job is there."""
    if runner.conditions.get("SuccessCriteriaMet"):
        return "the runner has completed, its Pod is ending", None
    if (decision := runner.conditions.get("FailureTarget")) is not None:
        text = _stopped(run, runner, decision, "is being stopped")
        return text, Problem(decision.get("reason") or Reason.FAILED, text)
    pod = runner.newest
    if pod is not None and pod.deleting and not pod.is_finished and not runner.is_suspended:
        deadline = run.job.spec.active_deadline_seconds
        overdue = f" after its deadline of {deadline} s" if deadline and run.active_seconds >= deadline else ""
        return f"runner {pod.name} is being stopped{overdue}", None
    if runner.is_held:
        text = f"Job {runner.name} is held back by {runner.holder or 'somebody else'}, who has set its spec.suspend"
        return text, Problem(Reason.SUSPENDED_BY_ANOTHER, text)
    if runner.is_suspended:
        return _waiting_for_cluster(run, run.cluster)
    if runner.lacks_pod and run.creation_problem:
        return "the runner", named_problem(Reason.FAILED_CREATE, runner_room.in_words(run))
    if pod is None:
        return "the runner is being created", None
    if pod.problem is not None:
        return "the runner", pod.problem
    doing = {"Pending": "starting", "Running": "running"}.get(pod.phase, "ending")
    return f"runner {pod.name} is {doing}", None


def _stopped(run: Run, runner: Runner, decision: Manifest, how: str) -> str:
    """Why a runner is stopped: in Kubernetes' words, and what was last seen of its Pod."""
    deadline, words = run.job.spec.active_deadline_seconds, decision.get("message") or "the runner has failed"
    if decision.get("reason") == Reason.DEADLINE_EXCEEDED and deadline is not None:
        words = f"the runner {how} after its deadline of {deadline} s"
    problem = runner.last_problem(run.status.last_problem)
    return f"{words}; {problem}" if problem else words


def _waiting_for_cluster(run: Run, cluster: DaskCluster | None) -> tuple[str, Problem | None]:
    if cluster is None:
        return "the cluster is being created", None
    conditions = cluster.status.conditions
    if not run.is_reachable and (problem := unmet(conditions, "SchedulerReady")):
        return "the scheduler", problem
    if "registered" in run.missing and (problem := unmet(conditions, "WorkersReady")):
        return run.missing, Problem(problem.reason, f"{run.missing}; {problem.message}")
    return run.missing or "the runner is about to start", None
