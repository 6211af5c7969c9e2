"""What is measured."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.cluster import ControlPlane

from dask_controller.shell.kubernetes import Kubernetes
from dask_synth.render import render

from .operators import NATIVE, THEIRS, Operator

DASK = "kubernetes.dask.org/v1"
WORKERS = "dask.org/component=worker"


@dataclass(frozen=True)
class Result:
    """One measurement."""

    what: str  #: which scenario
    who: str  #: which operator
    value: float  #: infinite: given up
    unit: str = "s"
    cpu_seconds: float = 0.0  #: of the operator
    peak_mib: float = 0.0  #: the most memory that the operator has had so far
    writes: int = 0  #: of the operator on the API server, without its Lease
    detail: str = ""


class Bench:
    """Runs scenarios and keeps the results.

    Args:
        plane: where.
        patience: seconds after which a scenario is given up.
    """

    def __init__(self, plane: ControlPlane, patience: float) -> None:
        self.results: list[Result] = []
        self._plane = plane
        self._patience = patience
        self._namespaces = 0
        pki: Path = plane.pki.folder
        trust = ssl.create_default_context(cafile=plane.pki.certificate)
        trust.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._server = http.client.HTTPSConnection(plane.host, plane.port, context=trust)

    # --- scenarios ----------------------------------------------------------------------------------------------------

    def start_and_stop(self, operator: Operator, workers: int) -> None:
        """Seconds until the workers of one cluster run, and until they are gone."""
        with self._namespace() as namespace:
            with self._measured(f"start {workers:,} workers", operator):
                self._create(namespace, cluster(operator, "big", workers))
                self._wait(lambda: self._pods(namespace, running=True) == workers)
            if operator.name == THEIRS:
                return  # it asks a scheduler, which no fake node has, and removes no worker for minutes
            with self._measured(f"stop {workers:,} workers", operator):
                self._scale(namespace, operator, 0)
                self._wait(lambda: self._pods(namespace) == 0)

    def start_clusters(self, operator: Operator, clusters: int) -> None:
        """Seconds until all workers of many clusters of two workers run."""
        with self._namespace() as namespace, self._measured(f"start {clusters} clusters x 2", operator):
            self._create(namespace, *(cluster(operator, f"c{n}", 2) for n in range(clusters)))
            self._wait(lambda: self._pods(namespace, running=True) == 2 * clusters)

    def create_clusters(self, nobody: Operator, clusters: int) -> None:
        """Seconds until the workers run if all that the operator would make is simply created: no operator is faster.

        No status is written. An operator of ours must not run.
        """

        async def create(namespace: str) -> None:
            async with Kubernetes.from_environment(str(self._plane.kubeconfig)) as kubernetes:
                await asyncio.gather(*(create_one(kubernetes, namespace, f"c{n}") for n in range(clusters)))

        async def create_one(kubernetes: Kubernetes, namespace: str, name: str) -> None:
            manifest = dask_cluster(name, 2)
            manifest["metadata"]["namespace"] = namespace
            owner = await kubernetes.create(manifest)
            for child in render(owner, namespace=namespace, domain="cluster.local"):
                if child["kind"] == "DaskWorkerGroup":
                    group = await kubernetes.create(child)
                    for pod in render(group, namespace=namespace, domain="cluster.local"):
                        await kubernetes.create(pod)
                elif child["kind"] != "Pod":
                    await kubernetes.create(child)

        with self._namespace() as namespace, self._measured(f"start {clusters} clusters x 2", nobody):
            asyncio.run(create(namespace))
            self._wait(lambda: self._pods(namespace, running=True) == 2 * clusters)

    def fairness(self, operator: Operator, workers: int) -> None:
        """Seconds until the two workers of a cluster run, alone and while another one starts many."""
        with self._namespace() as namespace, self._measured("2 workers alone", operator):
            self._create(namespace, cluster(operator, "small", 2))
            self._wait(lambda: self._pods(namespace, running=True) == 2)
        with self._namespace() as namespace, self._namespace() as crowded:
            self._create(crowded, cluster(operator, "big", workers))
            self._wait(lambda: self._pods(crowded) > workers // 20)
            with self._measured(f"2 workers beside {workers:,}", operator) as detail:
                self._create(namespace, cluster(operator, "small", 2))
                self._wait(lambda: self._pods(namespace, running=True) == 2)
                there = self._pods(crowded)
                detail.append(f"{there:,} of {workers:,} Pods existed then")
            self._wait(lambda: self._pods(crowded, running=True) == workers)

    def memory(self, operator: Operator, sizes: Sequence[int]) -> None:
        """Memory for each Pod: the slope of a line through some sizes, in growing order, of a fresh process."""
        operator.stop()  # a process that has known many Pods keeps their memory for others
        operator.start()
        points: list[tuple[int, float]] = []
        with self._namespace() as namespace:
            self._create(namespace, cluster(operator, "big", 20))  # what is loaded or opened once is there then
            self._wait(lambda: self._pods(namespace, running=True) == 20)
            for size in sizes:
                self._scale(namespace, operator, size)
                self._wait(lambda size=size: self._pods(namespace, running=True) == size == self._pods(namespace))
                time.sleep(10)
                points.append((size, operator.memory_mib()))
        slope = statistics.linear_regression(*zip(*points, strict=True)).slope * 1.048576
        detail = ", ".join(f"{size:,}: {memory:.1f} MiB" for size, memory in points)
        self._add(Result("memory for each Pod", operator.name, slope, "MB", detail=detail))

    def idleness(self, operator: Operator, clusters: int, seconds: float) -> None:
        """Writes in a while in which nothing happens to clusters, more worker groups, and autoscalers."""
        with self._namespace() as namespace:
            for n in range(clusters):
                self._create(
                    namespace, cluster(operator, f"c{n}", 2), group(f"c{n}-more", f"c{n}"), autoscaler(f"c{n}")
                )
            self._wait(lambda: self._pods(namespace, running=True) == 4 * clusters)
            time.sleep(15)
            before = operator.writes()
            time.sleep(seconds)
            writes = operator.writes() - before
        renewals = writes.pop("leases", 0)
        found = ", ".join(f"{number} {resource}" for resource, number in writes.items()) or "none"
        detail = f"{clusters} clusters with 2 groups and an autoscaler each: {found}; {renewals} renewals of the Lease"
        self._add(Result(f"writes in {seconds:.0f} idle s", operator.name, writes.total(), "", detail=detail))

    # --- tools --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _measured(self, what: str, operator: Operator) -> Iterator[list[str]]:
        """Time what is inside, and what the operator needed for it; gives a list for details."""
        cpu, writes, detail = operator.cpu_seconds(), operator.writes(), list[str]()
        began = time.monotonic()
        try:
            yield detail
            seconds = time.monotonic() - began
        except TimeoutError:
            seconds = float("inf")
        written = operator.writes() - writes
        written.pop("leases", None)
        cpu, peak = operator.cpu_seconds() - cpu, operator.peak_mib()
        self._add(Result(what, operator.name, seconds, "s", cpu, peak, written.total(), "; ".join(detail)))

    def _add(self, result: Result) -> None:
        self.results.append(result)
        resources = f"cpu {result.cpu_seconds:5.1f} s  peak {result.peak_mib:4.0f} MiB  writes {result.writes:5}"
        print(
            f"{result.what:<26} {result.who:<16} {result.value:8.3f} {result.unit:<3} {resources}  {result.detail}",
            flush=True,
        )

    @contextlib.contextmanager
    def _namespace(self) -> Iterator[str]:
        self._namespaces += 1
        name = f"bench-{self._namespaces}"
        self._plane.kubectl("create", "namespace", name)
        self._server.close()  # the API server closes idle connections; the next request opens a new one
        yield name
        self._plane.kubectl("delete", "namespace", name, "--wait=true", "--timeout=600s")

    def _create(self, namespace: str, *manifests: dict[str, Any]) -> None:
        for manifest in manifests:
            # The existing operator's CRDs do not know `drainTimeoutSeconds`; they drop it without an error.
            path = f"/apis/{manifest['apiVersion']}/namespaces/{namespace}/{manifest['kind'].lower()}s"
            self._request("POST", path, manifest)

    def _scale(self, namespace: str, operator: Operator, workers: int) -> None:
        version, target = (
            ("apps/v1", "deployments/big") if operator.name == NATIVE else (DASK, "daskworkergroups/big-default")
        )
        path = f"/apis/{version}/namespaces/{namespace}/{target}/scale"
        self._request("PATCH", path, {"spec": {"replicas": workers}})

    def _pods(self, namespace: str, *, running: bool = False) -> int:
        """How many worker Pods exist or run; counted by the API server, so that to look costs next to nothing."""
        query = {"labelSelector": WORKERS, "includeObject": "None", "resourceVersion": "0"}
        if running:
            query["fieldSelector"] = "status.phase=Running"
        return len(self._request("GET", f"/api/v1/namespaces/{namespace}/pods?{urlencode(query)}")["rows"] or [])

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Without kubectl, whose start takes as long as that of a small cluster."""
        headers = {
            "Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            "Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json",
        }
        self._server.request(method, path, json.dumps(body) if body else None, headers)
        with self._server.getresponse() as response:
            answer: dict[str, Any] = json.load(response)
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.get('message')}")
        return answer

    def _wait(self, holds: Callable[[], bool]) -> None:
        """Look until ``holds``; TimeoutError when patience is over."""
        deadline = time.monotonic() + self._patience
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {self._patience:.0f} s")
            time.sleep(0.02)


