"""What is to be read off a runner: its Job, who holds that, and how its Pods have ended."""

from __future__ import annotations

from dask_crds import names
from dask_crds.model import DaskJob
from dask_resources.pod import main_container

from .conditions import is_true
from .observed import LONGEST_MESSAGE, Manifest, ObservedJob, Pod, set_by
from .time import Time, time_or


def job_condition(runner: Manifest, type: str) -> Manifest | None:
    """The condition of a Job, if it is True."""
    conditions = (runner.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == type and c["status"] == "True"), None)


def is_finished(runner: Manifest) -> bool:
    """Whether the runner's Job has ended, well or not."""
    return job_condition(runner, "Complete") is not None or job_condition(runner, "Failed") is not None


def is_decided(o: ObservedJob) -> bool:
    """Whether it is clear how the runner ends, though its Job may not say so yet: that waits for all Pods to end."""
    if o.runner is None:
        return False
    decisions = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")
    return any(job_condition(o.runner, type) for type in decisions) or any(p.phase == "Succeeded" for p in o.pods)


def newest(o: ObservedJob) -> Pod | None:
    """The runner's present Pod, else its last one."""
    return max(o.pods, key=lambda p: (not p.deleting, not p.is_finished, p.created), default=None)


# --- who holds it -----------------------------------------------------------------------------------------------------
# Queues suspend Jobs until it is their turn. What the operator has not suspended it does not resume.

_SUSPEND = ("spec", "suspend")


def is_suspended(runner: Manifest) -> bool:
    """Whether the runner's Job is suspended."""
    return bool(runner["spec"].get("suspend"))


def annotation(runner: Manifest, key: str) -> str:
    """An annotation of the Job, empty without it."""
    return str((runner["metadata"].get("annotations") or {}).get(key) or "")


def is_ours_to_resume(runner: Manifest) -> bool:
    """Whether it was the operator who has suspended it, and nobody else since."""
    return bool(annotation(runner, names.SUSPENDED)) and not holder(runner)


def holder(runner: Manifest) -> str:
    """Who else has set ``spec.suspend``, as far as is known."""
    return next((m for m in set_by(runner["metadata"], *_SUSPEND) if m and m != names.FIELD_MANAGER), "")


def is_held(o: ObservedJob) -> bool:
    """Whether somebody else has suspended the runner."""
    return o.runner is not None and is_suspended(o.runner) and not (is_ours_to_resume(o.runner) or is_adopted(o))


def is_adopted(o: ObservedJob) -> bool:
    """Whether an earlier release of the operator has suspended the runner, which left no note.

    The API server knows that the operator was the last to set the field, and that it has changed since the Job was
    made: what others change in the request that makes it counts as ours.
    """
    if o.runner is None or not is_suspended(o.runner) or annotation(o.runner, names.SUSPENDED):
        return False
    metadata = o.runner["metadata"]
    was_suspended = o.job.spec.suspend or is_true(o.job.status.conditions, "Suspended")
    ours = set(set_by(metadata, *_SUSPEND)) == {names.FIELD_MANAGER} and metadata.get("generation", 1) > 1
    return bool(was_suspended and ours)


def suspended_at(runner: Manifest) -> Time | None:
    """When the operator has suspended it last; ``None`` if it has not since the job was resumed."""
    return time_or(annotation(runner, names.SUSPENDED), 0.0) or None


# --- its Pods ---------------------------------------------------------------------------------------------------------


def lacks_pod(o: ObservedJob) -> bool:
    """Whether Kubernetes is to make a Pod of the runner, and there is none."""
    if o.runner is None or is_suspended(o.runner) or o.runner["metadata"].get("deletionTimestamp"):
        return False
    return not is_decided(o) and all(pod.is_finished for pod in o.pods)


def refusals_count_from(o: ObservedJob) -> Time | None:
    """Since when events may tell why the runner lacks a Pod: what was before its last Pod is no news.

    ``None`` where it lacks none, or Kubernetes has not tried yet.
    """
    started = ((o.runner or {}).get("status") or {}).get("startTime")
    if not lacks_pod(o) or started is None:
        return None
    return max(time_or(started, 0.0), *(pod.created + 1 for pod in o.pods), 0.0)


def last_problem(o: ObservedJob, stored: str | None) -> str | None:
    """How the runner's container ended last, if not well, or what keeps it from starting.

    A Pod that is being deleted ends by being killed, which tells nothing of the program. So while there is no other,
    what was seen before stands.

    Args:
        o: the snapshot.
        stored: what was seen before in the same run.
    """
    pods = [pod for pod in o.pods if not pod.deleting]
    if not pods and (stored or not _has_failed(o.runner)):
        return stored
    told = (_problem_of(o.job, pod) for pod in sorted(pods or o.pods, key=lambda pod: -pod.created))
    return next((text for text in told if text), None)


def _has_failed(runner: Manifest | None) -> bool:
    """Whether its Pods are being deleted because it has failed, by itself."""
    if runner is None:
        return False
    found = job_condition(runner, "FailureTarget") or job_condition(runner, "Failed")
    return found is not None and found.get("reason") != "DeadlineExceeded"


def _problem_of(job: DaskJob, pod: Pod) -> str:
    container = pod.container(main_container(job.spec.job.spec, names.JOB_RUNNER))
    if not container.exit_code:
        return pod.problem.message if pod.problem else ""
    words = f": {container.last_words}" if container.last_words else ""
    text = f"exit code {container.exit_code} ({container.reason or 'Error'}){words}"
    return f"{pod.name}: the runner's container ended with {text}"[:LONGEST_MESSAGE]
