"""Who answers at the address of a scheduler that has a key, and is not it (security findings 5 and 9).

An address is given to another Pod when the scheduler's is gone, and labels are anybody's to write.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.questions import ask_of, parts

from dask_controller.core.questions import WorkerId
from dask_controller.schedulers.answers import Request, SchedulerError
from dask_controller.schedulers.client import SchedulerClient
from dask_controller.schedulers.pollers import Address, SchedulerPollers
from dask_controller.schedulers.signing import NONCE, PROOF, SIGNATURE, Key

KEY, OTHER = Key(b"k" * 32), Key(b"o" * 32)
ASK = ask_of(retire=(WorkerId("a"),))
RETIRED = json.dumps({"answers": [{"retirement": {"a": "retired"}}]}).encode()

#: By the fields of a request, what is said.
Says = Callable[[dict[str, str]], bytes]


def http(body: bytes, proof: str | None, status: int = 200, *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", *fields, *([f"{PROOF}: {proof}"] if proof is not None else [])]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "\r\n"]).encode() + body


def proven(key: Key, fields: dict[str, str], body: bytes = RETIRED, status: int = 200) -> bytes:
    return http(body, key.proof(fields[NONCE.lower()], status, body), status)


class Stage:
    """A server that plays a scheduler; what it was asked by which path."""

    def __init__(self, *says: Says) -> None:
        self.says, self.paths, self.said, self.url = list(says), list[str](), list[bytes](), ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                fields = {name.lower(): value for name, value in (line.split(": ") for line in lines if line)}
                await reader.readexactly(int(fields.get("content-length", 0)))
                self.paths.append(first.split()[1])
                says = self.says.pop(0) if len(self.says) > 1 else self.says[0]
                self.said.append(says(fields))
                writer.write(self.said[-1])
        except (OSError, EOFError):
            writer.close()


@asynccontextmanager
async def stage(*says: Says) -> AsyncIterator[Stage]:
    on = Stage(*says)
    server = await asyncio.start_server(on.connected, "127.0.0.1", 0)
    on.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield on
    finally:
        server.close()


async def test_the_scheduler_itself_is_believed() -> None:
    async with stage(lambda fields: proven(KEY, fields)) as on:
        client = SchedulerClient(on.url, keys=[KEY])
        (said,) = (await client.put(Request([ASK]))).answers
        client.close()
    assert parts(said).retirement == {"a": "retired"}


IMPOSTORS: dict[str, Says] = {
    "without proof": lambda _: http(RETIRED, None),
    "with an empty one": lambda _: http(RETIRED, ""),
    "with a guess": lambda _: http(RETIRED, "0" * 64),
    "with what Python cannot compare": lambda _: http(RETIRED, "\u00e9"),
    "with the signature of the question": lambda fields: http(RETIRED, fields[SIGNATURE.lower()]),
    "the scheduler of another cluster": lambda fields: proven(OTHER, fields),
    "with the proof of something else": lambda fields: http(RETIRED, KEY.proof(fields[NONCE.lower()], 200, b"{}")),
    "with that of another status": lambda fields: http(RETIRED, KEY.proof(fields[NONCE.lower()], 401, RETIRED)),
    "with that of another question": lambda _: http(RETIRED, KEY.proof("0" * 32, 200, RETIRED)),
    "a module of before": lambda _: http(b'{"message": "no such route"}', None, 404),
    "who sends elsewhere": lambda _: http(b"", None, 302, "Location: http://127.0.0.1:1/"),
    "who says to be a scheduler with other keys": lambda _: http(b'{"message": "\x1b[2J"}', None, 401),
    "who speaks otherwise": lambda _: b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "without end": lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("says", IMPOSTORS.values(), ids=IMPOSTORS)
@pytest.mark.parametrize("keys", [[KEY], [KEY, Key(b"p" * 32)]], ids=["key", "and that before"])
async def test_nobody_else_is(says: Says, keys: list[Key]) -> None:
    async with stage(says) as on:
        client = SchedulerClient(on.url, keys=keys)
        with pytest.raises(SchedulerError) as raised:
            await client.put(Request([ASK]))
        client.close()
    assert raised.value.kind == "Impostor"
    assert str(raised.value).startswith("who answers at the scheduler's address does not have the cluster's key")
    assert str(raised.value).isprintable()
    assert set(on.paths) == {"/dask-gitops/v2/ask"}, "and is never asked as schedulers of before are"


async def test_what_the_scheduler_has_said_is_of_no_use_to_others() -> None:
    async with stage(lambda fields: proven(KEY, fields), lambda _: on.said[0]) as on:
        client = SchedulerClient(on.url, keys=[KEY])
        await client.put(Request([ASK]))
        with pytest.raises(SchedulerError) as raised:
            await client.put(Request([ASK]))
    assert raised.value.kind == "Impostor"


async def test_the_key_by_which_it_is_known_is_the_first_from_then_on() -> None:
    def says(fields: dict[str, str]) -> bytes:
        return proven(OTHER, fields) if len(on.paths) > 1 else http(b'{"message": "no"}', None, 401)

    async with stage(says) as on:
        client = SchedulerClient(on.url, keys=[KEY, OTHER])
        for _ in range(2):
            await client.put(Request([ASK]))
        client.close()
    assert len(on.paths) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 501, 503])
async def test_a_refusal_of_the_scheduler_is_told_in_its_words(status: int) -> None:
    body = b'{"message": "the clocks of two nodes differ"}'
    async with stage(lambda fields: proven(KEY, fields, body, status)) as on:
        client = SchedulerClient(on.url, keys=[KEY])
        with pytest.raises(SchedulerError, match=f"answers {status} to ask: the clocks of two nodes differ") as raised:
            await client.put(Request([ASK]))
    assert raised.value.kind == "Unexpected"
    assert set(on.paths) == {"/dask-gitops/v2/ask"}


async def test_an_impostor_is_a_silent_scheduler_to_those_who_ask() -> None:
    """Workers are kept, clusters are not deleted for being idle, and status has the words."""
    woken: asyncio.Queue[Any] = asyncio.Queue()
    async with stage(IMPOSTORS["without proof"]) as on:
        pollers = SchedulerPollers[str](lambda key, _: woken.put_nowait(key))
        address = Address("team", "life", on.url, (KEY,))
        assert pollers.answer("group", address, ASK) is None
        assert await asyncio.wait_for(woken.get(), 10) == "group"
        said = pollers.answer("group", address, ASK)
        await pollers.close()
    assert said is not None
    assert said.silent == "who answers at the scheduler's address does not have the cluster's key"
    assert not said.by_question
