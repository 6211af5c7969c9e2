from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.virtual_time import now, virtual_time

from dask_controller.kube.turns import UPKEEP_EVERY, K, Turn, Turns
from dask_controller.kube.workqueue import Queue, Reconcile


@contextlib.asynccontextmanager
async def running(
    queue: Queue[K], reconcile: Reconcile[K], workers: int = 1
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

    logger = logging.getLogger("dask_controller.kube.workqueue")
    logger.addHandler(handler := Keep())
    logger.setLevel(logging.INFO)
    try:
        async with running(queue, reconcile):
            queue.add("expected")
            queue.add("surprise")
            await asyncio.sleep(0.1)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
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

    assert not queue.is_running
    async with running(queue, reconcile, workers=2) as task:
        assert queue.is_running
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


# --- turns ------------------------------------------------------------------------------------------------------------


def letter(key: str) -> str:
    """The tenant of "a1" is "a"."""
    return key[0]


def turns(upkeep: str = "", prompt: str = "", *, reserved: int = 0, per_tenant: int | None = None) -> Turns[str]:
    made = Turns(letter, reserved=reserved, per_tenant=per_tenant)
    for key in upkeep.split():
        made.add(key, False)
    for key in prompt.split():
        made.add(key, True)
    return made


def one_by_one(waiting: Turns[str]) -> str:
    """The order in which a single worker gets them."""
    order = []
    while turn := waiting.take(1):
        waiting.done(turn)
        order.append(turn.key)
    return " ".join(order)


def at_a_time(waiting: Turns[str], workers: int) -> str:
    """What may start while nothing ends."""
    return " ".join(turn.key for turn in iter(lambda: waiting.take(workers), None))


def test_tenants_take_turns_and_a_tenants_keys_go_in_their_order() -> None:
    assert one_by_one(turns("a1 a2 a3 b1 c1 b2")) == "a1 b1 c1 a2 b2 a3"
    assert one_by_one(turns(prompt="a1 a2 a3 b1 c1 b2")) == "a1 b1 c1 a2 b2 a3"


def test_who_is_served_goes_to_the_end_also_if_it_comes_back() -> None:
    waiting, order = turns("a1 b1 c1 a2"), []
    for _ in range(6):
        turn = waiting.take(1)
        assert turn
        waiting.done(turn)
        waiting.add(turn.key, False)
        order.append(turn.key)
    assert order == ["a1", "b1", "c1", "a2", "b1", "c1"]


@pytest.mark.parametrize("prompt", [False, True])
def test_ten_thousand_keys_of_a_tenant_delay_anothers_by_one_turn(prompt: bool) -> None:
    waiting = turns()
    for n in range(10_000):
        waiting.add(f"a{n}", prompt)
    waiting.add("b1", prompt)
    assert [waiting.take(9), waiting.take(9)] == [Turn("a0", "a", prompt), Turn("b1", "b", prompt)]


def test_prompt_goes_before_upkeep_but_for_every_fourth_start() -> None:
    assert UPKEEP_EVERY == 4
    assert one_by_one(turns("u1 u2 v1", "p1 p2 p3 p4 p5 p6 p7")) == "p1 p2 p3 u1 p4 p5 p6 v1 p7 u2"


def test_prompt_that_comes_when_upkeep_has_just_had_its_turns_goes_first() -> None:
    waiting = turns("u1 u2 u3 u4 u5 u6 u7 u8")
    assert at_a_time(waiting, 7) == "u1 u2 u3 u4 u5 u6 u7"
    waiting.add("p1", True)
    assert at_a_time(waiting, 9) == "p1 u8"


def test_upkeep_that_had_a_worker_of_its_own_has_not_had_its_turn_for_that() -> None:
    """Else who always finds a worker would take the turns of who does not."""
    waiting = turns("a8 a9", "a1 a2 a3 a4 a5 a6", per_tenant=1)
    order = []
    for n in range(6):
        mine = waiting.take(2)
        waiting.add(f"b{n}", False)
        free = waiting.take(2)
        assert mine
        assert free
        waiting.done(mine)
        waiting.done(free)
        order.append(mine.key)
    assert order == ["a1", "a2", "a3", "a8", "a4", "a5"]


def test_a_key_moves_up_and_never_down() -> None:
    waiting = turns("a1 a2 a3 b1", "a9")
    waiting.add("a2", True)
    waiting.add("a2", False)
    waiting.add("a9", False)
    waiting.add("b1", True)
    waiting.add("a1", False)
    assert one_by_one(waiting) == "a9 b1 a2 a1 a3"


def test_some_workers_are_kept_from_upkeep() -> None:
    waiting = turns("u1 u2 u3 u4", reserved=1)
    assert at_a_time(waiting, 4) == "u1 u2 u3"
    waiting.add("p1", True)
    waiting.add("p2", True)
    assert at_a_time(waiting, 4) == "p1"
    assert at_a_time(turns("u1", "p1 p2 p3 p4 p5", reserved=1), 4) == "p1 p2 p3 u1", "prompt may have all"


def test_a_tenant_is_kept_from_some_workers() -> None:
    waiting = turns("a1 a2 a3 a4", "a8 a9", per_tenant=3)
    assert at_a_time(waiting, 6) == "a8 a9 a1"
    waiting.add("b1", False)
    assert at_a_time(waiting, 6) == "b1"


@pytest.mark.parametrize("bound", [0, 1, 5])
def test_whatever_is_reserved_one_worker_serves_all(bound: int) -> None:
    assert one_by_one(turns("u1 u2", "p1", reserved=bound, per_tenant=bound)) == "p1 u1 u2"


def test_who_has_the_fewest_workers_goes_first() -> None:
    """Turns alone are fair only to who takes as long as the others."""
    waiting = turns("a1 a2 a3 a4 b1 b2 b3 b4")
    assert at_a_time(waiting, 6) == "a1 b1 a2 b2 a3 b3"
    order = []
    for key in ("c1", "c2", "c3", "c4"):
        waiting.add(key, False)
    for _ in range(5):
        turn = waiting.take(7)
        assert turn
        waiting.done(turn)
        order.append(turn.key)
    assert order == ["c1", "c2", "c3", "c4", "a4"]


def test_what_a_user_waits_for_is_not_held_against_the_upkeep_of_the_same_tenant_nor_the_other_way() -> None:
    waiting = turns("a1 a2 a3")
    assert at_a_time(waiting, 3) == "a1 a2 a3"
    for key in ("a9", "b9", "c9"):
        waiting.add(key, True)
    assert at_a_time(waiting, 5) == "a9 b9"


def test_a_turn_costs_the_same_however_many_wait() -> None:
    looks = 0

    class Tenant(int):
        def __hash__(self) -> int:
            nonlocal looks
            looks += 1
            return super().__hash__()

    def cost(tenants: int, keys: int) -> int:
        """The most looks at a tenant of any turn of 16 workers."""
        nonlocal looks
        waiting = Turns[tuple[int, int]](lambda key: Tenant(key[0]), reserved=4, per_tenant=2)
        for n in range(keys):
            waiting.add((n % tenants, n), n % 3 == 0)
        most, at_work = 0, list[Turn[tuple[int, int]]]()
        for n in range(2000):
            looks = 0
            turn = waiting.take(16)
            if turn:
                at_work.append(turn)
            if turn is None or n % 2:
                waiting.done(at_work.pop(n * 7 % len(at_work)))
            most = max(most, looks)
        return most

    few = cost(30, 3000)
    assert cost(1000, 100_000) <= few + 4
    assert few < 16 * 2 * 5


KEYS = ["a1", "a2", "a3", "a4", "b1", "b2", "b3", "c1", "c2", "d1"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.sampled_from(KEYS), min_size=1, max_size=8), st.booleans()),
        st.tuples(st.just("take"), st.integers(1, 6)),
        st.tuples(st.just("done"), st.integers(0, 5)),
    ),
    max_size=60,
)


