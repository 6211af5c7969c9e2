"""Executing a plan step by step: what takes long is left for later (controller finding 22)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tests.support.states import NOW, cluster, group
from tests.support.virtual_time import now, virtual_time

from dask_controller.core.actions import STEP, Apply, CreateWorker, Delete, Event, Patch, Plan
from dask_controller.core.child import fingerprint
from dask_controller.kube.api import NAMESPACE_TERMINATING, ApiError
from dask_controller.kube.short_first import ShortFirst
from dask_controller.kube.slow_start import BELIEVED_SECONDS
from dask_controller.kube.workqueue import Queue
from dask_controller.shell.caches import Caches, Key
from dask_controller.shell.execute import (
    MOST_PARALLEL_REQUESTS,
    NAME_TAKEN,
    STEP_SECONDS,
    TERMINATING_SECONDS,
    Executor,
)
from dask_controller.shell.reconcile import _next_look
from dask_controller.shell.wakeups import wake_by
from dask_crds import names
from dask_crds.kinds import RESOURCES
from dask_crds.model import DaskWorkerGroup
from dask_resources.queue import Priority, surplus_workload
from dask_resources.scheduler import scheduler_deployment, scheduler_service, selector
from dask_resources.worker import worker_labels, worker_pod


class _Server:
    """Takes its time with every write."""

    def __init__(self, seconds: float, error: ApiError | None = None) -> None:
        self.seconds, self.error, self.writes = seconds, error, 0

    async def create(self, manifest: Any) -> Any:
        self.writes += 1
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        return manifest

    async def delete(self, *_: Any, **__: Any) -> None:
        await self.create(None)


class _Caches:
    remember = staticmethod(lambda manifest: None)

    class pods:
        put = staticmethod(lambda manifest: None)
        remove = staticmethod(lambda uid: None)


def executor(server: _Server) -> Executor:
    return Executor(server, _Caches, domain="x", parallel_requests=2, short_first=ShortFirst())  # type: ignore[arg-type]


CREATIONS = tuple(CreateWorker(group(), ordinal) for ordinal in range(STEP))
DELETIONS = tuple(Delete("Pod", "team", f"p{n}", f"u{n}") for n in range(STEP))


@virtual_time
async def test_a_plan_begins_nothing_more_when_its_time_is_up() -> None:
    for actions in (CREATIONS, DELETIONS, DELETIONS[:100] + CREATIONS[:100]):
        server, began = _Server(0.1), now()
        outcomes = await executor(server).execute(group(), actions, NOW)
        assert now() - began <= STEP_SECONDS + 0.2
        assert 10 <= len(outcomes) == server.writes <= 11 * MOST_PARALLEL_REQUESTS
        assert _next_look(Plan(actions=actions, requeue_after=60), outcomes) == 0.0, "the rest follows at once"


@virtual_time
async def test_a_full_plan_is_followed_by_another_look_at_once() -> None:
    outcomes = await executor(_Server(0.001)).execute(group(), CREATIONS, NOW)
    assert len(outcomes) == STEP
    assert _next_look(Plan(actions=CREATIONS), outcomes) == 0.0
    assert _next_look(Plan(actions=CREATIONS[:5], requeue_after=7), outcomes[:5]) == 7


@virtual_time
async def test_what_is_only_reported_to_others_waits_for_new_pods() -> None:
    class Reported(_Server):
        async def patch(self, *_: Any, **__: Any) -> Any:
            return await self.create({"kind": "Workload", "metadata": {}})

    report = Patch("Workload", "team", "w", {}, subresource="status")
    outcomes = await executor(Reported(0.1)).execute(group(), (report, *CREATIONS[:2]), NOW)
    assert [type(outcome.action) for outcome in outcomes] == [CreateWorker, CreateWorker, Patch]


@virtual_time
async def test_workers_that_have_quota_do_not_wait_until_it_was_asked_for_more() -> None:
    asked = [Apply(surplus_workload(group(), n, "team", Priority()), new=True) for n in range(100)]
    server, began = _Server(0.2), now()
    outcomes = await executor(server).execute(group(), (*asked, *CREATIONS[:100]), NOW)
    assert now() - began <= STEP_SECONDS + 0.4
    made = sum(isinstance(outcome.action, CreateWorker) for outcome in outcomes)
    assert made >= 10 <= len(outcomes) - made
    assert _next_look(Plan(actions=(*asked, *CREATIONS[:100])), outcomes) == 0.0, "the rest follows at once"


@virtual_time
async def test_both_at_a_time_stand_back_for_nobody_but_shorter_work() -> None:
    asked = [Apply(surplus_workload(group(), n, "team", Priority()), new=True) for n in range(200)]
    short_first = ShortFirst()
    e = Executor(_Server(0.01), _Caches, domain="x", parallel_requests=2, short_first=short_first)  # type: ignore[arg-type]
    with short_first.short():
        began = now()
        await e.execute(group(), (*asked, *CREATIONS), NOW)
    assert now() - began <= 0.35


@virtual_time
async def test_an_exhausted_quota_costs_one_request_and_no_haste() -> None:
    server = _Server(0.001, ApiError(403, "Forbidden", "exceeded quota"))
    outcomes = await executor(server).execute(group(replicas=100_000), CREATIONS, NOW)
    assert len(outcomes) == 1
    assert _next_look(Plan(actions=CREATIONS), outcomes) == 30


@virtual_time
async def test_a_slow_server_does_not_make_each_step_start_slowly() -> None:
    server = _Server(0.25)
    e, made = executor(server), list[int]()
    for _ in range(3):
        made.append(len(await e.execute(group(), CREATIONS, NOW)))
    assert made[0] == 1 + 2 + 4 + 8
    assert made[1] >= 2 * made[0] <= made[2]
    server.error = ApiError(403, "Forbidden", "exceeded quota")
    assert len(await e.execute(group(), CREATIONS, NOW)) >= 8, "what went well was believed to do so still"
    assert len(await e.execute(group(), CREATIONS, NOW)) == 1
    server.error = None
    await e.execute(group(), CREATIONS, NOW)
    await asyncio.sleep(BELIEVED_SECONDS)
    server.error = ApiError(403, "Forbidden", "exceeded quota")
    assert len(await e.execute(group(), CREATIONS, NOW)) == 1, "nor is it believed for long"


@virtual_time
async def test_what_there_is_no_time_for_does_not_wait_for_others_either() -> None:
    short_first = ShortFirst()
    e = Executor(_Server(0.5), _Caches, domain="x", parallel_requests=2, short_first=short_first)  # type: ignore[arg-type]

    async def somebody_small() -> None:
        with short_first.short():
            await asyncio.sleep(60)

    small, began = asyncio.create_task(somebody_small()), now()
    await asyncio.sleep(0)
    await e.execute(group(), DELETIONS, NOW)
    assert now() - began <= STEP_SECONDS + 0.7
    small.cancel()


@virtual_time
async def test_in_a_namespace_that_goes_nothing_more_is_tried_for_a_while() -> None:
    """Each child that goes wakes its parent: with 1,000 clusters that was thousands of refused requests."""
    server = _Server(0.001, ApiError(403, NAMESPACE_TERMINATING, "because it is being terminated"))
    e = executor(server)
    assert not e.is_terminating("team")
    await e.execute(group(), CREATIONS, NOW)
    assert (e.is_terminating("team"), e.is_terminating("other")) == (True, False)
    await asyncio.sleep(TERMINATING_SECONDS)
    assert not e.is_terminating("team"), "there may be another one of that name"


class _Names:
    """An API server that has some objects already."""

    kinds = RESOURCES

    def __init__(self, *there: dict[str, Any]) -> None:
        self.there = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in there}
        self.patched: list[Any] = []
        self.applied: list[Any] = []

    async def create(self, manifest: Any) -> Any:
        key = manifest["kind"], manifest["metadata"]["name"]
        if key in self.there:
            raise ApiError(409, "AlreadyExists", f"{key} already exists")
        self.there[key] = existing(manifest, uid=f"new {key[1]}")
        return self.there[key]

    async def list(self, kind: str, namespace: str, *, fields: str) -> list[Any]:
        found = self.there.get((kind, fields.removeprefix("metadata.name=")))
        return [found] if found else []

    async def patch(self, kind: str, namespace: str, name: str, patch: Any) -> Any:
        self.patched.append((kind, name, patch))
        return self.there[kind, name]

    async def apply(self, manifest: Any) -> Any:
        self.applied.append(manifest)
        return self.there[manifest["kind"], manifest["metadata"]["name"]]


def on(server: _Names) -> tuple[Executor, Caches]:
    caches = Caches(server, None)  # type: ignore[arg-type]
    return Executor(server, caches, domain="x", parallel_requests=2, short_first=ShortFirst()), caches  # type: ignore[arg-type]


def existing(manifest: dict[str, Any], **changes: Any) -> dict[str, Any]:
    metadata = {**manifest["metadata"], "uid": "there", "resourceVersion": "1", **changes}
    return {**manifest, "metadata": metadata}


class TestNames:
    """(controller 7, strangers 10) One foreign Pod blocked the whole group."""

    @virtual_time
    async def test_a_pod_of_somebody_elses_costs_its_place_and_nothing_else(self) -> None:
        g = group()
        theirs = [existing(worker_pod(g, n, "x"), ownerReferences=[], labels={}) for n in (0, 3)]
        execute, caches = on(server := _Names(*theirs))
        outcomes = await execute.execute(g, [CreateWorker(g, n) for n in range(6)], NOW)
        assert [o.action.ordinal for o in outcomes if not o.error] == [1, 2, 4, 5]
        assert {o.reason for o in outcomes if o.error} == {NAME_TAKEN}
        assert caches.taken(g.namespace, g.name) == {0, 3}
        assert server.patched == [], "a stranger's object is not touched"

    @virtual_time
    async def test_so_does_one_of_an_earlier_group_that_still_drains(self) -> None:
        g = group()
        earlier = existing(worker_pod(g, 0, "x"), ownerReferences=[{"uid": "earlier", "controller": True}])
        execute, caches = on(_Names(earlier))
        await execute.execute(g, [CreateWorker(g, 0)], NOW)
        assert caches.taken(g.namespace, g.name) == {0}

    @virtual_time
    async def test_a_worker_of_ours_from_which_somebody_took_the_label_gets_it_back(self) -> None:
        g = group()
        hidden = existing(worker_pod(g, 0, "x"), labels={"theirs": "1"})
        execute, caches = on(server := _Names(hidden))
        await execute.execute(g, [CreateWorker(g, 0), CreateWorker(g, 1)], NOW)
        assert [(kind, name) for kind, name, _ in server.patched] == [("Pod", "simple-default-worker-0")]
        assert server.patched[0][2]["metadata"] == {"uid": "there", "labels": worker_labels(g)}
        assert caches.taken(g.namespace, g.name) == frozenset()


class TestApply:
    @virtual_time
    @pytest.mark.parametrize(
        ("changes", "reason", "permanent"),
        [
            ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, "Terminating", False),
            (
                {"ownerReferences": [{"kind": "DaskCluster", "name": "simple", "uid": "old", "controller": True}]},
                "Terminating",
                False,
            ),
            (
                {"ownerReferences": [{"kind": "DaskCluster", "name": "other", "uid": "o", "controller": True}]},
                "NameConflict",
                True,
            ),
            ({"ownerReferences": []}, "NameConflict", True),
        ],
    )
    async def test_whose_an_object_is(self, changes: Any, reason: str, permanent: bool) -> None:
        """(node 7) What goes with the cluster before is waited for."""
        service = scheduler_service(cluster())
        execute, _ = on(server := _Names(existing(service, **changes)))
        (outcome,) = await execute.execute(cluster(), [Apply(service, new=True)], NOW)
        assert (outcome.reason, outcome.permanent) == (reason, permanent)
        assert (server.applied, server.patched) == ([], [])

    @virtual_time
    async def test_a_name_that_changes_hands_meanwhile_is_not_applied_to(self) -> None:
        """A stranger leaves, another one comes: what stands behind the name was looked up in between."""
        service = scheduler_service(cluster())
        execute, _ = on(server := _Handed(existing(service, ownerReferences=[])))
        (outcome,) = await execute.execute(cluster(), [Apply(service, new=True)], NOW)
        assert (outcome.reason, outcome.permanent) == ("Conflict", False)
        assert (server.applied, server.patched) == ([], [])
        (outcome,) = await execute.execute(cluster(), [Apply(service)], NOW)  # it was ours when the plan was made
        assert (outcome.reason, outcome.permanent) == ("Conflict", False)
        assert (server.applied, server.patched) == ([], [])

    @virtual_time
    async def test_what_is_applied_is_for_the_very_object_that_was_looked_at(self) -> None:
        service = scheduler_service(cluster())
        execute, _ = on(server := _Names(existing(service)))
        await execute.execute(cluster(), [Apply(service)], NOW)
        assert [manifest["metadata"]["uid"] for manifest in server.applied] == ["there"]

    @virtual_time
    async def test_one_that_is_replaced_between_the_look_and_the_apply_is_left_alone(self) -> None:
        service = scheduler_service(cluster())
        execute, _ = on(_Replaced(existing(service)))
        (outcome,) = await execute.execute(cluster(), [Apply(service)], NOW)
        assert (outcome.reason, outcome.permanent) == ("Conflict", False), "it is no fault of the user's"

    @virtual_time
    async def test_what_is_needed_goes_first_and_stops_the_rest_if_it_fails(self) -> None:
        c = cluster()
        wanted = [Apply(scheduler_deployment(c), new=True), Apply(scheduler_service(c), new=True, needed=True)]
        execute, _ = on(_Names(existing(scheduler_service(c), ownerReferences=[])))
        (outcome,) = await execute.execute(c, wanted, NOW)
        assert outcome.reason == "NameConflict"
        execute, _ = on(_Names())
        outcomes = await execute.execute(c, wanted, NOW)
        assert [outcome.action.manifest["kind"] for outcome in outcomes] == ["Service", "Deployment"]

    @virtual_time
    async def test_new_workers_do_not_wait_for_what_else_fails(self) -> None:
        """As a Workload for one more worker, while Kueue's webhook is down: those that have quota come nevertheless."""
        g, workload = group(), surplus_workload(group(), 0, "team", Priority())
        execute, _ = on(server := _Refusing())
        actions = [Apply(workload, new=True), CreateWorker(g, 0), Event("ScaledUp", "one more worker")]
        outcomes = await execute.execute(g, actions, NOW)
        assert [(type(o.action), bool(o.error)) for o in outcomes] == [(CreateWorker, False), (Apply, True)]
        assert [kind for kind, _ in server.there] == ["Pod"], "an Event may tell of what has failed"

    @virtual_time
    async def test_a_child_from_which_somebody_took_our_label_gets_it_back_and_nothing_else(self) -> None:
        service = scheduler_service(cluster())
        execute, _ = on(server := _Names(existing(service, labels={})))
        await execute.execute(cluster(), [Apply(service, new=True)], NOW)
        assert server.applied == []
        assert [patch["metadata"]["labels"] for _, _, patch in server.patched] == [selector("simple")]

    @virtual_time
    async def test_what_changes_nothing_is_noted(self) -> None:
        """(controller 8) Else it would be applied at every look."""
        service = scheduler_service(cluster())
        live = existing(service)
        execute, caches = on(_Names(live))
        await execute.execute(cluster(), [Apply(service)], NOW)
        assert caches.settled(live) == {fingerprint(service)}


