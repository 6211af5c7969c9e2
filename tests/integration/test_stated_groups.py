"""Groups and autoscalers that a manifest states, at a real API server: they come, change and go with the manifest."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e.support import Kubectl, Manifests, eventually

pytestmark = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]


def further(kube: Manifests, name: str, **fields: Any) -> dict[str, Any]:
    worker = kube.group_manifest(name, "x", workers=0)["spec"]["worker"]
    return {"name": name, "drainTimeoutSeconds": 0, "spec": worker["spec"], **fields}


def ours(kubectl: Kubectl) -> set[str]:
    found = kubectl("get", "daskworkergroups,daskautoscalers", "-o", "name").split()
    return {name.replace(".kubernetes.dask.org", "") for name in found}


def test_groups_come_change_and_go_with_the_manifest(kubectl: Kubectl, kube: Manifests) -> None:
    manifest = kube.cluster_manifest("two", workers=1, worker_extra={"drainTimeoutSeconds": 0})
    scaled = further(kube, "big", autoscaler={"minimum": 1, "maximum": 3})
    manifest["spec"]["workerGroups"] = [further(kube, "gpu", replicas=2), scaled]
    kubectl.apply(manifest)
    kubectl.apply(kube.group_manifest("two-own", "two", workers=0))
    kubectl.wait_ready("daskcluster", "two")
    eventually(lambda: kubectl.status("daskcluster", "two")["workers"] == "4/4")
    groups = {f"daskworkergroup/two-{name}" for name in ("default", "gpu", "big", "own")}
    assert ours(kubectl) == groups | {"daskautoscaler/two-big"}

    kubectl("scale", "daskworkergroup", "two-gpu", "--replicas=1")
    eventually(lambda: kubectl.status("daskcluster", "two")["workers"] == "3/3")
    assert kubectl.json("get", "daskworkergroup", "two-gpu")["spec"]["worker"]["replicas"] == 1

    manifest["spec"]["workerGroups"] = [further(kube, "gpu", replicas=3)]
    kubectl.apply(manifest)
    remaining = {f"daskworkergroup/two-{name}" for name in ("default", "gpu", "own")}
    eventually(lambda: ours(kubectl) == remaining)
    eventually(lambda: kubectl.status("daskcluster", "two")["workers"] == "4/4")

    kubectl("patch", "daskcluster", "two", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    workers = ("get", "pods", "-l", "dask.org/component=worker", "-o", "name")
    eventually(lambda: kubectl(*workers) == "")
    kubectl("delete", "daskcluster", "two")
    eventually(lambda: ours(kubectl) == set(), seconds=120)
