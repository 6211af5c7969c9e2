"""From values to manifests, and what is wrong with a manifest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from .. import names
from .shared import CustomResource, Value


class InvalidManifest(ValueError):
    """A manifest that does not fit the API.

    Attributes:
        path: the field, as ``spec.worker.replicas``; empty for the whole object.
        message: what is wrong with it, for the person who wrote the manifest.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


def dump(value: Struct) -> dict[str, Any]:
    """Plain JSON data of a value, with all that was said and nothing else.

    Of a resource it is the whole manifest with ``apiVersion`` and ``kind``.
    """
    data: dict[str, Any] = msgspec.to_builtins(value)
    if isinstance(value, CustomResource):
        return {"apiVersion": names.API_VERSION, "kind": value.kind, **data}
    return data


def stated(value: Value) -> dict[str, Any]:
    """As `dump`, without objects in which nothing is stated.

    Server-side apply makes null of an empty object from which it takes away the last field that it had.
    """
    data: dict[str, Any] = _members(value, lambda _, __, member: member in (None, {}, []))
    return data


def without_defaults(value: Value) -> dict[str, Any]:
    """As `dump`, without what says no more than leaving it out: the API server and some people write that down."""
    data: dict[str, Any] = _members(value, lambda of, name, member: member in (None, of.DEFAULTS.get(name)))
    return data


def _members(value: Any, is_left_out: Callable[[Value, str, Any], bool]) -> Any:
    if isinstance(value, Value):
        # Not `structs.fields`, which reads all annotations of a type each time.
        fields = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        members = [(name, key, _members(getattr(value, name), is_left_out)) for name, key in fields]
        return {key: member for name, key, member in members if not is_left_out(value, name, member)}
    if isinstance(value, list):
        return [_members(member, is_left_out) for member in value]
    return msgspec.to_builtins(value)


#: Levels of objects and lists in a manifest: no field is as deep, and what is makes Python's stack end.
DEEPEST = 100


def without_nulls(value: Any, levels: int = DEEPEST) -> Any:
    """The data without fields that are null.

    Raises:
        InvalidManifest: it has more ``levels``.
    """
    if not levels:
        raise InvalidManifest("", f"has more than {DEEPEST} levels of objects and lists")
    if isinstance(value, dict):
        return {key: without_nulls(item, levels - 1) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item, levels - 1) for item in value]
    return value
