"""A small Kubernetes client: the few verbs that the operator uses, over one aiohttp session.

Why not a library: ``docs/decisions/0002-kubernetes-client.md``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import kopf

from dask_crds import names

logger = logging.getLogger(__name__)

#: A ServiceAccount's token is rotated on disk; client-go reads it again at most this often (seconds).
TOKEN_REFRESH_SECONDS = 60.0
REQUEST_TIMEOUT_SECONDS = 30.0
#: How often a request that the API server asks to repeat later (429) is repeated before it has failed.
MAX_RETRIES = 5
PAGE = 500


class ApiResource(NamedTuple):
    """Where objects of a kind live."""

    api_version: str
    plural: str
    kind: str


def _resources(api_version: str, **plurals: str) -> dict[str, ApiResource]:
    return {kind: ApiResource(api_version, plural, kind) for kind, plural in plurals.items()}


RESOURCES: dict[str, ApiResource] = {
    **_resources("v1", Pod="pods", Service="services", ConfigMap="configmaps", Event="events"),
    **_resources("apps/v1", Deployment="deployments"),
    **_resources("batch/v1", Job="jobs"),
    **_resources("coordination.k8s.io/v1", Lease="leases"),
    **_resources(
        names.API_VERSION,
        DaskCluster="daskclusters",
        DaskWorkerGroup="daskworkergroups",
        DaskJob="daskjobs",
        DaskAutoscaler="daskautoscalers",
    ),
}


class ApiError(Exception):
    """The API server refused a request, or could not be reached.

    Attributes:
        status: HTTP status; 0 where there was no answer.
        reason: as in the ``Status`` object, ``AlreadyExists`` say.
        message: for people.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


Count = Callable[[str, str, int], None]  #: verb, resource, HTTP status


