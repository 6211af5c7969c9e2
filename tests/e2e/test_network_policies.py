"""Who reaches what of a cluster, where NetworkPolicies are enforced (security findings 9 and 15)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.enforcer import network_policies
from tests.e2e.conftest import NAMESPACE
from tests.e2e.support import DASK_IMAGE, Kubectl, eventually, ready_pods
from tests.support.clusters import or_skip
from tests.support.constructs import chart, synth

from dask_constructs import DaskNetworkPolicy, DaskTenant

pytestmark = pytest.mark.node

COMM, DASHBOARD, CONTROL = 8786, 8787, 8788
#: Which of several addresses a Pod reaches; what a policy refuses is not answered.
REACH = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def reached(address):
    try:
        socket.create_connection(address, 3).close()
    except OSError:
        return False
    return True
addresses = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(addresses)) as pool:
    print(json.dumps(list(pool.map(reached, map(tuple, addresses)))))
"""
#: Where a worker listens: it chooses its ports.
LISTENING = """
import json, psutil
print(json.dumps(sorted({c.laddr.port for c in psutil.net_connections("tcp") if c.status == "LISTEN"})))
"""
COMPUTE = """
import sys
from distributed import Client
with Client(sys.argv[1], timeout=60) as client:
    print(client.submit(sum, [1, 2, 3]).result(60))
"""


@pytest.fixture(scope="module")
def enforced(node) -> Iterator[None]:
    if node.kind != "node":
        pytest.skip("needs a node whose network plugin is known to enforce NetworkPolicies")
    with or_skip("enforced NetworkPolicies"), network_policies(node):
        yield


@pytest.fixture
def elsewhere(node, namespace: str) -> Iterator[Any]:
    """Makes further namespaces, each with a Pod to look out of; by their purpose."""
    made: list[str] = []

    def make(purpose: str) -> Kubectl:
        made.append(name := f"{namespace}-{purpose}")
        node.kubectl("create", "namespace", name)
        kubectl = Kubectl(node.kubectl, name)
        looking_out(kubectl)
        return kubectl

    yield make
    for name in made:
        node.kubectl("delete", "namespace", name, "--wait=false")


def looking_out(kubectl: Kubectl) -> None:
    container = {"name": "main", "image": DASK_IMAGE, "command": ["sleep", "3600"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "outlook"}, "spec": spec})
    kubectl("wait", "pod/outlook", "--for=condition=Ready", "--timeout=120s")


def reached(kubectl: Kubectl, addresses: dict[str, tuple[str, int]], pod: str = "outlook") -> set[str]:
    """Which of these addresses a Pod reaches."""
    answers = json.loads(kubectl("exec", pod, "--", "python3", "-c", REACH, json.dumps(list(addresses.values()))))
    return {name for name, answer in zip(addresses, answers, strict=True) if answer}


def ports(kubectl: Kubectl, cluster: str) -> dict[str, tuple[str, int]]:
    """All at which a cluster listens, and those of the scheduler's Service, too."""
    (scheduler,), (worker, *_) = (ready_pods(kubectl, cluster, kind) for kind in ("scheduler", "worker"))
    said = kubectl("exec", worker["metadata"]["name"], "--", "python3", "-c", LISTENING)
    service = f"{cluster}-scheduler.{kubectl.namespace}"
    found = {"comm": COMM, "dashboard": DASHBOARD, "control": CONTROL}
    addresses = {name: (scheduler["status"]["podIP"], number) for name, number in found.items()}
    addresses |= {"service": (service, COMM)}
    return addresses | {f"worker {n}": (worker["status"]["podIP"], n) for n in json.loads(said)}


def policies(kind: str, namespace: str, notebooks: str) -> list[dict[str, Any]]:
    """Those of a construct."""
    c = chart()
    if kind == "cluster":
        DaskNetworkPolicy(c, "network", cluster="guarded", namespace=namespace, clients=[notebooks])
    else:
        DaskTenant(c, "tenant", namespace=namespace, client_namespaces=[notebooks])
    return [manifest for manifest in synth(c) if manifest["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("kind", ["cluster", "tenant"])
def test_strangers_reach_nothing_and_who_is_named_what_it_needs(
    kind, node, operator, enforced, kubectl, kube, elsewhere
):
    stranger, notebook = elsewhere("strangers"), elsewhere("notebooks")
    kubectl.apply(kube.cluster_manifest("guarded", workers=2))
    kubectl.wait_ready("daskcluster", "guarded", seconds=240)
    known = ports(kubectl, "guarded")
    assert len(known) > 4
    assert reached(stranger, known) == known.keys(), "without policies"

    for policy in policies(kind, kubectl.namespace, notebook.namespace):
        kubectl.apply(policy)
    eventually(lambda: not reached(stranger, known), seconds=60)
    # The enforcer learns of each policy by itself: what one allows may come later than what another refuses.
    eventually(lambda: "comm" in reached(notebook, known))
    assert reached(notebook, known) == {"comm", "dashboard", "service"}
    its_own = Kubectl(node.kubectl, NAMESPACE)
    eventually(lambda: "control" in reached(its_own, known, operator.leader()))
    assert reached(its_own, known, operator.leader()) == {"dashboard", "control"}
    address = f"tcp://guarded-scheduler.{kubectl.namespace}:{COMM}"
    assert notebook("exec", "outlook", "--", "python3", "-c", COMPUTE, address).strip() == "6"

    # A worker that comes later finds the scheduler, and the operator tells another to go.
    kubectl("delete", "pod", ready_pods(kubectl, "guarded", "worker")[0]["metadata"]["name"], "--timeout=120s")
    kubectl.wait_ready("daskcluster", "guarded", seconds=240)
    kubectl("scale", "daskworkergroup", "guarded-default", "--replicas=1")
    eventually(lambda: len(ready_pods(kubectl, "guarded", "worker")) == 1, seconds=120)
    assert "DrainTimeout" not in kubectl("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert notebook("exec", "outlook", "--", "python3", "-c", COMPUTE, address).strip() == "6"


def test_nobody_reads_the_operators_metrics_who_is_not_named(node, operator, enforced, elsewhere):
    """Probes go on: the replicas stay ready."""
    stranger = elsewhere("strangers")
    its_own = Kubectl(node.kubectl, NAMESPACE)
    pods = its_own.json("get", "pods", "-l", "app.kubernetes.io/name=dask-operator")["items"]
    addresses = {pod["metadata"]["name"]: (pod["status"]["podIP"], 8080) for pod in pods}
    assert reached(stranger, {**addresses, "service": ("dask-operator.dask-operator", 8080)}) == set()
    its_own("rollout", "status", "deployment/dask-operator", "--timeout=60s")
