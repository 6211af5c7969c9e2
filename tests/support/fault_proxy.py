"""A relay before the API server that can break what passes: to see what clients make of it."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Self

import aiohttp
from aiohttp import web

from dask_controller.kube.credentials import Endpoint, Fixed

#: ``cut``: close the connection without an answer. ``hang``: never answer. ``lose``: let the request be done, then cut.
Break = Literal["cut", "hang", "lose"]


@dataclass(frozen=True)
class Answer:
    """Given instead of asking the API server."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Late:
    """Hand the request on this many seconds later, also if the client has given up by then."""

    seconds: float


@dataclass(frozen=True)
class Hold:
    """Pass the answer for a while, hold it back for a while, then pass all of it: a watch that lags behind."""

    after: float  #: seconds
    seconds: float


@dataclass(frozen=True)
class CutAfter:
    """Cut an answer that goes on for longer: a watch that ends early."""

    seconds: float


#: What to do to a request (verb as HTTP has it, path and query); ``None`` to let it pass.
Fault = Callable[[web.Request], Break | Answer | Late | Hold | CutAfter | None]


def is_watch(request: web.Request) -> bool:
    return request.query.get("watch") == "true"


class FaultProxy:
    """A relay on localhost; an asynchronous context manager.

    Attributes:
        fault: what to do to each request from now on.
        before: awaited before a request is handed on, whatever its fault.
        answered: called when the API server has answered a request, before the answer is passed on.
        seen: the requests so far, as "METHOD path".

    Args:
        upstream: the API server.
        session: to reach it, where several relays share one; it stays open.
    """

    def __init__(self, upstream: Endpoint, session: aiohttp.ClientSession | None = None) -> None:
        self._upstream = upstream
        self._shared = session
        self._runner: web.AppRunner | None = None
        self._open: set[asyncio.BaseTransport] = set()
        self._answers: set[aiohttp.ClientResponse] = set()
        self._closed = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.fault: Fault = lambda _: None
        self.before: Callable[[web.Request], Awaitable[object]] = _at_once
        self.answered: Callable[[web.Request], None] = lambda _: None
        self.seen: list[str] = []

    @property
    def endpoint(self) -> Endpoint:
        """How to reach the relay; it adds the identity by itself."""
        return Endpoint(self.url, _tls(), Fixed(None))

    async def __aenter__(self) -> Self:
        self._session = self._shared or upstream_session(self._upstream)
        application = web.Application(client_max_size=2**25)
        application.router.add_route("*", "/{path:.*}", self._relay)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut_streams()
        self._closed.set()
        for answer in list(self._answers):  # of watches; what is being done meanwhile comes to its end
            answer.close()
        if self._session is not self._shared:
            await self._session.close()
        if self._runner:
            await self._runner.cleanup()

    def cut_streams(self) -> None:
        """Close the connections of all requests that are being answered, such as watches."""
        for transport in list(self._open):
            _abort(transport)

    def freeze(self) -> None:
        """Pass no more of any answer, but keep the connections: what a lost network route looks like."""
        self._flowing.clear()

    def thaw(self) -> None:
        """The opposite of `freeze`."""
        self._flowing.set()

    async def _relay(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        fault = self.fault(request)
        await self.before(request)
        match fault:
            case "hang":
                await self._closed.wait()
                return _cut(request)
            case "cut":
                return _cut(request)
            case Late():
                await asyncio.sleep(fault.seconds)
            case Answer():
                body = {"kind": "Status", "code": fault.status, "reason": fault.reason, "message": "injected"}
                return web.json_response(body, status=fault.status, headers=dict(fault.headers))
        headers = {k: v for k, v in request.headers.items() if k not in ("Host", "Content-Length")}
        if header := await self._upstream.authorization():
            headers["Authorization"] = header
        async with self._session.request(
            request.method,
            self._upstream.server + request.path_qs,
            headers=headers,
            data=await request.read() or None,  # an empty one would be of a type that the API server does not know
            timeout=aiohttp.ClientTimeout(total=None),
        ) as upstream:
            self.answered(request)
            if fault == "lose":
                await upstream.read()
                return _cut(request)
            return await self._pass_on(request, upstream, fault)

    async def _pass_on(
        self, request: web.Request, upstream: aiohttp.ClientResponse, fault: object
    ) -> web.StreamResponse:
        """Send on the answer as it comes."""
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name in ("Content-Type", "Content-Encoding", "Retry-After"):
            if name in upstream.headers:
                response.headers[name] = upstream.headers[name]
        transport = request.transport
        if transport is None:  # the client has gone meanwhile
            return response
        self._open.add(transport)
        self._answers.add(upstream)
        loop = asyncio.get_running_loop()
        started = loop.time()
        cut = loop.call_later(fault.seconds, _abort, transport) if isinstance(fault, CutAfter) else None
        try:
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                if isinstance(fault, Hold) and loop.time() >= started + fault.after:
                    await asyncio.sleep(started + fault.after + fault.seconds - loop.time())
                await self._flowing.wait()
                await response.write(chunk)
            await response.write_eof()
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            _abort(transport)  # one of the two has gone meanwhile
        finally:
            self._open.discard(transport)
            self._answers.discard(upstream)
            if cut is not None:
                cut.cancel()
        return response


@functools.cache
def _tls() -> ssl.SSLContext:
    """Of no use on the way to the relay, and dear: it reads all certificates that the machine trusts."""
    return ssl.create_default_context()


def upstream_session(upstream: Endpoint) -> aiohttp.ClientSession:
    """A session that passes what it gets as it is."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=upstream.tls, limit=0), auto_decompress=False)


async def _at_once(_: web.Request) -> None:
    """Nothing comes before."""


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport:
        _abort(request.transport)
    return web.Response()


def _abort(transport: asyncio.BaseTransport) -> None:
    assert isinstance(transport, asyncio.WriteTransport)
    transport.abort()
