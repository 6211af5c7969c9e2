"""The operator's identity, taken over, on a real API server: its own objects, and no further (security finding 12)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane
from tests.e2e.support import eventually

from dask_constructs import rbac
from dask_constructs.confinement import confinement

pytestmark = pytest.mark.control_plane

HERE, ELSEWHERE, CLOSED, HOME = "confined", "kube-public", "confined-out", "confined-operator"
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace"}
USER = f"system:serviceaccount:{HOME}:dask-operator"


def owner(api_version: str = "kubernetes.dask.org/v1", kind: str = "DaskCluster", **more: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "name": "x", "uid": "u", "controller": True, **more}


def config_map(name: str, namespace: str = HERE, *owners: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "ownerReferences": list(owners)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def pod(name: str, *owners: dict[str, Any], component: str = "scheduler") -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": HERE,
        "labels": {"dask.org/component": component},
        "ownerReferences": list(owners),
    }
    spec = {"containers": [{"name": "c", "image": "i:1"}], "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


class Taken:
    """kubectl as the operator, and as the administrator."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    def refused(self, *command: str, input: dict[str, Any] | None = None) -> str:
        """What the API server says against a command of the operator's, nothing if it does it."""
        try:
            self.plane.kubectl(*command, f"--as={USER}", input=None if input is None else json.dumps(input))
        except subprocess.CalledProcessError as error:
            return str(error.stderr)
        return ""

    def create(self, manifest: dict[str, Any]) -> str:
        return self.refused("create", "--dry-run=server", "-f", "-", input=manifest)

    def there(self, manifest: dict[str, Any]) -> None:
        self.plane.kubectl("create", "-f", "-", input=json.dumps(manifest))


@pytest.fixture(scope="module")
def taken(control_plane: ControlPlane) -> Iterator[Taken]:
    group = rbac.RBAC_GROUP
    role = {"apiGroup": group, "kind": "ClusterRole", "name": "confined"}
    written: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HERE}},
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": CLOSED, "labels": {"dask.org/managed": "false"}},
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "confined"},
            # kubectl reads what it changes.
            "rules": rbac.rules([*rbac.OPERATOR, rbac.Permission("ConfigMap Pod", "get", "")]),
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "confined"},
            "roleRef": role,
            "subjects": [{"kind": "User", "name": USER, "apiGroup": group}],
        },
        *confinement("dask-operator", HOME, "confined"),
    ]
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(written))
    control_plane.kubectl("wait", "--for=create", "-n", HERE, "serviceaccount/default", "--timeout=60s")
    made = Taken(control_plane)
    eventually(lambda: "does not" in made.create(config_map("probe")))
    yield made
    control_plane.kubectl("delete", "--wait=false", "-f", "-", input=yaml.safe_dump_all(written))


NOT_OURS = "the operator may change what belongs to a Dask resource, and this does not"


def test_it_makes_children_of_dask_resources(taken: Taken) -> None:
    assert taken.create(config_map("ours", HERE, owner())) == ""
    assert taken.create(pod("ours", owner(kind="DaskWorkerGroup"), component="worker")) == ""


@pytest.mark.parametrize(
    "owners",
    [
        (),
        (owner(controller=False),),
        (owner("apps/v1", "ReplicaSet"),),
        (owner("kubernetes.dask.org.evil.io/v1"),),
        (owner("kubernetes.dask.orgs/v1"),),
    ],
)
def test_it_makes_nothing_else(taken: Taken, owners: tuple[dict[str, Any], ...]) -> None:
    assert NOT_OURS in taken.create(config_map("foreign", HERE, *owners))
    assert NOT_OURS in taken.create(pod("foreign", *owners))


@pytest.mark.parametrize("namespace", [ELSEWHERE, "kube-system", CLOSED])
def test_it_stays_out_of_some_namespaces(taken: Taken, namespace: str) -> None:
    said = f"the operator has nothing to do in namespace {namespace}"
    assert said in taken.create(config_map("ours", namespace, owner()))
    cluster = {"scheduler": {"spec": pod("x")["spec"]}, "worker": {"spec": pod("x")["spec"]}}
    manifest = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "spec": cluster}
    assert said in taken.create({**manifest, "metadata": {"name": "c", "namespace": namespace}})
    assert taken.create({**manifest, "metadata": {"name": "c", "namespace": HERE}}) == ""


def test_it_neither_changes_nor_deletes_what_is_anothers(taken: Taken) -> None:
    taken.there(config_map("settings"))
    patch = ("patch", "configmap", "-n", HERE, "settings", "--type=merge", "-p")
    assert NOT_OURS in taken.refused(*patch, '{"data":{"a":"b"}}')
    stolen = json.dumps({"data": {"a": "b"}, "metadata": {"ownerReferences": [owner()]}})
    assert NOT_OURS in taken.refused(*patch, stolen), "nor by taking it over"
    taken.there(pod("anothers", component="worker"))
    assert NOT_OURS in taken.refused("delete", "pod", "-n", HERE, "anothers", "--wait=false")


def test_of_a_schedulers_pod_it_changes_labels_alone(taken: Taken) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    metadata = {"name": "x", "namespace": HERE}
    taken.there({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec})
    uid = taken.plane.kubectl("get", "replicaset", "-n", HERE, "x", "-o", "jsonpath={.metadata.uid}")
    taken.there(pod("of-a-replicaset", owner("apps/v1", "ReplicaSet", uid=uid)))  # else it is garbage
    patch = ("patch", "pod", "-n", HERE, "of-a-replicaset", "--type=merge", "-p")
    assert taken.refused(*patch, '{"metadata":{"labels":{"team":"a"}}}') == ""
    assert NOT_OURS in taken.refused(*patch, '{"spec":{"containers":[{"name":"c","image":"evil:1"}]}}')
    assert NOT_OURS in taken.refused("delete", "pod", "-n", HERE, "of-a-replicaset", "--wait=false")


def test_others_do_as_they_did(taken: Taken) -> None:
    taken.there(config_map("of-the-admin"))
    taken.plane.kubectl("delete", "configmap", "-n", HERE, "of-the-admin")
