"""Limits of the operator: how many workers, clusters and running jobs a namespace, or an owner in it, has at a time.

What is beyond a limit waits in line. Whoever has a place keeps it until nothing of it runs any more, however low the
limit is meanwhile. A free place goes to who has the fewest, then to who was created first, then by uid. So of clusters
and jobs, which need one place each, the oldest is next, and no group of workers has to wait until another has all.

A run that waits for so many workers can do nothing with fewer. Of such runs one at a time gets places until it has
enough: two that had a part each would wait for one another for ever.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from dask_crds.model import MAX_WORKERS
from dask_crds.reasons import Reason

from .pod import Problem

#: A number, or that there is no limit though there is one elsewhere.
Most = Annotated[int, Meta(ge=0, le=MAX_WORKERS)] | Literal["none"]
What = Literal["workers", "clusters", "jobs"]
#: What needs places, and how many: a group one for each worker, all others one.
LIMITED: Mapping[str, What] = {"DaskWorkerGroup": "workers", "DaskCluster": "clusters", "DaskJob": "jobs"}
#: Of so many in line each is told its place; those behind them would have to be told whenever one comes or goes.
TOLD = 5
_NTH = ("next", "second", "third", "fourth", "fifth")
_WORDS: Mapping[What, tuple[str, str]] = {
    "workers": ("worker", "workers"),
    "clusters": ("running cluster", "running clusters"),
    "jobs": ("running job", "running jobs"),
}


class Limit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of a namespace; ``None``: nothing."""

    workers: Most | None = None
    clusters: Most | None = None
    jobs: Most | None = None


