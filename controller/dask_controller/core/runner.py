"""The runner of a run: its Job, who holds that, and how its Pods have ended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from dask_crds import names
from dask_crds.model import DaskJob
from dask_crds.reasons import Reason
from dask_resources.pod import main_container

from .conditions import is_true
from .ownership import SUSPEND, annotation, set_by
from .pod import LONGEST_MESSAGE, Manifest, Pod
from .time import Time, time_or

#: Conditions of a Job that say how it ends; the last two are there while its Pods are still ending.
_DECISIONS = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")


@dataclass(frozen=True)
class Runner:
    """A runner as it is at one moment."""

    kind: ClassVar[str] = "Job"

    job: DaskJob
    manifest: Manifest  #: of the batch/v1 Job
    pods: tuple[Pod, ...] = ()  #: those whose controller is that Job

    @property
    def metadata(self) -> Manifest:
        """``metadata`` of the Job."""
        metadata: Manifest = self.manifest["metadata"]
        return metadata

    @property
    def namespace(self) -> str:
        """The job's namespace."""
        return self.job.namespace

    @property
    def name(self) -> str:
        """Name of the Job."""
        return names.runner(self.job.name)

    @property
    def uid(self) -> str:
        """Uid of the Job."""
        return str(self.metadata["uid"])

    @cached_property
    def status(self) -> Manifest:
        """``status`` of the Job."""
        return self.manifest.get("status") or {}

    @property
    def started_for(self) -> str:
        """The life of the scheduler that it was started for, see `Run.scheduler_life`."""
        return annotation(self.metadata, names.SCHEDULER_ID)

    @property
    def failures(self) -> int:
        """Pods that have failed."""
        return self.status.get("failed") or 0

    def condition(self, type: str) -> Manifest | None:
        """The condition of that type, if it is True."""
        conditions = self.status.get("conditions") or []
        return next((c for c in conditions if c["type"] == type and c["status"] == "True"), None)

    @cached_property
    def is_finished(self) -> bool:
        """Whether the Job has ended, well or not."""
        return any(self.condition(type) for type in ("Complete", "Failed"))

    @cached_property
    def is_decided(self) -> bool:
        """Whether it is clear how it ends; the Job is finished only once all its Pods have ended."""
        return any(self.condition(type) for type in _DECISIONS) or any(p.phase == "Succeeded" for p in self.pods)

    # --- who holds it -------------------------------------------------------------------------------------------------
    # Queues suspend Jobs until it is their turn. What the operator has not suspended it does not resume.

    @property
    def is_suspended(self) -> bool:
        """Whether the Job is suspended."""
        return bool(self.manifest["spec"].get("suspend"))

    @property
    def note(self) -> str:
        """The operator's note that it has suspended the Job itself, and when; empty without one."""
        return annotation(self.metadata, names.SUSPENDED)

    @property
    def suspended_at(self) -> Time | None:
        """When the operator suspended it last; ``None`` if it has not since the job was resumed."""
        return time_or(self.note, 0.0) or None

    @cached_property
    def holder(self) -> str:
        """Who else has set ``spec.suspend``, as far as is known."""
        return next((m for m in set_by(self.metadata, *SUSPEND) if m and m != names.FIELD_MANAGER), "")

    @cached_property
    def is_held(self) -> bool:
        """Whether somebody else has suspended it."""
        ours = self.note and not self.holder
        return self.is_suspended and not ours and not self.is_adopted

    @cached_property
    def is_adopted(self) -> bool:
        """Whether an earlier release of the operator suspended it, which left no note.

        The API server knows that the operator was the last to set the field, and that it has changed since the Job was
        made: what others change in the request that makes it counts as ours.
        """
        if not self.is_suspended or self.note:
            return False
        was_suspended = self.job.spec.suspend or is_true(self.job.status.conditions, "Suspended")
        ours = set(set_by(self.metadata, *SUSPEND)) == {names.FIELD_MANAGER} and self.metadata.get("generation", 1) > 1
        return bool(was_suspended and ours)

    # --- its Pods -----------------------------------------------------------------------------------------------------

    @cached_property
    def newest(self) -> Pod | None:
        """The present Pod, else the last one."""
        return max(self.pods, key=lambda p: (not p.deleting, not p.is_finished, p.created), default=None)

    @cached_property
    def lacks_pod(self) -> bool:
        """Whether Kubernetes should make a Pod, and there is none."""
        if self.is_suspended or self.metadata.get("deletionTimestamp"):
            return False
        return not self.is_decided and all(pod.is_finished for pod in self.pods)

    @property
    def refusals_count_from(self) -> Time | None:
        """Since when events may tell why a Pod is lacking: what was before the last Pod is no news.

        ``None`` where none is lacking, or Kubernetes has not tried yet.
        """
        started = self.status.get("startTime")
        if not self.lacks_pod or started is None:
            return None
        return max(time_or(started, 0.0), *(pod.created + 1 for pod in self.pods), 0.0)

    def last_problem(self, stored: str | None) -> str | None:
        """How its container ended last, if not well, or what keeps it from starting.

        A Pod that is being deleted ends by being killed, which says nothing about the program. So while there is no
        other, what was seen before stands.

        Args:
            stored: what was seen before in the same run.
        """
        pods = [pod for pod in self.pods if not pod.deleting]
        failed = self.condition("FailureTarget") or self.condition("Failed")
        by_itself = failed is not None and failed.get("reason") != Reason.DEADLINE_EXCEEDED
        if not pods and (stored or not by_itself):
            return stored
        told = (self._problem_of(pod) for pod in sorted(pods or self.pods, key=lambda pod: -pod.created))
        return next((text for text in told if text), None)

    def _problem_of(self, pod: Pod) -> str:
        container = pod.container(main_container(self.job.spec.job.spec, names.JOB_RUNNER))
        if not container.exit_code:
            return pod.problem.message if pod.problem else ""
        words = f": {container.termination_message}" if container.termination_message else ""
        text = f"exit code {container.exit_code} ({container.reason or 'Error'}){words}"
        return f"{pod.name}: the runner's container ended with {text}"[:LONGEST_MESSAGE]
