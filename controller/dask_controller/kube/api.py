"""The words of the Kubernetes API: manifests, kinds and their paths, errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

Manifest = dict[str, Any]

#: Reason of an ApiError: nothing is created any more in a namespace that is being deleted.
NAMESPACE_TERMINATING = "NamespaceTerminating"


class ApiError(Exception):
    """The API server refused, or could not be reached.

    Attributes:
        status: the HTTP status; 0 if there was no answer, in which case a write may have happened or not.
        reason: one word for machines, such as ``AlreadyExists`` or ``Conflict``.
        message: for people.
        retry_after: seconds to wait, as far as the server said so.
    """

    def __init__(self, status: int, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    def __repr__(self) -> str:
        return f"ApiError({self.status}, {self.reason!r}, {self.message!r})"


class ApiResource(Protocol):
    """A kind, and where the API server keeps its objects."""

    @property
    def group(self) -> str:
        """Empty for the core group."""

    @property
    def version(self) -> str:
        """Such as ``v1``."""

    @property
    def plural(self) -> str:
        """Its name in paths."""

    @property
    def kind(self) -> str:
        """Its name in manifests."""

    @property
    def namespaced(self) -> bool:
        """Whether its objects are in namespaces."""


@dataclass(frozen=True)
class Caller:
    """Who calls the API server.

    Attributes:
        kinds: what it deals with, by kind; with ``Lease`` if it elects a leader.
        field_manager: the name under which it writes.
        status_manager: the same for ``/status``.
        user_agent: its name in HTTP.
    """

    kinds: Mapping[str, ApiResource]
    field_manager: str
    status_manager: str
    user_agent: str


def api_version(resource: ApiResource) -> str:
    """``apiVersion`` of the manifests of a kind."""
    return f"{resource.group}/{resource.version}" if resource.group else resource.version


def path(resource: ApiResource, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
    """Path of an object, or of all objects if ``name`` is ``None``.

    Raises:
        ApiError: 404 for a name that no object can have. An empty one would lead to *all* objects.
    """
    parts = ["apis", resource.group, resource.version] if resource.group else ["api", resource.version]
    if namespace is not None and resource.namespaced:
        parts += ["namespaces", namespace]
    parts += [resource.plural]
    if name is not None:
        parts += [name]
    if subresource:
        parts += [subresource]
    if any(part in ("", ".", "..") for part in parts):
        raise ApiError(404, "NotFound", f"{resource.plural} cannot be named {name!r} in namespace {namespace!r}")
    return "/" + "/".join(quote(part, safe="") for part in parts)


def identified(manifest: Manifest, resource: ApiResource) -> Manifest:
    """With its own kind: lists of built-in kinds leave it out, and metadata alone comes under another name."""
    if manifest.get("kind") in (None, "PartialObjectMetadata"):
        manifest.update(apiVersion=api_version(resource), kind=resource.kind)
    return manifest