@virtual_time
async def test_a_pod_that_is_gone_at_once_is_forgotten() -> None:
    """Of one that had ended the API server answers with the object, without a version."""
    execute, caches = on(_Gone())
    ended = existing(worker_pod(group(), 0, "x"))
    caches.pods.put(ended)
    (outcome,) = await execute.execute(group(), [Delete("Pod", "team", ended["metadata"]["name"], "there")], NOW)
    assert outcome.error == ""
    assert len(caches.pods.store) == 0


class _Handed(_Names):
    """An API server with a name that nobody has whenever it is looked at."""

    async def list(self, kind: str, namespace: str, *, fields: str) -> list[Any]:
        return []


class _Replaced(_Names):
    """An API server on which objects are replaced right before they are applied to; it answers as the real one."""

    async def apply(self, manifest: Any) -> Any:
        key = manifest["kind"], manifest["metadata"]["name"]
        self.there[key] = existing(manifest, uid="another")
        raise ApiError(422, "Invalid", "metadata.uid: Invalid value: field is immutable")


class _Refusing(_Names):
    """An API server that takes no Workloads."""

    async def create(self, manifest: Any) -> Any:
        if manifest["kind"] == "Workload":
            raise ApiError(500, "InternalError", "failed calling webhook")
        return await super().create(manifest)


