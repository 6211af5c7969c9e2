"""Requests to the API server: turns, limits, and what is repeated."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Self

import aiohttp
import msgspec
from yarl import URL

from .answers import content_of, decoded, refusal, unreachable
from .api import ApiError, ApiResource, Caller, Manifest, path
from .credentials import ConfigError, Endpoint
from .session import JSON, metadata_session, open_session

#: Called after each request with the verb as RBAC has it, plural[/subresource], and the HTTP status (0: no answer).
OnRequest = Callable[[str, str, int], None]
#: How often a request is sent that is answered by 429, and the longest pause in seconds between two.
ATTEMPTS = 5
LONGEST_PAUSE = 10.0
#: Seconds for a connection to come about.
CONNECT_SECONDS = 10.0
#: How often our clock is compared with the server's, and the difference that is none: it tells whole seconds, and late.
CLOCK_SECONDS, CLOCK_TOLERANCE = 60.0, 5.0

_METHODS = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}
# Without aiohttp's limit for the whole, which takes a cancellation that comes when it ends for its own:
# https://github.com/aio-libs/aiohttp/issues/5979. An informer would never end then, nor would we.
_LIMITS = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)


class Transport:
    """Requests to one API server; an asynchronous context manager. See `Kubernetes`, which it is the base of."""

    def __init__(
        self,
        endpoint: Endpoint,
        caller: Caller,
        *,
        connections: int = 32,
        timeout_seconds: float = 30.0,
        on_request: OnRequest | None = None,
    ) -> None:
        self.server = endpoint.server
        self.kinds = caller.kinds
        self._endpoint = endpoint
        self._caller = caller
        self._turn = asyncio.Semaphore(connections)
        self._seconds = timeout_seconds
        self._on_request = on_request or (lambda verb, resource, code: None)
        self._session: aiohttp.ClientSession | None = None
        self._ahead = 0.0  # seconds by which the server's clock is ahead of ours
        self._compared_at = -math.inf  # when that was looked at, on the event loop's clock

    async def __aenter__(self) -> Self:
        self._session = open_session(self._endpoint, self._caller.user_agent)
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    def metadata_session(self) -> aiohttp.ClientSession:
        """Another session with the same server and the same identity, see `session.metadata_session`."""
        return metadata_session(self._endpoint, self._caller.user_agent)

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

    async def _call(
        self,
        verb: str,
        resource: ApiResource,
        namespace: str | None,
        name: str | None = None,
        subresource: str | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
    ) -> Manifest:
        """One request, manifests in and out."""
        url = self._url(path(resource, namespace, name, subresource), query or {})
        label = f"{resource.plural}/{subresource}" if subresource else resource.plural
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        # A slow admission webhook may hold all connections; to lose the Lease for that would make it worse.
        status, content = await self._request(verb, label, url, headers, data, urgent=resource.kind == "Lease")
        return decoded(content, status)

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
            TooLong: the answer has more bytes than ``longest``.
        """
        async with contextlib.nullcontext() if urgent else self._turn:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    async with (
                        asyncio.timeout(self._seconds),
                        self._send(verb, label, url, headers, data, _LIMITS) as response,
                    ):
                        content = await content_of(response, longest)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    raise unreachable(error) from error
                if 200 <= response.status < 300:
                    return response.status, content
                failure = refusal(response, content)
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
        """Send a request."""
        assert self._session is not None, "use it as a context manager"
        try:
            response = await self._session.request(
                _METHODS[verb],
                url,
                headers=headers,
                data=data,
                timeout=limits,
                allow_redirects=False,  # else our token would follow
            )
        except ConfigError as error:
            raise ApiError(401, "Unauthorized", str(error)) from error
        except (aiohttp.ClientError, asyncio.CancelledError, OSError):
            self._on_request(verb, label, 0)
            raise
        async with response:
            self._on_request(verb, label, response.status)
            self._compare_clocks(response)
            yield response

    def _url(self, path: str, query: Mapping[str, str]) -> URL:
        return URL(self.server + path, encoded=True).with_query(query)


def present(**fields: Any) -> dict[str, Any]:
    """Those fields that are not ``None``."""
    return {key: value for key, value in fields.items() if value is not None}
