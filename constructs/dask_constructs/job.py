"""A program and the cluster that lives as long as it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from constructs import Construct

from dask_crds.model import DaskJobSpec, dump
from dask_resources.revision import revision

from . import templates
from .options import JobOptions
from .resource import DaskResource, Exact, Metadata, check_keywords, named, state_replicas


class JobProps(JobOptions, Metadata, total=False):
    """Keyword arguments of ``DaskJob``."""


class DaskJob(DaskResource):
    """A program that runs to completion beside its own cluster.

    >>> DaskJob(chart, "report", image="registry/report:1.4", command=["python", "-m", "report"], workers=8)

    Args:
        image: container image with dask and distributed, for runner, scheduler and workers.
        command: the program; ``distributed.Client()`` without arguments finds the cluster.
        run_once: append a hash of the spec to the name. Then a changed spec is another job, which a GitOps tool that
            prunes puts in the place of the old one, and nothing else makes it run again. To run the same job again
            instead, give it a new ``run_id``.
        props: see ``dask_constructs.options.JobOptions`` and ``Metadata``.
    """

    KIND = "DaskJob"

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        image: str,
        command: Sequence[str],
        run_once: bool = False,
        **props: Unpack[JobProps],
    ) -> None:
        check_keywords(props, JobProps)
        with named(scope, id):
            spec = dump(templates.job_spec(image, command, props))
        state_replicas(spec["cluster"]["spec"]["worker"], props)
        if run_once:
            props["name"] = f"{props.get('name', id)}-{revision(spec)}"
        super().__init__(scope, id, spec, props)

    @classmethod
    def from_spec(cls, scope: Construct, id: str, *, spec: DaskJobSpec, **metadata: Unpack[Metadata]) -> DaskJob:
        """A job exactly as ``spec`` says."""
        return _ExactJob(scope, id, spec, metadata)


class _ExactJob(Exact, DaskJob):
    pass
