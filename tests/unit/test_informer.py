"""The cache against a simulated API server, in virtual time; the real one is in tests/integration."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, TypedDict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.virtual_time import virtual_time

from dask_controller.kube.answers import decoded, refusal
from dask_controller.kube.api import ApiError, Manifest
from dask_controller.kube.informer import Informer
from dask_controller.kube.reading import Page, WatchEvent
from dask_crds.kinds import RESOURCES


def raw(manifest: Manifest) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(manifest))


class Server:
    """A log of versions, as the API server keeps it; takes its time to tell."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.version = 100
        self.objects: dict[str, Manifest] = {}
        self.log: list[tuple[int, str, Manifest]] = []
        self.forgotten = 0  # versions up to this are not remembered
        self.down = False
        self.bookmarks = True
        self.lists = 0
        self._news = asyncio.Event()
        self._connection = 0

    def write(self, uid: str, namespace: str = "a", **data: Any) -> Manifest:
        self.version += 1
        metadata = {"uid": uid, "name": uid, "namespace": namespace, "resourceVersion": str(self.version)}
        manifest = {"kind": "Pod", "metadata": metadata, **data}
        self._append("MODIFIED" if uid in self.objects else "ADDED", manifest)
        self.objects[uid] = manifest
        return copy.deepcopy(manifest)

    def delete(self, uid: str) -> None:
        self.version += 1
        manifest = copy.deepcopy(self.objects.pop(uid))
        manifest["metadata"]["resourceVersion"] = str(self.version)
        self._append("DELETED", manifest)

    def cut(self) -> None:
        """End all watches."""
        self._connection += 1
        self._wake()

    def forget(self) -> None:
        """Compact: who watches from an older version must list again."""
        self.version += 1  # something happens to another kind
        self.forgotten = self.version
        self.cut()

    def _append(self, kind: str, manifest: Manifest) -> None:
        self.log.append((self.version, kind, manifest))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def pages(self, resource: Any, namespace: str | None, **_: Any) -> AsyncGenerator[Page, None]:
        self._check()
        self.lists += 1
        version = str(self.version)
        items = [raw(o) for o in self.objects.values() if namespace in (None, o["metadata"]["namespace"])]
        for start in range(0, max(len(items), 1), 2):
            await asyncio.sleep(self.delay)
            self._check()
            yield Page(items[start : start + 2], version)

    async def watch(
        self, resource: Any, namespace: str | None, *, resource_version: str, **_: Any
    ) -> AsyncGenerator[WatchEvent, None]:
        self._check()
        told, connection = int(resource_version), self._connection
        if told < self.forgotten:
            raise ApiError(410, "Expired", "too old resource version")
        while connection == self._connection:
            news = self._news
            for version, kind, manifest in [entry for entry in self.log if entry[0] > told]:
                await asyncio.sleep(self.delay)
                if connection != self._connection:
                    return
                if namespace in (None, manifest["metadata"]["namespace"]):
                    yield WatchEvent(kind, raw(manifest))
                elif self.bookmarks:
                    yield WatchEvent("BOOKMARK", raw({"kind": "Pod", "metadata": {"resourceVersion": str(version)}}))
                told = version
            if news is self._news:
                await news.wait()

    def _check(self) -> None:
        if self.down:
            raise ApiError(0, "Unreachable", "down")


Kept = tuple[str, int, Any]


def keep(manifest: Manifest) -> Kept:
    metadata = manifest["metadata"]
    return metadata["uid"], int(metadata["resourceVersion"]), manifest.get("size")


class Cache(Informer[Kept]):
    """An informer that writes down what it reports."""

    def __init__(self, server: Server, **options: Any) -> None:
        self.changes: list[tuple[Kept | None, Kept | None]] = []
        settings = {"project": keep, "index": lambda kept: (kept[0][0], ("size", kept[2])), **options}
        super().__init__(server, RESOURCES["Pod"], on_change=self._note, **settings)  # type: ignore[arg-type]

    def _note(self, old: Kept | None, new: Kept | None) -> None:
        self.changes.append((old, new))

    @property
    def known(self) -> dict[str, int]:
        return {uid: version for uid, version, _ in self.store.values()}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        task = asyncio.create_task(self.run())
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@virtual_time
async def test_it_lists_then_follows() -> None:
    server = Server()
    server.write("a")
    server.write("b")
    server.write("c")
    cache = Cache(server)
    async with cache.running():
        assert not cache.synced.is_set()
        await cache.synced.wait()
        assert cache.known == {"a": 101, "b": 102, "c": 103}
        server.write("b", size=2)
        server.delete("c")
        await asyncio.sleep(1)
        assert cache.known == {"a": 101, "b": 104}
        assert cache.changes[3:] == [(("b", 102, None), ("b", 104, 2)), (("c", 103, None), None)]
        assert server.lists == cache.relists == 1


