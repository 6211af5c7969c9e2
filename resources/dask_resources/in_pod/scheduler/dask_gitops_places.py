"""Where records are kept: in a folder of a volume, or of an object store.

Both are given paths of names with ``/`` between them. What is written is seen whole or not at all.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

MOST_READ = 4 * 2**20  #: bytes of a file


class Place(Protocol):
    """What a store of records needs; whatever goes wrong is an exception, whose words tell its user."""

    is_shared: bool  #: whether there may be folders of others, of which it takes a look to tell them from ours

    def folders(self, within: str) -> list[str]:
        """The names of the folders within one; none if there is no such folder."""

    def read(self, path: str) -> bytes:
        """The beginning of a file; empty if there is none."""

    def write(self, path: str, text: str) -> None:
        """Write a file."""

    def has(self, path: str) -> bool:
        """Whether there is such a file."""

    def delete(self, folder: str, names: Iterable[str]) -> None:
        """Delete files of these names, and their folder if nothing else is in it."""


class Volume:
    """A folder of a volume."""

    is_shared = True

    def __init__(self, top: Path) -> None:
        self._top = top

    def folders(self, within: str) -> list[str]:
        """Links are none."""
        try:
            with os.scandir(self._top / within) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, PermissionError):
            return []

    def read(self, path: str) -> bytes:
        """See `Place`."""
        try:
            with open(self._top / path, "rb") as file:
                return file.read(MOST_READ)
        except OSError:
            return b""

    def write(self, path: str, text: str) -> None:
        """Whoever reads sees what was before, or all of it, whenever the scheduler is killed."""
        file = self._top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        new = _unfinished(file)
        try:
            new.write_text(text, encoding="utf-8", errors="replace")
            os.replace(new, file)
        except OSError:
            new.unlink(missing_ok=True)  # in a full volume it would take what room is left
            raise

    def has(self, path: str) -> bool:
        """See `Place`."""
        return (self._top / path).exists()

    def delete(self, folder: str, names: Iterable[str]) -> None:
        """See `Place`."""
        for file in (self._top / folder / name for name in names):
            file.unlink(missing_ok=True)
            _unfinished(file).unlink(missing_ok=True)
        if not os.listdir(self._top / folder):
            (self._top / folder).rmdir()


def _unfinished(file: Path) -> Path:
    """What is to become that file; it stays behind when its writer is killed."""
    return file.with_name(f".{file.name}.new")


class ObjectStore:
    """A folder of an object store, by fsspec and what of its family the image has: s3fs for ``s3://``, say.

    Who may write there is found in the environment and by the ServiceAccount, as that library does. Nothing is renamed:
    one object is written whole, and what names others, an index, after them.
    """

    is_shared = False

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        # Its own one: users' code may use another one for the same store. What others have written is to be seen.
        self._files, self._top = url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
        self._names_type = url.startswith("s3:")

    def _path(self, path: str) -> str:
        return f"{self._top}/{path}".rstrip("/")

    def folders(self, within: str) -> list[str]:
        """See `Place`."""
        try:
            found = self._files.ls(self._path(within), detail=True)
        except FileNotFoundError:
            return []
        return [entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory"]

    def read(self, path: str) -> bytes:
        """See `Place`."""
        try:
            content: bytes = self._files.cat_file(self._path(path), start=0, end=MOST_READ)
        except FileNotFoundError:
            return b""
        return content

    def write(self, path: str, text: str) -> None:
        """With its type, by which a browser shows a page."""
        type, _ = mimetypes.guess_type(path)
        told: dict[str, Any] = {"ContentType": type} if type and self._names_type else {}
        self._files.pipe_file(self._path(path), text.encode(errors="replace"), **told)

    def has(self, path: str) -> bool:
        """See `Place`."""
        return bool(self._files.isfile(self._path(path)))

    def delete(self, folder: str, names: Iterable[str]) -> None:
        """See `Place`."""
        for name in filter(lambda name: self.has(f"{folder}/{name}"), names):
            self._files.rm_file(self._path(f"{folder}/{name}"))


def what(root: str) -> str:
    """What is there, for people."""
    return "object store" if "://" in root else "volume"


def place(root: str, path: str) -> Place:
    """A folder within a volume that is mounted at ``root``, or within the object store of that URL."""
    if what(root) == "volume":
        return Volume(Path(root, path))
    return ObjectStore("/".join(filter(None, (root, path))))
