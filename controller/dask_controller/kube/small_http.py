"""An HTTP server that strangers may reach: one short request, one answer, and the connection is closed.

Anybody in the cluster may open connections, and whoever holds many must not keep the kubelet from its probes, nor the
operator from its work. aiohttp bounds neither how many there are nor how slowly an answer is read, and logs a traceback
for each malformed request; uvicorn has no limit in seconds either (https://github.com/Kludex/uvicorn/issues/157), and
turns away the newest connection, which may be the kubelet's.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, cast

#: How long a connection may last, from its first packet to the last of the answer; a kubelet waits for 5 s.
CONNECTION_SECONDS = 10.0
#: How many connections may be open; one more closes the oldest.
CONNECTIONS = 256
#: Size of a request; Prometheus with a token sends about 2,000.
REQUEST_BYTES = 8192
#: How many connections each of two sockets (IPv4, IPv6) accepts before the event loop turns to others: what a flood may
#: take of each turn. Until a request is read, those of two turns come, and must be fewer than `CONNECTIONS`.
ACCEPTED_AT_A_TIME = 32
#: How many may wait in the kernel to be accepted. Who finds no place there tries again a second later.
WAITING = 1024

_REQUEST = re.compile(rb"(GET|HEAD) ([^\s?]+)(?:\?\S*)? HTTP/1\.[01]\r\n")
_AUTHORIZATION = re.compile(rb"\r\nauthorization: *([^\r\n]*)", re.IGNORECASE)
_END = b"\r\n\r\n"


class Answer(NamedTuple):
    """What a page says."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"


#: Makes the answer. It is called for each request, in the event loop's thread, and must be quick.
Page = Callable[[], Answer]

#: Whether a request is answered, by its ``Authorization``, empty if it has none, and its path: OK, or why not.
Guard = Callable[[str, str], Awaitable[HTTPStatus]]


class Secure(NamedTuple):
    """How pages are kept from strangers."""

    tls: ssl.SSLContext
    guard: Guard


@contextlib.asynccontextmanager
async def listen(
    pages: Mapping[str, Page],
    *,
    port: int,
    host: str | None = None,
    seconds: float = CONNECTION_SECONDS,
    secure: Secure | None = None,
) -> AsyncGenerator[int, None]:
    """Serve pages over HTTP/1 while the context lasts.

    Args:
        pages: by path.
        port: TCP port; 0 for a free one.
        host: address to listen on; ``None`` for all, IPv4 and IPv6.
        seconds: how long a connection may last, whatever it waits for.
        secure: serve over TLS, and to those alone whom its guard lets.

    Yields:
        The port.
    """
    connections = _Connections(seconds)
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(pages, connections, secure), host, port, backlog=ACCEPTED_AT_A_TIME
    )
    try:
        for listener in server.sockets:
            with listener.dup() as same:  # asyncio takes `backlog` for both numbers
                same.listen(WAITING)
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        connections.keep(0)
        await server.wait_closed()


class _Connections:
    """Those that are open, the oldest first."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._most = CONNECTIONS
        self._deadlines: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def add(self, transport: asyncio.Transport) -> None:
        deadline = asyncio.get_running_loop().call_later(self._seconds, transport.abort)
        self._deadlines[transport] = deadline
        self.keep(self._most)

    def discard(self, transport: asyncio.Transport) -> None:
        if deadline := self._deadlines.pop(transport, None):
            deadline.cancel()

    def keep(self, most: int) -> None:
        """Have at most so many from now on."""
        self._most = most
        while len(self._deadlines) > most:
            oldest = next(iter(self._deadlines))
            self.discard(oldest)
            oldest.abort()


class _Connection(asyncio.Protocol):
    """One request and its answer."""

    _transport: asyncio.Transport  #: to answer by
    _counted: asyncio.Transport  #: the connection itself, below TLS

    def __init__(self, pages: Mapping[str, Page], connections: _Connections, secure: Secure | None) -> None:
        self._pages = pages
        self._connections = connections
        self._secure = secure
        self._received = b""
        self._reading = secure is None
        self._work: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._counted = cast("asyncio.Transport", transport)
        self._connections.add(self._counted)
        if self._secure is not None:
            self._counted.pause_reading()
            self._work = asyncio.ensure_future(self._encrypt(self._secure.tls))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._counted)
        if self._work is not None:
            self._work.cancel()

    async def _encrypt(self, tls: ssl.SSLContext) -> None:
        """As a server's own TLS would, which counts nobody until the handshake is done, however long that takes."""
        upgraded = None
        with contextlib.suppress(OSError):  # such as what is no TLS
            loop = asyncio.get_running_loop()
            upgraded = await loop.start_tls(self._counted, self, tls, server_side=True)
        if upgraded is None:
            self._connections.discard(self._counted)
            self._counted.abort()
        else:
            self._transport, self._reading = upgraded, True
            self._read()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._reading:
            self._read()

    def _read(self) -> None:
        if len(self._received) > REQUEST_BYTES:
            self._say(_refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
        elif _END in self._received:
            request = _REQUEST.match(self._received)
            if request is None:
                self._say(_refusal(HTTPStatus.BAD_REQUEST))
            else:
                self._answer(request[2].decode("latin-1"), with_body=request[1] == b"GET")

    def _answer(self, path: str, *, with_body: bool) -> None:
        page = self._pages.get(path)
        if page is None:
            self._say(_refusal(HTTPStatus.NOT_FOUND))
        elif self._secure is None:
            self._say(page(), with_body=with_body)
        else:
            self._reading = False
            self._transport.pause_reading()  # else what a stranger sends meanwhile is kept, however much it is
            self._work = asyncio.ensure_future(self._guarded(self._secure.guard, path, page, with_body=with_body))

    async def _guarded(self, guard: Guard, path: str, page: Page, *, with_body: bool) -> None:
        found = _AUTHORIZATION.search(self._received)
        status = await guard(found[1].decode("latin-1") if found else "", path)
        self._say(page() if status == HTTPStatus.OK else _refusal(status), with_body=with_body)

    def _say(self, answer: Answer, *, with_body: bool = True) -> None:
        """Answer, and read no more: a body, or another request, stays in the kernel and goes with the connection."""
        head = (
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"Content-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        self._reading = False
        self._transport.write(head.encode() + (answer.body if with_body else b""))
        self._transport.close()


def _refusal(status: HTTPStatus) -> Answer:
    return Answer(status.phrase.encode(), status)
