"""A release: the same bytes each time, and what the formats ask for."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dask_synth.config import Configuration, ConfigurationError, check_image
from dask_synth.folders import LISTING, WriteError
from dask_synth.release import ReleaseError, release

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "controller" / "requirements.lock"
IMAGE = "registry.example.com/operator:0.1.0@sha256:" + "5" * 64


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    directory = tmp_path_factory.mktemp("release") / "0.1.0"
    return directory, release(directory, Configuration(image=IMAGE), lock=LOCK, revision="abc")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def blob(directory: Path, descriptor: dict) -> bytes:
    algorithm, _, digest = descriptor["digest"].partition(":")
    content = (directory / "oci/blobs" / algorithm / digest).read_bytes()
    assert hashlib.new(algorithm, content).hexdigest() == digest
    assert len(content) == descriptor["size"]
    return content


def test_the_same_input_gives_the_same_bytes(released: tuple[Path, str], tmp_path: Path) -> None:
    directory, digest = released
    assert release(tmp_path / "again", Configuration(image=IMAGE), lock=LOCK, revision="abc") == digest
    assert contents(tmp_path / "again") == contents(directory)
    other = release(tmp_path / "other", Configuration(), lock=LOCK, revision="abc")
    assert other != digest


def test_the_checksums_are_right_and_of_everything(released: tuple[Path, str]) -> None:
    directory, _ = released
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=directory, check=True)
    listed = {line.split()[1] for line in (directory / "SHA256SUMS").read_text().splitlines()}
    assert listed == contents(directory).keys() - {"SHA256SUMS"}


def test_the_layout_is_an_oci_artifact_with_the_manifests(released: tuple[Path, str]) -> None:
    directory, digest = released
    assert json.loads((directory / "oci/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (descriptor,) = json.loads((directory / "oci/index.json").read_text())["manifests"]
    assert descriptor["digest"] == digest
    assert descriptor["annotations"]["org.opencontainers.image.ref.name"] == "0.1.0"
    manifest = json.loads(blob(directory, descriptor))
    assert manifest["annotations"]["org.opencontainers.image.revision"] == "abc"
    assert blob(directory, manifest["config"]) == b"{}"
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    archive = blob(directory, layer)
    assert archive == (directory / "dask-gitops-0.1.0.tar.gz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
        install = tar.extractfile("install.yaml")
        assert install is not None
        assert IMAGE in install.read().decode()
    committed = {str(path.relative_to(ROOT / "dist")) for path in (ROOT / "dist").rglob("*")}
    assert set(names) == committed - {LISTING}


def test_the_sbom_lists_what_the_lock_pins_with_hashes(released: tuple[Path, str]) -> None:
    bom = json.loads((released[0] / "sbom.cdx.json").read_text())
    assert bom["bomFormat"] == "CycloneDX"
    assert "serialNumber" not in bom
    found = {component["name"]: component["version"] for component in bom["components"]}
    assert found == pinned()
    assert all(c["externalReferences"][0]["hashes"] for c in bom["components"])


def pinned() -> dict[str, str]:
    lines = [line.partition(" ")[0] for line in LOCK.read_text().splitlines() if "==" in line and line[0].isalpha()]
    return dict(line.split("==") for line in lines)


def test_the_lock_is_in_step_with_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in (*project["dependencies"], *extras["controller"], *extras["tracing"]):
        wanted = Requirement(text)
        assert pinned()[wanted.name] in wanted.specifier, f"run `make lock`: {text}"


def test_a_release_is_not_mixed_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    with pytest.raises(WriteError, match="is not empty"):
        release(tmp_path, Configuration(), lock=LOCK)
    with pytest.raises(ReleaseError, match="does not exist"):
        release(tmp_path / "new", Configuration(), lock=tmp_path / "no.lock")


def test_what_a_release_lacks_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a folder was left, so that the next try failed too (constructs finding 14)."""
    target = tmp_path / "new"
    for image in ("r/OP:1 x", "r/op:1@sha256:abc", "-v /:/host", ""):
        with pytest.raises(ConfigurationError, match="is not the reference of an image"):
            release(target, Configuration(image=image), lock=LOCK)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ReleaseError, match=r"pip install 'dask-gitops\[release\]'"):
        release(target, Configuration(image=IMAGE), lock=LOCK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "image",
    [
        "op",
        "op:1",
        "team/op",
        "localhost:5000/op:1",
        "Registry.example.com/team/my_op--x:v1.2",
        "r.io/op@sha256:" + "a" * 64,
    ],
)
def test_references_of_images_are_taken(image: str) -> None:
    check_image(image)


def test_a_release_that_fails_late_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the very last of its parts."""
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ReleaseError, match="no SBOM"):
        release(tmp_path / "new", Configuration(image=IMAGE), lock=LOCK)
    assert list(tmp_path.iterdir()) == []


def test_the_command_warns_of_an_image_without_digest(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dask_synth", "release", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "has no digest" in done.stderr
    assert "sha256:" in done.stdout
    assert "oras cp --from-oci-layout" in done.stdout
