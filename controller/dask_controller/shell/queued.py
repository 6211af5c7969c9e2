"""Resources that wait in a queue of Kueue: what the caches tell of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_crds import names
from dask_crds.model import DaskCluster, DaskClusterSpec, DaskJob, DaskWorkerGroup
from dask_crds.names import Annotation, Label
from dask_crds.reasons import Reason
from dask_resources.queue import MOST_GROUPS, RUNNER, SCHEDULER, WORKER, Placement, Priority, base_workload
from dask_resources.worker_groups import stated_groups

from ..core.ownership import annotation, owner_uid
from ..core.pod import Pod, Problem
from ..core.queue import Queued, has_ended, runner_may_come, scheduler_may_come
from ..core.queue_workers import Grant, GroupQueue, below, is_current, priority_name, revision_of
from ..core.queue_workload import Workload, placement
from ..core.worker_group import alive
from .caches import Caches, Key


def queued_cluster(caches: Caches, cluster: DaskCluster) -> Queued | None:
    """What is known of a cluster that waits in a queue; one of a job runs on the job's quota, which it notes."""
    if job := job_uid(cluster):
        found = caches.queues.of(cluster.namespace, job)
        going_on = [w for w in found if not w.is_finished]
        base = max(going_on or found, key=lambda w: w.created, default=None)
        if base is None:
            noted = annotation(cluster.metadata, Annotation.WORKLOAD)
            return Queued(name=noted, of_job=True) if noted and caches.queues.problem is None else None
        placements, conflict = _placements(caches, base, _templates(cluster.spec, cluster.name))
        return Queued(name=base.queue, of_job=True, base=base, placements=placements, conflict=conflict)
    return _queued(caches, cluster, cluster, *scheduler_and_workers(caches, cluster))


def queued_job(caches: Caches, job: DaskJob, runner: Mapping[str, Any] | None) -> Queued | None:
    """What is known of a job that waits in a queue."""
    settled = runner is not None and owner_uid(runner) == job.uid
    return _queued(caches, job, cluster_of(caches, job), *pods_of_job(caches, job, runner), settled=settled)


def group_queue(caches: Caches, group: DaskWorkerGroup, queued: Queued | None) -> GroupQueue | None:
    """What is known of the quota of a group's workers; ``queued`` is about its cluster."""
    surplus = caches.queues.of(group.namespace, group.uid)
    if queued is None or not queued.name:
        return GroupQueue(surplus=surplus, left=True) if surplus else None
    base, grants, holding, problem = queued.base, dict[str, Grant](), dict[str, int](), queued.conflict
    revision = revision_of(group) if surplus else ""
    if base is not None and base.is_admitted and group.name in base.assigned:
        holding[base.name] = base.assigned[group.name].count
        grants[base.name] = Grant(holding[base.name], queued.placements.get(group.name, Placement()))
    for each in surplus:
        if each.is_admitted:
            holding[each.name] = 1
            where = placement(each, WORKER, caches.queues.flavors, group.spec.worker.spec)
            if isinstance(where, Problem):
                problem = problem or where
            elif is_current(each, revision):
                grants[each.name] = Grant(1, where)
    priority = caches.queues.priority(priority_name(group), below(base) if base is not None else Priority())
    if isinstance(priority, Problem):
        problem, priority = problem or priority, Priority()
    return GroupQueue(
        base=base,
        surplus=surplus,
        grants=grants,
        holding=holding,
        priority=priority,
        problem=caches.queues.problem or problem,
        unavailable=caches.queues.problem is not None,
    )


def _queued(
    caches: Caches,
    of: DaskCluster | DaskJob,
    cluster: DaskCluster | None,
    pods: list[Pod],
    due: int,
    *,
    settled: bool = False,
) -> Queued | None:
    name = (of.metadata.get("labels") or {}).get(Label.QUEUE) or ""
    found = caches.queues.of(of.namespace, of.uid)
    if not name and not found:
        return None
    priority, problem = _priority(caches, of, found)
    wanted = base_workload(of, name, priority)
    if len(wanted["spec"]["podSets"]) > MOST_GROUPS + 2:
        text = f"at most {MOST_GROUPS} groups may have guaranteed workers: set `guaranteed: 0` in the others"
        problem = Problem(Reason.INVALID, text)
    base = next((w for w in found if name and w.name == wanted["metadata"]["name"]), None)
    # Those of a cluster that was deleted as well: nobody else knows of them until they are gone.
    on_base = caches.pods.by_index((of.namespace, Annotation.WORKLOAD, base.name)) if base is not None else ()
    pods = [*{pod.uid: pod for pod in (*pods, *on_base)}.values()]
    spec = of.spec.cluster.spec if isinstance(of, DaskJob) else of.spec
    templates = {**_templates(spec, of.name), **({RUNNER: of.spec.job.spec} if isinstance(of, DaskJob) else {})}
    placements, conflict = _placements(caches, base, templates)
    return Queued(
        name=name,
        suspended=bool(of.spec.suspend),
        ended=isinstance(of, DaskJob) and has_ended(of),
        settled=settled,
        wanted=wanted,
        base=base,
        others=tuple(w for w in found if w is not base),
        placements=placements,
        problem=caches.queues.problem or problem,
        conflict=conflict,
        unavailable=caches.queues.problem is not None,
        running=alive(pods) + due,
        kept=cluster is not None,
        position=caches.queues.positions.of(base) if base is not None else None,
        ready=cluster is not None and base is not None and _is_ready(caches, cluster, base),
    )


