"""How many Pods a worker group should have: the cluster's load, divided among its groups."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from functools import cache
from itertools import chain, islice
from typing import Any

from dask_gitops_requests import Group, Groups
from dask_gitops_workers import Workers

#: What a task needs of a worker: amounts by resource.
Needs = frozenset[tuple[str, float]]
_NOTHING: Needs = frozenset()


class _TaskClass:
    """Tasks that need the same."""

    waiting = 0  #: for a worker
    tasks = 0  #: these, and those that workers have
    seconds = 0.0  #: that all of them are expected to take

    def add(self, tasks: int, seconds: float) -> None:
        self.tasks += tasks
        self.seconds += seconds


class _GroupLoad:
    """A worker group and its share of the load."""

    load = 0.0  #: in Pods

    def __init__(self, group: Group, registered: list[list[Any]]) -> None:
        self.registered = registered  #: the worker processes of each Pod
        # Those that are leaving are no capacity, or the group would call them back for the task that they finish.
        self.staying = [
            processes for processes in registered if all(ws.status.name != "closing_gracefully" for ws in processes)
        ]
        self.workers = list(chain.from_iterable(self.staying))
        self.minimum, self.maximum = group.minimum, group.maximum
        self.threads, self.processes = group.threads, group.processes
        if self.staying:
            self.processes = len(self.workers) / len(self.staying)
            self.threads = sum(ws.nthreads for ws in self.workers) / len(self.staying)
        self.offered: dict[str, float] = {}
        for ws in self.workers:
            for name, amount in ws.resources.items():
                self.offered[name] = max(amount, self.offered.get(name, 0))
        self.offered.update(group.resources)

    def slots(self, needs: Needs) -> float:
        """How many tasks with these needs one Pod runs at a time: what a task needs, one process must have."""
        each = [self.offered.get(name, 0) // amount for name, amount in needs if amount > 0]
        return min([self.threads, *(self.processes * number for number in each)])


def adaptive_target(scheduler: Any, workers: Workers, groups: Groups, target_duration: Any = None) -> dict[str, Any]:
    """How many Pods one group should have: ``Scheduler.adaptive_target`` for its share of the load.

    Tasks that wait or run go to the groups that can run them and offer nothing else (see :func:`_takers`), which are
    filled in their order. With one group this is what distributed computes, with three exceptions: tasks bound to
    workers or hosts that have gone do not count, as no new Pod will have their address; the answer is never less than
    the tasks call for, where distributed shrinks to the busy workers and then grows again; and it grows for memory
    until half of it is used, where distributed doubles and, while the new workers come one by one, doubles again.
    """
    from dask import config
    from dask.utils import parse_timedelta

    goal = parse_timedelta(target_duration or config.get("distributed.adaptive.target-duration"))
    in_order = [*groups.before, groups.own, *groups.after]
    found = workers.of(chain.from_iterable(group.workers for group in in_order))
    # Each Pod belongs to the first group that names it.
    loads = [_GroupLoad(group, [some for pod in group.workers if (some := found.pop(pod, None))]) for group in in_order]
    own = loads[len(groups.before)]
    demand = _demand(scheduler, loads)
    _distribute(demand, loads, own, goal)
    target = math.ceil(own.load - 1e-6) or int(own.load > 0)

    limit, used = sum(ws.memory_limit or 0 for ws in own.workers), sum(ws.nbytes for ws in own.workers)
    if used > 0.6 * limit > 0:
        target = max(target, math.ceil(len(own.staying) * used / (0.5 * limit)))
    if target < len(own.staying):
        target = max(target, len(own.staying) - _dispensable(scheduler, own.staying))
    return {
        "target": target,
        "waiting": sum(tasks.waiting for needs, tasks in demand.items() if own in _takers(needs, loads)),
        "processing": sum(len(ws.processing) for ws in chain.from_iterable(own.registered)),
    }


def _takers(needs: Needs, loads: list[_GroupLoad]) -> list[_GroupLoad]:
    """The groups for tasks with these needs: those that can run them and offer the fewest other resources.

    So tasks without restrictions make no group with GPUs grow, unless there is no group without.
    """
    able = [each for each in loads if each.maximum > 0 and each.slots(needs) > 0]
    fewest = min((len(each.offered) for each in able), default=0)
    return [each for each in able if len(each.offered) == fewest]


def _distribute(demand: dict[Needs, _TaskClass], loads: list[_GroupLoad], own: _GroupLoad, goal: float) -> None:
    """Add up each group's load: first up to its minimum, which it has anyway, then, in order, up to its maximum.

    What remains counts for ``own``, so that it can say that it would need more. All is to be done in ``goal`` seconds.
    """
    choices = {needs: _takers(needs, loads) for needs in demand}
    for needs in sorted(demand, key=lambda needs: (len(choices[needs]), sorted(needs))):  # the least choice first
        tasks = demand[needs]
        rest = min(tasks.tasks, max(tasks.seconds, 1e-9) / goal)  # threads; a few long tasks need only a few
        for bound in ("minimum", "maximum"):
            for each in choices[needs]:
                given = min(rest, max(0.0, getattr(each, bound) - each.load) * each.slots(needs))
                each.load += given / each.slots(needs)
                rest -= given
        if own in choices[needs]:
            own.load += rest / own.slots(needs)


def _demand(scheduler: Any, loads: list[_GroupLoad]) -> dict[Needs, _TaskClass]:
    """What is to be done, by what the tasks need."""
    demand: dict[Needs, _TaskClass] = defaultdict(_TaskClass)
    _add_waiting(scheduler, demand)
    takers = cache(lambda needs: _takers(needs, loads))
    for each in loads:
        for ws in chain.from_iterable(each.registered):
            by_needs = Counter(map(_needs, ws.processing)) if ws.resources else {_NOTHING: len(ws.processing)}
            for needs, number in by_needs.items():
                share = number / len(ws.processing) if ws.processing else 0
                if each not in takers(needs):
                    # A guest: Dask gives tasks to any worker that can run them. No other worker is wanted for what
                    # runs there, only for what waits there.
                    share *= max(0, number - ws.nthreads) / number if number else 0
                    number = max(0, number - ws.nthreads)
                if number:
                    demand[needs].add(number, ws.occupancy * share)
    return demand


def _add_waiting(scheduler: Any, demand: dict[Needs, _TaskClass]) -> None:
    """Add the tasks that no worker has yet; how long they take is estimated from a hundred of each class."""
    unrunnable = defaultdict(list)
    for task in scheduler.unrunnable:
        if not (task.worker_restrictions or task.host_restrictions) or task.loose_restrictions:
            unrunnable[_needs(task)].append(task)
    for needs in {_NOTHING, *unrunnable}:
        queued = scheduler.queued if needs == _NOTHING else ()  # tasks with restrictions are never queued
        sample = list(islice(chain(queued, unrunnable[needs]), 100))
        if sample:
            waiting = len(queued) + len(unrunnable[needs])
            seconds = sum(_duration(scheduler, task) for task in sample) * waiting / len(sample)
            demand[needs].add(waiting, seconds)
            demand[needs].waiting = waiting


def _needs(task: Any) -> Needs:
    return frozenset((task.resource_restrictions or {}).items())


def _duration(scheduler: Any, task: Any) -> float:
    """Seconds that a task is expected to take."""
    of_prefix = getattr(scheduler, "_get_prefix_duration", None)  # not yet in distributed 2024.11
    seconds: float = of_prefix(task.prefix) if of_prefix else scheduler.get_task_duration(task)
    return seconds


def _dispensable(scheduler: Any, found: list[list[Any]]) -> int:
    """How many Pods are idle and leave the others enough memory, by ``Scheduler.workers_to_close``."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    pod = {ws: number for number, processes in enumerate(found) for ws in processes}

    class OnlyThese(SchedulerPlugin):
        def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
            partly = {pod[ws] for ws in pod.keys() - set(workers)}
            return [ws for ws in workers if ws in pod and pod[ws] not in partly]

    name = "dask-gitops-only-these"
    scheduler.add_plugin(OnlyThese(), name=name)
    try:
        closing = scheduler.workers_to_close(memory_ratio=2, key=pod.__getitem__)
    finally:
        scheduler.remove_plugin(name)
    return len({pod[scheduler.workers[address]] for address in closing})