@virtual_time
async def test_what_was_deleted_while_nobody_watched_is_reported_after_the_next_list() -> None:
    server = Server()
    server.write("a")
    server.write("ghost")
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        server.down = True
        server.cut()
        server.delete("ghost")
        server.write("a")
        server.forget()
        await asyncio.sleep(5)
        assert set(cache.known) == {"a", "ghost"}
        server.down = False
        await asyncio.sleep(60)
        assert cache.known == {"a": 104}
        assert (("ghost", 102, None), None) in cache.changes
        assert cache.by_index("g") == []
        assert cache.relists == 2


@virtual_time
async def test_a_broken_watch_goes_on_where_it_was_without_a_list() -> None:
    server = Server()
    server.write("a")
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        server.down = True
        server.cut()
        server.delete("a")
        server.write("b")
        await asyncio.sleep(5)
        server.down = False
        await asyncio.sleep(60)
        assert cache.known == {"b": 103}
        assert cache.relists == 1


@virtual_time
async def test_watches_that_a_proxy_ends_early_are_renewed_at_once() -> None:
    """Load balancers and proxies end what lasts for longer than some seconds: nobody is to be deaf after that."""
    server = Server()
    server.write("a")
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        for size in range(12):
            await asyncio.sleep(20)
            server.cut()
            server.write("a", size=size)
            await asyncio.sleep(1)
            assert cache.store["a"][2] == size
        assert cache.relists == 1


@virtual_time
async def test_the_answer_to_a_write_is_known_at_once_and_older_events_do_not_undo_it() -> None:
    server = Server(delay=1)
    first = server.write("a")
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        server.write("a", size=1)
        cache.put(server.write("a", size=2))
        cache.put(server.write("b", size=3))
        assert cache.known == {"a": 103, "b": 104}
        assert cache.by_index(("size", 3)) == [("b", 104, 3)]
        cache.put(first)
        assert cache.known == {"a": 103, "b": 104}
        await asyncio.sleep(60)
        assert cache.known == {"a": 103, "b": 104}
        assert [new and new[1] for _, new in cache.changes] == [101, 103, 104]


@virtual_time
async def test_a_late_answer_does_not_bring_back_what_is_deleted() -> None:
    server = Server()
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        answer = server.write("a")
        server.delete("a")
        await asyncio.sleep(1)
        cache.put(answer)
        assert cache.known == {}
        await asyncio.sleep(60)
        assert cache.known == {}


@virtual_time
async def test_an_answer_before_the_event_of_its_deletion_is_undone_by_it() -> None:
    server = Server(delay=5)
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        answer = server.write("a")
        server.delete("a")
        cache.put(answer)
        assert cache.known == {"a": 101}
        await asyncio.sleep(60)
        assert cache.known == {}


@virtual_time
async def test_what_is_put_while_a_list_is_under_way_does_not_vanish_with_it() -> None:
    server = Server(delay=5)
    for uid in "abc":
        server.write(uid)
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        server.forget()
        await asyncio.sleep(3)  # the list has begun
        assert server.lists == 2
        cache.put(server.write("new"))
        cache.put(server.write("a", size=1))
        while cache.relists < 2:
            await asyncio.sleep(0.1)
            assert {"new": 105, "a": 106}.items() <= cache.known.items()
        await asyncio.sleep(60)
        assert cache.known == {"a": 106, "b": 102, "c": 103, "new": 105}


@virtual_time
async def test_an_object_that_leaves_the_selection_is_gone_and_may_come_back() -> None:
    server = Server()
    server.write("a")
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        server.delete("a")  # the same event tells that labels do not match any more
        await asyncio.sleep(1)
        assert cache.known == {}
        server.write("a")
        await asyncio.sleep(1)
        assert cache.known == {"a": 103}