class _Gone(_Names):
    async def delete(self, kind: str, namespace: str, name: str, **_: Any) -> Any:
        return {"kind": kind, "metadata": {"name": name, "namespace": namespace, "uid": "there"}}


class TestDeletedAsSeen:
    """(issue 12) A worker that is taken from the group, or changes, while its DELETE is under way is left alone."""

    @virtual_time
    async def test_a_worker_that_is_nobodys_by_now_stays(self) -> None:
        site = _Changing(group())
        site.change(ownerReferences=[])
        assert await site.delete_seen() == ""
        assert site.there, "it was deleted though it has no owner"
        assert site.caches.workers_of(site.group) == ()
        assert site.woken == {Key("DaskWorkerGroup", "team", "simple-default")}, "nobody looks for another one"

    @virtual_time
    async def test_one_of_which_only_the_status_has_changed_goes_at_the_next_look(self) -> None:
        site = _Changing(group())
        site.change()
        assert await site.delete_seen() == ""
        assert site.there, "it might have begun to run"
        assert site.woken == {Key("DaskWorkerGroup", "team", "simple-default")}
        assert await site.delete_seen() == ""
        assert not site.there

    @virtual_time
    async def test_what_was_seen_and_is_refused_all_the_same_is_tried_again(self) -> None:
        """Else nothing would tell of a change, and nobody would look for minutes."""
        site = _Changing(group())
        site.refuses = True
        assert await site.delete_seen() == "changed"


