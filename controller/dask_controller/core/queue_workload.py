"""What is kept of the objects of Kueue: Workloads of ours, and what a flavor means to a Pod.

The words: quota is *reserved*, and *admitted* once all admission checks agree too. A Workload that is *evicted* keeps
its quota until whoever runs its Pods says that they are gone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from msgspec import Struct

from dask_crds.names import Annotation, Label
from dask_crds.reasons import Reason
from dask_resources.metadata import noted
from dask_resources.queue import Placement

from .cached_child import clipped
from .ownership import annotation
from .pod import LONGEST_NAME, Manifest, Problem
from .time import Time, time_or

#: Conditions that are kept of a Workload, which are the most that it can have.
_MOST_CONDITIONS = 16


class Flavor(Struct, frozen=True, gc=False):
    """A ResourceFlavor: the nodes that quota is for."""

    name: str
    node_labels: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]


class PriorityClass(Struct, frozen=True, gc=False):
    """A WorkloadPriorityClass."""

    name: str
    value: int


class Assigned(Struct, frozen=True, gc=False):
    """What has been granted to a PodSet."""

    count: int
    flavors: tuple[str, ...]
    updates: tuple[Mapping[str, Any], ...] = ()  #: of admission checks


class Workload(Struct, frozen=True, kw_only=True):
    """A Workload of ours."""

    kind: ClassVar[str] = "Workload"

    name: str
    namespace: str
    uid: str
    resource_version: str
    owner_kind: str
    owner_name: str
    owner_uid: str
    cluster: str  #: named by the label
    role: str
    created: Time
    deleting: bool = False
    queue: str = ""
    priority: int = 0
    priority_class: str = ""
    active: bool = True
    revisions: Mapping[str, str] = {}  #: hash of the template that it was made from, by PodSet
    counts: Mapping[str, int] = {}  #: Pods that are asked for, by PodSet
    cluster_queue: str = ""
    assigned: Mapping[str, Assigned] = {}  #: by PodSet; empty without quota
    awaits: str = ""  #: the admission check that has not agreed yet, and what it says
    conditions: tuple[Mapping[str, Any], ...] = ()

    def condition(self, type: str) -> Mapping[str, Any]:
        """The condition of that type; empty without it."""
        return next((c for c in self.conditions if c.get("type") == type), {})

    def _is(self, type: str) -> bool:
        return self.condition(type).get("status") == "True"

    @property
    def is_reserved(self) -> bool:
        """Whether it holds quota."""
        return self._is("QuotaReserved")

    @property
    def is_evicted(self) -> bool:
        """Whether its quota was taken back, or is to be given back."""
        return self._is("Evicted")

    @property
    def is_finished(self) -> bool:
        """Whether it has ended for good."""
        return self._is("Finished")

    @property
    def is_pending(self) -> bool:
        """Whether it is in line for quota."""
        return self.active and not (self.is_reserved or self.is_finished or self.deleting)

    @property
    def is_admitted(self) -> bool:
        """Whether its Pods may run."""
        return self._is("Admitted") and not (self.is_evicted or self.is_finished or self.deleting)


def workload(manifest: Manifest) -> Workload:
    """What is kept of a Workload. It is ours by its owner alone; anybody may have written the rest."""
    metadata, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
    owner: Manifest = next((o for o in metadata.get("ownerReferences") or () if o.get("controller")), {})
    labels, admission = metadata.get("labels") or {}, status.get("admission") or {}
    conditions = (status.get("conditions") or ())[:_MOST_CONDITIONS]
    return Workload(
        name=metadata["name"],
        namespace=sys.intern(metadata["namespace"]),
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        owner_kind=str(owner.get("kind") or ""),
        owner_name=str(owner.get("name") or "")[:LONGEST_NAME],
        owner_uid=str(owner.get("uid") or ""),
        cluster=str(labels.get(Label.CLUSTER) or ""),
        role=str(labels.get(Label.QUEUE_ROLE) or ""),
        created=time_or(metadata.get("creationTimestamp") or "", 0.0),
        deleting=bool(metadata.get("deletionTimestamp")),
        queue=spec.get("queueName") or "",
        priority=spec.get("priority") or 0,
        priority_class=(spec.get("priorityClassRef") or {}).get("name") or "",
        active=spec.get("active") is not False,
        revisions=noted_revisions(annotation(metadata, Annotation.REVISION)),
        counts={s["name"]: s.get("count", 1) for s in spec.get("podSets") or ()},
        cluster_queue=admission.get("clusterQueue") or "",
        assigned=_assigned(admission, status.get("admissionChecks") or ()),
        awaits=_awaits(status.get("admissionChecks") or ()),
        conditions=tuple({key: clipped(value) for key, value in c.items()} for c in conditions),
    )


def _awaits(checks: Sequence[Manifest]) -> str:
    check = next((check for check in checks if check.get("state") != "Ready"), None)
    if check is None:
        return ""
    message = str(check.get("message") or "")
    return str(clipped(f"{check.get('name')} is {check.get('state')}" + (f", {message}" if message else "")))


def waited(old: Workload | None, new: Workload | None) -> float | None:
    """Seconds from when a Workload was queued until it was admitted, if that is what has changed, else ``None``.

    One that was evicted is queued again when its quota was given back, and Kueue lets it.
    """
    if old is None or new is None or old.uid != new.uid or old.is_admitted or not new.is_admitted:
        return None

    def since(of: Workload, type: str, status: str) -> Time:
        found = of.condition(type)
        return time_or(str(found.get("lastTransitionTime") or ""), 0.0) if found.get("status") == status else 0.0

    again = max(since(old, "Requeued", "True"), since(old, "QuotaReserved", "False"))
    queued = max(new.created, again) if old.condition("Requeued") else new.created
    return max(0.0, since(new, "Admitted", "True") - queued)


def _assigned(admission: Manifest, checks: Sequence[Manifest]) -> dict[str, Assigned]:
    updates = [update for check in checks for update in check.get("podSetUpdates") or ()]
    return {
        s["name"]: Assigned(
            s.get("count", 0),
            tuple(sorted(set((s.get("flavors") or {}).values()))),
            tuple(update for update in updates if update.get("name") == s["name"]),
        )
        for s in admission.get("podSetAssignments") or ()
    }


def noted_revisions(text: str) -> dict[str, str]:
    """The templates of a Workload, each by its hash, from our annotation; of what anybody else wrote there, none."""
    return {key: str(value) for key, value in noted(text).items()}


def flavor(manifest: Manifest) -> Flavor:
    """What is kept of a ResourceFlavor."""
    spec = manifest.get("spec") or {}
    return Flavor(manifest["metadata"]["name"], spec.get("nodeLabels") or {}, tuple(spec.get("tolerations") or ()))


def priority_class(manifest: Manifest) -> PriorityClass:
    """What is kept of a WorkloadPriorityClass."""
    return PriorityClass(manifest["metadata"]["name"], int(manifest.get("value") or 0))


def placement(
    of: Workload, pod_set: str, flavors: Mapping[str, Flavor], spec: Mapping[str, Any]
) -> Placement | Problem:
    """Where the Pods of a PodSet are to run.

    Args:
        of: the Workload.
        pod_set: its name.
        flavors: all that are known, by name.
        spec: PodSpec of the user, which must not say otherwise.
    """
    assigned = of.assigned.get(pod_set, Assigned(0, ()))
    if unknown := next((name for name in assigned.flavors if name not in flavors), None):
        return Problem(Reason.QUEUE_UNAVAILABLE, f"ResourceFlavor {unknown} of Workload {of.name} cannot be read")
    granted = [flavors[name] for name in assigned.flavors]
    merged: dict[str, dict[str, str]] = {"nodeSelector": {}, "labels": {}, "annotations": {}}
    parts = [{"nodeSelector": f.node_labels} for f in granted] + list(assigned.updates)
    parts.append({"nodeSelector": spec.get("nodeSelector") or {}})
    for part, field in ((part, field) for part in parts for field in merged):
        for key, value in (part.get(field) or {}).items():
            if merged[field].setdefault(key, value) != value:
                text = f"{field} {key}: both {merged[field][key]!r} and {value!r} are wanted of PodSet {pod_set}"
                return Problem(Reason.PLACEMENT_CONFLICT, text)
    tolerations = [t for f in granted for t in f.tolerations]
    tolerations += [t for update in assigned.updates for t in update.get("tolerations") or ()]
    own = spec.get("nodeSelector") or {}
    return Placement(
        node_selector={key: value for key, value in merged["nodeSelector"].items() if key not in own},
        tolerations=tuple(tolerations),
        labels=merged["labels"],
        annotations=merged["annotations"],
    )
