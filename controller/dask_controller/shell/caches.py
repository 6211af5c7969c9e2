"""The watch caches: what exists of the kinds that the planners look at, and what is known of it besides.

What is kept of each object is little and bounded: `core.cached_child`, `core.cached_resource`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from dask_crds import names
from dask_crds.model import DaskAutoscaler, DaskCluster, DaskWorkerGroup
from dask_crds.names import Annotation, Component, Label

from ..core.autoscaler import in_charge
from ..core.cached_child import (
    CachedChild,
    CachedReplicaSet,
    ChildForm,
    JobForm,
    MetadataForm,
    WholeForm,
    cached_child,
    cached_replica_set,
)
from ..core.cached_resource import CachedResource, ResourceForm, cached_resource
from ..core.ownership import owner_uid
from ..core.pod import Manifest, Pod, pod
from ..core.pod_form import PodForm
from ..kube.client import Kubernetes
from ..kube.informer import Informer
from .departed import Departed
from .keyring import Keyring
from .places import Places
from .queues import Queues

#: For how long a name is believed to be taken: a Pod of somebody else's tells us nothing when it goes.
TAKEN_SECONDS = 600.0


class Key(NamedTuple):
    """What is reconciled: one custom resource."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def log_fields(self) -> dict[str, Any]:
        """What a line of the log is about, as fields of JSON: kopf writes them under ``object``."""
        return {"k8s_ref": {"apiVersion": names.API_VERSION, **self._asdict()}}


