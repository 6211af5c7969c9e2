"""The activator: whom it stands in for, and what passes its doors."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.states import cluster as stated

from dask_controller.activator import decide, door
from dask_controller.activator.__main__ import allow_many_files
from dask_controller.activator.door import Closed, Door

ASLEEP = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Suspended",
            "message": "suspended as asked",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
}


def manifest(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A cluster that sleeps, unless something else is said."""
    from dask_crds.model import dump

    found = dump(stated())
    found["metadata"] |= {"uid": "u1", "resourceVersion": "7", "generation": 1}
    found["spec"] |= {"wake": "OnConnect", "suspend": True, **spec}
    return {**found, "status": ASLEEP if status is None else status}


def kubernetes_slice(*addresses: str, ready: bool | None = True, **changed: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "simple-scheduler-x7k2p",
            "namespace": "default",
            "uid": "s1",
            "labels": {"kubernetes.io/service-name": "simple-scheduler"},
        },
        "endpoints": [{"addresses": [a], "conditions": {"ready": ready}} for a in addresses],
        "ports": [{"name": "tcp-comm", "port": 8786}, {"name": "http-dashboard", "port": 8787}],
        **changed,
    }


class TestWhomItStandsInFor:
    def test_a_cluster_that_sleeps_and_asks_for_it(self) -> None:
        found = decide.cluster(manifest())
        assert decide.stands_in(found)
        assert found.port == "tcp-comm"

    @pytest.mark.parametrize(
        "spec",
        [
            {"wake": "Manual"},
            {"wake": None},
            {"suspend": False},
            {"scheduler": {"spec": {"containers": [{"name": "s"}]}, "service": {"clusterIP": "None"}}},
            {"scheduler": {"spec": {"containers": [{"name": "s"}]}, "service": {"type": "ExternalName"}}},
            {"scheduler": "nonsense"},
        ],
        ids=str,
    )
    def test_no_other(self, spec: dict[str, Any]) -> None:
        assert not decide.stands_in(decide.cluster(manifest(**spec)))

    def test_none_that_is_going(self) -> None:
        going = manifest()
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        assert not decide.stands_in(decide.cluster(going))
        assert not decide.stands_in(None)

    @pytest.mark.parametrize(
        "status",
        [
            {},
            {**ASLEEP, "observedGeneration": 0},
            {**ASLEEP, "conditions": [{**ASLEEP["conditions"][0], "status": "False"}]},
            {**ASLEEP, "conditions": [{**ASLEEP["conditions"][0], "reason": "Ready"}]},
        ],
        ids=["none", "of an earlier spec", "workers are still there", "it was not suspended then"],
    )
    def test_not_while_it_is_going_to_sleep(self, status: dict[str, Any]) -> None:
        """Workers that lose their scheduler connect again, and would wake what they belong to."""
        found = decide.cluster(manifest(status))
        assert found.suspended
        assert not decide.stands_in(found)

    def test_with_tls_it_is_the_port_of_that_name(self) -> None:
        found = decide.cluster(manifest(security={"tls": {"mode": "Secret", "secretName": "mine"}}))
        assert found.port == "tls-comm"


class TestWhereTheSchedulerIs:
    of = decide.cluster(manifest())

    @pytest.mark.parametrize(
        ("live", "found"),
        [
            (kubernetes_slice("10.0.0.1"), ("10.0.0.1", 8786)),
            (kubernetes_slice("10.0.0.1", ready=None), ("10.0.0.1", 8786)),  # unknown counts as ready
            (kubernetes_slice("10.0.0.1", ready=False), None),
            (kubernetes_slice(), None),
            (kubernetes_slice("10.0.0.1", endpoints=None, ports=None), None),
            (kubernetes_slice("10.0.0.1", ports=[{"name": "other", "port": 1}]), None),
        ],
    )
    def test_ready_endpoints_of_kubernetes_say(self, live: dict[str, Any], found: Any) -> None:
        assert decide.scheduler_at(self.of, [decide.endpoint_slice(live)]) == found

    def test_its_own_slice_does_not(self) -> None:
        """It would lead to itself."""
        own = decide.doorway(self.of, "10.0.0.9", 4000)
        own["metadata"]["uid"] = "s2"
        seen = decide.endpoint_slice(own)
        assert seen.ours
        assert decide.leads_here(seen, self.of, "10.0.0.9", 4000)
        assert not decide.leads_here(seen, self.of, "10.0.0.9", 4001)
        assert decide.scheduler_at(self.of, [seen]) is None

    def test_a_slice_with_its_label_and_another_name_is_a_strangers(self) -> None:
        own = decide.doorway(self.of, "10.0.0.9", 4000)
        own["metadata"] |= {"uid": "s2", "name": "theirs"}
        assert not decide.endpoint_slice(own).ours

    def test_addresses_of_the_newer_kind(self) -> None:
        assert decide.doorway(self.of, "fd00::9", 4000)["addressType"] == "IPv6"
        assert decide.doorway(self.of, "10.0.0.9", 4000)["addressType"] == "IPv4"


def test_it_opens_as_many_files_as_it_may() -> None:
    few, most = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(few, most - 1, 1024), most))
        allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# --- doors ------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[tuple[str, int]]:
    """A server that speaks first, as Dask's schedulers do, and then says what it hears."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello ")
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()


async def test_a_connection_is_held_until_it_opens_and_then_passed_on() -> None:
    opens, asked = asyncio.Event(), 0
    async with echo() as address:

        async def opened() -> tuple[str, int]:
            nonlocal asked
            asked += 1
            await opens.wait()
            return address

        listening = await Door("it", opened).listen("127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        assert (asked, listening.connections) == (1, 1)
        opens.set()
        sent = b"x" * 1_000_000
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b"hello " + sent
        writer.close()
        await until(lambda: listening.connections == 0)
        await listening.close()


@pytest.mark.parametrize("said", [b"", b"the greeting of a client of Dask"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_who_goes_away_is_held_no_more(monkeypatch: pytest.MonkeyPatch, said: bytes, how: str) -> None:
    """Who had said something was held for a quarter of an hour: each attempt of a client whose time was up."""
    monkeypatch.setattr(door, "LOOK_SECONDS", 0.01)
    ended = asyncio.Event()

    async def opened() -> tuple[str, int]:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    listening = await Door("it", opened).listen("127.0.0.1")
    _, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    await until(lambda: listening.connections == 1)
    writer.write(said)
    await asyncio.sleep(0.05)
    if how == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    await asyncio.wait_for(ended.wait(), 60)
    await until(lambda: listening.connections == 0)
    await listening.close()


@pytest.mark.parametrize("error", [Closed("it is gone"), OSError("no route"), TimeoutError()])
async def test_what_does_not_open_ends_the_connection(error: Exception) -> None:
    async def opened() -> tuple[str, int]:
        raise error

    listening = await Door("it", opened).listen("127.0.0.1")
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    assert await reader.read() == b""
    writer.close()
    await until(lambda: listening.connections == 0)
    await listening.close()


async def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MOST_CONNECTIONS", 2)

    async def opened() -> tuple[str, int]:
        await asyncio.Event().wait()
        raise AssertionError

    listening = await Door("it", opened).listen("127.0.0.1")
    held = [await asyncio.open_connection("127.0.0.1", listening.port) for _ in range(2)]
    await until(lambda: listening.connections == 2)
    reader, third = await asyncio.open_connection("127.0.0.1", listening.port)
    assert await reader.read() == b""
    await listening.close()
    for _, writer in [*held, (reader, third)]:
        writer.close()


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)
