"""`dask_gitops.connect` on a real node, by somebody who has ``dask-notebook`` and nothing else."""

from __future__ import annotations

import json
import time
import urllib.request
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import images
from tests.e2e.support import DASK_IMAGE, Kubectl, eventually
from tests.support.notebook import NAME, Notebook, template

from dask_constructs import rbac
from dask_gitops import clusters, connect

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore")]

GENERATED = {"tls": {"mode": "Generated"}}
#: In a notebook's Pod.
INSIDE = """
import json
import os
from dask_gitops import clusters, connect
names = [each.name for each in clusters()]
client = connect("inside", workers=1, minimum=1)
answer = client.submit(lambda x: x + 1, 41).result(timeout=60)
link = client.cluster.dashboard_link
print(json.dumps({"names": names, "address": client.cluster.scheduler_address, "answer": answer, "link": link}))
client.close()
client = connect(template="small", workers=1, minimum=1, quiet=True)
print("of its own", client.submit(sum, [1, 2]).result(timeout=60), flush=True)
os._exit(0)  # as if it was killed
"""


@pytest.fixture
def notebook(node, kubectl: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    made = Notebook(node, kubectl)
    monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig(tmp_path)))
    return made


def opened(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as page:
        return str(page.read(100_000))


@pytest.mark.timeout(600)
def test_a_sleeping_cluster_wakes_and_computes_from_outside(node, kubectl, kube, notebook):
    """It speaks TLS, and its Secret is nobody's business: the way is the loopback of its scheduler's Pod."""
    kubectl.apply(kube.cluster_manifest("analytics", workers=0, suspend=True, security=GENERATED))
    eventually(lambda: kubectl.condition("daskcluster", "analytics", "Suspended").get("status") == "True")
    assert [(each.name, each.state) for each in clusters()] == [("analytics", "asleep")]

    client = connect("analytics", workers=1, minimum=1)
    try:
        assert client.submit(lambda x: x + 1, 41).result(timeout=60) == 42
        assert client.cluster.scheduler_address.startswith("tcp://127.0.0.1:")
        assert "Dask" in opened(client.cluster.dashboard_link)
        assert any("tls://" in address for address in client.scheduler_info()["workers"])
        assert "Scheduler" in client.cluster.get_logs(workers=False)
        client.cluster.adapt(minimum=1, maximum=2)
        client.cluster.adapt(minimum=1, maximum=1)
    finally:
        client.close()

    begun = time.monotonic()
    with connect("analytics", quiet=True) as client:
        connected = time.monotonic()
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        print(f"warm: connected after {connected - begun:.2f} s, a result after {time.monotonic() - begun:.2f} s")

    secret = kubectl.status("daskcluster", "analytics")["certificate"]["secretName"]
    notebook.give([*rbac.NOTEBOOK, *rbac.credentials([secret])])
    with connect("analytics", quiet=True, on_close="suspend") as client:
        assert client.cluster.scheduler_address.startswith("tls://127.0.0.1:")
        assert client.submit(sum, [3, 4]).result(timeout=60) == 7
    eventually(lambda: kubectl("get", "pods", "-o", "name") == "", seconds=90)
    what_was_granted_was_used(node, notebook)


@pytest.mark.timeout(600)
def test_a_pod_connects_by_the_service(node, kubectl, kube, notebook):
    if node.kind != "node":
        pytest.skip("needs a node into which an image can be loaded")
    node.load_image(images.notebook_image())
    kubectl.apply(kube.cluster_manifest("inside", workers=1, suspend=True))
    container = {"name": "notebook", "image": images.NOTEBOOK, "command": ["python3", "-c", INSIDE]}
    container["imagePullPolicy"] = "Never"
    spec: dict[str, Any] = {"restartPolicy": "Never", "serviceAccountName": NAME, "containers": [container]}
    ended = ("Succeeded", "Failed")
    options: dict[str, Any] = {"image": DASK_IMAGE, "cores": 0.1, "memory": "300Mi", "maximum_workers": 1}
    with template(node, notebook, kubectl, "small", **options, scheduler_cores=0.1, scheduler_memory="300Mi"):
        kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "notebook"}, "spec": spec})
        eventually(lambda: kubectl.json("get", "pod", "notebook")["status"].get("phase") in ended, seconds=300)
        log = kubectl("logs", "notebook")
        assert "of its own 3" in log, log
        of_its_own = ("get", "daskclusters", "-l", "dask.org/made-from=small", "-o", "name")
        assert kubectl(*of_its_own)
        kubectl("delete", "pod", "notebook")
        eventually(lambda: not kubectl(*of_its_own), seconds=60)
    found = next((json.loads(line) for line in log.splitlines() if line.startswith("{")), None)
    assert found is not None, log
    assert (found["names"], found["answer"]) == (["inside", "small"], 42)  # a template is a cluster that sleeps
    assert found["address"] == f"tcp://inside-scheduler.{kubectl.namespace}.svc.cluster.local:8786"
    assert found["link"].startswith("http://127.0.0.1:")
    assert "detached from inside" in log
    assert "inside: waking" in log


#: Rights to look, of which one test needs not all.
LOOKING = rbac.rules(rbac.VIEW)


def what_was_granted_was_used(node: Any, notebook: Notebook) -> None:
    """Of ``dask-notebook``, what is more than to see Dask resources.

    A crash, whose log is read, is not made here. That a port-forward needs ``create`` is checked by the API server as a
    part of a request that is a ``get``, and so stands in no audit log.
    """
    if node.kind != "node":
        return
    done = set()
    for entry in node.audited():
        if entry["user"]["username"] == notebook.user and "objectRef" in entry:
            ref = entry["objectRef"]
            resource = "/".join(filter(None, [ref["resource"], ref.get("subresource")]))
            done.add((ref.get("apiGroup", ""), resource, entry["verb"]))
    rules = [rule for rule in rbac.rules(rbac.NOTEBOOK) if rule not in LOOKING]
    granted = {triple for rule in rules for triple in product(rule["apiGroups"], rule["resources"], rule["verbs"])}
    assert granted - done == {("", "pods/log", "get"), ("", "pods/portforward", "create")}
