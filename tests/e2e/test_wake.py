"""Stock clients wake sleeping clusters, through the activator of dist/, on a real node with real Services."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster import images
from tests.cluster.images import ROOT
from tests.e2e.conftest import NAMESPACE
from tests.e2e.support import DASK_IMAGE, Kubectl, eventually
from tests.e2e.test_dask_versions import OLDEST

pytestmark = pytest.mark.node

#: What people run, but for the patience, which is for a busy machine. It says how long each step took.
CLIENT = """
import time, dask
from distributed import Client
dask.config.set({"distributed.comm.timeouts.connect": "200s"})
began = time.monotonic()
for _ in range(TRIES):
    try:
        with Client("tcp://ADDRESS:8786", timeout=200) as client:
            print("connected after %.1f s" % (time.monotonic() - began))
            print("result:", client.submit(lambda x: x * 7, 6).result(timeout=200))
        break
    except OSError as error:  # as CommClosedError is one
        print("again:", error)
"""


@pytest.fixture(scope="module")
def activator(node: Any, operator: Any) -> Iterator[Kubectl]:
    if node.kind == "node":
        node.load_image(images.dask_image(OLDEST))
    kubectl = Kubectl(node.kubectl, NAMESPACE)
    manifest = ROOT / "dist" / "activator" / "activator.yaml"
    kubectl("apply", "--server-side", "-f", str(manifest))
    kubectl("rollout", "status", "deployment/dask-activator", "--timeout=180s")
    yield kubectl
    kubectl("delete", "-f", str(manifest))


def run(kubectl: Kubectl, name: str, cluster: str, tries: int = 1, image: str = DASK_IMAGE) -> None:
    """A stock client in a Pod of its own, of the version of the cluster."""
    code = CLIENT.replace("ADDRESS", f"{cluster}-scheduler").replace("TRIES", str(tries))
    container = {"name": "client", "image": image, "command": ["python3", "-c", code]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod})


def has_its_result(kubectl: Kubectl, name: str) -> bool:
    phase = kubectl.json("get", "pod", name)["status"]["phase"]
    assert phase != "Failed", kubectl("logs", name)
    if phase != "Succeeded":
        return False
    assert "result: 42" in kubectl("logs", name), kubectl("logs", name)
    return True


def doors(kubectl: Kubectl) -> list[str]:
    labels = "endpointslice.kubernetes.io/managed-by=dask-activator"
    return [item["metadata"]["name"] for item in kubectl.json("get", "endpointslices", "-l", labels)["items"]]


def test_clients_get_their_results_from_clusters_that_sleep(kubectl: Kubectl, kube: Any, activator: Kubectl) -> None:
    sleeping = {"sleeping": f"ghcr.io/dask/dask:{OLDEST}", "dreaming": DASK_IMAGE}
    for name, image in sleeping.items():
        manifest = kube.cluster_manifest(name, workers=1, suspend=True, wake="OnConnect", scheduler_image=image)
        manifest["spec"]["worker"]["spec"]["containers"][0]["image"] = image
        kubectl.apply(manifest)
    eventually(lambda: doors(kubectl) == ["dreaming-scheduler-activator", "sleeping-scheduler-activator"])
    assert kubectl.json("get", "pods")["items"] == []  # it costs nothing
    for name, image in sleeping.items():
        run(kubectl, f"client-of-{name}", name, tries=3, image=image)
    # It dies while it holds them: that costs a try, and no result.
    eventually(lambda: kubectl.json("get", "events", "--field-selector=reason=Woken")["items"], seconds=120)
    activator("delete", "pod", "-l", "app.kubernetes.io/name=dask-activator", "--grace-period=0", "--force")
    for name in sleeping:
        eventually(lambda name=name: has_its_result(kubectl, f"client-of-{name}"), seconds=240)
        print(name, kubectl("logs", f"client-of-{name}"))
    eventually(lambda: doors(kubectl) == [])


def test_it_sleeps_again_and_wakes_again(kubectl: Kubectl, kube: Any, activator: Kubectl) -> None:
    """Workers that lose their scheduler do not wake what they belong to."""
    kubectl.apply(
        kube.cluster_manifest("dozing", workers=2, suspend=True, wake="OnConnect", idleTimeout=5, idleAction="Suspend")
    )
    for turn in range(2):
        eventually(lambda: doors(kubectl) == ["dozing-scheduler-activator"], seconds=120)
        run(kubectl, f"client-{turn}", "dozing")
        eventually(lambda turn=turn: has_its_result(kubectl, f"client-{turn}"), seconds=240)
    eventually(lambda: kubectl.condition("daskcluster", "dozing", "Ready").get("reason") == "Suspended", seconds=120)
    woken = kubectl.json("get", "events", "--field-selector=reason=Woken")["items"]
    assert len(woken) == 2
