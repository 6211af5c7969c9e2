"""Sizes that strangers choose, at a real API server: what they cost others, and what status says of them."""

from __future__ import annotations

import copy
import json

import pytest
from bench.api import Api
from tests.e2e.support import eventually
from tests.support.quota import Watch

pytestmark = pytest.mark.control_plane

#: More than the annotation of a client-side apply takes.
LARGE = [{"name": f"V{n}", "value": "x" * 1000} for n in range(300)]


def put(kubectl, manifest) -> None:
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(manifest))


def test_what_is_too_large_is_stalled_and_its_pods_are_left_alone(kubectl, kube, controller):
    """Security finding 3, and controller finding 10: a cluster that cannot be read is not gone."""
    put(kubectl, kube.cluster_manifest("big", workers=2))
    kubectl.wait_ready("daskcluster", "big")
    workers = {pod["metadata"]["uid"] for pod in kubectl.json("get", "pods")["items"]}
    grown = kube.cluster_manifest("big", workers=2)
    grown["spec"]["scheduler"]["spec"]["containers"][0]["env"] = LARGE
    put(kubectl, grown)
    eventually(lambda: kubectl.condition("daskcluster", "big", "Stalled").get("reason") == "TooLarge")
    assert "262,144" in kubectl.condition("daskcluster", "big", "Ready")["message"]
    kubectl("annotate", "daskworkergroup", "big-default", "look=again")
    kubectl("scale", "daskworkergroup", "big-default", "--replicas=1")
    eventually(
        lambda: kubectl.condition("daskworkergroup", "big-default", "Stalled").get("reason") == "ClusterUnreadable"
    )
    assert {pod["metadata"]["uid"] for pod in kubectl.json("get", "pods")["items"]} == workers
    kubectl("scale", "daskworkergroup", "big-default", "--replicas=3")
    put(kubectl, kube.cluster_manifest("big", workers=2))
    kubectl.wait_ready("daskworkergroup", "big-default")
    kubectl.wait_ready("daskcluster", "big")
    assert len(kubectl.json("get", "pods", "-l", "dask.org/component=worker")["items"]) == 3


def test_a_group_that_is_too_large_has_no_pods_and_says_why(kubectl, kube, controller):
    kubectl.apply(kube.cluster_manifest("fine", workers=1))
    large = kube.group_manifest("large", "fine", workers=2)
    large["spec"]["worker"]["spec"]["containers"][0]["env"] = copy.deepcopy(LARGE)
    put(kubectl, large)
    eventually(lambda: kubectl.condition("daskworkergroup", "large", "Stalled").get("reason") == "TooLarge")
    assert kubectl.json("get", "pods", "-l", "dask.org/workergroup-name=large")["items"] == []
    kubectl.wait_ready("daskworkergroup", "fine-default")  # it may be yet to be made


def test_status_follows_while_many_workers_come_and_go(control_plane, kubectl, kube, controller):
    """Controller finding 22: until all were deleted, status said that all were ready."""
    kubectl.apply(kube.cluster_manifest("many", workers=1, worker_extra={"drainTimeoutSeconds": 0}))
    kubectl.wait_ready("daskcluster", "many")
    groups = f"/apis/kubernetes.dask.org/v1/namespaces/{kubectl.namespace}/daskworkergroups"
    with Watch(Api(control_plane), groups) as seen:  # who looks now and then misses steps

        def told() -> list[int]:
            return [event.manifest["status"]["replicas"] for event in list(seen.events)]

        kubectl("scale", "daskworkergroup", "many-default", "--replicas=450")
        eventually(lambda: told()[-1] == 450, seconds=180)
        up = len(set(told()))
        kubectl("scale", "daskworkergroup", "many-default", "--replicas=0")
        eventually(lambda: told()[-1] == 0, seconds=180)
    assert up >= 4, "steps on the way up: two plans at least, and where it began and ended"
    assert len(set(told())) - up >= 2, "steps on the way down"


def test_an_absurd_number_in_a_namespace_with_a_quota_is_told_and_leaves_time_for_others(kubectl, kube, controller):
    """Controller finding 12, security finding 1."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"pods": "10"}},
    }
    kubectl.apply(quota)
    kubectl.apply(kube.cluster_manifest("absurd", workers=100_000))
    eventually(lambda: len(kubectl.json("get", "pods")["items"]) >= 9, seconds=60)
    ready = lambda: kubectl.condition("daskworkergroup", "absurd-default", "Ready")  # noqa: E731
    eventually(lambda: ready().get("reason") == "QuotaExceeded", seconds=60)
    kubectl.apply(kube.cluster_manifest("small", workers=1))
    eventually(lambda: kubectl.condition("daskcluster", "small", "Ready").get("reason") == "QuotaExceeded", seconds=60)
    with pytest.raises(Exception, match="200000"):
        kubectl("scale", "daskworkergroup", "absurd-default", "--replicas=4500000")
