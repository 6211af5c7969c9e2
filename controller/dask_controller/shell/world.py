"""The watch caches: what exists of the kinds that the planners look at, and whom a change concerns.

Little is kept of each object, in few bytes: a thousand clusters fit into some megabytes. And anybody may put our label
on objects of theirs, so what is kept of one is bounded, whatever it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, TypeVar

import msgspec
from msgspec import Raw, Struct

from dask_crds import names
from dask_crds.model import (
    KINDS,
    DaskAutoscaler,
    DaskCluster,
    DaskWorkerGroup,
    InvalidManifest,
    Kind,
    dump,
    parse,
)
from dask_crds.validation import LARGEST_SPEC_BYTES, too_large
from dask_resources.metadata import remembered

from ..core.autoscaler import in_charge, is_suspended, target
from ..core.ownership import owner_uid
from ..core.pod import Manifest, Pod, pod
from ..core.pod_form import Metadata, PodForm
from .informer import Informer
from .kubernetes import RESOURCES, Kubernetes


class Key(NamedTuple):
    """What is reconciled: one custom resource."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


#: Seconds by which changes are gathered: a thousand Pods that start wake their group a few times.
GATHER_SECONDS = 0.2
#: The same for a cluster, whose children come one after the other: all that it does then is to write its status.
CLUSTER_GATHER_SECONDS = 0.5
#: The same for an autoscaler whose question to the scheduler names what has changed: workers, groups, bounds.
AUTOSCALER_GATHER_SECONDS = 1.0
#: For how long a name is believed to be taken: a Pod of somebody else's tells us nothing when it goes.
TAKEN_SECONDS = 600.0


# --- what is kept -----------------------------------------------------------------------------------------------------

#: Bytes that are kept of a child, of the metadata of a resource of ours, and of its status.
LARGEST_CHILD_BYTES, LARGEST_METADATA_BYTES, LARGEST_STATUS_BYTES = 16 * 1024, 32 * 1024, 128 * 1024
#: Managers of a field that are kept.
_MOST_MANAGERS = 8
#: Labels or annotations of ours that are kept of an object, characters of each, of a message, and of a name.
_MOST_KEYS, _LONGEST_VALUE, _LONGEST_MESSAGE, _LONGEST_NAME = 32, 4096, 1024, 253
_OF_OURS = f"{names.CLUSTER.partition('/')[0]}/"
#: A copy of the whole object.
_KUBECTL = "kubectl.kubernetes.io/last-applied-configuration"
_IDENTITY = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp")
_KEPT = (*_IDENTITY, "labels", "annotations", "ownerReferences")
#: Conditions of children that planners read.
_CONDITIONS = ("ReplicaFailure", "Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")


class _Condition(TypedDict, total=False):
    type: str
    status: str
    reason: str
    message: str
    lastTransitionTime: str | None


class _Ingress(TypedDict, total=False):
    ip: str
    hostname: str


class _LoadBalancer(TypedDict, total=False):
    ingress: list[_Ingress] | None


class _ChildStatus(TypedDict, total=False):
    observedGeneration: int
    replicas: int
    updatedReplicas: int
    failed: int
    startTime: str | None
    conditions: list[_Condition] | None
    loadBalancer: _LoadBalancer | None


class _Selector(TypedDict, total=False):
    matchLabels: dict[str, str] | None


class _Scaled(TypedDict, total=False):
    replicas: int
    suspend: bool | None
    selector: _Selector


class _Form(TypedDict, total=False):
    kind: str
    metadata: Metadata


class _ChildForm(_Form, total=False):
    """A Deployment or a Job, whose template is not looked at."""

    spec: _Scaled
    status: _ChildStatus | None


class _Manager(TypedDict, total=False):
    manager: str
    operation: str
    fieldsV1: Raw


class _JobMetadata(Metadata, total=False):
    managedFields: list[_Manager] | None


class _JobForm(TypedDict, total=False):
    """A Job: of its managed fields is kept who has written ``spec.suspend``."""

    kind: str
    metadata: _JobMetadata
    spec: _Scaled
    status: _ChildStatus | None


class _WholeForm(_Form, total=False):
    """A child whose ``spec`` is compared with what it should be."""

    spec: Raw
    status: _ChildStatus | None


class _ResourceForm(_Form, total=False):
    """A resource of ours."""

    spec: Raw
    status: Raw


