"""Clusters and worker groups have exactly the Pods that they are asked for, whatever happens to their operator."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
from tests.faults.scenarios import CLUSTERS, GROUPS
from tests.faults.schedule import Schedule, drawn, every

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(0)]  # each life has its own limit

#: Drawn ones; the same variable as for jobs, whose lives are shorter.
SCHEDULES = int(os.environ.get("SCHEDULES", "500")) // 20


def schedules(writes: Mapping[str, int]) -> list[Schedule]:
    kills = (kill for name, whole in writes.items() for kill in every(name, whole, ("kill",)))
    return [*kills, *(drawn(seed, [*writes], writes=max(writes.values())) for seed in range(SCHEDULES))]


async def test_they_are_never_too_large_and_end_up_right(play):
    await play(CLUSTERS | GROUPS, schedules)
