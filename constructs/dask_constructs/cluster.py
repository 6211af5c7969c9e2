"""A cluster: its scheduler, its Service and its default group of workers."""

from __future__ import annotations

from typing import Unpack, cast

from constructs import Construct

from dask_crds import names
from dask_crds.model import DaskClusterSpec, dump
from dask_crds.names import Port

from . import templates
from .autoscaler import DaskAutoscaler, autoscaler_of
from .options import ClusterOptions, PodOptions
from .resource import DaskResource, Exact, Metadata, check_keywords, named, state_replicas
from .worker_group import DaskWorkerGroup, WorkerGroupProps


class ClusterProps(ClusterOptions, Metadata, total=False):
    """Keyword arguments of ``DaskCluster``."""


class DaskCluster(DaskResource):
    """A scheduler, its Service and a default group of workers.

    >>> cluster = DaskCluster(chart, "c", name="analytics", image="ghcr.io/dask/dask:2026.8.0", cores=2, memory="8Gi")
    >>> cluster.add_worker_group("big", memory="64Gi", worker_resources={"BIG": 1})
    >>> cluster.autoscale(minimum=0, maximum=20)

    Args:
        image: container image with dask and distributed, for scheduler and workers.
        props: see ``dask_constructs.options.ClusterOptions`` and ``Metadata``.
    """

    KIND = "DaskCluster"

    def __init__(self, scope: Construct, id: str, *, image: str, **props: Unpack[ClusterProps]) -> None:
        check_keywords(props, ClusterProps)
        with named(scope, id):
            spec = dump(templates.cluster_spec(image, props))
        state_replicas(spec["worker"], props)
        super().__init__(scope, id, spec, props)
        shared = {name: value for name, value in props.items() if name in PodOptions.__annotations__}
        self._shared = cast("WorkerGroupProps", shared)

    @property
    def scheduler_address(self) -> str:
        """Address for ``distributed.Client`` from within the Kubernetes cluster."""
        service = names.scheduler(self.name)
        host = service if self.namespace is None else f"{service}.{self.namespace}"
        return f"tcp://{host}:{Port.COMM.number}"

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskClusterSpec, **metadata: Unpack[Metadata]
    ) -> DaskCluster:
        """A cluster exactly as ``spec`` says."""
        return _ExactCluster(scope, id, spec, metadata)

    def add_worker_group(
        self, id: str, *, image: str | None = None, **props: Unpack[WorkerGroupProps]
    ) -> DaskWorkerGroup:
        """Add workers of another size or kind, named ``<cluster>-<id>`` unless ``name`` says otherwise.

        Image, namespace, environment, user and what else ``PodOptions`` has are the cluster's where left out.
        """
        image = image or self.spec["worker"]["spec"]["containers"][0].get("image", "")
        inherited = self._shared.copy()
        inherited["name"] = f"{self.name}-{id}"
        if self.namespace is not None:
            inherited["namespace"] = self.namespace
        inherited.update(props)
        return DaskWorkerGroup(self, id, cluster=self, image=image, **inherited)

    def autoscale(
        self,
        *,
        minimum: int = 0,
        maximum: int | None = None,
        scale_up_window: int | None = None,
        scale_down_window: int | None = None,
    ) -> DaskAutoscaler:
        """Let the default group follow the load, see ``DaskAutoscaler``."""
        return autoscaler_of(self, minimum, maximum, scale_up_window, scale_down_window)


class _ExactCluster(Exact, DaskCluster):
    _shared: WorkerGroupProps = {}
