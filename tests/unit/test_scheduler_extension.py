"""The scheduler-side module and its client against real schedulers and workers of the installed distributed.

What a scheduler may do to the client otherwise: ``test_scheduler_client.py``.

Also runs in an environment with another distributed, see ``docs/decisions/0003-scheduler-extension.md``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import dask
import distributed
import pytest
from distributed import Client, Scheduler, Worker
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin

from dask_controller.core.actions import Answers, Ask, Claim, TargetQuestion
from dask_controller.core.actions import WorkerId as Pod
from dask_controller.shell.dask import Question, SchedulerError
from dask_controller.shell.dask import Scheduler as Extension
from dask_resources import scheduler_extension

MODULE = Path(scheduler_extension.__file__).with_name(scheduler_extension.MODULE)
ROUTES = "/dask-gitops/v1"

pytestmark = pytest.mark.timeout(60)


async def until(condition, seconds: float = 20):
    """Wait for a condition that may be a coroutine function; its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        value = await value if asyncio.iscoroutine(value) else value
        if value:
            return value
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


def pods(*names: str) -> tuple[Pod, ...]:
    return tuple(Pod(name) for name in names)


async def ask(extension: Extension, **asked) -> Answers:
    """The answers to one ask."""
    return (await extension.put(Question([Ask(**asked)]))).answers[0]


def having(*names: str, maximum: int = 1000, **share) -> Claim:
    """A worker group that has these workers."""
    return Claim(workers=pods(*names), maximum=maximum, **share)


