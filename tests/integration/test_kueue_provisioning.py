"""Nodes that a cluster-autoscaler brings for what has quota, by ProvisioningRequests of the real Kueue.

The autoscaler is played: it says of each request what has become of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster import ControlPlane, components
from tests.e2e.support import Kubectl
from tests.support.clusters import upstream_crds
from tests.support.kueue import API, built, cluster_queue, kueue
from tests.support.queues import Queue, eventually, is_true, items, queued, why, workers

pytestmark = pytest.mark.control_plane

CLASS = "check-capacity.autoscaling.x-k8s.io"
#: What it writes at Pods, see `podSetUpdates` in Kueue's `admissionchecks/provisioning/controller.go`.
REQUEST, REQUEST_CLASS = (
    f"autoscaling.x-k8s.io/{name}" for name in ("consume-provisioning-request", "provisioning-class-name")
)
BACKOFF_SECONDS = 10
SPOT = {"key": "spot", "operator": "Exists", "effect": "NoSchedule"}


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> Iterator[None]:
    built()
    with upstream_crds(control_plane, *components.AUTOSCALER), kueue(control_plane):
        yield


@pytest.fixture
def queue(control_plane: ControlPlane, kubectl: Kubectl, installed: None) -> Iterator[Queue]:
    """Whatever has quota waits for its nodes; which pool these are of the autoscaler says."""
    control_plane.kubectl("label", "--overwrite", "node", "kwok-1", "pool=fast")
    made = Queue(kubectl, "9", tolerations=[SPOT])
    retry = {"backoffLimitCount": 3, "backoffBaseSeconds": BACKOFF_SECONDS, "backoffMaxSeconds": BACKOFF_SECONDS}
    selector = [{"key": "pool", "valueFromProvisioningClassDetail": "Pool"}]
    settings = {"provisioningClassName": CLASS, "retryStrategy": retry, "podSetUpdates": {"nodeSelector": selector}}
    name = made.name
    parameters = {"apiGroup": "kueue.x-k8s.io", "kind": "ProvisioningRequestConfig", "name": name}
    check = {"controllerName": "kueue.x-k8s.io/provisioning-request", "parameters": parameters}
    kubectl(
        "apply",
        "-f",
        "-",
        input=items(_object("ProvisioningRequestConfig", name, settings), _object("AdmissionCheck", name, check)),
    )
    kubectl.apply(cluster_queue(name, name, "9", admissionChecksStrategy={"admissionChecks": [{"name": name}]}))
    yield made
    kubectl("delete", "--all", "daskjobs,daskclusters")
    kubectl("delete", "--wait=false", "clusterqueue,resourceflavor,admissioncheck,provisioningrequestconfig", name)


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def undecided(kubectl: Kubectl) -> list[str]:
    """Names of the requests of which the autoscaler has not said what has become of them."""
    found = kubectl.json("get", "provisioningrequests")["items"]
    return [each["metadata"]["name"] for each in found if not (is_true(each, "Provisioned") or is_true(each, "Failed"))]


def answer(kubectl: Kubectl, message: str, **types: bool) -> str:
    """Say something of the one request that waits for it; its name."""
    eventually(lambda: len(undecided(kubectl)) == 1)
    (name,) = undecided(kubectl)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = {"message": message, "lastTransitionTime": now}
    conditions = [{"type": t, "status": str(is_so), "reason": t, **said} for t, is_so in types.items()]
    patch = json.dumps({"status": {"conditions": conditions, "provisioningClassDetails": {"Pool": "fast"}}})
    kubectl("patch", "provisioningrequest", name, "--subresource=status", "--type=merge", "-p", patch)
    return name


@pytest.mark.usefixtures("controller")
def test_what_the_autoscaler_says_reaches_the_pods_and_never_the_users_object(queue, kubectl, kube):
    job = queued(kube.job_manifest("j", "pass", cluster={"spec": kube.cluster_spec(**workers(2, 1))}))
    (runner,) = job["spec"]["job"]["spec"]["containers"]
    runner["resources"] = {"requests": {"cpu": "10m"}}
    kubectl.apply(job)
    answer(kubectl, "nodes in two minutes", Accepted=True, Provisioned=False)
    eventually(lambda: why(kubectl, "daskjob", "j").endswith("is Pending, nodes in two minutes"))
    assert queue.pods() == [], "there is quota, and there are no nodes"

    of_base = answer(kubectl, "three are there", Provisioned=True)
    eventually(lambda: len(queue.pods()) == 3)
    of_surplus = answer(kubectl, "one more", Provisioned=True)
    eventually(lambda: len(queue.pods()) == 4)
    for pod in queue.pods():
        assert pod["spec"]["nodeSelector"] == {"pool": "fast"}
        assert SPOT in pod["spec"]["tolerations"]
        assert pod["metadata"]["annotations"][REQUEST_CLASS] == CLASS
    eventually(lambda: {pod["spec"].get("nodeName") for pod in queue.pods()} == {"kwok-1"})
    consumed = sorted(pod["metadata"]["annotations"][REQUEST] for pod in queue.pods())
    assert consumed == sorted([*[of_base] * 3, of_surplus])
    for kind in ("daskjob", "daskcluster"):
        written = json.dumps(kubectl.json("get", kind, "j")["spec"])
        assert not [word for word in ("nodeSelector", "spot", "autoscaling") if word in written]


@pytest.mark.usefixtures("controller")
def test_a_worker_for_which_there_are_no_nodes_waits_as_long_as_kueue_wants(queue, kubectl, kube):
    kubectl.apply(queued(kube.cluster_manifest("c", **workers(2, 1))))
    answer(kubectl, "two are there", Provisioned=True)
    first = answer(kubectl, "no capacity left", Failed=True)
    failed = time.monotonic()
    eventually(lambda: "no capacity left" in why(kubectl, "daskworkergroup", "c-default", "Ready"))
    (before,) = queue.workloads("surplus")
    second = answer(kubectl, "now there is", Provisioned=True)
    assert time.monotonic() - failed >= BACKOFF_SECONDS - 1, "Kueue asks again when it wants to"
    assert (first[-2:], second[-2:]) == ("-1", "-2"), "and counts"
    kubectl.wait_ready("daskcluster", "c")
    (after,) = queue.workloads("surplus")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    (pod,) = (p for p in queue.pods("worker") if p["metadata"]["annotations"][REQUEST] == second)
    assert pod["spec"]["nodeSelector"] == {"pool": "fast"}
    assert is_true(after, "Admitted")
