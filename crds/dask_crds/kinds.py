"""What a kind is, one row each: our own, and those of Kubernetes that the operator deals with.

CRDs, permissions, policies, the reference page and the operator's client all take plurals, groups and the like from
here; a plural is never guessed from a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import names
from .model import DaskAutoscaler, DaskCluster, DaskJob, DaskObject, DaskWorkerGroup
from .model.autoscaler import BOUNDS_RULE
from .model.cluster import WAKE_RULE
from .model.shared import CLUSTER_NAME, rule


@dataclass(frozen=True)
class ApiResource:
    """A kind, and where the API server keeps its objects."""

    group: str  #: empty for Kubernetes' core group
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``apiVersion`` of its manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, kw_only=True)
class DaskKind(ApiResource):
    """One of our kinds, with what its CustomResourceDefinition says beside the schema of its model."""

    group: str = names.GROUP
    version: str = names.VERSION
    model: type[DaskObject]
    short_names: tuple[str, ...]
    columns: tuple[Mapping[str, Any], ...]  #: of ``kubectl get``
    scale: Mapping[str, str] | None = None  #: paths of the subresource, for kinds that have it; all have ``status``
    rules: tuple[Mapping[str, str], ...] = ()  #: CEL rules about the whole object
    spec_rules: tuple[Mapping[str, str], ...] = ()
    #: What a new resource says of itself before anybody has looked at it, besides an ``observedGeneration`` that is not
    #: its own (without it, Flux calls it ready). Clients, which look at nothing else, read the words of the existing
    #: operator as soon as there is a status at all.
    first_status: Mapping[str, str] = field(default_factory=dict)


def _column(name: str, path: str, type_: str = "string", priority: int = 0) -> dict[str, Any]:
    return {"name": name, "type": type_, "jsonPath": path} | ({"priority": priority} if priority else {})


_AGE = _column("Age", ".metadata.creationTimestamp", "date")
_READY = '.status.conditions[?(@.type=="Ready")]'
_REASON = _column("Reason", f"{_READY}.reason")
_SCALE = {"specReplicasPath": ".spec.worker.replicas", "statusReplicasPath": ".status.replicas"}
_CLUSTER_NAME = (
    rule(
        f"size(self.metadata.name) <= {names.MAX_CLUSTER_NAME}",
        f"the name must have at most {names.MAX_CLUSTER_NAME} characters: the Service is named <name>-scheduler",
    ),
    rule(
        f"self.metadata.name.matches('^{CLUSTER_NAME}$')",
        "the name must be a DNS label that starts with a letter (a-z, 0-9, -): the Service is named after it",
    ),
)


def _cluster_rules(spec: str) -> tuple[dict[str, str], ...]:
    """Rules about an object whose cluster's ``spec`` is at ``self.<spec>``."""
    group = f"size(self.metadata.name) + 1 + size(group.name) <= {names.MAX_GROUP_NAME}"
    return (
        *_CLUSTER_NAME,
        rule(
            f"!has(self.{spec}.workerGroups) || self.{spec}.workerGroups.all(group, {group})",
            f"{spec}.workerGroups: <name of the cluster>-<name of the group> must have at most "
            f"{names.MAX_GROUP_NAME} characters: it is a label of the workers",
        ),
        rule(
            f"!has(self.{spec}.autoscaler) || !has(self.{spec}.worker.replicas) || self.{spec}.worker.replicas == 1",
            f"{spec}.worker.replicas must be left out where {spec}.autoscaler decides the number of workers",
        ),
    )


