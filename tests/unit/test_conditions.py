"""Conditions and the events that tell of them."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.states import NOW
from tests.support.states import condition as of_type

from dask_controller.core.actions import Event, Outcome
from dask_controller.core.conditions import Standing, condition, events, merge, readiness
from dask_crds.model import Condition


class TestEvents:
    """(node 4) Success was told as a warning, and twice."""

    @pytest.mark.parametrize("reason", ["Completed", "Suspended", "Ready"])
    def test_what_is_as_asked_is_no_warning(self, reason: str) -> None:
        (event,) = events([condition("Ready", False, "Progressing")], [condition("Ready", True, reason)])
        assert not event.warning

    @pytest.mark.parametrize("reason", ["Progressing", "Conflict", "Terminating"])
    def test_nor_is_what_passes(self, reason: str) -> None:
        before = [condition("Ready", True, "Ready")]
        assert [event.warning for event in events(before, [condition("Ready", False, reason)])] == [False]

    def test_what_needs_somebody_is(self) -> None:
        after = [condition("Ready", False, "ImagePullBackOff", "x")]
        assert events(None, after) == [Event("ImagePullBackOff", "Ready is False: x", True)]

    def test_an_end_is_told_once(self) -> None:
        done = [
            condition("Ready", True, "Completed"),
            condition("Complete", True, "Completed"),
            condition("Failed", False, ""),
        ]
        assert [(e.reason, e.warning) for e in events(None, done)] == [("Completed", False)]
        failed = [
            condition("Ready", False, "BackoffLimitExceeded"),
            condition("Complete", False, ""),
            condition("Failed", True, "BackoffLimitExceeded", "it failed"),
        ]
        assert events(None, failed) == [Event("BackoffLimitExceeded", "Failed is True: it failed", True)]


@pytest.mark.parametrize("reason", ["Conflict", "Terminating"])
def test_a_write_that_lost_a_race_is_progress(reason: str) -> None:
    """(node 4) ``Warning Conflict`` was harmless."""
    lost = Outcome(Event("x", "x"), "somebody was quicker", reason)
    found = readiness(Standing(waiting=""), [lost], None, 1, NOW)
    assert (of_type(found, "Ready").status, of_type(found, "Ready").reason) == ("False", "Progressing")
    assert of_type(found, "Stalled").status == "False"


def test_whatever_a_refusal_says_fits_into_a_status() -> None:
    """Else no status could be written at all, and nobody would be told why nothing comes."""
    refused = Outcome(Event("x", "x"), "spec.containers[0].env[0].name: Invalid value; " * 1000, "No" * 1000, True)
    found = readiness(Standing(waiting=""), [refused], None, 1, NOW)
    msgspec.convert(msgspec.to_builtins(merge(None, found, generation=1, now=NOW)), list[Condition])
    assert of_type(found, "Ready").message.startswith("spec.containers[0].env[0].name: Invalid value; ")
    assert of_type(found, "Stalled").status == "True"


@pytest.mark.parametrize("time", ["", "x", "0000-01-01T00:00:00Z"])
def test_a_time_that_is_none_wedges_nothing(time: str) -> None:
    """(security 8) Whoever may patch status has written it."""
    reconciling = condition("Reconciling", True, "Progressing")
    reconciling = msgspec.structs.replace(reconciling, last_transition_time=time)
    found = readiness(Standing(waiting="x"), [], [reconciling], 1, NOW)
    assert of_type(found, "Stalled").status == "False"
