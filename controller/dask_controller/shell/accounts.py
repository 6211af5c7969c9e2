"""Whose Pods count as used by which resource, those that have gone included: what `core.usage` adds up."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from dask_crds import names
from dask_crds.model import DaskObject

from ..core.ownership import owner_uid
from ..core.pod import Pod
from ..core.usage import Stay, stay
from .caches import Caches, named

#: Jobs whose runners are remembered, and how many of each: a run may follow another, whose Pod is still going.
_MOST_JOBS, _MOST_RUNNERS = 10_000, 4


class Accounts:
    """Finds the Pods that a resource answers for, by what the caches hold: workers, a scheduler's, a runner's."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._runners: OrderedDict[str, dict[str, None]] = OrderedDict()  # uids of a job's runners, by the job's

    def of(self, value: DaskObject) -> list[Stay]:
        """The stays of a resource's Pods."""
        return self.find(value.kind, value.namespace, value.name, value.uid)

    def find(self, kind: str, namespace: str, name: str, uid: str) -> list[Stay]:
        """The same, by who it is."""
        found: list[Stay] = []
        for owner in self._owners(kind, namespace, name, uid):
            living = [stay(pod) for pod in self._caches.pods.by_index((namespace, owner))]
            there = {it.uid for it in living}  # one that had but lost our label is back
            found += living
            found += (it for it in self._caches.departed.of(namespace, owner) if it.uid not in there)
        return found

    def pods(self, kind: str, namespace: str, name: str, uid: str) -> list[Pod]:
        """Those that are there now."""
        owners = self._owners(kind, namespace, name, uid)
        return [pod for owner in owners for pod in self._caches.pods.by_index((namespace, owner))]

    def _owners(self, kind: str, namespace: str, name: str, uid: str) -> Iterable[str]:
        """Uids of what controls the Pods."""
        match kind:
            case "DaskWorkerGroup":
                return (uid,)
            case "DaskCluster":
                deployment = self._caches.deployment(namespace, name)
                if deployment is None or owner_uid(deployment) != uid:
                    return ()
                sets = self._caches.replica_sets.by_index((namespace, deployment["metadata"]["uid"]))
                return [it.uid for it in sets]
            case "DaskJob":
                return self._of_job(namespace, name, uid)
        return ()

    def _of_job(self, namespace: str, name: str, uid: str) -> Iterable[str]:
        runner = named(self._caches.jobs.by_index((namespace, name)), names.runner(name))
        if runner is not None and owner_uid(runner) == uid:
            known = self._runners.setdefault(uid, {})
            known[str(runner["metadata"]["uid"])] = None
            self._runners.move_to_end(uid)
            if len(known) > _MOST_RUNNERS:
                del known[next(iter(known))]
            if len(self._runners) > _MOST_JOBS:
                self._runners.popitem(last=False)
        return list(self._runners.get(uid, ()))
