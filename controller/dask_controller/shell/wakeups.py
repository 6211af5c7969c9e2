"""Which resources a change wakes, and by how many seconds changes are gathered before they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from dask_crds.names import Component, Label, QueueRole

from ..core.cached_child import CachedChild, CachedReplicaSet
from ..core.cached_resource import CachedResource
from ..core.pod import Pod
from ..core.queue_workload import Workload
from .caches import Caches, Key

T = TypeVar("T")
Wakeups = Iterator[tuple[Key, float]]

#: Seconds by which changes are gathered: a thousand Pods that start wake their group a few times.
GATHER_SECONDS = 0.2
#: The same for a cluster, whose children come one after the other: all that it does then is to write its status.
CLUSTER_GATHER_SECONDS = 0.5
#: The same for an autoscaler whose question to the scheduler names what has changed: workers, groups, bounds.
AUTOSCALER_GATHER_SECONDS = 1.0


def wake_by(wake: Callable[[Key, float], None]) -> Callable[[Caches, str, Any, Any], None]:
    """What `Caches` calls on a change, made of what puts a key into the queue after some seconds."""

    def on_change(caches: Caches, kind: str, old: Any, new: Any) -> None:
        for key, seconds in _WAKEUPS.get(kind, _cluster_child)(caches, old, new):
            wake(key, seconds)

    return on_change


def how_soon(caches: Caches, key: Key, generation: int | None, seen: int | None) -> tuple[float, bool]:
    """Seconds after which a resource of ours that has changed is looked at, and whether a user waits for that.

    What is asked for is looked at now, before all else; a status is mostly our own, and what it comes with gathers.

    Args:
        caches: the watch caches.
        key: the resource.
        generation: its own.
        seen: the generation at the change before; ``None`` if this is the first.
    """
    if seen is None:  # not seen by us: maybe by the operator before
        seen = ((caches.cached(key) or {}).get("status") or {}).get("observedGeneration")
    if seen != generation:
        return 0.0, True
    return (CLUSTER_GATHER_SECONDS if key.kind == "DaskCluster" else GATHER_SECONDS), False


def _pod(caches: Caches, old: Pod | None, new: Pod | None) -> Wakeups:
    yield from _labelled(caches, _newest(old, new))
    if old is not None and new is not None and old.labels != new.labels:
        yield from _labelled(caches, old)  # whom it has left


def _labelled(caches: Caches, pod: Pod) -> Wakeups:
    cluster = pod.labels.get(Label.CLUSTER, "")
    match pod.labels.get(Label.COMPONENT):
        case Component.WORKER:
            yield Key("DaskWorkerGroup", pod.namespace, pod.labels.get(Label.WORKER_GROUP, "")), GATHER_SECONDS
            yield from _autoscalers_of_cluster(caches, pod.namespace, cluster)
        case Component.SCHEDULER:
            yield from _scheduler(caches, pod.namespace, cluster)
        case Component.JOB_RUNNER:
            yield Key("DaskJob", pod.namespace, cluster), GATHER_SECONDS


def _scheduler(caches: Caches, namespace: str, cluster: str) -> Wakeups:
    """All whose questions go to that Pod, and those who wait for it to come or to go."""
    yield Key("DaskCluster", namespace, cluster), CLUSTER_GATHER_SECONDS
    clusters = caches.clusters.by_index((namespace, cluster))
    for found in clusters:
        yield from _job_of(found, 0.0)
    if not clusters:  # a job's next run waits for it to go
        yield Key("DaskJob", namespace, cluster), GATHER_SECONDS
    yield from _groups(caches, namespace, cluster)
    yield from _autoscalers_of_cluster(caches, namespace, cluster, GATHER_SECONDS)


def _replica_set(caches: Caches, old: CachedReplicaSet | None, new: CachedReplicaSet | None) -> Wakeups:
    for namespace, cluster in {(found.namespace, found.cluster) for found in (old, new) if found is not None}:
        yield from _scheduler(caches, namespace, cluster)


def _cluster_child(caches: Caches, old: CachedChild | None, new: CachedChild | None) -> Wakeups:
    for key in _clusters(old, new):
        yield Key("DaskCluster", *key), CLUSTER_GATHER_SECONDS


def _service(caches: Caches, old: CachedChild | None, new: CachedChild | None) -> Wakeups:
    """A job's program finds the scheduler by it."""
    yield from _cluster_child(caches, old, new)
    for key in _clusters(old, new):
        for found in caches.clusters.by_index(key):
            yield from _job_of(found, GATHER_SECONDS)


def _deployment(caches: Caches, old: CachedChild | None, new: CachedChild | None) -> Wakeups:
    """Groups leave alone what somebody else's operator runs."""
    yield from _cluster_child(caches, old, new)
    if old is None or new is None:
        for key in _clusters(old, new):
            yield from _groups(caches, *key)


