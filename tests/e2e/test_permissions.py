"""What the operator may do and what it does. Runs last, when the other tests have made it do everything."""

from __future__ import annotations

import json
from itertools import product

import pytest
from tests.e2e.conftest import NAMESPACE
from tests.e2e.support import Kubectl

pytestmark = pytest.mark.node

#: Those in the operator's own namespace.
OWN_ROLES = ("leader-election", "master-key")
USER = f"system:serviceaccount:{NAMESPACE}:dask-operator"


@pytest.fixture
def requests(node, operator) -> list[dict]:
    if node.kind != "node":
        pytest.skip("needs the API server's audit log, which only a cluster of our own has")
    return [entry for entry in node.audited() if entry["user"]["username"] == USER and "objectRef" in entry]


def granted(kubectl: Kubectl, kind: str, name: str) -> set[tuple[str, str, str]]:
    rules = json.loads(kubectl("get", kind, name, "-o", "json"))["rules"]
    return {triple for rule in rules for triple in product(rule["apiGroups"], rule["resources"], rule["verbs"])}


def used(requests: list[dict]) -> set[tuple[str, str, str]]:
    found = set()
    for entry in requests:
        ref = entry["objectRef"]
        resource = "/".join(filter(None, [ref["resource"], ref.get("subresource")]))
        found.add((ref.get("apiGroup", ""), resource, entry["verb"]))
    return found


def test_nothing_was_refused(requests):
    refused = {
        (e["verb"], e["objectRef"].get("resource"), e["objectRef"].get("subresource"))
        for e in requests
        # By RBAC, that is: admission refuses too, for a quota or in a namespace that is being deleted.
        if e.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
    }
    assert refused == set()


def test_what_is_granted_is_what_is_used(node, requests):
    kubectl = Kubectl(node.kubectl, NAMESPACE)
    done = used(requests)
    roles = [("clusterrole", "dask-operator"), *(("role", f"dask-operator-{name}") for name in OWN_ROLES)]
    allowed = set().union(*(granted(kubectl, *role) for role in roles))
    queues = set().union(
        *(granted(kubectl, "clusterrole", f"dask-operator-{of}") for of in ("queues", "queue-classes"))
    )
    assert done - allowed - queues == set(), "used without being granted by these roles"
    assert allowed - done == set(), "granted and never used"
    assert queues - done in (set(), queues), "granted and never used, though there was Kueue"


def test_no_secret_is_read_but_the_operators_own(requests):
    """By whom a cluster is ordered about is a matter of keys, and none of reading Secrets (security finding 9)."""
    about = [entry for entry in requests if entry["objectRef"]["resource"] == "secrets"]
    assert {entry["verb"] for entry in about} == {"create", "get", "delete"}
    read = {(entry["objectRef"]["namespace"], entry["objectRef"]["name"]) for entry in about if entry["verb"] == "get"}
    assert read == {(NAMESPACE, "dask-operator-master")}


def test_the_namespace_enforces_restricted_pod_security(node, operator):
    labels = json.loads(node.kubectl("get", "namespace", NAMESPACE, "-o", "json"))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(operator.pods()) == 2


def test_probes_and_metrics(node, operator):
    pod = operator.leader()
    base = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy"
    assert node.kubectl("get", "--raw", f"{base}/healthz") == "ok"
    assert node.kubectl("get", "--raw", f"{base}/readyz") == "ok"
    metrics = node.kubectl("get", "--raw", f"{base}/metrics")
    assert 'controller_runtime_reconcile_total{controller="daskcluster"' in metrics
    assert "leader_election_master_status 1.0" in metrics
