"""The reasons of conditions and Events stand in one place, and the docs explain each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dask_controller.core.conditions import condition
from dask_crds.reasons import Reason
from dask_synth.reference import reasons

ROOT = Path(__file__).parents[2]
CONTROLLER = sorted((ROOT / "controller").rglob("*.py"))
#: Values that are words of others as well: types of conditions, phases, statuses, Kubernetes' own reasons.
OTHER_MEANINGS = {
    "Admitted",
    "Evicted",
    "Ready",
    "Suspended",
    "Failed",
    "Running",
    "Encrypted",
    "JobCreated",
    "ClusterCreated",
    "UpToDate",
}
#: Where a reason stands in calls: the function, and the place among its arguments.
PLACES = {"condition": 2, "Problem": 0, "named_problem": 0, "Event": 0, "Ending": 1}


def literals(tree: ast.AST) -> Iterator[ast.Constant]:
    """All strings but docstrings."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def in_a_reasons_place(tree: ast.AST) -> Iterator[ast.expr]:
    """Expressions that are a reason, whatever they say."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=keywords):
                if len(args) > (place := PLACES.get(name, len(args))):
                    yield args[place]
                reason = "ready" if name == "Standing" else "reason"
                yield from (keyword.value for keyword in keywords if keyword.arg == reason)
            case ast.Compare(left=ast.Attribute(attr="reason"), comparators=others):
                yield from others


def found(source: str) -> list[str]:
    """Reasons that are written out in a module."""
    tree = ast.parse(source)
    certain = [node.value for node in literals(tree) if node.value in set(Reason) - OTHER_MEANINGS]
    placed = [node.value for place in in_a_reasons_place(tree) for node in literals(place)]
    return certain + [value for value in placed if value in set(Reason)]


@pytest.mark.parametrize("path", CONTROLLER, ids=lambda path: str(path.relative_to(ROOT / "controller")))
def test_no_reason_is_written_out_in_the_controller(path: Path) -> None:
    assert found(path.read_text()) == [], "name it in dask_crds.reasons"


@pytest.mark.parametrize(
    "source",
    [
        'condition("Ready", False, "Progressing")',
        'condition("Ready", True, "Ready")',
        'x = "SpecChanged"',
        'if c.reason == "Suspended": pass',
        'Standing(waiting="", ready="Suspended")',
        'Problem(found.get("reason") or "Failed", "x")',
    ],
)
def test_that_is_found_where_it_is(source: str) -> None:
    assert found(source)
    assert not found('condition("Ready", False, Reason.PROGRESSING)')


def test_the_docs_explain_each() -> None:
    assert (ROOT / "docs/reasons.md").read_text() == reasons(), "run `python -m dask_synth`"
    assert all(reason.meaning.endswith(".") for reason in Reason)


def test_in_status_a_reason_is_a_plain_string() -> None:
    written = msgspec.to_builtins(condition("Ready", True, Reason.READY))
    assert type(written["reason"]) is str
    assert written["reason"] == "Ready"
