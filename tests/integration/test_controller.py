"""The whole controller against a real API server; kwok plays the kubelet, so that crashes cost seconds."""

from __future__ import annotations

import copy
import itertools
import json
import time

import pytest
from tests.e2e.support import Kubectl, eventually

pytestmark = pytest.mark.control_plane


def uids(kubectl: Kubectl) -> set[str]:
    return {pod["metadata"]["uid"] for pod in kubectl.json("get", "pods")["items"]}


def test_children_have_owners_and_users_objects_stay_theirs(kubectl, kube, controller):
    kubectl.apply(kube.cluster_manifest("mine", workers=2))
    kubectl.wait_ready("daskcluster", "mine")
    for kind in ("pods", "services", "deployments", "configmaps", "daskworkergroups"):
        items = kubectl.json("get", kind, "-l", "dask.org/cluster-name=mine")["items"]
        assert items, kind
        assert all(item["metadata"].get("ownerReferences") for item in items), kind
    metadata = kubectl.json("get", "daskcluster", "mine")["metadata"]
    assert "finalizers" not in metadata
    assert list(metadata["annotations"]) == ["kubectl.kubernetes.io/last-applied-configuration"]


def test_nothing_is_written_while_nothing_happens(control_plane, kubectl, kube, controller):
    kubectl.apply(kube.cluster_manifest("quiet", workers=2))
    kubectl.wait_ready("daskcluster", "quiet")

    def writes_of_ten_seconds() -> int:
        begun = control_plane.writes()
        time.sleep(10)
        return control_plane.writes() - begun

    # Once what earlier tests have left is collected.
    eventually(lambda: writes_of_ten_seconds() <= NODE_HEARTBEATS, seconds=90)
    before = control_plane.writes()
    time.sleep(20)
    assert control_plane.writes() - before <= NODE_HEARTBEATS
    controller.stop()
    controller.start()
    time.sleep(10)
    assert control_plane.writes() - before <= NODE_HEARTBEATS, "a restart on a settled cluster writes nothing"


#: kwok keeps its two fake nodes alive meanwhile.
NODE_HEARTBEATS = 4


def test_a_kill_at_any_time_makes_neither_too_many_nor_too_few(kubectl, kube, controller):
    """Twelve kills, later and later after a change; no Pod beyond those asked for is ever made."""
    kubectl.apply(kube.cluster_manifest("crashy", workers=1, worker_extra={"drainTimeoutSeconds": 0}))
    largest = 0
    for number, wanted in zip(range(12), itertools.cycle([20, 5, 12]), strict=False):
        kubectl(
            "patch",
            "daskcluster",
            "crashy",
            "--type=merge",
            "-p",
            f'{{"spec": {{"worker": {{"replicas": {wanted}}}}}}}',
        )
        time.sleep(0.25 * number)
        controller.kill()
        pods = kubectl.json("get", "pods", "-l", "dask.org/component=worker")["items"]
        largest = max(largest, sum("deletionTimestamp" not in pod["metadata"] for pod in pods))
        controller.start()
    eventually(lambda: kubectl.status("daskworkergroup", "crashy-default").get("readyReplicas") == wanted, seconds=120)
    kubectl.wait_ready("daskcluster", "crashy")
    assert largest <= 20
    eventually(lambda: len(kubectl.json("get", "pods", "-l", "dask.org/component=worker")["items"]) == wanted)


def test_somebody_elses_service_is_left_alone(kubectl, kube, controller):
    kubectl("create", "service", "clusterip", "taken-scheduler", "--tcp=80:80")
    kubectl.apply(kube.cluster_manifest("taken", workers=1))
    eventually(lambda: kubectl.condition("daskcluster", "taken", "Ready").get("reason") == "NameConflict")
    assert kubectl.json("get", "service", "taken-scheduler")["spec"]["ports"][0]["port"] == 80
    kubectl("delete", "service", "taken-scheduler")
    kubectl.wait_ready("daskcluster", "taken", seconds=90)


def test_a_deleted_child_comes_back(kubectl, kube, controller):
    kubectl.apply(kube.cluster_manifest("healed", workers=1))
    kubectl.wait_ready("daskcluster", "healed")
    for child in ("service/healed-scheduler", "deployment/healed-scheduler", "daskworkergroup/healed-default"):
        before = kubectl("get", child, "-o", "jsonpath={.metadata.uid}")
        kubectl("delete", child, "--wait=false")
        eventually(lambda child=child, before=before: kubectl("get", child, "-o", "jsonpath={.metadata.uid}") != before)
    kubectl.wait_ready("daskcluster", "healed")


def test_what_is_left_out_later_goes(kubectl, kube, controller):
    """Fields of a child that was created, and of one that was changed since, in every kind that a user shapes."""
    service = {"type": "ClusterIP", "sessionAffinity": "ClientIP"}
    manifest = kube.cluster_manifest("lean", workers=1)
    spec = manifest["spec"]
    spec["worker"]["drainTimeoutSeconds"] = 0
    without = copy.deepcopy(manifest)
    for turn in ("created", "changed"):
        spec["scheduler"]["service"] = service
        spec["scheduler"]["spec"]["hostname"] = spec["worker"]["spec"]["hostname"] = f"{turn}-host"
        kubectl.apply(manifest)
        kubectl.wait_ready("daskcluster", "lean")
        assert written(kubectl) == ("ClientIP", f"{turn}-host", f"{turn}-host")
        kubectl.apply(without)
        eventually(lambda: written(kubectl) == ("None", None, None))
        kubectl.wait_ready("daskcluster", "lean")


