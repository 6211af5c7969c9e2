"""The control port of a real scheduler: who is obeyed there, and that nobody is anywhere else (security finding 9)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest
from tests.cluster.processes import free_port
from tests.support.dask_scheduler import MODULE, ROUTES, Extension, ask, pods, running, until
from tests.support.prestop import Scheduler as FakeScheduler
from tests.support.prestop import hook
from tests.support.questions import ask_of

from dask_controller.schedulers.answers import Request, SchedulerError
from dask_controller.schedulers.signing import PROOF, Key

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[3]
KEY, OTHER = b"k" * 32, b"o" * 32
PATH = "/dask-gitops/v2/ask"
#: The last release that knew no control port; there is no later one to be compatible with yet.
BEFORE = "8495a05bc62495023dd496092b3f18c95774d4a7"


class Control:
    """A scheduler with a key, and how its control port is reached."""

    def __init__(self, rig, port: int, file: Path) -> None:
        self.rig, self.port, self.file = rig, port, file
        self.url = f"http://127.0.0.1:{port}"

    def client(self, *keys: bytes, **options) -> Extension:
        return Extension(self.url, keys=tuple(map(Key, keys)), **options)

    async def post(self, body: bytes, headers: dict[str, str], path: str = PATH) -> tuple[int, str, dict]:
        headers = {"Content-Type": "application/json", **headers}
        async with self.rig.session.post(f"{self.url}{path}", data=body, headers=headers) as response:
            return response.status, response.headers.get(PROOF, ""), await response.json()


@pytest.fixture
async def control(tmp_path, monkeypatch):
    file, port = tmp_path / "control.key", free_port()
    file.write_bytes(KEY)
    monkeypatch.setenv("DASK_GITOPS_KEY_FILE", str(file))
    monkeypatch.setenv("DASK_GITOPS_PORT", str(port))
    async with running(MODULE) as rig:
        yield Control(rig, port, file)


async def refused(client: Extension, **asked) -> SchedulerError:
    with pytest.raises(SchedulerError) as raised:
        await client.put(Request([ask_of(**asked)]))
    return raised.value


# --- at the control port ----------------------------------------------------------------------------------------------


async def test_who_has_the_key_is_answered_and_obeyed(control):
    await control.rig.add("a", "b")
    client = control.client(KEY)
    found = await ask(client, registered=pods("a", "x"), idle=True, progress=True, rank=pods("a", "b"))
    assert (found.registered, found.progress.workers, set(found.ranked)) == ({"a"}, 2, {"a", "b"})

    async def retired():
        return (await ask(client, retire=pods("a"))).retirement == {"a": "retired"}

    await until(retired)
    await ask(client, resume=pods("a"))
    await until(lambda: control.rig.status("a") == "running")


async def test_nobody_else_is(control):
    await control.rig.add("a", "b")
    error = await refused(control.client(OTHER), retire=pods("a"))
    assert error.kind == "Impostor"
    body = b'{"questions": [{"retire": ["a"]}, {"idle": true}]}'
    signed = Key(KEY).signed(PATH, body, time.time()).headers
    for headers in ({}, Key(OTHER).signed(PATH, body, time.time()).headers, Key(KEY).signed(PATH, b"", 0.0).headers):
        assert (await control.post(body, headers))[:2] == (401, "")
    assert (await control.post(body, {**signed, "Origin": "http://evil.example"}))[0] == 400
    for path in (f"{ROUTES}/retire", f"{ROUTES}/state", f"{ROUTES}/ask", f"{PATH}?a", "/"):
        async with control.rig.session.post(f"{control.url}{path}", data=body, headers=signed) as response:
            assert response.status in (401, 404)
            assert PROOF not in response.headers
    assert control.rig.status("a") == control.rig.status("b") == "running"


async def test_a_request_works_once(control):
    await control.rig.add("a")
    body = b'{"questions": [{"idle": true}]}'
    signed = Key(KEY).signed(PATH, body, time.time())
    status, proof, answer = await control.post(body, signed.headers)
    assert (status, list(answer)) == (200, ["answers"])
    assert signed.is_proven(200, json.dumps(answer).encode(), proof)
    status, proof, answer = await control.post(body, signed.headers)
    assert (status, answer) == (401, {"message": "the request was made before"})
    assert signed.is_proven(401, json.dumps(answer).encode(), proof)


async def test_the_key_before_is_known_for_as_long_as_a_scheduler_has_it(control):
    client = control.client(OTHER, KEY)
    assert (await ask(client, idle=True)).idle_seconds is not None
    control.file.write_bytes(OTHER)
    assert (await ask(client, idle=True)).idle_seconds is not None


@pytest.mark.parametrize("apart", [-100, 100])
async def test_clocks_that_differ_are_told_of(control, apart):
    error = await refused(control.client(KEY, clock=lambda: time.time() + apart), idle=True)
    assert (error.kind, "the clocks of two nodes differ by more than 60 s" in str(error)) == ("Unexpected", True)


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b'{"questions": 1}', b"[" * 100_000, b"\xff"])
async def test_who_has_the_key_may_make_mistakes(control, body):
    signed = Key(KEY).signed(PATH, body, time.time())
    status, proof, answer = await control.post(body, signed.headers)
    assert status == 400
    assert signed.is_proven(400, json.dumps(answer).encode(), proof)


async def test_too_much_is_not_even_read(control):
    with socket.create_connection(("127.0.0.1", control.port)) as stranger:
        stranger.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (PATH.encode(), 2**23))
        stranger.settimeout(0.01)
        said = b""

        def closed():
            nonlocal said
            try:
                said += (more := stranger.recv(4096))
            except TimeoutError:
                return False
            return not more

        await until(closed)
    assert said in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert (await ask(control.client(KEY), idle=True)).idle_seconds is not None


async def test_without_its_key_a_scheduler_obeys_nobody(control):
    """Its Secret is not there yet: it works, and waits for it."""
    await control.rig.add("a")
    control.file.unlink()
    assert (await refused(control.client(KEY), retire=pods("a"))).kind == "Impostor"
    assert (await control.rig.post("retire", {"workers": ["a"]}))[0] == 403
    control.file.write_bytes(KEY)
    await until(lambda: control.rig.status("a") == "running")
    assert (await ask(control.client(KEY), registered=pods("a"))).registered == {"a"}


async def test_a_scheduler_whose_port_is_taken_works_and_obeys_nobody(tmp_path, monkeypatch):
    with socket.create_server(("0.0.0.0", 0)) as theirs:
        monkeypatch.setenv("DASK_GITOPS_KEY_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("DASK_GITOPS_PORT", str(theirs.getsockname()[1]))
        async with running(MODULE) as rig:
            await rig.add("a")
            assert (await rig.get("state"))["workers"]
            assert (await rig.post("retire", {"workers": ["a"]}))[0] == 403


async def test_the_port_ends_with_the_scheduler(tmp_path, monkeypatch):
    port = free_port()
    monkeypatch.setenv("DASK_GITOPS_KEY_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("DASK_GITOPS_PORT", str(port))
    async with running(MODULE):
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


# --- at the dashboard's -----------------------------------------------------------------------------------------------


async def test_the_dashboards_port_tells_and_takes_no_orders(control):
    rig = control.rig
    await rig.add("a", "b")
    assert len((await rig.get("state"))["workers"]) == 2
    assert (await rig.get("progress"))["workers"] == 2
    assert (await rig.get("adaptive_target"))["target"] == 0, "KEDA"
    assert (await rig.post("workers_to_close", {"workers": ["a"]}))[0] == 200
    for route in ("retire", "resume"):
        status, answer = await rig.post(route, {"workers": ["a"]})
        assert (status, "signed" in answer["message"]) == (403, True)
    status, answer = await rig.post(
        "ask", {"questions": [{"idle": True}, {"retire": ["a"]}, {"resume": ["a"], "idle": 1}]}
    )
    told, *orders = answer["answers"]
    assert (status, list(told)) == (200, ["idle_seconds"])
    assert all(list(order) == ["error"] for order in orders), "and nothing of them is done"
    assert rig.status("a") == rig.status("b") == "running"


# --- hooks ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("heeding")
async def test_a_worker_retires_by_its_hook(control):
    await control.rig.add("w", "b")
    running_hook = hook(control.rig.scheduler.http_server.port, control=control.port, key=control.file)
    await until(lambda: running_hook.poll() is not None, 60)
    assert running_hook.returncode == 0
    assert control.rig.status("w") == "closing_gracefully"
    assert control.rig.status("b") == "running"


@pytest.mark.usefixtures("heeding")
def test_a_hook_asks_a_scheduler_of_before_as_it_was_asked(tmp_path):
    (tmp_path / "key").write_bytes(KEY)
    with FakeScheduler("retiring", "retired") as scheduler:
        assert hook(scheduler.server_port, control=free_port(), key=tmp_path / "key").wait(60) == 0
        scheduler.shutdown()
    assert [path for path, _, _ in scheduler.questions] == ["/dask-gitops/v1/retire"] * 2


@pytest.mark.usefixtures("heeding")
def test_a_hook_believes_nobody_who_cannot_prove_it(tmp_path):
    (tmp_path / "key").write_bytes(KEY)
    said = b'{"answers": [{"retirement": {"w": "retired"}}]}'
    with FakeScheduler(said) as impostor, FakeScheduler("retired") as dashboard:
        running_hook = hook(dashboard.server_port, control=impostor.server_port, key=tmp_path / "key", seconds=4)
        assert running_hook.wait(60) == 0
        impostor.shutdown()
        dashboard.shutdown()
    assert len(impostor.questions) > 1
    assert dashboard.questions == []


# --- releases that meet -----------------------------------------------------------------------------------------------


@pytest.fixture
def before(tmp_path) -> Path:
    """The sources as they were."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", BEFORE, "crds", "resources", "controller"], capture_output=True, check=False
    )
    if packed.returncode:
        pytest.skip("a checkout without that commit")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(tmp_path / "before", filter="data")
    return tmp_path / "before"


