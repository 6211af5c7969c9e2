"""A list-and-watch cache with the semantics of client-go's Reflector.

kopf's index keeps objects that vanish while its watch is down and takes minutes to fill with thousands of Pods
(measured, see ``docs/decisions/0002-kubernetes-client.md``); here a relist replaces the cache and reports what is gone.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from .kubernetes import ApiError, ApiResource, Kubernetes

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: A watch that says nothing for so long, bookmarks included, is opened anew. The API server sends one a minute.
IDLE_SECONDS = 75.0
#: Deleted objects that are remembered, so that a late write response does not bring one back.
TOMBSTONES = 4096


class Informer(Generic[T]):
    """A cache of the objects of one kind.

    Args:
        kubernetes: the client.
        resource: which kind.
        namespaces: one stream each; ``None`` for one over all namespaces.
        labels: label selector, ``None`` for all objects.
        project: what is kept of an object.
        index: under which keys a kept object is found.
        on_change: called with what was kept before and after; ``None`` stands for absence. Must not block.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        resource: ApiResource,
        *,
        namespaces: Sequence[str] | None = None,
        labels: str | None = None,
        project: Callable[[dict[str, Any]], T],
        index: Callable[[T], Iterable[Hashable]],
        on_change: Callable[[T | None, T | None], None],
    ) -> None:
        self._kubernetes = kubernetes
        self._resource = resource
        self._namespaces: Sequence[str | None] = namespaces or [None]
        self._labels = labels or ""
        self._project = project
        self._index = index
        self._on_change = on_change
        self._objects: dict[str, tuple[int, str, T]] = {}  # uid -> resourceVersion, namespace, what is kept
        self._keys: defaultdict[Hashable, dict[str, T]] = defaultdict(dict)
        self._tombstones: OrderedDict[str, None] = OrderedDict()
        self._last_activity = time.monotonic()
        self.synced = asyncio.Event()
        self.relists = 0

    def __len__(self) -> int:
        return len(self._objects)

    def by_index(self, key: Hashable) -> list[T]:
        """The objects that ``index`` put under ``key``."""
        found = self._keys.get(key)
        return list(found.values()) if found else []

    def age_seconds(self) -> float:
        """Seconds since the API server was last heard of."""
        return time.monotonic() - self._last_activity

    def put(self, manifest: dict[str, Any]) -> None:
        """Take over the answer to a write, so that the next look does not miss it.

        What is older than the cache is dropped: resource versions of one kind can be compared (KEP-5504), and a
        deleted object stays deleted.
        """
        metadata = manifest["metadata"]
        uid, version = metadata["uid"], int(metadata["resourceVersion"])
        known = self._objects.get(uid)
        if uid in self._tombstones or (known is not None and known[0] >= version):
            return
        self._store(uid, version, metadata.get("namespace", ""), self._project(manifest))

    async def run(self) -> None:
        """List and watch until cancelled."""
        filled: set[str | None] = set()

        def on_filled(namespace: str | None) -> None:
            filled.add(namespace)
            if len(filled) == len(self._namespaces):
                self.synced.set()

        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                group.create_task(self._follow(namespace, on_filled))

    async def _follow(self, namespace: str | None, on_filled: Callable[[str | None], None]) -> None:
        version, delay = "", 0.1
        while True:
            try:
                if not version:
                    version = await self._relist(namespace)
                    on_filled(namespace)
                async for event in self._kubernetes.watch(
                    self._resource.kind,
                    namespace,
                    labels=self._labels,
                    version=version,
                    seconds=random.randint(240, 480),
                    idle_seconds=IDLE_SECONDS,
                ):
                    version, delay = self._take(event), 0.1
                delay = 0.1
            except ApiError as error:
                if error.status == 410:  # too old to go on from
                    version = ""
                logger.info("watching %s: %s", self._resource.plural, error)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                logger.info("watching %s: %s", self._resource.plural, type(error).__name__)
            except Exception:
                # A surprise must not end the stream for good: start over from a list.
                logger.exception("watching %s", self._resource.plural)
                version = ""
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))
            delay = min(delay * 2, 30.0)

    async def _relist(self, namespace: str | None) -> str:
        items, version = await self._kubernetes.list(self._resource.kind, namespace, labels=self._labels)
        present = {item["metadata"]["uid"] for item in items}
        for uid, (stored, where, _) in list(self._objects.items()):
            # What a write put here after the list was made is newer than the list.
            if uid not in present and (namespace is None or where == namespace) and stored <= int(version):
                self._forget(uid)
        for item in items:
            self.put(item)
        self.relists += 1
        self._last_activity = time.monotonic()
        return version

    def _take(self, event: dict[str, Any]) -> str:
        self._last_activity = time.monotonic()
        manifest = event["object"]
        match event["type"]:
            case "DELETED":
                self._forget(manifest["metadata"]["uid"])
            case "ADDED" | "MODIFIED":
                self.put(manifest)
        version: str = manifest["metadata"]["resourceVersion"]
        return version

    def _store(self, uid: str, version: int, namespace: str, new: T) -> None:
        old = self._drop(uid)
        self._objects[uid] = (version, namespace, new)
        for key in self._index(new):
            self._keys[key][uid] = new
        if old != new:
            self._on_change(old, new)

    def _forget(self, uid: str) -> None:
        self._tombstones[uid] = None
        if len(self._tombstones) > TOMBSTONES:
            self._tombstones.popitem(last=False)
        old = self._drop(uid)
        if old is not None:
            self._on_change(old, None)

    def _drop(self, uid: str) -> T | None:
        known = self._objects.pop(uid, None)
        if known is None:
            return None
        for key in self._index(known[2]):
            self._keys[key].pop(uid, None)
            if not self._keys[key]:
                del self._keys[key]
        return known[2]
