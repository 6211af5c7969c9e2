"""Short work goes before long work, which is never held up for long."""

from __future__ import annotations

import asyncio

from dask_controller.kube.short_first import ShortFirst


async def test_without_short_work_nobody_waits():
    short_first = ShortFirst(longest_wait=60)
    await asyncio.wait_for(short_first.gap(), 30)


async def test_long_work_waits_for_the_end_of_short_work():
    short_first, done = ShortFirst(longest_wait=60), []

    async def long() -> None:
        await short_first.gap()
        done.append("long")

    with short_first.short(), short_first.short():
        waiting = asyncio.create_task(long())
        await asyncio.sleep(0.01)
        done.append("short")
    await asyncio.wait_for(waiting, 30)
    assert done == ["short", "long"]


async def test_long_work_goes_on_after_a_while():
    short_first = ShortFirst(longest_wait=0.01)
    with short_first.short():
        await asyncio.wait_for(short_first.gap(), 30)


async def test_several_that_take_long_do_not_wait_for_each_other():
    short_first = ShortFirst(longest_wait=60)
    with short_first.short(), short_first.long(), short_first.short(), short_first.long():
        await asyncio.wait_for(short_first.gap(), 30)


async def test_work_that_fails_is_over():
    short_first = ShortFirst(longest_wait=60)
    try:
        with short_first.short(), short_first.long():
            raise ValueError
    except ValueError:
        await asyncio.wait_for(short_first.gap(), 30)