class Model:
    """`Turns` that look at every key each time. Steps that are impossible do nothing."""

    def __init__(self, workers: int, reserved: int, per_tenant: int | None) -> None:
        self.subject = turns(reserved=reserved, per_tenant=per_tenant)
        self.workers, self.for_upkeep, self.per_tenant = workers, max(1, workers - reserved), workers
        if per_tenant is not None:
            self.per_tenant = max(1, per_tenant)
        self.clock = 0
        self.lines: dict[tuple[bool, str], list[str]] = {}
        self.stood: dict[tuple[bool, str], int] = {}  # since when a tenant has waited for a turn in a class
        self.busy: list[Turn[str]] = []
        self.contested: list[bool] = []  # of starts that both classes could have had: whether upkeep got it

    def step(self, what: str, *args: Any) -> None:
        match what, *args:
            case "add", keys, prompt:
                for key in keys:
                    self.add(key, prompt)
            case "take", count:
                for _ in range(count):
                    self.take()
            case "done", which if which < len(self.busy):
                self.done(which)

    def add(self, key: str, prompt: bool) -> None:
        self.clock += 1
        if any(key == turn.key for turn in self.busy):
            return
        self.subject.add(key, prompt)
        waits = [line for line, keys in self.lines.items() if key in keys]
        if not waits or (prompt and waits == [(False, letter(key))]):
            for line in waits:
                self.leave(line, key)
            self.lines.setdefault((prompt, letter(key)), []).append(key)
            self.stood.setdefault((prompt, letter(key)), self.clock)

    def leave(self, line: tuple[bool, str], key: str) -> None:
        self.lines[line].remove(key)
        if not self.lines[line]:
            del self.lines[line], self.stood[line]

    def may_start(self, line: tuple[bool, str]) -> bool:
        return (
            len(self.busy) < self.workers
            and (line[0] or sum(not turn.prompt for turn in self.busy) < self.for_upkeep)
            and sum(turn.tenant == line[1] for turn in self.busy) < self.per_tenant
        )

    def take(self) -> bool:
        self.clock += 1
        may = [line for line in self.lines if self.may_start(line)]
        turn = self.subject.take(self.workers)
        assert (turn is not None) == bool(may), "a worker stays free though somebody may have it, or the reverse"
        if turn is None:
            return False
        mine = turn.prompt, turn.tenant
        assert mine in may
        assert turn.key == self.lines[mine][0]
        rivals = [line for line in may if line[0] == turn.prompt]
        assert mine == min(rivals, key=lambda line: (self.workers_of(line), self.stood[line]))
        if rivals != may:
            self.contested.append(not turn.prompt)
        self.stood[mine] = self.clock
        self.leave(mine, turn.key)
        self.busy.append(turn)
        return True

    def workers_of(self, line: tuple[bool, str]) -> int:
        return sum((turn.prompt, turn.tenant) == line for turn in self.busy)

    def done(self, which: int) -> None:
        self.subject.done(self.busy.pop(which))


