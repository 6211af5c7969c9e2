"""Volumes of Pods: what is mounted where, code from an image, and the disk that workers spill to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, cast

from cdk8s import Size

from dask_crds.kubernetes.core_v1 import PodSpec
from dask_crds.kubernetes.partial import PartialVolume

from .keywords import Options, Plain
from .shapes import shape_problems
from .values import Named, memory_quantity

CODE, SPILL = "/code", "/spill"


@dataclass(frozen=True)
class Volume:
    """What is mounted at a path.

    >>> volumes={"/data": Volume.claim("datasets", read_only=True), "/etc/app": Volume.config_map("settings")}

    Attributes:
        source: a volume as Kubernetes writes it, ``{"nfs": {"server": "nfs.example.com", "path": "/data"}}`` say. Its
            name may be left out; volumes of the same name are the same.
        read_only: whether it cannot be written to there.
        sub_path: a path within the volume, which is mounted instead of all of it.
        given: the object that it is made of, if it is made of one.
    """

    source: PartialVolume | Mapping[str, Any]
    read_only: bool = False
    sub_path: str | None = None
    given: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def claim(cls, claim: str | Named, *, read_only: bool = False, sub_path: str | None = None) -> Volume:
        """A PersistentVolumeClaim, or the one of that name. Workers on several nodes need one that many may mount."""
        return cls({"persistentVolumeClaim": {"claimName": _name(claim)}}, read_only, sub_path, claim)

    @classmethod
    def secret(cls, secret: str | Named, *, sub_path: str | None = None) -> Volume:
        """A Secret, or the one of that name, each key as a file."""
        return cls({"secret": {"secretName": _name(secret)}}, True, sub_path, secret)

    @classmethod
    def config_map(cls, config_map: str | Named, *, sub_path: str | None = None) -> Volume:
        """A ConfigMap, or the one of that name, each key as a file."""
        return cls({"configMap": {"name": _name(config_map)}}, True, sub_path, config_map)

    @classmethod
    def image(cls, reference: str, *, sub_path: str | None = None) -> Volume:
        """The files of an OCI image, without running it (Kubernetes 1.36)."""
        return cls({"image": {"reference": reference}}, True, sub_path)

    @classmethod
    def scratch(cls, size: str | int | Size, *, storage_class: str | None = None) -> Volume:
        """Space that lives as long as its Pod: a volume of that storage class, or else the node's own disk.

        A Pod that takes more than ``size`` of the node's disk is evicted.
        """
        if storage_class is None:
            return cls({"emptyDir": {"sizeLimit": cast("str", size)}})
        resources = {"requests": {"storage": cast("str", size)}}
        claim = {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class, "resources": resources}
        return cls({"ephemeral": {"volumeClaimTemplate": {"spec": claim}}})

    @classmethod
    def in_memory(cls, size: str | int | Size) -> Volume:
        """Space in memory, which counts against that of its container."""
        return cls({"emptyDir": {"medium": "Memory", "sizeLimit": cast("str", size)}})


def _name(given: str | Named) -> str:
    return given if isinstance(given, str) else given.name


_OF_KIND: Mapping[str, Callable[[Any], Volume]] = {
    "PersistentVolumeClaim": Volume.claim,
    "Secret": Volume.secret,
    "ConfigMap": Volume.config_map,
}


def _volume(given: Any) -> Volume:
    make = _OF_KIND.get(getattr(given, "kind", ""))
    volume = given if isinstance(given, Volume) else make(given) if make else Volume(given)
    if not isinstance(volume.source, Mapping):
        meant = f"; a claim is Volume.claim({given!r})" if isinstance(given, str) else ""
        raise ValueError(f"must be a Volume, or a mapping as {{'nfs': {{...}}}}, not {given!r}{meant}")
    sizes = {kind: _with_sizes(volume.source[kind]) for kind in ("emptyDir", "ephemeral") if kind in volume.source}
    return replace(volume, source={**volume.source, **sizes})


def _with_sizes(node: Any) -> Any:
    """A volume in which sizes are quantities, as they may have been given as objects."""
    if not isinstance(node, Mapping):
        return node
    return {
        key: memory_quantity(value) if key in ("sizeLimit", "storage") else _with_sizes(value)
        for key, value in node.items()
    }


def _path(given: Any) -> object:
    if not isinstance(given, str) or not given.startswith("/") or ":" in given or ".." in given.split("/"):
        raise ValueError(f"must be an absolute path, not {given!r}")
    return given


MountPath = Annotated[str, Plain(str, "an absolute path", _path)]
Mountable = Annotated[
    Volume | PartialVolume | Named,
    Plain(Any, "a Volume", _volume, lambda volume: shape_problems("Volume", volume.source)),
]


def mounted(pod: PodSpec, container: str, path: str, volume: Volume) -> PodSpec:
    """The Pod with a volume mounted at a path of one of its containers, in the place of what was there."""
    containers: list[dict[str, Any]] = [{**other} for other in pod["containers"]]
    here = next(other for other in containers if other["name"] == container)
    before = here.get("volumeMounts") or ()
    path = path.rstrip("/") or "/"
    here["volumeMounts"] = [mount for mount in before if (mount["mountPath"].rstrip("/") or "/") != path]
    used = {mount["name"] for one in containers for mount in one.get("volumeMounts") or ()}
    replaced = {mount["name"] for mount in before} - used
    volumes: list[Any] = [other for other in pod.get("volumes") or () if other["name"] not in replaced]
    taken = {other["name"] for other in volumes}
    name = volume.source.get("name") or _free_name(path, taken)
    mount = {"name": name, "mountPath": path, "readOnly": volume.read_only or None, "subPath": volume.sub_path}
    here["volumeMounts"].append({field: value for field, value in mount.items() if value is not None})
    if (named := {**volume.source, "name": name}) not in volumes:  # another of that name is told as used twice
        volumes.append(named)
    return cast("PodSpec", {**pod, "containers": containers, "volumes": volumes})


def _free_name(path: str, taken: set[str]) -> str:
    """A volume's name that says where it is mounted."""
    slug = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")[:60].strip("-") or "root"
    return next(
        name for number in range(len(taken) + 1) if (name := f"{slug}-{number}" if number else slug) not in taken
    )


# --- what workers and programs need -----------------------------------------------------------------------------------


def with_volumes(pod: PodSpec, container: str, options: Options) -> PodSpec:
    """The Pod with the volumes that options ask for."""
    for path, volume in options.get("volumes", {}).items():
        pod = mounted(pod, container, path, volume)
    if "code" in options:
        image: dict[str, Any] = {"reference": options["code"]}
        if "image_pull_policy" in options:
            image["pullPolicy"] = options["image_pull_policy"]
        pod = mounted(pod, container, CODE, Volume({"image": image}, read_only=True))
    return pod


def spill_volume(options: Options) -> Volume | None:
    """The disk that workers spill to, ``None`` if they have none of their own."""
    if "spill" not in options:
        return None
    return Volume.scratch(options["spill"], storage_class=options.get("spill_storage_class"))
