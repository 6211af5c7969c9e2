"""Where the time of a run went: each second belongs to one part."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.questions import answers_of
from tests.support.states import NAMESPACE, NOW, job, scheduler_pod
from tests.unit.test_job import Run, runner_pod

from dask_controller.core.conditions import condition
from dask_controller.core.pod import Stages, pod
from dask_controller.core.questions import Progress
from dask_controller.core.queue import Queued
from dask_controller.core.run import Run as Derived
from dask_controller.core.run_questions import Work
from dask_controller.core.time import format_time, parse_time
from dask_controller.core.time_spent import time_spent
from dask_crds.model import DaskClusterStatus, TimeSpent
from dask_crds.names import Component, Label

PARTS = [
    field.name
    for field in msgspec.structs.fields(TimeSpent)
    if field.name not in ("since", "until", "state") and not field.name.startswith("told")
]


def parts(spent: TimeSpent) -> dict[str, int]:
    """What is not zero."""
    return {name: seconds for name in PARTS if (seconds := getattr(spent, name))}


def assert_adds_up(spent: TimeSpent) -> None:
    assert sum(parts(spent).values()) == parse_time(spent.until) - parse_time(spent.since)


def asked_for(**spec) -> Run:
    """A job that was created at `NOW`."""
    run = Run(**spec)
    created = {**run.job.metadata, "creationTimestamp": format_time(NOW)}
    run.job = msgspec.structs.replace(run.job, metadata=created)
    return run


def staged(at: float, scheduled: float, prepared: float, started: float, ready: float | None = None) -> dict:
    """When a Pod came how far, from `NOW` on."""
    times = (scheduled, prepared, started, ready)
    return {"created": NOW + at, "stages": Stages(*(None if t is None else NOW + t for t in times))}


def through_to_running(run: Run, *, runner_at: float = 12) -> Run:
    run.step(NOW + 1)
    run.step(NOW + 2)
    run.scheduler_becomes_ready()
    run.scheduler_pods = (scheduler_pod("hello", **staged(2, 4, 5, 9, 11)),)
    run.step(NOW + runner_at)
    run.runner_runs(**staged(12, 13, 13, 16))
    run.step(NOW + 17)
    return run


def test_pods_tell_of_the_time_in_which_nobody_looked():
    run = through_to_running(asked_for())
    spent = run.status.time_spent
    assert (spent.since, spent.until, spent.state) == (format_time(NOW), format_time(NOW + 17), "running")
    # 0-1 nobody had looked, 1-2 no Pod; 2-4 no node, 4-5 its sandbox, 5-9 image, 9-11 to listen, 11-12 the runner's
    # turn; 12-13 its node, 13-16 its image, 16-17 it runs.
    assert parts(spent) == {
        "queued": 1,
        "starting": 5,
        "waiting_for_node": 3,
        "pulling": 7,
        "running": 1,
    }


def test_a_run_s_time_is_shared_out_as_its_scheduler_tells():
    run = through_to_running(asked_for())
    run.answers = answers_of(progress=Progress(10, 5, 2), work=Work(20.9, 3.2, 2.0))
    run.step(NOW + 57)
    spent = run.status.time_spent
    assert (spent.computing, spent.moving_data, spent.waiting_for_workers, spent.idle) == (20, 3, 2, 41 - 25)
    assert spent.running == 0
    run.answers = answers_of(silent="busy")
    run.step(NOW + 80)
    assert run.status.time_spent == spent, "nothing new, nothing written"
    run.answers = answers_of(progress=Progress(10, 9, 2), work=Work(60.0, 3.2, 2.0))
    run.step(NOW + 97)
    spent = run.status.time_spent
    assert (spent.computing, spent.idle) == (60, 16), "of the silent time, too"
    assert_adds_up(spent)


def test_the_end_adds_up_to_the_wall_time():
    run = through_to_running(asked_for())
    run.answers = answers_of(progress=Progress(10, 10, 2), work=Work(70.0, 0.0, 0.0))
    run.pods = (runner_pod(**staged(12, 13, 13, 16), finished=NOW + 96, phase="Succeeded"),)
    run.is_told({"type": "Complete", "lastTransitionTime": format_time(NOW + 99)})
    run.step(NOW + 103)
    spent = run.status.time_spent
    assert (spent.until, run.status.end_time, spent.state) == (format_time(NOW + 99),) * 2 + (None,)
    assert (spent.computing, spent.idle, spent.ending) == (70, 10, 3)
    assert_adds_up(spent)
    run.step(NOW + 200)
    assert run.status.time_spent == spent, "a terminal status stands"


@pytest.mark.parametrize("told", [{}, {"progress": Progress(10, 9, 2), "work": Work(2.0, 0.0, 0.0)}])
def test_an_end_before_the_last_look_is_where_the_account_ends(told):
    """By another clock than the operator's, which may be ahead."""
    run = through_to_running(asked_for())
    run.answers = answers_of(**told)
    run.step(NOW + 45)
    looked = parse_time(run.status.time_spent.until)
    run.pods = (runner_pod(**staged(12, 13, 13, 16), finished=looked - 7, phase="Succeeded"),)
    run.is_told({"type": "Complete", "lastTransitionTime": format_time(looked - 5)})
    run.step(NOW + 50)
    spent = run.status.time_spent
    assert spent.until == run.status.end_time == format_time(looked - 5)
    assert_adds_up(spent)


