"""What status and events say when neighbours are in the way, or a manifest is unusual: all at the same time.

Everything is started at once and looked at one after the other, because most of the time is spent on waiting.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.support import Kubectl, Manifests, eventually

pytestmark = pytest.mark.node

CLIENT = "import time; from distributed import Client; c = Client(); "
#: A new Pod that the kubelet refuses is made at most this often.
REPLACEMENT_SECONDS = 30


def without_probes(job: dict[str, Any]) -> dict[str, Any]:
    """As in most manifests that people have."""
    spec = job["spec"]["cluster"]["spec"]
    for component in ("scheduler", "worker"):
        del spec[component]["spec"]["containers"][0]["readinessProbe"]
    return job


def refused_by_the_kubelet(cluster: dict[str, Any], node: str) -> dict[str, Any]:
    """Workers that get past the scheduler, and do not fit."""
    cluster["spec"]["worker"]["spec"] |= {"nodeName": node, "nodeSelector": {"no": "such-node"}}
    return cluster


def on_another_port(cluster: dict[str, Any]) -> dict[str, Any]:
    """The scheduler serves HTTP on a port of its user's; its Service leads there."""
    scheduler = cluster["spec"]["scheduler"]
    (container,) = scheduler["spec"]["containers"]
    container["args"] += ["--dashboard-address", ":9787"]
    container["ports"] = [{"name": "http-dashboard", "containerPort": 9787}]
    container["readinessProbe"]["httpGet"]["port"] = 9787
    ports = [{"name": "tcp-comm", "port": 8786}, {"name": "http", "port": 8787, "targetPort": "http-dashboard"}]
    scheduler["service"] = {"ports": ports}
    return cluster


def with_runner(job: dict[str, Any], **pod: Any) -> dict[str, Any]:
    job["spec"]["job"]["spec"] |= pod
    return job


class Neighbourhood:
    """Two namespaces, one with a quota, and since when their resources are there."""

    def __init__(self, node: Any) -> None:
        self.open, self.bounded = (
            Kubectl(node.kubectl, f"test-reports-{name}-{os.getpid()}") for name in ("open", "bounded")
        )
        kube = Manifests(node.kubeconfig, self.open.namespace)
        for kubectl in (self.open, self.bounded):
            node.kubectl("create", "namespace", kubectl.namespace)
        self.bounded("create", "quota", "three", "--hard=pods=3")  # scheduler, runner and one worker
        self.began = time.monotonic()
        # What is looked at first comes first.
        code = CLIENT + "c.submit(sum, [1, 2]).result(); "
        self.open.apply(without_probes(kube.job_manifest("quiet", code + "time.sleep(20)")))
        ignores = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        deaf = kube.job_manifest("deaf", ignores, workers=0)
        self.open.apply(with_runner(deaf, terminationGracePeriodSeconds=8))
        failing = kube.job_manifest("coded", "print('last words'); raise SystemExit(3)", workers=0)
        self.open.apply(with_runner(failing, restartPolicy="OnFailure"))
        (name, *_) = node.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
        self.open.apply(refused_by_the_kubelet(kube.cluster_manifest("refused", workers=1), name))
        self.open.apply(on_another_port(kube.cluster_manifest("moved", workers=2)))
        self.bounded.apply(kube.job_manifest("modest", code, workers=3))


@pytest.fixture(scope="module")
def neighbourhood(node, operator) -> Iterator[Neighbourhood]:
    started = Neighbourhood(node)
    yield started
    for kubectl in (started.open, started.bounded):
        node.kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture
def kubectl(neighbourhood: Neighbourhood) -> Kubectl:
    return neighbourhood.open


def events(kubectl: Kubectl, of: str) -> list[dict[str, Any]]:
    """The events of all objects whose names begin so."""
    return [e for e in kubectl.json("get", "events")["items"] if e["involvedObject"]["name"].startswith(of)]


def test_ready_means_that_the_scheduler_listens(kubectl: Kubectl):
    """(node 3) Though its manifest has no probes."""
    eventually(lambda: kubectl("get", "daskcluster", "quiet", "-o", "name"))
    kubectl("wait", "daskcluster/quiet", "--for=condition=Ready", "--timeout=120s")
    connects = "import socket; socket.create_connection(('localhost', 8786), timeout=1)"
    kubectl("exec", "deployment/quiet-scheduler", "--", "python3", "-c", connects)


