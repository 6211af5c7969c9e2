"""A DaskWorkerGroup has exactly the Pods that it is asked for, whatever happens to the operator's requests."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
from tests.faults.scenarios import GROUPS
from tests.faults.schedule import Schedule, drawn, every

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(0)]  # each life has its own limit

#: Drawn ones; the same variable as for jobs, whose lives are shorter.
SCHEDULES = int(os.environ.get("SCHEDULES", "500")) // 20


def schedules(writes: Mapping[str, int]) -> list[Schedule]:
    whole = writes["worker-group"]
    kills = every("worker-group", whole, ("kill",))
    return [*kills, *(drawn(seed, ["worker-group"], writes=whole) for seed in range(SCHEDULES))]


async def test_groups_are_never_too_large_and_end_up_right(play):
    await play(GROUPS, schedules)
