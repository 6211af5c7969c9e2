"""The preStop hook of workers: as a program against a server that plays the scheduler, and as part of a Pod."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.support.states import group

from dask_resources.worker import worker_pod
from dask_resources.worker_hook import source, with_drain


class Scheduler(HTTPServer):
    """Gives the answers in turn, the last one for ever; keeps the questions."""

    def __init__(self, *answers: str | int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.questions: list[Any] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Scheduler

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.questions.append((self.path, self.headers["Content-Type"], body))
        answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        self.send_response(answer if isinstance(answer, int) else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"workers": {"w": answer}}).encode())

    def log_message(self, *_: object) -> None:
        pass


def hook(port: int, *, seconds: float = 60, pid: int = 0) -> subprocess.Popen[str]:
    """The hook as a Pod runs it; the worker is a process that heeds SIGTERM, or ``pid``."""
    spec = with_drain({"containers": [{"name": "worker"}]}, host="127.0.0.1", worker_name="w", drain_seconds=60)
    *command, _port, name, _seconds, _pid = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    arguments = [str(port), name, str(seconds), str(pid or os.getpid())]
    return subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True)


@pytest.fixture(autouse=True)
def heeding() -> Iterator[None]:
    """This process plays a worker, which has a handler."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def scheduler(request) -> Iterator[Scheduler]:
    with Scheduler(*request.param) as server:
        yield server
        server.shutdown()


@pytest.mark.parametrize("scheduler", [("retiring: 1 tasks left", "refused: nobody else", "retired")], indirect=True)
def test_it_waits_until_the_worker_is_retired(scheduler):
    assert hook(scheduler.server_port).wait(30) == 0
    assert len(scheduler.questions) == 3
    path, content_type, body = scheduler.questions[0]
    assert (path, content_type) == ("/dask-gitops/v1/retire", "application/json")
    assert body == {"workers": [{"name": "w", "ip": "127.0.0.1"}]}


@pytest.mark.parametrize("scheduler", [("unknown",), (404,), (501,)], indirect=True)
def test_it_does_not_wait_for_what_will_not_come(scheduler):
    assert hook(scheduler.server_port).wait(30) == 0
    assert len(scheduler.questions) == 1


@pytest.mark.parametrize("scheduler", [("retiring: 1 tasks left",)], indirect=True)
def test_it_gives_up_when_its_time_is_over(scheduler):
    running = hook(scheduler.server_port, seconds=2)
    assert running.wait(30) == 0
    assert len(scheduler.questions) >= 2


def test_it_ends_soon_when_the_scheduler_is_gone():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # not listening: connections are refused
        with subprocess.Popen(["sleep", "300"]) as worker:
            hook(unused.getsockname()[1], seconds=600, pid=worker.pid).wait(60)
            assert worker.wait(10) == -signal.SIGTERM


def test_a_worker_that_hangs_without_its_scheduler_is_ended():
    """A Nanny restores the default of SIGTERM when it gets one, which the first process of a container ignores."""
    hang = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "signal.signal(signal.SIGINT, signal.SIG_DFL); print(1); time.sleep(300)"  # tests may be run without Ctrl-C
    )
    with socket.socket() as unused, subprocess.Popen([sys.executable, "-uc", hang], stdout=subprocess.PIPE) as worker:
        unused.bind(("127.0.0.1", 0))
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"1\n"
        hook(unused.getsockname()[1], seconds=600, pid=worker.pid).wait(60)
        assert worker.wait(10) == -signal.SIGINT


def test_it_is_patient_with_a_scheduler_that_is_slow_to_answer():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        running = hook(busy.getsockname()[1], seconds=600)
        time.sleep(12)  # more than two of its time-outs
        assert running.poll() is None
        running.kill()
        running.communicate()


def test_it_waits_for_a_worker_that_is_starting():
    """The first process of a container ignores SIGTERM until it has a handler: it would be killed minutes later."""
    start = (
        "import signal, time; time.sleep(3); signal.signal(signal.SIGTERM, lambda *_: exit()); print(1); time.sleep(60)"
    )
    with (
        subprocess.Popen([sys.executable, "-uc", start], stdout=subprocess.PIPE, text=True) as worker,
        Scheduler(404) as s,
    ):
        running = hook(s.server_port, pid=worker.pid)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "1\n"
        assert running.wait(30) == 0
        assert worker.poll() is None, "to stop it is for the kubelet"
        worker.kill()
        s.shutdown()


def test_it_tells_the_worker_behind_a_shell():
    script = "sleep 300; exit 7"  # not the last command, so that the shell stays
    with subprocess.Popen(["sh", "-c", script]) as shell, Scheduler(404) as s:
        assert hook(s.server_port, pid=shell.pid).wait(60) == 0
        assert shell.wait(10) == 7
        s.shutdown()


def pod(**worker: Any) -> Any:
    return worker_pod(group(**worker), 0, "abcde", domain="example.org")["spec"]


def drained(spec: Any, seconds: int = 300) -> Any:
    return with_drain(spec, host="s", worker_name="w", drain_seconds=seconds)


def budget(spec: Any) -> int:
    return int(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-2])


def test_the_grace_period_follows_the_drain_timeout():
    assert pod()["terminationGracePeriodSeconds"] == 330
    assert pod(drain_timeout_seconds=60)["terminationGracePeriodSeconds"] == 90
    command = pod()["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command[-5:] == [
        "simple-scheduler.team.svc.example.org",
        "8787",
        "simple-default-worker-0-abcde",
        "300",
        "1",
    ]


@pytest.mark.parametrize(("grace", "seconds"), [(5, 3), (60, 45), (120, 90), (3600, 300)])
def test_a_grace_period_of_the_user_is_kept_and_not_used_up(grace, seconds):
    spec = drained({"containers": [{"name": "w"}], "terminationGracePeriodSeconds": grace})
    assert spec["terminationGracePeriodSeconds"] == grace
    assert budget(spec) == seconds


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"name": "w", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]},
        {"containers": [{"name": "w"}], "terminationGracePeriodSeconds": 0},
    ],
)
def test_a_users_own_hook_and_haste_are_respected(spec):
    assert drained(spec) == spec
    assert drained({"containers": [{"name": "w"}]}, seconds=0) == {"containers": [{"name": "w"}]}


def test_a_failed_liveness_probe_does_not_wait_for_the_drain():
    probe = {"httpGet": {"port": 8788}}
    (container,) = drained({"containers": [{"name": "w", "livenessProbe": probe}]})["containers"]
    assert container["livenessProbe"] == {**probe, "terminationGracePeriodSeconds": 30}
    own = {**probe, "terminationGracePeriodSeconds": 7}
    assert drained({"containers": [{"name": "w", "livenessProbe": own}]})["containers"][0]["livenessProbe"] == own


def test_only_the_first_container_retires():
    spec = drained({"containers": [{"name": "w"}, {"name": "sidecar"}]})
    assert "lifecycle" not in spec["containers"][1]


def test_the_program_is_small_enough_to_travel_with_every_pod():
    assert len(source()) < 2000
    assert "$(" not in source()
