"""A DaskCluster gets the size and the image that it is asked for, whatever happens to the operator's requests."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
from tests.faults.scenarios import CLUSTERS
from tests.faults.schedule import Schedule, drawn, every

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(0)]  # each life has its own limit

#: Drawn ones; the same variable as for jobs, whose lives are shorter.
SCHEDULES = int(os.environ.get("SCHEDULES", "500")) // 20


def schedules(writes: Mapping[str, int]) -> list[Schedule]:
    whole = writes["cluster"]
    kills = every("cluster", whole, ("kill",))
    return [*kills, *(drawn(seed, ["cluster"], writes=whole) for seed in range(SCHEDULES))]


async def test_clusters_are_never_too_large_and_end_up_right(play):
    await play(CLUSTERS, schedules)
