"""Short work goes before long work, which is never held up for long."""

from __future__ import annotations

import asyncio

from dask_controller.shell.courtesy import Courtesy


async def test_without_short_work_nobody_waits():
    courtesy = Courtesy(longest_wait=60)
    await asyncio.wait_for(courtesy.gap(), 1)


async def test_long_work_waits_for_the_end_of_short_work():
    courtesy, done = Courtesy(longest_wait=60), []

    async def long() -> None:
        await courtesy.gap()
        done.append("long")

    with courtesy.short(), courtesy.short():
        waiting = asyncio.create_task(long())
        await asyncio.sleep(0.01)
        done.append("short")
    await asyncio.wait_for(waiting, 1)
    assert done == ["short", "long"]


async def test_long_work_goes_on_after_a_while():
    courtesy = Courtesy(longest_wait=0.01)
    with courtesy.short():
        await asyncio.wait_for(courtesy.gap(), 1)


async def test_several_that_take_long_do_not_wait_for_each_other():
    courtesy = Courtesy(longest_wait=60)
    with courtesy.short(), courtesy.long(), courtesy.short(), courtesy.long():
        await asyncio.wait_for(courtesy.gap(), 1)


async def test_work_that_fails_is_over():
    courtesy = Courtesy(longest_wait=60)
    try:
        with courtesy.short(), courtesy.long():
            raise ValueError
    except ValueError:
        await asyncio.wait_for(courtesy.gap(), 1)
