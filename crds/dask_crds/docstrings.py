"""Docstrings below the fields of a class, read from its source: Python does not keep them.

So they cost nothing until somebody asks, and the operator never does.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise


def field_docstrings(declared: type) -> dict[str, str]:
    """What is said of the fields of a class, inherited ones first, each on one line."""
    said: dict[str, str] = {}
    for base in declared_bases(declared):
        said |= field_docstrings(base)
    node = _classes(declared.__module__).get(declared.__name__)
    return said if node is None else said | dict(_documented(node))


def declared_bases(declared: type) -> list[type]:
    """The classes that a class names as its bases, which a ``TypedDict`` forgets (Python 3.11)."""
    node = _classes(declared.__module__).get(declared.__name__)
    names = [] if node is None else [base.id for base in node.bases if isinstance(base, ast.Name)]
    bases = [getattr(sys.modules[declared.__module__], name, None) for name in names]
    return [base for base in bases if isinstance(base, type)]


@cache
def _classes(module: str) -> Mapping[str, ast.ClassDef]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):  # no source: compiled, or built in
        return {}
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _documented(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement, below in pairwise(node.body):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(field)), ast.Expr(ast.Constant(str(text))):
                yield field, " ".join(text.split())
