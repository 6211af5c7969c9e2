"""Leader election on a real API server, with short durations; its rules are tested in tests/unit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from tests.cluster import ControlPlane
from tests.support.fault_proxy import FaultProxy

from dask_controller.kube.client import Kubernetes
from dask_controller.kube.credentials import find
from dask_controller.kube.lease import Lease, LeaseLost
from dask_controller.shell.caller import OPERATOR

pytestmark = pytest.mark.control_plane


@pytest.fixture
async def kubernetes(control_plane: ControlPlane) -> AsyncIterator[Kubernetes]:
    async with Kubernetes.from_environment(OPERATOR, str(control_plane.kubeconfig)) as client:
        yield client


#: Longer than a busy machine may stand still.
DURATION = 6


def candidate(kubernetes: Kubernetes, namespace: str, name: str) -> Lease:
    return Lease(kubernetes, namespace, "leader", name, duration_seconds=DURATION, renew_seconds=4, retry_seconds=0.2)


async def written(kubernetes: Kubernetes, namespace: str, field: str) -> datetime:
    """A time in the Lease."""
    lease = await kubernetes.get("Lease", namespace, "leader")
    assert lease
    return datetime.fromisoformat(lease["spec"][field])


async def test_a_candidate_takes_over_from_a_silent_leader_and_not_before(
    kubernetes: Kubernetes, namespace: str
) -> None:
    a, b = candidate(kubernetes, namespace, "a"), candidate(kubernetes, namespace, "b")
    await a.acquire()
    keeping = asyncio.create_task(a.keep())
    acquiring = asyncio.create_task(b.acquire())
    await asyncio.sleep(1.5 * DURATION)
    assert a.held
    assert not acquiring.done()
    keeping.cancel()  # as if its process had died
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    silent_since = await written(kubernetes, namespace, "renewTime")
    await asyncio.wait_for(acquiring, 60)
    assert (await written(kubernetes, namespace, "acquireTime") - silent_since).total_seconds() >= DURATION
    assert b.held
    assert not a.held
    lease = await kubernetes.get("Lease", namespace, "leader")
    assert lease
    assert lease["spec"]["holderIdentity"] == "b"
    assert lease["spec"]["leaseTransitions"] == 1
    renewed = await written(kubernetes, namespace, "renewTime")
    assert abs((datetime.now(UTC) - renewed).total_seconds()) < 60, "of this time zone"


async def test_a_released_lease_is_taken_soon(kubernetes: Kubernetes, namespace: str) -> None:
    a, b = candidate(kubernetes, namespace, "a"), candidate(kubernetes, namespace, "b")
    await a.acquire()
    acquiring = asyncio.create_task(b.acquire())
    await asyncio.sleep(0.5)
    await a.release()
    await asyncio.wait_for(acquiring, DURATION - 1)  # sooner than from a silent one


async def test_a_leader_that_is_cut_off_stops_before_another_starts(
    kubernetes: Kubernetes, control_plane: ControlPlane, namespace: str
) -> None:
    async with (
        FaultProxy(find(str(control_plane.kubeconfig))) as proxy,
        Kubernetes(proxy.endpoint, OPERATOR) as cut_off,
    ):
        a, b = candidate(cut_off, namespace, "a"), candidate(kubernetes, namespace, "b")
        await a.acquire()
        keeping = asyncio.create_task(a.keep())
        acquiring = asyncio.create_task(b.acquire())
        await asyncio.sleep(0.5)
        proxy.fault = lambda _: "hang"
        with pytest.raises(LeaseLost):
            await keeping
        assert not acquiring.done()
        await acquiring


async def test_of_many_candidates_one_leads_at_a_time(kubernetes: Kubernetes, namespace: str) -> None:
    leads: list[str] = []
    most = 0

    async def live(place: int) -> None:
        for life in range(3):
            lease = candidate(kubernetes, namespace, f"{place}-{life}")
            living[place] = lease
            await lease.acquire()
            leads.append(f"{place}-{life}")
            keeping = asyncio.create_task(lease.keep())
            await asyncio.sleep(0.3)
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
            await lease.release()

    async def guard() -> None:
        nonlocal most
        while True:
            most = max(most, sum(lease.held for lease in living.values()))
            await asyncio.sleep(0.005)

    living: dict[int, Lease] = {}
    guarding = asyncio.create_task(guard())
    await asyncio.wait_for(asyncio.gather(*(live(place) for place in range(4))), 120)
    guarding.cancel()
    assert most == 1
    assert len(set(leads)) == 12
    lease = await kubernetes.get("Lease", namespace, "leader")
    assert lease
    assert lease["spec"]["leaseTransitions"] == 11
