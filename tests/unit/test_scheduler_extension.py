"""The scheduler-side module against real schedulers and workers of the installed distributed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from distributed import Client, Scheduler, Worker

from dask_controller.core.actions import Worker as Pod
from dask_controller.shell.dask import Scheduler as Extension
from dask_controller.shell.dask import SchedulerError
from dask_resources import scheduler_extension

MODULE = Path(scheduler_extension.__file__).with_name(scheduler_extension.MODULE)


class Rig:
    """A scheduler that has preloaded the module, its workers, a client, and the operator's view of it."""

    def __init__(self, scheduler: Scheduler, client: Client, extension: Extension) -> None:
        self.scheduler, self.client, self.extension = scheduler, client, extension
        self.workers: dict[str, Worker] = {}

    async def add(self, *names: str, **options) -> None:
        for name in names:
            self.workers[name] = await Worker(self.scheduler.address, name=name, nthreads=1, **options)

    async def retire(self, *names: str, until: str = "retired", seconds: float = 20) -> dict[str, str]:
        """Ask until every answer begins with ``until``."""
        async with asyncio.timeout(seconds):
            while True:
                answer = await self.extension.retire([Pod(name, "") for name in names])
                if all(text.startswith(until) for text in answer.values()):
                    return answer
                await asyncio.sleep(0.1)


@pytest.fixture
async def rig():
    async with (
        Scheduler(port=0, dashboard_address="127.0.0.1:0", preload=[str(MODULE)]) as scheduler,
        Client(scheduler.address, asynchronous=True) as client,
        aiohttp.ClientSession() as session,
    ):
        port = scheduler.http_server.port
        rig = Rig(scheduler, client, Extension(f"http://127.0.0.1:{port}", session))
        yield rig
        for worker in rig.workers.values():
            await worker.close()


def status(rig: Rig, name: str) -> str:
    return next(ws.status.name for ws in rig.scheduler.workers.values() if ws.name == name)


async def test_unique_data_moves_before_a_worker_counts_as_retired(rig):
    await rig.add("a", "b")
    futures = await rig.client.scatter(list(range(50)), workers=["a"], hash=False)
    await rig.retire("a")
    await rig.workers["a"].close()
    assert await rig.client.gather(futures) == list(range(50))


async def test_a_retired_worker_stays_registered_so_that_nothing_restarts_it(rig):
    await rig.add("a", "b")
    await rig.retire("a")
    assert status(rig, "a") == "closing_gracefully"
    assert rig.workers["a"].status.name == "closing_gracefully"


async def test_a_running_task_finishes_and_is_not_run_again(rig, tmp_path):
    await rig.add("a", "b")

    def slow(path, n):
        import time

        with open(path, "a") as out:
            out.write(f"{n}\n")
        time.sleep(1.5)
        return n

    log = tmp_path / "runs"
    futures = [rig.client.submit(slow, str(log), n, workers=["a"], allow_other_workers=True) for n in range(3)]
    while not log.exists():
        await asyncio.sleep(0.05)
    await rig.retire("a")
    await rig.workers["a"].close()
    assert await rig.client.gather(futures) == [0, 1, 2]
    assert sorted(log.read_text().split()) == ["0", "1", "2"]


async def test_only_the_named_workers_are_touched(rig):
    await rig.add("one-a", "one-b", "two-a")
    await rig.retire("one-b")
    assert status(rig, "one-a") == status(rig, "two-a") == "running"


async def test_the_holder_of_the_last_copy_is_refused_and_goes_on(rig):
    await rig.add("a")
    future = await rig.client.scatter(1, hash=False)
    answer = await rig.retire("a", until="refused")
    assert "1 results that no other worker can take" in answer["a"]
    assert status(rig, "a") == "running"
    assert await future == 1


async def test_the_last_worker_without_data_may_go(rig):
    await rig.add("a")
    await rig.retire("a")


async def test_several_that_leave_do_not_pass_data_to_each_other(rig):
    await rig.add("a", "b", "c")
    futures = await rig.client.scatter(list(range(9)), workers=["a"], hash=False)
    await rig.retire("a", "b")
    for name in "ab":
        await rig.workers[name].close()
    assert await rig.client.gather(futures) == list(range(9))


