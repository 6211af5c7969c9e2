"""What is created."""

from __future__ import annotations

from typing import Any

from .api import Manifest
from .operators import NATIVE, Operator

DASK = "kubernetes.dask.org/v1"
WORKERS = "dask.org/component=worker"
SCHEDULERS = "dask.org/component=scheduler"

POD = {
    "containers": [
        {
            "name": "worker",
            "image": "ghcr.io/dask/dask:2026.8.0",
            "args": ["dask-worker", "--name", "$(DASK_WORKER_NAME)"],
            "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}},
        }
    ]
}


def cluster(operator: Operator, name: str, workers: int) -> Manifest:
    """What the operator shall start: a Deployment, the yardstick, or a cluster that both operators accept."""
    return deployment(name, workers) if operator.name == NATIVE else dask_cluster(name, workers)


def workers_of(operator: Operator, name: str) -> str:
    """Selector of the workers of one ``cluster``."""
    return f"app={name}" if operator.name == NATIVE else f"dask.org/cluster-name={name},{WORKERS}"


def counted(operator: Operator, namespace: str, name: str) -> tuple[str, str]:
    """What counts the workers of a ``cluster`` and can be scaled: path of its list, and its name."""
    if operator.name == NATIVE:
        return f"/apis/apps/v1/namespaces/{namespace}/deployments", name
    return f"/apis/{DASK}/namespaces/{namespace}/daskworkergroups", f"{name}-default"


def dask_cluster(name: str, workers: int) -> Manifest:
    selector = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    ports = [
        {"name": "tcp-comm", "protocol": "TCP", "port": 8786, "targetPort": "tcp-comm"},
        {"name": "http-dashboard", "protocol": "TCP", "port": 8787, "targetPort": "http-dashboard"},
    ]
    spec = {
        "scheduler": {"spec": POD, "service": {"type": "ClusterIP", "selector": selector, "ports": ports}},
        # No scheduler answers on a fake node: without a drain timeout of 0 scaling down would wait for one. The
        # existing operator's CRDs do not know the field; they drop it without an error.
        "worker": {"replicas": workers, "spec": POD, "drainTimeoutSeconds": 0},
    }
    return _dask("DaskCluster", name, spec)


def group(name: str, of: str, replicas: int = 2, pod: dict[str, Any] = POD) -> Manifest:
    return _dask("DaskWorkerGroup", name, {"cluster": of, "worker": {"replicas": replicas, "spec": pod}})


def autoscaler(of: str) -> Manifest:
    return _dask("DaskAutoscaler", of, {"cluster": of, "minimum": 1, "maximum": 4})


def _dask(kind: str, name: str, spec: dict[str, Any]) -> Manifest:
    return {"apiVersion": DASK, "kind": kind, "metadata": {"name": name}, "spec": spec}


def deployment(name: str, replicas: int) -> Manifest:
    labels = {"app": name, "dask.org/component": "worker"}  # without the label by which operators know what is theirs
    template = {"metadata": {"labels": labels}, "spec": POD}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def queued_cluster(name: str, workers: int, queue: str, *, guaranteed: int = 0) -> Manifest:
    """A cluster whose workers are surplus, so that each waits for its own quota, but for so many."""
    manifest = dask_cluster(name, workers)
    manifest["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": queue}
    manifest["spec"]["worker"]["guaranteed"] = guaranteed
    return manifest


def queued_job(name: str, pods: int, queue: str) -> Manifest:
    """A native Job of the same Pods, which Kueue admits as a whole."""
    template = {"metadata": {"labels": {"dask.org/component": "worker"}}, "spec": {**POD, "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"kueue.x-k8s.io/queue-name": queue}},
        "spec": {"suspend": True, "parallelism": pods, "completions": pods, "template": template},
    }


def namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def quota(pods: int) -> Manifest:
    spec = {"hard": {"pods": str(pods)}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": spec}