@settings(max_examples=300)
@given(steps=STEPS, workers=st.integers(1, 6), reserved=st.integers(0, 6), per_tenant=st.none() | st.integers(0, 4))
def test_turns_keep_what_they_promise(
    steps: list[tuple[Any, ...]], workers: int, reserved: int, per_tenant: int | None
) -> None:
    model = Model(workers, reserved, per_tenant)
    for step in steps:
        model.step(*step)
    while model.lines or model.busy:
        if not model.take():
            assert model.busy, "something waits for ever"
            model.done(0)
    assert model.contested == [n % UPKEEP_EVERY == UPKEEP_EVERY - 1 for n in range(len(model.contested))]
    left = [*model.subject._lines.values(), *model.subject._busy.values()]
    assert not any(left), "something of those who are gone stays behind"


# --- the queue's fairness ---------------------------------------------------------------------------------------------


class Prompt(Log):
    """Writes down, of each start, whether it is prompt."""

    def __init__(self, queue: Queue[str], seconds: float = 0.0, answer: Callable[[str], float | None] = lambda _: None):
        super().__init__(seconds, answer)
        self.queue = queue
        self.prompt: list[tuple[float, str, bool]] = []

    async def __call__(self, key: str) -> float | None:
        self.prompt.append((round(now(), 3), key, self.queue.is_prompt(key)))
        return await super().__call__(key)


@virtual_time
async def test_what_a_user_waits_for_goes_first_and_the_reconcile_knows_it() -> None:
    queue = Queue[str]()
    log = Prompt(queue, seconds=1)
    for key in "abc":
        queue.add(key)
    queue.add("p", prompt=True)
    queue.add("c", prompt=True)
    queue.add("p")
    assert not queue.is_prompt("p"), "it has not started"
    async with running(queue, log):
        await asyncio.sleep(10)
    assert log.prompt == [(0, "p", True), (1, "c", True), (2, "a", False), (3, "b", False)]
    assert not queue.is_prompt("p")


