"""Mistakes in a Pod as a whole, which the API server tells of only when the Pod is created."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from ..kubernetes import PodSpec
from .core_v1 import parts
from .mounts import mounts
from .operating_system import operating_system
from .resources import claims, consistent, resources
from .rules import unique
from .syntax import Problems

#: Kubernetes' own.
DEFAULT_GRACE_SECONDS = 30
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_HOST = ("hostNetwork", "hostPID", "hostIPC")
_Spec = Mapping[str, Any]


def pod(path: str, spec: PodSpec, *, grace_seconds: int = DEFAULT_GRACE_SECONDS) -> Problems:
    """What is wrong with a Pod of that spec, wherever it runs.

    Args:
        path: where the spec is.
        spec: the PodSpec.
        grace_seconds: grace period of the Pod if the spec states none.
    """
    if not spec["containers"]:
        yield f"{path}.containers", "must have at least one container"
    if spec.get("ephemeralContainers"):
        yield f"{path}.ephemeralContainers", "must be left out"
    yield from parts(path, "PodSpec", spec)
    yield from _names(path, spec)
    yield from _ports(path, spec)
    stated = spec.get("terminationGracePeriodSeconds")
    longest_sleep = grace_seconds if stated is None else stated
    claimed = {claim["name"] for claim in spec.get("resourceClaims") or ()}
    for where, container, is_init in containers(path, spec):
        yield from _container(where, container)
        yield from resources(f"{where}.resources", container.get("resources"))
        yield from claims(f"{where}.resources.claims", (container.get("resources") or {}).get("claims") or (), claimed)
        yield from mounts(where, container, spec)
        yield from _lifecycle(where, container, longest_sleep)
        if is_init and container.get("restartPolicy") != "Always":
            yield from _init(where, container)
        yield from _resizing(where, container, spec)
    yield from consistent(path, spec)
    yield from resources(f"{path}.overhead", {"limits": spec.get("overhead") or {}}) if spec.get("overhead") else ()
    yield from _combinations(path, spec)
    yield from operating_system(path, spec)


def pod_annotations(path: str, stated: Mapping[str, Any] | None) -> Problems:
    """What is wrong with annotations of which Pods are made, beside their keys."""
    cost = (stated or {}).get(_DELETION_COST)
    if isinstance(cost, str):
        fits = re.fullmatch("0|[1-9][0-9]{0,9}|-[0-9]{1,10}", cost)
        if not fits or not -(2**31) <= int(cost) < 2**31:
            yield f"{path}.annotations.{_DELETION_COST}", f"{reprlib.repr(cost)} must be a whole number in quotes"


def containers(path: str, spec: _Spec) -> Iterator[tuple[str, _Spec, bool]]:
    """All containers, where they are, and whether they belong to the start of the Pod."""
    for field in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(field) or ()):
            yield f"{path}.{field}[{number}]", container, field == "initContainers"


def _names(path: str, spec: _Spec) -> Problems:
    regular = {container["name"] for container in spec["containers"]}
    for number, container in enumerate(spec.get("initContainers") or ()):
        if container["name"] in regular:
            yield f"{path}.initContainers[{number}].name", f"{container['name']!r} is a container's name too"


def _container(path: str, container: _Spec) -> Problems:
    if not container.get("image"):
        yield f"{path}.image", "is missing"
    names = [port.get("name") for port in container.get("ports") or () if port.get("name")]
    yield from unique(f"{path}.ports", names)
    resized = [policy["resourceName"] for policy in container.get("resizePolicy") or ()]
    yield from unique(f"{path}.resizePolicy", resized)
    if container.get("restartPolicyRules") and container.get("restartPolicy") is None:
        yield f"{path}.restartPolicy", "is missing beside restartPolicyRules"


def _ports(path: str, spec: _Spec) -> Problems:
    """Ports of the node, which only one container can have."""
    taken: set[tuple[Any, ...]] = set()
    for where, container, is_init in containers(path, spec):
        own: set[tuple[Any, ...]] = set() if is_init else taken
        for number, port in enumerate(container.get("ports") or ()):
            number_of_node, here = port.get("hostPort") or 0, f"{where}.ports[{number}].hostPort"
            if spec.get("hostNetwork") and not is_init and number_of_node not in (0, port["containerPort"]):
                yield here, "must be the same as containerPort where hostNetwork is true"
            key = (port.get("protocol") or "TCP", port.get("hostIP") or "", number_of_node or port["containerPort"])
            if not number_of_node and not (spec.get("hostNetwork") and not is_init):
                continue
            if key in own:
                yield here, f"{number_of_node or port['containerPort']} is used twice"
            own.add(key)


def _lifecycle(path: str, container: _Spec, longest_sleep: int) -> Problems:
    for field in _PROBES:
        probe = container.get(field) or {}
        if field != "readinessProbe" and (probe.get("successThreshold") or 1) != 1:
            yield f"{path}.{field}.successThreshold", "must be 1"
        if field == "readinessProbe" and probe.get("terminationGracePeriodSeconds") is not None:
            yield f"{path}.{field}.terminationGracePeriodSeconds", "is not possible: such a probe ends nothing"
    for field in ("postStart", "preStop"):
        sleep = ((container.get("lifecycle") or {}).get(field) or {}).get("sleep")
        if sleep and not 0 <= sleep["seconds"] <= longest_sleep:
            yield (
                f"{path}.lifecycle.{field}.sleep.seconds",
                f"must be between 0 and {longest_sleep}, the Pod's grace period",
            )


def _init(path: str, container: _Spec) -> Problems:
    for field in ("lifecycle", *_PROBES):
        if container.get(field) is not None and set(container[field]) != {"stopSignal"}:
            yield f"{path}.{field}", "needs restartPolicy Always: an init container ends"
    for number, policy in enumerate(container.get("resizePolicy") or ()):
        if policy["restartPolicy"] == "RestartContainer":
            yield f"{path}.resizePolicy[{number}].restartPolicy", "must be NotRequired for an init container"


def _resizing(path: str, container: _Spec, spec: _Spec) -> Problems:
    for number, policy in enumerate(container.get("resizePolicy") or ()):
        if spec.get("restartPolicy") == "Never" and policy["restartPolicy"] != "NotRequired":
            yield f"{path}.resizePolicy[{number}].restartPolicy", "must be NotRequired with restartPolicy Never"


def _combinations(path: str, spec: _Spec) -> Problems:
    """Fields of the Pod itself that do not go together."""
    host_users = spec.get("hostUsers") is not False
    for field in _HOST if not host_users else ():
        if spec.get(field):
            yield f"{path}.{field}", "must not be true where hostUsers is false"
    for where, container, _ in containers(path, spec):
        if host_users and (container.get("securityContext") or {}).get("procMount") == "Unmasked":
            yield f"{where}.securityContext.procMount", "Unmasked needs hostUsers: false"
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        yield f"{path}.shareProcessNamespace", "must not be true where hostPID is true"
    if spec.get("dnsPolicy") == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        yield f"{path}.dnsConfig.nameservers", "must not be empty with dnsPolicy None"
    if spec.get("nodeName") and spec.get("schedulingGates"):
        yield f"{path}.nodeName", "must be left out beside schedulingGates"
    yield from _host_name(path, spec)
    sysctls = [sysctl["name"] for sysctl in (spec.get("securityContext") or {}).get("sysctls") or ()]
    yield from unique(f"{path}.securityContext.sysctls", sysctls)
    for number, sysctl in enumerate(sysctls):
        for field in _HOST:
            if spec.get(field) and _space(sysctl) == field:
                yield f"{path}.securityContext.sysctls[{number}]", f"is not possible where {field} is true"


def _space(sysctl: str) -> str:
    """The field of a Pod that takes it out of the name space that a sysctl is of."""
    name = sysctl.replace("/", ".")
    if name.startswith("net."):
        return "hostNetwork"
    return "hostIPC" if name.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")) or name == "kernel.sem" else ""


def _host_name(path: str, spec: _Spec) -> Problems:
    name = spec.get("hostnameOverride")
    if name is None:
        return
    for field in ("setHostnameAsFQDN", "hostNetwork"):
        if spec.get(field):
            yield f"{path}.hostnameOverride", f"must be left out where {field} is true"
    if len(name) > 64:
        yield f"{path}.hostnameOverride", f"must have at most 64 characters, has {len(name)}"
