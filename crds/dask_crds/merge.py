"""Lay changes over a Pod as server-side apply would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from .kubernetes import PodSpec, structural_schema


def merged(spec: PodSpec, changes: Mapping[str, Any]) -> PodSpec:
    """A copy of ``spec`` with ``changes`` laid over it.

    Objects are merged field by field. Members of lists that have a key (containers, env and volumes by name, ports,
    mounts ...) are merged with the member of the same key, or appended; other lists are replaced. ``None`` removes a
    field.
    """
    return cast("PodSpec", _merged(structural_schema("PodSpec"), spec, changes))


def _merged(schema: Mapping[str, Any], base: Any, changes: Any) -> Any:
    if schema.get("x-kubernetes-map-type") == "atomic":
        return changes
    if isinstance(changes, Mapping):
        fields = base if isinstance(base, Mapping) else {}
        schemas = schema.get("properties", {})
        new = {name: _merged(schemas.get(name, {}), fields.get(name), change) for name, change in changes.items()}
        return {name: value for name, value in {**fields, **new}.items() if value is not None}
    if "x-kubernetes-list-map-keys" in schema and isinstance(base, Sequence) and isinstance(changes, Sequence):
        members = {list_key(schema, member): member for member in base}
        for change in changes:
            key = list_key(schema, change)
            members[key] = _merged(schema["items"], members.get(key), change)
        return list(members.values())
    return changes


def list_key(schema: Mapping[str, Any], member: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a member of a list of that schema (``x-kubernetes-list-map-keys``) from the others."""
    properties = schema["items"]["properties"]
    return tuple(member.get(key, properties[key].get("default")) for key in schema["x-kubernetes-list-map-keys"])
