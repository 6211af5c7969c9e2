"""Each of our kinds to the loop: what the watch caches tell of it, a snapshot, and who decides what follows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from dask_crds import names
from dask_crds.model import KINDS, DaskAutoscaler, DaskCluster, DaskJob, DaskObject, DaskWorkerGroup
from dask_crds.model.shared import Status
from dask_crds.names import Component
from dask_resources.cluster import children as children_of

from ..core.actions import Outcome, Plan
from ..core.autoscaler import plan_autoscaler, target
from ..core.autoscaler_status import autoscaler_status
from ..core.cluster import plan_cluster
from ..core.cluster_status import cluster_status
from ..core.job import plan_job
from ..core.job_status import job_status
from ..core.observed import (
    Observed,
    ObservedAutoscaler,
    ObservedCluster,
    ObservedGroup,
    ObservedJob,
    Sibling,
)
from ..core.pod import Pod
from ..core.queue import Queued, as_admitted, job_as_admitted
from ..core.worker_group import plan_worker_group
from ..core.worker_group_status import worker_group_status
from .caches import Caches, named
from .limited import limited_cluster, limited_group, limited_job
from .queued import group_queue, queued_cluster, queued_job


class Decision(NamedTuple):
    """Who decides what is done about a kind, and says how it is."""

    plan: Callable[[Any, float], Plan]
    status: Callable[[Any, Plan, Sequence[Outcome], float], Status]
    comes_up: bool = False  #: whether its first status waits for what has been made


def decisions(domain: str) -> Mapping[type[Observed], Decision]:
    """By the type of the snapshot; ``domain`` is the cluster's DNS domain."""
    return {
        ObservedCluster: Decision(plan_cluster, functools.partial(cluster_status, domain=domain), comes_up=True),
        ObservedGroup: Decision(plan_worker_group, worker_group_status, comes_up=True),
        ObservedJob: Decision(functools.partial(plan_job, domain=domain), job_status),
        ObservedAutoscaler: Decision(plan_autoscaler, autoscaler_status),
    }


def snapshot(caches: Caches, value: DaskObject) -> Observed:
    """What is known of one custom resource."""
    return _SNAPSHOTS[type(value)](caches, value)


def _living(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """Those that have not ended: an evicted scheduler's Pod stays beside its successor's."""
    return tuple(pod for pod in pods if not pod.is_finished)


def _scheduler_pods(caches: Caches, cluster: DaskCluster | None) -> tuple[Pod, ...]:
    return _living(caches.scheduler_pods(cluster)) if cluster is not None else ()


def _cluster(caches: Caches, cluster: DaskCluster) -> ObservedCluster:
    key = cluster.namespace, cluster.name
    queued = limited_cluster(caches, cluster, queued_cluster(caches, cluster), its_own=True)
    cluster = as_admitted(cluster, queued)
    pods = caches.scheduler_pods(cluster)
    ended = (pod for pod in pods if pod.is_finished)
    last = max(ended, key=lambda pod: pod.created, default=None)
    groups, autoscalers = caches.groups_of(*key), caches.autoscalers_of(*key)
    found = {
        child.kind: live
        for child in children_of(cluster)
        if child.kind not in KINDS
        and (live := named(caches.informers[child.kind].by_index(key), child.name)) is not None
    }
    return ObservedCluster(
        cluster=cluster,
        children=found,
        groups=groups,
        autoscalers=autoscalers,
        settled=caches.settled(*found.values(), *({"metadata": v.metadata} for v in (*groups, *autoscalers))),
        scheduler_pods=_living(pods),
        last_problem=last.problem if last is not None else None,
        signing=caches.keyring.signing(cluster),
        queued=queued,
    )


def _admitted_cluster(caches: Caches, namespace: str, name: str) -> tuple[DaskCluster | None, Queued | None]:
    """A cluster as it is to run now, and its queue."""
    cluster = caches.cluster(namespace, name)
    if cluster is None:
        return None, None
    queued = limited_cluster(caches, cluster, queued_cluster(caches, cluster))
    return as_admitted(cluster, queued), queued


def _group(caches: Caches, group: DaskWorkerGroup) -> ObservedGroup:
    cluster, queued = _admitted_cluster(caches, group.namespace, group.spec.cluster)
    observed = ObservedGroup(
        group=group,
        cluster=cluster,
        autoscaler=caches.autoscaler_of(group),
        pods=caches.workers_of(group),
        taken=caches.taken(group.namespace, group.name),
        scheduler_pods=_scheduler_pods(caches, cluster),
        scheduler_deployment=caches.deployment(group.namespace, group.spec.cluster),
        queue=group_queue(caches, group, queued),
    )
    return msgspec.structs.replace(observed, places=limited_group(caches, observed))


def _job(caches: Caches, job: DaskJob) -> ObservedJob:
    key = job.namespace, job.name
    found: Any = next(iter(caches.clusters.by_index(key)), None)
    cluster = found.value if found is not None and isinstance(found.value, DaskCluster) else None
    runner = named(caches.jobs.by_index(key), names.runner(job.name))
    queued = limited_job(caches, job, queued_job(caches, job, runner))
    return ObservedJob(
        job=job_as_admitted(job, queued),
        cluster=cluster,
        runner=runner,
        queued=queued,
        pods=tuple(caches.pods.by_index((*key, Component.JOB_RUNNER))),
        scheduler_pods=_scheduler_pods(caches, cluster),
        service=named(caches.services.by_index(key), names.scheduler(job.name)),
        leftovers=caches.leftover_schedulers(*key),
    )


def _autoscaler(caches: Caches, autoscaler: DaskAutoscaler) -> ObservedAutoscaler:
    namespace, name = autoscaler.namespace, target(autoscaler)
    cluster, _ = _admitted_cluster(caches, namespace, autoscaler.spec.cluster)
    groups = caches.groups_of(namespace, autoscaler.spec.cluster)
    group = next((g for g in groups if g.name == name), None)
    first = caches.autoscaler_of(group, autoscaler) if group else None
    return ObservedAutoscaler(
        autoscaler=autoscaler,
        rival=first if first is not None and first.name != autoscaler.name else None,
        group=group,
        cluster=cluster,
        pods=caches.workers_of(group) if group else (),
        siblings=tuple(
            Sibling(group=g, autoscaler=caches.autoscaler_of(g), pods=caches.workers_of(g))
            for g in groups
            if g is not group
        ),
        scheduler_pods=_scheduler_pods(caches, cluster),
    )


_SNAPSHOTS: dict[type[DaskObject], Callable[[Caches, Any], Observed]] = {
    DaskCluster: _cluster,
    DaskWorkerGroup: _group,
    DaskJob: _job,
    DaskAutoscaler: _autoscaler,
}
