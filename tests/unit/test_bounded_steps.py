"""Bounded steps: a plan does not grow with the numbers that users write.

Controller findings 12 and 22, security finding 1.
"""

from __future__ import annotations

import time
import tracemalloc

import msgspec
import pytest
from tests.support.questions import answers_of, parts
from tests.support.states import (
    NOW,
    autoscaler,
    cluster,
    group,
    observed_cluster,
    observed_group,
    scheduler_pod,
    worker_pod,
)

from dask_controller.core.actions import STEP, CreateWorker, Delete, Event, Outcome, Patch, step
from dask_controller.core.cluster import plan_cluster
from dask_controller.core.ledger import MOST_DRAINING
from dask_controller.core.time import format_time
from dask_controller.core.worker_group import MOST_COMPARED, free_ordinals, plan_worker_group
from dask_controller.core.worker_group_status import worker_group_status
from dask_crds.model import (
    DaskAutoscalerStatus,
    DaskWorkerGroupStatus,
    DrainingWorker,
    RollingUpdate,
    TemplateMetadata,
    UpdateStrategy,
)

ABSURD = [100_000, 6_000_000, 2**31 - 1]


def many_pods(of, count, **fields):
    pod = worker_pod(of, 0, **fields)
    name = pod.name.removesuffix("0")
    return [
        msgspec.structs.replace(pod, name=f"{name}{n}", uid=f"uid-{n}", worker_name=f"{name}{n}-abcde")
        for n in range(count)
    ]


@pytest.mark.parametrize("replicas", ABSURD)
def test_absurd_replicas_cost_neither_memory_nor_time(replicas):
    small, absurd = group(replicas=STEP), group(replicas=replicas)

    def cost(of):
        tracemalloc.start()
        began = time.process_time()
        plan = plan_worker_group(observed_group(of), NOW)
        status = worker_group_status(observed_group(of), plan, [], NOW)
        seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return plan, status, seconds, peak

    cost(small)
    _, _, few_seconds, few_bytes = cost(small)
    plan, status, seconds, peak = cost(absurd)
    assert [action.ordinal for action in plan.actions] == list(range(STEP))
    assert status.desired_replicas == replicas
    assert peak < 2 * few_bytes + 1e5
    assert seconds < 20 * few_seconds + 0.1, "6,000,000 took ten seconds"


@pytest.mark.parametrize("replicas", ABSURD)
def test_the_same_by_the_autoscalers_number(replicas):
    scaler = autoscaler(status=DaskAutoscalerStatus(desired_replicas=replicas))
    plan = plan_worker_group(observed_group(group(), autoscaler=scaler), NOW)
    assert len(plan.actions) == STEP


@pytest.mark.parametrize("surge", ["100%", 2**31 - 1, "9" * 5000 + "%"])
def test_the_same_in_a_rolling_update(surge):
    strategy = UpdateStrategy(rolling_update=RollingUpdate(max_surge=surge))
    g = group(replicas=6_000_000, update_strategy=strategy)
    plan = plan_worker_group(observed_group(g, worker_pod(g, 0, revision="old")), NOW)
    assert len(plan.actions) == STEP


def test_free_places_are_found_though_a_name_claims_an_absurd_one():
    g = group()
    odd = msgspec.structs.replace(worker_pod(g, 0), name="simple-default-worker-" + "9" * 200)
    assert free_ordinals([odd, worker_pod(g, 1)], 3) == [0, 2, 3]


@pytest.mark.parametrize("drain_timeout", [0, 300])
def test_ten_thousand_workers_go_step_by_step(drain_timeout):
    g = group(replicas=0, drain_timeout_seconds=drain_timeout)
    o = observed_group(g, *many_pods(g, 10_000))
    ask = parts(plan_worker_group(o, NOW).ask)
    assert len(ask.registered) == len(ask.rank) == MOST_COMPARED
    everybody = tuple(w.name for w in ask.registered)
    o = msgspec.structs.replace(o, answers=answers_of(registered=frozenset(everybody), ranked=everybody))
    began = time.process_time()
    plan = plan_worker_group(o, NOW)
    assert time.process_time() - began < 5, "comparing each with each takes minutes"
    if drain_timeout:
        assert plan.actions == ()
        assert len(plan.draining) == MOST_DRAINING
        assert len(msgspec.json.encode(worker_group_status(o, plan, [], NOW))) < 100_000
    else:
        assert len(plan.actions) == STEP
        assert {type(action) for action in plan.actions} == {Delete}


