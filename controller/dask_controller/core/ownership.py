"""Whose an object is, and who set its fields: what its ``metadata`` says.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

from typing import Any

from dask_crds import names
from dask_crds.model import DaskCluster
from dask_crds.reasons import Reason
from dask_resources.metadata import owner_reference
from dask_resources.scheduler import selector

from .pod import Manifest, Problem

#: Path of the field that users, queues, GitOps tools and the operator all set.
SUSPEND = ("spec", "suspend")
#: Managers that write a manifest as a whole by other means than server-side apply.
_APPLIERS = ("kubectl-client-side-apply", "argocd-controller", "helm", "Helm")


def annotation(metadata: Manifest, key: str) -> str:
    """An annotation, empty without it."""
    return str((metadata.get("annotations") or {}).get(key) or "")


def number(text: str) -> int | None:
    """The number that we have written into an annotation; ``None`` for anything else, which anybody may write."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def owner_uid(manifest: Manifest) -> str:
    """Uid of the controller of an object, empty if it has none."""
    for reference in manifest["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


def adoption(metadata: Manifest, others: list[Manifest], cluster: DaskCluster) -> dict[str, Any]:
    """The patch by which an object goes with a cluster, beside its ``others`` owners.

    The list is replaced as a whole: only if nobody has added to it meanwhile. It is no apply: that would take away
    whatever else we have applied to the object before.
    """
    references = [*others, {**owner_reference(cluster), "controller": False}]
    return {"metadata": {"ownerReferences": references, "resourceVersion": metadata.get("resourceVersion")}}


def _writers(metadata: Manifest, *path: str) -> list[Manifest]:
    """The entries of ``metadata.managedFields`` for those who wrote a field."""
    found = []
    for entry in metadata.get("managedFields") or []:
        fields = entry.get("fieldsV1") or {}
        for name in path:
            fields = fields.get(f"f:{name}")
            if fields is None:
                break
        else:
            found.append(entry)
    return found


def last_set_by_us(metadata: Manifest, *path: str) -> bool:
    """Whether the operator was the last to set a field."""
    return names.FIELD_MANAGER in set_by(metadata, *path)


def set_by(metadata: Manifest, *path: str) -> list[str]:
    """Those by whom a field stands as it does; empty where that is not known."""
    return [str(entry.get("manager") or "") for entry in _writers(metadata, *path)]


def applied_by(metadata: Manifest, *path: str) -> str:
    """Who applies a field again and again from a manifest; empty if somebody merely set it."""
    for entry in _writers(metadata, *path):
        manager = str(entry.get("manager", ""))
        applied = entry.get("operation") == "Apply" or manager in _APPLIERS
        if applied and manager != names.FIELD_MANAGER:
            return manager
    return ""


def foreign_scheduler(cluster: str, deployment: Manifest | None) -> Problem | None:
    """What to say of a cluster whose scheduler the existing operator (dask-kubernetes) made.

    It puts all labels into the Deployment's selector, which is immutable; and its workers are Deployments, one each. A
    second set of workers beside them would be wrong, and replacing the scheduler would lose what it knows.
    """
    if deployment is None or deployment["spec"]["selector"].get("matchLabels") == selector(cluster):
        return None
    message = (
        f"the scheduler of {cluster} was made by another operator, and is left alone with its workers; "
        "delete the DaskCluster and create it again"
    )
    return Problem(Reason.MADE_BY_ANOTHER_OPERATOR, message)
