"""Schedules of a DaskCronJob: what Kubernetes takes, no more and no less (constructs finding 10, program 20).

``tests/schema/test_verdicts.py`` asks a real API server about the same ones.
"""

from __future__ import annotations

import pytest
from tests.support.schedules import ACCEPTED, REFUSED

from dask_constructs.schedule import schedule_problem


@pytest.mark.parametrize("schedule", ACCEPTED)
def test_a_schedule_that_kubernetes_takes(schedule: str) -> None:
    assert schedule_problem(schedule) is None


@pytest.mark.parametrize("schedule", REFUSED)
def test_a_schedule_that_kubernetes_refuses(schedule: str) -> None:
    assert schedule_problem(schedule)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("0 0 * * 7", "'7' is no day of the week of a CronJob: 0-6 or sun-sat, *, ranges and /steps"),
        ("0 0 L * *", "'L' is no day of the month of a CronJob: 1-31, *, ranges and /steps"),
        ("* * *", "'* * *' must have five fields"),
    ],
)
def test_the_field_is_named(schedule: str, message: str) -> None:
    assert schedule_problem(schedule) == message
