"""Every program of the tutorial, the cookbook and the pages on security and monitoring runs and type-checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.constructs import synth
from tests.support.programs import programs, run
from tests.support.typing import mypy_strict

PROGRAMS = programs("tutorial-constructs.md", "cookbook.md", "security.md", "monitoring.md")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda code: str(PROGRAMS.index(code)))
def test_a_program_runs(program: str, tmp_path: Path) -> None:
    variables = run(program, tmp_path)
    if "app.synth()" in program:
        assert list(tmp_path.rglob("*.yaml"))
    elif "chart" in variables:
        assert synth(variables["chart"])
    for name, value in variables.items():
        if name.startswith("test_"):
            value()


def test_the_programs_are_typed(tmp_path: Path) -> None:
    assert mypy_strict(*_written(tmp_path)) == []


def test_pyright_finds_no_fault_with_the_programs_either(tmp_path: Path) -> None:
    """Pylance is Pyright."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    done = subprocess.run([*command, *map(str, _written(tmp_path))], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 errors, 0 warnings, 0 informations", done.stdout


def _written(folder: Path) -> list[Path]:
    files = [folder / f"program_{number}.py" for number in range(len(PROGRAMS))]
    for file, program in zip(files, PROGRAMS, strict=True):
        file.write_text(program)
    return files
