"""The record of what a scheduler did, in a folder that stands for the volume."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import sys
import threading
import time
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest
from tests.support.browser import FromFolder, browser, screenshot
from tests.support.dask_scheduler import MODULE, running, until

from dask_resources.history import VARIABLE

pytestmark = pytest.mark.timeout(60)

FAILED = {
    "conditions": [
        {"type": "Complete", "status": "False", "reason": "Failed"},
        {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "after <b>30</b> s"},
    ],
    "timeSpent": {"since": "x", "until": "y", "queued": 3, "computing": 7},
}


def place(folder: Path | str, **told) -> str:
    default = {"root": str(folder), "path": "dask", "keep": 3, "namespace": "team", "name": "train", "run": "uid-1"}
    return json.dumps(default | told)


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """The folder of the records of schedulers that are started from now on."""
    monkeypatch.setenv(VARIABLE, place(tmp_path))
    return tmp_path / "dask/team/train"


def history(rig):
    return rig.scheduler.__dict__["_dask_gitops"].history


async def written(rig) -> None:
    """What is to be written is, and all before it."""
    await until(lambda: not history(rig)._is_writing)
    history(rig)._write()
    await until(lambda: not history(rig)._is_writing)


def records(kept: Path) -> list[Path]:
    return sorted(path for path in kept.iterdir() if path.is_dir())


def summary(record: Path) -> dict:
    return json.loads((record / "summary.json").read_text())


def divided(n: int) -> float:
    return 1 / n


async def worked(rig) -> None:
    await rig.add("a")
    await rig.client.submit(sum, [1, 2])
    error = rig.client.submit(divided, 0)
    with pytest.raises(ZeroDivisionError):
        await error
    history(rig)._noted = -1.0  # it is due
    history(rig)._note()


class Page(HTMLParser):
    """Notes tags, and where links lead."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags, self.links = [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]


async def test_a_record_tells_of_tasks_errors_versions_and_workers(kept):
    async with running(MODULE) as rig:
        await worked(rig)
        assert not kept.exists()
        path = (await rig.ask(recorded=True)).record.path
        await until(lambda: history(rig)._path)
        (record,) = records(kept)
        assert path == (await rig.ask(recorded=True)).record.path == f"dask/team/train/{record.name}"
        at_work = summary(record)
        assert (at_work["outcome"], at_work["ended"]) == ("AtWork", None)
        (sums,) = [one for one in at_work["tasks"]["byPrefix"] if one["name"] == "sum"]
        assert (sums["done"], sums["erred"]) == (1, 0)
        (error,) = at_work["errors"]
        assert "ZeroDivisionError" in error["raised"]
        assert "1 / n" in error["traceback"]
        assert at_work["changes"][0][1] == "add-worker"
        assert at_work["versions"]["scheduler"][0]["distributed"]
        assert at_work["log"]
        timeline = json.loads((record / "timeline.json").read_text())
        assert len(timeline["points"][0]) == len(timeline["columns"])
    assert summary(record)["outcome"] == "Stopped"
    assert summary(record)["ended"]


async def test_a_record_is_written_every_ten_seconds_by_itself(kept, monkeypatch):
    async with running(MODULE) as rig:
        callback = rig.scheduler.periodic_callbacks["dask-gitops-record"]
        assert callback.callback_time == 10_000
        callback.stop()
        callback.callback_time = 100
        callback.start()
        await worked(rig)
        await until(lambda: kept.is_dir() and records(kept))


async def test_a_scheduler_that_has_done_nothing_leaves_no_record(kept):
    async with running(MODULE) as rig:
        await rig.add("a")
    assert not kept.exists()


