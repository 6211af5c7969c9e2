"""Clusters and jobs in a queue run on quota alone, whatever becomes of it, of requests and of the operator."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping

import pytest
from tests.cluster import ControlPlane
from tests.faults.harness import Arena, arena
from tests.faults.kueue import flavor
from tests.faults.scenarios import QUEUED
from tests.faults.schedule import Schedule, among_strangers
from tests.support.clusters import upstream_crds

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(0)]  # each life has its own limit

#: A quarter as many as strangers', whose lives take a third of the time.
SCHEDULES = int(os.environ.get("SCHEDULES", "50")) // 4
SEED = int(os.environ.get("SEED", "0"))


@pytest.fixture
async def here(control_plane: ControlPlane) -> AsyncIterator[Arena]:
    with upstream_crds(control_plane, "kueue"):
        control_plane.kubectl("apply", "-f", "-", input=json.dumps(flavor()))
        async with arena(control_plane, queued=True) as made:
            yield made


def schedules(writes: Mapping[str, int]) -> list[Schedule]:
    return [among_strangers(seed, writes) for seed in range(SEED, SEED + SCHEDULES)]


async def test_no_pod_is_without_quota_and_none_is_left(play):
    await play(QUEUED, schedules)
