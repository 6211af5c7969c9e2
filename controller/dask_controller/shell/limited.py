"""What is bounded by a limit of the operator: what the caches tell of it, and what it may do now.

What names a queue of Kueue is none of it: its queue decides.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from dask_crds import names
from dask_crds.kinds import RESOURCES
from dask_crds.model import DaskCluster, DaskJob, DaskObject, DaskWorkerGroup, InvalidManifest, parse
from dask_crds.names import Label

from ..core import shown
from ..core.cached_resource import CachedResource
from ..core.limits import LIMITED, WorkerPlaces, waits
from ..core.observed import ObservedGroup
from ..core.ownership import owner_uid
from ..core.queue import Queued, has_ended
from ..core.worker_group import alive, desired_replicas
from ..kube.client import Kubernetes
from .caches import Caches, Key
from .in_use import Makers, has_pods, makers, of_nobody, remains
from .places import Grant, Job, Places, Who
from .queued import cluster_of, job_uid


def limited_cluster(
    caches: Caches, cluster: DaskCluster, queued: Queued | None, *, its_own: bool = False
) -> Queued | None:
    """``queued``, unless the cluster waits in line.

    Args:
        caches: the watch caches.
        cluster: the cluster.
        queued: what is known of its queue.
        its_own: whether it is the cluster itself that is looked at: nobody else gives its place back.
    """
    places, key = caches.places, Key(cluster.kind, cluster.namespace, cluster.name)
    if places is None or places.limit(key) is None or job_uid(cluster):  # a job has a place for all that is its own
        return queued
    if queued is not None and queued.name:
        if its_own:
            places.leave(cluster.uid)
        return queued
    if not its_own and (granted := places.look(cluster.uid)) is not None:
        return _in_line(granted, queued, suspended=bool(cluster.spec.suspend))
    wants, who = int(not cluster.spec.suspend), _who(places, cluster, cluster.metadata)
    if its_own:
        forget(caches, who.key, but=cluster.uid)
    made_by = makers(caches, key, cluster.uid)
    has = _runs(caches, cluster, made_by) or _keeps_place(places, who, made_by)
    return _in_line(places.ask(who, wants, int(has)), queued, suspended=not wants)


def limited_job(caches: Caches, job: DaskJob, queued: Queued | None) -> Queued | None:
    """The same of a job."""
    places = caches.places
    if places is None:
        return queued
    who = _who(places, job, job.metadata)
    forget(caches, who.key, but=job.uid)
    _note(places, who, job)
    if places.limit(who.key) is None:
        return queued
    if queued is not None and queued.name:
        places.leave(job.uid)
        return queued
    ended = has_ended(job)
    wants, has = int(not (job.spec.suspend or ended)), False
    if not ended:
        made_by = makers(caches, who.key, job.uid)
        has = _job_runs(caches, job, made_by) or _keeps_place(places, who, made_by)
    return _in_line(places.ask(who, wants, int(has)), queued, suspended=not wants)


def limited_group(caches: Caches, o: ObservedGroup) -> WorkerPlaces | None:
    """How many workers a group may have; ``None`` for no limit."""
    places, group, cluster = caches.places, o.group, o.cluster
    if places is None or places.limit(Key(group.kind, group.namespace, group.name)) is None:
        return None
    if o.queue is not None and o.queue.limits:
        places.leave(group.uid)
        return None
    who = _whose_workers(places, group, cluster)
    forget(caches, who.key, but=group.uid)
    granted = places.ask(who, desired_replicas(o), alive(o.pods))
    return WorkerPlaces(granted.places, granted.limit) if granted is not None else None


def forget(caches: Caches, key: Key, *, but: str = "") -> None:
    """Take note that a resource is gone, or going; what it has made has its places until that is gone, too.

    Args:
        caches: the watch caches.
        key: the resource.
        but: uid of what has that name now.
    """
    places = caches.places
    if places is None:
        return

    def has(uid: str) -> int:
        if key.kind == "DaskWorkerGroup":
            return alive(caches.pods.by_index((key.namespace, uid)))
        if not remains(caches, key, uid, but=but):
            return 0
        places.look_again(key)  # who watches Pods of workers wakes their group
        return 1

    if key.kind in LIMITED:
        places.gone(key, has, but=but)


async def take_places(caches: Caches, kubernetes: Kubernetes, namespaces: Sequence[str] | None) -> None:
    """Have whatever runs take its place, before anything is decided; then let in who is first.

    Raises:
        ApiError: the jobs, which are in no cache, cannot be listed.
    """
    places = caches.places
    if places is None:
        return
    scopes: Sequence[str | None] = namespaces or [None]
    there, ended = set[str](), set[Key]()
    for namespace in scopes:
        async with contextlib.aclosing(kubernetes.pages(RESOURCES["DaskJob"], namespace)) as pages:
            async for page in pages:
                for job in _readable(page.items):
                    there |= _take_job(caches, places, job)
                    if has_ended(job):
                        ended.add(Key(job.kind, job.namespace, job.name))
    for found in caches.clusters.store.values():
        there |= _take_cluster(caches, places, found)
    for found in caches.groups.store.values():
        group = None if found.deleting else found.value
        if isinstance(group, DaskWorkerGroup):
            _take_group(caches, places, group)
    _take_remains(caches, places, frozenset(there), ended)
    places.share()


def _take_job(caches: Caches, places: Places, job: DaskJob) -> frozenset[str]:
    """Returns what makes its Pods."""
    who = _who(places, job, job.metadata)
    _note(places, who, job)
    made_by = makers(caches, who.key, job.uid)
    if places.limit(who.key) is not None and not _names_queue(job) and not has_ended(job):
        wants = int(not (job.spec.suspend or job.metadata.get("deletionTimestamp")))
        places.ask(who, wants, int(_job_runs(caches, job, made_by)), share=False)
    return made_by.uids


def _take_cluster(caches: Caches, places: Places, found: CachedResource) -> frozenset[str]:
    """The same of a cluster."""
    key = Key(found.kind, found.namespace, found.name)
    made_by = makers(caches, key, str(found.manifest["metadata"]["uid"]))
    cluster = found.value
    if (
        places.limit(key) is not None
        and isinstance(cluster, DaskCluster)
        and not (job_uid(cluster) or _names_queue(cluster))
    ):
        wants = int(not (cluster.spec.suspend or found.deleting))
        places.ask(_who(places, cluster, cluster.metadata), wants, int(_runs(caches, cluster, made_by)), share=False)
    return made_by.uids


def _take_group(caches: Caches, places: Places, group: DaskWorkerGroup) -> None:
    """What it wants is what it wanted when it was looked at last; its next look corrects that."""
    cluster, has = caches.cluster(group.namespace, group.spec.cluster), alive(caches.workers_of(group))
    if cluster is None or not _names_queue(cluster):
        wants = max(has, group.status.desired_replicas or 0)
        places.ask(_whose_workers(places, group, cluster), wants, has, share=False)


def _take_remains(caches: Caches, places: Places, there: frozenset[str], ended: Collection[Key]) -> None:
    """What is left of those that are gone has their places; nobody knows whose they were.

    Nor whether a cluster was a job's, so it has a place of either kind.
    """
    left = defaultdict[Key, set[str]](set)
    for key, maker in of_nobody(caches, there):
        of_job = key._replace(kind="DaskJob")
        for each in (key, of_job):
            if of_job not in ended:
                left[each].add(maker)
    for key, uids in left.items():
        who = Who(key, f"what is left of {key}", "", "")
        if places.ask(who, 0, 1, share=False) is not None:
            places.makers[who.uid] = frozenset(uids)
            places.look_again(key)


def _in_line(granted: Grant | None, queued: Queued | None, *, suspended: bool) -> Queued | None:
    if granted is None or granted.places or suspended:
        return queued
    return replace(queued or Queued(name=""), limited=waits(granted.limit, granted.position))


def _who(places: Places, it: DaskObject, whose: Mapping[str, Any]) -> Who:
    """Who claims places; ``whose`` is the metadata of what tells the owner."""
    owner = shown.owner(whose.get("labels"), whose.get("annotations"), places.owner_key)
    key = Key(it.kind, it.namespace, it.name)
    return Who(key, it.uid, str(it.metadata.get("creationTimestamp") or ""), owner)


def _whose_workers(places: Places, group: DaskWorkerGroup, cluster: DaskCluster | None) -> Who:
    """Who claims places for the workers of a group: whose its cluster is, or the job that has made that."""
    if cluster is None:  # it has gone: its workers go, and count where they have counted
        who, known = _who(places, group, group.metadata), places.owner(group.uid)
        return who if known is None else who._replace(owner=known)
    who = _who(places, group, cluster.metadata)
    if not (of_job := job_uid(cluster)):
        return who
    job = places.jobs.get(Key("DaskJob", cluster.namespace, cluster.name))
    if job is None or job.uid != of_job:
        return who._replace(owner="")
    return who._replace(owner=job.owner, run=job.uid, least=job.least)


def _note(places: Places, who: Who, job: DaskJob) -> None:
    """Take note of a job for the workers of its cluster; what runs waits for none."""
    least = 0 if job.status.job_status == "Running" else job.spec.minimum_ready_workers or 0
    places.note(who.key, Job(job.uid, who.owner, least))


def _names_queue(it: DaskObject) -> bool:
    return bool((it.metadata.get("labels") or {}).get(Label.QUEUE))


def _keeps_place(places: Places, who: Who, made_by: Makers) -> bool:
    """Whether somebody has a place because Pods may come yet, of which no watch tells when that is over.

    Of one that waits that would be no reason to let it in.
    """
    granted = places.look(who.uid)
    keeps = made_by.due and granted is not None and granted.places > 0
    if keeps:
        places.look_again(who.key)
    return keeps


def _runs(caches: Caches, cluster: DaskCluster, made_by: Makers) -> bool:
    """Whether anything of a cluster runs, is about to, or is not gone yet: whoever says so has a place for it."""
    runs = has_pods(caches, Key(cluster.kind, cluster.namespace, cluster.name), cluster.uid, made_by)
    return runs or _has_scheduler(caches, cluster)


def _job_runs(caches: Caches, job: DaskJob, made_by: Makers) -> bool:
    """Whether anything of a job runs, likewise."""
    runs, cluster = has_pods(caches, Key(job.kind, job.namespace, job.name), job.uid, made_by), cluster_of(caches, job)
    return runs or (cluster is not None and (not cluster.spec.suspend or _has_scheduler(caches, cluster)))


def _has_scheduler(caches: Caches, cluster: DaskCluster) -> bool:
    deployment = caches.deployment(cluster.namespace, cluster.name)
    mine = deployment is not None and owner_uid(deployment) == cluster.uid
    return mine and bool((deployment or {})["spec"].get("replicas"))


def _readable(items: Iterable[msgspec.Raw]) -> Iterator[DaskJob]:
    """Of an unreadable one nothing runs, or its own status says that it is left alone."""
    for item in items:
        with contextlib.suppress(InvalidManifest):
            job = parse({**msgspec.json.decode(item), "apiVersion": names.API_VERSION, "kind": "DaskJob"})
            if isinstance(job, DaskJob):
                yield job
