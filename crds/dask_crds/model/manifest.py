"""From values to manifests, and what is wrong with a manifest."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from .. import names
from .shared import CustomResource


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
    """Plain JSON data of a value; of a resource, its whole manifest with ``apiVersion`` and ``kind``."""
    data: dict[str, Any] = msgspec.to_builtins(value)
    if isinstance(value, CustomResource):
        return {"apiVersion": names.API_VERSION, "kind": value.kind, **data}
    return data


def stated(value: Struct) -> dict[str, Any]:
    """As `dump`, but of objects that are there with their defaults, and without those in which nothing is stated.

    So what somebody else makes of a default is a difference, and is set right by applying this. And server-side apply
    makes null of an empty object from which it takes away the last field that it had.
    """
    data: dict[str, Any] = _stated(value)
    return data


def _stated(value: Any) -> Any:
    if isinstance(value, Struct):
        fields = msgspec.structs.fields(value)
        members = {field.encode_name: _stated(getattr(value, field.name)) for field in fields}
        return {key: member for key, member in members.items() if member not in (None, {}, [])}
    return msgspec.to_builtins(value)


def without_nulls(value: Any) -> Any:
    """The data without fields that are null."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