class Caches:
    """Informers for all that is looked at.

    Attributes:
        informers: all of them, by kind.
        keyring: the keys of clusters, and what is believed of their Secrets.
        queues: the objects of Kueue, where there are any.
        departed: Pods that have gone.
        places: who has one, where the operator has limits.
        busy: what is being reconciled: nobody has seen all of its Pods.

    Args:
        kubernetes: the client.
        namespaces: those to watch; ``None`` for all.
        on_change: called with the caches, a kind, and the old and the new form of an object; must not block.
        keyring: the keys of clusters.
        departed: Pods that have gone.
        places: who has one, where the operator has limits.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        namespaces: Sequence[str] | None,
        on_change: Callable[[Caches, str, Any, Any], None] = lambda *_: None,
        keyring: Keyring | None = None,
        departed: Departed | None = None,
        places: Places | None = None,
    ) -> None:
        self.keyring, self.departed, self.places = keyring or Keyring(), departed or Departed(), places
        self._on_change, self.busy = on_change, set[Key]()
        #: By uid: the version of a child that is as we state it, and what was applied to which one to no effect.
        self._verified: dict[str, str] = {}
        self._settled: dict[str, tuple[str, str]] = {}
        #: By group: places whose Pods' names others have, and until when that is believed.
        self._taken: dict[tuple[str, str], dict[int, float]] = {}
        self.informers: dict[str, Informer[Any]] = {}

        def informer(kind: str, *, label: str | None = Label.CLUSTER, **options: Any) -> Any:
            told = {"on_change": functools.partial(self._changed, kind), **options}
            made = Informer(kubernetes, kubernetes.kinds[kind], namespaces=namespaces, label=label, **told)
            return self.informers.setdefault(kind, made)

        def children(kind: str, form: Any, **options: Any) -> Any:
            return informer(kind, form=form, project=cached_child, index=_by_cluster, **options)

        def resources(kind: str, index: Any) -> Any:
            project = functools.partial(cached_resource, kind)
            return informer(kind, label=None, form=ResourceForm, project=project, index=index)

        self.pods: Informer[Pod] = informer("Pod", form=PodForm, project=pod, index=_pod_index)
        self.services: Informer[CachedChild] = children("Service", WholeForm)
        children("ConfigMap", MetadataForm, metadata_only=True)
        self.deployments: Informer[CachedChild] = children("Deployment", ChildForm)
        self.replica_sets: Informer[CachedReplicaSet] = informer(
            "ReplicaSet", form=MetadataForm, project=cached_replica_set, metadata_only=True, index=_replica_set_index
        )
        children("PodDisruptionBudget", WholeForm)
        self.jobs: Informer[CachedChild] = children("Job", JobForm)
        self.clusters: Informer[CachedResource] = resources("DaskCluster", _cluster_index)
        self.groups: Informer[CachedResource] = resources("DaskWorkerGroup", _group_index)
        self.autoscalers: Informer[CachedResource] = resources("DaskAutoscaler", _autoscaler_index)
        self.queues = Queues(kubernetes, namespaces, functools.partial(self._changed, "Workload"))

    @property
    def are_synced(self) -> bool:
        """Whether every cache is filled."""
        return all(informer.synced.is_set() for informer in self.informers.values())

    async def synced(self) -> None:
        """Wait until every cache is filled; nothing may be decided before."""
        await asyncio.gather(*(informer.synced.wait() for informer in self.informers.values()))

    def _changed(self, kind: str, old: Any, new: Any) -> None:
        self._on_change(self, kind, old, new)
        if new is None:
            self._forget(old)

    # --- what is known of objects besides -----------------------------------------------------------------------------

    def remember(self, manifest: dict[str, Any]) -> None:
        """Take in what a write was answered with, so that the next look does not miss it."""
        kind = manifest.get("kind", "")
        informer = self.informers.get(kind, self.queues.informers.get(kind))
        if informer is not None:
            informer.put(manifest)

    def verify(self, manifest: Manifest) -> None:
        """Take note that a child is as we state it, in the version of ``manifest``."""
        self._verified[manifest["metadata"]["uid"]] = _version(manifest)

    def is_verified(self, manifest: Manifest) -> bool:
        """Whether nobody has changed a child since it was as we state it."""
        return self._verified.get(manifest["metadata"]["uid"]) == _version(manifest)

    def settle(self, manifest: Manifest, fingerprint: str) -> None:
        """Take note that it changes nothing to apply what ``fingerprint`` stands for to a child in that version."""
        self._settled[manifest["metadata"]["uid"]] = (_version(manifest), fingerprint)

    def settled(self, *children: Manifest | None) -> frozenset[str]:
        """What need not be applied again to these children: it would change nothing."""
        found = ((child, self._settled.get(child["metadata"]["uid"])) for child in children if child is not None)
        return frozenset(known[1] for child, known in found if known is not None and known[0] == _version(child))

    def take(self, namespace: str, group: str, ordinal: int) -> None:
        """Take note that somebody else's Pod has the name of a place in a group."""
        until = asyncio.get_running_loop().time() + TAKEN_SECONDS
        self._taken.setdefault((namespace, group), {})[ordinal] = until

    def taken(self, namespace: str, group: str) -> frozenset[int]:
        """The places of a group whose names somebody else's Pods have."""
        places = self._taken.get((namespace, group))
        if not places:
            return frozenset()
        now = asyncio.get_running_loop().time()
        return frozenset(ordinal for ordinal, until in places.items() if until > now)

    def _forget(self, gone: Any) -> None:
        """What is known of an object goes with it, but what a Pod has used."""
        if isinstance(gone, Pod):
            self.departed.add(gone)
        if isinstance(gone, CachedResource) and gone.kind == "DaskWorkerGroup":
            self._taken.pop((gone.namespace, gone.name), None)
        if isinstance(gone, CachedResource | CachedChild):
            uid = gone.manifest["metadata"]["uid"]
            self._verified.pop(uid, None)
            self._settled.pop(uid, None)
            self.keyring.forget(uid)

    # --- lookups ------------------------------------------------------------------------------------------------------

    def cached(self, key: Key) -> dict[str, Any] | None:
        """The manifest of a resource of ours, if the whole of it is cached, its managed fields apart."""
        found = self.informers[key.kind].by_index(key) if key.kind in self.informers else []
        return found[0].manifest if len(found) == 1 and found[0].whole else None

    def unobserved(self) -> Iterator[Key]:
        """Cached resources of ours whose present ``spec`` no status speaks of: their users wait."""
        for informer in (self.clusters, self.groups, self.autoscalers):
            for found in informer.store.values():
                observed = (found.manifest.get("status") or {}).get("observedGeneration")
                if observed != found.generation and not found.deleting:
                    yield Key(found.kind, found.namespace, found.name)

    def cluster(self, namespace: str, name: str) -> DaskCluster | None:
        """The cluster of that name, unless it is being deleted or cannot be read."""
        found = [r.value for r in self.clusters.by_index((namespace, name)) if not r.deleting]
        return next((value for value in found if isinstance(value, DaskCluster)), None)

    def is_unreadable(self, namespace: str, cluster: str) -> bool:
        """Whether a cluster of that name exists, is not being deleted, and cannot be read."""
        return any(r.unreadable and not r.deleting for r in self.clusters.by_index((namespace, cluster)))

    def groups_of(self, namespace: str, cluster: str) -> tuple[DaskWorkerGroup, ...]:
        """The worker groups that name a cluster, by name."""
        found = [r.value for r in self.groups.by_index((namespace, cluster)) if not r.deleting]
        return tuple(sorted((g for g in found if isinstance(g, DaskWorkerGroup)), key=lambda g: g.name))

    def autoscalers_of(self, namespace: str, cluster: str) -> tuple[DaskAutoscaler, ...]:
        """The autoscalers that name a cluster, by name."""
        found = [r.value for r in self.autoscalers.by_index((namespace, "cluster", cluster)) if not r.deleting]
        return tuple(sorted((a for a in found if isinstance(a, DaskAutoscaler)), key=lambda a: a.name))

    def autoscaler_of(self, group: DaskWorkerGroup, *others: DaskAutoscaler) -> DaskAutoscaler | None:
        """The autoscaler that is in charge of a worker group, be it cached or one of the others."""
        found = [r.value for r in self.autoscalers.by_index((group.namespace, group.name)) if not r.deleting]
        return in_charge(group, [*(a for a in found if isinstance(a, DaskAutoscaler)), *others])

    def workers_of(self, group: DaskWorkerGroup) -> tuple[Pod, ...]:
        """The Pods of a worker group: those in its namespace whose controller it is."""
        return tuple(self.pods.by_index((group.namespace, group.uid)))

    def scheduler_pods(self, cluster: DaskCluster) -> tuple[Pod, ...]:
        """The scheduler Pods of a cluster, those that have ended included.

        A label is a claim, which anybody can make. So this goes from the cluster to the Deployment that it controls, to
        that one's ReplicaSets, and to their Pods.
        """
        deployment = self.deployment(cluster.namespace, cluster.name)
        if deployment is None:  # out of sight if somebody has taken our labels away: the Pod that was seen goes on
            left = self.leftover_schedulers(cluster.namespace, cluster.name)
            return tuple(pod for pod in left if pod.uid == cluster.status.scheduler_pod_uid)
        if owner_uid(deployment) != cluster.uid:
            return ()
        sets = self.replica_sets.by_index((cluster.namespace, deployment["metadata"]["uid"]))
        return tuple(pod for found in sets for pod in self.pods.by_index((cluster.namespace, found.uid)))

    def deployment(self, namespace: str, cluster: str) -> Manifest | None:
        """The Deployment of the name that a cluster's scheduler has."""
        return named(self.deployments.by_index((namespace, cluster)), names.scheduler(cluster))

    def leftover_schedulers(self, namespace: str, cluster: str) -> tuple[Pod, ...]:
        """Pods of a scheduler of a cluster that is gone, as far as can be told: a ReplicaSet has made them."""
        pods = self.pods.by_index((namespace, cluster, Component.SCHEDULER))
        return tuple(pod for pod in pods if pod.owner_kind == "ReplicaSet" and not pod.is_finished)


