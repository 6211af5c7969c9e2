"""Who has a place where the operator's limits bound how many there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.offline import OFFLINE
from tests.support.states import (
    NAMESPACE,
    NOW,
    autoscaler,
    cluster,
    condition,
    group,
    job,
    metadata,
    observed_cluster,
    observed_group,
    worker_pod,
)

from dask_controller.core.actions import CreateWorker, Plan
from dask_controller.core.cluster_status import cluster_status
from dask_controller.core.limits import TOLD, Limits, Line, WorkerPlaces, waits, workers_wait
from dask_controller.core.worker_group import plan_worker_group
from dask_controller.core.worker_group_status import worker_group_status
from dask_controller.shell.caches import Caches, Key
from dask_controller.shell.dispatch import snapshot
from dask_controller.shell.limited import forget, take_places
from dask_controller.shell.places import Places
from dask_crds import names
from dask_crds.model import DaskAutoscalerStatus, DaskJobStatus, RollingUpdate, UpdateStrategy, dump
from dask_crds.names import Label
from dask_crds.reasons import Reason
from dask_resources.scheduler import scheduler_deployment

# --- the option -------------------------------------------------------------------------------------------------------


def test_an_exception_takes_the_place_of_what_it_names_and_of_nothing_else() -> None:
    limits = Limits.read('{"workers": 9, "jobs": 2, "namespaces": {"big": {"workers": 99, "jobs": "none"}}}')
    assert [limits.of(what, "big") for what in ("workers", "clusters", "jobs")] == [99, None, None]
    assert [limits.of(what, "other") for what in ("workers", "clusters", "jobs")] == [9, None, 2]


@pytest.mark.parametrize("text", ['{"worker": 1}', '{"workers": -1}', '{"by": "user"}', '{"jobs": 1.5}', "[]", "{", ""])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        Limits.read(text)


# --- the line ---------------------------------------------------------------------------------------------------------


def test_a_free_place_goes_to_the_oldest_then_by_uid() -> None:
    line = Line(1)
    line.put("running", "3", 1, 0)
    for uid, created in (("c", "2"), ("b", "1"), ("a", "2")):
        assert line.put(uid, created, 1, 0) == []
    assert line.first == ("b", "a", "c")
    assert [line.position(uid) for uid in "bac"] == [0, 1, 2]
    assert line.drop("running") == ["b"]
    assert line.drop("b") == ["a"]


def test_of_groups_the_one_with_the_fewest_is_next() -> None:
    line = Line(6)
    line.put("old", "1", 6, 0)
    line.put("new", "2", 2, 0)
    assert (line.places("old"), line.places("new")) == (6, 0)
    assert line.put("old", "1", 6, 3) == [], "what it has or is about to have is not taken away"
    line.put("old", "1", 3, 3)
    assert (line.places("old"), line.places("new")) == (3, 2)
    line.put("third", "3", 4, 0)
    assert line.places("third") == 1


def test_a_lower_limit_takes_nothing_from_what_runs_and_lets_nobody_in() -> None:
    line = Line(1)
    for uid in "abc":
        line.put(uid, uid, 1, 1, share=False)
    line.put("d", "0", 1, 0)
    assert [line.places(uid) for uid in "abcd"] == [1, 1, 1, 0]
    assert line.drop("a") == line.drop("b") == []
    assert line.drop("c") == ["d"]


def test_a_place_is_free_when_nothing_uses_it_any_more() -> None:
    line = Line(1)
    line.put("a", "1", 1, 0)
    line.put("b", "2", 1, 0)
    assert line.put("a", "1", 0, 1) == []
    assert line.put("a", "1", 0, 0) == ["b"]


def test_runs_that_need_many_places_do_not_wait_for_one_another() -> None:
    """Each had a part of what both needed, for ever."""
    line = Line(40)
    for uid in "ab":
        line.put(uid, uid, 40, 0, run=f"run-{uid}", least=30, share=False)
    line.share()
    assert [line.places(uid) for uid in "ab"] == [30, 10]
    assert line.drop("a") == ["b"]
    assert line.places("b") == 40


def test_who_has_a_part_of_what_it_needs_comes_before_an_older_one() -> None:
    line = Line(4)
    line.put("others", "0", 2, 0)
    line.put("young", "2", 3, 0, run="young", least=3)
    line.put("old", "1", 3, 0, run="old", least=3)
    line.put("others", "0", 1, 0)
    assert [line.places(uid) for uid in ("young", "old")] == [3, 0]


def test_groups_of_one_run_have_what_it_needs_together() -> None:
    line = Line(5)
    for uid in ("a1", "a2", "b1", "b2"):
        line.put(uid, uid, 2, 0, run=uid[0], least=4, share=False)
    line.share()
    assert [line.places(uid) for uid in ("a1", "a2", "b1", "b2")] == [2, 2, 1, 0]


def test_a_run_that_can_never_begin_keeps_nobody_waiting() -> None:
    line = Line(4)
    line.put("many", "1", 9, 0, run="many", least=9)
    line.put("less", "2", 2, 0, run="less", least=3)  # than it needs: somebody scales it down
    line.put("few", "3", 2, 0, run="few", least=2)
    assert [line.places(uid) for uid in ("many", "less", "few")] == [0, 2, 2]


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), max_size=8),
)
def test_all_runs_that_can_begin_do_whenever_they_come(limit: int, runs: list[tuple[int, int, bool]]) -> None:
    """Each ends as soon as it has what it needs."""
    line, there = Line(limit), dict[str, tuple[int, int]]()

    def end() -> None:
        for uid, (_, least) in [*there.items()]:
            if line.places(uid) >= max(1, least):
                line.drop(uid)
                del there[uid]

    for n, (more, least, ends) in enumerate(runs):
        uid = str(9 - n)  # the newest may have been created first: it was suspended
        there[uid] = least + more, least
        line.put(uid, uid, least + more, 0, run=uid, least=least)
        if ends:
            end()
    for _ in runs:
        end()
    assert all(least > limit or not wants for wants, least in there.values())


class Lines(RuleBasedStateMachine):
    """A line as reconciles use it: what somebody uses is seen late, and never more than it was let."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(0)
        self.wants: dict[str, int] = {}
        self.uses: dict[str, int] = {}
        self.before = 0  #: in use when the operator began to lead

    uids = st.sampled_from("abcdef")

    def put(self, uid: str, *, share: bool = True) -> list[str]:
        wants, uses = self.wants.get(uid, 0), self.uses.get(uid, 0)
        return self.line.put(uid, uid, wants, uses, share=share)

    @rule(limit=st.integers(0, 6))
    def restart(self, limit: int) -> None:
        """Of another operator, with another limit: it knows nothing but what is in use, and what is wanted."""
        self.line = Line(limit)
        self.before = sum(self.uses.values())
        for uid in {*self.wants, *self.uses}:
            self.put(uid, share=False)
        self.line.share()

    @rule(uid=uids, wants=st.integers(0, 5))
    def ask(self, uid: str, wants: int) -> None:
        self.wants[uid] = wants
        given = self.put(uid)
        assert all(self.line.places(other) for other in given)

    @rule(uid=uids)
    def use(self, uid: str) -> None:
        """All that it may, though nobody is told of it."""
        self.uses[uid] = max(self.uses.get(uid, 0), min(self.wants.get(uid, 0), self.line.places(uid)))

    @rule(uid=uids)
    def end(self, uid: str) -> None:
        self.uses[uid] = max(0, self.uses.get(uid, 0) - 1)
        self.put(uid)

    @precondition(lambda self: self.wants)
    @rule(uid=uids)
    def delete(self, uid: str) -> None:
        if not self.uses.get(uid):
            self.wants.pop(uid, None)
            self.line.drop(uid)

    @invariant()
    def never_more_than_the_limit_or_what_ran_before(self) -> None:
        assert sum(self.uses.values()) <= max(self.line.limit, self.before)
        assert self.line.taken == sum(self.line.places(uid) for uid in "abcdef")
        assert all(self.line.places(uid) >= uses for uid, uses in self.uses.items())

    @invariant()
    def nobody_waits_for_a_free_place_and_all_who_wait_are_in_line(self) -> None:
        waiting = {uid for uid, wants in self.wants.items() if wants > self.line.places(uid)}
        assert {*self.line.first} == set(sorted(waiting)[:TOLD])
        assert not waiting or self.line.taken >= self.line.limit


