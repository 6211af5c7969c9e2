"""The client of schedulers against strangers on real sockets: whatever they say costs little and raises our error.

With real schedulers: ``in_pod``.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
from tests.support.questions import answers_of, ask_of, parts

from dask_controller.core.questions import Ask, Claim, Progress, Target, WorkerId
from dask_controller.schedulers import client as module
from dask_controller.schedulers.answers import Reply, Request, SchedulerError
from dask_controller.schedulers.client import SchedulerClient

pytestmark = pytest.mark.timeout(60)

MIB = 2**20
#: What one answer may cost at most while it is looked at: the largest is 3 MiB, and four times that as text with an
#: emoji in it, as which Python keeps four bytes for each character.
MOST_MEMORY = 24 * MIB

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Stage:
    """A server that plays a scheduler, and what has come to it."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.connections = 0
        self.ended = 0
        self.requests: list[tuple[str, Any]] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._play(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.ended += 1
            writer.transport.abort()

    async def request(self, reader: asyncio.StreamReader) -> tuple[str, Any]:
        """The next request: what it begins with, and its body."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.lower().split(": ") for line in lines if line)
        assert fields["accept-encoding"] == "identity"
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        self.requests.append((first, json.loads(body) if body else None))
        return self.requests[-1]

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def stage(play: Callable[..., Awaitable[None]]) -> AsyncIterator[Stage]:
    """`play(stage, reader, writer)` is what happens on each connection."""
    on = Stage(lambda reader, writer: play(on, reader, writer))
    server = await asyncio.start_server(on.connected, "127.0.0.1", 0)
    on.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield on
        on.end()


@asynccontextmanager
async def client(of: Stage, **options: Any) -> AsyncIterator[SchedulerClient]:
    scheduler = SchedulerClient(of.url, **options)
    try:
        yield scheduler
    finally:
        scheduler.close()


async def pour(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send as fast as it is taken, without a copy of all of it."""
    for at in range(0, len(data), 2**16):
        writer.write(data[at : at + 2**16])
        await writer.drain()


def http(body: bytes | str, status: str = "200 OK", *fields: str) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *fields, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def saying(*answers: bytes) -> Callable[..., Awaitable[None]]:
    """Each request on a connection is answered so, the last one for ever."""

    async def play(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(answers)
        while True:
            await on.request(reader)
            await pour(writer, left.pop(0) if len(left) > 1 else left[0])

    return play


def without_end(beginning: bytes, more: bytes) -> Callable[..., Awaitable[None]]:
    async def play(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await on.request(reader)
        writer.write(beginning)
        while True:
            await pour(writer, more)

    return play


def answers(*said: Any) -> bytes:
    return http(json.dumps({"answers": list(said)}))


def pods(*names: str) -> tuple[WorkerId, ...]:
    return tuple(WorkerId(name) for name in names)


@contextmanager
def little_memory(most: int = MOST_MEMORY) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / MIB:.1f} MiB"


MANY = tuple(WorkerId(f"simple-default-worker-{n:05}", (f"10.0.{n // 250}.{n % 250}",)) for n in range(8000))
TARGET = Target(group=Claim(workers=pods("a"), maximum=3))
EVERYTHING = ask_of(
    idle=True,
    progress=True,
    versions=True,
    registered=pods("a", "b"),
    rank=pods("a", "b"),
    retire=pods("a"),
    target=TARGET,
)
ALL = {
    "idle_seconds": 1.5,
    "progress": {"total": 3, "done": 1, "workers": 2},
    "versions": {"scheduler": [{"dask": "1"}], "workers": [], "clients": [{"dask": "1"}, {"dask": "2"}]},
    "registered": ["a"],
    "ranked": ["b", "a"],
    "retirement": {"a": "retiring: 1 tasks and 2 results left"},
    "target": 7,
}


async def put(play: Callable[..., Awaitable[None]], *asks: Ask, seconds: float = 5.0) -> Reply:
    async with stage(play) as on, client(on, timeout_seconds=seconds) as scheduler:
        return await scheduler.put(Request(asks or (EVERYTHING,)))


async def refused(play: Callable[..., Awaitable[None]], *asks: Ask, seconds: float = 5.0) -> SchedulerError:
    """The error, which has to be fit to be shown, and to come cheaply."""
    question = Request(asks or (EVERYTHING,))
    async with stage(play) as on, client(on, timeout_seconds=seconds) as scheduler:
        with little_memory(), pytest.raises(SchedulerError) as raised:
            await scheduler.put(question)
        message = str(raised.value)
        assert message.isprintable()
        assert len(message) < 300
        deadline = time.monotonic() + 60
        while on.ended < on.connections:
            assert time.monotonic() < deadline, "the connection is not closed"
            await asyncio.sleep(0.01)
        return raised.value


# --- what is asked ----------------------------------------------------------------------------------------------------


async def test_all_that_is_asked_is_answered() -> None:
    found = parts((await put(saying(answers(ALL)))).answers[0])
    assert found.idle_seconds == 1.5
    assert found.progress == Progress(total=3, done=1, workers=2)
    assert found.versions.clients == ({"dask": "1"}, {"dask": "2"})
    assert (found.registered, found.ranked) == ({"a"}, ("b", "a"))
    assert (found.retirement, found.target) == ({"a": "retiring: 1 tasks and 2 results left"}, 7)
    assert found.silent == ""


async def test_a_scheduler_is_told_what_is_asked_for_and_nothing_else() -> None:
    group = Claim(workers=pods("a"), resources={"GPU": 1.0}, threads=2, maximum=3)
    asks = (
        ask_of(idle=True, every=5.0),
        ask_of(resume=(WorkerId("a", ("10.0.0.1",)),), retire=pods("b")),
        ask_of(target=Target(group=group, before=(Claim(workers=(), maximum=1),))),
    )
    async with stage(saying(answers({"idle_seconds": None}, {"retirement": {}}, {"target": 0}))) as on, client(on) as s:
        await s.put(Request(asks))
    plain = {"workers": [], "resources": {}, "threads": 1, "processes": 1, "minimum": 0, "maximum": 1}
    asked = [
        {"idle": True},
        {"resume": [{"name": "a", "ip": "10.0.0.1"}], "retire": [{"name": "b", "ip": ""}]},
        {
            "target": {
                "group": {
                    **plain,
                    "workers": [{"name": "a", "ip": ""}],
                    "resources": {"GPU": 1.0},
                    "threads": 2,
                    "maximum": 3,
                },
                "before": [plain],
                "after": [],
            }
        },
    ]
    assert on.requests == [("POST /dask-gitops/v1/ask HTTP/1.1", {"questions": asked})]


@pytest.mark.parametrize(
    ("ips", "told"),
    [
        ((), {"ip": ""}),
        (("fd00::1",), {"ip": "fd00::1"}),
        (("10.0.0.1", "fd00::1"), {"ip": "10.0.0.1", "ips": ["10.0.0.1", "fd00::1"]}),
        (("fd00::1", "10.0.0.1"), {"ip": "10.0.0.1", "ips": ["fd00::1", "10.0.0.1"]}),
    ],
)
async def test_all_addresses_of_a_pod_are_told(ips: tuple[str, ...], told: dict[str, Any]) -> None:
    """Dual stack, IPv6 first (controller 17). A module of before takes one: that which Dask prefers."""
    worker = WorkerId("a", ips)
    ask = ask_of(retire=(worker,), target=Target(group=Claim(workers=(worker,), maximum=1)))
    async with stage(saying(answers({"retirement": {}, "target": 0}))) as on, client(on) as s:
        await s.put(Request([ask]))
    (question,) = on.requests[0][1]["questions"]
    assert question["retire"] == question["target"]["group"]["workers"] == [{"name": "a", **told}]


async def test_what_was_not_asked_for_is_none() -> None:
    assert (await put(saying(answers(ALL, ALL)), ask_of(), ask_of(target=TARGET))).answers == (
        answers_of(),
        answers_of(target=7),
    )


async def test_nothing_new_is_the_last_reply_itself() -> None:
    play = saying(answers(ALL), answers(ALL), answers({**ALL, "target": 8}), answers({**ALL, "target": 8}))
    async with stage(play) as on, client(on) as scheduler:
        question = Request([EVERYTHING])
        first = await scheduler.put(question)
        assert await scheduler.put(question, first) is first
        second = await scheduler.put(question, first)
        assert parts(second.answers[0]).target == 8
        other = await scheduler.put(Request([ask_of(idle=True)]), second)
        assert other.answers == (answers_of(idle_seconds=1.5),), "the same words mean another thing to another question"
        assert on.connections == 1


async def test_an_ask_that_failed_says_so_and_the_others_are_answered() -> None:
    reply = await put(
        saying(answers({"error": "no\nluck " * 100}, {"target": 1})),
        ask_of(idle=True),
        ask_of(target=TARGET),
    )
    failed, target = reply.answers
    assert failed == answers_of(silent="the scheduler cannot answer: " + ("no luck " * 100)[:200])
    assert parts(target).target == 1


# --- what is believed -------------------------------------------------------------------------------------------------


async def test_only_who_was_asked_about_is_told_of_and_once() -> None:
    said = {
        **ALL,
        "registered": ["b", "stranger", "b"],
        "ranked": ["stranger", "b", "a", "b"],
        "retirement": {"stranger": "retired", "a": "retired"},
    }
    found = parts((await put(saying(answers(said)))).answers[0])
    assert (found.registered, found.ranked, found.retirement) == ({"b"}, ("b", "a"), {"a": "retired"})


@pytest.mark.parametrize("note", ["refused: " + "A" * 20_000, "refused: \x1b[2J\u202e\n\x00" + "\U0001f600" * 300])
async def test_a_retire_note_is_clipped_and_made_readable(note: str) -> None:
    """Security finding 8: it goes into status."""
    (found,) = (await put(saying(answers({"retirement": {"a": note}})), ask_of(retire=pods("a")))).answers
    told = parts(found).retirement["a"]
    assert len(told) == 200
    assert told.isprintable()
    assert told.startswith("refused: ")


async def test_what_became_of_who_works_again_is_told() -> None:
    """Controller finding 2. It goes into status, too (security 8)."""
    said = {"resumption": {"a": "resuming " + "\x1b" * 1000, "stranger": "running"}}
    found = (await put(saying(answers(said)), ask_of(resume=pods("a", "b")))).answers[0]
    assert found == answers_of(resumption={"a": ("resuming " + " " * 1000)[:200]})


async def test_a_module_that_does_not_tell_it_has_been_told() -> None:
    """Of ``VERSION`` 4: it has no such field (controller 2)."""
    assert (await put(saying(answers({})), ask_of(resume=pods("a")))).answers[0] == answers_of()


@pytest.mark.parametrize("said", [[], "running", {"a": 1}, {"a": None}, 3])
async def test_a_resumption_that_makes_no_sense_is_not_believed(said: Any) -> None:
    assert (await refused(saying(answers({"resumption": said})), ask_of(resume=pods("a")))).kind == "Unexpected"


async def test_versions_are_clipped() -> None:
    sets = [{f"{n}\x00" + "p" * 90: "v" * 90 for n in range(40)}, *({"dask": f"{n}"} for n in range(100))]
    said = {"versions": {"scheduler": sets, "workers": [], "clients": []}}
    found = parts((await put(saying(answers(said)), ask_of(versions=True))).answers[0]).versions
    assert found is not None
    assert [len(some) for some in found.scheduler] == [32, *[1] * 31]
    assert all(len(name) == len(version) == 64 and name.isprintable() for name, version in found.scheduler[0].items())


NUMBERS = ["-1", "1.5", "true", '"3"', "null", "1e999", "NaN", "Infinity", "[]", "1" + "0" * 400, "1" * 6000]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("field", ["target", "progress"])
async def test_a_number_that_makes_no_sense_is_not_believed(field: str, number: str) -> None:
    said = number if field == "target" else f'{{"total": 1, "done": 1, "workers": {number}}}'
    asked = ask_of(target=TARGET) if field == "target" else ask_of(progress=True)
    error = await refused(saying(http(f'{{"answers": [{{"{field}": {said}}}]}}')), asked)
    assert error.kind == "Unexpected"


@pytest.mark.parametrize("seconds", ["-1", "1e308", "-1e308", "1e999", "NaN", "true", '"0"', "1" + "0" * 400])
async def test_an_idleness_that_makes_no_sense_is_not_believed(seconds: str) -> None:
    error = await refused(saying(http(f'{{"answers": [{{"idle_seconds": {seconds}}}]}}')), ask_of(idle=True))
    assert error.kind == "Unexpected"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"answers": null}',
        b'{"answers": [null]}',
        b'{"answers": []}',
        b'{"answers": [{}, {}]}',
        b'{"answers": [{}]}',
        b'{"answers": [{"retirement": null}]}',
        b'{"answers": [{"retirement": ["a"]}]}',
        b'{"answers": [{"retirement": {"a": 1}}]}',
        b'{"answers": [{"retirement": {"a": {"b": "c"}}}]}',
        b'{"answers": [{"error": 1}]}',
        b'{"answers": [{"retirement": {"a": "\xff"}}]}',
        b'{"answers": [{"retirement": {"a": "\\ud800"}}]}',
        b'{"answers": [{"retirement": {"a": "retired"}}]',
        b'{"answers": [{"retirement": {"a": "retired"}}]} x',
        b'{"answers": [{"retirement": ' + b"[" * 1_500 + b"]" * 1_500 + b"}]}",
        b'{"answers": [{"x": ' + b'{"x":' * 1_500 + b"1" + b"}" * 1_500 + b"}]}",
        b"[" * 30_000,
        b"<html>Jupyter</html>",
    ],
)
async def test_what_is_not_as_agreed_is_unexpected(said: bytes) -> None:
    error = await refused(saying(http(said)), ask_of(retire=pods("a")))
    assert error.kind == "Unexpected"
    assert str(error).startswith("the scheduler's answer to ask is not as agreed: ")


