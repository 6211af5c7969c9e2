"""The side bar of JupyterLab: what its manager is told about clusters of Git, and what it does with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dask_gitops.access import Access
from dask_gitops.errors import MissingRight, NotReady
from dask_gitops.sidebar import Seen, Sidebar, size, watch

UID = "5b1c0cba-1111-2222-3333-444455556666"


class Api:
    """As `dask_gitops.access.Access`, with objects in memory. Ports lead nowhere."""

    def __init__(self, *clusters: dict[str, Any], autoscalers: tuple[dict[str, Any], ...] = ()) -> None:
        self.objects = {"DaskCluster": list(clusters), "DaskAutoscaler": list(autoscalers)}
        self.patches: list[Any] = []
        self.api, self.namespace = None, "lab"

    async def all(self, kind: str, *, everywhere: bool = False) -> list[dict[str, Any]]:
        if everywhere:
            raise MissingRight("list", kind, "")
        return self.objects[kind]

    async def patch(self, kind: str, name: str, change: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.patches.append((kind, name, change))
        return self.objects["DaskCluster"][0]

    async def require(self, verb: str, kind: str, **_: Any) -> None:
        raise MissingRight(verb, kind, "lab")


class Manager:
    """The fields of ``DaskClusterManager`` that the side bar is made of."""

    def __init__(self) -> None:
        self._clusters: dict[str, Any] = {}
        self._cluster_names: dict[str, str] = {}
        self._adaptives: dict[str, Any] = {}


def cluster(*, suspend: bool = False, ready: str = "2/3") -> dict[str, Any]:
    conditions = [{"type": "SchedulerReady", "status": "True", "reason": "Ready"}]
    resources = {"limits": {"cpu": "4", "memory": "2Gi"}}
    return {
        "metadata": {"name": "analytics", "namespace": "lab", "uid": UID, "generation": 1},
        "spec": {"suspend": suspend, "worker": {"spec": {"containers": [{"name": "w", "resources": resources}]}}},
        "status": {
            "observedGeneration": 1,
            "workers": ready,
            "schedulerAddress": "tcp://analytics-scheduler.lab.svc.cluster.local:8786",
            "conditions": conditions,
        },
    }


@pytest.fixture(autouse=True)
def one_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask_gitops.sidebar.replace", lambda access, **_: access)


async def test_clusters_are_listed_by_their_uids_awake_or_asleep():
    manager, api = Manager(), Api(cluster())
    sidebar = Sidebar(manager, api)  # type: ignore[arg-type]
    manager._clusters["mine"] = object()  # started in the side bar itself
    await sidebar.refresh()
    seen = manager._clusters[UID]
    assert manager._cluster_names[UID] == "analytics"
    assert len(seen.scheduler_info["workers"]) == 2
    assert seen.scheduler_address.startswith("tcp://analytics-scheduler")

    api.objects["DaskCluster"] = [cluster(suspend=True, ready="0/0")]
    await sidebar.refresh()
    assert manager._clusters[UID] is seen
    assert manager._cluster_names[UID] == "analytics (suspended)"
    assert (seen.scheduler_address, seen.scheduler_info) == ("", {"workers": {}})

    api.objects["DaskCluster"] = []
    await sidebar.refresh()
    assert list(manager._clusters) == ["mine"]
    assert manager._cluster_names == {}


async def test_bounds_of_an_autoscaler_are_shown_while_there_is_one():
    autoscaler = {"metadata": {"name": "a", "namespace": "lab"}, "spec": {"cluster": "analytics", "maximum": 9}}
    manager, api = Manager(), Api(cluster(), autoscalers=(autoscaler,))
    sidebar = Sidebar(manager, api)  # type: ignore[arg-type]
    await sidebar.refresh()
    assert (manager._adaptives[UID].minimum, manager._adaptives[UID].maximum) == (0, 9)
    api.objects["DaskAutoscaler"] = []
    await sidebar.refresh()
    assert manager._adaptives == {}


async def test_shutting_down_suspends():
    api = Api(cluster())
    seen = Seen(api, cluster())  # type: ignore[arg-type]
    await seen.close()
    assert api.patches == [("DaskCluster", "analytics", {"spec": {"suspend": True}})]


async def test_a_dashboard_that_does_not_answer_yet_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[int | Exception] = [NotReady("", "NoReadyPod"), 1234, MissingRight("get", "pods/portforward", "lab")]

    @contextlib.asynccontextmanager
    async def forwarded(*_: Any) -> AsyncIterator[int]:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome

    monkeypatch.setattr("dask_gitops.sidebar.forwarded", forwarded)
    seen = Seen(Api(), cluster())  # type: ignore[arg-type]
    await seen.look()
    assert seen.dashboard_link == ""
    for _ in range(2):
        await seen.look()
        assert seen.dashboard_link == "http://127.0.0.1:1234/status"
    await seen.forget()
    for _ in range(2):  # a right that is missing is asked for once
        await seen.look()
        assert (seen.dashboard_link, outcomes) == ("", [])


async def test_nothing_is_left_open_when_the_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[str] = []

    @contextlib.asynccontextmanager
    async def forwarded(*_: Any) -> AsyncIterator[str]:
        ways.append("open")
        yield "1234"
        ways.append("closed")

    async def opened() -> Api:
        return Api(cluster())

    monkeypatch.setattr("dask_gitops.sidebar.forwarded", forwarded)
    monkeypatch.setattr(Access, "open", opened)
    watching = asyncio.ensure_future(watch(Manager(), print))
    while not ways:
        await asyncio.sleep(0)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert ways == ["open", "closed"]


def test_the_size_of_a_worker_is_that_of_its_container():
    assert size(cluster()) == (4, 2 * 2**30)
    assert size({"spec": {}}) == (1, 0)
    broken = cluster()
    broken["spec"]["worker"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "many"
    assert size(broken) == (0, 0)


async def test_it_goes_on_whatever_has_happened_and_says_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One error of another kind ended it until the server was started anew; a known one filled the log."""
    errors = [
        OSError("no port"),
        OSError("no port"),
        MissingRight("list", "DaskCluster", "lab"),
        None,
        OSError("no port"),
    ]
    looks: list[None] = []
    told: list[str] = []
    done = asyncio.Event()

    async def refresh(_: Sidebar) -> None:
        looks.append(None)
        if len(looks) > len(errors):
            done.set()
        elif error := errors[len(looks) - 1]:
            raise error

    async def opened() -> Any:
        return Api()

    monkeypatch.setattr("dask_gitops.sidebar._INTERVAL", 0)
    monkeypatch.setattr(Access, "open", opened)
    monkeypatch.setattr(Sidebar, "refresh", refresh)
    watching = asyncio.create_task(watch(Manager(), lambda error: told.append(type(error).__name__)))
    await asyncio.wait_for(done.wait(), timeout=60)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert told == ["OSError", "MissingRight", "OSError"]
