"""The controller as users run it, outside of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.cluster import ControlPlane


class Controller:
    """The controller as a process that can be killed."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._environment = os.environ | {"KUBECONFIG": str(plane.kubeconfig)}
        self._command = [sys.executable, "-m", "dask_controller", "run", "--namespace", namespace, "--port", "0"]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, env=self._environment, stderr=subprocess.PIPE, text=True)

    def kill(self) -> None:
        """As a node failure would: without a chance to finish anything."""
        self._process.kill()
        self._process.communicate()

    def stop(self) -> str:
        """Stop it politely; returns its log."""
        self._process.terminate()
        _, log = self._process.communicate(timeout=30)
        return log
