"""actionlint reads the workflows: ours, and the one of the repository to start from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.cluster import components
from tests.support.clusters import or_skip

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted(path for path in ROOT.rglob(".github/workflows/*") if ".venv" not in path.parts)


@pytest.fixture(scope="module")
def actionlint() -> Path:
    with or_skip("actionlint"):
        return components.ensure(["actionlint"])["actionlint"]


def complaints(actionlint: Path, *arguments: str | Path, text: str | None = None) -> str:
    # The linters that it calls where they are installed would make the result depend on the machine.
    command = [actionlint, "-no-color", "-shellcheck=", "-pyflakes=", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=ROOT).stdout


def test_it_has_nothing_to_say(actionlint: Path) -> None:
    assert [path.name for path in WORKFLOWS] == ["check.yaml", "release.yaml", "site.yaml", "check.yaml"]
    assert complaints(actionlint, *WORKFLOWS) == ""


def test_it_would_find_a_mistake(actionlint: Path) -> None:
    broken = WORKFLOWS[0].read_text().replace("matrix.where", "matrix.were")
    assert 'property "were" is not defined' in complaints(actionlint, "-", text=broken)