def written(kubectl: Kubectl) -> tuple[str, str | None, str | None]:
    template = kubectl.json("get", "deployment", "lean-scheduler")["spec"]["template"]["spec"]
    group = kubectl.json("get", "daskworkergroup", "lean-default")["spec"]["worker"]["spec"]
    affinity = kubectl.json("get", "service", "lean-scheduler")["spec"]["sessionAffinity"]
    return affinity, template.get("hostname"), group.get("hostname")


def test_labels_of_gitops_tools_do_not_reach_children(kubectl, kube, controller):
    manifest = kube.cluster_manifest("tracked", workers=1)
    manifest["metadata"] |= {
        "labels": {"app.kubernetes.io/instance": "app", "team": "data"},
        "annotations": {"argocd.argoproj.io/tracking-id": "app:x"},
    }
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "tracked")
    for kind in ("pods", "services", "deployments", "daskworkergroups"):
        for item in kubectl.json("get", kind, "-l", "dask.org/cluster-name=tracked")["items"]:
            assert item["metadata"]["labels"]["team"] == "data", kind
            assert "app.kubernetes.io/instance" not in item["metadata"]["labels"], kind
            assert "argocd.argoproj.io/tracking-id" not in item["metadata"].get("annotations", {}), kind


def test_a_group_of_git_has_no_owner_and_one_of_a_client_has(kubectl, kube, controller):
    kubectl.apply(kube.cluster_manifest("both", workers=0))
    kubectl.apply(kube.group_manifest("both-client", "both", workers=1))
    git = kube.group_manifest("both-git", "both", workers=1)
    git["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "app"}
    kubectl.apply(git)
    kubectl.wait_ready("daskworkergroup", "both-client")
    kubectl.wait_ready("daskworkergroup", "both-git")
    assert kubectl.json("get", "daskworkergroup", "both-client")["metadata"]["ownerReferences"][0]["name"] == "both"
    assert "ownerReferences" not in kubectl.json("get", "daskworkergroup", "both-git")["metadata"]
    kubectl("delete", "daskcluster", "both")
    eventually(
        lambda: (
            kubectl("get", "daskworkergroup", "-o", "name").split() == ["daskworkergroup.kubernetes.dask.org/both-git"]
        )
    )
    eventually(lambda: uids(kubectl) == set())
    eventually(lambda: kubectl.condition("daskworkergroup", "both-git", "Ready")["reason"] == "ClusterNotFound")


def test_deleting_without_an_operator_hangs_nowhere(kubectl, kube, controller):
    kubectl.apply(kube.cluster_manifest("alone", workers=2))
    kubectl.wait_ready("daskcluster", "alone")
    controller.stop()
    kubectl("delete", "daskcluster", "alone", "--timeout=20s")
    eventually(
        lambda: (
            kubectl("get", "pods,services,deployments,configmaps", "-l", "dask.org/cluster-name=alone", "-o", "name")
            == ""
        )
    )


def test_a_scheduler_on_delete_waits_for_its_user(kubectl, kube, controller):
    def manifest(image: str) -> dict:
        made = kube.cluster_manifest("patient", workers=1, scheduler_image=image)
        made["spec"]["scheduler"]["updateStrategy"] = {"type": "OnDelete"}
        return made

    def schedulers() -> list[dict]:  # none while one takes the place of another
        return kubectl.json("get", "pods", "-l", "dask.org/component=scheduler")["items"]

    kubectl.apply(manifest("dask:1"))
    kubectl.wait_ready("daskcluster", "patient")
    before = schedulers()[0]["metadata"]["uid"]
    kubectl.apply(manifest("dask:2"))
    eventually(lambda: "old template" in kubectl.condition("daskcluster", "patient", "SchedulerReady")["message"])
    assert [pod["metadata"]["uid"] for pod in schedulers()] == [before]
    controller.stop()  # a deletion that nobody watches
    kubectl("delete", "pod", schedulers()[0]["metadata"]["name"])
    eventually(lambda: [pod for pod in schedulers() if pod["metadata"]["uid"] != before])
    controller.start()
    images = ["dask:2"]
    eventually(lambda: [p["spec"]["containers"][0]["image"] for p in schedulers()] == images, seconds=90)


def test_hpa_reads_the_scale_subresource(kubectl, kube, controller):
    kubectl.apply(kube.cluster_manifest("hpa", workers=2))
    kubectl.wait_ready("daskcluster", "hpa")
    path = f"/apis/kubernetes.dask.org/v1/namespaces/{kubectl.namespace}/daskworkergroups/hpa-default/scale"
    scale = json.loads(kubectl("get", "--raw", path))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 2)
    assert "dask.org/workergroup-name=hpa-default" in scale["status"]["selector"]
