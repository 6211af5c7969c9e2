"""From a key to a snapshot: the custom resource itself is read live, its children come from the watch caches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dask_crds import names
from dask_crds.model import DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup, Kind

from ..core.autoscaler import target
from ..core.observed import (
    Observed,
    ObservedAutoscaler,
    ObservedCluster,
    ObservedGroup,
    ObservedJob,
    Sibling,
)
from ..core.pod import Pod
from ..core.scheduler import dashboard_port, pod_to_ask
from .schedulers import Address
from .world import World, named


def observe(value: Kind, world: World) -> Observed:
    """The snapshot for one custom resource."""
    if isinstance(value, DaskCluster):
        return _cluster(value, world)
    if isinstance(value, DaskWorkerGroup):
        return _group(value, world)
    if isinstance(value, DaskJob):
        return _job(value, world)
    return _autoscaler(value, world)


def scheduler_address(o: Observed, world: World) -> Address | None:
    """Where the scheduler of a snapshot is asked; ``None`` while it has no address."""
    pod = pod_to_ask(o.scheduler_pods)
    if pod is None:
        return None
    cluster = pod.labels.get(names.CLUSTER, "")
    service = named(world.services.by_index((pod.namespace, cluster)), names.scheduler(cluster))
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    life = f"{pod.uid}/{sum(c.restarts for c in pod.containers)}/{pod.ready}"
    return Address(pod.namespace, life, f"http://{host}:{dashboard_port(pod, service)}")


def _living(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """Those that have not ended: an evicted scheduler's Pod stays beside its successor's."""
    return tuple(pod for pod in pods if not pod.is_finished)


def _scheduler_pods(cluster: DaskCluster | None, world: World) -> tuple[Pod, ...]:
    return _living(world.scheduler_pods(cluster)) if cluster is not None else ()


def _cluster(cluster: DaskCluster, world: World) -> ObservedCluster:
    key = cluster.namespace, cluster.name
    scheduler, pods = names.scheduler(cluster.name), world.scheduler_pods(cluster)
    ended = (pod for pod in pods if pod.is_finished)
    last = max(ended, key=lambda pod: pod.created, default=None)
    groups = world.groups_of(*key)
    config_map = named(world.config_maps.by_index(key), names.scheduler_extension(cluster.name))
    deployment, service = world.deployment(*key), named(world.services.by_index(key), scheduler)
    budget = named(world.disruption_budgets.by_index(key), scheduler)
    default = [{"metadata": g.metadata} for g in groups if g.name == names.default_group(cluster.name)]
    return ObservedCluster(
        cluster=cluster,
        config_map=config_map,
        deployment=deployment,
        service=service,
        disruption_budget=budget,
        groups=groups,
        settled=world.settled(config_map, deployment, service, budget, *default),
        scheduler_pods=_living(pods),
        last_problem=last.problem if last is not None else None,
    )


def _group(group: DaskWorkerGroup, world: World) -> ObservedGroup:
    cluster = world.cluster(group.namespace, group.spec.cluster)
    return ObservedGroup(
        group=group,
        cluster=cluster,
        autoscaler=world.autoscaler_of(group),
        pods=world.workers_of(group),
        taken=world.taken(group.namespace, group.name),
        scheduler_pods=_scheduler_pods(cluster, world),
        scheduler_deployment=world.deployment(group.namespace, group.spec.cluster),
    )


def _job(job: DaskJob, world: World) -> ObservedJob:
    key = job.namespace, job.name
    found: Any = next(iter(world.clusters.by_index(key)), None)
    cluster = found.value if found is not None and isinstance(found.value, DaskCluster) else None
    return ObservedJob(
        job=job,
        cluster=cluster,
        runner=named(world.jobs.by_index(key), names.runner(job.name)),
        pods=tuple(world.pods.by_index((*key, names.JOB_RUNNER))),
        scheduler_pods=_scheduler_pods(cluster, world),
        service=named(world.services.by_index(key), names.scheduler(job.name)),
        leftovers=world.leftover_schedulers(*key),
    )


def _autoscaler(autoscaler: DaskAutoscaler, world: World) -> ObservedAutoscaler:
    namespace, name = autoscaler.namespace, target(autoscaler)
    cluster = world.cluster(namespace, autoscaler.spec.cluster)
    groups = world.groups_of(namespace, autoscaler.spec.cluster)
    group = next((g for g in groups if g.name == name), None)
    first = world.autoscaler_of(group, autoscaler) if group else None
    return ObservedAutoscaler(
        autoscaler=autoscaler,
        rival=first if first is not None and first.name != autoscaler.name else None,
        group=group,
        cluster=cluster,
        pods=world.workers_of(group) if group else (),
        siblings=tuple(
            Sibling(group=g, autoscaler=world.autoscaler_of(g), pods=world.workers_of(g))
            for g in groups
            if g is not group
        ),
        scheduler_pods=_scheduler_pods(cluster, world),
    )
