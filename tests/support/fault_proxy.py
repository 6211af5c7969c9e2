"""A relay before the API server that can break what passes: to see what clients make of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import aiohttp
from aiohttp import web

from dask_controller.shell.credentials import Endpoint, Fixed

#: ``cut``: close the connection without an answer. ``hang``: never answer. ``lose``: let the request be done, then cut.
Break = Literal["cut", "hang", "lose"]


@dataclass(frozen=True)
class Answer:
    """Given instead of asking the API server."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


#: What to do to a request (verb as HTTP has it, path and query); ``None`` to let it pass.
Fault = Callable[[web.Request], Break | Answer | None]


def is_watch(request: web.Request) -> bool:
    return request.query.get("watch") == "true"


class FaultProxy:
    """A relay on localhost; an asynchronous context manager.

    Attributes:
        fault: what to do to each request from now on.
        seen: the requests so far, as "METHOD path".
    """

    def __init__(self, upstream: Endpoint) -> None:
        self._upstream = upstream
        self._runner: web.AppRunner | None = None
        self._open: set[asyncio.BaseTransport] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.fault: Fault = lambda _: None
        self.seen: list[str] = []

    @property
    def endpoint(self) -> Endpoint:
        """How to reach the relay; it adds the identity by itself."""
        return Endpoint(self.url, ssl.create_default_context(), Fixed(None))

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._upstream.tls, limit=0), auto_decompress=False
        )
        application = web.Application(client_max_size=2**25)
        application.router.add_route("*", "/{path:.*}", self._relay)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut_streams()
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
        match fault:
            case "hang":
                await asyncio.Event().wait()
            case "cut":
                return _cut(request)
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
            data=await request.read(),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as upstream:
            if fault == "lose":
                await upstream.read()
                return _cut(request)
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
            for name in ("Content-Type", "Content-Encoding", "Retry-After"):
                if name in upstream.headers:
                    response.headers[name] = upstream.headers[name]
            await response.prepare(request)
            assert request.transport
            self._open.add(request.transport)
            try:
                async for chunk in upstream.content.iter_any():
                    await self._flowing.wait()
                    await response.write(chunk)
                await response.write_eof()
            finally:
                self._open.discard(request.transport)
            return response


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport:
        _abort(request.transport)
    return web.Response()


def _abort(transport: asyncio.BaseTransport) -> None:
    assert isinstance(transport, asyncio.WriteTransport)
    transport.abort()
