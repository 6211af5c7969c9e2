"""A repository to start from: ``dask-synth init DIR``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from dask_constructs.operator_pod import DEFAULT_IMAGE

from .folders import add_files, new_folder, write_files


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
    """Write the files, all of them or none; returns their paths.

    Args:
        directory: made if it does not exist; else it keeps what it holds, the ``.git`` of a clone say.

    Raises:
        WriteError: there are other files of these names, and nothing was written.
    """
    wanted = template()
    if directory.exists():
        add_files(directory, wanted)
    else:
        with new_folder(directory) as fresh:
            write_files(fresh, wanted)
    return [directory / path for path in wanted]
