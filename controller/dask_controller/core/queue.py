"""What a cluster or job that waits in a queue of Kueue may do now, and what is to be told to Kueue.

Scheduler, runner and guaranteed workers are one Workload, the *base*. Without quota for it all is as if its user had
suspended it; what is asked of Kueue, and reported to it, is decided here. Each further worker: `queue_workers`.

Quota is given back when the Pods that use it are gone, terminating ones included, and not before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from dask_crds.model import DaskCluster, DaskJob, TemplateMetadata
from dask_crds.names import Annotation
from dask_resources.queue import SCHEDULER, Placement, placed

from .actions import Action, Apply, Delete, Patch
from .pod import Manifest, Problem
from .queue_workload import Workload, noted_revisions
from .time import Time, format_time

#: How often it is looked whether the last Pod is gone, of which no watch tells the one who waits for it.
GONE_POLL_SECONDS = 2.0
#: The same after a run whose cluster is there: it may be kept.
ENDED_POLL_SECONDS = 30.0
#: The same whether Kueue is there.
UNAVAILABLE_POLL_SECONDS = 30.0
#: Reasons of an eviction after which a Workload is queued again at once; after others Kueue decides when.
_QUEUED_AGAIN = ("Preempted", "NodeFailures")


class Queued(Struct, frozen=True, kw_only=True):
    """A cluster or job, as far as its queue is concerned, or a limit for which it waits in line."""

    name: str  #: of the LocalQueue; empty if it has left the queue, or waits for a limit
    suspended: bool = False  #: by its user
    ended: bool = False  #: a run that has
    of_job: bool = False  #: a cluster that runs on its job's quota, which is not its own business
    settled: bool = False  #: whether what runs is what it was made from, though the templates have changed since
    wanted: Mapping[str, Any] = {}  #: the Workload, as it would be made now
    base: Workload | None = None  #: the one that counts
    others: tuple[Workload, ...] = ()  #: of runs before
    placements: Mapping[str, Placement] = {}  #: where the Pods of the base run, by PodSet
    problem: Problem | None = None  #: why it cannot be asked for quota
    conflict: Problem | None = None  #: why the quota that there is cannot be used
    unavailable: bool = False  #: whether Kueue is not there to be asked
    running: int = 0  #: Pods that are not gone, or may yet come
    kept: bool = False  #: whether its cluster is there, which may outlive a run
    ready: bool = False  #: whether scheduler and guaranteed workers are
    position: int | None = None  #: how many wait before it in its ClusterQueue, if Kueue has said so
    limited: Problem | None = None  #: in no queue: which limit of the operator it waits for

    @property
    def asks(self) -> bool:
        """Whether it wants quota."""
        return bool(self.name) and not self.suspended and not self.ended

    @property
    def held(self) -> bool:
        """Whether it wants quota and has none, so that nothing of it may run; or waits for a limit."""
        if self.limited is not None:
            return True
        if self.of_job:
            return self.base is None or not self.base.is_admitted or self.conflict is not None
        if not self.asks:
            return False
        if self.unavailable:
            return not self.running
        return self.base is None or not self.base.is_admitted or self.is_outdated or self.conflict is not None

    @property
    def is_outdated(self) -> bool:
        """Whether the base was granted for other templates: what they say now may not fit its quota."""
        if self.base is None or self.settled or self.of_job:
            return False
        made = self.base.revisions
        return any(made.get(name, revision) != revision for name, revision in self._revisions.items())

    @property
    def _revisions(self) -> Mapping[str, str]:
        return noted_revisions(self.wanted["metadata"]["annotations"][Annotation.REVISION])

    @property
    def is_stale(self) -> bool:
        """Whether the base asks for something else than would be asked for now; of a run that has begun it must not."""
        if self.base is None or self.settled:
            return False
        spec, base = self.wanted["spec"], self.base
        wanted = (
            spec["queueName"],
            spec["priority"],
            spec.get("priorityClassRef", {}).get("name", ""),
            {s["name"]: s["count"] for s in spec["podSets"]},
        )
        made = base.queue, base.priority, base.priority_class, base.counts
        return wanted != made or base.revisions != self._revisions


def as_admitted(cluster: DaskCluster, queued: Queued | None) -> DaskCluster:
    """A cluster as it is to run now: not at all as long as it has no quota, else where its quota is."""
    if queued is None:
        return cluster
    if queued.held:
        return replace(cluster, spec=replace(cluster.spec, suspend=True))
    placement = queued.placements.get(SCHEDULER)
    if placement is None:
        return cluster
    scheduler = cluster.spec.scheduler
    metadata = scheduler.metadata or TemplateMetadata()
    scheduler = replace(
        scheduler,
        spec=placed(scheduler.spec, placement),
        metadata=replace(
            metadata,
            labels={**placement.labels, **(metadata.labels or {})} or None,
            annotations={**placement.annotations, **(metadata.annotations or {})} or None,
        ),
    )
    return replace(cluster, spec=replace(cluster.spec, scheduler=scheduler))


def job_as_admitted(job: DaskJob, queued: Queued | None) -> DaskJob:
    """The same for a job."""
    if queued is None or not queued.held:
        return job
    return replace(job, spec=replace(job.spec, suspend=True))


def workload_of(queued: Queued | None) -> str | None:
    """The Workload that a job and its cluster run on, once it is there; ``None`` without a queue."""
    return queued.wanted["metadata"]["name"] if queued is not None and queued.name else None


def noting_quota(cluster: Manifest, queued: Queued | None) -> Manifest:
    """A job's cluster with a note of the Workload that it runs on: if somebody deletes that, it has no quota."""
    name = workload_of(queued)
    if name is None:
        return cluster
    annotations = {**cluster["metadata"].get("annotations", {}), Annotation.WORKLOAD: name}
    return {**cluster, "metadata": {**cluster["metadata"], "annotations": annotations}}


