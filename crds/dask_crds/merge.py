"""Lay changes over a Pod as server-side apply would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from .kubernetes import PodSpec, definitions
from .kubernetes.unions import TYPED, UNIONS


def merged(spec: PodSpec, changes: Mapping[str, Any]) -> PodSpec:
    """A copy of ``spec`` with ``changes`` laid over it.

    Objects are merged field by field. Members of lists that have a key (containers, env and volumes by name, ports,
    mounts ...) are merged with the member of the same key, or appended; other lists are replaced. ``None`` removes a
    field. Of fields that exclude each other (sources of a volume, handlers of a probe ...) a new one replaces the old.
    """
    return cast("PodSpec", _merged({"$ref": "PodSpec"}, spec, changes))


def _merged(schema: Mapping[str, Any], base: Any, changes: Any) -> Any:
    if schema.get("x-kubernetes-map-type") == "atomic":
        return changes
    if isinstance(changes, Mapping):
        name = schema.get("$ref", "")
        schemas = definitions()[name].get("properties", {}) if name else {}
        fields = _without_replaced(name, base, changes) if isinstance(base, Mapping) else {}
        new = {field: _merged(schemas.get(field, {}), fields.get(field), change) for field, change in changes.items()}
        return {field: value for field, value in {**fields, **new}.items() if value is not None}
    if "x-kubernetes-list-map-keys" in schema and isinstance(base, Sequence) and isinstance(changes, Sequence):
        members = {list_key(schema, member): member for member in base}
        for change in changes:
            key = list_key(schema, change)
            members[key] = _merged(schema["items"], members.get(key), change)
        return list(members.values())
    return changes


def _without_replaced(name: str, base: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object without the members of a union, or the field of a type, that others take the place of."""
    gone: set[str] = set()
    union = UNIONS.get(name)
    if union and any(changes.get(member) is not None for member in union.members):
        gone |= set(union.members) - changes.keys()
    if name in TYPED and changes.get("type") not in (None, base.get("type")):
        gone |= set(TYPED[name].values()) - changes.keys()
    return {field: value for field, value in base.items() if field not in gone}


def list_key(schema: Mapping[str, Any], member: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a member of a list of that schema (``x-kubernetes-list-map-keys``) from the others."""
    items = schema["items"]
    properties = (definitions()[items["$ref"]] if "$ref" in items else items)["properties"]
    return tuple(member.get(key, properties[key].get("default")) for key in schema["x-kubernetes-list-map-keys"])
