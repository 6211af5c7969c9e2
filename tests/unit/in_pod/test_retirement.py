"""Workers leave without losing anything; distributed is real."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from tests.support.dask_scheduler import logged, pods, runs, until
from tests.support.questions import answers_of, ask_of, parts

from dask_controller.schedulers.answers import Request

pytestmark = pytest.mark.timeout(60)


# --- retirement: nothing is lost --------------------------------------------------------------------------------------


async def test_unique_data_moves_before_a_worker_counts_as_retired(rig):
    await rig.add("a", "b")
    futures = await rig.client.scatter(list(range(50)), workers=["a"], hash=False)
    await rig.retire("a")
    assert not rig.state_of("a").has_what  # so that nobody looks for it there once the Pod is gone
    await rig.close("a")
    assert await rig.client.gather(futures) == list(range(50))


async def test_a_retired_worker_stays_registered_and_open_so_that_nothing_restarts_it(rig):
    await rig.add("a", "b")
    await rig.retire("a")
    await asyncio.sleep(0.5)
    assert rig.status("a") == "closing_gracefully"
    assert rig.workers["a"].status == Status.closing_gracefully


async def test_a_running_task_finishes_and_runs_once(rig, tmp_path):
    await rig.add("a", "b")
    log = tmp_path / "runs"
    future = rig.client.submit(logged, str(log), "x", 0.7, workers=["a"], allow_other_workers=True)
    await until(log.exists)
    assert (await rig.retirement("a"))["a"].startswith("retiring")
    await rig.retire("a")
    assert future.done()
    await rig.close("a")
    assert await future == "x"
    assert runs(log) == {"x": 1}


async def test_tasks_that_a_worker_has_not_begun_go_to_another_one_at_once(rig, tmp_path):
    await rig.add("a", "b")
    await rig.scheduler.extensions["stealing"].stop()  # which would take some of them before
    log, to_a = tmp_path / "runs", {"workers": ["a"], "allow_other_workers": True}
    begun = rig.hold(**to_a)
    await until(lambda: rig.workers["a"].state.executing)
    others = [rig.client.submit(logged, str(log), n, 0.01, **to_a) for n in range(30)]
    await until(lambda: len(rig.state_of("a").processing) == 31)
    await rig.retire("a", until_it_says="retiring: 1 tasks")
    rig.release()
    await rig.retire("a")
    await rig.close("a")
    assert await rig.client.gather(begun) == [0]
    assert sorted(await rig.client.gather(others)) == list(range(30))
    assert set(runs(log).values()) == {1}


async def test_nothing_runs_twice_while_half_of_the_workers_leave_a_busy_cluster(rig, tmp_path):
    await rig.add("a", "b", "c", "d", nthreads=2)
    log = tmp_path / "runs"
    first = [rig.client.submit(logged, str(log), f"1-{n}", 0.01) for n in range(80)]
    second = [rig.client.submit(logged, str(log), f"2-{n}", 0.02, first[n], first[(n * 7 + 1) % 80]) for n in range(80)]
    await until(log.exists)
    await rig.retire("b", "d")
    await rig.close("b", "d")
    await rig.client.gather(first + second)
    assert len(runs(log)) == 160
    assert set(runs(log).values()) == {1}


async def test_several_that_leave_do_not_count_on_each_other(rig):
    await rig.add("a", "b", "c")
    futures = await rig.client.scatter(list(range(9)), workers=["a"], hash=False)
    await rig.retire("a", "b")
    await rig.close("a", "b")
    assert await rig.client.gather(futures) == list(range(9))


async def test_retired_is_found_anew_each_time(rig):
    await rig.add("a", "b", "c")
    await rig.retire("a")
    future = await rig.client.scatter(7, workers=["b"], hash=False)
    await rig.scheduler.gather_on_worker(rig.state_of("a").address, {future.key: [rig.state_of("b").address]})
    await rig.close("b")  # now the retired one has the only copy
    assert (await rig.retirement("a"))["a"] == "retiring: 0 tasks and 1 results left"
    await rig.retire("a")
    await rig.close("a")
    assert await future == 7


async def test_repeated_calls_start_one_retirement(rig, monkeypatch):
    await rig.add("a", "b")
    await rig.client.scatter(list(range(300)), workers=["a"], hash=False)
    calls = []
    original = rig.scheduler.retire_workers

    async def counted(**options):
        calls.append(options["workers"])
        return await original(**options)

    monkeypatch.setattr(rig.scheduler, "retire_workers", counted)
    for _ in range(10):
        await rig.retirement("a")
    await rig.retire("a")
    assert len(calls) == 1


async def test_a_worker_in_a_shuffle_works_on_until_it_is_through(rig):
    class Shuffle(SchedulerPlugin):
        def valid_workers_downscaling(self, scheduler, workers):
            return [ws for ws in workers if ws.name != "a"]

    await rig.add("a", "b")
    rig.scheduler.add_plugin(Shuffle(), name="a-shuffle")
    answer = await rig.retirement("a")
    assert answer["a"].startswith("retiring: a plugin")
    assert rig.status("a") == "running"
    assert await rig.ranked("a", "b") == ["b", "a"]
    rig.scheduler.remove_plugin("a-shuffle")
    await rig.retire("a")


async def test_a_p2p_shuffle_that_began_before_the_retirement_runs_once(rig, tmp_path):
    numpy = pytest.importorskip("numpy", reason="P2P rechunking needs numpy")
    import dask
    import dask.array

    log = tmp_path / "runs"

    def block(block_info=None):
        at = block_info[None]["chunk-location"]
        return numpy.full((1, 40), logged(str(log), f"{at}".replace(" ", ""), 0.05) and at[0])

    await rig.add("a", "b", "c")
    with dask.config.set({"array.rechunk.method": "p2p", "optimization.fuse.active": False}):
        x = dask.array.map_blocks(block, chunks=((1,) * 40, (40,)), dtype=float)
        future = rig.client.compute(x.rechunk((40, 1)).sum(), optimize_graph=False)
    await until(lambda: rig.scheduler.plugins["shuffle"].active_shuffles)
    assert (await rig.retirement("a"))["a"].startswith("retiring: a plugin")
    await rig.retire("a")
    await rig.close("a")
    assert await future == sum(range(40)) * 40
    assert set(runs(log).values()) == {1}


# --- refusal ----------------------------------------------------------------------------------------------------------


async def test_the_holder_of_the_last_copy_is_refused_and_works_on(rig):
    await rig.add("a")
    future = await rig.client.scatter(1, hash=False)
    answer = await rig.retire("a", until_it_says="refused")
    assert answer["a"] == "refused: holds the only copy of 1 keys and no other worker can take them"
    assert rig.status("a") == "running"
    assert await rig.client.submit(lambda x: x + 1, future) == 2


async def test_the_only_worker_of_a_running_task_is_refused(rig, tmp_path):
    await rig.add("a")
    log = tmp_path / "runs"
    future = rig.client.submit(logged, str(log), "x", 0.5)
    await until(log.exists)
    assert (await rig.retirement("a"))["a"].startswith("refused: runs 1 tasks")
    assert await future == "x"


async def test_the_last_worker_without_data_may_go(rig):
    await rig.add("a")
    await rig.retire("a")


async def test_an_actor_is_not_given_up(rig):
    await rig.add("a", "b")
    actor = await rig.client.submit(Counter, actor=True, workers=["a"])
    assert (await rig.retirement("a"))["a"] == "refused: holds 1 actors, which cannot move"
    assert rig.status("a") == "running"
    del actor


async def test_a_worker_whose_recipients_fail_works_on_until_there_is_another_one(rig):
    await rig.add("a", "b")
    futures = await rig.client.scatter(list(range(20)), workers=["a"], hash=False)
    rig.workers["a"].transfer_outgoing_count_limit = 0  # as if it was busy sending
    await rig.retirement("a")
    await until(lambda: rig.status("a") == "closing_gracefully")
    rig.workers["b"].status = Status.paused  # out of memory: it does not receive either
    await rig.retire("a", until_it_says="refused: holds the only copy")
    await until(lambda: rig.status("a") == "running")
    rig.workers["a"].transfer_outgoing_count_limit = 10
    await rig.add("c")
    await rig.retire("a")
    await rig.close("a")
    assert await rig.client.gather(futures) == list(range(20))


# --- resume -----------------------------------------------------------------------------------------------------------


async def test_resume_lets_a_worker_take_tasks_again(rig):
    await rig.add("a", "b")
    await rig.retire("a")
    assert await rig.resume(*pods("a", "b", "ghost")) == {"a": "resuming", "b": "running", "ghost": "unknown"}
    await until(lambda: rig.status("a") == "running")
    assert rig.workers["a"].status == Status.running
    assert await rig.client.submit(lambda: 7, workers=["a"]) == 7


async def test_a_worker_that_is_about_to_work_again_is_not_called_retired(rig):
    await rig.add("a", "b")
    await rig.retire("a")
    await rig.ask(resume=pods("a"))
    assert rig.status("a") == "closing_gracefully"  # as the order to resume has not been confirmed yet
    answer = await rig.retirement("a")
    assert answer["a"].startswith("retiring")
    await rig.retire("a")


async def test_resume_wins_over_a_retirement_that_begins_later(rig, monkeypatch):
    await rig.add("a", "b")
    gate, through = asyncio.Event(), asyncio.Event()
    original = rig.scheduler.retire_workers

    async def late(**options):
        await gate.wait()
        moved = await original(**options)
        through.set()
        return moved

    monkeypatch.setattr(rig.scheduler, "retire_workers", late)
    await rig.retirement("a")
    assert await rig.resume(*pods("a")) == {"a": "resuming"}
    gate.set()
    await through.wait()
    await until(lambda: rig.status("a") == "running")
    assert await rig.resume(*pods("a")) == {"a": "running"}


class TestResumption:
    """Whoever has asked a worker to work again is told whether it does (controller 2)."""

    async def test_it_is_told_until_the_worker_works_again(self, rig):
        await rig.add("a", "b")
        await rig.retire("a")
        asked = Request([ask_of(resume=pods("a", "b", "ghost"))])
        (first,) = (await rig.extension.put(asked)).answers
        assert first == answers_of(resumption={"a": "resuming", "b": "running", "ghost": "unknown"})

        async def running():
            (found,) = (await rig.extension.put(asked)).answers
            return parts(found).resumption["a"] == "running"

        await until(running)
        assert rig.status("a") == "running"
        assert rig.workers["a"].status == Status.running

    async def test_a_worker_that_does_not_hear_it_is_resuming(self, rig, monkeypatch):
        await rig.add("a", "b")
        await rig.retire("a")
        stream = rig.scheduler.stream_comms[rig.state_of("a").address]
        monkeypatch.setattr(stream, "send", lambda *_: None)
        for _ in range(3):
            assert (await rig.ask(resume=pods("a"))).resumption == {"a": "resuming"}

    async def test_one_that_moves_its_data_is_resuming_although_it_is_not_paused_yet(self, rig, monkeypatch):
        """Its retirement has begun, and would pause it after it was said to work."""
        await rig.add("a", "b")
        gate, original = asyncio.Event(), rig.scheduler.retire_workers

        async def late(**options):
            await gate.wait()
            return await original(**options)

        monkeypatch.setattr(rig.scheduler, "retire_workers", late)
        await rig.ask(retire=pods("a"))
        assert (await rig.ask(resume=pods("a"))).resumption == {"a": "resuming"}
        gate.set()

        async def running():
            return (await rig.ask(resume=pods("a"))).resumption == {"a": "running"}

        await until(running)
        assert rig.status("a") == "running"

    async def test_an_older_module_tells_it_by_its_own_route(self, old_rig):
        await old_rig.add("a", "b")
        await old_rig.retire("a")
        assert (await old_rig.ask(resume=pods("a", "ghost"))).resumption == {"a": "resuming", "ghost": "unknown"}