class Child(Struct, frozen=True, gc=False):
    """A cached child: what planners read of it, as JSON.

    Of one that is not controlled by a resource of ours that is who it is and whose; and of a Deployment the selector,
    by which the existing operator is known.
    """

    namespace: str
    name: str
    cluster: str  #: named by the label
    kept: bytes

    @property
    def manifest(self) -> Manifest:
        """The object, as far as it is kept; ``spec`` is there in any case."""
        manifest: Manifest = msgspec.json.decode(self.kept)
        return manifest

    @property
    def metadata(self) -> Manifest:
        """``metadata`` of the object, as far as it is kept."""
        metadata: Manifest = self.manifest["metadata"]
        return metadata

    @property
    def cluster_key(self) -> tuple[str, str]:
        """Namespace, and the cluster named by the label."""
        return self.namespace, self.cluster


def child(manifest: Manifest) -> Child:
    """What is kept of a child."""
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    cluster = (metadata.get("labels") or {}).get(names.CLUSTER) or ""
    reduced = _reduced(metadata)
    kept = b""
    if any(owner.get("apiVersion") == names.API_VERSION for owner in reduced.get("ownerReferences", ())):
        status = _child_status(manifest.get("status") or {})
        managers = _suspenders(metadata.get("managedFields") or ())
        metadata = reduced | ({"managedFields": managers} if managers else {})
        kept = msgspec.json.encode({"metadata": metadata, "spec": spec, "status": status})
    if not kept or len(kept) > LARGEST_CHILD_BYTES:
        identity = {key: reduced[key] for key in (*_IDENTITY, "ownerReferences") if key in reduced}
        selector = _selector(spec["selector"]) if isinstance(spec, dict) and "selector" in spec else None
        part = {"selector": selector} if selector is not None else {}
        kept = msgspec.json.encode({"metadata": identity, "spec": part})
    return Child(sys.intern(metadata["namespace"]), metadata["name"], sys.intern(cluster), kept)