async def test_a_module_of_before_is_asked_as_it_was(before):
    async with running(before / MODULE.relative_to(ROOT)) as rig:
        await rig.add("a", "b")
        assert (await rig.get("state"))["version"] == "5"
        assert (await ask(rig.extension, registered=pods("a"), idle=True)).registered == {"a"}
        await rig.retire("a")


async def test_an_operator_of_before_is_told_what_it_may_still_know(control, before):
    """After a rollback: it goes on to read, and is told why nobody is retired."""
    await control.rig.add("a", "b")
    program = f"""
import asyncio, sys
from dask_controller.core.questions import Ask, Registered, Retire, WorkerId
from dask_controller.schedulers.answers import Request
from dask_controller.schedulers.client import SchedulerClient
async def main():
    asks = [Ask((Registered((WorkerId("a"),)),)), Ask((Retire((WorkerId("a"),)),))]
    known, retiring = (await SchedulerClient({control.rig.url!r}).put(Request(asks))).answers
    print(sorted(known.of(Registered)), retiring.silent)
asyncio.run(main())
"""
    folders = os.pathsep.join(str(before / name) for name in ("crds", "resources", "controller"))
    command, env = [sys.executable, "-c", program], os.environ | {"PYTHONPATH": folders}
    said = await asyncio.to_thread(subprocess.check_output, command, text=True, env=env)
    assert said.startswith("['a'] the scheduler cannot answer: this scheduler takes orders at its control port only")
    assert control.rig.status("a") == "running"
