"""Dask's metrics without ``prometheus_client``: the same as with it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from types import ModuleType, SimpleNamespace

import aiohttp
import pytest
from distributed import Client, Semaphore
from distributed.scheduler import TaskPrefix
from prometheus_client.parser import text_string_to_metric_families
from tests.cluster.processes import free_port
from tests.support.dask_scheduler import MODULE, until

from dask_constructs.monitoring.scraping import pod_monitor

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def metrics() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metrics_of_a_test", MODULE.with_name("dask_gitops_metrics.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(text: str) -> dict[str, tuple]:
    """By name: type, meaning, and the series."""
    return {
        family.name: (family.type, family.documentation, {(s.name, *sorted(s.labels.items())) for s in family.samples})
        for family in text_string_to_metric_families(text)
    }


async def scraped(url: str) -> str:
    async with aiohttp.request("GET", f"{url}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain")
        return await response.text()


async def test_they_are_those_of_prometheus_client(rig, metrics):
    await rig.add("a", "b")
    await asyncio.gather(*rig.client.map(lambda n: n + 1, range(10)))
    await Semaphore(max_leases=2, name='a "quoted"\\ name\n')
    ours, theirs = read(metrics.text(rig.scheduler)), read(await scraped(rig.url))
    dasks = {name: family for name, family in theirs.items() if name.startswith("dask_")}
    assert {"dask_scheduler_tasks", "dask_semaphore_max_leases", "dask_stealing_request_count"} <= dasks.keys()
    assert {name: family for name, family in ours.items() if not name.startswith("dask_worker_")} == dasks


async def test_the_scheduler_tells_of_workers_what_they_tell_it(rig, metrics):
    await rig.add("a", "b", nthreads=3)
    held = rig.client.map(bytes, [2**20] * 4, pure=False)
    await asyncio.gather(*held)
    await until(lambda: all(w.metrics.get("task_counts", {}).get("memory") for w in rig.scheduler.workers.values()))
    samples = {
        (s.name, *s.labels.values()): s.value
        for family in text_string_to_metric_families(metrics.text(rig.scheduler))
        for s in family.samples
    }
    assert samples["dask_worker_threads", "a"] == samples["dask_worker_threads", "b"] == 3
    assert sum(samples["dask_worker_tasks", name, "memory"] for name in "ab") == 4
    assert sum(samples["dask_worker_memory_bytes", name, "managed"] for name in "ab") >= 4 * 2**20
    assert samples["dask_worker_memory_bytes", "a", "unmanaged"] > 0
    assert samples["dask_worker_memory_limit_bytes", "a"] > 0
    assert 0 <= samples["dask_worker_last_seen_seconds", "a"] < 60


async def test_what_a_worker_says_of_itself_hides_nothing(rig, metrics):
    await rig.add("a")
    for counts in ({n: [] for n in range(10)}, 5, ["executing"]):
        rig.state_of("a").metrics |= {"cpu": "much", "task_counts": counts}
        assert "dask_worker_threads" in read(metrics.text(rig.scheduler))


async def test_it_is_bounded(rig, metrics, monkeypatch):
    await rig.add("a", "b", "c")
    monkeypatch.setattr(metrics, "MOST_WORKERS", 2)
    monkeypatch.setattr(metrics, "MOST_SERIES", 3)
    families = read(metrics.text(rig.scheduler))
    assert len(families["dask_worker_threads"][2]) == 2
    assert max(len(series) for _, _, series in families.values()) == 3


@pytest.mark.parametrize(("prefixes", "length"), [(6000, 20), (4000, 900)])
async def test_what_is_shown_is_what_prometheus_takes(rig, metrics, monkeypatch, prefixes, length):
    """It takes all of a page or nothing, and would know nothing of the very clusters that have most to tell."""
    await rig.add("a")
    (worker,) = rig.scheduler.workers.values()
    monkeypatch.setattr(metrics, "_of_workers", partial(of_many, metrics._of_workers, [worker] * 1000))
    for n in range(prefixes):
        prefix = TaskPrefix(f"{n:0{length}}")
        prefix.state_counts.update(dict.fromkeys(("released", "waiting", "processing", "memory"), 1))
        rig.scheduler.task_prefixes[prefix.name] = prefix
    taken, text = pod_monitor("scheduler", {}), metrics.text(rig.scheduler)
    families = read(text)
    assert sum(not line.startswith("#") for line in text.splitlines()) <= taken["sampleLimit"]
    assert len(text.encode()) <= int(taken["bodySizeLimit"].removesuffix("MB")) * 2**20
    assert {"dask_scheduler_tasks", "dask_scheduler_tick_duration_maximum_seconds", "dask_worker_threads"} <= {
        *families
    }


def of_many(of_workers, workers, scheduler):
    return of_workers(SimpleNamespace(workers=dict(enumerate(workers))))


def started(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)


async def test_a_scheduler_whose_image_lacks_the_package_shows_them(tmp_path):
    """As processes: the package is not to be found, for the user's own code neither; a prefix changes nothing."""
    blocked = "import sys\nsys.modules['prometheus_client'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(blocked)
    comm, http = free_port(), free_port()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": f'["{MODULE}"]',
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD_ARGV": "[]",
    }
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(comm)]
    command += ["--dashboard-address", f"127.0.0.1:{http}", "--dashboard-prefix", "/some/where"]
    process = started(command, environment)
    try:

        async def shown():
            with suppress(aiohttp.ClientError):
                return "dask_scheduler_tasks" in (text := await scraped(f"http://127.0.0.1:{http}/some/where")) and text

        families = read(await until(shown, 40))
        async with Client(f"tcp://127.0.0.1:{comm}", asynchronous=True) as client:

            def lacks(dask_scheduler):
                try:
                    import prometheus_client  # noqa: F401
                except ImportError:
                    return True

            assert await client.run_on_scheduler(lacks)
        assert ("dask_scheduler_workers", ("state", "idle")) in families["dask_scheduler_workers"][2]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def test_how_long_a_scheduler_was_deaf_is_shown(rig, metrics):
    """distributed (2026.8.0) itself writes and reads that under two names, and shows 0."""

    def longest() -> float:
        lines = metrics.text(rig.scheduler).splitlines()
        (value,) = (
            line.split()[1] for line in lines if line.startswith("dask_scheduler_tick_duration_maximum_seconds")
        )
        return float(value)

    longest()
    time.sleep(0.6)  # noqa: ASYNC251 - that is how it gets deaf
    await asyncio.sleep(0.1)
    assert longest() > 0.5
    await asyncio.sleep(0.1)
    assert longest() < 0.5, "since it was asked last"
