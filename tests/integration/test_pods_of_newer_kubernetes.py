"""What newer Kubernetes offers to Pods: devices by claims, resources of a whole Pod, user namespaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support.constructs import IMAGE, chart, only

from dask_constructs import DaskCluster

pytestmark = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]

DRIVER = "gpu.example.com"


def cluster(name: str, **options: Any) -> dict[str, Any]:
    c = chart()
    DaskCluster(c, "c", name=name, image=IMAGE, drain_timeout=0, **options)
    return only(c)


def workers(kubectl: Kubectl, name: str) -> list[dict[str, Any]]:
    selector = f"dask.org/cluster-name={name},dask.org/component=worker"
    return kubectl.json("get", "pods", "-l", selector)["items"]  # type: ignore[no-any-return]


# --- dynamic resource allocation --------------------------------------------------------------------------------------


@pytest.fixture
def devices(control_plane: ControlPlane) -> Iterator[None]:
    """A driver's devices, one on each of the two nodes."""
    names = control_plane.kubectl("get", "nodes", "-o", "name").split()
    api = {"apiVersion": "resource.k8s.io/v1"}
    selector = {"cel": {"expression": f'device.driver == "{DRIVER}"'}}
    device_class = {**api, "kind": "DeviceClass", "metadata": {"name": DRIVER}, "spec": {"selectors": [selector]}}
    slices = [
        {
            **api,
            "kind": "ResourceSlice",
            "metadata": {"name": f"{node}-gpu"},
            "spec": {
                "driver": DRIVER,
                "nodeName": node,
                "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": "gpu-0"}],
            },
        }
        for node in (name.removeprefix("node/") for name in names)
    ]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": [device_class, *slices]})
    control_plane.kubectl("apply", "-f", "-", input=manifest)
    yield
    control_plane.kubectl("delete", "-f", "-", input=manifest)


@pytest.mark.usefixtures("devices")
def test_each_worker_gets_a_device_of_its_own_and_gives_it_back(kubectl: Kubectl) -> None:
    request = {"name": "gpu", "exactly": {"deviceClassName": DRIVER}}
    template = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "one-gpu"}}
    kubectl.apply({**template, "spec": {"spec": {"devices": {"requests": [request]}}}})
    kubectl.apply(cluster("dra", workers=3, resource_claims={"gpu": "one-gpu"}))

    def running() -> list[dict[str, Any]]:
        return [pod for pod in workers(kubectl, "dra") if pod["status"]["phase"] == "Running"]

    eventually(lambda: len(running()) == 2, seconds=120)
    assert len({pod["spec"]["nodeName"] for pod in running()}) == 2, "each where its device is"
    used = [pod["spec"]["containers"][0]["resources"]["claims"] for pod in running()]
    assert used == [[{"name": "gpu"}]] * 2
    eventually(
        lambda: "cannot allocate all claims" in kubectl.condition("daskworkergroup", "dra-default", "Ready")["message"]
    )
    # Of three workers the one without a device goes first, then the next one: its device is free for others.
    for left in (2, 1):
        kubectl("scale", "daskworkergroup", "dra-default", f"--replicas={left}")
        eventually(lambda n=left: len(workers(kubectl, "dra")) == len(running()) == n)
    eventually(lambda: len(kubectl.json("get", "resourceclaims")["items"]) == 1)


# --- resources of a whole Pod -----------------------------------------------------------------------------------------


def test_resources_of_a_whole_pod_reach_it_and_restart_nothing(kubectl: Kubectl) -> None:
    """The API server adds requests to the limits, which is no difference of the template."""

    def whole(pod: Any) -> Any:
        containers = [{**container, "resources": {}} for container in pod["containers"]]
        return {**pod, "containers": containers, "resources": {"limits": {"cpu": "2", "memory": "4Gi"}}}

    manifest = cluster("whole", workers=1, memory="4Gi", worker_pod=whole, scheduler_pod=whole)
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "whole")
    pods = kubectl.json("get", "pods", "-l", "dask.org/cluster-name=whole")["items"]
    assert len(pods) == 2
    for pod in pods:
        assert (
            pod["spec"]["resources"]["requests"] == pod["spec"]["resources"]["limits"] == {"cpu": "2", "memory": "4Gi"}
        )
        assert pod["status"]["qosClass"] == "Guaranteed"
    # Whatever would be replaced is: the operator has looked at the group once more when it has another worker.
    kubectl("scale", "daskworkergroup", "whole-default", "--replicas=2")
    kubectl.wait_ready("daskworkergroup", "whole-default")
    now = kubectl.json("get", "pods", "-l", "dask.org/cluster-name=whole")["items"]
    assert {pod["metadata"]["uid"] for pod in pods} < {pod["metadata"]["uid"] for pod in now}


# --- user namespaces --------------------------------------------------------------------------------------------------


def test_pods_in_user_namespaces_pass_restricted_pod_security(
    control_plane: ControlPlane, kubectl: Kubectl, kube: Manifests
) -> None:
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    control_plane.kubectl("label", "namespace", kube.namespace, restricted)
    kubectl.apply(cluster("apart", workers=1, host_users=False))
    kubectl.wait_ready("daskcluster", "apart")
    pods = kubectl.json("get", "pods", "-l", "dask.org/cluster-name=apart")["items"]
    assert [pod["spec"]["hostUsers"] for pod in pods] == [False, False]