async def test_the_last_one_of_two_fields_of_a_name_counts() -> None:
    said = '{"answers": [{"target": -5, "target": 2}], "answers": [{"target": -5, "target": 3}]}'
    assert (await put(saying(http(said)), ask_of(target=TARGET))).answers == (answers_of(target=3),)


# --- how much is listened to ------------------------------------------------------------------------------------------


def bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(b" " * MIB) for _ in range(300)), packer.flush()])


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("play", "why"),
    [
        (without_end(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + b" " * MIB + b"\r\n"), "its length"),
        (without_end(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000), "its length"),
        (without_end(HEAD + b"Content-Length: 300000000\r\n\r\n", b" " * MIB), "longer than the question calls for"),
        (without_end(HEAD + b"Content-Length: 9" + b"9" * 5000 + b"\r\n\r\n", b" " * MIB), "its length"),
        (without_end(HEAD + b"\r\n", b" " * MIB), "its length"),
        (without_end(HEAD, b"a: b\r\n" * 10_000), "its head is too long"),
        (without_end(HEAD + b"a: ", b"b" * MIB), "its head is too long"),
        (without_end(b"", b"x" * MIB), "its head is too long"),
        (without_end(b"HTTP/1.1 200 ", b"x" * MIB), "its head is too long"),
        (without_end(b"", b"\r\n" * MIB), "it is not HTTP"),
        (without_end(b"", b"SSH-2.0-x\r\n\r\n" * 10_000), "it is not HTTP"),
        (without_end(b"", b"HTTP/1.1 102 \r\n\r\n" * 10_000), "answers 102 to ask"),
        (without_end(b"", b"HTTP/1.1 101 \r\nUpgrade: x\r\n\r\n" * 10_000), "answers 101 to ask"),
        (saying(http(b"x" * 20, "200 OK", "Content-Encoding: gzip")), "it is packed"),
        (saying(http(b'{"answers": [{"x": "' + b"A" * MIB + b'"}]}')), "longer than the question calls for"),
        (saying(http(b"", "302 Found", "Location: http://169.254.169.254/latest/")), "answers 302 to ask"),
        (saying(b"HTTP/1.1 204 No Content\r\n\r\n"), "answers 204 to ask"),
        (saying(http(b'{"message": "' + b"A" * 5_000_000 + b'"}', "500 Oh")), "answers 500 to ask"),
        (saying(http(b'{"message": "' + b"A\\n" * 5_000 + b'"}', "500 Oh")), "answers 500 to ask: A A A"),
        (saying(http(b'{"message": ' + b"[" * 5_000 + b'"}', "500 Oh")), "answers 500 to ask"),
        (saying(http(b"<html>Forbidden", "403 Forbidden")), "answers 403 to ask"),
    ],
)
async def test_a_flood_costs_little(play: Callable[..., Awaitable[None]], why: str) -> None:
    """Security finding 2; the floods are cut off at once: when the time is up, that is what is told."""
    used = time.process_time()
    error = await refused(play, ask_of(retire=pods("a")))
    assert (error.kind, why in str(error)) == ("Unexpected", True), str(error)
    assert time.process_time() - used < 2


