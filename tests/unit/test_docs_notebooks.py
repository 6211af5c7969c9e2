"""The pages about notebooks and pipelines: what they declare is valid, what they call is there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from tests.support.constructs import chart, synth

import dask_constructs
from dask_gitops import Cluster

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "notebooks.md").read_text()


def test_the_tenant_lets_notebooks_in() -> None:
    (code,) = re.findall(r"<!-- construct -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    c = chart(namespace="analytics")
    exec(code, {**vars(dask_constructs), "chart": c})
    names = {(m["kind"], m["metadata"]["name"]) for m in synth(c)}
    assert {("Role", "dask-notebook"), ("NetworkPolicy", "dask-clients")} <= names


def test_options_of_the_table_are_options() -> None:
    named = set(re.findall(r"^\| `(\w+)=", PAGE, re.MULTILINE))
    assert named == {"workers", "minimum", "template", "timeout", "on_close", "quiet"}
    assert named <= set(inspect.signature(Cluster).parameters)
