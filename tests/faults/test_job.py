"""A DaskJob ends rightly, once, and leaves nothing, whatever happens to the operator's requests and to the operator."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
from tests.faults.scenarios import JOBS, RETRIED
from tests.faults.schedule import Schedule, drawn, every

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(0)]  # each life has its own limit

#: Drawn ones: most are played in `test_strangers`, with the same faults.
SCHEDULES = int(os.environ.get("SCHEDULES", "500")) // 10


def schedules(writes: Mapping[str, int]) -> list[Schedule]:
    names = [*JOBS] * 4 + [*RETRIED]  # which takes longer
    return [
        *every("job-complete", writes["job-complete"], ("kill", "lose")),
        *every("job-failed", writes["job-failed"], ("kill",)),
        *every("job-runs-twice", writes["job-runs-twice"], ("kill",)),
        *(drawn(seed, names, writes=writes["job-complete"]) for seed in range(SCHEDULES)),
    ]


async def test_jobs_end_rightly_once_and_leave_nothing(play):
    await play(JOBS | RETRIED, schedules)
