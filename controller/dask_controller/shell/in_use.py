"""Whether the place of a cluster or job is in use, also of one that is gone: until its Pods are.

Whose a Pod is tells its controller: a worker group, or a ReplicaSet of the scheduler's Deployment, or the runner's Job.
These go before their Pods, so they are remembered as long as they have any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dask_crds import names
from dask_crds.model import DaskCluster
from dask_crds.names import Component, Label

from ..core.ownership import owner_uid
from ..core.queue import runner_may_come, scheduler_may_come
from ..core.worker_group import alive
from .caches import Caches, Key, named

#: Kinds of the controllers of our Pods.
_CONTROLLERS: Mapping[str, str] = {
    Component.SCHEDULER: "ReplicaSet",
    Component.WORKER: "DaskWorkerGroup",
    Component.JOB_RUNNER: "Job",
}


class Makers(NamedTuple):
    """What makes the Pods of a cluster or job."""

    uids: frozenset[str]
    due: bool  #: whether any of it may make one yet


def makers(caches: Caches, key: Key, uid: str) -> Makers:
    """What makes the Pods of the cluster or job that has, or had, that name and uid.

    Worker groups of a cluster are all that name it, but for those of another cluster that had its name.
    """
    return _of_job(caches, key, uid) if key.kind == "DaskJob" else _of_cluster(caches, key, uid)


def has_pods(caches: Caches, key: Key, uid: str, made_by: Makers) -> bool:
    """Whether Pods of a cluster or job are there that have not ended; takes note of what has made them."""
    assert caches.places is not None
    known = caches.places.makers.get(uid, frozenset())
    found = {maker: caches.pods.by_index((key.namespace, maker)) for maker in made_by.uids | known}
    caches.places.makers[uid] = frozenset(
        maker for maker, pods in found.items() if pods or maker in made_by.uids or _is_there(caches, key, maker)
    )
    return any(alive(pods) for pods in found.values())


def remains(caches: Caches, key: Key, uid: str, *, but: str = "") -> bool:
    """Whether something runs, or may yet, of a cluster or job that is gone.

    Args:
        caches: the watch caches.
        key: its name.
        uid: its uid.
        but: uid of what has that name now, whose Pods do not count.
    """
    assert caches.places is not None
    others = makers(caches, key, but).uids if but else frozenset()
    left = makers(caches, key, uid)
    known = caches.places.makers.get(uid, frozenset()) - others
    caches.places.makers[uid] = known
    due = left.due or any(_is_there(caches, key, maker) for maker in known)
    return has_pods(caches, key, uid, Makers(left.uids - others, left.due)) or due


def _is_there(caches: Caches, key: Key, maker: str) -> bool:
    """Whether a ReplicaSet is there, whose Deployment may have gone."""
    return bool(caches.replica_sets.by_index((key.namespace, maker)))


def of_nobody(caches: Caches, owners: frozenset[str]) -> Iterator[tuple[Key, str]]:
    """Names of clusters that are gone, as the labels of Pods have them, and what has made these.

    Args:
        caches: the watch caches.
        owners: uids of all that makes Pods of clusters and jobs that are there.
    """
    for pod in caches.pods.store.values():
        component = pod.labels.get(Label.COMPONENT, "")
        if pod.is_finished or pod.owner_uid in owners or pod.owner_kind != _CONTROLLERS.get(component, "-"):
            continue
        kind = "DaskJob" if component == Component.JOB_RUNNER else "DaskCluster"
        yield Key(kind, pod.namespace, pod.labels.get(Label.CLUSTER, "")), pod.owner_uid


def _of_cluster(caches: Caches, key: Key, uid: str) -> Makers:
    namespace, name = key.namespace, key.name
    deployment = caches.deployment(namespace, name)
    if deployment is not None and owner_uid(deployment) != uid:
        deployment = None
    sets = caches.replica_sets.by_index((namespace, deployment["metadata"]["uid"])) if deployment is not None else ()
    found = [group.manifest["metadata"] for group in caches.groups.by_index((namespace, name))]
    groups = [metadata for metadata in found if _goes_with(metadata, uid)]
    schedulers = (pod for each in sets for pod in caches.pods.by_index((namespace, each.uid)))
    due = scheduler_may_come(deployment) and not alive(schedulers)
    due = due or any(Key("DaskWorkerGroup", namespace, metadata["name"]) in caches.busy for metadata in groups)
    return Makers(frozenset([*(each.uid for each in sets), *(metadata["uid"] for metadata in groups)]), due)


def _of_job(caches: Caches, key: Key, uid: str) -> Makers:
    runner = named(caches.jobs.by_index((key.namespace, key.name)), names.runner(key.name))
    mine = runner is not None and owner_uid(runner) == uid
    uids = frozenset([runner["metadata"]["uid"]] if runner is not None and mine else ())
    due = mine and runner_may_come(runner)
    its_cluster = Key("DaskCluster", key.namespace, key.name)
    for cluster in caches.clusters.by_index(its_cluster):
        manifest = cluster.manifest
        if owner_uid(manifest) == uid:
            of_cluster = _of_cluster(caches, its_cluster, manifest["metadata"]["uid"])
            uids |= of_cluster.uids
            starts = isinstance(cluster.value, DaskCluster) and not cluster.value.spec.suspend and not cluster.deleting
            due = due or of_cluster.due or starts or its_cluster in caches.busy  # its Deployment is made
    return Makers(uids, due)


def _goes_with(metadata: Mapping[str, Any], cluster: str) -> bool:
    """Whether a group is no other cluster's than the one of that uid."""
    references = metadata.get("ownerReferences") or ()
    owners = {str(reference["uid"]) for reference in references if reference.get("kind") == "DaskCluster"}
    return not owners or cluster in owners
