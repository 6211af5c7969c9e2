"""Schedules are printed such that they can be played again, and drawn the same way each time."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from tests.faults.deeds import DEEDS
from tests.faults.scenarios import ALL
from tests.faults.schedule import Deed, Fault, Schedule, among_strangers, drawn, parse
from tests.faults.script import MOST_WRITES, WRITES_FOR_A_LOSS, Script

WRITES = dict.fromkeys(ALL, 40)


def test_a_schedule_is_a_line():
    faults = (Fault("w", 7, 7, "kill", 1.0), Fault("s", 2, 4, "hold", 1.5))
    deeds = (Deed("w", 9.0, "evict"), Deed("t", 2.5, "quota", 3.0))
    assert str(Schedule("cluster", faults, deeds)) == "cluster w7:kill+1 s2-4:hold+1.5 w9!evict t2.5!quota+3"


@pytest.mark.parametrize("seed", range(200))
def test_what_is_printed_can_be_played_again(seed):
    for schedule in (drawn(seed, list(ALL), writes=40), among_strangers(seed, WRITES)):
        assert parse(str(schedule)) == schedule


def test_faults_and_deeds_may_be_mixed():
    assert parse("cluster w1!evict w2:500") == parse("cluster w2:500 w1!evict")


@pytest.mark.parametrize(
    "text", ["w1!nothing", "s1!evict", "w1.5!evict", "w1-2!evict", "w1:evict", "w1!evict+", "!evict"]
)
def test_what_nobody_can_play_is_refused(text):
    with pytest.raises(ValueError, match="see tests"):
        parse(f"cluster {text}")


def test_each_deed_is_drawn_where_it_suits_and_says_what_is_expected():
    schedules = [among_strangers(seed, WRITES) for seed in range(3000)]
    assert {deed.name for schedule in schedules for deed in schedule.deeds} == set(DEEDS)
    assert all(DEEDS[deed.name].suits(schedule.scenario) for schedule in schedules for deed in schedule.deeds)
    assert all(kind.do.__doc__ for kind in DEEDS.values())


def test_what_would_keep_a_life_from_going_on_is_taken_back():
    drawn_deeds = [deed for seed in range(500) for deed in among_strangers(seed, WRITES).deeds]
    assert all(deed.seconds for deed in drawn_deeds if DEEDS[deed.name].lasts)
    assert all(deed.at == "t" and not deed.number for deed in drawn_deeds if DEEDS[deed.name].first)


def test_what_is_written_again_and_again_is_a_loop_unless_schedulers_were_lost():
    script = Script(Schedule("job"))
    for _ in range(MOST_WRITES):
        script.meet(make_mocked_request("PATCH", "/status"))
    script.meet(make_mocked_request("PATCH", "/another"))
    assert script.busiest == MOST_WRITES
    assert script.loops(losses=0) == ["PATCH /status: 25 times within 10 s"]
    assert script.loops(losses=1) == []
    for _ in range(WRITES_FOR_A_LOSS):
        script.meet(make_mocked_request("PATCH", "/status"))
    assert script.loops(losses=1) == ["PATCH /status: 33 times within 10 s"]
