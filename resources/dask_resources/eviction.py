"""What node autoscalers are told of a Pod: whether it may be moved so that its node can go.

Annotations of cluster-autoscaler (``simulator/drainability/rules``, read in 1.36.1) and of Karpenter
(``pkg/utils/pod/scheduling.go``, read in 1.14). What a user says of the same key counts instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from dask_crds.names import Annotation

#: A worker hands on what it holds before it stops. Unless told so, cluster-autoscaler keeps its node for ever: it knows
#: no DaskWorkerGroup, and takes an ``emptyDir`` for something that is needed.
WORKER: Mapping[str, str] = {Annotation.SAFE_TO_EVICT: "true"}
#: A runner that is moved begins again.
RUNNER: Mapping[str, str] = {Annotation.SAFE_TO_EVICT: "false", Annotation.DO_NOT_DISRUPT: "true"}


def of_scheduler(eviction_policy: str | None) -> Mapping[str, str]:
    """Annotations of a scheduler's Pod.

    None where a PodDisruptionBudget keeps it: ``safe-to-evict`` would have cluster-autoscaler taint and drain a node
    that it cannot have.

    Args:
        eviction_policy: ``spec.scheduler.evictionPolicy``.
    """
    return {Annotation.SAFE_TO_EVICT: "true"} if eviction_policy == "Allow" else {}
