"""Leader election against a simulated API server that is slow, silent and forgetful, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.virtual_time import now, virtual_time

from dask_controller.kube.api import ApiError, Manifest
from dask_controller.kube.lease import Lease, LeaseLost

T = TypeVar("T")


class Server:
    """One Lease. `fault` says of each request: how long it takes on the way there and back, and what becomes of it."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.fault: Callable[[], tuple[float, float, str]] = lambda: (0.01, 0.01, "")
        self.requests: list[str] = []
        self._versions = itertools.count(1)

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        return await self._request("get", lambda: copy.deepcopy(self.lease))

    async def create(self, manifest: Mapping[str, Any]) -> Manifest:
        def create() -> Manifest:
            if self.lease is not None:
                raise ApiError(409, "AlreadyExists", "")
            return self._store(dict(manifest["spec"]))

        return await self._request("create", create)

    async def patch(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Manifest:
        def swap() -> Manifest:
            if self.lease is None:
                raise ApiError(404, "NotFound", "")
            if patch["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", "")
            merged = {**self.lease["spec"], **patch["spec"]}
            return self._store({key: value for key, value in merged.items() if value is not None})

        return await self._request("patch", swap)

    async def _request(self, verb: str, action: Callable[[], T]) -> T:
        self.requests.append(verb)
        there, back, fate = self.fault()
        await asyncio.sleep(there)
        if fate == "refused":
            raise ApiError(0, "Unreachable", "")
        result = action()
        await asyncio.sleep(back)
        if fate == "lost":
            raise ApiError(0, "Unreachable", "")
        return result

    def _store(self, spec: Manifest) -> Manifest:
        self.lease = {"metadata": {"resourceVersion": str(next(self._versions))}, "spec": copy.deepcopy(spec)}
        return copy.deepcopy(self.lease)


def candidate(server: Server, name: str, **options: Any) -> Lease:
    return Lease(server, "ns", "leader", name, **options)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def keeping(lease: Lease) -> AsyncGenerator[asyncio.Task[None], None]:
    task = asyncio.create_task(lease.keep())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LeaseLost):
            await task


@virtual_time
async def test_one_request_renews() -> None:
    server = Server()
    lease = candidate(server, "a")
    await lease.acquire()
    assert lease.held
    assert server.requests == ["get", "create"]
    async with keeping(lease):
        await asyncio.sleep(60)
        assert lease.held
    assert set(server.requests[2:]) == {"patch"}
    assert 25 <= len(server.requests) <= 32


@virtual_time
async def test_another_waits_for_a_silent_leader_and_no_longer() -> None:
    server = Server()
    a, b = candidate(server, "a"), candidate(server, "b")
    await a.acquire()
    async with keeping(a):
        acquiring = asyncio.create_task(b.acquire())
        await asyncio.sleep(100)
        assert not acquiring.done()
    silent_since = now()
    await acquiring
    look = 2 * 1.2 + 0.02  # at most between two: one shows the last renewal, one that it has run out
    assert 15 - 2 <= now() - silent_since <= look + 15 + look
    assert not a.held
    assert server.lease
    assert server.lease["spec"]["leaseTransitions"] == 1


@virtual_time
async def test_a_released_lease_is_taken_at_the_next_attempt_and_not_by_who_released_it() -> None:
    server = Server()
    a, b = candidate(server, "a"), candidate(server, "b")
    await a.acquire()
    async with keeping(a) as kept:
        acquiring = asyncio.create_task(b.acquire())
        await asyncio.sleep(31)
        await a.release()
        released_at = now()
        assert not a.held
        await acquiring
        assert now() - released_at <= 2 * 1.2 + 0.1
        await asyncio.sleep(60)
        assert not kept.done()
        assert not a.held
    assert server.lease
    assert server.lease["spec"]["holderIdentity"] == "b"


@virtual_time
async def test_who_is_not_the_leader_releases_nothing() -> None:
    server = Server()
    a, b = candidate(server, "a"), candidate(server, "b")
    await a.acquire()
    await b.release()
    assert a.held
    assert server.lease
    assert server.lease["spec"]["holderIdentity"] == "a"


@virtual_time
@pytest.mark.parametrize("fate", ["refused", "lost", "hangs"])
async def test_a_leader_that_cannot_renew_gives_up_in_time(fate: str) -> None:
    server = Server()
    lease = candidate(server, "a")
    await lease.acquire()
    async with keeping(lease) as kept:
        await asyncio.sleep(11)
        last = server.requests.count("patch") * 2.02
        server.fault = lambda: (1e6, 0, "") if fate == "hangs" else (0.01, 0.01, "refused")
        with pytest.raises(LeaseLost):
            await kept
        assert now() - last == pytest.approx(10, abs=0.1)
        assert not lease.held


