"""How far a life has come in its schedule of faults, and what was asked of the API server on the way."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from typing import Any

from aiohttp import web
from tests.support.fault_proxy import Answer, CutAfter, Hold, Late, is_watch

from .schedule import ANSWERS, Fault, Schedule

#: Writes of the same kind to the same object within some seconds; more are no progress but a loop.
MOST_WRITES, WRITES_SECONDS = 25, 10.0
#: What a lost scheduler adds: the end of a job's run is told of, and the start of the next one.
WRITES_FOR_A_LOSS = 8

FAULT: web.RequestKey[Fault | None] = web.RequestKey("FAULT", object)  # type: ignore[arg-type]
NUMBER: web.RequestKey[tuple[str, int]] = web.RequestKey("NUMBER", tuple)


class Script:
    """Counts the requests of all operators of a life, and says what the schedule has for each."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._next: Counter[str] = Counter()
        self._started = time.monotonic()
        self.busy_at = 0.0  #: when an operator had something to do last
        self.starts = 0
        self.met = 0
        self.trace: list[str] = []
        self.crashes: list[str] = []  #: exceptions that nobody expects
        self._most_often: Counter[str] = Counter()  # writes of one kind to one object in `WRITES_SECONDS`, at most
        self._writes: defaultdict[str, deque[float]] = defaultdict(deque)

    @property
    def busiest(self) -> int:
        """Writes of one kind to one object in `WRITES_SECONDS`, at most."""
        return max(self._most_often.values(), default=0)

    def loops(self, losses: int) -> list[str]:
        """What was written again and again, while so many schedulers were lost."""
        most = MOST_WRITES + WRITES_FOR_A_LOSS * losses
        found = ((write, times) for write, times in self._most_often.items() if times >= most)
        return [f"{write}: {times} times within {WRITES_SECONDS:g} s" for write, times in found]

    @property
    def writes(self) -> int:
        """Write requests so far."""
        return self._next["w"]

    @property
    def reads(self) -> int:
        return self._next["r"]

    def note(self, line: str) -> None:
        self.trace.append(f"{time.monotonic() - self._started:7.2f} {line}")

    def stir(self, line: str) -> None:
        """Something has been done that the operator has to see first."""
        self.note(line)
        self.busy_at = time.monotonic()

    def meet(self, request: web.Request) -> Any:
        """What to do to a request, in the words of `FaultProxy`."""
        reads = request.method == "GET" or "dryRun" in request.query
        to = "s" if is_watch(request) else "r" if reads else "w"
        number = self._next[to]
        self._next[to] += 1
        if to == "w":
            self.busy_at = time.monotonic()
            self._count(f"{request.method} {request.path}")
        request[NUMBER] = to, number
        request[FAULT] = fault = self.schedule.fault(to, number)
        self.met += fault is not None
        if fault is not None or to == "w":
            self.note(f"{to}{number} {request.method} {request.path}" + (f"   <-- {fault.kind}" if fault else ""))
        return _in_words_of_the_proxy(fault)

    def _count(self, write: str) -> None:
        times = self._writes[write]
        times.append(self.busy_at)
        while times[0] < self.busy_at - WRITES_SECONDS:
            times.popleft()
        self._most_often[write] = max(self._most_often[write], len(times))


def _in_words_of_the_proxy(fault: Fault | None) -> Any:
    match fault:
        case None:
            return None
        case Fault(kind="kill"):
            return "lose"  # nobody is there to read the answer
        case Fault(kind="late"):
            return Late(fault.seconds)
        case Fault(kind="end"):
            return CutAfter(fault.seconds)
        case Fault(kind="hold"):
            return Hold(0.0, fault.seconds)
        case Fault(kind="429"):
            return Answer(429, ANSWERS["429"], (("Retry-After", "0"),))
        case Fault(kind=kind) if kind in ANSWERS:
            return Answer(int(kind), ANSWERS[kind])
        case Fault(kind=kind):
            return kind
