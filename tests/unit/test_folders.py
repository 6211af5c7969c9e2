"""What is written is there as a whole or not at all, and takes nothing of others away (constructs finding 1)."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.support import interrupted

from dask_synth import folders, output
from dask_synth.folders import LISTING, WriteError, add_files, new_folder, replace_file

OLD = {"a.yaml": b"old", "crds/b.yaml": b"same", "gone/c.yaml": b"old"}
NEW = {"a.yaml": b"new", "crds/b.yaml": b"same", "more/d.yaml": b"new"}

WRITES = """
from pathlib import Path
from dask_synth import folders, output
if {by_renames}:
    folders._exchanged = lambda one, other: False
with output({directory!r}) as fresh:
    for name, content in {files!r}.items():
        (fresh / name).parent.mkdir(exist_ok=True)
        (fresh / name).write_bytes(content)
"""


def contents(directory: Path) -> dict[str, bytes]:
    """All but the list."""
    found = folders.contents(directory)
    found.pop(LISTING, None)
    return found


def write(directory: Path, files: dict[str, bytes]) -> None:
    with output(directory) as fresh:
        for name, content in files.items():
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_bytes(content)


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A folder of output."""
    write(tmp_path / "dist", OLD)
    return tmp_path / "dist"


# --- whole or not at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "full", "interrupt"])
@pytest.mark.parametrize("by_renames", [False, True])
def test_whatever_stops_it_the_folder_is_the_old_one_or_the_new_one(tmp_path: Path, how: str, by_renames: bool) -> None:
    """Stopped at each of its deeds in turn. The next run removes what is left, and puts the old one back."""
    dist, ends = tmp_path / "dist", set()
    program = WRITES.format(directory=str(dist), files=NEW, by_renames=by_renames)
    write(dist, OLD)
    for done in interrupted.runs(program, how=how, place=tmp_path):
        found = contents(dist)
        if by_renames and how == "kill" and not dist.exists():
            (old,) = tmp_path.glob(".dist.*/old")
            found = contents(old)
        assert found in (OLD, NEW)
        ends.add((done.returncode == 0, found == NEW))
        assert how != "full" or [path.name for path in tmp_path.iterdir()] == ["dist"]
        write(dist, OLD)
        assert contents(dist) == OLD
        assert [path.name for path in tmp_path.iterdir()] == ["dist"]
    assert {(False, False), (True, True)} <= ends


def test_an_exception_leaves_the_old_folder(dist: Path) -> None:
    with pytest.raises(ZeroDivisionError), output(dist) as fresh:
        (fresh / "a.yaml").write_text(str(1 / 0))
    assert contents(dist) == OLD
    assert os.listdir(dist.parent) == ["dist"]


def test_what_a_killed_run_leaves_is_nothing_to_git(dist: Path) -> None:
    subprocess.run(["git", "init", "-q", str(dist.parent)], check=True)
    program = WRITES.format(directory=str(dist), files=NEW, by_renames=False)
    assert interrupted.run(program, how="kill", point=6, place=dist.parent).returncode < 0
    assert len(list(dist.parent.glob(".dist.*"))) == 1
    found = subprocess.check_output(["git", "status", "--porcelain"], cwd=dist.parent, text=True)
    assert found == "?? dist/\n"


def test_a_run_that_goes_on_is_not_swept_away_by_another(dist: Path) -> None:
    with output(dist) as slow:
        (slow / "slow.yaml").write_text("slow")
        write(dist, NEW)
        assert contents(dist) == NEW
    assert contents(dist) == {"slow.yaml": b"slow"}