class Rig:
    """A scheduler that has preloaded the module, its workers, a client, and the operator's view of it."""

    def __init__(self, scheduler: Scheduler, client: Client, session: aiohttp.ClientSession) -> None:
        self.scheduler, self.client, self.session = scheduler, client, session
        self.url = f"http://127.0.0.1:{scheduler.http_server.port}"
        self.extension = Extension(self.url)
        self.workers: dict[str, Worker] = {}

    async def add(self, *names: str, nthreads: int = 1, **options) -> None:
        # The tests' process takes more memory than a worker in it may be given.
        unconcerned = {f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause")}
        for name in names:
            with dask.config.set(unconcerned):
                self.workers[name] = await Worker(
                    self.scheduler.address, name=name, nthreads=nthreads, dashboard_address=":0", **options
                )

    async def close(self, *names: str) -> None:
        for name in names:
            await self.workers.pop(name).close()

    async def ask(self, **asked) -> Answers:
        return await ask(self.extension, **asked)

    async def retirement(self, *names: str) -> dict[str, str]:
        """How far the retirement of these is; it begins with the first question."""
        return (await self.ask(retire=pods(*names))).retirement

    async def retire(self, *names: str, until_it_says: str = "retired") -> dict[str, str]:
        async def asked():
            answer = await self.retirement(*names)
            return all(text.startswith(until_it_says) for text in answer.values()) and answer

        return await until(asked)

    async def resume(self, *workers: Pod) -> dict[str, str]:
        """What becomes of each."""
        status, answer = await self.post(
            "resume", {"workers": [{"name": w.name, "ip": "".join(w.ips)} for w in workers]}
        )
        assert status == 200
        return answer["workers"]

    async def ranked(self, *names: str) -> list[str]:
        return list((await self.ask(rank=pods(*names))).ranked)

    async def target(self, *names: str, before=(), after=(), target_duration=5, **share) -> int:
        """The adaptive target of the group that has these workers."""
        question = TargetQuestion(group=having(*names, **share), before=tuple(before), after=tuple(after))
        with dask.config.set({"distributed.adaptive.target-duration": f"{target_duration}s"}):
            return (await self.ask(target=question)).target

    async def get(self, route: str):
        """What a route answers to GET."""
        async with self.session.get(f"{self.url}{ROUTES}/{route}") as response:
            assert response.status == 200
            return await response.json()

    async def post(self, route: str, body) -> tuple[int, dict]:
        async with self.session.post(f"{self.url}{ROUTES}/{route}", json=body) as response:
            return response.status, await response.json()

    def state_of(self, name: str):
        return next(ws for ws in self.scheduler.workers.values() if ws.name == name)

    def status(self, name: str) -> str:
        return self.state_of(name).status.name


@asynccontextmanager
async def running(module: Path) -> AsyncIterator[Rig]:
    async with (
        Scheduler(port=0, dashboard_address="127.0.0.1:0", preload=[str(module)]) as scheduler,
        Client(scheduler.address, asynchronous=True) as client,
        aiohttp.ClientSession() as session,
    ):
        rig = Rig(scheduler, client, session)
        try:
            yield rig
        finally:
            rig.extension.close()
            await rig.close(*list(rig.workers))


@pytest.fixture
async def rig():
    async with running(MODULE) as rig:
        yield rig


def logged(path: str, key, seconds: float = 0.0, *dependencies):
    """A task that leaves a trace of each of its runs."""
    with open(path, "a") as out:
        out.write(f"{key}\n")
    time.sleep(seconds)
    return key


def runs(path: Path) -> Counter:
    return Counter(path.read_text().split())


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
    log = tmp_path / "runs"
    futures = [
        rig.client.submit(logged, str(log), n, 0.5 if n == 0 else 0.01, workers=["a"], allow_other_workers=True)
        for n in range(30)
    ]
    await until(lambda: log.exists() and len(rig.state_of("a").processing) == 30)
    began = time.monotonic()
    await rig.retire("a")
    assert time.monotonic() - began < 5
    await rig.close("a")
    assert sorted(await rig.client.gather(futures)) == list(range(30))
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
        asked = Question([Ask(resume=pods("a", "b", "ghost"))])
        (first,) = (await rig.extension.put(asked)).answers
        assert first == Answers(resumption={"a": "resuming", "b": "running", "ghost": "unknown"})

        async def running():
            (found,) = (await rig.extension.put(asked)).answers
            return found.resumption["a"] == "running"

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


OWN = "simple-default-worker-0-abcde"


class TestAddresses:
    """Who is found by an address, and who never (controller 3, controller 17)."""

    async def found(self, rig, *workers: Pod) -> set[str]:
        return set((await rig.ask(registered=workers)).registered)

    async def hooks_word(self, rig, name: str = "ghost", **headers: str) -> str:
        """What a hook is told that sends an address; that of its node, if it is one of before and runs there."""
        body = {"workers": [{"name": name, "ip": next(iter(rig.workers.values())).ip}]}
        async with rig.session.post(f"{rig.url}{ROUTES}/retire", json=body, headers=headers) as response:
            return (await response.json())["workers"][name]

    @pytest.mark.parametrize("name", [OWN, f"{OWN}-3", f"{OWN}-gpu"])
    async def test_who_has_a_name_from_the_operator_is_never_somebody_else(self, rig, name):
        """In a node's network all Pods there have one address: retiring one of them paused all."""
        await rig.add(name, "user-named")
        host = rig.state_of(name).host
        assert await self.found(rig, Pod(OWN, (host,)), Pod("ghost", (host,))) == {OWN}
        assert (await rig.ask(retire=[Pod("ghost", (host,))])).retirement == {"ghost": "unknown"}
        assert await self.hooks_word(rig) == "unknown"
        await asyncio.sleep(0.2)
        assert rig.status(name) == rig.status("user-named") == "running"

    async def test_an_address_that_several_claim_is_nobodys(self, rig):
        await rig.add("user-named")
        host = rig.state_of("user-named").host
        assert await self.found(rig, Pod("a", (host,)), Pod("b", (host,))) == set()
        assert await self.found(rig, Pod("a", (host,))) == {"a"}

    @pytest.mark.parametrize("names", [("w0", "w1"), ("a-0", "b-0"), ("a-0", "a-x"), (None, None)])
    async def test_the_hook_of_before_stops_nobody_elses_worker(self, rig, names):
        """It sends its node's address where the Pod is in the node's network. Who is there may be several Pods."""
        for number, name in enumerate(names):
            await rig.add(str(number)) if name is None else await rig.add(name)
        if None in names:
            for ws in rig.scheduler.workers.values():
                ws.name = ws.address  # as without --name
        assert await self.hooks_word(rig) == "unknown"
        await asyncio.sleep(0.2)
        assert {ws.status.name for ws in rig.scheduler.workers.values()} == {"running"}

    @pytest.mark.parametrize("names", [("w0",), ("pod-0", "pod-1")])
    async def test_the_hook_of_before_still_finds_its_own(self, rig, names):
        await rig.add(*names)
        assert (await self.hooks_word(rig)).startswith("retir")

    async def test_all_at_an_address_that_is_a_pods_own_are_its(self, rig):
        await rig.add("w0", "w1")
        assert (await self.hooks_word(rig, **{"Dask-Gitops-Own-Addresses": "1"})).startswith("retir")
        host = rig.state_of("w0").host
        assert (await rig.ask(retire=[Pod("ghost", (host,))])).retirement["ghost"].startswith(("retir", "refused"))

    async def test_every_address_counts_in_every_form(self, rig):
        """IPv6 first, as in a cluster of two stacks: Dask takes the address of IPv4."""
        await rig.add("user-named")
        host = rig.state_of("user-named").host
        for ips in [("fd00::1", host), ("fd00::1", f"::ffff:{host}")]:
            assert await self.found(rig, Pod("ghost", ips)) == {"ghost"}
        assert await self.found(rig, Pod("ghost", ("fd00::1", "192.0.2.77"))) == set()

    async def test_an_address_of_version_6_may_be_written_in_several_ways(self, rig):
        await rig.add("user-named")
        rig.state_of("user-named").host = "fd00::1"
        for ip in ["fd00:0:0:0:0:0:0:1", "FD00::0001", "[fd00::1]"]:
            assert await self.found(rig, Pod("ghost", (ip,))) == {"ghost"}

    @pytest.mark.parametrize("ips", [3, "10.0.0.1", [1], ["10.0.0.1"] * 100, ["1" * 100]])
    async def test_addresses_are_bounded(self, rig, ips):
        assert (await rig.post("retire", {"workers": [{"name": "a", "ips": ips}]}))[0] in (400, 413)


# --- names ------------------------------------------------------------------------------------------------------------


async def test_only_the_named_workers_are_touched(rig):
    await rig.add("one-a", "one-b", "two-a")
    await rig.retire("one-b")
    assert rig.status("one-a") == rig.status("two-a") == "running"
    assert set(await rig.ranked("one-a", "one-b")) == {"one-a", "one-b"}


async def test_processes_of_one_pod_count_as_one(rig, tmp_path):
    await rig.add("pod-0", "pod-1", "other")
    log = tmp_path / "runs"
    future = rig.client.submit(logged, str(log), "x", 0.5, workers=["pod-1"], allow_other_workers=True)
    await until(log.exists)
    answer = await until(lambda: _while(rig, "pod-0", "closing_gracefully"))
    assert answer["pod"].startswith("retiring: 1 tasks")
    assert await rig.retire("pod") == {"pod": "retired"}
    assert rig.status("pod-0") == rig.status("pod-1") == "closing_gracefully"
    assert rig.status("other") == "running"
    assert await future == "x"


async def _while(rig, name, status):
    answer = await rig.retirement("pod")
    return answer if rig.status(name) == status else None


async def test_a_worker_is_found_by_its_address_only_if_its_name_is_not_known(rig):
    await rig.add("named-by-the-user", "pod")
    host = rig.state_of("pod").host
    answer = await rig.resume(Pod("pod", (host,)), Pod("ghost", (host,)), Pod("nowhere", ("192.0.2.77",)))
    assert answer == {"pod": "running", "ghost": "running", "nowhere": "unknown"}
    await rig.ask(retire=(Pod("pod", (host,)),))
    await until(lambda: rig.status("pod") == "closing_gracefully")
    assert rig.status("named-by-the-user") == "running"


# --- whom to close, and how many --------------------------------------------------------------------------------------


async def test_closing_order_is_idle_then_least_data_then_least_work(rig):
    await rig.add("busy", "data", "idle", "other")
    keep = await rig.client.scatter([b"1" * 1000, b"2" * 1000], workers=["data"], hash=False)
    busy = rig.client.submit(time.sleep, 0.5, workers=["busy"])
    await until(lambda: rig.state_of("busy").processing)
    candidates = ["busy", "data", "idle", "not-registered"]
    assert await rig.ranked(*candidates) == ["idle", "not-registered", "data", "busy"]
    assert await rig.post("workers_to_close", {"workers": candidates, "n": 1}) == (200, {"workers": ["idle"]})
    del keep, busy


async def test_target_of_an_idle_cluster_is_zero(rig):
    await rig.add("a")
    assert await rig.target("a") == 0 == rig.scheduler.adaptive_target()


async def test_target_of_one_group_is_that_of_distributed(rig):
    futures = rig.client.map(time.sleep, [0.8 + n / 1000 for n in range(60)])
    await until(lambda: len(rig.scheduler.unrunnable) + len(rig.scheduler.queued) == 60)
    target = await rig.target()
    assert target == rig.scheduler.adaptive_target() > 1
    await rig.add("a-0", "a-1", nthreads=2)
    await until(lambda: rig.scheduler.total_occupancy)
    assert await rig.target("a-0", "a-1") == rig.scheduler.adaptive_target() > 1
    assert await rig.target("a-0", "a-1", target_duration=1) > target
    await rig.client.cancel(futures)


async def test_the_target_of_the_whole_cluster_can_be_read(rig):
    futures = rig.client.map(time.sleep, [3 + n / 1000 for n in range(60)])
    await waiting(rig, 60)
    async with rig.session.get(f"{rig.url}{ROUTES}/adaptive_target") as response:
        assert await response.json() == {"target": rig.scheduler.adaptive_target()} == {"target": 6}
    await rig.client.cancel(futures)


async def test_target_keeps_room_for_the_groups_data(rig):
    await rig.add("a", "b", "c", memory_limit="1 MB")
    await rig.add("other", memory_limit="1 GB")
    keep = [await rig.client.scatter(b"x" * 400_000, workers=[name], hash=False) for name in ("a", "b")]
    assert await rig.target("a", "b", "c") == 2
    assert await rig.target("other") == 0
    del keep


async def test_target_grows_for_memory_until_half_of_it_is_used(rig):
    """Also while the new workers come one by one: what distributed answers then grows with each (2, 4, 6)."""
    await rig.add("a", memory_limit="1 MB")
    keep = await rig.client.scatter(b"x" * 900_000, hash=False)
    assert await rig.target("a") == 2
    await rig.add("b", memory_limit="1 MB")
    assert await rig.target("a", "b") == 2
    more = [await rig.client.scatter(b"x" * 900_000, workers=["b"], hash=False)]
    assert await rig.target("a", "b") == 4
    await rig.add("c", memory_limit="1 MB")
    assert await rig.target("a", "b", "c") == 3, "60 % will do while the fourth one is on its way"
    await rig.add("d", memory_limit="1 MB")
    assert await rig.target("a", "b", "c", "d") == 4, "and it is not sent away again"
    del keep, more


async def test_the_target_of_workers_that_are_still_to_come_is_not_raised_again(rig):
    futures = rig.client.map(time.sleep, [5 + n / 1000 for n in range(6)])
    await until(lambda: len(rig.scheduler.unrunnable) + len(rig.scheduler.queued) == 6)
    assert await rig.target(target_duration=0.5) == 6, "six tasks of half a second, as far as anybody knows"
    for number, name in enumerate("abcdef"):  # they register one by one
        await rig.add(name)
        assert await rig.target(*"abcdef"[: number + 1], target_duration=0.5) == 6
    await rig.client.cancel(futures)


async def test_threads_are_known_before_a_worker_is(rig):
    futures = rig.client.map(time.sleep, [5 + n / 1000 for n in range(8)])
    await until(lambda: len(rig.scheduler.unrunnable) + len(rig.scheduler.queued) == 8)
    assert await rig.target(target_duration=0.5) == 8
    assert await rig.target(threads=4, target_duration=0.5) == 2
    await rig.client.cancel(futures)


async def test_what_a_leaving_worker_still_runs_does_not_call_it_back(rig):
    await rig.add("a", "b")
    future = rig.client.submit(time.sleep, 2, workers=["b"], allow_other_workers=True)
    await until(lambda: rig.state_of("b").processing)
    await rig.retirement("b")
    await until(lambda: rig.status("b") == "closing_gracefully")
    assert await rig.target("a", "b") == 1
    await future


# --- demand is shared among groups ------------------------------------------------------------------------------------


def gpu_tasks(rig, number: int, **restrictions):
    needs = restrictions or {"GPU": 1}
    return [rig.client.submit(time.sleep, 3, resources=needs, pure=False) for _ in range(number)]


def plain_tasks(rig, number: int):
    return rig.client.map(time.sleep, [3 + n / 1000 for n in range(number)])


async def waiting(rig, number: int) -> None:
    await until(lambda: len(rig.scheduler.unrunnable) + len(rig.scheduler.queued) == number)


async def test_plain_tasks_grow_the_plain_group_and_those_with_restrictions_the_other(rig):
    gpu = having(resources={"GPU": 1})
    futures = plain_tasks(rig, 3), gpu_tasks(rig, 2)
    await waiting(rig, 5)
    assert await rig.target(after=[gpu], target_duration=0.5) == 3
    assert await rig.target(resources={"GPU": 1}, before=[having()], target_duration=0.5) == 2
    await rig.client.cancel([*futures[0], *futures[1]])


async def test_a_group_with_resources_runs_plain_tasks_where_no_other_can(rig):
    futures = plain_tasks(rig, 3)
    await waiting(rig, 3)
    alone = {"resources": {"GPU": 1}, "target_duration": 0.5}
    assert await rig.target(**alone) == 3
    assert await rig.target(before=[having(maximum=0)], **alone) == 3
    assert await rig.target(before=[having(maximum=1)], **alone) == 0
    await rig.client.cancel(futures)


async def test_several_plain_groups_are_filled_one_after_the_other(rig):
    futures = plain_tasks(rig, 10)
    await waiting(rig, 10)
    first, second = having(maximum=4), having(maximum=5)
    assert await rig.target(maximum=4, after=[second], target_duration=0.5) == 10 - 5  # one more than it may have
    assert await rig.target(maximum=5, before=[first], target_duration=0.5) == 6
    assert await rig.target(maximum=50, before=[first, second], target_duration=0.5) == 1
    await rig.client.cancel(futures)


async def test_the_minimum_of_each_group_is_used_first(rig):
    futures = plain_tasks(rig, 5)
    await waiting(rig, 5)
    fixed = having(minimum=3, maximum=3)
    assert await rig.target(after=[fixed], target_duration=0.5) == 2
    assert await rig.target(before=[fixed], target_duration=0.5) == 2
    assert await rig.target(after=[having(minimum=8, maximum=9)], target_duration=0.5) == 0
    await rig.client.cancel(futures)


async def test_tasks_go_to_the_group_that_offers_the_least_and_enough(rig):
    futures = [*gpu_tasks(rig, 4, GPU=1), *gpu_tasks(rig, 3, GPU=4), *gpu_tasks(rig, 2, GPU=1, MEM=1)]
    await waiting(rig, 9)
    small, large, special = {"GPU": 1.0}, {"GPU": 4.0}, {"GPU": 1.0, "MEM": 1.0}
    plain = having()

    async def targets(**maximum: int) -> list[int]:
        groups = [
            plain,
            having(resources=small, threads=4, maximum=maximum.get("small", 9)),
            having(resources=large, threads=4, maximum=maximum.get("large", 9)),
            having(resources=special, threads=4),
        ]
        return [
            await rig.target(
                resources=group.resources,
                threads=group.threads,
                maximum=group.maximum,
                before=groups[:number],
                after=groups[number + 1 :],
                target_duration=0.5,
            )
            for number, group in enumerate(groups)
        ]

    # A worker with four threads and one GPU runs one task that needs it at a time.
    assert await targets() == [0, 4, 3, 2]
    # The small tasks that are left go where four of them fit, after those that fit nowhere else.
    assert await targets(small=2) == [0, 2, 4, 2]
    assert await targets(small=2, large=3) == [0, 4, 4, 2], "each says that it should be larger"
    await rig.client.cancel(futures)


async def test_guests_count_only_for_what_they_wait(rig):
    """Dask gives plain tasks to any worker, one with a GPU too."""
    await rig.add("gpu", resources={"GPU": 1})
    guest = plain_tasks(rig, 1)
    await until(lambda: rig.state_of("gpu").processing)
    gpu = having("gpu", resources={"GPU": 1}, maximum=5)
    assert await rig.target(after=[gpu]) == 0
    assert await rig.target("gpu", resources={"GPU": 1}, maximum=5, before=[having()]) == 1, "it is busy"
    more = [rig.client.submit(time.sleep, 3 + n / 1000, pure=False) for n in range(1, 4)]
    await until(lambda: len(rig.state_of("gpu").processing) + len(rig.scheduler.queued) == 4)
    assert await rig.target(after=[gpu], target_duration=0.1) == 3
    assert await rig.target("gpu", resources={"GPU": 1}, maximum=5, before=[having()], target_duration=0.1) == 1
    await rig.client.cancel([*guest, *more])


async def test_demand_for_a_resource_grows_only_the_group_that_offers_it(rig):
    await rig.add("cpu")
    futures = [rig.client.submit(time.sleep, 0.01 * n, resources={"GPU": 1}) for n in range(3)]
    await until(lambda: len(rig.scheduler.unrunnable) == 3)
    assert await rig.target("cpu") == 0
    assert await rig.target("cpu", resources={"GPU": 0.5}) == 0
    assert await rig.target(resources={"GPU": 1}) == 1
    del futures


async def test_tasks_bound_to_a_worker_that_is_gone_ask_for_none(rig):
    await rig.add("a")
    future = rig.client.submit(abs, 1, workers=["tcp://192.0.2.1:1"])
    await until(lambda: rig.scheduler.unrunnable)
    assert await rig.target("a") == 0
    del future


# --- at a glance ------------------------------------------------------------------------------------------------------


async def test_state_tells_workers_and_tasks(rig):
    await rig.add("a", resources={"GPU": 2})
    future = rig.client.submit(time.sleep, 0.3)
    await until(lambda: rig.state_of("a").processing)
    state = await rig.get("state")
    assert (state["version"], state["id"], state["idle_seconds"]) == ("5", rig.scheduler.id, None)
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
    assert (await rig.ask(idle=True)).idle_seconds is None
    await future
    assert (await rig.ask(idle=True)).idle_seconds < 0.1
    assert rig.scheduler.idle_timeout == 1000


async def test_work_between_two_looks_resets_idle(rig):
    await rig.add("a")
    await asyncio.sleep(0.3)
    await rig.client.submit(abs, 1)
    assert (await rig.ask(idle=True)).idle_seconds < 0.1


async def test_tasks_that_nobody_can_run_are_no_idleness(rig):
    future = rig.client.submit(abs, 1)
    await until(lambda: rig.scheduler.unrunnable or rig.scheduler.queued)
    assert (await rig.ask(idle=True)).idle_seconds is None
    del future


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("retire", None),
        ("retire", {"workers": "a"}),
        ("retire", {"workers": [1]}),
        ("retire", {"workers": [{"ip": "10.0.0.1"}]}),
        ("retire", {"workers": [{"name": "a", "ip": 1}]}),
        ("workers_to_close", {"workers": [], "n": "1"}),
        ("adaptive_target", {"workers": [], "resources": {"GPU": "1"}}),
        ("adaptive_target", {"workers": [], "target_duration": 0}),
        ("adaptive_target", {"workers": [], "threads": 0}),
        ("adaptive_target", {"workers": [], "before": {}}),
        ("adaptive_target", {"workers": [], "after": [{"workers": [], "maximum": "2"}]}),
    ],
)
async def test_a_malformed_question_is_refused(rig, route, body):
    async with rig.session.post(f"{rig.url}{ROUTES}/{route}", json=body) as response:
        assert response.status == 400
        assert (await response.json())["message"]


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Origin": "http://evil.example"}])
async def test_a_web_page_cannot_ask_in_the_name_of_its_reader(rig, headers):
    """Nor one whose own name was made to lead here (DNS rebinding, security finding 9)."""
    await rig.add("a", "b")
    headers = {"Content-Type": "application/json", **headers}
    for route, body in (("retire", '{"workers": ["a"]}'), ("ask", '{"questions": [{"retire": ["a"]}]}')):
        async with rig.session.post(f"{rig.url}{ROUTES}/{route}", data=body, headers=headers) as response:
            assert response.status == 400
    assert rig.status("a") == "running"


