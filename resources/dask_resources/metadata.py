"""Metadata of children: owner references, labels, and what is never copied from a user's object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dask_crds import names
from dask_crds.inheritance import inherited, is_inherited, is_of_a_tool
from dask_crds.model import DaskObject, TemplateMetadata
from dask_crds.names import Annotation, Label


def without(metadata: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Metadata of a parent without the labels and annotations that an admin wants no child to have either.

    Args:
        metadata: of a resource of ours.
        prefixes: beginnings of keys. What no child inherits anyway stays: who a resource belongs to is told by it.
    """

    def kept(keys: Mapping[str, str]) -> dict[str, str]:
        return {key: value for key, value in keys.items() if not key.startswith(prefixes) or not is_inherited(key)}

    return {**metadata, **{field: kept(metadata[field]) for field in ("labels", "annotations") if metadata.get(field)}}


def tracked(metadata: Mapping[str, Any]) -> bool:
    """Whether a tool that prunes manages the object, such as Argo CD or Helm, so that its life is theirs to end."""
    return any(is_of_a_tool(key) for field in ("labels", "annotations") for key in metadata.get(field) or ())


def owner_reference(owner: DaskObject) -> dict[str, Any]:
    """Controller reference to ``owner``.

    ``blockOwnerDeletion`` stays false: with it, foreground deletion waits for us, and setting it needs a permission
    on ``finalizers`` (OwnerReferencesPermissionEnforcement).
    """
    return {
        "apiVersion": names.API_VERSION,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def child_metadata(
    owner: DaskObject,
    name: str,
    *,
    labels: Mapping[str, str],
    template: TemplateMetadata | None = None,
    annotations: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Metadata of a child of ``owner``: defaults, then inherited keys, then the template's, then ours.

    Args:
        owner: whose child it is.
        name: of the child.
        labels: ours.
        template: what its user states of it.
        annotations: ours.
        defaults: annotations that count where its user says nothing, and are kept up to date as the user's are.
    """
    users = users_metadata(owner, template, defaults)
    applied = {Annotation.LAST_APPLIED: written(users)} if users else {}
    all_annotations = {**users.get("annotations", {}), **applied, **(annotations or {})}
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**users.get("labels", {}), **labels},
        **({"annotations": all_annotations} if all_annotations else {}),
        "ownerReferences": [owner_reference(owner)],
    }


#: By which we keep account of an object; never the user's, though a template may be copied from a live object, and
#: anybody may list them in an annotation.
_OURS = {
    Label.RUN_ID,
    Annotation.CLUSTER_REPLICAS,
    Annotation.LAST_APPLIED,
    Annotation.MOST_WORKERS,
    Annotation.PLACEMENT,
    Annotation.REVISION,
    Annotation.SCHEDULER_ID,
    Annotation.SUSPENDED,
    Annotation.TEMPLATE,
    Annotation.TLS_SECRET,
    Annotation.WORKER_NAME,
    Annotation.WORKLOAD,
}


def users_metadata(
    owner: DaskObject, template: TemplateMetadata | None = None, defaults: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """``labels`` and ``annotations`` that are the user's to say: defaults, then inherited keys, then the template's."""
    template = template or TemplateMetadata()
    annotations = inherited(owner.metadata.get("annotations")) | (template.annotations or {})
    found = {
        "labels": inherited(owner.metadata.get("labels")) | (template.labels or {}),
        "annotations": {**(defaults or {}), **annotations},
    }
    users = {field: {key: keys[key] for key in keys if key not in _OURS} for field, keys in found.items()}
    return {field: keys for field, keys in users.items() if keys}


def written(users: Mapping[str, Mapping[str, str]]) -> str:
    """The user's part of an object's metadata, as it is kept in an annotation of the object."""
    return json.dumps(users, sort_keys=True, separators=(",", ":"))


#: Characters up to which an object's annotation `Annotation.LAST_APPLIED` is kept in memory as it is.
LONGEST_REMEMBERED = 4096


def remembered(text: str) -> str:
    """``written`` as the operator keeps it in memory: all of it, or a digest of what is long.

    A digest still tells that something has changed. The same text gives the same, also what was remembered already.
    """
    if len(text) <= LONGEST_REMEMBERED:
        return text
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def metadata_patch(desired: Mapping[str, Any], last_applied: str) -> dict[str, Any] | None:
    """Merge patch that brings the user's labels and annotations of a live object up to date, if they are not.

    Args:
        desired: metadata of the object as it would be made now.
        last_applied: its `Annotation.LAST_APPLIED`, maybe as `remembered`. Without it, or if it is something
            that the operator has not written, which keys are to go is not known.
    """
    wanted = (desired.get("annotations") or {}).get(Annotation.LAST_APPLIED, "")
    if remembered(wanted) == remembered(last_applied):
        return None
    before, after = _users(last_applied), _users(wanted)
    patch: dict[str, dict[str, Any]] = {}
    for field in ("labels", "annotations"):
        keys = (before.get(field, {}).keys() | after.get(field, {}).keys()) - _OURS
        patch[field] = {key: (desired.get(field) or {}).get(key) for key in sorted(keys)}  # a default may come to light
    patch["annotations"][Annotation.LAST_APPLIED] = wanted or None
    return patch


def _users(text: str) -> dict[str, dict[str, Any]]:
    """What `written` has made, as far as ``text`` is that: anybody may have put something else into the annotation."""
    return {field: keys for field, keys in noted(text).items() if isinstance(keys, dict)}


def noted(text: str) -> dict[str, Any]:
    """The object that an annotation of ours holds as JSON; empty for what cannot be ours."""
    try:
        found = json.loads(text or "{}")
        json.dumps(found, ensure_ascii=False).encode()  # no half of a character, which nothing can be sent with
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