def test_who_was_not_compared_does_not_go():
    """Nothing is known of it: to take it for unregistered would lose its results."""
    g = group(replicas=0)
    workers = many_pods(g, MOST_COMPARED + 10)
    o = observed_group(g, *workers)
    ask = parts(plan_worker_group(o, NOW).ask)
    names = frozenset(w.name for w in ask.registered)
    o = msgspec.structs.replace(o, answers=answers_of(registered=names, ranked=tuple(names)))
    plan = plan_worker_group(o, NOW)
    assert not plan.actions
    assert {worker.worker_name for worker in workers if worker.name in plan.draining} <= names


def test_no_more_begin_to_drain_than_may_drain_at_a_time():
    g = group(replicas=0)
    entries = [DrainingWorker(name=f"simple-default-worker-{n}", since=format_time(NOW)) for n in range(MOST_DRAINING)]
    g = msgspec.structs.replace(g, status=DaskWorkerGroupStatus(draining=entries))
    workers = many_pods(g, MOST_DRAINING + 10)
    known = tuple(w.worker_name for w in workers)
    notes = dict.fromkeys(known[:MOST_DRAINING], "retiring: 1 task")
    answers = answers_of(registered=frozenset(known), ranked=known, retirement=notes)
    plan = plan_worker_group(observed_group(g, *workers, answers=answers), NOW)
    assert len(plan.draining) == MOST_DRAINING
    answers = answers_of(registered=frozenset(known), ranked=known, retirement={**notes, known[0]: "retired"})
    plan = plan_worker_group(observed_group(g, *workers, answers=answers), NOW)
    assert [action.name for action in plan.actions] == [workers[0].name]


def test_labels_of_ten_thousand_workers_do_not_keep_others_waiting():
    """A change of labels and a change of size: neither waits for the other to come to an end."""
    g = group(replicas=20_000, metadata=TemplateMetadata(labels={"team": "data"}))
    plan = plan_worker_group(observed_group(g, *many_pods(g, 10_000, last_applied="")), NOW)
    kinds = [type(action) for action in plan.actions]
    assert kinds.count(Patch) == kinds.count(CreateWorker) == STEP // 2


def test_an_event_for_each_worker_is_bounded_too():
    g = group(replicas=0, status=None)
    workers = many_pods(g, 1000)
    entries = [DrainingWorker(name=w.name, since=format_time(NOW - 1000)) for w in workers]
    g = msgspec.structs.replace(g, status=DaskWorkerGroupStatus(draining=entries))
    silent = answers_of(silent="hangs")
    plan = plan_worker_group(observed_group(g, *workers, answers=silent), NOW)
    kinds = [type(action) for action in plan.actions]
    assert kinds.count(Delete) == kinds.count(Event) == STEP // 2
    outcomes = [Outcome(action) for action in plan.actions]
    status = worker_group_status(observed_group(g, *workers, answers=silent), plan, outcomes, NOW)
    assert status.replicas == len(status.draining) == 1000 - STEP // 2, (
        "status tells what was done, not what is planned"
    )


def test_scheduler_pods_that_claim_to_be_the_clusters_are_bounded():
    """Two labels make any Pod one of them."""
    pods = tuple(
        msgspec.structs.replace(scheduler_pod(), name=f"x{n}", uid=f"{n}", last_applied='{"labels":{"x":"y"}}')
        for n in range(10_000)
    )
    plan = plan_cluster(observed_cluster(cluster(), scheduler_pods=pods), NOW)
    assert len(plan.actions) <= STEP


def test_kinds_take_turns():
    creations = [CreateWorker(None, n) for n in range(3)]
    events = [Event(str(n), "") for n in range(2)]
    assert step(creations, [], events) == (creations[0], events[0], creations[1], events[1], creations[2])
    assert len(step(CreateWorker(None, n) for n in range(10**6))) == STEP
