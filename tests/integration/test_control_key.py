"""The keys of clusters on a real API server: what is made, what is put back, and what goes on without (security 9)."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, eventually
from tests.support.controller import Controller

from dask_constructs import rbac
from dask_constructs.confinement import confinement
from dask_crds import names
from dask_resources.security import control_key

pytestmark = pytest.mark.control_plane


@pytest.fixture
def home(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """The operator's own namespace."""
    name = f"{namespace}-home"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


def keyed(controller: Controller, home: str) -> None:
    """Start it again as one that has a namespace of its own."""
    controller.stop()
    controller.environment["POD_NAMESPACE"] = home
    controller.start()


def secret(kubectl: Kubectl, name: str) -> dict[str, Any] | None:
    uid = kubectl.json("get", "daskcluster", name)["metadata"]["uid"]
    found = kubectl.json("get", "secrets")["items"]
    return next((one for one in found if one["metadata"]["name"] == names.security(name, uid)), None)


def scheduler(kubectl: Kubectl, name: str) -> dict[str, Any]:
    return kubectl.json("get", "deployment", f"{name}-scheduler")


def mounts(kubectl: Kubectl, name: str) -> list[str]:
    """Names of the Secrets that the scheduler mounts."""
    volumes = scheduler(kubectl, name)["spec"]["template"]["spec"]["volumes"]
    return [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]


def message(kubectl: Kubectl, name: str) -> str:
    conditions = kubectl.status("daskcluster", name).get("conditions", [])
    return next((c["message"] for c in conditions if c["type"] == "SchedulerReady"), "")


def test_a_cluster_has_a_key_of_its_own_and_gets_it_back(control_plane, home, kubectl, kube, controller):
    own = Kubectl(control_plane.kubectl, home)
    keyed(controller, home)
    kubectl.apply(kube.cluster_manifest("mine", workers=1))
    kubectl.wait_ready("daskcluster", "mine")
    made = secret(kubectl, "mine")
    assert made is not None
    master = base64.b64decode(own.json("get", "secret", names.MASTER_SECRET)["data"]["key"])
    (owner,) = made["metadata"]["ownerReferences"]
    assert base64.b64decode(made["data"]["control.key"]) == control_key(master, owner["uid"])
    assert mounts(kubectl, "mine") == [made["metadata"]["name"]]
    (worker,) = kubectl.json("get", "pods", "-l", "dask.org/component=worker")["items"]
    assert made["metadata"]["name"] in [v.get("secret", {}).get("secretName") for v in worker["spec"]["volumes"]]
    assert message(kubectl, "mine").endswith("is ready")

    controller.stop()  # else it may put back the one of before
    kubectl("delete", "secret", made["metadata"]["name"])
    own("delete", "secret", names.MASTER_SECRET)
    own.apply({**_master(), "data": {"key": base64.b64encode(b"n" * 32).decode(), "previous": _text(master)}})
    controller.start()
    eventually(lambda: secret(kubectl, "mine"), seconds=60)
    again = secret(kubectl, "mine")
    assert again is not None
    assert base64.b64decode(again["data"]["control.key"]) == control_key(b"n" * 32, owner["uid"]), "of a renewed key"
    kubectl("delete", "daskcluster", "mine")
    eventually(lambda: kubectl.json("get", "secrets")["items"] == [], seconds=60)


def test_clusters_of_before_go_on_until_they_are_replaced_and_nothing_restarts(home, kubectl, kube, controller):
    kubectl.apply(kube.cluster_manifest("old", workers=1))
    kubectl.wait_ready("daskcluster", "old")
    assert "it takes orders from anybody: the operator runs outside of a cluster" in message(kubectl, "old")
    assert secret(kubectl, "old") is None
    before = scheduler(kubectl, "old")["metadata"]["generation"]

    keyed(controller, home)
    eventually(lambda: secret(kubectl, "old"), seconds=60)
    eventually(lambda: "it was started without a key" in message(kubectl, "old"), seconds=60)
    assert (scheduler(kubectl, "old")["metadata"]["generation"], mounts(kubectl, "old")) == (before, [])

    for suspended in (True, False):
        kubectl(
            "patch", "daskcluster", "old", "--type=merge", "-p", f'{{"spec": {{"suspend": {str(suspended).lower()}}}}}'
        )
        eventually(lambda s=suspended: scheduler(kubectl, "old")["spec"]["replicas"] == (0 if s else 1), seconds=60)
    assert len(mounts(kubectl, "old")) == 1
    eventually(lambda: message(kubectl, "old").endswith("is ready"), seconds=60)


