"""An organisation's rules, as constructs write them, on a real API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, eventually
from tests.support.constructs import chart, synth

from dask_constructs import DaskAdmissionPolicy, DaskTenant

pytestmark = pytest.mark.control_plane

GOOD, BAD = "registry.example.com/data/dask:1", "docker.io/somebody/dask:1"


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> Iterator[Kubectl]:
    """In a namespace in which the rules hold."""
    c = chart()
    rules = {"image_registries": ["registry.example.com/data/"], "maximum_workers": 5}
    DaskAdmissionPolicy(c, "policy", name=namespace, namespace_labels={"rules": namespace}, **rules)
    policies = yaml.safe_dump_all(synth(c))
    control_plane.kubectl("label", "namespace", namespace, f"rules={namespace}")
    control_plane.kubectl("apply", "-f", "-", input=policies)
    inside = Kubectl(control_plane.kubectl, namespace)
    # The API server takes a moment to know the rules, each for itself.
    eventually(lambda: all(refused(inside, make(workers=6)) for make in (cluster, job, group)))
    yield inside
    control_plane.kubectl("delete", "-f", "-", input=policies)


def refused(kubectl: Kubectl, manifest: dict[str, Any]) -> str:
    """What the API server says against a manifest, nothing if it takes it."""
    try:
        kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(manifest))
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    return ""


def pod(image: str = GOOD) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": image}]}


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}


def cluster(*, image: str = GOOD, workers: int = 1) -> dict[str, Any]:
    return resource("DaskCluster", {"scheduler": {"spec": pod()}, "worker": {"spec": pod(image), "replicas": workers}})


def job(*, image: str = GOOD, workers: int = 1) -> dict[str, Any]:
    return resource("DaskJob", {"job": {"spec": pod(image)}, "cluster": {"spec": cluster(workers=workers)["spec"]}})


def group(*, image: str = GOOD, workers: int = 1) -> dict[str, Any]:
    return resource("DaskWorkerGroup", {"cluster": "c", "worker": {"spec": pod(image), "replicas": workers}})


@pytest.mark.parametrize("make", [cluster, job, group])
def test_images_and_numbers_of_workers(kubectl: Kubectl, make: Any) -> None:
    assert refused(kubectl, make()) == ""
    assert f"these images are not allowed here: {BAD}" in refused(kubectl, make(image=BAD))
    assert "at most 5 workers are allowed here, not 6" in refused(kubectl, make(workers=6))


@pytest.mark.parametrize("make", [cluster, job])
def test_groups_of_one_manifest_are_no_way_around(kubectl: Kubectl, make: Any) -> None:
    """Issue 14, point 5: further groups, and what their autoscalers and that of the default group may want."""

    def said(groups: list[dict[str, Any]], **more: Any) -> str:
        manifest = make()
        spec = manifest["spec"] if make is cluster else manifest["spec"]["cluster"]["spec"]
        spec |= {"workerGroups": groups, **more}
        return refused(kubectl, manifest)

    good = {"name": "a", "spec": pod(), "replicas": 5}
    scaled = {"name": "b", "spec": pod(), "autoscaler": {"maximum": 5}}
    assert said([good, scaled], autoscaler={"maximum": 5}) == ""
    assert f"these images are not allowed here: {BAD}" in said([good, {**scaled, "spec": pod(BAD)}])
    assert "at most 5 workers are allowed here, not 6" in said([{**good, "replicas": 6}])
    assert "at most 5 workers are allowed here, not 7" in said([{**scaled, "autoscaler": {"maximum": 7}}])
    assert "at most 5 workers are allowed here, not 200000" in said([{**scaled, "autoscaler": {}}])
    assert "at most 5 workers are allowed here, not 8" in said([], autoscaler={"maximum": 8})


def test_init_containers_and_left_out_numbers(kubectl: Kubectl) -> None:
    manifest = group()
    del manifest["spec"]["worker"]["replicas"]
    assert refused(kubectl, manifest) == ""
    manifest["spec"]["worker"]["spec"]["initContainers"] = [{"name": "i", "image": BAD}]
    assert BAD in refused(kubectl, manifest)


def test_an_autoscaler_stays_below_the_maximum(kubectl: Kubectl) -> None:
    spec = {"cluster": "c", "minimum": 0, "maximum": 6}
    eventually(lambda: "at most 5 workers" in refused(kubectl, resource("DaskAutoscaler", spec)))
    assert refused(kubectl, resource("DaskAutoscaler", {**spec, "maximum": 5})) == ""


def test_kubectl_scale_is_no_way_around(kubectl: Kubectl) -> None:
    kubectl.apply(group())

    def scaled_too_far() -> str:
        try:
            kubectl("scale", "daskworkergroup", "x", "--replicas=6")
        except subprocess.CalledProcessError as error:
            return str(error.stderr)
        return ""

    eventually(lambda: "at most 5 workers" in scaled_too_far())
    kubectl("scale", "daskworkergroup", "x", "--replicas=5")


def test_other_namespaces_are_not_concerned(control_plane: ControlPlane, kubectl: Kubectl) -> None:
    assert refused(Kubectl(control_plane.kubectl, "default"), cluster(image=BAD)) == ""


def test_a_tenants_namespace_is_taken_as_it_is(control_plane: ControlPlane, namespace: str) -> None:
    c = chart()
    name = f"{namespace}-team"
    options = {"quota": {"pods": 10}, "groups": ["data"], "client_namespaces": ["notebooks"]}
    DaskTenant(c, "tenant", namespace=name, **options)
    manifests = yaml.safe_dump_all(synth(c))
    control_plane.kubectl("apply", "--server-side", "-f", "-", input=manifests)
    member = ("--as=anybody", "--as-group=data", "--as-group=system:authenticated", "-n", name)
    eventually(lambda: control_plane.kubectl("auth", "can-i", "create", "pods", *member).strip() == "yes")
    control_plane.kubectl("delete", "namespace", name, "--wait=false")
