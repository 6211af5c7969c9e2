"""A cluster: its scheduler, its Service and its default group of workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Required, Unpack, cast

from constructs import Construct

from dask_crds import names
from dask_crds.model import DaskClusterSpec, dump
from dask_crds.names import Port

from . import templates
from .autoscaler import DaskAutoscaler, ScalingOptions, autoscaler_of
from .keywords import Options
from .options import ClusterOptions
from .resource import Exact, Metadata
from .roles import SCHEDULER, WORKER
from .service_ports import service_port
from .values import Text
from .with_scheduler import WithScheduler
from .worker_group import DaskWorkerGroup, WorkerGroupOptions


class ClusterProps(ClusterOptions, Metadata, total=False):
    """Keyword arguments of ``DaskCluster``."""

    image: Required[Text]
    """Container image with dask and distributed, for scheduler and workers."""
    suspend: bool | None
    """Take scheduler and workers away and keep the resource."""


class DaskCluster(WithScheduler):
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
        self._declare(_spec, options)

    @property
    def service_name(self) -> str:
        """Name of the scheduler's Service."""
        return names.scheduler(self.name)

    @property
    def dashboard_url(self) -> str:
        """URL of the dashboard from within the Kubernetes cluster."""
        return f"http://{self._host}:{service_port(self.scheduler_template(), Port.DASHBOARD).number}/status"

    @property
    def scheduler_address(self) -> str:
        """Address for ``distributed.Client`` from within the Kubernetes cluster."""
        scheme = "tls" if self.spec.get("security", {}).get("tls") else "tcp"
        return f"{scheme}://{self._host}:{service_port(self.scheduler_template(), Port.COMM).number}"

    @property
    def _host(self) -> str:
        return self.service_name if self.namespace is None else f"{self.service_name}.{self.namespace}"

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskClusterSpec | Mapping[str, Any], **metadata: Unpack[Metadata]
    ) -> DaskCluster:
        """A cluster exactly as ``spec`` says: a struct, or a mapping, which may be a whole manifest."""
        return _ExactCluster(scope, id, spec, metadata)

    def add_worker_group(
        self, id: str, *, image: str | None = None, **props: Unpack[WorkerGroupOptions]
    ) -> DaskWorkerGroup:
        """Add workers of another size or kind, named ``<cluster>-<id>`` unless ``name`` says otherwise.

        Image, namespace, environment, user and what else ``PodOptions`` has are the cluster's where left out.
        """
        image = image or self.spec["worker"]["spec"]["containers"][0].get("image", "")
        own = {"name": f"{self.name}-{id}", "namespace": self.namespace}
        inherited = cast("WorkerGroupOptions", {**self._shared, **own, **props})
        group = DaskWorkerGroup(self, id, cluster=self, image=image, **inherited)
        self._keep_off_spot(group._options.get("spot"))
        return group

    def autoscale(self, **options: Unpack[ScalingOptions]) -> DaskAutoscaler:
        """Let the default group follow the load, see ``ScalingOptions``."""
        return autoscaler_of(self, options)


def _spec(options: Options) -> dict[str, Any]:
    return dump(templates.cluster_spec(options, suspend=options.get("suspend")))


class _ExactCluster(Exact, DaskCluster):
    pass
