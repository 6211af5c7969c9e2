"""Further workers of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from constructs import Construct

from dask_crds import names
from dask_crds.model import DaskWorkerGroupSpec, dump

from . import templates
from .autoscaler import DaskAutoscaler, autoscaler_of
from .options import WorkerOptions
from .resource import DaskResource, Exact, Metadata, check_keywords, name_of, named, state_replicas

if TYPE_CHECKING:
    from .cluster import DaskCluster


class WorkerGroupProps(WorkerOptions, Metadata, total=False):
    """Keyword arguments of ``DaskWorkerGroup``."""


class DaskWorkerGroup(DaskResource):
    """Further workers for a cluster, of their own size and kind.

    Args:
        cluster: the cluster that they join, or its name.
        image: container image with dask and distributed.
        props: see ``dask_constructs.options.WorkerOptions`` and ``Metadata``.
    """

    KIND = "DaskWorkerGroup"

    def __init__(
        self, scope: Construct, id: str, *, cluster: DaskCluster | str, image: str, **props: Unpack[WorkerGroupProps]
    ) -> None:
        check_keywords(props, WorkerGroupProps)
        with named(scope, id):
            spec = dump(DaskWorkerGroupSpec(cluster=name_of(cluster), worker=templates.worker(image, props)))
        state_replicas(spec["worker"], props)
        super().__init__(scope, id, spec, props)

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskWorkerGroupSpec, **metadata: Unpack[Metadata]
    ) -> DaskWorkerGroup:
        """A worker group exactly as ``spec`` says."""
        return _ExactWorkerGroup(scope, id, spec, metadata)

    def problems(self) -> list[str]:
        """What is wrong with the manifest; besides what is wrong with any, the name may be taken."""
        found, cluster = super().problems(), self.spec["cluster"]
        if self.name == names.default_group(cluster):
            found.append(f"metadata.name: {self.name!r} is the default group of {cluster!r}")
        return found

    def autoscale(
        self,
        *,
        minimum: int = 0,
        maximum: int | None = None,
        scale_up_window: int | None = None,
        scale_down_window: int | None = None,
    ) -> DaskAutoscaler:
        """Let the group follow the load, see ``DaskAutoscaler``."""
        return autoscaler_of(self, minimum, maximum, scale_up_window, scale_down_window, worker_group=self)


class _ExactWorkerGroup(Exact, DaskWorkerGroup):
    pass
