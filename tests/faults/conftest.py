"""Play schedules and fail with those that went wrong.

``SCHEDULES=5000 pytest tests/faults`` plays more of them, ``SCHEDULE='...' pytest tests/faults`` one that a failure has
printed, ten times, because what the operator does at the same time comes in another order each time.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

import pytest
from tests.cluster import ControlPlane
from tests.faults.harness import Arena, Outcome, arena
from tests.faults.life import Scenario
from tests.faults.schedule import Schedule, parse

REPLAYS = 10

#: From the number of writes of each scenario's life, when nothing goes wrong, to what shall go wrong.
Choose = Callable[[Mapping[str, int]], Iterable[Schedule]]
Play = Callable[[Mapping[str, Scenario], Choose], Awaitable[None]]


@pytest.fixture
async def here(control_plane: ControlPlane) -> AsyncIterator[Arena]:
    async with arena(control_plane) as made:
        yield made


@pytest.fixture
def play(here: Arena, capsys: pytest.CaptureFixture[str]) -> Play:
    """Play lives without faults, then the chosen schedules, or the one of ``SCHEDULE`` alone; all must go well."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    async def well(scenarios: Mapping[str, Scenario], schedules: Iterable[Schedule]) -> list[Outcome]:
        outcomes = await here.play(schedules, scenarios, say=say)
        failed = [str(outcome) for outcome in outcomes if outcome.violation]
        assert not failed, "\n\n".join(failed[:5])
        return outcomes

    async def played(scenarios: Mapping[str, Scenario], choose: Choose) -> None:
        if text := os.environ.get("SCHEDULE"):
            schedule = parse(text)
            if schedule.scenario not in scenarios:
                pytest.skip(f"SCHEDULE is for {schedule.scenario}")
            await well(scenarios, [schedule] * REPLAYS)
            return
        whole = await well(scenarios, map(Schedule, scenarios))
        await well(scenarios, choose({o.schedule.scenario: o.writes for o in whole}))

    return played