def _suspenders(managed: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The managed fields of those who have written ``spec.suspend``, without what else they wrote."""
    suspenders = (entry for entry in managed if b'"f:suspend"' in msgspec.json.encode(entry.get("fieldsV1")))
    return [
        {
            "manager": _clipped(entry.get("manager")),
            "operation": entry.get("operation"),
            "fieldsV1": {"f:spec": {"f:suspend": {}}},
        }
        for entry in itertools.islice(suspenders, _MOST_MANAGERS)
    ]


def _selector(selector: Mapping[str, Any]) -> dict[str, Any]:
    """A selector, or enough of it to tell that it is none of ours."""
    return {"matchLabels": dict(list((selector.get("matchLabels") or {}).items())[:_MOST_KEYS])}


def _child_status(status: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in status.items() if value is not None}
    if "conditions" in kept:
        read = [c for c in kept["conditions"] if c.get("type") in _CONDITIONS and "status" in c]
        kept["conditions"] = [{key: _clipped(value) for key, value in c.items()} for c in read]
    if "loadBalancer" in kept:
        kept["loadBalancer"] = {"ingress": (kept["loadBalancer"].get("ingress") or [])[:1]}
    return kept


def _clipped(value: Any) -> Any:
    return value[:_LONGEST_MESSAGE] if isinstance(value, str) else value


def _reduced(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Who an object is and whose, with labels and annotations of ours."""
    kept: dict[str, Any] = {key: value for key in _IDENTITY if (value := metadata.get(key)) is not None}
    for field in ("labels", "annotations"):
        ours = [key for key in metadata.get(field) or {} if key.startswith(_OF_OURS)][:_MOST_KEYS]
        if ours:
            kept[field] = {key: _remembered(key, metadata[field][key]) for key in ours}
    owners = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    if owners:
        kept["ownerReferences"] = [{key: _clipped(value) for key, value in owners[0].items()}]
    return kept


def _remembered(key: str, value: str) -> str:
    return remembered(value) if key == names.LAST_APPLIED else value[:_LONGEST_VALUE]


class ReplicaSet(Struct, frozen=True, gc=False):
    """What leads from a scheduler Pod to its Deployment."""

    namespace: str
    uid: str
    cluster: str  #: named by the label
    deployment_uid: str


def replica_set(manifest: Manifest) -> ReplicaSet:
    """What is kept of a ReplicaSet."""
    metadata = manifest["metadata"]
    cluster = (metadata.get("labels") or {}).get(names.CLUSTER) or ""
    return ReplicaSet(
        sys.intern(metadata["namespace"]), metadata["uid"], sys.intern(cluster[:_LONGEST_NAME]), owner_uid(manifest)
    )


class Resource(Struct, frozen=True, gc=False, kw_only=True):
    """A cached resource of ours, as JSON: most are looked at seldom, and as values they take several times as much."""

    kind: str
    namespace: str
    name: str
    generation: int  #: counts changes of ``spec``, and the beginning of a deletion
    deleting: bool
    of_job: bool  #: whether a DaskJob owns it
    cluster: str  #: that it names in its ``spec``, empty for a cluster
    group: str  #: whose size it sets, empty for all but autoscalers
    suspended: bool  #: whether it is a group without workers because its cluster is suspended
    most_workers: str  #: what a cluster's annotation of that name says, empty without it
    unreadable: bool  #: whether it is too large or does not parse (its status says why); then ``spec`` is not kept
    whole: bool  #: whether all is kept but ``managedFields`` and what kubectl notes for itself
    kept: bytes

    @property
    def manifest(self) -> dict[str, Any]:
        """The object, as far as it is kept."""
        manifest: dict[str, Any] = msgspec.json.decode(self.kept)
        return manifest

    @property
    def value(self) -> Kind | None:
        """The object; ``None`` for one that is `unreadable`."""
        return None if self.unreadable else msgspec.json.decode(self.kept, type=KINDS[self.kind])


def resource(kind: str, manifest: Manifest) -> Resource:
    """What is kept of a resource of ours."""
    metadata = manifest["metadata"]
    value, kept, whole = _readable(kind, manifest)
    if value is None:
        kept = msgspec.json.encode({"apiVersion": names.API_VERSION, "kind": kind, "metadata": _reduced(metadata)})
    cluster, group = _pointers(value, manifest)
    return Resource(
        kind=sys.intern(kind),
        namespace=sys.intern(metadata["namespace"]),
        name=metadata["name"],
        generation=metadata.get("generation") or 0,
        deleting=metadata.get("deletionTimestamp") is not None,
        of_job=any(owner.get("kind") == "DaskJob" for owner in metadata.get("ownerReferences") or ()),
        cluster=sys.intern(cluster),
        group=sys.intern(group),
        suspended=isinstance(value, DaskWorkerGroup) and is_suspended(value),
        most_workers=sys.intern(str((metadata.get("annotations") or {}).get(names.MOST_WORKERS) or "")[:_LONGEST_NAME]),
        unreadable=value is None,
        whole=value is not None and whole,
        kept=kept,
    )


def _readable(kind: str, manifest: Manifest) -> tuple[Kind | None, bytes, bool]:
    """The value, the JSON to keep, and whether that is all; ``None`` as value if it is too large or does not parse."""
    spec, status = _compact(_raw(manifest.get("spec") or {})), _raw(manifest.get("status") or {})
    if spec is None:
        return None, b"", False
    metadata = {key: value for key in _KEPT if (value := manifest["metadata"].get(key)) is not None}
    if _KUBECTL in metadata.get("annotations", ()):
        metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != _KUBECTL}
    encoded = _raw(metadata)
    whole = _size(encoded) <= LARGEST_METADATA_BYTES and _size(status) <= LARGEST_STATUS_BYTES
    body: dict[str, Any] = {"metadata": encoded, "spec": spec, "status": status}
    try:
        if not whole:
            body |= {"metadata": _reduced(metadata), "status": _reduced_status(status)}
        kept = msgspec.json.encode({"apiVersion": names.API_VERSION, "kind": kind, **body})
        if b"null" in kept:  # explicit nulls count as absent
            kept = msgspec.json.encode(dump(parse(msgspec.json.decode(kept))))
        return msgspec.json.decode(kept, type=KINDS[kind]), kept, whole
    except (msgspec.DecodeError, InvalidManifest):
        return None, b"", False


