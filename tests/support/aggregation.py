"""An API of the API server's that another process serves: API aggregation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster import ControlPlane


@contextmanager
def aggregated(plane: ControlPlane, group: str, version: str, *, port: int) -> Iterator[None]:
    """Have ``group/version`` served by what listens at ``port`` on this machine; gone afterwards."""
    service = {"namespace": "kube-system", "name": group.replace(".", "-")}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": service,
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{version}.{group}"},
            "spec": {
                "group": group,
                "version": version,
                "service": {**service, "port": port},
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    try:
        plane.kubectl("apply", "-f", "-", input=manifest)
        plane.kubectl("wait", "apiservice", f"{version}.{group}", "--for=condition=Available", "--timeout=90s")
        yield
    finally:
        plane.kubectl("delete", "-f", "-", "--ignore-not-found", input=manifest)
