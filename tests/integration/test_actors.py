"""Actors A, B and C of the threat model on a real API server: what each must not do fails, and it is told why.

Actor D is in test_guardrails.py, actor E in test_confinement.py; what they reach over the network, in tests/e2e.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane
from tests.e2e.support import eventually
from tests.support.constructs import chart, synth

from dask_constructs import DaskCluster, DaskOperator, DaskTenant

pytestmark = pytest.mark.control_plane

TEAM, OTHERS = "actors-team", "actors-others"
IMAGE = "registry.example.com/dask:1"
TENANT = ("--as=ada", "--as-group=engineers", "--as-group=system:authenticated")
POD = (f"--as=system:serviceaccount:{OTHERS}:default", "--as-group=system:serviceaccounts")
VIEWER = ("--as=viewer",)


class Actors:
    """kubectl as one of them, in the team's namespace or another."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    def refused(self, actor: tuple[str, ...], *command: str, namespace: str = TEAM, input: Any = None) -> str:
        """What the API server says against a command, nothing if it is done."""
        try:
            self.plane.kubectl("-n", namespace, *actor, *command, input=None if input is None else json.dumps(input))
        except subprocess.CalledProcessError as error:
            return str(error.stderr)
        return ""

    def create(self, actor: tuple[str, ...], manifest: dict[str, Any], namespace: str = TEAM) -> str:
        return self.refused(actor, "create", "--dry-run=server", "-f", "-", namespace=namespace, input=manifest)


def cluster(name: str) -> dict[str, Any]:
    c = chart()
    DaskCluster(c, "cluster", name=name, image=IMAGE)
    return synth(c)[0]


def made() -> list[dict[str, Any]]:
    """The team's namespace, another, and who looks on."""
    c = chart()
    DaskTenant(c, "team", namespace=TEAM, groups=["engineers"], maximum_clusters=1, maximum_pods=1)
    d = chart()
    DaskOperator(d, "operator", crds=False, create_namespace=False)
    roles = [m for m in synth(d) if m["kind"] == "ClusterRole" and m["metadata"]["name"] == "dask-view"]
    group = "rbac.authorization.k8s.io"
    viewing = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "viewer", "namespace": TEAM},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "viewer", "apiGroup": group}],
    }
    others = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OTHERS}}
    return [others, *roles, *synth(c), viewing]


def counted(plane: ControlPlane, quota: str) -> bool:
    """Whether Dask resources are counted.

    The controller looks every half minute which kinds there are, and at a quota that it has seen before every five
    minutes: so it is shown a new one.
    """
    used = plane.kubectl("get", "resourcequota", "-n", TEAM, "-o", "jsonpath={.items[*].status.used}")
    if "daskclusters" in used:
        return True
    plane.kubectl("replace", "--force", "-f", "-", input=quota)
    return False


@pytest.fixture(scope="module")
def actors(control_plane: ControlPlane) -> Iterator[Actors]:
    manifests = yaml.safe_dump_all(made())
    (quota,) = (yaml.safe_dump(manifest) for manifest in made() if manifest["kind"] == "ResourceQuota")
    control_plane.kubectl("apply", "-f", "-", input=manifests)
    here = Actors(control_plane)
    eventually(lambda: here.refused(VIEWER, "get", "daskclusters") == "")  # roles are aggregated by a controller
    eventually(lambda: counted(control_plane, quota), seconds=120)
    assert here.refused(TENANT, "create", "-f", "-", input=cluster("first")) == ""
    yield here
    control_plane.kubectl("delete", "--wait=false", "-f", "-", input=manifests)


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"port": 8786, "protocol": "TCP"}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "open"}, "spec": {"ports": ports, **spec}}


