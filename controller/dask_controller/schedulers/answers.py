"""Questions to a scheduler, and what is taken of its answers.

A scheduler runs what users send, so it is a stranger: what it says costs no more memory and time than the question
calls for, and of an answer only what was asked for is taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from ..core.questions import Answers, Ask, Question, WorkerId, readable

#: Bytes of an answer: so many for each ask, so many for each name in it, and never more than the last.
ASK_BYTES, NAME_BYTES, LARGEST_ANSWER = 16 * 2**10, 512, 3 * 2**20
#: Values in its JSON, likewise: one byte of JSON can become fifty in memory. The last is for a scheduler's whole state.
ASK_VALUES, NAME_VALUES, LARGEST_STATE = 1_000, 4, 200_000

_T = TypeVar("_T")


class SchedulerError(Exception):
    """There is no usable answer from the scheduler; the message is for people.

    Attributes:
        kind: ``Unreachable``: no answer; it may just be starting. ``NoExtension``: it answers, but has not loaded the
            module, as where ``--preload`` in a shell script hides it; distributed's own HTTP API would not help, as it
            is off by default and knows no groups. ``Unexpected``: it answers otherwise than agreed. ``Impostor``: who
            answers does not have the key of the cluster, and nothing that they say is believed.
    """

    def __init__(self, kind: Literal["Unreachable", "NoExtension", "Unexpected", "Impostor"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Limits(NamedTuple):
    """How large an answer may be."""

    bytes: int
    values: int

    @classmethod
    def of(cls, asks: Sequence[Ask]) -> Limits:
        """As large as these call for."""
        names = sum(question.names for ask in asks for question in ask.questions)
        size = ASK_BYTES * (1 + len(asks)) + NAME_BYTES * names
        return cls(min(LARGEST_ANSWER, size), ASK_VALUES * (1 + len(asks)) + NAME_VALUES * names)


class Request:
    """What is put to one scheduler: encoded once, sent many times.

    Attributes:
        asks: what is to be known.
        body: the same in JSON, as the module's route ``ask`` takes it.
        limits: of the answer.
    """

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.asks = tuple(asks)
        self.body = msgspec.json.encode({"questions": [_encodable(ask) for ask in self.asks]})
        self.limits = Limits.of(self.asks)


class Reply(msgspec.Struct, frozen=True):
    """What a scheduler said.

    Attributes:
        raw: the JSON; empty if it took several requests.
        answers: one for each ``Ask`` of the request.
        request: that it answers.
    """

    raw: bytes
    answers: tuple[Answers, ...]
    request: Request | None = None


class SaidForm(msgspec.Struct):
    """What the route ``ask`` answers."""

    answers: list[dict[str, Any]]


class _ProcessForm(msgspec.Struct, gc=False):
    name: str
    host: str


class StateForm(msgspec.Struct):
    """What the route ``state`` of older modules answers."""

    idle_seconds: Any
    workers: list[_ProcessForm]


class _Complaint(msgspec.Struct):
    message: str


def _encodable(ask: Ask) -> dict[str, Any]:
    """What a scheduler is told of an ask: what is asked for, not how often and the like."""
    return {question.field: wire(question.body) for question in ask.questions}


def wire(asked: Any) -> Any:
    """What is asked, as the module takes it."""
    if isinstance(asked, WorkerId):
        # The first one is for modules that know of no others; Dask prefers IPv4 where a Pod has both.
        first = next((ip for ip in asked.ips if ":" not in ip), next(iter(asked.ips), ""))
        others = {"ips": asked.ips} if len(asked.ips) > 1 else {}
        return {"name": asked.name, "ip": first, **others}
    if isinstance(asked, msgspec.Struct):
        return {field: wire(value) for field, value in msgspec.structs.asdict(asked).items()}
    return [wire(value) for value in asked] if isinstance(asked, tuple | list) else asked


def believed(ask: Ask, said: Mapping[str, Any]) -> Answers:
    """What is believed of what is said.

    Raises:
        SchedulerError: it lacks what was asked for, or that makes no sense.
    """
    if isinstance(error := said.get("error"), str):
        return Answers(silent=f"the scheduler cannot answer: {readable(error)}")
    taken: dict[type[Question[Any]], Any] = {}
    for question in ask.questions:
        field = question.answer_field
        if field not in said:
            if question.since is not None:
                continue
            raise unexpected("ask", f"{field} is missing")
        try:
            taken[type(question)] = question.believe(msgspec.convert(said[field], question.form))
        except (ValueError, OverflowError, RecursionError) as problem:
            raise unexpected("ask", f"{field}: {problem}") from problem
    return Answers(by_question=taken)


#: A name that the operator has given to a worker, and what may follow it: the number of a process, say.
_OWN_NAME = re.compile(r"(.*-worker-[0-9]+-[0-9a-f]{5})(?:-.*)?", re.DOTALL)


def registered(state: StateForm, workers: Iterable[WorkerId]) -> list[str]:
    """Names of the Pods of which a scheduler knows a worker, as later modules find them.

    By name, by ``<name>-<n>``, or by an address that is the Pod's alone: one where a worker is that has its name from
    us is that other Pod's, too.
    """
    known, shared = set[str](), set[str]()
    for process in state.workers:
        head, _, tail = process.name.rpartition("-")
        known |= {process.name, head} if tail.isdecimal() else {process.name}
        if own := _OWN_NAME.fullmatch(process.name):
            known.add(own[1])
            shared.add(_canonical(process.host))
    unnamed = {worker.name: set(map(_canonical, worker.ips)) for worker in workers if worker.name not in known}
    claims = Counter(ip for ips in unnamed.values() for ip in ips)
    shared |= {ip for ip, count in claims.items() if count > 1}
    hosts = {_canonical(process.host) for process in state.workers} - shared if claims else set[str]()
    return [worker.name for worker in workers if worker.name in known or unnamed[worker.name] & hosts]


def _canonical(host: str) -> str:
    """An address in the one form of several that it has."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)


def decoded(route: str, text: bytes, form: type[_T]) -> _T:
    """What a route has answered.

    Raises:
        SchedulerError: it has not that form.
    """
    try:
        return msgspec.json.decode(text, type=form)
    except (ValueError, RecursionError) as error:
        raise unexpected(route, str(error)) from error


def complaint(content: bytes) -> str:
    """What an answer that is no success explains, to follow other words; empty if it explains nothing."""
    try:
        message = msgspec.json.decode(content, type=_Complaint).message
    except (ValueError, RecursionError):
        return ""
    return f": {readable(message)}"


def unexpected(route: str, why: str) -> SchedulerError:
    """An answer that is not as agreed."""
    return SchedulerError("Unexpected", f"the scheduler's answer to {route} is not as agreed: {readable(why)}")