TestLines = Lines.TestCase
TestLines.settings = settings(max_examples=200, stateful_step_count=40)


# --- a group ----------------------------------------------------------------------------------------------------------


def created(plan: Plan) -> list[int]:
    return [action.ordinal for action in plan.actions if isinstance(action, CreateWorker)]


def test_workers_beyond_the_limit_are_not_made_and_the_status_says_so() -> None:
    g = group(replicas=5)
    o = observed_group(g, worker_pod(g, 0), places=WorkerPlaces(3, "namespace team may have 4 workers at a time"))
    plan = plan_worker_group(o, NOW)
    assert created(plan) == [1, 2]
    status = worker_group_status(o, plan, [], NOW + 3600)
    assert status.desired_replicas == 5
    ready = condition(status.conditions, "Ready")
    assert ready.reason == Reason.LIMIT_REACHED
    assert ready.message == "1 of 5 workers are ready; 2 workers wait: namespace team may have 4 workers at a time"
    assert condition(status.conditions, "Stalled").status == "False"


def test_what_an_autoscaler_asks_for_stays_and_the_limit_bounds_what_comes_of_it() -> None:
    g, scaler = group(replicas=1), autoscaler(status=DaskAutoscalerStatus(desired_replicas=6))
    o = observed_group(g, worker_pod(g, 0), autoscaler=scaler, places=WorkerPlaces(2, "x"))
    plan = plan_worker_group(o, NOW)
    assert created(plan) == [1]
    status = worker_group_status(o, plan, [], NOW)
    assert (status.desired_replicas, status.autoscaler) == (6, "simple")
    assert condition(status.conditions, "Ready").message == "1 of 6 workers are ready; 4 workers wait: x"


