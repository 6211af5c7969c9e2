"""The watch caches: what exists of the kinds that the planners look at, and whom a change concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from dask_crds import names
from dask_crds.model import DaskAutoscaler, DaskCluster, DaskWorkerGroup, InvalidManifest, Kind, parse

from ..core.autoscaler import is_suspended
from ..core.observed import Manifest, Pod, owner_uid, pod
from .informer import Informer
from .kubernetes import RESOURCES, Kubernetes


class Key(NamedTuple):
    """What is reconciled: one custom resource."""

    kind: str
    namespace: str
    name: str


#: Seconds by which changes are gathered: a thousand Pods that start wake their group a few times.
GATHER_SECONDS = 0.1
#: The same for a cluster, whose children come one after the other: all that it does then is to write its status.
CLUSTER_GATHER_SECONDS = 0.5


class Child:
    """A cached child: its manifest without managed fields."""

    __slots__ = ("manifest", "owner_uid")

    def __init__(self, manifest: dict[str, Any]) -> None:
        manifest["metadata"].pop("managedFields", None)
        self.manifest: Manifest = manifest
        self.owner_uid = owner_uid(manifest)

    @property
    def metadata(self) -> Manifest:
        """``metadata`` of the object."""
        metadata: Manifest = self.manifest["metadata"]
        return metadata

    @property
    def cluster_key(self) -> tuple[str, str]:
        """Namespace, and the cluster named by the label."""
        return self.metadata["namespace"], (self.metadata.get("labels") or {}).get(names.CLUSTER, "")


class Resource:
    """A cached custom resource; ``value`` is ``None`` for one that does not parse (its own status says why)."""

    __slots__ = ("manifest", "value")

    def __init__(self, manifest: dict[str, Any]) -> None:
        manifest["metadata"].pop("managedFields", None)
        self.manifest = manifest
        self.value: Kind | None
        try:
            self.value = parse(manifest)
        except InvalidManifest:
            self.value = None


T = TypeVar("T")
Wake = Callable[[Key, float], None]


class World:
    """Informers for all that is looked at, each waking the custom resources that a change concerns.

    Args:
        kubernetes: the client.
        namespaces: those to watch; ``None`` for all.
        wake: called with a key and a delay in seconds; must not block.
    """

    def __init__(self, kubernetes: Kubernetes, namespaces: Sequence[str] | None, wake: Wake) -> None:
        self._wake = wake

        def informer(kind: str, project: Any, index: Any, on_change: Any, labels: str | None = names.CLUSTER) -> Any:
            return Informer(
                kubernetes,
                RESOURCES[kind],
                namespaces=namespaces,
                labels=labels,
                project=project,
                index=index,
                on_change=on_change,
            )

        self.pods: Informer[Pod] = informer("Pod", pod, _pod_index, self._pod_changed)
        self.services: Informer[Child] = informer("Service", Child, _by_cluster, self._cluster_child_changed)
        self.config_maps: Informer[Child] = informer("ConfigMap", Child, _by_cluster, self._cluster_child_changed)
        self.deployments: Informer[Child] = informer("Deployment", Child, _by_cluster, self._cluster_child_changed)
        self.disruption_budgets: Informer[Child] = informer(
            "PodDisruptionBudget", Child, _by_cluster, self._cluster_child_changed
        )
        self.jobs: Informer[Child] = informer("Job", Child, _by_cluster, self._job_changed)
        self.clusters: Informer[Resource] = informer("DaskCluster", Resource, _by_name, self._cluster_changed, None)
        self.groups: Informer[Resource] = informer("DaskWorkerGroup", Resource, _group_index, self._group_changed, None)
        self.autoscalers: Informer[Resource] = informer(
            "DaskAutoscaler", Resource, _autoscaler_index, self._autoscaler_changed, None
        )

    @property
    def informers(self) -> dict[str, Informer[Any]]:
        """All informers by plural."""
        return {
            "pods": self.pods,
            "services": self.services,
            "configmaps": self.config_maps,
            "deployments": self.deployments,
            "poddisruptionbudgets": self.disruption_budgets,
            "jobs": self.jobs,
            "daskclusters": self.clusters,
            "daskworkergroups": self.groups,
            "daskautoscalers": self.autoscalers,
        }

    @property
    def is_synced(self) -> bool:
        """Whether every cache is filled."""
        return all(informer.synced.is_set() for informer in self.informers.values())

    async def synced(self) -> None:
        """Wait until every cache is filled; nothing may be decided before."""
        await asyncio.gather(*(informer.synced.wait() for informer in self.informers.values()))

    # --- lookups ------------------------------------------------------------------------------------------------------

    def cluster(self, namespace: str, name: str) -> DaskCluster | None:
        """The cluster of that name, unless it is being deleted."""
        found = [r.value for r in self.clusters.by_index((namespace, name)) if isinstance(r.value, DaskCluster)]
        return next((c for c in found if not c.metadata.get("deletionTimestamp")), None)

    def groups_of(self, namespace: str, cluster: str) -> tuple[DaskWorkerGroup, ...]:
        """The worker groups that name a cluster, by name."""
        found = [r.value for r in self.groups.by_index((namespace, cluster)) if isinstance(r.value, DaskWorkerGroup)]
        return tuple(sorted((g for g in found if not g.metadata.get("deletionTimestamp")), key=lambda g: g.name))

    def autoscalers_of(self, namespace: str, group: str) -> tuple[DaskAutoscaler, ...]:
        """The autoscalers of a worker group; the oldest is in charge."""
        found = [r.value for r in self.autoscalers.by_index((namespace, group)) if isinstance(r.value, DaskAutoscaler)]
        living = [a for a in found if not a.metadata.get("deletionTimestamp")]
        return tuple(sorted(living, key=lambda a: (a.metadata.get("creationTimestamp", ""), a.name)))

    def autoscaler_of(self, group: DaskWorkerGroup) -> DaskAutoscaler | None:
        """The autoscaler that is in charge of a worker group."""
        return next(iter(self.autoscalers_of(group.namespace, group.name)), None)

    def scheduler_pods(self, namespace: str, cluster: str) -> tuple[Pod, ...]:
        """The scheduler Pods of a cluster."""
        return tuple(self.pods.by_index((namespace, cluster, names.SCHEDULER)))

    # --- whom a change concerns ---------------------------------------------------------------------------------------

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        changed = new or old
        if changed is None:
            return
        namespace, labels = changed.namespace, changed.labels
        cluster = labels.get(names.CLUSTER, "")
        match labels.get(names.COMPONENT):
            case names.WORKER:
                self._wake(Key("DaskWorkerGroup", namespace, labels.get(names.WORKER_GROUP, "")), GATHER_SECONDS)
            case names.SCHEDULER:
                self._wake(Key("DaskCluster", namespace, cluster), CLUSTER_GATHER_SECONDS)
                clusters = self.clusters.by_index((namespace, cluster))
                for resource in clusters:
                    self._wake_job(resource.manifest["metadata"], 0.0)
                if not clusters:  # a job's next run waits for it to go
                    self._wake(Key("DaskJob", namespace, cluster), GATHER_SECONDS)
                for group in self.groups_of(namespace, cluster):
                    for autoscaler in self.autoscalers_of(namespace, group.name):
                        self._wake(Key("DaskAutoscaler", namespace, autoscaler.name), GATHER_SECONDS)
            case names.JOB_RUNNER:
                self._wake(Key("DaskJob", namespace, cluster), GATHER_SECONDS)

    def _cluster_child_changed(self, old: Child | None, new: Child | None) -> None:
        for child in _either(old, new):
            self._wake(Key("DaskCluster", *child.cluster_key), CLUSTER_GATHER_SECONDS)

    def _job_changed(self, old: Child | None, new: Child | None) -> None:
        for child in _either(old, new):
            self._wake(Key("DaskJob", *child.cluster_key), GATHER_SECONDS)

    def _cluster_changed(self, old: Resource | None, new: Resource | None) -> None:
        for resource in _either(old, new):
            metadata = resource.manifest["metadata"]
            namespace, name = metadata["namespace"], metadata["name"]
            if old is None or new is None or _generation(old) != _generation(new):  # its status is nothing to groups
                for group in self.groups_of(namespace, name):
                    self._wake(Key("DaskWorkerGroup", namespace, group.name), GATHER_SECONDS)
            self._wake_job(metadata, GATHER_SECONDS)

    def _wake_job(self, cluster: Manifest, delay: float) -> None:
        """The job that a cluster belongs to, if any."""
        if any(ref["kind"] == "DaskJob" for ref in cluster.get("ownerReferences") or []):
            self._wake(Key("DaskJob", cluster["namespace"], cluster["name"]), delay)

    def _group_changed(self, old: Resource | None, new: Resource | None) -> None:
        for resource in _either(old, new):
            metadata = resource.manifest["metadata"]
            cluster = Key("DaskCluster", metadata["namespace"], resource.manifest["spec"]["cluster"])
            self._wake(cluster, CLUSTER_GATHER_SECONDS)
            for autoscaler in self.autoscalers_of(metadata["namespace"], metadata["name"]):
                if old is None or new is None or _is_suspended(old) != _is_suspended(new):
                    self._wake(Key("DaskAutoscaler", metadata["namespace"], autoscaler.name), GATHER_SECONDS)

    def _autoscaler_changed(self, old: Resource | None, new: Resource | None) -> None:
        for resource in _either(old, new):
            for namespace, group in _autoscaler_index(resource):
                self._wake(Key("DaskWorkerGroup", namespace, group), 0.0)
                if old is None or new is None:
                    for rival in self.autoscalers_of(namespace, group):
                        self._wake(Key("DaskAutoscaler", namespace, rival.name), GATHER_SECONDS)


def _is_suspended(resource: Resource) -> bool:
    return isinstance(resource.value, DaskWorkerGroup) and is_suspended(resource.value)


def _generation(resource: Resource) -> int:
    """Counts changes of ``spec``, and the beginning of a deletion."""
    return int(resource.manifest["metadata"].get("generation") or 0)


def _either(old: T | None, new: T | None) -> list[T]:
    """The newest form of what has changed."""
    changed = new if new is not None else old
    return [] if changed is None else [changed]


def autoscaled_group(autoscaler: DaskAutoscaler) -> str:
    """Name of the group whose size an autoscaler sets."""
    return autoscaler.spec.worker_group or names.default_group(autoscaler.spec.cluster)


def _pod_index(pod: Pod) -> Iterable[Any]:
    cluster, component = pod.labels.get(names.CLUSTER, ""), pod.labels.get(names.COMPONENT, "")
    return pod.owner_uid, (pod.namespace, cluster, component)


def _by_cluster(child: Child) -> Iterable[Any]:
    return (child.cluster_key,)


def _by_name(resource: Resource) -> Iterable[Any]:
    metadata = resource.manifest["metadata"]
    return ((metadata["namespace"], metadata["name"]),)


def _group_index(resource: Resource) -> Iterable[Any]:
    return ((resource.manifest["metadata"]["namespace"], resource.manifest["spec"]["cluster"]),)


def _autoscaler_index(resource: Resource) -> Iterable[Any]:
    if not isinstance(resource.value, DaskAutoscaler):
        return ()
    return ((resource.value.namespace, autoscaled_group(resource.value)),)
