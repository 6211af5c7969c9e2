"""Files by their path, as they are or as they should be."""

from __future__ import annotations

from pathlib import Path


def contents(directory: Path, *, at: Path) -> dict[Path, bytes]:
    """All files below ``directory``, named as if it were ``at``."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {at / path.relative_to(directory): path.read_bytes() for path in files}


def put(path: Path, content: bytes | None) -> None:
    """Write a file, or delete what an earlier run has left, as ``cdk8s synth`` does."""
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
