"""A cache of the objects of one kind that follows the API server by list and watch.

The rules are those of client-go's Reflector. The one that matters most: after a new list, objects that are not in it
are reported as gone, because their deletion happened while nobody was watching.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from .api import ApiError, ApiResource, Manifest
from .reading import IDLE_SECONDS, Reader

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between attempts: doubled from the first to the longest as long as no watch lasts for longer than the last.
#: Proxies and load balancers end one after half a minute, say, and nothing may be missed for that long afterwards.
FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
BRIEF_WATCH = 5.0


@dataclass
class _Stream:
    """How far one namespace (``None``: all of them) has been followed."""

    namespace: str | None
    version: int = 0  #: every event up to this resourceVersion has been seen
    listed: bool = False  #: whether a watch from ``version`` may be tried
    active_at: float = float("-inf")  #: when the server was heard last, on the event loop's clock


class _Entry(Struct, Generic[T], frozen=True, gc=False):
    """An object, and what the cache itself has to know about it."""

    version: int
    namespace: str | None
    keys: tuple[Hashable, ...]
    value: T


class Informer(Generic[T]):
    """The objects of one kind, as far as known here.

    Objects are compared by ``resourceVersion``, which is an ordered number for all kinds (KEP-5504): whatever is older
    than what the cache has is dropped, so that the answers to own writes can go in at once, by `put`.

    Attributes:
        synced: set when everything has been listed once. Decide nothing before.
        relists: lists that were completed, the first included.

    Args:
        kubernetes: the client.
        resource: the kind.
        project: what to keep of a manifest, which it may take apart.
        form: what a manifest is decoded into before, such as a ``TypedDict`` of the fields that ``project`` looks at:
            nothing is made of the others. An object that does not have that form comes as a plain dictionary.
        metadata_only: have nothing but ``metadata`` sent.
        index: the keys under which `by_index` shall find an object.
        on_change: called with the old and the new form, ``None`` for not existing, if they differ. Must be quick.
        namespaces: those to watch, each by a stream of its own; ``None`` for all by one.
        label: select the objects that have it, whatever its value; ``None`` for all.
        idle_seconds: silence after which a watch is replaced.

    An exception from ``project``, ``index`` or ``on_change`` is logged and concerns that one object only.
    """

    def __init__(
        self,
        kubernetes: Reader,
        resource: ApiResource,
        *,
        project: Callable[[Any], T],
        form: Any = dict[str, Any],
        metadata_only: bool = False,
        index: Callable[[T], Iterable[Hashable]] = lambda _: (),
        on_change: Callable[[T | None, T | None], None] = lambda _old, _new: None,
        namespaces: Sequence[str] | None = None,
        label: str | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self.relists = 0
        self._kubernetes = kubernetes
        self._project = project
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(form)
        self._metadata_only = metadata_only
        self._index = index
        self._on_change = on_change
        self._label = label
        self._idle_seconds = idle_seconds
        self._entries: dict[str, _Entry[T]] = {}
        self._by_key: dict[Hashable, str | dict[str, None]] = {}  # a uid, or several: mostly there is one
        self._streams: dict[str | None, _Stream] = {
            namespace: _Stream(namespace) for namespace in ([None] if namespaces is None else namespaces)
        }

    @property
    def store(self) -> dict[str, T]:
        """The objects by uid."""
        return {uid: entry.value for uid, entry in self._entries.items()}

    def by_index(self, key: Hashable) -> list[T]:
        """The objects for which ``index`` gave ``key``."""
        found = self._by_key.get(key, ())
        return [self._entries[uid].value for uid in ((found,) if isinstance(found, str) else found)]

    def age_seconds(self) -> float:
        """Seconds since the server was heard on the quietest stream; infinite before the first list.

        Bookmarks come every minute and a silent connection is replaced after `reading.IDLE_SECONDS`, so much more
        than the sum of both means that this cache has lost touch.
        """
        now = asyncio.get_running_loop().time()
        return max(now - stream.active_at for stream in self._streams.values())

    def put(self, manifest: Manifest) -> None:
        """Take in what a write was answered with, unless it is older than what is known.

        An object that is not in the cache and not newer than the last event has been deleted since: the events come in
        order. One that has lost its ``label`` is gone as well: no event will tell of it. A ``Status`` is ignored.
        """
        if manifest.get("kind") != self.resource.kind:
            return
        uid, version, namespace = _identity(manifest)
        if self._label is not None and self._label not in (manifest["metadata"].get("labels") or {}):
            if uid in self._entries and self._entries[uid].version < version:
                self.remove(uid)
            return
        stream = self._streams.get(namespace) or self._streams.get(None)
        if stream is not None and (uid in self._entries or version > stream.version):
            self._set(self._decoded(msgspec.json.encode(manifest)))

    def remove(self, uid: str) -> None:
        """Forget an object that is known not to exist any more, before the event says so."""
        entry = self._entries.pop(uid, None)
        if entry is None:
            return
        self._unindex(uid, entry.keys)
        self._report(entry.value, None)

    async def run(self) -> None:
        """Follow the API server until cancelled; failures are logged and tried again."""
        async with asyncio.TaskGroup() as group:
            for stream in self._streams.values():
                group.create_task(self._follow(stream))

    # --- list and watch -----------------------------------------------------------------------------------------------

    async def _follow(self, stream: _Stream) -> None:
        clock = asyncio.get_running_loop().time
        delay = FIRST_DELAY
        while True:
            since = math.inf
            try:
                if not stream.listed:
                    await self._list(stream)
                since = clock()
                await self._watch(stream)
            except ApiError as error:
                # 410: the server does not remember ``version``. Anything else: the watch goes on where it was.
                stream.listed = stream.listed and error.status != 410
                level = logging.INFO if error.status == 410 else logging.WARNING
                logger.log(level, "watching %s in %s: %s", self.resource.plural, stream.namespace or "all", error)
            if clock() - since > BRIEF_WATCH:
                delay = FIRST_DELAY
            await asyncio.sleep(delay * random.uniform(1.0, 1.5))
            delay = min(2 * delay, LONGEST_DELAY)

    async def _list(self, stream: _Stream) -> None:
        """Replace what is known by what exists."""
        version, listed = 0, set[str]()
        pages = self._kubernetes.pages(
            self.resource, stream.namespace, labels=self._label, metadata_only=self._metadata_only
        )
        async with contextlib.aclosing(pages):
            async for page in pages:
                version = int(page.resource_version)
                for item in page.items:
                    manifest = self._decoded(item)
                    listed.add(manifest["metadata"]["uid"])
                    self._set(manifest)
        for uid, entry in list(self._entries.items()):
            followed = stream.namespace in (None, entry.namespace)
            if followed and uid not in listed and entry.version <= version:  # a newer one was put since
                self.remove(uid)
        stream.version, stream.listed = version, True
        stream.active_at = asyncio.get_running_loop().time()
        self.relists += 1
        if all(other.listed for other in self._streams.values()):
            self.synced.set()

    async def _watch(self, stream: _Stream) -> None:
        """Take in events until the server ends the stream."""
        clock = asyncio.get_running_loop().time
        events = self._kubernetes.watch(
            self.resource,
            stream.namespace,
            resource_version=str(stream.version),
            labels=self._label,
            metadata_only=self._metadata_only,
            seconds=random.randint(240, 480),
            idle_seconds=self._idle_seconds,
        )
        async with contextlib.aclosing(events):
            async for event in events:
                manifest = self._decoded(event.object)
                version = int(manifest["metadata"]["resourceVersion"])
                match event.type:
                    case "ADDED" | "MODIFIED":
                        self._set(manifest)
                    case "DELETED":  # or not selected any more; with the version of that change
                        uid = manifest["metadata"]["uid"]
                        if uid in self._entries and self._entries[uid].version <= version:
                            self.remove(uid)
                stream.version, stream.active_at = version, clock()

    # --- the cache ----------------------------------------------------------------------------------------------------

    def _decoded(self, item: bytes | msgspec.Raw) -> Manifest:
        try:
            manifest: Manifest = self._decoder.decode(item)
        except msgspec.ValidationError:  # somebody's idea of a field
            manifest = msgspec.json.decode(item)
        return manifest

    def _set(self, manifest: Manifest) -> None:
        uid, version, namespace = _identity(manifest)
        known = self._entries.get(uid)
        if known is not None and version <= known.version:
            return
        try:
            new = self._project(manifest)
            keys = tuple(self._index(new))
        except Exception:
            logger.exception("%s %s is left out", self.resource.kind, uid)
            return
        old = None if known is None else known.value
        if known is not None and known.keys == keys:
            keys = known.keys  # the same tuples, once
        else:
            self._unindex(uid, () if known is None else known.keys)
            self._add_to_index(uid, keys)
        self._entries[uid] = _Entry(version, namespace, keys, new)
        if old != new:
            self._report(old, new)

    def _add_to_index(self, uid: str, keys: Iterable[Hashable]) -> None:
        for key in keys:
            found = self._by_key.setdefault(key, uid)
            if isinstance(found, dict):
                found[uid] = None
            elif found != uid:
                self._by_key[key] = {found: None, uid: None}

    def _unindex(self, uid: str, keys: Iterable[Hashable]) -> None:
        for key in keys:
            found = self._by_key[key]
            if isinstance(found, dict):
                found.pop(uid, None)
            if not found or found == uid:
                del self._by_key[key]

    def _report(self, old: T | None, new: T | None) -> None:
        try:
            self._on_change(old, new)
        except Exception:
            logger.exception("nobody was told of a change of a %s", self.resource.kind)


def _identity(manifest: Manifest) -> tuple[str, int, str | None]:
    metadata: dict[str, Any] = manifest["metadata"]
    namespace = metadata.get("namespace")
    return metadata["uid"], int(metadata["resourceVersion"]), sys.intern(namespace) if namespace else namespace
