"""Questions to schedulers in virtual time: when who is asked, and who is told.

Controller finding 21, security finding 4.
"""

from __future__ import annotations

import asyncio
import itertools

import pytest
from tests.support.questions import answers_of, ask_of
from tests.support.virtual_time import now, virtual_time

from dask_controller.core.questions import Ask, WorkerId
from dask_controller.schedulers.answers import Reply, Request, SchedulerError
from dask_controller.schedulers.pollers import (
    FRESH,
    LONGEST_REST,
    PATIENCE,
    SILENT,
    SPEAKING,
    Address,
    SchedulerPollers,
)

IDLE = ask_of(idle=True)
EVERY_5 = ask_of(every=5.0, progress=True)
A, B = Address("one", "a", "http://a"), Address("two", "b", "http://b")


class World:
    """Schedulers that answer `says(url)`, after `seconds`; an exception or `None` for those that do not."""

    def __init__(self, says=lambda url: answers_of(idle_seconds=1.0), seconds=0.01):
        self.says, self.seconds = says, seconds
        self.asked: list[tuple[float, str, tuple[Ask, ...]]] = []
        self.woken: list[tuple[float, str]] = []
        self.active = self.most_active = self.closed = 0
        self.schedulers = SchedulerPollers[str](
            lambda key, prompt: self.woken.append((round(now(), 2), key)), self.client
        )

    def client(self, address: Address):
        return _Client(self, address.url)

    def times(self, url: str) -> list[float]:
        return [time for time, asked, _ in self.asked if asked == url]


class _Client:
    def __init__(self, world: World, url: str) -> None:
        self.world, self.url = world, url

    def close(self) -> None:
        self.world.closed += 1

    async def put(self, question: Request, last: Reply | None = None) -> Reply:
        world = self.world
        world.asked.append((round(now(), 2), self.url, question.asks))
        world.active += 1
        world.most_active = max(world.active, world.most_active)
        try:
            answers = world.says(self.url)
            await asyncio.sleep(5.0 if answers is None else world.seconds)
        finally:
            world.active -= 1
        if answers is None:
            raise SchedulerError("Unreachable", "the scheduler does not answer in time")
        if isinstance(answers, Exception):
            raise answers
        reply = Reply(repr(answers).encode(), (answers,) * len(question.asks))
        return last if last is not None and last.raw == reply.raw else reply


@virtual_time
async def test_an_answer_is_asked_for_in_the_background_and_used_once() -> None:
    w = World()
    assert w.schedulers.answer("x", A, IDLE) is None
    await asyncio.sleep(1)
    assert w.woken == [(0.01, "x")]
    assert w.schedulers.answer("x", A, IDLE) == answers_of(idle_seconds=1.0)
    await asyncio.sleep(1000)
    assert len(w.asked) == 1
    assert w.schedulers.answer("x", A, IDLE) is None, "the next time it is asked anew"
    assert w.schedulers.asked == 1
    w.schedulers.forget("x")
    await asyncio.sleep(1)
    assert w.schedulers.asked == 0


@virtual_time
async def test_an_answer_that_was_not_fetched_in_time_is_not_believed() -> None:
    w = World()
    w.schedulers.answer("x", A, IDLE)
    await asyncio.sleep(FRESH + 1)
    assert w.schedulers.answer("x", A, IDLE) is None
    await asyncio.sleep(1)
    assert w.schedulers.answer("x", A, IDLE) is not None
    assert len(w.asked) == 2


@virtual_time
async def test_what_must_be_fresh_is_asked_anew_where_the_answer_is_old() -> None:
    """A cluster is not deleted for what its scheduler has said 14 s ago."""
    w, ask = World(), Ask(IDLE.questions, every=15.0, fresh=True)
    assert w.schedulers.answer("x", A, ask) is None
    await asyncio.sleep(FRESH - 1)
    assert w.schedulers.answer("x", A, ask) == answers_of(idle_seconds=1.0)
    await asyncio.sleep(2)
    assert w.schedulers.answer("x", A, ask) is None
    await asyncio.sleep(1)
    assert w.schedulers.answer("x", A, ask) == answers_of(idle_seconds=1.0)
    assert [round(time) for time, _ in w.woken] == [0, round(FRESH) + 1], "also if the answer is the same"
    await asyncio.sleep(30)
    assert len(w.asked) == 4, "otherwise as often as was asked for"


