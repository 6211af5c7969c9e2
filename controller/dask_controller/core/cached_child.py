"""What is kept of the children: little, in few bytes, so that those of a thousand clusters fit into some megabytes.

Anybody may put our label on objects of theirs, so what is kept of one is bounded, whatever it holds.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import msgspec
from msgspec import Raw, Struct

from dask_crds import names
from dask_crds.names import Annotation, Label
from dask_resources.metadata import remembered

from .ownership import owner_uid
from .pod import Manifest
from .pod_form import Metadata

#: Bytes that are kept of a child.
LARGEST_CHILD_BYTES = 16 * 1024
#: Managers of a field that are kept.
_MOST_MANAGERS = 8
#: Labels or annotations of ours that are kept of an object, and conditions; characters of each, and of a message.
MOST_KEYS, LONGEST_VALUE, _LONGEST_MESSAGE = 32, 4096, 1024
#: Characters of a name.
LONGEST_NAME = 253
_OF_OURS = f"{Label.CLUSTER.partition('/')[0]}/"
IDENTITY = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp")
#: Conditions of children that planners read.
_CONDITIONS = ("ReplicaFailure", "Complete", "Failed", "SuccessCriteriaMet", "FailureTarget", "Suspended")


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
    paused: bool | None
    selector: _Selector


class MetadataForm(TypedDict, total=False):
    """An object of which no more than that is looked at."""

    kind: str
    metadata: Metadata


class ChildForm(MetadataForm, total=False):
    """A Deployment or a Job, whose template is not looked at."""

    spec: _Scaled
    status: _ChildStatus | None


class _Manager(TypedDict, total=False):
    manager: str
    operation: str
    fieldsV1: Raw


class _JobMetadata(Metadata, total=False):
    managedFields: list[_Manager] | None


class JobForm(TypedDict, total=False):
    """A Job: of its managed fields is kept who has written ``spec.suspend``."""

    kind: str
    metadata: _JobMetadata
    spec: _Scaled
    status: _ChildStatus | None


class WholeForm(MetadataForm, total=False):
    """A child whose ``spec`` is compared with what it should be."""

    spec: Raw
    status: _ChildStatus | None


class CachedChild(Struct, frozen=True, gc=False):
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


def cached_child(manifest: Manifest) -> CachedChild:
    """What is kept of a child."""
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    cluster = (metadata.get("labels") or {}).get(Label.CLUSTER) or ""
    identity = reduced(metadata)
    short = {key: identity[key] for key in (*IDENTITY, "ownerReferences") if key in identity}
    selector = _selector(spec["selector"]) if isinstance(spec, dict) and "selector" in spec else None
    part = {"selector": selector} if selector is not None else {}
    forms = [{"metadata": short, "spec": part}]
    if any(owner.get("apiVersion") == names.API_VERSION for owner in identity.get("ownerReferences", ())):
        status = _child_status(manifest.get("status") or {})
        managers = _suspenders(metadata.get("managedFields") or ())
        whole = identity | ({"managedFields": managers} if managers else {})
        # Without its labels and annotations a child would be labelled anew at every look.
        forms = [{"metadata": whole, "spec": spec, "status": status}, {"metadata": whole, "spec": part}, *forms]
    encoded = map(msgspec.json.encode, forms)
    kept = next((form for form in encoded if len(form) <= LARGEST_CHILD_BYTES), None) or msgspec.json.encode(forms[-1])
    return CachedChild(sys.intern(metadata["namespace"]), metadata["name"], sys.intern(cluster), kept)


def _suspenders(managed: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The managed fields of those who have written ``spec.suspend``, without what else they wrote."""
    suspenders = (entry for entry in managed if b'"f:suspend"' in msgspec.json.encode(entry.get("fieldsV1")))
    return [
        {
            "manager": clipped(entry.get("manager")),
            "operation": entry.get("operation"),
            "fieldsV1": {"f:spec": {"f:suspend": {}}},
        }
        for entry in itertools.islice(suspenders, _MOST_MANAGERS)
    ]


def _selector(selector: Mapping[str, Any]) -> dict[str, Any]:
    """A selector, or enough of it to tell that it is none of ours."""
    return {"matchLabels": dict(list((selector.get("matchLabels") or {}).items())[:MOST_KEYS])}


def _child_status(status: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in status.items() if value is not None}
    if "conditions" in kept:
        read = [c for c in kept["conditions"] if c.get("type") in _CONDITIONS and "status" in c]
        kept["conditions"] = [{key: clipped(value) for key, value in c.items()} for c in read]
    if "loadBalancer" in kept:
        kept["loadBalancer"] = {"ingress": (kept["loadBalancer"].get("ingress") or [])[:1]}
    return kept


def clipped(value: Any) -> Any:
    """``value``, and of a long text its beginning."""
    return value[:_LONGEST_MESSAGE] if isinstance(value, str) else value


def reduced(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Who an object is and whose, with labels and annotations of ours."""
    kept: dict[str, Any] = {key: value for key in IDENTITY if (value := metadata.get(key)) is not None}
    for field in ("labels", "annotations"):
        ours = [key for key in metadata.get(field) or {} if key.startswith(_OF_OURS)][:MOST_KEYS]
        if ours:
            kept[field] = {key: _remembered(key, metadata[field][key]) for key in ours}
    owners = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    if owners:
        kept["ownerReferences"] = [{key: clipped(value) for key, value in owners[0].items()}]
    return kept


def _remembered(key: str, value: str) -> str:
    return remembered(value) if key == Annotation.LAST_APPLIED else value[:LONGEST_VALUE]


class CachedReplicaSet(Struct, frozen=True, gc=False):
    """What leads from a scheduler Pod to its Deployment."""

    namespace: str
    uid: str
    cluster: str  #: named by the label
    deployment_uid: str


def cached_replica_set(manifest: Manifest) -> CachedReplicaSet:
    """What is kept of a ReplicaSet."""
    metadata = manifest["metadata"]
    cluster = (metadata.get("labels") or {}).get(Label.CLUSTER) or ""
    return CachedReplicaSet(
        sys.intern(metadata["namespace"]), metadata["uid"], sys.intern(cluster[:LONGEST_NAME]), owner_uid(manifest)
    )
