"""What a status says of a queue."""

from __future__ import annotations

from dask_crds.model import Condition
from dask_crds.reasons import Reason

from .conditions import Standing, condition
from .limits import in_line
from .pod import Problem
from .queue import Queued
from .queue_workers import GroupQueue
from .queue_workload import Workload


def is_waiting(queued: Queued | None) -> bool:
    """Whether a cluster or job does not run because it has no quota, and for no other reason."""
    return queued is not None and queued.held and not queued.suspended


def is_suspended(queued: Queued | None, suspended: bool) -> bool:
    """Whether its user has suspended what is ``suspended``."""
    return suspended if queued is None else queued.suspended or (suspended and not queued.held)


def admitted(queued: Queued | None) -> list[Condition]:
    """The condition ``Admitted`` of what waits in a queue."""
    if queued is not None and queued.limited is not None:
        return [condition("Admitted", False, queued.limited.reason, queued.limited.message)]
    if queued is None or not (queued.name and queued.asks):
        return []
    if queued.held or queued.unavailable or queued.base is None:
        problem = _why(queued)
        return [condition("Admitted", False, problem.reason, problem.message)]
    text = f"ClusterQueue {queued.base.cluster_queue} has granted quota"
    if queued.base.queue != queued.name:
        text += f" through LocalQueue {queued.base.queue}; {queued.name} is asked when it starts next"
    return [condition("Admitted", True, Reason.ADMITTED, text)]


def standing(queued: Queued | None) -> Standing | None:
    """How it stands with what has no quota; ``None`` if that is not why it waits. It takes as long as it takes."""
    problem = why(queued)
    if problem is None:
        return None
    return Standing(waiting=problem.message, problem=problem, bounded=False)


def why(queued: Queued | None) -> Problem | None:
    """Why a cluster or job waits in a queue, or in line, if it does."""
    return _why(queued) if queued is not None and is_waiting(queued) else None


def _why(q: Queued) -> Problem:
    """Why it has no quota."""
    if q.limited is not None:
        return q.limited
    if q.conflict is not None or (q.problem is not None and (q.unavailable or q.base is None)):
        return q.conflict or q.problem or Problem(Reason.QUEUED, "")
    queue = f"LocalQueue {q.name}"
    if q.running and (q.base is None or q.base.is_evicted or q.is_outdated):
        return _stops(q)
    if q.base is None and q.of_job:
        return Problem(Reason.QUOTA_REVOKED, f"Workload {q.name} of its job is gone")
    if q.base is None:
        return Problem(Reason.QUEUED, f"{queue} is about to be asked")
    words = _words(q.base, queue)
    if q.position is None or words.reason != Reason.QUEUED or q.base.is_reserved:
        return words
    return Problem(words.reason, f"{words.message}; {in_line(q.position)} of its ClusterQueue")


def _stops(q: Queued) -> Problem:
    left = f"{q.running} Pod{' is' if q.running == 1 else 's are'} being stopped"
    if q.base is not None and q.base.is_evicted:
        return Problem(Reason.QUOTA_REVOKED, f"{left}: {q.base.condition('Evicted').get('message') or 'evicted'}")
    if q.base is not None:
        return Problem(Reason.QUEUED, f"{left}: the templates ask for other quota than was granted; it is queued again")
    return Problem(Reason.QUEUED, f"{left}: LocalQueue {q.name} has not granted quota for what runs")


def _words(of: Workload, queue: str) -> Problem:
    """Why a Workload has not been admitted, in Kueue's words as far as there are any."""
    if not of.active:
        text = f"Workload {of.name} is not active: somebody, or Kueue, has set its spec.active to false"
        return Problem(Reason.QUOTA_REVOKED, text)
    if of.is_evicted and of.is_reserved:
        return Problem(Reason.QUOTA_REVOKED, f"{queue}: {of.condition('Evicted').get('message') or 'evicted'}")
    if of.is_reserved:
        awaited = f": {of.awaits}" if of.awaits else ""
        return Problem(Reason.QUEUED, f"{queue}: quota is reserved, admission checks are awaited{awaited}")
    found = of.condition("QuotaReserved")
    if found.get("status") == "False" and found.get("message"):
        return Problem(Reason.QUEUED, f"{queue}: {found['message']}")
    return Problem(Reason.QUEUED, f"{queue}: waiting for Kueue's word about Workload {of.name}")


def workers_waiting(queue: GroupQueue | None, wanted: int) -> Problem | None:
    """Why a group has fewer workers than it wants, if quota is the reason."""
    if queue is None or queue.left:
        return None
    if queue.unavailable or queue.problem is not None:
        return queue.problem
    if queue.base is None or not queue.base.is_admitted or sum(queue.holding.values()) >= wanted:
        return None
    waiting = [w for w in queue.surplus if not (w.is_admitted or w.deleting)]
    if not waiting:
        return Problem(Reason.QUEUED, f"LocalQueue {queue.base.queue} is about to be asked")
    first = min(waiting, key=lambda w: (w.is_evicted, w.created))
    words = _words(first, f"LocalQueue {queue.base.queue}")
    count = f"{len(waiting)} worker{' waits' if len(waiting) == 1 else 's wait'}"
    return Problem(words.reason, f"{count} for quota: {words.message}")
