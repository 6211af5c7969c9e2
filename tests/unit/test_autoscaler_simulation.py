"""Autoscaler and worker group together under a load, second by second: minutes pass in milliseconds.

The planners are the real ones. The API server, Pods that take their time to start, and a scheduler with tasks of some
seconds are simulated.
"""

from __future__ import annotations

import math

import msgspec
import pytest
from tests.support.questions import answers_of
from tests.support.states import NOW, autoscaler, group, observed_group, scheduler_pod, worker_pod

from dask_controller.core.actions import CreateWorker, Delete
from dask_controller.core.autoscaler import INTERVAL_SECONDS, plan_autoscaler
from dask_controller.core.autoscaler_status import autoscaler_status
from dask_controller.core.observed import ObservedAutoscaler
from dask_controller.core.pod import Pod
from dask_controller.core.questions import Answers
from dask_controller.core.worker_group import plan_worker_group
from dask_controller.core.worker_group_status import worker_group_status
from dask_crds.model import AutoscalerBehavior, ScalingPolicy, ScalingRules

TARGET_DURATION = 5.0  #: ``distributed.adaptive.target-duration``


class World:
    """One group of workers with one thread each, its autoscaler and its load."""

    def __init__(self, *, minimum: int = 0, maximum: int = 8, start_seconds: int = 8, **behavior: ScalingRules) -> None:
        spec = {"behavior": AutoscalerBehavior(**behavior)} if behavior else {}
        self.autoscaler = autoscaler(minimum, maximum, **spec)
        self.group = group(replicas=minimum)
        self.start_seconds = start_seconds
        self.pods: dict[str, Pod] = {}
        self.running: dict[str, float] = {}  # name of a Pod -> seconds that its task still takes
        self.waiting: list[float] = []
        self.second = 0
        self.created = self.done = self.writes = 0
        self.cancelled = 0  # Pods deleted before they ran
        self.interrupted = 0  # tasks whose worker was told to go
        self.most = 0

    @property
    def now(self) -> float:
        return NOW + self.second

    def registered(self) -> list[str]:
        return [name for name, pod in self.pods.items() if pod.ready]

    def target(self) -> int:
        """What ``Scheduler.adaptive_target`` would say, but never less than what is busy."""
        seconds = sum(self.waiting) + sum(self.running.values())
        tasks = len(self.waiting) + len(self.running)
        return max(min(tasks, math.ceil(seconds / TARGET_DURATION)), len(self.running))

    def answers(self) -> Answers:
        names = sorted(self.registered(), key=lambda name: name in self.running)
        return answers_of(
            registered=frozenset(self.pods[name].worker_name for name in names),
            ranked=tuple(self.pods[name].worker_name for name in names),
            retirement={
                pod.worker_name: "retiring: 1 tasks left" if name in self.running else "retired"
                for name, pod in self.pods.items()
            },
        )

    def look(self) -> None:
        """The autoscaler's turn."""
        pods = tuple(self.pods.values())
        o = ObservedAutoscaler(
            autoscaler=self.autoscaler, rival=None, group=self.group, pods=pods, scheduler_pods=(scheduler_pod(),)
        )
        o = msgspec.structs.replace(o, answers=answers_of(target=self.target()))
        status = autoscaler_status(o, plan_autoscaler(o, self.now), [], self.now)
        self.writes += status != self.autoscaler.status
        self.autoscaler = msgspec.structs.replace(self.autoscaler, status=status)

    def reconcile(self) -> None:
        """The group's turn."""
        o = observed_group(self.group, *self.pods.values(), autoscaler=self.autoscaler, answers=self.answers())
        plan = plan_worker_group(o, self.now)
        status = worker_group_status(o, plan, [], self.now)
        self.interrupted += sum(1 for name in plan.draining if name in self.running)
        for action in plan.actions:
            if isinstance(action, CreateWorker):
                pod = worker_pod(
                    self.group, action.ordinal, phase="Pending", ready=False, created=self.now, ip="", started=None
                )
                assert pod.name not in self.pods
                self.pods[pod.name] = msgspec.structs.replace(pod, worker_name=f"{pod.name}-{self.created}")
                self.created += 1
            elif isinstance(action, Delete):
                gone = self.pods.pop(action.name)
                self.cancelled += gone.phase == "Pending"
                assert action.name not in self.running
        self.writes += status != self.group.status
        self.group = msgspec.structs.replace(self.group, status=status)

    def step(self) -> None:
        """One second."""
        for name, pod in self.pods.items():
            if pod.phase == "Pending" and self.now - pod.created >= self.start_seconds:
                self.pods[name] = msgspec.structs.replace(pod, phase="Running", ready=True, ip="10.0.0.1")
        for name in [name for name, left in self.running.items() if left <= 1]:
            del self.running[name]
            self.done += 1
        self.running = {name: left - 1 for name, left in self.running.items()}
        draining = {entry.name for entry in self.group.status.draining or ()}
        for name in self.registered():
            if self.waiting and name not in self.running and name not in draining:
                self.running[name] = self.waiting.pop(0)
        if self.second % INTERVAL_SECONDS == 0:
            self.look()
        self.reconcile()
        self.most = max(self.most, len(self.pods))
        self.second += 1

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.step()

    def bursts(self, times: int, *, tasks: int = 12, seconds: float = 3, every: int = 20) -> None:
        for _ in range(times):
            self.waiting += [seconds] * tasks
            self.run(every)