def _job(caches: Caches, old: CachedChild | None, new: CachedChild | None) -> Wakeups:
    for key in _clusters(old, new):
        yield Key("DaskJob", *key), GATHER_SECONDS


def _cluster(caches: Caches, old: CachedResource | None, new: CachedResource | None) -> Wakeups:
    cluster = _newest(old, new)
    # Its status is nothing to groups.
    if _is_other(old, new) or (old and new and old.most_workers != new.most_workers):
        yield from _groups(caches, cluster.namespace, cluster.name)
    yield from _job_of(cluster, GATHER_SECONDS)


def _group(caches: Caches, old: CachedResource | None, new: CachedResource | None) -> Wakeups:
    group = _newest(old, new)
    yield Key("DaskCluster", group.namespace, group.cluster), CLUSTER_GATHER_SECONDS
    if _is_other(old, new):
        yield from _autoscalers_of_cluster(caches, group.namespace, group.cluster)
    if old is None or new is None or old.suspended != new.suspended:
        yield from _autoscalers_of_group(caches, group.namespace, group.name)


def _autoscaler(caches: Caches, old: CachedResource | None, new: CachedResource | None) -> Wakeups:
    autoscaler = _newest(old, new)
    if _is_other(old, new):
        yield from _autoscalers_of_cluster(caches, autoscaler.namespace, autoscaler.cluster)
        # It may be one that the cluster states. With another cluster, there is one that it has left.
        for cluster in {r.cluster for r in (old, new) if r is not None and r.cluster}:
            yield Key("DaskCluster", autoscaler.namespace, cluster), CLUSTER_GATHER_SECONDS
    # With another target, there is a group that it has left.
    targets = {(r.namespace, r.group) for r in (old, new) if r is not None and r.group}
    for scaled in targets:
        yield Key("DaskWorkerGroup", *scaled), 0.0
        if old is None or new is None or len(targets) > 1:
            yield from _autoscalers_of_group(caches, *scaled)


def _workload(caches: Caches, old: Workload | None, new: Workload | None) -> Wakeups:
    """Whose it is, and if it is for a whole cluster, all that runs on it."""
    workload = _newest(old, new)
    if workload.owner_kind in _KEYS:
        yield Key(workload.owner_kind, workload.namespace, workload.owner_name), GATHER_SECONDS
    if workload.role == QueueRole.BASE:
        yield Key("DaskCluster", workload.namespace, workload.cluster), GATHER_SECONDS
        yield from _groups(caches, workload.namespace, workload.cluster)


_KEYS = ("DaskCluster", "DaskJob", "DaskWorkerGroup")
#: By kind; all others are children of a cluster.
_WAKEUPS: dict[str, Callable[[Caches, Any, Any], Wakeups]] = {
    "Pod": _pod,
    "ReplicaSet": _replica_set,
    "Service": _service,
    "Deployment": _deployment,
    "Job": _job,
    "DaskCluster": _cluster,
    "DaskWorkerGroup": _group,
    "DaskAutoscaler": _autoscaler,
    "Workload": _workload,
}


def _clusters(old: CachedChild | None, new: CachedChild | None) -> set[tuple[str, str]]:
    """The cluster that a child names, and the one that it has named before."""
    return {child.cluster_key for child in (old, new) if child is not None}


def _job_of(cluster: CachedResource, seconds: float) -> Wakeups:
    """The job that a cluster belongs to, if any."""
    if cluster.of_job:
        yield Key("DaskJob", cluster.namespace, cluster.name), seconds


def _groups(caches: Caches, namespace: str, cluster: str) -> Wakeups:
    """The worker groups that name a cluster."""
    for group in caches.groups.by_index((namespace, cluster)):
        yield Key("DaskWorkerGroup", namespace, group.name), GATHER_SECONDS


def _autoscalers_of_cluster(
    caches: Caches, namespace: str, cluster: str, seconds: float = AUTOSCALER_GATHER_SECONDS
) -> Wakeups:
    """All autoscalers of a cluster: the question of each names the workers and bounds of all."""
    for autoscaler in caches.autoscalers.by_index((namespace, "cluster", cluster)):
        yield Key("DaskAutoscaler", namespace, autoscaler.name), seconds


def _autoscalers_of_group(caches: Caches, namespace: str, group: str) -> Wakeups:
    """The autoscalers that set the size of a worker group."""
    for autoscaler in caches.autoscalers.by_index((namespace, group)):
        yield Key("DaskAutoscaler", namespace, autoscaler.name), GATHER_SECONDS


def _is_other(old: CachedResource | None, new: CachedResource | None) -> bool:
    """Whether something has come, gone, begun to go, or got another ``spec``."""
    return old is None or new is None or old.generation != new.generation


def _newest(old: T | None, new: T | None) -> T:
    found = old if new is None else new
    assert found is not None
    return found