def test_two_at_once_leave_what_one_of_them_wrote(dist: Path) -> None:
    each = [{name: bytes([number]) for name in OLD} for number in range(8)]
    threads = [threading.Thread(target=write, args=(dist, files)) for files in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(dist) in each


@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
def test_there_is_always_a_folder(dist: Path) -> None:
    """Argo CD's plugin or an editor may look at any time: no moment is without a whole one."""
    seen, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(dist.is_dir())

    watcher = threading.Thread(target=look)
    watcher.start()
    for files in [NEW, OLD] * 20:
        write(dist, files)
    done.set()
    watcher.join()
    assert all(seen)


# --- nothing of others ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", ["notes.md", "crds/notes.md", ".hidden", "a folder/notes.md"])
def test_files_of_others_are_refused(dist: Path, theirs: str) -> None:
    (dist / theirs).parent.mkdir(exist_ok=True)
    (dist / theirs).write_text("years of work")
    with pytest.raises(WriteError, match=rf"not generated.*{theirs}"):
        write(dist, NEW)
    assert contents(dist) == {**OLD, theirs: b"years of work"}


def test_a_link_of_somebody_is_one_of_his_files(dist: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (dist / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriteError, match="linked"):
        write(dist, NEW)


def test_a_folder_that_nobody_listed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("mine")
    with pytest.raises(WriteError, match=r"a\.yaml"):
        write(tmp_path, NEW)
    assert (tmp_path / "a.yaml").read_text() == "mine"


def test_a_file_that_comes_out_the_same_may_be_anybodys(dist: Path) -> None:
    """As another branch has generated it, before the lists were merged."""
    (dist / "more").mkdir()
    (dist / "more/d.yaml").write_bytes(NEW["more/d.yaml"])
    write(dist, NEW)
    assert contents(dist) == NEW


def test_a_list_with_marks_of_a_merge_is_read(dist: Path) -> None:
    text = (dist / LISTING).read_text()
    (dist / LISTING).write_text(f"<<<<<<< HEAD\n{text}=======\nmore/d.yaml\n>>>>>>> other\n")
    (dist / "more").mkdir()
    (dist / "more/d.yaml").write_text("of the other branch")
    write(dist, NEW)
    assert contents(dist) == NEW


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dist").write_text("mine")
    with pytest.raises(WriteError, match="no folder"):
        write(tmp_path / "dist", NEW)
    assert (tmp_path / "dist").read_text() == "mine"


def test_a_link_to_the_folder_stays_one(dist: Path) -> None:
    link = dist.with_name("link")
    link.symlink_to("dist")
    write(link, NEW)
    assert link.is_symlink()
    assert contents(dist) == NEW


# --- what is the same -------------------------------------------------------------------------------------------------


def test_what_has_not_changed_keeps_its_time(dist: Path) -> None:
    for path in (dist / "crds/b.yaml", dist / "a.yaml"):
        os.utime(path, ns=(5, 5))
    write(dist, NEW)
    assert (dist / "crds/b.yaml").stat().st_mtime_ns == 5
    assert (dist / "a.yaml").stat().st_mtime_ns > 5


def test_nothing_is_touched_where_nothing_has_changed(dist: Path) -> None:
    before = dist.stat()
    write(dist, OLD)
    assert dist.stat() == before


def test_others_can_read_it(dist: Path) -> None:
    assert dist.stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --- what cannot be renamed -------------------------------------------------------------------------------------------


@pytest.fixture
def unmovable(monkeypatch: pytest.MonkeyPatch, dist: Path) -> Path:
    """A folder as a mount point is one, or one of a lower layer of a container's image."""
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path == dist:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", refused)
    return dist


def test_a_folder_that_cannot_be_renamed_is_brought_up_to_date(unmovable: Path) -> None:
    write(unmovable, NEW)
    assert contents(unmovable) == NEW
    assert not (unmovable / "gone").exists()
    fresh = unmovable.with_name("fresh")
    write(fresh, NEW)
    assert folders.contents(unmovable) == folders.contents(fresh), "the list, too"


def test_after_a_kill_there_the_next_run_goes_on(unmovable: Path) -> None:
    program = WRITES.format(directory=str(unmovable), files=NEW, by_renames=True)
    program = program.replace("with output", "folders._swap = folders._file_by_file\nwith output")
    for done in interrupted.runs(program, how="kill", place=unmovable.parent):
        for name, content in contents(unmovable).items():
            assert content in (OLD.get(name), NEW.get(name))
        write(unmovable, {"other": b"other"})  # which refuses nobody's files
        assert contents(unmovable) == {"other": b"other"}
        if done.returncode:
            write(unmovable, OLD)


# --- other things that are written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "full", "interrupt"])
def test_a_new_folder_is_whole_or_not_there(tmp_path: Path, how: str) -> None:
    target = tmp_path / "release"
    program = f"""
from pathlib import Path
from dask_synth.folders import new_folder
with new_folder(Path({str(target)!r})) as fresh:
    (fresh / "oci").mkdir()
    (fresh / "oci/index.json").write_text("index")
    (fresh / "SHA256SUMS").write_text("sums")
"""
    for done in interrupted.runs(program, how=how, place=tmp_path):
        whole = {"oci/index.json": b"index", "SHA256SUMS": b"sums"}
        assert contents(target) in ({}, whole)
        assert target.exists() == (contents(target) == whole)
        if done.returncode and target.exists():  # stopped when all was done
            shutil.rmtree(target)
    assert [path.name for path in tmp_path.iterdir()] == ["release"], "the last run has removed what the others left"
    with pytest.raises(WriteError, match="is not empty"), new_folder(target):
        pass


@pytest.mark.parametrize("how", ["kill", "full", "interrupt"])
def test_files_are_added_to_a_folder_all_or_none(tmp_path: Path, how: str) -> None:
    """Some are there after a kill; then the next call adds the rest. What was there before is never touched."""
    program = f"""
from pathlib import Path
from dask_synth.folders import add_files
add_files(Path({str(tmp_path)!r}), {{Path("a"): "a", Path("b/c"): "c"}})
"""
    (tmp_path / "mine").write_text("mine")
    for done in interrupted.runs(program, how=how, place=tmp_path):
        assert (tmp_path / "mine").read_text() == "mine"
        if how != "kill":
            there = [path for path in (tmp_path / "a", tmp_path / "b/c") if path.exists()]
            assert len(there) in ((0, 2) if done.returncode else (2,))
    assert contents(tmp_path) == {"mine": b"mine", "a": b"a", "b/c": b"c"}
    (tmp_path / "a").write_text("edited")
    with pytest.raises(WriteError, match="a is there already"):
        add_files(tmp_path, {Path("d"): "d", Path("a"): "a"})
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("how", ["kill", "full", "interrupt"])
def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path, how: str) -> None:
    page = tmp_path / "page.md"
    page.write_text("old")
    page.chmod(0o640)
    program = f"""
from pathlib import Path
from dask_synth.folders import replace_file
replace_file(Path({str(page)!r}), "new")
"""
    for done in interrupted.runs(program, how=how, place=tmp_path):
        assert page.read_text() in ("old", "new")
        assert done.returncode or page.read_text() == "new"
        assert page.stat().st_mode & 0o777 == 0o640
        replace_file(page, "old")
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, which takes root on Linux"
)
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)], check=False)
    if mounted.returncode:
        pytest.skip("may not mount")
    try:
        write(tmp_path / "dist", OLD)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / "dist", {"large": b"." * 1024 * 1024})
        assert contents(tmp_path / "dist") == OLD
        assert os.listdir(tmp_path) == ["dist"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
