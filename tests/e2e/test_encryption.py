"""Clusters that speak TLS, on a real node: who computes, who is refused, and new certificates at work (finding 9)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_kubernetes.operator import KubeCluster
from distributed import Client
from tests.e2e.support import DASK_IMAGE, Kubectl, eventually, ready_pods
from tests.e2e.workload import cluster, workload
from tests.support import cert_manager
from tests.support.certificates import Certificates
from tests.support.constructs import chart, synth

from dask_constructs import DaskCluster, Tls

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore")]

GENERATED = {"tls": {"mode": "Generated"}}
#: In a worker's Pod, with its certificate.
STRANGER = """
import json
from distributed import Client
from distributed.security import Security
said = {}
for name, address, options in (
    ("mine", "tls://MINE-scheduler:8786", {"timeout": 60}),
    ("other", "tls://OTHER-scheduler:8786", {}),
    ("plain", "tcp://OTHER-scheduler:8786", {"security": Security(require_encryption=False)}),
    ("loopback", "tcp://OTHER-scheduler:8789", {"security": Security(require_encryption=False)}),
):
    try:
        with Client(address, **{"timeout": 5, **options}) as client:
            said[name] = client.submit(abs, -7).result(timeout=30)
    except OSError:
        said[name] = "refused"
print(json.dumps(said))
"""


def encrypted(kubectl: Kubectl, name: str) -> tuple[str, str]:
    found = kubectl.condition("daskcluster", name, "Encrypted")
    return found.get("status", ""), found.get("reason", "")


@pytest.mark.timeout(900)
def test_who_has_no_certificate_of_the_cluster_is_refused(kubectl, kube):
    for name in ("one", "two"):
        kubectl.apply(kube.cluster_manifest(name, workers=1, security=GENERATED))
    for name in ("one", "two"):
        kubectl.wait_ready("daskcluster", name, seconds=300)
        eventually(lambda name=name: encrypted(kubectl, name) == ("True", "Encrypted"), seconds=60)
        assert kubectl.status("daskcluster", name)["schedulerAddress"].startswith("tls://")

    unchanged = KubeCluster.from_name("one", namespace=kube.namespace, shutdown_on_close=False)
    with unchanged as found, Client(found) as client:  # by a port-forward to the loopback
        client.wait_for_workers(1, timeout=60)
        assert client.submit(lambda x: x + 1, 10).result(timeout=60) == 11
        assert all(address.startswith("tls://") for address in client.scheduler_info()["workers"])

    (worker,) = ready_pods(kubectl, "one", "worker")
    code = STRANGER.replace("MINE", "one").replace("OTHER", "two")
    said = json.loads(kubectl("exec", worker["metadata"]["name"], "--", "python3", "-c", code).splitlines()[-1])
    assert said == {"mine": 7, "other": "refused", "plain": "refused", "loopback": "refused"}


@pytest.mark.timeout(600)
def test_the_program_of_a_job_computes(kubectl, kube):
    code = "from distributed import Client; print(Client().submit(abs, -7).result(timeout=120))"
    job = kube.job_manifest("program", code)
    job["spec"]["cluster"]["spec"]["security"] = GENERATED
    kubectl.apply(job)
    eventually(lambda: kubectl.status("daskjob", "program").get("jobStatus") == "Successful", seconds=400)


@pytest.fixture
def its_controllers(node, namespace: str) -> Iterator[None]:
    if node.kind != "node":
        pytest.skip("needs a cluster of our own, in which nobody else looks after certificates")
    with cert_manager.crds(node), cert_manager.controllers(node, namespace):
        yield


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("its_controllers")
def test_a_cluster_computes_by_certificates_of_cert_manager(kubectl, kube):
    c = chart(namespace=kube.namespace)
    options: Any = {"image": DASK_IMAGE, "workers": 1, "cores": "100m", "memory": "512Mi"}
    DaskCluster(c, "it", name="managed", security=Tls.cert_manager(), **options)
    for manifest in synth(c):
        kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "managed", seconds=300)
    eventually(lambda: encrypted(kubectl, "managed") == ("True", "Encrypted"), seconds=60)
    found = KubeCluster.from_name("managed", namespace=kube.namespace, shutdown_on_close=False)
    with found as unchanged, Client(unchanged) as client:
        assert client.submit(lambda x: x + 1, 10).result(timeout=60) == 11
        assert all(address.startswith("tls://") for address in client.scheduler_info()["workers"])


def secret(certificates: Certificates) -> dict[str, Any]:
    files = {file.name: base64.b64encode(file.read_bytes()).decode() for file in certificates.folder.iterdir()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "data": files}


@pytest.mark.timeout(900)
def test_new_certificates_under_load_lose_no_key_and_run_no_task_twice(kubectl, kube, tmp_path: Path):
    """What cert-manager does with the Secret; nothing restarts, and all new connections show the new certificate."""
    certificates = Certificates(tmp_path / "tls")
    kubectl.apply(secret(certificates))
    manifest = cluster(kube, "renewed", workers=2)
    manifest["spec"]["security"] = {"tls": {"mode": "Secret", "secretName": "mine"}}
    with workload(kubectl, manifest) as load:
        eventually(lambda: encrypted(kubectl, "renewed") == ("True", "Encrypted"), seconds=60)
        before = {pod["metadata"]["uid"] for pod in kubectl.json("get", "pods")["items"]}
        shown = certificate_of(kubectl)
        with load.stream():
            load.at_stake(2)
            certificates.write(1)
            kubectl.apply(secret(certificates))
            eventually(lambda: shown != certificate_of(kubectl), seconds=180)
            kubectl("scale", "daskworkergroup", "renewed-default", "--replicas=3")  # with the new one alone
            load.at_stake(3)
            time.sleep(5)
        assert before < {pod["metadata"]["uid"] for pod in kubectl.json("get", "pods")["items"]}
        assert load.wrong_results() == []
        assert load.not_once() == {}
        assert load.lost_keys() == set()
        assert load.wrong_data() == []


#: In the scheduler's Pod.
SHOWN = """
import ssl
print(ssl.get_server_certificate(("127.0.0.1", 8786)))
"""


def certificate_of(kubectl: Kubectl) -> str:
    """What the scheduler shows, though it lets nobody in without a certificate."""
    return kubectl("exec", "deployment/renewed-scheduler", "--", "python3", "-c", SHOWN)