@virtual_time
async def test_tenants_take_turns_at_the_workers() -> None:
    queue, log = Queue[str](tenant=letter), Log(seconds=1)
    for key in ("a1", "a2", "a3", "a4", "b1", "c1"):
        queue.add(key)
    async with running(queue, log, workers=2):
        await asyncio.sleep(10)
    assert log.started == [(0, "a1"), (0, "b1"), (1, "c1"), (1, "a2"), (2, "a3"), (2, "a4")]


@virtual_time
async def test_a_key_that_moves_up_finds_the_worker_that_is_kept_for_it() -> None:
    queue = Queue[str](reserved=1)
    log = Prompt(queue, seconds=10)
    async with running(queue, log, workers=2):
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(1)
        queue.add("b", prompt=True)
        await asyncio.sleep(1)
    assert log.prompt == [(0, "a", False), (1, "b", True)]


@virtual_time
async def test_what_a_user_waits_for_while_its_key_is_worked_on_is_prompt_afterwards_and_not_before() -> None:
    queue = Queue[str]()
    log = Prompt(queue, seconds=10)
    async with running(queue, log):
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(1)
        queue.add("a", prompt=True)
        queue.add("a")
        assert not queue.is_prompt("a"), "this run began before"
        await asyncio.sleep(100)
    assert log.prompt == [(0, "a", False), (10, "a", True), (20, "b", False)]


@pytest.mark.parametrize("first", ["prompt", "upkeep"])
@pytest.mark.parametrize("earlier", ["prompt", "upkeep"])
@virtual_time
async def test_what_is_planned_stays_prompt_whichever_time_wins(first: str, earlier: str) -> None:
    queue = Queue[str]()
    log = Prompt(queue)
    calls = ["prompt", "upkeep"] if first == "prompt" else ["upkeep", "prompt"]
    async with running(queue, log):
        for call in calls:
            queue.add_after("a", 3 if call == earlier else 8, prompt=call == "prompt")
        await asyncio.sleep(100)
    assert log.prompt == [(3, "a", True)]


@virtual_time
async def test_what_is_planned_as_prompt_is_prompt_if_it_happens_earlier() -> None:
    queue = Queue[str]()
    log = Prompt(queue, seconds=2)
    queue.add("z")
    queue.add_after("before", 50, prompt=True)
    queue.add("before")
    queue.add("after")
    queue.add_after("after", 50, prompt=True)
    async with running(queue, log):
        await asyncio.sleep(100)
    assert log.prompt == [(0, "before", True), (2, "after", True), (4, "z", False)]


@virtual_time
async def test_what_is_planned_as_prompt_while_it_is_worked_on_is_prompt_though_the_reconcile_asks_for_less() -> None:
    queue = Queue[str]()
    log = Prompt(queue, seconds=2, answer=lambda _: 3 if now() < 5 else None)
    async with running(queue, log):
        queue.add("a")
        await asyncio.sleep(1)
        queue.add_after("a", 60, prompt=True)
        await asyncio.sleep(100)
    assert log.prompt == [(0, "a", False), (5, "a", True)]


@virtual_time
async def test_what_follows_a_prompt_run_is_upkeep() -> None:
    def answer(key: str) -> float | None:
        if now() < 2 and key == "fails":
            raise ValueError
        return 1 if now() < 2 else None

    queue = Queue[str](first_delay=1, jitter=0)
    log = Prompt(queue, answer=answer)
    async with running(queue, log, workers=2):
        queue.add("fails", prompt=True)
        queue.add("again", prompt=True)
        await asyncio.sleep(1.5)
    assert log.prompt == [(0, "fails", True), (0, "again", True), (1, "fails", False), (1, "again", False)]


@virtual_time
async def test_a_failure_does_not_lose_that_a_user_waits() -> None:
    queue, failing = Queue[str](first_delay=100), [True]

    def answer(_: str) -> None:
        if failing.pop():
            failing.append(False)
            raise ValueError
        failing.append(False)

    log = Prompt(queue, seconds=2, answer=answer)
    async with running(queue, log):
        queue.add("a")
        await asyncio.sleep(1)
        queue.add("a", prompt=True)
        await asyncio.sleep(10)
    assert log.prompt == [(0, "a", False), (2, "a", True)]


