"""Mistakes in a Pod, which the API server tells of only when the Pod is created."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from ..kubernetes import Container, PodSpec, ResourceRequirements, structural_schema
from ..merge import list_key
from ..quantity import not_whole, parse_quantity
from .syntax import DNS_LABEL, Problems, is_key, is_label_value


def pod(path: str, spec: PodSpec) -> Problems:
    """What is wrong with a Pod of that spec, wherever it runs."""
    yield from _repeated(path, _pod_schema(), spec)
    if not spec["containers"]:
        yield f"{path}.containers", "must have at least one container"
    if spec.get("ephemeralContainers"):
        yield f"{path}.ephemeralContainers", "must be left out"
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    containers = {"initContainers": spec.get("initContainers") or (), "containers": spec["containers"]}
    for field, members in containers.items():
        for number, container in enumerate(members):
            yield from _container(f"{path}.{field}[{number}]", container, volumes)
    yield from _resources(path, spec.get("resources"))
    for key, value in (spec.get("nodeSelector") or {}).items():
        if not is_key(key) or not is_label_value(value):
            yield f"{path}.nodeSelector", f"{reprlib.repr(key)}: {reprlib.repr(value)} is no label that a node can have"


def _container(path: str, container: Container, volumes: set[str]) -> Problems:
    if not DNS_LABEL.fullmatch(container["name"]):
        yield f"{path}.name", f"{container['name']!r} must be a DNS label: a-z, 0-9 and -, at most 63 characters"
    if not container.get("image"):
        yield f"{path}.image", "is missing"
    uses = {"volumeMounts": container.get("volumeMounts"), "volumeDevices": container.get("volumeDevices")}
    for field, members in uses.items():
        for number, member in enumerate(members or ()):
            if member["name"] not in volumes:
                yield f"{path}.{field}[{number}].name", f"there is no volume {member['name']!r}"
    yield from _resources(path, container.get("resources"))


def _resources(path: str, resources: ResourceRequirements | None) -> Problems:
    yield from _amounts(f"{path}.resources", cast("Mapping[str, Mapping[str, int | float | str]]", resources or {}))


def _amounts(path: str, resources: Mapping[str, Mapping[str, int | float | str]]) -> Problems:
    """Requests and limits: quantities, of which no request exceeds its limit."""
    parsed: dict[tuple[str, str], Any] = {}
    for field in ("requests", "limits"):
        for resource, amount in (resources.get(field) or {}).items():
            try:
                parsed[field, resource] = parse_quantity(amount)
            except ValueError as error:
                yield f"{path}.{field}.{resource}", str(error)
                continue
            if isinstance(amount, float) and not amount.is_integer():
                yield f"{path}.{field}.{resource}", not_whole(amount)
            elif parsed[field, resource] < 0:
                yield f"{path}.{field}.{resource}", f"{amount} is less than the minimum of 0"
    for (field, resource), amount in parsed.items():
        limit = parsed.get(("limits", resource))
        if field == "requests" and limit is not None and amount > limit:
            written = f"{resources['requests'][resource]} > {resources['limits'][resource]}"
            yield f"{path}.requests.{resource}", f"must not be greater than the limit ({written})"


def _repeated(path: str, schema: Mapping[str, Any], value: Any) -> Problems:
    """Members of a list that share a key which the list's members must differ in (containers by name ...)."""
    if isinstance(value, Mapping):
        for field, member in value.items():
            yield from _repeated(f"{path}.{field}", schema.get("properties", {}).get(field, {}), member)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        keys = schema.get("x-kubernetes-list-map-keys")
        seen: set[tuple[Any, ...]] = set()
        for number, member in enumerate(value):
            if keys:
                key = list_key(schema, member)
                if key in seen:
                    shared = ", ".join(f"{name} {part!r}" for name, part in zip(keys, key, strict=True))
                    yield f"{path}[{number}]", f"{shared} is used twice"
                seen.add(key)
            yield from _repeated(f"{path}[{number}]", schema.get("items", {}), member)


@cache
def _pod_schema() -> dict[str, Any]:
    return structural_schema("PodSpec")
