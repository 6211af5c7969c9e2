"""Folders and files that are written whole or not at all, and never over what somebody else has written.

A folder is made beside the one whose place it takes, and swapped in by one rename when all of it is there. Whatever
ends the program before that, an exception, a full disk, ``kill -9``, leaves the old folder as it was. The next run
removes what such an end has left.
"""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from .failure import Failure

if sys.platform != "win32":
    import fcntl

#: In each folder of output: the files that were generated, one path a line. Whatever else is there is not ours.
LISTING = ".dask-synth"
_NOTE = "# Generated files of this folder. These, and no others, are replaced and deleted without asking."
_SUFFIX = ".dask-synth.tmp"


class WriteError(Failure):
    """Something is in the way; nothing was written. The message says what, and what to do about it."""


@contextmanager
def output(directory: Path | str) -> Iterator[Path]:
    """A fresh folder that takes the place of ``directory`` at the end of the block.

    >>> with output("dist") as dist:
    ...     app = App(outdir=str(dist / "clusters"))

    The old folder stays whole until the new one is, whatever happens in the block. Files that have not changed keep the
    time of their last change; if nothing has changed, nothing is touched. Only where ``directory`` cannot be renamed, a
    mount point say, it is brought up to date file by file.

    The folder is replaced as a whole, so it may hold nothing but what was written this way: a list of it is in the file
    ``.dask-synth``, which belongs into Git like the rest. The list has only names: a generated file that was edited
    by hand is generated anew. Other files are no obstacle if they are just what is written.

    Args:
        directory: made if it does not exist. If it is a symbolic link, the folder that it leads to is replaced.

    Raises:
        WriteError: there are files in ``directory`` that were not written this way.
        OSError: no room, or no permission.
    """
    target = Path(directory).resolve()
    if target.exists() and not target.is_dir():
        raise WriteError(f"{directory} is no folder")
    with _beside(target) as fresh:
        yield fresh
        complete(fresh)
        wanted, present = contents(fresh), contents(target)
        if wanted == present:
            return
        same = {name for name, content in wanted.items() if present.get(name) == content}
        _refuse_strangers(target, Path(directory), same)
        for name in same:
            shutil.copystat(target / name, fresh / name, follow_symlinks=False)
        _swap(fresh, target)


@contextmanager
def new_folder(directory: Path) -> Iterator[Path]:
    """A fresh folder that becomes ``directory`` at the end of the block.

    Raises:
        WriteError: ``directory`` is there and not empty.
    """
    target = directory.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise WriteError(f"{directory} is not empty")
    with _beside(target) as fresh:
        yield fresh
        fresh.rename(target)


def write_files(directory: Path, files: Mapping[Path, str]) -> None:
    """Write files into a folder that nobody looks at yet, by their paths in it."""
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)


def add_files(directory: Path, files: Mapping[Path, str]) -> None:
    """Put files into a folder that is there, all of them or none; those that are there already must be the same.

    After a ``kill -9`` in the middle, another call adds the rest.

    Raises:
        WriteError: there are other files of these names.
    """
    others = [directory / path for path, text in files.items() if _is_other(directory / path, text)]
    if others:
        raise WriteError(f"{_few(others)} is there already" if len(others) == 1 else f"there already: {_few(others)}")
    placed: list[Path] = []
    with _beside(directory.resolve() / "repository") as fresh:
        write_files(fresh, files)
        try:
            for path in files:
                if not (directory / path).exists():
                    (directory / path).parent.mkdir(parents=True, exist_ok=True)
                    _place(fresh / path, directory / path)
                    placed.append(directory / path)
        except BaseException:
            for path in placed:
                path.unlink()
            raise


def _place(new: Path, path: Path) -> None:
    try:
        os.link(new, path)  # which, unlike a rename, never overwrites
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        new.rename(path)


def replace_file(path: Path, text: str) -> None:
    """Write a file, or leave the old one as it was.

    Raises:
        OSError: no room, or no permission.
    """
    target = path.resolve()
    with _beside(target) as fresh:
        new = fresh / target.name
        new.write_text(text)
        if target.exists():
            shutil.copymode(target, new)
        new.replace(target)


# --- what is whose ----------------------------------------------------------------------------------------------------


def contents(directory: Path) -> dict[str, bytes]:
    """All files below ``directory``, by their path in it; of a symbolic link where it leads to."""
    return {name: _content(directory / name) for name in _names(directory)}


