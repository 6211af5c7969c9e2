"""What ``help()``, ``inspect``, notebooks and editors say of the constructs (constructs finding 18, program 30)."""

from __future__ import annotations

import inspect
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from constructs import Construct
from tests.support.constructs import chart

import dask_constructs
from dask_constructs import DaskCluster
from dask_constructs.described import keywords_of
from dask_crds.docstrings import field_docstrings
from dask_synth.keywords_page import keywords
from dask_synth.reference import GENERATED

CONSTRUCTS = [
    made
    for name in dask_constructs.__all__
    if inspect.isclass(made := getattr(dask_constructs, name)) and keywords_of(made.__init__) is not None
]
every_construct = pytest.mark.parametrize("construct", CONSTRUCTS, ids=lambda made: made.__name__)


def test_they_are_found() -> None:
    assert len(CONSTRUCTS) >= 13


@every_construct
def test_each_keyword_is_in_the_signature_and_explained(construct: type) -> None:
    declared = keywords_of(construct.__init__)  # type: ignore[misc]
    assert declared is not None
    parameters = inspect.signature(construct).parameters
    keywords = [name for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    explained = field_docstrings(declared)
    assert set(keywords) == set(explained)
    assert all(explained.values())
    page = pydoc.plain(pydoc.render_doc(construct))
    for name, text in explained.items():
        assert f"{name}: {text}" in page


@every_construct
def test_what_an_editor_shows_of_a_call_is_ours(construct: type) -> None:
    """Pylance and jedi read the docstring of ``__init__``, or else that of the next base class that has one."""
    assert "Props" in (construct.__init__.__doc__ or "")  # type: ignore[misc]


def test_what_must_be_given_has_no_default() -> None:
    parameters = inspect.signature(DaskCluster).parameters
    assert [name for name, one in parameters.items() if one.default is inspect.Parameter.empty] == [
        "scope",
        "id",
        "image",
    ]
    inspect.signature(DaskCluster).bind(None, "id", image="x", workers=3)


def test_constructs_of_a_user_speak_for_themselves() -> None:
    class Ours(DaskCluster):
        """Our cluster."""

        def __init__(self, scope: Construct, id: str, *, team: str, **more: Any) -> None:
            """Declare it."""
            super().__init__(scope, id, image="x", labels={"team": team}, **more)

    class Plain(DaskCluster):
        """As it is."""

    assert list(inspect.signature(Ours).parameters) == ["scope", "id", "team", "more"]
    assert inspect.getdoc(Ours) == "Our cluster."
    assert "image" in inspect.signature(Plain).parameters
    assert Ours(chart(namespace="a"), "ours", team="b").problems() == []


def test_the_page_of_all_keywords_is_current_and_has_each_of_them() -> None:
    page = (Path(__file__).parents[2] / "docs/keywords.md").read_text()
    assert page == keywords(GENERATED), "run `python -m dask_synth`"
    for construct in CONSTRUCTS:
        assert f"\n## {construct.__name__}\n" in page
        for name in field_docstrings(keywords_of(construct.__init__)):  # type: ignore[misc, arg-type]
            assert f"`{name}`" in page
    headings = {re.sub(r"[^a-z -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"#+ (.*)", page)}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= headings


def test_importing_reads_no_source() -> None:
    program = "import dask_constructs, dask_crds.docstrings as d; raise SystemExit(d._classes.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