async def test_without_a_history_there_is_none(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    async with running(MODULE) as rig:
        await worked_without(rig)
        assert (await rig.ask(recorded=True)).record.path == ""
        assert (await rig.ask(end=json.dumps(FAILED))).ending.path == ""


async def worked_without(rig) -> None:
    await rig.add("a")
    assert await rig.client.submit(sum, [1, 2]) == 3


@pytest.mark.parametrize("told", ["{", "[]", '{"root": "/x"}'])
async def test_a_variable_that_makes_no_sense_hurts_nobody(monkeypatch, told):
    monkeypatch.setenv(VARIABLE, told)
    async with running(MODULE) as rig:
        await worked_without(rig)


async def test_the_end_of_the_run_gets_into_the_record(kept):
    async with running(MODULE) as rig:
        await worked(rig)
        await rig.ask(end=json.dumps(FAILED))
        await until(lambda: kept.is_dir() and records(kept) and (kept / "index.html").exists())
    (record,) = records(kept)
    told = summary(record)
    assert (told["outcome"], told["reason"], told["status"]) == ("Failed", "DeadlineExceeded", FAILED)
    page = (record / "index.html").read_text()
    assert "after &lt;b&gt;30&lt;/b&gt; s" in page
    assert "waiting" not in page.split("Where the time went")[1].split("</table>")[0]
    assert "<td class='n'>7</td><td class='n'>70 %</td>" in page


async def test_the_logs_of_what_failed_and_events_get_into_the_record(kept):
    end = {"pod": "w-0", "container": "worker", "exitCode": 3, "reason": "Error", "restarts": 2, "log": "<i>bye</i>"}
    event = {"time": "t", "type": "Warning", "reason": "SchedulerLost", "about": "DaskJob train", "message": "<b>"}
    async with running(MODULE) as rig:
        await worked(rig)
        await rig.ask(end=json.dumps({**FAILED, "failures": [end], "events": [event]}))
    (record,) = records(kept)
    told = summary(record)
    assert (told["failures"], told["events"], told["status"]) == ([end], [event], FAILED)
    page = (record / "index.html").read_text()
    assert "w-0/worker</b>: exit code 3 (Error), 2 restarts" in page
    assert "<pre>&lt;i&gt;bye&lt;/i&gt;</pre>" in page
    assert "SchedulerLost" in page
    assert "<b>" not in page.split("SchedulerLost")[1].split("</table>")[0]


def end_of(pod: str, minute: int = 0, **more) -> dict:
    found = {"pod": pod, "container": "worker", "exitCode": 137, "reason": "OOMKilled"}
    return {**found, "finished": f"2026-01-01T00:{minute:02}:00Z", "restarts": 0, "log": f"{pod} <says> bye", **more}


async def test_workers_that_failed_and_were_replaced_are_in_the_record(kept):
    async with running(MODULE) as rig:
        await worked(rig)
        for _ in range(2):  # it is told again until the Pod has gone
            assert (await rig.ask(failed=json.dumps([end_of("w-0")]))).noted.path
        await until(lambda: history(rig)._path)
        history(rig)._write()
        await until(lambda: summary(records(kept)[0])["failures"] == [end_of("w-0")])
        still_there = end_of("w-1", 1)
        await rig.ask(end=json.dumps({**FAILED, "failures": [end_of("w-0"), still_there]}))
    (record,) = records(kept)
    assert summary(record)["failures"] == [end_of("w-0"), still_there]
    assert "w-0 &lt;says&gt; bye" in (record / "index.html").read_text()


async def test_the_end_that_a_later_scheduler_is_told_keeps_what_is_known_of_workers(kept):
    async with running(MODULE) as rig:
        await worked(rig)
        await rig.ask(failed=json.dumps([end_of("w-0")]))
    async with running(MODULE) as rig:
        await rig.ask(end=json.dumps({**FAILED, "failures": [end_of("w-1", 1)]}))
        await until(lambda: summary(records(kept)[0])["outcome"] == "Failed")
    assert summary(records(kept)[0])["failures"] == [end_of("w-0"), end_of("w-1", 1)]


async def test_the_ends_of_workers_are_bounded_and_the_oldest_are_left_out(kept):
    async with running(MODULE) as rig:
        await worked(rig)
        for minute in range(50):
            await rig.ask(failed=json.dumps([end_of(f"w-{minute}", minute, log="x" * 9000, more="y" * 9000)]))
    kept_ends = summary(records(kept)[0])["failures"]
    assert [end["pod"] for end in kept_ends] == [f"w-{n}" for n in range(30, 50)]
    assert {len(end["log"]) for end in kept_ends} == {2048}
    assert "more" not in kept_ends[0]


@pytest.mark.parametrize("told", ["{", "{}", "5", "x" * 70_000, 5])
async def test_ends_of_workers_that_make_no_sense_are_refused(kept, told):
    async with running(MODULE) as rig:
        status, answer = await rig.post("ask", {"questions": [{"failed": told}]})
        assert status == 200
        assert "error" in answer["answers"][0]


async def test_a_run_that_has_ended_has_a_performance_report_where_there_is_bokeh(kept):
    pytest.importorskip("bokeh")
    async with running(MODULE) as rig:
        await worked(rig)
        await rig.ask(end=json.dumps(FAILED))
    (record,) = records(kept)
    report = (record / "report.html").read_text()
    assert "Dask Performance Report" in report
    assert not re.search("<script[^>]+src=", report), "it opens without a network"
    assert "report.html" in Page(record / "index.html").links


@pytest.mark.parametrize(
    "told", ["{", "[]", "{}", '{"conditions": [{"type": "Failed", "status": "False"}]}', "x" * 70_000, 5]
)
async def test_an_end_that_makes_no_sense_is_refused(kept, told):
    async with running(MODULE) as rig:
        status, answer = await rig.post("ask", {"questions": [{"end": told}]})
        assert status == 200
        assert "error" in answer["answers"][0]


async def test_the_end_is_told_to_a_later_scheduler_of_the_same_run(kept):
    """The program has shut down its cluster, say, and Kubernetes has started the scheduler again."""
    async with running(MODULE) as rig:
        await worked(rig)
    async with running(MODULE) as rig:
        await rig.ask(end=json.dumps(FAILED))
        await until(lambda: summary(records(kept)[0])["outcome"] == "Failed")
        assert (await until(lambda: recorded(rig))).endswith(records(kept)[0].name)
    (record,) = records(kept)
    assert summary(record)["tasks"]["done"] == 2


async def recorded(rig) -> str:
    return (await rig.ask(recorded=True)).record.path


async def test_a_run_that_never_began_has_a_record_of_its_end(kept):
    async with running(MODULE) as rig:
        await rig.ask(end=json.dumps(FAILED))
        await until(lambda: kept.is_dir() and records(kept))
    (record,) = records(kept)
    assert summary(record)["reason"] == "DeadlineExceeded"


async def test_a_scheduler_that_was_killed_is_noted_by_the_next(kept):
    async with running(MODULE) as rig:
        await worked(rig)
        history(rig)._write()
        await until(lambda: history(rig)._path)
        history(rig).close = nothing
    (record,) = records(kept)
    assert summary(record)["outcome"] == "AtWork"
    async with running(MODULE) as rig:
        await until(lambda: summary(record)["outcome"] == "Lost")
    assert summary(record)["ended"] == summary(record)["written"]


async def nothing() -> None:
    pass


async def test_what_another_pod_has_not_written_for_a_minute_was_killed(kept, monkeypatch):
    names = [f"2026010{n}T000000Z-0000000{n}" for n in (1, 2)]
    now = time.time()
    for name, seconds in zip(names, (30, 90), strict=True):
        (kept / name).mkdir(parents=True)
        written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - seconds))
        told = {"schema": 1, "pod": "another", "outcome": "AtWork", "written": written, "ended": None}
        (kept / name / "summary.json").write_text(json.dumps(told))
    async with running(MODULE) as rig:
        await until(lambda: summary(kept / names[1])["outcome"] == "Lost")
        await until(lambda: not history(rig)._is_writing)
        assert summary(kept / names[0])["outcome"] == "AtWork"
        assert summary(kept / names[1])["ended"] == summary(kept / names[1])["written"]
        monkeypatch.setattr(time, "time", lambda: now + 60)
        history(rig)._look_back()
        await until(lambda: summary(kept / names[0])["outcome"] == "Lost")


