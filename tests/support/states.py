"""Observed states for tests, made from the least that a test has to say."""

from __future__ import annotations

from typing import Any

from dask_controller.core.observed import ObservedCluster, ObservedGroup
from dask_controller.core.pod import Container, Pod, Problem
from dask_crds import names
from dask_crds.model import (
    Condition,
    DaskAutoscaler,
    DaskAutoscalerSpec,
    DaskAutoscalerStatus,
    DaskCluster,
    DaskClusterSpec,
    DaskJob,
    DaskJobSpec,
    DaskWorkerGroup,
    DaskWorkerGroupSpec,
    DaskWorkerGroupStatus,
    JobCluster,
    JobTemplate,
    Scheduler,
    Worker,
)
from dask_crds.names import Annotation, Component, Label, Port
from dask_resources.worker import worker_labels, worker_metadata, worker_revision

NOW = 1_800_000_000.0
NAMESPACE = "team"


def pod_spec(image: str = "dask:1", **fields: Any) -> Any:
    return {"containers": [{"name": "dask", "image": image, "args": ["dask-worker"]}], **fields}


def metadata(name: str, *, generation: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-{name}",
        "generation": generation,
        "resourceVersion": "1",
        **fields,
    }


def cluster(name: str = "simple", *, replicas: int = 2, image: str = "dask:1", **spec: Any) -> DaskCluster:
    return DaskCluster(
        metadata=metadata(name),
        spec=DaskClusterSpec(
            scheduler=Scheduler(spec=pod_spec(image)), worker=Worker(spec=pod_spec(image), replicas=replicas), **spec
        ),
    )


def group(
    name: str = "simple-default",
    *,
    replicas: int = 2,
    image: str = "dask:1",
    cluster_name: str = "simple",
    status: DaskWorkerGroupStatus | None = None,
    owned: bool = True,
    **worker: Any,
) -> DaskWorkerGroup:
    owner = {"ownerReferences": [{"uid": f"uid-{cluster_name}", "kind": "DaskCluster", "controller": True}]}
    return DaskWorkerGroup(
        metadata=metadata(name, **(owner if owned else {})),
        spec=DaskWorkerGroupSpec(
            cluster=cluster_name, worker=Worker(spec=pod_spec(image), replicas=replicas, **worker)
        ),
        status=status or DaskWorkerGroupStatus(),
    )


def job(name: str = "hello", **spec: Any) -> DaskJob:
    inner = cluster(name).spec
    return DaskJob(
        metadata=metadata(name),
        spec=DaskJobSpec(cluster=JobCluster(spec=inner), job=JobTemplate(spec=pod_spec("run:1")), **spec),
    )


def autoscaler(
    minimum: int = 0, maximum: int = 10, *, status: DaskAutoscalerStatus | None = None, **spec: Any
) -> DaskAutoscaler:
    return DaskAutoscaler(
        metadata=metadata("simple"),
        spec=DaskAutoscalerSpec(cluster="simple", minimum=minimum, maximum=maximum, **spec),
        status=status or DaskAutoscalerStatus(),
    )


def worker_pod(of: DaskWorkerGroup, ordinal: int, **fields: Any) -> Pod:
    """A ready worker Pod of a group, with its present template and metadata unless told otherwise."""
    name = names.worker(of.name, ordinal)
    revision = fields.pop("revision", worker_revision(of))
    defaults: dict[str, Any] = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-{name}",
        "resource_version": "1",
        "owner_uid": of.uid,
        "owner_kind": "DaskWorkerGroup",
        "labels": {**worker_labels(of), Label.REVISION: revision},
        "last_applied": worker_metadata(of)["annotations"][Annotation.LAST_APPLIED],
        "worker_name": f"{name}-abcde",
        "created": NOW - 1000 + ordinal,
        "started": NOW - 999,
        "finished": None,
        "deleting": False,
        "phase": "Running",
        "ready": True,
        "ip": f"10.0.0.{ordinal}",
        "problem": None,
    }
    return _pod(defaults | fields)


def _pod(fields: dict[str, Any]) -> Pod:
    """With the address that it has as its own, and one container, unless they are given."""
    fields.setdefault("own_ips", (fields["ip"],) if fields["ip"] else ())
    running = fields["phase"] == "Running" and fields["finished"] is None
    fields.setdefault("containers", (Container(name="dask", running=running, finished=fields["finished"]),))
    return Pod(**fields)


#: That of a scheduler that takes signed orders.
CONTROL = {Port.CONTROL.name: Port.CONTROL.number}


def scheduler_pod(name: str = "simple", **fields: Any) -> Pod:
    defaults: dict[str, Any] = {
        "name": f"{name}-scheduler-x",
        "namespace": NAMESPACE,
        "uid": f"uid-{name}-scheduler-x",
        "resource_version": "1",
        "owner_uid": "replica-set",
        "owner_kind": "ReplicaSet",
        "labels": {Label.CLUSTER: name, Label.COMPONENT: Component.SCHEDULER},
        "last_applied": "",
        "worker_name": "",
        "created": NOW - 2000,
        "started": NOW - 2000,
        "finished": None,
        "deleting": False,
        "phase": "Running",
        "ready": True,
        "ip": "10.0.1.1",
        "problem": None,
        "ports": CONTROL,
    }
    return _pod(defaults | fields)


def observed_group(of: DaskWorkerGroup, *pods: Pod, **fields: Any) -> ObservedGroup:
    defaults: dict[str, Any] = {"cluster": cluster(), "autoscaler": None, "scheduler_pods": (scheduler_pod(),)}
    return ObservedGroup(group=of, pods=pods, **(defaults | fields))


def observed_cluster(
    of: DaskCluster,
    *,
    config_map: Any = None,
    service: Any = None,
    disruption_budget: Any = None,
    deployment: Any = None,
    **fields: Any,
) -> ObservedCluster:
    """With the children that are given."""
    given = {
        "ConfigMap": config_map,
        "Service": service,
        "PodDisruptionBudget": disruption_budget,
        "Deployment": deployment,
    }
    children = {kind: child for kind, child in given.items() if child is not None}
    return ObservedCluster(cluster=of, children=children, **({"groups": (), "scheduler_pods": ()} | fields))


def condition(conditions: list[Condition] | None, type: str) -> Condition:
    """The condition of that type; fails if there is none."""
    return next(c for c in conditions or [] if c.type == type)


PULL_ERROR = Problem("ImagePullBackOff", "pod-x/dask: Back-off pulling image dask:0")
