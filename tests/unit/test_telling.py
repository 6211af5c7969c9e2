"""What a new status tells the metrics that count; drains above all."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.states import NOW, cluster, group, worker_pod

from dask_controller.core.actions import Delete, Outcome
from dask_controller.core.observed import ObservedGroup
from dask_controller.core.questions import Answers, Retire
from dask_controller.core.telling import told
from dask_controller.core.time import format_time
from dask_crds import metrics
from dask_crds.model import DaskWorkerGroupStatus, DrainingWorker

LABELS = ("team", "simple", "simple-default")


def counted(note: str | None, said: str | None, *, deleted: bool = False, error: str = "") -> dict[str, Any]:
    """What is told of one worker that has drained for 40 s: the note in the ledger, and the scheduler's words now."""
    entry = DrainingWorker(name="simple-default-worker-0", since=format_time(NOW - 40), message=note)
    value = group(status=DaskWorkerGroupStatus(draining=[entry]))
    pod = worker_pod(value, 0)
    answers = Answers(by_question={Retire: {pod.known_as: said}}) if said is not None else None
    o = ObservedGroup(group=value, cluster=cluster(), autoscaler=None, pods=(pod,), scheduler_pods=(), answers=answers)
    outcomes = [Outcome(Delete.of(pod), error)] if deleted else []
    found = {}
    for count in told(o, value, DaskWorkerGroupStatus(), outcomes, NOW):
        if count.metric is metrics.DRAIN_SECONDS:
            found[f"seconds {count.labels[0]}"] = count.value
        else:
            assert count.labels == LABELS
            found[count.metric.name.removeprefix("dask_drain_")] = count.value
    return found


def left(tasks: int, results: int) -> str:
    return f"retiring: {tasks} tasks and {results} results left"


@pytest.mark.parametrize(
    ("note", "said", "expected"),
    [
        ("", left(1, 9), {}),  # nothing was known before
        (left(1, 9), left(0, 4), {"results_moved_total": 5}),
        (left(1, 4), left(0, 9), {}),  # what it ran has ended: results came on top
        (left(0, 9), left(0, 9), {}),
        (left(0, 9), "retired", {"results_moved_total": 9}),
        (left(0, 9), "unknown", {}),
        (left(0, 9), None, {}),
        ("refused: holds the only copy of 7 keys and no other", left(0, 2), {"results_moved_total": 5}),
        ("waiting for the scheduler: it is silent", "retired", {}),
        (left(0, 10**30), left(0, 1), {}),  # a stranger's number
    ],
)
def test_results_that_have_moved(note: str, said: str | None, expected: dict[str, float]) -> None:
    assert counted(note, said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("retired", {"seconds completed": 40}),
        (left(2, 3), {"seconds timed_out": 40, "results_lost_total": 3, "tasks_lost_total": 2}),
        ("refused: holds the only copy of 7 keys", {"seconds timed_out": 40, "results_lost_total": 7}),
        ("refused: runs 4 tasks and no other worker", {"seconds timed_out": 40, "tasks_lost_total": 4}),
        ("refused: holds 1 actors, which cannot move", {"seconds timed_out": 40}),
        ("unknown", {"seconds unknown": 40}),
        (None, {"seconds unknown": 40}),
    ],
)
def test_how_a_drain_has_ended(said: str | None, expected: dict[str, float]) -> None:
    assert counted("", said, deleted=True) == expected


def test_a_deletion_that_failed_has_ended_nothing() -> None:
    assert counted("", "retired", deleted=True, error="the API server is away") == {}


def test_whoever_is_not_a_worker_group_drains_nothing() -> None:
    value = cluster()
    assert list(told(None, value, value.status, [], NOW)) == []