async def test_the_newest_are_kept_and_what_is_somebody_elses_is_left_alone(kept, tmp_path):
    names = [f"2026010{n}T000000Z-0000000{n}" for n in range(1, 6)]
    for name in names:
        (kept / name).mkdir(parents=True)
        (kept / name / "summary.json").write_text(json.dumps({"schema": 1, "ended": "x", "run": "another"}))
    (kept / names[0] / "notes.txt").write_text("mine")
    (kept / "mine").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "summary.json").write_text("{}")
    (kept / "20200101T000000Z-00000000").symlink_to(elsewhere)
    async with running(MODULE) as rig:
        await worked(rig)
    left = {path.name for path in records(kept)}
    (new,) = left - {"mine", *names, "20200101T000000Z-00000000"}
    assert left == {"mine", names[0], "20200101T000000Z-00000000", names[3], names[4], new}
    assert [path.name for path in (kept / names[0]).iterdir()] == ["notes.txt"]
    assert (elsewhere / "summary.json").exists()
    assert Page(kept / "index.html").links == [
        "../../index.html",
        *(f"{name}/index.html" for name in (new, names[4], names[3])),
    ]


def linked(path: Path, link: str) -> Path:
    return Path(os.path.normpath(path.parent / link))


async def test_pages_lead_to_one_another_and_run_nothing(kept, tmp_path):
    async with running(MODULE) as rig:
        await worked(rig)
        history(rig)._points = [[n, 1, n, 0, n, 2**20] for n in range(50)]
        await rig.ask(end=json.dumps(FAILED))
    reached, coming = set(), [tmp_path / "dask/index.html"]
    while coming:
        path = coming.pop()
        assert path.is_file(), path
        reached.add(path)
        if path.suffix == ".html" and path.name != "report.html":
            page = Page(path)
            assert not {"script", "link", "iframe", "img"} & set(page.tags)
            coming += [to for link in page.links if (to := linked(path, link)) not in reached]
    (record,) = records(kept)
    assert {path.name for path in reached if path.parent == record} >= {"index.html", "summary.json", "timeline.json"}
    assert "polyline" in Page(record / "index.html").tags


