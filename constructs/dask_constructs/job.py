"""A program and the cluster that lives as long as it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Required, Unpack

from cdk8s import JsonPatch
from constructs import Construct
from msgspec import Meta

from dask_crds import names
from dask_crds.model import DaskJobSpec, dump
from dask_resources.revision import revision

from . import templates
from .autoscaler import ScalingOptions, stated_autoscaler
from .options import JobOptions, WorkerOptions
from .pods import Pods
from .resource import Exact, Metadata, state_replicas
from .roles import RUNNER, SCHEDULER, WORKER, Role
from .security import add_certificates
from .values import Text
from .with_scheduler import WithScheduler

_CLUSTER = "/spec/cluster/spec"


class ProgramProps(JobOptions, Metadata, total=False):
    """A program and its cluster, once or on a schedule."""

    image: Required[Text]
    """Container image with dask and distributed, for runner, scheduler and workers."""
    command: Required[Annotated[Sequence[str], Meta(min_length=1)]]
    """The program, as words; ``distributed.Client()`` without arguments finds the cluster."""


class JobProps(ProgramProps, total=False):
    """Keyword arguments of ``DaskJob``."""

    suspend: bool | None
    """Hold the runner and its cluster back."""
    run_once: bool | None
    """Append a hash of the spec to the name. Then a changed spec is another job, which a GitOps tool that prunes puts
    in the place of the old one, and nothing else makes it run again. To run the same job again instead, give it a new
    ``run_id``."""


class JobWorkerGroupOptions(WorkerOptions, total=False):
    """Keyword arguments of ``DaskJob.add_worker_group``."""

    image: Text | None
    """Container image with dask and distributed (default: that of the job's workers)."""


class DaskJob(WithScheduler):
    """A program that runs to completion beside its own cluster.

    >>> job = DaskJob(chart, "train", image="registry/train:1.4", command=["python", "-m", "train"], workers=8)
    >>> job.add_worker_group("gpu", gpus=1, workers=2)
    >>> job.autoscale("gpu", minimum=0, maximum=4)
    """

    KIND = "DaskJob"
    LONGEST_NAME = names.MAX_CLUSTER_NAME  # its cluster has the same name
    ROLES = {SCHEDULER: "/spec/cluster/spec/scheduler", WORKER: "/spec/cluster/spec/worker", RUNNER: "/spec/job"}

    def __init__(self, scope: Construct, id: str, **props: Unpack[JobProps]) -> None:
        """Declare it with the keyword arguments of ``JobProps``, where each is explained."""
        super().__init__(scope, id)
        accepted = self._accepted(props, JobProps)
        options = self._named(accepted, suffix="-" + revision("") if accepted.get("run_once") else "")
        spec = dump(templates.job_spec(options, suspend=options.get("suspend")))
        state_replicas(spec["cluster"]["spec"]["worker"], options)
        self._declare(spec, options, suffix=f"-{revision(spec)}" if options.get("run_once") else "")
        # Named without that hash, which is of their name, too.
        add_certificates(self, options.get("security"), options["name"], self.namespace)

    def add_worker_group(self, name: str, **options: Unpack[JobWorkerGroupOptions]) -> Pods:
        """Add workers of another size or kind, which start and end with the job; returns them, to be changed.

        Image, environment, user and what else ``PodOptions`` has are the job's where left out.

        Args:
            name: of the group; the operator calls it ``<job>-<name>``.
            options: see ``JobWorkerGroupOptions``.
        """
        self._refuse_late_changes()
        image = self.spec["cluster"]["spec"]["worker"]["spec"]["containers"][0].get("image", "")
        right = {"image": image, **self._shared, **self._accepted(options, JobWorkerGroupOptions)}
        group = {"name": name, **dump(templates.worker(right))}
        state_replicas(group, right)
        groups = [*self._stated_groups(), group]
        self._state("workerGroups", groups)
        return Pods(self, WORKER, f"{_CLUSTER}/workerGroups/{len(groups) - 1}", self._accepted)

    def autoscale(self, worker_group: str | None = None, **options: Unpack[ScalingOptions]) -> None:
        """Let a group of workers follow the load.

        Args:
            worker_group: as it was called by ``add_worker_group`` (default: the workers of the job itself).
            options: see ``ScalingOptions``.
        """
        self._refuse_late_changes()
        autoscaler = stated_autoscaler(self._accepted(options, ScalingOptions))
        if worker_group is None:
            self._state("autoscaler", autoscaler)
            return
        groups = self._stated_groups()
        if worker_group not in [group["name"] for group in groups]:
            raise ValueError(f"there is no group {worker_group!r}: call add_worker_group first")
        named = ({**group, "autoscaler": autoscaler} if group["name"] == worker_group else group for group in groups)
        self._state("workerGroups", list(named))

    def _stated_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self.api_object.to_json()["spec"]["cluster"]["spec"].get("workerGroups", [])
        return groups

    def _state(self, field: str, value: Any) -> None:
        self.api_object.add_json_patch(JsonPatch.add(f"{_CLUSTER}/{field}", value))

    def _pods(self, role: Role) -> Pods:
        self._refuse_late_changes()
        return super()._pods(role)

    def _refuse_late_changes(self) -> None:
        if self._options.get("run_once"):
            raise ValueError("run_once: the name ends in a hash of what the constructor was told: tell it this as well")

    @property
    def runner(self) -> Pods:
        """The Pod that runs the program."""
        return self._pods(RUNNER)

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskJobSpec | Mapping[str, Any], **metadata: Unpack[Metadata]
    ) -> DaskJob:
        """A job exactly as ``spec`` says: a struct, or a mapping, which may be a whole manifest."""
        return _ExactJob(scope, id, spec, metadata)


class _ExactJob(Exact, DaskJob):
    pass