@virtual_time
async def test_a_silent_scheduler_is_not_asked_more_often_for_what_must_be_fresh() -> None:
    w, ask = World(lambda url: None), Ask(IDLE.questions, every=15.0, fresh=True)
    for _ in range(60):
        w.schedulers.answer("x", A, ask)
        await asyncio.sleep(1)
    assert len(w.asked) < 6


@virtual_time
async def test_a_standing_question_is_repeated_and_wakes_only_if_there_is_something_new() -> None:
    said = [1.0, 1.0, 1.0, 2.0, 2.0]
    w = World(lambda url: answers_of(idle_seconds=said.pop(0) if said else 2.0))
    w.schedulers.answer("x", A, EVERY_5)
    await asyncio.sleep(27)
    assert len(w.asked) == 6
    assert [round(time) for time, _ in w.woken] == [0, 15]
    assert w.schedulers.answer("x", A, EVERY_5) == w.schedulers.answer("x", A, EVERY_5) == answers_of(idle_seconds=2.0)
    w.schedulers.forget("x")
    await asyncio.sleep(100)
    assert len(w.asked) == 6
    assert w.schedulers.asked == 0


@virtual_time
async def test_the_questions_of_a_cluster_go_in_one_request() -> None:
    w = World()
    for key in "xyz":
        w.schedulers.answer(key, A, EVERY_5)
    await asyncio.sleep(12)
    assert [len(asks) for _, _, asks in w.asked] == [3, 3, 3]


@virtual_time
async def test_another_question_replaces_the_first_at_once() -> None:
    w = World(seconds=1.0)
    w.schedulers.answer("x", A, EVERY_5)
    await asyncio.sleep(0.5)
    other = ask_of(every=1.0, retire=(WorkerId("w", ""),))
    assert w.schedulers.answer("x", A, other) is None
    await asyncio.sleep(0.6)
    assert w.woken == [], "that answer was to the other question"
    assert w.schedulers.answer("x", A, other) is None
    await asyncio.sleep(1)
    assert w.schedulers.answer("x", A, other) is not None


@virtual_time
async def test_a_scheduler_that_was_replaced_is_asked_no_more() -> None:
    w = World()
    w.schedulers.answer("x", A, EVERY_5)
    await asyncio.sleep(1)
    new = A._replace(life="a2", url="http://a2")
    assert w.schedulers.answer("x", new, EVERY_5) is None
    await asyncio.sleep(20)
    assert len(w.times("http://a")) == 1
    assert w.schedulers.asked == 1


@virtual_time
async def test_a_silent_scheduler_rests_longer_each_time_and_everybody_is_told_at_once() -> None:
    w = World(lambda url: None)
    assert w.schedulers.answer("x", A, EVERY_5) is None
    await asyncio.sleep(6)
    assert w.woken == [(5.0, "x")]
    assert "in time" in w.schedulers.answer("x", A, EVERY_5).silent
    assert "in time" in w.schedulers.answer("y", A, IDLE).silent, "what is known is told without asking"
    assert w.schedulers.silent == 1
    await asyncio.sleep(1200)
    times = w.times("http://a")
    rests = [after - before - 5.0 for before, after in itertools.pairwise(times)]
    assert 5 <= rests[0] <= 6
    assert 10 <= rests[1] <= 12
    assert all(LONGEST_REST <= rest <= 1.2 * LONGEST_REST for rest in rests[4:])
    assert w.woken == [(5.0, "x")], "the same silence is no news"


