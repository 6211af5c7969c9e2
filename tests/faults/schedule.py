"""What goes wrong in a life, as plain data that can be printed and played again.

A schedule is a line such as ``job-complete w7:kill+1 w12-14:500 r3:hang s2:hold+1.5 w9!evict t2!quota+3``: a scenario,
then faults and deeds. A fault names requests of the operator by class and number, counted from 0 over all its restarts:

w   writes                       r   reads                        s   streams (watches)

and says what happens to them; a number after ``+`` is in seconds:

429 409 500 410   the answer, instead of asking the API server
cut               the connection ends without an answer, and nothing was done
hang              no answer at all: the client's own time-out ends it
lose              done, but the answer is lost
late+2            done that much later, whether the client still waits or not
kill+1            done, and at that moment the operator dies; the next one starts that much later
end+1             a watch ends after that time
hold+1            a watch tells of nothing for that time, then of everything

A deed of the stranger's (`deeds` lists them) is done before a request is handed on, or at a time:

w9!evict          before the 10th write; r4!... before a read
t2!quota+3        two seconds after the life has begun, and taken back three seconds later
t0!squat-service  before the life begins, and not taken back before its end

What a request's number is may differ from run to run where the operator does things at the same time. So a replay is
the same schedule, not always the same interleaving.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .deeds import DEEDS

ANSWERS = {"429": "TooManyRequests", "409": "Conflict", "500": "InternalError", "410": "Expired"}
ON_WRITES = ("429", "409", "500", "cut", "hang", "lose", "late", "kill")
ON_READS = ("429", "500", "cut", "hang", "late")
ON_STREAMS = ("429", "500", "410", "cut", "end", "hold")
KINDS = {"w": ON_WRITES, "r": ON_READS, "s": ON_STREAMS}

_FAULT = re.compile(r"([wrs])(\d+)(?:-(\d+))?:(\w+)(?:\+(\d+(?:\.\d+)?))?")
_DEED = re.compile(r"([wr](?=\d+!)|t)(\d+(?:\.\d+)?)!([a-z-]+)(?:\+(\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Fault:
    """What happens to the requests ``first`` to ``last`` of a class."""

    to: str
    first: int
    last: int
    kind: str
    seconds: float = 0.0

    def __str__(self) -> str:
        numbers = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.to}{numbers}:{self.kind}" + (f"+{self.seconds:g}" if self.seconds else "")


@dataclass(frozen=True)
class Deed:
    """What the stranger does before request ``number`` of a class, or after so many seconds (``t``)."""

    at: str
    number: float
    name: str
    seconds: float = 0.0  #: until it is taken back; 0: at the end, if at all

    def __str__(self) -> str:
        return f"{self.at}{self.number:g}!{self.name}" + (f"+{self.seconds:g}" if self.seconds else "")


@dataclass(frozen=True)
class Schedule:
    """A scenario and what goes wrong in it."""

    scenario: str
    faults: tuple[Fault, ...] = ()
    deeds: tuple[Deed, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.scenario, *map(str, self.faults), *map(str, self.deeds)])

    def fault(self, to: str, number: int) -> Fault | None:
        """What happens to a request, if anything."""
        return next((f for f in self.faults if f.to == to and f.first <= number <= f.last), None)


def parse(text: str) -> Schedule:
    """The schedule that was printed; raises ValueError for anything else."""
    scenario, *parts = text.split()
    deeds = [part for part in parts if "!" in part]
    faults = [part for part in parts if "!" not in part]
    return Schedule(scenario, tuple(map(_fault, faults)), tuple(map(_deed, deeds)))


def _fault(text: str) -> Fault:
    match = _FAULT.fullmatch(text)
    if match is None or match[4] not in KINDS[match[1]]:
        raise ValueError(f"{text!r} is no fault, see {__name__}")
    to, first, last, kind, seconds = match.groups()
    return Fault(to, int(first), int(last or first), kind, float(seconds or 0))


def _deed(text: str) -> Deed:
    match = _DEED.fullmatch(text)
    if match is None or match[3] not in DEEDS:
        raise ValueError(f"{text!r} is no deed, see {__name__}")
    at, number, name, seconds = match.groups()
    return Deed(at, float(number), name, float(seconds or 0))


def every(scenario: str, writes: int, kinds: Sequence[str] = ("kill", "lose", "409", "500")) -> Iterator[Schedule]:
    """One fault at each write of a life, each kind in turn: the k-th write, for every k."""
    seconds = {"kill": 0.1, "late": 2.5}
    for kind in kinds:
        for number in range(writes):
            yield Schedule(scenario, (Fault("w", number, number, kind, seconds.get(kind, 0.0)),))


def drawn(seed: int, scenarios: Sequence[str], *, writes: int) -> Schedule:
    """A schedule of several faults, the same for the same seed.

    Args:
        seed: any number.
        scenarios: one of these is drawn.
        writes: how many a life has; reads are as many and a half, streams are opened a dozen at each start.
    """
    rng = random.Random(seed)
    faults = _faults(rng, rng.randint(2, 8), writes)
    return Schedule(rng.choice(list(scenarios)), faults)


def among_strangers(seed: int, writes: Mapping[str, int]) -> Schedule:
    """A schedule of deeds, and mostly of faults too, the same for the same seed.

    Args:
        seed: any number.
        writes: how many the life of each scenario has that can be drawn.
    """
    rng = random.Random(f"stranger {seed}")
    scenario = rng.choice(list(writes))
    known = sorted(name for name, deed in DEEDS.items() if deed.suits(scenario))
    names = [rng.choice(known) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))]
    faults = _faults(rng, rng.choice((0, 0, 1, 2, 4)), writes[scenario])
    return Schedule(scenario, faults, tuple(_drawn_deed(rng, name, writes[scenario]) for name in names))


def _drawn_deed(rng: random.Random, name: str, writes: int) -> Deed:
    deed = DEEDS[name]
    at = "t" if deed.first else rng.choice("wwwwwrrt")
    number = {"w": rng.randrange(writes * 5 // 4), "r": rng.randrange(writes), "t": round(rng.uniform(0.1, 8), 1)}[at]
    seconds = float(rng.randint(1, 3)) if deed.lasts or (deed.stays and rng.random() < 0.5) else 0.0
    return Deed(at, 0.0 if deed.first else float(number), name, seconds)


def _faults(rng: random.Random, number: int, writes: int) -> tuple[Fault, ...]:
    numbers = {"w": writes * 5 // 4, "r": writes * 3 // 2, "s": 20}
    faults = []
    for _ in range(number):
        to = rng.choice("wwwrrs")
        first = rng.randrange(numbers[to])
        kind = rng.choice(KINDS[to])
        longest = 1 if kind in ("kill", "hang", "late", "hold") else rng.choice((1, 1, 2, 4))
        seconds = round(rng.choice((0.1, 0.5, 1.0, 2.5)), 1) if kind in ("kill", "late", "end", "hold") else 0.0
        faults.append(Fault(to, first, first + longest - 1, kind, seconds))
    return tuple(faults)
