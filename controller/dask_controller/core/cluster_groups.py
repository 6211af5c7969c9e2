"""The worker groups that a cluster states, and their autoscalers: what is to be written of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dask_crds import names
from dask_crds.model import Worker, stated, without_defaults
from dask_crds.names import Annotation
from dask_resources.cluster import children
from dask_resources.metadata import remembered
from dask_resources.revision import compact, revision
from dask_resources.worker_groups import StatedGroup, stated_groups

from .actions import Action, Delete
from .child import annotated, apply_of, is_labelled, is_mine, says
from .compare import contains
from .observed import ObservedCluster
from .pod import Manifest


def missing_groups(o: ObservedCluster) -> list[StatedGroup]:
    """The groups that the cluster states and that do not exist yet."""
    there = {group.name for group in o.groups}
    groups = stated_groups(o.cluster.spec)
    return [group for group in groups if names.worker_group(o.cluster.name, group.name) not in there]


def no_longer_stated(o: ObservedCluster) -> Iterator[Delete]:
    """Groups and autoscalers that we have made, and that the cluster does not state any more.

    Those of others go on, be they owned by the cluster: dask-kubernetes makes it the controller of all of them, but
    notes no revision.
    """
    wanted = {(child.kind, child.name) for child in children(o.cluster)}
    for value in (*o.autoscalers, *o.groups):
        live = {"metadata": value.metadata}
        made_by_us = is_mine(o, live) and annotated(live, Annotation.REVISION) != ""
        if made_by_us and (value.kind, value.name) not in wanted and not value.metadata.get("deletionTimestamp"):
            yield Delete.of(value)


def group_change(o: ObservedCluster, live: Manifest, desired: dict[str, Any]) -> Action | None:
    """A worker group. Its size is handed on only when the manifest's own ``replicas`` has changed.

    Clients and ``kubectl scale`` set the size on the group itself; applying the cluster's number every time would
    undo them. A group that has got an autoscaler begins with the workers that it has.
    """
    (worker,) = (group.spec.worker for group in o.groups if group.name == desired["metadata"]["name"])
    (wanted,) = (
        group
        for group in stated_groups(o.cluster.spec)
        if names.worker_group(o.cluster.name, group.name) == desired["metadata"]["name"]
    )
    handed_on = annotated(live, Annotation.CLUSTER_REPLICAS) == annotated(desired, Annotation.CLUSTER_REPLICAS)
    if handed_on and _is_annotated(live, desired) and _is_handed_on(live, worker, desired, wanted.worker):
        return None
    if handed_on or wanted.autoscaler is not None:
        desired["spec"]["worker"]["replicas"] = worker.size
    # With the version that was read, so that a scaling in between is not undone but leads to another look.
    desired["metadata"]["resourceVersion"] = live["metadata"].get("resourceVersion")
    return apply_of(o, desired)


def autoscaler_change(o: ObservedCluster, live: Manifest, desired: Manifest) -> Action | None:
    """An autoscaler: what others add to it stays."""
    return None if says(live, desired) and _is_annotated(live, desired) else apply_of(o, desired)


def _is_annotated(live: Manifest, desired: Manifest) -> bool:
    """Whether one of our kinds has the labels and annotations of its user, and ours."""
    before, after = (annotated(one, Annotation.LAST_APPLIED) for one in (live, desired))
    return remembered(before) == remembered(after) and is_labelled(live, desired)


def _is_handed_on(manifest: Manifest, live: Worker, desired: Manifest, wanted: Worker) -> bool:
    """Whether the group has the cluster's template: what others added stays, what we stated before and no more goes."""
    if live == wanted:
        return True
    before = annotated(manifest, Annotation.REVISION)
    if not before:  # made by a release that did not note it
        return _template(live) == _template(wanted)
    there, ours = ({key: value for key, value in stated(w).items() if key != "replicas"} for w in (live, wanted))
    return before == annotated(desired, Annotation.REVISION) and contains(compact(there), compact(ours))


def _template(worker: Worker) -> str:
    """What the cluster decides about a group: all but the number."""
    return revision({key: value for key, value in without_defaults(worker).items() if key != "replicas"})
