"""The HTTP server for probes and metrics, over real sockets."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dask_controller.kube import metrics as module
from dask_controller.kube import small_http
from dask_controller.kube.metrics import Metrics, serve

HALF = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
WHOLE = HALF + b"Connection: close\r\n\r\n"
#: Seconds in which whatever is expected should have happened on a busy machine too.
PATIENCE = 20.0
#: More than the buffers of both sockets hold.
LARGE = 32 * 2**20

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """A server to be annoyed, and connections to it that end with the test."""

    def __init__(self, port: int, stack: AsyncExitStack) -> None:
        self.port = port
        self._stack = stack

    async def send(self, data: bytes, host: str = "127.0.0.1") -> Connection:
        reader, writer = await asyncio.open_connection(host, self.port)
        self._stack.callback(writer.transport.abort)
        writer.write(data)
        return reader, writer

    async def get(self, path: str, host: str = "127.0.0.1") -> bytes:
        reader, _ = await self.send(WHOLE.replace(b"/healthz", path.encode()), host)
        return await rest(reader)


@asynccontextmanager
async def serving(
    *, seconds: float = 600.0, host: str | None = "127.0.0.1", port: int = 0, measured: Metrics | None = None
) -> AsyncIterator[Server]:
    """By default so patient that nothing is closed because of its age."""
    async with AsyncExitStack() as stack:
        served = serve(
            measured or Metrics("x"),
            healthy=lambda: None,
            ready=lambda: None,
            port=port,
            host=host,
            seconds=seconds,
        )
        async with served as bound:
            yield Server(bound, stack)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed."""
    received = bytearray()
    with suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            while data := await reader.read(2**20):
                received += data
    return bytes(received)


async def closed(connections: Iterable[Connection]) -> None:
    """Wait until the server has closed them all."""
    await asyncio.gather(*(rest(reader) for reader, _ in connections))


async def test_probes_say_what_is_wrong() -> None:
    problems: list[str | None] = [None]
    metrics = Metrics("x")
    metrics.requested("get", "pods", 200)
    probes = serve(metrics, healthy=lambda: problems[0], ready=lambda: "filling", port=0, host="127.0.0.1")
    async with probes as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(path) as response:
                return response.status, await response.text()

        assert await get("/healthz") == (200, "ok")
        problems[0] = "stuck"
        assert await get("/healthz") == (503, "stuck")
        assert await get("/readyz?verbose") == (503, "filling")
        assert (await get("/"))[0] == 404
        async with session.head("/healthz") as response:
            assert (response.status, response.headers["Content-Length"]) == (503, "5")
            assert response.headers["Connection"] == "close"
        async with session.post("/healthz", data=b"x") as response:
            assert response.status == 400
        status, text = await get("/metrics")
        assert status == 200
        assert 'rest_client_requests_total{code="200",resource="pods",verb="get"} 1.0' in text
        assert "process_resident_memory_bytes" in text


async def test_half_sent_connections_neither_block_probes_nor_stay() -> None:
    """Security finding 15: 400 half-sent connections stayed open for 100 s."""
    async with serving(seconds=0.5) as server:
        half_sent = [await server.send(HALF) for _ in range(400)]
        assert (await server.get("/healthz")).endswith(b"ok")
        assert b"process_cpu_seconds_total" in await server.get("/metrics")
        await closed(half_sent)


async def test_who_keeps_sending_is_closed_too() -> None:
    async with serving(seconds=0.3) as server:
        reader, writer = await server.send(HALF)
        end = asyncio.create_task(rest(reader))
        while not end.done():
            writer.write(b"x")
            await asyncio.sleep(0.01)
        await end


async def test_the_oldest_connection_makes_room() -> None:
    async with serving() as server:
        connections = [await server.send(HALF) for _ in range(small_http.CONNECTIONS + 100)]
        await closed(connections[:100])
        assert (await server.get("/healthz")).endswith(b"ok")
        await closed(connections[100:101])
        kept = connections[101:]
        assert not any(reader.at_eof() for reader, _ in kept)
        for reader, writer in kept:
            writer.write(b"Connection: close\r\n\r\n")
            assert (await rest(reader)).endswith(b"ok")


async def test_probes_are_answered_in_a_flood_of_half_sent_connections() -> None:
    async with serving() as server:
        held: list[Connection] = []

        async def flood() -> None:
            for _ in range(2000):
                with suppress(ConnectionError):
                    held.append(await server.send(HALF))

        flooding = asyncio.create_task(flood())
        answers = 0
        while not flooding.done():
            assert (await server.get("/healthz")).endswith(b"ok")
            answers += 1
        await flooding
        assert answers > 10
        await closed(held[: -small_http.CONNECTIONS])


