"""The runner of a run: its Job, who holds that, and how its Pods have ended."""

from __future__ import annotations

from typing import ClassVar

from dask_crds import names
from dask_crds.model import DaskJob
from dask_crds.names import Annotation, Component
from dask_crds.reasons import Reason
from dask_resources.pod import main_container

from .conditions import is_true
from .ownership import SUSPEND, annotation, set_by
from .pod import LONGEST_MESSAGE, Manifest, Pod
from .time import Time, time_or

#: Conditions of a Job that say how it ends; the last two are there while its Pods are still ending.
_DECISIONS = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")


class Runner:
    """A runner as it is at one moment.

    Queues suspend Jobs until it is their turn. What the operator has not suspended it does not resume.

    Attributes:
        job: the job.
        pods: those whose controller is the runner's Job.
        metadata: of that Job.
        namespace: likewise.
        name: likewise.
        uid: likewise.
        conditions: those of the Job that are True, by type.
        failures: Pods that have failed.
        started: when the Job was started, as Kubernetes writes it.
        started_for: the life of the scheduler that it was started for, see `Run`.
        is_finished: whether the Job has ended, well or not.
        is_decided: whether it is clear how it ends; the Job is finished only once all its Pods have ended.
        is_suspended: whether the Job is suspended.
        note: the operator's note that it has suspended the Job itself, and when; empty without one.
        suspended_at: when that was; ``None`` if it has not since the job was resumed.
        holder: who else has set ``spec.suspend``, as far as is known.
        is_adopted: whether an earlier release of the operator suspended it, which left no note.
        is_held: whether somebody else has suspended it.
        newest: the present Pod, else the last one.
        lacks_pod: whether Kubernetes should make a Pod, and there is none.
    """

    kind: ClassVar[str] = "Job"

    def __init__(self, job: DaskJob, manifest: Manifest, pods: tuple[Pod, ...] = ()) -> None:
        metadata, status = manifest["metadata"], manifest.get("status") or {}
        self.job, self.pods, self.metadata = job, pods, metadata
        self.namespace, self.name, self.uid = job.namespace, names.runner(job.name), str(metadata["uid"])
        self.conditions = {c["type"]: c for c in status.get("conditions") or () if c["status"] == "True"}
        self.failures: int = status.get("failed") or 0
        self.started: str | None = status.get("startTime")
        self.is_finished = any(type in self.conditions for type in ("Complete", "Failed"))
        decided = any(type in self.conditions for type in _DECISIONS)
        self.is_decided = decided or any(pod.phase == "Succeeded" for pod in pods)

        self.is_suspended = bool(manifest["spec"].get("suspend"))
        self.started_for = annotation(metadata, Annotation.SCHEDULER_ID)
        self.note = annotation(metadata, Annotation.SUSPENDED)
        setters = set_by(metadata, *SUSPEND)
        self.suspended_at = time_or(self.note, 0.0) or None
        self.holder = next((m for m in setters if m and m != names.FIELD_MANAGER), "")
        # The API server knows that the operator was the last to set the field, and that it has changed since the Job
        # was made: what others change in the request that makes it counts as ours.
        ours = set(setters) == {names.FIELD_MANAGER} and metadata.get("generation", 1) > 1
        was_suspended = bool(job.spec.suspend) or is_true(job.status.conditions, "Suspended")
        self.is_adopted = self.is_suspended and not self.note and was_suspended and ours
        self.is_held = self.is_suspended and (not self.note or bool(self.holder)) and not self.is_adopted

        self.newest = max(pods, key=lambda p: (not p.deleting, not p.is_finished, p.created), default=None)
        tries = not self.is_suspended and not self.is_decided and not metadata.get("deletionTimestamp")
        self.lacks_pod = tries and all(pod.is_finished for pod in pods)

    @property
    def refusals_count_from(self) -> Time | None:
        """Since when events may tell why a Pod is lacking: what was before the last Pod is no news.

        ``None`` where none is lacking, or Kubernetes has not tried yet.
        """
        if not self.lacks_pod or self.started is None:
            return None
        return max(time_or(self.started, 0.0), *(pod.created + 1 for pod in self.pods), 0.0)

    def last_problem(self, stored: str | None) -> str | None:
        """How its container ended last, if not well, or what keeps it from starting.

        A Pod that is being deleted ends by being killed, which says nothing about the program. So while there is no
        other, what was seen before stands.

        Args:
            stored: what was seen before in the same run.
        """
        pods = [pod for pod in self.pods if not pod.deleting]
        failed = self.conditions.get("FailureTarget") or self.conditions.get("Failed")
        by_itself = failed is not None and failed.get("reason") != Reason.DEADLINE_EXCEEDED
        if not pods and (stored or not by_itself):
            return stored
        told = (self._problem_of(pod) for pod in sorted(pods or self.pods, key=lambda pod: -pod.created))
        return next((text for text in told if text), None)

    def _problem_of(self, pod: Pod) -> str:
        container = pod.container(main_container(self.job.spec.job.spec, Component.JOB_RUNNER))
        if not container.exit_code:
            return pod.problem.message if pod.problem else ""
        words = f": {container.termination_message}" if container.termination_message else ""
        text = f"exit code {container.exit_code} ({container.reason or 'Error'}){words}"
        return f"{pod.name}: the runner's container ended with {text}"[:LONGEST_MESSAGE]
