"""A program and the cluster that lives as long as it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Required, Unpack

from constructs import Construct
from msgspec import Meta

from dask_crds import names
from dask_crds.model import DaskJobSpec, dump
from dask_resources.revision import revision

from . import templates
from .options import JobOptions
from .pods import Pods
from .resource import DaskResource, Exact, Metadata, state_replicas
from .roles import RUNNER, SCHEDULER, WORKER, Role
from .values import Text


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


class DaskJob(DaskResource):
    """A program that runs to completion beside its own cluster.

    >>> DaskJob(chart, "report", image="registry/report:1.4", command=["python", "-m", "report"], workers=8)
    """

    KIND = "DaskJob"
    LONGEST_NAME = names.MAX_CLUSTER_NAME  # its cluster has the same name
    ROLES = {SCHEDULER: "/spec/cluster/spec/scheduler", WORKER: "/spec/cluster/spec/worker", RUNNER: "/spec/job"}

    def __init__(self, scope: Construct, id: str, **props: Unpack[JobProps]) -> None:
        """Declare it with the keyword arguments of ``JobProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, JobProps)
        spec = dump(templates.job_spec(options, suspend=options.get("suspend")))
        state_replicas(spec["cluster"]["spec"]["worker"], options)
        self._declare(spec, options, suffix=f"-{revision(spec)}" if options.get("run_once") else "")

    def _pods(self, role: Role) -> Pods:
        if self._options.get("run_once"):
            raise ValueError("run_once: the name ends in a hash of what the constructor was told: tell it this as well")
        return super()._pods(role)

    @property
    def scheduler(self) -> Pods:
        """The scheduler's Pod."""
        return self._pods(SCHEDULER)

    @property
    def workers(self) -> Pods:
        """The workers."""
        return self._pods(WORKER)

    @property
    def runner(self) -> Pods:
        """The Pod that runs the program."""
        return self._pods(RUNNER)

    @classmethod
    def from_spec(cls, scope: Construct, id: str, *, spec: DaskJobSpec, **metadata: Unpack[Metadata]) -> DaskJob:
        """A job exactly as ``spec`` says."""
        return _ExactJob(scope, id, spec, metadata)


class _ExactJob(Exact, DaskJob):
    pass
