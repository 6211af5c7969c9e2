"""Conditions by the Kubernetes API conventions, so that kstatus (Flux) and Argo CD read the truth.

``Ready`` says whether all is as asked. While it is not, either ``Reconciling`` is True (we are at it) or ``Stalled``
is (it will not get better by itself).
https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from dask_crds.model import Condition
from dask_crds.reasons import Reason

from .actions import Event, Outcome
from .pod import Problem
from .time import Time, format_time, time_or

#: How long something may be in the making before it counts as stalled; the default of a Deployment.
PROGRESS_DEADLINE_SECONDS = 600.0
#: Reasons of outcomes that pass: somebody else has written at the same time, or a name is free in a moment.
PASSING = (Reason.CONFLICT, Reason.TERMINATING)
#: Reasons of a ``Ready`` that is not True but is as asked all the same, or will be soon.
_AS_ASKED = (Reason.PROGRESSING, *PASSING)
#: Characters of a reason and a message; a status with more than 1,024 and 32,768 is refused. Of a Pod with hundreds of
#: faults the API server tells each, and webhooks say what they like.
LONGEST_REASON, LONGEST_MESSAGE = 256, 4096


def condition(type: str, is_true: bool, reason: str, message: str = "") -> Condition:
    """A condition whose times :func:`merge` fills in."""
    told = message if len(message) <= LONGEST_MESSAGE else f"{message[: LONGEST_MESSAGE - 3]}..."
    status: Literal["True", "False"] = "True" if is_true else "False"
    return Condition(type=type, status=status, reason=reason[:LONGEST_REASON], message=told, last_transition_time="")


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
        since = old.last_transition_time if old is not None and old.status == new.status else format_time(now)
        merged.append(replace(new, last_transition_time=since, observed_generation=generation))
    return merged


def unmet(conditions: Sequence[Condition] | None, type: str) -> Problem | None:
    """What is wrong where a condition says that it is not True; what is merely under way is no problem."""
    found = find(conditions, type)
    if found is None or found.status == "True" or found.reason == Reason.PROGRESSING:
        return None
    return Problem(found.reason, found.message)


def named_problem(reason: str, message: str) -> Problem:
    """A problem under the name that tells what to do: the API server calls an exhausted quota ``Forbidden``."""
    return Problem(Reason.QUOTA_EXCEEDED if "exceeded quota" in message else reason, message)


class Standing(Struct, frozen=True, kw_only=True):
    """How it stands with a resource."""

    waiting: str  #: what is still missing; empty when all is as asked
    problem: Problem | None = None  #: what is wrong with a child, if anything
    lasting: bool = False  #: whether the problem lasts until somebody changes something
    bounded: bool = True  #: whether being at it for long counts as stalled
    progress: Time | None = None  #: when something was last achieved, if known; the deadline counts from then
    ready: Reason = Reason.READY  #: reason of ``Ready`` when nothing is missing
    message: str = ""  #: likewise its message


def readiness(
    standing: Standing, outcomes: Sequence[Outcome], before: Sequence[Condition] | None, generation: int, now: Time
) -> list[Condition]:
    """``Ready``, ``Reconciling`` and ``Stalled``.

    Args:
        standing: how it stands with the children.
        outcomes: how the actions went; a permanent error stalls.
        before: the conditions as they were.
        generation: what is being worked towards; another one has all its time again.
        now: the time.
    """
    passing = [o for o in outcomes if o.error and o.reason in PASSING]
    errors = [o for o in outcomes if o.error and (o.permanent or o.reason not in PASSING)]
    failed = next((o for o in errors if o.permanent), next(iter(errors), None))
    problem = named_problem(failed.reason or Reason.WRITE_FAILED, failed.error) if failed else standing.problem
    waiting = standing.waiting or next((o.error for o in passing), "")
    if problem is None and waiting:
        problem = Problem(Reason.PROGRESSING, waiting)
    reason, message = (problem.reason, problem.message) if problem else (standing.ready, standing.message)
    lasting = standing.lasting or (failed is not None and failed.permanent)
    overdue = standing.bounded and _deadline_exceeded(before, generation, now, standing.progress or 0.0)
    stalled = problem is not None and (lasting or overdue)
    reconciling = problem is not None and not stalled
    stalled_reason = reason if lasting or not stalled else Reason.PROGRESS_DEADLINE_EXCEEDED
    return [
        condition("Ready", problem is None, reason, message),
        condition("Reconciling", reconciling, reason, message if reconciling else ""),
        condition("Stalled", stalled, stalled_reason, message if stalled else ""),
    ]


def _deadline_exceeded(before: Sequence[Condition] | None, generation: int, now: Time, progress: Time) -> bool:
    """Whether the same generation has been reconciled for too long, with nothing to show for it."""
    stalled, reconciling = find(before, "Stalled"), find(before, "Reconciling")
    if stalled is not None and stalled.status == "True":
        same = stalled.reason == Reason.PROGRESS_DEADLINE_EXCEEDED and stalled.observed_generation == generation
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
        if old is None and new.reason == Reason.PROGRESSING:
            continue
        if new.type == "Ready" and new.reason in ended:
            continue  # the end is told once, as what it is
        if old is None or (old.status, old.reason) != (new.status, new.reason):
            bad = new.status != "True" and new.reason not in _AS_ASKED
            warning = new.type == "Failed" or (new.type == "Ready" and bad)
            out.append(Event(new.reason, f"{new.type} is {new.status}: {new.message or new.reason}", warning))
    return out