def test_what_terminates_has_its_place_still() -> None:
    g = group(replicas=3)
    pods = (worker_pod(g, 0), worker_pod(g, 1, deleting=True), worker_pod(g, 2))
    assert created(plan_worker_group(observed_group(g, *pods, places=WorkerPlaces(3, "")), NOW)) == []


def test_within_a_limit_workers_are_replaced_where_they_are() -> None:
    surge = UpdateStrategy(rolling_update=RollingUpdate(max_surge=2))
    g = group(replicas=2, drain_timeout_seconds=0, update_strategy=surge)
    pods = [worker_pod(g, n, revision="old") for n in (0, 1)]
    assert created(plan_worker_group(observed_group(g, *pods), NOW)) == [2, 3]
    assert created(plan_worker_group(observed_group(g, *pods, places=WorkerPlaces(2, "")), NOW)) == []


def test_who_has_all_that_it_wants_is_told_nothing() -> None:
    assert workers_wait(None, 3) is None
    assert workers_wait(WorkerPlaces(3, "x"), 3) is None


# --- from caches ------------------------------------------------------------------------------------------------------


class World:
    """Caches, and who was woken."""

    def __init__(self, **limits: Any) -> None:
        self.woken: list[Key] = []
        places = Places(msgspec.convert(limits, Limits), Label.OWNER, lambda key, _: self.woken.append(key))
        self.caches = Caches(OFFLINE, None, places=places)
        self._version = 0

    def put(self, manifest: dict[str, Any]) -> None:
        self._version += 1
        stored = {**manifest["metadata"], "resourceVersion": str(self._version)}
        self.caches.informers[manifest["kind"]].put(
            {**manifest, "metadata": {"uid": f"uid-{manifest['kind']}-{manifest['metadata']['name']}", **stored}}
        )

    def see(self, of: Any) -> Any:
        """Look at a resource, as its own reconcile does."""
        self.put({"apiVersion": names.API_VERSION, "kind": of.kind, **dump(of)}) if of.kind != "DaskJob" else None
        return snapshot(self.caches, of)

    def run(self, of: Any) -> None:
        """Its scheduler's Deployment is there, and was seen."""
        self.put(scheduler_deployment(of) | {"status": {"observedGeneration": 1}})

    def delete(self, of: Any) -> None:
        self.caches.informers[of.kind].remove(of.uid) if of.kind != "DaskJob" else None
        forget(self.caches, Key(of.kind, of.namespace, of.name))


