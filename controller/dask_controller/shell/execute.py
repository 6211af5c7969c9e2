"""Execute a plan: actions in, outcomes out. Nothing here decides anything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, assert_never

from dask_crds import names
from dask_crds.model import DaskObject
from dask_crds.names import Label
from dask_crds.reasons import Reason
from dask_resources.queue import placed_pod
from dask_resources.worker import worker_labels, worker_pod

from ..core.actions import Action, Apply, CreateWorker, Delete, Event, Outcome, Patch, PutKey, asks_for_quota, described
from ..core.child import fingerprint
from ..core.ownership import owner_uid
from ..kube.api import NAMESPACE_TERMINATING, ApiError
from ..kube.client import Kubernetes
from ..kube.managed_fields import as_applied
from ..kube.short_first import ShortFirst
from ..kube.slow_start import SlowStart
from .caches import Caches, Key
from .events import event_manifest

logger = logging.getLogger(__name__)

#: More actions than this at a time stand back for shorter plans.
FEW = 8
#: Requests of such a plan that may be under way at a time while there is no other one.
MOST_PARALLEL_REQUESTS = 10

#: Seconds after which a plan begins nothing more: what is left follows at the next look. Status is written in between,
#: and others have their turn.
STEP_SECONDS = 1.0

#: Reasons that only a change by somebody can mend; others are tried again with backoff.
PERMANENT = {Reason.FORBIDDEN, Reason.INVALID, Reason.BAD_REQUEST, Reason.NAME_CONFLICT, NAMESPACE_TERMINATING}
_OURS = (Label.CLUSTER, Label.COMPONENT, Label.WORKER_GROUP)

#: Reason of an outcome: the name of a new Pod is taken, and it is known now by whom; there are other places.
NAME_TAKEN = "NameTaken"
#: Kinds of which no more than the metadata is cached, so that it is looked over what others have changed in them.
LOOKED_OVER = ("ConfigMap", "Deployment")
#: Seconds for which nothing is tried in a namespace that is being deleted: each child that goes wakes its parent.
TERMINATING_SECONDS = 10.0


class Executor:
    """Performs actions, remembers what the API server answered in the watch caches.

    Args:
        kubernetes: the client.
        caches: the watch caches; what was written is put there, so the next plan does not miss it.
        domain: the cluster's DNS domain.
        parallel_requests: how many requests of a plan may be under way in any case. Plans take the client's
            connections in the order of their requests: one that starts a thousand workers must not queue them all
            before a small cluster's few.
        short_first: who of those that call `execute` does short work.
    """

    def __init__(
        self, kubernetes: Kubernetes, caches: Caches, *, domain: str, parallel_requests: int, short_first: ShortFirst
    ) -> None:
        self._kubernetes = kubernetes
        self._parallel_requests = parallel_requests
        self._long_plans = Counter[str]()  # that are being executed, by whose they are
        self._caches = caches
        self._domain = domain
        self._short_first = short_first
        self._slow_start = SlowStart()
        self._terminating: dict[str, float] = {}  # namespaces, and until when that is believed

    def is_terminating(self, namespace: str) -> bool:
        """Whether a namespace is known to be on its way out: nothing can be created there."""
        until = self._terminating.get(namespace)
        if until is not None and until <= asyncio.get_running_loop().time():
            del self._terminating[namespace]
            return False
        return until is not None

    async def execute(self, parent: DaskObject, actions: Sequence[Action], now: float) -> list[Outcome]:
        """Perform ``actions``: what is applied, that which is needed first; changes and deletions; new Pods; reports.

        Quota for more workers is asked for beside making the Pods of those that have some: each is as many writes.
        What is needed and fails stops what follows; any other Apply that fails, just the events, which may tell of it.
        Actions for which there was no time have no outcome.
        """
        asked = [a for a in actions if asks_for_quota(a)]
        applied = [a for a in actions if isinstance(a, Apply | PutKey) and not asks_for_quota(a)]
        changed = [a for a in actions if isinstance(a, Delete) or (isinstance(a, Patch) and not a.subresource)]
        reports = [a for a in actions if isinstance(a, Patch) and a.subresource]  # nobody waits for these
        until = asyncio.get_running_loop().time() + STEP_SECONDS
        outcomes: list[Outcome] = []
        outcomes += await self._together([a for a in applied if a.needed], parent, now)
        if any(outcome.error for outcome in outcomes):
            return outcomes
        outcomes += await self._together([a for a in applied if not a.needed], parent, now)
        stated = not any(outcome.error for outcome in outcomes)
        outcomes += await self._together(changed, parent, now, until)
        new = [a for a in actions if isinstance(a, CreateWorker)]
        with self._long(parent) if len(asked) + len(new) > FEW else contextlib.nullcontext():
            both = self._create(new, parent, now, until), self._together(asked, parent, now, until)
            made, asked_for = await asyncio.gather(*both)
        stated = stated and not any(outcome.error for outcome in asked_for)
        outcomes += [*made, *asked_for]
        outcomes += await self._together(reports, parent, now, until)
        outcomes += [await self._perform(parent, a, now) for a in actions if stated and isinstance(a, Event)]
        return outcomes

    async def _create(
        self, creations: Sequence[CreateWorker], parent: DaskObject, now: float, until: float
    ) -> list[Outcome]:
        """In batches that grow. A name that is taken ends none: the next places have other names."""
        outcomes: list[Outcome] = []
        size = self._slow_start.begin(parent.uid)
        while creations:
            batch, creations = creations[:size], creations[size:]
            done = await self._together(batch, parent, now, until)
            outcomes += done
            failed = any(outcome.error and outcome.reason != NAME_TAKEN for outcome in done)
            if failed or len(done) == len(batch):
                size = self._slow_start.went(parent.uid, size, well=not failed)
            if failed or len(done) < len(batch):
                break
        return outcomes

    async def _together(
        self, actions: Sequence[Action], parent: DaskObject, now: float, until: float = math.inf
    ) -> list[Outcome]:
        """Perform some at a time; none is begun after ``until`` on the event loop's clock."""
        many = len(actions) > FEW
        clock = asyncio.get_running_loop().time

        async def perform(action: Action) -> Outcome | None:
            async with turn:
                if many and clock() < until:
                    await self._short_first.gap()
                return await self._perform(parent, action, now) if clock() < until else None

        with self._long(parent) if many else contextlib.nullcontext():
            share = MOST_PARALLEL_REQUESTS // max(1, len(self._long_plans))
            turn = asyncio.Semaphore(max(self._parallel_requests, share))
            return [outcome for outcome in await asyncio.gather(*map(perform, actions)) if outcome is not None]

    @contextlib.contextmanager
    def _long(self, of: DaskObject) -> Iterator[None]:
        """Meanwhile a plan with many actions is executed, of which there may be parts at the same time."""
        within = of.uid in self._long_plans
        self._long_plans[of.uid] += 1
        try:
            with contextlib.nullcontext() if within else self._short_first.long():
                yield
        finally:
            self._long_plans -= Counter([of.uid])

    async def _perform(self, parent: DaskObject, action: Action, now: float) -> Outcome:
        try:
            match action:
                case Apply():
                    await self._apply(dict(action.manifest), new=action.new)
                case PutKey(cluster, certificate, renew):
                    await self._caches.keyring.put(self._kubernetes, cluster, certificate, renew=renew)
                case CreateWorker():
                    await self._create_worker(action)
                case Delete():
                    await self._delete(action)
                case Patch():
                    await self._patch(action)
                case Event():
                    await self._event(parent, action, now)
                case _:
                    assert_never(action)
        except ApiError as error:
            if error.reason == NAMESPACE_TERMINATING:
                self._terminating[parent.namespace] = asyncio.get_running_loop().time() + TERMINATING_SECONDS
            return Outcome(action, str(error), error.reason, error.reason in PERMANENT)
        if not isinstance(action, Event | PutKey):
            key = Key(parent.kind, parent.namespace, parent.name)
            logger.info("%s: %s", key, described(action), extra=key.log_fields)
        return Outcome(action)

    async def _create_worker(self, action: CreateWorker) -> None:
        """Create a worker Pod. If its name is taken, take note of by whom.

        Raises:
            ApiError: with reason `NAME_TAKEN` then.
        """
        group = action.group  # five hex digits: the name must differ from those that the scheduler may remember
        told = {"cluster_uid": action.cluster_uid, "certificates": action.certificates}
        made = worker_pod(group, action.ordinal, secrets.token_hex(3)[:5], domain=self._domain, **told)
        pod = placed_pod(made, action.placement, action.workload)
        metadata = pod["metadata"]
        try:
            self._caches.pods.put(await self._kubernetes.create(pod))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            live = await self._live("Pod", group.namespace, metadata["name"])
            if live is not None and owner_uid(live) != group.uid:
                self._caches.take(group.namespace, group.name, action.ordinal)
            elif live is not None:
                if labels := _missing_labels(live, {"metadata": {"labels": worker_labels(group)}}):
                    # Somebody has taken our labels away, and so it out of our sight.
                    patch = {"metadata": {"uid": live["metadata"]["uid"], "labels": labels}}
                    live = await self._kubernetes.patch("Pod", group.namespace, metadata["name"], patch)
                self._caches.pods.put(live)
            raise ApiError(409, NAME_TAKEN, f"Pod {metadata['name']} exists already") from error

    async def _apply(self, manifest: dict[str, Any], *, new: bool) -> None:
        """Create, or server-side apply to the very object that is there, unless that is not ours."""
        metadata, owner = manifest["metadata"], owner_uid(manifest)
        kind = manifest["kind"]
        if new:
            try:
                self._remember(await self._kubernetes.create(manifest))
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
            else:
                return
        live = await self._live(kind, metadata["namespace"], metadata["name"])
        if live is None:
            # To apply nevertheless would take over what somebody else gives that name just now.
            raise ApiError(409, Reason.CONFLICT, f"{kind} {metadata['name']} has just gone")
        if live["metadata"].get("deletionTimestamp") or _is_garbage(live, manifest):
            # Applying to it would succeed and be lost with it.
            raise ApiError(409, Reason.TERMINATING, f"waiting for {kind} {metadata['name']} of before to be gone")
        if owner_uid(live) != owner:
            message = f"{kind} {metadata['name']} exists and belongs to somebody else"
            raise ApiError(409, Reason.NAME_CONFLICT, message)
        if new and (labels := _missing_labels(live, manifest)):
            # Somebody has taken our labels away, and so it out of our sight. What else it needs is seen then.
            patch = {"metadata": {"uid": live["metadata"]["uid"], "labels": labels}}
            self._caches.remember(await self._kubernetes.patch(kind, metadata["namespace"], metadata["name"], patch))
            return
        if ours := as_applied(live["metadata"], names.FIELD_MANAGER):
            answer = await self._kubernetes.patch(kind, metadata["namespace"], metadata["name"], {"metadata": ours})
            if "resourceVersion" in metadata and metadata["resourceVersion"] == live["metadata"]["resourceVersion"]:
                manifest["metadata"] = {**metadata, "resourceVersion": answer["metadata"]["resourceVersion"]}
            live = answer
        answer = await self._apply_to(live["metadata"]["uid"], manifest)
        if answer["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]:
            self._caches.settle(answer, fingerprint(manifest))
        self._remember(answer)

    async def _apply_to(self, uid: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Server-side apply to one very object; ApiError (Conflict) if its name is another one's by now."""
        metadata = manifest["metadata"]
        try:
            return await self._kubernetes.apply({**manifest, "metadata": {**metadata, "uid": uid}})
        except ApiError as error:
            if error.reason == Reason.INVALID:
                live = await self._live(manifest["kind"], metadata["namespace"], metadata["name"])
                if live is None or live["metadata"]["uid"] != uid:
                    message = f"{manifest['kind']} {metadata['name']} has been replaced"
                    raise ApiError(409, Reason.CONFLICT, message) from error
            raise

    def _remember(self, answer: dict[str, Any]) -> None:
        """Take in an object that is as we have just stated it."""
        if answer["kind"] in LOOKED_OVER:
            self._caches.verify(answer)
        self._caches.remember(answer)

    async def _patch(self, action: Patch) -> None:
        patch = dict(action.patch)
        if action.uid is not None:
            patch["metadata"] = {**patch.get("metadata", {}), "uid": action.uid}
        try:
            where = (action.kind, action.namespace, action.name, patch)
            answer = await self._kubernetes.patch(*where, subresource=action.subresource)
        except ApiError as error:
            if action.uid is None or error.status not in (404, 409) or await self._is_unchanged(action):
                raise
            return  # it is gone, maybe replaced
        self._caches.remember(answer)

    async def _delete(self, action: Delete) -> None:
        try:
            answer = await self._kubernetes.delete(
                action.kind,
                action.namespace,
                action.name,
                uid=action.uid,
                resource_version=action.resource_version,
                grace_seconds=action.grace_seconds,
            )
        except ApiError as error:
            if error.status != 409 or await self._is_unchanged(action):
                raise
            return  # Conflict: it is another object, or has changed
        if action.kind == "Pod" and answer is not None and answer.get("metadata", {}).get("resourceVersion"):
            self._caches.pods.put(answer)
        elif action.kind == "Pod":  # one that had ended is gone at once, and the answer may be without a version
            self._caches.pods.remove(action.uid)

    async def _is_unchanged(self, action: Patch | Delete) -> bool:
        """Whether an object still is what ``action`` is for, though the API server answered 409: then try again.

        Else no watch would tell of a change, and nobody would look for minutes.
        """
        live = await self._live(action.kind, action.namespace, action.name)
        if live is None:
            return False
        patched = {} if isinstance(action, Delete) else action.patch.get("metadata", {})
        version = action.resource_version if isinstance(action, Delete) else patched.get("resourceVersion")
        unchanged = live["metadata"]["uid"] == action.uid and version in (None, live["metadata"]["resourceVersion"])
        self._caches.remember(live)
        return unchanged

    async def _live(self, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        """One object, not from a cache. By list: the right to get children is not ours, that to list them is."""
        return next(iter(await self._kubernetes.list(kind, namespace, fields=f"metadata.name={name}")), None)

    async def _event(self, parent: DaskObject, event: Event, now: float) -> None:
        try:
            await self._kubernetes.create(event_manifest(parent, event, now))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise


def _missing_labels(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    """Those of our labels that an object of ours has lost."""
    labels = live["metadata"].get("labels") or {}
    ours = {key: value for key, value in wanted["metadata"].get("labels", {}).items() if key in _OURS}
    return {key: value for key, value in ours.items() if labels.get(key) != value}


def _is_garbage(live: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether an object belongs to an earlier owner of the same name as that of ``manifest``, and goes with it."""

    def owner(of: Mapping[str, Any]) -> tuple[Any, Any]:
        references = of["metadata"].get("ownerReferences") or []
        return next(((r.get("kind"), r.get("name")) for r in references if r.get("controller")), (None, None))

    return owner(live) == owner(manifest) and owner_uid(live) != owner_uid(manifest)
