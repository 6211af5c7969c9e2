"""What every Pod of ours gets on top of its user's template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from dask_crds.model import PodSpec
from dask_crds.names import Component

#: What the container that matters is called in manifests of the existing operator's users, by component.
_MAIN = {Component.SCHEDULER: ("scheduler",), Component.WORKER: ("worker",), Component.JOB_RUNNER: ("job", "runner")}


def main_container(spec: PodSpec | Mapping[str, Any], component: str) -> str:
    """Name of the container that is the scheduler, the worker or the runner: others may stand before it.

    It is the one of that name; else the first one that the template has, as Kubernetes' own tools take it. In a Pod
    that lives, find it by this name: whoever injects containers may put them first.
    """
    found = [container["name"] for container in spec["containers"]]
    return next((name for name in _MAIN[component] if name in found), found[0])


def limits_of(container: Mapping[str, Any], spec: PodSpec | Mapping[str, Any]) -> dict[str, Any]:
    """What a container cannot exceed, by resource.

    Where it states no limit of its own, the kubelet gives it that of the whole Pod (``spec.resources``, KEP 2837), and
    Dask finds it there when it counts CPUs and memory.
    """
    own, whole = (((of.get("resources") or {}).get("limits") or {}) for of in (container, spec))
    return {**whole, **own}


def with_last_words(spec: Mapping[str, Any], component: str) -> dict[str, Any]:
    """A copy of ``spec`` whose main container, if it fails and has left no message, leaves the end of its log.

    That is at most 80 lines and 2 KiB, which come with the Pod's status: nobody needs the right to read logs for them.
    A policy that its user states stays.
    """
    main = main_container(spec, component)

    def telling(container: dict[str, Any]) -> dict[str, Any]:
        wanted = container["name"] == main and not container.get("terminationMessagePolicy")
        return {**container, "terminationMessagePolicy": "FallbackToLogsOnError"} if wanted else container

    return {**spec, "containers": [telling(cast("dict[str, Any]", c)) for c in spec["containers"]]}


def with_environment(spec: PodSpec | Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """A copy of ``spec`` in which every container has ``environment``, unless its user set the variable in ``env``.

    It comes first, because ``$(NAME)`` in a value stands for a variable before it. Whether ``envFrom`` has a variable
    is known to nobody here, and Kubernetes prefers ``env``: to overrule ours takes ``env``.
    """
    containers = [_container_with_environment(cast("dict[str, Any]", c), environment) for c in spec["containers"]]
    return {**spec, "containers": containers}


def _container_with_environment(container: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    present = container.get("env") or []
    taken = {variable["name"] for variable in present}
    added = [{"name": name, "value": value} for name, value in environment.items() if name not in taken]
    return {**container, "env": [*added, *present]}


def with_volume(
    spec: Mapping[str, Any],
    container: str,
    *,
    name: str,
    source: Mapping[str, Any],
    path: str,
    read_only: bool = True,
) -> dict[str, Any]:
    """A copy of ``spec`` with a volume that one container can read.

    Args:
        spec: PodSpec.
        container: name of that container.
        name: of the volume; a user's volumes may have any name, so it may get a number.
        source: what is in it.
        path: where the container finds it.
        read_only: whether the container cannot write to it.
    """
    volumes = spec.get("volumes") or []
    taken = {volume["name"] for volume in volumes}
    free = next(each for each in (name, *(f"{name}-{n}" for n in range(len(taken)))) if each not in taken)
    mount = {"name": free, "mountPath": path, **({"readOnly": True} if read_only else {})}

    def mounting(each: Mapping[str, Any]) -> Mapping[str, Any]:
        mounts = [*(each.get("volumeMounts") or []), mount]
        return {**each, "volumeMounts": mounts} if each["name"] == container else each

    containers = [mounting(each) for each in spec["containers"]]
    return {**spec, "containers": containers, "volumes": [*volumes, {"name": free, **source}]}


#: Dask speaks its own protocol between Pods, which sidecars that expect HTTP break; users may turn this on again.
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
