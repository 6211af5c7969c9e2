"""Pod templates from a short form."""

from __future__ import annotations

import socket
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_constructs import processes, templates
from dask_constructs.job import JobProps
from dask_constructs.keywords import Options, accepted
from dask_crds.kubernetes import Container, PodSpec
from dask_crds.model import DaskCluster, DaskJob, dump
from dask_crds.quantity import parse_quantity
from dask_crds.validation import problems

IMAGE = "ghcr.io/dask/dask:2026.8.0"


def container(spec: PodSpec) -> Container:
    (found,) = spec["containers"]
    return found


def arguments(spec: PodSpec) -> dict[str, str]:
    """Option -> value, for options that have one."""
    args = list(container(spec).get("args") or ())
    return {option: value for option, value in pairwise(args) if option.startswith("--") and not value.startswith("--")}


def options(**given: Any) -> Options:
    """Keyword arguments of a job, checked."""
    mistakes: list[str] = []
    right = accepted({"image": IMAGE, "command": ["true"], **given}, JobProps, mistakes.append)
    assert not mistakes
    return right


def pods(**given: Any) -> list[PodSpec]:
    right = options(**given)
    return [templates.scheduler_pod(right), templates.worker_pod(right), templates.runner_pod(right)]


def worker_pod(**given: Any) -> PodSpec:
    return templates.worker_pod(options(**given))


# --- size -------------------------------------------------------------------------------------------------------------


def test_a_worker_uses_what_its_container_has() -> None:
    pod = worker_pod(cores=4, memory="16Gi")
    assert container(pod)["resources"] == {
        "requests": {"cpu": "4", "memory": "16Gi"},
        "limits": {"cpu": "4", "memory": "16Gi"},
    }
    assert arguments(pod)["--nthreads"] == "4"
    assert int(arguments(pod)["--memory-limit"]) == 16 * 2**30 - 128 * 2**20


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), ("500m", "1"), (0.25, "1"), (2.5, "2"), ("3500m", "3")])
def test_threads_are_whole_cores(cores: float | str, threads: str) -> None:
    assert arguments(worker_pod(cores=cores))["--nthreads"] == threads


def test_threads_may_be_given() -> None:
    assert arguments(worker_pod(cores=4, threads=1))["--nthreads"] == "1"


