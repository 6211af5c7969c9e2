"""Kueue with other settings than its defaults: it evicts what is not ready in time, or takes in what names no queue."""

from __future__ import annotations

import json

import pytest
from tests.support.kueue import kueue
from tests.support.queues import Queue, eventually, is_true, queued, why, workers

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
