"""Limits of the operator at a real API server: what is beyond them waits in line, and starts by itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support.controller import Controller
from tests.support.queues import why, workers

from dask_crds.names import Component, Label

pytestmark = pytest.mark.control_plane
#: What is created in the same second is in the order of uids.
SECOND = 1.1


@pytest.fixture
def operate(control_plane: ControlPlane, namespace: str) -> Iterator[Callable[..., Controller]]:
    """Starts an operator with limits, in the place of the one before."""
    running = list[Controller]()

    def start(**limits: Any) -> Controller:
        while running:
            running.pop().kill()
        given = (f"--limits={json.dumps(limits)}",) if limits else ()
        running.append(Controller(control_plane, namespace, *given))
        return running[-1]

    yield start
    while running:
        running.pop().kill()


def pods(kubectl: Kubectl, component: str) -> list[dict[str, Any]]:
    """Those that have not ended, terminating ones included."""
    found = kubectl.json("get", "pods", "-l", f"{Label.COMPONENT}={component}")["items"]
    return [pod for pod in found if pod["status"].get("phase") in (None, "Pending", "Running")]


class Watched:
    """Looks again and again how many Pods of a component there are."""

    def __init__(self, kubectl: Kubectl, component: str, most: int) -> None:
        self.kubectl, self.component, self.most, self.samples = kubectl, component, most, list[int]()
        self._over, self._looking = threading.Event(), ThreadPoolExecutor(1)

    def _look(self) -> None:
        while not self._over.wait(0.2):
            self.samples.append(len(pods(self.kubectl, self.component)))

    def __enter__(self) -> Watched:
        self._looked = self._looking.submit(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looked.result()
        self._looking.shutdown()
        assert len(self.samples) > 3
        assert max(self.samples) == self.most, "as many as may, and never more"


def waiting(kubectl: Kubectl, kind: str, *names: str) -> list[str]:
    return [name for name in names if "LimitReached" in why(kubectl, kind, name, "Ready")]


def test_five_jobs_run_two_at_a_time_in_the_order_of_their_creation(
    operate: Callable[..., Controller], kubectl: Kubectl, kube: Manifests
) -> None:
    operate(jobs=2)
    names = [f"j{n}" for n in range(5)]
    for name in names:
        kubectl.apply(kube.job_manifest(name, "pass", cluster={"spec": kube.cluster_spec(**workers(1))}))
        time.sleep(SECOND)
    with Watched(kubectl, Component.JOB_RUNNER, 2):
        for n, name in enumerate(names):
            eventually(lambda name=name: kubectl.status("daskjob", name).get("jobStatus") == "Running")
            behind = names[n + 2 :]
            eventually(lambda behind=behind: waiting(kubectl, "daskjob", *behind) == behind)
            if behind:
                eventually(lambda it=behind[0]: "next in line" in why(kubectl, "daskjob", it, "Ready"))
            (runner,) = (p for p in pods(kubectl, Component.JOB_RUNNER) if p["metadata"]["name"].startswith(name))
            kubectl("annotate", "pod", runner["metadata"]["name"], "test.dask.org/exit-code=0")
            eventually(lambda name=name: kubectl.status("daskjob", name).get("jobStatus") == "Successful")


def ready(kubectl: Kubectl, *names: str) -> bool:
    return all(why(kubectl, "daskcluster", name, "Ready").startswith("True") for name in names)


def owned(kubectl: Kubectl, component: str) -> list[str]:
    """Clusters that have such a Pod."""
    return sorted({pod["metadata"]["labels"][Label.CLUSTER] for pod in pods(kubectl, component)})


def test_clusters_wait_in_line_whatever_becomes_of_the_operator_and_its_limit(
    operate: Callable[..., Controller], kubectl: Kubectl, kube: Manifests
) -> None:
    controller = operate(clusters=2)
    for name in "abcd":
        kubectl.apply(kube.cluster_manifest(name, **workers(1)))
        time.sleep(SECOND)
    with Watched(kubectl, Component.SCHEDULER, 2):
        eventually(lambda: ready(kubectl, "a", "b") and waiting(kubectl, "daskcluster", *"abcd") == ["c", "d"])
        eventually(lambda: "next in line" in why(kubectl, "daskcluster", "c"))
        assert why(kubectl, "daskcluster", "c", "Suspended").startswith("False")
        assert "suspend" not in kubectl.json("get", "daskcluster", "c")["spec"]

        controller.kill()
        kubectl("patch", "daskcluster", "a", "--type=merge", '-p={"spec":{"suspend":true}}')  # while nobody looks
        controller.start()
        eventually(lambda: ready(kubectl, "b", "c") and owned(kubectl, Component.SCHEDULER) == ["b", "c"])
        eventually(lambda: "next in line" in why(kubectl, "daskcluster", "d"))

        operate(clusters=1)
        kubectl("delete", "daskcluster", "b")
        eventually(lambda: owned(kubectl, Component.SCHEDULER) == ["c"])
        eventually(lambda: "may have 1 running cluster " in why(kubectl, "daskcluster", "d"))
        assert ready(kubectl, "c")
        kubectl("delete", "daskcluster", "c")
        eventually(lambda: ready(kubectl, "d"))
        kubectl("patch", "daskcluster", "a", "--type=merge", '-p={"spec":{"suspend":null}}')
        eventually(lambda: waiting(kubectl, "daskcluster", "a") == ["a"])

        operate()
        eventually(lambda: ready(kubectl, "a", "d"))
    assert why(kubectl, "daskcluster", "a") == "", "nobody admits it any more"


def test_workers_of_all_groups_are_no_more_than_the_limit(
    operate: Callable[..., Controller], kubectl: Kubectl, kube: Manifests
) -> None:
    controller = operate(workers=4)
    with Watched(kubectl, Component.WORKER, 4):
        kubectl.apply(kube.cluster_manifest("a", **workers(3)))
        kubectl.wait_ready("daskcluster", "a")
        kubectl.apply(kube.cluster_manifest("b", **workers(3)))
        short = "1 of 3 workers are ready; 2 workers wait: namespace"
        eventually(lambda: short in why(kubectl, "daskworkergroup", "b-default", "Ready"))
        eventually(lambda: "LimitReached" in why(kubectl, "daskcluster", "b", "Ready"))
        assert kubectl.json("get", "daskworkergroup", "b-default")["spec"]["worker"]["replicas"] == 3
        assert kubectl.status("daskworkergroup", "b-default")["desiredReplicas"] == 3

        controller.kill()
        kubectl("scale", "daskworkergroup", "a-default", "--replicas=1")
        controller.start()
        eventually(lambda: ready(kubectl, "a", "b"))
        kubectl("scale", "daskworkergroup", "a-default", "--replicas=5")
        eventually(lambda: "4 workers wait" in why(kubectl, "daskworkergroup", "a-default", "Ready"))
        kubectl("delete", "daskcluster", "b")
        eventually(lambda: "1 worker waits" in why(kubectl, "daskworkergroup", "a-default", "Ready"))
        eventually(lambda: len(pods(kubectl, Component.WORKER)) == 4)
    operate()
    eventually(lambda: ready(kubectl, "a"))
    assert len(pods(kubectl, Component.WORKER)) == 5
