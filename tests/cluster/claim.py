"""What a cluster holds on this machine, written down so that the next run removes what a killed one has left.

A claim is a folder ``<RUN>/<number>`` with the file ``pid`` (who holds it) and the file ``folder`` (where the cluster
lives). The number names everything that is not in that folder: network namespace, link, addresses.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .machine import CACHE, Unavailable

#: Numbers are the machine's for root, who makes networks of them, and else one's own.
RUN = Path("/run/dask-gitops") if os.geteuid() == 0 else CACHE / "run"
_CGROUPS = Path("/sys/fs/cgroup")
_SHIM = "containerd-shim-runc-v2"


@dataclass(frozen=True)
class Claim:
    """A number that no other cluster on this machine has, and a folder."""

    marker: Path
    folder: Path

    @classmethod
    def take(cls) -> Claim:
        """Claim a number, after removing what dead holders have left."""
        RUN.mkdir(parents=True, exist_ok=True)
        with _locked():
            _clear_the_dead()
            for number in range(256):
                marker = RUN / str(number)
                if marker.exists():
                    continue
                folder = Path(tempfile.mkdtemp(prefix="dask-gitops-"))
                marker.mkdir()
                (marker / "folder").write_text(str(folder))
                (marker / "pid").write_text(f"{os.getpid()} {_started(os.getpid())}")
                return cls(marker, folder)
        raise Unavailable(f"256 clusters are up already, see {RUN}")

    @property
    def number(self) -> int:
        """Less than 256."""
        return int(self.marker.name)

    @property
    def network(self) -> str:
        """Name of the network namespace."""
        return f"dask-gitops-{self.number}"

    @property
    def link(self) -> str:
        """Name of the host's end of the link into it."""
        return f"dg{self.number}"

    def release(self) -> None:
        """Remove everything that the cluster has left, and the marker last, so that an interrupted release is repeated.

        The processes of :class:`~.processes.Processes` have ended by now; containers have not, as they are children of
        their shims, and these of nobody.
        """
        containers = _containers(self.folder)
        _kill(self.folder, containers)
        if not _unmount(self.folder):
            print(f"left as they are, because something is still mounted there: {self.folder}", file=sys.stderr)
            return
        if os.geteuid() == 0:
            # The link by name: a process that hangs in the namespace would keep it, and so the name, alive.
            for command in (["ip", "link", "del", self.link], ["ip", "netns", "del", self.network]):
                with contextlib.suppress(FileNotFoundError):
                    subprocess.run(command, capture_output=True, check=False)
        for group in _cgroups(containers):
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.marker, ignore_errors=True)


def holders() -> list[int]:
    """Processes that hold a claim now."""
    found = ((marker / "pid").read_text().split() for marker in RUN.glob("[0-9]*") if _alive(marker))
    return sorted({int(pid) for pid, *_ in found})


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    with (RUN / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _clear_the_dead() -> None:
    for marker in RUN.glob("[0-9]*"):
        if not _alive(marker):
            folder = marker / "folder"
            # Killed while it claimed: the folder is none yet, and nothing can be in it.
            Claim(marker, Path(folder.read_text()) if folder.exists() else marker).release()


def _alive(marker: Path) -> bool:
    """Whether the holder is the process that it was: process ids come around again."""
    try:
        pid, *started = (marker / "pid").read_text().split()
    except (OSError, ValueError):
        return False  # claims are taken under a lock, so this one was left half-written
    now = _started(int(pid))
    return now != "" and (not started or started == [now])


def _started(pid: int) -> str:
    """When a process started, in ticks since boot; nothing if there is none: field 22 of proc_pid_stat(5)."""
    try:
        # The second field is a name in parentheses, which may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _containers(folder: Path) -> list[str]:
    """Ids of the containers whose state containerd keeps below a folder."""
    return [path.name for path in folder.glob("containerd/state/io.containerd.runtime.v2.task/k8s.io/*")]


def _cgroups(containers: list[str]) -> list[Path]:
    """Where containerd puts containers of a kubelet without cgroups of its own; one level more with cgroup v1."""
    places = [_CGROUPS, *_CGROUPS.glob("*/")]
    return [group for place in places for name in containers if (group := place / "k8s.io" / name).is_dir()]


def _kill(folder: Path, containers: list[str]) -> None:
    """Kill the shims of the containers, and all that runs in them."""
    deadline = time.monotonic() + 10
    while (victims := {*_shims(folder), *_members(containers)}) and time.monotonic() < deadline:
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _shims(folder: Path) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *arguments = (process / "cmdline").read_text(errors="replace").split("\0")
            if Path(program).name == _SHIM and f"{folder}/containerd.sock" in arguments:
                yield int(process.name)


def _members(containers: list[str]) -> Iterator[int]:
    for group in _cgroups(containers):
        for members in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                yield from map(int, members.read_text().split())


def _unmount(folder: Path) -> bool:
    """Unmount everything below a folder, the deepest first; whether nothing is left, and the folder safe to remove."""
    for _ in range(3):
        lines = Path("/proc/self/mounts").read_text().splitlines()
        points = [line.split()[1].replace(r"\040", " ") for line in lines]
        below = sorted((point for point in points if point.startswith(f"{folder}/")), key=len, reverse=True)
        if not below:
            return True
        for point in below:
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
    return False
