"""Manifests as people hand them in: what is wrong is told in one line each, and never by a traceback (finding 13)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dask_synth.manifests import MOST_BYTES, parse, read

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "dist/examples/dask-cluster.yaml").read_text()
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "in.yaml:2: not YAML: did not find expected node content"),
        ("a: b: c", "in.yaml:1: not YAML: mapping values are not allowed in this context"),
        ("- kind: DaskCluster", "in.yaml:1: not a manifest: [{'kind': 'DaskCluster'}]"),
        ("DaskCluster", "in.yaml:1: not a manifest: 'DaskCluster'"),
        ("kind: List\nitems: [5]", "in.yaml:2: not a manifest: 5"),
        ("kind: List\nitems: 5", "in.yaml:1: List: items: not a list: 5"),
        ("\0\1\2\3", "in.yaml: not YAML: "),
        (b"\xff\xfe\xfa", "in.yaml: not YAML: "),
        ("[" * 100_000, "not YAML: "),
        ("- " * 100_000, "not YAML: "),
        ("{a: " * 900 + "1" + "}" * 900, "levels deep"),
        (LAUGHS, "too many members, aliases counted"),
        ("a: &a [*a]", "contains itself"),
        ("kind: DaskCluster\n1: a", "line 2: a key must be text: put 1 in quotes"),
        ("kind: DaskCluster\n? [a]\n: b", "a key must be text"),
        ("kind: DaskJob\nkind: DaskCluster", "line 2: kind is there twice"),
        ("kind: !!python/object:os.system {}", "which is not possible in a manifest"),
        ("kind: !!binary aGFsbG8=", "which is not possible in a manifest"),
        ("*a", "not YAML: found undefined alias"),
        ("kind: !!bool maybe", "in.yaml: not YAML: 'maybe'"),
        ("kind: !!int ''", "in.yaml: not YAML: invalid literal"),
        (
            "apiVersion: kubernetes.dask.org/v1\nkind: DaskClusters",
            "kind: 'DaskClusters' is none, did you mean 'DaskCluster'",
        ),
        ("kind: daskcluster", "did you mean 'DaskCluster' (apiVersion kubernetes.dask.org/v1)?"),
        ("apiVersion: kubernetes.dask.org/v1\nkind: DaskWorkergroup", "did you mean 'DaskWorkerGroup'"),
        (
            "apiVersion: kubernetes.dask.org/v1\nkind: Cluster",
            "kind: 'Cluster' is none of kubernetes.dask.org/v1: DaskC",
        ),
        ("apiVersion: kubernetes.dask.org/v1", "kind: 'None' is none of"),
        ("apiVersion: dask.org/v1\nkind: DaskJob", "DaskJob: apiVersion: 'dask.org/v1' is not possible, did you mean"),
        ("kind: DaskJob", "DaskJob: apiVersion: None is not possible, did you mean 'kubernetes.dask.org/v1'?"),
        ("kind: {a: b}\napiVersion: [kubernetes.dask.org/v1]", ""),
        ("apiVersion: v1\nkind: List\nitems: [{kind: DaskClusters}]", "in.yaml:3: kind: 'DaskClusters' is none"),
    ],
)
def test_what_is_no_manifest_is_told(text: str | bytes, told: str) -> None:
    found = parse("in.yaml", text if isinstance(text, bytes) else text.encode())
    assert found.manifests == []
    assert len(found.mistakes) == (1 if told else 0)
    assert all(told in line and len(line) < 300 and "\n" not in line for line in found.mistakes)


@pytest.mark.parametrize(
    "text", ["", "# nothing", "---\n---\n", "kind: ConfigMap", "kind: PriceList", "a: 1", "kind: 5"]
)
def test_what_is_nobodys_mistake_is_passed_over(text: str) -> None:
    assert parse("in.yaml", text.encode()) == ([], [])


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": 5},
        {"metadata": None},
        {"metadata": {"name": 5}},
        {"metadata": {"name": "a", "labels": []}},
        {"metadata": {"name": "a", "labels": {"a": 5}}},
        {"metadata": {"name": ["a"], "namespace": {"b": 1}}},
        {"spec": None},
        {"spec": []},
        {"spec": {"worker": 5, "scheduler": []}},
        {"spec": {"worker": {"spec": {"containers": [5]}}, "scheduler": {"spec": {"containers": None}}}},
        {"spec": {"worker": {"spec": {"containers": []}}, "scheduler": {"spec": {"containers": {}}}}},
        {"spec": {"worker": {"spec": {}, "replicas": 10**400}, "scheduler": {"spec": {}}}},
    ],
)
def test_whatever_is_in_a_manifest_of_ours_is_told(change: dict[str, object]) -> None:
    text = yaml.safe_dump({**yaml.safe_load(EXAMPLE), **change})
    (manifest,) = parse("in.yaml", text.encode()).manifests
    assert manifest.problems()
    assert all(line.startswith("in.yaml:") and ": DaskCluster " in line for line in manifest.problems())


def test_the_line_is_that_of_the_field() -> None:
    lines = EXAMPLE.splitlines()
    at = next(number for number, line in enumerate(lines) if "runAsUser" in line)
    lines[at] = lines[at].replace("1000", "me")
    (manifest,) = parse("in.yaml", "\n".join(["kind: ConfigMap", "---", *lines]).encode()).manifests
    (told,) = manifest.problems()
    assert told.startswith(f"in.yaml:{at + 3}: DaskCluster simple: spec.")
    assert "runAsUser: must be of type integer, not 'me'" in told


def test_times_are_text_as_kubernetes_reads_them() -> None:
    text = EXAMPLE.replace("metadata:\n", "metadata:\n  annotations: {at: 2026-01-01}\n", 1)
    (manifest,) = parse("in.yaml", text.encode()).manifests
    assert manifest.value["metadata"]["annotations"] == {"at": "2026-01-01"}
    assert manifest.problems() == []


@pytest.mark.parametrize(
    ("word", "read_as"),  # as sigs.k8s.io/yaml v1.6.0 reads it
    [
        *[("y", True), ("N", False), ("yes", True), ("off", False), ("tRue", "tRue"), ("nULL", "nULL"), ("=", "=")],
        *[("0o644", 0o644), ("0644", 0o644), ("0_7", 7), ("08", 8), ("0X1F", 31), ("-0B11", -3), ("1_000", 1000)],
        *[("+0", 0), ("_1", "_1"), ("0o8", "0o8"), ("0x", "0x"), ("18446744073709551615", 2**64 - 1)],
        *[("1e3", 1000), ("1.0", 1), ("1E-3", 0.001), (".5e3", 500), ("5.", 5), ("1__0.5", 10.5), ("1e23", 1e23)],
        *[("1e", "1e"), (".", ".")],
        *[("._5", "._5"), ("12e4567", "12e4567"), ("12:30", "12:30"), ("1:2:3", "1:2:3"), ("10:30.5", "10:30.5")],
        *[("~", None), ("", None), ("null", None), ("!!str 5", "5"), ("!!int '5'", 5), (".inf", float("inf"))],
        ("<<", "<<"),
    ],
)
def test_words_are_what_they_are_to_kubernetes(word: str, read_as: object) -> None:
    text = f"apiVersion: kubernetes.dask.org/v1\nkind: DaskCluster\nspec: {word}\n"
    (manifest,) = parse("in.yaml", text.encode()).manifests
    assert (manifest.value["spec"], type(manifest.value["spec"])) == (read_as, type(read_as))


def test_folders_are_searched_and_all_mistakes_told(tmp_path: Path) -> None:
    (tmp_path / "deep/.git").mkdir(parents=True)
    for name in ("a.yaml", "deep/b.yml", "deep/c.json", "deep/d.txt", "deep/.git/e.yaml", ".f.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump({"kind": "DaskClusters"}) if ".json" not in name else "{")
    (tmp_path / "secret.yaml").symlink_to("nowhere")
    found = read([str(tmp_path), str(tmp_path / "none.yaml"), str(tmp_path / "deep/d.txt")])
    assert [Path(line.partition(":")[0]).name for line in found.mistakes] == [
        "a.yaml",
        "secret.yaml",
        "b.yml",
        "c.json",
        "none.yaml",
        "d.txt",
    ]


def test_what_is_far_too_large_is_not_read_to_its_end() -> None:
    found = read(["/dev/zero"])
    assert found.mistakes == [f"/dev/zero: more than {MOST_BYTES >> 20} MiB are no manifests"]


# --- the commands, as processes ---------------------------------------------------------------------------------------


def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dask_synth", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        (["render", "-"], "a: [", "<stdin>:2: not YAML"),
        (["render", "-"], "apiVersion: kubernetes.dask.org/v1\nkind: DaskCluster\nspec: {}", "spec.worker: is missing"),
        (["render", "none.yaml"], "", "none.yaml: No such file or directory"),
        (["--config", "none.yaml", "render", "-"], "", "No such file"),
        (["release", "/proc/1/x"], "", "/proc/1"),
        (["init", "/dev/null"], "", "/dev/null"),
        (["--output", "/dev/null"], "", "/dev/null is no folder"),
    ],
)
def test_failures_are_told_in_words(arguments: list[str], text: str, told: str) -> None:
    done = run(*arguments, text=text)
    assert done.returncode == 1
    assert done.stdout == ""
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["render"], ["rendr", "-"], ["--chekc"], ["--check", "render", "-"], ["init"]])
def test_a_wrong_command_line_is_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: ")
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_news() -> None:
    command = f"{sys.executable} -m dask_synth render dist | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "apiVersion: kubernetes.dask.org/v1\n" or done.stdout.startswith("apiVersion")
    assert done.stderr == ""


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "<&-"])
def test_a_stream_that_does_not_work_is_told(redirection: str) -> None:
    command = f"{sys.executable} -m dask_synth render dist/examples - {redirection}"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert done.returncode == (1 if redirection == ">/dev/full" else 0)
    assert done.stderr == ("[Errno 28] No space left on device\n" if done.returncode else "")


def test_an_encoding_without_arrows_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(EXAMPLE)
    (tmp_path / "old.yaml").write_text(EXAMPLE.replace("512Mi", "1Gi"))
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "dask_synth", "diff", "old.yaml", "new.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert r"memory 2Gi \u2192 1Gi" in done.stdout


def test_nothing_of_ours_is_said_and_no_failure() -> None:
    done = run("render", "-", text="kind: ConfigMap")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no Dask resources in -\n")
