"""Which workers have failed and go before their run ends: what they have said last goes with their Pods."""

from __future__ import annotations

from .observed import ObservedGroup
from .pod import Pod
from .worker_group import has_ended

#: Pods whose ends are told at a time.
MOST_LEAVING = 5


def failed_and_going(o: ObservedGroup) -> list[Pod]:
    """Those of a cluster that keeps a record and has a scheduler to write it, the newest first.

    Pods that stay are read when the run has ended.
    """
    keeps = o.cluster is not None and o.cluster.spec.history is not None
    if not keeps or not o.scheduler_runs:
        return []
    return sorted((p for p in o.pods if _has_failed(p, o)), key=lambda p: -p.created)[:MOST_LEAVING]


def _has_failed(pod: Pod, o: ObservedGroup) -> bool:
    """Whether a Pod that goes has a container that did not end well; of one that is deleted, before that was asked."""
    if pod.deleting:
        return any(c.exit_code and c.finished is None for c in pod.containers)
    return any(c.exit_code for c in pod.containers) and has_ended(pod, o)