async def test_a_scheduler_that_is_not_as_expected_says_so(rig, monkeypatch):
    monkeypatch.setattr(rig.scheduler, "unrunnable", None)
    status, answer = await rig.post("adaptive_target", {"workers": []})
    assert status == 501
    assert "TypeError" in answer["message"]
    monkeypatch.delattr(rig.scheduler, "workers")
    with pytest.raises(SchedulerError, match=r"501 to ask: .*AttributeError") as raised:
        await rig.target()
    assert raised.value.kind == "Unexpected"


async def test_a_scheduler_without_the_module_says_so():
    async with Scheduler(port=0, dashboard_address="127.0.0.1:0") as scheduler:
        with pytest.raises(SchedulerError, match="extension") as raised:
            await ask(Extension(f"http://127.0.0.1:{scheduler.http_server.port}"), idle=True)
        assert raised.value.kind == "NoExtension"


# --- several questions at once ----------------------------------------------------------------------------------------


async def test_what_is_asked_at_once_is_answered_in_order_and_each_as_if_alone(rig):
    await rig.add("a", "b-0", "c")
    futures = plain_tasks(rig, 4)
    await until(lambda: sum(len(ws.processing) for ws in rig.scheduler.workers.values()) == 4)
    group = TargetQuestion(group=having("a", "b"))
    asks = (
        Ask(target=group, every=5.0),
        Ask(progress=True, versions=True, idle=True),
        Ask(registered=pods("b", "ghost", "a"), rank=pods("a", "b"), resume=pods("a")),
        Ask(),
    )
    question = Question(asks)
    reply = await rig.extension.put(question)
    alone = [(await rig.extension.put(Question([each]))).answers[0] for each in asks]
    assert list(reply.answers) == alone
    target, seen, group, nothing = reply.answers
    assert target.target >= 2
    assert (seen.progress.total, seen.progress.workers, seen.idle_seconds) == (4, 3, None)
    assert (group.registered, set(group.ranked)) == ({"a", "b"}, {"a", "b"})
    assert nothing == Answers()
    assert await rig.extension.put(question, reply) is reply, "nothing new"
    await rig.client.cancel(futures)
    assert await until(lambda: changed(rig, question, reply)) is not reply