@virtual_time
async def test_prompt_news_of_a_failed_key_need_not_wait_for_its_backoff() -> None:
    queue, failing = Queue[str](first_delay=100, jitter=0), [True]

    def answer(_: str) -> None:
        if failing:
            failing.clear()
            raise ValueError

    log = Prompt(queue, answer=answer)
    async with running(queue, log):
        queue.add("a")
        await asyncio.sleep(1)
        queue.add("a", prompt=True)
        await asyncio.sleep(200)
    assert log.prompt == [(0, "a", False), (1, "a", True)]


@virtual_time
async def test_one_worker_serves_all_whatever_is_kept_for_others() -> None:
    queue, log = Queue[str](tenant=letter, reserved=4, per_tenant=1), Log(seconds=1)
    async with running(queue, log, workers=1):
        for key in ("a1", "a2", "b1"):
            queue.add(key)
        queue.add("a3", prompt=True)
        await asyncio.sleep(10)
    assert log.keys == ["a1", "a3", "a2", "b1"]


@virtual_time
async def test_a_cancelled_worker_leaves_its_place_to_others() -> None:
    queue = Queue[str](tenant=letter, reserved=1, per_tenant=1)
    async with running(queue, Log(seconds=1000), workers=2):
        queue.add("a1")
        await asyncio.sleep(1)
    log = Log()
    async with running(queue, log, workers=2):
        queue.add("a2")
        await asyncio.sleep(1)
    assert log.keys == ["a2"]


# --- how it is going, with turns --------------------------------------------------------------------------------------


@virtual_time
async def test_the_oldest_key_is_the_one_that_came_first_whoever_goes_first() -> None:
    queue = Queue[str](tenant=letter)
    async with running(queue, Log(seconds=10)):
        queue.add("z1")
        await asyncio.sleep(1)
        for key in ("a1", "a2", "b1"):
            queue.add(key)
            await asyncio.sleep(1)
        assert queue.oldest_seconds() == 3
        queue.add("b1", prompt=True)
        queue.add("a2", prompt=True)
        assert queue.oldest_seconds() == 3, "moving up changes nothing about how long it has waited"
        await asyncio.sleep(7)  # b1 started at 10
        assert (queue.depth, queue.oldest_seconds()) == (2, 10)
        await asyncio.sleep(10)  # a2 at 20
        assert (queue.depth, queue.oldest_seconds()) == (1, 20)
        await asyncio.sleep(10)
        assert (queue.depth, queue.oldest_seconds()) == (0, 0)


@virtual_time
async def test_the_waiting_time_of_a_key_that_moves_up_counts_from_its_first_add() -> None:
    done: list[tuple[str, str, float, float]] = []
    queue = Queue[str](on_done=lambda *args: done.append(args))
    async with running(queue, Log(seconds=4)):
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(3)
        queue.add("b", prompt=True)
        await asyncio.sleep(10)
    assert done == [("a", "success", 0, 4), ("b", "success", 4, 4)]


@virtual_time
async def test_it_is_not_idle_while_anything_is_done_however_long_somebody_waits() -> None:
    queue, idle, oldest = Queue[str](), 0.0, 0.0
    async with running(queue, Log(seconds=9)):
        for n in range(100):
            queue.add(str(n))
        while queue.active:
            await asyncio.sleep(0.5)
            idle, oldest = max(idle, queue.idle_seconds()), max(oldest, queue.oldest_seconds())
    assert idle <= 9
    assert oldest > 800


@virtual_time
async def test_it_is_idle_for_as_long_as_nothing_gets_done() -> None:
    queue = Queue[str]()
    async with running(queue, Log(seconds=1000)):
        queue.add("a")
        await asyncio.sleep(400)
        assert queue.idle_seconds() == 400, "the one worker hangs"
        queue.add("b")
        await asyncio.sleep(100)
        assert queue.idle_seconds() == 500, "what is added is no progress"
        await asyncio.sleep(501)
        assert queue.idle_seconds() == 1, "since the end of the first"


@virtual_time
async def test_it_is_idle_if_nobody_works_at_all() -> None:
    queue = Queue[str]()
    await asyncio.sleep(1000)
    queue.add("a")
    assert queue.idle_seconds() == 0
    await asyncio.sleep(5)
    queue.add("a", prompt=True)
    assert queue.idle_seconds() == 5


