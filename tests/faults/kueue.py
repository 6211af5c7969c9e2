"""Kueue, played: it grants quota to the Workloads of a life, and takes it back, as the schedule wants it.

The real one is in ``tests/integration/test_kueue.py``; it is too slow for hundreds of lives. This one knows what the
operator relies on: what is evicted keeps its quota until the operator gives it back, and is queued again then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dask_controller.kube.api import ApiError
from dask_crds.kinds import QUEUES

from .observer import Manifest, Record

if TYPE_CHECKING:
    from .stranger import Hand

QUEUE, FLAVOR = "team", "faults"
#: Pods for which there is quota: a scheduler, a runner, and the workers of the largest step.
QUOTA = 7
_LOOK_SECONDS = 0.1


def is_true(workload: Manifest, type: str) -> bool:
    """Whether a condition is True."""
    conditions = (workload.get("status") or {}).get("conditions") or ()
    return any(c["type"] == type and c["status"] == "True" for c in conditions)


def holds_quota(workload: Manifest) -> bool:
    """Whether nobody else may have its quota."""
    return is_true(workload, "QuotaReserved") and not is_true(workload, "Finished")


def size(workload: Manifest) -> int:
    """Pods that it asks quota for."""
    return sum(pod_set["count"] for pod_set in workload["spec"]["podSets"])


class Kueue:
    """That of one life.

    Args:
        hand: by which it writes.
        record: what there is.
        note: tells of what it does.

    Attributes:
        answers: whether it does anything at all.
        taken: quota that others have got.
        waiting: uids of Workloads that are not admitted for the time being, whatever there is.
    """

    def __init__(self, hand: Hand, record: Record, note: Callable[[str], None]) -> None:
        self._hand, self._record, self._note = hand, record, note
        self.answers = True
        self.taken = 0
        self.waiting: set[str] = set()

    def workloads(self) -> list[Manifest]:
        """Those that are there, by name."""
        there = (w for w in self._record.of("Workload") if not w["metadata"].get("deletionTimestamp"))
        return sorted(there, key=lambda w: str(w["metadata"]["name"]))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self.answers:
                for workload, reason in self._to_evict():
                    await self._write(workload, f"evicts for {reason}", Evicted=("True", reason))
                for workload in self._to_admit():
                    await self._admit(workload)

    async def evict(self, workload: Manifest, reason: str) -> None:
        """Take the quota of a Workload back."""
        await self._write(workload, f"evicts for {reason}", Evicted=("True", reason))

    def _to_evict(self) -> Iterator[tuple[Manifest, str]]:
        holding = [w for w in self.workloads() if holds_quota(w) and not is_true(w, "Evicted")]
        yield from ((w, "Deactivated") for w in holding if w["spec"].get("active") is False)
        over = sum(map(size, holding)) + self.taken - QUOTA
        first = sorted(holding, key=lambda w: (w["spec"]["priority"], _newest(w)))
        for workload in first:
            if over <= 0:
                return
            over -= size(workload)
            yield workload, "Preempted"

    def _to_admit(self) -> Iterable[Manifest]:
        there = self.workloads()
        free = QUOTA - self.taken - sum(size(w) for w in there if holds_quota(w))
        waiting = (
            w
            for w in there
            if not (holds_quota(w) or is_true(w, "Finished") or w["metadata"]["uid"] in self.waiting)
            and w["spec"].get("active") is not False
        )
        for workload in sorted(waiting, key=lambda w: (-w["spec"]["priority"], _created(w))):
            if size(workload) <= free:
                free -= size(workload)
                yield workload

    async def _admit(self, workload: Manifest) -> None:
        assignments = [
            {"name": s["name"], "count": s["count"], "flavors": {"cpu": FLAVOR}} for s in workload["spec"]["podSets"]
        ]
        told = {"QuotaReserved": ("True", "QuotaReserved"), "Admitted": ("True", "Admitted")}
        if is_true(workload, "Evicted"):
            told["Evicted"] = "False", "QuotaReserved"
        admission = {"clusterQueue": "all", "podSetAssignments": assignments}
        await self._write(workload, "admits", admission, **told)

    async def _write(
        self, workload: Manifest, what: str, admission: Mapping[str, Any] | None = None, **changes: tuple[str, str]
    ) -> None:
        metadata, now = workload["metadata"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = {c["type"]: c for c in (workload.get("status") or {}).get("conditions") or ()}
        for type, (status, reason) in changes.items():
            said = {"type": type, "status": status, "reason": reason, "message": "by a test", "lastTransitionTime": now}
            conditions[type] = said
        status = {"conditions": list(conditions.values()), **({"admission": admission} if admission else {})}
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": status}
        try:
            await self._hand.patch("Workload", metadata["namespace"], metadata["name"], patch, subresource="status")
        except ApiError as error:
            if error.status in (404, 409):
                return  # it has changed since, and is looked at again
            raise
        self._note(f"--- Kueue {what} {metadata['name']}")


def _created(workload: Manifest) -> tuple[str, str]:
    return workload["metadata"]["creationTimestamp"], workload["metadata"]["name"]


def _newest(workload: Manifest) -> tuple[float, str]:
    created, name = _created(workload)
    return -datetime.fromisoformat(created).timestamp(), name


def flavor() -> Manifest:
    """The one kind of nodes that quota is for."""
    return {
        "apiVersion": QUEUES["ResourceFlavor"].api_version,
        "kind": "ResourceFlavor",
        "metadata": {"name": FLAVOR},
        "spec": {},
    }
