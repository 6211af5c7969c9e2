"""Processes that end with us, however we end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> Callable[[], None]:
    """A ``preexec_fn``: the process is killed when the thread that started it ends, see prctl(2).

    SIGKILL, because nothing here is worth saving, and kube-apiserver takes minutes to end politely without its etcd.
    """
    parent = os.getpid()

    def bind() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before prctl
            os._exit(1)

    return bind


class Processes:
    """A group of background processes with logs.

    Args:
        folder: where the logs go.
        prefix: command put before each, to enter a network namespace, say.
    """

    def __init__(self, folder: Path, prefix: Sequence[str] = ()) -> None:
        self._folder = folder
        self._prefix = list(prefix)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process; its output goes to ``<name>.log``."""
        with (self._folder / f"{name}.log").open("ab") as log:
            process = self._running[name] = subprocess.Popen(
                [*self._prefix, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Not in the folder of the tests, which is removed whole: containerd mounts things where it is told.
                env=os.environ | {"TMPDIR": tempfile.gettempdir()} | dict(env or {}),
                cwd=self._folder,
                preexec_fn=die_with_parent(),
                start_new_session=True,  # Ctrl-C is for us: we stop them, in order
            )
        return process

    def running(self, name: str) -> subprocess.Popen[bytes]:
        """A process that has been started, and not stopped."""
        return self._running[name]

    def check(self) -> None:
        """Raise RuntimeError with the end of its log if a process has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.log(name)}")

    def log(self, name: str) -> str:
        """The end of a process's log."""
        return (self._folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def stop(self, *names: str, seconds: float = 10) -> None:
        """Stop processes, all of them if none is named: politely first, unless no time is given for it."""
        chosen = [self._running.pop(name) for name in names or list(self._running) if name in self._running]
        for process in chosen if seconds else ():
            process.terminate()
        deadline = time.monotonic() + seconds
        for process in chosen:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()  # nothing happens to one that has ended
        for process in chosen:
            process.wait()


#: Ports below those of connections and those of NodePorts: what takes one of these is a server.
_PORTS = range(20_000, 30_000)
_given = set[int]()


def free_port() -> int:
    """A TCP port on localhost that is free now, and that nobody else is given in this process."""
    while True:
        port = secrets.choice(_PORTS)  # Hypothesis seeds `random`, in all processes alike
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
