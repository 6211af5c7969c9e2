"""Metadata of children: owner references, labels, and what is never copied from a user's object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dask_crds import names
from dask_crds.model import Kind, TemplateMetadata

#: Keys by which GitOps tools and packagers track what they own. A child that carried them could be pruned with, or
#: be reported as drift of, the application that its parent belongs to.
_TRACKING = (
    "argocd.argoproj.io/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "fluxcd.io/",
    "meta.helm.sh/",
    "helm.sh/",
    "kubectl.kubernetes.io/",
    "kustomize.config.k8s.io/",
    "config.kubernetes.io/",
    "config.k8s.io/",
    "internal.config.kubernetes.io/",
    "kopf.zalando.org/",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "dask.org/",
)


def inherited(keys: Mapping[str, str] | None) -> dict[str, str]:
    """The labels or annotations of a parent that its children carry too: all but those used for tracking."""
    return {key: value for key, value in (keys or {}).items() if not key.startswith(_TRACKING)}


#: Marks of tools that create, compare and prune objects from Git or a chart.
_GITOPS = ("argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/", "meta.helm.sh/")


def tracked(metadata: Mapping[str, Any]) -> bool:
    """Whether a GitOps tool or Helm manages the object, so that its life is theirs to end."""
    keys = [*(metadata.get("labels") or {}), *(metadata.get("annotations") or {})]
    return any(key.startswith(_GITOPS) or key == "app.kubernetes.io/instance" for key in keys)


def owner_reference(owner: Kind) -> dict[str, Any]:
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
    owner: Kind,
    name: str,
    *,
    labels: Mapping[str, str],
    template: TemplateMetadata | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Metadata of a child of ``owner``: inherited keys, then the template's, then ours."""
    users = users_metadata(owner, template)
    applied = {names.LAST_APPLIED: written(users)} if users else {}
    all_annotations = {**users.get("annotations", {}), **applied, **(annotations or {})}
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**users.get("labels", {}), **labels},
        **({"annotations": all_annotations} if all_annotations else {}),
        "ownerReferences": [owner_reference(owner)],
    }


def users_metadata(owner: Kind, template: TemplateMetadata | None = None) -> dict[str, dict[str, str]]:
    """``labels`` and ``annotations`` that a child has from its user: inherited keys, then the template's."""
    template = template or TemplateMetadata()
    found = {
        "labels": inherited(owner.metadata.get("labels")) | (template.labels or {}),
        "annotations": inherited(owner.metadata.get("annotations")) | (template.annotations or {}),
    }
    return {field: keys for field, keys in found.items() if keys}


def written(users: Mapping[str, Mapping[str, str]]) -> str:
    """The user's part of an object's metadata, as it is kept in an annotation of the object."""
    return json.dumps(users, sort_keys=True, separators=(",", ":"))


#: Characters up to which an object's annotation ``names.LAST_APPLIED`` is kept in memory as it is.
LONGEST_REMEMBERED = 4096


def remembered(text: str) -> str:
    """``written`` as the operator keeps it in memory: all of it, or a digest of what is long.

    A digest still tells that something has changed. The same text gives the same, also what was remembered already.
    """
    if len(text) <= LONGEST_REMEMBERED:
        return text
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


#: Never the user's, whatever a template or somebody's annotation lists; not all are in ``desired`` below.
_OURS = {names.REVISION, names.WORKER_NAME, names.SCHEDULER_ID, names.RUN_ID, names.CLUSTER_REPLICAS}


def metadata_patch(desired: Mapping[str, Any], last_applied: str) -> dict[str, Any] | None:
    """Merge patch that brings the user's labels and annotations of a live object up to date, if they are not.

    Args:
        desired: metadata of the object as it would be made now.
        last_applied: its annotation ``names.LAST_APPLIED``, maybe as `remembered`. Without it, or if it is something
            that the operator has not written, which keys are to go is not known.
    """
    wanted = (desired.get("annotations") or {}).get(names.LAST_APPLIED, "")
    if remembered(wanted) == remembered(last_applied):
        return None
    before, after = _users(last_applied), _users(wanted)
    patch: dict[str, dict[str, Any]] = {}
    for field in ("labels", "annotations"):
        keys = (before.get(field, {}).keys() | after.get(field, {}).keys()) - _OURS
        patch[field] = {key: (desired.get(field) or {}).get(key) for key in sorted(keys)}  # a default may come to light
    patch["annotations"][names.LAST_APPLIED] = wanted or None
    return patch


def _users(text: str) -> dict[str, dict[str, Any]]:
    """What `written` has made, as far as ``text`` is that: anybody may have put something else into the annotation."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return {field: keys for field, keys in found.items() if isinstance(keys, dict)} if isinstance(found, dict) else {}
