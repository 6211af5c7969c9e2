"""Stock clients wake sleeping clusters, through the activator of dist/, on a real node with real Services.

``SLEEPING=20 pytest tests/e2e/test_wake.py`` has so many clusters instead of two, in turns of the oldest and the newest
Dask that are supported.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any

import pytest
from tests.cluster import images
from tests.cluster.images import ROOT
from tests.e2e.conftest import NAMESPACE
from tests.e2e.support import Kubectl, eventually
from tests.e2e.test_dask_versions import OLDEST

pytestmark = pytest.mark.node

SLEEPING = int(os.environ.get("SLEEPING", "2"))
#: Clusters that are woken at once, with three Pods each: what a small node bears.
BATCH = 4
#: Seconds that a client waits at most, for one batch and for its own.
PATIENCE = 240
#: Seconds without work after which they sleep again; less than that is what a busy machine may need to connect.
IDLE = 30
#: Clusters by name, and their Dask.
CLUSTERS = {f"sleeper-{n}": version for n, version in enumerate(islice(cycle((OLDEST, images.DASK_VERSION)), SLEEPING))}

#: What people run, but for the patience, which is for a busy machine. It says how long it took to connect.
CLIENT = """
import json, time, dask
from concurrent.futures import CancelledError
from distributed import Client
dask.config.set({"distributed.comm.timeouts.connect": "PATIENCEs"})
began = time.monotonic()
WAKE
for _ in range(TRIES):
    try:
        with Client("tcp://ADDRESS:8786", timeout=PATIENCE) as client:
            print(json.dumps({"connected": time.monotonic() - began}))
            print("result:", client.submit(lambda x: x * 7, 6).result(timeout=PATIENCE))
        break
    except (OSError, CancelledError) as error:  # a CommClosedError is an OSError; what it had asked for is cancelled
        print("again:", error)
"""
#: What people do where no activator does it for them, as fast as can be.
BY_HAND = """
import socket, ssl, urllib.request
given = "/var/run/secrets/kubernetes.io/serviceaccount/"
namespace, token = open(given + "namespace").read(), open(given + "token").read()
cluster = f"apis/kubernetes.dask.org/v1/namespaces/{namespace}/daskclusters/NAME"
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"}
change = b'{"spec": {"suspend": false}}'
request = urllib.request.Request(f"https://kubernetes.default.svc/{cluster}", change, headers, method="PATCH")
urllib.request.urlopen(request, context=ssl.create_default_context(cafile=given + "ca.crt"))
while True:
    try:
        socket.create_connection(("ADDRESS", 8786), 1).close()
        break
    except OSError:
        time.sleep(0.02)
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


def sleeping(kube: Any, name: str, version: str, **spec: Any) -> dict[str, Any]:
    """A cluster that begins asleep."""
    made: dict[str, Any] = kube.cluster_manifest(name, workers=1, suspend=True, **spec)
    for role in ("scheduler", "worker"):
        made["spec"][role]["spec"]["containers"][0]["image"] = f"{images.DASK}:{version}"
    return made


