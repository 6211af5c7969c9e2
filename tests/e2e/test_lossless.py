"""Nothing is lost: six workers in two groups hold data and results that nobody else has, and work on.

While they do so everything happens to them that a platform does to workers, always to some that have something to lose.
In the end no key is lost, and every task has finished exactly once. The control experiment takes workers away in the
same ways without a drain: all that only they held is lost or computed again, and the same checks see it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from tests.e2e.recording import Recording
from tests.e2e.support import DASK_IMAGE, Kubectl, eventually
from tests.e2e.test_eviction import evict
from tests.e2e.workload import KEYS_PER_WORKER, cluster, group, workload

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore")]


def workers(kubectl: Kubectl, group: str, *, ready: bool = False) -> list[str]:
    """Names of a group's workers, those on their way out included; with ``ready`` only of those whose Pod is."""
    pods = kubectl.json("get", "pods", "-l", f"dask.org/workergroup-name={group}")["items"]
    return [
        p["metadata"]["annotations"]["dask.org/worker-name"]
        for p in pods
        if not ready or any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions") or [])
    ]


def settled(kubectl: Kubectl, counts: Mapping[str, int], *, without: Iterable[str] = ()) -> None:
    """Wait until groups have so many workers and no others, all ready, and certain workers are gone."""
    gone = set(without)

    def as_asked(group: str, count: int) -> bool:
        present = workers(kubectl, group)
        return len(present) == count and not gone & set(present) and workers(kubectl, group, ready=True) == present

    for name, count in counts.items():
        eventually(lambda name=name, count=count: as_asked(name, count), seconds=240)
        kubectl.wait_ready("daskworkergroup", name, seconds=240)
        eventually(lambda name=name, count=count: kubectl.status("daskworkergroup", name)["readyReplicas"] == count)


def scale(kubectl: Kubectl, group: str, replicas: int) -> None:
    kubectl("scale", "daskworkergroup", group, f"--replicas={replicas}")


def autoscaler(cluster: str, group: str) -> dict[str, Any]:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 5}}
    spec = {"cluster": cluster, "workerGroup": group, "minimum": 1, "maximum": 3, "behavior": behavior}
    metadata = {"name": group}
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler", "metadata": metadata, "spec": spec}


@pytest.mark.timeout(1500)
def test_no_key_is_lost_and_no_finished_task_runs_again(kubectl, kube):
    default, extra = "safe-default", "safe-extra"
    manifests = cluster(kube, "safe", workers=3), group(kube, extra, "safe", workers=3)
    with workload(kubectl, *manifests) as load:
        with Recording(load.client, os.environ.get("RECORDING")) as recording, load.stream():
            load.at_stake(6)
            time.sleep(5)
            recording.mark("extra: 3 to 1")
            scale(kubectl, extra, 1)
            settled(kubectl, {default: 3, extra: 1})
            assert load.lost_keys() == set(), "after scaling down"
            recording.mark("extra: 1 to 3")
            scale(kubectl, extra, 3)
            settled(kubectl, {default: 3, extra: 3})

            load.at_stake(6)
            before = workers(kubectl, default)
            recording.mark("default: rolling update")
            kubectl.apply(cluster(kube, "safe", workers=3, edition="second"))
            settled(kubectl, {default: 3, extra: 3}, without=before)
            assert load.lost_keys() == set(), "after a rolling update"
            assert kubectl.status("daskworkergroup", default)["updatedReplicas"] == 3

            # As `kubectl drain` does it, all at once; chosen before, as a replacement has nothing to lose.
            load.at_stake(6)
            evicted = [workers(kubectl, default)[0], *workers(kubectl, extra)[:2]]
            deleted = workers(kubectl, default)[1]
            recording.mark("3 evicted, 1 deleted")
            for worker in evicted:
                evict(kubectl, pod_of(worker))
            kubectl("delete", "pod", pod_of(deleted), "--wait=false")
            settled(kubectl, {default: 3, extra: 3}, without=[*evicted, deleted])
            assert load.lost_keys() == set(), "after evictions"

            load.at_stake(6)
            recording.mark("extra: autoscaled")
            load.interval_seconds = 1.0  # work for one
            kubectl.apply(autoscaler("safe", extra))
            settled(kubectl, {default: 3, extra: 1})
            time.sleep(5)
        assert load.wrong_results() == []
        assert load.not_once() == {}
        assert load.lost_keys() == set()
        assert load.wrong_data() == []
        assert len(load) > 200
    kubectl.wait_ready("daskcluster", "safe")
    assert "DrainTimeout" not in kubectl("get", "events")  # nobody was let go with something in hand


#: A container that has nothing to do with Dask.
_WAITS = {"image": DASK_IMAGE, "command": ["sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"]}


@pytest.fixture
def mesh(node, namespace: str) -> Iterator[None]:
    """Schedulers and workers of the namespace get a proxy as their very first container, as by a service mesh."""
    name = f"mesh-{namespace}"
    if "mutatingadmissionpolicies" not in node.kubectl("api-resources", "--api-group=admissionregistration.k8s.io"):
        pytest.skip("MutatingAdmissionPolicy takes Kubernetes 1.36")
    command, image = json.dumps(_WAITS["command"]), json.dumps(_WAITS["image"])
    proxy = f'Object.spec.containers{{name: "proxy", image: {image}, command: {command}}}'
    patch = f'[JSONPatch{{op: "add", path: "/spec/containers/0", value: {proxy}}}]'
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    of_dask = {"key": "dask.org/component", "operator": "In", "values": ["scheduler", "worker"]}
    policy = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "objectSelector": {"matchExpressions": [of_dask]},
            "resourceRules": [rule],
        },
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
    }
    kinds = {"MutatingAdmissionPolicy": policy, "MutatingAdmissionPolicyBinding": {"policyName": name}}
    for kind, spec in kinds.items():
        manifest = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
        node.kubectl("apply", "-f", "-", input=json.dumps({**manifest, "spec": spec}))
    metadata = {"name": "probe", "labels": {"dask.org/component": "worker"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{**_WAITS, "name": "main"}]},
    }
    dry = ("create", "--dry-run=server", "-o", "jsonpath={.spec.containers[*].name}", "-f", "-")
    eventually(lambda: node.kubectl("-n", namespace, *dry, input=json.dumps(pod)) == "proxy main")
    yield
    for kind in kinds:
        node.kubectl("delete", kind.lower(), name)