async def test_a_bomb_is_not_unpacked() -> None:
    """Security finding 2: 298 KiB on the wire took 614 MiB. Whatever it is called by, it is no JSON as it is."""
    packed = bomb()
    assert (
        await refused(saying(http(packed, "200 OK", "Content-Encoding: gzip")), ask_of(retire=MANY))
    ).kind == "Unexpected"
    assert (await refused(saying(http(packed)), ask_of(retire=MANY))).kind == "Unexpected"


DENSE = {
    "names": b'{"answers": [{"registered": [' + b",".join([b'""'] * 1_000_000) + b"]}]}",
    "notes": b'{"answers": [{"retirement": {' + b",".join(b'"%x":""' % n for n in range(260_000)) + b"}}]}",
    "lists": b'{"answers": [{"x": [' + b",".join([b"[]"] * 1_000_000) + b"]}]}",
    "numbers": b'{"answers": [{"x": [' + b",".join([b"1e9"] * 750_000) + b"]}]}",
    "text": b'{"answers": [{"retirement": {"a": "\xf0\x9f\x98\x80' + b"A" * 3_100_000 + b'"}}]}',
}


@pytest.mark.parametrize("what", DENSE)
async def test_much_in_little_is_not_unfolded(what: str) -> None:
    """Security finding 2: 3 MiB of JSON, which a question about 8,000 workers allows, can be 100 MiB of objects."""
    error = await refused(saying(http(DENSE[what])), ask_of(retire=MANY, registered=MANY[:1]))
    assert error.kind == "Unexpected"
    assert ("says more than it was asked for" in str(error)) == (what != "text")


