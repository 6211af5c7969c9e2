"""Hundreds of surplus workers in a queue of the real Kueue: what that costs the API server, and who waits."""

from __future__ import annotations

import os
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.cluster import ControlPlane
from tests.cluster.processes import free_port
from tests.support.controller import Controller
from tests.support.kueue import kueue
from tests.support.queues import Queue, eventually, queued, why, workers

from dask_controller.core.queue_workers import FEWEST_PENDING

#: How many; more of them take more than the minutes that a test is worth.
SURPLUS = int(os.environ.get("SURPLUS", "200"))
#: A Workload, its `PodsReady` and a Pod; and what a group and its cluster tell meanwhile.
WRITES_PER_WORKER = 3.5
#: For all of them to come; on two cores half of it goes to Kueue.
SECONDS = 2 * SURPLUS
pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(3 * SECONDS)]


@pytest.fixture(scope="module")
def queue(control_plane: ControlPlane) -> Iterator[None]:
    with kueue(control_plane):
        yield


def writes(port: int) -> Counter[str]:
    """How many requests of the operator were no reads, by what they were about."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found = Counter[str]()
    for sample in (sample for family in families for sample in family.samples):
        if sample.name == "rest_client_requests_total" and sample.labels["verb"] not in ("get", "list", "watch"):
            found[f"{sample.labels['verb']} {sample.labels['resource']}"] += int(sample.value)
    return found


@pytest.mark.usefixtures("queue")
def test_hundreds_of_surplus_workers_take_few_requests_each(control_plane, namespace, kubectl, kube):
    half, port = SURPLUS // 2, free_port()
    there = Queue(kubectl, f"{1100 + 1000 * half}m")  # a scheduler, a guaranteed worker, and half of the others
    controller = Controller(control_plane, namespace, "--port", str(port))
    try:
        kubectl.apply(queued(kube.cluster_manifest("c", **workers(SURPLUS + 1, 1))))
        eventually(lambda: there.admitted("surplus") == half, seconds=SECONDS)
        eventually(lambda: "wait for quota" in why(kubectl, "daskworkergroup", "c-default", "Ready"), seconds=SECONDS)
        assert len(there.workloads("surplus")) - half <= max(FEWEST_PENDING, half // 2), "few wait at a time"

        eventually(lambda: idle(port), seconds=SECONDS)
        there.set_quota(f"{1100 + 1000 * SURPLUS}m")
        kubectl.wait_ready("daskcluster", "c", seconds=SECONDS)
        eventually(lambda: idle(port), seconds=SECONDS)
        asked = writes(port)
        assert sum(asked.values()) <= WRITES_PER_WORKER * SURPLUS + 100, asked
        assert asked["create pods"] == SURPLUS + 1, asked  # the scheduler's is made by its Deployment

        kubectl("delete", "daskcluster", "c")
        eventually(lambda: there.workloads() == [] and there.pods() == [], seconds=SECONDS)
    finally:
        controller.kill()
        kubectl("delete", "--all", "daskclusters")
        kubectl("delete", "--wait=false", "clusterqueue,resourceflavor", there.name)


def idle(port: int) -> bool:
    """Whether nothing is written for ten seconds: whoever waits, waits."""
    before = writes(port)
    time.sleep(10)
    return writes(port) == before
