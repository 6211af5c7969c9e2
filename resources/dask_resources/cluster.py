"""What a DaskCluster consists of, told once: ``render`` prints it, the operator compares it with what is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from dask_crds import names
from dask_crds.model import DaskCluster

from .scheduler import disruption_budget, extension_config_map, scheduler_deployment, scheduler_service
from .worker_groups import autoscaler, autoscaler_name, stated_groups, worker_group


class Child(NamedTuple):
    """An object that a DaskCluster consists of; of each kind that is not ours there is one."""

    kind: str
    name: str
    build: Callable[[DaskCluster], dict[str, Any]]  #: makes its manifest
    wanted: bool = True  #: whether it should exist as the cluster is now
    needed: bool = False  #: whether the others are made after it, and not beside one that is somebody else's
    awaits_pod: bool = False  #: whether it is of no use, and not made, before the scheduler has a Pod


def children(cluster: DaskCluster, *, signed: bool = True) -> tuple[Child, ...]:
    """All children of ``cluster``, in the order in which they are made.

    But for the Secret with its key, which nobody can state or compare; without that they are not ``signed``.

    Kubernetes warns of a PodDisruptionBudget without a Pod, so there is none for a suspended cluster. The default group
    of one keeps its size, and has no Pods. Nor have the others.
    """
    scheduler, spec = names.scheduler(cluster.name), cluster.spec
    protected = spec.scheduler.eviction_policy != "Allow" and not spec.suspend
    groups = tuple(stated_groups(spec))
    return (
        Child("ConfigMap", names.scheduler_extension(cluster.name), extension_config_map, needed=True),
        Child("Service", scheduler, scheduler_service, needed=True),
        Child("PodDisruptionBudget", scheduler, disruption_budget, wanted=protected, awaits_pod=True),
        Child("Deployment", scheduler, partial(scheduler_deployment, signed=signed)),
        *(
            Child("DaskWorkerGroup", names.worker_group(cluster.name, group.name), partial(worker_group, group=group))
            for group in groups
        ),
        *(
            Child("DaskAutoscaler", autoscaler_name(cluster.name, group.name), partial(autoscaler, group=group))
            for group in groups
            if group.autoscaler is not None
        ),
    )
