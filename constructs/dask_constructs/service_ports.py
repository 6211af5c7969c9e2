"""By which number a scheduler is reached at its Service, whose ports its user may have numbered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dask_crds.names import NamedPort, Port
from dask_resources.scheduler import leads_to
from dask_resources.scheduler_extension import control_port


class ServicePort(NamedTuple):
    """A port of a Service."""

    number: int
    trouble: str = ""  #: why it cannot be published


def service_port(scheduler: Mapping[str, Any], wanted: NamedPort) -> ServicePort:
    """The port of a scheduler's Service that has the name; the usual one where the Service's ports are left out.

    Args:
        scheduler: ``spec.scheduler`` of a cluster, which may be wrong in other ways; empty if it is not known.
        wanted: Dask's own port.
    """
    stated = (scheduler.get("service") or {}).get("ports")
    if not stated:
        return ServicePort(wanted.number)
    port = next((port for port in stated if port.get("name") == wanted.name), None)
    if port is None:
        names = ", ".join(repr(port.get("name")) for port in stated)
        return ServicePort(wanted.number, f"its Service has no port {wanted.name!r} (only {names}): call that so")
    if _takes_orders(port, scheduler.get("spec") or {}):
        return ServicePort(port["port"], f"{wanted.name!r} of its Service leads to the port for the operator's orders")
    return ServicePort(port["port"])


def _takes_orders(port: Mapping[str, Any], pod: Any) -> bool:
    if port.get("targetPort") == Port.CONTROL.name:
        return True
    return bool(pod.get("containers")) and leads_to(port, pod) == control_port(pod)
