"""A cluster in Docker, by kind: https://kind.sigs.k8s.io."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from .external import External
from .machine import progress, run

NAME = "dask-gitops"


class Kind(External):
    """A cluster of kind's with a kubeconfig of its own; a context manager. It is deleted at the end."""

    kind = "kind"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="dask-gitops-"))
        super().__init__(str(self._folder / "kubeconfig"), f"kind-{NAME}")

    def __enter__(self) -> Self:
        # What fails here is cleaned up by kind, and may have failed because there is one of that name, in use.
        with progress("creating a cluster: kind create cluster"):
            run(["kind", "create", "cluster", "--name", NAME, "--kubeconfig", str(self.kubeconfig)])
        try:
            return super().__enter__()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        run(["kind", "delete", "cluster", "--name", NAME, "--kubeconfig", str(self.kubeconfig)])
        shutil.rmtree(self._folder)

    def build_image(self, reference: str, source: Path) -> None:
        """Build an image by its Dockerfile and make it available on the node."""
        with progress(f"building the image: docker build --tag {reference} ."):
            run(["docker", "build", "--quiet", "--tag", reference, str(source)])
        with progress("loading it: kind load docker-image"):
            run(["kind", "load", "docker-image", "--name", NAME, reference])


def works() -> bool:
    """Whether kind is installed, and a Docker that answers."""
    if not (shutil.which("kind") and shutil.which("docker")):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
