"""The model of a DaskCluster."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .. import names
from .autoscaler import BOUNDS_RULE, Autoscaling
from .history import PLACE_RULE, Bundle, History
from .security import Certificate, Security
from .shared import (
    LABEL_KEYS,
    CustomResource,
    LabelValue,
    Seconds,
    Status,
    TemplateMetadata,
    Usage,
    Value,
    VendoredPodSpec,
    VendoredServiceSpec,
    Worker,
    WorkerTemplate,
    keyed_by,
    rule,
    rules,
)

#: Most further groups of a cluster. Each is kept in memory with its template, and rules may not cost too much.
MAX_WORKER_GROUPS = 32
#: Most labels in the template of a further group: the API server reckons with all of them in all groups.
MAX_GROUP_LABELS = 32


class SchedulerUpdateStrategy(Value, frozen=True, kw_only=True):
    """What happens to the running scheduler when its template changes. All work is lost with a scheduler."""

    DEFAULTS = {"type": "Recreate"}

    type: Literal["Recreate", "OnDelete"] | None = None
    """`Recreate` replaces the scheduler at once; `OnDelete` waits until you delete its Pod. Omitted: `Recreate`."""


class Scheduler(Value, frozen=True, kw_only=True):
    """The scheduler Pod and its Service."""

    spec: VendoredPodSpec
    """PodSpec of the scheduler."""
    metadata: TemplateMetadata | None = None
    service: VendoredServiceSpec | None = None
    """ServiceSpec of `<cluster>-scheduler`. Omitted: a ClusterIP Service with the ports `tcp-comm` (8786) and
    `http-dashboard` (8787). The port `dask-gitops` (8788) is added to yours, too. With TLS, `tcp-comm` is called
    `tls-comm`, and another `tcp-comm` (8789) is there for port-forwards alone."""
    service_metadata: TemplateMetadata | None = None
    update_strategy: SchedulerUpdateStrategy | None = None
    eviction_policy: Literal["Block", "Allow"] | None = None
    """Whether the scheduler may be evicted, for example by `kubectl drain`. `Block`: a PodDisruptionBudget refuses it
    as long as the cluster runs. Omitted: `Block`."""


_Autoscaling = Annotated[Autoscaling | None, Meta(extra_json_schema=rules(BOUNDS_RULE))]
#: What is wrong with that name for a further group.
DEFAULT_GROUP_IS_TAKEN = f"{names.DEFAULT_GROUP!r} is the group of spec.worker: give this one another name"
#: The size of a group is either stated or follows the load.
REPLICAS_RULE = rule(
    "!has(self.autoscaler) || !has(self.replicas)",
    "replicas must be left out where autoscaler decides the number of workers",
)


class GroupMetadata(TemplateMetadata, frozen=True, kw_only=True):
    """Labels and annotations for the objects made from the template of a further group."""

    labels: (
        Annotated[dict[str, LabelValue], Meta(extra_json_schema={"maxProperties": MAX_GROUP_LABELS, **LABEL_KEYS})]
        | None
    ) = None
    """Labels of the created objects, at most 32. They never become part of a selector."""


class WorkerGroup(WorkerTemplate, frozen=True, kw_only=True):
    """A further group of workers, which comes and goes with the cluster: with GPUs or more memory, say."""

    name: Annotated[
        str,
        Meta(
            extra_json_schema={
                "minLength": 1,
                "maxLength": names.MAX_GROUP_NAME - len("c-"),
                "pattern": f"^{names.DNS_LABEL}$",
                **rules(rule(f"self != '{names.DEFAULT_GROUP}'", DEFAULT_GROUP_IS_TAKEN)),
            }
        ),
    ]
    """Name within the cluster; that of its DaskWorkerGroup is `<cluster>-<name>`."""
    metadata: GroupMetadata | None = None
    autoscaler: _Autoscaling = None
    """Lets the group follow the load: a DaskAutoscaler of the group's name. Then leave `replicas` out."""


_WorkerGroup = Annotated[WorkerGroup, Meta(extra_json_schema=rules(REPLICAS_RULE))]


#: Clients are led elsewhere at the address of the Service; without one there is nothing to lead.
WAKE_NEEDS_ADDRESS = "OnConnect needs a Service with a cluster IP"
WAKE_RULE = rule(
    "!has(self.wake) || self.wake != 'OnConnect' || !has(self.scheduler.service) || "
    "((!has(self.scheduler.service.clusterIP) || self.scheduler.service.clusterIP != 'None') && "
    "(!has(self.scheduler.service.type) || self.scheduler.service.type != 'ExternalName'))",
    f"wake: {WAKE_NEEDS_ADDRESS}",
)


class DaskClusterSpec(Value, frozen=True, kw_only=True):
    """Desired state of a cluster."""

    scheduler: Scheduler
    worker: Worker
    """The default worker group, `<cluster>-default`."""
    autoscaler: _Autoscaling = None
    """Lets the default worker group follow the load: a DaskAutoscaler of the cluster's name. Then leave
    `worker.replicas` out."""
    worker_groups: (
        Annotated[list[_WorkerGroup], Meta(extra_json_schema={"maxItems": MAX_WORKER_GROUPS, **keyed_by("name")})]
        | None
    ) = None
    """Further worker groups. One that is left out again is removed, its workers drained."""
    idle_timeout: Seconds | None = None
    """Seconds without work after which `idleAction` is taken; 0 = never."""
    no_client_timeout: Seconds | None = None
    """Seconds without a connected client after which `idleAction` is taken, whatever is still running; 0 = never. They
    count from when the last client has left, or from the start of the scheduler. Workers are no clients."""
    idle_action: Literal["Delete", "Suspend"] | None = None
    """What to do with an idle cluster, or one without clients: `Delete` it, or `Suspend` it by setting `suspend`, which
    your manifest must then leave out. Omitted: `Delete`."""
    suspend: bool | None = None
    """Take scheduler and workers down to zero and keep the resource."""
    wake: Literal["Manual", "OnConnect"] | None = None
    """What ends a suspension. `OnConnect`: a client that connects to the scheduler's Service, as well; this needs the
    activator (`dist/activator`), and a Service with a cluster IP. Omitted: `Manual`, whoever sets `suspend`."""
    security: Security | None = None
    history: Annotated[History | None, Meta(extra_json_schema=rules(PLACE_RULE))] = None


class DaskClusterStatus(Status, frozen=True, kw_only=True):
    """Observed state of a cluster."""

    phase: Literal["Created", "Pending", "Running", "Error"] | None = None
    """For existing clients: `Running` means that scheduler, Service and default group exist. Whether they are ready is
    in the conditions."""
    replicas: int | None = None
    """Worker Pods of the default group."""
    ready_replicas: int | None = None
    """Ready worker Pods of the default group."""
    workers: str | None = None
    """Ready and wanted workers of all groups, as `ready/wanted`."""
    scheduler_address: str | None = None
    """Address for `distributed.Client` inside the cluster."""
    dashboard_address: str | None = None
    """URL of the dashboard inside the cluster."""
    scheduler_pod_uid: str | None = None
    """Uid of the scheduler Pod that was seen last."""
    certificate: Certificate | None = None
    usage: Usage | None = None
    bundle: Bundle | None = None


class DaskCluster(CustomResource, frozen=True, kw_only=True):
    """A scheduler, its Service and a default worker group."""

    spec: DaskClusterSpec
    status: DaskClusterStatus = DaskClusterStatus()
