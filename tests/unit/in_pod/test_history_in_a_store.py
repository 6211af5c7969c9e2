"""The record of what a scheduler did, in an object store: a server of S3, by the library that users' images have."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from tests.support.dask_scheduler import MODULE, running, until
from tests.unit.in_pod.test_history import FAILED, end_of, history, nothing, place, worked, written

from dask_resources.history import VARIABLE

pytestmark = pytest.mark.timeout(60)

KEPT = "runs/dask/team/train"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    served = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    yield f"http://{host}:{port}"
    served.stop()


@pytest.fixture
def store(server, monkeypatch) -> S3FileSystem:
    """A bucket for schedulers that are started from now on, whose environment says who may write there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv(VARIABLE, place("s3://runs", path="dask"))
    found = S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    found.mkdir("runs")
    yield found
    found.rm("runs", recursive=True)


def records(store: S3FileSystem) -> list[str]:
    return sorted(name.rpartition("/")[2] for name in store.ls(KEPT) if store.isdir(name)) if store.exists(KEPT) else []


def summary(store: S3FileSystem, record: str) -> dict:
    return json.loads(store.cat_file(f"{KEPT}/{record}/summary.json"))


async def test_a_record_is_in_the_bucket_with_pages_that_a_browser_shows(store):
    async with running(MODULE) as rig:
        await worked(rig)
        path = (await rig.ask(recorded=True)).record.path
        await until(lambda: history(rig)._path)
        (record,) = records(store)
        assert path == f"dask/team/train/{record}"
        assert summary(store, record)["outcome"] == "AtWork"
        await rig.ask(failed=json.dumps([end_of("w-0")]))
        await rig.ask(end=json.dumps(FAILED))
    told = summary(store, record)
    assert (told["outcome"], told["failures"]) == ("Failed", [end_of("w-0")])
    for page, leads_to in (
        ("runs/dask/index.html", "team/train/index.html"),
        (f"{KEPT}/index.html", f"{record}/index.html"),
        (f"{KEPT}/{record}/index.html", "timeline.json"),
    ):
        assert leads_to in store.cat_file(page).decode()
        assert store.info(page)["ContentType"] == "text/html"


async def test_the_newest_are_kept_and_others_objects_are_left_alone(store):
    names = [f"2026010{n}T000000Z-0000000{n}" for n in range(1, 6)]
    for name in names:
        ended = {"schema": 1, "ended": "x", "run": "another"}
        store.pipe_file(f"{KEPT}/{name}/summary.json", json.dumps(ended).encode())
    store.pipe_file(f"{KEPT}/{names[0]}/notes.txt", b"mine")
    async with running(MODULE) as rig:
        await worked(rig)
    (new,) = set(records(store)) - set(names)
    assert records(store) == [names[0], names[3], names[4], new]
    assert store.ls(f"{KEPT}/{names[0]}") == [f"{KEPT}/{names[0]}/notes.txt"]


async def test_a_scheduler_that_was_killed_is_noted_by_the_next(store):
    async with running(MODULE) as rig:
        await worked(rig)
        await written(rig)
        history(rig).close = nothing
    (record,) = records(store)
    assert summary(store, record)["outcome"] == "AtWork"
    async with running(MODULE):
        await until(lambda: summary(store, record)["outcome"] == "Lost")


async def test_the_end_is_told_to_a_later_scheduler_of_the_same_run(store):
    async with running(MODULE) as rig:
        await worked(rig)
        await written(rig)  # the library takes seconds to load
    async with running(MODULE) as rig:
        await until(lambda: not history(rig)._is_writing)
        await rig.ask(end=json.dumps(FAILED))
        await until(lambda: summary(store, records(store)[0])["outcome"] == "Failed")
    (record,) = records(store)
    assert summary(store, record)["tasks"]["done"] == 2


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://nowhere", "FileNotFoundError: The specified bucket does not exist"),
        ("gs://runs", "ImportError: "),  # which this image lacks: gcsfs
        ("nothing://runs", "ValueError: Protocol not known: nothing"),
    ],
)
async def test_a_store_that_is_not_there_is_told_and_keeps_nobody_waiting(store, monkeypatch, url, why):
    monkeypatch.setenv(VARIABLE, place(url))
    async with running(MODULE) as rig:
        await worked(rig)
        await written(rig)
        assert history(rig)._problem.startswith(why)
        assert (await rig.ask(recorded=True)).record.problem


@pytest.mark.timeout(120)
async def test_a_store_that_does_not_answer_keeps_nobody_waiting(store, monkeypatch):
    answers = threading.Event()
    async with running(MODULE) as rig:
        await worked(rig)
        for name in ("LAST_SECONDS", "ANSWER_SECONDS"):
            monkeypatch.setattr(sys.modules["dask_gitops_history"], name, 0.2)
        await until(lambda: not history(rig)._is_writing)
        history(rig)._store.write = lambda *_: answers.wait(300)
        history(rig)._write()
        await asyncio.sleep(0.3)
        history(rig)._write()
        assert history(rig).place()["problem"] == "the object store does not answer"
        assert await rig.client.submit(abs, -7) == 7
    answers.set()  # nobody has waited for it
