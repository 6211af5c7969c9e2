"""Data that nobody else has and tasks that leave a trace: what shows whether a cluster loses anything."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from distributed import Client, Future, get_worker, wait
from tests.e2e.recording import by_value
from tests.e2e.support import Kubectl, Manifests, eventually

KEYS_PER_WORKER = 10
#: Dask forgets all but the last 1000 events, and with them what has run before.
EVENTS = {"name": "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH", "value": "1000000"}


def traced(number: int) -> int:
    """A task that tells the scheduler when it has finished; that is kept when its worker goes."""
    time.sleep(0.3)
    get_worker().log_event("finished", number)
    return number * number


def sole_copies(dask_scheduler: Any) -> dict[str, list[str]]:
    """The keys that each worker holds and no other does; runs on the scheduler."""
    return {
        str(ws.name): [ts.key for ts in ws.has_what if len(ts.who_has) == 1] for ws in dask_scheduler.workers.values()
    }


def without_holder(dask_scheduler: Any, keys: list[str]) -> list[str]:
    """The keys that nobody holds; runs on the scheduler."""
    tasks = dask_scheduler.tasks
    return [key for key in keys if key not in tasks or not tasks[key].who_has]


def ever_paused(dask_scheduler: Any) -> list[str]:
    """The workers that were told to go and are still there; runs on the scheduler."""
    return [
        str(ws.name)
        for address, ws in dask_scheduler.workers.items()
        if any(event.get("status") == "closing_gracefully" for _, event in dask_scheduler.get_events(address))
    ]


by_value(traced)
by_value(sole_copies)
by_value(without_holder)
by_value(ever_paused)


def value(number: int) -> bytes:
    """About 200 kB, different for each number."""
    return f"{number:08}-".encode() * 22_000


class Workload:
    """Data and tasks of one cluster."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.interval_seconds = 0.15
        self._data: dict[Any, int] = {}
        self._tasks: list[Any] = []
        self._submitting = threading.Lock()
        self._stop = threading.Event()

    def at_stake(self, workers: int) -> dict[str, set[str]]:
        """Wait for so many workers, and give each of them data and a task, so that it holds what no other does.

        Returns:
            The keys that would be lost with a worker, by its name.
        """
        eventually(lambda: len(self._workers()) == workers, seconds=120)
        given = []
        for address in self._workers():
            numbers = [len(self._data) + n for n in range(KEYS_PER_WORKER)]
            futures = self.client.scatter([value(n) for n in numbers], workers=[address], hash=False)
            self._data |= dict(zip(futures, numbers, strict=True))
            # Left to itself an idle scheduler gives single tasks to the same few workers.
            given += self.submit(workers=[address], allow_other_workers=True)
        wait(given)  # else a worker that has another result yet is taken for one that has all of its own
        sole: dict[str, set[str]] = {}

        def each_has_both() -> bool:
            nonlocal sole
            sole = {name: set(keys) for name, keys in self.client.run_on_scheduler(sole_copies).items()}
            results, data = {f.key for f in self._tasks}, {f.key for f in self._data}
            both = (keys & results and len(keys & data) >= KEYS_PER_WORKER for keys in sole.values())
            return len(sole) == workers and all(both)

        eventually(each_has_both)
        return sole

    def _workers(self) -> list[str]:
        return list(self.client.scheduler_info(n_workers=-1)["workers"])

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Submit tasks all the time; their results stay on the workers, too."""
        thread = threading.Thread(target=self._submit, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _submit(self) -> None:
        while not self._stop.wait(self.interval_seconds):
            self.submit()

    def submit(self, count: int = 1, **options: Any) -> list[Future]:
        with self._submitting:  # two threads do
            begin = len(self._tasks)
            numbers = range(begin, begin + count)
            self._tasks += [self.client.submit(traced, number, pure=False, **options) for number in numbers]
            return self._tasks[begin:]

    def __len__(self) -> int:
        """How many tasks there were so far."""
        return len(self._tasks)

    def lost_keys(self) -> set[str]:
        """Data that cannot be had any more."""
        return set(self.client.run_on_scheduler(without_holder, keys=[future.key for future in self._data]))

    def ever_paused(self) -> list[str]:
        """The workers that were told to go and are still there."""
        return list(self.client.run_on_scheduler(ever_paused))

    def wrong_data(self) -> list[int]:
        found = self.client.gather(list(self._data))
        return [number for got, number in zip(found, self._data.values(), strict=True) if got != value(number)]

    def wrong_results(self) -> list[int]:
        results = self.client.gather(self._tasks)
        return [number for number, result in enumerate(results) if result != number * number]

    def not_once(self) -> dict[str, int]:
        """Tasks that have not finished exactly once, and how often they have; by key."""
        times = Counter(number for _, number in self.client.get_events("finished") or ())
        return {future.key: times[number] for number, future in enumerate(self._tasks) if times[number] != 1}


def cluster(kube: Manifests, name: str, *, workers: int, edition: str = "first", **worker: Any) -> dict[str, Any]:
    """A cluster whose workers have the grace period that the operator gives them."""
    manifest = kube.cluster_manifest(name, workers=workers, worker_env={"EDITION": edition}, worker_extra=worker)
    manifest["spec"]["scheduler"]["spec"]["containers"][0]["env"].append(EVENTS)
    del manifest["spec"]["worker"]["spec"]["terminationGracePeriodSeconds"]
    return manifest


def group(kube: Manifests, name: str, cluster: str, *, workers: int, args: Sequence[str] = ()) -> dict[str, Any]:
    """A further group of such workers."""
    manifest = kube.group_manifest(name, cluster, workers=workers, args=args)
    del manifest["spec"]["worker"]["spec"]["terminationGracePeriodSeconds"]
    return manifest


@contextmanager
def workload(kubectl: Kubectl, *manifests: Mapping[str, Any]) -> Iterator[Workload]:
    """A cluster, which comes first, and its groups; with a client."""
    from dask_kubernetes.operator import KubeCluster

    for manifest in manifests:
        kubectl.apply(manifest)
    for manifest in manifests:
        kubectl.wait_ready(manifest["kind"].lower(), manifest["metadata"]["name"], seconds=240)
    name = manifests[0]["metadata"]["name"]
    connected = KubeCluster.from_name(name, namespace=kubectl.namespace, shutdown_on_close=False)
    with connected as cluster, Client(cluster) as client:
        yield Workload(client)
