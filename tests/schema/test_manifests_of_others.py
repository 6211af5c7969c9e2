"""What users of dask-kubernetes have written: accepted, or the migration page says why not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane

from dask_constructs import problems
from dask_crds.kinds import DASK_KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
SOURCES: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("manifests_of_others.yaml").read_text())[
    "sources"
]

sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


def test_there_are_sixteen() -> None:
    assert len(SOURCES) == 16


@sources
def test_what_is_wrong_with_it_is_told_offline(source: dict[str, Any]) -> None:
    found = [problem for manifest in source["manifests"] for problem in problems(manifest)]
    assert sorted(found) == sorted(source.get("offline", []))


@sources
def test_the_migration_page_says_what_to_write_instead(source: dict[str, Any]) -> None:
    """Whatever is told has a row of the page, in words that stand there."""
    assert ("page" in source) == ("offline" in source)
    assert f"| {source.get('page', '')}" in PAGE


@sources
@pytest.mark.control_plane
def test_api_clients_can_post_it(control_plane: ControlPlane, namespace: str, source: dict[str, Any]) -> None:
    """As JSON, which the server takes with unknown fields: it drops them."""
    for manifest in source["manifests"]:
        body = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
        path = f"/apis/kubernetes.dask.org/v1/namespaces/{namespace}/{DASK_KINDS[manifest['kind']].plural}?dryRun=All"
        answer = said(control_plane, "create", "--raw", path, "-f", "-", manifest=body)
        assert source.get("client", "") in answer
        assert answer.startswith("refused") == ("client" in source)


@sources
@pytest.mark.control_plane
def test_kubectl_refuses_unknown_fields(control_plane: ControlPlane, namespace: str, source: dict[str, Any]) -> None:
    """By its default, strict validation: the verdict of ``problems``, which sees more than fields, too."""
    for manifest in source["manifests"]:
        body = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
        answer = said(control_plane, "create", "--dry-run=server", "--validate=strict", "-f", "-", manifest=body)
        assert answer.startswith("refused") == any("selector" not in line for line in problems(manifest))


def said(control_plane: ControlPlane, *command: str, manifest: dict[str, Any]) -> str:
    """What the API server answers, or why it refused."""
    try:
        return control_plane.kubectl(*command, input=json.dumps(manifest))
    except subprocess.CalledProcessError as error:
        return f"refused: {error.stderr}"
