"""What is left of a cluster that was made from a template and could not be connected to."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import LocalCluster

from dask_gitops import connect, connection
from dask_gitops.access import Access
from dask_gitops.cluster import Cluster
from dask_gitops.errors import MissingRight, NoSuchCluster, NotReady
from dask_gitops.waking import Waking


class Server:
    """An API server that has a template, and keeps what is made."""

    namespace = "lab"
    server = "https://elsewhere"
    templates = ("small",)

    def __init__(self) -> None:
        self.there: dict[str, str] = {}
        self.refuses_to_delete = False

    async def get(self, kind: str, name: str) -> dict[str, Any]:
        if name in self.there:
            return {"metadata": {"name": name, "uid": self.there[name]}, "spec": {}}
        if name not in self.templates:
            raise NoSuchCluster(kind, name, self.namespace)
        return {"metadata": {"name": name}, "spec": {"worker": {}, "suspend": True}}

    async def user(self) -> str:
        return "ada"

    async def create(self, kind: str, manifest: dict[str, Any]) -> dict[str, Any]:
        name = manifest["metadata"]["name"]
        self.there[name] = f"uid-of-{name}"
        return {**manifest, "metadata": {**manifest["metadata"], "uid": self.there[name]}}

    async def patch(self, kind: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError(f"{name} is somebody else's")

    async def delete(self, kind: str, name: str, *, uid: str) -> None:
        await asyncio.sleep(0.2)  # longer than what else there is to tidy up
        if self.refuses_to_delete:
            raise MissingRight("delete", kind, self.namespace)
        assert self.there.pop(name) == uid


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()

    async def opened(*_: Any, **__: Any) -> Server:
        return made

    monkeypatch.setattr(Access, "open", opened)
    return made


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: Any) -> None:
        raise NotReady("no node has room", "Unschedulable")

    monkeypatch.setattr(Waking, "up", never)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    async def waits(_: Any) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await asyncio.sleep(60)

    monkeypatch.setattr(Waking, "up", waits)
    # What a shell starts in the background ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("stuck")
def test_one_that_does_not_come_up_is_not_left_behind(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Each attempt left one, for as long as its Pod or its timeouts let it."""
    with pytest.raises(NotReady):
        connect(template="small")
    assert server.there == {}
    assert "keep=True leaves it" in capsys.readouterr().out


@pytest.mark.usefixtures("stuck")
async def test_nor_asynchronously(server: Server) -> None:
    with pytest.raises(NotReady):
        await connect(template="small", asynchronous=True)
    assert server.there == {}


@pytest.mark.usefixtures("interrupted")
def test_nor_after_ctrl_c(server: Server) -> None:
    with pytest.raises(KeyboardInterrupt):
        connect(template="small")
    assert server.there == {}


@pytest.mark.usefixtures("stuck")
@pytest.mark.parametrize("options", [{"keep": True}, {"on_close": "suspend"}, {"on_close": "detach"}])
def test_one_that_is_to_stay_stays(server: Server, options: dict[str, Any]) -> None:
    with pytest.raises(NotReady):
        Cluster(template="small", **options)
    assert len(server.there) == 1


@pytest.mark.usefixtures("stuck")
def test_one_of_git_is_never_deleted_for_that(server: Server) -> None:
    server.there = {"analytics": "uid"}
    with pytest.raises(NotReady):
        connect("analytics", on_close="delete")
    assert server.there == {"analytics": "uid"}


@pytest.mark.usefixtures("stuck")
def test_what_went_wrong_is_raised_and_not_what_went_wrong_after_it(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.refuses_to_delete = True
    with pytest.raises(NotReady, match="no node has room"):
        connect(template="small")
    assert "is left behind" in capsys.readouterr().out


@pytest.fixture
def up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A scheduler of this process is that of each cluster."""

    async def awake(waking: Waking) -> dict[str, Any]:
        return {"metadata": {"name": waking._name, "namespace": "lab", "uid": "mine"}, "spec": {}}

    with LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="tcp") as local:
        made = connection.Connection(local.scheduler_address, None, "direct", ("localhost", 1), "")

        async def reached(*_: Any) -> connection.Connection:
            return made

        monkeypatch.setattr(Waking, "up", awake)
        monkeypatch.setattr(connection, "open", reached)
        yield


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize("there", [{}, {"analytics": "of another"}])
@pytest.mark.parametrize("on_close", ["suspend", "delete"])
def test_one_that_is_gone_by_itself_is_left_without_a_word_of_error(
    server: Server, there: dict[str, str], on_close: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its timeouts had ended it: the end of ``with`` raised NoSuchCluster, or suspended what had its name by then."""
    server.there = dict(there)
    with connect("analytics", on_close=on_close):
        pass
    assert server.there == there
    assert "left analytics in lab, which is gone by now" in capsys.readouterr().out
