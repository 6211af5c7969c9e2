"""The programs of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def programs(*pages: str) -> list[str]:
    """Those that declare an app, as they stand on the pages."""
    texts = [(DOCS / page).read_text() for page in pages]
    return [code for text in texts for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "App" in code]


def run(program: str, folder: Path) -> dict[str, Any]:
    """Run a program that writes into ``dist`` or below; it writes into ``folder`` instead. Its variables are given."""
    variables: dict[str, Any] = {}
    exec(re.sub(r'"dist(/?[^"]*")', rf'"{folder}\1', program), variables)
    return variables
