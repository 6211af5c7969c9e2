"""Reading: objects, lists in pages, watches."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, NamedTuple, TypeVar

import aiohttp
from msgspec import Raw, Struct, field

from .answers import TooLong, decoded, lines_of, refusal, status_error, unreachable
from .api import ApiError, ApiResource, Manifest, identified, path
from .session import JSON, METADATA, METADATA_LIST, TABLE
from .transport import CONNECT_SECONDS, Transport, present

#: Objects per page of a list; kube-apiserver and client-go use the same.
PAGE = 500
#: Bytes of a page; one that is longer is asked for again with fewer objects, until there is one.
PAGE_BYTES = 4 * 2**20
#: Seconds of silence after which a watch counts as dead: the server sends a bookmark every minute.
IDLE_SECONDS = 75.0
_WATCH = {"watch": "true", "allowWatchBookmarks": "true"}


class Page(NamedTuple):
    """Part of a list; all parts show the same moment.

    The objects are as they were sent, still JSON: of five hundred large ones, none but the one in hand is taken apart.
    Those of built-in kinds lack ``apiVersion`` and ``kind``.
    """

    items: list[Raw]
    resource_version: str


class WatchEvent(Struct):
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK`` (then the object, still JSON, has nothing but a version)."""

    type: str
    object: Raw


class _ListMeta(Struct):
    version: str = field(name="resourceVersion", default="")
    more: str | None = field(name="continue", default=None)


class _List(Struct):
    metadata: _ListMeta
    items: list[Raw] | None = None


class _Column(Struct):
    format: str


class _Row(Struct):
    cells: list[Any]


class _Table(Struct):
    metadata: _ListMeta
    columns: list[_Column] = field(name="columnDefinitions", default_factory=list)
    rows: list[_Row] | None = None


_Listed = TypeVar("_Listed", _List, _Table)


class Reader(Transport):
    """The half of the client that changes nothing."""

    async def get(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        *,
        subresource: str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Manifest | None:
        """One object, or a subresource of it, or ``None`` if there is none (404)."""
        try:
            return await self._call("get", self.kinds[kind], namespace, name, subresource, query=query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def each(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
    ) -> AsyncGenerator[Manifest, None]:
        """The objects that exist now, of one namespace or of all, one after the other.

        Args:
            kind: one of `kinds`.
            namespace: ``None`` for all.
            labels: selector, such as ``app=dask,!gone``.
            fields: selector, such as ``metadata.name=x``.
            metadata_only: leave out all but ``metadata``; the server does not even send it.
        """
        resource = self.kinds[kind]
        pages = self.pages(resource, namespace, labels=labels, fields=fields, metadata_only=metadata_only)
        async with contextlib.aclosing(pages):
            async for page in pages:
                for item in page.items:
                    yield identified(decoded(item, 200), resource)

    async def list(
        self, kind: str, namespace: str | None = None, *, fields: str | None = None, **options: Any
    ) -> list[Manifest]:
        """The same all at once, where it is known that there are few: see `each`."""
        return [manifest async for manifest in self.each(kind, namespace, fields=fields, **options)]

    async def names(self, kind: str, namespace: str | None = None, *, labels: str | None = None) -> set[str]:
        """Names of the objects that exist now: a thousandth of what it costs to list them.

        Args:
            kind: one of `kinds`.
            namespace: ``None`` for all.
            labels: selector.
        """
        query = present(labelSelector=labels, includeObject="None")
        found = set[str]()
        tables = self._listed(self.kinds[kind], namespace, query, TABLE, _Table)
        async with contextlib.aclosing(tables):
            async for table in tables:
                named = next((n for n, column in enumerate(table.columns) if column.format == "name"), 0)
                found |= {str(row.cells[named]) for row in table.rows or ()}
        return found

    async def pages(
        self,
        resource: ApiResource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
    ) -> AsyncGenerator[Page, None]:
        """A list in pages, read from the store's latest state, never from a server's older memory.

        Raises:
            ApiError: 410 if it took so long that the state of the first page is forgotten; start again.
        """
        query = present(labelSelector=labels, fieldSelector=fields)
        accept = METADATA_LIST if metadata_only else JSON
        pages = self._listed(resource, namespace, query, accept, _List)
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield Page(page.items or [], page.metadata.version)

    async def _listed(
        self, resource: ApiResource, namespace: str | None, query: Mapping[str, str], accept: str, form: type[_Listed]
    ) -> AsyncGenerator[_Listed, None]:
        """The pages of a list, with fewer objects each where these are large: anybody can make large ones."""
        # Else a few kilobytes may become gigabytes before they can be counted.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        limit, more = PAGE, ""
        while True:
            continued = {**query, "limit": str(limit), **({"continue": more} if more else {})}
            url = self._url(path(resource, namespace), continued)
            try:
                longest = PAGE_BYTES if limit > 1 else None
                status, content = await self._request("list", resource.plural, url, headers, longest=longest)
            except TooLong:
                limit = max(1, limit // 8)
                continue
            page = decoded(content, status, form)
            yield page
            more = page.metadata.more or ""
            if not more:
                return
            # As many as fill half a page if they are like these.
            limit = max(1, min(PAGE, 2 * limit, PAGE_BYTES * limit // (2 * len(content) + 1)))

    async def watch(
        self,
        resource: ApiResource,
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str | None = None,
        metadata_only: bool = False,
        seconds: int = 300,
        idle_seconds: float = IDLE_SECONDS,
    ) -> AsyncGenerator[WatchEvent, None]:
        """What happens after ``resource_version``, until the server ends the stream or is silent for too long.

        Args:
            resource: what to watch.
            namespace: ``None`` for all.
            resource_version: that of a list or of the last event.
            labels: selector.
            metadata_only: leave out all but ``metadata``.
            seconds: after which the server shall end the stream, so that clients spread over servers again.
            idle_seconds: silence that is taken for a dead connection.

        Raises:
            ApiError: 410 if the server has forgotten that version: list again.
        """
        query = _WATCH | present(resourceVersion=resource_version, timeoutSeconds=str(seconds), labelSelector=labels)
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=idle_seconds)
        url = self._url(path(resource, namespace), query)
        headers = {"Accept": METADATA} if metadata_only else {}
        try:
            async with self._send("watch", resource.plural, url, headers, None, limits) as response:
                if response.status != 200:
                    raise refusal(response, await response.read())
                try:
                    async for line in lines_of(response.content):
                        event = decoded(line, response.status, WatchEvent)
                        if event.type == "ERROR":
                            raise status_error(decoded(event.object, response.status))
                        yield event
                except aiohttp.SocketTimeoutError:
                    return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(error) from error

    async def served(self, group: str, version: str) -> set[str]:
        """Plurals of the kinds that the API server tells of, whether one may read them or not."""
        status, content = await self._request("get", "apis", self._url(f"/apis/{group}/{version}", {}), {})
        kinds: list[Manifest] = decoded(content, status)["resources"]
        return {kind["name"] for kind in kinds}
