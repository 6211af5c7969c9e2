"""Nothing is lost: six workers in two groups hold data and results that nobody else has, and work on.

While they do so everything happens to them that a platform does to workers, always to some that have something to lose.
In the end no key is lost, and every task has finished exactly once. The control experiment takes workers away in the
same ways without a drain: all that only they held is lost or computed again, and the same checks see it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from tests.e2e.recording import Recording
from tests.e2e.support import Kubectl, eventually
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