class Limits(Limit, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator's option: what holds for each namespace, or each owner in one, and exceptions by namespace."""

    by: Literal["namespace", "owner"] | None = None
    namespaces: dict[str, Limit] | None = None

    @classmethod
    def read(cls, text: str) -> Limits:
        """From JSON.

        Raises:
            msgspec.DecodeError: that is not what it is; the message says where.
        """
        return msgspec.json.decode(text, type=cls)

    def of(self, what: What, namespace: str) -> int | None:
        """How many there may be; ``None`` for no limit."""
        excepted = getattr((self.namespaces or {}).get(namespace, Limit()), what)
        most: Most | None = getattr(self, what) if excepted is None else excepted
        return most if isinstance(most, int) else None


class Claim(Struct):
    """Who wants places in a line, and what it has of them."""

    uid: str
    created: str  #: as the API server writes it
    wants: int
    has: int  #: in use, as far as that is seen
    places: int = 0  #: that it may use
    run: str = ""  #: uid of what all that it is for begins with
    least: int = 0  #: places without which that cannot begin

    @property
    def rank(self) -> tuple[str, str]:
        """The order of those that have equally many."""
        return self.created, self.uid

    @property
    def waits(self) -> bool:
        """Whether it wants more than it has got."""
        return self.places < self.wants


class Line:
    """The claims that one limit is for.

    A place that was given is taken from the moment on, though nothing is to be seen of its use yet. It is given back by
    `put` alone: who calls that for a claim must not be about to use its places.

    Args:
        limit: places that there are.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0  #: more than there are, if more was running when the limit was set
        self._claims: dict[str, Claim] = {}
        self._waiting: list[tuple[str, str]] = []  #: ranks, in order
        self._of_runs = Counter[str]()  #: places of each run

    def __len__(self) -> int:
        return len(self._claims)

    def put(
        self, uid: str, created: str, wants: int, has: int, *, run: str = "", least: int = 0, share: bool = True
    ) -> list[str]:
        """Take in what somebody wants and has now.

        Args:
            uid: whose claim it is.
            created: when that was created.
            wants: places.
            has: places that are in use: these it keeps.
            run: uid of what begins when it and others have enough.
            least: places that this takes, of all who have them for it.
            share: whether free places are given away; not as long as not all is known of what is in use.

        Returns:
            Those that have got places.
        """
        before = self._claims.pop(uid, None)
        if before is not None:
            self._count(before, -before.places)
            self._unqueue(before)
        kept = min(before.places, wants) if before is not None else 0
        created = before.created if before is not None else created
        claim = Claim(uid, created, wants, has, max(has, kept), run, least)
        if wants or has:
            self._claims[uid] = claim
            self._count(claim, claim.places)
            if claim.waits:
                insort(self._waiting, claim.rank)
        return self.share() if share else []

    def drop(self, uid: str) -> list[str]:
        """Forget somebody; returns those that have got places by that."""
        return self.put(uid, "", 0, 0) if uid in self._claims else []

    def share(self) -> list[str]:
        """Give free places away; returns to whom."""
        free = self.limit - self.taken
        if free <= 0 or not self._waiting:
            return []
        waiting = [self._claims[uid] for _, uid in self._waiting]
        turns = [_turn(claim) for claim in waiting if not self._lacks(claim)]
        heapq.heapify(turns)
        runs, run = self._runs(waiting), list[Claim]()
        given = dict[str, None]()
        while free:
            if not any(claim.waits and self._lacks(claim) for claim in run):
                run = next(runs, [])
                for claim in run:
                    heapq.heappush(turns, _turn(claim))
            if not turns:
                break
            claim = self._claims[turns[0][-1]]
            claim.places += 1
            free -= 1
            self._count(claim, 1)
            given[claim.uid] = None
            if claim.waits:
                heapq.heapreplace(turns, _turn(claim))
            else:
                heapq.heappop(turns)
                self._unqueue(claim)
        return [*given]

    def places(self, uid: str) -> int:
        """How many somebody may use."""
        claim = self._claims.get(uid)
        return claim.places if claim is not None else 0

    def run(self, uid: str) -> str:
        """What somebody's places are for."""
        claim = self._claims.get(uid)
        return claim.run if claim is not None else ""

    def position(self, uid: str) -> int:
        """How many wait in front of somebody who waits."""
        return bisect_left(self._waiting, self._claims[uid].rank)

    @property
    def first(self) -> tuple[str, ...]:
        """Those that are told their places in line."""
        return tuple(uid for _, uid in self._waiting[:TOLD])

    def _lacks(self, claim: Claim) -> bool:
        """Whether what it is for cannot begin yet."""
        return self._of_runs[claim.run] < claim.least

    def _runs(self, waiting: Iterable[Claim]) -> Iterator[list[Claim]]:
        """What waits for runs that cannot begin yet, run by run: first of one that has a part of what it needs.

        Those that could not begin with all places that there are get none.
        """
        found = dict[str, list[Claim]]()
        for claim in waiting:
            if self._lacks(claim) and claim.least <= self.limit:
                found.setdefault(claim.run, []).append(claim)
        return iter(sorted(found.values(), key=lambda claims: not self._of_runs[claims[0].run]))

    def _count(self, claim: Claim, places: int) -> None:
        self.taken += places
        if claim.run:
            self._of_runs[claim.run] += places
            if not self._of_runs[claim.run]:
                del self._of_runs[claim.run]

    def _unqueue(self, claim: Claim) -> None:
        at = bisect_left(self._waiting, claim.rank)
        if at < len(self._waiting) and self._waiting[at] == claim.rank:
            del self._waiting[at]


def _turn(claim: Claim) -> tuple[int, str, str]:
    """Who has the smallest one is next."""
    return claim.places, *claim.rank


class WorkerPlaces(Struct, frozen=True):
    """How many Pods a group may have, terminating ones included, and whose limit that is."""

    count: int
    limit: str


def whose(what: What, limit: int, namespace: str, owner: str) -> str:
    """The limit, in words."""
    one, many = _WORDS[what]
    counted = f"{limit} {one if limit == 1 else many}"
    if not owner:
        return f"namespace {namespace} may have {counted} at a time (limit of the operator)"
    return f"{owner} may have {counted} at a time in namespace {namespace} (limit of the operator)"


def waits(limit: str, position: int) -> Problem:
    """What is said of a cluster or job that waits in line behind ``position`` others.

    Few are told which they are: else whoever comes or goes would have a status written for each one that waits.
    """
    return Problem(Reason.LIMIT_REACHED, f"{limit}: {in_line(position)}")


def in_line(position: int) -> str:
    """The place of what waits behind ``position`` others, in words."""
    return f"{_NTH[position]} in line" if position < TOLD else f"more than {TOLD} are before it in line"


def workers_wait(places: WorkerPlaces | None, wanted: int) -> Problem | None:
    """Why a group has fewer workers than it wants, if a limit is the reason."""
    if places is None or places.count >= wanted:
        return None
    missing = wanted - places.count
    return Problem(Reason.LIMIT_REACHED, f"{missing} worker{' waits' if missing == 1 else 's wait'}: {places.limit}")