@pytest.mark.parametrize("after", [0, 1, 400])
async def test_a_request_that_is_there_is_answered_however_many_connections_follow(after: int) -> None:
    """All arrive before the event loop has its next turn."""
    sockets: list[socket.socket] = []

    def send(data: bytes, port: int) -> socket.socket:
        sockets.append(connection := socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
        connection.sendall(data)
        return connection

    try:
        async with serving() as server:
            early = [send(HALF, server.port) for _ in range(400)]
            request = send(WHOLE, server.port)
            for _ in range(after):
                send(HALF, server.port)
            received = b""
            while data := await asyncio.to_thread(request.recv, 4096):
                received += data
            assert received.endswith(b"ok")
            await asyncio.to_thread(_wait_until_closed, early[0])
    finally:
        for connection in sockets:
            connection.close()


def _wait_until_closed(connection: socket.socket) -> None:
    with suppress(ConnectionError):
        assert not connection.recv(1)


async def test_a_slow_reader_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "generate_latest", lambda _: bytes(LARGE))
    async with serving(seconds=0.2) as server:
        reader, writer = await server.send(WHOLE.replace(b"healthz", b"metrics"))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(1.0)  # the server's timer belongs to the same loop, and is due long before
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await rest(reader)) < LARGE


async def test_a_large_head_is_refused() -> None:
    async with serving() as server:
        many = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 4000) for number in range(60))
        for request in (HALF + many + b"\r\n", HALF + many, WHOLE.replace(b"healthz", b"x" * 100_000)):
            reader, _ = await server.send(request)
            answer = await rest(reader)
            assert not answer or answer.startswith(b"HTTP/1.1 413 ")  # a reset may overtake the answer


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_large_body_is_not_read(method: bytes) -> None:
    async with serving() as server:
        _, writer = await server.send(HALF.replace(b"GET", method) + b"Content-Length: 1000000000\r\n\r\n")
        sent = 0
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while sent < LARGE:
                    writer.write(bytes(2**20))
                    await writer.drain()
                    sent += 2**20
        assert sent < LARGE


async def test_one_request_is_answered_per_connection() -> None:
    async with serving() as server:
        reader, _ = await server.send((HALF + b"\r\n") * 50)
        answer = await rest(reader)
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1
        assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    "request_", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET /healthz HTTP/1.1\r\nx\x00y\r\n\r\n", b"\r\n\r\n"]
)
async def test_nonsense_is_not_logged(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A traceback for each request that a stranger sends would fill the log."""
    async with serving() as server:
        reader, _ = await server.send(request_)
        assert (await rest(reader)).startswith(b"HTTP/1.")
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_metrics_are_rendered_at_most_once_a_second() -> None:
    class Counting(Collector):
        renders = itertools.count()

        def collect(self) -> Iterable[Metric]:
            yield GaugeMetricFamily("renders", "How often it was rendered.", next(self.renders))

    measured, counting = Metrics("x"), Counting()
    measured.registry.register(counting)
    async with serving(measured=measured) as server:
        begin = asyncio.get_running_loop().time()
        before = next(counting.renders)
        for _ in range(20):
            answers = await asyncio.gather(*(server.get("/metrics") for _ in range(20)))
            assert all(b"\nrenders " in answer for answer in answers)
        renders = next(counting.renders) - before - 1
        assert 1 <= renders <= 1 + asyncio.get_running_loop().time() - begin


async def test_it_ends_at_once_whoever_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "generate_latest", lambda _: bytes(LARGE))
    served = serve(Metrics("x"), healthy=lambda: None, ready=lambda: None, port=0, host="127.0.0.1", seconds=600.0)
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        async with served as port:
            server = Server(port, stack)
            half_sent = [await server.send(HALF) for _ in range(10)]
            reader, writer = await server.send(WHOLE.replace(b"healthz", b"metrics"))
            await reader.read(1)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        await closed(half_sent)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await rest(reader)) < LARGE
        with pytest.raises(ConnectionRefusedError):
            await server.get("/healthz")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6")
async def test_it_listens_on_ipv4_and_ipv6() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as free:
        port = free.getsockname()[1]
    async with serving(host=None, port=port) as server:
        assert server.port == port
        for host in ("127.0.0.1", "::1"):
            assert (await server.get("/healthz", host)).endswith(b"ok")
