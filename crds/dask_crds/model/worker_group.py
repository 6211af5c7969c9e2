"""The model of a DaskWorkerGroup."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .shared import ClusterName, CustomResource, Status, Time, Usage, Value, Worker, keyed_by, rule, rules


class DaskWorkerGroupSpec(Value, frozen=True, kw_only=True):
    """Desired state of a worker group."""

    cluster: Annotated[
        ClusterName,
        Meta(extra_json_schema=rules(rule("self == oldSelf", "a worker group cannot move to another cluster"))),
    ]
    """Name of the DaskCluster in the same namespace that the workers join."""
    worker: Worker


class DrainingWorker(Value, frozen=True, kw_only=True):
    """A worker on its way out: the ledger that a restarted operator goes on with."""

    name: str
    """Name of the Pod."""
    since: Time
    """When it was told to drain."""
    message: str | None = None
    """What it is waiting for."""


class DaskWorkerGroupStatus(Status, frozen=True, kw_only=True):
    """Observed state of a worker group."""

    replicas: int | None = None
    """Worker Pods that are not finished and not being deleted."""
    ready_replicas: int | None = None
    """Worker Pods that are ready."""
    updated_replicas: int | None = None
    """Worker Pods made from the current template."""
    desired_replicas: int | None = None
    """What the group works towards: an autoscaler's number, else `spec.worker.replicas`."""
    autoscaler: str | None = None
    """Name of the DaskAutoscaler that sets the number of workers. As long as there is one, `spec.worker.replicas`
    changes nothing, whoever sets it."""
    selector: str | None = None
    """Label selector of the worker Pods, for the scale subresource."""
    draining: Annotated[list[DrainingWorker], Meta(extra_json_schema=keyed_by("name"))] | None = None
    """Workers on their way out."""
    last_progress_time: str | None = None
    """When a worker last became ready, or an outdated one went; ten minutes without, while something is missing, are a
    stall."""
    usage: Usage | None = None


class DaskWorkerGroup(CustomResource, frozen=True, kw_only=True):
    """Homogeneous workers attached to a cluster, scaled like a Deployment."""

    spec: DaskWorkerGroupSpec
    status: DaskWorkerGroupStatus = DaskWorkerGroupStatus()
