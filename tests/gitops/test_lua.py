"""Argo CD's own tests on our health checks and actions, and the commands of Argo CD on ``dist/argocd``."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from tests.cluster import components
from tests.support.clusters import or_skip

from dask_constructs.argocd import RESOURCE_CUSTOMIZATIONS
from dask_crds import names
from dask_crds.model import KINDS, parse
from dask_crds.schema import json_schema

TREE = RESOURCE_CUSTOMIZATIONS / names.GROUP
PATCH = Path(__file__).with_name("custom_actions_test.patch")
SETTINGS = Path(__file__).parents[2] / "dist/argocd/settings/argocd-cm.yaml"
TESTS = ("TestLuaHealthScript", "TestLuaResourceActionsScript")


def expectations(kind: str) -> tuple[list[dict], dict[str, list[dict]]]:
    """Tests of health, and of actions, that Argo CD's runner reads."""
    actions = TREE / kind / "actions/action_test.yaml"
    empty: dict[str, list[dict]] = {"discoveryTests": [], "actionTests": []}
    health = yaml.safe_load((TREE / kind / "health_test.yaml").read_text())["tests"]
    return health, yaml.safe_load(actions.read_text()) if actions.exists() else empty


# --- the test data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(TREE.rglob("testdata/*.yaml")), ids=lambda path: str(path.relative_to(TREE)))
def test_the_test_data_fits_the_api(path: Path):
    """Status included; some specs are wrong in what only the API server of the cluster can tell."""
    manifest = yaml.safe_load(path.read_text())
    kind = path.relative_to(TREE).parts[0]
    assert manifest["kind"] == kind
    assert list(Draft202012Validator(json_schema(kind)).iter_errors(manifest)) == []
    assert parse(manifest).kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_script_and_all_test_data_is_used(kind: str):
    health, actions = expectations(kind)
    used = {TREE / kind / test["inputPath"] for test in health}
    for test in (*actions["discoveryTests"], *actions["actionTests"]):
        paths = [test["inputPath"], *([test["expectedOutputPath"]] if "expectedOutputPath" in test else [])]
        used |= {TREE / kind / "actions" / path for path in paths}
    assert used == set((TREE / kind).rglob("testdata/*.yaml"))
    statuses = {test["healthStatus"]["status"] for test in health}
    assert statuses == {"Healthy", "Progressing", "Degraded", "Suspended"}
    assert {test["action"] for test in actions["actionTests"]} == {
        path.parent.name for path in (TREE / kind).rglob("action.lua")
    }


# --- Argo CD's runner -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests of ``util/lua`` in Argo CD's repository, built as if our tree, and our patch, were part of it."""
    folder = tmp_path_factory.mktemp("argo-cd")
    with or_skip("tests of Argo CD"):
        source = components.source("argocd")
        patched = patch(source, folder)
        ours = {source / path.relative_to(RESOURCE_CUSTOMIZATIONS.parent): path for path in scripts()}
        replaced = {source / patched.relative_to(folder): patched, **ours}
        overlay = folder / "overlay.json"
        overlay.write_text(json.dumps({"Replace": {str(key): str(path) for key, path in replaced.items()}}))
        program = components.CACHE / "bin" / source.name.removesuffix("-source") / "lua.test"
        with components.locked("build"), components.progress("building Argo CD's tests of health checks and actions"):
            program.parent.mkdir(parents=True, exist_ok=True)
            command = ["test", "-c", "-trimpath", "-ldflags=-s -w", f"-overlay={overlay}", f"-o={program}"]
            flags = f"-mod=mod {os.environ.get('GOFLAGS', '')}"
            environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": flags}
            components.run([components.go_command(), *command, "./util/lua"], cwd=source, env=environment)
    return program


def scripts() -> Iterable[Path]:
    return (path for path in RESOURCE_CUSTOMIZATIONS.rglob("*") if path.is_file())


def patch(source: Path, folder: Path) -> Path:
    """The file of Argo CD that our contribution changes, with that change."""
    name = "util/lua/custom_actions_test.go"
    (folder / name).parent.mkdir(parents=True)
    shutil.copyfile(source / name, folder / name)
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}  # not a part of any repository
    subprocess.run(["git", "apply", str(PATCH)], cwd=folder, env=environment, check=True)
    return folder / name


