"""Autoscaling on a real node: each group follows its own load, steadily, and leaves Git's fields alone."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from distributed import Client
from tests.e2e.support import Kubectl, Manifests, eventually

pytestmark = pytest.mark.node

GIT = "kustomize-controller"
OPERATOR = "dask-operator-status"
BURST_SECONDS, BURSTS, MAXIMUM = 20, 6, 3
AT_ONCE = {"scaleDown": {"stabilizationWindowSeconds": 10}}  # as far as the patience of a test goes


def autoscaler(cluster: str, group: str | None = None, **spec: Any) -> dict[str, Any]:
    spec = {"cluster": cluster, "minimum": 0, **({"workerGroup": group} if group else {}), **spec}
    kind = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler"}
    return {**kind, "metadata": {"name": group or cluster}, "spec": spec}


def workers(kubectl: Kubectl, group: str) -> list[dict[str, Any]]:
    """The worker Pods of a group that are not on their way out."""
    pods = kubectl.json("get", "pods", "-l", f"dask.org/workergroup-name={group}")["items"]
    return [p for p in pods if "deletionTimestamp" not in p["metadata"]]


def ever_there(kubectl: Kubectl, group: str, seconds: int) -> tuple[set[str], int]:
    """Uids of the worker Pods of a group within the next seconds, and the most at a time; not of those that end."""
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods"
    query = f"watch=1&timeoutSeconds={seconds}&labelSelector=dask.org/workergroup-name={group}"
    there: set[str] = set()
    ever: set[str] = set()
    most = 0
    for line in kubectl("get", "--raw", f"{path}?{query}").splitlines():
        event = json.loads(line)
        metadata = event["object"]["metadata"]
        uid = metadata["uid"]
        there = there - {uid} if event["type"] == "DELETED" or "deletionTimestamp" in metadata else there | {uid}
        ever |= there
        most = max(most, len(there))
    return ever, most


@contextlib.contextmanager
def client_of(kube: Manifests, name: str) -> Iterator[Client]:
    from dask_kubernetes.operator import KubeCluster

    with KubeCluster.from_name(name, namespace=kube.namespace, quiet=True) as cluster, Client(cluster) as client:
        yield client


def test_bursts_do_not_churn_workers(kubectl, kube, operator):
    """A burst every 20 s under the default behavior: no Pod is ever made beyond those of the peak.

    Also when another operator goes on meanwhile: what the windows need is in status.
    """
    kubectl.apply(kube.cluster_manifest("bursty", workers=0))
    kubectl.apply(autoscaler("bursty", maximum=MAXIMUM))
    kubectl.wait_ready("daskcluster", "bursty")
    with client_of(kube, "bursty") as client, ThreadPoolExecutor() as executor:
        watched = executor.submit(ever_there, kubectl, "bursty-default", BURST_SECONDS * BURSTS)
        start = time.monotonic()
        for number in range(BURSTS):
            futures = client.map(lambda task: time.sleep(1) or task, range(100 * number, 100 * number + 20))
            assert client.gather(futures) == list(range(100 * number, 100 * number + 20))
            del futures
            if number == 2:
                killed = executor.submit(operator.kill)
            time.sleep(max(0.0, start + BURST_SECONDS * (number + 1) - time.monotonic()))
        ever, most = watched.result()
        killed.result()
    assert 2 <= most <= MAXIMUM
    assert len(ever) == most
    # After the last burst, and the window of a minute, there are none.
    eventually(lambda: not workers(kubectl, "bursty-default"), seconds=120)
    assert kubectl.condition("daskautoscaler", "bursty", "AbleToScale")["reason"] == "ReadyForNewScale"


def writes(node, namespace: str) -> int:
    """Requests of the operator in a namespace that change something; 0 where there is no audit log."""
    audited = node.audited() if node.kind == "node" else []
    return sum(
        1
        for entry in audited
        if entry["user"]["username"].endswith(":dask-operator")
        and entry["verb"] in ("create", "update", "patch", "delete")
        and entry.get("objectRef", {}).get("namespace") == namespace
    )


def test_each_group_grows_for_its_own_tasks_only(node, kubectl, kube):
    """From zero and back to zero; the group with the resource is Git's, and nothing but its status is written."""
    kubectl.apply(kube.cluster_manifest("mixed", workers=0))
    gpu = kube.group_manifest("mixed-gpu", "mixed", workers=0, args=["--resources", "GPU=1"])
    gpu["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "app"}
    scaler = autoscaler("mixed", "mixed-gpu", maximum=2, behavior=AT_ONCE)
    for manifest in (gpu, scaler):
        kubectl("apply", "--server-side", f"--field-manager={GIT}", "-f", "-", input=json.dumps(manifest))
    kubectl.apply(autoscaler("mixed", maximum=2, behavior=AT_ONCE))
    kubectl.wait_ready("daskcluster", "mixed")

    with client_of(kube, "mixed") as client, ThreadPoolExecutor() as executor:
        # A task that needs a GPU wakes that group up, although no such worker has ever been there.
        watched = executor.submit(ever_there, kubectl, "mixed-default", 20)
        task = client.submit(lambda: 42, resources={"GPU": 1})
        assert task.result(timeout=90) == 42
        assert watched.result()[0] == set(), "and no other group"
        many = [client.submit(lambda n: time.sleep(1) or n, n, resources={"GPU": 1}) for n in range(20)]
        eventually(lambda: len(workers(kubectl, "mixed-gpu")) == 2)
        assert client.gather(many) == list(range(20))
        assert workers(kubectl, "mixed-default") == []
        del task, many
        eventually(lambda: not workers(kubectl, "mixed-gpu"), seconds=90)

        # Plain tasks wake the other one up.
        watched = executor.submit(ever_there, kubectl, "mixed-gpu", 20)
        plain = client.map(lambda n: time.sleep(1) or n, range(20))
        eventually(lambda: len(workers(kubectl, "mixed-default")) == 2)
        assert client.gather(plain) == list(range(20))
        assert watched.result()[0] == set()
        del plain
        eventually(lambda: not workers(kubectl, "mixed-default"), seconds=90)

    time.sleep(20)  # the windows are over
    before = writes(node, kubectl.namespace)
    time.sleep(20)
    assert writes(node, kubectl.namespace) == before, "an idle cluster causes no writes"

    for kind in ("daskworkergroup", "daskautoscaler"):
        found = json.loads(kubectl("get", kind, "mixed-gpu", "-o", "json", "--show-managed-fields"))
        written = [(e["manager"], e.get("subresource"), set(e["fieldsV1"])) for e in found["metadata"]["managedFields"]]
        assert sorted(entry[:2] for entry in written) == [(OPERATOR, "status"), (GIT, None)]
        assert all(fields == {"f:status"} for manager, _, fields in written if manager == OPERATOR)
    if node.kind == "node":
        assert before > 0, "the audit log was read"
    assert kubectl.json("get", "daskworkergroup", "mixed-gpu")["spec"]["worker"]["replicas"] == 0


def test_only_idle_workers_go(kubectl, kube):
    """The group shrinks around the worker that runs a task: it runs once, and its Pod is the one that stays."""

    def long() -> str:
        import os
        import socket

        from distributed import get_worker

        get_worker().log_event("long", socket.gethostname())
        while not os.path.exists("/tmp/end"):
            time.sleep(0.5)
        return socket.gethostname()

    kubectl.apply(kube.cluster_manifest("loyal", workers=0))
    kubectl.apply(autoscaler("loyal", maximum=3, behavior=AT_ONCE))
    kubectl.wait_ready("daskcluster", "loyal")
    with client_of(kube, "loyal") as client:
        short = client.map(lambda n: time.sleep(1) or n, range(40))
        eventually(lambda: len(workers(kubectl, "loyal-default")) == 3, seconds=90)
        client.wait_for_workers(3, timeout=90)
        task = client.submit(long, priority=10)
        assert client.gather(short) == list(range(40))
        del short
        eventually(lambda: len(workers(kubectl, "loyal-default")) == 1, seconds=90)
        assert not task.done()
        (left,) = workers(kubectl, "loyal-default")
        kubectl("exec", left["metadata"]["name"], "--", "touch", "/tmp/end")
        assert task.result(timeout=60) == left["metadata"]["name"]
        assert [message for _, message in client.get_events("long")] == [left["metadata"]["name"]]
        del task
        eventually(lambda: not workers(kubectl, "loyal-default"), seconds=60)