async def changed(rig, question, reply):
    new = await rig.extension.put(question, reply)
    return None if new is reply else new


async def test_what_is_taken_back_is_so_before_anything_else_is_found_out(rig):
    await rig.add("a", "b")
    await rig.retire("a")
    answers = await rig.ask(resume=pods("a"), retire=pods("a"))
    assert answers.retirement == {"a": "retiring: it is about to work again"}


async def test_a_question_that_fails_does_not_keep_the_others_from_being_answered(rig, monkeypatch):
    await rig.add("a")
    monkeypatch.setattr(rig.scheduler, "task_prefixes", None)
    questions = [{"registered": ["a"]}, {"progress": True}, {"retire": [1]}, "x", {"rank": ["a"]}, {"target": []}]
    status, answer = await rig.post("ask", {"questions": questions})
    first, failed, malformed, no_question, last, no_group = answer["answers"]
    assert (status, first, last) == (200, {"registered": ["a"]}, {"ranked": ["a"]})
    assert failed["error"].startswith("this scheduler is not as expected: AttributeError")
    assert malformed["error"].startswith("a worker is a name or")
    assert (no_question["error"], no_group["error"]) == ("a question is an object", "target is an object")
    both = (await rig.extension.put(Question([Ask(progress=True), Ask(rank=pods("a"))]))).answers
    assert both[0].silent.startswith("the scheduler cannot answer: this scheduler is not as expected")
    assert both[1].ranked == ("a",)


