"""The repository that a platform team starts from."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.support import template
from tests.support.checkers import documents

from dask_constructs import problems
from dask_crds.model import KINDS
from dask_synth import init
from dask_synth.__main__ import main


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new repository whose program has run."""
    return template.start(tmp_path_factory.mktemp("repositories") / "platform")


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (directory / "dist").rglob("*") if path.is_file()}


def manifests(directory: Path) -> list[dict]:
    paths = [path for path in sorted(directory.rglob("*.yaml")) if path.name != "kustomization.yaml"]
    return [manifest for path in paths for manifest in documents(path)]


def test_it_writes_the_same_bytes_every_time(repository: Path) -> None:
    before = contents(repository)
    template.synth(repository)
    assert contents(repository) == before


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_every_environment_has_all_that_it_needs(repository: Path, environment: str) -> None:
    found = manifests(repository / "dist" / environment)
    kinds = {manifest["kind"] for manifest in found}
    assert kinds >= {
        "CustomResourceDefinition",
        "Namespace",
        "NetworkPolicy",
        "DaskCluster",
        "DaskAutoscaler",
        "DaskJob",
    }
    for folder in ("crds", "operator", "workloads", "argocd", "flux"):
        listed = yaml.safe_load((repository / "dist" / environment / folder / "kustomization.yaml").read_text())
        assert [f"{folder}.yaml"] == listed["resources"]


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_the_gitops_tools_are_led_to_folders_that_exist(repository: Path, environment: str) -> None:
    places = repository / "dist" / environment
    applications = [m["spec"]["source"]["path"] for m in manifests(places / "argocd") if m["kind"] == "Application"]
    kustomizations = [m["spec"]["path"] for m in manifests(places / "flux") if m["kind"] == "Kustomization"]
    for found in (applications, kustomizations):
        expected = [places / folder for folder in ("crds", "operator", "workloads")]
        assert [(repository / path).resolve() for path in found] == expected


def test_its_dask_resources_are_right(repository: Path) -> None:
    found = [manifest for manifest in manifests(repository / "dist") if manifest["kind"] in KINDS]
    assert len(found) == 6
    assert [problem for manifest in found for problem in problems(manifest)] == []


def test_environments_differ_where_they_are_told_to(repository: Path) -> None:
    maxima = [m["spec"]["maximum"] for m in manifests(repository / "dist") if m["kind"] == "DaskAutoscaler"]
    assert maxima == [4, 50]


def test_nothing_is_left_to_fill_in(repository: Path) -> None:
    for text in init.template().values():
        assert not re.search(r"@[A-Z_]+@", text)
    workflow = yaml.safe_load((repository / ".github/workflows/check.yaml").read_text())
    assert workflow["permissions"] == {"contents": "read"}


def test_files_of_others_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(SystemExit, match=r"README\.md is there already"):
        main(["init", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_clone_keeps_what_it_has(tmp_path: Path) -> None:
    """The help spoke of an empty folder only (constructs, docs gap 11)."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "LICENSE").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["init", str(tmp_path)])
    assert ended.value.code == 0
    assert (tmp_path / "LICENSE").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {".git", "LICENSE", *(p.parts[0] for p in init.template())}


@pytest.mark.parametrize(("wrong", "left"), [('"2Gi"', '"2Gb"'), ("schemas(dist", "schemas(1 / 0")])
def test_a_mistake_leaves_dist_as_it_was(tmp_path: Path, wrong: str, left: str) -> None:
    """All but four of its files were gone, and the next commit told Argo CD to prune (constructs finding 1)."""
    template.start(tmp_path / "platform")
    before = contents(tmp_path / "platform")
    program = tmp_path / "platform/synth.py"
    program.write_text(program.read_text().replace(wrong, left))
    with pytest.raises(subprocess.CalledProcessError):
        template.synth(tmp_path / "platform")
    assert contents(tmp_path / "platform") == before
