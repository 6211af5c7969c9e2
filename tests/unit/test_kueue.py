"""Decisions about what waits in a queue of Kueue: the base, each worker beyond it, and what is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.offline import OFFLINE
from tests.support.questions import answers_of
from tests.support.states import (
    NOW,
    cluster,
    condition,
    group,
    job,
    metadata,
    observed_cluster,
    observed_group,
    pod_spec,
    scheduler_pod,
    worker_pod,
)

from dask_controller.core.actions import Apply, CreateWorker, Delete, Patch
from dask_controller.core.cluster import plan_cluster
from dask_controller.core.cluster_status import cluster_status
from dask_controller.core.observed import ObservedGroup
from dask_controller.core.pod import Pod, Problem, pod
from dask_controller.core.queue import (
    ENDED_POLL_SECONDS,
    GONE_POLL_SECONDS,
    Queued,
    as_admitted,
    base_actions,
    job_as_admitted,
    noting_quota,
    runner_may_come,
    scheduler_may_come,
)
from dask_controller.core.queue_runner import Moved, moved
from dask_controller.core.queue_status import admitted
from dask_controller.core.queue_workers import FEWEST_PENDING, Grant, GroupQueue, below, surplus_actions
from dask_controller.core.queue_workload import Flavor, Workload, placement, waited, workload
from dask_controller.core.time import format_time
from dask_controller.core.worker_group import plan_worker_group
from dask_controller.core.worker_group_status import worker_group_status
from dask_controller.shell.caches import Caches, Key
from dask_controller.shell.dispatch import snapshot
from dask_crds import names
from dask_crds.model import DaskWorkerGroupStatus, DrainingWorker, TemplateMetadata, WorkerGroup, dump
from dask_crds.names import Annotation, Label
from dask_crds.reasons import Reason
from dask_resources.job import job_cluster
from dask_resources.queue import (
    RUNNER,
    SCHEDULER,
    Placement,
    Priority,
    base_pod_sets,
    base_workload,
    placed_pod,
    pod_set,
    surplus_workload,
)
from dask_resources.worker import worker_pod as built_worker

QUEUE = "team"
FLAVOR = Flavor("spot", {"pool": "spot"}, ({"key": "spot", "operator": "Exists"},))


def conditions(**types: bool) -> list[dict[str, Any]]:
    return [{"type": t, "status": str(v), "reason": "R", "message": f"words of {t}"} for t, v in types.items()]


def stored(manifest: dict[str, Any], *, count: int = 1, flavor: str = "spot", **types: bool) -> dict[str, Any]:
    """A Workload as the API server has it, with these conditions."""
    sets = manifest["spec"]["podSets"]
    assignments = [{"name": s["name"], "count": s["count"], "flavors": {"cpu": flavor}} for s in sets]
    admission = {"clusterQueue": "all", "podSetAssignments": assignments} if types.get("QuotaReserved") else None
    server = {"uid": f"uid-{manifest['metadata']['name']}", "resourceVersion": "7"}
    status = {"conditions": conditions(**types), "admission": admission}
    return {**manifest, "metadata": {**manifest["metadata"], **server}, "status": status}


ADMITTED = {"QuotaReserved": True, "Admitted": True}


def queued(of: Any = None, *, base: dict[str, bool] | None = None, **fields: Any) -> Queued:
    """A cluster in a queue, and its base with those conditions, if any are given."""
    wanted = base_workload(of or cluster(), QUEUE, Priority())
    found = workload(stored(wanted, **base)) if base is not None else None
    return Queued(**{"name": QUEUE, "wanted": wanted, "base": found, **fields})


def told(q: Queued) -> list[Any]:
    return base_actions(q, NOW)[0]


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_the_base_is_scheduler_runner_and_what_is_guaranteed():
    assert [(s.name, s.count) for s in base_pod_sets(cluster(replicas=3))] == [("scheduler", 1), ("simple-default", 3)]
    sets = base_pod_sets(job("hello", minimum_ready_workers=1))
    assert [(s.name, s.count) for s in sets] == [("scheduler", 1), ("runner", 1), ("hello-default", 1)]
    c = cluster(replicas=3)
    of = msgspec.structs.replace
    none = of(c, spec=of(c.spec, worker=of(c.spec.worker, guaranteed=0)))
    assert [s.name for s in base_pod_sets(none)] == ["scheduler"]


def test_a_workload_holds_what_counts_and_belongs_to_who_named_the_queue():
    made = base_workload(cluster(), QUEUE, Priority(5, "high"))
    assert made["spec"]["priorityClassRef"]["name"] == "high"
    assert made["spec"]["priority"] == 5
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-simple"
    assert Label.QUEUE not in made["metadata"]["labels"]
    (container,) = made["spec"]["podSets"][0]["template"]["spec"]["containers"]
    assert container == {"name": "dask", "image": "dask:1"}


@pytest.mark.parametrize(
    ("changed", "anew"),
    [
        ({"image": "dask:2"}, False),
        ({"name": "main"}, False),
        ({"ports": [{"containerPort": 8787, "name": "dashboard"}]}, False),
        ({"resources": {"requests": {"cpu": 1}}}, False),
        ({"resources": {"requests": {"cpu": "1000m"}}}, False),
        ({"resources": {"requests": {"cpu": "2"}}}, True),
        ({"resources": {"requests": {"cpu": "1", "example.com/gpu": 1}}}, True),
        ({"resources": {"requests": {"cpu": "1"}, "claims": [{"name": "gpu"}]}}, True),
        ({"ports": [{"containerPort": 1, "hostPort": 1}]}, True),
    ],
)
def test_what_takes_the_same_quota_on_the_same_nodes_needs_no_other(changed, anew):
    spec = {"containers": [{"name": "dask", "image": "dask:1", "resources": {"requests": {"cpu": "1"}}}]}
    other = {"containers": [{**spec["containers"][0], **changed}]}
    assert (pod_set("worker", 1, spec).revision != pod_set("worker", 1, other).revision) is anew


def test_ports_of_the_node_are_stated_and_no_others():
    spec = {"containers": [{"name": "dask", "image": "dask:1", "ports": [{"containerPort": 1}]}]}
    assert "ports" not in pod_set("worker", 1, spec).template["containers"][0]
    assert pod_set("worker", 1, {**spec, "hostNetwork": True}).template["containers"][0]["ports"]


def at(seconds: float, *, created: float = 0.0, **types: bool) -> Workload:
    """A Workload whose conditions have become so at that time, in seconds from now."""
    it = workload(stored(base_workload(cluster(), QUEUE, Priority()), **types))
    since = {"lastTransitionTime": format_time(NOW + seconds)}
    changed = tuple({**c, **since} for c in it.conditions)
    return msgspec.structs.replace(it, created=NOW + created, conditions=changed)


PENDING = {"QuotaReserved": False}


@pytest.mark.parametrize(
    ("old", "new", "seconds"),
    [
        (at(1, **PENDING), at(90, **ADMITTED), 90.0),
        (at(1, **PENDING), at(90, QuotaReserved=True, Admitted=False), None),  # admission checks are awaited
        (at(60, QuotaReserved=True, Admitted=False), at(90, **ADMITTED), 90.0),
        (at(90, **ADMITTED), at(90, **ADMITTED), None),
        (at(90, **ADMITTED), at(100, **ADMITTED, Evicted=True), None),
        (at(200, **PENDING, Admitted=False, Requeued=True), at(290, **ADMITTED, Requeued=True), 90.0),  # it was evicted
        (at(200, **PENDING, Requeued=False), at(290, **ADMITTED, Requeued=False), 90.0),
        (None, at(90, **ADMITTED), None),  # who has just started has seen none wait
        (at(1, **PENDING), None, None),
        (at(1, **PENDING), at(-5, **ADMITTED), 0.0),  # nobody's clock is ours
    ],
)
def test_how_long_a_workload_has_waited(old, new, seconds):
    assert waited(old, new) == seconds


def test_each_run_of_a_job_is_a_workload_of_its_own():
    runs = {base_workload(job(run_id=n), QUEUE, Priority())["metadata"]["name"] for n in ("1", "2", None)}
    assert len(runs) == 3


# --- the base ---------------------------------------------------------------------------------------------------------


def test_without_a_workload_nothing_runs_and_one_is_made():
    q = queued()
    assert q.held
    assert [type(a) for a in told(q)] == [Apply]
    assert as_admitted(cluster(), q).spec.suspend is True


def test_no_workload_is_made_before_what_ran_without_quota_is_gone():
    q = queued(running=2)
    assert q.held
    assert told(q) == []
    assert base_actions(q, NOW)[1]


@pytest.mark.parametrize("base", [{}, {"QuotaReserved": False}, {"QuotaReserved": True, "Admitted": False}])
def test_nothing_runs_before_all_has_been_admitted(base):
    assert queued(base=base).held
    assert told(queued(base=base)) == []


def test_once_admitted_it_runs_where_its_quota_is():
    q = queued(base=ADMITTED, placements={SCHEDULER: Placement(node_selector={"pool": "spot"})})
    assert not q.held
    admitted = as_admitted(cluster(), q)
    assert admitted.spec.suspend is None
    assert admitted.spec.scheduler.spec["nodeSelector"] == {"pool": "spot"}


def test_that_it_is_ready_is_told_once_and_its_recovery_too():
    (patch,) = told(queued(base=ADMITTED, ready=True))
    assert (patch.subresource, patch.patch["metadata"]["resourceVersion"]) == ("status", "7")
    assert told(queued(base=ADMITTED, ready=False)) == [], "without a word Kueue waits for the start"
    ready = patch.patch["status"]["conditions"][-1]
    assert (ready["type"], ready["status"], ready["reason"]) == ("PodsReady", "True", "Started")
    q = queued(base=ADMITTED, ready=True)

    def with_ready(status: str, reason: str, ready: bool) -> Queued:
        told_before = {"type": "PodsReady", "status": status, "reason": reason}
        base = msgspec.structs.replace(q.base, conditions=(*q.base.conditions, told_before))
        return msgspec.structs.replace(q, base=base, ready=ready)

    assert told(with_ready("True", "Started", True)) == []
    (patch,) = told(with_ready("True", "Started", False))
    assert patch.patch["status"]["conditions"][-1]["reason"] == "WaitForRecovery"
    (patch,) = told(with_ready("False", "WaitForRecovery", True))
    assert patch.patch["status"]["conditions"][-1]["reason"] == "Recovered"


@pytest.mark.parametrize(
    ("spec", "status", "may_come"),
    [
        (1, {"observedGeneration": 2, "replicas": 1}, True),
        (0, {"observedGeneration": 1}, True),
        (0, {}, True),
        (0, {"observedGeneration": 2, "replicas": 1}, True),
        (0, {"observedGeneration": 2}, False),
    ],
)
def test_a_scheduler_may_come_until_kubernetes_has_seen_that_none_shall(spec, status, may_come):
    deployment = {"metadata": {"generation": 2}, "spec": {"replicas": spec}, "status": status}
    assert scheduler_may_come(deployment) is may_come
    assert not scheduler_may_come(None)


def test_a_runner_may_come_until_kubernetes_has_seen_that_none_shall():
    def job(*told: str, **metadata: str) -> dict[str, Any]:
        conditions = [{"type": type, "status": "True"} for type in told]
        return {"metadata": metadata, "spec": {"suspend": True}, "status": {"conditions": conditions}}

    assert runner_may_come(job())
    gone = [job("Suspended"), job("Complete"), job("Failed"), job(deletionTimestamp="2026-01-01T00:00:00Z"), None]
    assert not any(map(runner_may_come, gone))


def test_evicted_it_stops_and_gives_its_quota_back_when_nothing_runs_any_more():
    evicted = {**ADMITTED, "Evicted": True}
    assert queued(base=evicted, running=3).held
    assert told(queued(base=evicted, running=1)) == []
    (patch,) = told(queued(base=evicted))
    assert patch.patch["status"]["admission"] is None
    after = {c["type"]: c["status"] for c in patch.patch["status"]["conditions"]}
    expected = {"QuotaReserved": "False", "Admitted": "False", "Evicted": "True", "Requeued": "False"}
    assert after == expected | {"PodsReady": "False"}
    base = msgspec.structs.replace(queued(base=evicted).base, conditions=())
    assert base.is_reserved is False


def test_what_was_preempted_is_queued_again_at_once():
    q = queued(base={**ADMITTED, "Evicted": True})
    preempted = tuple({**c, "reason": "Preempted"} if c["type"] == "Evicted" else c for c in q.base.conditions)
    (patch,) = told(msgspec.structs.replace(q, base=msgspec.structs.replace(q.base, conditions=preempted)))
    assert next(c for c in patch.patch["status"]["conditions"] if c["type"] == "Requeued")["status"] == "True"


def test_suspended_by_its_user_it_gives_all_back_and_not_before_its_pods_are_gone():
    assert told(queued(base=ADMITTED, suspended=True, running=1)) == []
    assert [type(a) for a in told(queued(base=ADMITTED, suspended=True))] == [Delete]
    assert not queued(base=ADMITTED, suspended=True).held


def test_a_run_that_has_ended_is_finished_when_its_pods_are_gone():
    assert base_actions(queued(base=ADMITTED, ended=True, running=1), NOW) == ([], GONE_POLL_SECONDS)
    assert base_actions(queued(base=ADMITTED, ended=True, running=1, kept=True), NOW) == ([], ENDED_POLL_SECONDS)
    (patch,) = told(queued(base=ADMITTED, ended=True))
    assert patch.patch["status"]["conditions"][-1]["type"] == "Finished"
    assert told(queued(base={**ADMITTED, "Finished": True}, ended=True)) == []


def test_other_resources_need_other_quota():
    larger = cluster()
    larger.spec.worker.spec["containers"][0]["resources"] = {"requests": {"cpu": "2"}}
    wanted = base_workload(larger, QUEUE, Priority())
    q = queued(base=ADMITTED, wanted=wanted, running=3)
    assert q.is_outdated
    assert q.held
    assert told(q) == []
    assert [type(a) for a in told(msgspec.structs.replace(q, running=0))] == [Delete]
    assert not msgspec.structs.replace(q, settled=True).held, "a run goes on with what it was made from"


def test_more_workers_are_no_other_base_but_while_it_waits():
    wanted = base_workload(cluster(replicas=5), QUEUE, Priority())
    assert told(queued(base=ADMITTED, wanted=wanted, ready=True))[0].subresource == "status"
    assert [type(a) for a in told(queued(base={"QuotaReserved": False}, wanted=wanted))] == [Delete]


def test_who_leaves_the_queue_gives_its_workloads_up_and_goes_on():
    found = queued(base=ADMITTED).base
    q = queued(name="", others=(found,), running=2)
    assert not q.held
    assert [a.name for a in told(q)] == [found.name]


def test_where_kueue_is_not_nothing_starts_and_what_runs_goes_on():
    problem = Problem(Reason.QUEUE_UNAVAILABLE, "Kueue is not installed")
    q = queued(unavailable=True, problem=problem)
    assert q.held
    assert told(q) == []
    assert not queued(unavailable=True, problem=problem, running=1).held
    o = observed_cluster(as_admitted(cluster(), q), queued=q)
    status = cluster_status(o, plan_cluster(o, NOW), [], NOW)
    assert condition(status.conditions, "Ready").message == "Kueue is not installed"


def test_a_job_without_quota_is_as_if_suspended():
    assert job_as_admitted(job(), queued(job())).spec.suspend is True
    assert job_as_admitted(job(), queued(job(), base=ADMITTED)).spec.suspend is None


def test_the_words_are_kueues_and_a_queue_may_take_its_time():
    q = queued(base={"QuotaReserved": False})
    o = observed_cluster(as_admitted(cluster(), q), queued=q)
    status = cluster_status(o, plan_cluster(o, NOW), [], NOW)
    for type in ("Ready", "Admitted"):
        found = condition(status.conditions, type)
        assert (found.status, found.reason) == ("False", "Queued")
        assert found.message == f"LocalQueue {QUEUE}: words of QuotaReserved"
    assert condition(status.conditions, "Suspended").status == "False"
    later = msgspec.structs.replace(o, cluster=msgspec.structs.replace(o.cluster, status=status))
    much_later = cluster_status(later, plan_cluster(later, NOW), [], NOW + 1e6)
    assert condition(much_later.conditions, "Stalled").status == "False"


# --- flavors ----------------------------------------------------------------------------------------------------------


def test_what_an_admission_check_says_is_told():
    checks = [{"name": "quick", "state": "Ready"}, {"name": "nodes", "state": "Pending", "message": "in two minutes"}]
    found = stored(base_workload(cluster(), QUEUE, Priority()), QuotaReserved=True, Admitted=False)
    found["status"]["admissionChecks"] = checks
    (said,) = admitted(Queued(name=QUEUE, wanted=found, base=workload(found)))
    assert said.message.endswith("quota is reserved, admission checks are awaited: nodes is Pending, in two minutes")


def test_flavors_and_admission_checks_reach_a_pod():
    base = queued(base=ADMITTED).base
    update = {"name": SCHEDULER, "annotations": {"consume": "request-1"}, "nodeSelector": {"zone": "a"}}
    assigned = msgspec.structs.replace(base.assigned[SCHEDULER], updates=(update,))
    base = msgspec.structs.replace(base, assigned={SCHEDULER: assigned})
    found = placement(base, SCHEDULER, {"spot": FLAVOR}, pod_spec())
    made = placed_pod({"metadata": {}, "spec": pod_spec(nodeSelector={"os": "linux"})}, found, "w")
    assert made["spec"]["nodeSelector"] == {"os": "linux", "pool": "spot", "zone": "a"}
    assert made["spec"]["tolerations"] == list(FLAVOR.tolerations)
    assert made["metadata"]["annotations"] == {"consume": "request-1", Annotation.WORKLOAD: "w"}


def test_what_a_template_says_otherwise_is_a_conflict_and_not_overruled():
    base = queued(base=ADMITTED).base
    found = placement(base, SCHEDULER, {"spot": FLAVOR}, pod_spec(nodeSelector={"pool": "on-demand"}))
    assert isinstance(found, Problem)
    assert found.reason == Reason.PLACEMENT_CONFLICT
    missing = placement(base, SCHEDULER, {}, pod_spec())
    assert isinstance(missing, Problem)
    assert "ResourceFlavor spot" in missing.message


def test_a_runner_that_is_resumed_elsewhere_says_nothing_of_where_it_was():
    def run(placement: Placement, noted: str) -> Any:
        runner = SimpleNamespace(metadata={"annotations": {Annotation.PLACEMENT: noted}})
        return SimpleNamespace(job=job(), runner=runner, queued=queued(job(), placements={RUNNER: placement}))

    first = Placement(node_selector={"pool": "spot"}, annotations={"request": "1", "class": "a"}, labels={"zone": "a"})
    second = Placement(annotations={"request": "2"})
    assert moved(run(first, first.written)) == Moved({}, {})
    there = moved(run(second, first.written))
    assert there.noted == {Annotation.PLACEMENT: second.written}
    template = there.spec["template"]
    assert template["spec"]["nodeSelector"] == {"pool": None}
    assert template["metadata"] == {"labels": {"zone": None}, "annotations": {"request": "2", "class": None}}
    anybodys = moved(run(second, '{"nodeSelector": 3, "labels": ["x"]}')).spec["template"]
    assert anybodys["metadata"] == {"annotations": {"request": "2"}}
    assert moved(run(Placement(), "]")).noted == {Annotation.PLACEMENT: "{}"}
    half = moved(run(second, r'{"labels": {"\ud800": "a"}}'))  # of a character: no request can hold it
    assert half.spec["template"]["metadata"] == {"annotations": {"request": "2"}}


# --- workers beyond the base ------------------------------------------------------------------------------------------


def surplus(of: Any, number: int, **types: bool) -> Workload:
    return workload(stored(surplus_workload(of, number, QUEUE, Priority(-1)), **types))


def quota(of: Any, guaranteed: int, *surplus: Workload, **fields: Any) -> GroupQueue:
    """Of a group whose cluster has been admitted with that many workers."""
    base = queued(cluster(replicas=guaranteed), base=ADMITTED).base
    holding = {base.name: guaranteed} | {w.name: 1 for w in surplus if w.is_admitted}
    grants = {name: Grant(count, Placement()) for name, count in holding.items()}
    return GroupQueue(base=base, surplus=surplus, grants=grants, holding=holding, priority=Priority(-1), **fields)


BASE = names.base_workload("DaskCluster", "simple", "uid-simple")


def made(plan: Any) -> list[tuple[int, str]]:
    return [(a.ordinal, a.workload) for a in plan.actions if isinstance(a, CreateWorker)]


def deleted(plan: Any) -> list[str]:
    return [a.name for a in plan.actions if isinstance(a, Delete)]


def released(plan: Any) -> list[str]:
    """Workloads whose quota is given back."""
    patches = (a for a in plan.actions if isinstance(a, Patch) and a.subresource)
    return [a.name for a in patches if a.patch["status"].get("admission", "") is None]


def test_guaranteed_workers_are_made_and_for_each_further_one_quota_is_asked():
    g = group(replicas=4)
    plan = plan_worker_group(observed_group(g, queue=quota(g, 1)), NOW)
    assert made(plan) == [(0, BASE)]
    asked = [a.manifest["metadata"]["name"] for a in plan.actions if isinstance(a, Apply)]
    assert asked == ["simple-default-surplus-0", "simple-default-surplus-1", "simple-default-surplus-2"]


def test_a_worker_is_made_when_its_quota_is_there():
    g = group(replicas=3)
    found = surplus(g, 0, **ADMITTED), surplus(g, 1, QuotaReserved=False)
    plan = plan_worker_group(observed_group(g, worker_pod(g, 0, workload=BASE), queue=quota(g, 1, *found)), NOW)
    assert made(plan) == [(1, found[0].name)]


def test_whose_quota_a_worker_uses_is_not_its_templates_to_say():
    """A template that was copied from a live Pod: each worker seemed to have no quota, and went as soon as it came."""
    stale = TemplateMetadata(annotations={Annotation.WORKLOAD: "simple-default-surplus-7", "team": "x"})
    g = group(replicas=2)
    worker = msgspec.structs.replace(g.spec.worker, metadata=stale)
    g = msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=worker))
    new = placed_pod(built_worker(g, 0, "abcde"), Placement(), BASE)
    assert new["metadata"]["annotations"][Annotation.WORKLOAD] == BASE
    assert new["metadata"]["annotations"]["team"] == "x"
    old = worker_pod(g, 0, workload=BASE, last_applied="")
    plan = plan_worker_group(observed_group(g, old, queue=quota(g, 1)), NOW)
    patch = next(a.patch["metadata"] for a in plan.actions if isinstance(a, Patch))
    assert Annotation.WORKLOAD not in patch["annotations"], "of one that runs it stays, too"


def test_a_worker_that_stays_keeps_its_quota_whatever_is_noted_there():
    g = group(replicas=2)
    garbled = msgspec.structs.replace(surplus(g, 0, **ADMITTED), revisions={})
    pods = worker_pod(g, 0, workload=BASE), worker_pod(g, 1, workload=garbled.name)
    q = quota(g, 1, garbled)
    o = observed_group(g, *pods, queue=msgspec.structs.replace(q, grants={BASE: q.grants[BASE]}))
    assert [a for a in plan_worker_group(o, NOW).actions if isinstance(a, Apply | Delete)] == []
    plan = plan_worker_group(msgspec.structs.replace(o, pods=pods[:1]), NOW)
    assert deleted(plan) == [garbled.name], "what is made next is made on other quota"
    assert any(isinstance(a, Apply) for a in plan.actions)


def test_no_more_wait_in_the_queue_than_is_good_for_it():
    g = group(replicas=500)

    def asked(*found: Workload) -> int:
        pods = [worker_pod(g, n, workload=w.name) for n, w in enumerate(found) if w.is_admitted]
        plan = plan_worker_group(observed_group(g, *pods, queue=quota(g, 0, *found)), NOW)
        return sum(isinstance(a, Apply) for a in plan.actions)

    assert asked() == 4 * FEWEST_PENDING
    assert asked(surplus(g, 0, QuotaReserved=False)) == FEWEST_PENDING - 1, "Kueue has said that there is none"
    found = [surplus(g, n, **ADMITTED) for n in range(20)]
    assert asked(*found) == 40
    assert asked(*found, surplus(g, 20)) == 39
    assert asked(*found, surplus(g, 20, QuotaReserved=False)) == 9
    off = [msgspec.structs.replace(surplus(g, n, QuotaReserved=False), active=False) for n in range(FEWEST_PENDING)]
    assert asked(*off) == 4 * FEWEST_PENDING, "those that Kueue, or somebody, has given up are not in line"


def test_who_waits_in_another_queue_or_with_another_priority_is_asked_for_anew():
    g = group(replicas=3)
    admitted, waits, off = surplus(g, 0, **ADMITTED), surplus(g, 1, QuotaReserved=False), surplus(g, 2)
    pods = worker_pod(g, 0, workload=admitted.name)
    q = quota(g, 0, admitted, waits, msgspec.structs.replace(off, active=False))

    def deleted_with(priority: Priority, **fields: Any) -> list[str]:
        queue = msgspec.structs.replace(q, priority=priority, **fields)
        return deleted(plan_worker_group(observed_group(g, pods, queue=queue), NOW))

    assert deleted_with(Priority(-1)) == []
    for priority in (Priority(9, "high"), Priority(-1, "low"), Priority(9)):
        assert deleted_with(priority) == [waits.name]
    assert deleted_with(Priority(), problem=Problem(Reason.QUEUE_UNAVAILABLE, "no such class")) == []
    assert deleted_with(Priority(-1), base=msgspec.structs.replace(q.base, queue="other")) == [waits.name]


def test_surplus_of_a_base_with_the_lowest_priority_that_there_is_has_one_that_can_be_written():
    assert below(workload(stored(base_workload(cluster(), QUEUE, Priority(-(2**31)))))) == Priority(-(2**31))


def evicted_one(**fields: Any) -> tuple[ObservedGroup, str]:
    """A group of a guaranteed worker and two others, of which one has lost its quota; and the name of its Workload."""
    g = group(replicas=3, **fields)
    found = surplus(g, 0, **ADMITTED), surplus(g, 1, **ADMITTED, Evicted=True)
    pods = [worker_pod(g, 0, workload=BASE), *(worker_pod(g, n + 1, workload=w.name) for n, w in enumerate(found))]
    known = frozenset(p.worker_name for p in pods)
    answers = answers_of(registered=known, ranked=tuple(sorted(known)), retirement={})
    return observed_group(g, *pods, queue=quota(g, 1, *found), answers=answers), found[1].name


def test_a_worker_that_has_lost_its_quota_drains_and_its_workload_stays_until_it_is_gone():
    o, lost = evicted_one()
    plan = plan_worker_group(o, NOW)
    assert list(plan.draining) == ["simple-default-worker-2"]
    assert (deleted(plan), released(plan)) == ([], [])
    gone = plan_worker_group(msgspec.structs.replace(o, pods=o.pods[:2]), NOW)
    assert (deleted(gone), released(gone)) == ([], [lost]), "it stays in the queue, so that Kueue may let it wait"
    assert not any(isinstance(a, Apply) for a in gone.actions)


def test_one_that_has_lost_its_quota_and_is_wanted_no_more_is_given_up():
    o, lost = evicted_one()
    fewer = msgspec.structs.replace(o, group=group(replicas=2), pods=o.pods[:2])
    plan = plan_worker_group(fewer, NOW)
    assert (deleted(plan), released(plan)) == ([lost], [])


def test_it_is_asked_whether_a_worker_without_quota_has_anything_to_lose():
    o, _ = evicted_one()
    ask = plan_worker_group(msgspec.structs.replace(o, answers=None), NOW).ask
    assert ask is not None
    nobody = answers_of(registered=frozenset(), ranked=(), retirement={})
    plan = plan_worker_group(msgspec.structs.replace(o, answers=nobody), NOW)
    assert deleted(plan) == ["simple-default-worker-2"]


def test_while_it_drains_it_is_not_taken_back_though_a_worker_is_wanted():
    o, _ = evicted_one(
        status=DaskWorkerGroupStatus(
            draining=[DrainingWorker(name="simple-default-worker-2", since="2027-01-15T08:00:00Z")]
        )
    )
    ask = plan_worker_group(msgspec.structs.replace(o, answers=None), NOW).ask
    assert ask is not None
    assert [type(q).__name__ for q in ask.questions] == ["Retire"]


def test_a_smaller_group_keeps_what_is_guaranteed():
    g = group(replicas=1, drain_timeout_seconds=0)
    found = [surplus(g, n, **ADMITTED) for n in range(2)]
    pods = [worker_pod(g, n, workload=w.name) for n, w in enumerate(found)]
    pods.append(worker_pod(g, 2, workload=BASE, ready=False, phase="Pending"))
    ask = answers_of(registered=frozenset(), ranked=(), retirement={})
    plan = plan_worker_group(observed_group(g, *pods, queue=quota(g, 1, *found), answers=ask), NOW)
    assert sorted(deleted(plan)) == ["simple-default-worker-0", "simple-default-worker-1"]


def test_those_that_wait_are_given_up_first():
    g = group(replicas=2)
    found = surplus(g, 0, **ADMITTED), surplus(g, 1, QuotaReserved=False)
    pods = [worker_pod(g, 0, workload=BASE), worker_pod(g, 1, workload=found[0].name)]
    assert deleted(plan_worker_group(observed_group(g, *pods, queue=quota(g, 1, *found)), NOW)) == [found[1].name]


def test_an_update_replaces_workers_on_the_quota_that_they_have():
    g = group(replicas=2)
    pods = [worker_pod(g, n, workload=BASE, revision="old") for n in range(2)]
    known = tuple(p.worker_name for p in pods)
    answers = answers_of(registered=frozenset(known), ranked=known, retirement={})
    plan = plan_worker_group(observed_group(g, *pods, queue=quota(g, 2), answers=answers), NOW)
    assert made(plan) == []
    assert len(plan.draining) == 1


def test_where_kueue_is_not_workers_go_on_and_none_is_made():
    g = group(replicas=3)
    pods = [worker_pod(g, n, workload=f"w{n}") for n in range(2)]
    problem = Problem(Reason.QUEUE_UNAVAILABLE, "gone")
    o = observed_group(g, *pods, queue=GroupQueue(unavailable=True, problem=problem))
    plan = plan_worker_group(o, NOW)
    assert (plan.actions, plan.ask) == ((), None)
    assert "gone" in condition(worker_group_status(o, plan, [], NOW).conditions, "Ready").message


def test_a_group_says_how_many_wait_and_for_what():
    g = group(replicas=3)
    found = surplus(g, 0, QuotaReserved=False), surplus(g, 1, QuotaReserved=False)
    o = observed_group(g, worker_pod(g, 0, workload=BASE), queue=quota(g, 1, *found))
    ready = condition(worker_group_status(o, plan_worker_group(o, NOW), [], NOW).conditions, "Ready")
    assert ready.reason == "Queued"
    assert "2 workers wait for quota: LocalQueue team: words of QuotaReserved" in ready.message


class World:
    """A group in a queue, and a Kueue that does as it likes."""

    def __init__(self, wanted: int, guaranteed: int) -> None:
        self.group, self.guaranteed = group(replicas=wanted, drain_timeout_seconds=0), guaranteed
        self.pods: dict[str, Pod] = {}
        self.workloads: dict[str, dict[str, Any]] = {}

    def observed(self) -> ObservedGroup:
        found = tuple(workload(w) for w in self.workloads.values())
        nobody = answers_of(registered=frozenset(), ranked=(), retirement={})
        granted = quota(self.group, self.guaranteed, *found)
        return observed_group(self.group, *self.pods.values(), queue=granted, answers=nobody)

    def step(self, crash_after: int | None = None) -> bool:
        """The operator looks once, and may die after some writes; whether it did anything."""
        plan = plan_worker_group(self.observed(), NOW)
        for action in plan.actions[:crash_after]:
            match action:
                case Apply():
                    name = action.manifest["metadata"]["name"]
                    self.workloads.setdefault(name, stored(action.manifest, QuotaReserved=False))
                case CreateWorker():
                    made = worker_pod(self.group, action.ordinal, workload=action.workload)
                    self.pods[made.name] = made
                case Delete(kind="Pod"):
                    self.pods[action.name] = msgspec.structs.replace(self.pods[action.name], deleting=True)
                case Delete():
                    used = [p for p in self.pods.values() if p.workload == action.name]
                    assert not used, "quota was given back that a Pod still uses"
                    del self.workloads[action.name]
                case Patch(kind="Workload") if "admission" in action.patch["status"]:
                    used = [p for p in self.pods.values() if p.workload == action.name]
                    assert not used, "quota was given back that a Pod still uses"
                    self.workloads[action.name]["status"] = {"conditions": action.patch["status"]["conditions"]}
        self.check()
        return bool(released(plan)) or any(not isinstance(a, Patch) for a in plan.actions)

    def check(self) -> None:
        """At no time do more Pods use a Workload than it has quota for."""
        uses = [p.workload for p in self.pods.values()]
        for name in set(uses):
            assert uses.count(name) <= (self.guaranteed if name == BASE else 1)
            assert name == BASE or any(
                c["type"] == "QuotaReserved" for c in self.workloads[name]["status"]["conditions"]
            )

    def kubelet(self) -> None:
        """Pods that are being deleted are gone."""
        self.pods = {name: p for name, p in self.pods.items() if not p.deleting}

    def say(self, number: int, **types: bool) -> None:
        """Kueue says this of one of the Workloads."""
        if self.workloads:
            name = sorted(self.workloads)[number % len(self.workloads)]
            self.workloads[name] = stored(self.workloads[name], **types)


@given(
    st.integers(0, 5),
    st.integers(0, 2),
    st.lists(st.tuples(st.sampled_from(["admit", "evict", "kubelet", "step", "crash", "scale"]), st.integers(0, 5))),
)
@example(2, 1, [("evict", 0), ("admit", 0), ("scale", 0), ("crash", 1), ("scale", 1), ("step", 0)])
def test_quota_is_never_exceeded_and_all_that_is_wanted_runs_in_the_end(wanted, guaranteed, happens):
    world = World(wanted, guaranteed)
    for what, number in happens:
        if what == "admit":
            world.say(number, **ADMITTED)
        elif what == "evict" and world.workloads:
            name = sorted(world.workloads)[number % len(world.workloads)]
            if workload(world.workloads[name]).is_admitted:
                world.say(number, **ADMITTED, Evicted=True)
        elif what == "kubelet":
            world.kubelet()
        elif what == "scale":
            world.group = group(replicas=number, drain_timeout_seconds=0)
            wanted = number
        else:
            world.step(number if what == "crash" else None)
    for _ in range(30):
        for number in range(len(world.workloads)):
            name = sorted(world.workloads)[number]
            if not (workload(world.workloads[name]).is_evicted and workload(world.workloads[name]).is_reserved):
                world.say(number, **ADMITTED)
        world.kubelet()
        if not world.step():
            break
    assert len(world.pods) == wanted
    # A worker that began while one of the base was still going keeps its own quota; nobody's quota is kept.
    assert set(world.workloads) == {pod.workload for pod in world.pods.values()} - {BASE}


# --- from caches ------------------------------------------------------------------------------------------------------


def caches_with(*manifests: dict[str, Any]) -> Caches:
    caches = Caches(OFFLINE, None)
    caches.queues.problem = None
    caches.queues._flavors.put(
        {
            "kind": "ResourceFlavor",
            "metadata": {"name": "spot", "uid": "f", "resourceVersion": "1"},
            "spec": {"nodeLabels": {"pool": "spot"}},
        }
    )
    for manifest in manifests:
        (caches.informers | caches.queues.informers)[manifest["kind"]].put(manifest)
    return caches


def of(value: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(value, metadata={**value.metadata, **fields})


def in_queue(value: Any) -> Any:
    return of(value, labels={Label.QUEUE: QUEUE})


def manifest_of(value: Any) -> dict[str, Any]:
    return {"apiVersion": names.API_VERSION, "kind": value.kind, **dump(value)}


def test_a_cluster_of_a_job_runs_on_the_jobs_quota():
    j = in_queue(job("hello"))
    owner = {"kind": "DaskJob", "name": "hello", "uid": j.uid, "controller": True, "apiVersion": names.API_VERSION}
    c = msgspec.structs.replace(cluster("hello"), metadata=metadata("hello", uid="c", ownerReferences=[owner]))
    base = base_workload(j, QUEUE, Priority())
    g = msgspec.structs.replace(group("hello-default", cluster_name="hello"))
    waiting = caches_with(manifest_of(c), manifest_of(g), stored(base, QuotaReserved=False))
    assert snapshot(waiting, c).cluster.spec.suspend is True
    assert snapshot(waiting, j).job.spec.suspend is True
    admitted = caches_with(manifest_of(c), manifest_of(g), stored(base, **ADMITTED))
    seen = snapshot(admitted, c)
    assert seen.cluster.spec.suspend is None
    assert seen.cluster.spec.scheduler.spec["nodeSelector"] == {"pool": "spot"}
    assert plan_cluster(seen, NOW).actions, "what it does about Kueue is the job's business"
    assert not any(isinstance(a, Apply) and a.manifest["kind"] == "Workload" for a in plan_cluster(seen, NOW).actions)
    of_group = snapshot(admitted, g)
    assert of_group.queue.guaranteed == 2
    assert of_group.queue.priority == Priority(-1)
    assert snapshot(admitted, j).queued.placements["runner"].node_selector == {"pool": "spot"}


def test_a_cluster_of_a_job_stops_when_somebody_deletes_its_quota():
    j = in_queue(job("hello"))
    made = noting_quota(job_cluster(j), queued(j))
    assert noting_quota(job_cluster(j), None) == job_cluster(j)
    fields = {"metadata": {**metadata("hello", uid="c"), **made["metadata"]}, "spec": made["spec"]}
    c = msgspec.convert(fields, type(cluster()))
    caches = caches_with(manifest_of(c))
    held = snapshot(caches, c)
    assert held.cluster.spec.suspend is True
    (said,) = admitted(held.queued)
    assert (said.status, said.reason) == ("False", Reason.QUOTA_REVOKED)
    caches.queues.problem = Problem(Reason.QUEUE_UNAVAILABLE, "no Kueue")
    assert snapshot(caches, c).cluster.spec.suspend is None, "what runs goes on"


def test_quota_is_not_given_back_while_workers_may_be_made():
    c, g = in_queue(cluster()), group()
    caches = caches_with(manifest_of(c), manifest_of(g), stored(base_workload(c, QUEUE, Priority()), **ADMITTED))
    assert snapshot(caches, c).queued.running == 0
    caches.busy.add(Key("DaskWorkerGroup", g.namespace, g.name))
    assert snapshot(caches, c).queued.running == 1


def test_a_jobs_quota_is_not_given_back_while_its_cluster_is_made_or_its_pods_end():
    j = in_queue(job("hello"))
    base = stored(base_workload(j, QUEUE, Priority()), **ADMITTED)
    caches = caches_with(base)
    assert snapshot(caches, j).queued.running == 0
    left = built_worker(group(), 0, "x")
    left["metadata"] |= {"uid": "left", "resourceVersion": "1", "namespace": j.namespace}
    left["metadata"]["annotations"] = {Annotation.WORKLOAD: base["metadata"]["name"]}
    caches.pods.put(left)
    assert snapshot(caches, j).queued.running == 1, "of a cluster that was deleted"
    caches.pods.remove("left")
    caches.busy.add(Key("DaskCluster", j.namespace, j.name))
    caches.clusters.put(manifest_of(of(cluster(), name=j.name, namespace=j.namespace)))
    assert snapshot(caches, j).queued.running == 0, "somebody else's cluster of that name"
    owner = {"apiVersion": names.API_VERSION, "kind": "DaskJob", "name": j.name, "uid": j.uid, "controller": True}
    own = {"name": j.name, "namespace": j.namespace, "ownerReferences": [owner], "resourceVersion": "2"}
    caches.clusters.put(manifest_of(of(cluster(), **own)))
    assert snapshot(caches, j).queued.running == 1, "its Deployment may be under way"


def test_a_base_is_ready_without_a_group_that_its_user_has_taken_away(monkeypatch):
    """Kueue would evict the whole cluster: it reads of a base that has not recovered."""
    monkeypatch.setattr(Caches, "scheduler_pods", lambda _caches, of: (scheduler_pod(of.name),))
    gpu = WorkerGroup(name="gpu", spec=pod_spec("worker"), replicas=1)
    before, after = (in_queue(cluster(replicas=1, worker_groups=groups)) for groups in ([gpu], None))
    base = stored(base_workload(before, QUEUE, Priority()), **ADMITTED)
    worker = built_worker(group(replicas=1), 0, "x")
    worker["metadata"] |= {"uid": "w", "resourceVersion": "1", "namespace": before.namespace}
    worker["metadata"]["annotations"] = {Annotation.WORKLOAD: base["metadata"]["name"]}
    worker["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    seen = caches_with(base, manifest_of(group(replicas=1)), worker)
    assert not snapshot(seen, before).queued.ready, "a group that is to come"
    assert snapshot(seen, after).queued.ready


def test_what_names_no_queue_is_nothing_to_kueue():
    c, g = cluster(), group()
    caches = caches_with(manifest_of(c), manifest_of(g))
    assert snapshot(caches, c).queued is None
    assert snapshot(caches, g).queue is None


def test_what_waits_keeps_its_place_when_its_priority_class_is_gone():
    c = of(cluster(), labels={Label.QUEUE: QUEUE, Label.PRIORITY_CLASS: "high"})
    waiting = caches_with(manifest_of(c), stored(base_workload(c, QUEUE, Priority(9, "high")), QuotaReserved=False))
    assert base_actions(snapshot(waiting, c).queued, NOW)[0] == []
    nothing = caches_with(manifest_of(c))
    assert base_actions(snapshot(nothing, c).queued, NOW)[0] == [], "nothing is asked for with a priority of nobody's"


def test_surplus_workers_rank_below_the_base_or_by_their_own_class():
    c, g = in_queue(cluster()), group()
    caches = caches_with(manifest_of(c), manifest_of(g), stored(base_workload(c, QUEUE, Priority(7)), **ADMITTED))
    assert snapshot(caches, g).queue.priority == Priority(6)
    labels = {"metadata": {"labels": {Label.PRIORITY_CLASS: "none"}}}
    manifest = manifest_of(g)
    manifest["spec"]["worker"] |= labels
    named = msgspec.convert({k: v for k, v in manifest.items() if k in ("metadata", "spec")}, type(g))
    problem = snapshot(caches, named).queue.problem
    assert problem is not None
    assert "WorkloadPriorityClass none" in problem.message


def test_a_pod_that_kueue_holds_back_by_itself_is_told():
    found = pod(
        {
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"},
            "spec": {"containers": [], "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]},
        }
    )
    assert found.problem is not None
    assert found.problem.reason == Reason.CAPTURED_BY_KUEUE


def test_a_workload_of_anybodys_making_is_read_all_the_same():
    bare = {"metadata": {"name": "w", "namespace": "n", "uid": "u", "resourceVersion": "1"}}
    noted = {**bare["metadata"], "annotations": {Annotation.REVISION: "[" * 10_000}}
    assert workload(bare).assigned == {}
    assert workload({"metadata": noted}).revisions == {}
    assert list(surplus_actions(group(), None, (scheduler_pod(),), 3, NOW)) == []
