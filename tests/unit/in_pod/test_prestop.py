"""The preStop hook of workers as a program, against a server that plays the scheduler."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.prestop import Scheduler, failing, hook

pytestmark = pytest.mark.usefixtures("heeding")


@pytest.fixture
def scheduler(request) -> Iterator[Scheduler]:
    with Scheduler(*request.param) as server:
        yield server
        server.shutdown()


@pytest.mark.parametrize("scheduler", [("retiring: 1 tasks left", "refused: nobody else", "retired")], indirect=True)
def test_it_waits_until_the_worker_is_retired(scheduler):
    assert hook(scheduler.server_port).wait(60) == 0
    assert len(scheduler.questions) == 3
    path, content_type, body = scheduler.questions[0]
    assert (path, content_type) == ("/dask-gitops/v1/retire", "application/json")
    assert body == {"workers": [{"name": "w", "ip": "127.0.0.1"}]}


@pytest.mark.parametrize("scheduler", [("unknown",), (404,), (501,)], indirect=True)
def test_it_does_not_wait_for_what_will_not_come(scheduler):
    assert hook(scheduler.server_port).wait(60) == 0
    assert len(scheduler.questions) == 1


@pytest.mark.parametrize("scheduler", [("retiring: 1 tasks left",)], indirect=True)
def test_it_gives_up_when_its_time_is_over(scheduler):
    running = hook(scheduler.server_port, seconds=2)
    assert running.wait(60) == 0
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
            running.wait(60)
            assert worker.wait(60) == -signal.SIGTERM

    def test_a_name_that_is_no_more_is_soon_believed(self, nobody):
        with subprocess.Popen(["sleep", "300"]) as worker:
            began = time.monotonic()
            assert hook(nobody, seconds=600, pid=worker.pid, before=failing("EAI_NONAME")).wait(60) == 0
            assert time.monotonic() - began > 5
            assert worker.wait(60) == -signal.SIGTERM

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
            assert hook(scheduler.server_port, before=failing(error, 3)).wait(60) == 0
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
            assert running.wait(60) == 0
            scheduler.shutdown()

    @pytest.mark.parametrize("scheduler", [(503, 502, 504, "retired")], indirect=True)
    def test_a_proxy_without_a_scheduler_is_asked_again(self, scheduler):
        """A mesh answers for a scheduler that is not ready."""
        assert hook(scheduler.server_port).wait(60) == 0
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
            assert running.wait(60) == 0
            assert time.monotonic() - began < 60, "in the end the worker closes by itself, and the hook must be through"
            assert worker.wait(60) == -signal.SIGTERM

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
            assert running.wait(60) == 0
            assert worker.wait(60) == -signal.SIGTERM

    def test_the_hook_is_through_before_the_worker_ends(self, nobody):
        """It ends with the container, and Kubernetes would tell of it as a failure (node 4)."""
        with subprocess.Popen(["sleep", "300"]) as worker:
            assert hook(nobody, pid=worker.pid, hasty=True).wait(60) == 0
            assert worker.poll() is None
            assert worker.wait(60) == -signal.SIGTERM

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
            assert worker.wait(60) == -signal.SIGINT

    def test_the_worker_behind_a_shell_is_ended_as_well(self, nobody):
        with subprocess.Popen(["sh", "-c", "trap '' TERM INT; (trap - TERM INT; exec sleep 300); exit 7"]) as shell:
            hook(nobody, seconds=600, pid=shell.pid, hasty=True).wait(60)
            assert shell.wait(60) == 7


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
            assert hook(scheduler.server_port, host=host, **options).wait(60) == 0
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
            assert running.wait(60) == 0
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
            assert hook(nobody, within=into, hasty=True, hostPID=True).wait(60) == 0
            it.wait(60)
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
        assert running.wait(60) == 0
        assert worker.poll() is None, "to stop it is for the kubelet"
        worker.kill()
        s.shutdown()


def test_it_tells_the_worker_behind_a_shell():
    script = "sleep 300; exit 7"  # not the last command, so that the shell stays
    with subprocess.Popen(["sh", "-c", script]) as shell, Scheduler(404) as s:
        assert hook(s.server_port, pid=shell.pid, hasty=True).wait(60) == 0
        assert shell.wait(60) == 7
        s.shutdown()