def base_actions(queued: Queued | None, now: Time) -> tuple[list[Action], float | None]:
    """What is to be told to Kueue, and seconds until the next look."""
    if queued is None or queued.of_job:
        return [], None
    if queued.unavailable:
        return [], UNAVAILABLE_POLL_SECONDS
    actions = list(_told(queued, now))
    waits = queued.running and (queued.held or not queued.asks) and (queued.base is not None or queued.asks)
    look = ENDED_POLL_SECONDS if queued.ended and queued.kept else GONE_POLL_SECONDS
    return actions, look if waits and not actions else None


def has_ended(job: DaskJob) -> bool:
    """Whether the run that a job asks for has ended, by the status that was stored."""
    status = job.status
    ended = any(c.type in ("Complete", "Failed") and c.status == "True" for c in status.conditions or ())
    return ended and (job.spec.run_id or "") == (status.run_id or "")


def _told(q: Queued, now: Time) -> Iterator[Action]:
    base, gone = q.base, not q.running
    left = [w for w in q.others if not w.deleting]
    yield from (Delete.of(w) for w in left if w.is_finished or gone or not q.name)
    if base is None:
        if q.asks and gone and not q.others and q.problem is None:
            yield Apply(q.wanted, new=True)
    elif base.deleting:
        return
    elif q.ended:
        if gone and not base.is_finished:
            yield _status(base, now, {"Finished": ("True", "Succeeded", "the run has ended and its Pods are gone")})
    elif not q.asks or base.is_finished or q.is_outdated:
        if gone:
            yield Delete.of(base)
    elif not base.is_reserved:
        if q.is_stale:
            yield Delete.of(base)
    elif base.is_evicted:
        if gone:
            yield release(base, now)
    elif base.is_admitted and (change := pods_ready(base, ready=q.ready)):
        yield _status(base, now, change)


# Controllers of Kubernetes work on what they saw last. Where a Deployment or a Job is told to have no Pods, none comes
# only when its status says that this was seen.


def scheduler_may_come(deployment: Manifest | None) -> bool:
    """Whether Kubernetes may yet make a Pod for a scheduler's Deployment."""
    if deployment is None:
        return False
    spec, status = deployment["spec"], deployment.get("status") or {}
    seen = (status.get("observedGeneration") or 0) >= deployment["metadata"].get("generation", 0)
    return not seen or spec.get("replicas") != 0 or bool(status.get("replicas"))


def runner_may_come(job: Manifest | None) -> bool:
    """Whether Kubernetes may yet make a Pod for a runner's Job."""
    if job is None or job["metadata"].get("deletionTimestamp"):
        return False
    conditions = (job.get("status") or {}).get("conditions") or ()
    return {c["type"] for c in conditions if c["status"] == "True"}.isdisjoint(("Complete", "Failed", "Suspended"))


_Changes = Mapping[str, tuple[str, str, str]]


def pods_ready(of: Workload, *, ready: bool) -> _Changes:
    """The condition ``PodsReady`` of an admitted Workload, where it is not yet what it should be.

    Kueue evicts what is not ready in time, by default, and reads this alone. Where there is none it waits for the start
    (``admittedNotReadyWorkload`` in its `workload_controller.go`), so none is written for that: for hundreds of surplus
    workers it would be one write in four.
    """
    before = of.condition("PodsReady")
    if not ready and not before:
        return {}
    recovers = before.get("reason") in ("WaitForRecovery", "Recovered")
    if ready:
        wanted = "True", "Recovered" if recovers else "Started", "all Pods are ready"
    elif before.get("status") == "True" or recovers:
        wanted = "False", "WaitForRecovery", "a Pod that was ready is not, or is gone"
    else:
        wanted = "False", "WaitForStart", "not all Pods are ready"
    return {} if (before.get("status"), before.get("reason")) == wanted[:2] else {"PodsReady": wanted}


def told_ready(of: Workload, now: Time, *, ready: bool) -> Patch | None:
    """What is to be written of `pods_ready`, if anything."""
    change = pods_ready(of, ready=ready)
    return _status(of, now, change) if change else None


def release(of: Workload, now: Time) -> Patch:
    """Give the quota of an evicted Workload back, as Kueue's own integrations do (`jobframework/reconciler.go`)."""
    evicted = of.condition("Evicted")
    reason, message = str(evicted.get("reason") or "Preempted"), str(evicted.get("message") or "")
    again = "True" if reason in _QUEUED_AGAIN else "False"
    changes = {
        "QuotaReserved": ("False", "Pending", message),
        "Admitted": ("False", "NoReservation", "The workload has no reservation"),
        "Requeued": (again, reason, message),
        "PodsReady": ("False", "WaitForStart", "not all Pods are ready"),
    }
    return _status(of, now, changes, admission=None)


def _status(of: Workload, now: Time, changes: _Changes, **fields: Any) -> Patch:
    """A patch of the status, refused if the Workload has changed since."""
    conditions = {str(c.get("type")): dict(c) for c in of.conditions}
    for type, (status, reason, message) in changes.items():
        before = conditions.get(type, {})
        since = before.get("lastTransitionTime") if before.get("status") == status else None
        conditions[type] = {
            "type": type,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since or format_time(now),
        }
    patch = {
        "metadata": {"resourceVersion": of.resource_version},
        "status": {"conditions": list(conditions.values()), **fields},
    }
    return replace(Patch.of(of, patch), subresource="status")