def client(name: str, cluster: str, version: str, *, tries: int = 1, wake: str = "") -> dict[str, Any]:
    """A stock client in a Pod of its own, of the version of the cluster."""
    code = CLIENT.replace("WAKE", wake).replace("NAME", cluster).replace("ADDRESS", f"{cluster}-scheduler")
    command = ["python3", "-c", code.replace("TRIES", str(tries)).replace("PATIENCE", str(PATIENCE))]
    container = {"name": "client", "image": f"{images.DASK}:{version}", "command": command}
    spec = {"restartPolicy": "Never", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def has_its_result(kubectl: Kubectl, name: str) -> bool:
    phase = kubectl.json("get", "pod", name)["status"]["phase"]
    assert phase != "Failed", kubectl("logs", name)
    if phase != "Succeeded":
        return False
    assert "result: 42" in kubectl("logs", name), kubectl("logs", name)
    return True


def doors(kubectl: Kubectl) -> set[str]:
    """The clusters whose Services lead to the activator."""
    labels = "endpointslice.kubernetes.io/managed-by=dask-activator"
    items = kubectl.json("get", "endpointslices", "-l", labels)["items"]
    return {item["metadata"]["name"].removesuffix("-scheduler-activator") for item in items}


def sleep(kubectl: Kubectl, clusters: str) -> bool:
    """Whether no Pod of these runs, whose names stand side by side."""
    return not kubectl("get", "pods", "-l", f"dask.org/cluster-name in ({clusters})", "-o", "name")


def batches(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[first : first + size] for first in range(0, len(names), size)]


def woken(kubectl: Kubectl) -> list[str]:
    events = kubectl.json("get", "events", "--field-selector=reason=Woken")["items"]
    return [event["involvedObject"]["name"] for event in events]


@pytest.mark.timeout(300 + SLEEPING * 60)
def test_clients_get_their_results_from_clusters_that_sleep(kubectl: Kubectl, kube: Any, activator: Kubectl) -> None:
    for name in CLUSTERS:
        kubectl.apply(sleeping(kube, name, CLUSTERS[name], wake="OnConnect"))
    eventually(lambda: doors(kubectl) == set(CLUSTERS))
    assert kubectl.json("get", "pods")["items"] == []  # they cost nothing
    for batch in batches(list(CLUSTERS), BATCH):
        for name in batch:
            kubectl.apply(client(f"client-of-{name}", name, CLUSTERS[name], tries=3))
        # It dies while it holds them: that costs a try, and no result.
        eventually(lambda batch=batch: set(woken(kubectl)) & set(batch), seconds=PATIENCE)
        activator("delete", "pod", "-l", "app.kubernetes.io/name=dask-activator", "--grace-period=0", "--force")
        tries = list[int]()
        for name in batch:
            eventually(lambda name=name: has_its_result(kubectl, f"client-of-{name}"), seconds=PATIENCE)
            tries.append(1 + kubectl("logs", f"client-of-{name}").count("again:"))
            print(f"{name}, Dask {CLUSTERS[name]}: a result after {tries[-1]} tries")
        assert set(tries) <= {1, 2}
        assert 2 in tries, "nobody was held"
    eventually(lambda: doors(kubectl) == set())


def connected(kubectl: Kubectl, name: str) -> float:
    """Seconds that a client took to connect."""
    said = next(line for line in kubectl("logs", name).splitlines() if line.startswith("{"))
    return float(json.loads(said)["connected"])


@pytest.mark.timeout(300 + SLEEPING * 90)
def test_they_sleep_again_and_waking_takes_no_longer_than_by_hand(
    kubectl: Kubectl, kube: Any, activator: Kubectl
) -> None:
    """Workers that lose their scheduler do not wake what they belong to. While each wakes, another is woken by hand."""
    ends: dict[str, Any] = {"idleTimeout": IDLE, "idleAction": "Suspend"}
    by_hand = {version: f"by-hand-{n}" for n, version in enumerate(sorted(set(CLUSTERS.values())))}
    for name, version in CLUSTERS.items():
        kubectl.apply(sleeping(kube, name, version, wake="OnConnect", **ends))
    for version, name in by_hand.items():
        kubectl.apply(sleeping(kube, name, version, **ends))
    kubectl("create", "role", "waker", "--verb=patch", "--resource=daskclusters.kubernetes.dask.org")
    kubectl("create", "rolebinding", "waker", "--role=waker", f"--serviceaccount={kubectl.namespace}:default")
    turns = [*CLUSTERS.items(), next(iter(CLUSTERS.items()))]
    more, ratios = list[float](), list[float]()
    for turn, (name, version) in enumerate(turns):
        both = f"{name},{by_hand[version]}"
        eventually(lambda name=name, both=both: name in doors(kubectl) and sleep(kubectl, both), seconds=120)
        hand = client(f"{turn}-by-hand", by_hand[version], version, wake=BY_HAND)
        kubectl.apply({"apiVersion": "v1", "kind": "List", "items": [hand, client(f"{turn}", name, version)]})
        for pod in (f"{turn}", f"{turn}-by-hand"):
            eventually(lambda pod=pod: has_its_result(kubectl, pod), seconds=PATIENCE)
        waited, stated = connected(kubectl, f"{turn}"), connected(kubectl, f"{turn}-by-hand")
        print(f"{name}, Dask {version}: connected after {waited:.2f} s; where woken by hand, after {stated:.2f} s")
        more.append(waited - stated)
        ratios.append(waited / stated)
    longer = statistics.median(more), statistics.median(ratios)
    print(f"in the median {longer[0]:.2f} s more than by hand, {longer[1]:.2f} times as long")
    everyone = ",".join([*CLUSTERS, *by_hand.values()])
    eventually(lambda: doors(kubectl) == set(CLUSTERS) and sleep(kubectl, everyone), seconds=120)
    assert len(woken(kubectl)) == len(turns)
    assert longer[0] < 1 or longer[1] < 1.5  # seconds are long on a busy machine
