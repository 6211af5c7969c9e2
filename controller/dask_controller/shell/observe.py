"""From a key to a snapshot: the custom resource itself is read live, its children come from the watch caches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dask_crds import names
from dask_crds.model import DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup, Kind

from ..core.observed import (
    Manifest,
    Observed,
    ObservedAutoscaler,
    ObservedCluster,
    ObservedGroup,
    ObservedJob,
    Sibling,
)
from ..core.scheduler import dashboard_port, pod_to_ask
from .schedulers import Address
from .world import Child, World, autoscaled_group


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
    service = _named(world.services.by_index((pod.namespace, cluster)), names.scheduler(cluster))
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    life = f"{pod.uid}/{sum(c.restarts for c in pod.containers)}/{pod.ready}"
    return Address(pod.namespace, life, f"http://{host}:{dashboard_port(pod, service)}")


def _named(children: Iterable[Child], name: str) -> Manifest | None:
    return next((child.manifest for child in children if child.name == name), None)


def _cluster(cluster: DaskCluster, world: World) -> ObservedCluster:
    key = cluster.namespace, cluster.name
    scheduler = names.scheduler(cluster.name)
    return ObservedCluster(
        cluster=cluster,
        config_map=_named(world.config_maps.by_index(key), names.scheduler_extension(cluster.name)),
        deployment=_named(world.deployments.by_index(key), scheduler),
        service=_named(world.services.by_index(key), scheduler),
        disruption_budget=_named(world.disruption_budgets.by_index(key), scheduler),
        groups=world.groups_of(*key),
        scheduler_pods=world.scheduler_pods(*key),
    )


def _group(group: DaskWorkerGroup, world: World) -> ObservedGroup:
    cluster = world.cluster(group.namespace, group.spec.cluster)
    return ObservedGroup(
        group=group,
        cluster=cluster,
        autoscaler=world.autoscaler_of(group),
        pods=world.workers_of(group),
        scheduler_pods=world.scheduler_pods(group.namespace, group.spec.cluster) if cluster else (),
        scheduler=_named(
            world.deployments.by_index((group.namespace, group.spec.cluster)), names.scheduler(group.spec.cluster)
        ),
    )


def _job(job: DaskJob, world: World) -> ObservedJob:
    key = job.namespace, job.name
    found: Any = next(iter(world.clusters.by_index(key)), None)
    cluster = found.value if found is not None and isinstance(found.value, DaskCluster) else None
    return ObservedJob(
        job=job,
        cluster=cluster,
        runner=_named(world.jobs.by_index(key), names.runner(job.name)),
        pods=tuple(world.pods.by_index((*key, names.JOB_RUNNER))),
        scheduler_pods=world.scheduler_pods(*key),
    )


def _autoscaler(autoscaler: DaskAutoscaler, world: World) -> ObservedAutoscaler:
    namespace, name = autoscaler.namespace, autoscaled_group(autoscaler)
    first = next(iter(world.autoscalers_of(namespace, name)), None)
    groups = world.groups_of(namespace, autoscaler.spec.cluster)
    group = next((g for g in groups if g.name == name), None)
    return ObservedAutoscaler(
        autoscaler=autoscaler,
        rival=first if first is not None and first.name != autoscaler.name else None,
        group=group,
        pods=world.workers_of(group) if group else (),
        siblings=tuple(
            Sibling(group=g, autoscaler=world.autoscaler_of(g), pods=world.workers_of(g))
            for g in groups
            if g is not group
        ),
        scheduler_pods=world.scheduler_pods(namespace, autoscaler.spec.cluster),
    )
