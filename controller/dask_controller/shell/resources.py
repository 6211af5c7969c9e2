"""The kinds that the operator deals with, and its names at the API server."""

from __future__ import annotations

import importlib.metadata
from typing import NamedTuple

from dask_crds.names import FIELD_MANAGER, GROUP, STATUS_MANAGER, VERSION

from ..kube.api import ApiResource, Caller


class KindRow(NamedTuple):
    """See `ApiResource`."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True


RESOURCES: dict[str, ApiResource] = {
    row.kind: row
    for row in (
        KindRow("", "v1", "pods", "Pod"),
        KindRow("", "v1", "services", "Service"),
        KindRow("", "v1", "configmaps", "ConfigMap"),
        KindRow("", "v1", "events", "Event"),
        KindRow("apps", "v1", "deployments", "Deployment"),
        KindRow("apps", "v1", "replicasets", "ReplicaSet"),
        KindRow("batch", "v1", "jobs", "Job"),
        KindRow("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        KindRow("coordination.k8s.io", "v1", "leases", "Lease"),
        KindRow(GROUP, VERSION, "daskclusters", "DaskCluster"),
        KindRow(GROUP, VERSION, "daskworkergroups", "DaskWorkerGroup"),
        KindRow(GROUP, VERSION, "daskjobs", "DaskJob"),
        KindRow(GROUP, VERSION, "daskautoscalers", "DaskAutoscaler"),
        KindRow("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False),
    )
}

OPERATOR = Caller(
    kinds=RESOURCES,
    field_manager=FIELD_MANAGER,
    status_manager=STATUS_MANAGER,
    user_agent=f"{FIELD_MANAGER}/{importlib.metadata.version('dask-gitops')}",
)
