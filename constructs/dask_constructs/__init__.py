"""Dask on Kubernetes as cdk8s constructs.

>>> class Analytics(Chart):
...     def __init__(self, scope: Construct, id: str) -> None:
...         super().__init__(scope, id, namespace="analytics")
...         cluster = DaskCluster(self, "cluster", name="analytics", image="ghcr.io/dask/dask:2026.8.0", memory="8Gi")
...         cluster.autoscale(minimum=0, maximum=20)

Each kind has a short form (an image and a size) and an exact one (``from_spec``, typed structs of
``dask_crds.model``). Mistakes are reported at synth, all at once, each with the construct's path and the field.
"""

from ._node import provide_node

provide_node()  # before anything imports cdk8s, which starts Node.js

from .activator import DaskActivator  # noqa: E402
from .argocd import ArgoCDApplications, ArgoCDSettings, ArgoCDTenant  # noqa: E402
from .autoscaler import DaskAutoscaler  # noqa: E402
from .cluster import DaskCluster  # noqa: E402
from .cluster_template import DaskClusterTemplate  # noqa: E402
from .cron_job import DaskCronJob  # noqa: E402
from .expose import DaskExposure  # noqa: E402
from .flux import FluxKustomizations, FluxTenant  # noqa: E402
from .guardrails import DaskGuardrails  # noqa: E402
from .history import History  # noqa: E402
from .job import DaskJob  # noqa: E402
from .manifest import problems  # noqa: E402
from .monitoring.construct import DaskClusterMonitor, DaskMonitoring  # noqa: E402
from .network import DaskNetworkPolicy  # noqa: E402
from .operator import DaskCustomResourceDefinitions, DaskOperator  # noqa: E402
from .policy import DaskAdmissionPolicy  # noqa: E402
from .queue import ClusterQueue, LocalQueue, ResourceFlavor  # noqa: E402
from .resource import DaskResource  # noqa: E402
from .security import Tls  # noqa: E402
from .source import Source  # noqa: E402
from .tenant import DaskTenant  # noqa: E402
from .volumes import Volume  # noqa: E402
from .worker_group import DaskWorkerGroup  # noqa: E402

__all__ = [
    "ArgoCDApplications",
    "ArgoCDSettings",
    "ArgoCDTenant",
    "ClusterQueue",
    "DaskActivator",
    "DaskAdmissionPolicy",
    "DaskAutoscaler",
    "DaskCluster",
    "DaskClusterMonitor",
    "DaskClusterTemplate",
    "DaskCronJob",
    "DaskCustomResourceDefinitions",
    "DaskExposure",
    "DaskGuardrails",
    "DaskJob",
    "DaskMonitoring",
    "DaskNetworkPolicy",
    "DaskOperator",
    "DaskResource",
    "DaskTenant",
    "DaskWorkerGroup",
    "FluxKustomizations",
    "FluxTenant",
    "History",
    "LocalQueue",
    "ResourceFlavor",
    "Source",
    "Tls",
    "Volume",
    "problems",
]
