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
