"""The controller as users run it, outside of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster import ControlPlane


class Controller:
    """The controller as a process that can be killed."""

    def __init__(self, plane: ControlPlane, namespace: str, *arguments: str, kubeconfig: Path | None = None) -> None:
        #: What it finds; with ``POD_NAMESPACE`` it has a key of its own there.
        self.environment = os.environ | {"KUBECONFIG": str(kubeconfig or plane.kubeconfig)}
        command = ["-m", "dask_controller", "run", "--namespace", namespace, "--port", "0"]
        self._command = [sys.executable, *command, *arguments]
        self.start()

    def start(self) -> None:
        # A pipe that nobody reads from would hold it up when it is full.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(self._command, env=self.environment, stderr=self._log)

    def kill(self) -> None:
        """As a node failure would: without a chance to finish anything."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def stop(self) -> str:
        """Stop it politely; returns its log."""
        self._process.terminate()
        return self.ended()

    def log(self) -> str:
        """What it has written so far; where it goes on writing stays as it is."""
        file = self._log.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    def ended(self) -> str:
        """Wait until it has ended; its log."""
        self._process.wait(timeout=60)
        self._log.seek(0)
        log = self._log.read()
        self._log.close()
        return log


def start_operator(plane: ControlPlane) -> None:
    """Our operator as a process, for every namespace."""
    command = [sys.executable, "-m", "dask_controller", "run", "--all-namespaces", "--port", "0"]
    plane.processes.start("operator", *command, env={"KUBECONFIG": str(plane.kubeconfig)})


def start_activator(plane: ControlPlane) -> None:
    """The activator beside it, at an address that Kubernetes takes: it takes no loopback."""
    command = ["-m", "dask_controller.activator", "--all-namespaces", "--address", "192.0.2.7", "--port", "0"]
    plane.processes.start("activator", sys.executable, *command, env={"KUBECONFIG": str(plane.kubeconfig)})
