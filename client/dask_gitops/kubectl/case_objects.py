"""What the rows of `cases` are made of: small objects of one cluster, ``analytics``, and one job, ``etl``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_crds import names
from dask_crds.names import Component, Label

from .facts import Manifest
from .seen import Seen

#: When it is: 2027-01-15T08:00:00Z.
NOW = 1_800_000_000.0
#: An hour before.
LONG_AGO = "2027-01-15T07:00:00Z"
IMAGE = "registry.example.com/dask:2026.8.1"


@dataclass(frozen=True)
class Case:
    """Something that is wrong."""

    title: str  #: what is wrong
    reason: str  #: that `why` names
    says: str  #: what its words must have, in regular expressions
    subject: Manifest
    seen: Seen = field(default_factory=Seen)


def resource(kind: str, name: str, *, owner: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """An object in the namespace ``team``."""
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-{kind}-{name}",
        "generation": 1,
        "creationTimestamp": LONG_AGO,
        **({"ownerReferences": [{**owner, "controller": True}]} if owner else {}),
        **fields.pop("metadata", {}),
    }
    return {"kind": kind, "metadata": metadata, **fields}


def status(*conditions: tuple[str, str, str, str], **fields: Any) -> dict[str, Any]:
    """A status with conditions: type, status, reason, message."""
    made = [{"type": t, "status": s, "reason": r, "message": m} for t, s, r, m in conditions]
    return {"observedGeneration": 1, "conditions": made, **fields}


def unready(reason: str, message: str, **fields: Any) -> dict[str, Any]:
    """The status of what is not ready."""
    return status(("Ready", "False", reason, message), **fields)


def cluster(*conditions: tuple[str, str, str, str], spec: Mapping[str, Any] = {}, **metadata: Any) -> dict[str, Any]:
    """The cluster."""
    return resource("DaskCluster", "analytics", spec=dict(spec), status=status(*conditions), metadata=metadata)


def pod(name: str, owner: Manifest, component: str, **fields: Any) -> dict[str, Any]:
    """A Pod of it; ``fields`` are its status, but for ``container`` and ``spec``."""
    labels = {Label.CLUSTER: "analytics", Label.COMPONENT: component}
    spec = {
        "containers": [{"name": component, "image": IMAGE, **fields.pop("container", {})}],
        **fields.pop("spec", {}),
    }
    return resource("Pod", name, owner=owner, spec=spec, status=fields, metadata={"labels": labels})


def scheduler(**fields: Any) -> dict[str, Any]:
    """The Pod of its scheduler."""
    owner = {"kind": "ReplicaSet", "name": f"{names.scheduler('analytics')}-5d9c", "uid": "uid-replica-set"}
    return pod("analytics-scheduler-5d9c-x7k2p", owner, Component.SCHEDULER, **fields)


def worker(number: int = 0, /, **fields: Any) -> dict[str, Any]:
    """The Pod of a worker."""
    owner = {"kind": "DaskWorkerGroup", "name": "analytics-default", "uid": "uid-DaskWorkerGroup-analytics-default"}
    return pod(names.worker("analytics-default", number), owner, Component.WORKER, **fields)


def runner(**fields: Any) -> dict[str, Any]:
    """The Pod of the runner of the job."""
    owner = {"kind": "Job", "name": names.runner("etl"), "uid": "uid-runner"}
    return pod("etl-runner-q8w2z", owner, Component.JOB_RUNNER, **fields)


def waiting(container: str, reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    """The status of a Pod whose container waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": container, "image": IMAGE, "state": state, **more}]}


