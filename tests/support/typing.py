"""What type checkers say of a user's program."""

from __future__ import annotations

import sys
from pathlib import Path

import mypy.api


def mypy_strict(*paths: Path) -> list[str]:
    """The lines that ``mypy --strict`` prints, without this project's configuration."""
    cache = Path(__file__).parents[2] / ".mypy_cache" / "user"
    options = ["--strict", "--config-file=", f"--cache-dir={cache}", f"--python-executable={sys.executable}"]
    report, crash, _ = mypy.api.run([*options, "--no-error-summary", *map(str, paths)])
    assert not crash
    return report.splitlines()
