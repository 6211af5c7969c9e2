"""The one loop: read, plan, ask, execute, write status. The same for all four kinds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dask_crds import names
from dask_crds.model import InvalidManifest, Kind, dump, parse

from ..core.actions import Create, Plan
from ..core.autoscaler import autoscaler_status, plan_autoscaler
from ..core.cluster import cluster_status, plan_cluster
from ..core.conditions import condition, events, merge
from ..core.job import plan_job
from ..core.job_status import job_status
from ..core.observed import Observed, ObservedAutoscaler, ObservedCluster, ObservedGroup, ObservedJob
from ..core.worker_group import plan_worker_group, worker_group_status
from .ask import Schedulers
from .courtesy import Courtesy
from .execute import Executor
from .kubernetes import ApiError, Kubernetes
from .observe import observe
from .world import Key, World

logger = logging.getLogger(__name__)

#: What only a change by somebody can mend is tried again this often: not every such change can be watched.
PERMANENT_RETRY_SECONDS = 30.0


class Reconciler:
    """Brings one custom resource closer to what it asks for.

    Args:
        kubernetes: the client.
        world: the watch caches.
        schedulers: for questions to Dask schedulers.
        domain: the cluster's DNS domain.
        share: see `Executor`.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        world: World,
        schedulers: Schedulers,
        *,
        domain: str,
        share: int = 2,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kubernetes = kubernetes
        self._world = world
        self._schedulers = schedulers
        self._courtesy = Courtesy()
        self._executor = Executor(kubernetes, world, domain=domain, share=share, courtesy=self._courtesy)
        self._domain = domain
        self._clock = clock

    async def __call__(self, key: Key) -> float | None:
        """Reconcile ``key``.

        Returns:
            Seconds after which to look again though nothing has changed, ``None`` for no such need.

        Raises:
            ApiError: the API server did not let us; the queue tries again with backoff.
        """
        with self._courtesy.short():
            return await self._reconcile(key)

    async def _reconcile(self, key: Key) -> float | None:
        manifest = await self._kubernetes.get(key.kind, key.namespace, key.name)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return None  # its children have owner references: garbage collection removes them
        try:
            value = parse(manifest)
        except InvalidManifest as error:
            await self._report_invalid(manifest, error)
            return None
        now = self._clock()
        observed = await self._observe(value)
        plan = self._plan(observed, now)
        if plan.ask is not None:
            with self._courtesy.long():
                answers = await self._schedulers.answer(observed.scheduler_pods, plan.ask)
            observed = msgspec.structs.replace(observed, answers=answers)
            plan = self._plan(observed, now)
        if any(isinstance(action, Create) for action in plan.actions):
            observed, plan = await self._recheck(observed, now)
        outcomes = await self._executor.execute(value, plan.actions, now)
        for outcome in outcomes:
            if outcome.error:
                logger.warning("%s %s/%s: %s", *key, outcome.error)
        try:
            await self._write_status(value, manifest, self._status(observed, plan, outcomes, now), now)
        except ApiError as error:
            if error.status != 409:
                raise
            return 0.0  # it has changed since it was read: look again
        failed = next((o for o in outcomes if o.error and not o.permanent), None)
        if failed is not None:
            raise ApiError(0, failed.reason, failed.error)
        if any(outcome.error for outcome in outcomes):
            return min(plan.requeue_after or PERMANENT_RETRY_SECONDS, PERMANENT_RETRY_SECONDS)
        return plan.requeue_after

    async def _observe(self, value: Kind) -> Observed:
        """The snapshot. Workers go when their cluster is gone: that is not believed of a cache that may lag behind."""
        observed = observe(value, self._world)
        if isinstance(observed, ObservedGroup) and observed.cluster is None and observed.pods:
            cluster = await self._kubernetes.get("DaskCluster", value.namespace, observed.group.spec.cluster)
            if cluster is not None:
                self._world.clusters.put(cluster)
                return observe(value, self._world)
        if isinstance(observed, ObservedJob) and observed.runner is not None and not observed.pods:
            problem = await self._creation_problem(observed.runner["metadata"])
            return msgspec.structs.replace(observed, creation_problem=problem)
        return observed

    async def _creation_problem(self, metadata: Mapping[str, Any]) -> str:
        """Why Kubernetes makes no Pod of a Job: only an event tells."""
        fields = f"involvedObject.uid={metadata['uid']},reason=FailedCreate"
        events = await self._kubernetes.list("Event", metadata["namespace"], fields=fields)
        return str(events[-1].get("message") or "") if events else ""

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

    async def _recheck(self, observed: Observed, now: float) -> tuple[Observed, Plan]:
        """Plan again on a fresh list before any Pod is made: a stale cache must not lead to one too many."""
        assert isinstance(observed, ObservedGroup)
        group = observed.group
        live = await self._kubernetes.list("Pod", group.namespace, labels=f"{names.WORKER_GROUP}={group.name}")
        for manifest in live:
            self._world.pods.put(manifest)
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

    async def _report_invalid(self, manifest: Mapping[str, Any], error: InvalidManifest) -> None:
        """A condition for a resource that the API server let pass and that nevertheless makes no sense."""
        status = manifest.get("status") or {}
        generation = manifest["metadata"].get("generation", 0)
        conditions = merge(
            None,
            [
                condition("Ready", False, "Invalid", str(error)),
                condition("Reconciling", False, "Invalid"),
                condition("Stalled", True, "Invalid", str(error)),
            ],
            generation=generation,
            now=self._clock(),
        )
        if status.get("observedGeneration") != generation:
            wanted = {**status, "observedGeneration": generation, "conditions": [dump(c) for c in conditions]}
            await self._put_status(manifest, wanted)

    async def _put_status(self, manifest: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """With the version that was read: the status of an object that has changed meanwhile must not be written."""
        metadata = {key: manifest["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        body = {"apiVersion": names.API_VERSION, "kind": manifest["kind"], "metadata": metadata, "status": status}
        try:
            await self._kubernetes.apply_status(body)
        except ApiError as error:
            if "field not declared in schema" not in error.message:
                raise
            raise ApiError(error.status, "OutdatedCRDs", f"{error}; apply the CRDs of this release first") from error