@pytest.mark.parametrize("start_seconds", [2, 8, 30])
def test_bursts_every_twenty_seconds_do_not_churn_workers(start_seconds):
    """dask-kubernetes #633, #674, #677: adaptive clusters thrash."""
    world = World(start_seconds=start_seconds)
    world.bursts(times=30)
    assert world.done >= 29 * 12
    assert world.created == world.most <= 8
    assert world.interrupted == 0
    world.run(90)
    assert world.pods == {}, "to zero after the last burst"
    assert world.created == world.most


def test_the_window_is_what_prevents_it():
    """The simulation can show churn."""
    world = World(start_seconds=2, scale_down=ScalingRules(stabilization_window_seconds=0))
    world.bursts(times=30)
    assert world.created > 5 * world.most


def test_an_idle_group_is_left_alone():
    world = World()
    world.bursts(times=2)
    world.run(120)
    writes = world.writes
    world.run(600)
    assert world.writes == writes
    assert world.pods == {}


def test_waking_up_from_zero_for_one_task():
    world = World(minimum=0, start_seconds=4)
    world.run(30)
    assert world.created == 0
    world.waiting = [1]
    world.run(12)
    assert (world.created, world.done) == (1, 1)


def test_pods_that_have_not_started_are_counted():
    """A group whose Pods wait for nodes asks for no more of them, however long that takes."""
    world = World(maximum=100, start_seconds=10_000)
    world.waiting = [10] * 20
    world.run(900)
    assert world.created == 20


def test_pods_that_have_not_started_go_before_workers_that_run():
    world = World(maximum=10, start_seconds=2)
    world.waiting = [1000] * 3
    world.run(10)
    world.start_seconds = 10_000
    world.waiting = [1] * 5
    world.run(10)
    assert len(world.registered()) == 3
    assert len(world.pods) > 3
    world.waiting = []  # they were cancelled
    world.run(120)
    assert sorted(world.pods) == sorted(world.running)
    assert len(world.running) == 3
    assert world.cancelled == world.created - 3
    assert world.interrupted == 0


def test_policies_are_kept_by_the_group_too():
    four = ScalingRules(policies=[ScalingPolicy(type="Pods", value=4, period_seconds=60)])
    world = World(maximum=50, start_seconds=2, scale_up=four)
    world.waiting = [10_000] * 50
    sizes = []
    for _ in range(5):
        world.run(55)
        sizes.append(len(world.pods))
        world.run(5)
    assert sizes == [4, 8, 12, 16, 20]


def test_only_idle_workers_go():
    """Half of the tasks are long; the others' workers go, and no one else's."""
    world = World(start_seconds=2)
    world.waiting = [600, 3] * 4
    world.run(300)
    assert len(world.pods) == 4 == len(world.running)
    assert world.interrupted == 0