async def test_resume_lets_a_worker_take_tasks_again(rig):
    await rig.add("a", "b")
    await rig.retire("a")
    await rig.extension.resume([Pod("a", "")])
    async with asyncio.timeout(10):
        while status(rig, "a") != "running":
            await asyncio.sleep(0.05)
    assert await rig.client.submit(lambda: 7, workers=["a"]) == 7


async def test_processes_of_one_pod_count_as_one(rig):
    await rig.add("pod-0", "pod-1", "other")
    assert await rig.retire("pod") == {"pod": "retired"}
    assert status(rig, "pod-0") == status(rig, "pod-1") == "closing_gracefully"
    assert status(rig, "other") == "running"


async def test_a_worker_without_our_name_is_found_by_its_address(rig):
    await rig.add("named-by-the-user")
    address = next(iter(rig.scheduler.workers.values())).host
    answer = await rig.extension.retire([Pod("pod", address)])
    assert answer["pod"] != "unknown"


async def test_an_unregistered_worker_is_unknown(rig):
    assert await rig.extension.retire([Pod("ghost", "10.1.2.3")]) == {"ghost": "unknown"}


async def test_idle_workers_without_data_are_closed_first(rig):
    await rig.add("data", "idle", "busy")
    keep = await rig.client.scatter([1, 2], workers=["data"], hash=False)
    event_free = rig.client.submit(lambda: __import__("time").sleep(3), workers=["busy"], pure=False)
    while not next(ws for ws in rig.scheduler.workers.values() if ws.name == "busy").processing:
        await asyncio.sleep(0.05)
    order = await rig.extension.workers_to_close([Pod(n, "") for n in ("busy", "data", "idle")])
    assert order == ["idle", "data", "busy"]
    del keep, event_free


async def test_idle_grows_with_time_and_leaves_the_schedulers_own_timeout_alone(rig):
    await rig.add("a")
    before = rig.scheduler.idle_timeout
    await rig.extension.state()
    await asyncio.sleep(0.3)
    assert (await rig.extension.state()).idle_seconds >= 0.3
    future = rig.client.submit(lambda: __import__("time").sleep(1))
    while not rig.scheduler.total_occupancy:
        await asyncio.sleep(0.02)
    assert (await rig.extension.state()).idle_seconds is None
    await future
    assert (await rig.extension.state()).idle_seconds == 0.0
    assert rig.scheduler.idle_timeout == before


async def test_work_between_two_looks_resets_idle(rig):
    await rig.add("a")
    await rig.extension.state()
    await asyncio.sleep(0.3)
    await rig.client.submit(lambda: 1)
    assert (await rig.extension.state()).idle_seconds == 0.0


async def test_target_of_an_idle_cluster_is_zero(rig):
    await rig.add("a")
    assert await rig.extension.adaptive_target([Pod("a", "")], {}) == 0


async def test_waiting_tasks_ask_for_workers_even_when_there_is_none(rig):
    futures = rig.client.map(lambda n: __import__("time").sleep(5), range(4))
    while len(rig.scheduler.unrunnable) + len(rig.scheduler.queued) < 4:
        await asyncio.sleep(0.05)
    assert 1 <= await rig.extension.adaptive_target([], {}) <= 4
    del futures


async def test_demand_for_a_resource_grows_only_the_group_that_offers_it(rig):
    await rig.add("cpu")
    future = rig.client.submit(lambda: 1, resources={"GPU": 1})
    while not rig.scheduler.unrunnable:
        await asyncio.sleep(0.05)
    assert await rig.extension.adaptive_target([Pod("cpu", "")], {}) == 0
    assert await rig.extension.adaptive_target([], {"GPU": 1}) == 1
    del future


async def test_a_malformed_question_is_refused(rig):
    with pytest.raises(SchedulerError, match="400"):
        await rig.extension._call("POST", "retire", None)


async def test_a_scheduler_without_the_module_says_so():
    async with (
        Scheduler(port=0, dashboard_address="127.0.0.1:0") as scheduler,
        aiohttp.ClientSession() as session,
    ):
        with pytest.raises(SchedulerError, match="extension"):
            await Extension(f"http://127.0.0.1:{scheduler.http_server.port}", session).state()