def containers(kubectl: Kubectl, pod: str) -> list[str]:
    return kubectl("get", "pod", pod, "-o", "jsonpath={.spec.containers[*].name}").split()


def evict_the_scheduler(kubectl: Kubectl, cluster: str) -> str:
    """Have the kubelet end the scheduler's Pod as when its node runs short of something: it stays there, Failed.

    Returns:
        Its name.
    """
    selector = f"dask.org/cluster-name={cluster},dask.org/component=scheduler"
    running = ("get", "pods", "-l", selector, "--field-selector=status.phase=Running", "-o", "name")
    eventually(lambda: kubectl(*running))
    pod = kubectl(*running).strip().removeprefix("pod/")
    kubectl("patch", "pod", pod, "--type=merge", "-p", json.dumps({"spec": {"activeDeadlineSeconds": 1}}))
    eventually(lambda: kubectl.status("pod", pod)["phase"] == "Failed")
    return pod


def on_the_network_of_its_host(group: dict[str, Any]) -> dict[str, Any]:
    """Workers that share an address."""
    spec = group["spec"]["worker"]["spec"]
    spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    (worker,) = spec["containers"]
    del worker["readinessProbe"]  # its port is whichever is free
    worker["args"] += ["--host", "$(HOST)", "--dashboard-address", ":0"]
    worker["env"] = [{"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]
    return group


@pytest.mark.timeout(600)
def test_nothing_is_lost_beside_what_others_put_there(kubectl, kube, mesh):
    """A mesh's proxy stands first, a sidecar of the user's before the workers, an evicted scheduler's Pod is left
    behind, and workers share their host's address (controller 1, 3, 9, strangers 8).
    """
    default, hosted = "beside-default", "beside-hosted"
    manifest = cluster(kube, "beside", workers=3)
    manifest["spec"]["worker"]["spec"]["containers"].insert(0, {**_WAITS, "name": "logs"})
    kubectl.apply(manifest)
    evicted = evict_the_scheduler(kubectl, "beside")
    with workload(kubectl, manifest, on_the_network_of_its_host(group(kube, hosted, "beside", workers=2))) as load:
        assert containers(kubectl, evicted) == ["proxy", "scheduler"]
        assert containers(kubectl, f"{default}-worker-0") == ["proxy", "logs", "worker"]
        with load.stream():
            load.at_stake(5)
            kubectl("delete", "pod", f"{default}-worker-0", "--wait=false")
            scale(kubectl, default, 1)
            # One goes before its worker has registered: whoever took its address for it would stop all others.
            scale(kubectl, hosted, 3)
            eventually(lambda: is_running(kubectl, f"{hosted}-worker-2"))
            scale(kubectl, hosted, 1)
            settled(kubectl, {default: 1, hosted: 1})
        eventually(lambda: load.ever_paused() == [])  # the scheduler has seen go who is gone
        assert load.lost_keys() == set()
        assert load.wrong_results() == []
        assert load.not_once() == {}
        assert load.wrong_data() == []
    assert kubectl.status("pod", evicted)["phase"] == "Failed"
    assert "DrainTimeout" not in kubectl("get", "events")


def is_running(kubectl: Kubectl, pod: str) -> bool:
    """Whether a worker's container has started."""
    found = kubectl.status("pod", pod)["containerStatuses"]
    return "running" in next(status for status in found if status["name"] == "worker")["state"]


def pod_of(worker: str) -> str:
    """A worker's name is that of its Pod and something that is new each time."""
    return worker.rpartition("-")[0]


@pytest.mark.parametrize("how", ["scaled", "updated", "evicted", "deleted"])
def test_without_draining_the_same_checks_see_the_loss(kubectl, kube, how: str):
    options: dict[str, Any] = {"drainTimeoutSeconds": 0}
    with workload(kubectl, cluster(kube, "unsafe", workers=2, **options)) as load:
        load.submit(20)
        assert load.wrong_results() == []
        assert load.not_once() == {}
        held = load.at_stake(2)
        assert load.lost_keys() == set()

        first = min(held)
        match how:
            case "scaled":
                scale(kubectl, "unsafe-default", 1)
                left = 1
            case "updated":
                kubectl.apply(cluster(kube, "unsafe", workers=2, edition="second", **options))
                left = 0
            case "evicted":
                evict(kubectl, pod_of(first))
                left = 1
            case "deleted":
                kubectl("delete", "pod", pod_of(first), "--wait=false")
                left = 1
        eventually(lambda: len(set(workers(kubectl, "unsafe-default")) & set(held)) == left, seconds=120)
        survivors = set(workers(kubectl, "unsafe-default"))
        gone = set().union(*(keys for worker, keys in held.items() if worker not in survivors))

        eventually(lambda: len(load.lost_keys()) == KEYS_PER_WORKER * (2 - left), seconds=90)
        assert load.lost_keys() < gone
        # Whatever else these workers held were results; their tasks run again, and no others.
        eventually(lambda: set(load.not_once()) == gone - load.lost_keys(), seconds=90)
        assert load.wrong_results() == []
