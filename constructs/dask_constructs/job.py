"""A program and the cluster that lives as long as it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Required, Unpack

from constructs import Construct
from msgspec import Meta

from dask_crds import names
from dask_crds.model import DaskJobSpec, dump
from dask_resources.revision import revision

from . import templates
from .expose import DaskExposure, ExposeOptions, exposed
from .options import JobOptions
from .resource import DaskResource, Exact, Metadata, state_replicas
from .values import Text


class ProgramProps(JobOptions, Metadata, total=False):
    """A program and its cluster, once or on a schedule."""

    image: Required[Text]
    """Container image with dask and distributed, for runner, scheduler and workers."""
    command: Required[Annotated[Sequence[str], Meta(min_length=1)]]
    """The program, as words; ``distributed.Client()`` without arguments finds the cluster."""


class JobProps(ProgramProps, total=False):
    """Keyword arguments of ``DaskJob``."""

    run_once: bool | None
    """Append a hash of the spec to the name. Then a changed spec is another job, which a GitOps tool that prunes puts
    in the place of the old one, and nothing else makes it run again. To run the same job again instead, give it a new
    ``run_id``."""


class DaskJob(DaskResource):
    """A program that runs to completion beside its own cluster.

    >>> DaskJob(chart, "report", image="registry/report:1.4", command=["python", "-m", "report"], workers=8)

    Args:
        props: see ``JobProps``.
    """

    KIND = "DaskJob"
    LONGEST_NAME = names.MAX_CLUSTER_NAME  # its cluster has the same name

    def __init__(self, scope: Construct, id: str, **props: Unpack[JobProps]) -> None:
        super().__init__(scope, id)
        options = self._accepted(props, JobProps)
        spec = dump(templates.job_spec(options))
        state_replicas(spec["cluster"]["spec"]["worker"], options)
        self._declare(spec, options, suffix=f"-{revision(spec)}" if options.get("run_once") else "")

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskJobSpec | Mapping[str, Any], **metadata: Unpack[Metadata]
    ) -> DaskJob:
        """A job exactly as ``spec`` says: a struct, or a mapping, which may be a whole manifest."""
        return _ExactJob(scope, id, spec, metadata)

    def expose(self, id: str = "dashboard", **options: Unpack[ExposeOptions]) -> DaskExposure:
        """Publish the dashboard by an Ingress or a HTTPRoute, named ``<job>-<id>``, see ``ExposeOptions``."""
        return exposed(self, id, options)


class _ExactJob(Exact, DaskJob):
    pass
