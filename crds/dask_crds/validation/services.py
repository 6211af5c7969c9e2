"""Mistakes in the Service of a scheduler, which the API server tells of only when the Service is created."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from .core_v1 import parts
from .rules import ADDRESS, KEY, NAME, unique
from .syntax import Problems

_OUTSIDE = ("NodePort", "LoadBalancer")
_ONLY_BALANCED = ("allocateLoadBalancerNodePorts", "loadBalancerClass", "loadBalancerSourceRanges")
_Spec = Mapping[str, Any]


def service(path: str, spec: _Spec) -> Problems:
    """What is wrong with a Service of that spec; ports and selector may be left out."""
    if spec.get("sessionAffinity") != "ClientIP":  # of no effect, and dropped unread by the API server
        spec = {field: value for field, value in spec.items() if field != "sessionAffinityConfig"}
    yield from parts(path, "ServiceSpec", spec)
    type_ = spec.get("type") or "ClusterIP"
    yield from _ports(path, spec, type_)
    yield from _addresses(path, spec, type_)
    for field in _ONLY_BALANCED if type_ != "LoadBalancer" else ():
        if spec.get(field) not in (None, []):
            yield f"{path}.{field}", "needs type LoadBalancer"
    if type_ == "LoadBalancer" and spec.get("loadBalancerClass") is not None:
        yield from KEY(f"{path}.loadBalancerClass", spec["loadBalancerClass"])
    is_outside = type_ in _OUTSIDE or spec.get("externalIPs")
    if spec.get("externalTrafficPolicy") and not is_outside:
        yield f"{path}.externalTrafficPolicy", "needs type NodePort or LoadBalancer, or externalIPs"
    if spec.get("healthCheckNodePort") and (type_, spec.get("externalTrafficPolicy")) != ("LoadBalancer", "Local"):
        yield f"{path}.healthCheckNodePort", "needs type LoadBalancer and externalTrafficPolicy Local"


def _ports(path: str, spec: _Spec, type_: str) -> Problems:
    ports = spec.get("ports") or ()
    names = [port.get("name") for port in ports]
    if len(ports) > 1 and not all(names):
        yield f"{path}.ports[{[bool(name) for name in names].index(False)}].name", "is missing: there are several ports"
    yield from unique(f"{path}.ports", [name for name in names if name])
    yield from unique(f"{path}.ports", [(port.get("protocol") or "TCP", port["port"]) for port in ports])
    given = [(port.get("protocol") or "TCP", port["nodePort"]) for port in ports if port.get("nodePort")]
    yield from unique(f"{path}.ports", given)
    if given and type_ == "ClusterIP":
        yield f"{path}.ports", "nodePort needs type NodePort or LoadBalancer"


def _addresses(path: str, spec: _Spec, type_: str) -> Problems:
    addresses = spec.get("clusterIPs") or [address for address in [spec.get("clusterIP")] if address]
    if type_ == "ExternalName":
        name = (spec.get("externalName") or "").removesuffix(".")
        yield from NAME(f"{path}.externalName", name)
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(field) not in (None, []):
                yield f"{path}.{field}", "must be left out with type ExternalName"
        return
    if spec.get("clusterIPs") and (spec.get("clusterIP") or addresses[0]) != addresses[0]:
        yield f"{path}.clusterIP", "must be the first of clusterIPs"
    if addresses == ["None"]:
        if type_ in _OUTSIDE:
            yield f"{path}.clusterIP", f"must not be None with type {type_}"
        return
    wrong = [problem for n, address in enumerate(addresses) for problem in ADDRESS(f"{path}.clusterIPs[{n}]", address)]
    yield from wrong
    if not wrong and len(addresses) > 1:
        versions = {ipaddress.ip_address(address).version for address in addresses}
        if len(addresses) > 2 or len(versions) != 2:
            yield f"{path}.clusterIPs", "must be at most one address of each family"
