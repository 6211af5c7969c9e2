"""What the end-to-end tests share: kubectl in one namespace, manifests that run on a small node, patience."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.patience import Patience

DASK_IMAGE = "ghcr.io/dask/dask:2026.8.0"
#: What Pod security at the level ``restricted`` asks of a container.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def eventually(holds: Callable[[], Any], *, seconds: float = 60) -> None:
    """Wait until ``holds`` is true; says what it saw last when it does not come true in time."""
    patience = Patience(seconds)
    seen: Any = None
    while patience.lasts():
        try:
            if seen := holds():
                return
        except (subprocess.CalledProcessError, KeyError, StopIteration) as error:
            seen = getattr(error, "stderr", None) or repr(error)
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} s; seen last: {seen!r}")


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, run: Callable[..., str], namespace: str) -> None:
        self._run = run
        self.namespace = namespace

    def __call__(self, *args: str, input: str | None = None) -> str:
        return self._run("-n", self.namespace, *args, input=input)

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "-o", "json"))

    def apply(self, manifest: Mapping[str, Any]) -> None:
        self("apply", "-f", "-", input=json.dumps(manifest))

    def apply_file(self, path: Path) -> None:
        self("apply", "-f", str(path))

    def status(self, kind: str, name: str) -> dict[str, Any]:
        return self.json("get", kind, name).get("status") or {}

    def condition(self, kind: str, name: str, type: str) -> dict[str, Any]:
        conditions = self.status(kind, name).get("conditions") or []
        return next((c for c in conditions if c["type"] == type), {})

    def wait_ready(self, kind: str, name: str, *, seconds: float = 120) -> None:
        """Wait until Ready is True for the present generation."""

        def ready() -> bool:
            found = self.json("get", kind, name)
            current = found["status"].get("observedGeneration") == found["metadata"]["generation"]
            return current and self.condition(kind, name, "Ready").get("status") == "True"

        try:
            eventually(ready, seconds=seconds)
        except AssertionError:
            raise AssertionError(json.dumps(self.status(kind, name), indent=1)) from None


def ready_pods(kubectl: Kubectl, cluster: str, component: str) -> list[dict[str, Any]]:
    """The Pods of a component that are ready and not on their way out."""
    selector = f"dask.org/cluster-name={cluster},dask.org/component={component}"
    pods = kubectl.json("get", "pods", "-l", selector)["items"]
    return [
        p
        for p in pods
        if "deletionTimestamp" not in p["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions") or [])
    ]


class Manifests:
    """Manifests that are small enough for a node with two cores."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace

    @staticmethod
    def _container(name: str, args: Sequence[str], port: int, image: str, cpu: str, env: Mapping[str, str]) -> Any:
        return {
            "name": name,
            "image": image,
            "args": [f"dask-{name}", *args],
            "env": [{"name": key, "value": value} for key, value in env.items()],
            "resources": {"requests": {"cpu": cpu, "memory": "100Mi"}},
            "readinessProbe": {"httpGet": {"path": "/health", "port": port}, "periodSeconds": 1, "timeoutSeconds": 5},
        }

    def _worker(
        self, workers: int, args: Sequence[str] = (), cpu: str = "20m", env: Mapping[str, str] | None = None
    ) -> Any:
        command = [
            "--name",
            "$(DASK_WORKER_NAME)",
            "--dashboard-address",
            "8788",
            "--nthreads",
            "1",
            "--no-nanny",
            *args,
        ]
        container = self._container("worker", command, 8788, DASK_IMAGE, cpu, env or {})
        return {"replicas": workers, "spec": {"containers": [container], "terminationGracePeriodSeconds": 5}}

    def cluster_spec(
        self,
        workers: int,
        *,
        scheduler_image: str = DASK_IMAGE,
        worker_cpu: str = "20m",
        worker_env: Mapping[str, str] | None = None,
        worker_extra: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        scheduler = self._container("scheduler", [], 8787, scheduler_image, "20m", {})
        return {
            "scheduler": {"spec": {"containers": [scheduler], "terminationGracePeriodSeconds": 2}},
            "worker": {**self._worker(workers, cpu=worker_cpu, env=worker_env), **(worker_extra or {})},
            **more,
        }

    @staticmethod
    def _resource(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "kubernetes.dask.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}

    def cluster_manifest(self, name: str, *, workers: int, **spec: Any) -> dict[str, Any]:
        return self._resource("DaskCluster", name, self.cluster_spec(workers, **spec))

    def group_manifest(self, name: str, cluster: str, *, workers: int, args: Sequence[str] = ()) -> dict[str, Any]:
        return self._resource("DaskWorkerGroup", name, {"cluster": cluster, "worker": self._worker(workers, args)})

    def job_manifest(self, name: str, code: str, *, workers: int = 1, **spec: Any) -> dict[str, Any]:
        container = {"name": "runner", "image": DASK_IMAGE, "command": ["python3", "-c", code]}
        runner = {"spec": {"containers": [container], "terminationGracePeriodSeconds": 2}}
        cluster = {"spec": self.cluster_spec(workers)}
        return self._resource("DaskJob", name, {"job": runner, "cluster": cluster, **spec})


@contextlib.contextmanager
def kube_cluster(kube: Manifests, *, name: str, n_workers: int) -> Iterator[tuple[Any, Any]]:
    """A stock ``KubeCluster`` and a client of it, closed afterwards."""
    from dask_kubernetes.operator import KubeCluster
    from distributed import Client

    cluster = KubeCluster(
        name=name,
        namespace=kube.namespace,
        image=DASK_IMAGE,
        n_workers=n_workers,
        resources={"requests": {"cpu": "20m", "memory": "100Mi"}},
        quiet=True,
    )
    with cluster, Client(cluster) as client:
        yield cluster, client
