"""Where a GitOps tool finds manifests."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where the manifests are.

    Attributes:
        repository: URL of a Git repository; ``oci://...`` for an artifact.
        revision: branch of the repository; tag of the artifact.
        manifests: folder with ``crds`` and ``operator``; ``.`` in the artifact of a release.
        workloads: folder with Dask resources.
    """

    repository: str
    revision: str = "main"
    manifests: str = "dist"
    workloads: str = "clusters"

    @property
    def is_artifact(self) -> bool:
        """Whether it is an OCI artifact."""
        return self.repository.startswith("oci://")

    def folder(self, name: str) -> str:
        """Path of a folder of the manifests."""
        return posixpath.normpath(posixpath.join(self.manifests, name))