def test_pods_that_the_kubelet_refuses_are_not_made_without_end(neighbourhood: Neighbourhood, kubectl: Kubectl):
    """(public 08, controller 11, strangers 4)"""
    eventually(lambda: events(kubectl, "refused-default-worker"))
    time.sleep(max(0, REPLACEMENT_SECONDS - 5 - (time.monotonic() - neighbourhood.began)))
    refused = {e["involvedObject"]["uid"] for e in events(kubectl, "refused-default-worker")}
    assert 1 <= len(refused) <= 1 + (time.monotonic() - neighbourhood.began) / REPLACEMENT_SECONDS

    def said() -> tuple[str, str]:
        found = kubectl.condition("daskworkergroup", "refused-default", "Ready")
        return found["status"], found["reason"]

    eventually(lambda: said() == ("False", "NodeAffinity"))  # not while the next one has yet to be refused


def test_the_exit_code_of_a_runner_that_is_restarted_in_its_pod_is_told(kubectl: Kubectl):
    """(public 25) Kubernetes deletes its Pod when it has failed."""
    eventually(lambda: kubectl.status("daskjob", "coded").get("jobStatus") == "Failed", seconds=120)
    assert "exit code 3" in kubectl.condition("daskjob", "coded", "Failed")["message"]


def test_a_scheduler_on_another_port_is_asked_there(kubectl: Kubectl):
    """(public 13) One that is not found there keeps its idle workers until the time to drain is over."""
    kubectl.wait_ready("daskcluster", "moved")
    # Registered, else nothing would have to be asked.
    asks = "from distributed import Client; Client('localhost:8786').wait_for_workers(2, timeout=60)"
    kubectl("exec", "deployment/moved-scheduler", "--", "python3", "-c", asks)
    kubectl("scale", "daskworkergroup", "moved-default", "--replicas=1")
    pods = ("get", "pods", "-l", "dask.org/workergroup-name=moved-default", "-o", "name")
    eventually(lambda: len(kubectl(*pods).split()) == 1)
    assert not [e for e in events(kubectl, "moved") if e["reason"] == "DrainTimeout"]


def test_workers_leave_the_runner_its_place_in_a_quota(neighbourhood: Neighbourhood):
    """(public 15)"""
    kubectl = neighbourhood.bounded
    eventually(lambda: kubectl.status("daskjob", "modest").get("jobStatus") == "Successful", seconds=120)


def test_a_success_makes_no_warnings(kubectl: Kubectl):
    """(node 4) Nor does the end of its cluster."""
    eventually(lambda: kubectl.status("daskjob", "quiet").get("jobStatus") == "Successful", seconds=120)
    pods = ("get", "pods", "-l", "dask.org/cluster-name=quiet,dask.org/component!=job-runner", "-o", "name")
    eventually(lambda: kubectl(*pods).strip() == "", seconds=90)
    # Whoever has probes is told that they fail while it starts. And a kubelet waits a second for what a busy API server
    # says of a Secret, warns of that, and tries again.
    machine = re.compile("failed to sync (secret|configmap) cache: timed out")
    told = events(kubectl, "quiet")
    warnings = [e for e in told if e["type"] == "Warning" and e["reason"] != "Unhealthy"]
    warnings = [e for e in warnings if not machine.search(e["message"])]
    assert [f"{e['involvedObject']['name']}: {e['reason']}: {e['message']}" for e in warnings] == []
    assert [e["reason"] for e in told if e["involvedObject"]["kind"] == "DaskJob"].count("Completed") == 1


def test_a_runner_that_is_being_stopped_is_not_told_to_run(kubectl: Kubectl):
    """(node 6) It has lost its scheduler; its program does not heed SIGTERM and is killed seconds later."""
    eventually(lambda: kubectl.status("daskjob", "deaf").get("jobStatus") == "Running", seconds=120)
    runner = kubectl.status("daskjob", "deaf")["jobRunnerPodName"]
    scheduler = "dask.org/cluster-name=deaf,dask.org/component=scheduler"
    kubectl("delete", "pod", "-l", scheduler, "--grace-period=0", "--force")

    def said() -> str:
        return kubectl.condition("daskjob", "deaf", "Ready")["message"]

    def is_there() -> bool:
        return runner in kubectl("get", "pods", "-o", "name")

    eventually(lambda: "the scheduler was lost" in said(), seconds=30)
    messages = []
    while is_there():
        messages.append(said())
        time.sleep(0.5)
    assert messages
    # The last one may be of the time after it.
    assert all("the scheduler was lost" in message for message in messages[:-1]), messages