@given(st.integers(min_value=2**20, max_value=2**44))
def test_the_worker_stays_below_its_container(memory: int) -> None:
    """Its nanny acts at 95 % of the limit; what is left must do for the nanny and the kernel."""
    limit = processes.worker_memory_limit(str(memory))
    assert 0 < limit < memory
    assert memory - limit >= min(128 * 2**20, memory // 4)
    assert limit >= memory - 129 * 2**20


@pytest.mark.parametrize(
    ("cores", "written"), [(1, "1"), (1.0, "1"), (1.5, "1500m"), (0.1, "100m"), ("2", "2"), ("0.5", "0.5")]
)
def test_cores_are_written_as_the_api_server_would(cores: float | str, written: str) -> None:
    """Else 0.5 in Git and 500m in the cluster look like a difference; what a user writes as text stays."""
    resources: Any = container(worker_pod(cores=cores))["resources"]
    assert resources["limits"]["cpu"] == written
    assert parse_quantity(written) == parse_quantity(cores)


def test_gpus_are_limited_and_offered_to_tasks() -> None:
    pod = worker_pod(gpus=2, worker_resources={"BIG": 0.5, "BYTES": 10**9})
    resources: Any = container(pod)["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == "2"
    assert arguments(pod)["--resources"] == "GPU=2,BIG=0.5,BYTES=1000000000"


def test_no_resources_are_offered_by_default() -> None:
    assert "--resources" not in arguments(worker_pod())


# --- what clients and the operator rely on ----------------------------------------------------------------------------


def test_the_scheduler_has_the_ports_and_args_that_clients_look_for() -> None:
    scheduler = container(templates.scheduler_pod(options(jupyter=True, scheduler_args=["--show"])))
    assert scheduler.get("args") == ["dask-scheduler", "--jupyter", "--show"]
    assert {port.get("name"): port["containerPort"] for port in scheduler.get("ports") or ()} == {
        "tcp-comm": 8786,
        "http-dashboard": 8787,
    }


def test_the_worker_is_named_by_the_operator() -> None:
    pod = worker_pod(worker_command=["dask-cuda-worker"], worker_args=["--preload", "x"])
    args = container(pod).get("args") or ()
    assert args[0] == "dask-cuda-worker"
    assert args[-2:] == ["--preload", "x"]
    assert arguments(pod)["--name"] == "$(DASK_WORKER_NAME)"
    assert [port["containerPort"] for port in container(pod).get("ports") or ()] == [8788]


def test_the_scheduler_listens_at_addresses_of_all_families() -> None:
    """`--host 0.0.0.0` refused `::1` (controller 17)."""
    args = list(container(templates.scheduler_pod(options())).get("args") or ())
    assert args[0] == "dask-scheduler"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", *args[1:], "--port", "0"]
    with subprocess.Popen([*command, "--dashboard-address", ":0"], stderr=subprocess.PIPE, text=True) as scheduler:
        try:
            assert scheduler.stderr is not None
            line = next(line for line in scheduler.stderr if "Scheduler at:" in line)
            for host in ("127.0.0.1", *(["::1"] if has_ipv6() else [])):
                socket.create_connection((host, int(line.rpartition(":")[2])), timeout=10).close()
        finally:
            scheduler.terminate()


def has_ipv6() -> bool:
    """Whether this machine does."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_where_there_is_no_ipv4_dask_is_told() -> None:
    """It looks for an IPv4 address first, and takes 127.0.0.1 if there is none (controller 17)."""
    scheduler, worker, _ = pods(ipv6_only=True, worker_args=["--preload", "x"], env={"A": "1"})
    assert arguments(scheduler)["--dashboard-address"] == "all-addresses:8787"
    assert arguments(worker)["--dashboard-address"] == "all-addresses:8788"
    assert arguments(worker)["--host"] == "[$(POD_IP)]"
    variable = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    assert variable in (container(worker).get("env") or ())
    assert {"name": "A", "value": "1"} in (container(worker).get("env") or ())
    for pod in (scheduler, worker):
        assert pod.get("hostAliases") == [
            {"ip": "0.0.0.0", "hostnames": ["all-addresses"]},
            {"ip": "::", "hostnames": ["all-addresses"]},
        ]
    spec = templates.job_spec(options(ipv6_only=True))
    assert not problems(DaskJob(metadata={"name": "j"}, spec=spec))


@pytest.mark.parametrize("probe", ["readinessProbe", "livenessProbe"])
def test_probes_ask_for_health_at_a_port_that_exists(probe: str) -> None:
    for pod in pods()[:2]:
        declared: Any = container(pod)
        assert declared[probe]["httpGet"]["path"] == "/health"
        assert declared[probe]["httpGet"]["port"] in {port["name"] for port in declared["ports"]}


def test_a_busy_process_is_not_killed_for_being_busy() -> None:
    for pod in pods()[:2]:
        probe: Any = container(pod)["livenessProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 300


def test_a_runner_runs_its_command_once() -> None:
    pod = templates.runner_pod(options(command=["python3", "-m", "report"], runner_memory="3Gi"))
    assert container(pod).get("args") == ["python3", "-m", "report"]
    assert pod.get("restartPolicy") == "Never"


# --- security ---------------------------------------------------------------------------------------------------------


def test_pods_pass_restricted_pod_security() -> None:
    for pod in pods(jupyter=True, gpus=1):
        security, own = pod.get("securityContext") or {}, container(pod).get("securityContext") or {}
        assert security.get("runAsNonRoot") is True
        assert security.get("seccompProfile") == {"type": "RuntimeDefault"}
        assert own.get("allowPrivilegeEscalation") is False
        assert own.get("capabilities") == {"drop": ["ALL"]}


def test_a_user_that_no_image_knows_has_a_home_and_scratch_space() -> None:
    for pod in pods():
        assert {"name": "HOME", "value": "/tmp"} in (container(pod).get("env") or ())
        assert container(pod).get("volumeMounts") == [{"name": "tmp", "mountPath": "/tmp"}]
    assert arguments(worker_pod())["--local-directory"] == "/tmp"


def test_the_home_may_be_another() -> None:
    for pod in pods(env={"HOME": "/home/me"}):
        assert container(pod).get("env") == [{"name": "HOME", "value": "/home/me"}]


def test_root_is_possible() -> None:
    for pod in pods(user=0):
        assert pod.get("securityContext") == {
            "seccompProfile": {"type": "RuntimeDefault"},
            "runAsUser": 0,
            "runAsGroup": 0,
            "fsGroup": 0,
            "runAsNonRoot": False,
        }
        assert "env" not in container(pod)
        assert container(pod).get("securityContext") == {"allowPrivilegeEscalation": False}


def test_the_user_may_be_left_to_the_platform() -> None:
    for pod in pods(user="image"):
        assert pod.get("securityContext") == {"seccompProfile": {"type": "RuntimeDefault"}}


def test_a_token_comes_with_a_service_account_only() -> None:
    for pod in pods():
        assert pod.get("automountServiceAccountToken") is False
    for pod in pods(service_account="reader"):
        assert pod.get("serviceAccountName") == "reader"
        assert "automountServiceAccountToken" not in pod


# --- environment, images, last word -----------------------------------------------------------------------------------


def test_environment() -> None:
    secret: Any = {"secretKeyRef": {"name": "s3", "key": "token"}}
    for pod in pods(env={"A": "1", "TOKEN": secret}, user="image"):
        assert container(pod).get("env") == [{"name": "A", "value": "1"}, {"name": "TOKEN", "valueFrom": secret}]


def test_pulling() -> None:
    for pod in pods(image_pull_policy="Always", image_pull_secrets=["registry"]):
        assert container(pod).get("imagePullPolicy") == "Always"
        assert pod.get("imagePullSecrets") == [{"name": "registry"}]


def test_the_user_has_the_last_word_on_every_pod() -> None:
    scheduler, worker, runner = pods(
        scheduler_pod=lambda pod: {**pod, "priorityClassName": "s"},
        worker_pod={"containers": [{"name": "worker", "env": [{"name": "A", "value": "1"}]}], "hostNetwork": True},
        runner_pod={"restartPolicy": "OnFailure"},
    )
    assert scheduler.get("priorityClassName") == "s"
    assert worker.get("hostNetwork") is True
    assert {"name": "A", "value": "1"} in (container(worker).get("env") or ())
    assert container(worker).get("image") == IMAGE
    assert runner.get("restartPolicy") == "OnFailure"


# --- specs ------------------------------------------------------------------------------------------------------------


def test_what_is_left_out_stays_out() -> None:
    """Above all the number of workers: stated in Git, `kubectl scale` would be reverted."""
    spec = dump(templates.cluster_spec(options()))
    assert spec.keys() == {"scheduler", "worker"}
    assert spec["scheduler"].keys() == {"spec"}
    assert spec["worker"].keys() == {"spec"}
    assert dump(templates.job_spec(options())).keys() == {"cluster", "job"}


def test_options_of_the_cluster() -> None:
    spec = templates.cluster_spec(options(workers=5, idle_timeout=60, service_type="LoadBalancer", drain_timeout=9))
    assert spec.worker.replicas == 5
    assert spec.worker.drain_timeout_seconds == 9
    assert spec.idle_timeout == 60
    assert spec.scheduler.service == {"type": "LoadBalancer"}


def test_options_of_the_job() -> None:
    right = options(retries=2, deadline=60, ttl=3600, run_id="7", delete_cluster="Never")
    spec = dump(templates.job_spec(right))
    assert spec["backoffLimit"] == 2
    assert spec["activeDeadlineSeconds"] == 60
    assert spec["ttlSecondsAfterFinished"] == 3600
    assert spec["runId"] == "7"
    assert spec["cluster"]["deletionPolicy"] == "Never"


def test_what_comes_out_is_valid() -> None:
    assert not problems(DaskCluster(metadata={"name": "c"}, spec=templates.cluster_spec(options(gpus=1))))
    assert not problems(DaskJob(metadata={"name": "j"}, spec=templates.job_spec(options(user=0))))
