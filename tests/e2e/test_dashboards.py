"""What the dashboards show of Dask in its stock image: a real Prometheus reads what ``dist/monitoring`` selects.

Grafana is not there: each query is asked as it would, and the answers are drawn. With ``UPDATE_SCREENSHOTS=1`` the docs
get these pictures, and the test takes longer, so that there is a course to see.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.images import ROOT
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support.discovery import look, scrape
from tests.support.drawing import draw
from tests.support.prometheus import Prometheus, prometheus
from tests.support.promql import filled_in

from dask_constructs.monitoring.dashboards import dashboards
from dask_crds.names import Label, Port

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

#: Of a job: load that comes and goes, data that is moved between workers, and a task that kills its worker.
WORK = """
import os, random, time
from distributed import Client

def load(n):
    time.sleep(0.3)
    return bytes(4_000_000)

def combine(*parts):
    time.sleep(0.2)
    return sum(map(len, parts))

def risky(n):
    return os._exit(1) if n else n

client = Client()
client.submit(risky, 0).result()  # so that there is a series of its kind before one dies
for number in range(100):
    parts = client.map(load, range(40), pure=False)
    client.gather([client.submit(combine, *random.sample(parts, 4), pure=False) for _ in range(8)])
    del parts
    if number == 1:
        dying = client.submit(risky, 1)
        dying.exception()
        del dying
    time.sleep(20 * (number % 3 == 2))  # in which workers go
"""
GPU = "nvidia.com/gpu"
#: What shows nothing: it takes Kueue, which few machines have.
EMPTY = {"dask-operator": set[str](), "dask-clusters": {"Wait for quota"}, "dask-job": set[str]()}
#: Whom the monitors find: the operator's Service, and Pods.
JOBS = {"dask-operator", "dask-operator/dask-schedulers", "dask-operator/dask-workers"}
#: How far the pictures of the docs look back, in seconds; a picture's most bytes.
SPAN, MOST_BYTES = 180, 120_000


@pytest.fixture
def seen(node: Any, operator: Any, tmp_path: Path) -> Iterator[Prometheus]:
    """Reads what the monitors select, by the rules beside them."""
    if node.kind != "node":
        pytest.skip("needs a node in whose network a Prometheus can be put")
    documents = list(yaml.safe_load_all((ROOT / "dist/monitoring/monitoring.yaml").read_text()))
    monitors = [each for each in documents if each["kind"] in ("ServiceMonitor", "PodMonitor")]
    (rules,) = (each["spec"]["groups"] for each in documents if each["kind"] == "PrometheusRule")
    look(node, tmp_path)
    with prometheus(node, tmp_path, rules, [scrape(monitor, tmp_path) for monitor in monitors]) as running:
        yield running


@pytest.fixture
def gpus(node: Any) -> Iterator[None]:
    """A node that says that it has some, which Kubernetes believes; what asks for them here uses none."""

    def advertise(number: str | None) -> None:
        said = {"capacity": {GPU: number}, "allocatable": {GPU: number}}
        node.kubectl("patch", "node", "node-1", "--subresource=status", "-p", json.dumps({"status": said}))

    advertise("4")
    yield
    advertise(None)


def job(kube: Manifests) -> dict[str, Any]:
    """One with an autoscaler, of whose tasks one death is enough."""
    manifest = kube.job_manifest("train", WORK)
    manifest["metadata"]["labels"] = {Label.OWNER: "ann"}
    spec = manifest["spec"]["cluster"]["spec"]
    for role in ("scheduler", "worker"):
        (container,) = spec[role]["spec"]["containers"]
        port = container["readinessProbe"]["httpGet"]["port"]
        container["ports"] = [{"name": Port.DASHBOARD.name, "containerPort": port}]  # as constructs call it
    (scheduler,), (worker,) = (spec[role]["spec"]["containers"] for role in ("scheduler", "worker"))
    scheduler["env"].append({"name": "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "value": "0"})
    worker["resources"]["limits"] = {GPU: 1}
    del spec["worker"]["replicas"]
    spec["autoscaler"] = {"minimum": 1, "maximum": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 10}}}
    return manifest


def numbers(found: list[dict[str, Any]]) -> list[float]:
    """Of an answer, what can be drawn."""
    return [value for series in found if math.isfinite(value := float(series["value"][1]))]


@pytest.mark.usefixtures("gpus")
def test_each_panel_has_what_to_show(
    node: Any, seen: Prometheus, kubectl: Kubectl, kube: Manifests, tmp_path: Path
) -> None:
    """At some time: what a worker's death shows passes."""
    begun = time.time()
    kubectl.apply(kube.cluster_manifest("broken", workers=0, scheduler_image="registry.example.com/gone:1"))
    kubectl.apply(job(kube))
    chosen = {"$cluster": ".*", "$job": "train", "$__rate_interval": "30s"}
    where = {"dask-operator": "dask-operator", "dask-clusters": kube.namespace, "dask-job": kube.namespace}
    variables = {uid: {"$namespace": namespace, **chosen} for uid, namespace in where.items()}
    lacking = {each.uid: {p.title: p for row in each.rows for p in row.panels} for each in dashboards()}

    def empty() -> dict[str, set[str]]:
        look(node, tmp_path)
        for uid, panels in lacking.items():
            for title, panel in list(panels.items()):
                queries = [filled_in(query.expr, variables[uid]) for query in panel.queries]
                if all(numbers(seen(query)) for query in queries):
                    del panels[title]
        return {uid: set(panels) for uid, panels in lacking.items()}

    try:
        eventually(lambda: empty() == EMPTY, seconds=300)
    except AssertionError:
        assert empty() == EMPTY
    found = seen("max by (job) (max_over_time(up[10m])) == 1")  # one whose only worker has just died has none now
    assert {series["metric"]["job"] for series in found} == JOBS
    while os.environ.get("UPDATE_SCREENSHOTS") and time.time() < begun + SPAN:
        look(node, tmp_path)
        time.sleep(2)
    folder = ROOT / "docs" / "screenshots" if os.environ.get("UPDATE_SCREENSHOTS") else tmp_path
    assert pictures(seen, variables, folder, begun) < MOST_BYTES


def pictures(seen: Prometheus, variables: Mapping[str, Mapping[str, str]], folder: Path, begun: float) -> int:
    """Draw each dashboard; returns the size of the largest picture."""
    end = time.time()
    begin = max(begun, end - SPAN)
    for each in dashboards():

        def answers(panel: Mapping[str, Any], uid: str = each.uid) -> list[Any]:
            queries = [filled_in(target["expr"], variables[uid]) for target in panel["targets"]]
            if panel["type"] == "timeseries":
                return [seen.course(query, begin, end) for query in queries]
            return [seen(query) for query in queries]

        draw(each.json(), answers, folder / f"{each.uid}.png")
    return max((folder / f"{each.uid}.png").stat().st_size for each in dashboards())
