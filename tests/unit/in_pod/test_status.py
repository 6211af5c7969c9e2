"""What a scheduler tells about itself."""

from __future__ import annotations

import asyncio
import sys
import time

import distributed
import pytest
from distributed import Client, Scheduler
from distributed.core import Status
from tests.support.dask_scheduler import MODULE, until

from dask_resources.scheduler_extension import TERMINATION_LOG_VARIABLE

pytestmark = pytest.mark.timeout(60)


async def test_state_tells_workers_and_tasks(rig):
    await rig.add("a", resources={"GPU": 2})
    future = rig.client.submit(time.sleep, 0.3)
    await until(lambda: rig.state_of("a").processing)
    state = await rig.get("state")
    assert (state["version"], state["id"], state["idle_seconds"]) == ("11", rig.scheduler.id, None)
    (worker,) = state["workers"]
    assert {"name": "a", "status": "running", "processing": 1, "resources": {"GPU": 2}}.items() <= worker.items()
    assert state["tasks"] == {"total": 1, "processing": 1, "queued": 0, "unrunnable": 0}
    await future


async def test_idle_grows_with_time_and_leaves_the_schedulers_own_idle_timeout_alone(rig, monkeypatch):
    await rig.add("a")
    rig.scheduler.idle_timeout = 1000
    monkeypatch.setattr(rig.scheduler, "check_idle", None)  # it would carry out the scheduler's own timeout
    await rig.ask(idle=True)
    await asyncio.sleep(0.3)
    assert (await rig.ask(idle=True)).idle_seconds >= 0.3
    future = rig.client.submit(time.sleep, 0.3)
    await until(lambda: rig.state_of("a").processing)
    at_work = time.monotonic()
    assert (await rig.ask(idle=True)).idle_seconds is None
    await future
    assert (await rig.ask(idle=True)).idle_seconds < time.monotonic() - at_work
    assert rig.scheduler.idle_timeout == 1000


async def test_work_between_two_looks_resets_idle(rig):
    await rig.add("a")
    await asyncio.sleep(0.3)
    before = time.monotonic()
    await rig.client.submit(abs, 1)
    assert (await rig.ask(idle=True)).idle_seconds < time.monotonic() - before


async def test_tasks_that_nobody_can_run_are_no_idleness(rig):
    future = rig.client.submit(abs, 1)
    await until(lambda: rig.scheduler.unrunnable or rig.scheduler.queued)
    assert (await rig.ask(idle=True)).idle_seconds is None
    del future


async def test_progress_counts_tasks_that_the_scheduler_has_forgotten(rig):
    await rig.add("a")
    for _ in range(2):
        await rig.client.gather(rig.client.map(lambda n: n + 1, range(10), pure=False))
    progress = (await rig.ask(progress=True)).progress
    assert (progress.total, progress.done, progress.workers) == (20, 20, 1)


async def test_progress_counts_what_is_still_to_be_done_and_what_has_failed(rig):
    await rig.add("a")
    failed = rig.client.submit(lambda: 1 / 0, pure=False)
    await until(lambda: failed.status == "error")
    waiting = rig.client.map(time.sleep, [0.5] * 4, pure=False)
    progress = await until(lambda: ahead(rig))
    assert (progress.total, progress.done) == (5, 1)
    await rig.client.gather(waiting)


async def ahead(rig):
    progress = (await rig.ask(progress=True)).progress
    return progress if progress.total == 5 else None


async def test_versions_of_everybody_are_told_also_of_clients_that_have_left(rig):
    await rig.add("a", "b")
    async with Client(rig.scheduler.address, asynchronous=True):
        pass
    versions = (await rig.ask(versions=True)).versions
    assert len(versions.scheduler) == len(versions.workers) == 1, "the same ones are told once"
    assert versions.scheduler == versions.workers == versions.clients
    assert set(versions.scheduler[0]) == {"python", "dask", "distributed", "msgpack"}
    assert versions.scheduler[0]["distributed"] == distributed.__version__


async def test_other_versions_are_told_apart(rig):
    await rig.add("a", "b")
    old = rig.state_of("b")
    old.versions = {**old.versions, "packages": {**old.versions["packages"], "distributed": "2025.1.0"}}
    versions = (await rig.ask(versions=True)).versions
    assert {found["distributed"] for found in versions.workers} == {distributed.__version__, "2025.1.0"}


class TestTermination:
    """What Kubernetes is told of the end of a scheduler."""

    @pytest.fixture
    async def scheduler(self):
        async with Scheduler(port=0, dashboard_address="127.0.0.1:0", preload=[str(MODULE)]) as scheduler:
            yield scheduler

    @staticmethod
    async def shut_down(scheduler: Scheduler) -> None:
        client = await Client(scheduler.address, asynchronous=True)
        await client.shutdown()
        await until(lambda: scheduler.status == Status.closed)

    @pytest.fixture
    def log(self, scheduler, tmp_path, monkeypatch):
        """Where Kubernetes looks by default."""
        monkeypatch.setattr(sys.modules["dask_gitops_status"], "TERMINATION_LOG", str(tmp_path / "log"))
        return tmp_path / "log"

    async def test_a_shutdown_by_a_client_is_noted(self, scheduler, log):
        await self.shut_down(scheduler)
        assert log.read_text() == "shut down by a client"

    async def test_it_is_noted_where_the_containers_user_wants_it(self, scheduler, log, tmp_path, monkeypatch):
        """Else its end is an error, and the Pod starts it again until it is given up (controller 18)."""
        monkeypatch.setenv(TERMINATION_LOG_VARIABLE, str(tmp_path / "own-place"))
        await self.shut_down(scheduler)
        assert (tmp_path / "own-place").read_text() == "shut down by a client"
        assert not log.exists()

    async def test_a_scheduler_that_is_closed_otherwise_notes_nothing(self, scheduler, log):
        await scheduler.close()
        assert not log.exists()
