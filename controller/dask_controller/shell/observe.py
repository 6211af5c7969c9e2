"""From a resource to a snapshot: its children come from the watch caches, what these cannot tell is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from dask_crds import names
from dask_crds.model import KINDS, DaskAutoscaler, DaskCluster, DaskJob, DaskObject, DaskWorkerGroup
from dask_crds.names import Component, Label
from dask_crds.reasons import Reason
from dask_resources.cluster import children as children_of
from dask_resources.scheduler import scheduler_deployment

from ..core import children
from ..core.autoscaler import target
from ..core.observed import (
    Observed,
    ObservedAutoscaler,
    ObservedCluster,
    ObservedGroup,
    ObservedJob,
    Sibling,
)
from ..core.ownership import owner_uid
from ..core.pod import LONGEST_MESSAGE, Pod, Problem, quoted
from ..core.run import Run
from ..core.time import time_or
from ..kube.api import ApiError
from ..kube.client import Kubernetes
from .caches import Caches, named

#: Seconds for which the list of a group's Pods counts as fresh.
FRESH_SECONDS = 5.0
#: Seconds after which it is looked why a Pod waits on its node, and how often: most start earlier.
UNEXPLAINED_SECONDS = 15.0


def observe(value: DaskObject, caches: Caches) -> Observed:
    """The snapshot for one custom resource."""
    snapshot: Observed = _SNAPSHOTS[type(value)](value, caches)
    return snapshot


class Observer:
    """Makes snapshots, and asks the API server for what the caches cannot tell.

    Args:
        kubernetes: the client.
        caches: the watch caches.
        clock: seconds since the epoch.
    """

    def __init__(self, kubernetes: Kubernetes, caches: Caches, clock: Callable[[], float]) -> None:
        self._kubernetes = kubernetes
        self._caches = caches
        self._clock = clock
        self._fresh: dict[str, float] = {}  # groups, and until when the list of their Pods counts as fresh

    def cached(self, value: DaskObject) -> Observed | None:
        """The snapshot, if the caches suffice for it."""
        observed = observe(value, self._caches)
        enough = _LOOKS[type(observed)].is_enough(self, observed) and _unexplained(observed, self._clock()) is None
        return observed if enough else None

    async def observe(self, value: DaskObject) -> tuple[Observed, Problem | None]:
        """The snapshot, and why nothing can be decided with it, if so."""
        observed = observe(value, self._caches)
        for look in _LOOKS[type(observed)].looks:
            found = await look(self, observed)
            if isinstance(found, Problem):
                return observed, found
            observed = found
        return observed, None

    async def with_fresh_pods(self, o: Observed, group: DaskWorkerGroup) -> Observed:
        """With a fresh list of the group's Pods, before any is made: a stale cache must not lead to one too many.

        Once for the steps that follow one another: what we make meanwhile we know. Then it is ``o`` itself.
        """
        clock = asyncio.get_running_loop().time()
        self._fresh = {uid: until for uid, until in self._fresh.items() if until > clock}
        if group.uid in self._fresh:
            return o
        labels, known = f"{Label.WORKER_GROUP}={group.name}", {p.name for p in self._caches.workers_of(group)}
        if not await self._kubernetes.names("Pod", group.namespace, labels=labels) <= known:
            for manifest in await self._kubernetes.list("Pod", group.namespace, labels=labels):
                self._caches.pods.put(manifest)
        self._fresh[group.uid] = clock + FRESH_SECONDS  # not before: the list may have failed
        return msgspec.structs.replace(observe(group, self._caches), answers=o.answers)

    async def _with_cluster(self, o: ObservedGroup) -> Observed:
        """With its cluster: workers go when that is gone, which is not believed of a cache that may lag behind."""
        if o.cluster is None and o.pods and (cluster := await self._kubernetes.get("DaskCluster", *o.cluster_key)):
            self._caches.clusters.put(cluster)
            return observe(o.group, self._caches)
        return o

    async def _unless_unreadable(self, o: ObservedGroup | ObservedJob) -> Observed | Problem:
        """The same, unless its cluster is there and cannot be read."""
        if o.cluster is not None or not self._caches.is_unreadable(*o.cluster_key):
            return o
        what = f"DaskCluster {o.cluster_key[1]} cannot be read, its status says why"
        return Problem(Reason.CLUSTER_UNREADABLE, f"{what}; its Pods are left alone until then")

    def _unseen(self, o: ObservedCluster) -> list[Mapping[str, Any]]:
        """The children of which it is not known whether they are as stated: somebody may have changed them."""
        found = [o.children.get("ConfigMap"), None if children.is_held(o) else o.deployment]
        return [live for live in found if live and children.is_mine(o, live) and not self._caches.is_verified(live)]

    async def _looked_over(self, o: ObservedCluster) -> ObservedCluster:
        """With the whole of those children that somebody has changed in what we state."""
        for seen in self._unseen(o):
            kind = "Deployment" if seen is o.deployment else "ConfigMap"
            metadata = seen["metadata"]
            found = await self._kubernetes.list(kind, metadata["namespace"], fields=f"metadata.name={metadata['name']}")
            live = next((one for one in found if one["metadata"]["uid"] == metadata["uid"]), None)
            if live is None:
                continue
            # `data` is left out where there is none.
            looked = msgspec.structs.replace(o, children={**o.children, kind: {"data": {}, **live}})
            if children.stands(looked, kind) or (kind == "Deployment" and await self._stands_as_stored(looked)):
                self._caches.verify(live)
            else:
                o = looked
        return o

    async def _stands_as_stored(self, o: ObservedCluster) -> bool:
        """Whether the Deployment is as stated if what we state is written as the API server would write it."""
        try:
            stored = await self._kubernetes.apply(scheduler_deployment(o.cluster, signed=o.signed), dry_run=True)
        except ApiError as error:
            if error.status != 422:
                raise
            return False  # ours does not go together with what somebody has made of it
        return children.stands_as_stored(o, stored)

    async def _explained(self, o: Observed) -> Observed:
        """With the reason why a Pod waits on its node, if only an event tells: volumes, networks, Secrets."""
        pod = _unexplained(o, self._clock())
        if pod is None:
            return o
        fields = f"involvedObject.uid={pod.uid},type=Warning"
        events = await self._kubernetes.list("Event", pod.namespace, fields=fields)
        last = max(events, key=_last_seen, default=None)
        if last is None:
            return o
        problem = quoted(last.get("reason") or "Warning", f"{pod.name}: {last.get('message')}")
        explained = msgspec.structs.replace(pod, problem=problem)
        pods = tuple(explained if p is pod else p for p in _pods(o))
        return msgspec.structs.replace(o, **{_LOOKS[type(o)].pods: pods})

    async def _found_again(self, o: ObservedJob) -> ObservedJob:
        """With the runner of a run that goes on, if it is but out of sight: somebody has taken our labels away.

        A run whose runner is gone has ended, and that cannot be taken back.
        """
        if o.runner is not None or o.job.status.job_status != "Running":
            return o
        name = names.runner(o.job.name)
        found = await self._kubernetes.list("Job", o.job.namespace, fields=f"metadata.name={name}")
        live = next((job for job in found if owner_uid(job) == o.job.uid), None)
        if live is None:
            return o
        labels = {Label.CLUSTER: o.job.name, Label.COMPONENT: Component.JOB_RUNNER}
        patch = {"metadata": {"uid": live["metadata"]["uid"], "labels": labels}}
        self._caches.jobs.put(await self._kubernetes.patch("Job", o.job.namespace, name, patch))
        again = observe(o.job, self._caches)
        assert isinstance(again, ObservedJob)
        return again

    async def _refused(self, o: ObservedJob) -> ObservedJob:
        """With the reason why Kubernetes makes no Pod of the runner, if it makes none: only an event tells."""
        runner = Run(o, self._clock()).runner
        since = runner.refusals_count_from if runner is not None else None
        if runner is None or since is None:
            return o
        fields = f"involvedObject.uid={runner.uid},reason={Reason.FAILED_CREATE}"
        events = await self._kubernetes.list("Event", runner.namespace, fields=fields)
        last = max(events, key=_last_seen, default=None)
        if last is None or not (seen := _last_seen(last)) or time_or(seen, 0.0) < since:
            return o
        groups = self._caches.groups_of(o.job.namespace, o.job.name)
        return msgspec.structs.replace(
            o,
            creation_problem=str(last.get("message") or "")[:LONGEST_MESSAGE],
            leaving=sum(pod.deleting for group in groups for pod in self._caches.workers_of(group)),
        )


def _living(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """Those that have not ended: an evicted scheduler's Pod stays beside its successor's."""
    return tuple(pod for pod in pods if not pod.is_finished)


def _scheduler_pods(cluster: DaskCluster | None, caches: Caches) -> tuple[Pod, ...]:
    return _living(caches.scheduler_pods(cluster)) if cluster is not None else ()


def _cluster(cluster: DaskCluster, caches: Caches) -> ObservedCluster:
    key = cluster.namespace, cluster.name
    pods = caches.scheduler_pods(cluster)
    ended = (pod for pod in pods if pod.is_finished)
    last = max(ended, key=lambda pod: pod.created, default=None)
    groups = caches.groups_of(*key)
    found = {
        child.kind: live
        for child in children_of(cluster)
        if child.kind not in KINDS
        and (live := named(caches.informers[child.kind].by_index(key), child.name)) is not None
    }
    default = [{"metadata": g.metadata} for g in groups if g.name == names.default_group(cluster.name)]
    return ObservedCluster(
        cluster=cluster,
        children=found,
        groups=groups,
        settled=caches.settled(*found.values(), *default),
        scheduler_pods=_living(pods),
        last_problem=last.problem if last is not None else None,
        signing=caches.keyring.signing(cluster),
    )


def _group(group: DaskWorkerGroup, caches: Caches) -> ObservedGroup:
    cluster = caches.cluster(group.namespace, group.spec.cluster)
    return ObservedGroup(
        group=group,
        cluster=cluster,
        autoscaler=caches.autoscaler_of(group),
        pods=caches.workers_of(group),
        taken=caches.taken(group.namespace, group.name),
        scheduler_pods=_scheduler_pods(cluster, caches),
        scheduler_deployment=caches.deployment(group.namespace, group.spec.cluster),
    )


def _job(job: DaskJob, caches: Caches) -> ObservedJob:
    key = job.namespace, job.name
    found: Any = next(iter(caches.clusters.by_index(key)), None)
    cluster = found.value if found is not None and isinstance(found.value, DaskCluster) else None
    return ObservedJob(
        job=job,
        cluster=cluster,
        runner=named(caches.jobs.by_index(key), names.runner(job.name)),
        pods=tuple(caches.pods.by_index((*key, Component.JOB_RUNNER))),
        scheduler_pods=_scheduler_pods(cluster, caches),
        service=named(caches.services.by_index(key), names.scheduler(job.name)),
        leftovers=caches.leftover_schedulers(*key),
    )


def _autoscaler(autoscaler: DaskAutoscaler, caches: Caches) -> ObservedAutoscaler:
    namespace, name = autoscaler.namespace, target(autoscaler)
    cluster = caches.cluster(namespace, autoscaler.spec.cluster)
    groups = caches.groups_of(namespace, autoscaler.spec.cluster)
    group = next((g for g in groups if g.name == name), None)
    first = caches.autoscaler_of(group, autoscaler) if group else None
    return ObservedAutoscaler(
        autoscaler=autoscaler,
        rival=first if first is not None and first.name != autoscaler.name else None,
        group=group,
        cluster=cluster,
        pods=caches.workers_of(group) if group else (),
        siblings=tuple(
            Sibling(group=g, autoscaler=caches.autoscaler_of(g), pods=caches.workers_of(g))
            for g in groups
            if g is not group
        ),
        scheduler_pods=_scheduler_pods(cluster, caches),
    )


_SNAPSHOTS: dict[type[DaskObject], Callable[[Any, Caches], Observed]] = {
    DaskCluster: _cluster,
    DaskWorkerGroup: _group,
    DaskJob: _job,
    DaskAutoscaler: _autoscaler,
}


class _Looks(NamedTuple):
    """What is looked at to see what the caches cannot tell of a kind."""

    #: At the API server, in turn: gives the snapshot with what was found, or why nothing can be decided with it.
    looks: tuple[Callable[[Observer, Any], Awaitable[Observed | Problem]], ...] = ()
    #: Whether the caches suffice, so that none of these is needed but that at Events of Pods.
    is_enough: Callable[[Observer, Any], bool] = lambda _, __: True
    pods: str = ""  #: the field with the Pods whose state its status tells of


_LOOKS: dict[type[Observed], _Looks] = {
    ObservedCluster: _Looks(
        looks=(Observer._explained, Observer._looked_over),
        # Who has suspended it is told by its managed fields, which are not cached.
        is_enough=lambda observer, o: not (o.cluster.spec.suspend or observer._unseen(o)),
        pods="scheduler_pods",
    ),
    ObservedGroup: _Looks(
        looks=(Observer._with_cluster, Observer._unless_unreadable, Observer._explained),
        is_enough=lambda _, o: o.cluster is not None,
        pods="pods",
    ),
    ObservedJob: _Looks(
        looks=(Observer._unless_unreadable, Observer._explained, Observer._found_again, Observer._refused),
        is_enough=lambda _, __: False,
        pods="pods",
    ),
    ObservedAutoscaler: _Looks(),
}


def _pods(o: Observed) -> tuple[Pod, ...]:
    pods: tuple[Pod, ...] = getattr(o, _LOOKS[type(o)].pods, ())
    return pods


def _waits_on_its_node(pod: Pod) -> bool:
    return pod.phase == "Pending" and pod.problem is None and pod.started is not None and not pod.deleting


def has_waiting_pods(o: Observed) -> bool:
    """Whether a Pod waits on its node, and nobody has said why."""
    return any(map(_waits_on_its_node, _pods(o)))


def _unexplained(o: Observed, now: float) -> Pod | None:
    """A Pod that has been waiting on its node for so long that there is a reason."""
    waiting = (p for p in _pods(o) if _waits_on_its_node(p) and now - p.created >= UNEXPLAINED_SECONDS)
    return min(waiting, key=lambda p: p.created, default=None)


def _last_seen(event: Mapping[str, Any]) -> str:
    times = (event.get("lastTimestamp"), (event.get("series") or {}).get("lastObservedTime"), event.get("eventTime"))
    return next((time for time in times if time), "")
