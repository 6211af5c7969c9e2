"""Every manifest and every construct of the batch guide is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tests.support.constructs import chart, synth

import dask_constructs

GUIDE = (Path(__file__).parents[2] / "docs" / "batch.md").read_text()
MANIFESTS = re.findall(r"<!-- manifest -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL)
CONSTRUCTS = re.findall(r"<!-- construct -->\n```python\n(.*?)```", GUIDE, re.DOTALL)


def test_they_are_found() -> None:
    assert len(MANIFESTS) == 3
    assert len(CONSTRUCTS) == 5


@pytest.mark.parametrize("text", MANIFESTS)
def test_a_manifest(text: str) -> None:
    assert dask_constructs.problems(yaml.safe_load(text)) == []


@pytest.mark.parametrize("code", CONSTRUCTS)
def test_a_construct(code: str) -> None:
    c = chart(namespace="analytics")
    exec(code, {**vars(dask_constructs), "chart": c})
    assert {"DaskJob", "CronJob"} & {m["kind"] for m in synth(c)}


def test_what_a_schedule_makes_is_shown_as_it_is() -> None:
    (shown,) = re.findall(r"<!-- synthesized -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL)
    (code,) = (code for code in CONSTRUCTS if "DaskCronJob" in code)
    c = chart(namespace="analytics")
    exec(code, {**vars(dask_constructs), "chart": c})
    assert list(yaml.safe_load_all(shown)) == synth(c)


def _section(title: str) -> str:
    return GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_what_becomes_of_an_earlier_run_is_told() -> None:
    """(node 11) Its Pod and logs go with a new `runId`; why it ended stays."""
    again = " ".join(_section("Again").split())
    assert "gone: its cluster, and the runner's Pod with its logs" in again
    assert "how and why each of the last five runs ended" in again


@pytest.mark.parametrize("reason", ["QuotaExceeded", "SuspendedByAnother", "NameConflict", "DeadlineExceeded"])
def test_reasons_are_told(reason: str) -> None:
    """(public 15, controller 15, controller 4, node 6)"""
    assert f" {reason} |" in _section("How a run ends")


def test_what_the_percentage_is_of() -> None:
    """(node 11)"""
    assert "submitted so far" in _section("How a run ends")


def test_what_a_job_decides_about_its_cluster() -> None:
    """(controller 16, 20)"""
    once = _section("Once")
    assert "`cluster.spec.suspend` is ignored" in once
    assert "`cluster.spec.idleTimeout`\ncounts only after the end" in once