@virtual_time
async def test_when_it_speaks_again_those_who_asked_are_told() -> None:
    w = World(lambda url: None if now() < 60 else answers_of(idle_seconds=3.0))
    w.schedulers.answer("x", A, IDLE)
    await asyncio.sleep(200)
    assert [key for _, key in w.woken] == ["x", "x"]
    assert w.schedulers.silent == 0


@virtual_time
async def test_a_new_life_of_the_scheduler_is_asked_at_once_though_the_old_one_was_silent() -> None:
    w = World(lambda url: None if now() < 60 else answers_of(idle_seconds=3.0))
    w.schedulers.answer("x", A, EVERY_5)
    await asyncio.sleep(61)
    assert w.schedulers.answer("x", A._replace(life="ready"), EVERY_5) is None
    await asyncio.sleep(1)
    assert w.schedulers.answer("x", A._replace(life="ready"), EVERY_5) == answers_of(idle_seconds=3.0)


@virtual_time
async def test_whoever_waits_for_long_is_told_that_there_is_no_answer_yet() -> None:
    w = World(seconds=PATIENCE + 5)
    assert w.schedulers.answer("x", A, IDLE) is None
    await asyncio.sleep(PATIENCE)
    assert w.schedulers.answer("x", A, IDLE).silent
    await asyncio.sleep(6)
    assert w.schedulers.answer("x", A, IDLE) == answers_of(idle_seconds=1.0)


@virtual_time
async def test_silent_schedulers_delay_neither_other_namespaces_nor_those_that_speak() -> None:
    """Security finding 4: 200 schedulers of one namespace accept and never answer."""
    w = World(lambda url: None if "hung" in url else answers_of(idle_seconds=1.0))
    for number in range(200):
        w.schedulers.answer(f"hung-{number}", Address("one", str(number), f"http://hung-{number}"), EVERY_5)
    await asyncio.sleep(120)
    assert w.schedulers.silent == 200
    began = now()
    w.schedulers.answer("x", A, IDLE)
    w.schedulers.answer("y", B, IDLE)
    await asyncio.sleep(1)
    assert {key: round(time - began, 1) for time, key in w.woken[-2:]} == {"x": 0.0, "y": 0.0}


@pytest.mark.parametrize(("answers", "most"), [(None, SPEAKING + SILENT), (answers_of(idle_seconds=1.0), SPEAKING)])
def test_the_requests_of_a_namespace_are_bounded(answers, most) -> None:
    @virtual_time
    async def play() -> None:
        w = World(lambda url: answers, seconds=0.5)
        for number in range(500):
            w.schedulers.answer(f"{number}", Address("one", str(number), f"http://x{number}"), EVERY_5)
        await asyncio.sleep(100)
        assert w.most_active == most
        await asyncio.sleep(100)
        w.most_active = 0
        await asyncio.sleep(200)
        if answers is None:
            assert w.most_active == SILENT

    play()


@virtual_time
async def test_an_unexpected_error_is_silence_too() -> None:
    w = World(lambda url: ZeroDivisionError())
    w.schedulers.answer("x", A, IDLE)
    await asyncio.sleep(1)
    assert w.schedulers.answer("x", A, IDLE).silent


@virtual_time
async def test_nothing_stays_behind() -> None:
    w = World()
    for number in range(50):
        w.schedulers.answer(f"{number}", Address(f"ns{number}", "", f"http://x{number}"), IDLE)
    await asyncio.sleep(1)
    for number in range(50):
        assert w.schedulers.answer(f"{number}", Address(f"ns{number}", "", f"http://x{number}"), IDLE)
    await asyncio.sleep(1)
    left = vars(w.schedulers)
    assert not any(left[name] for name in ("_pollers", "_asked", "_turns", "_in_namespace"))
    w.schedulers.answer("x", A, EVERY_5)
    await asyncio.sleep(1)
    await w.schedulers.close()
    assert w.schedulers.asked == 0
    assert w.closed == 51


@virtual_time
async def test_without_an_address_there_is_nobody_to_ask() -> None:
    w = World()
    assert w.schedulers.answer("x", None, IDLE).silent
    assert w.asked == []