def of(value: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(value, metadata={**value.metadata, **fields})


def at(value: Any, second: int, **fields: Any) -> Any:
    return of(value, creationTimestamp=f"2026-01-01T00:00:{second:02}Z", **fields)


def test_a_cluster_beyond_the_limit_is_as_if_suspended_and_says_why() -> None:
    world = World(clusters=1)
    first, second, third = (at(cluster(name), n) for n, name in enumerate("abc"))
    assert not world.see(first).cluster.spec.suspend
    held = world.see(second)
    assert held.cluster.spec.suspend
    said = cluster_status(held, Plan(), [], NOW)
    where = f"namespace {NAMESPACE} may have 1 running cluster at a time (limit of the operator): next in line"
    for type in ("Ready", "Admitted"):
        found = condition(said.conditions, type)
        assert (found.status, found.reason, found.message) == ("False", Reason.LIMIT_REACHED, where)
    assert condition(said.conditions, "Suspended").status == "False"
    assert condition(said.conditions, "SchedulerReady").reason == Reason.LIMIT_REACHED
    assert "second in line" in world.see(third).queued.limited.message

    world.delete(first)
    assert Key("DaskCluster", NAMESPACE, "b") in world.woken, "who is next starts"
    assert Key("DaskCluster", NAMESPACE, "c") in world.woken, "who comes up is told"
    assert not world.see(second).cluster.spec.suspend
    assert "next in line" in world.see(third).queued.limited.message


def test_a_suspended_cluster_has_its_place_until_nothing_of_it_runs() -> None:
    world = World(clusters=1)
    first, second = at(cluster("a"), 0), at(cluster("b"), 1)
    world.see(first)
    world.run(first)
    suspended = at(cluster("a", suspend=True), 0)
    assert world.see(suspended).queued is None, "its user has suspended it"
    assert world.see(second).queued.limited is not None
    world.put(scheduler_deployment(suspended) | {"status": {"replicas": 1}})
    world.see(suspended)
    assert world.see(second).queued.limited is not None, "Kubernetes may make a Pod still"
    world.run(suspended)
    world.see(suspended)
    assert world.see(second).queued is None


def test_whose_groups_look_at_a_cluster_gives_no_place_back() -> None:
    """They may see it as it was before."""
    world = World(clusters=1)
    first = at(cluster("a"), 0)
    world.see(first)
    world.put({"apiVersion": names.API_VERSION, "kind": "DaskCluster", **dump(at(cluster("a", suspend=True), 0))})
    world.see(group("a-default", cluster_name="a"))
    assert world.see(at(cluster("b"), 1)).queued.limited is not None


def test_a_cluster_in_a_queue_of_kueue_counts_nowhere() -> None:
    world = World(clusters=0, workers=0)
    queued = at(cluster("a"), 0, labels={Label.QUEUE: "team"})
    assert world.see(queued).queued.limited is None
    assert world.see(group("a-default", cluster_name="a")).places is None


def test_an_owner_has_a_limit_of_its_own_in_each_namespace() -> None:
    world = World(clusters=1, by="owner")
    anna, again, bert = (
        at(cluster(n), 0, labels={Label.OWNER: o}) for n, o in (("a", "anna"), ("b", "anna"), ("c", "bert"))
    )
    elsewhere = of(anna, namespace="other", uid="elsewhere")
    assert world.see(anna).queued is None
    assert "anna may have 1 running cluster at a time in namespace team" in world.see(again).queued.limited.message
    assert world.see(bert).queued is None
    assert world.see(elsewhere).queued is None
    handed_on = of(again, labels={Label.OWNER: "carl"}, resourceVersion="9")
    assert world.see(handed_on).queued is None


def test_jobs_run_in_turn_and_their_clusters_are_no_clusters_of_their_own() -> None:
    world = World(jobs=1, clusters=0)
    first, second = at(job("a"), 0), at(job("b"), 1)
    assert not world.see(first).job.spec.suspend
    held = world.see(second)
    assert held.job.spec.suspend
    owner = {"kind": "DaskJob", "name": "a", "uid": first.uid, "controller": True, "apiVersion": names.API_VERSION}
    assert world.see(of(cluster("a"), uid="ca", ownerReferences=[owner])).queued is None
    ended = DaskJobStatus(conditions=[_true("Complete")])
    assert world.see(msgspec.structs.replace(first, status=ended)).queued is None
    assert world.woken[-1] == Key("DaskJob", NAMESPACE, "b")
    assert world.see(second).queued is None


def test_a_suspended_job_has_its_place_while_its_clusters_scheduler_may_be_under_way() -> None:
    world = World(jobs=1)
    first, second = at(job("a"), 0), at(job("b"), 1)
    world.see(first)
    owner = {"kind": "DaskJob", "name": "a", "uid": first.uid, "controller": True, "apiVersion": names.API_VERSION}
    world.see(of(cluster("a", suspend=True), uid="ca", ownerReferences=[owner]))
    suspended = msgspec.structs.replace(first, spec=msgspec.structs.replace(first.spec, suspend=True))
    its_cluster = Key("DaskCluster", NAMESPACE, "a")
    world.caches.busy.add(its_cluster)
    world.see(suspended)
    assert world.see(second).queued.limited is not None
    world.caches.busy.discard(its_cluster)
    world.see(suspended)
    assert world.see(second).queued is None


def _true(type: str) -> Any:
    found = condition(cluster_status(observed_cluster(cluster()), Plan(), [], NOW).conditions, "Ready")
    return msgspec.structs.replace(found, type=type, status="True")


def test_workers_of_a_jobs_cluster_are_its_owners() -> None:
    """What belongs to one object, such as its owner, is not copied to children."""
    world = World(workers=1, by="owner")
    j = at(job("a"), 0, labels={Label.OWNER: "anna"})
    world.see(j)
    owner = {"kind": "DaskJob", "name": "a", "uid": j.uid, "controller": True, "apiVersion": names.API_VERSION}
    world.see(of(cluster("a"), uid="ca", ownerReferences=[owner]))
    assert world.see(group("a-default", cluster_name="a", replicas=3)).places.count == 1
    world.see(at(cluster("b"), 0, labels={Label.OWNER: "anna"}))
    limited = world.see(group("b-default", cluster_name="b", replicas=3)).places
    assert (limited.count, limited.limit.split()[0]) == (0, "anna")


def test_workers_of_jobs_have_places_for_one_job_after_the_other() -> None:
    world = World(workers=4)
    jobs = [at(job(name, minimum_ready_workers=3), n) for n, name in enumerate("ab")]
    for n, j in enumerate(jobs):
        world.see(j)
        owner = {"kind": "DaskJob", "name": j.name, "uid": j.uid, "controller": True, "apiVersion": names.API_VERSION}
        world.see(of(at(cluster(j.name), n), uid=f"c{n}", ownerReferences=[owner]))
    world.see(at(cluster("c"), 2))
    world.see(group("c-default", cluster_name="c", replicas=4))
    groups = [group(f"{j.name}-default", cluster_name=j.name, replicas=3) for j in jobs]
    assert [world.see(each).places.count for each in groups] == [0, 0]
    world.see(group("c-default", cluster_name="c", replicas=0))
    assert [world.see(each).places.count for each in groups] == [3, 1]
    before = len(world.woken)
    world.see(msgspec.structs.replace(jobs[1], spec=msgspec.structs.replace(jobs[1].spec, minimum_ready_workers=1)))
    assert Key("DaskWorkerGroup", NAMESPACE, "b-default") in world.woken[before:], "it waits for fewer now"


def test_workers_of_a_deleted_group_have_their_places_until_they_are_gone() -> None:
    world = World(workers=2)
    world.see(cluster("simple"))
    one, two = group("simple-one", replicas=2), group("simple-two", replicas=2)
    assert world.see(one).places.count == 2
    world.caches.pods._set(_pod_manifest(one, 0))
    assert world.see(two).places.count == 0
    world.delete(one)
    assert world.see(two).places.count == 1
    world.caches.pods.remove("p0")
    forget(world.caches, Key("DaskWorkerGroup", NAMESPACE, "simple-one"))
    assert world.see(two).places.count == 2
    assert world.woken[-1] == Key("DaskWorkerGroup", NAMESPACE, "simple-two")


def test_what_has_the_name_of_another_one_has_its_own_claim() -> None:
    """Nobody may have looked in between, so that nobody has seen that the other one is gone."""
    world = World(clusters=1, jobs=1)
    world.see(at(cluster("a"), 0))
    assert world.see(at(cluster("a"), 1, uid="another")).queued is None
    world.see(at(job("j"), 0))
    assert world.see(at(job("j"), 1, uid="another")).queued is None
    world = World(workers=2)
    world.see(cluster("a"))
    g = group("a-more", cluster_name="a", replicas=2)
    assert world.see(g).places.count == 2
    world.caches.pods._set(_pod_manifest(g, 0))
    another = of(g, uid="another", resourceVersion="9")
    assert world.see(another).places.count == 1, "a worker of the one before is still there"
    world.caches.pods.remove("p0")
    assert world.see(another).places.count == 2


class Empty(SimpleNamespace):
    """An API server without jobs."""

    async def pages(self, *_: Any) -> AsyncIterator[Any]:
        for page in getattr(self, "of_jobs", ()):
            yield page


def runs(world: World, of: Any) -> str:
    """A cluster has a scheduler and a worker, whose uid is returned."""
    world.run(of)
    deployment = f"uid-Deployment-{names.scheduler(of.name)}"
    sets = {
        "kind": "ReplicaSet",
        "metadata": _child(f"{of.name}-rs", "Deployment", deployment, {Label.CLUSTER: of.name}),
    }
    world.put(sets)
    world.put(_pod(f"{of.name}-scheduler-1", "ReplicaSet", f"uid-ReplicaSet-{of.name}-rs", of.name, "scheduler"))
    workers = group(f"{of.name}-default", cluster_name=of.name)
    world.put({"apiVersion": names.API_VERSION, "kind": workers.kind, **dump(workers)})
    world.put(_pod(f"{of.name}-worker-1", "DaskWorkerGroup", workers.uid, of.name, "worker"))
    return f"uid-Pod-{of.name}-worker-1"


def collected(world: World, of: Any) -> None:
    """Kubernetes has collected all of a deleted cluster but its Pods."""
    world.caches.deployments.remove(f"uid-Deployment-{names.scheduler(of.name)}")
    world.caches.replica_sets.remove(f"uid-ReplicaSet-{of.name}-rs")
    world.caches.groups.remove(f"uid-{of.name}-default")
    forget(world.caches, Key("DaskCluster", NAMESPACE, of.name))


def test_a_deleted_cluster_has_its_place_until_its_pods_are_gone() -> None:
    world = World(clusters=1)
    first, second = at(cluster("a"), 0), at(cluster("b"), 1)
    world.see(first)
    worker = runs(world, first)
    world.see(first)
    world.delete(first)
    assert world.see(second).queued.limited is not None
    collected(world, first)
    assert world.see(second).queued.limited is not None, "what has made its Pods has gone, and they have not"
    world.caches.pods.remove("uid-Pod-a-scheduler-1")
    forget(world.caches, Key("DaskCluster", NAMESPACE, "a"))
    assert world.see(second).queued.limited is not None
    assert world.woken[-1] == Key("DaskCluster", NAMESPACE, "a"), "of workers no watch tells it"
    world.caches.pods.remove(worker)
    forget(world.caches, Key("DaskCluster", NAMESPACE, "a"))
    assert world.see(second).queued is None
    assert not world.caches.places.makers.keys() - {second.uid}


def test_a_new_cluster_of_the_same_name_waits_for_the_pods_of_the_one_before() -> None:
    world = World(clusters=1)
    first = at(cluster("a"), 0)
    world.see(first)
    worker = runs(world, first)
    world.see(first)
    world.caches.clusters.remove(first.uid)
    again = at(cluster("a"), 1, uid="another")
    assert world.see(again).queued.limited is not None
    collected(world, first)
    world.caches.pods.remove("uid-Pod-a-scheduler-1")
    assert world.see(again).queued.limited is not None
    world.caches.pods.remove(worker)
    assert world.see(again).queued is None


def test_workers_of_a_users_group_are_those_of_the_cluster_that_is_there() -> None:
    world = World(clusters=2)
    first = at(cluster("a"), 0)
    world.see(first)
    users = group("mine", cluster_name="a", owned=False)
    world.put({"apiVersion": names.API_VERSION, "kind": users.kind, **dump(users)})
    world.put(_pod("mine-worker-1", "DaskWorkerGroup", users.uid, "a", "worker"))
    world.see(first)
    world.caches.clusters.remove(first.uid)
    world.see(at(cluster("a"), 1, uid="another"))
    assert world.see(at(cluster("b"), 2)).queued is None


def test_a_deleted_job_has_its_place_until_its_pods_are_gone() -> None:
    world = World(jobs=1)
    first, second = at(job("a"), 0), at(job("b"), 1)
    world.see(first)
    world.put({"kind": "Job", "metadata": _child("a-runner", "DaskJob", first.uid, {Label.CLUSTER: "a"})})
    world.put(_pod("a-runner-1", "Job", "uid-Job-a-runner", "a", "job-runner"))
    world.see(first)
    world.delete(first)
    world.caches.jobs.remove("uid-Job-a-runner")
    world.delete(first)
    assert world.see(second).queued.limited is not None
    world.caches.pods.remove("uid-Pod-a-runner-1")
    world.delete(first)
    assert world.see(second).queued is None


async def test_whoever_begins_to_lead_counts_pods_of_what_is_gone() -> None:
    world = World(clusters=1, jobs=1)
    first, second = at(cluster("a"), 0), at(cluster("b"), 1)
    worker = runs(world, first)
    collected(world, first)
    await take_places(world.caches, Empty(), None)
    assert world.see(second).queued.limited is not None
    assert world.see(at(job("j"), 1)).queued.limited is not None, "it may have been a job's"
    assert {*world.woken} == {Key(kind, NAMESPACE, "a") for kind in ("DaskCluster", "DaskJob")}
    for pod in ("uid-Pod-a-scheduler-1", worker):
        world.caches.pods.remove(pod)
    for kind in ("DaskCluster", "DaskJob"):
        forget(world.caches, Key(kind, NAMESPACE, "a"))
    assert world.see(second).queued is None
    assert world.see(at(job("j"), 1)).queued is None


async def test_whoever_begins_to_lead_counts_what_runs_once() -> None:
    world = World(clusters=2)
    first = at(cluster("a"), 0)
    world.see(first)
    runs(world, first)
    world.caches.places = Places(Limits(clusters=2), Label.OWNER, lambda *_: None)
    await take_places(world.caches, Empty(), None)
    assert world.see(at(cluster("b"), 1)).queued is None
    assert world.see(at(cluster("c"), 2)).queued.limited is not None


def _child(name: str, owner_kind: str, owner: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """Metadata of what has that controller."""
    reference = {"apiVersion": names.API_VERSION, "kind": owner_kind, "name": "x", "uid": owner, "controller": True}
    return {"name": name, "namespace": NAMESPACE, "labels": labels or {}, "ownerReferences": [reference]}


def _pod(name: str, owner_kind: str, owner: str, cluster: str, component: str) -> dict[str, Any]:
    labels = {Label.CLUSTER: cluster, Label.COMPONENT: component}
    fields = _child(name, owner_kind, owner, labels)
    return {"kind": "Pod", "metadata": fields, "spec": {"containers": []}, "status": {"phase": "Running"}}


def _pod_manifest(of: Any, ordinal: int) -> dict[str, Any]:
    owner = {"kind": "DaskWorkerGroup", "name": of.name, "uid": of.uid, "controller": True}
    fields = metadata(names.worker(of.name, ordinal), uid=f"p{ordinal}", ownerReferences=[owner])
    return {"kind": "Pod", "metadata": fields, "spec": {"containers": []}, "status": {"phase": "Running"}}


def test_a_thousand_that_wait_cost_the_one_who_comes_next_to_nothing() -> None:
    world = World(clusters=1)
    for n in range(1000):
        world.see(at(cluster(f"c{n:04}"), 0))
    world.woken.clear()
    world.see(at(cluster("last"), 59))
    assert world.woken == [], "nobody's place in line is another one"
    world.delete(at(cluster("c0000"), 0))
    assert len(world.woken) == TOLD + 1


def test_where_there_is_no_limit_nothing_is_asked() -> None:
    world = World(jobs=1)
    assert world.see(cluster()).queued is None
    assert world.see(group()).places is None


def test_the_place_in_line_is_told_to_the_first() -> None:
    told = [waits("x", n).message for n in range(TOLD + 2)]
    assert told[:2] == ["x: next in line", "x: second in line"]
    assert told[TOLD] == told[TOLD + 1] == "x: more than 5 are before it in line"
