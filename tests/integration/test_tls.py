"""Certificates of clusters on a real API server: made without a right to read, renewed, given back (finding 9)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography import x509
from tests.e2e.support import Kubectl, eventually
from tests.integration.test_control_key import home, keyed, scheduler, secret  # noqa: F401 - a fixture

from dask_controller.core.time import format_time

pytestmark = pytest.mark.control_plane

GENERATED = {"tls": {"mode": "Generated"}}
#: No scheduler answers here.
AT_ONCE = {"drainTimeoutSeconds": 0}
OWN = {"tls": {"mode": "Secret", "secretName": "mine"}}


def certificate(found: dict[str, Any], name: str = "tls.crt") -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(found["data"][name]))


def state(kubectl: Kubectl, name: str, security: Any, **status: Any) -> None:
    body: dict[str, Any] = {"status": status} if status else {"spec": {"security": security}}
    options = ["--subresource=status"] if status else []
    kubectl("patch", "daskcluster", name, "--type=merge", "-p", json.dumps(body), *options)


def members(kubectl: Kubectl) -> dict[str, str]:
    """Workers by uid, and where their certificates are."""
    pods = kubectl.json("get", "pods", "-l", "dask.org/component=worker")["items"]
    return {
        pod["metadata"]["uid"]: next(
            (v["secret"]["secretName"] for v in pod["spec"]["volumes"] if v["name"] == "dask-gitops-tls"), ""
        )
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
    }


def test_a_certificate_is_made_renewed_and_put_back(home, kubectl, kube, controller):  # noqa: F811 - the fixture
    keyed(controller, home)
    kubectl.apply(kube.cluster_manifest("mine", workers=1, security=GENERATED))
    kubectl.wait_ready("daskcluster", "mine")
    made = secret(kubectl, "mine")
    assert made is not None
    leaf, authority = certificate(made), certificate(made, "ca.crt")
    leaf.verify_directly_issued_by(authority)
    told = kubectl.status("daskcluster", "mine")["certificate"]
    assert told["secretName"] == made["metadata"]["name"]
    assert told["notAfter"] == format_time(leaf.not_valid_after_utc.timestamp())
    assert set(members(kubectl).values()) == {told["secretName"]}
    pods, generation = set(members(kubectl)), scheduler(kubectl, "mine")["metadata"]["generation"]

    # As if another operator had made it, a renewal ago: what this one has made it knows.
    controller.stop()
    state(kubectl, "mine", None, certificate={**told, "notAfter": "2026-01-01T00:00:00Z"})
    controller.start()
    uid = made["metadata"]["uid"]
    eventually(lambda: ((secret(kubectl, "mine") or made)["metadata"]["uid"]) != uid, seconds=60)
    eventually(lambda: kubectl.status("daskcluster", "mine")["certificate"] == told, seconds=60)
    renewed = secret(kubectl, "mine")
    assert renewed is not None
    assert renewed["data"] == made["data"], "who has the operator's key makes the same"
    assert (set(members(kubectl)), scheduler(kubectl, "mine")["metadata"]["generation"]) == (pods, generation)

    kubectl("delete", "secret", made["metadata"]["name"])
    controller.stop()
    controller.start()
    eventually(lambda: secret(kubectl, "mine"), seconds=60)
    assert (secret(kubectl, "mine") or {})["data"] == made["data"]
    kubectl("delete", "daskcluster", "mine")
    eventually(lambda: kubectl.json("get", "secrets")["items"] == [], seconds=60)


def test_a_running_cluster_gets_tls_and_all_of_its_workers_follow(home, kubectl, kube, controller):  # noqa: F811
    """With a group that is an object of its own."""
    keyed(controller, home)
    kubectl.apply(kube.cluster_manifest("grown", workers=1, worker_extra=AT_ONCE))
    group = kube.group_manifest("grown-extra", "grown", workers=1)
    group["spec"]["worker"] |= AT_ONCE
    kubectl.apply(group)
    kubectl.wait_ready("daskcluster", "grown")
    kubectl.wait_ready("daskworkergroup", "grown-extra")
    before = members(kubectl)
    assert set(before.values()) == {""}

    for security, names in ((OWN, {"mine"}), (None, {""})):
        state(kubectl, "grown", security)
        eventually(
            lambda names=names: len(members(kubectl)) == 2 and set(members(kubectl).values()) == names, seconds=120
        )
        kubectl.wait_ready("daskcluster", "grown")
        scheme = "tls" if security else "tcp"
        assert kubectl.status("daskcluster", "grown")["schedulerAddress"].startswith(f"{scheme}://")
        ports = {p["name"]: p["port"] for p in kubectl.json("get", "service", "grown-scheduler")["spec"]["ports"]}
        assert ports.get("tls-comm") == (8786 if security else None)
        assert ports["tcp-comm"] == (8789 if security else 8786)


def test_a_scheduler_that_is_kept_keeps_its_workers_plain(home, kubectl, kube, controller):  # noqa: F811
    keyed(controller, home)
    manifest = kube.cluster_manifest("kept", workers=1, worker_extra=AT_ONCE)
    manifest["spec"]["scheduler"]["updateStrategy"] = {"type": "OnDelete"}
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "kept")
    before, generation = members(kubectl), scheduler(kubectl, "kept")["metadata"]["generation"]
    state(kubectl, "kept", OWN)
    kubectl("scale", "daskworkergroup", "kept-default", "--replicas=2")
    eventually(lambda: len(members(kubectl)) == 2, seconds=60)
    assert set(members(kubectl).values()) == {""}
    assert set(before) < set(members(kubectl))
    assert scheduler(kubectl, "kept")["metadata"]["generation"] == generation

    (pod,) = kubectl.json("get", "pods", "-l", "dask.org/component=scheduler")["items"]
    kubectl("delete", "pod", pod["metadata"]["name"])
    eventually(lambda: set(members(kubectl).values()) == {"mine"}, seconds=120)
