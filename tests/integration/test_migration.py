"""From the existing operator to ours, with a live cluster: what docs/migration.md promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask_kubernetes.operator as upstream  # type: ignore[import-untyped]
import pytest
from dask_kubernetes.operator.kubecluster.kubecluster import make_cluster_spec  # type: ignore[import-untyped]
from tests.cluster import ControlPlane, images
from tests.e2e.support import Kubectl, eventually
from tests.support import clusters
from tests.support.checkers import documents
from tests.support.controller import Controller

pytestmark = pytest.mark.control_plane

OLD_CRDS = Path(upstream.__file__).parent / "deployment/helm/dask-kubernetes-operator/crds"


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """A control plane without CRDs."""
    with clusters.control_plane(None) as plane:
        yield plane


def pods(kubectl: Kubectl) -> dict[str, str]:
    """Running Pods by uid."""
    return {p["metadata"]["uid"]: p["metadata"]["name"] for p in kubectl.json("get", "pods")["items"]}


def test_a_live_cluster_is_left_alone_and_says_why(plane: ControlPlane) -> None:
    plane.install_crds(OLD_CRDS)
    plane.kubectl("create", "namespace", "team")
    kubectl = Kubectl(plane.kubectl, "team")
    command = [sys.executable, "-m", "kopf", "run", "-m", "dask_kubernetes.operator.controller", "--namespace", "team"]
    environment = os.environ | {"KUBECONFIG": str(plane.kubeconfig)}
    old = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        kubectl.apply(make_cluster_spec("live", n_workers=2))
        eventually(lambda: len(pods(kubectl)) == 3, seconds=90)
    finally:
        old.kill()
        old.wait()
    before = pods(kubectl)

    plane.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(images.ROOT / "dist" / "crds"))
    ours = Controller(plane, "team")
    try:
        for kind, name in (("daskcluster", "live"), ("daskworkergroup", "live-default")):
            eventually(lambda kind=kind, name=name: kubectl.condition(kind, name, "Ready").get("status") == "False")
            eventually(
                lambda kind=kind, name=name: (
                    kubectl.condition(kind, name, "Stalled").get("reason") == "MadeByAnotherOperator"
                )
            )
        kubectl("scale", "daskworkergroup", "live-default", "--replicas=3")
        # Beside it new clusters work.
        kubectl.apply(make_cluster_spec("new", n_workers=1))
        eventually(lambda: sum(name.startswith("new-") for name in pods(kubectl).values()) == 2)
        assert before.items() == {uid: name for uid, name in pods(kubectl).items() if name.startswith("live-")}.items()
        # As the page says: without the finalizers of the old operator it goes, and all that it has made with it.
        unblock = '{"metadata": {"finalizers": null}}'
        for resource in kubectl("get", "daskclusters,daskworkergroups", "-o", "name").split():
            kubectl("patch", resource, "--type=merge", "-p", unblock)
        kubectl("delete", "daskcluster", "live", "--timeout=30s")
        eventually(lambda: not any(name.startswith("live-") for name in pods(kubectl).values()))
        kubectl.apply(make_cluster_spec("live", n_workers=2))
        eventually(lambda: sum(name.startswith("live-") for name in pods(kubectl).values()) == 3)
    finally:
        ours.kill()


def test_an_operator_that_is_newer_than_the_crds_says_so_and_goes_on_with_the_right_ones(
    plane: ControlPlane, tmp_path: Path
) -> None:
    for path in (images.ROOT / "dist" / "crds").glob("*.yaml"):
        (crd,) = documents(path)
        if crd["kind"] == "CustomResourceDefinition":
            schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            schema["properties"]["status"]["properties"].pop("workers", None)  # of DaskClusters: as if it were new
            (tmp_path / path.name).write_text(json.dumps(crd))
    plane.install_crds(tmp_path)
    plane.kubectl("create", "namespace", "team")
    kubectl = Kubectl(plane.kubectl, "team")
    newer = Controller(plane, "team")
    try:
        kubectl.apply(make_cluster_spec("early", n_workers=1))
        eventually(lambda: kubectl.json("get", "deployments")["items"])  # it does what it can
        said = ".status.workers: field not declared in schema; apply the CRDs of this release first"
        eventually(lambda: said in newer.log())
        plane.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(images.ROOT / "dist" / "crds"))
        kubectl.wait_ready("daskcluster", "early")
    finally:
        newer.stop()
