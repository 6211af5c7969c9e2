"""A repository to start from: ``python -m dask_synth init DIR``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from dask_constructs.operator import DEFAULT_IMAGE


def template() -> dict[Path, str]:
    """Contents of the files of the repository, by their path in it."""
    values = {"VERSION": version("dask-gitops"), "OPERATOR_IMAGE": DEFAULT_IMAGE}
    return dict(sorted(_files(files(__package__) / "template", Path(), values).items()))


def _files(folder: Traversable, at: Path, values: Mapping[str, str]) -> dict[Path, str]:
    found: dict[Path, str] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= {} if entry.name == "__pycache__" else _files(entry, at / entry.name, values)
            continue
        text = entry.read_text()
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        found[at / entry.name] = text
    return found


def start(directory: Path) -> list[Path]:
    """Write the files; returns their paths.

    Raises:
        FileExistsError: one of them is there already; then nothing is written.
    """
    wanted = {directory / path: text for path, text in template().items()}
    for path in wanted:
        if path.exists():
            raise FileExistsError(f"{path} is there already")
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(wanted)
