"""The one loop: read, plan, ask, execute, write status. The same for all four kinds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from dask_crds import names
from dask_crds.model import Condition, DaskCluster, DaskJob, DaskWorkerGroup, InvalidManifest, Kind, dump, parse
from dask_crds.reasons import Reason
from dask_crds.validation import too_large
from dask_resources.metadata import without
from dask_resources.scheduler import scheduler_deployment

from ..core import children
from ..core.actions import STEP, CreateWorker, Outcome, Plan
from ..core.autoscaler import plan_autoscaler
from ..core.autoscaler_status import autoscaler_status
from ..core.cluster import plan_cluster
from ..core.cluster_status import cluster_status
from ..core.conditions import condition, events, merge
from ..core.job import plan_job
from ..core.job_status import job_status
from ..core.observed import Observed, ObservedAutoscaler, ObservedCluster, ObservedGroup, ObservedJob
from ..core.ownership import owner_uid
from ..core.pod import LONGEST_MESSAGE, Pod, Problem, quoted
from ..core.run import Run
from ..core.time import time_or
from ..core.worker_group import plan_worker_group
from ..core.worker_group_status import worker_group_status
from .courtesy import Courtesy
from .execute import NAME_TAKEN, TERMINATING_SECONDS, Executor, log_fields
from .kubernetes import ApiError, Kubernetes
from .observe import observe, scheduler_address
from .schedulers import PATIENCE, Schedulers
from .world import Key, World

logger = logging.getLogger(__name__)

#: What only a change by somebody can mend is tried again this often: not every such change can be watched.
PERMANENT_RETRY_SECONDS = 30.0
#: Seconds for which the list of a group's Pods counts as fresh.
RECHECK_SECONDS = 5.0
#: Seconds after which it is looked why a Pod waits on its node, and how often: most start earlier.
UNEXPLAINED_SECONDS = 15.0
#: Seconds after which a new resource has its first status: a write of it costs the API server as much as two Pods.
COMES_UP_SECONDS = 0.3


class Reconciler:
    """Brings one custom resource closer to what it asks for.

    Args:
        kubernetes: the client.
        world: the watch caches.
        schedulers: for questions to Dask schedulers.
        domain: the cluster's DNS domain.
        not_inherited: beginnings of labels and annotations that children do not take over, see `without`.
        share: see `Executor`.
        is_prompt: whether a user waits for what is done about a key.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        world: World,
        schedulers: Schedulers[Key],
        *,
        domain: str,
        not_inherited: Sequence[str] = (),
        share: int = 2,
        is_prompt: Callable[[Key], bool] = lambda _: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kubernetes = kubernetes
        self._world = world
        self._schedulers = schedulers
        self._courtesy = Courtesy()
        self._executor = Executor(kubernetes, world, domain=domain, share=share, courtesy=self._courtesy)
        self._domain = domain
        self._not_inherited = tuple(not_inherited)
        self._is_prompt = is_prompt
        self._clock = clock
        self._rechecked: dict[str, float] = {}  # groups, and until when they need it not again

    async def __call__(self, key: Key) -> float | None:
        """Reconcile ``key``.

        Returns:
            Seconds after which to look again though nothing has changed, ``None`` for no such need.

        Raises:
            ApiError: the API server did not let us; the queue tries again with backoff.
        """
        prompt = self._is_prompt(key)
        if not prompt and self._executor.is_terminating(key.namespace):
            return TERMINATING_SECONDS
        if not prompt:
            upkeep = await self._upkeep(key)
            if upkeep is not None:
                return upkeep.requeue_after
        with self._courtesy.short() if prompt else contextlib.nullcontext():
            return await self._reconcile(key, prompt)

    async def _upkeep(self, key: Key) -> Plan | None:
        """Bring status up to date where nothing else is to be done; ``None``: that takes a closer look.

        This is most of what there is to do, and to read the object for it would cost the API server more than we need
        for all the rest. The cache may lag behind, but a status that was made from an older object is refused.
        """
        manifest = self._world.cached(key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return None
        value, problem = _read(manifest, self._not_inherited)
        if value is None or problem or isinstance(value, DaskJob):
            return None
        if isinstance(value, DaskCluster) and value.spec.suspend:
            return None  # who has suspended it is told by its managed fields, which are not cached
        now = self._clock()
        observed = observe(value, self._world)
        if isinstance(observed, ObservedGroup) and observed.cluster is None:
            return None
        if isinstance(observed, ObservedCluster) and self._unseen(observed):
            return None
        if _unexplained(observed, now) is not None:
            return None
        plan = self._plan(observed, now)
        if plan.ask is not None and plan.ask.only_reads and plan.ask.every is not None:
            answers = self._schedulers.answer(key, scheduler_address(observed, self._world), plan.ask)
            if answers is None:
                return Plan(requeue_after=PATIENCE)
            observed = msgspec.structs.replace(observed, answers=answers)
            plan = self._plan(observed, now)
        elif plan.ask is None:
            self._schedulers.forget(key)
        if plan.actions or plan.ask is not None:
            return None
        await self._courtesy.gap()
        try:
            await self._write_status(value, manifest, self._status(observed, plan, [], now), now)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return None  # it has changed, or is gone
        return plan

    async def _reconcile(self, key: Key, prompt: bool) -> float | None:
        manifest = self._world.cached(key)
        if manifest is None or not _is_new(manifest):
            manifest = await self._kubernetes.get(key.kind, key.namespace, key.name)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            self._schedulers.forget(key)
            return None  # its children have owner references: garbage collection removes them
        value, problem = _read(manifest, self._not_inherited)
        if value is None:
            del manifest["spec"]  # what is too large is not kept while we wait
        if value is not None:
            observed, problem = await self._observe(value)
        if value is None or problem is not None:
            self._schedulers.forget(key)
            assert problem is not None
            await self._report(manifest, problem)
            return None
        now = self._clock()
        plan = self._plan(observed, now)
        if plan.ask is None:
            self._schedulers.forget(key)
        else:
            address = scheduler_address(observed, self._world)
            answers = self._schedulers.answer(key, address, plan.ask, prompt=prompt)
            if answers is None:
                return PATIENCE  # or earlier, when there is an answer
            observed = msgspec.structs.replace(observed, answers=answers)
            plan = self._plan(observed, now)
        if any(isinstance(action, CreateWorker) for action in plan.actions) and not _is_new(manifest):
            observed, plan = await self._recheck(observed, plan, now)
        outcomes = await self._executor.execute(value, plan.actions, now)
        if self._executor.is_terminating(key.namespace):
            return TERMINATING_SECONDS  # with what is said and done about it, its end would only take longer
        unexplained = any(_waits_on_its_node(pod) for pod in _pods(observed))
        outcomes = [outcome for outcome in outcomes if outcome.reason != NAME_TAKEN]  # another place is tried at once
        for outcome in outcomes:
            if outcome.error and outcome.permanent:  # others are told by the queue, which tries again
                logger.warning("%s: %s", key, outcome.error, extra=log_fields(*key))
        if _comes_up(value, plan, outcomes):
            return COMES_UP_SECONDS
        if not prompt:
            await self._courtesy.gap()
        try:
            await self._write_status(value, manifest, self._status(observed, plan, outcomes, now), now)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return 0.0  # it has changed since it was read, or is gone: look again
        look = _next_look(plan, outcomes)
        return min(look if look is not None else UNEXPLAINED_SECONDS, UNEXPLAINED_SECONDS) if unexplained else look

    async def _observe(self, value: Kind) -> tuple[Observed, Problem | None]:
        """The snapshot, and why nothing can be decided with it, if so.

        Workers go when their cluster is gone: that is not believed of a cache that may lag behind.
        """
        observed = observe(value, self._world)
        if isinstance(observed, ObservedGroup) and observed.cluster is None and observed.pods:
            cluster = await self._kubernetes.get("DaskCluster", value.namespace, observed.group.spec.cluster)
            if cluster is not None:
                self._world.clusters.put(cluster)
                observed = observe(value, self._world)
        if isinstance(observed, ObservedGroup | ObservedJob) and observed.cluster is None:
            name = observed.group.spec.cluster if isinstance(observed, ObservedGroup) else observed.job.name
            if self._world.is_unreadable(value.namespace, name):
                message = f"DaskCluster {name} cannot be read, its status says why; its Pods are left alone until then"
                return observed, Problem(Reason.CLUSTER_UNREADABLE, message)
        observed = await self._explained(observed)
        if isinstance(observed, ObservedCluster):
            return await self._looked_over(observed), None
        if isinstance(observed, ObservedJob):
            return await self._refused(await self._found_again(observed)), None
        return observed, None

    def _unseen(self, o: ObservedCluster) -> list[Mapping[str, Any]]:
        """The children of which it is not known whether they are as stated: somebody may have changed them."""
        found = [o.config_map, None if children.is_held(o) else o.deployment]
        return [live for live in found if live and children.mine(o, live) and not self._world.is_verified(live)]

    async def _looked_over(self, o: ObservedCluster) -> ObservedCluster:
        """With the whole of those children that somebody has changed in what we state."""
        for seen in self._unseen(o):
            kind = "Deployment" if seen is o.deployment else "ConfigMap"
            metadata = seen["metadata"]
            found = await self._kubernetes.list(kind, metadata["namespace"], fields=f"metadata.name={metadata['name']}")
            live = next((one for one in found if one["metadata"]["uid"] == metadata["uid"]), None)
            if live is None:
                continue
            field = "deployment" if kind == "Deployment" else "config_map"
            looked = msgspec.structs.replace(o, **{field: {"data": {}, **live}})  # left out where there is none
            if children.stands(looked, kind) or (kind == "Deployment" and await self._stands_as_stored(looked)):
                self._world.verify(live)
            else:
                o = looked
        return o

    async def _stands_as_stored(self, o: ObservedCluster) -> bool:
        """Whether the Deployment is as stated if what we state is written as the API server would write it."""
        try:
            stored = await self._kubernetes.apply(scheduler_deployment(o.cluster), dry_run=True)
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
        field = "scheduler_pods" if isinstance(o, ObservedCluster) else "pods"
        return msgspec.structs.replace(o, **{field: pods})

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
        labels = {names.CLUSTER: o.job.name, names.COMPONENT: names.JOB_RUNNER}
        patch = {"metadata": {"uid": live["metadata"]["uid"], "labels": labels}}
        self._world.jobs.put(await self._kubernetes.patch("Job", o.job.namespace, name, patch))
        again = observe(o.job, self._world)
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
        groups = self._world.groups_of(o.job.namespace, o.job.name)
        return msgspec.structs.replace(
            o,
            creation_problem=str(last.get("message") or "")[:LONGEST_MESSAGE],
            leaving=sum(pod.deleting for group in groups for pod in self._world.workers_of(group)),
        )

    def _plan(self, observed: Observed, now: float) -> Plan:
        match observed:
            case ObservedCluster():
                return plan_cluster(observed, now)
            case ObservedGroup():
                return plan_worker_group(observed, now)
            case ObservedJob():
                return plan_job(observed, now, domain=self._domain)
            case ObservedAutoscaler():
                return plan_autoscaler(observed, now)

    def _status(self, observed: Observed, plan: Plan, outcomes: Any, now: float) -> msgspec.Struct:
        match observed:
            case ObservedCluster():
                return cluster_status(observed, plan, outcomes, now, domain=self._domain)
            case ObservedGroup():
                return worker_group_status(observed, plan, outcomes, now)
            case ObservedJob():
                return job_status(observed, plan, outcomes, now)
            case ObservedAutoscaler():
                return autoscaler_status(observed, plan, outcomes, now)

    async def _recheck(self, observed: Observed, plan: Plan, now: float) -> tuple[Observed, Plan]:
        """Plan again on a fresh list before any Pod is made: a stale cache must not lead to one too many.

        Once for the steps that follow one another: what we make meanwhile we know.
        """
        assert isinstance(observed, ObservedGroup)
        clock = asyncio.get_running_loop().time()
        self._rechecked = {uid: until for uid, until in self._rechecked.items() if until > clock}
        if observed.group.uid in self._rechecked:
            return observed, plan
        group, labels = observed.group, f"{names.WORKER_GROUP}={observed.group.name}"
        if not await self._kubernetes.names("Pod", group.namespace, labels=labels) <= {p.name for p in observed.pods}:
            for manifest in await self._kubernetes.list("Pod", group.namespace, labels=labels):
                self._world.pods.put(manifest)
        self._rechecked[group.uid] = clock + RECHECK_SECONDS  # not before: the list may have failed
        fresh = observe(group, self._world)
        assert isinstance(fresh, ObservedGroup)
        fresh = msgspec.structs.replace(fresh, answers=observed.answers)
        return fresh, self._plan(fresh, now)

    async def _write_status(self, value: Kind, manifest: Mapping[str, Any], status: Any, now: float) -> None:
        """Write the whole status, unless it says the same already; then tell people what has changed."""
        wanted = msgspec.to_builtins(status)
        if wanted == (manifest.get("status") or {}):
            return
        await self._put_status(manifest, wanted)
        changes = events(value.status.conditions, status.conditions or ())
        await self._executor.execute(value, changes, now)

    async def _report(self, manifest: Mapping[str, Any], problem: Problem) -> None:
        """Conditions for a resource that the API server let pass and with which nothing can be done."""
        status = manifest.get("status") or {}
        generation = manifest["metadata"].get("generation", 0)
        before = _conditions(status)
        wanted = [
            condition("Ready", False, problem.reason, problem.message),
            condition("Reconciling", False, problem.reason),
            condition("Stalled", True, problem.reason, problem.message),
        ]
        merged = [dump(c) for c in merge(before, wanted, generation=generation, now=self._clock())]
        if status.get("observedGeneration") != generation or status.get("conditions") != merged:
            await self._put_status(manifest, {**status, "observedGeneration": generation, "conditions": merged})

    async def _put_status(self, manifest: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """With the version that was read: the status of an object that has changed meanwhile must not be written."""
        metadata = {key: manifest["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        body = {"apiVersion": names.API_VERSION, "kind": manifest["kind"], "metadata": metadata, "status": status}
        try:
            self._world.remember(await self._kubernetes.apply_status(body))
        except ApiError as error:
            if "field not declared in schema" not in error.message:
                raise
            raise ApiError(
                error.status, Reason.OUTDATED_CRDS, f"{error}; apply the CRDs of this release first"
            ) from error


def _read(manifest: dict[str, Any], not_inherited: tuple[str, ...]) -> tuple[Kind | None, Problem | None]:
    """The value of a custom resource, or why it has none."""
    if message := too_large(manifest.get("spec") or {}):
        return None, Problem(Reason.TOO_LARGE, message)
    try:
        value = parse(manifest)
        return msgspec.structs.replace(value, metadata=without(value.metadata, not_inherited)), None
    except InvalidManifest as error:
        return None, Problem(Reason.INVALID, str(error))


def _pods(o: Observed) -> tuple[Pod, ...]:
    """The Pods whose state a snapshot's status tells of."""
    match o:
        case ObservedCluster():
            return o.scheduler_pods
        case ObservedGroup() | ObservedJob():
            return o.pods
    return ()


def _waits_on_its_node(pod: Pod) -> bool:
    return pod.phase == "Pending" and pod.problem is None and pod.started is not None and not pod.deleting


def _unexplained(o: Observed, now: float) -> Pod | None:
    """A Pod that has been waiting on its node for so long that there is a reason."""
    waiting = (p for p in _pods(o) if _waits_on_its_node(p) and now - p.created >= UNEXPLAINED_SECONDS)
    return min(waiting, key=lambda p: p.created, default=None)


def _last_seen(event: Mapping[str, Any]) -> str:
    times = (event.get("lastTimestamp"), (event.get("series") or {}).get("lastObservedTime"), event.get("eventTime"))
    return next((time for time in times if time), "")


def _is_new(manifest: Mapping[str, Any]) -> bool:
    """Whether nobody has done anything about a resource yet, so that a cache can lack nothing of importance.

    If somebody has, and has not got to write a status, a group's Pods have the lowest places: their names are taken.
    """
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    seen = status.get("observedGeneration") not in (None, -1)  # -1: the API server's default
    return metadata.get("generation") == 1 and not seen and not metadata.get("deletionTimestamp")


def _comes_up(value: Kind, plan: Plan, outcomes: Sequence[Outcome]) -> bool:
    """Whether all that a new resource consists of has just been made, so that its first status can tell more soon."""
    made = isinstance(value, DaskCluster | DaskWorkerGroup) and value.status.observed_generation in (None, -1)
    complete = 0 < len(outcomes) == len(plan.actions) < STEP
    return made and complete and not plan.draining and not any(outcome.error for outcome in outcomes)


def _conditions(status: Mapping[str, Any]) -> list[Condition]:
    """The conditions of a status that may be of any form."""
    try:
        return msgspec.convert(status.get("conditions") or [], list[Condition])
    except msgspec.ValidationError:
        return []


def _next_look(plan: Plan, outcomes: Sequence[Outcome]) -> float | None:
    """Seconds until the next look after a plan that went as the outcomes say.

    Raises:
        ApiError: something failed that may be tried again.
    """
    failed = next((o for o in outcomes if o.error and not o.permanent), None)
    if failed is not None:
        raise ApiError(0, failed.reason, failed.error)
    if any(outcome.error for outcome in outcomes):
        return min(plan.requeue_after or PERMANENT_RETRY_SECONDS, PERMANENT_RETRY_SECONDS)
    left = len(plan.actions) >= STEP or len(outcomes) < len(plan.actions)
    return 0.0 if left else plan.requeue_after
