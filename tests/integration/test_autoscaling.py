"""HorizontalPodAutoscaler on a worker group, at a real API server with the real controller of Kubernetes."""

from __future__ import annotations

import json

import pytest
from tests.e2e.support import eventually
from tests.support.external_metric import external_metric
from tests.support.pod_metrics import pod_metrics

pytestmark = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]


def horizontal_pod_autoscaler(group: str, **spec) -> dict:
    """One without a source of metrics: it still holds the number within its bounds, which needs none."""
    target = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup", "name": group}
    kind = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
    return {**kind, "metadata": {"name": group}, "spec": {"scaleTargetRef": target, **spec}}


def test_a_horizontal_pod_autoscaler_scales_a_group(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("hpa", workers=1, worker_extra={"drainTimeoutSeconds": 0}))
    kubectl.wait_ready("daskcluster", "hpa")
    kubectl.apply(horizontal_pod_autoscaler("hpa-default", minReplicas=3, maxReplicas=5))
    eventually(lambda: kubectl.status("daskworkergroup", "hpa-default").get("readyReplicas") == 3, seconds=120)
    # It sees the Pods that there are, by the scale subresource, and is content.
    eventually(lambda: kubectl.status("hpa", "hpa-default").get("currentReplicas") == 3, seconds=60)
    assert kubectl.condition("hpa", "hpa-default", "AbleToScale")["status"] == "True"
    kubectl("scale", "daskworkergroup", "hpa-default", "--replicas=8")
    eventually(lambda: kubectl.json("get", "daskworkergroup", "hpa-default")["spec"]["worker"]["replicas"] == 5)
    kubectl.wait_ready("daskworkergroup", "hpa-default")
    assert kubectl.status("daskworkergroup", "hpa-default")["replicas"] == 5
    # The cluster's own number is handed on when it changes, and only then.
    assert kubectl.json("get", "daskcluster", "hpa")["spec"]["worker"]["replicas"] == 1


def test_a_horizontal_pod_autoscaler_follows_what_the_workers_use(control_plane, kubectl, kube):
    """It finds the workers by ``status.selector``, and those alone: the scheduler's Pod is none of them."""
    kubectl.apply(kube.cluster_manifest("fed", workers=1, worker_extra={"drainTimeoutSeconds": 0}))
    kubectl.wait_ready("daskcluster", "fed")
    target = {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}
    at_once = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    metrics = [{"type": "Resource", "resource": target}]
    with pod_metrics(control_plane) as used:
        kubectl.apply(
            horizontal_pod_autoscaler("fed-default", minReplicas=1, maxReplicas=9, metrics=metrics, behavior=at_once)
        )
        for gibibytes in (4, 2):
            used.memory = gibibytes * 1024
            eventually(
                lambda n=gibibytes: kubectl.status("daskworkergroup", "fed-default").get("readyReplicas") == n,
                seconds=120,
            )
        assert kubectl.condition("hpa", "fed-default", "ScalingActive")["status"] == "True"
    selector = kubectl.status("daskworkergroup", "fed-default")["selector"]
    assert used.selectors == {selector}
    eventually(lambda: len(kubectl.json("get", "pods", "-l", selector)["items"]) == 2)  # two are on their way out


def test_a_horizontal_pod_autoscaler_scales_to_nothing_and_back(control_plane, kubectl, kube):
    """Kubernetes 1.37: by a metric that is not of the Pods, which are gone then."""
    kubectl.apply(kube.cluster_manifest("nil", workers=1, worker_extra={"drainTimeoutSeconds": 0}))
    kubectl.wait_ready("daskcluster", "nil")
    target = {"metric": {"name": "tasks"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    at_once = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    metrics = [{"type": "External", "external": target}]
    with external_metric(control_plane) as waiting:
        kubectl.apply(
            horizontal_pod_autoscaler("nil-default", minReplicas=0, maxReplicas=9, metrics=metrics, behavior=at_once)
        )
        for tasks, replicas in ((0, 0), (25, 3), (0, 0)):
            waiting.value = tasks
            eventually(
                lambda n=replicas: kubectl.status("daskworkergroup", "nil-default").get("replicas", 0) == n, seconds=120
            )
            kubectl.wait_ready("daskworkergroup", "nil-default")


def test_an_autoscaler_writes_nothing_but_status_on_what_git_owns(kubectl, kube):
    """Without a scheduler that answers, too: the bounds hold, and ``replicas`` stays as Git states it."""
    kubectl.apply(kube.cluster_manifest("git", workers=0))
    group = kube.group_manifest("git-big", "git", workers=1)
    group["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "app"}
    scaler = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler", "metadata": {"name": "git-big"}}
    scaler["spec"] = {"cluster": "git", "workerGroup": "git-big", "minimum": 2, "maximum": 4}
    for manifest in (group, scaler):
        kubectl("apply", "--server-side", "--field-manager=flux", "-f", "-", input=json.dumps(manifest))
    eventually(lambda: kubectl.status("daskworkergroup", "git-big").get("readyReplicas") == 2)
    assert kubectl.condition("daskautoscaler", "git-big", "ScalingActive")["status"] == "False"
    for kind in ("daskworkergroup", "daskautoscaler"):
        found = json.loads(kubectl("get", kind, "git-big", "-o", "json", "--show-managed-fields"))
        written = {(e["manager"], e.get("subresource")): set(e["fieldsV1"]) for e in found["metadata"]["managedFields"]}
        assert written.keys() == {("flux", None), ("dask-operator-status", "status")}
        assert written["dask-operator-status", "status"] == {"f:status"}
    assert kubectl.json("get", "daskworkergroup", "git-big")["spec"]["worker"]["replicas"] == 1


def test_the_autoscaler_of_a_suspended_cluster_is_suspended(kubectl, kube):
    cluster = kube.cluster_manifest("nightly", workers=1, worker_extra={"drainTimeoutSeconds": 0})
    scaler = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler", "metadata": {"name": "nightly"}}
    scaler["spec"] = {"cluster": "nightly", "minimum": 1, "maximum": 4}
    kubectl.apply(cluster)
    kubectl.apply(scaler)
    kubectl.wait_ready("daskcluster", "nightly")
    for suspend, reason in ((True, "Suspended"), (False, "SchedulerSilent"), (True, "Suspended")):
        kubectl("patch", "daskcluster", "nightly", "--type=merge", "-p", json.dumps({"spec": {"suspend": suspend}}))
        eventually(lambda r=reason: kubectl.condition("daskautoscaler", "nightly", "Ready").get("reason") == r)