def _priority(
    caches: Caches, of: DaskCluster | DaskJob, found: tuple[Workload, ...]
) -> tuple[Priority, Problem | None]:
    """Of the base; where its class is gone, or not there yet, what was asked for already stays in line."""
    class_name = (of.metadata.get("labels") or {}).get(Label.PRIORITY_CLASS) or ""
    priority = caches.queues.priority(class_name, Priority())
    if isinstance(priority, Priority):
        return priority, None
    return Priority(next((w.priority for w in found if w.priority_class == class_name), 0), class_name), priority


def _placements(
    caches: Caches, base: Workload | None, templates: Mapping[str, Any]
) -> tuple[dict[str, Placement], Problem | None]:
    """Where the Pods of an admitted base run, and why they cannot."""
    if base is None or not base.is_admitted:
        return {}, None
    flavors = caches.queues.flavors
    found = {name: placement(base, name, flavors, templates.get(name, {})) for name in base.assigned}
    problem = next((each for each in found.values() if isinstance(each, Problem)), None)
    return {name: each for name, each in found.items() if isinstance(each, Placement)}, problem


def _templates(spec: DaskClusterSpec, cluster: str) -> dict[str, Any]:
    """PodSpecs of a cluster, by PodSet."""
    groups = {names.worker_group(cluster, group.name): group.template.spec for group in stated_groups(spec)}
    return {SCHEDULER: spec.scheduler.spec, **groups}


def scheduler_and_workers(caches: Caches, cluster: DaskCluster | None) -> tuple[list[Pod], int]:
    """All Pods of a cluster that are its own, terminating ones included; and how many others may come yet.

    Who makes workers of a group at this moment may have begun before quota was taken back.
    """
    if cluster is None:
        return [], 0
    groups, schedulers = caches.groups_of(cluster.namespace, cluster.name), caches.scheduler_pods(cluster)
    deployment = caches.deployment(cluster.namespace, cluster.name)
    mine = deployment if deployment is not None and owner_uid(deployment) == cluster.uid else None
    due = int(scheduler_may_come(mine) and all(pod.is_finished for pod in schedulers))
    due += sum(Key("DaskWorkerGroup", group.namespace, group.name) in caches.busy for group in groups)
    return [*schedulers, *(pod for group in groups for pod in caches.workers_of(group))], due


def cluster_of(caches: Caches, job: DaskJob) -> DaskCluster | None:
    """The cluster of a job, if it is there and its own."""
    cluster = caches.cluster(job.namespace, job.name)
    return cluster if cluster is not None and job_uid(cluster) == job.uid else None


def pods_of_job(caches: Caches, job: DaskJob, runner: Mapping[str, Any] | None) -> tuple[list[Pod], int]:
    """All Pods of a job and of its cluster, likewise."""
    cluster, mine = cluster_of(caches, job), runner is not None and owner_uid(runner) == job.uid
    pods, due = scheduler_and_workers(caches, cluster)
    runners = caches.pods.by_index((job.namespace, runner["metadata"]["uid"])) if runner is not None and mine else ()
    due += mine and runner_may_come(runner) and all(pod.is_finished for pod in runners)
    due += cluster is not None and Key("DaskCluster", job.namespace, job.name) in caches.busy  # its Deployment is made
    return [*pods, *runners], due


def _is_ready(caches: Caches, cluster: DaskCluster, base: Workload) -> bool:
    """Whether the scheduler is ready, and of each group that is stated as many as are guaranteed and wanted."""
    groups = {group.name: group for group in caches.groups_of(cluster.namespace, cluster.name)}
    stated = _templates(cluster.spec, cluster.name)

    def enough(name: str) -> bool:
        if (group := groups.get(name)) is None:
            return name not in stated
        ready = sum(p.ready and not p.deleting and p.workload == base.name for p in caches.workers_of(group))
        wanted = group.status.desired_replicas
        return ready >= min(base.counts[name], group.spec.worker.size if wanted is None else wanted)

    ready = any(pod.ready and not pod.deleting for pod in caches.scheduler_pods(cluster))
    return ready and all(enough(name) for name in base.counts if name not in (SCHEDULER, RUNNER))


def job_uid(cluster: DaskCluster) -> str:
    """Uid of the job that has made a cluster; empty if none has."""
    for owner in cluster.metadata.get("ownerReferences") or ():
        if owner.get("controller") and owner.get("kind") == "DaskJob":
            return str(owner.get("uid") or "")
    return ""
