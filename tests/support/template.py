"""A platform team's repository, as ``python -m dask_synth init`` makes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dask_synth.cli import main


def start(directory: Path, **changes: str) -> Path:
    """Make the repository, put other values for constants into its program, and run that.

    Args:
        directory: where to; it does not exist yet.
        changes: constant -> value.
    """
    with pytest.raises(SystemExit) as ended:
        main(["init", str(directory)])
    assert ended.value.code == 0
    program = directory / "synth.py"
    lines = program.read_text().splitlines()
    for name, value in changes.items():
        (number,) = (n for n, line in enumerate(lines) if line.startswith(f"{name} = "))
        lines[number] = f"{name} = {value!r}"
    program.write_text("\n".join(lines) + "\n")
    synth(directory)
    return directory


def synth(directory: Path) -> None:
    """Run its program."""
    subprocess.run([sys.executable, "synth.py"], cwd=directory, check=True, capture_output=True)
