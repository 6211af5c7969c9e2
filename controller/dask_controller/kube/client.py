"""A small client of the Kubernetes API: manifests in, manifests out (as dictionaries).

Why not one of the client libraries: docs/decisions/0002-kubernetes-client.md.
"""

from __future__ import annotations

from typing import Any, Self

from .api import Caller
from .credentials import find
from .reading import Reader
from .writing import Writer


class Kubernetes(Reader, Writer):
    """The API server; an asynchronous context manager.

    Every method raises ApiError unless it says otherwise.

    Args:
        endpoint: where the server is, who we are.
        caller: what we deal with, and our names there.
        connections: requests at a time; more wait. Watches and Leases are not counted.
        timeout_seconds: for one request, without the time that it waits for its turn.
        on_request: see `OnRequest`.
    """

    @classmethod
    def from_environment(
        cls, caller: Caller, kubeconfig: str | None = None, context: str | None = None, **options: Any
    ) -> Self:
        """The server of a kubeconfig or of the Pod we run in: see `credentials.find`.

        Raises:
            ConfigError: nothing usable was found.
        """
        return cls(find(kubeconfig, context), caller, **options)
