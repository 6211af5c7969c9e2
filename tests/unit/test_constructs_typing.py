"""What type checkers, and so editors, know about a user's program."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.typing import mypy_strict

PROGRAM = """\
from cdk8s import App, Chart, JsonPatch
from constructs import Construct
from dask_constructs import DaskCluster, DaskJob, DaskOperator
from dask_crds.kubernetes import PodSpec
from dask_crds.model import DaskClusterSpec, Scheduler, Worker


def on_spot(pod: PodSpec) -> PodSpec:
    return {**pod, "nodeSelector": {"lifecycle": "spot"}}


class Analytics(Chart):
    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id, namespace="analytics")
        cluster = DaskCluster(
            self,
            "cluster",
            name="analytics",
            image="ghcr.io/dask/dask:2026.8.0",
            cores=2,
            memory="8Gi",
            env={"TOKEN": {"secretKeyRef": {"name": "s3", "key": "token"}}, "LOG": "info"},
            worker_pod=on_spot,
            scheduler_pod=lambda pod: {**pod, "priorityClassName": "high"},
        )
        cluster.add_worker_group("big", memory="64Gi", worker_resources={"BIG": 1}, workers=2)
        cluster.autoscale(minimum=0, maximum=20)
        cluster.api_object.add_json_patch(JsonPatch.add("/spec/idleTimeout", 3600))
        DaskJob(self, "job", image="x", command=["python3", "-m", "job"], worker_pod={"hostNetwork": True})
        pod: PodSpec = {"containers": [{"name": "main", "image": "x", "ports": [{"containerPort": 8786}]}]}
        spec = DaskClusterSpec(scheduler=Scheduler(spec=pod), worker=Worker(spec=pod, replicas=2))
        address: str = DaskCluster.from_spec(self, "exact", spec=spec, labels={"team": "a"}).scheduler_address
        DaskOperator(self, "operator", namespaces=[address], replicas=1)


app = App()
Analytics(app, "analytics")
app.synth()
"""
#: A mistake, and what mypy says of it.
MISTAKES = {
    'DaskCluster(chart, "a")': 'Missing named argument "image"',
    'DaskCluster(chart, "a", image="x", worker=3)': 'Unexpected keyword argument "worker"',
    'DaskCluster(chart, "a", image="x", workers="3")': 'incompatible type "str"; expected "int | None"',
    'DaskCluster(chart, "a", image="x", service_type="Ingress")': "expected \"Literal['ClusterIP'",
    'DaskCluster(chart, "a", image="x", worker_pod=lambda pod: {**pod, "hostNet": True})': 'Extra key "hostNet"',
    'DaskCluster(chart, "a", image="x").add_worker_group("b", jupyter=True)': 'Unexpected keyword argument "jupyter"',
    'DaskJob(chart, "a", image="x", command=["true"], retries=1.5)': 'incompatible type "float"; expected "int | None"',
    'Worker(spec={"containers": [{"name": "a", "imag": "b"}]})': 'Extra key "imag"',
    "Worker(replicas=3)": 'Missing named argument "spec"',
    'DaskOperator(chart, "a", namespaces=3)': 'incompatible type "int"; expected "Sequence[',
}


def check(folder: Path, program: str) -> list[str]:
    path = folder / "program.py"
    path.write_text(program)
    return mypy_strict(path)


def test_a_users_program_is_typed(tmp_path: Path) -> None:
    assert check(tmp_path, PROGRAM) == []


def test_mistakes_are_found_while_typing(tmp_path: Path) -> None:
    header = [
        "from cdk8s import App, Chart",
        "from dask_constructs import DaskCluster, DaskJob, DaskOperator",
        "from dask_crds.model import Worker",
        'chart = Chart(App(), "c")',
    ]
    report = check(tmp_path, "\n".join([*header, *MISTAKES]))
    found: dict[str, str] = {}
    for line in (line for line in report if ": error: " in line):
        number = int(re.findall(r"^.*?:(\d+): error", line)[0]) - len(header) - 1
        statement = list(MISTAKES)[number]
        found[statement] = found.get(statement, "") + line
    assert found.keys() == MISTAKES.keys()
    for statement, message in MISTAKES.items():
        assert message in found[statement], statement
