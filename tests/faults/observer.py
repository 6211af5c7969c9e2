"""What really happens, seen by a client of its own whose connection nobody breaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from tests.support.patience import Patience
from tests.support.watching import reports

from dask_controller.kube.api import ApiError
from dask_controller.kube.client import Kubernetes
from dask_crds import names
from dask_crds.kinds import QUEUES, RESOURCES, ApiResource
from dask_crds.names import Label

Manifest = dict[str, Any]

KINDS = (
    *(RESOURCES[kind] for kind in ("DaskJob", "DaskCluster", "DaskWorkerGroup")),
    *(RESOURCES[kind] for kind in ("Pod", "Job", "Deployment", "Service", "ConfigMap", "PodDisruptionBudget")),
    ApiResource("apps", "v1", "replicasets", "ReplicaSet"),
)


class Violation(AssertionError):
    """Something that must not happen has happened."""


class Change(NamedTuple):
    """One thing that happened to an object. ``version`` orders the changes of all kinds: they share one etcd."""

    type: str  #: ADDED, MODIFIED, DELETED
    version: int
    manifest: Manifest

    @property
    def kind(self) -> str:
        kind: str = self.manifest["kind"]
        return kind

    @property
    def metadata(self) -> Manifest:
        metadata: Manifest = self.manifest["metadata"]
        return metadata

    @property
    def uid(self) -> str:
        uid: str = self.metadata["uid"]
        return uid


@dataclass
class Record:
    """All that happened in a namespace, and what is there now."""

    changes: list[Change] = field(default_factory=list)
    live: dict[str, Manifest] = field(default_factory=dict)
    seen: Callable[[Change], object] = lambda _: None  #: called with each

    def add(self, change: Change) -> None:
        self.changes.append(change)
        self.seen(change)
        if change.type == "DELETED":
            self.live.pop(change.uid, None)
        else:
            self.live[change.uid] = change.manifest

    def of(self, kind: str) -> Iterator[Manifest]:
        """What is there of a kind."""
        return (m for m in self.live.values() if m["kind"] == kind)

    def get(self, kind: str, name: str) -> Manifest | None:
        return next((m for m in self.of(kind) if m["metadata"]["name"] == name), None)

    def history(self, kind: str, type: str | None = None) -> Iterator[Change]:
        """The changes of a kind in their order."""
        found = (c for c in self.changes if c.kind == kind and type in (None, c.type))
        return iter(sorted(found, key=lambda c: c.version))

    def __str__(self) -> str:
        """What is there now, as far as it helps to see why something does not happen."""
        return "\n".join(
            f"{m['kind']} {m['metadata']['name']} {m['metadata'].get('deletionTimestamp', '')} "
            f"{_short(m['kind'], m.get('status') or {})}"
            for m in self.live.values()
        )

    async def until(self, holds: Callable[[], Any], what: str, *, seconds: float = 60.0) -> None:
        """Wait until ``holds``.

        Raises:
            Violation: it has not come true in time.
        """
        patience = Patience(seconds)
        while not holds():
            if not patience.lasts():
                raise Violation(f"not within {seconds:.0f} s: {what}")
            await asyncio.sleep(0.05)


def _short(kind: str, status: Manifest) -> str:
    return str(status.get("phase", "")) if kind == "Pod" else json.dumps(status)


class Observer:
    """Watches all namespaces, and Workloads of Kueue if ``queued``; an asynchronous context manager."""

    def __init__(self, kubernetes: Kubernetes, *, queued: bool = False) -> None:
        self._kubernetes = kubernetes
        self._kinds = (*KINDS, QUEUES["Workload"]) if queued else KINDS
        self._records: dict[str, Record] = {}

    def record(self, namespace: str) -> Record:
        """What happens in a namespace from now on; what is there already counts as there."""
        before = self._records.get(namespace)
        made = self._records[namespace] = Record(live=before.live if before else {})
        return made

    async def __aenter__(self) -> Self:
        versions = await asyncio.gather(*map(self._version, self._kinds))
        self._tasks = [asyncio.create_task(self._follow(*pair)) for pair in zip(self._kinds, versions, strict=True)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _version(self, kind: ApiResource) -> str:
        return [page.resource_version async for page in self._kubernetes.pages(kind)][-1]

    async def _follow(self, kind: ApiResource, version: str) -> None:
        labels = None if kind.group == names.GROUP else Label.CLUSTER
        while True:
            watch = self._kubernetes.watch(
                kind, resource_version=version, labels=labels, seconds=3600, idle_seconds=600
            )
            with contextlib.suppress(ApiError):  # goes on where it was
                async for event in reports(watch, kind):
                    version = event.manifest["metadata"]["resourceVersion"]
                    if event.type in ("ADDED", "MODIFIED", "DELETED"):
                        event.manifest["metadata"].pop("managedFields", None)
                        record = self._records.get(event.manifest["metadata"]["namespace"])
                        if record is not None:
                            record.add(Change(event.type, int(version), event.manifest))
