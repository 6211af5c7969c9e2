"""What a DaskCluster consists of, told once: ``render`` prints it, the operator compares it with what is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from dask_crds import names
from dask_crds.model import DaskCluster

from .scheduler import disruption_budget, extension_config_map, scheduler_deployment, scheduler_service
from .worker import default_worker_group


class Child(NamedTuple):
    """An object that a DaskCluster consists of; of each kind there is one."""

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
    of one keeps its size, and has no Pods.
    """
    scheduler, spec = names.scheduler(cluster.name), cluster.spec
    protected = spec.scheduler.eviction_policy != "Allow" and not spec.suspend
    default_group = partial(default_worker_group, replicas=spec.worker.replicas)
    return (
        Child("ConfigMap", names.scheduler_extension(cluster.name), extension_config_map, needed=True),
        Child("Service", scheduler, scheduler_service, needed=True),
        Child("PodDisruptionBudget", scheduler, disruption_budget, wanted=protected, awaits_pod=True),
        Child("Deployment", scheduler, partial(scheduler_deployment, signed=signed)),
        Child("DaskWorkerGroup", names.default_group(cluster.name), default_group),
    )
