"""Snapshots from the watch caches."""

from __future__ import annotations

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
from dask_controller.shell.observe import Observer
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

    async def list(self, kind: str, namespace: str, **selectors: str) -> list[dict[str, Any]]:
        self.asked.append(f"list {kind}")
        return [m for m in self.there if m["kind"] == kind]


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
