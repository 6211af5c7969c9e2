"""Who is connected to a scheduler: since when nobody is, and with which versions."""

from __future__ import annotations

import asyncio
import sys

import pytest
from distributed import Client, Scheduler, Worker, get_client
from tests.support.dask_scheduler import MODULE, ask, until

from dask_controller.schedulers.client import SchedulerClient

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def scheduler():
    async with Scheduler(port=0, dashboard_address="127.0.0.1:0", preload=[str(MODULE)]) as scheduler:
        yield scheduler


@pytest.fixture
def operator(scheduler):
    """Asks as the operator does; it is no client."""
    client = SchedulerClient(f"http://127.0.0.1:{scheduler.http_server.port}")
    yield client
    client.close()


async def absent(operator) -> float | None:
    return (await ask(operator, no_client=True)).no_client_seconds


async def test_who_was_never_there_is_missed_from_the_start(operator):
    await asyncio.sleep(0.3)
    assert await absent(operator) >= 0.3


async def test_nobody_is_missed_while_a_client_is_connected(scheduler, operator):
    async with Client(scheduler.address, asynchronous=True):
        assert await absent(operator) is None
    await until(lambda: len(scheduler.clients) == 1)  # that of fire_and_forget
    assert await absent(operator) < 0.2
    await asyncio.sleep(0.3)
    assert await absent(operator) >= 0.3


async def test_a_client_that_came_and_went_between_two_looks_was_there(scheduler, operator):
    await asyncio.sleep(0.5)
    async with Client(scheduler.address, asynchronous=True):
        pass
    await until(lambda: len(scheduler.clients) == 1)
    assert await absent(operator) < 0.4


def opens_a_client() -> str:
    return get_client().id


async def test_a_client_that_a_task_has_opened_stays_with_its_worker_and_is_none(scheduler, operator):
    """Found by reading ``Worker._get_client``: it is closed with the worker, and would keep the cluster for ever."""
    async with Worker(scheduler.address, dashboard_address=":0"):
        async with Client(scheduler.address, asynchronous=True, set_as_default=False) as client:
            opened = await client.submit(opens_a_client)
            assert opened != client.id
        await until(lambda: set(scheduler.clients) == {"fire-and-forget", opened})
        assert await absent(operator) is not None


async def test_what_was_published_keeps_its_results_and_is_nobody(scheduler, operator):
    async with Worker(scheduler.address, dashboard_address=":0"):
        async with Client(scheduler.address, asynchronous=True, set_as_default=False) as client:
            (kept,) = await client.scatter([1])
            await client.publish_dataset(kept=kept)
        await until(lambda: "published-kept" in scheduler.clients and not scheduler.client_comms)
        assert await absent(operator) is not None


async def test_versions_are_told_of_clients_that_are_there_and_of_those_that_were_a_moment_ago(
    scheduler, operator, monkeypatch
):
    async def connected():
        return (await ask(operator, versions=True)).versions.connected

    assert await connected() == ()
    async with Client(scheduler.address, asynchronous=True):
        monkeypatch.setattr(sys.modules["dask_gitops_clients"], "TOLD_SECONDS", 0.0)
        (present,) = await connected()
    monkeypatch.setattr(sys.modules["dask_gitops_clients"], "TOLD_SECONDS", 60.0)
    await until(lambda: len(scheduler.clients) == 1)
    async with Client(scheduler.address, asynchronous=True):
        pass
    await until(lambda: len(scheduler.clients) == 1)
    assert await connected() == (present,)
    monkeypatch.setattr(sys.modules["dask_gitops_clients"], "TOLD_SECONDS", 0.0)
    assert await connected() == ()


async def test_many_versions_cost_little(scheduler, operator):
    for n in range(100):
        versions = {"host": {"python": "3.11.1"}, "packages": {"dask": f"{n}" * 1000}}
        scheduler._dask_gitops.clients._registers(client=f"Client-{n}", versions=versions)
    assert len((await ask(operator, versions=True)).versions.connected) == 32
