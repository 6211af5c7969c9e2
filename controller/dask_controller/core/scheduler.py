"""Whether a cluster's scheduler can be asked, and where."""

from __future__ import annotations

from collections.abc import Iterable

from dask_crds.names import Port

from .pod import Manifest, Pod


def pod_to_ask(pods: Iterable[Pod]) -> Pod | None:
    """The scheduler's present Pod, if it has an address: an evicted one keeps its own beside its successor's."""
    there = (p for p in pods if p.ip and not p.deleting and not p.is_finished)
    return max(there, key=lambda p: p.created, default=None)


def is_ready(pods: Iterable[Pod]) -> bool:
    """Whether there is a scheduler that answers."""
    return any(p.ready and not p.deleting for p in pods)


def dashboard_port(pod: Pod, service: Manifest | None) -> int:
    """The port of the scheduler's HTTP server: its container's by name, else the target of the Service's, else 8787."""
    if (named := pod.ports.get(Port.DASHBOARD.name)) is not None:
        return named
    for port in ((service or {}).get("spec") or {}).get("ports") or ():
        if port.get("name") == Port.DASHBOARD.name:
            target = port.get("targetPort") or port.get("port")
            number = pod.ports.get(target) if isinstance(target, str) else target
            return number or Port.DASHBOARD.number
    return Port.DASHBOARD.number
