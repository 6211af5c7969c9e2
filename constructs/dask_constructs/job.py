"""A program and the cluster that lives as long as it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Required, Unpack

from cdk8s import JsonPatch
from constructs import Construct
from msgspec import Meta

from dask_crds import names
from dask_crds.model import DaskJobSpec, dump
from dask_resources.revision import revision

from . import templates
from .autoscaler import ScalingOptions, stated_autoscaler
from .keywords import Options
from .options import JobOptions, WorkerOptions
from .origins import Call, Manifest
from .pods import Pods
from .resource import Exact, Metadata
from .roles import RUNNER, SCHEDULER, WORKER, Role
from .values import Text
from .with_scheduler import WithScheduler

_CLUSTER = "/spec/cluster/spec"
Groups = list[dict[str, Any]]


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
    >>> job.add_worker_group("gpu", gpus=1)
    >>> job.autoscale("gpu", minimum=0, maximum=4)
    """

    KIND = "DaskJob"
    LONGEST_NAME = names.MAX_CLUSTER_NAME  # its cluster has the same name
    ROLES = {SCHEDULER: "/spec/cluster/spec/scheduler", WORKER: "/spec/cluster/spec/worker", RUNNER: "/spec/job"}

    def __init__(self, scope: Construct, id: str, **props: Unpack[JobProps]) -> None:
        """Declare it with the keyword arguments of ``JobProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, JobProps)
        self._declare(_spec, options)

    def _suffix(self, spec: Mapping[str, Any]) -> str:
        return f"-{revision(spec)}" if self._options.get("run_once") else ""

    def add_worker_group(self, name: str, **options: Unpack[JobWorkerGroupOptions]) -> Pods:
        """Add workers of another size or kind, which start and end with the job; returns them, to be changed.

        Image, environment, user and what else ``PodOptions`` has are the job's where left out.

        Args:
            name: of the group; the operator calls it ``<job>-<name>``.
            options: see ``JobWorkerGroupOptions``.
        """
        image = self.spec["cluster"]["spec"]["worker"]["spec"]["containers"][0].get("image", "")
        inherited = {"image": image, **self._shared}

        def groups(before: Groups, options: Options) -> Groups:
            return [*before, {"name": name, **dump(templates.worker({**inherited, **options}))}]

        right = self._accepted(options, JobWorkerGroupOptions)
        self._keep_off_spot(right.get("spot"))
        written = self._state("workerGroups", right, groups)
        return Pods(self, WORKER, f"{_CLUSTER}/workerGroups/{len(written) - 1}", self._accepted)

    def autoscale(self, worker_group: str | None = None, **options: Unpack[ScalingOptions]) -> None:
        """Let a group of workers follow the load.

        Args:
            worker_group: as it was called by ``add_worker_group`` (default: the workers of the job itself).
            options: see ``ScalingOptions``.
        """
        right = self._accepted(options, ScalingOptions)
        if worker_group is None:
            self._state("autoscaler", right, lambda _, options: stated_autoscaler(options))
            return

        def groups(before: Groups, options: Options) -> Groups:
            if worker_group not in [group["name"] for group in before]:
                raise ValueError(f"there is no group {worker_group!r}: call add_worker_group first")
            scaled = {"autoscaler": stated_autoscaler(options)}
            return [{**group, **scaled} if group["name"] == worker_group else group for group in before]

        self._state("workerGroups", right, groups)

    def _state(self, field: str, options: Options, value: Callable[[Groups, Options], Any]) -> Any:
        """State a field of the cluster, made of its groups so far and of keyword arguments; returns what is written."""
        self._refuse_late_changes()

        def make(manifest: Manifest, options: Options) -> Manifest:
            spec = manifest["spec"]
            cluster = spec["cluster"]["spec"]
            stated = {**cluster, field: value(cluster.get("workerGroups", []), options)}
            return {**manifest, "spec": {**spec, "cluster": {**spec["cluster"], "spec": stated}}}

        written = make(self.api_object.to_json(), options)["spec"]["cluster"]["spec"][field]
        self.api_object.add_json_patch(JsonPatch.add(f"{_CLUSTER}/{field}", written))
        self._calls.append(Call(options, make))
        return written

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


def _spec(options: Options) -> dict[str, Any]:
    return dump(templates.job_spec(options, suspend=options.get("suspend")))


class _ExactJob(Exact, DaskJob):
    pass
