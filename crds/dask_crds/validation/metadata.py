"""What may be of any form when a manifest is read: an object's own metadata, which no CRD describes.

The API server looks at it first: fields that `ObjectMeta` does not have, and numbers where YAML needs quotes.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from ..kubernetes import structural_schema
from .rules import KEY
from .syntax import Problems

_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "string": (str, "text"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
    "array": (list, "a list"),
    "object": (Mapping, "an object"),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[-+]\d\d:\d\d)")


@cache
def _schema() -> Mapping[str, Any]:
    return structural_schema("ObjectMeta")


def form(metadata: Mapping[str, Any]) -> Problems:
    """Unknown fields and wrong types."""
    yield from _form("metadata", _schema(), metadata)


def _form(path: str, schema: Mapping[str, Any], value: object) -> Problems:
    if value is None:  # the same as left out, and in a list as empty
        return
    wanted, words = _TYPES[schema["type"]]
    if isinstance(value, float) and wanted is int and value.is_integer():
        value = int(value)  # YAML's 1.0
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        quotes = ": put it in quotes" if wanted is str and isinstance(value, int | float) else ""
        yield path, f"must be {words}, not {reprlib.repr(value)}{quotes}"
    elif isinstance(value, Mapping):
        yield from _members(path, schema, value)
    elif isinstance(value, list):
        for number, member in enumerate(value):
            yield from _form(f"{path}[{number}]", schema["items"], member)
    elif schema.get("format") == "date-time" and not _is_time(str(value)):
        yield path, f"{reprlib.repr(value)} must be a time such as 2026-01-31T12:00:00Z"


def _members(path: str, schema: Mapping[str, Any], value: Mapping[Any, Any]) -> Problems:
    fields, others = schema.get("properties", {}), schema.get("additionalProperties")
    for key, member in value.items():
        if not isinstance(key, str):
            yield path, f"a key must be text, not {key!r}: put it in quotes"
        elif key in fields or others:
            yield from _form(f"{path}.{key}", fields.get(key, others), member)
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{key}", "unknown field"


def _is_time(written: str) -> bool:
    try:
        return _TIME.fullmatch(written) is not None and datetime.fromisoformat(written) is not None
    except ValueError:
        return False


def finalizers(path: str, written: Sequence[str | None]) -> Problems:
    """Keys of those who hold up a deletion."""
    for number, name in enumerate(written):
        yield from KEY(f"{path}[{number}]", name or "")


def owner_references(path: str, references: Sequence[Mapping[str, Any] | None]) -> Problems:
    """Owners, at most one of which is the controller."""
    for number, reference in enumerate(references):
        here, fields = f"{path}[{number}]", reference or {}
        for field in ("apiVersion", "kind", "name", "uid"):
            if not fields.get(field):
                yield f"{here}.{field}", "is missing"
        if fields.get("apiVersion") and not re.fullmatch("[^/]+|[^/]*/[^/]+", fields["apiVersion"]):
            yield f"{here}.apiVersion", f"{reprlib.repr(fields['apiVersion'])} must be VERSION or GROUP/VERSION"
        if (fields.get("apiVersion"), fields.get("kind")) == ("v1", "Event"):
            yield here, "an Event owns nothing"
    # The API server drops the second of two that are the same.
    controllers = [reference for reference in references if reference and reference.get("controller")]
    if any(one != controllers[0] for one in controllers):
        yield path, "at most one owner can be the controller"
