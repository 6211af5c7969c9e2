"""How schedulers come to load the module, and what the operator's client makes of an older one."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from contextlib import suppress

import aiohttp
import pytest
from distributed import Client
from tests.cluster.processes import free_port
from tests.support.dask_scheduler import MODULE, ROUTES, Extension, Pod, ask, having, pods, running, until
from tests.support.questions import ask_of, parts
from tests.support.states import cluster

from dask_controller.core.questions import Target
from dask_controller.schedulers.answers import Request, SchedulerError
from dask_resources.scheduler import extension_config_map

pytestmark = pytest.mark.timeout(60)


async def test_an_older_module_is_asked_by_its_own_routes(old_rig):
    rig = old_rig
    assert (await rig.get("state"))["version"] == "3"
    await rig.add("a", "pod-0", "pod-1")
    host = rig.state_of("a").host
    await rig.ask(retire=pods("pod"))
    await rig.retire("pod")
    known = pods("a", "pod", "ghost")
    question = Request(
        [
            ask_of(registered=(*known, Pod("of-another-name", (host,))), idle=True),
            ask_of(progress=True, versions=True, rank=pods("a", "pod")),
            ask_of(resume=pods("pod"), target=Target(group=having("a"), before=(having("pod"),))),
            ask_of(retire=pods("a", "ghost")),
        ]
    )
    reply = await rig.extension.put(question)
    state, seen, group, retiring = map(parts, reply.answers)
    assert state.registered == {"a", "pod", "of-another-name"}
    assert state.idle_seconds >= 0
    assert (seen.progress.workers, seen.versions.workers, seen.ranked) == (3, seen.versions.scheduler, ("a", "pod"))
    assert group.target == 0
    assert retiring.retirement.keys() == {"a", "ghost"}
    assert retiring.retirement["ghost"] == "unknown"
    await until(lambda: rig.status("pod-0") == rig.status("pod-1") == "running")


async def test_an_older_module_that_says_the_same_again_is_known_to(old_rig):
    await old_rig.add("a")
    question = Request([ask_of(progress=True), ask_of(registered=pods("a"))])
    reply = await old_rig.extension.put(question)
    assert await old_rig.extension.put(question, reply) is reply


async def test_an_older_module_that_cannot_answer_one_ask_answers_the_others(old_rig, monkeypatch):
    await old_rig.add("a")
    monkeypatch.setattr(old_rig.scheduler, "task_prefixes", None)
    failed, ranked = (await old_rig.extension.put(Request([ask_of(progress=True), ask_of(rank=pods("a"))]))).answers
    assert "501 to progress" in failed.silent
    assert parts(ranked).ranked == ("a",)


# --- loading ----------------------------------------------------------------------------------------------------------


def test_importing_what_is_mounted_needs_no_distributed(tmp_path):
    for name, text in extension_config_map(cluster())["data"].items():
        (tmp_path / name).write_text(text)
    code = f"""
import sys
sys.modules["distributed"] = sys.modules["dask"] = None
sys.path.insert(0, {str(tmp_path)!r})
import {MODULE.stem}
assert {MODULE.stem}.routes
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


async def test_schedulers_of_one_process_do_not_mix():
    """distributed loads the preloaded file anew for each, and those beside it once."""
    async with running(MODULE) as one, running(MODULE) as other:
        await one.add("a")
        for rig, known in ((one, {"a"}), (other, set())):
            assert (await rig.ask(registered=pods("a"))).registered == known
            assert (await rig.post("retire", {"workers": [1]}))[0] == 400


async def test_modules_of_the_users_by_our_names_do_not_matter(tmp_path, monkeypatch):
    """Not even those that another preload has imported already."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in (path.stem for path in MODULE.parent.glob("*.py")):
        (tmp_path / f"{name}.py").write_text("")
        monkeypatch.delitem(sys.modules, name, raising=False)
        assert importlib.import_module(name).__file__ == str(tmp_path / f"{name}.py")
    async with running(MODULE) as rig:
        assert (await rig.ask(registered=pods("a"))).registered == set()


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )


async def test_a_real_scheduler_and_worker_pod(tmp_path):
    """Processes as in Pods, with a nanny; the user's configuration files ask for a preload of their own."""
    (tmp_path / "theirs.py").write_text(
        f"""
def dask_setup(scheduler):
    open({str(tmp_path / "theirs")!r}, "w").write(scheduler.id)
"""
    )
    (tmp_path / "distributed.yaml").write_text(f"distributed: {{scheduler: {{preload: [{tmp_path / 'theirs.py'}]}}}}")
    comm, http = free_port(), free_port()
    environment = os.environ | {
        "DASK_CONFIG": str(tmp_path),
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": f'["{MODULE}"]',
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD_ARGV": "[]",
        "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "False",
    }
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(comm)]
    worker = ["distributed.cli.dask_worker", f"tcp://127.0.0.1:{comm}", "--nthreads", "1"]
    started = [
        start(command, environment)
        for command in (
            [*scheduler, "--dashboard-address", f"127.0.0.1:{http}"],
            [*worker, "--name", "pod", "--nworkers", "2"],
            [*worker, "--name", "other"],
        )
    ]
    try:
        extension = Extension(f"http://127.0.0.1:{http}")

        async def workers():
            try:
                return (await ask(extension, progress=True)).progress.workers == 3
            except SchedulerError:
                return False

        await until(workers, 40)
        async with aiohttp.request("GET", f"http://127.0.0.1:{http}{ROUTES}/state") as response:
            assert (tmp_path / "theirs").read_text() == (await response.json())["id"]
        assert (await ask(extension, registered=pods("pod", "other", "gone"))).registered == {"pod", "other"}
        async with Client(f"tcp://127.0.0.1:{comm}", asynchronous=True) as client:
            futures = await client.scatter(list(range(20)), workers=["pod-0", "pod-1"], hash=False)

            async def retired():
                return (await ask(extension, retire=pods("pod"))).retirement == {"pod": "retired"}

            await until(retired)
            assert started[1].poll() is None
            os.killpg(started[1].pid, signal.SIGKILL)
            assert await client.gather(futures) == list(range(20))
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
