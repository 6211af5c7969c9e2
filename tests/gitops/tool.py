"""What Argo CD and Flux have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .git import Repository


class Application(Protocol):
    """A folder of a repository that a tool applies to a namespace."""

    def sync(self, revision: str, *, seconds: float = 120) -> None:
        """Wait until the revision is applied, after asking for it."""

    def health(self) -> tuple[str, str]:
        """``Healthy``, ``Progressing``, ``Degraded`` ..., and why."""

    def drift(self) -> list[str]:
        """Resources that are not as Git says."""

    def resync(self) -> None:
        """Apply once more what is applied already, and wait for the end of it."""

    def refresh(self) -> None:
        """Look at Git now."""

    def forget(self) -> None:
        """Leave everything as it is from now on."""


class Tool(Protocol):
    """Argo CD or Flux."""

    def application(self, name: str, namespace: str, repository: Repository, *, wait: bool = True) -> Application:
        """Apply a repository to a namespace from now on, prune and heal.

        Args:
            name: of the application.
            namespace: where to.
            repository: what.
            wait: whether applying includes the wait for health, with a tool that can do that.
        """


def resource(api_version: str, kind: str, name: str, labels: Mapping[str, str] | None = None, **rest: Any) -> Any:
    """A manifest."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": labels or {}}, **rest}