async def test_an_answer_names_only_whom_it_was_asked_about(rig):
    await rig.add("one-a", "two-a")
    status, answer = await rig.post("ask", {"questions": [{"registered": ["one-a"], "retire": ["one-a"]}]})
    assert status == 200
    assert answer["answers"] == [
        {"registered": ["one-a"], "retirement": {"one-a": "retiring: 0 tasks and 0 results left"}}
    ]
    assert rig.status("two-a") == "running"


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({"questions": {}}, 400, "questions is a list"),
        ([], 400, "expected an object with questions"),
        ({"questions": [{}] * 1001}, 400, "questions has at most 1,000 items"),
        ({"questions": [{}], "x": "A" * 2**22}, 413, "a request has at most 4,194,304 bytes"),
        ({"workers": ["a"] * 20_001}, 400, "workers has at most 20,000 items"),
    ],
)
async def test_a_request_has_bounds(rig, body, status, why):
    """The port is reachable by others than the operator: 300,000 names took a second (security finding 9)."""
    route = "ask" if "workers" not in body else "retire"
    assert await rig.post(route, body) == (status, {"message": why})


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ({"rank": ["a"] * 20_001}, "rank has at most 20,000 items"),
        ({"target": {"group": {}, "before": [{}] * 1001}}, "before has at most 1,000 items"),
        ({"target": {"group": {}, "after": [{"workers": ["a"] * 9_999}] * 3}}, "at most 20,000 workers together"),
        ({"target": {"group": {"workers": [], "maximum": 10**400}}}, "threads, minimum and maximum are numbers"),
        ({"target": {"group": {"workers": [], "resources": {"GPU": float("nan")}}}}, "resources are numbers"),
    ],
)
async def test_a_question_has_bounds(rig, question, why):
    status, answer = await rig.post("ask", {"questions": [question]})
    assert status == 200
    assert why in answer["answers"][0]["error"]