@virtual_time
async def test_it_is_not_idle_if_there_is_nothing_to_do() -> None:
    queue = Queue[str]()
    assert queue.idle_seconds() == 0
    async with running(queue, Log(seconds=5, answer=lambda _: 2000)):
        queue.add("a")
        await asyncio.sleep(1000)
        assert queue.idle_seconds() == 0, "what is planned for later is nothing to do now"
        queue.add("b")
        await asyncio.sleep(3)
        assert queue.idle_seconds() == 3, "since it had nothing to do, not since the last end"


@virtual_time
async def test_a_failure_and_a_key_that_comes_back_at_once_are_progress() -> None:
    queue = Queue[str](first_delay=1, jitter=0)

    async def reconcile(key: str) -> float:
        await asyncio.sleep(3)
        if key == "bad":
            raise ValueError
        return 0

    async with running(queue, reconcile):
        queue.add("bad")
        queue.add("busy")
        for _ in range(100):
            await asyncio.sleep(0.75)
            assert queue.idle_seconds() < 3


# --- how long others wait ---------------------------------------------------------------------------------------------

WORKERS, RESERVED, PER_TENANT = 16, 4, 8
SLOW = 5.0


@dataclass
class Waits:
    """Seconds."""

    of_others: list[float]
    longest: float
    idle: float


async def beside(slow_tenants: int, others: Callable[[Queue[tuple[str, int]]], Awaitable[None]]) -> Waits:
    """A thousand keys of which each takes 5 s and comes back 5 s later, and what is added besides by "other"."""
    waits = Waits([], 0, 0)

    def done(key: tuple[str, int], _result: str, waited: float, _worked: float) -> None:
        if key[0] == "other":
            waits.of_others.append(waited)

    async def reconcile(key: tuple[str, int]) -> float | None:
        waits.longest = max(waits.longest, queue.oldest_seconds())
        waits.idle = max(waits.idle, queue.idle_seconds())
        await asyncio.sleep(0.02 if key[0] == "other" else SLOW)
        return None if key[0] == "other" else SLOW

    queue = Queue[tuple[str, int]](tenant=lambda key: key[0], reserved=RESERVED, per_tenant=PER_TENANT, on_done=done)
    async with running(queue, reconcile, workers=WORKERS):
        for n in range(1000):
            queue.add((f"slow-{n % slow_tenants}", n))
            await asyncio.sleep(0.013)  # not in step
        await others(queue)
    return waits


@pytest.mark.parametrize(("slow_tenants", "seconds"), [(1, 0.0), (2, SLOW), (4, SLOW), (10, SLOW)])
@virtual_time
async def test_a_newcomer_waits_for_one_slot_at_most_beside_a_thousand_silent_schedulers(
    slow_tenants: int, seconds: float
) -> None:
    """Controller finding 21, security finding 4: it waited for 305 s, and /healthz failed over that."""

    async def newcomers(queue: Queue[tuple[str, int]]) -> None:
        for n in range(100):
            await asyncio.sleep(10.3)
            queue.add(("other", n))
        await asyncio.sleep(10)

    waits = await beside(slow_tenants, newcomers)
    assert len(waits.of_others) == 100
    assert max(waits.of_others) <= seconds
    assert waits.longest > 300, "they keep themselves waiting"
    assert waits.idle <= SLOW, "and /healthz need not fail over that"


@virtual_time
async def test_a_tenant_with_much_to_do_has_its_part_of_the_workers_beside_slow_ones() -> None:
    """Security finding 4: with turns alone, each of these keys would wait for a slow one of both others."""

    async def thousand(queue: Queue[tuple[str, int]]) -> None:
        for n in range(1000):
            queue.add(("other", n))
        await asyncio.sleep(20)

    waits = await beside(2, thousand)
    assert len(waits.of_others) == 1000
    assert max(waits.of_others) <= 2 * SLOW


@pytest.mark.parametrize("slow_tenants", [1, 2, 40])
@virtual_time
async def test_what_a_user_waits_for_starts_at_once_beside_the_upkeep_of_others(slow_tenants: int) -> None:
    """Controller finding 21, security finding 4: also with more silent schedulers' namespaces than workers."""

    async def change(queue: Queue[tuple[str, int]]) -> None:
        for n in range(100):
            await asyncio.sleep(1.1)
            queue.add(("other", n), prompt=True)
        await asyncio.sleep(1)

    waits = await beside(slow_tenants, change)
    assert waits.of_others == [0] * 100


