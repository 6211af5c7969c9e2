"""How many Pods a group should have, by real schedulers. Properties: ``test_demand_properties.py``."""

from __future__ import annotations

import time

import pytest
from tests.support.dask_scheduler import ROUTES, having, until

pytestmark = pytest.mark.timeout(60)


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
    futures = rig.hold(60)
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
    futures = rig.hold(6)
    await until(lambda: len(rig.scheduler.unrunnable) + len(rig.scheduler.queued) == 6)
    assert await rig.target(target_duration=0.5) == 6, "six tasks of half a second, as far as anybody knows"
    for number, name in enumerate("abcdef"):  # they register one by one
        await rig.add(name)
        assert await rig.target(*"abcdef"[: number + 1], target_duration=0.5) == 6
    await rig.client.cancel(futures)


async def test_threads_are_known_before_a_worker_is(rig):
    futures = rig.hold(8)
    await until(lambda: len(rig.scheduler.unrunnable) + len(rig.scheduler.queued) == 8)
    assert await rig.target(target_duration=0.5) == 8
    assert await rig.target(threads=4, target_duration=0.5) == 2
    await rig.client.cancel(futures)


async def test_each_process_of_a_pod_takes_tasks_for_a_resource(rig):
    """Several processes in a Pod (constructs finding 5): the resource of one was taken for all that the Pod has."""
    futures = rig.client.map(time.sleep, [0.5 + n / 1000 for n in range(8)], resources={"GPU": 1})
    await waiting(rig, 8)
    pod = {"resources": {"GPU": 1}, "threads": 4, "target_duration": 0.5}
    assert await rig.target(**pod) == 8, "one process, one GPU"
    assert await rig.target(processes=4, **pod) == 2
    too_large = rig.client.submit(time.sleep, 0.5, resources={"GPU": 2}, pure=False)
    await waiting(rig, 9)
    assert await rig.target(processes=4, **pod) == 2, "what no single process can run makes no Pod"
    await rig.add(*(f"g-worker-0-abcde-{n}" for n in range(4)), resources={"GPU": 1})
    await until(lambda: rig.scheduler.total_occupancy)
    assert await rig.target("g-worker-0-abcde", target_duration=0.5) == 2, "as they are when they have registered"
    await rig.client.cancel([*futures, too_large])


async def test_what_a_leaving_worker_still_runs_does_not_call_it_back(rig):
    await rig.add("a", "b")
    (future,) = rig.hold(workers=["b"], allow_other_workers=True)
    await until(lambda: rig.state_of("b").processing)
    await rig.retirement("b")
    await until(lambda: rig.status("b") == "closing_gracefully")
    assert await rig.target("a", "b") == 1
    rig.release()
    await future


# --- demand is shared among groups ------------------------------------------------------------------------------------


def gpu_tasks(rig, number: int, **restrictions):
    return rig.hold(number, resources=restrictions or {"GPU": 1})


async def waiting(rig, number: int) -> None:
    await until(lambda: len(rig.scheduler.unrunnable) + len(rig.scheduler.queued) == number)


async def test_plain_tasks_grow_the_plain_group_and_those_with_restrictions_the_other(rig):
    gpu = having(resources={"GPU": 1})
    futures = rig.hold(3), gpu_tasks(rig, 2)
    await waiting(rig, 5)
    assert await rig.target(after=[gpu], target_duration=0.5) == 3
    assert await rig.target(resources={"GPU": 1}, before=[having()], target_duration=0.5) == 2
    await rig.client.cancel([*futures[0], *futures[1]])


async def test_a_group_with_resources_runs_plain_tasks_where_no_other_can(rig):
    futures = rig.hold(3)
    await waiting(rig, 3)
    alone = {"resources": {"GPU": 1}, "target_duration": 0.5}
    assert await rig.target(**alone) == 3
    assert await rig.target(before=[having(maximum=0)], **alone) == 3
    assert await rig.target(before=[having(maximum=1)], **alone) == 0
    await rig.client.cancel(futures)


async def test_several_plain_groups_are_filled_one_after_the_other(rig):
    futures = rig.hold(10)
    await waiting(rig, 10)
    first, second = having(maximum=4), having(maximum=5)
    assert await rig.target(maximum=4, after=[second], target_duration=0.5) == 10 - 5  # one more than it may have
    assert await rig.target(maximum=5, before=[first], target_duration=0.5) == 6
    assert await rig.target(maximum=50, before=[first, second], target_duration=0.5) == 1
    await rig.client.cancel(futures)


async def test_the_minimum_of_each_group_is_used_first(rig):
    futures = rig.hold(5)
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
    guest = rig.hold(1)
    await until(lambda: rig.state_of("gpu").processing)
    gpu = having("gpu", resources={"GPU": 1}, maximum=5)
    assert await rig.target(after=[gpu]) == 0
    assert await rig.target("gpu", resources={"GPU": 1}, maximum=5, before=[having()]) == 1, "it is busy"
    more = rig.hold(3)
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
