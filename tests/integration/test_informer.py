"""The cache against a real API server; what can be simulated is in tests/unit."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from tests.cluster import ControlPlane
from tests.support.fault_proxy import Answer, Break, FaultProxy, is_watch

from dask_controller.kube import reading as module
from dask_controller.kube.api import ApiError, Manifest
from dask_controller.kube.client import Kubernetes
from dask_controller.kube.credentials import find
from dask_controller.kube.informer import Informer
from dask_controller.shell.caller import OPERATOR
from dask_crds.kinds import RESOURCES

pytestmark = pytest.mark.control_plane

GONE = Answer(410, "Expired")


@pytest.fixture
async def kubernetes(control_plane: ControlPlane) -> AsyncIterator[Kubernetes]:
    """Not through the proxy: what others do."""
    async with Kubernetes.from_environment(OPERATOR, str(control_plane.kubeconfig)) as client:
        yield client


@pytest.fixture
async def proxy(control_plane: ControlPlane) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(find(str(control_plane.kubeconfig))) as relay:
        yield relay


def config_map(namespace: str, name: str, app: str = "x", **data: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": app}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


Kept = tuple[str, str]  # name, value


def keep(manifest: Manifest) -> Kept:
    return manifest["metadata"]["name"], (manifest.get("data") or {}).get("value", "")


class Cache:
    """A running informer of ConfigMaps, with what it reported."""

    def __init__(self, proxy: FaultProxy, **options: Any) -> None:
        self.changes: list[tuple[Kept | None, Kept | None]] = []
        self._proxy = proxy
        self._options = options

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Informer[Kept], None]:
        async with Kubernetes(self._proxy.endpoint, OPERATOR) as client:
            informer = Informer(
                client,
                RESOURCES["ConfigMap"],
                project=keep,
                index=lambda kept: [kept[1]],
                on_change=lambda old, new: self.changes.append((old, new)),
                label="app",
                **self._options,
            )
            task = asyncio.create_task(informer.run())
            try:
                await asyncio.wait_for(informer.synced.wait(), 60)
                yield informer
                assert not task.done()
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


def known(informer: Informer[Kept]) -> dict[str, str]:
    return dict(informer.store.values())


async def test_it_lists_in_pages_and_follows(
    kubernetes: Kubernetes, proxy: FaultProxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    for n in range(5):
        await kubernetes.create(config_map(namespace, f"x{n}", value="1"))
    cache = Cache(proxy, namespaces=[namespace])
    async with cache.running() as informer:
        assert known(informer) == {f"x{n}": "1" for n in range(5)}
        assert sum("configmaps" in seen for seen in proxy.seen) in (3, 4)  # the watch may have begun
        await kubernetes.apply(config_map(namespace, "x0", value="2"))
        await kubernetes.delete("ConfigMap", namespace, "x1")
        await kubernetes.create(config_map(namespace, "x5", value="1"))
        await until(lambda: known(informer) == {"x0": "2", "x2": "1", "x3": "1", "x4": "1", "x5": "1"})
        assert cache.changes[5:] == [(("x0", "1"), ("x0", "2")), (("x1", "1"), None), (None, ("x5", "1"))]
        assert informer.by_index("2") == [("x0", "2")]
        assert informer.age_seconds() < 60


async def test_what_was_deleted_while_nobody_watched_is_reported(
    kubernetes: Kubernetes, proxy: FaultProxy, namespace: str
) -> None:
    for name in ("ghost", "other"):
        await kubernetes.create(config_map(namespace, name))
    cache = Cache(proxy, namespaces=[namespace])
    async with cache.running() as informer:
        proxy.fault = lambda _: "cut"
        proxy.cut_streams()
        await kubernetes.delete("ConfigMap", namespace, "ghost")
        await kubernetes.create(config_map(namespace, "new"))
        await asyncio.sleep(0.3)
        assert set(known(informer)) == {"ghost", "other"}
        proxy.fault = lambda request: GONE if is_watch(request) and informer.relists == 1 else None
        await until(lambda: set(known(informer)) == {"other", "new"})
        assert informer.relists == 2
        assert (("ghost", ""), None) in cache.changes


async def test_a_cut_watch_goes_on_without_a_list(kubernetes: Kubernetes, proxy: FaultProxy, namespace: str) -> None:
    await kubernetes.create(config_map(namespace, "a"))
    cache = Cache(proxy, namespaces=[namespace])
    async with cache.running() as informer:
        proxy.fault = lambda _: "cut"
        proxy.cut_streams()
        await kubernetes.delete("ConfigMap", namespace, "a")
        await kubernetes.create(config_map(namespace, "b"))
        await asyncio.sleep(0.3)
        proxy.fault = lambda _: None
        await until(lambda: set(known(informer)) == {"b"})
        assert informer.relists == 1


async def test_a_connection_that_has_gone_silent_is_replaced(
    kubernetes: Kubernetes, proxy: FaultProxy, namespace: str
) -> None:
    cache = Cache(proxy, namespaces=[namespace], idle_seconds=0.5)
    async with cache.running() as informer:
        await until(lambda: any("configmaps" in seen for seen in proxy.seen[1:]))
        proxy.freeze()
        await kubernetes.create(config_map(namespace, "a"))
        await asyncio.sleep(0.3)
        assert known(informer) == {}
        streams = len(proxy.seen)
        await until(lambda: len(proxy.seen) > streams)  # it has connected anew
        proxy.thaw()
        await until(lambda: set(known(informer)) == {"a"})
        assert informer.relists == 1


async def test_an_object_that_is_not_selected_any_more_is_gone_and_comes_back(
    kubernetes: Kubernetes, proxy: FaultProxy, namespace: str
) -> None:
    made = await kubernetes.create(config_map(namespace, "a"))
    async with Cache(proxy, namespaces=[namespace]).running() as informer:
        await kubernetes.patch("ConfigMap", namespace, "a", {"metadata": {"labels": {"app": None}}})
        await until(lambda: not informer.store)
        informer.put(made)  # a late answer
        assert not informer.store
        informer.put(await kubernetes.patch("ConfigMap", namespace, "a", {"data": {"n": "1"}}))
        assert not informer.store, "no event would ever tell that it has gone"
        await kubernetes.patch("ConfigMap", namespace, "a", {"metadata": {"labels": {"app": "x"}}})
        await until(lambda: set(known(informer)) == {"a"})


async def test_an_answer_without_the_label_says_that_it_is_gone(
    kubernetes: Kubernetes, proxy: FaultProxy, namespace: str
) -> None:
    made = await kubernetes.create(config_map(namespace, "a"))
    async with Cache(proxy, namespaces=[namespace]).running() as informer:
        proxy.freeze()  # the cache does not hear that somebody takes the label
        answer = await kubernetes.patch("ConfigMap", namespace, "a", {"metadata": {"labels": None}})
        informer.put(made)
        assert set(known(informer)) == {"a"}
        informer.put(answer)
        assert not informer.store


async def test_own_writes_are_known_at_once_and_deleted_objects_do_not_come_back(
    kubernetes: Kubernetes, proxy: FaultProxy, namespace: str
) -> None:
    cache = Cache(proxy, namespaces=[namespace])
    async with cache.running() as informer:
        proxy.freeze()  # the cache hears nothing
        first = await kubernetes.apply(config_map(namespace, "a", value="1"))
        informer.put(first)
        informer.put(await kubernetes.apply(config_map(namespace, "a", value="2")))
        informer.put(first)
        assert known(informer) == {"a": "2"}
        informer.put(await kubernetes.create(config_map(namespace, "b")))
        await kubernetes.delete("ConfigMap", namespace, "a")
        assert set(known(informer)) == {"a", "b"}
        proxy.thaw()
        await until(lambda: set(known(informer)) == {"b"})
        informer.put(first)
        assert set(known(informer)) == {"b"}
        informer.put({"kind": "Status", "status": "Success"})
    assert cache.changes == [
        (None, ("a", "1")),
        (("a", "1"), ("a", "2")),
        (None, ("b", "")),
        (("a", "2"), None),
    ]


async def test_all_namespaces_or_some(
    kubernetes: Kubernetes, proxy: FaultProxy, control_plane: ControlPlane, namespace: str
) -> None:
    other = f"{namespace}-other"
    control_plane.kubectl("create", "namespace", other)
    try:
        await kubernetes.create(config_map(namespace, "here"))
        await kubernetes.create(config_map(other, "there"))
        async with Cache(proxy, namespaces=[namespace, "does-not-exist"]).running() as informer:
            assert set(known(informer)) == {"here"}
            assert informer.relists == 2
        async with Cache(proxy).running() as informer:
            assert {"here", "there"} <= set(known(informer))
            assert informer.relists == 1
    finally:
        control_plane.kubectl("delete", "namespace", other, "--wait=false")


async def test_metadata_is_enough_to_follow(kubernetes: Kubernetes, proxy: FaultProxy, namespace: str) -> None:
    """Security finding 3: what others hold in labelled ConfigMaps does not reach us."""
    await kubernetes.create(config_map(namespace, "a", value="1"))
    cache = Cache(proxy, namespaces=[namespace], metadata_only=True)
    async with cache.running() as informer:
        await kubernetes.create(config_map(namespace, "b", value="1"))
        await until(lambda: known(informer) == {"a": "", "b": ""})
        proxy.freeze()  # else the event may come before the answer
        informer.put(await kubernetes.apply(config_map(namespace, "a", value="2")))  # which has all
        assert informer.by_index("2") == [("a", "2")]
        proxy.thaw()
        await kubernetes.delete("ConfigMap", namespace, "b")
        await kubernetes.apply(config_map(namespace, "a", value="3"))
        await until(lambda: known(informer) == {"a": ""})
        proxy.fault = lambda request: GONE if is_watch(request) and informer.relists == 1 else None
        proxy.cut_streams()
        await until(lambda: informer.relists == 2)
        assert known(informer) == {"a": ""}


@pytest.mark.parametrize("metadata_only", [False, True])
async def test_nobody_ends_it_by_nesting(
    kubernetes: Kubernetes, proxy: FaultProxy, namespace: str, metadata_only: bool
) -> None:
    """Anybody's managed fields may have thousands of levels: at the first such event or list the operator ended."""
    await kubernetes.create(config_map(namespace, "a"))
    fields = msgspec.Raw(b'{"f:a":' * 2000 + b"{}" + b"}" * 2000)
    entry = {"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}
    cache = Cache(proxy, namespaces=[namespace], metadata_only=metadata_only)
    async with cache.running() as informer:
        await kubernetes.patch("ConfigMap", namespace, "a", {"metadata": {"managedFields": [entry]}})
        await kubernetes.create(config_map(namespace, "b"))
        await until(lambda: set(known(informer)) == {"a", "b"})
        assert informer.relists == 1
    async with Cache(proxy, namespaces=[namespace], metadata_only=metadata_only).running() as informer:
        assert set(known(informer)) == {"a", "b"}


@pytest.mark.parametrize("seed", range(3))
async def test_after_a_storm_it_knows_what_exists(
    kubernetes: Kubernetes, proxy: FaultProxy, namespace: str, seed: int
) -> None:
    """Writes whose answers come late, deletions, cut and forgotten watches, failing lists."""
    rng = random.Random(seed)
    faults: list[Break | Answer] = [
        "cut",
        GONE,
        Answer(500, "InternalError"),
        Answer(429, "TooManyRequests", (("Retry-After", "0"),)),
    ]
    storm = True
    proxy.fault = lambda request: rng.choice(faults) if storm and rng.random() < 0.3 else None
    cache = Cache(proxy, namespaces=[namespace])
    async with cache.running() as informer:
        late: list[Manifest] = []
        for step in range(300):
            name = f"x{rng.randrange(8)}"
            match rng.randrange(10):
                case 0 | 1:
                    await kubernetes.delete("ConfigMap", namespace, name)
                case 2:
                    proxy.cut_streams()
                case 3:
                    await asyncio.sleep(rng.uniform(0, 0.05))
                case _:
                    answer = await kubernetes.apply(config_map(namespace, name, value=str(step)))
                    late.append(answer)
            while late and rng.random() < 0.6:
                informer.put(late.pop(rng.randrange(len(late))))
        storm = False
        for answer in late:
            informer.put(answer)
        exist = {
            item["metadata"]["uid"]: keep(item)
            for item in await kubernetes.list("ConfigMap", namespace, labels="app=x")
        }
        await until(lambda: informer.store == exist, seconds=60)
        await asyncio.sleep(0.2)
        assert informer.store == exist


async def test_it_waits_for_a_right_it_does_not_have_yet(proxy: FaultProxy, namespace: str) -> None:
    proxy.fault = lambda _: Answer(403, "Forbidden")
    async with Kubernetes(proxy.endpoint, OPERATOR) as client:
        informer = Informer(client, RESOURCES["ConfigMap"], project=keep, namespaces=[namespace])
        task = asyncio.create_task(informer.run())
        await asyncio.sleep(0.3)
        assert not informer.synced.is_set()
        proxy.fault = lambda _: None
        await asyncio.wait_for(informer.synced.wait(), 60)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ApiError):
            await task