async def test_an_address_that_many_pods_claim_stands_for_none(rig):
    await rig.add("a", "b", "c")
    host = rig.state_of("a").host
    names = [{"name": f"pod-{n}", "ip": host} for n in range(20_000)]
    status, answer = await rig.post("ask", {"questions": [{"retire": names}]})
    assert status == 200
    assert "too many worker processes" in answer["answers"][0]["error"]
    assert rig.status("a") == "running"


@pytest.mark.parametrize("body", ["[" * 100_000, '{"questions": ' * 100_000, '{"questions": [', "1" * 5000, "\xff"])
async def test_what_is_no_json_is_refused(rig, body):
    headers = {"Content-Type": "application/json"}
    async with rig.session.post(f"{rig.url}{ROUTES}/ask", data=body.encode("latin-1"), headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["message"].startswith("expected JSON")


async def test_the_scheduler_works_on_while_many_questions_are_answered(rig, monkeypatch):
    await rig.add("a")
    slow, original = [], rig.scheduler.__dict__["_dask_gitops"].progress

    def progress():
        slow.append(time.sleep(0.01))
        return original()

    monkeypatch.setattr(rig.scheduler.__dict__["_dask_gitops"], "progress", progress)
    asked = asyncio.ensure_future(rig.post("ask", {"questions": [{"progress": True}] * 300}))
    await until(lambda: slow)
    assert await rig.client.submit(abs, -7) == 7
    assert len(slow) < 300
    assert len((await asked)[1]["answers"]) == 300


async def test_who_has_gone_is_not_answered_on(rig, monkeypatch):
    extension = rig.scheduler.__dict__["_dask_gitops"]
    slow = []
    monkeypatch.setattr(extension, "progress", lambda: slow.append(time.sleep(0.03)))
    asked = asyncio.ensure_future(rig.post("ask", {"questions": [{"progress": True}] * 100}))
    await until(lambda: slow)
    asked.cancel()
    await asyncio.sleep(0.5)
    assert len(slow) < 20


async def test_a_result_is_looked_at_once_however_many_names_its_worker_has(rig):
    await rig.add("user-named", "other")
    keep = await rig.client.scatter(list(range(2000)), workers=["user-named"], hash=False)
    looks = Counter()
    ws = rig.state_of("user-named")

    class Counted(dict):
        def __iter__(self):
            looks["iterations"] += 1
            return super().__iter__()

    ws._has_what = Counted(ws._has_what)
    # 10,000 names stand for the two workers at this address.
    names = [{"name": f"pod-{n}", "ip": ws.host} for n in range(10_000)]
    began = time.monotonic()
    status, answer = await rig.post("ask", {"questions": [{"retire": names}]})
    assert time.monotonic() - began < 3
    assert (status, len(answer["answers"][0]["retirement"])) == (200, 10_000)
    assert looks["iterations"] <= 2
    del keep


# --- modules of before ------------------------------------------------------------------------------------------------


@pytest.fixture
async def old_rig(tmp_path):
    """A scheduler that was started when the module had no route for several questions at once."""
    text, route = MODULE.read_text().replace('VERSION = "5"', 'VERSION = "3"'), '(f"{PREFIX}/ask", _Ask, {}),'
    assert route in text
    (tmp_path / "old.py").write_text(text.replace(route, ""))
    async with running(tmp_path / "old.py") as rig:
        yield rig


async def test_an_older_module_is_asked_by_its_own_routes(old_rig):
    rig = old_rig
    assert (await rig.get("state"))["version"] == "3"
    await rig.add("a", "pod-0", "pod-1")
    host = rig.state_of("a").host
    await rig.ask(retire=pods("pod"))
    await rig.retire("pod")
    known = pods("a", "pod", "ghost")
    question = Question(
        [
            Ask(registered=(*known, Pod("of-another-name", (host,))), idle=True),
            Ask(progress=True, versions=True, rank=pods("a", "pod")),
            Ask(resume=pods("pod"), target=TargetQuestion(group=having("a"), before=(having("pod"),))),
            Ask(retire=pods("a", "ghost")),
        ]
    )
    reply = await rig.extension.put(question)
    state, seen, group, retiring = reply.answers
    assert state.registered == {"a", "pod", "of-another-name"}
    assert state.idle_seconds >= 0
    assert (seen.progress.workers, seen.versions.workers, seen.ranked) == (3, seen.versions.scheduler, ("a", "pod"))
    assert group.target == 0
    assert retiring.retirement.keys() == {"a", "ghost"}
    assert retiring.retirement["ghost"] == "unknown"
    await until(lambda: rig.status("pod-0") == rig.status("pod-1") == "running")


async def test_an_older_module_that_says_the_same_again_is_known_to(old_rig):
    await old_rig.add("a")
    question = Question([Ask(progress=True), Ask(registered=pods("a"))])
    reply = await old_rig.extension.put(question)
    assert await old_rig.extension.put(question, reply) is reply


async def test_an_older_module_that_cannot_answer_one_ask_answers_the_others(old_rig, monkeypatch):
    await old_rig.add("a")
    monkeypatch.setattr(old_rig.scheduler, "task_prefixes", None)
    failed, ranked = (await old_rig.extension.put(Question([Ask(progress=True), Ask(rank=pods("a"))]))).answers
    assert "501 to progress" in failed.silent
    assert ranked.ranked == ("a",)


# --- loading ----------------------------------------------------------------------------------------------------------


def test_importing_the_module_needs_no_distributed():
    code = f"""
import sys, runpy
sys.modules["distributed"] = sys.modules["dask"] = None
assert runpy.run_path({str(MODULE)!r})["routes"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )


async def test_a_real_scheduler_and_worker_pod(tmp_path):
    """Processes as in Pods, with a nanny; the user's configuration files ask for a preload of their own."""
    (tmp_path / "theirs.py").write_text(
        f"""
def dask_setup(scheduler):
    open({str(tmp_path / "theirs")!r}, "w").write(scheduler.id)
"""
    )
    (tmp_path / "distributed.yaml").write_text(f"distributed: {{scheduler: {{preload: [{tmp_path / 'theirs.py'}]}}}}")
    comm, http = free_port(), free_port()
    environment = os.environ | {
        "DASK_CONFIG": str(tmp_path),
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": f'["{MODULE}"]',
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD_ARGV": "[]",
        "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "False",
    }
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(comm)]
    worker = ["distributed.cli.dask_worker", f"tcp://127.0.0.1:{comm}", "--nthreads", "1"]
    started = [
        start(command, environment)
        for command in (
            [*scheduler, "--dashboard-address", f"127.0.0.1:{http}"],
            [*worker, "--name", "pod", "--nworkers", "2"],
            [*worker, "--name", "other"],
        )
    ]
    try:
        extension = Extension(f"http://127.0.0.1:{http}")

        async def workers():
            try:
                return (await ask(extension, progress=True)).progress.workers == 3
            except SchedulerError:
                return False

        await until(workers, 40)
        async with aiohttp.request("GET", f"http://127.0.0.1:{http}{ROUTES}/state") as response:
            assert (tmp_path / "theirs").read_text() == (await response.json())["id"]
        assert (await ask(extension, registered=pods("pod", "other", "gone"))).registered == {"pod", "other"}
        async with Client(f"tcp://127.0.0.1:{comm}", asynchronous=True) as client:
            futures = await client.scatter(list(range(20)), workers=["pod-0", "pod-1"], hash=False)

            async def retired():
                return (await ask(extension, retire=pods("pod"))).retirement == {"pod": "retired"}

            await until(retired)
            assert started[1].poll() is None
            os.killpg(started[1].pid, signal.SIGKILL)
            assert await client.gather(futures) == list(range(20))
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# --- what a job is told -----------------------------------------------------------------------------------------------


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


