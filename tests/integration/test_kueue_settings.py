"""Kueue with other settings: it evicts what is not ready, takes in what names no queue, or tells who is in line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import yaml
from tests.cluster import ControlPlane
from tests.cluster.images import ROOT
from tests.support.controller import Controller
from tests.support.kueue import kueue
from tests.support.queues import Queue, eventually, is_true, items, queued, why, workers

pytestmark = pytest.mark.control_plane


@pytest.mark.usefixtures("controller")
def test_what_is_ready_is_left_alone_and_what_is_not_in_time_is_evicted(control_plane, kubectl, kube):
    with kueue(control_plane, waitForPodsReady={"timeout": "15s", "recoveryTimeout": "15s"}):
        queue = Queue(kubectl, "9")
        kubectl.apply(queued(kube.cluster_manifest("good", **workers(2, 1))))
        kubectl.wait_ready("daskcluster", "good")
        eventually(lambda: sum(is_true(w, "PodsReady") for w in queue.workloads()) == 2)
        before = {p["metadata"]["uid"] for p in queue.pods()}

        broken = queued(kube.cluster_manifest("broken", **workers(1)))
        broken["spec"]["worker"]["spec"]["nodeSelector"] = {"no": "such-node"}
        kubectl.apply(broken)
        eventually(lambda: "PodsReady" in why(kubectl, "daskcluster", "broken"))  # after at least 15 s
        eventually(lambda: {p["metadata"]["uid"] for p in queue.pods()} == before)
        (evicted,) = (w for w in queue.workloads("base") if w["metadata"]["name"].startswith("daskcluster-broken"))
        assert evicted["status"]["requeueState"]["count"] == 1, "its backoff is kept"
        kubectl("delete", "--all", "daskclusters")


@pytest.mark.usefixtures("controller")
def test_who_tells_kueue_whose_pods_they_are_has_none_of_them_taken(control_plane, kubectl, kube):
    kinds = [f"{kind}.v1.kubernetes.dask.org" for kind in ("DaskCluster", "DaskWorkerGroup", "DaskJob")]
    integrations = {"frameworks": ["batch/job", "pod", "deployment"], "externalFrameworks": kinds}
    here = {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}}
    settings = {"manageJobsWithoutQueueName": True, "managedJobsNamespaceSelector": here}
    with kueue(control_plane, integrations=integrations, **settings):
        queue = Queue(kubectl, "9")
        kubectl.apply(queued(kube.cluster_manifest("c", **workers(2, 1))))
        kubectl.wait_ready("daskcluster", "c")
        assert "schedulingGates" not in json.dumps(queue.pods())
        assert len(kubectl.json("get", "workloads")["items"]) == 2, (
            "the base, a surplus worker, and none of Kueue's own"
        )
        kubectl("delete", "--all", "daskclusters")


@pytest.fixture
def confined(control_plane: ControlPlane, namespace: str) -> Iterator[None]:
    """The operator with the rights that it is granted, and none besides."""
    user, plane = "operator-of-queues", control_plane
    documents = yaml.safe_load_all((ROOT / "dist" / "operator" / "operator.yaml").read_text())
    mine = ("dask-operator", "dask-operator-queues", "dask-operator-queue-classes")
    roles = [d for d in documents if d["kind"] == "ClusterRole" and d["metadata"]["name"] in mine]
    assert len(roles) == len(mine)
    bindings = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"test-{role}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": user}],
        }
        for role in mine
    ]
    plane.pki.issue(user, user)
    kubeconfig = plane.pki.kubeconfig(plane.folder / f"{user}.kubeconfig", f"https://{plane.host}:{plane.port}", user)
    plane.kubectl("apply", "-f", "-", input=items(*roles, *bindings))
    controller = Controller(plane, namespace, kubeconfig=kubeconfig)
    yield
    controller.kill()
    plane.kubectl("delete", "-f", "-", input=items(*roles, *bindings))


@pytest.mark.usefixtures("confined")
def test_what_waits_is_told_its_place_in_line(control_plane, kubectl, kube):
    with kueue(control_plane, tells_positions=True):
        queue = Queue(kubectl, "1500m")
        for name in ("first", "second"):
            kubectl.apply(queued(kube.cluster_manifest(name, **workers(2))))
            eventually(lambda name=name: "insufficient" in why(kubectl, "daskcluster", name))
            time.sleep(1.1)  # what is created in the same second is in the order of uids
        eventually(lambda: why(kubectl, "daskcluster", "first").endswith("; next in line of its ClusterQueue"))
        eventually(lambda: why(kubectl, "daskcluster", "second").endswith("; second in line of its ClusterQueue"))
        kubectl("delete", "daskcluster", "first")
        eventually(lambda: why(kubectl, "daskcluster", "second").endswith("; next in line of its ClusterQueue"))
        queue.set_quota("3")
        kubectl.wait_ready("daskcluster", "second")
        assert why(kubectl, "daskcluster", "second").startswith("True Admitted")
        kubectl("delete", "--all", "daskclusters")
