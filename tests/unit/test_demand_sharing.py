"""How the scheduler's module shares the load among the groups of a cluster: properties. And what a group offers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.states import group as worker_group

from dask_controller.core.demand import worker_resources, worker_threads
from dask_resources import scheduler_extension

_spec = importlib.util.spec_from_file_location(
    "dask_gitops_scheduler", Path(scheduler_extension.__file__).with_name(scheduler_extension.MODULE)
)
assert _spec is not None
assert _spec.loader is not None
module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(module)

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
    kinds = {}
    for need, (tasks, seconds) in demand.items():
        kinds[need] = module._Kind()
        kinds[need].add(tasks, seconds)
    parts = [module._Part(group, []) for group in cluster]
    module._share(kinds, parts, parts[own], GOAL)
    return parts


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
        parts = shared({need: (tasks, seconds)}, cluster, own)
        takers = module._takers(need, parts)
        assert all(part.load == 0 for part in parts if part not in takers)
        given_threads = sum(part.load * part.slots(need) for part in takers)
        wanted = min(tasks, seconds / GOAL)
        if parts[own] in takers:
            assert given_threads == pytest.approx(wanted)
        else:
            assert given_threads <= wanted + 1e-6


@given(demands, clusters)
def test_a_task_goes_where_it_can_run(demand, cluster):
    for need in demand:
        parts = shared(demand, cluster, 0)
        for part in module._takers(need, parts):
            assert all(part.offered.get(name, 0) >= amount for name, amount in need)


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


@pytest.mark.parametrize("sidecar_first", [True, False])
def test_what_a_group_offers_is_told_by_its_main_container(sidecar_first):
    """Wherever a sidecar stands (controller 9)."""
    worker = {"name": "worker", "args": ["dask", "worker", "--nthreads", "4", "--resources", "GPU=2"]}
    sidecar = {"name": "logs", "args": ["--nthreads", "9"], "resources": {"limits": {"cpu": "7"}}}
    g = worker_group()
    spec = {"containers": [sidecar, worker] if sidecar_first else [worker, sidecar]}
    template = msgspec.structs.replace(g.spec.worker, spec=spec)
    g = msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=template))
    assert (worker_threads(g), worker_resources(g)) == (4, {"GPU": 2.0})
