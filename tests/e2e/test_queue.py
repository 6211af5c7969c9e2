"""Nothing is lost when Kueue takes workers away: it gets their quota when they have handed on what they hold.

Left out unless it has been built, ``python -m tests.cluster kueue``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bench.api import Api
from distributed import Client, Variable
from tests.e2e.support import DASK_IMAGE, Kubectl, Manifests, eventually
from tests.e2e.workload import Workload, cluster
from tests.support import kueue
from tests.support.quota import Quota, Watch

from dask_crds.names import Label

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore")]

WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/namespaces/{}/workloads"
#: Waits until somebody says that it may end.
PROGRAM = """\
from distributed import Client, Variable
with Client() as client:
    Variable("end", client).get()
"""


@pytest.fixture
def queue(node, operator, namespace: str) -> Iterator[None]:
    """Quota for a scheduler and four workers; the operator, which runs already, finds Kueue by itself."""
    if node.kind != "node":
        pytest.skip("needs a cluster of our own, for Kueue's webhooks")
    with kueue.kueue(node):
        items = [
            kueue.flavor(namespace),
            kueue.cluster_queue(namespace, namespace, "100m"),
            kueue.priority("high", 1000),
            {**kueue.local_queue("team", namespace), "metadata": {"name": "team", "namespace": namespace}},
        ]
        node.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        yield
        node.kubectl("-n", namespace, "delete", "--all", "daskjobs,jobs")


def job(kube: Manifests, **worker: Any) -> dict[str, Any]:
    """One guaranteed worker, and three others."""
    manifest = kube.job_manifest("j", PROGRAM)
    manifest["metadata"]["labels"] = {Label.QUEUE: "team"}
    manifest["spec"]["cluster"]["spec"] = cluster(kube, "j", workers=4, guaranteed=1, **worker)["spec"]
    return manifest


@contextmanager
def load_of(kubectl: Kubectl) -> Iterator[Workload]:
    """Data and tasks on the job's cluster; in the end its program is told to end."""
    from dask_kubernetes.operator import KubeCluster

    eventually(lambda: kubectl.status("daskworkergroup", "j-default").get("readyReplicas") == 4, seconds=240)
    connected = KubeCluster.from_name("j", namespace=kubectl.namespace, shutdown_on_close=False)
    with connected as found, Client(found) as client:
        yield Workload(client)
        Variable("end", client).set(True)


def urgent() -> dict[str, Any]:
    """A Job of higher priority that needs the quota of two workers."""
    manifest = kueue.intruder("urgent", "team", "40m", priority_class="high")
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    container |= {"image": DASK_IMAGE, "command": ["sh", "-c", "until test -e /tmp/end; do sleep 1; done"]}
    manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
    return manifest


def end(kubectl: Kubectl, job: str) -> None:
    """A Job's Pod ends before it gives its quota back: if it were deleted, Kueue would not wait for that."""
    (pod,) = kubectl.json("get", "pods", "-l", f"job-name={job}")["items"]
    kubectl("wait", f"pod/{pod['metadata']['name']}", "--for=condition=Ready", "--timeout=60s")
    kubectl("exec", pod["metadata"]["name"], "--", "touch", "/tmp/end")
    eventually(lambda: kubectl.status("job", job).get("succeeded"), seconds=120)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize("drains", [True, False], ids=["drained", "control experiment"])
def test_preemption_of_two_workers_loses_nothing(node, kubectl, kube, drains: bool):
    pods = Quota(Api(node), kubectl.namespace, 100)
    with pods, Watch(Api(node), WORKLOADS.format(kubectl.namespace)) as workloads:
        _preempt(kubectl, kube, drains)
    if drains and (file := os.environ.get("RECORDING")):
        found = {"pods": pods.events, "workloads": workloads.events}
        Path(file).write_text(json.dumps({key: [e._asdict() for e in events] for key, events in found.items()}))


@pytest.mark.usefixtures("queue")
def test_kueue_is_asked_for_the_place_of_what_waits(node, kubectl, kube):
    """So that `test_permissions` sees it. This Kueue does not answer, which changes nothing."""
    manifest = cluster(kube, "waits", workers=9)
    manifest["metadata"]["labels"] = {Label.QUEUE: "team"}
    kubectl.apply(manifest)

    def asked() -> bool:
        by_operator = (entry for entry in node.audited() if entry["user"]["username"].endswith(":dask-operator"))
        about = (entry.get("objectRef", {}) for entry in by_operator)
        here = (what for what in about if what.get("namespace") == kubectl.namespace)
        return any(what.get("subresource") == "pendingworkloads" for what in here)

    eventually(asked, seconds=60)
    eventually(lambda: kubectl.condition("daskcluster", "waits", "Admitted")["reason"] == "Queued")
    kubectl("delete", "daskcluster", "waits")


def _preempt(kubectl: Kubectl, kube: Manifests, drains: bool) -> None:
    kubectl.apply(job(kube, **({} if drains else {"drainTimeoutSeconds": 0})))
    with load_of(kubectl) as load:
        load.at_stake(4)
        kubectl.apply(urgent())
        eventually(lambda: kubectl.status("job", "urgent").get("active"), seconds=240)
        workers = kubectl.json("get", "pods", "-l", f"{Label.COMPONENT}=worker")["items"]
        running = [pod for pod in workers if pod["status"]["phase"] not in ("Succeeded", "Failed")]
        assert len(running) == 2, "it had to wait until they had ended"
        if drains:
            assert load.lost_keys() == set()
            assert load.wrong_results() == []
            assert load.not_once() == {}
            assert load.wrong_data() == []
        else:
            eventually(load.lost_keys)  # else the test would see nothing
        end(kubectl, "urgent")
        eventually(lambda: kubectl.status("daskworkergroup", "j-default").get("readyReplicas") == 4, seconds=240)
    eventually(lambda: kubectl.status("daskjob", "j").get("jobStatus") == "Successful", seconds=120)
    assert "retries" not in kubectl.status("daskjob", "j")
