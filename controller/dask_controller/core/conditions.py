"""Conditions by the Kubernetes API conventions, such that kstatus (Flux) and Argo CD read the truth.

``Ready`` says whether all is as asked. While it is not, either ``Reconciling`` is True (we are at it) or ``Stalled``
is (it will not get better by itself).
https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from dask_crds.model import Condition

from .actions import Event, Outcome
from .observed import Problem
from .time import Time, format_time, time_or

#: How long something may be in the making before it counts as stalled; the default of a Deployment.
PROGRESS_DEADLINE_SECONDS = 600.0
#: Reasons of outcomes that pass: somebody else has written at the same time, or a name is free in a moment.
PASSING = ("Conflict", "Terminating")
#: Reasons of a ``Ready`` that is not True and all the same as asked, or soon.
_AS_ASKED = ("Progressing", "Terminating", "Conflict")


def condition(type: str, is_true: bool, reason: str, message: str = "") -> Condition:
    """A condition whose times :func:`merge` fills in."""
    return Condition(
        type=type, status="True" if is_true else "False", reason=reason, message=message, last_transition_time=""
    )


def find(conditions: Sequence[Condition] | None, type: str) -> Condition | None:
    """The condition of that type."""
    return next((c for c in conditions or () if c.type == type), None)


def is_true(conditions: Sequence[Condition] | None, type: str) -> bool:
    """Whether the condition is there and True."""
    found = find(conditions, type)
    return found is not None and found.status == "True"


def merge(
    before: Sequence[Condition] | None, wanted: Sequence[Condition], *, generation: int, now: Time
) -> list[Condition]:
    """``wanted`` with ``observedGeneration``, and ``lastTransitionTime`` moved only where the status changed."""
    merged = []
    for new in wanted:
        old = find(before, new.type)
        kept = old is not None and old.status == new.status
        merged.append(
            Condition(
                type=new.type,
                status=new.status,
                reason=new.reason,
                message=new.message,
                last_transition_time=old.last_transition_time if old is not None and kept else format_time(now),
                observed_generation=generation,
            )
        )
    return merged


def named_problem(reason: str, message: str) -> Problem:
    """A problem under the name that tells what to do: the API server calls an exhausted quota ``Forbidden``."""
    return Problem("QuotaExceeded" if "exceeded quota" in message else reason, message)


def readiness(
    before: Sequence[Condition] | None,
    *,
    problem: Problem | None,
    waiting: str,
    outcomes: Sequence[Outcome],
    generation: int,
    now: Time,
    ready: Literal["Ready", "Suspended", "Complete"] = "Ready",
    message: str = "",
    stalled: bool = False,
    deadline: bool = True,
    progress: Time | None = None,
) -> list[Condition]:
    """``Ready``, ``Reconciling`` and ``Stalled``.

    Args:
        before: the conditions as they were.
        problem: what is wrong with a child, if anything.
        waiting: what is still missing; empty when all is as asked.
        outcomes: how the actions went; a permanent error stalls.
        generation: what is being worked towards; another one has all its time again.
        now: the time.
        ready: reason of ``Ready`` when nothing is missing.
        message: message of ``Ready`` when nothing is missing.
        stalled: whether the problem lasts until somebody changes something.
        deadline: whether being at it for long counts as stalled.
        progress: when something was last achieved, as far as that is known; the deadline counts from then.
    """
    errors = [o for o in outcomes if o.error]
    failed = next((o for o in errors if o.permanent), None) or next(
        (o for o in errors if o.reason not in PASSING), None
    )
    waiting = waiting or next((o.error for o in errors if o.reason in PASSING), "")
    if failed is not None:
        problem = named_problem(failed.reason or "WriteFailed", failed.error)
    if problem is None and not waiting:
        return [
            condition("Ready", True, ready, message),
            condition("Reconciling", False, ready),
            condition("Stalled", False, ready),
        ]
    reason, text = (problem.reason, problem.message) if problem else ("Progressing", waiting)
    lasting = stalled or (failed is not None and failed.permanent)
    stalled = lasting or (deadline and _deadline_exceeded(before, generation, now, progress or 0.0))
    stalled_reason = reason if lasting else "ProgressDeadlineExceeded"
    return [
        condition("Ready", False, reason, text),
        condition("Reconciling", not stalled, reason, "" if stalled else text),
        condition("Stalled", stalled, stalled_reason if stalled else reason, text if stalled else ""),
    ]


def _deadline_exceeded(before: Sequence[Condition] | None, generation: int, now: Time, progress: Time) -> bool:
    """Whether the same generation has been reconciled for too long, with nothing to show for it."""
    stalled, reconciling = find(before, "Stalled"), find(before, "Reconciling")
    if stalled is not None and stalled.status == "True":
        same = stalled.reason == "ProgressDeadlineExceeded" and stalled.observed_generation == generation
        return same and progress <= time_or(stalled.last_transition_time, now)
    if reconciling is None or reconciling.status != "True":
        return False
    return now - max(time_or(reconciling.last_transition_time, now), progress) >= PROGRESS_DEADLINE_SECONDS


def events(before: Sequence[Condition] | None, after: Sequence[Condition]) -> list[Event]:
    """One event for each condition that people follow and whose status or reason has changed.

    That something new is being brought up goes without saying.
    """
    out = []
    ended = {c.reason for c in after if c.type in ("Complete", "Failed") and c.status == "True"}
    for new in after:
        old = find(before, new.type)
        if new.type not in ("Ready", "Complete", "Failed") or (new.type != "Ready" and new.status != "True"):
            continue
        if old is None and new.reason == "Progressing":
            continue
        if new.type == "Ready" and new.reason in ended:
            continue  # the end is told once, as what it is
        if old is None or (old.status, old.reason) != (new.status, new.reason):
            bad = new.status != "True" and new.reason not in _AS_ASKED
            warning = new.type == "Failed" or (new.type == "Ready" and bad)
            out.append(Event(new.reason, f"{new.type} is {new.status}: {new.message or new.reason}", warning))
    return out
