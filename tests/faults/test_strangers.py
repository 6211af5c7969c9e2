"""Among strangers, who evict, squat, edit, lie and refuse, and with faults besides, all is as it was asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
from tests.faults.scenarios import CLUSTERS, GROUPS, JOBS
from tests.faults.schedule import Schedule, among_strangers

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(0)]  # each life has its own limit

SCHEDULES = int(os.environ.get("SCHEDULES", "50"))
#: The first of the seeds, to play others than last time.
SEED = int(os.environ.get("SEED", "0"))


def schedules(writes: Mapping[str, int]) -> list[Schedule]:
    return [among_strangers(seed, writes) for seed in range(SEED, SEED + SCHEDULES)]


async def test_all_is_as_asked_for_and_nothing_of_theirs_is_touched(play):
    await play(CLUSTERS | GROUPS | JOBS, schedules)
