"""The clusters that the user may see."""

from __future__ import annotations

import asyncio
import contextlib
import html
from collections.abc import Awaitable, Mapping
from dataclasses import astuple, dataclass, fields
from threading import Thread
from typing import Any, Literal, overload

from .access import Access
from .errors import MissingRight
from .standing import condition, standing


@dataclass(frozen=True)
class Listed:
    """A cluster as it stands in the list."""

    namespace: str
    name: str
    workers: str  #: ready and wanted ones, as ``ready/wanted``
    state: str  #: ``ready``, ``asleep``, ``coming`` or ``failed``
    words: str  #: why, for people


class Listing(list[Listed]):
    """Clusters, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{field.name}</th>" for field in fields(Listed))
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in astuple(each)) for each in self)
        return f"<table><tr>{heads}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


@overload
def clusters(namespace: str | None = None, *, asynchronous: Literal[True], **signed_in: Any) -> Awaitable[Listing]: ...


@overload
def clusters(namespace: str | None = None, *, asynchronous: Literal[False] = False, **signed_in: Any) -> Listing: ...


def clusters(namespace: str | None = None, *, asynchronous: bool = False, **signed_in: Any) -> Any:
    """The DaskClusters that the user may see: of a namespace, or of all where that is allowed.

    Args:
        namespace: where to look (default: everywhere, or else where the user is at home).
        asynchronous: whether the answer is awaited.
        signed_in: ``context`` and ``kubeconfig``, see `Cluster`.

    Raises:
        MissingRight: not even those of the own namespace may be listed.
        Unreachable: no Kubernetes answers.
    """
    found = _found(namespace, signed_in)
    return found if asynchronous else _in_a_thread(found)


async def _found(namespace: str | None, signed_in: dict[str, Any]) -> Listing:
    access = await Access.open(namespace, **signed_in)
    if namespace is None:
        with contextlib.suppress(MissingRight):
            return listing(await access.all("DaskCluster", everywhere=True))
    return listing(await access.all("DaskCluster"))


def listing(manifests: list[dict[str, Any]]) -> Listing:
    """The list that is made of manifests, by namespace and name."""
    return Listing(sorted(map(_listed, manifests), key=lambda each: (each.namespace, each.name)))


def _listed(cluster: Mapping[str, Any]) -> Listed:
    metadata, state = cluster["metadata"], standing(cluster)
    ready = condition(cluster, "Ready")
    words = state.words if state.state != "up" else str(ready.get("message") or state.words)
    workers = str((cluster.get("status") or {}).get("workers") or "")
    shown = "ready" if state.state == "up" else state.state
    return Listed(metadata["namespace"], metadata["name"], workers, shown, words)


def _in_a_thread(coroutine: Any) -> Any:
    """The result of a coroutine, also where an event loop runs already: in a notebook."""
    result: list[Any] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(coroutine))
        except BaseException as raised:
            error.append(raised)

    thread = Thread(target=run, name="dask-gitops")
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return result[0]