def test_a_scheduler_cannot_make_time_up():
    run = through_to_running(asked_for())
    run.answers = answers_of(progress=Progress(10, 5, 2), work=Work(1e9, 1e9, 1e9))
    run.step(NOW + 57)
    assert parts(run.status.time_spent)["computing"] == 41
    assert_adds_up(run.status.time_spent)


def test_a_new_scheduler_begins_to_count_at_nothing():
    run = through_to_running(asked_for(on_scheduler_lost="Ignore"))
    run.answers = answers_of(progress=Progress(10, 5, 2), work=Work(30.0, 0.0, 0.0))
    run.step(NOW + 57)
    run.answers = answers_of(progress=Progress(10, 6, 2), work=Work(7.0, 0.0, 0.0))
    run.step(NOW + 77)
    assert run.status.time_spent.computing == 37
    assert_adds_up(run.status.time_spent)


def test_an_older_module_leaves_it_at_running():
    run = through_to_running(asked_for())
    run.answers = answers_of(progress=Progress(10, 5, 2))
    run.step(NOW + 57)
    assert parts(run.status.time_spent)["running"] == 41


def test_a_suspended_run_says_so():
    run = through_to_running(asked_for())
    run.changed(suspend=True)
    run.step(NOW + 20)
    assert run.status.time_spent.state == "suspended"
    run.step(NOW + 320)
    run.changed(suspend=False)
    run.scheduler_pods = run.pods = ()
    run.step(NOW + 330)
    assert parts(run.status.time_spent)["suspended"] == 310
    assert_adds_up(run.status.time_spent)


def test_who_is_held_by_a_queue_is_queued():
    run = asked_for()
    run.step(NOW), run.step(NOW)
    run.scheduler_becomes_ready()
    run.step(NOW)
    run.runner = {**run.runner, "spec": {**run.runner["spec"], "suspend": True}}
    run.step(NOW + 1)
    assert run.status.time_spent.state == "queued"
    run.runner = {**run.runner, "spec": {**run.runner["spec"], "suspend": False}}
    run.runner_runs(**staged(61, 62, 62, 64))
    run.step(NOW + 65)
    assert parts(run.status.time_spent)["queued"] == 60


@pytest.mark.parametrize(("by_its_user", "part"), [(False, "queued"), (True, "suspended")])
def test_who_has_no_quota_of_kueue_is_queued(by_its_user, part):
    """Without it a job is as if suspended."""
    run = asked_for()
    run.step(NOW)
    run.changed(suspend=True)
    o = msgspec.structs.replace(run.observed, queued=Queued(name="team", suspended=by_its_user))
    assert time_spent(Derived(o, NOW + 5), wanted=False).state == part


