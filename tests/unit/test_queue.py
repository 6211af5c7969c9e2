from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable

import pytest
from tests.support.virtual_time import now, virtual_time

from dask_controller.shell.queue import Queue, Reconcile


@contextlib.asynccontextmanager
async def running(
    queue: Queue[str], reconcile: Reconcile[str], workers: int = 1
) -> AsyncGenerator[asyncio.Task[None], None]:
    task = asyncio.create_task(queue.run(reconcile, workers=workers))
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Log:
    """A reconcile that takes `seconds`, writes down when it started with what, and returns what `answer` says."""

    def __init__(self, seconds: float = 0.0, answer: Callable[[str], float | None] = lambda _: None) -> None:
        self.seconds = seconds
        self.answer = answer
        self.started: list[tuple[float, str]] = []
        self.active: Counter[str] = Counter()
        self.most_active = 0

    async def __call__(self, key: str) -> float | None:
        self.started.append((round(now(), 3), key))
        self.active[key] += 1
        self.most_active = max(self.most_active, sum(self.active.values()))
        assert self.active[key] == 1, "two workers at one key"
        await asyncio.sleep(self.seconds)
        self.active[key] -= 1
        return self.answer(key)

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.started]

    @property
    def keys(self) -> list[str]:
        return [key for _, key in self.started]


@virtual_time
async def test_a_key_waits_once_however_often_it_is_added() -> None:
    queue, log = Queue[str](), Log()
    for key in "aabab":
        queue.add(key)
    assert queue.depth == 2
    async with running(queue, log):
        await asyncio.sleep(1)
    assert log.keys == ["a", "b"]


@virtual_time
async def test_what_is_added_while_it_is_worked_on_is_done_once_more_and_not_at_the_same_time() -> None:
    queue, log = Queue[str](), Log(seconds=10)
    async with running(queue, log, workers=4):
        queue.add("a")
        for _ in range(3):
            await asyncio.sleep(1)
            queue.add("a")
        await asyncio.sleep(100)
    assert log.times == [0, 10]


@virtual_time
async def test_workers_limit_what_is_done_at_a_time_and_all_of_them_work() -> None:
    queue, log = Queue[str](), Log(seconds=1)
    async with running(queue, log, workers=3):
        for key in "abcdefg":
            queue.add(key)
        assert queue.depth == 4
        assert queue.active == 3
        await asyncio.sleep(10)
    assert log.most_active == 3
    assert log.times == [0, 0, 0, 1, 1, 1, 2]


@virtual_time
async def test_a_key_that_always_comes_back_does_not_keep_others_from_their_turn() -> None:
    queue = Queue[str]()
    log = Log(seconds=1, answer=lambda key: 0 if key == "busy" else None)
    async with running(queue, log):
        queue.add("busy")
        await asyncio.sleep(0.5)
        for key in "abc":
            queue.add(key)
        await asyncio.sleep(5)
    assert log.keys[:5] == ["busy", "a", "b", "c", "busy"]


@virtual_time
async def test_a_key_that_gets_dirty_over_and_over_goes_to_the_end_each_time() -> None:
    queue, log = Queue[str](), Log(seconds=1)
    async with running(queue, log):
        queue.add("noisy")
        await asyncio.sleep(0.5)
        queue.add("noisy")
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(10)
    assert log.keys == ["noisy", "a", "b", "noisy"]


@virtual_time
async def test_the_earliest_of_several_later_times_wins() -> None:
    queue, log = Queue[str](), Log()
    async with running(queue, log):
        queue.add_after("a", 10)
        queue.add_after("a", 3)
        queue.add_after("a", 5)
        await asyncio.sleep(100)
    assert log.times == [3]


@virtual_time
async def test_a_reconcile_takes_back_what_was_planned_before_it_started() -> None:
    queue, log = Queue[str](), Log(seconds=1)
    async with running(queue, log):
        queue.add_after("a", 10)
        queue.add("a")
        await asyncio.sleep(100)
    assert log.times == [0]


@virtual_time
async def test_what_is_planned_while_it_is_worked_on_stays_planned() -> None:
    queue = Queue[str]()
    log = Log(seconds=2, answer=lambda _: 50 if now() < 10 else None)
    async with running(queue, log):
        queue.add("a")
        await asyncio.sleep(1)
        queue.add_after("a", 4)  # earlier than what the reconcile will ask for
        await asyncio.sleep(100)
    assert log.times == [0, 5, 57]


@virtual_time
async def test_what_is_due_while_it_is_worked_on_is_done_afterwards() -> None:
    queue, log = Queue[str](), Log(seconds=10)
    async with running(queue, log):
        queue.add("a")
        await asyncio.sleep(1)
        queue.add_after("a", 2)
        await asyncio.sleep(100)
    assert log.times == [0, 10]


@virtual_time
async def test_a_reconcile_says_when_to_look_again() -> None:
    queue, log = Queue[str](), Log(answer=lambda _: 60)
    async with running(queue, log):
        queue.add("a")
        await asyncio.sleep(200)
    assert log.times == [0, 60, 120, 180]


@virtual_time
async def test_failures_back_off_exponentially_up_to_a_limit_and_success_forgets_them() -> None:
    queue, failing = Queue[str](first_delay=1, longest_delay=10, jitter=0, expected=ValueError), [True]
    times: list[float] = []

    async def reconcile(key: str) -> None:
        times.append(now())
        if failing[0]:
            raise ValueError("no")

    async with running(queue, reconcile):
        queue.add("a")
        await asyncio.sleep(30)
        assert times == [0, 1, 3, 7, 15, 25]
        failing[0] = False
        await asyncio.sleep(10)
        assert times[6:] == [35]
        failing[0] = True
        queue.add("a")
        await asyncio.sleep(4)
        assert times[7:] == [40, 41, 43]


