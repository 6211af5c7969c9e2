"""Places in the queues of Kueue, which tells them whoever asks: of few that wait, and now and then.

Kueue serves them by an API server of its own behind the API server, which may be missing, down, or forbidden. Then
nobody is told a place.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from ..core.limits import TOLD
from ..core.queue_workload import Workload
from ..kube.api import ApiError
from ..kube.client import Kubernetes

#: Seconds between two looks; and where nobody has answered.
LOOK_SECONDS, UNANSWERED_SECONDS = 10.0, 60.0


class _Named(Struct):
    name: str


class _Pending(Struct, rename="camel"):
    metadata: _Named
    position_in_cluster_queue: int


class _Summary(Struct):
    items: list[_Pending] | None = None


class Positions:
    """How many wait before a Workload in its ClusterQueue, as far as it is known.

    Args:
        kubernetes: the client.
    """

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes
        self._found: dict[tuple[str, str], int] = {}

    def of(self, workload: Workload) -> int | None:
        """How many wait before it, `TOLD` for as many and more; ``None`` where nobody has said so."""
        return self._found.get((workload.namespace, workload.name)) if workload.is_pending else None

    async def look(self, waiting: Sequence[Workload]) -> tuple[list[Workload], float]:
        """Ask once for each LocalQueue that some wait in, one after the other.

        Returns:
            Those that have another place than before, and seconds until it is worth while to look again.
        """
        before, answers = self._found, 0
        queues = sorted({(w.namespace, w.queue) for w in waiting})
        found = dict[tuple[str, str], int]()
        for namespace, queue in queues:
            pending = await self._pending(namespace, queue)
            answers += pending is not None
            found |= {(namespace, p.metadata.name): min(p.position_in_cluster_queue, TOLD) for p in pending or ()}
        self._found = found
        moved = [w for w in waiting if before.get(key := (w.namespace, w.name)) != found.get(key)]
        return moved, LOOK_SECONDS if answers or not queues else UNANSWERED_SECONDS

    async def _pending(self, namespace: str, queue: str) -> list[_Pending] | None:
        """The first of a LocalQueue: who is further behind in it is so in its ClusterQueue as well."""
        query = {"limit": str(TOLD)}
        try:
            found = await self._kubernetes.get(
                "LocalQueue", namespace, queue, subresource="pendingworkloads", query=query
            )
            pending = msgspec.convert(found, _Summary).items if found is not None else None
        except (ApiError, msgspec.ValidationError):
            return None
        return [p for p in (pending or [])[:TOLD] if p.position_in_cluster_queue >= 0] if found is not None else None