class Kubernetes:
    """The API server.

    Args:
        login: gives the server's address and fresh credentials, as kopf's login functions do.
        limit: how many requests may be under way at a time.
        count: told of every request, for metrics.
    """

    def __init__(
        self, login: Callable[[], kopf.ConnectionInfo], *, limit: int = 32, count: Count = lambda *_: None
    ) -> None:
        self._login = login
        self._info = login()
        self._read_at = time.monotonic()
        self._limit = limit
        self._count = count
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Kubernetes:
        connector = aiohttp.TCPConnector(ssl=self._info.as_ssl_context(), limit=0)
        self._session = aiohttp.ClientSession(connector=connector, headers={"User-Agent": "dask-operator"})
        self._slots = asyncio.Semaphore(self._limit)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    # --- verbs --------------------------------------------------------------------------------------------------------

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, ``None`` if there is none."""
        try:
            return await self._call("GET", kind, namespace, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, kind: str, namespace: str | None = None, *, labels: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        """All objects that match a label selector, read page by page, and the ``resourceVersion`` of the list."""
        items: list[dict[str, Any]] = []
        params = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        while True:
            page = await self._call("GET", kind, namespace, params=params)
            items += page["items"]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                break
            params["continue"] = metadata["continue"]
        resource = RESOURCES[kind]
        for item in items:  # lists leave out what they are lists of
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return items, metadata["resourceVersion"]

    async def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object; ``ApiError`` with reason ``AlreadyExists`` if the name is taken."""
        params = {"fieldManager": names.FIELD_MANAGER}
        return await self._call(
            "POST", manifest["kind"], manifest["metadata"]["namespace"], body=manifest, params=params
        )

    async def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply of the fields that are ours."""
        return await self._apply(manifest, names.FIELD_MANAGER)

    async def apply_status(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply of the whole status."""
        return await self._apply(manifest, names.STATUS_MANAGER, subresource="status")

    async def _apply(self, manifest: Mapping[str, Any], manager: str, subresource: str = "") -> dict[str, Any]:
        metadata = manifest["metadata"]
        return await self._call(
            "PATCH",
            manifest["kind"],
            metadata["namespace"],
            metadata["name"],
            subresource=subresource,
            body=manifest,
            content_type="application/apply-patch+yaml",
            params={"fieldManager": manager, "force": "true"},
        )

    async def patch(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge patch."""
        return await self._call(
            "PATCH",
            kind,
            namespace,
            name,
            body=patch,
            content_type="application/merge-patch+json",
            params={"fieldManager": names.FIELD_MANAGER},
        )

    async def replace(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object; with its ``resourceVersion`` a compare-and-swap."""
        metadata = manifest["metadata"]
        return await self._call("PUT", manifest["kind"], metadata["namespace"], metadata["name"], body=manifest)

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str) -> dict[str, Any] | None:
        """Delete the object with that uid.

        Returns:
            The object as it lives on while it terminates, ``None`` if it is gone, or was not the one.
        """
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            answer = await self._call("DELETE", kind, namespace, name, body=body)
        except ApiError as error:
            if error.status in (404, 409):
                return None
            raise
        return answer if answer.get("kind") == kind else None

    async def watch(
        self, kind: str, namespace: str | None, *, labels: str, version: str, seconds: int, idle_seconds: float
    ) -> AsyncIterator[dict[str, Any]]:
        """Watch events from ``version`` on, bookmarks included, for at most ``seconds``.

        Raises:
            ApiError: 410 when the version is too old to go on from, and what any request raises.
        """
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        } | ({"labelSelector": labels} if labels else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=idle_seconds)
        async with self._request("GET", _path(kind, namespace), params=params, limits=timeout) as response:
            await _check(response)
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _api_error(event["object"].get("code", 0), event["object"])
                    yield event

    # --- plumbing -----------------------------------------------------------------------------------------------------

    async def _call(
        self,
        verb: str,
        kind: str,
        namespace: str | None,
        name: str = "",
        *,
        subresource: str = "",
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        path = _path(kind, namespace, name, subresource)
        data = None if body is None else json.dumps(body).encode()
        options = dict(params or {})
        if verb in ("POST", "PUT", "PATCH"):
            options["fieldValidation"] = "Strict"
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        for attempt in range(MAX_RETRIES + 1):
            try:
                async with (
                    self._slots,
                    self._request(
                        verb, path, params=options, data=data, content_type=content_type, limits=timeout
                    ) as r,
                ):
                    self._count(verb, RESOURCES[kind].plural, r.status)
                    if r.status != 429 or attempt == MAX_RETRIES:
                        await _check(r)
                        answer: dict[str, Any] = json.loads(await r.read())
                        return answer
                    pause = float(r.headers.get("Retry-After") or 1)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._count(verb, RESOURCES[kind].plural, 0)
                raise ApiError(0, "Unreachable", f"{verb} {path}: {type(error).__name__} {error}") from error
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _request(
        self,
        verb: str,
        path: str,
        *,
        params: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        data: bytes | None = None,
        content_type: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "use `async with Kubernetes(...)`"
        if time.monotonic() - self._read_at > TOKEN_REFRESH_SECONDS:
            self._info, self._read_at = self._login(), time.monotonic()
        headers = self._info.as_http_headers() | {"Content-Type": content_type}
        url = self._info.server.rstrip("/") + path
        async with self._session.request(verb, url, params=params, data=data, headers=headers, timeout=limits) as r:
            yield r


def _path(kind: str, namespace: str | None, name: str = "", subresource: str = "") -> str:
    resource = RESOURCES[kind]
    prefix = "/apis/" if "/" in resource.api_version else "/api/"
    parts = [f"namespaces/{namespace}" if namespace else "", resource.plural, name, subresource]
    return prefix + "/".join([resource.api_version, *(part for part in parts if part)])


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = await response.text()
    try:
        status = json.loads(text)
    except ValueError:
        status = {"message": text[:200]}
    raise _api_error(response.status, status)


def _api_error(code: int, status: Mapping[str, Any]) -> ApiError:
    return ApiError(code, status.get("reason") or str(code), status.get("message") or f"HTTP status {code}")


def login() -> kopf.ConnectionInfo:
    """Credentials: of the Pod's ServiceAccount, else of ``KUBECONFIG`` or ``~/.kube/config``.

    Raises:
        RuntimeError: there are neither.
    """
    settings = kopf.OperatorSettings()
    info = kopf.login_with_service_account(logger=logger, settings=settings) or kopf.login_with_kubeconfig(
        logger=logger, settings=settings
    )
    if info is None:
        raise RuntimeError("no credentials: neither a ServiceAccount is mounted nor is there a kubeconfig")
    return info
