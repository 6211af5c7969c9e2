"""``connect``: from the name of a cluster to a Client of it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Literal, overload

from distributed import Client

from .cluster import Cluster, OnClose
from .leaving import at_exit


class _Client(Client):
    """A Client that takes its cluster along when it is closed."""

    async def _close(self, fast: bool = False) -> None:
        await super()._close(fast=fast)
        if self.cluster is not None and self._asynchronous:
            await self.cluster.close()

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Close the connection, and leave the cluster as ``on_close`` says."""
        closing = super().close(*args, **kwargs)
        if not self.asynchronous and self.cluster is not None:
            self.cluster.close()
        return closing


@overload
def connect(
    name: str | None = None, namespace: str | None = None, *, asynchronous: Literal[True], **options: Any
) -> Awaitable[Client]: ...


@overload
def connect(
    name: str | None = None, namespace: str | None = None, *, asynchronous: Literal[False] = False, **options: Any
) -> Client: ...


def connect(
    name: str | None = None, namespace: str | None = None, *, asynchronous: bool = False, **options: Any
) -> Any:
    """A Client of a DaskCluster: it is found, woken, waited for and connected to.

    >>> client = connect("analytics", workers=4)
    >>> client = await connect("analytics", workers=4, asynchronous=True)
    >>> client = connect(template="gpu-small", workers=4)

    ``client.cluster`` scales it and links to its dashboard; ``client.close()`` leaves it as it is, or as ``on_close``
    says. One that was made from a template ends then, unless ``keep=True``.

    Args:
        name: of the DaskCluster.
        namespace: where it is (default: that of the kubeconfig's context, or of the Pod).
        asynchronous: whether the answer is awaited.
        options: see `Cluster`.

    Raises:
        DaskGitopsError: see `Cluster`.
    """
    if asynchronous:
        return _connected(name, namespace, options)
    cluster = Cluster(name, namespace, **options)
    try:
        client = _Client(cluster)
    except BaseException:
        cluster.close(on_close=_of_failure(options))
        raise
    at_exit(client)
    return client


def _of_failure(options: dict[str, Any]) -> OnClose | None:
    """What becomes of a cluster that no Client is made of: one that was made for it goes, others stay as they are."""
    return None if options.get("template") else "detach"


async def _connected(name: str | None, namespace: str | None, options: dict[str, Any]) -> Client:
    cluster = await Cluster(name, namespace, asynchronous=True, **options)
    try:
        client: Client = await _Client(cluster, asynchronous=True)
    except BaseException:
        await cluster.close(on_close=_of_failure(options))
        raise
    return client
