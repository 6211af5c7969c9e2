"""Who is meant by a rule of a NetworkPolicy, and the rules that several policies have."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from dask_crds.names import Label, NamedPort, Port
from dask_crds.validation.rules import LABEL

from .keywords import Plain
from .values import Text

#: A namespace by its name, or a peer as a NetworkPolicy has it: ``{"ipBlock": {"cidr": "192.0.2.0/24"}}``.
Peer = Annotated[
    str | Mapping[str, Any],
    Plain(
        Text | Mapping[str, Any],
        "the name of a namespace, or a peer as a NetworkPolicy has it",
        check=lambda given: LABEL("", given) if isinstance(given, str) else (),
    ),
]

#: The label that Kubernetes itself puts on every namespace.
_NAME_LABEL = "kubernetes.io/metadata.name"


def peer(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """A peer of a NetworkPolicy: all Pods of a namespace, if it is given by name."""
    return {"namespaceSelector": {"matchLabels": {_NAME_LABEL: given}}} if isinstance(given, str) else dict(given)


# --- rules ------------------------------------------------------------------------------------------------------------


def tcp(*ports: int | str) -> list[dict[str, Any]]:
    """Ports of a rule."""
    return [{"port": port, "protocol": "TCP"} for port in ports]


def of_scheduler(*ports: NamedPort) -> list[dict[str, Any]]:
    """Ports of schedulers: by number, as a container need not declare them, and by name, as they may be elsewhere."""
    return tcp(*(part for port in ports for part in (port.number, port.name)))


#: Those at which the operator asks: that of the dashboard was the one before there was one for orders.
ASKED = of_scheduler(Port.CONTROL, Port.DASHBOARD)

#: The rule that lets Pods find names.
DNS: dict[str, Any] = {
    "to": [{**peer("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
    "ports": [{"port": 53, "protocol": "UDP"}, *tcp(53)],
}


def components(*names: str) -> dict[str, Any]:
    """Pods of Dask clusters by what they are, as a peer and as what a policy is about."""
    return {"podSelector": {"matchExpressions": [{"key": Label.COMPONENT, "operator": "In", "values": list(names)}]}}


def _block(given: object) -> object:
    right = "192.0.2.7/32"
    if isinstance(given, str):
        with contextlib.suppress(ValueError):
            block = ipaddress.ip_network(given, strict=False)
            if given.endswith(f"/{block.prefixlen}"):  # Kubernetes takes no netmask there
                return given
            right = str(block)
    raise ValueError(f"must be a block of addresses such as {right!r}, not {given!r}")


#: Addresses as an ``ipBlock`` has them.
AddressBlock = Annotated[str, Plain(str, "a block of addresses", _block)]


def to_api_server(addresses: Sequence[str]) -> dict[str, Any]:
    """The rule that lets Pods talk to the API server at its usual ports; anywhere, if its addresses are not known."""
    to = {"to": [{"ipBlock": {"cidr": address}} for address in addresses]} if addresses else {}
    return {**to, "ports": tcp(443, 6443)}
