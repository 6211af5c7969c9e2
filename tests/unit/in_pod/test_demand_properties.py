"""How the load is shared among the groups of a cluster: properties."""

from __future__ import annotations

import sys

import pytest
from distributed.utils import import_file
from hypothesis import given
from hypothesis import strategies as st
from tests.support.dask_scheduler import MODULE

import_file(str(MODULE))  # as a scheduler loads it
module = sys.modules["dask_gitops_demand"]

GOAL = 5.0
some_resources = st.dictionaries(
    st.sampled_from(["GPU", "MEM"]), st.sampled_from([1.0, 2.0, 4.0]), min_size=1, max_size=2
)
resources = st.just({}) | some_resources
needs = resources.map(lambda amounts: frozenset(amounts.items()))


@st.composite
def groups(draw):
    minimum = draw(st.integers(0, 4))
    maximum = minimum + draw(st.integers(0, 8))
    threads = draw(st.integers(1, 4))
    return module.Group([], draw(resources), threads=threads, minimum=minimum, maximum=maximum)


demands = st.dictionaries(needs, st.tuples(st.integers(1, 60), st.floats(0.01, 300)), max_size=4)
clusters = st.lists(groups(), min_size=1, max_size=4)


def shared(demand: dict, cluster: list, own: int) -> list:
    """The groups with their loads, as the question for the group at ``own`` finds them."""
    classes = {}
    for need, (tasks, seconds) in demand.items():
        classes[need] = module._TaskClass()
        classes[need].add(tasks, seconds)
    loads = [module._GroupLoad(group, []) for group in cluster]
    module._distribute(classes, loads, loads[own], GOAL)
    return loads


@given(demands, clusters)
def test_every_group_computes_the_same_division(demand, cluster):
    views = [shared(demand, cluster, own) for own in range(len(cluster))]
    for number, group in enumerate(cluster):
        loads = {round(min(view[number].load, group.maximum), 6) for view in views}
        assert len(loads) == 1
        others = (view[number].load for own, view in enumerate(views) if own != number)
        assert all(load <= group.maximum + 1e-6 for load in others)


@given(needs, st.integers(1, 60), st.floats(0.01, 300), clusters)
def test_no_task_counts_twice_and_none_is_forgotten(need, tasks, seconds, cluster):
    for own in range(len(cluster)):
        loads = shared({need: (tasks, seconds)}, cluster, own)
        takers = module._takers(need, loads)
        assert all(each.load == 0 for each in loads if each not in takers)
        given_threads = sum(each.load * each.slots(need) for each in takers)
        wanted = min(tasks, seconds / GOAL)
        if loads[own] in takers:
            assert given_threads == pytest.approx(wanted)
        else:
            assert given_threads <= wanted + 1e-6


@given(demands, clusters)
def test_a_task_goes_where_it_can_run(demand, cluster):
    for need in demand:
        loads = shared(demand, cluster, 0)
        for each in module._takers(need, loads):
            assert all(each.offered.get(name, 0) >= amount for name, amount in need)


@given(demands, groups(), st.integers(1, 60), st.floats(0, 60))
def test_a_group_alone_never_shrinks_for_more_work(demand, group, tasks, seconds):
    before = shared(demand, [group], 0)[0].load
    for need in demand:
        more = {**demand, need: (demand[need][0] + tasks, demand[need][1] + seconds)}
        assert shared(more, [group], 0)[0].load >= before - 1e-9


@given(st.integers(1, 60), st.floats(0.01, 300), some_resources)
def test_plain_tasks_never_grow_a_group_that_offers_something_beside_one_that_does_not(tasks, seconds, offered):
    demand = {frozenset(): (tasks, seconds)}
    cluster = [module.Group([], offered, maximum=10), module.Group([], maximum=10)]
    assert shared(demand, cluster, 0)[0].load == 0
    assert shared(demand, cluster[:1], 0)[0].load > 0