def pod(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": IMAGE}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}


def policy() -> dict[str, Any]:
    """Opens the whole namespace to everybody."""
    spec = {"podSelector": {}, "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"]}
    metadata = {"name": "everybody"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    "command",
    [
        ("delete", "networkpolicy", "nothing-else"),
        ("patch", "networkpolicy", "nothing-else", "--type=merge", '-p={"spec":{"policyTypes":[]}}'),
        ("delete", "resourcequota", "--all"),
        ("delete", "limitrange", "--all"),
        ("label", "namespace", TEAM, "pod-security.kubernetes.io/enforce=privileged", "--overwrite"),
        ("create", "rolebinding", "mine", "--clusterrole=admin", "--user=ada"),
        ("create", "token", "deployer"),
        ("create", "ingress", "open", "--rule=example.com/*=scheduler:8787"),
    ],
)
def test_a_tenant_does_not_undo_what_isolates_it(actors: Actors, command: tuple[str, ...]) -> None:
    """(security finding 10)"""
    said = actors.refused(TENANT, *command)
    assert 'User "ada" cannot' in said
    assert TEAM in said


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (policy(), 'User "ada" cannot create resource "networkpolicies"'),
        (service(type="LoadBalancer"), "exceeded quota: "),
        (service(type="NodePort"), "exceeded quota: "),
        (pod(volumes=[{"name": "host", "hostPath": {"path": "/"}}]), "violates PodSecurity"),
        (pod(hostNetwork=True), "violates PodSecurity"),
        (cluster("second"), "count/daskclusters.kubernetes.dask.org=1"),
    ],
    ids=["network", "load-balancer", "node-port", "host-path", "host-network", "quota"],
)
def test_a_tenant_opens_nothing_and_takes_no_more_than_its_quota(
    actors: Actors, manifest: dict[str, Any], why: str
) -> None:
    """(security finding 10)"""
    assert why in actors.create(TENANT, manifest)


def test_a_tenants_workers_are_limited_together(actors: Actors) -> None:
    """(security finding 13) Of several groups none was too large."""
    restricted = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    workers = [pod(), pod()]
    for n, worker in enumerate(workers):
        worker["metadata"] = {"name": f"group-{n}-worker-0"}
        worker["spec"]["containers"][0]["securityContext"] = restricted
    assert actors.refused(TENANT, "create", "-f", "-", input=workers[0]) == ""
    assert "requested: pods=1, used: pods=1, limited: pods=1" in actors.create(TENANT, workers[1])


@pytest.mark.parametrize("command", [("get", "daskclusters"), ("get", "secrets"), ("get", "pods")])
def test_a_tenant_touches_no_other_namespace(actors: Actors, command: tuple[str, ...]) -> None:
    said = actors.refused(TENANT, *command, namespace=OTHERS)
    assert f'in the namespace "{OTHERS}"' in said
    assert f'in the namespace "{OTHERS}"' in actors.create(TENANT, cluster("theirs"), namespace=OTHERS)


@pytest.mark.parametrize("resource", ["daskclusters", "daskjobs", "secrets", "pods", "services"])
def test_another_pod_has_no_rights(actors: Actors, resource: str) -> None:
    said = actors.refused(POD, "get", resource)
    assert f'User "system:serviceaccount:{OTHERS}:default" cannot list resource "{resource}"' in said


def test_another_pod_reaches_no_scheduler_through_the_api_server(actors: Actors) -> None:
    for way in ("pods/p:8786", "services/first-scheduler:8787"):
        said = actors.refused(POD, "get", "--raw", f"/api/v1/namespaces/{TEAM}/{way}/proxy/")
        assert "cannot get resource" in said
        assert "/proxy" in said


def test_who_looks_on_changes_nothing(actors: Actors) -> None:
    """A dashboard is shown to more people than may touch what it shows."""
    assert actors.refused(VIEWER, "get", "daskcluster", "first") == ""
    for command, verb in (
        (("delete", "daskcluster", "first"), "delete"),
        (("patch", "daskcluster", "first", "--type=merge", "-p={}"), "patch"),
        (("create", "job", "x", f"--image={IMAGE}"), "create"),
        (("get", "secrets"), "list"),
    ):
        assert f'User "viewer" cannot {verb} resource' in actors.refused(VIEWER, *command)
    for way in ("pods/p:8788", "services/first-scheduler:8788"):
        proxied = ("create", "--raw", f"/api/v1/namespaces/{TEAM}/{way}/proxy/dask-gitops/v2/ask", "-f", "-")
        assert 'User "viewer" cannot create resource' in actors.refused(VIEWER, *proxied, input={})
