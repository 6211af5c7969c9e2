"""A small client of the Kubernetes API: manifests in, manifests out (as dictionaries).

Why not one of the client libraries: docs/decisions/0002-kubernetes-client.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import math
import random
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Raw, Struct, field
from yarl import URL

from dask_crds.names import FIELD_MANAGER, GROUP, STATUS_MANAGER, VERSION

from .credentials import ConfigError, Endpoint, find

Manifest = dict[str, Any]

#: Called after each request with the verb as RBAC has it, plural[/subresource], and the HTTP status (0: no answer).
OnRequest = Callable[[str, str, int], None]

#: Reason of an ApiError: nothing is created any more in a namespace that is being deleted.
NAMESPACE_TERMINATING = "NamespaceTerminating"
#: Objects per page of a list; kube-apiserver and client-go use the same.
PAGE = 500
#: Bytes of a page; one that is longer is asked for again with fewer objects, until there is one.
PAGE_BYTES = 4 * 2**20
#: How often a request is sent that is answered by 429, and the longest pause in seconds between two.
ATTEMPTS = 5
LONGEST_PAUSE = 10.0
#: Seconds for a connection to come about.
CONNECT_SECONDS = 10.0
#: Seconds of silence after which a watch counts as dead: the server sends a bookmark every minute.
IDLE_SECONDS = 75.0

#: How often our clock is compared with the server's, and the difference that is none: it tells whole seconds, and late.
CLOCK_SECONDS, CLOCK_TOLERANCE = 60.0, 5.0

_METHODS = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}
# Without aiohttp's limit for the whole, which takes a cancellation that comes when it ends for its own:
# https://github.com/aio-libs/aiohttp/issues/5979. An informer would never end then, nor would we.
_LIMITS = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
_META = "g=meta.k8s.io;v=v1"
_METADATA = f"application/json;as=PartialObjectMetadata;{_META}"
_METADATA_LIST = f"application/json;as=PartialObjectMetadataList;{_META}"
_TABLE = f"application/json;as=Table;{_META}"


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


@dataclass(frozen=True)
class Resource:
    """A kind, and where the API server keeps its objects."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``apiVersion`` of its manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of an object, or of all objects if ``name`` is ``None``.

        Raises:
            ApiError: 404 for a name that no object can have. An empty one would lead to *all* objects.
        """
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [self.plural]
        if name is not None:
            parts += [name]
        if subresource:
            parts += [subresource]
        if any(part in ("", ".", "..") for part in parts):
            raise ApiError(404, "NotFound", f"{self.plural} cannot be named {name!r} in namespace {namespace!r}")
        return "/" + "/".join(quote(part, safe="") for part in parts)


RESOURCES: dict[str, Resource] = {
    resource.kind: resource
    for resource in (
        Resource("", "v1", "pods", "Pod"),
        Resource("", "v1", "services", "Service"),
        Resource("", "v1", "configmaps", "ConfigMap"),
        Resource("", "v1", "events", "Event"),
        Resource("apps", "v1", "deployments", "Deployment"),
        Resource("apps", "v1", "replicasets", "ReplicaSet"),
        Resource("batch", "v1", "jobs", "Job"),
        Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        Resource("coordination.k8s.io", "v1", "leases", "Lease"),
        Resource(GROUP, VERSION, "daskclusters", "DaskCluster"),
        Resource(GROUP, VERSION, "daskworkergroups", "DaskWorkerGroup"),
        Resource(GROUP, VERSION, "daskjobs", "DaskJob"),
        Resource(GROUP, VERSION, "daskautoscalers", "DaskAutoscaler"),
        Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False),
    )
}


class Page(NamedTuple):
    """Part of a list; all parts show the same moment."""

    items: list[Manifest]
    resource_version: str


class WatchEvent(NamedTuple):
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK`` (then the object has nothing but a version)."""

    type: str
    manifest: Manifest


class RawPage(NamedTuple):
    """A page whose objects are still JSON: of five hundred large ones, none but the one in hand is taken apart."""

    items: list[Raw]
    resource_version: str


class RawEvent(Struct):
    """A `WatchEvent` whose object is still JSON."""

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


_T = TypeVar("_T")
_Listed = TypeVar("_Listed", _List, _Table)


class _TooLong(Exception):
    """An answer is longer than whoever asked wants to read."""


