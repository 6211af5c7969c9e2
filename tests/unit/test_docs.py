"""What stands on any page is true as far as it can be tried without a cluster: programs, manifests, commands."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from tests.cluster.modules import module_of
from tests.support.checkers import VERSION
from tests.support.constructs import IMAGE, chart, synth
from tests.support.programs import run

import dask_constructs
from dask_constructs import DaskCluster
from dask_crds.model import KINDS
from dask_synth.cli import dask_synth
from dask_synth.concepts_page import PAIRS, concepts
from dask_synth.reference import GENERATED

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
#: Whose programs are run by tests of their own.
RUN_ELSEWHERE = {"tutorial-constructs.md", "cookbook.md", "security.md"}
#: Kinds of others whose schemas are Kubernetes' own.
BUILT_IN = ("v1", "apps/v1", "batch/v1", "autoscaling/v2", "networking.k8s.io/v1", "policy/v1")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
            body = "".join(line.removeprefix(found[1]) for line in found[3].splitlines(keepends=True))
            yield Block(page, text.count("\n", 0, found.start()) + 1, found[2], body)


BLOCKS = list(blocks())


def of(*languages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in languages], ids=str)


def test_each_block_says_what_it_is() -> None:
    assert len(BLOCKS) > 80
    assert {
        str(b): b.language for b in BLOCKS if b.language not in ("console", "python", "text", "yaml", "json", "")
    } == {}


# --- programs ---------------------------------------------------------------------------------------------------------


@of("python")
def test_a_program_runs(block: Block, tmp_path: Path) -> None:
    """One that declares an app, or what may stand in one. Of others, which need a cluster, imports are tried."""
    tree = ast.parse(block.text)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    if "App" in names:
        if block.page.name not in RUN_ELSEWHERE:
            run(block.text, tmp_path)
    elif names & {*dask_constructs.__all__, "cluster"} and not imports:
        c = chart(namespace="docs")
        given: dict[str, Any] = {**vars(dask_constructs), "chart": c, "IMAGE": IMAGE}
        if not names & set(dask_constructs.__all__):
            given["cluster"] = DaskCluster(c, "cluster", name="analytics", image=IMAGE, memory="8Gi")
        exec(block.text, given)
        assert synth(c)
    else:
        for node in filter(is_to_be_had, imports):
            exec(compile(ast.Module([node], []), str(block), "exec"), {})


def is_to_be_had(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether it is ours, or installed: not everything is that users combine us with."""
    module = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
    package = module.partition(".")[0]
    return package.startswith("dask_") or importlib.util.find_spec(package) is not None


# --- manifests --------------------------------------------------------------------------------------------------------


@of("yaml", "json")
def test_a_manifest_is_valid(block: Block) -> None:
    for value in yaml.safe_load_all(block.text):
        if not isinstance(value, dict) or not {"kind", "apiVersion"} <= value.keys():
            continue  # a part of one
        if value["kind"] in KINDS:
            assert dask_constructs.problems(value) == []
        elif value["apiVersion"] in BUILT_IN:
            kubernetes_validate.validate(value, VERSION, strict=True)


def test_the_page_of_concepts_is_what_render_says() -> None:
    assert (ROOT / "docs/concepts.md").read_text() == concepts(GENERATED), "run `python -m dask_synth`"
    assert {pair.kind for pair in PAIRS} == set(KINDS)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_each_picture_of_a_run_is_on_a_page() -> None:
    """Those that tests make with ``UPDATE_SCREENSHOTS=1``; that others are there, the test of the site tells."""
    shown = {name for page in PAGES for name in re.findall(r"!\[[^]]+\]\((screenshots/[\w.-]+)\)", page.read_text())}
    assert shown
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs/screenshots").iterdir()}
    assert there == shown
    assert all((ROOT / "docs" / name).stat().st_size < 400_000 for name in shown)


# --- commands ---------------------------------------------------------------------------------------------------------


def lines(text: str) -> Iterator[str]:
    """Commands after prompts, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in re.findall(r"^\s*\$ (.*?)(?:  +#.*)?$", joined, re.MULTILINE):
        yield from (part.strip() for part in re.split(r"&&|\|", line))


def words(command: str) -> list[str]:
    return [word.strip("'\"") for word in command.split() if word != "sudo" and not re.match(r"[A-Z_]+=", word)]


@of("console", "text")
def test_commands_of_ours_take_these_arguments(block: Block) -> None:
    for command in lines(block.text):
        match words(command):
            case ["dask-synth" | "python" | "python3", *arguments] if "dask_synth" in arguments or command.startswith(
                "dask-synth"
            ):
                arguments = [word for word in arguments if word not in ("-m", "dask_synth")]
                arguments = arguments[: next((n for n, word in enumerate(arguments) if word in (">", "<")), None)]
                name = arguments[0] if arguments and not arguments[0].startswith("-") else None
                target = dask_synth if name is None else dask_synth.commands[name]
                target.make_context(
                    name or "dask-synth", arguments[name is not None :], parent=click.Context(dask_synth)
                )
            case ["python" | "python3", "-m", module, *_]:
                assert importlib.util.find_spec(module) is not None
            case ["make", target, *_]:
                assert f"\n{target}: ;" in (ROOT / "Makefile").read_text()


@of("console")
def test_files_that_commands_name_are_there(block: Block) -> None:
    """In ``dist/``, which is ours to promise."""
    named = [word for command in lines(block.text) for word in words(command) if word.startswith("dist/")]
    assert [path for path in named if not (ROOT / path).exists()] == []


# --- versions ---------------------------------------------------------------------------------------------------------


def test_the_versions_that_are_told_are_those_of_the_tests() -> None:
    text = (ROOT / "docs/capabilities.md").read_text()
    programs = ("kubectl", "containerd", "argocd", "flux", "keda-operator", "cert-manager-controller", "helm")
    (table,) = re.findall(r"## Versions\n(.*?)\n## ", text, re.DOTALL)
    told = re.findall(r"\d+\.\d+\.\d+", table)
    assert told == [module_of(name).version for name in programs]