@virtual_time
async def test_the_time_that_an_answer_takes_counts_against_the_leader() -> None:
    server = Server()
    lease = candidate(server, "a")
    server._store({"holderIdentity": "a", "leaseDurationSeconds": 15})
    server.fault = lambda: (0, 2, "")  # twice: read, then write
    await lease.acquire()
    assert now() == 4
    await asyncio.sleep(5.9)
    assert lease.held
    await asyncio.sleep(0.2)
    assert not lease.held


@virtual_time
async def test_one_request_that_hangs_does_not_cost_the_lease() -> None:
    server = Server()
    lease = candidate(server, "a")
    await lease.acquire()
    async with keeping(lease) as kept:
        await asyncio.sleep(11)
        server.fault = lambda: (1e6, 0, "")
        await asyncio.sleep(3)
        server.fault = lambda: (0.01, 0.01, "")
        await asyncio.sleep(60)
        assert not kept.done()
        assert lease.held


@virtual_time
async def test_a_leader_learns_at_its_next_attempt_that_another_took_the_lease() -> None:
    server = Server()
    lease = candidate(server, "a")
    await lease.acquire()
    async with keeping(lease) as kept:
        await asyncio.sleep(3)
        server._store({"holderIdentity": "thief", "leaseDurationSeconds": 15})
        since = now()
        with pytest.raises(LeaseLost):
            await kept
        assert now() - since < 2.1


@virtual_time
async def test_a_renewal_whose_answer_is_lost_is_recognised_as_our_own() -> None:
    server = Server()
    lease = candidate(server, "a")
    await lease.acquire()
    async with keeping(lease) as kept:
        await asyncio.sleep(3)
        server.fault = lambda: (0.01, 0.01, "lost")
        await asyncio.sleep(2)
        server.fault = lambda: (0.01, 0.01, "")
        await asyncio.sleep(60)
        assert not kept.done()
        assert lease.held
    assert server.lease
    assert server.lease["spec"].get("leaseTransitions", 0) == 0


@virtual_time
async def test_a_lease_that_somebody_deletes_is_made_again() -> None:
    server = Server()
    lease = candidate(server, "a")
    await lease.acquire()
    async with keeping(lease):
        server.lease = None
        await asyncio.sleep(5)
        assert lease.held
        assert server.lease


@virtual_time
async def test_the_clock_of_the_other_does_not_matter() -> None:
    server = Server()
    times = {"acquireTime": "1999-01-01T00:00:00.000000Z", "renewTime": "2999-01-01T00:00:00.000000Z"}
    server._store({"holderIdentity": "gone", "leaseDurationSeconds": 15, **times})
    await candidate(server, "a").acquire()
    assert 15 <= now() <= 18


@virtual_time
async def test_what_the_holder_promised_counts_not_what_we_would() -> None:
    server = Server()
    server._store({"holderIdentity": "gone", "leaseDurationSeconds": 60})
    await candidate(server, "a").acquire()
    assert 60 <= now() <= 63


def test_durations_must_make_sense() -> None:
    with pytest.raises(ValueError, match="retry < renew < duration"):
        candidate(Server(), "a", duration_seconds=10)


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32), bad=st.sampled_from([0.0, 0.1, 0.5, 0.9]), places=st.integers(2, 4))
def test_never_two_at_a_time_and_always_one_again(seed: int, bad: float, places: int) -> None:
    """Requests that take long, hang, are refused or lose their answer; leaders that die or step down."""

    @virtual_time
    async def run() -> None:
        rng = random.Random(seed)
        random.seed(seed)
        server = Server()

        def fault() -> tuple[float, float, str]:
            if rng.random() >= bad:
                return rng.uniform(0, 0.2), rng.uniform(0, 0.2), ""
            slow = rng.choice([0.1, 1.0, 4.0, 8.0, 30.0])
            return rng.uniform(0, slow), rng.uniform(0, slow), rng.choice(["", "refused", "lost"])

        server.fault = fault
        living: dict[int, Lease] = {}

        async def live(place: int) -> None:
            for life in itertools.count():
                lease = living[place] = candidate(server, f"{place}-{life}")
                with contextlib.suppress(TimeoutError, LeaseLost):
                    async with asyncio.timeout(rng.expovariate(1 / 60)):
                        await lease.acquire()
                        await lease.keep()
                if rng.random() < 0.5:
                    await lease.release()
                del living[place]  # dead: what it believes does not matter any more

        async def guard() -> None:
            while True:
                leaders = [place for place, lease in living.items() if lease.held]
                assert len(leaders) <= 1, leaders
                await asyncio.sleep(0.2)

        tasks = [*(asyncio.create_task(live(place)) for place in range(places)), asyncio.create_task(guard())]
        await asyncio.sleep(300)
        for task in tasks:
            assert not task.done(), task.exception()
            task.cancel()
        server.fault = lambda: (0.01, 0.01, "")
        begin = now()
        await candidate(server, "survivor").acquire()
        assert now() - begin < 15 + 3

    run()
