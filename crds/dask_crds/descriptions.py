"""The model's JSON Schema, with the docstrings below the fields as their descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from .docstrings import field_docstrings
from .model import KINDS
from .model.shared import Value


@cache
def schema_components() -> Mapping[str, Mapping[str, Any]]:
    """JSON Schema of each struct of the model, by the name with which others refer to it."""
    _, components = msgspec.json.schema_components(KINDS.values(), ref_template="{name}")
    for struct in _below(Value):
        if struct.__name__ in components:  # else a base of others
            fields = components[struct.__name__]["properties"]
            for field, description in _descriptions(struct).items():
                fields[field] = {"description": description, **fields[field]}
    return components


def _below(struct: type[Value]) -> Iterator[type[Value]]:
    for derived in struct.__subclasses__():
        yield derived
        yield from _below(derived)


def _descriptions(struct: type[Value]) -> dict[str, str]:
    """What is said of a struct's fields, inherited ones included, by their names in manifests."""
    said = field_docstrings(struct)
    return {field.encode_name: said[field.name] for field in msgspec.structs.fields(struct) if field.name in said}