async def pictured() -> None:
    """Half a minute of a scheduler whose workers come and go; tasks that fail would show folders of this machine."""
    async with running(MODULE) as rig:
        for number, name in enumerate(("first", "second", "third")):
            await rig.add(name)
            await rig.client.gather(rig.client.map(time.sleep, [0.4] * 12 * (number + 1), pure=False))
        await rig.workers["second"].close()
        await rig.client.gather(rig.client.map(time.sleep, [0.4] * 24, pure=False))


@pytest.mark.timeout(300)
def test_a_browser_shows_the_pages_from_a_folder_and_asks_nobody(kept, tmp_path, monkeypatch):
    async def work() -> None:
        async with running(MODULE) as rig:
            await worked(rig)
            await rig.ask(end=json.dumps(FAILED))

    asyncio.run(work())
    if os.environ.get("UPDATE_SCREENSHOTS"):
        monkeypatch.setenv(VARIABLE, place(tmp_path, name="analytics"))
        asyncio.run(pictured())
    with browser() as chromium:
        shown = FromFolder(chromium, tmp_path / "dask")
        page = shown.open("index.html")
        page.get_by_role("link", name="team/train").click()
        page.get_by_role("row", name="DeadlineExceeded").get_by_role("link").click()
        assert page.get_by_text("ZeroDivisionError").first.is_visible()
        bar, part = (page.locator(f".bar{each}").bounding_box() for each in ("", " span[title*=computing]"))
        assert bar
        assert part
        assert part["width"] / bar["width"] == pytest.approx(0.7, abs=0.02), "styles are allowed"
        if (report := page.get_by_role("link", name="performance report")).count():
            report.click()
            page.locator("canvas").first.wait_for(state="attached", timeout=30_000)
        if os.environ.get("UPDATE_SCREENSHOTS"):
            page = shown.open("team/analytics/index.html")
            screenshot(page, "history-index", full_page=True)
            page.locator("td a").first.click()
            screenshot(page, "history-record", full_page=True)
        assert (shown.asked, shown.complaints) == ([], [])


async def test_a_volume_that_cannot_be_written_to_is_told_and_keeps_nobody_waiting(kept):
    kept.parent.parent.parent.joinpath("dask").write_text("a file where the folder should be")
    async with running(MODULE) as rig:
        await worked(rig)
        history(rig)._write()
        problem = await until(lambda: history(rig)._problem)
        assert re.match("(NotADirectory|FileExists)Error", problem)
        assert (await rig.ask(recorded=True)).record.problem


@pytest.mark.timeout(120)
async def test_a_volume_that_hangs_keeps_nobody_waiting(kept, monkeypatch):
    answers = threading.Event()
    async with running(MODULE) as rig:
        await worked(rig)
        monkeypatch.setattr(sys.modules["dask_gitops_history"], "LAST_SECONDS", 0.4)
        monkeypatch.setattr(sys.modules["dask_gitops_history"], "ANSWER_SECONDS", 0.2)
        await until(lambda: not history(rig)._is_writing)
        history(rig)._store.write = lambda *_: answers.wait(300)
        history(rig)._write()
        history(rig)._write()
        assert history(rig).place()["problem"] == "", "it may take a moment"
        await asyncio.sleep(0.3)
        history(rig)._write()
        assert history(rig).place()["problem"] == "the volume does not answer"
        assert await rig.client.submit(abs, -7) == 7
    answers.set()  # nobody has waited for it