class Kubernetes:
    """The API server; an asynchronous context manager.

    Every method raises ApiError unless it says otherwise.

    Args:
        endpoint: where the server is, who we are.
        connections: requests at a time; more wait. Watches and Leases are not counted.
        timeout_seconds: for one request, without the time that it waits for its turn.
        on_request: see `OnRequest`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connections: int = 32,
        timeout_seconds: float = 30.0,
        on_request: OnRequest | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._turn = asyncio.Semaphore(connections)
        self._seconds = timeout_seconds
        self._on_request = on_request or (lambda verb, resource, code: None)
        self._session: aiohttp.ClientSession | None = None
        self._ahead = 0.0  # seconds by which the server's clock is ahead of ours
        self._compared_at = -math.inf  # when that was looked at, on the event loop's clock

    def now(self) -> float:
        """Seconds since the epoch by the server's clock, by which objects are created, to a second or so."""
        return time.time() + self._ahead

    def _compare_clocks(self, response: aiohttp.ClientResponse) -> None:
        loop_time = asyncio.get_running_loop().time()
        if loop_time - self._compared_at < CLOCK_SECONDS:
            return
        with contextlib.suppress(KeyError, ValueError):
            ahead = parsedate_to_datetime(response.headers["Date"]).timestamp() + 0.5 - time.time()
            self._ahead = ahead if abs(ahead) > CLOCK_TOLERANCE else 0.0
            self._compared_at = loop_time

    @classmethod
    def from_environment(cls, kubeconfig: str | None = None, context: str | None = None, **options: Any) -> Self:
        """The server of a kubeconfig or of the Pod we run in: see `credentials.find`.

        Raises:
            ConfigError: nothing usable was found.
        """
        return cls(find(kubeconfig, context), **options)

    async def __aenter__(self) -> Self:
        # The semaphore limits, not the connector: watches keep their connections and would use them up.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._endpoint.tls, limit=0),
            headers={"User-Agent": f"{FIELD_MANAGER}/{importlib.metadata.version('dask-gitops')}"},
            proxy=self._endpoint.proxy,
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    def metadata_session(self) -> tuple[str, aiohttp.ClientSession]:
        """The server, and a session of its own for somebody who lists and watches and shall see metadata only."""
        endpoint = self._endpoint

        async def prepared(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            if request.method == "GET":  # kopf also writes: it takes away finalizers of an operator that used it fully
                request.headers["Accept"] = _METADATA if "watch" in request.url.query else f"{_METADATA_LIST},{_JSON}"
            request.server_hostname = endpoint.server_name
            token = await endpoint.authorization(rejected=False)
            if token:
                request.headers["Authorization"] = token
            response = await send(request)
            if response.status == 401 and token:
                await endpoint.authorization(rejected=True)  # the next request has a fresh one
            return response

        connector = aiohttp.TCPConnector(ssl=endpoint.tls, limit=0)
        return endpoint.server, aiohttp.ClientSession(
            connector=connector, proxy=endpoint.proxy, middlewares=(prepared,), response_class=_ListOfMetadata
        )

    # --- reading ------------------------------------------------------------------------------------------------------

    async def get(self, kind: str, namespace: str | None, name: str) -> Manifest | None:
        """One object, or ``None`` if there is none (404)."""
        try:
            return await self._call("get", RESOURCES[kind], namespace, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
    ) -> list[Manifest]:
        """The objects that exist now, of one namespace or of all.

        Args:
            kind: a key of `RESOURCES`.
            namespace: ``None`` for all.
            labels: selector, such as ``app=dask,!gone``.
            fields: selector, such as ``metadata.name=x``.
            metadata_only: leave out all but ``metadata``; the server does not even send it.
        """
        pages = self.pages(RESOURCES[kind], namespace, labels=labels, fields=fields, metadata_only=metadata_only)
        async with contextlib.aclosing(pages):
            return [item async for page in pages for item in page.items]

    async def names(self, kind: str, namespace: str | None = None, *, labels: str | None = None) -> set[str]:
        """Names of the objects that exist now: a thousandth of what it costs to list them.

        Args:
            kind: a key of `RESOURCES`.
            namespace: ``None`` for all.
            labels: selector.
        """
        query = _present(labelSelector=labels, includeObject="None")
        found = set[str]()
        tables = self._listed(RESOURCES[kind], namespace, query, _TABLE, _Table)
        async with contextlib.aclosing(tables):
            async for table in tables:
                named = next((n for n, column in enumerate(table.columns) if column.format == "name"), 0)
                found |= {str(row.cells[named]) for row in table.rows or ()}
        return found

    async def pages(
        self,
        resource: Resource,
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
        pages = self.raw_pages(resource, namespace, labels=labels, fields=fields, metadata_only=metadata_only)
        async with contextlib.aclosing(pages):
            async for page in pages:
                items = [_identified(_decoded(item, 200), resource) for item in page.items]
                yield Page(items, page.resource_version)

    async def raw_pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
    ) -> AsyncGenerator[RawPage, None]:
        """`pages`, with the objects as they were sent: those of built-in kinds lack ``apiVersion`` and ``kind``."""
        query = _present(labelSelector=labels, fieldSelector=fields)
        accept = _METADATA_LIST if metadata_only else _JSON
        pages = self._listed(resource, namespace, query, accept, _List)
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield RawPage(page.items or [], page.metadata.version)

    async def _listed(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str], accept: str, form: type[_Listed]
    ) -> AsyncGenerator[_Listed, None]:
        """The pages of a list, with fewer objects each where these are large: anybody can make large ones."""
        # Else a few kilobytes may become gigabytes before they can be counted.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        limit, more = PAGE, ""
        while True:
            continued = {**query, "limit": str(limit), **({"continue": more} if more else {})}
            url = self._url(resource.path(namespace), continued)
            try:
                longest = PAGE_BYTES if limit > 1 else None
                status, content = await self._request("list", resource.plural, url, headers, longest=longest)
            except _TooLong:
                limit = max(1, limit // 8)
                continue
            page = _decoded(content, status, form)
            yield page
            more = page.metadata.more or ""
            if not more:
                return
            # As many as fill half a page if they are like these.
            limit = max(1, min(PAGE, 2 * limit, PAGE_BYTES * limit // (2 * len(content) + 1)))

    async def watch(
        self,
        resource: Resource,
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
        events = self.raw_watch(
            resource,
            namespace,
            resource_version=resource_version,
            labels=labels,
            metadata_only=metadata_only,
            seconds=seconds,
            idle_seconds=idle_seconds,
        )
        async with contextlib.aclosing(events):
            async for event in events:
                yield WatchEvent(event.type, _identified(_decoded(event.object, 200), resource))

    async def raw_watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str | None = None,
        metadata_only: bool = False,
        seconds: int = 300,
        idle_seconds: float = IDLE_SECONDS,
    ) -> AsyncGenerator[RawEvent, None]:
        """`watch`, with the objects as they were sent."""
        query = _present(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            timeoutSeconds=str(seconds),
            labelSelector=labels,
        )
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=idle_seconds)
        url = self._url(resource.path(namespace), query)
        headers = {"Accept": _METADATA} if metadata_only else {}
        try:
            async with self._send("watch", resource.plural, url, headers, None, limits) as response:
                if response.status != 200:
                    raise _error(response, await response.read())
                try:
                    async for line in _lines(response.content):
                        event = _decoded(line, response.status, RawEvent)
                        if event.type == "ERROR":
                            raise _status_error(_decoded(event.object, response.status))
                        yield event
                except aiohttp.SocketTimeoutError:
                    return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error

    async def served(self, group: str, version: str) -> set[str]:
        """Plurals of the kinds that the API server tells of, whether one may read them or not."""
        status, content = await self._request("get", "apis", self._url(f"/apis/{group}/{version}", {}), {})
        kinds: list[Manifest] = _decoded(content, status)["resources"]
        return {kind["name"] for kind in kinds}

    # --- writing ------------------------------------------------------------------------------------------------------

    async def create(self, manifest: Mapping[str, Any]) -> Manifest:
        """Create an object; 409 (``AlreadyExists``) if the name is taken, also by an object that is being deleted."""
        resource, namespace, _ = _identity(manifest)
        return await self._call("create", resource, namespace, query=_writer(FIELD_MANAGER), body=manifest)

    async def apply(
        self,
        manifest: Mapping[str, Any],
        *,
        force: bool = True,
        manager: str = FIELD_MANAGER,
        dry_run: bool = False,
    ) -> Manifest:
        """Server-side apply: the object gets these fields, and loses those that ``manager`` applied before.

        It succeeds on an object that is being deleted, too.

        Args:
            manifest: the fields that ``manager`` has an opinion on.
            force: take fields from other managers; else 409 (``Conflict``).
            manager: who applies.
            dry_run: change nothing, just be told what it would come to.
        """
        return await self._apply(manifest, None, force=force, manager=manager, dry_run=dry_run)

    async def apply_status(self, manifest: Mapping[str, Any]) -> Manifest:
        """Server-side apply to ``/status``; 404 if there is no such object.

        A ``metadata.uid`` is ignored there by the server (for custom resources); ``metadata.resourceVersion`` is
        compared, 409 (``Conflict``).
        """
        return await self._apply(manifest, "status", force=True, manager=STATUS_MANAGER)

    async def _apply(
        self,
        manifest: Mapping[str, Any],
        subresource: str | None,
        *,
        force: bool,
        manager: str,
        dry_run: bool = False,
    ) -> Manifest:
        resource, namespace, name = _identity(manifest)
        query = {**_writer(manager), "force": str(force).lower(), **({"dryRun": "All"} if dry_run else {})}
        return await self._call(
            "patch", resource, namespace, name, subresource, query=query, body=manifest, content_type=_APPLY_PATCH
        )

    async def patch(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str | None = None,
    ) -> Manifest:
        """Merge patch (RFC 7396): ``None`` removes a field, lists are replaced.

        With ``metadata.resourceVersion`` in it, it is a compare-and-swap: 409 (``Conflict``).
        """
        query = _writer(FIELD_MANAGER)
        return await self._call(
            "patch", RESOURCES[kind], namespace, name, subresource, query=query, body=patch, content_type=_MERGE_PATCH
        )

    async def delete(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: str = "Background",
    ) -> Manifest | None:
        """Delete an object, if it is still the one with ``uid`` and ``resource_version`` (else 409, ``Conflict``).

        Returns:
            ``None`` if there is no such object (404). Else what the server answers: the object, which of a Pod may be
            still there with a ``deletionTimestamp``, or a ``Status``.
        """
        preconditions = _present(uid=uid, resourceVersion=resource_version)
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            **_present(gracePeriodSeconds=grace_seconds, preconditions=preconditions or None),
        }
        try:
            return await self._call("delete", RESOURCES[kind], namespace, name, body=options)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _call(
        self,
        verb: str,
        resource: Resource,
        namespace: str | None,
        name: str | None = None,
        subresource: str | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = _JSON,
    ) -> Manifest:
        """One request, manifests in and out."""
        url = self._url(resource.path(namespace, name, subresource), query or {})
        label = f"{resource.plural}/{subresource}" if subresource else resource.plural
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        # A slow admission webhook may hold all connections; to lose the Lease for that would make it worse.
        status, content = await self._request(verb, label, url, headers, data, urgent=resource.kind == "Lease")
        return _decoded(content, status)

    async def _request(
        self,
        verb: str,
        label: str,
        url: URL,
        headers: Mapping[str, str],
        data: bytes | None = None,
        *,
        longest: int | None = None,
        urgent: bool = False,
    ) -> tuple[int, bytes]:
        """One request when it is its turn, repeated as long as the server asks for patience (429).

        Raises:
            _TooLong: the answer has more bytes than ``longest``.
        """
        async with contextlib.nullcontext() if urgent else self._turn:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    async with (
                        asyncio.timeout(self._seconds),
                        self._send(verb, label, url, headers, data, _LIMITS) as response,
                    ):
                        content = await _content(response, longest)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    raise _unreachable(error) from error
                if 200 <= response.status < 300:
                    return response.status, content
                failure = _error(response, content)
                if failure.status != 429 or attempt == ATTEMPTS:
                    raise failure
                pause = 1.0 if failure.retry_after is None else failure.retry_after
                await asyncio.sleep(min(pause, LONGEST_PAUSE) * random.uniform(1.0, 1.2))
        raise AssertionError("unreachable")

    @contextlib.asynccontextmanager
    async def _send(
        self,
        verb: str,
        label: str,
        url: URL,
        headers: Mapping[str, str],
        data: bytes | None,
        limits: aiohttp.ClientTimeout,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send a request; a second time with a fresh token if the first is not accepted."""
        assert self._session is not None, "use it as a context manager"
        for rejected in (False, True):
            try:
                token = await self._endpoint.authorization(rejected=rejected)
            except ConfigError as error:
                raise ApiError(401, "Unauthorized", str(error)) from error
            try:
                response = await self._session.request(
                    _METHODS[verb],
                    url,
                    headers={**headers, "Authorization": token} if token else headers,
                    data=data,
                    timeout=limits,
                    server_hostname=self._endpoint.server_name,
                    allow_redirects=False,  # else our token would follow
                )
            except (aiohttp.ClientError, asyncio.CancelledError, OSError):
                self._on_request(verb, label, 0)
                raise
            async with response:
                self._on_request(verb, label, response.status)
                self._compare_clocks(response)
                if response.status == 401 and token and not rejected:
                    continue
                yield response
                return

    def _url(self, path: str, query: Mapping[str, str]) -> URL:
        return URL(self._endpoint.server + path, encoded=True).with_query(query)


class _ListOfMetadata(aiohttp.ClientResponse):
    """An answer whose list is one though nothing is in it: the API server says null then, of metadata only."""

    async def json(self, **options: Any) -> Any:
        answer = await super().json(**options)
        if isinstance(answer, dict) and "items" in answer:
            answer["items"] = answer["items"] or []
        return answer


def _present(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _writer(manager: str) -> dict[str, str]:
    """Query of a write. Strict: a misspelt field is an error (422 or 400), not dropped in silence."""
    return {"fieldManager": manager, "fieldValidation": "Strict"}


def _identity(manifest: Mapping[str, Any]) -> tuple[Resource, str | None, str]:
    metadata = manifest["metadata"]
    return RESOURCES[manifest["kind"]], metadata.get("namespace"), metadata["name"]


def _identified(manifest: Manifest, resource: Resource) -> Manifest:
    """With its own kind: lists of built-in kinds leave it out, and metadata alone comes under another name."""
    if manifest.get("kind") in (None, "PartialObjectMetadata"):
        manifest.update(apiVersion=resource.api_version, kind=resource.kind)
    return manifest


async def _content(response: aiohttp.ClientResponse, longest: int | None) -> bytes:
    if longest is None:
        return await response.read()
    chunks: list[bytes] = []
    length = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        length += len(chunk)
        if length > longest:
            raise _TooLong
    return b"".join(chunks)


async def _lines(stream: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """Lines of any length; ``StreamReader.readline`` gives up at 64 KiB, an object may have 1.5 MiB and more."""
    rest = bytearray()
    async for chunk in stream.iter_any():
        head, *lines = chunk.split(b"\n")
        rest += head
        for line in lines:
            if rest:
                yield bytes(rest)
            rest = bytearray(line)


def _decoded(content: bytes | Raw, status: int, form: type[_T] = dict[str, Any]) -> _T:  # type: ignore[assignment]
    """What was sent, as far as ``form`` has a place for it."""
    try:
        try:
            return msgspec.json.decode(content, type=form)
        except RecursionError:
            return msgspec.json.decode(_shallow(bytes(content)), type=form)
    except msgspec.DecodeError as error:  # something in between answers in the server's place
        raise ApiError(status, "BadAnswer", "what answers is not a Kubernetes API server") from error


#: The API server takes 10,000 levels, in ``managedFields`` from anybody; Python's stack ends before. No field of ours
#: is as deep as this.
_DEEPEST = 200
_NESTING = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[][{}]')


def _shallow(content: bytes) -> bytes:
    """JSON with null in the place of what is nested too deeply to be decoded."""
    kept: list[bytes] = []
    start = depth = 0
    for token in _NESTING.finditer(content):
        match content[token.start()]:
            case 0x7B | 0x5B:  # { [
                depth += 1
                if depth == _DEEPEST + 1:
                    kept.append(content[start : token.start()])
            case 0x7D | 0x5D:  # } ]
                depth -= 1
                if depth == _DEEPEST:
                    start = token.end()
    return b"null".join([*kept, content[start:]])


def _unreachable(error: BaseException) -> ApiError:
    """Without the error's text: it may hold parts of the request."""
    return ApiError(0, "Unreachable", f"the API server cannot be reached: {type(error).__name__}")


def _error(response: aiohttp.ClientResponse, content: bytes) -> ApiError:
    """From the body, a ``Status``; anything else comes from a proxy in between and is not repeated."""
    body: Manifest
    try:
        body = _decoded(content, response.status)
    except ApiError:
        body = {}
    status = body if body.get("kind") == "Status" else {}
    error = _status_error({**status, "code": response.status})
    if error.reason == "Unknown":
        error.reason = (response.reason or "Unknown").replace(" ", "")
    with contextlib.suppress(KeyError, ValueError):  # absent, or a date
        error.retry_after = float(response.headers["Retry-After"])
    return error


def _status_error(status: Mapping[str, Any]) -> ApiError:
    code = int(status.get("code") or 500)
    details = status.get("details") or {}
    message = status.get("message") or f"the API server answered {code}"
    reason = status.get("reason") or "Unknown"
    if any(cause.get("reason") == NAMESPACE_TERMINATING for cause in details.get("causes") or ()):
        reason = NAMESPACE_TERMINATING  # more telling than ``Forbidden``
    return ApiError(code, reason, message, retry_after=details.get("retryAfterSeconds"))
