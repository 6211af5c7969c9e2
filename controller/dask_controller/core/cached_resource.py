"""What is kept of a resource of ours: its JSON, if it is not too large; else who it is, and what points elsewhere."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, TypedDict

import msgspec
from msgspec import Raw, Struct

from dask_crds import names
from dask_crds.model import KINDS, DaskAutoscaler, DaskObject, DaskWorkerGroup, InvalidManifest, dump, parse
from dask_crds.names import Annotation
from dask_crds.validation import LARGEST_SPEC_BYTES, too_large

from .autoscaler import is_suspended, target
from .cached_child import IDENTITY, LONGEST_NAME, LONGEST_VALUE, MOST_KEYS, MetadataForm, clipped, reduced
from .pod import Manifest

#: Bytes that are kept of the metadata of a resource of ours, and of its status.
LARGEST_METADATA_BYTES, LARGEST_STATUS_BYTES = 32 * 1024, 128 * 1024
#: A copy of the whole object.
_KUBECTL = "kubectl.kubernetes.io/last-applied-configuration"
_KEPT = (*IDENTITY, "labels", "annotations", "ownerReferences")


class ResourceForm(MetadataForm, total=False):
    """A resource of ours."""

    spec: Raw
    status: Raw


class CachedResource(Struct, frozen=True, gc=False, kw_only=True):
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
    def value(self) -> DaskObject | None:
        """The object; ``None`` for one that is `unreadable`."""
        return None if self.unreadable else msgspec.json.decode(self.kept, type=KINDS[self.kind])


def cached_resource(kind: str, manifest: Manifest) -> CachedResource:
    """What is kept of a resource of ours."""
    metadata = manifest["metadata"]
    value, kept, whole = _readable(kind, manifest)
    if value is None:
        kept = msgspec.json.encode({"apiVersion": names.API_VERSION, "kind": kind, "metadata": reduced(metadata)})
    cluster, group = _pointers(value, manifest)
    return CachedResource(
        kind=sys.intern(kind),
        namespace=sys.intern(metadata["namespace"]),
        name=metadata["name"],
        generation=metadata.get("generation") or 0,
        deleting=metadata.get("deletionTimestamp") is not None,
        of_job=any(owner.get("kind") == "DaskJob" for owner in metadata.get("ownerReferences") or ()),
        cluster=sys.intern(cluster),
        group=sys.intern(group),
        suspended=isinstance(value, DaskWorkerGroup) and is_suspended(value),
        most_workers=sys.intern(
            str((metadata.get("annotations") or {}).get(Annotation.MOST_WORKERS) or "")[:LONGEST_NAME]
        ),
        unreadable=value is None,
        whole=value is not None and whole,
        kept=kept,
    )


def _readable(kind: str, manifest: Manifest) -> tuple[DaskObject | None, bytes, bool]:
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
            body |= {"metadata": reduced(metadata), "status": _reduced_status(status)}
        kept = msgspec.json.encode({"apiVersion": names.API_VERSION, "kind": kind, **body})
        # Explicit nulls count as absent, and what may have any depth is seen to have none.
        if b"null" in kept or b"fieldsV1" in kept:
            kept = msgspec.json.encode(dump(parse(msgspec.json.decode(kept))))
        return msgspec.json.decode(kept, type=KINDS[kind]), kept, whole
    except (msgspec.DecodeError, InvalidManifest, RecursionError):
        return None, b"", False


def _reduced_status(status: Raw) -> dict[str, Any]:
    """A status without its lists, which are read of the live object only, but the conditions."""
    fields = msgspec.json.decode(status, type=dict[str, Raw])
    short = {key: value for key, value in fields.items() if _size(value) <= LONGEST_VALUE}
    kept: dict[str, Any] = {key: value for key, value in short.items() if memoryview(value)[0] not in b"[{"}
    if "conditions" in fields:
        conditions = msgspec.json.decode(fields["conditions"], type=list[dict[str, Any]] | None) or []
        kept["conditions"] = [{key: clipped(value) for key, value in c.items()} for c in conditions[:MOST_KEYS]]
    return kept


class _Pointers(TypedDict, total=False):
    cluster: str
    workerGroup: str | None


def _pointers(value: DaskObject | None, manifest: Manifest) -> tuple[str, str]:
    """The cluster that a resource names, and the group whose size it sets; also of one that is not readable."""
    match value:
        case DaskWorkerGroup():
            return value.spec.cluster, ""
        case DaskAutoscaler():
            return value.spec.cluster, target(value)
        case None:
            with contextlib.suppress(msgspec.DecodeError):
                found = msgspec.json.decode(_raw(manifest.get("spec") or {}), type=_Pointers)
                return found.get("cluster", "")[:LONGEST_NAME], (found.get("workerGroup") or "")[:LONGEST_NAME]
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
