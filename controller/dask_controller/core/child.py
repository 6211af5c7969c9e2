"""One child of a cluster as it is there: whose it is, whether it says what we state, and how it is written."""

from __future__ import annotations

import hashlib
import json

from dask_crds.names import Annotation, Label
from dask_resources.revision import compact

from .actions import Apply, Delete, Patch
from .compare import contains
from .observed import ObservedCluster
from .ownership import annotation, owner_uid
from .pod import Manifest

#: Labels by which children are found.
LABELS = (Label.CLUSTER, Label.COMPONENT)


def is_mine(o: ObservedCluster, live: Manifest) -> bool:
    """Whether a child is ours to write: controlled by this very cluster."""
    return owner_uid(live) == o.cluster.uid


def says(live: Manifest, desired: Manifest) -> bool:
    """Whether the spec of a child is as stated, and its labels and revision."""
    there, ours = compact(live["spec"]), compact(desired["spec"])
    # What somebody adds to a selector is no addition: it selects other Pods then, or none.
    same = contains(there, ours) and ours.get("selector", {}) == there.get("selector", {})
    return same and is_labelled(live, desired) and is_revised(live, desired)


def is_labelled(live: Manifest, desired: Manifest) -> bool:
    """Whether a child has the labels by which clients find it."""
    labels, wanted = live["metadata"].get("labels") or {}, desired["metadata"]["labels"]
    return all(labels.get(key) == wanted[key] for key in LABELS if key in wanted)


def is_revised(live: Manifest, desired: Manifest) -> bool:
    """Whether a child was made of what is stated now, as far as it notes that."""
    return annotated(desired, Annotation.REVISION) in ("", annotated(live, Annotation.REVISION))


def annotated(manifest: Manifest, key: str) -> str:
    """An annotation of a child; one that is empty is none."""
    return annotation(manifest["metadata"], key)


def patch_of(live: Manifest, desired: Manifest, patch: Manifest) -> Patch:
    """A patch of exactly the child that is there."""
    metadata = desired["metadata"]
    return Patch(desired["kind"], metadata["namespace"], metadata["name"], patch, live["metadata"]["uid"])


def delete_of(live: Manifest, desired: Manifest) -> Delete:
    """The deletion of exactly the child that is there."""
    metadata = desired["metadata"]
    return Delete(desired["kind"], metadata["namespace"], metadata["name"], live["metadata"]["uid"])


def apply_of(o: ObservedCluster, desired: Manifest) -> Apply | None:
    """What we state is applied, unless it is known to change nothing."""
    return None if fingerprint(desired) in o.settled else Apply(desired)


def fingerprint(manifest: Manifest) -> str:
    """Stands for what is applied, whatever the version that it was compared with."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "resourceVersion"}
    text = json.dumps({**manifest, "metadata": metadata}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
