"""The short form's options."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

from dask_constructs import autoscaler, cluster, job, options, placement, worker_group


@pytest.mark.parametrize("module", [autoscaler, cluster, job, options, placement, worker_group])
def test_every_option_is_documented(module: ModuleType) -> None:
    """The docstrings below the fields are what editors show."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    undocumented = [
        f"{node.name}.{ast.unparse(field.target)}"
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Options", "Props", "Changes", "Placement"))
        for field, following in zip(node.body, [*node.body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign) and not isinstance(following, ast.Expr)
    ]
    assert not undocumented
