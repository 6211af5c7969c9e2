"""The activator as dist/ installs it, on a real API server: with its own rights, it wakes who asks for it, and no more.

Nobody routes Services here: the tests connect where an EndpointSlice says, as a proxy on a node would.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, eventually

from dask_constructs.activator import NAME
from dask_crds import names

pytestmark = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]

ROOT = Path(__file__).parents[2]
HOME = "dask-operator"
#: Where it says that it is: Kubernetes takes no loopback. The tests know better.
ADDRESS = "192.0.2.7"


class Activator:
    """The activator as a process, with the rights of its ServiceAccount."""

    def __init__(self, plane: ControlPlane, namespace: str, folder: Path) -> None:
        kubeconfig = yaml.safe_load(Path(plane.kubeconfig).read_text())
        token = plane.kubectl("create", "token", NAME, f"--namespace={HOME}").strip()
        kubeconfig["users"] = [{"name": user["name"], "user": {"token": token}} for user in kubeconfig["users"]]
        own = folder / "kubeconfig"
        own.write_text(yaml.safe_dump(kubeconfig))
        arguments = ["--namespace", namespace, "--address", ADDRESS, "--port", "0"]
        self._command = [sys.executable, "-m", "dask_controller.activator", *arguments]
        self._environment = os.environ | {"KUBECONFIG": str(own)}
        self.start()

    def start(self) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self.process = subprocess.Popen(self._command, env=self._environment, stderr=self.log)

    def end(self, number: int = signal.SIGTERM) -> str:
        self.process.send_signal(number)
        self.process.wait(timeout=60)
        self.log.seek(0)
        return self.log.read()


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> Iterator[None]:
    manifests = list(yaml.safe_load_all((ROOT / "dist" / "activator" / "activator.yaml").read_text()))
    written = [m for m in manifests if m["kind"] not in ("Deployment", "NetworkPolicy")]
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}}
    control_plane.kubectl("apply", "-f", "-", input=json.dumps(home))
    for manifest in written:
        control_plane.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    yield
    for manifest in written:
        control_plane.kubectl("delete", "--wait=false", "--ignore-not-found", "-f", "-", input=json.dumps(manifest))


@pytest.fixture
def activator(control_plane: ControlPlane, namespace: str, installed: None, tmp_path: Path) -> Iterator[Activator]:
    running = Activator(control_plane, namespace, tmp_path)
    yield running
    if running.process.poll() is None:
        print(running.end(signal.SIGKILL))


def door(kubectl: Kubectl, cluster: str) -> int | None:
    """Where the Service of a cluster leads to besides its scheduler, by the API server."""
    labels = f"-l=kubernetes.io/service-name={cluster}-scheduler,endpointslice.kubernetes.io/managed-by={NAME}"
    found = kubectl.json("get", "endpointslices", labels)["items"]
    return found[0]["ports"][0]["port"] if found else None


def asleep(kubectl: Kubectl, kube: Any, name: str, **spec: Any) -> int:
    """A cluster that sleeps; where to knock."""
    kubectl.apply(kube.cluster_manifest(name, workers=1, suspend=True, wake="OnConnect", **spec))
    eventually(lambda: door(kubectl, name))
    found = door(kubectl, name)
    assert found is not None
    return found


def test_who_connects_wakes_the_cluster_and_the_service_leads_to_it_alone(
    kubectl: Kubectl, kube: Any, activator: Activator
) -> None:
    port = asleep(kubectl, kube, "dozing")
    with socket.create_connection(("127.0.0.1", port)):
        eventually(lambda: kubectl.json("get", "daskcluster", "dozing")["spec"]["suspend"] is False)
        eventually(lambda: door(kubectl, "dozing") is None)
        kubectl.wait_ready("daskcluster", "dozing")

    def woken() -> list[str]:
        events = kubectl.json("get", "events", "--field-selector=reason=Woken")["items"]
        return [event["involvedObject"]["name"] for event in events]

    eventually(lambda: woken() == ["dozing"])
    # Back to sleep, and again.
    kubectl("patch", "daskcluster", "dozing", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    eventually(lambda: door(kubectl, "dozing"))
    with socket.create_connection(("127.0.0.1", door(kubectl, "dozing"))):
        eventually(lambda: kubectl.json("get", "daskcluster", "dozing")["spec"]["suspend"] is False)


def test_who_does_not_ask_for_it_is_left_alone(kubectl: Kubectl, kube: Any, activator: Activator) -> None:
    kubectl.apply(kube.cluster_manifest("deaf", workers=1, suspend=True))
    port = asleep(kubectl, kube, "light")  # it has been through all by then
    eventually(lambda: kubectl.condition("daskcluster", "deaf", "Ready").get("reason") == "Suspended")
    assert door(kubectl, "deaf") is None
    # Who asks for it no more, either.
    kubectl("patch", "daskcluster", "light", "--type=merge", "-p", '{"spec": {"wake": "Manual"}}')
    eventually(lambda: door(kubectl, "light") is None)
    with pytest.raises(OSError, match="refused"):
        eventually(lambda: socket.create_connection(("127.0.0.1", port)).recv(1) is None)


def test_it_is_killed_and_comes_back(kubectl: Kubectl, kube: Any, activator: Activator) -> None:
    before = asleep(kubectl, kube, "restless")
    activator.end(signal.SIGKILL)
    assert door(kubectl, "restless") == before  # leads nowhere now
    activator.start()
    eventually(lambda: door(kubectl, "restless") not in (None, before))  # there is none for a moment
    with socket.create_connection(("127.0.0.1", door(kubectl, "restless"))):
        eventually(lambda: kubectl.json("get", "daskcluster", "restless")["spec"]["suspend"] is False)


def test_what_was_left_behind_by_one_that_was_killed_goes(kubectl: Kubectl, kube: Any, activator: Activator) -> None:
    asleep(kubectl, kube, "woken")
    activator.end(signal.SIGKILL)
    kubectl("patch", "daskcluster", "woken", "--type=merge", "-p", '{"spec": {"suspend": false}}')
    activator.start()
    eventually(lambda: door(kubectl, "woken") is None)


def test_it_takes_the_services_back_when_it_ends(kubectl: Kubectl, kube: Any, activator: Activator) -> None:
    """Whoever takes it out of Git leaves nothing behind."""
    asleep(kubectl, kube, "first")
    asleep(kubectl, kube, "second")
    activator.end()
    assert door(kubectl, "first") is None
    assert door(kubectl, "second") is None


def test_a_slice_of_a_strangers_is_left_alone(kubectl: Kubectl, kube: Any, activator: Activator) -> None:
    theirs = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "theirs",
            "labels": {
                "kubernetes.io/service-name": "light-scheduler",
                "endpointslice.kubernetes.io/managed-by": NAME,
            },
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "tcp-comm", "port": 1, "protocol": "TCP"}],
    }
    squatting = {**theirs, "metadata": {"name": names.doorway("light")}}
    for manifest in (theirs, squatting):
        kubectl("create", "-f", "-", input=json.dumps(manifest))
    kubectl.apply(kube.cluster_manifest("light", workers=1, suspend=True, wake="OnConnect"))
    asleep(kubectl, kube, "other")
    kubectl("get", "endpointslice", "theirs")
    found = kubectl.json("get", "endpointslice", names.doorway("light"))
    assert [e["addresses"] for e in found["endpoints"]] == [["192.0.2.1"]]
    assert "ownerReferences" not in found["metadata"]
    kubectl("delete", "endpointslice", names.doorway("light"))
    eventually(lambda: door(kubectl, "light") not in (None, 1))


@pytest.mark.usefixtures("installed")
def test_its_identity_gets_no_further(control_plane: ControlPlane, kubectl: Kubectl, kube: Any) -> None:
    kubectl.apply(kube.cluster_manifest("mine", workers=1, suspend=True, wake="OnConnect"))

    config = yaml.safe_load(Path(control_plane.kubeconfig).read_text())["clusters"][0]["cluster"]
    token = control_plane.kubectl("create", "token", NAME, f"--namespace={HOME}").strip()
    server = httpx.Client(
        base_url=config["server"],
        headers={"Authorization": f"Bearer {token}"},
        verify=ssl.create_default_context(cafile=config["certificate-authority"]),
    )

    def refused(method: str, path: str, body: Any = None, kind: str = "application/json") -> bool:
        """Not by kubectl, which gets what it patches, and would be refused that."""
        content = None if body is None else json.dumps(body)
        answer = server.request(method, path, content=content, headers={"Content-Type": kind})
        assert answer.status_code in (200, 201, 403), answer.text
        return answer.status_code == 403

    def patched(**spec: Any) -> bool:
        return refused("PATCH", f"{clusters}/mine", {"spec": spec}, "application/merge-patch+json")

    def endpoint_slice(*owners: dict[str, Any], manager: str = NAME) -> dict[str, Any]:
        labels = {"kubernetes.io/service-name": "kubernetes", "endpointslice.kubernetes.io/managed-by": manager}
        metadata = {"name": "forged", "labels": labels, "ownerReferences": list(owners)}
        api = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata}
        return {**api, "addressType": "IPv4", "endpoints": [], "ports": []}

    clusters = f"/apis/kubernetes.dask.org/v1/namespaces/{kubectl.namespace}/daskclusters"
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{kubectl.namespace}/endpointslices?dryRun=All"
    mine = kubectl.json("get", "daskcluster", "mine")["metadata"]["uid"]
    owner = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "name": "mine", "uid": mine}
    # The API server takes a moment to know its rights, and what bounds them.
    eventually(lambda: not refused("GET", clusters))
    eventually(lambda: patched(suspend=True, idleTimeout=9))
    assert patched(worker={"replicas": 9})
    assert patched(suspend=False, scheduler={"metadata": {"labels": {"a": "b"}}})
    assert refused("DELETE", f"{clusters}/mine")
    assert refused("GET", f"/api/v1/namespaces/{kubectl.namespace}/secrets")
    assert refused("GET", f"/api/v1/namespaces/{kubectl.namespace}/pods")
    assert refused("POST", slices, endpoint_slice())
    assert refused("POST", slices, endpoint_slice({**owner, "controller": True}, manager="somebody"))
    assert refused("POST", slices, endpoint_slice({**owner, "controller": False}))
    assert not refused("POST", slices, endpoint_slice({**owner, "controller": True}))
    assert not patched(suspend=False)