@virtual_time
async def test_what_failed_together_comes_back_apart() -> None:
    queue, log = Queue[str](first_delay=100, jitter=0.2), Log()

    async def reconcile(key: str) -> float | None:
        await log(key)
        raise ValueError

    async with running(queue, reconcile, workers=16):
        for key in "abcdefgh":
            queue.add(key)
        await asyncio.sleep(150)
    again = log.times[8:]
    assert len(set(again)) == 8
    assert all(100 <= time <= 120 for time in again)


@virtual_time
async def test_a_thousand_failures_in_a_row_are_no_error() -> None:
    queue, times = Queue[str](longest_delay=1), []

    async def reconcile(key: str) -> None:
        times.append(now())
        raise ValueError

    async with running(queue, reconcile):
        queue.add("a")
        await asyncio.sleep(2000)
    assert len(times) > 1500


@virtual_time
async def test_news_of_a_failed_key_need_not_wait_for_its_backoff() -> None:
    queue, times = Queue[str](first_delay=100, jitter=0), []

    async def reconcile(key: str) -> None:
        times.append(now())
        raise ValueError

    async with running(queue, reconcile):
        queue.add("a")
        await asyncio.sleep(1)
        queue.add("a")
        await asyncio.sleep(10)
    assert times == [0, 1]


@virtual_time
async def test_a_failure_does_not_lose_what_was_added_meanwhile() -> None:
    queue, times = Queue[str](first_delay=100), []

    async def reconcile(key: str) -> None:
        times.append(now())
        await asyncio.sleep(2)
        if len(times) == 1:
            raise ValueError

    async with running(queue, reconcile):
        queue.add("a")
        await asyncio.sleep(1)
        queue.add("a")
        await asyncio.sleep(10)
    assert times == [0, 2]


@virtual_time
async def test_a_surprise_is_logged_with_its_traceback_and_what_is_expected_without() -> None:
    queue, records = Queue[str](expected=KeyError), list[logging.LogRecord]()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    async def reconcile(key: str) -> None:
        raise KeyError(key) if key == "expected" else ValueError(key)

    logger = logging.getLogger("dask_controller.shell.queue")
    logger.addHandler(handler := Keep())
    try:
        async with running(queue, reconcile):
            queue.add("expected")
            queue.add("surprise")
            await asyncio.sleep(0.1)
    finally:
        logger.removeHandler(handler)
    assert [(r.getMessage().split(":")[0], bool(r.exc_info)) for r in records] == [
        ("expected", False),
        ("surprise", True),
    ]


@virtual_time
async def test_draining_waits_for_what_is_being_done_and_starts_nothing_more() -> None:
    queue, log, finished = Queue[str](), Log(), []

    async def reconcile(key: str) -> float:
        await log(key)
        await asyncio.sleep(5)
        finished.append(key)
        return 1

    async with running(queue, reconcile, workers=2) as task:
        for key in "abc":
            queue.add(key)
        queue.add_after("d", 2)
        await asyncio.sleep(1)
        assert await queue.drain(10)
        assert now() == 5
        queue.add("e")
        queue.add_after("e", 1)
        await asyncio.sleep(100)
        assert task.done()
        task.result()
    assert log.keys == finished == ["a", "b"]


@virtual_time
async def test_draining_cancels_what_takes_too_long() -> None:
    queue = Queue[str]()
    async with running(queue, Log(seconds=1000), workers=2) as task:
        queue.add("a")
        await asyncio.sleep(1)
        assert not await queue.drain(10)
        assert now() == 11
        await asyncio.sleep(0)
        assert task.done()
    assert queue.active == 0


@virtual_time
async def test_cancelling_the_run_cancels_the_workers() -> None:
    queue, log = Queue[str](), Log(seconds=1000)
    async with running(queue, log, workers=2):
        queue.add("a")
        await asyncio.sleep(1)
    assert queue.active == 0


@virtual_time
async def test_it_tells_how_it_is_going() -> None:
    done: list[tuple[str, str, float, float]] = []

    def answer(key: str) -> float | None:
        if key == "bad":
            raise ValueError
        return 60 if key == "again" else None

    queue = Queue[str](on_done=lambda *args: done.append(args))
    assert queue.oldest_seconds() == queue.longest_running_seconds() == 0
    async with running(queue, Log(seconds=4, answer=answer)):
        for key in ("good", "bad", "again"):
            queue.add(key)
        await asyncio.sleep(3)
        assert (queue.depth, queue.active) == (2, 1)
        assert queue.oldest_seconds() == queue.longest_running_seconds() == 3
        await asyncio.sleep(20)
    assert done[:3] == [("good", "success", 0, 4), ("bad", "error", 4, 4), ("again", "requeue_after", 8, 4)]


@virtual_time
async def test_a_reconcile_that_cancels_itself_has_failed() -> None:
    queue, started = Queue[str](first_delay=1, jitter=0), []

    async def reconcile(key: str) -> None:
        started.append(key)
        if started == ["a"]:
            raise asyncio.CancelledError

    async with running(queue, reconcile):
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(2)
    assert started == ["a", "b", "a"]


def test_virtual_time_reports_a_deadlock() -> None:
    @virtual_time
    async def stuck() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="never happen"):
        stuck()
