"""The one loop: read, plan, ask, execute, write status. The same for all four kinds."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from dask_crds import names
from dask_crds.model import Condition, DaskObject, InvalidManifest, dump, parse
from dask_crds.reasons import Reason
from dask_crds.validation import too_large
from dask_resources.metadata import without

from ..core.actions import STEP, CreateWorker, Outcome, Plan, described
from ..core.conditions import condition, events, merge
from ..core.observed import Observed
from ..core.pod import Problem
from ..core.usage import Accounted, with_usage
from ..kube.api import ApiError
from ..kube.client import Kubernetes
from ..kube.short_first import ShortFirst
from ..schedulers.pollers import PATIENCE, SchedulerPollers
from .accounts import Accounts
from .addresses import scheduler_address
from .caches import Caches, Key
from .dispatch import decisions, snapshot
from .execute import NAME_TAKEN, TERMINATING_SECONDS, Executor
from .keyring import KEY_REFUSED
from .limited import forget
from .observe import UNEXPLAINED_SECONDS, Observer, has_waiting_pods
from .tracing import Attributes, Tracer, told
from .witness import Witness

logger = logging.getLogger(__name__)

#: What only a change by somebody can mend is tried again this often: not every such change can be watched.
PERMANENT_RETRY_SECONDS = 30.0
#: Reasons of failures after which it is gone on at once in another way: in another place, without a key.
TRIED_OTHERWISE = (NAME_TAKEN, KEY_REFUSED)
#: Seconds after which a new resource has its first status: a write of it costs the API server as much as two Pods.
COMES_UP_SECONDS = 0.3


class Reconciler:
    """Brings one custom resource closer to what it asks for.

    Args:
        kubernetes: the client.
        caches: the watch caches.
        schedulers: for questions to Dask schedulers.
        domain: the cluster's DNS domain.
        not_inherited: beginnings of labels and annotations that children do not take over, see `without`.
        parallel_requests: see `Executor`.
        is_prompt: whether a user waits for what is done about a key.
        clock: seconds since the epoch.
        witness: is told how resources are.
        tracer: makes spans of reconciles.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        caches: Caches,
        schedulers: SchedulerPollers[Key],
        *,
        domain: str,
        not_inherited: Sequence[str] = (),
        parallel_requests: int = 2,
        is_prompt: Callable[[Key], bool] = lambda _: True,
        clock: Callable[[], float] = time.time,
        witness: Witness | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._kubernetes = kubernetes
        self._caches = caches
        self._schedulers = schedulers
        self._short_first = ShortFirst()
        self._observer = Observer(kubernetes, caches, functools.partial(snapshot, caches), clock)
        self._executor = Executor(
            kubernetes, caches, domain=domain, parallel_requests=parallel_requests, short_first=self._short_first
        )
        self._not_inherited = tuple(not_inherited)
        self._is_prompt = is_prompt
        self._clock = clock
        self._witness, self._tracer = witness or Witness(), tracer or Tracer()
        self._accounts = Accounts(caches)
        self._decisions = decisions(domain)

    async def __call__(self, key: Key) -> float | None:
        """Reconcile ``key``.

        Returns:
            Seconds after which to look again though nothing has changed, ``None`` for no such need.

        Raises:
            ApiError: the API server did not let us; the queue tries again with backoff.
        """
        prompt = self._is_prompt(key)
        about = {"k8s.namespace.name": key.namespace, "dask.kind": key.kind, "dask.name": key.name}
        self._caches.busy.add(key)
        try:
            with self._tracer.span("reconcile", about):
                return await self._in_turn(key, prompt)
        finally:
            self._caches.busy.discard(key)

    async def _in_turn(self, key: Key, prompt: bool) -> float | None:
        if not prompt and self._executor.is_terminating(key.namespace):
            return TERMINATING_SECONDS
        if not prompt:
            with self._tracer.span("upkeep"):
                upkeep = await self._upkeep(key)
            if upkeep is not None:
                return upkeep.requeue_after
        with self._short_first.short() if prompt else contextlib.nullcontext():
            return await self._reconcile(key, prompt)

    async def _upkeep(self, key: Key) -> Plan | None:
        """Bring status up to date where nothing else is to be done; ``None``: that takes a closer look.

        This is most of what there is to do, and to read the object for it would cost the API server more than we need
        for all the rest. The cache may lag behind, but a status that was made from an older object is refused.
        """
        manifest = self._caches.cached(key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return None
        value, problem = _read(manifest, self._not_inherited)
        if value is None or problem:
            return None
        observed = self._observer.cached(value)
        if observed is None:
            return None
        now = self._clock()
        plan = self._plan(observed, now)
        if plan.ask is not None and not (plan.ask.only_reads and plan.ask.every is not None):
            return None
        answered = self._answered(key, observed, plan, now)
        if answered is None:
            return Plan(requeue_after=PATIENCE)
        observed, plan = answered
        if plan.actions or plan.ask is not None:
            return None
        await self._short_first.gap()
        try:
            await self._tell(value, manifest, observed, plan, [], now)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return None  # it has changed, or is gone
        return plan

    async def _reconcile(self, key: Key, prompt: bool) -> float | None:
        manifest = self._caches.cached(key)
        if manifest is None or not _is_new(manifest):
            manifest = await self._kubernetes.get(key.kind, key.namespace, key.name)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            self._schedulers.forget(key)
            self._witness.gone(key)
            forget(self._caches, key)
            return None  # its children have owner references: garbage collection removes them
        value, problem = _read(manifest, self._not_inherited)
        if value is None:
            del manifest["spec"]  # what is too large is not kept while we wait
        else:
            with self._tracer.span("observe"):
                observed, problem = await self._observer.observe(value)
        if value is None or problem is not None:
            self._schedulers.forget(key)
            assert problem is not None
            await self._report(manifest, problem)
            return None
        return await self._carry_out(key, value, manifest, observed, prompt)

    async def _carry_out(
        self, key: Key, value: DaskObject, manifest: Mapping[str, Any], observed: Observed, prompt: bool
    ) -> float | None:
        """Plan, execute, write status."""
        now = self._clock()
        with self._tracer.span("decide"):
            answered = self._answered(key, observed, self._plan(observed, now), now, prompt=prompt)
        if answered is None:
            return PATIENCE  # or earlier, when there is an answer
        observed, plan = answered
        group = next((action.group for action in plan.actions if isinstance(action, CreateWorker)), None)
        if group is not None and not _is_new(manifest):
            observed = await self._observer.with_fresh_pods(observed, group)
            plan = self._plan(observed, now)
        with self._tracer.span("act") as span:
            outcomes = await self._executor.execute(value, plan.actions, now)
            span.note(_noted(outcomes))
        if self._executor.is_terminating(key.namespace):
            return TERMINATING_SECONDS  # with what is said and done about it, its end would only take longer
        outcomes = [outcome for outcome in outcomes if outcome.reason not in TRIED_OTHERWISE]
        for outcome in outcomes:
            if outcome.error and outcome.permanent:  # others are told by the queue, which tries again
                logger.warning("%s: %s", key, outcome.error, extra=key.log_fields)
        if self._decisions[type(observed)].comes_up and _comes_up(value, plan, outcomes):
            return COMES_UP_SECONDS
        if not prompt:
            await self._short_first.gap()
        try:
            await self._tell(value, manifest, observed, plan, outcomes, now)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return 0.0  # it has changed since it was read, or is gone: look again
        look = _next_look(plan, outcomes)
        if has_waiting_pods(observed):
            return UNEXPLAINED_SECONDS if look is None else min(look, UNEXPLAINED_SECONDS)
        return look

    def _answered(
        self, key: Key, observed: Observed, plan: Plan, now: float, *, prompt: bool = False
    ) -> tuple[Observed, Plan] | None:
        """With the scheduler's answers, and a plan made with them, if it asks for any; ``None`` until there are any.

        Of a plan that does not wait for them there is something to report without them, too.
        """
        if plan.ask is None:
            self._schedulers.forget(key)
            return observed, plan
        answers = self._schedulers.answer(key, scheduler_address(observed, self._caches), plan.ask, prompt=prompt)
        if answers is None:
            # `PATIENCE`: or earlier, when there is an answer.
            return None if plan.ask.waits else (observed, Plan(actions=plan.actions, requeue_after=PATIENCE))
        observed = msgspec.structs.replace(observed, answers=answers)
        return observed, self._plan(observed, now)

    def _plan(self, observed: Observed, now: float) -> Plan:
        return self._decisions[type(observed)].plan(observed, now)

    async def _tell(
        self,
        value: DaskObject,
        manifest: Mapping[str, Any],
        observed: Observed,
        plan: Plan,
        outcomes: Sequence[Outcome],
        now: float,
    ) -> None:
        """Write the status after the plan was executed."""
        status = self._decisions[type(observed)].status(observed, plan, outcomes, now)
        if isinstance(status, Accounted) and isinstance(value.status, Accounted):
            status = with_usage(value.status, status, self._accounts.of(value), now)
        with self._tracer.span("report"):
            await self._write_status(value, manifest, status, now)
        self._witness.reported(observed, value, status, outcomes, now)

    async def _write_status(self, value: DaskObject, manifest: Mapping[str, Any], status: Any, now: float) -> None:
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
            self._caches.remember(await self._kubernetes.apply_status(body))
        except ApiError as error:
            if "field not declared in schema" not in error.message:
                raise
            raise ApiError(
                error.status, Reason.OUTDATED_CRDS, f"{error}; apply the CRDs of this release first"
            ) from error


def _read(manifest: dict[str, Any], not_inherited: tuple[str, ...]) -> tuple[DaskObject | None, Problem | None]:
    """The value of a custom resource, or why it has none."""
    if message := too_large(manifest.get("spec") or {}):
        return None, Problem(Reason.TOO_LARGE, message)
    try:
        value = parse(manifest)
        return msgspec.structs.replace(value, metadata=without(value.metadata, not_inherited)), None
    except InvalidManifest as error:
        return None, Problem(Reason.INVALID, str(error))


def _is_new(manifest: Mapping[str, Any]) -> bool:
    """Whether nobody has done anything about a resource yet, so that a cache can lack nothing of importance.

    If somebody has, and has not got to write a status, a group's Pods have the lowest places: their names are taken.
    """
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    seen = status.get("observedGeneration") not in (None, -1)  # -1: the API server's default
    return metadata.get("generation") == 1 and not seen and not metadata.get("deletionTimestamp")


def _comes_up(value: DaskObject, plan: Plan, outcomes: Sequence[Outcome]) -> bool:
    """Whether all that a new resource consists of has just been made, so that its first status can tell more soon."""
    made = value.status.observed_generation in (None, -1)
    complete = 0 < len(outcomes) == len(plan.actions) < STEP
    return made and complete and not plan.draining and not any(outcome.error for outcome in outcomes)


def _conditions(status: Mapping[str, Any]) -> list[Condition]:
    """The conditions of a status that may be of any form."""
    try:
        return msgspec.convert(status.get("conditions") or [], list[Condition])
    except msgspec.ValidationError:
        return []


def _noted(outcomes: Sequence[Outcome]) -> Attributes:
    """What a span says of actions."""
    done = told(described(out.action) + (f": {out.error}" if out.error else "") for out in outcomes)
    return {"dask.actions": done, "dask.errors": sum(bool(out.error) for out in outcomes)}


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