def _reduced_status(status: Raw) -> dict[str, Any]:
    """A status without its lists, which are read of the live object only, but the conditions."""
    fields = msgspec.json.decode(status, type=dict[str, Raw])
    short = {key: value for key, value in fields.items() if _size(value) <= _LONGEST_VALUE}
    kept: dict[str, Any] = {key: value for key, value in short.items() if memoryview(value)[0] not in b"[{"}
    if "conditions" in fields:
        conditions = msgspec.json.decode(fields["conditions"], type=list[dict[str, Any]] | None) or []
        kept["conditions"] = [{key: _clipped(value) for key, value in c.items()} for c in conditions[:_MOST_KEYS]]
    return kept


class _Pointers(TypedDict, total=False):
    cluster: str
    workerGroup: str | None


def _pointers(value: Kind | None, manifest: Manifest) -> tuple[str, str]:
    """The cluster that a resource names, and the group whose size it sets; also of one that is not readable."""
    match value:
        case DaskWorkerGroup():
            return value.spec.cluster, ""
        case DaskAutoscaler():
            return value.spec.cluster, target(value)
        case None:
            with contextlib.suppress(msgspec.DecodeError):
                found = msgspec.json.decode(_raw(manifest.get("spec") or {}), type=_Pointers)
                return found.get("cluster", "")[:_LONGEST_NAME], (found.get("workerGroup") or "")[:_LONGEST_NAME]
    return "", ""


def _raw(value: Any) -> Raw:
    return value if isinstance(value, Raw) else Raw(msgspec.json.encode(value))


def _size(value: Raw) -> int:
    return memoryview(value).nbytes


