"""Limits of the operator at a real API server: what is beyond them waits in line, and starts by itself."""

from __future__ import annotations

import json
import threading
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
LINE = "may have 2"


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
