"""From a resource to a snapshot: its children come from the watch caches, what these cannot tell is asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from dask_crds import names
from dask_crds.model import DaskObject, DaskWorkerGroup
from dask_crds.names import Component, Label
from dask_crds.reasons import Reason
from dask_resources.scheduler import scheduler_deployment

from ..core import children
from ..core.cached_child import clipped
from ..core.child import is_mine
from ..core.job import has_last_word
from ..core.observed import Observed, ObservedCluster, ObservedGroup, ObservedJob
from ..core.ownership import owner_uid
from ..core.pod import LONGEST_MESSAGE, Manifest, Pod, Problem, quoted
from ..core.record import MOST_FAILED, Failure, Traces, failed, failures, happened
from ..core.run import Run
from ..core.time import time_or
from ..core.worker_ends import failed_and_going
from ..kube.api import ApiError
from ..kube.client import Kubernetes
from .caches import Caches

#: Seconds for which the list of a group's Pods counts as fresh.
FRESH_SECONDS = 5.0
#: Seconds after which it is looked why a Pod waits on its node, and how often: most start earlier.
UNEXPLAINED_SECONDS = 15.0
#: Events about an object that are read, and what of them.
MOST_EVENTS = 200
_OF_EVENTS = {
    "type",
    "reason",
    "message",
    "involvedObject",
    "firstTimestamp",
    "lastTimestamp",
    "eventTime",
    "series",
}


class Observer:
    """Makes snapshots, and asks the API server for what the caches cannot tell.

    Args:
        kubernetes: the client.
        caches: the watch caches.
        snapshot: makes one of what they hold.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        caches: Caches,
        snapshot: Callable[[DaskObject], Observed],
        clock: Callable[[], float],
    ) -> None:
        self._kubernetes = kubernetes
        self._caches = caches
        self._snapshot = snapshot
        self._clock = clock
        self._fresh: dict[str, float] = {}  # groups, and until when the list of their Pods counts as fresh

    def cached(self, value: DaskObject) -> Observed | None:
        """The snapshot, if the caches suffice for it."""
        observed = self._snapshot(value)
        enough = _looks(observed).is_enough(self, observed) and _unexplained(observed, self._clock()) is None
        return observed if enough else None

    async def observe(self, value: DaskObject) -> tuple[Observed, Problem | None]:
        """The snapshot, and why nothing can be decided with it, if so."""
        observed = self._snapshot(value)
        for look in _looks(observed).looks:
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
            async for manifest in self._kubernetes.each("Pod", group.namespace, labels=labels):
                self._caches.pods.put(manifest)
        self._fresh[group.uid] = clock + FRESH_SECONDS  # not before: the list may have failed
        return msgspec.structs.replace(self._snapshot(group), answers=o.answers)

    async def _with_cluster(self, o: ObservedGroup) -> Observed:
        """With its cluster: workers go when that is gone, which is not believed of a cache that may lag behind."""
        if o.cluster is None and o.pods and (cluster := await self._kubernetes.get("DaskCluster", *o.cluster_key)):
            self._caches.clusters.put(cluster)
            return self._snapshot(o.group)
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
        return [live for live in found if live and is_mine(o, live) and not self._caches.is_verified(live)]

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
        events = await self._events(pod.namespace, fields)
        last = max(events, key=_last_seen, default=None)
        if last is None:
            return o
        problem = quoted(last.get("reason") or "Warning", f"{pod.name}: {last.get('message')}")
        explained = msgspec.structs.replace(pod, problem=problem)
        pods = tuple(explained if p is pod else p for p in _pods(o))
        return msgspec.structs.replace(o, **{_looks(o).pods: pods})

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
        again = self._snapshot(o.job)
        assert isinstance(again, ObservedJob)
        return again

    async def _refused(self, o: ObservedJob) -> ObservedJob:
        """With the reason why Kubernetes makes no Pod of the runner, if it makes none: only an event tells."""
        runner = Run(o, self._clock()).runner
        since = runner.refusals_count_from if runner is not None else None
        if runner is None or since is None:
            return o
        fields = f"involvedObject.uid={runner.uid},reason={Reason.FAILED_CREATE}"
        events = await self._events(runner.namespace, fields)
        last = max(events, key=_last_seen, default=None)
        if last is None or not (seen := _last_seen(last)) or time_or(seen, 0.0) < since:
            return o
        groups = self._caches.groups_of(o.job.namespace, o.job.name)
        return msgspec.structs.replace(
            o,
            creation_problem=str(last.get("message") or "")[:LONGEST_MESSAGE],
            leaving=sum(pod.deleting for group in groups for pod in self._caches.workers_of(group)),
        )

    async def _traced(self, o: ObservedJob) -> ObservedJob:
        """With what is left of a run that has ended, if its scheduler is to note that."""
        run = Run(o, self._clock())
        if not has_last_word(run) or run.cluster is None:
            return o
        namespace = o.job.namespace
        groups = self._caches.groups_of(namespace, o.job.name)
        workers = (pod for group in groups for pod in self._caches.workers_of(group))
        found = await self._ends([*failed(run.runner.pods if run.runner else ()), *failed(workers)][:MOST_FAILED])
        objects = (o.job.uid, run.cluster.uid, *([run.runner.uid] if run.runner else []))
        lists = [await self._events(namespace, f"involvedObject.uid={it}") for it in objects]
        events = happened(event for events in lists for event in events)
        return msgspec.structs.replace(o, traces=Traces(found, events))

    async def _events(self, namespace: str, fields: str) -> list[Manifest]:
        """Events, as far as they are read. Anybody may write any number of them, as large as other objects."""
        found = list[Manifest]()
        async with contextlib.aclosing(self._kubernetes.each("Event", namespace, fields=fields)) as events:
            async for event in events:
                found.append(_in_short(event))
                if len(found) == MOST_EVENTS:
                    break
        return found

    async def _last_words(self, o: ObservedGroup) -> ObservedGroup:
        """With how workers have ended that failed and go, if their scheduler keeps a record."""
        leaving = failed_and_going(o)
        return msgspec.structs.replace(o, ends=await self._ends(leaving)) if leaving else o

    async def _ends(self, pods: Iterable[Pod]) -> tuple[Failure, ...]:
        """How containers of these Pods have ended, with the ends of their logs, which the cache does not have."""
        found = list[Failure]()
        for pod in pods:
            live = await self._kubernetes.list("Pod", pod.namespace, fields=f"metadata.name={pod.name}")
            found += [each for it in live if it["metadata"]["uid"] == pod.uid for each in failures(it)]
        return tuple(found)


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
        looks=(Observer._with_cluster, Observer._unless_unreadable, Observer._explained, Observer._last_words),
        is_enough=lambda _, o: o.cluster is not None and not failed_and_going(o),
        pods="pods",
    ),
    ObservedJob: _Looks(
        looks=(
            Observer._unless_unreadable,
            Observer._explained,
            Observer._found_again,
            Observer._refused,
            Observer._traced,
        ),
        is_enough=lambda _, __: False,
        pods="pods",
    ),
}


def _looks(o: Observed) -> _Looks:
    """Of a kind without a row, the caches tell everything."""
    return _LOOKS.get(type(o), _Looks())


def _pods(o: Observed) -> tuple[Pod, ...]:
    pods: tuple[Pod, ...] = getattr(o, _looks(o).pods, ())
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


def _in_short(event: Manifest) -> Manifest:
    def short(value: Any) -> Any:
        return {key: clipped(part) for key, part in value.items()} if isinstance(value, dict) else clipped(value)

    return {key: short(value) for key, value in event.items() if key in _OF_EVENTS}


def _last_seen(event: Mapping[str, Any]) -> str:
    times = (event.get("lastTimestamp"), (event.get("series") or {}).get("lastObservedTime"), event.get("eventTime"))
    return next((time for time in times if time), "")