def complete(directory: Path) -> None:
    """Add to a folder of output the list of what it holds."""
    names = [name for name in _names(directory) if name != LISTING]
    (directory / LISTING).write_text("".join(f"{line}\n" for line in (_NOTE, *names)))


def _refuse_strangers(target: Path, named: Path, same: Collection[str]) -> None:
    """Refuse to replace a folder with files that were not generated; those that stay the ``same`` may be anybody's."""
    try:
        # Whatever a merge has left in the list, two lists and marks between them say, names no file too many.
        listed = {LISTING, *(target / LISTING).read_text(errors="replace").splitlines()}
    except FileNotFoundError:
        listed = set()
    if strangers := [named / name for name in _names(target) if name not in listed and name not in same]:
        raise WriteError(
            f"{named} is replaced as a whole, and holds files that were not generated, or of which {named / LISTING} "
            f"does not say so: {_few(strangers)}. Move them, or name another folder"
        )


def _few(paths: list[Path]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(map(str, paths[:5])) + more


def _names(directory: Path) -> list[str]:
    found = []
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if not name.endswith(_SUFFIX)]
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        found += [(Path(folder) / name).relative_to(directory).as_posix() for name in (*files, *links)]
    return sorted(found, key=lambda name: (name != LISTING, name))


def _content(path: Path) -> bytes:
    return os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()


def _is_other(path: Path, text: str) -> bool:
    if not os.path.lexists(path):
        return False
    return not path.is_file() or path.read_bytes() != text.encode()


# --- how they change places -------------------------------------------------------------------------------------------


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """An empty folder on the file system of ``target``, gone at the end unless it was moved away."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent):
        _recover(target)
        workspace = Path(mkdtemp(prefix=f".{target.name}.", suffix=_SUFFIX, dir=target.parent))
        lock = _lock(workspace)  # for as long as we live: that is how others know
    try:
        (workspace / ".gitignore").write_text("*\n")  # should it be left behind
        (workspace / "new").mkdir()
        yield workspace / "new"
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
        _unlock(lock)


def _recover(target: Path) -> None:
    """Remove what runs that were killed have left; put the old folder back if one was killed between two renames."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{_SUFFIX}"):
        lock = _lock(left, wait=False) if left.is_dir() else None
        if lock is None:  # a run that goes on
            continue
        if (left / "old").exists() and not target.exists():
            (left / "old").rename(target)
        shutil.rmtree(left, ignore_errors=True)
        _unlock(lock)


def _swap(fresh: Path, target: Path) -> None:
    """Put ``fresh`` into the place of ``target``, which may not exist."""
    if not target.exists():
        fresh.rename(target)
        return
    if _exchanged(fresh, target):
        return
    old = fresh.with_name("old")
    try:
        target.rename(old)
    except OSError:  # a mount point, or of a lower layer of a container's image
        _file_by_file(fresh, target)
        return
    try:
        fresh.rename(target)
    except BaseException:
        old.rename(target)
        raise


def _file_by_file(fresh: Path, target: Path) -> None:
    """Make ``target`` equal to ``fresh``; each file is whole at any time, though not all of them together."""
    names, gone = _names(fresh), set(_names(target)) - set(_names(fresh))
    complete_list = (fresh / LISTING).read_text()
    (fresh / LISTING).write_text(complete_list + "".join(f"{name}\n" for name in sorted(gone)))  # until they are gone
    for name in names:  # the list comes first
        if not (target / name).exists() or _content(fresh / name) != _content(target / name):
            with _beside(target / name) as place:
                shutil.copy2(fresh / name, place / "file")
                (place / "file").replace(target / name)
    for name in gone:
        (target / name).unlink()
        for folder in (target / name).relative_to(target).parents[:-1]:
            with suppress(OSError):  # others are in it
                (target / folder).rmdir()
    replace_file(target / LISTING, complete_list)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two folders have changed places in one step, which Linux and most of its file systems can do."""
    with suppress(AttributeError, OSError, TypeError):  # no such function, no such library
        libc = ctypes.CDLL(None, use_errno=True)
        at_cwd, exchange = -100, 2
        return bool(libc.renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0)
    return False


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    lock = _lock(directory)
    try:
        yield
    finally:
        _unlock(lock)


def _lock(directory: Path, *, wait: bool = True) -> int | None:
    """A lock that the kernel takes back when the program ends, however it ends; ``None`` if it is not to be had."""
    if sys.platform == "win32":
        return None
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # somebody has it, or the file system has none
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