class Full:
    """A volume with room for so many files."""

    def __init__(self, volume, files: int) -> None:
        self._volume, self._files = volume, files

    def __getattr__(self, name):
        return getattr(self._volume, name)

    def write(self, path: str, text: str) -> None:
        if sum(1 for one in self._volume._top.rglob("*") if one.is_file()) >= self._files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._volume.write(path, text)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A store of at most two records, in a volume for as many files as asked for."""
    monkeypatch.syspath_prepend(str(MODULE.parent))
    places, module = import_module("dask_gitops_places"), import_module("dask_gitops_record")
    return lambda files=99: module.Store(Full(places.Volume(tmp_path), files), "team", "train", 2)


def record(store, name: str) -> str:
    return store.write(name, {"schema": 1, "outcome": "Stopped", "ended": "x"}, {"columns": [], "points": []}, None)


def test_a_full_volume_has_room_for_the_next_record_when_the_oldest_has_gone(tmp_path, stored):
    names = [f"2026010{n}T000000Z-0000000{n}" for n in (1, 2, 3)]
    for name in names:
        record(stored(files=2 * 3 + 2 + 1), name)
    assert [path.name for path in records(tmp_path / "team/train")] == names[1:]


def test_what_was_half_written_goes_with_its_record(tmp_path, stored):
    names = [f"2026010{n}T000000Z-0000000{n}" for n in (1, 2, 3)]
    record(stored(), names[0])
    (tmp_path / "team/train" / names[0] / ".report.html.new").write_text("of a scheduler that was killed")
    for name in names[1:]:
        record(stored(), name)
    assert [path.name for path in records(tmp_path / "team/train")] == names[1:]


def test_a_record_of_a_clock_that_is_behind_is_not_the_one_to_go(tmp_path, stored):
    names = [f"2026010{n}T000000Z-0000000{n}" for n in (1, 2, 3)]
    for name in (*names[1:], names[0]):
        record(stored(), name)
    assert [path.name for path in records(tmp_path / "team/train")] == [names[0], names[2]]


def test_an_index_of_somebody_else_is_left_alone_and_ours_is_kept_up(tmp_path, stored):
    """A record may be in the root of a volume or bucket, which may hold a site."""
    (tmp_path / "index.html").write_text("<h1>Ours for years</h1>")
    record(stored(), "20260101T000000Z-00000001")
    assert (tmp_path / "index.html").read_text() == "<h1>Ours for years</h1>"
    assert Page(tmp_path / "team/train/index.html").links
    (tmp_path / "index.html").unlink()
    record(stored(), "20260102T000000Z-00000002")
    (tmp_path / "team/other/20260101T000000Z-00000001").mkdir(parents=True)
    record(stored(), "20260103T000000Z-00000003")
    assert Page(tmp_path / "index.html").links == ["team/other/index.html", "team/train/index.html"]


def test_what_is_no_unicode_hides_nothing(tmp_path, stored):
    """The name of a file in the scheduler's log, say."""
    name = "20260101T000000Z-00000001"
    told = {"schema": 1, "outcome": "Stopped", "ended": "x", "log": ["cannot read \udcff.csv"]}
    stored().write(name, told, {"columns": [], "points": []}, None)
    assert "cannot read ?.csv" in (tmp_path / "team/train" / name / "index.html").read_text()


async def test_a_timeline_has_an_end(kept):
    async with running(MODULE) as rig:
        recorder = history(rig)
        for n in range(5000):
            recorder._began, recorder._noted = time.time() - n * recorder._interval, -1e9
            recorder._note()
        assert len(recorder._points) <= 1001
        assert recorder._interval > 1


def test_no_environment_and_no_command_line_is_read():
    """Secrets are there."""
    for name in ("history", "record", "pages", "places"):
        text = (MODULE.parent / f"dask_gitops_{name}.py").read_text()
        assert re.findall(r"os\.environ\S*", text) == (["os.environ.get(VARIABLE)"] if name == "history" else [])
        assert "argv" not in text
