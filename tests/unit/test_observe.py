"""Snapshots from the watch caches."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.offline import OFFLINE
from tests.support.questions import answers_of
from tests.support.states import NOW, autoscaler, cluster, group, job

from dask_controller.core.observed import ObservedCluster, ObservedGroup
from dask_controller.shell.caches import Caches
from dask_controller.shell.dispatch import snapshot
from dask_controller.shell.observe import MOST_EVENTS, Observer
from dask_crds.model import KINDS, DaskCluster, DaskObject, dump
from dask_crds.reasons import Reason
from dask_resources.cluster import children
from dask_resources.worker import worker_pod


def put(caches: Caches, manifest: dict[str, Any], name: str) -> None:
    metadata = {**manifest["metadata"], "name": name, "uid": f"uid-{manifest['kind']}-{name}", "resourceVersion": "1"}
    for informer in caches.informers.values():
        informer.put({**manifest, "metadata": metadata})


def test_every_child_of_a_cluster_is_seen_once_it_exists() -> None:
    """And no other object of its kind with its labels."""
    caches = Caches(OFFLINE, None, lambda *_: None)
    made: dict[str, str] = {}
    for child in children(cluster()):
        if child.kind not in KINDS:
            put(caches, child.build(cluster()), f"another-{child.name}")
            put(caches, child.build(cluster()), child.name)
            made[child.kind] = child.name
        observed = snapshot(caches, cluster())
        assert isinstance(observed, ObservedCluster)
        assert {kind: found["metadata"]["name"] for kind, found in observed.children.items()} == made


def test_children_are_called_what_they_are_looked_for_as() -> None:
    for child in children(cluster()):
        manifest = child.build(cluster())
        assert (manifest["kind"], manifest["metadata"]["name"]) == (child.kind, child.name)


# --- what the caches cannot tell --------------------------------------------------------------------------------------


class ApiServer:
    """An API server with some objects, of which the caches know those that were `seen`."""

    def __init__(self, *there: dict[str, Any]) -> None:
        self.there, self.asked = there, list[str]()
        self.caches = Caches(OFFLINE, None, lambda *_: None)
        api: Any = self
        self.observer = Observer(api, self.caches, partial(snapshot, self.caches), lambda: NOW)

    def seen(self, *manifests: dict[str, Any]) -> None:
        for manifest in manifests:
            self.caches.informers[manifest["kind"]].put(manifest)

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        self.asked.append(f"get {kind}")
        return next((m for m in self.there if (m["kind"], m["metadata"]["name"]) == (kind, name)), None)

    async def names(self, kind: str, namespace: str, *, labels: str) -> set[str]:
        self.asked.append(f"names {kind}")
        return {m["metadata"]["name"] for m in self.there if m["kind"] == kind}

    async def each(self, kind: str, namespace: str, **selectors: str) -> AsyncGenerator[dict[str, Any], None]:
        self.asked.append(f"list {kind}")
        for manifest in self.there:
            if manifest["kind"] == kind:
                yield manifest

    async def list(self, kind: str, namespace: str, **selectors: str) -> list[dict[str, Any]]:
        return [manifest async for manifest in self.each(kind, namespace, **selectors)]


def worker(ordinal: int) -> dict[str, Any]:
    manifest: Any = worker_pod(group(), ordinal, "abcde")
    return {**manifest, "metadata": {**manifest["metadata"], "uid": f"uid-{ordinal}", "resourceVersion": "1"}}


@pytest.mark.parametrize("value", [cluster(), group(), job(), autoscaler()], ids=lambda value: value.kind)
async def test_nothing_is_asked_of_an_api_server_where_the_caches_know_all(value: DaskObject) -> None:
    server = ApiServer()
    assert await server.observer.observe(value) == (snapshot(server.caches, value), None)
    assert server.asked == []


@pytest.mark.parametrize("exists", [True, False])
async def test_that_a_cluster_is_gone_is_not_believed_of_a_cache(exists: bool) -> None:
    server = ApiServer(*([dump(cluster())] if exists else []))
    server.seen(worker(0))
    assert server.observer.cached(group()) is None
    observed, problem = await server.observer.observe(group())
    assert isinstance(observed, ObservedGroup)
    assert (observed.cluster is not None, problem, server.asked) == (exists, None, ["get DaskCluster"])
    assert (server.observer.cached(group()) is not None) == exists


@pytest.mark.parametrize("value", [group(), job("simple")], ids=lambda value: value.kind)
async def test_whatever_belongs_to_a_cluster_that_cannot_be_read_is_left_alone(value: DaskObject) -> None:
    server = ApiServer()
    server.seen({**dump(cluster()), "spec": {"scheduler": 1}})
    _, problem = await server.observer.observe(value)
    assert problem is not None
    assert problem.reason == Reason.CLUSTER_UNREADABLE
    assert problem.message.startswith("DaskCluster simple cannot be read")


SUSPENDED = cluster(suspend=True)


@pytest.mark.parametrize(
    ("value", "enough"), [(cluster(), True), (SUSPENDED, False), (group(), True), (job(), False), (autoscaler(), True)]
)
def test_for_whom_the_caches_suffice(value: DaskObject, enough: bool) -> None:
    server = ApiServer()
    server.seen(dump(value if isinstance(value, DaskCluster) else cluster()))
    assert (server.observer.cached(value) is not None) == enough


async def test_pods_are_listed_afresh_once_for_steps_that_follow_one_another() -> None:
    server = ApiServer(worker(0), worker(1))
    server.seen(dump(cluster()), worker(0))
    observed = replace(snapshot(server.caches, group()), answers=answers_of(registered=frozenset({"a"})))
    fresh = await server.observer.with_fresh_pods(observed, group())
    assert isinstance(fresh, ObservedGroup)
    assert ({pod.ordinal for pod in fresh.pods}, fresh.answers) == ({0, 1}, observed.answers)
    assert await server.observer.with_fresh_pods(fresh, group()) is fresh
    assert server.asked == ["names Pod", "list Pod"]


# --- of what anybody may make any number, as large as the API server takes it -----------------------------------------


class Object(dict[str, Any]):
    """One that is known to be gone when nobody holds it any more."""


class Flood(ApiServer):
    """A thousand objects of whatever kind is asked for."""

    def __init__(self, make: Callable[[int], dict[str, Any]]) -> None:
        super().__init__()
        self.make, self.read, self.held = make, 0, 0  #: of a list, how many were read, and held at a time at most

    async def names(self, kind: str, namespace: str, *, labels: str) -> set[str]:
        return {"unknown"}

    async def each(self, kind: str, namespace: str, **selectors: str) -> AsyncGenerator[dict[str, Any], None]:
        made = list[weakref.ref[Object]]()
        for n in range(1000):
            self.read = n
            each = Object(self.make(n))
            made.append(weakref.ref(each))
            self.held = max(self.held, sum(it() is not None for it in made))
            yield each


async def test_pods_with_the_label_of_a_group_are_not_held_all_at_a_time() -> None:
    """Each may have a megabyte, and the operator has half a gigabyte for all of its tenants."""
    server = Flood(worker)
    server.seen(dump(cluster()))
    fresh = await server.observer.with_fresh_pods(snapshot(server.caches, group()), group())
    assert isinstance(fresh, ObservedGroup)
    assert (len(fresh.pods), server.held <= 2) == (1000, True)


async def test_of_events_a_few_are_read_and_what_is_needed_of_each_is_kept() -> None:
    """Who may edit a namespace may write Events about any object in it."""

    def event(n: int) -> dict[str, Any]:
        about = {"kind": "Pod", "name": "p", "fieldPath": "x" * 9999}
        return {"kind": "Event", "reason": "FailedMount", "message": f"{n} " + "x" * 9999, "involvedObject": about}

    server = Flood(event)
    waiting = worker(0) | {"status": {"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"}}
    server.seen(dump(cluster()), waiting)
    observed, _ = await server.observer.observe(group())
    assert isinstance(observed, ObservedGroup)
    assert observed.pods[0].problem is not None
    assert observed.pods[0].problem.reason == "FailedMount"
    assert (server.held <= 2, server.read <= MOST_EVENTS) == (True, True)
    kept = await server.observer._events("team", "involvedObject.uid=x")
    assert len(kept) == MOST_EVENTS
    assert max(len(str(each)) for each in kept) < 4096