def ended(code: int, reason: str, message: str = "") -> dict[str, Any]:
    """The state of a container that has ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def event(about: Manifest, reason: str, message: str) -> dict[str, Any]:
    """An event about an object."""
    involved = {"uid": about["metadata"]["uid"]}
    return resource("Event", reason.lower(), reason=reason, message=message, involvedObject=involved)


def group(status: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """The default group of the cluster."""
    owner = {"kind": "DaskCluster", "name": "analytics", "uid": "uid-DaskCluster-analytics"}
    return resource(
        "DaskWorkerGroup", "analytics-default", owner=owner, spec={"cluster": "analytics", **spec}, status=status
    )


def job(*conditions: tuple[str, str, str, str], spec: Mapping[str, Any] = {}, **fields: Any) -> dict[str, Any]:
    """The job."""
    return resource("DaskJob", "etl", spec=dict(spec), status=status(*conditions, **fields))


def scaler(*conditions: tuple[str, str, str, str]) -> dict[str, Any]:
    """The autoscaler of the cluster."""
    return resource("DaskAutoscaler", "analytics", spec={"cluster": "analytics"}, status=status(*conditions))


# What Pods are like.
_NODES = "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available."
UNSCHEDULED: dict[str, Any] = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": _NODES}],
}
GATED: dict[str, Any] = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}],
    "spec": {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]},
}
KILLED: dict[str, Any] = {
    "phase": "Running",
    "container": {"resources": {"limits": {"memory": "2Gi"}}},
    "containerStatuses": [
        {
            "name": "worker",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": ended(137, "OOMKilled"),
        }
    ],
}


READY = ("Ready", "True", "Ready", "the scheduler and 2 of 2 workers are ready")
STARTS = ("Ready", "False", "Progressing", "the scheduler is starting")
SCHEDULED = ("SchedulerReady", "True", "Ready", "analytics-scheduler-5d9c-x7k2p is ready")
WORKERS = "0 of 2 workers are ready"


def with_scheduler(title: str, reason: str, says: str, pod: Manifest, *events: Manifest) -> Case:
    """A cluster whose scheduler has a problem."""
    subject = cluster(STARTS)
    return Case(title, reason, says, subject, Seen(clusters=(subject,), pods=(pod,), events=events))


def with_workers(title: str, reason: str, says: str, *pods: Manifest, status: Any = None, **seen: Any) -> Case:
    """A cluster whose scheduler is ready, and whose workers are not."""
    subject = cluster(("Ready", "False", "Progressing", WORKERS), SCHEDULED)
    groups = (group(status or unready("Progressing", WORKERS)),)
    return Case(title, reason, says, subject, Seen(clusters=(subject,), groups=groups, pods=pods, **seen))


def refused(title: str, reason: str, words: str, given: str = "Forbidden", **seen: Any) -> Case:
    """A cluster whose worker the API server refuses."""
    subject = cluster(("Ready", "False", given, f"group analytics-default: {words}"), SCHEDULED)
    return Case(title, reason, re.escape(words), subject, Seen(**seen))


def with_runner(title: str, reason: str, says: str, job: Manifest, **seen: Any) -> Case:
    """A job."""
    return Case(title, reason, says, job, Seen(jobs=(job,), **seen))


# --- what several cases have ------------------------------------------------------------------------------------------

RUNNING: dict[str, Any] = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
}


QUOTA = (
    'pods "analytics-default-worker-1" is forbidden: '
    "exceeded quota: compute, requested: cpu=2, used: cpu=3, limited: cpu=4"
)
FAILED = "Job has reached the specified backoff limit"
POD_SECURITY = (
    'pods "analytics-default-worker-0" is forbidden: violates PodSecurity "restricted:latest": '
    'allowPrivilegeEscalation != false (container "worker" must set securityContext.allowPrivilegeEscalation=false)'
)
POLICY = (
    "ValidatingAdmissionPolicy 'images.example.com' with binding 'images.example.com' denied request: "
    "image docker.io/x is not from registry.example.com"
)
PULL = 'Back-off pulling image "registry.example.com/dask:2026.8.1": not found'
MOUNT = 'MountVolume.SetUp failed for volume "data": secret "s3" not found'
LIMIT = "namespace team may have 2 running clusters at a time (limit of the operator): next in line"
MESHED: dict[str, Any] = {"spec": {"initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}]}}
starting_worker = worker(**waiting("worker", "ContainerCreating"))
starting_scheduler = scheduler(**waiting("scheduler", "ContainerCreating"))
unscheduled_worker = worker(**UNSCHEDULED)
unhealthy_worker = worker(**RUNNING)
meshed_worker = worker(**RUNNING, **MESHED)
failed = ("Failed", "True", "BackoffLimitExceeded", FAILED)
held = job(("Ready", "False", "SuspendedByAnother", "Job etl-runner is held back by kueue"))
workload = resource(
    "Workload",
    "job-etl-runner-1f2e3",
    spec={"queueName": "research"},
    status={
        "conditions": [
            {
                "type": "QuotaReserved",
                "status": "False",
                "message": "couldn't assign flavors: insufficient quota for cpu",
            }
        ]
    },
    metadata={"ownerReferences": [{"kind": "Job", "name": "etl-runner", "uid": "uid-runner"}]},
)
