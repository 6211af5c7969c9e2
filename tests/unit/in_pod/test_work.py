"""What a scheduler's time goes into."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.dask_scheduler import until

pytestmark = pytest.mark.timeout(60)


async def work(rig):
    return (await rig.ask(work=True)).work


async def test_time_in_which_tasks_compute_is_counted(rig):
    await rig.add("a")
    before, start = await work(rig), time.monotonic()
    futures = [rig.client.submit(time.sleep, 0.7, pure=False) for _ in range(2)]
    await rig.client.gather(futures)
    took, after = time.monotonic() - start, await work(rig)
    assert 0.9 <= after.computing - before.computing <= took + 0.5
    assert after.moving < 0.3
    await asyncio.sleep(1.2)
    idle = await work(rig)
    assert idle.computing - after.computing < 0.7, "nothing to do is no work"


async def test_tasks_without_a_worker_wait(rig):
    future = rig.client.submit(abs, -7)
    await until(lambda: rig.scheduler.unrunnable or rig.scheduler.queued)
    await asyncio.sleep(1.2)
    seen = await work(rig)
    assert seen.waiting >= 1.0
    assert seen.computing == 0
    await rig.add("a")
    assert await future == 7


async def test_data_that_moves_is_told_apart(rig):
    """By what workers report: how long is for distributed to say, so its report is put in its place."""
    await rig.add("a")
    await rig.client.submit(abs, -1)
    await work(rig)
    prefix = rig.scheduler.task_prefixes["abs"]
    told = rig.scheduler.__dict__["_dask_gitops"].work
    told._busy = 10.0
    for action, seconds in (("compute", 3.0), ("transfer", 0.5), ("disk-read", 0.5), ("thread-cpu", 99.0)):
        prefix.add_duration(action, 0.0, seconds)
    before, after = (told._computing, told._moving), await work(rig)
    assert after.computing - before[0] == pytest.approx(7.5, abs=0.6)
    assert after.moving - before[1] == pytest.approx(2.5, abs=0.3)
    assert (await work(rig)).computing >= after.computing, "what was counted stays counted"