_CLUSTER = DaskKind(
    plural="daskclusters",
    kind="DaskCluster",
    model=DaskCluster,
    short_names=("dsk",),
    scale=_SCALE,
    columns=(
        _column("Workers", ".status.workers"),
        _column("Ready", f"{_READY}.status"),
        _column("Status", f"{_READY}.reason"),
        _column("Phase", ".status.phase", priority=1),  # `Running` says no more than that all of it exists
        _column("Scheduler", ".status.schedulerAddress", priority=1),
        _column("Dashboard", ".status.dashboardAddress", priority=1),
        _AGE,
    ),
    rules=_cluster_rules("spec"),
    spec_rules=(WAKE_RULE,),
    first_status={"phase": "Created"},
)
_WORKER_GROUP = DaskKind(
    plural="daskworkergroups",
    kind="DaskWorkerGroup",
    model=DaskWorkerGroup,
    short_names=("daskworkers", "dwg"),
    scale={**_SCALE, "labelSelectorPath": ".status.selector"},
    columns=(
        _column("Cluster", ".spec.cluster"),
        _column("Desired", ".status.desiredReplicas", "integer"),
        _column("Ready", ".status.readyReplicas", "integer"),
        _column("Updated", ".status.updatedReplicas", "integer"),
        _REASON,
        _column("Autoscaler", ".status.autoscaler", priority=1),
        _AGE,
    ),
    rules=(
        rule(
            f"size(self.metadata.name) <= {names.MAX_GROUP_NAME}",
            f"the name must have at most {names.MAX_GROUP_NAME} characters: it is a label of the workers",
        ),
    ),
)
_JOB = DaskKind(
    plural="daskjobs",
    kind="DaskJob",
    model=DaskJob,
    short_names=("djb",),
    columns=(
        _column("Status", ".status.jobStatus"),
        _column("Percent", ".status.progress.percent", "integer"),
        _REASON,
        _column("Runner", ".status.jobRunnerPodName", priority=1),
        _column("Started", ".status.startTime", "date"),
        _column("Ended", ".status.endTime", "date"),
        _AGE,
    ),
    rules=_cluster_rules("spec.cluster.spec"),  # its cluster has the same name
    spec_rules=(
        rule(
            "!has(self.podFailurePolicy) || !has(self.job.spec.restartPolicy) || "
            "self.job.spec.restartPolicy == 'Never'",
            "podFailurePolicy needs restartPolicy Never of the runner",
        ),
    ),
    first_status={"jobStatus": "JobCreated"},
)
_AUTOSCALER = DaskKind(
    plural="daskautoscalers",
    kind="DaskAutoscaler",
    model=DaskAutoscaler,
    short_names=("das",),
    columns=(
        _column("Cluster", ".spec.cluster"),
        _column("Minimum", ".spec.minimum", "integer"),
        _column("Maximum", ".spec.maximum", "integer"),
        _column("Desired", ".status.desiredReplicas", "integer"),
        _REASON,
        _AGE,
    ),
    spec_rules=(BOUNDS_RULE,),
)

#: Our kinds by name.
DASK_KINDS: dict[str, DaskKind] = {row.kind: row for row in (_CLUSTER, _WORKER_GROUP, _JOB, _AUTOSCALER)}

#: All kinds that the operator deals with, ours among them, by name.
RESOURCES: dict[str, ApiResource] = {
    row.kind: row
    for row in (
        ApiResource("", "v1", "pods", "Pod"),
        ApiResource("", "v1", "services", "Service"),
        ApiResource("", "v1", "configmaps", "ConfigMap"),
        ApiResource("", "v1", "secrets", "Secret"),
        ApiResource("", "v1", "events", "Event"),
        ApiResource("apps", "v1", "deployments", "Deployment"),
        ApiResource("apps", "v1", "replicasets", "ReplicaSet"),
        ApiResource("batch", "v1", "jobs", "Job"),
        ApiResource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        ApiResource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
        ApiResource("coordination.k8s.io", "v1", "leases", "Lease"),
        *DASK_KINDS.values(),
        ApiResource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False),
    )
}

#: Those of Kueue, which few clusters have. https://kueue.sigs.k8s.io/docs/concepts/
KUEUE_GROUP, KUEUE_VERSION = "kueue.x-k8s.io", "v1beta2"
QUEUES: dict[str, ApiResource] = {
    row.kind: row
    for row in (
        ApiResource(KUEUE_GROUP, KUEUE_VERSION, "workloads", "Workload"),
        ApiResource(KUEUE_GROUP, KUEUE_VERSION, "resourceflavors", "ResourceFlavor", False),
        ApiResource(KUEUE_GROUP, KUEUE_VERSION, "workloadpriorityclasses", "WorkloadPriorityClass", False),
    )
}

#: What Kueue tells of those that wait, if it is asked. https://kueue.sigs.k8s.io/docs/tasks/manage/monitor_pending_workloads/
VISIBILITY: dict[str, ApiResource] = {
    "LocalQueue": ApiResource(f"visibility.{KUEUE_GROUP}", "v1beta2", "localqueues", "LocalQueue"),
}

#: What the API server is asked about others; it keeps none of them.
REVIEWS: dict[str, ApiResource] = {
    row.kind: row
    for row in (
        ApiResource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", False),
        ApiResource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False),
    )
}