@virtual_time
async def test_upkeep_goes_on_beside_changes_without_end() -> None:
    queue, upkeep = Queue[str](reserved=1), list[float]()

    async def reconcile(key: str) -> float | None:
        await asyncio.sleep(0.1)
        if key == "upkeep":
            upkeep.append(now())
            return 0
        queue.add(key, prompt=True)
        return None

    async with running(queue, reconcile, workers=4):
        queue.add("upkeep")
        for n in range(50):
            queue.add(f"change {n}", prompt=True)
        await asyncio.sleep(100)
    assert 480 <= len(upkeep) <= 1000


# --- nothing is lost --------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """Of `Queue.add` or `Queue.add_after`."""

    pause: int
    key: str
    seconds: int | None
    prompt: bool


CALLS = st.lists(
    st.builds(
        Call,
        pause=st.sampled_from([0, 0, 0, 1, 5]),
        key=st.sampled_from(["a1", "a2", "a3", "b1", "b2", "c1"]),
        seconds=st.none() | st.sampled_from([0, 1, 4, 30]),
        prompt=st.booleans(),
    ),
    max_size=60,
)
#: Seconds that a run takes, and how it ends: seconds, nothing, or an exception.
RUNS = st.lists(
    st.tuples(st.sampled_from([0, 1, 3, 20]), st.none() | st.sampled_from([0, 2, 10]) | st.just(ValueError())),
    max_size=40,
)


@settings(max_examples=300)
@given(
    calls=CALLS,
    runs=RUNS,
    workers=st.integers(1, 5),
    reserved=st.integers(0, 5),
    per_tenant=st.none() | st.integers(1, 3),
)
@virtual_time
async def test_nothing_is_lost_and_no_bound_is_exceeded(
    calls: list[Call],
    runs: list[tuple[float, float | Exception | None]],
    workers: int,
    reserved: int,
    per_tenant: int | None,
) -> None:
    queue = Queue[str](
        tenant=letter, reserved=reserved, per_tenant=per_tenant, first_delay=1, jitter=0, expected=ValueError
    )
    wanted, prompt = set[str](), set[str]()  # what has to start, and what has to start as prompt
    at_work: dict[str, bool] = {}
    remaining = list(runs)
    broken: list[str] = []  # an exception would only be tried again

    async def reconcile(key: str) -> float | None:
        if key in at_work:
            broken.append("two workers are at one key")
        at_work[key] = queue.is_prompt(key)
        if at_work[key] != (key in prompt):
            broken.append("a key is prompt and nobody has said so, or the reverse")
        wanted.discard(key)
        prompt.discard(key)
        if len(at_work) > workers:
            broken.append("more keys than workers")
        if sum(not is_prompt for is_prompt in at_work.values()) > max(1, workers - reserved):
            broken.append("upkeep has what is kept from it")
        if max(Counter(map(letter, at_work)).values()) > (per_tenant or workers):
            broken.append("a tenant has what is kept from it")
        seconds, result = remaining.pop() if remaining else (1, None)
        await asyncio.sleep(seconds)
        del at_work[key]
        if isinstance(result, Exception):
            wanted.add(key)
            raise result
        if result is not None:
            wanted.add(key)
        return result

    async with running(queue, reconcile, workers):
        for call in calls:
            # Never when something starts: what is said until then and what is said afterwards could not be told apart.
            await asyncio.sleep(call.pause + 0.001)
            wanted.add(call.key)
            if call.prompt:
                prompt.add(call.key)
            if call.seconds is None:
                queue.add(call.key, prompt=call.prompt)
            else:
                queue.add_after(call.key, call.seconds, prompt=call.prompt)
        await asyncio.sleep(10_000)
        assert not broken
        assert not wanted, "something was lost"
        assert (queue.depth, queue.active) == (0, 0)
        state = {name: value for name, value in vars(queue).items() if isinstance(value, dict | set)}
        assert len(state) == 7
        assert not any(state.values()), "something of what is gone stays behind"
        assert not any([*queue._turns._lines.values(), *queue._turns._busy.values()])