def _pod_index(pod: Pod) -> Iterable[Any]:
    component = pod.labels.get(Label.COMPONENT)
    yield pod.namespace, pod.owner_uid
    if component in (Component.SCHEDULER, Component.JOB_RUNNER):  # workers are found by their owner
        yield pod.namespace, pod.labels.get(Label.CLUSTER, ""), component
    if pod.workload:
        yield pod.namespace, Annotation.WORKLOAD, pod.workload


def _version(manifest: Manifest) -> str:
    """That of what somebody has asked for, where there is a number for it; status does not count then."""
    metadata = manifest["metadata"]
    return str(metadata.get("generation") or metadata.get("resourceVersion"))


def named(children: Iterable[CachedChild], name: str) -> Manifest | None:
    """The child of that name."""
    return next((child.manifest for child in children if child.name == name), None)


def _replica_set_index(replica_set: CachedReplicaSet) -> Iterable[Any]:
    return (replica_set.namespace, replica_set.deployment_uid), (replica_set.namespace, replica_set.uid)


def _by_cluster(child: CachedChild) -> Iterable[Any]:
    return (child.cluster_key,)


def _key(resource: CachedResource) -> Key:
    return Key(resource.kind, resource.namespace, resource.name)


def _cluster_index(resource: CachedResource) -> Iterable[Any]:
    return _key(resource), (resource.namespace, resource.name)


def _group_index(resource: CachedResource) -> Iterable[Any]:
    return _key(resource), (resource.namespace, resource.cluster)


def _autoscaler_index(resource: CachedResource) -> Iterable[Any]:
    namespace = resource.namespace
    return _key(resource), (namespace, resource.group), (namespace, "cluster", resource.cluster)
