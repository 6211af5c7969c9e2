"""A DaskJob ends rightly, once, and leaves nothing, whatever happens to the operator's requests and to the operator."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
from tests.faults.scenarios import JOBS, RETRIED
from tests.faults.schedule import Schedule, drawn, every

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(0)]  # each life has its own limit

#: How many are drawn, after the systematic ones: few, as strangers' schedules have faults as well.
SCHEDULES = int(os.environ.get("SCHEDULES", "500")) // 10


EVERY_FAULT = ("kill", "lose", "409", "429", "500", "hang", "cut", "late")


def schedules(writes: Mapping[str, int]) -> list[Schedule]:
    chosen = [
        *every("job-complete", writes["job-complete"], EVERY_FAULT),
        *every("job-failed", writes["job-failed"], ("kill",)),
        *every("job-runs-twice", writes["job-runs-twice"], ("kill",)),
    ]
    names = [*JOBS] * 4 + [*RETRIED]  # which takes longer
    return [*chosen, *(drawn(seed, names, writes=writes["job-complete"]) for seed in range(SCHEDULES))]


async def test_jobs_end_rightly_once_and_leave_nothing(play):
    await play(JOBS | RETRIED, schedules)
