"""Where a GitOps tool finds manifests."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Annotated, Any

from .keywords import Plain


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


#: In the place of a source that was refused.
NO_SOURCE = Source("")


def _source(given: object) -> object:
    if not isinstance(given, Source):
        raise ValueError(f"must be a Source, not {given!r}; write Source('https://...')")
    return given


SourceValue = Annotated[Source, Plain(Any, "a Source", _source)]


def sync_wave(number: int) -> dict[str, str]:
    """The annotation of a wave: lower ones are applied first, and pruned last."""
    return {"argocd.argoproj.io/sync-wave": str(number)}
