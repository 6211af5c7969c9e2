"""Workers that somebody else takes away: node drains, evictions, ``kubectl delete pod``."""

from __future__ import annotations

import json
import subprocess

import pytest
from tests.e2e.support import eventually, kube_cluster, ready_pods

pytestmark = pytest.mark.node


def evict(kubectl, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))


def test_the_only_worker_hands_its_results_to_the_one_that_replaces_it(kubectl, kube):
    with kube_cluster(kube, name="evicted", n_workers=1) as (_, client):
        client.wait_for_workers(1)
        data = client.scatter([bytes([n]) * 1000 for n in range(20)])
        eventually(lambda: ready_pods(kubectl, "evicted", "worker"))
        (before,) = ready_pods(kubectl, "evicted", "worker")
        evict(kubectl, before["metadata"]["name"])

        def gone() -> bool:
            return before["metadata"]["uid"] not in kubectl("get", "pods", "-o", "jsonpath={.items[*].metadata.uid}")

        eventually(gone, seconds=90)
        assert client.gather(data) == [bytes([n]) * 1000 for n in range(20)]
    # Nothing waits for a hand-over when the whole cluster goes.
    eventually(lambda: kubectl("get", "pods", "-o", "name").strip() == "", seconds=60)


def test_the_scheduler_is_not_evicted_unless_that_is_allowed(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("guarded", workers=0))
    kubectl.wait_ready("daskcluster", "guarded")
    (pod,) = ready_pods(kubectl, "guarded", "scheduler")
    eventually(lambda: kubectl.status("poddisruptionbudget", "guarded-scheduler").get("currentHealthy") == 1)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        evict(kubectl, pod["metadata"]["name"])
    assert "disruption budget" in refused.value.stderr
    patch = {"spec": {"scheduler": {"evictionPolicy": "Allow"}}}
    kubectl("patch", "daskcluster", "guarded", "--type=merge", "-p", json.dumps(patch))
    eventually(lambda: kubectl("get", "poddisruptionbudgets", "-o", "name") == "")
    evict(kubectl, pod["metadata"]["name"])
