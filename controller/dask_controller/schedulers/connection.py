"""HTTP for talking to a stranger.

It is spoken here rather than by aiohttp, whose client reads on where nobody waits for anything: a peer that goes on
talking after its answer costs 100 MiB a second, one that says "102 Processing" without end most of a core for as long
as the answer may take. Here both cost a connection (``docs/decisions/0003-scheduler-extension.md``).
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import NamedTuple

#: Bytes of an answer's head, and of the explanation of a status other than 200.
HEAD_BYTES = 16 * 2**10
#: Bytes that the kernel keeps for us of what is sent unasked.
RECEIVE_BYTES = 128 * 2**10
#: How long a connection may take to come about: in one cluster that is milliseconds, or never.
CONNECT_SECONDS = 2.0

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: |$)")


class Response(NamedTuple):
    """An answer, as far as it is read; of one that is no success only a short content."""

    status: int
    content: bytes
    fields: dict[bytes, bytes]  #: by names in lower case; so are the values


class Connection:
    """A connection for one request after the other, from which no more is read than somebody waits for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._ends = False

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect within `CONNECT_SECONDS`."""
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, limit=HEAD_BYTES)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        return cls(reader, writer)

    @property
    def is_of_use(self) -> bool:
        """Whether another request can be sent."""
        unsent = self._writer.transport.get_write_buffer_size()
        return not (self._ends or unsent or self._reader.at_eof() or self._writer.is_closing())

    def close(self) -> None:
        """At once, whatever there is still to say."""
        self._writer.transport.abort()

    async def exchange(self, request: bytes, limit: int) -> Response:
        """The answer; raises `ValueError` if it is none, or longer than it may be."""
        self._writer.write(request)  # the answer will tell whether it has arrived
        status, fields = await self._head()
        length = fields.get(b"content-length", b"")
        size = int(length) if length.isdigit() and len(length) < 10 else None
        if status == 200:
            # The module sends what it has ready as it is. In chunks, or packed, a little could become much.
            if size is None:
                raise ValueError("its length is not told")
            if fields.get(b"content-encoding", b"identity") != b"identity":
                raise ValueError("it is packed")
            if size > limit:
                raise ValueError("it is longer than the question calls for")
        elif size is None or size > HEAD_BYTES:
            self._ends = True
            size = 0
        return Response(status, await self._reader.readexactly(size), fields)

    async def _head(self) -> tuple[int, dict[bytes, bytes]]:
        try:
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        except asyncio.LimitOverrunError:
            raise ValueError("its head is too long") from None
        found = _STATUS.match(first)
        if found is None:
            raise ValueError("it is not HTTP")
        fields = {name.lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in lines)}
        self._ends = found[1] == b"0" or fields.get(b"connection") == b"close"
        return int(found[2]), fields