async def test_a_large_honest_answer_is_taken() -> None:
    names = [worker.name for worker in MANY]
    notes = dict.fromkeys(names, "retiring: 100 tasks and 12345 results left, of which some, or all, are large")
    said = {"registered": names, "ranked": names, "retirement": notes}
    reply = await put(saying(answers(said)), ask_of(registered=MANY, rank=MANY, retire=MANY))
    assert reply.answers == (answers_of(registered=frozenset(names), ranked=tuple(names), retirement=notes),)


@pytest.mark.parametrize("status", ["200 OK", "500 x"])
async def test_a_retire_note_of_5_mb_is_not_read(status: str) -> None:
    """Security finding 8."""
    said = json.dumps({"answers": [{"retirement": {"a": "refused: " + "A" * 5_000_000}}]})
    assert (await refused(saying(http(said, status)), ask_of(retire=pods("a")))).kind == "Unexpected"


async def test_who_talks_on_after_the_answer_is_not_listened_to() -> None:
    """aiohttp parses and keeps what comes unasked on a connection in its pool: 100 MiB in a second."""
    sent = 0

    async def play(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await on.request(reader)
        writer.write(answers({"target": 1}))
        await asyncio.sleep(0.1)
        while True:
            await pour(writer, http(b"") * 500)
            sent += len(http(b"") * 500)

    async with stage(play) as on, client(on) as scheduler:
        with little_memory(2 * MIB):
            question = Request([ask_of(target=TARGET)])
            assert (await scheduler.put(question)).answers == (answers_of(target=1),)
            used = time.process_time()
            await asyncio.sleep(1)
            assert time.process_time() - used < 0.5
            with pytest.raises(SchedulerError):
                await scheduler.put(question)
        assert sent < 16 * MIB, "the rest waits in the buffers of two kernels"


# --- how long -------------------------------------------------------------------------------------------------------


async def drip(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await on.request(reader)
    for byte in answers(ALL):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def silence(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the other side has had enough


async def silence_after_404(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await on.request(reader)
    writer.write(http(b"", "404 Not Found"))
    await reader.read()


@pytest.mark.parametrize("play", [drip, silence, silence_after_404])
async def test_the_time_is_for_the_whole_answer(play: Callable[..., Awaitable[None]]) -> None:
    error = await refused(play, seconds=0.5)
    assert (error.kind, str(error)) == ("Unreachable", "the scheduler does not answer in time")


async def test_an_older_module_has_the_same_time_for_all_its_answers() -> None:
    async def play(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, _ = await on.request(reader)
            await asyncio.sleep(0.2)
            state = http('{"idle_seconds": 1, "workers": []}')
            writer.write(http(b"", "404 x") if "/ask" in first else state if "/state" in first else answers())

    assert (await refused(play, *[ask_of(progress=True)] * 50, seconds=1)).kind == "Unreachable"


async def test_a_cancellation_is_not_mistaken_for_the_end_of_patience() -> None:
    """Also if both come in the same turn of a busy loop: who is cancelled must end, not ask again."""
    async with stage(silence) as on, client(on, timeout_seconds=0.3) as scheduler:
        asked = asyncio.ensure_future(scheduler.put(Request([EVERYTHING])))
        await asyncio.sleep(0.1)
        asyncio.get_running_loop().call_later(0.3, asked.cancel)
        time.sleep(0.5)  # noqa: ASYNC251 - and now both are due
        await asyncio.wait({asked}, timeout=5)
        assert asked.cancelled()


# --- connections ------------------------------------------------------------------------------------------------------


async def test_nobody_there_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        scheduler = SchedulerClient(f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(SchedulerError, match="cannot be reached: ConnectionRefusedError") as raised:
            await scheduler.put(Request([EVERYTHING]))
    assert raised.value.kind == "Unreachable"


def breaking_off(said: bytes, *, reset: bool = False) -> Callable[..., Awaitable[None]]:
    async def play(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await on.request(reader)
        writer.write(said)
        await writer.drain()
        await asyncio.sleep(0.05)
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    return play


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("said", [b"", b"HT", answers(ALL)[:-1], HEAD, b'{"answers": []}'])
async def test_an_answer_that_breaks_off_is_none(said: bytes, reset: bool) -> None:
    assert (await refused(breaking_off(said, reset=reset))).kind == "Unreachable"


async def test_an_answer_that_comes_before_the_question_was_read_is_one() -> None:
    async def play(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers({"ranked": []}))
        await asyncio.sleep(60)

    asked = ask_of(rank=tuple(WorkerId(f"{n}" * 20) for n in range(60_000)))
    async with stage(play) as on, client(on) as scheduler:
        for connections in (1, 2):
            assert (await scheduler.put(Request([asked]))).answers == (answers_of(ranked=()),)
            assert on.connections == connections, "a connection on which a question is still being sent is given up"


@pytest.mark.parametrize("field", ["Connection: close", "X: y"])
async def test_a_connection_is_kept_unless_the_scheduler_says_otherwise(field: str) -> None:
    play = saying(http('{"answers": [{"target": 1}]}', "200 OK", field))
    async with stage(play) as on, client(on) as scheduler:
        for _ in range(3):
            await scheduler.put(Request([ask_of(target=TARGET)]))
        assert on.connections == (1 if field == "X: y" else 3)


async def test_another_connection_is_made_when_the_scheduler_has_restarted() -> None:
    async def play(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await on.request(reader)
        writer.write(answers({"target": on.connections}))
        await writer.drain()

    async with stage(play) as on, client(on) as scheduler:
        for life in (1, 2, 3):
            assert (await scheduler.put(Request([ask_of(target=TARGET)]))).answers == (answers_of(target=life),)
            await asyncio.sleep(0.05)


async def test_a_connection_that_is_not_used_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.5)
    question = Request([ask_of(target=TARGET)])
    async with stage(saying(answers({"target": 1}))) as on, client(on) as scheduler:
        for _ in range(3):
            await scheduler.put(question)
        assert (on.connections, on.ended) == (1, 0)
        async with asyncio.timeout(10):
            while not on.ended:
                await asyncio.sleep(0.05)
        await scheduler.put(question)
        assert on.connections == 2


async def test_questions_that_are_put_at_the_same_time_do_not_get_each_others_answers() -> None:
    async def play(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await on.request(reader)
            await asyncio.sleep(0.05)
            writer.write(answers({"registered": [worker["name"] for worker in body["questions"][0]["registered"]]}))

    async with stage(play) as on, client(on) as scheduler:
        for _ in range(2):
            replies = await asyncio.gather(
                *(scheduler.put(Request([ask_of(registered=pods(f"{n}"))])) for n in range(5)),
            )
            assert [parts(reply.answers[0]).registered for reply in replies] == [{f"{n}"} for n in range(5)]
        scheduler.close()
        await asyncio.sleep(0.1)
        assert on.ended == on.connections


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_an_address_of_version_6_is_reached() -> None:
    on = Stage(lambda reader, writer: saying(answers({"target": 1}))(on, reader, writer))
    try:
        server = await asyncio.start_server(on.connected, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    async with server:
        scheduler = SchedulerClient(f"http://[::1]:{server.sockets[0].getsockname()[1]}/")
        assert (await scheduler.put(Request([ask_of(target=TARGET)]))).answers == (answers_of(target=1),)
        scheduler.close()
        on.end()


# --- modules of before ------------------------------------------------------------------------------------------------


def old(**routes: bytes) -> Callable[..., Awaitable[None]]:
    """A scheduler that has these routes and no other."""

    async def play(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, _ = await on.request(reader)
            route = first.split()[1].rpartition("/")[2]
            await pour(writer, routes.get(route, http("<html>404: Not Found</html>", "404 Not Found")))

    return play


STATE = http('{"version": "3", "idle_seconds": 4, "workers": [{"name": "a-0", "host": "10.0.0.1", "x": {}}]}')


async def test_a_scheduler_without_the_module_says_so() -> None:
    assert (await refused(old())).kind == "NoExtension"


async def test_an_older_module_is_asked_one_after_the_other() -> None:
    """With a real one: ``in_pod/test_loading.py``."""
    play = old(
        state=STATE, retire=http('{"workers": {"a": "retired", "b": "x"}}'), adaptive_target=http('{"target": 2}')
    )
    asks = [
        ask_of(idle=True, registered=(*pods("a", "b"), WorkerId("c", ("10.0.0.1",)))),
        ask_of(retire=pods("a")),
        ask_of(target=TARGET),
        ask_of(progress=True),
    ]
    async with stage(play) as on, client(on) as scheduler:
        reply = await scheduler.put(Request(asks))
        state, retired, target, progress = reply.answers
        assert state == answers_of(idle_seconds=4.0, registered=frozenset({"a", "c"}))
        assert (retired, target) == (answers_of(retirement={"a": "retired"}), answers_of(target=2))
        assert progress.silent, "it is older still"
        asked = [first.split()[1].rpartition("/")[2] for first, _ in on.requests]
        assert asked == ["ask", "state", "retire", "adaptive_target", "progress"]
        await scheduler.put(Request(asks[1:2]))
        assert [first.split()[1].rpartition("/")[2] for first, _ in on.requests[5:]] == ["retire"]
        body = on.requests[3][1]
        assert body["workers"] == [{"name": "a", "ip": ""}], "where a module that knows no other groups looks for them"
        assert on.connections == 1


OWN = "simple-default-worker-0-abcde"


@pytest.mark.parametrize(
    ("processes", "asked", "known"),
    [
        ([("mine", "10.0.0.1")], [WorkerId("a", ("fd00::1", "10.0.0.1"))], {"a"}),
        ([("mine", "fd00::1")], [WorkerId("a", ("10.0.0.1", "fd00:0:0::0001"))], {"a"}),
        ([("mine", "10.0.0.1")], [WorkerId("a", ("::ffff:10.0.0.1",))], {"a"}),
        ([("mine", "10.0.0.1")], [WorkerId("a", ("10.0.0.1",)), WorkerId("b", ("10.0.0.1",))], set()),
        ([(OWN, "10.0.0.1"), ("mine", "10.0.0.1")], [WorkerId("a", ("10.0.0.1",))], set()),
        ([(f"{OWN}-1", "10.0.0.1")], [WorkerId("a", ("10.0.0.1",)), WorkerId(OWN, ("10.0.0.1",))], {OWN}),
        ([(f"{OWN}-gpu", "10.0.0.1")], [WorkerId(OWN)], {OWN}),
    ],
)
async def test_an_older_modules_workers_are_known_by_name_or_by_an_address_of_their_own(
    processes: list[tuple[str, str]], asked: list[WorkerId], known: set[str]
) -> None:
    """Two stacks (controller 17), and a node's address, which Pods share (controller 3)."""
    workers = [{"name": name, "host": host} for name, host in processes]
    play = old(state=http(json.dumps({"idle_seconds": None, "workers": workers})))
    assert parts((await put(play, ask_of(registered=tuple(asked)))).answers[0]).registered == known


@pytest.mark.parametrize(
    "state",
    [
        b"<html>Jupyter</html>",
        b'{"idle_seconds": 1}',
        b'{"idle_seconds": 1, "workers": [' + b",".join([b'{"name":"a","host":"b"}'] * 120_000) + b"]}",
        b'{"idle_seconds": 1, "workers": [' + b",".join([b'{"name":"a","host":"b"}'] * 1_000_000) + b"]}",
        b'{"idle_seconds": 1, "workers": [], "x": ' + b"[" * 100_000,
    ],
)
async def test_the_state_of_an_older_module_is_not_believed_either(state: bytes) -> None:
    """Security finding 2: a million workers took 500 MiB and held the loop up for 2.6 s."""
    assert (await refused(old(state=http(state)), ask_of(registered=pods("a")))).kind == "Unexpected"


async def test_the_state_of_a_cluster_that_cannot_be_so_large_costs_little() -> None:
    workers = ",".join(f'{{"name":"w-{n}","host":"h{n}"}}' for n in range(66_000))
    with little_memory():
        state = http(f'{{"idle_seconds": 1, "workers": [{workers}]}}')
        reply = await put(old(state=state), ask_of(registered=pods("w")))
    assert parts(reply.answers[0]).registered == {"w"}


async def test_the_state_of_a_large_cluster_is() -> None:
    worker = {"name": "w", "address": "tcp://10.0.0.1:1", "host": "h", "status": "running", "nthreads": 1}
    worker |= {"nbytes": 1, "processing": 1, "resources": {}}
    state = http(json.dumps({"idle_seconds": None, "workers": [{**worker, "name": w.name} for w in MANY]}))
    reply = await put(old(state=state), ask_of(registered=MANY))
    assert parts(reply.answers[0]).registered == {worker.name for worker in MANY}


# --- anything else ----------------------------------------------------------------------------------------------------


async def test_whatever_comes_is_a_reply_or_an_error_of_ours() -> None:
    """An honest answer with some bytes changed, left out, or twice."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    honest = answers(ALL)
    pieces = [
        b"\r\n",
        b"\r\n\r\n",
        b"[",
        b"{",
        b'"',
        b"\\ud800",
        b"\xff",
        b"\x00",
        b"-",
        b"e999",
        b"HTTP/1.1 200 OK\r\n",
    ]

    async def play(on: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await on.request(reader)
        said = bytearray(honest)
        for _ in range(rng.randint(1, 4)):
            at, length = rng.randrange(len(said)), rng.choice([0, 1, 1, 5, 50])
            kept = rng.choice([b"", said[at : at + length] * 2, rng.choice(pieces), rng.randbytes(3)])
            said[at : at + length] = kept
        writer.write(said)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    question, outcomes = Request([EVERYTHING]), []
    async with stage(play) as on, client(on, timeout_seconds=2) as scheduler:
        for _ in range(500):
            with suppress(SchedulerError):
                outcomes.append(await scheduler.put(question))
            scheduler.close()
    for reply in outcomes:
        (found,) = reply.answers
        assert found.silent or parts(found).target is None or parts(found).target >= 0, f"seed {seed}"
    assert len(outcomes) < 500, f"seed {seed}"
