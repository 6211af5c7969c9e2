"""What the running operator tells of Dask, scraped from it, beside what the Pods themselves tell."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.cluster import ControlPlane
from tests.cluster.processes import free_port
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support.controller import Controller

from dask_crds.metrics import METRICS

pytestmark = pytest.mark.control_plane

#: What each worker requests.
CPU, MEMORY = 0.02, 100 * 2**20


class Scraped:
    """The operator's page of metrics."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    def __call__(self, name: str, **labels: str) -> dict[str, float]:
        """The series of a metric with these labels, by the values of its labels in their order."""
        try:
            with urllib.request.urlopen(self._url, timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return {"nobody answers": -1.0}
        families = text_string_to_metric_families(text)
        order = next(metric.labels for metric in METRICS if name.startswith(metric.name))
        return {
            " ".join(sample.labels[label] for label in order): sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }


class Witness:
    """Sees when worker Pods start and go, and knows nothing of the operator."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        kubectl = [str(plane.programs["kubectl"]), "--kubeconfig", str(plane.kubeconfig), "-n", namespace]
        watch = ["get", "pods", "-l", "dask.org/component=worker", "-w", "--output-watch-events", "-o", "json"]
        self._process = subprocess.Popen([*kubectl, *watch], stdout=subprocess.PIPE, text=True)
        self.started: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        lines: list[str] = []
        for line in self._process.stdout:
            lines.append(line)
            if line.startswith("}") or line.rstrip().endswith("}}"):  # in one line or in many
                self._see(json.loads("".join(lines)))
                lines.clear()

    def _see(self, event: dict[str, Any]) -> None:
        uid, start = event["object"]["metadata"]["uid"], event["object"].get("status", {}).get("startTime")
        if start:
            self.started[uid] = datetime.fromisoformat(start).timestamp()
        if event["type"] == "DELETED":
            self.gone[uid] = time.time()

    def seconds(self) -> float:
        """How long all Pods have lived, those that live still until now."""
        now = time.time()
        return sum(self.gone.get(uid, now) - start for uid, start in self.started.items())

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def operator(control_plane: ControlPlane, namespace: str, port: int) -> Iterator[Controller]:
    running = Controller(control_plane, namespace, "--port", str(port))
    yield running
    running.kill()


@pytest.fixture
def witness(control_plane: ControlPlane, namespace: str) -> Iterator[Witness]:
    watching = Witness(control_plane, namespace)
    yield watching
    watching.stop()


def test_usage_is_the_sum_over_pods_that_come_and_go_through_crashes_of_the_operator(
    kubectl: Kubectl, kube: Manifests, operator: Controller, witness: Witness, port: int
) -> None:
    scraped = Scraped(port)

    def scale(workers: int) -> None:
        patch = {"spec": {"worker": {"replicas": workers}}}
        kubectl("patch", "daskcluster", "used", "--type=merge", "-p", json.dumps(patch))

    def workers() -> float:
        return sum(scraped("dask_workergroup_workers").values())

    def is_the_sum_over_pods() -> None:
        """Of what a scrape tells that began and ended at about the same time."""
        time.sleep(1.1)  # what was rendered before is not shown any more
        before = witness.seconds()
        (cpu,) = scraped("dask_usage_cpu_seconds_total", component="worker").values()
        (memory,) = scraped("dask_usage_memory_byte_seconds_total", component="worker").values()
        after = witness.seconds()
        assert 0.99 * before <= cpu / CPU <= 1.01 * after
        assert 0.99 * before <= memory / MEMORY <= 1.01 * after

    def is_written() -> bool:
        """Whether status has the lives of all that are gone, and of others until it was written."""
        told = kubectl.status("daskworkergroup", "used-default")["usage"]
        until = datetime.fromisoformat(told["until"]).timestamp()
        lived = sum(witness.gone.get(uid, until) - start for uid, start in witness.started.items())
        return bool(told["cpuSeconds"] / CPU >= 0.99 * lived)

    manifest = kube.cluster_manifest("used", workers=25, worker_extra={"drainTimeoutSeconds": 0})
    manifest["metadata"]["labels"] = {"dask.org/owner": "ann"}
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "used")
    time.sleep(12)
    operator.kill()
    time.sleep(3)
    operator.start()
    eventually(lambda: workers() == 25)
    is_the_sum_over_pods()
    scale(5)
    eventually(lambda: len(witness.gone) == 20)
    eventually(is_written)  # what is known to a process alone is lost with it
    operator.kill()
    operator.start()
    eventually(lambda: workers() == 5)
    is_the_sum_over_pods()
    scale(30)
    eventually(
        lambda: (
            scraped("dask_workergroup_workers", state="ready").get(f"{kube.namespace} used used-default ready") == 30
        )
    )
    time.sleep(12)
    scale(0)
    eventually(lambda: workers() == 0)
    eventually(lambda: len(witness.gone) >= 50)
    is_the_sum_over_pods()
    (series,) = scraped("dask_usage_cpu_seconds_total", component="worker")
    assert series == f"{kube.namespace} used worker used-default ann"

    def usage() -> tuple[float, float]:
        told = kubectl.status("daskworkergroup", "used-default")["usage"]
        return told["cpuSeconds"] / CPU, told["memoryGibSeconds"] * 2**30 / MEMORY

    eventually(lambda: usage() == pytest.approx((witness.seconds(), witness.seconds()), rel=0.01))


def test_a_series_comes_with_its_object_and_goes_with_it(
    kubectl: Kubectl, kube: Manifests, operator: Controller, port: int
) -> None:
    scraped = Scraped(port)
    kubectl.apply(kube.cluster_manifest("short", workers=2))
    kubectl.apply(kube.job_manifest("brief", "pass"))
    kubectl.wait_ready("daskcluster", "short")
    eventually(lambda: scraped("dask_job_status"))
    eventually(lambda: scraped("dask_cluster_condition", cluster="short", condition="Ready", status="True"))
    who = kube.namespace
    assert scraped("dask_cluster_info", cluster="short") == {f"{who} short ": 1}
    assert scraped("dask_workergroup_desired_workers", cluster="short") == {f"{who} short short-default": 2}
    assert scraped("dask_job_info") == {f"{who} brief ": 1}
    kubectl("patch", "daskcluster", "short", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    told = {"kind": "DaskCluster", "condition": "Suspended", "status": "False"}
    eventually(lambda: scraped("dask_condition_seconds_count", **told) == {"DaskCluster Suspended False": 1})
    operator.kill()
    operator.start()
    eventually(lambda: scraped("dask_job_info") == {f"{who} brief ": 1})
    kubectl("delete", "daskcluster/short", "daskjob/brief", "--wait=false")
    for metric in METRICS:
        if metric.type != "histogram":
            eventually(lambda name=metric.name: scraped(name) == {})
