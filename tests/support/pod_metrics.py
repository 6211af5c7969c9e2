"""The resource metrics API (``metrics.k8s.io``), as metrics-server has it, with figures that a test sets.

Fake nodes have no kubelet that would measure anything, so metrics-server itself would find nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.cluster import ControlPlane
from tests.support.aggregation import served

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"


class PodMetrics:
    """What Pods use, for whoever asks the API server.

    Attributes:
        memory: in MiB, shared evenly by the Pods that are asked for.
        selectors: by which Pods were asked for so far.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.memory = 1024
        self.selectors: set[str] = set()

    def answer(self, url: str) -> dict[str, Any]:
        parts = urlsplit(url)
        if not parts.path.endswith("/pods"):
            pods = {"name": "pods", "kind": "PodMetrics", "namespaced": True, "verbs": ["get", "list"]}
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": [pods]}
        namespace, selector = parts.path.split("/")[-2], parse_qs(parts.query)["labelSelector"][0]
        self.selectors.add(selector)
        pods = json.loads(self._plane.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))["items"]
        used = [_used(pod, self.memory / len(pods)) for pod in pods]
        return {"kind": "PodMetricsList", "apiVersion": API_VERSION, "metadata": {}, "items": used}


def _used(pod: dict[str, Any], memory: float) -> dict[str, Any]:
    metadata = {key: pod["metadata"][key] for key in ("name", "namespace", "creationTimestamp")}
    containers = [
        {"name": container["name"], "usage": {"cpu": "1", "memory": f"{memory:.0f}Mi"}}
        for container in pod["spec"]["containers"]
    ]
    measured = {"timestamp": metadata["creationTimestamp"], "window": "10s"}
    return {"metadata": metadata, "containers": containers, **measured}


@contextmanager
def pod_metrics(plane: ControlPlane) -> Iterator[PodMetrics]:
    """Serve the API as part of the API server's; gone afterwards."""
    metrics = PodMetrics(plane)
    with served(plane, GROUP, VERSION, metrics.answer):
        yield metrics