# --- manifests --------------------------------------------------------------------------------------------------------

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


def cluster(operator: Operator, name: str, workers: int) -> dict[str, Any]:
    """What the operator shall start: a Deployment, the yardstick, or a cluster that both operators accept."""
    return deployment(name, workers) if operator.name == NATIVE else dask_cluster(name, workers)


def dask_cluster(name: str, workers: int) -> dict[str, Any]:
    selector = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    ports = [
        {"name": "tcp-comm", "protocol": "TCP", "port": 8786, "targetPort": "tcp-comm"},
        {"name": "http-dashboard", "protocol": "TCP", "port": 8787, "targetPort": "http-dashboard"},
    ]
    spec = {
        "scheduler": {"spec": POD, "service": {"type": "ClusterIP", "selector": selector, "ports": ports}},
        # No scheduler answers on a fake node: without a drain timeout of 0 scaling down would wait for one.
        "worker": {"replicas": workers, "spec": POD, "drainTimeoutSeconds": 0},
    }
    return _dask("DaskCluster", name, spec)


def group(name: str, of: str) -> dict[str, Any]:
    return _dask("DaskWorkerGroup", name, {"cluster": of, "worker": {"replicas": 2, "spec": POD}})


def autoscaler(of: str) -> dict[str, Any]:
    return _dask("DaskAutoscaler", of, {"cluster": of, "minimum": 1, "maximum": 4})


def _dask(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": DASK, "kind": kind, "metadata": {"name": name}, "spec": spec}


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name, "dask.org/component": "worker"}  # without the label by which operators know what is theirs
    template = {"metadata": {"labels": labels}, "spec": POD}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }
