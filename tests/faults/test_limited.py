"""Of clusters, jobs and workers never more run than the operator's limits allow, and all get their turn."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
from tests.faults.scenarios import LIMITED
from tests.faults.schedule import Schedule, among_strangers, drawn

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(0)]  # each life has its own limit

#: Of each sort; a life here is several ones.
SCHEDULES = int(os.environ.get("SCHEDULES", "50")) // 16
SEED = int(os.environ.get("SEED", "0"))


def schedules(writes: Mapping[str, int]) -> list[Schedule]:
    seeds = range(SEED, SEED + SCHEDULES)
    faults = [drawn(seed, [*writes], writes=min(writes.values())) for seed in seeds]
    return [*faults, *(among_strangers(seed, writes) for seed in seeds)]


async def test_never_more_run_than_may_and_all_come_to_their_end(play):
    await play(LIMITED, schedules)