class _Changing(_Names):
    """An API server with a worker, which changes before the cache hears of it."""

    def __init__(self, of: DaskWorkerGroup) -> None:
        self.woken: set[Key] = set()
        self.group, self.refuses = of, False
        self.name = names.worker(of.name, 0)
        super().__init__(existing(worker_pod(of, 0, "x")))
        self.caches = Caches(self, None, wake_by(lambda key, _: self.woken.add(key)))  # type: ignore[arg-type]
        self.caches.pods.put(self.there["Pod", self.name])
        self.execute = Executor(self, self.caches, domain="x", parallel_requests=2, short_first=ShortFirst())  # type: ignore[arg-type]
        self.woken.clear()

    def change(self, **changes: Any) -> None:
        self.there["Pod", self.name] = existing(self.there["Pod", self.name], **({"resourceVersion": "2"} | changes))

    async def delete_seen(self) -> str:
        """What goes wrong with the deletion of the worker as the cache shows it."""
        (seen,) = self.caches.workers_of(self.group)
        (outcome,) = await self.execute.execute(self.group, [Delete.of(seen, version=seen.resource_version)], NOW)
        return outcome.error

    async def delete(self, kind: str, namespace: str, name: str, *, resource_version: str, **_: Any) -> Any:
        if self.refuses or self.there[kind, name]["metadata"]["resourceVersion"] != resource_version:
            raise ApiError(409, "Conflict", "changed")
        return self.there.pop((kind, name))


