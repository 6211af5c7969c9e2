"""The record that a scheduler keeps of what it does, as far as it is the operator's business: where, and the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dask_crds.model import Bundle, DaskJobStatus, History

from .pod import Pod, last_words
from .questions import Answers
from .run_questions import Recorded

#: Characters of a message that get into the record, of a log (Kubernetes keeps no more), and of an Event.
LONGEST_MESSAGE, LONGEST_LOG, LONGEST_EVENT = 2048, 2048, 300
#: Pods whose ends are told, and Events.
MOST_FAILED, MOST_EVENTS = 10, 30
#: Characters of all that is told; a scheduler takes a few more, see its module's ``MOST_TOLD``.
MOST_TOLD = 60_000
_LONGEST_WORD = 200


class Failure(Struct, frozen=True, rename="camel"):
    """How a container ended last, if not well."""

    pod: str
    container: str
    exit_code: int
    reason: str
    finished: str
    restarts: int
    log: str  #: the end of it, or what the container has left as its message


class Happened(Struct, frozen=True):
    """An Event."""

    time: str
    type: str
    reason: str
    about: str  #: kind and name
    message: str


class Traces(Struct, frozen=True):
    """What is left of a run that has ended, and goes with its objects."""

    failures: tuple[Failure, ...] = ()
    events: tuple[Happened, ...] = ()


NO_TRACES = Traces()


def bundle(before: Bundle | None, history: History | None, answers: Answers | None) -> Bundle | None:
    """What status says of the record; it stands while the scheduler says nothing."""
    if history is None:
        return None
    said = answers.of(Recorded) if answers is not None else None
    if said is None:
        return before
    place = history.claim_name, history.url
    known = before.path if before is not None and (before.claim_name, before.url) == place else None
    return Bundle(claim_name=place[0], url=place[1], path=said.path or known, problem=said.problem or None)


def failed(pods: Iterable[Pod]) -> list[Pod]:
    """Those whose ends are told: with a container that has not ended well, those that did so most often first."""
    found = [pod for pod in pods if any(c.exit_code for c in pod.containers)]
    return sorted(found, key=lambda pod: -max(c.restarts for c in pod.containers))[:MOST_FAILED]


def failures(pod: Mapping[str, Any]) -> list[Failure]:
    """Of the containers of a Pod as the API server has it; that they were stopped when it was deleted is none."""
    found = []
    states = ("lastState",) if pod["metadata"].get("deletionTimestamp") else ("state", "lastState")
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        ends = ((status.get(state) or {}).get("terminated") for state in states)
        end = next(filter(None, ends), None)
        if end is not None and end.get("exitCode"):
            failure = Failure(
                pod=pod["metadata"]["name"],
                container=status["name"],
                exit_code=end["exitCode"],
                reason=_word(end.get("reason")),
                finished=_word(end.get("finishedAt")),
                restarts=int(status.get("restartCount") or 0),
                log=last_words(end.get("message"), LONGEST_LOG),
            )
            found.append(failure)
    return found


def _word(found: object) -> str:
    return str(found or "")[:_LONGEST_WORD]


def happened(events: Iterable[Mapping[str, Any]]) -> tuple[Happened, ...]:
    """The last of these Events, oldest first."""

    def told(event: Mapping[str, Any]) -> Happened:
        about = event.get("involvedObject") or {}
        time = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or ""
        return Happened(
            time=_word(time),
            type=_word(event.get("type")),
            reason=_word(event.get("reason")),
            about=_word(f"{about.get('kind')} {about.get('name')}"),
            message=str(event.get("message") or "")[:LONGEST_EVENT],
        )

    return tuple(sorted(map(told, events), key=lambda it: (it.time, it.about, it.message))[-MOST_EVENTS:])


def recorded(status: DaskJobStatus, traces: Traces = NO_TRACES) -> str:
    """A run that has ended as it gets into its record: its status, without the runs before, and what is left of it.

    It is bounded: where all is too much, the last failures and the first Events are left out.
    """
    conditions = [replace(c, message=c.message[:LONGEST_MESSAGE]) for c in status.conditions or ()]
    problem = status.last_problem[:LONGEST_MESSAGE] if status.last_problem else None
    told = replace(status, history=None, bundle=None, conditions=conditions[:16], last_problem=problem)
    whole: dict[str, Any] = msgspec.to_builtins(told) | {"failures": [], "events": []}
    room = MOST_TOLD - len(msgspec.json.encode(whole))
    kept, room = _fitting(traces.failures, room)
    events, _ = _fitting(traces.events[::-1], room)
    return msgspec.json.encode({**whole, "failures": kept, "events": events[::-1]}).decode()


def ends_told(ends: Sequence[Failure]) -> str:
    """How workers have ended as their scheduler is told, as many as fit."""
    return msgspec.json.encode(_fitting(ends, MOST_TOLD)[0]).decode()


def _fitting(of: Sequence[Struct], room: int) -> tuple[list[Struct], int]:
    """The first ones that fit into so many characters, and what is left of these."""
    kept = list[Struct]()
    for each in of:
        room -= len(msgspec.json.encode(each)) + 1
        if room < 0:
            return kept, 0
        kept.append(each)
    return kept, room
