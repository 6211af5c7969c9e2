"""A cluster that is there already: kind, k3d, or one in the cloud."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

from .components import ensure
from .machine import Unavailable


class External:
    """The cluster of a kubeconfig; a context manager like the others.

    Args:
        kubeconfig: path; default: ``KUBECONFIG``, else kubectl's own.
        context: name of the context; default: ``KUBE_CONTEXT``, else the current one.
    """

    kind = "external"

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        self.context = context or os.environ.get("KUBE_CONTEXT")
        self.kubeconfig = Path(kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")

    def __enter__(self) -> Self:
        self._kubectl = shutil.which("kubectl") or str(ensure(["kubectl"])["kubectl"])
        try:
            self.kubectl("version", "-o", "json")
        except subprocess.CalledProcessError as error:
            raise Unavailable(f"the cluster of {self.kubeconfig} does not answer: {error.stderr.strip()}") from None
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Run kubectl; raises subprocess.CalledProcessError, whose ``stderr`` says why."""
        context = ["--context", self.context] if self.context else []
        command = [self._kubectl, "--kubeconfig", str(self.kubeconfig), *context, *args]
        return subprocess.run(command, input=input, check=True, text=True, capture_output=True).stdout

    def load_image(self, archive: Path) -> None:
        """Nothing can be loaded into a cluster that is not ours: it pulls, or you load."""
        print(f"not loaded into your cluster: {archive} (kind: `kind load image-archive {archive}`)", file=sys.stderr)
