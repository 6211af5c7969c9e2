"""The ledger of a worker group, ``status.draining``: who is on the way out, and how far the scheduler says they are.

A worker that is wanted again stays in it until the scheduler says that it works again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set

from msgspec import Struct

from dask_crds.model import DrainingWorker
from dask_crds.reasons import Reason
from dask_resources.worker import drain_timeout

from .actions import Event
from .observed import ObservedGroup
from .pod import Pod
from .questions import Resume, Retire
from .time import Time, format_time, time_or

#: How often the scheduler is asked about a drain; it cannot be watched.
DRAIN_POLL_SECONDS = 1.0
#: Workers that drain at a time: each is an entry of status, which the API server takes up to some size.
MOST_DRAINING = 500
#: Characters of a note in the ledger.
LONGEST_NOTE = 300
#: How the note begins of a worker that is wanted again. It has a new time to drain if it has to go after all.
_WANTED_AGAIN = "waiting for the scheduler's word to work again"


class Drained(Struct, frozen=True, kw_only=True):
    """How far the draining Pods are."""

    due: Sequence[Pod]  #: to be deleted now
    late: Mapping[str, str]  #: those of them whose time is over, and what they still hold
    notes: dict[str, str]  #: what the ledger says of those that stay, by name


def drained(o: ObservedGroup, pods: Iterable[Pod], resumed: Set[str], now: Time) -> Drained:
    """Look over the Pods in the ledger; ``resumed`` are the names of those that are wanted again."""
    begun = since(o, now)
    due, late, notes = list[Pod](), dict[str, str](), dict[str, str]()
    for pod in pods:
        if pod.name in resumed:
            if why := _why_paused(pod, o):
                notes[pod.name] = f"{_WANTED_AGAIN}: {why}"
            continue
        state = _retirement(pod, o) if o.scheduler_runs else "unknown"
        if state in ("retired", "unknown"):
            due.append(pod)
        elif now - begun[pod.name] >= drain_timeout(o.group):
            due.append(pod)
            late[pod.name] = state
        else:
            notes[pod.name] = state
    return Drained(due=due, late=late, notes=notes)


def since(o: ObservedGroup, now: Time) -> dict[str, Time]:
    """Since when the Pods in the ledger drain. Others may have written into status whatever they like."""
    created = {p.name: p.created for p in o.pods}
    return {
        entry.name: now
        if is_wanted(entry.message)
        else min(now, max(time_or(entry.since, now), created.get(entry.name, -math.inf)))
        for entry in o.group.status.draining or ()
    }


def is_wanted(note: str | None) -> bool:
    """Whether the note on a Pod in the ledger says that it is wanted again."""
    return (note or "").startswith(_WANTED_AGAIN)


def entries(o: ObservedGroup, notes: Mapping[str, str], active: Iterable[Pod], now: Time) -> list[DrainingWorker]:
    """The ledger as it is to be stored: those with a note that still exist; ``since`` is kept."""
    stored = {entry.name: time_or(entry.since, now) for entry in o.group.status.draining or ()}
    begun = since(o, now) | {name: stored[name] for name, note in notes.items() if is_wanted(note)}
    present = {p.name for p in active}
    return [
        DrainingWorker(name=name, since=format_time(begun.get(name, now)), message=note[:LONGEST_NOTE] or None)
        for name, note in sorted(notes.items())
        if name in present
    ]


def timeouts(o: ObservedGroup, late: Mapping[str, str]) -> Iterable[Event]:
    """A warning for each Pod that goes although it may still hold something."""
    over = f"its time to drain is over ({drain_timeout(o.group)} s)"
    return (Event(Reason.DRAIN_TIMEOUT, f"{name} is deleted, as {over}: {state}", True) for name, state in late.items())


def _retirement(pod: Pod, o: ObservedGroup) -> str:
    notes = o.answers.of(Retire) if o.answers else None
    if notes is None:
        return f"waiting for the scheduler: {o.answers.silent if o.answers else 'not asked'}"
    state = notes.get(pod.known_as, "unknown")
    return f"it says: {state}" if is_wanted(state) else state


def _why_paused(pod: Pod, o: ObservedGroup) -> str:
    """Why a Pod that is wanted again may still be paused; empty once it works.

    A scheduler's module that does not tell what became of it has been told all the same.
    """
    if not o.scheduler_runs or o.answers is None:
        return "there is none now"
    if o.answers.silent:
        return o.answers.silent
    state = (o.answers.of(Resume) or {}).get(pod.known_as, "running")
    return "" if state != "resuming" else "it has been told"
