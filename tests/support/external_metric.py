"""The external metrics API (``external.metrics.k8s.io``) with one figure, which a test sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.cluster import ControlPlane
from tests.support.aggregation import served

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass
class ExternalMetric:
    """A figure under any name."""

    value: int = 0

    def answer(self, url: str) -> dict[str, Any]:
        path = urlsplit(url).path
        if "/namespaces/" not in path:
            some = {"name": "some", "kind": "ExternalMetricValueList", "namespaced": True, "verbs": ["get"]}
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": [some]}
        found = {"metricName": path.rpartition("/")[2], "metricLabels": {}, "value": str(self.value)}
        item = {**found, "timestamp": "2026-01-01T00:00:00Z"}
        return {"kind": "ExternalMetricValueList", "apiVersion": API_VERSION, "metadata": {}, "items": [item]}


@contextmanager
def external_metric(plane: ControlPlane) -> Iterator[ExternalMetric]:
    """Serve the API as part of the API server's; gone afterwards."""
    metric = ExternalMetric()
    with served(plane, GROUP, VERSION, metric.answer):
        yield metric
