"""The model of a DaskCluster."""

from __future__ import annotations

from typing import Literal

from .shared import (
    CustomResource,
    Seconds,
    Status,
    TemplateMetadata,
    Value,
    VendoredPodSpec,
    VendoredServiceSpec,
    Worker,
)


class SchedulerUpdateStrategy(Value, frozen=True, kw_only=True):
    """What happens to the running scheduler when its template changes. All work is lost with a scheduler."""

    type: Literal["Recreate", "OnDelete"] = "Recreate"
    """`Recreate` replaces the scheduler at once; `OnDelete` waits until you delete its Pod."""


class Scheduler(Value, frozen=True, kw_only=True):
    """The scheduler Pod and its Service."""

    spec: VendoredPodSpec
    """PodSpec of the scheduler."""
    metadata: TemplateMetadata | None = None
    service: VendoredServiceSpec | None = None
    """ServiceSpec of `<cluster>-scheduler`. Omitted: a ClusterIP Service with the ports `tcp-comm` (8786) and
    `http-dashboard` (8787). The port `dask-gitops` (8788) is added to yours, too."""
    update_strategy: SchedulerUpdateStrategy | None = None
    eviction_policy: Literal["Block", "Allow"] | None = None
    """Whether the scheduler may be evicted, for example by `kubectl drain`. `Block`: a PodDisruptionBudget refuses it
    as long as the cluster runs. Omitted: `Block`."""


class DaskClusterSpec(Value, frozen=True, kw_only=True):
    """Desired state of a cluster."""

    scheduler: Scheduler
    worker: Worker
    """The default worker group, `<cluster>-default`."""
    idle_timeout: Seconds | None = None
    """Seconds without work after which `idleAction` is taken; 0 = never."""
    idle_action: Literal["Delete", "Suspend"] | None = None
    """What to do with an idle cluster: `Delete` it, or `Suspend` it by setting `suspend`, which your manifest must then
    leave out. Omitted: `Delete`."""
    suspend: bool | None = None
    """Take scheduler and workers down to zero and keep the resource."""


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


class DaskCluster(CustomResource, frozen=True, kw_only=True):
    """A scheduler, its Service and a default worker group."""

    spec: DaskClusterSpec
    status: DaskClusterStatus = DaskClusterStatus()
