"""What the repository says of itself is true: commands, versions, hooks, workflows, the changelog."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import statistics
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from tests.cluster import images
from tests.cluster.modules import module_of

from dask_constructs.operator_pod import VERSION
from dask_synth.config import Configuration

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/install.md", "docs/release.md", ".ci/run")]
#: Programs of others that the documents name.
OTHERS = {"cosign", "docker", "gh", "git", "helm", "kubectl", "oras", "pip", "pre-commit", "syft"}

workflows = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)


def hooks() -> dict[str, dict[str, Any]]:
    """Repository -> its entry in the configuration of pre-commit."""
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    return {entry["repo"]: entry for entry in configuration["repos"]}


# --- the map of the code ----------------------------------------------------------------------------------------------

SOURCES = [
    path
    for folder in ("crds", "resources", "constructs", "synth", "controller", "client")
    for path in (ROOT / folder).rglob("*.py")
]
KIND_FILES = ("cluster", "worker_group", "job", "autoscaler")


def stated(pattern: str) -> set[str]:
    """Code spans of docs/architecture.md that match, with each kind put in for ``<kind>``."""
    found = re.findall(rf"`({pattern})", (ROOT / "docs" / "architecture.md").read_text())
    return {text.replace("<kind>", kind) for text in found for kind in (KIND_FILES if "<kind>" in text else ("",))}


def test_files_of_the_architecture_exist() -> None:
    files = stated(r"[\w/<>]+\.py")
    assert {"core/job_status.py", "shell/handlers.py"} <= files
    assert sorted(f for f in files if not any(path.as_posix().endswith(f"/{f}") for path in SOURCES)) == []


def test_folders_of_the_architecture_exist() -> None:
    folders = stated(r"[\w/]+/(?=`)") | stated(r"tests/\w+")
    assert sorted(folder for folder in folders if not (ROOT / folder).is_dir()) == []


def test_what_the_architecture_names_is_defined() -> None:
    named = stated(r"[A-Z_]{4,}(?=`)") | stated(r"[a-z_<>]+(?=\()") | {"observe", "execute"}
    text = "\n".join(path.read_text() for path in SOURCES)
    assert (
        sorted(name for name in named if not re.search(rf"^(?:\s*(?:async )?def )?{name}\b", text, re.MULTILINE)) == []
    )


GENERATED = ("core_v1.py", "partial.py")
HAND_WRITTEN = [path for path in SOURCES if path.name not in GENERATED and "template" not in path.parts]


def lines_of_functions() -> dict[str, int]:
    functions = (
        (path, node)
        for path in HAND_WRITTEN
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, node in functions
    }


def test_files_are_short() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in HAND_WRITTEN}
    assert {file: count for file, count in lines.items() if count > 350} == {}


def test_functions_are_short() -> None:
    lines = lines_of_functions()
    assert {function: count for function, count in lines.items() if count > 45} == {}
    assert statistics.median(lines.values()) <= 7
    assert statistics.quantiles(lines.values(), n=10)[-1] <= 22


# --- commands ---------------------------------------------------------------------------------------------------------


def commands(document: Path) -> list[str]:
    """Commands of a document: lines that begin with a prompt, their parts, and what is set as code."""
    text = document.read_text()
    lines = re.findall(r"^\s*\$ (.*?)(?:  +#.*)?$", text, re.MULTILINE)
    lines += re.findall(r"`((?:sudo |\.venv/bin/|make |python3? )[^`]*)`", text)
    return [part.strip() for line in lines for part in re.split(r"&&|\|", line)]


def exists(command: str) -> bool:
    words = [word for word in command.split() if word != "sudo" and not re.match(r"[A-Z_]+=", word)]
    if re.fullmatch(r"(\.venv/bin/)?python3?", words[0]) and words[1] == "-m":
        return importlib.util.find_spec(words[2]) is not None
    if words[0].startswith(".venv/bin/"):
        return Path(sys.executable).with_name(Path(words[0]).name).exists()
    if words[0] == "make":
        return f"\n{words[1]}: ;" in MAKEFILE
    return words[0] in OTHERS or words[0] in PROJECT["scripts"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_command_exists(document: Path) -> None:
    assert [command for command in commands(document) if not exists(command)] == []


def test_commands_are_found_where_they_stand() -> None:
    found = commands(ROOT / "CONTRIBUTING.md")
    assert {"sudo make test", "python3 -m tests tests/unit", "make lock", "pre-commit install"} <= set(found)
    assert "make demo" in commands(ROOT / "README.md")
    assert not exists("make nothing")
    assert not exists("python3 -m tests.nothing")
    assert not exists(".venv/bin/nothing")


def test_the_makefile_names_its_targets() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony.split() == re.findall(r"^(\w+): ;", MAKEFILE, re.MULTILINE)
    assert [recipe for recipe in re.findall(r"^\w+: ; (\S+ -m .*)$", MAKEFILE, re.MULTILINE) if not made(recipe)] == []


def made(recipe: str) -> bool:
    return exists(recipe.replace("$(PYTHON)", "python3").replace("$(MAKE)", "make"))


# --- versions ---------------------------------------------------------------------------------------------------------


def test_hooks_are_of_the_versions_that_the_project_uses() -> None:
    requirements = map(Requirement, PROJECT["optional-dependencies"]["dev"])
    pinned = {requirement.name: str(requirement.specifier) for requirement in requirements}
    assert pinned["ruff"] == f"=={hooks()['https://github.com/astral-sh/ruff-pre-commit']['rev'].removeprefix('v')}"
    assert hooks()["https://github.com/rhysd/actionlint"]["rev"] == f"v{module_of('actionlint').version}"


def test_hooks_of_our_own_exist() -> None:
    assert all(exists(hook["entry"]) for hook in hooks()["local"]["hooks"])


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["version"] == VERSION
    image = f"ghcr.io/dask-gitops/operator:{VERSION}"
    assert images.OPERATOR == Configuration().image == image
    assert f"--tag {image} " in MAKEFILE
    assert f"operator:{VERSION} " in (ROOT / "docs" / "release.md").read_text()


# --- workflows (actionlint reads them in tests/schema/test_workflows.py) ----------------------------------------------


def test_actions_are_pinned_to_one_commit_each() -> None:
    used = [line for path in WORKFLOWS for line in re.findall(r"uses: ([^.\s].*)", path.read_text())]
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in used)
    assert len(set(used)) == len({line.partition("@")[0] for line in used})


@workflows
def test_jobs_may_do_little_and_end(workflow: Path) -> None:
    content = yaml.safe_load(workflow.read_text())
    assert content["permissions"] in ({}, {"contents": "read"})
    assert "concurrency" in content
    assert all("timeout-minutes" in job or "uses" in job for job in content["jobs"].values())


def test_what_ci_runs_is_what_the_script_runs() -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/check.yaml").read_text())["jobs"]["tests"]["steps"]
    assert sum(".ci/run" in step.get("run", "") for step in steps) == 1


def test_the_bot_reads_its_configuration() -> None:
    renovate = json.loads((ROOT / ".github" / "renovate.json").read_text())
    (manager,) = renovate["customManagers"]
    pattern = re.compile(manager["matchStrings"][0].replace("(?<", "(?P<"))
    found = {
        match["depName"]: match["currentValue"] for match in pattern.finditer((ROOT / "synth/config.yaml").read_text())
    }
    assert found == {"ghcr.io/dask-gitops/operator": VERSION, images.DASK: images.DASK_VERSION}


# --- changelog --------------------------------------------------------------------------------------------------------


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]" or headings[0].startswith(f"[{VERSION}] - ")
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= kinds
    for heading in headings:
        assert f"\n[{heading.partition(']')[0][1:]}]: https://" in text


def test_what_builds_the_image_is_pinned_with_hashes() -> None:
    """(security finding 16)"""
    lines = (ROOT / "controller" / "build.lock").read_text().splitlines()
    pins = dict(line.split(" ")[0].split("==") for line in lines if "==" in line and line[0].isalpha())
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]:
        wanted = Requirement(text)
        assert pins[wanted.name] in wanted.specifier, f"run `make lock`: {text}"
    assert all(line.rstrip().endswith("\\") for line in lines if "==" in line), "each with hashes"
    installs = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if "pip install" in line]
    assert installs
    for line in installs:
        assert "--require-hashes" in line or ("--no-deps" in line and "--no-build-isolation" in line)


def test_the_image_has_one_base_which_a_release_pins_by_digest() -> None:
    """(security finding 16)"""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (base,) = [line.removeprefix("ARG BASE=") for line in lines if line.startswith("ARG ")]
    assert base.startswith("docker.io/library/python:3.")
    assert {line.split()[1] for line in lines if line.startswith("FROM ")} == {"${BASE}"}
    build = next(step["run"] for step in publishing() if "docker build" in step.get("run", ""))
    assert "sed --quiet 's/^ARG BASE=//p' Dockerfile" in build
    assert """base=$(docker inspect --format '{{index .RepoDigests 0}}' "$tag")""" in build
    assert '--build-arg "BASE=$base"' in build


def test_who_finds_a_weakness_is_told_where_to_say_so() -> None:
    """(security finding 16) And what is promised, by a page whose tests are there."""
    text = (ROOT / "SECURITY.md").read_text()
    assert "/security/advisories/new" in text
    assert "(docs/threat-model.md)" in text
    named = set(re.findall(r"`(tests/[\w/.]+)`", (ROOT / "docs/threat-model.md").read_text()))
    assert len(named) > 8
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_no_image_is_pushed_before_it_is_scanned_and_none_stays_unsigned() -> None:
    """(security finding 16) The SBOM is of the image: that of the lock omits Python and the operating system."""
    steps = publishing()

    def position(what: str) -> int:
        return next(n for n, step in enumerate(steps) if what in f"{step.get('uses')} {step.get('run')}")

    listed, scanned = steps[position("anchore/sbom-action@")], steps[position("anchore/scan-action@")]
    assert listed["with"]["image"] == "${{ env.IMAGE }}:${{ env.VERSION }}"
    assert scanned["with"]["sbom"] == listed["with"]["output-file"] == "image.cdx.json"
    assert "fail-build" not in scanned["with"], "it fails by default"
    order = (
        "docker build",
        "anchore/sbom-action@",
        "anchore/scan-action@",
        "docker push",
        "cosign sign",
        "actions/attest@",
    )
    positions = [position(what) for what in (*order, "gh release create")]
    assert positions == sorted(positions)
    signing = steps[position("cosign sign")]["run"]
    assert 'cosign sign --yes "$IMAGE@$DIGEST" "$MANIFESTS@$(cat digest)"' in signing
    assert (
        'cosign attest --yes --type cyclonedx --predicate "build/$VERSION/image.cdx.json" "$IMAGE@$DIGEST"' in signing
    )
    provenance = [step["with"]["subject-name"] for step in steps if "actions/attest@" in step.get("uses", "")]
    assert provenance == ["${{ env.IMAGE }}", "${{ env.MANIFESTS }}"]


def publishing() -> list[dict[str, Any]]:
    """The steps by which a release is published."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())
    steps: list[dict[str, Any]] = workflow["jobs"]["publish"]["steps"]
    return steps


def test_the_threat_model_names_tests_that_there_are() -> None:
    named = re.findall(r"`(tests/[^`]+)`", (ROOT / "docs" / "threat-model.md").read_text())
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).exists()] == []
