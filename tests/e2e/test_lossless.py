"""Nothing is lost: six workers in two groups hold data that nobody else has, and run tasks that leave a trace.

While they do so everything happens to them that a platform does to workers. In the end no key is lost, and no task that
had finished has run again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from distributed import Client, get_worker
from tests.e2e.recording import Recording, by_value
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.e2e.test_eviction import evict

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore")]

KEYS_PER_WORKER = 10


def traced(number: int) -> int:
    """A task that tells the scheduler when it has finished; that is kept when its worker goes."""
    time.sleep(0.3)
    get_worker().log_event("finished", number)
    return number * number


def without_holder(dask_scheduler: Any, keys: list[str]) -> list[str]:
    """The keys that nobody holds; runs on the scheduler."""
    tasks = dask_scheduler.tasks
    return [key for key in keys if key not in tasks or not tasks[key].who_has]


by_value(traced)
by_value(without_holder)


def value(worker: int, number: int) -> bytes:
    return f"{worker}-{number}-".encode() * 10_000


class Workload:
    """Data and tasks of one cluster."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.data: dict[Any, bytes] = {}
        self.tasks: list[Any] = []
        self._stop = threading.Event()

    def scatter(self) -> None:
        """Give every worker data that no other has."""
        for index, address in enumerate(self.client.scheduler_info(n_workers=-1)["workers"]):
            values = [value(index, number) for number in range(KEYS_PER_WORKER)]
            futures = self.client.scatter(values, workers=[address], hash=False)
            self.data |= dict(zip(futures, values, strict=True))
        assert all(len(holders) == 1 for holders in self.client.who_has(list(self.data)).values())

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Submit tasks all the time; their results stay on the workers, too."""
        thread = threading.Thread(target=self._submit, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        """Submit no more tasks."""
        self._stop.set()

    def _submit(self) -> None:
        while not self._stop.wait(0.15):
            self.tasks.append(self.client.submit(traced, len(self.tasks), pure=False))

    def lost_keys(self) -> list[str]:
        return self.client.run_on_scheduler(without_holder, keys=[future.key for future in self.data])

    def wrong_results(self) -> list[int]:
        results = self.client.gather(self.tasks)
        return [number for number, result in enumerate(results) if result != number * number]

    def run_again(self) -> list[int]:
        """Tasks that have finished more than once."""
        finished = Counter(number for _, number in self.client.get_events("finished") or ())
        return [number for number, times in finished.items() if times > 1]

    def wrong_data(self) -> list[bytes]:
        found = self.client.gather(list(self.data))
        return [wanted for got, wanted in zip(found, self.data.values(), strict=True) if got != wanted]


@contextmanager
def workload(kubectl: Kubectl, kube: Manifests, name: str, groups: dict[str, dict[str, Any]]) -> Iterator[Workload]:
    """A cluster without workers of its own, and groups of workers; a client, and data on all of them."""
    from dask_kubernetes.operator import KubeCluster

    kubectl.apply(kube.cluster_manifest(name, workers=0))
    for group, manifest in groups.items():
        kubectl.apply(manifest)
        kubectl.wait_ready("daskworkergroup", group, seconds=180)
    connected = KubeCluster.from_name(name, namespace=kubectl.namespace, shutdown_on_close=False)
    with connected as cluster, Client(cluster) as client:
        client.wait_for_workers(sum(m["spec"]["worker"]["replicas"] for m in groups.values()), timeout=120)
        load = Workload(client)
        load.scatter()
        yield load


def group(kube: Manifests, name: str, cluster: str, *, workers: int, env: str = "", **worker: Any) -> dict[str, Any]:
    manifest = kube.group_manifest(name, cluster, workers=workers)
    spec = manifest["spec"]["worker"]["spec"]
    del spec["terminationGracePeriodSeconds"]
    spec["containers"][0]["env"] = [{"name": "EDITION", "value": env}]
    manifest["spec"]["worker"] |= worker
    return manifest


def names(kubectl: Kubectl, group: str) -> list[str]:
    """The ready workers of a group that are not on their way out."""
    pods = kubectl.json("get", "pods", "-l", f"dask.org/workergroup-name={group}")["items"]
    return [p["metadata"]["name"] for p in pods if "deletionTimestamp" not in p["metadata"]]


def settled(kubectl: Kubectl, group: str, workers: int) -> None:
    """Wait until a group is as asked, and nothing of it is on its way out."""
    kubectl.wait_ready("daskworkergroup", group, seconds=240)
    pods = ("get", "pods", "-l", f"dask.org/workergroup-name={group}", "-o", "name")
    eventually(lambda: len(kubectl(*pods).split()) == workers, seconds=240)
    kubectl.wait_ready("daskworkergroup", group, seconds=240)


def scale(kubectl: Kubectl, group: str, replicas: int) -> None:
    kubectl("scale", "daskworkergroup", group, f"--replicas={replicas}")


@pytest.mark.timeout(1500)
def test_no_key_is_lost_and_no_finished_task_runs_again(kubectl, kube):
    red, blue = "safe-red", "safe-blue"
    groups = {red: group(kube, red, "safe", workers=3), blue: group(kube, blue, "safe", workers=3)}
    with workload(kubectl, kube, "safe", groups) as load:
        with Recording(load.client, os.environ.get("RECORDING")) as recording, load.stream():
            time.sleep(10)
            recording.mark("red: 3 to 1")
            scale(kubectl, red, 1)
            settled(kubectl, red, 1)
            assert load.lost_keys() == [], "after scaling down"
            recording.mark("red: 1 to 3")
            scale(kubectl, red, 3)
            settled(kubectl, red, 3)

            recording.mark("blue: new template")
            kubectl.apply(group(kube, blue, "safe", workers=3, env="second"))
            settled(kubectl, blue, 3)
            assert load.lost_keys() == [], "after a rolling update"
            assert kubectl.status("daskworkergroup", blue)["updatedReplicas"] == 3

            recording.mark("3 evicted, 1 deleted")
            for pod in (names(kubectl, red)[0], *names(kubectl, blue)[:2]):  # as `kubectl drain` does it, all at once
                evict(kubectl, pod)
            kubectl("delete", "pod", names(kubectl, red)[-1], "--wait=false")
            settled(kubectl, red, 3)
            settled(kubectl, blue, 3)
            assert load.lost_keys() == [], "after evictions"
            load.stop()
            assert load.wrong_results() == []

            recording.mark("blue: autoscaled")
            kubectl.apply(autoscaler("safe", blue))
            eventually(lambda: len(names(kubectl, blue)) == 1, seconds=240)
            settled(kubectl, blue, 1)
            time.sleep(5)
        assert load.lost_keys() == [], "after scaling down by load"

        assert load.wrong_data() == []
        assert load.wrong_results() == []
        assert load.run_again() == []
        assert len(load.tasks) > 100


def autoscaler(cluster: str, group: str) -> dict[str, Any]:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 5}}
    spec = {"cluster": cluster, "workerGroup": group, "minimum": 1, "maximum": 3, "behavior": behavior}
    metadata = {"name": group}
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("how", ["scaled", "evicted"])
def test_without_draining_the_same_loses_data(kubectl, kube, how: str):
    """The control experiment: what the test above relies on is there to be seen."""
    name = f"unsafe-{how}"
    groups = {name: group(kube, name, "unsafe", workers=2, drainTimeoutSeconds=0)}
    with workload(kubectl, kube, "unsafe", groups) as load:
        if how == "scaled":
            scale(kubectl, name, 1)
        else:
            evict(kubectl, names(kubectl, name)[0])
        eventually(lambda: len(load.lost_keys()) == KEYS_PER_WORKER, seconds=90)
