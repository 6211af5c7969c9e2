"""What strangers do to our objects and names, at a real API server. The numbers are those of the review of 637166b."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, eventually

pytestmark = pytest.mark.control_plane

CLUSTER = "shared"


def patch(kubectl: Kubectl, kind: str, name: str, change: Any, type: str = "merge") -> None:
    kubectl("patch", kind, name, f"--type={type}", "-p", json.dumps(change))


def workers(kubectl: Kubectl, group: str = f"{CLUSTER}-default") -> list[dict[str, Any]]:
    return kubectl.json("get", "pods", "-l", f"dask.org/workergroup-name={group}")["items"]


def foreign_pod(name: str, **metadata: Any) -> dict[str, Any]:
    container = {"name": "x", "image": "registry.example.com/x"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [container]},
    }


def writes_of_ten_seconds(plane: ControlPlane) -> int:
    before = plane.writes()
    time.sleep(10)
    return plane.writes() - before


def test_what_others_change_of_ours_is_set_right_and_what_they_add_stays(control_plane, kubectl, kube, controller):
    """(strangers 1, 9, 11; controller 8, 20; security 7) And when all is right again, nothing is written any more."""
    manifest = kube.cluster_manifest(CLUSTER, workers=1, worker_extra={"drainTimeoutSeconds": 0})
    manifest["spec"]["idleTimeout"] = 3600
    # The API server writes both in its own way: that is no change of anybody's.
    manifest["spec"]["scheduler"]["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "0.020", "memory": "104857600"}
    }
    manifest["spec"]["scheduler"]["service"] = {"externalIPs": [], "type": "ClusterIP"}
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", CLUSTER)
    scheduler, group = f"{CLUSTER}-scheduler", f"{CLUSTER}-default"
    service = kubectl.json("get", "service", scheduler)["spec"]["ports"]

    def ports() -> dict[str, int]:
        return {p["name"]: p["port"] for p in kubectl.json("get", "service", scheduler)["spec"]["ports"]}

    patch(kubectl, "service", scheduler, [{"op": "replace", "path": "/spec/ports/0/port", "value": 9786}], "json")
    eventually(lambda: ports() == {p["name"]: p["port"] for p in service})
    patch(
        kubectl,
        "service",
        scheduler,
        [{"op": "add", "path": "/spec/ports/-", "value": {"name": "theirs", "port": 99}}],
        "json",
    )
    patch(kubectl, "service", scheduler, {"spec": {"selector": {"dask.org/component": "theirs"}}})
    eventually(
        lambda: kubectl.json("get", "service", scheduler)["spec"]["selector"]["dask.org/component"] == "scheduler"
    )
    assert ports()["theirs"] == 99

    module = kubectl.json("get", "configmap", f"{scheduler}-extension")["data"]
    name = next(iter(module))
    patch(kubectl, "configmap", f"{scheduler}-extension", {"data": {name: "import os", "distributed.py": "import os"}})
    eventually(lambda: kubectl.json("get", "configmap", f"{scheduler}-extension")["data"] == module)

    def container() -> dict[str, Any]:
        found: dict[str, Any] = kubectl.json("get", "deployment", scheduler)["spec"]["template"]["spec"]["containers"][
            0
        ]
        return found

    stated = container()
    kubectl("set", "image", f"deployment/{scheduler}", "scheduler=registry.example.com/theirs:1")
    eventually(lambda: container()["image"] == stated["image"])
    kubectl("set", "env", f"deployment/{scheduler}", "THEIRS=1")
    patch(kubectl, "deployment", scheduler, {"spec": {"strategy": {"type": "RollingUpdate"}}})
    eventually(lambda: kubectl.json("get", "deployment", scheduler)["spec"]["strategy"]["type"] == "Recreate")
    assert {"name": "THEIRS", "value": "1"} in container()["env"]

    kubectl("label", "service", scheduler, "dask.org/cluster-name-", "dask.org/component=theirs", "--overwrite")
    eventually(
        lambda: kubectl.json("get", "service", scheduler)["metadata"]["labels"].get("dask.org/component") == "scheduler"
    )
    patch(kubectl, "poddisruptionbudget", scheduler, {"spec": {"minAvailable": 0, "maxUnavailable": None}})
    eventually(lambda: kubectl.json("get", "poddisruptionbudget", scheduler)["spec"].get("maxUnavailable") == 0)

    tolerations = [{"key": "theirs", "operator": "Exists"}]
    patch(kubectl, "daskworkergroup", group, {"spec": {"worker": {"spec": {"tolerations": tolerations}}}})
    kubectl("annotate", "daskworkergroup", group, "theirs=1")
    kubectl("annotate", "daskcluster", CLUSTER, "look=again")
    kubectl.wait_ready("daskcluster", CLUSTER)
    found = kubectl.json("get", "daskworkergroup", group)
    assert found["spec"]["worker"]["spec"]["tolerations"] == tolerations
    patch(
        kubectl, "daskworkergroup", group, {"spec": {"worker": {"drainTimeoutSeconds": 7, "spec": {"hostname": "x"}}}}
    )
    manifest["spec"]["worker"]["drainTimeoutSeconds"] = 5
    kubectl.apply(manifest)
    eventually(lambda: kubectl.json("get", "daskworkergroup", group)["spec"]["worker"]["drainTimeoutSeconds"] == 5)
    patch(kubectl, "daskworkergroup", group, {"spec": {"worker": {"drainTimeoutSeconds": 7}}})
    eventually(lambda: kubectl.json("get", "daskworkergroup", group)["spec"]["worker"]["drainTimeoutSeconds"] == 5)
    kubectl.wait_ready("daskcluster", CLUSTER)

    for restart in (False, True):
        if restart:
            controller.stop()
            controller.start()
        # Kwok keeps its nodes alive, and nobody else writes, once what earlier tests have left is collected.
        eventually(lambda: writes_of_ten_seconds(control_plane) <= 4, seconds=90)


@pytest.mark.parametrize(
    ("place", "worker"),
    [
        ("updateStrategy", {"type": "OnDelete"}),
        ("updateStrategy", {"rollingUpdate": {"maxSurge": 2}}),
        ("metadata", {"labels": {"team": "x"}}),
    ],
)
def test_what_is_set_back_to_its_default_reaches_the_group(kubectl, kube, controller, place, worker):
    """(node 1) The API server left null in its place, and refused the whole from then on."""
    manifest = kube.cluster_manifest("back", workers=1, worker_extra={"drainTimeoutSeconds": 0, place: worker})
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "back")
    default = {"updateStrategy": {"type": "RollingUpdate"}, "metadata": {}}[place]
    for value in (default, worker, None, worker, {}):
        manifest["spec"]["worker"][place] = value
        put(kubectl, manifest)
        kubectl.wait_ready("daskcluster", "back")
        said = kubectl.json("get", "daskworkergroup", "back-default")["spec"]["worker"].get(place) or {}
        assert all((said.get(key) == worker[key]) == (value == worker) for key in worker), said


def put(kubectl: Kubectl, manifest: dict[str, Any]) -> None:
    """As clients do that send the whole object."""
    live = kubectl.json("get", manifest["kind"], manifest["metadata"]["name"])
    kubectl("replace", "-f", "-", input=json.dumps({**live, "spec": manifest["spec"]}))


def test_names_that_others_have_are_left_out(kubectl, kube, controller):
    """(controller 7, strangers 10) And a worker whose label somebody took away is no reason for another one."""
    kubectl.apply(foreign_pod("taken-default-worker-0"))
    kubectl.apply(foreign_pod("taken-default-worker-2", labels={"dask.org/cluster-name": "taken"}))
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in kubectl.json("get", "pods")["items"]}
    kubectl.apply(kube.cluster_manifest("taken", workers=3, worker_extra={"drainTimeoutSeconds": 0}))
    kubectl.wait_ready("daskcluster", "taken")
    ours = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in workers(kubectl, "taken-default")}
    assert sorted(ours) == [f"taken-default-worker-{n}" for n in (1, 3, 4)]
    kubectl("label", "pod", "taken-default-worker-3", "dask.org/cluster-name-")
    kubectl("scale", "daskworkergroup", "taken-default", "--replicas=4")
    eventually(lambda: len(workers(kubectl, "taken-default")) == 4)
    kubectl.wait_ready("daskcluster", "taken")
    third = ("get", "pod", "taken-default-worker-3")
    eventually(lambda: kubectl.json(*third)["metadata"]["labels"]["dask.org/cluster-name"] == "taken")
    present = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in kubectl.json("get", "pods")["items"]}
    assert before.items() <= present.items(), "what is somebody else's is still there"
    assert ours.items() <= present.items(), "nobody was replaced"


def test_a_pod_that_only_claims_to_be_the_scheduler_is_none(kubectl, kube, controller):
    """(security 5, strangers 7) Nor does one count that has ended (controller 1, strangers 8)."""
    manifest = kube.cluster_manifest("claimed", workers=1)
    manifest["spec"]["scheduler"]["spec"]["nodeSelector"] = {"no": "such-node"}
    labels = {"dask.org/cluster-name": "claimed", "dask.org/component": "scheduler"}
    kubectl.apply(foreign_pod("claims", labels=labels))
    kubectl.apply(manifest)
    eventually(lambda: kubectl.condition("daskcluster", "claimed", "SchedulerReady").get("reason") == "Unschedulable")
    assert kubectl.condition("daskcluster", "claimed", "Ready")["status"] == "False"
    kubectl.wait_ready("daskworkergroup", "claimed-default")


def test_a_service_that_leads_nowhere_is_not_ready(kubectl, kube, controller):
    """(public 03)"""
    manifest = kube.cluster_manifest("lost", workers=1)
    manifest["spec"]["scheduler"]["service"] = {"selector": {"dask.org/cluster-name": "another"}}
    kubectl("apply", "--validate=false", "-f", "-", input=json.dumps(manifest))
    eventually(lambda: kubectl.condition("daskcluster", "lost", "Ready").get("reason") == "ServiceSelectsNothing")


def test_a_cluster_of_the_same_name_waits_for_what_goes_with_the_one_before(kubectl, kube, controller):
    """(node 7, controller 5) It says so, is no conflict, and comes up by itself."""
    manifest = kube.cluster_manifest("again", workers=2, worker_extra={"drainTimeoutSeconds": 0})
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "again")
    service = kubectl.json("get", "service", "again-scheduler")
    patch(kubectl, "service", "again-scheduler", {"metadata": {"finalizers": ["example.com/wait"]}})
    kubectl("delete", "daskcluster", "again", "--wait=false")
    kubectl.apply(manifest)
    eventually(
        lambda: "waiting for Service again-scheduler" in kubectl.condition("daskcluster", "again", "Ready")["message"]
    )
    assert kubectl.condition("daskcluster", "again", "Ready")["reason"] == "Progressing"
    patch(kubectl, "service", "again-scheduler", {"metadata": {"finalizers": None}})
    kubectl.wait_ready("daskcluster", "again")
    assert kubectl.json("get", "service", "again-scheduler")["metadata"]["uid"] != service["metadata"]["uid"]


def test_a_finalizer_of_an_earlier_operator_goes_without_noise(kubectl, kube, controller):
    """kopf takes it away, by a write in the session that is made for its watches."""
    manifest = kube.cluster_manifest("old", workers=0)
    manifest["metadata"]["finalizers"] = ["kopf.zalando.org/KopfFinalizerMarker"]
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "old")
    eventually(lambda: not kubectl.json("get", "daskcluster", "old")["metadata"].get("finalizers"))
    assert "will retry" not in controller.stop()
