"""The model's JSON Schema, with the docstrings below the fields as their descriptions.

Python does not keep these docstrings, so they are read from the source, and only when schemas are wanted: never by the
operator.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec

from .model import KINDS
from .model.shared import Value


def schema_components() -> dict[str, dict[str, Any]]:
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
    said: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        said |= _docstrings(base.__module__).get(base.__name__, {}) if issubclass(base, Value) else {}
    return {field.encode_name: said[field.name] for field in msgspec.structs.fields(struct) if field.name in said}


@cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """Docstrings of the attributes of a module's classes, each as one line."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: dict(_documented(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _documented(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement, below in pairwise(node.body):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(field)), ast.Expr(ast.Constant(str(text))):
                yield field, " ".join(text.split())