class TestLog:
    """(node 10) What is done is a line each, with what it is about as fields; what fails is told once."""

    @virtual_time
    async def test_a_line_per_action(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        service = scheduler_service(cluster())
        execute, _ = on(_Names())
        await execute.execute(cluster(), [Apply(service, new=True)], NOW)
        (record,) = caplog.records
        assert record.getMessage() == "DaskCluster team/simple: created Service simple-scheduler"
        assert record.k8s_ref == {  # type: ignore[attr-defined]
            "apiVersion": names.API_VERSION,
            "kind": "DaskCluster",
            "namespace": "team",
            "name": "simple",
        }

    @virtual_time
    async def test_what_is_tried_again_is_no_warning_at_first(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)

        async def refused(key: Key) -> float | None:
            raise ApiError(409, "Conflict", "somebody was quicker")

        queue = Queue[Key](expected=ApiError, log_fields=lambda key: key.log_fields)
        task = asyncio.create_task(queue.run(refused))
        queue.add(Key("DaskCluster", "team", "simple"))
        await asyncio.sleep(60)
        task.cancel()
        records = [record for record in caplog.records if "quicker" in record.getMessage()]
        assert records[0].getMessage().startswith("DaskCluster team/simple: somebody was quicker; again in")
        assert [record.levelname for record in records[:2]] == ["INFO", "WARNING"]
        assert all(record.k8s_ref["name"] == "simple" for record in records)  # type: ignore[attr-defined]
