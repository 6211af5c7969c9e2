"""Goes through an object of Kubernetes, as the schemas describe it, and applies the rules of its parts."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..kubernetes import definitions
from ..kubernetes.unions import TYPED, UNIONS
from ..merge import list_key
from .fields import FIELDS, NEEDED
from .objects import CHECKS
from .syntax import Problems


def parts(path: str, name: str, value: Mapping[str, Any]) -> Problems:
    """What is wrong with an object of that definition and with all that is in it, each looked at by itself."""
    rules, properties = FIELDS.get(name, {}), definitions()[name].get("properties", {})
    for field, member in value.items():
        if member is None or field not in properties:
            continue
        if field in rules:
            yield from rules[field](f"{path}.{field}", member)
        yield from _part(f"{path}.{field}", properties[field], member)
    for field in NEEDED.get(name, ()):
        if value.get(field) is None:
            yield f"{path}.{field}", "is missing"
    yield from _union(path, name, value)
    yield from _typed(path, name, value)
    if check := CHECKS.get(name):
        yield from check(path, value)


def _part(path: str, schema: Mapping[str, Any], value: Any) -> Problems:
    if isinstance(value, Mapping) and "$ref" in schema:
        yield from parts(path, schema["$ref"], value)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        keys = schema.get("x-kubernetes-list-map-keys")
        seen: list[Any] = []
        for number, member in enumerate(value):
            if keys:
                key = list_key(schema, member)
                if key in seen:
                    shared = ", ".join(f"{name} {part!r}" for name, part in zip(keys, key, strict=True))
                    yield f"{path}[{number}]", f"{shared} is used twice"
                seen.append(key)
            elif schema.get("x-kubernetes-list-type") == "set" and member in value[:number]:
                yield f"{path}[{number}]", f"{reprlib.repr(member)} is there twice"
            yield from _part(f"{path}[{number}]", schema.get("items", {}), member)


def _union(path: str, name: str, value: Mapping[str, Any]) -> Problems:
    if (union := UNIONS.get(name)) is None:
        return
    given = [member for member in union.members if value.get(member) not in (None, "", [])]
    if len(given) > 1:
        yield path, f"must have only one of {', '.join(given)}"
    elif not given and union.required:
        yield path, f"must have one of {', '.join(union.members)}"


def _typed(path: str, name: str, value: Mapping[str, Any]) -> Problems:
    for type_, field in TYPED.get(name, {}).items():
        if (value.get(field) is not None) != (value["type"] == type_):
            rule = (
                f"is missing with type {type_}" if value["type"] == type_ else f"must be left out but with type {type_}"
            )
            yield f"{path}.{field}", rule
