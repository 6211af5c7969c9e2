"""Volumes of a Pod where containers use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .syntax import Problems

_Spec = Mapping[str, Any]


def mounts(path: str, container: _Spec, spec: _Spec) -> Problems:
    """What is wrong with how a container uses the volumes of its Pod."""
    volumes = {volume["name"]: volume for volume in spec.get("volumes") or ()}
    devices = {device["name"]: device["devicePath"] for device in container.get("volumeDevices") or ()}
    privileged = (container.get("securityContext") or {}).get("privileged")
    for number, mount in enumerate(container.get("volumeMounts") or ()):
        here = f"{path}.volumeMounts[{number}]"
        volume = volumes.get(mount["name"])
        if volume is None:
            yield f"{here}.name", f"there is no volume {mount['name']!r}"
        if mount["name"] in devices:
            yield f"{here}.name", "is in volumeDevices too"
        if mount["mountPath"] in devices.values():
            yield f"{here}.mountPath", "is in volumeDevices too"
        if mount.get("mountPropagation") == "Bidirectional" and not privileged:
            yield f"{here}.mountPropagation", "Bidirectional needs a privileged container"
    yield from _devices(path, container, volumes)
    yield from _files(path, container, volumes)


def _devices(path: str, container: _Spec, volumes: Mapping[str, _Spec]) -> Problems:
    names: set[str] = set()
    for number, device in enumerate(container.get("volumeDevices") or ()):
        here, volume = f"{path}.volumeDevices[{number}].name", volumes.get(device["name"])
        if volume is None:
            yield here, f"there is no volume {device['name']!r}"
        elif volume.get("persistentVolumeClaim") is None and volume.get("ephemeral") is None:
            yield here, "must be a persistentVolumeClaim or ephemeral: no other volume is a device"
        if device["name"] in names:
            yield here, f"{device['name']!r} is used twice"
        names.add(device["name"])


def _files(path: str, container: _Spec, volumes: Mapping[str, _Spec]) -> Problems:
    """Variables out of files, which init containers write into an ``emptyDir``."""
    for number, variable in enumerate(container.get("env") or ()):
        reference = (variable.get("valueFrom") or {}).get("fileKeyRef")
        if reference is None:
            continue
        here, volume = f"{path}.env[{number}].valueFrom.fileKeyRef.volumeName", volumes.get(reference["volumeName"])
        if volume is None:
            yield here, f"there is no volume {reference['volumeName']!r}"
        elif volume.get("emptyDir") is None and {field for field, source in volume.items() if source is not None} != {
            "name"
        }:
            yield here, "must be an emptyDir"
