"""The worker groups of a cluster that its manifest states, and their autoscalers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from dask_crds import names
from dask_crds.model import Autoscaling, DaskCluster, DaskClusterSpec, Worker, WorkerTemplate, stated
from dask_crds.names import Annotation, Component, Label

from .metadata import child_metadata
from .revision import revision

#: Value of `Annotation.CLUSTER_REPLICAS` where the load decides, so that no number is handed on.
BY_AUTOSCALER = "by-autoscaler"


class StatedGroup(NamedTuple):
    """A worker group as its cluster's manifest states it."""

    name: str  #: within the cluster
    template: WorkerTemplate
    autoscaler: Autoscaling | None

    @property
    def replicas(self) -> int:
        """Workers that it begins with."""
        return self.template.size if self.autoscaler is None else self.autoscaler.least

    @property
    def worker(self) -> Worker:
        """The template of its DaskWorkerGroup."""
        of = self.template
        return Worker(
            spec=of.spec,
            metadata=of.metadata,
            replicas=self.replicas,
            update_strategy=of.update_strategy,
            drain_timeout_seconds=of.drain_timeout_seconds,
        )


def stated_groups(spec: DaskClusterSpec) -> Iterator[StatedGroup]:
    """The groups of a cluster, the default one first."""
    yield StatedGroup(names.DEFAULT_GROUP, spec.worker, spec.autoscaler)
    for group in spec.worker_groups or ():
        yield StatedGroup(group.name, group, group.autoscaler)


def worker_group(cluster: DaskCluster, group: StatedGroup) -> dict[str, Any]:
    """DaskWorkerGroup ``<cluster>-<name>``.

    The annotation remembers which ``replicas`` of the manifest was handed on last: only a change there may overrule
    what ``kubectl scale`` or a client set on the group.
    """
    template = stated(group.worker)
    return {
        "apiVersion": names.API_VERSION,
        "kind": "DaskWorkerGroup",
        "metadata": child_metadata(
            cluster,
            names.worker_group(cluster.name, group.name),
            labels={Label.CLUSTER: cluster.name, Label.COMPONENT: Component.WORKER_GROUP},
            annotations={
                Annotation.CLUSTER_REPLICAS: BY_AUTOSCALER if group.autoscaler else str(group.replicas),
                Annotation.REVISION: revision({**template, "replicas": None}),
            },
        ),
        "spec": {"cluster": cluster.name, "worker": {**template, "replicas": group.replicas}},
    }


def autoscaler_name(cluster: str, group: str) -> str:
    """Name of a stated group's DaskAutoscaler: the group's; of the default one the cluster's.

    ``KubeCluster.adapt`` of dask-kubernetes uses the latter, so that there is one autoscaler of it and not two.
    """
    return cluster if group == names.DEFAULT_GROUP else names.worker_group(cluster, group)


def autoscaler(cluster: DaskCluster, group: StatedGroup) -> dict[str, Any]:
    """DaskAutoscaler of a group that has bounds. Its target is always named, so that nobody can give it another."""
    bounds = group.autoscaler or Autoscaling()
    spec = {
        "cluster": cluster.name,
        "workerGroup": names.worker_group(cluster.name, group.name),
        "minimum": bounds.least,
        **stated(bounds),
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": "DaskAutoscaler",
        "metadata": child_metadata(
            cluster,
            autoscaler_name(cluster.name, group.name),
            labels={Label.CLUSTER: cluster.name},
            annotations={Annotation.REVISION: revision(spec)},
        ),
        "spec": spec,
    }
