"""Programs that are stopped in the middle of what they write: killed, or told that the disk is full."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_HOOK = '''
import errno, os, signal, sys
how, point, place, deeds = {how!r}, {point}, {place!r}, 0
def stop(event, arguments):
    """Count what touches files of the place, and stop at one of them; a full disk stays full."""
    global deeds
    module, _, call = event.partition(".")
    writes = call in ("mkdir", "rename", "link", "remove", "rmdir", "utime", "chmod", "dlsym")
    writes = writes or event == "open" and isinstance(arguments[1], str) and arguments[1] != "r"
    if not writes or (event != "ctypes.dlsym" and place not in str(arguments)):
        return
    deeds += 1
    if how == "kill" and deeds == point:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "full" and deeds >= point and event in ("open", "os.mkdir", "os.link"):
        raise OSError(errno.ENOSPC, "No space left on device")
    if how == "interrupt" and deeds == point:
        raise KeyboardInterrupt
sys.addaudithook(stop)
'''


def run(
    program: str, *, how: str, point: int, place: Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that is stopped at its ``point``-th deed in files of a place, counted from 1.

    Args:
        program: Python.
        how: ``kill``, ``full`` (from then on nothing can be written) or ``interrupt``.
        point: which deed.
        place: part of the paths that are meant.
        cwd: where it runs.
    """
    script = _HOOK.format(how=how, point=point, place=str(place)) + program
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=cwd)


def runs(program: str, *, how: str, place: Path, step: int = 1) -> Iterator[subprocess.CompletedProcess[str]]:
    """Run it again and again, stopped later each time, until it is not stopped any more; that run is the last one."""
    point = 1
    while True:
        done = run(program, how=how, point=point, place=place)
        yield done
        if done.returncode == 0:
            return
        point += step