@pytest.mark.parametrize(
    ("reason", "part"), [("QuotaExceeded", "waitingForQuota"), ("FailedScheduling", "waitingForWorkers")]
)
def test_missing_workers_are_waited_for(reason, part):
    run = asked_for(minimum_ready_workers=2)
    run.step(NOW), run.step(NOW)
    run.scheduler_becomes_ready()
    conditions = [condition("SchedulerReady", True, "Ready"), condition("WorkersReady", False, reason, "why")]
    run.cluster = msgspec.structs.replace(run.cluster, status=DaskClusterStatus(conditions=conditions))
    run.answers = answers_of(progress=Progress(0, 0, 1), work=Work(0.0, 0.0, 0.0))
    run.step(NOW + 5)
    assert run.status.time_spent.state == part


def test_a_later_run_has_an_account_of_its_own():
    run = through_to_running(asked_for(run_id="one"))
    run.is_told({"type": "Complete", "lastTransitionTime": format_time(NOW + 99)})
    run.step(NOW + 100), run.step(NOW + 100)
    run.runner, run.cluster, run.pods = None, None, ()
    run.changed(run_id="two")
    run.step(NOW + 5000)
    assert run.status.time_spent == TimeSpent(
        since=format_time(NOW + 5000), until=format_time(NOW + 5000), state="starting"
    )


@given(
    st.lists(st.integers(0, 300), min_size=9, max_size=9),
    st.lists(st.floats(0, 1e9), min_size=6, max_size=6),
    st.lists(st.integers(0, 400), min_size=3, max_size=3).map(sorted),
)
def test_the_parts_always_add_up(times, told, looks):
    """Whatever Pods and the scheduler say, and in whatever order: each second belongs to one part."""
    run = asked_for()
    run.step(NOW), run.step(NOW)
    run.scheduler_becomes_ready()
    run.step(NOW)
    run.scheduler_pods = (scheduler_pod("hello", **staged(*times[:5])),)
    run.runner_runs(**staged(*times[5:]))
    seen = [run.status.time_spent]
    for look, work in zip(looks, (told[:3], told[3:], told[:3]), strict=True):
        run.answers = answers_of(progress=Progress(10, look, 2), work=Work(*work))
        run.step(NOW + look)
        seen.append(run.status.time_spent)
    run.is_told({"type": "Complete", "lastTransitionTime": format_time(NOW + looks[-1])})
    run.step(NOW + looks[-1])
    seen.append(run.status.time_spent)
    for spent in seen:
        assert_adds_up(spent)
    assert all(parse_time(a.until) <= parse_time(b.until) for a, b in pairwise(seen))
    assert seen[-1].until == run.status.end_time


def manifest(*, component=Component.JOB_RUNNER, conditions=(), states=()):
    return {
        "metadata": {
            "name": "x",
            "namespace": NAMESPACE,
            "uid": "x",
            "resourceVersion": "1",
            "labels": {Label.COMPONENT: component},
        },
        "status": {
            "conditions": [
                {"type": type, "status": status, "lastTransitionTime": format_time(time)}
                for type, status, time in conditions
            ],
            "containerStatuses": [{"name": f"c{n}", "state": state} for n, state in enumerate(states)],
        },
    }


def test_how_far_a_pod_came_is_read_of_schedulers_and_runners():
    conditions = [("PodScheduled", "True", NOW), ("PodReadyToStartContainers", "True", NOW + 1), ("Ready", "False", 0)]
    started = [{"running": {"startedAt": format_time(NOW + t)}} for t in (3, 5)]
    assert pod(manifest(conditions=conditions, states=started)).stages == Stages(NOW, NOW + 1, NOW + 5)
    assert pod(manifest(conditions=conditions, states=[started[0], {"waiting": {}}])).stages.started is None
    ended = [{"terminated": {"startedAt": format_time(NOW + 3), "finishedAt": format_time(NOW + 4)}}]
    assert pod(manifest(states=ended)).stages.started == NOW + 3
    assert pod(manifest(component=Component.WORKER, conditions=conditions, states=started)).stages == Stages()
    assert pod(manifest(conditions=[("PodScheduled", "True", NOW)], states=[{"running": "x"}])).stages == Stages(NOW)


def test_the_account_survives_a_restart_of_the_operator():
    """It is in status, and nowhere else."""
    run = through_to_running(asked_for())
    stored = msgspec.json.encode(run.status.time_spent)
    again = msgspec.structs.replace(run.status, time_spent=msgspec.json.decode(stored, type=TimeSpent))
    assert again == run.status
    assert job().status.time_spent is None