async def test_a_shutdown_by_a_client_is_noted_for_kubernetes(tmp_path):
    log = tmp_path / "termination-log"
    text = MODULE.read_text().replace('"/dev/termination-log"', repr(str(log)))
    (tmp_path / "module.py").write_text(text)
    async with Scheduler(port=0, dashboard_address="127.0.0.1:0", preload=[str(tmp_path / "module.py")]) as scheduler:
        client = await Client(scheduler.address, asynchronous=True)
        assert not log.exists()
        await client.shutdown()
        await until(lambda: scheduler.status == Status.closed)
        assert log.read_text() == "shut down by a client"


async def test_it_is_noted_where_the_containers_user_wants_it(tmp_path, monkeypatch):
    """Else its end is an error, and the Pod starts it again until it is given up (controller 18)."""
    log = tmp_path / "own-place"
    monkeypatch.setenv(scheduler_extension.TERMINATION_LOG_VARIABLE, str(log))
    (tmp_path / "module.py").write_text(MODULE.read_text())
    async with Scheduler(port=0, dashboard_address="127.0.0.1:0", preload=[str(tmp_path / "module.py")]) as scheduler:
        client = await Client(scheduler.address, asynchronous=True)
        await client.shutdown()
        await until(lambda: scheduler.status == Status.closed)
        assert log.read_text() == "shut down by a client"


