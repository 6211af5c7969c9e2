"""A listening port that stands in for one sleeping scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Self

logger = logging.getLogger(__name__)

#: How long somebody is held at most: nodes may have to be bought first. distributed's clients wait for 30 s unless
#: ``distributed.comm.timeouts.connect`` says more.
HOLD_SECONDS = 900.0
#: Connections at one door at most; more are refused.
MOST_CONNECTIONS = 1000
CHUNK_BYTES = 64 * 1024
#: Seconds between looks whether who is held is still there.
LOOK_SECONDS = 0.5

#: Wakes what is behind the door, and says where it is once it can be reached.
Open = Callable[[], Awaitable[tuple[str, int]]]


class Closed(Exception):
    """What is behind the door will not open: it is gone, or must not be woken. The message says why."""


class _Reader(asyncio.StreamReader):
    """Knows that the other side has gone, also while something is yet to be read: a client of Dask speaks first."""

    gone = False

    def feed_eof(self) -> None:
        self.gone = True
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        self.gone = True
        super().set_exception(exc)


class Door:
    """Holds who connects until what is behind the door is there, and then passes on what each side says.

    Nothing is read before: the bytes are the business of those two, TLS or not.

    Attributes:
        port: where it listens.
        connections: how many there are, held and passed on.

    Args:
        name: for the log.
        opened: called for each connection.
    """

    def __init__(self, name: str, opened: Open) -> None:
        self.port = 0
        self.connections = 0
        self._name = name
        self._open = opened
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str) -> Self:
        """Begin, at a free port of ``host``, which is one address: of several each would have a port of its own.

        Raises:
            OSError: there is none.
        """
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(_Reader(CHUNK_BYTES, loop), self._come, loop)

        self._server = await loop.create_server(protocol, host, 0, backlog=128)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        """Listen no more, and end the connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert isinstance(reader, _Reader)
        self._tasks.add(task)
        self.connections += 1
        try:
            if self.connections <= MOST_CONNECTIONS:
                await self._serve(reader, writer)
        except (OSError, TimeoutError, Closed) as error:
            logger.info("%s: a connection ends: %s", self._name, error or type(error).__name__)
        finally:
            self.connections -= 1
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HOLD_SECONDS):
            host, port = await _unless_gone(self._open(), reader)
            upstream, onward = await asyncio.open_connection(host, port, limit=CHUNK_BYTES)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, onward))
                group.create_task(_pass_on(upstream, writer))
        except* OSError as group_of_errors:
            raise group_of_errors.exceptions[0] from None
        finally:
            onward.close()


async def _unless_gone(opening: Awaitable[tuple[str, int]], reader: _Reader) -> tuple[str, int]:
    """What ``opening`` says, unless who is held goes away before.

    Raises:
        Closed: it did.
    """
    task = asyncio.ensure_future(opening)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=LOOK_SECONDS)
            if not task.done() and reader.gone:
                raise Closed("the client has gone")
        return await task
    finally:
        task.cancel()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What one side says, to the other; an end is passed on as well."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError, NotImplementedError):
        writer.write_eof()
