"""Which worker processes are a Pod's, and in which order closing them costs least."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from tests.support.dask_scheduler import ROUTES, Pod, logged, until

pytestmark = pytest.mark.timeout(60)


OWN = "simple-default-worker-0-abcde"


class TestAddresses:
    """Who is found by an address, and who never (controller 3, controller 17)."""

    async def found(self, rig, *workers: Pod) -> set[str]:
        return set((await rig.ask(registered=workers)).registered)

    async def hooks_word(self, rig, name: str = "ghost", **headers: str) -> str:
        """What a hook is told that sends an address; that of its node, if it is one of before and runs there."""
        body = {"workers": [{"name": name, "ip": next(iter(rig.workers.values())).ip}]}
        async with rig.session.post(f"{rig.url}{ROUTES}/retire", json=body, headers=headers) as response:
            return (await response.json())["workers"][name]

    @pytest.mark.parametrize("name", [OWN, f"{OWN}-3", f"{OWN}-gpu"])
    async def test_who_has_a_name_from_the_operator_is_never_somebody_else(self, rig, name):
        """In a node's network all Pods there have one address: retiring one of them paused all."""
        await rig.add(name, "user-named")
        host = rig.state_of(name).host
        assert await self.found(rig, Pod(OWN, (host,)), Pod("ghost", (host,))) == {OWN}
        assert (await rig.ask(retire=[Pod("ghost", (host,))])).retirement == {"ghost": "unknown"}
        assert await self.hooks_word(rig) == "unknown"
        await asyncio.sleep(0.2)
        assert rig.status(name) == rig.status("user-named") == "running"

    async def test_an_address_that_several_claim_is_nobodys(self, rig):
        await rig.add("user-named")
        host = rig.state_of("user-named").host
        assert await self.found(rig, Pod("a", (host,)), Pod("b", (host,))) == set()
        assert await self.found(rig, Pod("a", (host,))) == {"a"}

    @pytest.mark.parametrize("names", [("w0", "w1"), ("a-0", "b-0"), ("a-0", "a-x"), (None, None)])
    async def test_the_hook_of_before_stops_nobody_elses_worker(self, rig, names):
        """It sends its node's address where the Pod is in the node's network. Who is there may be several Pods."""
        for number, name in enumerate(names):
            await rig.add(str(number)) if name is None else await rig.add(name)
        if None in names:
            for ws in rig.scheduler.workers.values():
                ws.name = ws.address  # as without --name
        assert await self.hooks_word(rig) == "unknown"
        await asyncio.sleep(0.2)
        assert {ws.status.name for ws in rig.scheduler.workers.values()} == {"running"}

    @pytest.mark.parametrize("names", [("w0",), ("pod-0", "pod-1")])
    async def test_the_hook_of_before_still_finds_its_own(self, rig, names):
        await rig.add(*names)
        assert (await self.hooks_word(rig)).startswith("retir")

    async def test_all_at_an_address_that_is_a_pods_own_are_its(self, rig):
        await rig.add("w0", "w1")
        assert (await self.hooks_word(rig, **{"Dask-Gitops-Own-Addresses": "1"})).startswith("retir")
        host = rig.state_of("w0").host
        assert (await rig.ask(retire=[Pod("ghost", (host,))])).retirement["ghost"].startswith(("retir", "refused"))

    async def test_every_address_counts_in_every_form(self, rig):
        """IPv6 first, as in a cluster of two stacks: Dask takes the address of IPv4."""
        await rig.add("user-named")
        host = rig.state_of("user-named").host
        for ips in [("fd00::1", host), ("fd00::1", f"::ffff:{host}")]:
            assert await self.found(rig, Pod("ghost", ips)) == {"ghost"}
        assert await self.found(rig, Pod("ghost", ("fd00::1", "192.0.2.77"))) == set()

    @pytest.mark.parametrize("ip", ["fd00:0:0:0:0:0:0:1", "FD00::0001", "[fd00::1]"])
    async def test_an_address_of_version_6_may_be_written_in_several_ways(self, rig, monkeypatch, ip):
        await rig.add("user-named")
        monkeypatch.setattr(type(rig.state_of("user-named")), "host", "fd00::1")
        assert await self.found(rig, Pod("ghost", (ip,))) == {"ghost"}

    @pytest.mark.parametrize("ips", [3, "10.0.0.1", [1], ["10.0.0.1"] * 100, ["1" * 100]])
    async def test_addresses_are_bounded(self, rig, ips):
        assert (await rig.post("retire", {"workers": [{"name": "a", "ips": ips}]}))[0] in (400, 413)


