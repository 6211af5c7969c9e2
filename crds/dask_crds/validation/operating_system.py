"""What a Pod cannot have on Windows, or on Linux."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .syntax import Problems

_Spec = Mapping[str, Any]

_NOT_ON_WINDOWS = ("hostUsers", "shareProcessNamespace")
_TRUE_NOT_ON_WINDOWS = ("hostPID", "hostIPC")
_POD_NOT_ON_WINDOWS = (
    *("appArmorProfile", "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy", "runAsUser"),
    *("runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy"),
)
_CONTAINER_NOT_ON_WINDOWS = (
    *("appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged"),
    *("allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup"),
)


def operating_system(path: str, spec: _Spec) -> Problems:
    """What does not go with ``os.name`` of a Pod."""
    name = (spec.get("os") or {}).get("name")
    yield from _host_process(path, spec)
    for where, context in _contexts(path, spec):
        if name == "linux" and context.get("windowsOptions") is not None:
            yield f"{where}.windowsOptions", "cannot be set with os.name linux"
        if name == "windows":
            is_pod = where == f"{path}.securityContext"
            for field in _POD_NOT_ON_WINDOWS if is_pod else _CONTAINER_NOT_ON_WINDOWS:
                if context.get(field) is not None:
                    yield f"{where}.{field}", "cannot be set with os.name windows"
            if is_pod and context.get("sysctls"):
                yield f"{where}.sysctls", "cannot be set with os.name windows"
    if name == "windows":
        stated = [field for field in _NOT_ON_WINDOWS if spec.get(field) is not None]
        stated += [field for field in _TRUE_NOT_ON_WINDOWS if spec.get(field)]
        for field in (*stated, *(["resources"] if spec.get("resources") is not None else [])):
            yield f"{path}.{field}", "cannot be set with os.name windows"


def _contexts(path: str, spec: _Spec) -> Iterator[tuple[str, _Spec]]:
    yield f"{path}.securityContext", spec.get("securityContext") or {}
    for field in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(field) or ()):
            yield f"{path}.{field}[{number}].securityContext", container.get("securityContext") or {}


def _host_process(path: str, spec: _Spec) -> Problems:
    """Containers that run on the node itself: all of them or none, and in its network."""
    of_pod, *others = [
        (where, (context.get("windowsOptions") or {}).get("hostProcess")) for where, context in _contexts(path, spec)
    ]
    for where, own in others:
        if None not in (of_pod[1], own) and own != of_pod[1]:
            yield f"{where}.windowsOptions.hostProcess", "must be the same as the Pod's"
    on_node = [of_pod[1] if own is None else own for _, own in others]
    if any(on_node) and not all(on_node):
        yield f"{path}.containers", "must all have hostProcess, or none"
    if any(on_node) and not spec.get("hostNetwork"):
        yield f"{path}.hostNetwork", "must be true with hostProcess"