@virtual_time
async def test_an_old_event_of_leaving_the_selection_does_not_remove_what_was_put_since() -> None:
    server = Server(delay=5)
    server.write("a")
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        server.delete("a")
        cache.put(server.write("a"))
        for _ in range(100):
            await asyncio.sleep(1)
            assert cache.known == {"a": 103}


@virtual_time
async def test_what_is_removed_is_gone_at_once_and_reported_once() -> None:
    server = Server(delay=1)
    server.write("a")
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        server.delete("a")
        cache.remove("a")
        cache.remove("unknown")
        assert cache.known == {}
        assert cache.by_index("a") == []
        await asyncio.sleep(10)
        assert cache.changes[1:] == [(("a", 101, None), None)]


@virtual_time
async def test_each_namespace_has_a_stream_and_a_list_of_one_does_not_touch_the_others() -> None:
    server = Server()
    server.write("a1", "a")
    server.write("b1", "b")
    server.write("c1", "c")
    cache = Cache(server, namespaces=["a", "b"])
    async with cache.running():
        await cache.synced.wait()
        assert set(cache.known) == {"a1", "b1"}
        assert cache.relists == 2
        server.forget()
        await asyncio.sleep(30)
        assert set(cache.known) == {"a1", "b1"}
        assert cache.relists == 4
        cache.put(server.write("c2", "c"))
        assert set(cache.known) == {"a1", "b1"}


@virtual_time
async def test_it_is_not_synced_before_every_page_of_every_namespace_is_there() -> None:
    server = Server(delay=1)
    for n in range(7):
        server.write(f"a{n}")
    cache = Cache(server, namespaces=["a", "b"])
    async with cache.running():
        await asyncio.sleep(3.5)
        assert len(cache.known) == 6
        assert not cache.synced.is_set()
        await asyncio.sleep(1)
        assert len(cache.known) == 7
        assert cache.synced.is_set()


@virtual_time
async def test_a_list_that_fails_in_the_middle_starts_again_and_nothing_vanishes_by_it() -> None:
    server = Server(delay=1)
    for n in range(6):
        server.write(f"a{n}")
    cache = Cache(server)
    async with cache.running():
        await cache.synced.wait()
        server.forget()
        await asyncio.sleep(1.5)
        server.down = True
        await asyncio.sleep(20)
        assert len(cache.known) == 6
        assert cache.relists == 1
        server.down = False
        await asyncio.sleep(60)
        assert cache.relists == 2
        assert len(cache.changes) == 6


@virtual_time
async def test_a_change_of_what_is_not_kept_is_not_reported() -> None:
    server = Server()
    server.write("a")
    cache = Cache(server, project=lambda manifest: (manifest["metadata"]["uid"], 0, None))
    async with cache.running():
        await cache.synced.wait()
        server.write("a")
        await asyncio.sleep(1)
        assert cache.changes == [(None, ("a", 0, None))]


@virtual_time
async def test_one_object_that_cannot_be_understood_does_not_stop_the_others() -> None:
    server = Server()

    def project(manifest: Manifest) -> Kept:
        if manifest["metadata"]["uid"] == "bad":
            raise KeyError("spec")
        return keep(manifest)

    server.write("bad")
    server.write("a")
    cache = Cache(server, project=project)
    async with cache.running():
        await cache.synced.wait()
        server.write("bad")
        server.write("b")
        await asyncio.sleep(1)
        assert set(cache.known) == {"a", "b"}


class Form(TypedDict, total=False):
    kind: str
    metadata: dict[str, str]
    size: int


@virtual_time
async def test_nothing_is_made_of_what_the_form_has_no_place_for() -> None:
    server = Server()
    seen: list[Manifest] = []

    def project(manifest: Manifest) -> Kept:
        seen.append(manifest)
        return keep(manifest)

    server.write("a", size=1, spec={"much": [1] * 1000})
    cache = Cache(server, project=project, form=Form)
    async with cache.running():
        await cache.synced.wait()
        server.write("b", size=2, spec={})
        cache.put(server.write("c", size=3, spec={}))
        await asyncio.sleep(1)
    assert [set(manifest) for manifest in seen] == [{"kind", "metadata", "size"}] * 3
    assert [kept[2] for kept in cache.store.values()] == [1, 3, 2]


