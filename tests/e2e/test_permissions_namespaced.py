"""The operator installed for one namespace, with Roles alone: it does all it has to, and nothing that it may not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml
from tests.cluster import images
from tests.e2e.conftest import NAMESPACE, Operator
from tests.e2e.support import Kubectl, eventually
from tests.e2e.test_permissions import OWN_ROLES, granted, used
from tests.support.constructs import chart, synth

from dask_constructs import DaskOperator

pytestmark = pytest.mark.node


@pytest.fixture
def home(node, namespace: str, operator: Operator) -> Iterator[Kubectl]:
    """The namespace of an operator that looks after the test's namespace, while the other one is away."""
    if node.kind != "node":
        pytest.skip("needs the API server's audit log, which only a cluster of our own has")
    there = Kubectl(node.kubectl, f"operator-of-{namespace}")
    c = chart()
    DaskOperator(
        c,
        "operator",
        image=images.OPERATOR,
        namespace=there.namespace,
        namespaces=[namespace],
        crds=False,
        aggregated_roles=False,
    )
    manifests = yaml.safe_dump_all(synth(c))
    other = Kubectl(node.kubectl, NAMESPACE)
    other("scale", "deployment/dask-operator", "--replicas=0")
    try:
        eventually(lambda: operator.pods() == [])
        node.kubectl("apply", "--server-side", "-f", "-", input=manifests)
        there("rollout", "status", "deployment/dask-operator", "--timeout=180s")
        yield there
    finally:
        node.kubectl("delete", "-f", "-", "--wait=false", "--ignore-not-found", input=manifests)
        other("scale", "deployment/dask-operator", "--replicas=2")
        other("rollout", "status", "deployment/dask-operator", "--timeout=180s")


def test_what_is_granted_is_what_is_used(node, home: Kubectl, kubectl: Kubectl, kube) -> None:
    manifest = kube.cluster_manifest("local", workers=2)
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "local")
    manifest["metadata"]["labels"] = {"team": "data"}
    manifest["spec"]["worker"]["metadata"] = {"labels": {"team": "data"}}
    kubectl.apply(manifest)
    eventually(lambda: kubectl("get", "pods", "-l", "team=data", "-o", "name").count("worker") == 2)
    more = kube.group_manifest("more", "local", workers=0)["spec"]["worker"]["spec"]
    further = [{"name": "more", "spec": more, "autoscaler": {"minimum": 0, "maximum": 1}}]
    stated = ("get", "daskworkergroup/local-more", "daskautoscaler/local-more", "-o", "name", "--ignore-not-found")
    kubectl.apply({**manifest, "spec": {**manifest["spec"], "workerGroups": further}})
    eventually(lambda: len(kubectl(*stated).split()) == 2)
    kubectl.apply(manifest)
    eventually(lambda: kubectl(*stated) == "")
    manifest["spec"]["suspend"] = True
    kubectl("scale", "daskworkergroup", "local-default", "--replicas=1")
    eventually(lambda: kubectl.status("daskworkergroup", "local-default").get("readyReplicas") == 1)
    bounds = {"cluster": "local", "minimum": 1, "maximum": 1}
    kubectl.apply({**manifest, "kind": "DaskAutoscaler", "spec": bounds})
    eventually(lambda: kubectl.status("daskautoscaler", "local").get("desiredReplicas") == 1)
    kubectl.apply({**manifest, "kind": "DaskAutoscaler", "spec": {**bounds, "minimum": 0}})  # a change is read live
    eventually(lambda: kubectl.status("daskautoscaler", "local").get("observedGeneration") == 2)
    kubectl.apply(manifest)
    eventually(lambda: kubectl("get", "pods", "-o", "name") == "")

    kubectl("create", "quota", "none", "--hard=pods=2")
    program = "import time; from distributed import Client; Client(); time.sleep(10)"
    job = kube.job_manifest("once", program, ttlSecondsAfterFinished=1)
    job["spec"]["cluster"]["spec"]["security"] = {"tls": {"mode": "Generated"}}
    kubectl.apply(job)
    eventually(lambda: kubectl.condition("daskjob", "once", "Ready").get("reason") == "QuotaExceeded", seconds=120)
    kubectl("delete", "quota", "none")
    runner = "get pods -l dask.org/component=job-runner --field-selector=status.phase=Running -o name"
    eventually(lambda: kubectl(*runner.split()), seconds=180)
    kubectl("patch", "daskjob", "once", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    eventually(lambda: kubectl("get", "pods", "-o", "name") == "", seconds=120)
    kubectl("patch", "daskjob", "once", "--type=merge", "-p", '{"spec": {"suspend": false}}')
    eventually(lambda: kubectl.status("daskjob", "once").get("jobStatus") == "Successful", seconds=180)
    eventually(lambda: kubectl("get", "jobs,pods", "-o", "name") == "")

    user = f"system:serviceaccount:{home.namespace}:dask-operator"
    found = [entry for entry in node.audited() if entry["user"]["username"] == user and "objectRef" in entry]
    refused = [e for e in found if e.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"]
    assert refused == []
    assert {e["objectRef"].get("namespace") for e in found} == {home.namespace, kubectl.namespace}
    roles = granted(kubectl, "role", "dask-operator") | set().union(
        *(granted(home, "role", f"dask-operator-{name}") for name in OWN_ROLES)
    )
    assert used(found) - roles == set(), "used without being granted"
    assert roles - used(found) == set(), "granted and never used"
    whole = Kubectl(node.kubectl, NAMESPACE)
    cluster_role = granted(whole, "clusterrole", "dask-operator")
    assert granted(kubectl, "role", "dask-operator") == cluster_role, "both installations may do the same"
    bound = [
        b["metadata"]["name"]
        for b in json.loads(node.kubectl("get", "clusterrolebindings", "-o", "json"))["items"]
        if any(s.get("namespace") == home.namespace for s in b.get("subjects") or [])
    ]
    assert bound == []
