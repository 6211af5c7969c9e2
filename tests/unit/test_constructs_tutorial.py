"""Every program of the tutorial runs, and type-checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.constructs import synth
from tests.support.typing import mypy_strict

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial-constructs.md"
PROGRAMS = [code for code in re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL) if "App" in code]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda code: str(PROGRAMS.index(code)))
def test_a_program_of_the_tutorial_runs(program: str, tmp_path: Path) -> None:
    variables: dict[str, Any] = {}
    exec(program.replace('"dist"', repr(str(tmp_path))), variables)
    if "app.synth()" in program:
        assert list(tmp_path.rglob("*.yaml"))
    elif "chart" in variables:
        assert synth(variables["chart"])


def test_the_programs_of_the_tutorial_are_typed(tmp_path: Path) -> None:
    for number, program in enumerate(PROGRAMS):
        (tmp_path / f"program_{number}.py").write_text(program)
    assert mypy_strict(*tmp_path.iterdir()) == []