def test_where_no_secret_may_be_made_clusters_come_up_and_say_so(home, kubectl, kube, controller):
    """As with the permissions of an earlier release; a quota refuses just so."""
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none"},
            "spec": {"hard": {"count/secrets": "0"}},
        }
    )
    eventually(lambda: kubectl.json("get", "resourcequota", "none").get("status", {}).get("hard"))
    keyed(controller, home)
    kubectl.apply(kube.cluster_manifest("poor", workers=1))
    kubectl.wait_ready("daskcluster", "poor")
    assert "it takes orders from anybody" in message(kubectl, "poor")
    assert "exceeded quota" in message(kubectl, "poor")
    assert (secret(kubectl, "poor"), mounts(kubectl, "poor")) == (None, [])


@pytest.fixture
def confined(control_plane: ControlPlane, home: str, namespace: str) -> Iterator[Callable[..., str]]:
    """Creates a Secret as an operator that is confined; gives what the API server complains of."""
    user, rbac_api = f"system:serviceaccount:{home}:dask-operator", "rbac.authorization.k8s.io"
    role = {"apiGroup": rbac_api, "kind": "ClusterRole", "name": home}
    rules = rbac.rules([one for one in rbac.OPERATOR if one.kinds == "Secret"])
    written: list[dict[str, Any]] = [
        {"apiVersion": f"{rbac_api}/v1", "kind": "ClusterRole", "metadata": {"name": home}, "rules": rules},
        {
            "apiVersion": f"{rbac_api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": home},
            "roleRef": role,
            "subjects": [{"kind": "User", "name": user, "apiGroup": rbac_api}],
        },
        *confinement("dask-operator", home, home),
    ]
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(written))

    def create(name: str, where: str = namespace, *, owned: bool = True, of: str = "", **more: Any) -> str:
        reference = {"apiVersion": names.API_VERSION, "kind": "DaskCluster", "name": "x", "uid": "u"}
        owners = [{**reference, "controller": True}] if owned else []
        account = {"kubernetes.io/service-account.name": of} if of else {}
        metadata = {"name": name, "namespace": where, "ownerReferences": owners, "annotations": account}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **more}
        try:
            control_plane.kubectl("create", f"--as={user}", "-f", "-", input=yaml.safe_dump(manifest))
        except subprocess.CalledProcessError as error:
            return str(error.stderr)
        return ""

    eventually(lambda: "belongs to a Dask resource" in create(f"probe-{time.monotonic_ns()}", owned=False))
    yield create
    control_plane.kubectl("delete", "--wait=false", "-f", "-", input=yaml.safe_dump_all(written))


def test_a_confined_operator_makes_the_secrets_of_clusters_and_its_own_key(confined, home):
    """Taken over, it plants no Secret and has no token made (security finding 12)."""
    assert confined("ours") == ""
    token = {"of": "default", "type": "kubernetes.io/service-account-token"}
    assert "of type Opaque" in confined("token", **token)
    assert "of type Opaque" in confined(names.MASTER_SECRET, home, **token), "it may read the one of that name"
    assert confined(names.MASTER_SECRET, home, owned=False) == ""
    assert "belongs to a Dask resource" in confined(names.MASTER_SECRET, owned=False)
    assert "belongs to a Dask resource" in confined("another", home, owned=False)
    assert "nothing to do in namespace kube-system" in confined("ours", "kube-system")


def _master() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": names.MASTER_SECRET}}


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