def run(runner: Path, folder: Path, tree: Path) -> tuple[str, list[str]]:
    """What Argo CD's tests say of a tree, and the names of those that passed."""
    place = folder / "util/lua"
    place.mkdir(parents=True)
    shutil.copytree(tree, folder / "resource_customizations")  # they look two folders up, and follow no links
    command = [str(runner), "-test.v", f"-test.run={'|'.join(TESTS)}"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    return done.stdout, re.findall(r"--- PASS: (\S+)", done.stdout)


def test_argo_cds_own_tests_pass(runner: Path, tmp_path: Path):
    output, passed = run(runner, tmp_path, RESOURCE_CUSTOMIZATIONS)
    assert "FAIL" not in output, output
    wanted = list(TESTS)
    for kind in KINDS:
        health, actions = expectations(kind)
        wanted += [f"{TESTS[0]}/{names.GROUP}/{kind}/{test['inputPath']}" for test in health]
        wanted += [f"{TESTS[1]}/discovery/{test['inputPath']}" for test in actions["discoveryTests"]]
        wanted += [f"{TESTS[1]}/actions/{test['action']}/{test['inputPath']}" for test in actions["actionTests"]]
    # Tests of the same name are numbered: name#01.
    assert sorted(re.sub(r"#\d+$", "", name) for name in passed) == sorted(wanted)


def test_argo_cds_own_tests_would_not_pass_otherwise(runner: Path, tmp_path: Path):
    """Each expectation, when changed, fails the one test that it belongs to."""
    tree = tmp_path / "tree"
    shutil.copytree(RESOURCE_CUSTOMIZATIONS, tree)
    changes = {
        "DaskJob/health_test.yaml": ("Deleted before it had finished", "Deleted"),
        "DaskWorkerGroup/actions/testdata/group-scaled.yaml": ("replicas: 6", "replicas: 5"),
        "DaskCluster/actions/action_test.yaml": ("Restart Workers", "Restart"),
    }
    for path, (old, new) in changes.items():
        text = (tree / names.GROUP / path).read_text()
        assert old in text
        (tree / names.GROUP / path).write_text(text.replace(old, new))
    output, _ = run(runner, tmp_path / "changed", tree)
    failed = re.findall(r"^ +--- FAIL: \w+/(\S+)", output, re.MULTILINE)
    assert sorted(failed) == sorted(
        [
            f"{names.GROUP}/DaskJob/testdata/deleted-hook-running.yaml",
            "actions/scale/testdata/group.yaml",
            *(f"discovery/testdata/cluster{suffix}.yaml" for suffix in ("", "-suspended", "-resumed", "-on-delete")),
        ]
    )


# --- Argo CD's commands on what is generated from the tree ------------------------------------------------------------


@pytest.fixture(scope="module")
def argocd() -> Callable[..., str]:
    """``argocd admin settings`` with our part of ``argocd-cm``."""
    with or_skip("Argo CD"):
        program = components.ensure(components.ARGO_CD)["argocd"]

    def run(*arguments: str | Path) -> str:
        command = [str(program), "admin", "settings", *map(str, arguments), f"--argocd-cm-path={SETTINGS}"]
        # It exits with 0 even if there is no script at all, so what it prints is what counts.
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_the_generated_settings_tell_health(argocd: Callable[..., str], kind: str):
    health, _ = expectations(kind)
    for test in health:
        told = argocd("resource-overrides", "health", TREE / kind / test["inputPath"])
        expected = test["healthStatus"]
        assert told == f"STATUS: {expected['status']}\nMESSAGE: {expected.get('message', '')}\n"


@pytest.mark.parametrize("kind", KINDS)
def test_the_generated_settings_offer_and_run_actions(argocd: Callable[..., str], kind: str):
    _, actions = expectations(kind)
    folder = TREE / kind / "actions"
    for test in actions["discoveryTests"]:
        rows = argocd("resource-overrides", "list-actions", folder / test["inputPath"]).splitlines()[1:]
        offered = [row.split() for row in rows]
        assert offered == sorted([action["name"], str(action["disabled"]).lower()] for action in test["result"])
    for test in actions["actionTests"]:
        if "expectedOutputPath" in test:
            given = [f"--param={name}={value}" for name, value in test.get("parameters", {}).items()]
            changes = argocd("resource-overrides", "run-action", folder / test["inputPath"], test["action"], *given)
            assert changes.startswith("Following fields have been changed")


def test_argo_cd_reads_the_generated_settings(argocd: Callable[..., str]):
    assert "❌" not in argocd("validate")
    assert f"{len(KINDS) + 1} resource overrides" in argocd("validate")  # one is Argo CD's own
