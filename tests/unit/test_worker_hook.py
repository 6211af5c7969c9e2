"""The preStop hook of workers: as a program against a server that plays the scheduler, and as part of a Pod."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.support.states import group

from dask_resources.worker import worker_pod
from dask_resources.worker_hook import source, with_drain


class Scheduler(HTTPServer):
    """Gives the answers in turn, the last one for ever; keeps the questions."""

    def __init__(self, *answers: Any, port: int = 0, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)
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
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps({"workers": {"w": answer}}).encode())

    def log_message(self, *_: object) -> None:
        pass


#: Stands for `socket.getaddrinfo` in a hook, where names are known: ``sometimes`` says what happens, and until when.
RESOLVER = """
import socket, time
def getaddrinfo(*_, real=socket.getaddrinfo, until=time.monotonic() + {seconds}, **options):
    if time.monotonic() < until:
        raise socket.gaierror(socket.{error}, "no")
    return real("127.0.0.1", *_[1:], **options)
socket.getaddrinfo = getaddrinfo
"""


def failing(error: str, seconds: float = 1e9) -> str:
    return RESOLVER.format(error=error, seconds=seconds)


def hook(
    port: int,
    *,
    seconds: float = 60,
    pid: int = 0,
    host: str = "127.0.0.1",
    before: str = "",
    env: Mapping[str, str] = {},
    within: tuple[str, ...] = (),
    hasty: bool = False,
    **spec: Any,
) -> subprocess.Popen[str]:
    """The hook as a Pod runs it; the worker is a process that heeds SIGTERM, or ``pid``.

    Args:
        port: of the scheduler.
        seconds: for which it may wait.
        pid: of the container's first process.
        host: of the scheduler.
        before: what is executed before the program.
        env: variables of the container.
        within: a command that runs the hook.
        hasty: whether it has a tenth of its patience.
        spec: of the Pod.
    """
    spec = with_drain({"containers": [{"name": "worker"}], **spec}, host=host, worker_name="w", drain_seconds=60)
    shell, option, start, program, *arguments = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    for patience, haste in {"lost > 20": "lost > 2", "nameless > 5": "nameless > 1", "c() + 30": "c() + 1"}.items():
        assert patience in program, "a scheduler that restarts, a name in a cache, a worker that starts"
        program = program.replace(patience, haste) if hasty else program
    arguments[1], arguments[3] = str(port), str(seconds)
    if arguments[4] == "1":
        arguments[4] = str(pid or os.getpid())
    return subprocess.Popen(
        [*within, shell, option, start, before + program, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | env,
    )


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


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


class TestGone:
    """What proves that the scheduler is gone, and what does not (controller 6)."""

    def test_it_ends_the_worker_of_a_scheduler_that_is_gone(self, nobody):
        with subprocess.Popen(["sleep", "300"]) as worker:
            running = hook(nobody, seconds=600, pid=worker.pid, hasty=True)
            time.sleep(1.7)
            assert running.poll() is None, "a scheduler that is not ready refuses connections, too"
            running.wait(30)
            assert worker.wait(10) == -signal.SIGTERM

    def test_a_name_that_is_no_more_is_soon_believed(self, nobody):
        with subprocess.Popen(["sleep", "300"]) as worker:
            began = time.monotonic()
            assert hook(nobody, seconds=600, pid=worker.pid, before=failing("EAI_NONAME")).wait(30) == 0
            assert 5 < time.monotonic() - began < 15
            assert worker.wait(10) == -signal.SIGTERM

    @pytest.mark.parametrize("error", ["EAI_AGAIN", "EAI_FAIL", "EAI_NODATA"])
    def test_a_resolver_that_fails_proves_nothing(self, nobody, error):
        """CoreDNS that is drained from the same node."""
        running = hook(nobody, seconds=600, before=failing(error), hasty=True)
        time.sleep(4)
        assert running.poll() is None
        running.kill()
        running.communicate()

    @pytest.mark.parametrize("error", ["EAI_AGAIN", "EAI_NONAME"])
    def test_a_name_that_is_missing_for_a_moment_is_waited_for(self, error):
        with Scheduler("retiring: 1 tasks left", "retired") as scheduler:
            assert hook(scheduler.server_port, before=failing(error, 3)).wait(30) == 0
            assert len(scheduler.questions) == 2
            scheduler.shutdown()

    def test_a_scheduler_that_is_back_in_time_is_asked(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        running = hook(port, seconds=600)
        time.sleep(4)
        assert running.poll() is None
        with Scheduler("retired", port=port) as scheduler:
            assert running.wait(30) == 0
            scheduler.shutdown()

    @pytest.mark.parametrize("scheduler", [(503, 502, 504, "retired")], indirect=True)
    def test_a_proxy_without_a_scheduler_is_asked_again(self, scheduler):
        """A mesh answers for a scheduler that is not ready."""
        assert hook(scheduler.server_port).wait(30) == 0
        assert len(scheduler.questions) == 4

    @pytest.mark.parametrize("before", ["", failing("EAI_NONAME")])
    def test_a_scheduler_to_whom_the_worker_is_connected_is_not_gone(self, nobody, before):
        """Busy for minutes it is not ready; where its Service has no address of its own, there is no name then."""
        with socket.create_server(("127.0.0.1", 0)) as scheduler, subprocess.Popen(["sleep", "300"]) as worker:
            address = scheduler.getsockname()
            with socket.create_connection(address):
                env = {"DASK_SCHEDULER_ADDRESS": f"tcp://127.0.0.1:{address[1]}"}
                running = hook(nobody, seconds=600, pid=worker.pid, env=env, before=before, hasty=True)
                time.sleep(4)
                assert running.poll() is None
                began = time.monotonic()
            assert running.wait(10) == 0
            assert time.monotonic() - began < 2, "in the end the worker closes by itself, and the hook must be through"
            assert worker.wait(10) == -signal.SIGTERM

    @pytest.mark.parametrize("scheduler", [("refused: nobody can take its results",)], indirect=True)
    def test_a_worker_that_has_lost_its_scheduler_has_nothing_to_save(self, scheduler):
        """However long that one still answers (node 4)."""
        with socket.create_server(("127.0.0.1", 0)) as comm, subprocess.Popen(["sleep", "300"]) as worker:
            address = comm.getsockname()
            with socket.create_connection(address):
                env = {"DASK_SCHEDULER_ADDRESS": f"tcp://127.0.0.1:{address[1]}"}
                running = hook(scheduler.server_port, seconds=600, pid=worker.pid, env=env)
                time.sleep(2)
                assert running.poll() is None
            assert running.wait(2) == 0
            assert worker.wait(10) == -signal.SIGTERM

    def test_the_hook_is_through_before_the_worker_ends(self, nobody):
        """It ends with the container, and Kubernetes would tell of it as a failure (node 4)."""
        with subprocess.Popen(["sleep", "300"]) as worker:
            assert hook(nobody, pid=worker.pid, hasty=True).wait(30) == 0
            assert worker.poll() is None
            assert worker.wait(10) == -signal.SIGTERM

    def test_a_worker_that_hangs_without_its_scheduler_is_ended(self, nobody):
        """A Nanny restores the default of SIGTERM when it gets one, which the first process of a container ignores."""
        hang = (
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            "signal.signal(signal.SIGINT, signal.SIG_DFL); print(1); time.sleep(300)"  # tests may be without Ctrl-C
        )
        with subprocess.Popen([sys.executable, "-uc", hang], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"1\n"
            hook(nobody, seconds=600, pid=worker.pid, hasty=True).wait(60)
            assert worker.wait(10) == -signal.SIGINT

    def test_the_worker_behind_a_shell_is_ended_as_well(self, nobody):
        with subprocess.Popen(["sh", "-c", "trap '' TERM INT; (trap - TERM INT; exec sleep 300); exit 7"]) as shell:
            hook(nobody, seconds=600, pid=shell.pid, hasty=True).wait(60)
            assert shell.wait(10) == 7


class TestSuccess:
    """A worker that stops is no failure of its hook, whatever happens (node 4)."""

    @pytest.mark.parametrize(
        "answer",
        [b"", b"{}", b"[]", b"\xff", b'{"workers": []}', b'{"workers": {"w": null}}', b'{"workers": {"x": 1}}'],
    )
    def test_an_answer_that_makes_no_sense(self, answer):
        with Scheduler(answer) as scheduler:
            running = hook(scheduler.server_port, seconds=2)
            _, errors = running.communicate(timeout=30)
            assert (running.returncode, errors) == (0, "")
            scheduler.shutdown()

    @pytest.mark.parametrize("hasty", [False, True])
    def test_a_worker_that_is_gone_already(self, nobody, hasty):
        worker = subprocess.Popen(["true"])
        worker.wait()
        running = hook(nobody, seconds=5, pid=worker.pid, hasty=hasty)
        _, errors = running.communicate(timeout=30)
        assert (running.returncode, errors) == (0, "")

    def test_an_image_without_python(self, nobody, tmp_path):
        (tmp_path / "sh").symlink_to(shutil.which("sh") or "")
        running = hook(nobody, env={"PATH": str(tmp_path)})
        running.communicate(timeout=30)
        assert running.returncode == 0


class TestWhereItAsks:
    """The address of the worker, and the port of the scheduler."""

    def asked(self, *, host: str = "127.0.0.1", listening: str = "127.0.0.1", **options: Any) -> Any:
        """How the hook calls the worker."""
        with Scheduler("retired", host=listening) as scheduler:
            assert hook(scheduler.server_port, host=host, **options).wait(30) == 0
            scheduler.shutdown()
        ((_, _, body),) = scheduler.questions
        return body["workers"]

    def test_in_the_network_of_a_node_no_address_is_sent(self):
        """Others have it too, and would be retired with this one (controller 3)."""
        assert self.asked(hostNetwork=True) == [{"name": "w"}]

    def test_by_ipv6_the_address_of_ipv4_is_sent_as_well(self):
        """Two stacks, IPv6 first (controller 17): the worker has the address that Dask prefers."""
        (worker,) = self.asked(host="::1", listening="::1")
        assert "::1" in worker.get("ips", [worker["ip"]])
        assert worker["ip"] == worker.get("ips", ["::1"])[0]

    def test_the_port_is_that_of_the_service(self, nobody):
        """Kubernetes tells it of a Service that was there before (public 13)."""
        resolver = failing("EAI_NONAME", 0)
        with Scheduler("retired") as scheduler:
            env = {"MY_CLUSTER_SCHEDULER_SERVICE_PORT_HTTP_DASHBOARD": str(scheduler.server_port)}
            running = hook(nobody, host="my-cluster-scheduler.team.svc.example.org", env=env, before=resolver)
            assert running.wait(30) == 0
            assert len(scheduler.questions) == 1
            scheduler.shutdown()

    @pytest.mark.parametrize("port", ["", "tcp://10.0.0.1:", "x"])
    def test_a_port_that_is_none_is_not_taken(self, port):
        env = {"MY_SCHEDULER_SERVICE_PORT_HTTP_DASHBOARD": port, "DASK_SCHEDULER_ADDRESS": port}
        asked = self.asked(host="my-scheduler.team", env=env, before=failing("EAI_NONAME", 0))
        assert asked == [{"name": "w", "ip": "127.0.0.1"}]


def may_unshare() -> bool:
    found = shutil.which("unshare") and shutil.which("nsenter")
    return bool(found) and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


class TestSharedProcesses:
    """Where process 1 is the node's init or a pause container (controller 20, `hostPID`)."""

    @pytest.mark.parametrize("field", ["hostPID", "shareProcessNamespace"])
    def test_process_1_is_left_alone(self, field):
        spec = drained({"containers": [{"name": "w"}], field: True})
        assert spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1] == "0"

    @pytest.mark.skipif(not may_unshare(), reason="needs to make a mount namespace")
    def test_only_the_own_containers_worker_is_signalled(self, nobody):
        sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
        with (
            subprocess.Popen(sleep) as of_the_node,
            subprocess.Popen(["unshare", "-m", *sleep]) as sidecar,
            subprocess.Popen(
                ["unshare", "-m", "sh", "-c", f"{sys.executable} -c 'import time; time.sleep(300)'; :"]
            ) as it,
        ):
            time.sleep(1)
            into = ("nsenter", "-t", str(it.pid), "-m")
            debugger = subprocess.Popen([*into, *sleep])  # by kubectl exec
            time.sleep(0.5)
            assert hook(nobody, within=into, hasty=True, hostPID=True).wait(30) == 0
            it.wait(15)
            time.sleep(1)
            assert [process.poll() for process in (of_the_node, sidecar, debugger)] == [None] * 3
            for process in (of_the_node, sidecar, debugger):
                process.kill()
            debugger.wait()

    @pytest.mark.skipif(not may_unshare(), reason="needs to make a mount namespace")
    def test_where_it_cannot_be_told_nobody_is(self, nobody):
        running = hook(nobody, within=("unshare", "-m"), hasty=True, shareProcessNamespace=True)
        _, errors = running.communicate(timeout=30)
        assert (running.returncode, errors) == (0, "")


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
        assert hook(s.server_port, pid=shell.pid, hasty=True).wait(60) == 0
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


@pytest.mark.parametrize(
    ("names", "main"), [(["w", "sidecar"], 0), (["proxy", "worker"], 1), (["a", "worker", "b"], 1), (["scheduler"], 0)]
)
def test_only_the_main_container_retires(names, main):
    """Wherever it stands (controller 9)."""
    spec = drained({"containers": [{"name": name} for name in names]})
    assert [container["name"] for container in spec["containers"]] == names
    assert ["lifecycle" in container for container in spec["containers"]] == [n == main for n in range(len(names))]


def test_a_hook_of_a_sidecars_own_is_no_reason_to_do_without():
    stopping = {"preStop": {"sleep": {"seconds": 1}}}
    spec = drained({"containers": [{"name": "proxy", "lifecycle": stopping}, {"name": "worker"}]})
    assert "exec" in spec["containers"][1]["lifecycle"]["preStop"]


def test_the_program_is_small_enough_to_travel_with_every_pod():
    assert len(source()) < 5120
    assert "$(" not in source()