class TestMounted:
    """Who loads the module, and what it is told."""

    @staticmethod
    def loading(*containers):
        """The containers that load it, by name, with their variables."""
        spec = scheduler_extension.mounted({"containers": list(containers)}, "module")
        assert [c["name"] for c in spec["containers"]] == [c["name"] for c in containers]
        found = {c["name"]: {v["name"]: v.get("value") for v in c.get("env", ())} for c in spec["containers"]}
        assert all("volumeMounts" in c for c in spec["containers"] if found[c["name"]])
        return {name: env for name, env in found.items() if env}

    @pytest.mark.parametrize(
        "names", [("scheduler", "proxy"), ("proxy", "scheduler"), ("a", "scheduler", "b"), ("dask", "x")]
    )
    def test_it_is_the_scheduler_wherever_it_stands(self, names):
        """A user's sidecar may come first (controller 9)."""
        main = "scheduler" if "scheduler" in names else names[0]
        assert list(self.loading(*({"name": name, "args": ["x"]} for name in names))) == [main]

    def test_the_place_of_the_termination_message_is_told_if_it_is_another_one(self):
        variable = scheduler_extension.TERMINATION_LOG_VARIABLE
        for fields, told in [
            ({}, None),
            ({"terminationMessagePath": "/dev/termination-log"}, None),
            ({"terminationMessagePath": "/tmp/end", "terminationMessagePolicy": "FallbackToLogsOnError"}, "/tmp/end"),
            ({"terminationMessagePath": "/tmp/end", "env": [{"name": variable, "value": "/x"}]}, "/x"),
        ]:
            assert self.loading({"name": "dask", **fields})["dask"].get(variable) == told


async def test_a_scheduler_that_is_closed_otherwise_notes_nothing(tmp_path):
    log = tmp_path / "termination-log"
    text = MODULE.read_text().replace('"/dev/termination-log"', repr(str(log)))
    (tmp_path / "module.py").write_text(text)
    async with Scheduler(port=0, dashboard_address="127.0.0.1:0", preload=[str(tmp_path / "module.py")]):
        pass
    assert not log.exists()
