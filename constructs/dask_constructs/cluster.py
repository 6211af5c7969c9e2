"""A cluster: its scheduler, its Service and its default group of workers."""

from __future__ import annotations

from typing import Required, Unpack, cast

from constructs import Construct

from dask_crds import names
from dask_crds.model import DaskClusterSpec, dump
from dask_crds.names import Port

from . import templates
from .autoscaler import DaskAutoscaler, ScalingOptions, autoscaler_of
from .options import ClusterOptions, PodOptions
from .pods import Pods
from .resource import DaskResource, Exact, Metadata, state_replicas
from .roles import SCHEDULER, WORKER
from .values import Text
from .worker_group import DaskWorkerGroup, WorkerGroupOptions


class ClusterProps(ClusterOptions, Metadata, total=False):
    """Keyword arguments of ``DaskCluster``."""

    image: Required[Text]
    """Container image with dask and distributed, for scheduler and workers."""
    suspend: bool | None
    """Take scheduler and workers away and keep the resource."""


class DaskCluster(DaskResource):
    """A scheduler, its Service and a default group of workers.

    >>> cluster = DaskCluster(chart, "c", name="analytics", image="ghcr.io/dask/dask:2026.8.0", cores=2, memory="8Gi")
    >>> cluster.add_worker_group("big", memory="64Gi", worker_resources={"BIG": 1})
    >>> cluster.autoscale(minimum=0, maximum=20)
    """

    KIND = "DaskCluster"
    LONGEST_NAME = names.MAX_CLUSTER_NAME
    ROLES = {SCHEDULER: "/spec/scheduler", WORKER: "/spec/worker"}

    def __init__(self, scope: Construct, id: str, **props: Unpack[ClusterProps]) -> None:
        """Declare it with the keyword arguments of ``ClusterProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, ClusterProps)
        spec = dump(templates.cluster_spec(options, suspend=options.get("suspend")))
        state_replicas(spec["worker"], options)
        self._declare(spec, options)
        shared = {name: value for name, value in options.items() if name in PodOptions.__annotations__}
        self._shared = cast("WorkerGroupOptions", shared)

    @property
    def scheduler(self) -> Pods:
        """The scheduler's Pod."""
        return self._pods(SCHEDULER)

    @property
    def workers(self) -> Pods:
        """The workers of the default group."""
        return self._pods(WORKER)

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
        self, id: str, *, image: str | None = None, **props: Unpack[WorkerGroupOptions]
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

    def autoscale(self, **options: Unpack[ScalingOptions]) -> DaskAutoscaler:
        """Let the default group follow the load, see ``ScalingOptions``."""
        return autoscaler_of(self, options)


class _ExactCluster(Exact, DaskCluster):
    _shared: WorkerGroupOptions = {}
