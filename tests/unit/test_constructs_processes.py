"""Several worker processes in a Pod share what it has (constructs finding 5)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.constructs import IMAGE, chart, container, errors, only

from dask_constructs import DaskCluster
from dask_constructs.processes import whole_cores, worker_memory_limit

import cdk8s  # isort: skip - after dask_constructs, which finds Node.js for it

CUDA = ["dask-cuda-worker"]


def worker(**options: Any) -> dict[str, Any]:
    c = chart()
    DaskCluster(c, "c", image=IMAGE, **options)
    return container(only(c), "worker")


def told(main: dict[str, Any], option: str) -> str | None:
    return main["args"][main["args"].index(option) + 1] if option in main["args"] else None


def mistakes(**options: Any) -> list[str]:
    c = chart()
    DaskCluster(c, "c", image=IMAGE, **options)
    return [line.removeprefix("[test/c] ") for line in errors(c)]


def test_processes_share_cpus_memory_and_gpus() -> None:
    main = worker(processes=4, cores=8, memory="16Gi", gpus=4, gpu_resource="amd.com/gpu", worker_resources={"BIG": 1})
    assert told(main, "--nworkers") == "4"
    assert told(main, "--nthreads") == "2"
    assert told(main, "--memory-limit") == str(4 * 2**30 - 128 * 2**20)
    assert told(main, "--resources") == "GPU=1,BIG=1"
    assert main["resources"]["limits"] == {"cpu": "8", "memory": "16Gi", "amd.com/gpu": "4"}


@pytest.mark.parametrize(
    "command",
    [CUDA, ["/opt/conda/bin/dask-cuda-worker"], ["dask", "cuda", "worker"], ["tini", "--", "dask-cuda-worker"]],
)
def test_dask_cuda_has_one_process_for_each_gpu(command: list[str]) -> None:
    main = worker(gpus=2, cores=4, memory="16Gi", worker_command=command)
    assert told(main, "--nworkers") is None, "dask-cuda knows no such option"
    assert told(main, "--nthreads") == "2"
    assert told(main, "--memory-limit") == str(8 * 2**30 - 128 * 2**20)
    assert told(main, "--resources") == "GPU=1"


@given(st.integers(2**24, 2**44), st.integers(1, 64), st.integers(1, 256))
def test_together_they_take_no_more_than_there_is(memory: int, processes: int, cores: int) -> None:
    assert worker_memory_limit(str(memory), processes) * processes < memory
    assert whole_cores(str(cores), processes) * processes <= max(cores, processes)


def test_devices_are_claimed() -> None:
    c = chart()
    claims: Any = {"gpu": "single-gpu", "net": {"resourceClaimName": "shared"}}
    DaskCluster(c, "c", image=IMAGE, resource_claims=claims)
    spec = only(c)["spec"]
    pod = spec["worker"]["spec"]
    assert pod["resourceClaims"] == [
        {"name": "gpu", "resourceClaimTemplateName": "single-gpu"},
        {"name": "net", "resourceClaimName": "shared"},
    ]
    assert pod["containers"][0]["resources"]["claims"] == [{"name": "gpu"}, {"name": "net"}]
    assert "resourceClaims" not in spec["scheduler"]["spec"], "a scheduler needs no GPU"


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({"processes": 0}, "processes: must be a whole number from 1 to 1000, not 0"),
        ({"processes": "auto"}, "processes: must be a whole number from 1 to 1000, not 'auto'"),
        ({"processes": 4, "cores": 2}, "processes: 4 processes share 2 CPUs: raise cores, or say how many threads"),
        ({"gpus": 4, "cores": 2, "worker_command": CUDA}, "gpus: 4 processes share 2 CPUs: raise cores"),
        ({"processes": 2, "gpus": 3, "cores": 2}, "processes: must divide the GPUs evenly (3 GPUs, 2 processes)"),
        ({"processes": 3, "gpus": 2, "worker_command": CUDA}, "processes: dask-cuda has one process for each GPU (2)"),
        (
            {"gpus": 2, "worker_resources": {"GPU": 1}},
            "worker_resources['GPU']: must be 2 in each process, as gpus says",
        ),
        ({"gpu_resource": "amd.com/gpu"}, "gpu_resource: says nothing without gpus"),
        ({"resource_claims": {"g": {"template": "x"}}}, "resource_claims['g'].template: unknown field"),
    ],
)
def test_what_does_not_fit_is_told_with_its_keyword(options: dict[str, Any], mistake: str) -> None:
    (found,) = mistakes(**options)
    assert found.startswith(mistake)


def test_more_processes_than_cpus_are_possible_for_who_says_so() -> None:
    assert told(worker(processes=4, cores=1, threads=1), "--nworkers") == "4"


ARGS = "spec.worker.spec.containers[0].args: "
SAID = "worker_args: " + ARGS


def shrunk(limit: str) -> dict[str, Any]:
    amounts = {"memory": limit}
    return {"containers": [{"name": "worker", "resources": {"limits": amounts, "requests": amounts}}]}


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        (
            {"worker_pod": shrunk("1Gi")},
            "worker_pod: " + ARGS + "--memory-limit 8455716864 exceeds the container's memory (1Gi)",
        ),
        ({"worker_args": ["--memory-limit=9GiB"]}, SAID + "--memory-limit 9GiB exceeds the container's memory (8Gi)"),
        ({"worker_args": ["--memory-limit", "9GB"]}, SAID + "--memory-limit 9GB exceeds"),
        (
            {"worker_args": ["--nworkers", "4"]},
            SAID
            + "--memory-limit 8455716864 in each of 4 processes exceeds the container's memory (8Gi); say processes",
        ),
        ({"worker_args": ["--nthreads", "0"]}, SAID + "--nthreads 0 takes as many threads as the node has CPUs"),
        (
            {"gpus": 2, "worker_args": ["--resources", "GPU=1"]},
            "gpus, " + SAID + "--resources GPU=1 does not agree with the",
        ),
    ],
)
def test_a_command_line_agrees_with_its_container(options: dict[str, Any], mistake: str) -> None:
    """(constructs findings 5, 10) Whoever has changed one of the two."""
    (found,) = mistakes(memory="8Gi", **options)
    assert found.startswith(mistake)


def test_a_patch_that_shrinks_memory_is_told() -> None:
    """(constructs finding 10)"""
    c = chart()
    cluster = DaskCluster(c, "c", image=IMAGE, memory="8Gi")
    at = "/spec/worker/spec/containers/0/resources"
    for field in ("requests", "limits"):
        cluster.api_object.add_json_patch(cdk8s.JsonPatch.add(f"{at}/{field}/memory", "4Gi"))
    (found,) = errors(c)
    assert found == f"[test/c] {ARGS}--memory-limit 8455716864 exceeds the container's memory (4Gi)"


def test_the_memory_of_the_whole_pod_counts_where_the_container_states_none() -> None:
    """Pod-level resources (KEP 2837)."""

    def of_pod(memory: str) -> Any:
        def change(pod: Any) -> Any:
            containers = [{**container, "resources": {}} for container in pod["containers"]]
            return {**pod, "containers": containers, "resources": {"limits": {"cpu": "2", "memory": memory}}}

        return change

    (found,) = mistakes(memory="8Gi", worker_pod=of_pod("4Gi"))
    assert found == f"memory, worker_pod: {ARGS}--memory-limit 8455716864 exceeds the Pod's memory (4Gi)"
    worker(memory="8Gi", worker_pod=of_pod("8Gi"))


@pytest.mark.parametrize("limit", ["0", "auto", "0.9", "8GiB", "7.5e9", "1.2.3G", ".G"])
def test_limits_that_may_be_right_pass_and_what_is_no_number_is_for_dask_to_tell(limit: str) -> None:
    worker(memory="8Gi", worker_args=["--memory-limit", limit])
    worker(gpus=1, worker_args=["--resources", "GPU=1.2.3,A=1"])


@pytest.mark.parametrize(("cores", "written"), [(0.0004, "1m"), (1.0005, "1001m"), (0.1 + 0.2, "300m"), (2.0, "2")])
def test_a_part_of_a_core_is_never_nothing(cores: float, written: str) -> None:
    assert worker(cores=cores)["resources"]["limits"]["cpu"] == written


def test_processes_of_a_real_worker(tmp_path: Path) -> None:
    """Each has the operator's name with a number, by which it finds them, and what is said of each process."""
    main = worker(processes=2, cores=2, memory="2Gi", gpus=2, spill="1Gi")
    args = [
        arg.replace("$(DASK_WORKER_NAME)", "g-worker-0-abcde").replace("/spill", str(tmp_path)) for arg in main["args"]
    ]
    args[args.index("--dashboard-address") + 1] = ":0"
    env = {variable["name"]: variable["value"] for variable in main["env"]}
    run = [sys.executable, "-c", _PROGRAM, json.dumps({"args": args[1:], "env": env})]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(ended.stdout.splitlines()[-1])
    share = 2**30 - 128 * 2**20
    assert found == [[f"g-worker-0-abcde-{n}", 1, share, {"GPU": 1.0}, int(2**29 * 0.95)] for n in range(2)]


_PROGRAM = """\
import json, os, subprocess, sys
from distributed import Client, LocalCluster
from dask import config

given = json.loads(sys.argv[1])
if __name__ == "__main__":
    with LocalCluster(n_workers=0, dashboard_address=":0") as cluster, Client(cluster) as client:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, *given["args"]]
        worker = subprocess.Popen(command, env={**os.environ, **given["env"]}, stderr=subprocess.DEVNULL)
        try:
            client.wait_for_workers(2, timeout=60)
            spilled = client.run(lambda: config.get("distributed.worker.memory.max-spill"))
            workers = client.scheduler_info(n_workers=-1)["workers"].items()
            rows = [[w["name"], w["nthreads"], w["memory_limit"], w["resources"], spilled[a]] for a, w in workers]
        finally:
            worker.terminate()
            worker.wait(30)
    print(json.dumps(sorted(rows)))
"""