def _compact(spec: Raw) -> Raw | None:
    """``spec`` as compact JSON, or ``None`` if it is `too_large`. The API server writes ``<>&`` in six bytes each."""
    if _size(spec) <= LARGEST_SPEC_BYTES:
        return spec
    if _size(spec) - 5 * bytes(spec).count(b"\\u") > LARGEST_SPEC_BYTES:
        return None
    plain = msgspec.json.decode(spec)
    return None if too_large(plain) else _raw(plain)


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
        #: By uid: the version of a child that is known to be as we state it, and what was applied to which version
        #: without changing anything.
        self._verified: dict[str, str] = {}
        self._settled: dict[str, tuple[str, str]] = {}
        #: By group: places whose Pods' names others have, and until when that is believed.
        self._taken: dict[tuple[str, str], dict[int, float]] = {}

        def informer(kind: str, *, labels: str | None = names.CLUSTER, **options: Any) -> Any:
            return Informer(kubernetes, RESOURCES[kind], namespaces=namespaces, labels=labels, **options)

        def children(kind: str, form: Any, on_change: Any = self._cluster_child_changed, **options: Any) -> Any:
            return informer(kind, form=form, project=child, index=_by_cluster, on_change=on_change, **options)

        def resources(kind: str, index: Any, on_change: Any) -> Any:
            project = functools.partial(resource, kind)
            return informer(kind, labels=None, form=_ResourceForm, project=project, index=index, on_change=on_change)

        self.pods: Informer[Pod] = informer(
            "Pod", form=PodForm, project=pod, index=_pod_index, on_change=self._pod_changed
        )
        self.services: Informer[Child] = children("Service", _WholeForm)
        self.config_maps: Informer[Child] = children("ConfigMap", _Form, metadata_only=True)
        self.deployments: Informer[Child] = children("Deployment", _ChildForm)
        self.replica_sets: Informer[ReplicaSet] = informer(
            "ReplicaSet",
            form=_Form,
            project=replica_set,
            metadata_only=True,
            index=_replica_set_index,
            on_change=self._replica_set_changed,
        )
        self.disruption_budgets: Informer[Child] = children("PodDisruptionBudget", _WholeForm)
        self.jobs: Informer[Child] = children("Job", _JobForm, self._job_changed)
        self.clusters: Informer[Resource] = resources("DaskCluster", _cluster_index, self._cluster_changed)
        self.groups: Informer[Resource] = resources("DaskWorkerGroup", _group_index, self._group_changed)
        self.autoscalers: Informer[Resource] = resources("DaskAutoscaler", _autoscaler_index, self._autoscaler_changed)

    @property
    def informers(self) -> dict[str, Informer[Any]]:
        """All informers by plural."""
        return {
            "pods": self.pods,
            "services": self.services,
            "configmaps": self.config_maps,
            "deployments": self.deployments,
            "replicasets": self.replica_sets,
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

    def remember(self, manifest: dict[str, Any]) -> None:
        """Take in what a write was answered with, so that the next look does not miss it."""
        plural = f"{manifest.get('kind', '')}s".lower()
        if plural in self.informers:
            self.informers[plural].put(manifest)

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

    # --- lookups ------------------------------------------------------------------------------------------------------

    def cached(self, key: Key) -> dict[str, Any] | None:
        """The manifest of a resource of ours, if the whole of it is cached, its managed fields apart."""
        caches = {"DaskCluster": self.clusters, "DaskWorkerGroup": self.groups, "DaskAutoscaler": self.autoscalers}
        found = caches[key.kind].by_index(key) if key.kind in caches else []
        return found[0].manifest if len(found) == 1 and found[0].whole else None

    def unobserved(self) -> Iterator[Key]:
        """Cached resources of ours whose present ``spec`` no status speaks of: their users wait."""
        for informer in (self.clusters, self.groups, self.autoscalers):
            for found in informer.store.values():
                observed = (found.manifest.get("status") or {}).get("observedGeneration")
                if observed != found.generation and not found.deleting:
                    yield _key(found)

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
        if deployment is None or owner_uid(deployment) != cluster.uid:
            return ()
        sets = self.replica_sets.by_index((cluster.namespace, deployment["metadata"]["uid"]))
        return tuple(pod for found in sets for pod in self.pods.by_index((cluster.namespace, found.uid)))

    def deployment(self, namespace: str, cluster: str) -> Manifest | None:
        """The Deployment of the name that a cluster's scheduler has."""
        return named(self.deployments.by_index((namespace, cluster)), names.scheduler(cluster))

    def leftover_schedulers(self, namespace: str, cluster: str) -> tuple[Pod, ...]:
        """Pods of a scheduler of a cluster that is gone, as far as can be told: a ReplicaSet has made them."""
        pods = self.pods.by_index((namespace, cluster, names.SCHEDULER))
        return tuple(pod for pod in pods if pod.owner_kind == "ReplicaSet" and not pod.is_finished)

    # --- whom a change concerns ---------------------------------------------------------------------------------------

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for changed in _either(old, new):
            namespace, labels = changed.namespace, changed.labels
            cluster = labels.get(names.CLUSTER, "")
            match labels.get(names.COMPONENT):
                case names.WORKER:
                    self._wake(Key("DaskWorkerGroup", namespace, labels.get(names.WORKER_GROUP, "")), GATHER_SECONDS)
                    self._wake_autoscalers(namespace, cluster)
                case names.SCHEDULER:
                    self._scheduler_changed(namespace, cluster)
                case names.JOB_RUNNER:
                    self._wake(Key("DaskJob", namespace, cluster), GATHER_SECONDS)

    def _scheduler_changed(self, namespace: str, cluster: str) -> None:
        """All whose questions go to that Pod, and those who wait for it to come or to go."""
        self._wake(Key("DaskCluster", namespace, cluster), CLUSTER_GATHER_SECONDS)
        clusters = self.clusters.by_index((namespace, cluster))
        for resource in clusters:
            self._wake_job(resource, 0.0)
        if not clusters:  # a job's next run waits for it to go
            self._wake(Key("DaskJob", namespace, cluster), GATHER_SECONDS)
        self._wake_groups(namespace, cluster)
        self._wake_autoscalers(namespace, cluster, GATHER_SECONDS)

    def _replica_set_changed(self, old: ReplicaSet | None, new: ReplicaSet | None) -> None:
        for changed in _either(old, new):
            self._scheduler_changed(changed.namespace, changed.cluster)

    def _cluster_child_changed(self, old: Child | None, new: Child | None) -> None:
        for child in _either(old, new):
            self._wake(Key("DaskCluster", *child.cluster_key), CLUSTER_GATHER_SECONDS)
        if old is not None and new is None:
            for known in (self._verified, self._settled):
                known.pop(old.metadata["uid"], None)

    def _job_changed(self, old: Child | None, new: Child | None) -> None:
        for child in _either(old, new):
            self._wake(Key("DaskJob", *child.cluster_key), GATHER_SECONDS)

    def _cluster_changed(self, old: Resource | None, new: Resource | None) -> None:
        for cluster in _either(old, new):
            # Its status is nothing to groups.
            if _is_other(old, new) or (old and new and old.most_workers != new.most_workers):
                self._wake_groups(cluster.namespace, cluster.name)
            self._wake_job(cluster, GATHER_SECONDS)

    def _group_changed(self, old: Resource | None, new: Resource | None) -> None:
        for group in _either(old, new):
            self._wake(Key("DaskCluster", group.namespace, group.cluster), CLUSTER_GATHER_SECONDS)
            if _is_other(old, new):
                self._wake_autoscalers(group.namespace, group.cluster)
            if old is None or new is None or old.suspended != new.suspended:
                self._wake_rivals(group.namespace, group.name)
        if old is not None and new is None:
            self._taken.pop((old.namespace, old.name), None)
            self._settled.pop(old.manifest["metadata"]["uid"], None)

    def _autoscaler_changed(self, old: Resource | None, new: Resource | None) -> None:
        for autoscaler in _either(old, new):
            if _is_other(old, new):
                self._wake_autoscalers(autoscaler.namespace, autoscaler.cluster)
        # With another target, there is a group that it has left.
        targets = {(r.namespace, r.group) for r in (old, new) if r is not None and r.group}
        for scaled in targets:
            self._wake(Key("DaskWorkerGroup", *scaled), 0.0)
            if old is None or new is None or len(targets) > 1:
                self._wake_rivals(*scaled)

    def _wake_job(self, cluster: Resource, delay: float) -> None:
        """The job that a cluster belongs to, if any."""
        if cluster.of_job:
            self._wake(Key("DaskJob", cluster.namespace, cluster.name), delay)

    def _wake_groups(self, namespace: str, cluster: str) -> None:
        """The worker groups that name a cluster."""
        for group in self.groups.by_index((namespace, cluster)):
            self._wake(Key("DaskWorkerGroup", namespace, group.name), GATHER_SECONDS)

    def _wake_autoscalers(self, namespace: str, cluster: str, delay: float = AUTOSCALER_GATHER_SECONDS) -> None:
        """All autoscalers of a cluster: the question of each names the workers and bounds of all."""
        for autoscaler in self.autoscalers.by_index((namespace, "cluster", cluster)):
            self._wake(Key("DaskAutoscaler", namespace, autoscaler.name), delay)

    def _wake_rivals(self, namespace: str, group: str) -> None:
        """The autoscalers that set the size of a worker group."""
        for autoscaler in self.autoscalers.by_index((namespace, group)):
            self._wake(Key("DaskAutoscaler", namespace, autoscaler.name), GATHER_SECONDS)


def _is_other(old: Resource | None, new: Resource | None) -> bool:
    """Whether something has come, gone, begun to go, or got another ``spec``."""
    return old is None or new is None or old.generation != new.generation


def _either(old: T | None, new: T | None) -> tuple[T, ...]:
    """The newest form of what has changed."""
    changed = new if new is not None else old
    return () if changed is None else (changed,)


def _pod_index(pod: Pod) -> Iterable[Any]:
    component = pod.labels.get(names.COMPONENT)
    yield pod.namespace, pod.owner_uid
    if component in (names.SCHEDULER, names.JOB_RUNNER):  # workers are found by their owner
        yield pod.namespace, pod.labels.get(names.CLUSTER, ""), component


def _version(manifest: Manifest) -> str:
    """That of what somebody has asked for, where there is a number for it; status does not count then."""
    metadata = manifest["metadata"]
    return str(metadata.get("generation") or metadata.get("resourceVersion"))


def named(children: Iterable[Child], name: str) -> Manifest | None:
    """The child of that name."""
    return next((child.manifest for child in children if child.name == name), None)


def _replica_set_index(replica_set: ReplicaSet) -> Iterable[Any]:
    return ((replica_set.namespace, replica_set.deployment_uid),)


def _by_cluster(child: Child) -> Iterable[Any]:
    return (child.cluster_key,)


def _key(resource: Resource) -> Key:
    return Key(resource.kind, resource.namespace, resource.name)


def _cluster_index(resource: Resource) -> Iterable[Any]:
    return _key(resource), (resource.namespace, resource.name)


def _group_index(resource: Resource) -> Iterable[Any]:
    return _key(resource), (resource.namespace, resource.cluster)


def _autoscaler_index(resource: Resource) -> Iterable[Any]:
    namespace = resource.namespace
    return _key(resource), (namespace, resource.group), (namespace, "cluster", resource.cluster)