@virtual_time
async def test_an_object_of_another_form_comes_as_it_is() -> None:
    server = Server()
    server.write("a", size="large", spec={})
    whole = {"project": lambda manifest: (manifest["metadata"]["uid"], 0, manifest), "index": lambda _: ()}
    cache = Cache(server, form=Form, **whole)
    async with cache.running():
        await cache.synced.wait()
    assert cache.store["a"][2] == server.objects["a"]


@virtual_time
async def test_who_fails_to_handle_a_change_does_not_stop_the_cache() -> None:
    server = Server()
    cache = Cache(server)

    def fail(old: Any, new: Any) -> None:
        raise ValueError

    cache._on_change = fail
    async with cache.running():
        await cache.synced.wait()
        server.write("a")
        server.write("b")
        server.delete("a")
        await asyncio.sleep(1)
        assert set(cache.known) == {"b"}


@virtual_time
async def test_its_age_is_that_of_the_quietest_stream() -> None:
    server = Server()
    server.bookmarks = False
    server.write("a1", "a")
    cache = Cache(server, namespaces=["a", "b"])
    assert cache.age_seconds() == float("inf")
    async with cache.running():
        await cache.synced.wait()
        await asyncio.sleep(10)
        server.write("a1", "a")
        await asyncio.sleep(1)
        assert cache.age_seconds() == pytest.approx(11)
        server.write("b1", "b")
        await asyncio.sleep(1)
        assert cache.age_seconds() == pytest.approx(2)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "delete", "cut", "forget", "down", "up", "sleep"]),
        st.sampled_from("abcde"),
        st.sampled_from([0.0, 0.5, 3.0, 20.0]),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(steps=STEPS, delay=st.sampled_from([0.0, 0.3, 2.0]), seed=st.integers(0, 2**16))
def test_whatever_happens_it_ends_up_with_what_exists(
    steps: list[tuple[str, str, float]], delay: float, seed: int
) -> None:
    """Writes whose answers come late, deletions, cut and forgotten watches, outages: in any order."""

    @virtual_time
    async def run() -> None:
        random.seed(seed)
        server = Server(delay)
        cache = Cache(server)
        tasks = []
        incarnation = 0

        async def put_later(answer: Manifest, seconds: float) -> None:
            await asyncio.sleep(seconds)
            cache.put(answer)

        async with cache.running():
            for step, name, seconds in steps:
                living = [uid for uid in server.objects if uid.startswith(name)]
                match step:
                    case "write":
                        incarnation += 1
                        uid = living[0] if living else f"{name}{incarnation}"
                        answer = server.write(uid, size=incarnation)
                        tasks.append(asyncio.create_task(put_later(answer, seconds)))
                    case "delete":
                        for uid in living:
                            server.delete(uid)
                    case "cut":
                        server.cut()
                    case "forget":
                        server.forget()
                    case "down":
                        server.down = True
                        server.cut()
                    case "up":
                        server.down = False
                    case "sleep":
                        await asyncio.sleep(seconds)
            server.down = False
            await asyncio.sleep(1000)
            assert cache.known == {uid: keep(o)[1] for uid, o in server.objects.items()}
            # Who only listens to the changes knows the same.
            heard: dict[str, Kept] = {}
            for old, new in cache.changes:
                assert old == heard.get((old or new or ("",))[0])
                if new is None:
                    assert old is not None
                    del heard[old[0]]
                else:
                    heard[new[0]] = new
            assert heard == cache.store
            indexed = {key: {kept[0] for kept in cache.by_index(key)} for key in "abcde"}
            assert indexed == {key: {uid for uid in server.objects if uid[0] == key} for key in "abcde"}
            assert set(cache._by_key) == {key for kept in heard.values() for key in (kept[0][0], ("size", kept[2]))}

    run()


def test_an_answer_in_another_encoding_is_no_answer_of_an_api_server() -> None:
    """A proxy's word in Latin-1 ended the watch, and with it the process."""
    with pytest.raises(ApiError, match="what answers is not a Kubernetes API server"):
        decoded('{"message": "refusé"}'.encode("latin-1"), 502)


@pytest.mark.parametrize(
    ("said", "seconds"), [("2", 2.0), ("nan", None), ("-1", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)]
)
def test_how_long_to_wait_is_believed_where_it_can_be(said: str, seconds: float | None) -> None:
    answer: Any = SimpleNamespace(status=429, reason="Too Many Requests", headers={"Retry-After": said})
    assert refusal(answer, b"slow down").retry_after == seconds
