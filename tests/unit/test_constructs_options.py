"""The short form's options."""

from __future__ import annotations

import ast
from pathlib import Path

from dask_constructs import options


def test_every_option_is_documented() -> None:
    """The docstrings below the fields are what editors show."""
    tree = ast.parse(Path(options.__file__).read_text())
    undocumented = [
        f"{node.name}.{ast.unparse(field.target)}"
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for field, following in zip(node.body, [*node.body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign) and not isinstance(following, ast.Expr)
    ]
    assert not undocumented