# --- names ------------------------------------------------------------------------------------------------------------


async def test_only_the_named_workers_are_touched(rig):
    await rig.add("one-a", "one-b", "two-a")
    await rig.retire("one-b")
    assert rig.status("one-a") == rig.status("two-a") == "running"
    assert set(await rig.ranked("one-a", "one-b")) == {"one-a", "one-b"}


async def test_processes_of_one_pod_count_as_one(rig, tmp_path):
    await rig.add("pod-0", "pod-1", "other")
    log = tmp_path / "runs"
    future = rig.client.submit(logged, str(log), "x", 0.5, workers=["pod-1"], allow_other_workers=True)
    await until(log.exists)
    answer = await until(lambda: _while(rig, "pod-0", "closing_gracefully"))
    assert answer["pod"].startswith("retiring: 1 tasks")
    assert await rig.retire("pod") == {"pod": "retired"}
    assert rig.status("pod-0") == rig.status("pod-1") == "closing_gracefully"
    assert rig.status("other") == "running"
    assert await future == "x"


async def _while(rig, name, status):
    answer = await rig.retirement("pod")
    return answer if rig.status(name) == status else None


async def test_a_worker_is_found_by_its_address_only_if_its_name_is_not_known(rig):
    await rig.add("named-by-the-user", "pod")
    host = rig.state_of("pod").host
    answer = await rig.resume(Pod("pod", (host,)), Pod("ghost", (host,)), Pod("nowhere", ("192.0.2.77",)))
    assert answer == {"pod": "running", "ghost": "running", "nowhere": "unknown"}
    await rig.ask(retire=(Pod("pod", (host,)),))
    await until(lambda: rig.status("pod") == "closing_gracefully")
    assert rig.status("named-by-the-user") == "running"


# --- whom to close, and how many --------------------------------------------------------------------------------------


async def test_closing_order_is_idle_then_least_data_then_least_work(rig):
    await rig.add("busy", "data", "idle", "other")
    keep = await rig.client.scatter([b"1" * 1000, b"2" * 1000], workers=["data"], hash=False)
    busy = rig.client.submit(time.sleep, 0.5, workers=["busy"])
    await until(lambda: rig.state_of("busy").processing)
    candidates = ["busy", "data", "idle", "not-registered"]
    assert await rig.ranked(*candidates) == ["idle", "not-registered", "data", "busy"]
    assert await rig.post("workers_to_close", {"workers": candidates, "n": 1}) == (200, {"workers": ["idle"]})
    del keep, busy


async def test_an_address_that_many_pods_claim_stands_for_none(rig):
    await rig.add("a", "b", "c")
    host = rig.state_of("a").host
    names = [{"name": f"pod-{n}", "ip": host} for n in range(20_000)]
    status, answer = await rig.post("ask", {"questions": [{"retire": names}]})
    assert status == 200
    assert "too many worker processes" in answer["answers"][0]["error"]
    assert rig.status("a") == "running"


async def test_a_result_is_looked_at_once_however_many_names_its_worker_has(rig):
    await rig.add("user-named", "other")
    keep = await rig.client.scatter(list(range(2000)), workers=["user-named"], hash=False)
    looks = Counter()
    ws = rig.state_of("user-named")

    class Counted(dict):
        def __iter__(self):
            looks["iterations"] += 1
            return super().__iter__()

    ws._has_what = Counted(ws._has_what)
    # 10,000 names stand for the two workers at this address.
    names = [{"name": f"pod-{n}", "ip": ws.host} for n in range(10_000)]
    status, answer = await rig.post("ask", {"questions": [{"retire": names}]})
    assert (status, len(answer["answers"][0]["retirement"])) == (200, 10_000)
    assert looks["iterations"] <= 2
    del keep
