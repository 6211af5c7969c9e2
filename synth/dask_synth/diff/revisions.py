"""Manifests of a folder on the disk, or of a revision in Git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..failure import Failure
from ..manifests import Found, is_read, parse, read
from .changes import Resource


class Side(NamedTuple):
    """Manifests of one side of a comparison."""

    folder: Path  #: which all of them are in
    found: Found

    @property
    def resources(self) -> list[Resource]:
        """The manifests, and in which folder of this one they are."""
        return [Resource(str(Path(it.file).parent.relative_to(self.folder)), it.value) for it in self.found.manifests]


def manifests(where: str | None, folder: Path) -> Side:
    """Our manifests in a file or folder, or in a folder of a revision.

    Args:
        where: a path if there is one of that name, else a revision; ``None`` for the working tree.
        folder: which folder of a revision or of the working tree, relative to the present one.

    Raises:
        Failure: neither a path nor a revision.
    """
    if where is not None and not Path(where).exists():
        return _of_revision(where, Path(os.path.relpath(folder)))
    place = Path(where) if where is not None else folder
    found = read([str(place)]) if place.exists() else Found([], [])
    return Side(place if place.is_dir() else place.parent, found)


def _of_revision(revision: str, folder: Path) -> Side:
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None and revision == "HEAD" and _git("rev-parse", "--git-dir"):
        return Side(folder, Found([], []))  # nothing was committed yet
    if commit is None:
        raise Failure(f"{revision} is neither a file or folder nor a revision of a Git repository here")
    root = commit.decode().strip()
    listed = _git("ls-tree", "-r", "-z", root, "--", f"{folder}/") or b""
    found = Found([], [])
    for entry in filter(None, listed.split(b"\0")):
        head, _, name = entry.partition(b"\t")
        path = name.decode(errors="replace")
        if is_read(PurePosixPath(path).relative_to(folder)):
            mode, _, blob = head.decode().split()
            data = _git("cat-file", "blob", blob) if mode != _LINK else _followed(root, path)
            here = parse(path, data) if data is not None else Found([], [f"{path}: leads to no file of {revision}"])
            found.manifests.extend(here.manifests)
            found.mistakes.extend(here.mistakes)
    return Side(folder, found)


_LINK = "120000"  #: mode of a symbolic link in Git


def _followed(commit: str, path: str) -> bytes | None:
    """What is in the file of a commit that a symbolic link leads to, however many links are on the way."""
    answer = _git("cat-file", "--batch", "--follow-symlinks", text=f"{commit}:./{path}\n".encode()) or b""
    head, _, data = answer.partition(b"\n")
    return data.removesuffix(b"\n") if head.split()[1:2] == [b"blob"] else None


def _git(*arguments: str, text: bytes | None = None) -> bytes | None:
    """What git prints; ``None`` if it fails, as it does outside of a repository."""
    try:
        return subprocess.run(["git", *arguments], input=text, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
