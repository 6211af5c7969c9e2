"""Who has a place where the operator's limits bound how many there are: the lines, and who is woken by a free place.

It knows what reconciles tell of their own resources, and nothing else: only there nothing is about to be made of
places that are given back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..core.limits import LIMITED, Limits, Line, whose

if TYPE_CHECKING:
    from .caches import Key

#: Seconds by which news of the place in line are gathered.
GATHER_SECONDS = 1.0
#: Seconds until it is looked again whether a place is used, where no watch tells.
AGAIN_SECONDS = 5.0


class Who(NamedTuple):
    """Who claims places."""

    key: Key
    uid: str
    created: str
    owner: str  #: by its label or annotation; empty for nobody
    run: str = ""  #: uid of the job that its workers are for
    least: int = 0  #: workers that this waits for


class Job(NamedTuple):
    """What is known of a job: its cluster does not have its labels."""

    uid: str
    owner: str
    least: int  #: workers that it waits for


class Grant(NamedTuple):
    """What it has got."""

    places: int
    limit: str  #: in words
    position: int  #: how many wait before it, if it waits


class Places:
    """All lines.

    Args:
        limits: the operator's.
        owner_key: key of the annotation or label that says whose a resource is.
        wake: has a resource looked at after some seconds.
    """

    def __init__(self, limits: Limits, owner_key: str, wake: Callable[[Key, float], None]) -> None:
        self.limits, self.owner_key, self._wake = limits, owner_key, wake
        self.jobs: dict[Key, Job] = {}
        #: By uid of a cluster or job that has a place: what has made its Pods, see `in_use`.
        self.makers: dict[str, frozenset[str]] = {}
        self._lines: dict[tuple[str, str, str], Line] = {}
        self._claims: dict[str, tuple[Key, tuple[str, str, str]]] = {}  # by uid
        self._uids: dict[Key, dict[str, None]] = {}

    def limit(self, key: Key) -> int | None:
        """How many there may be of that kind; ``None`` for no limit."""
        return self.limits.of(LIMITED[key.kind], key.namespace)

    def ask(self, who: Who, wants: int, has: int, *, share: bool = True) -> Grant | None:
        """Say what somebody wants and has; ``None`` where there is no limit. See `Line.put`."""
        most = self.limit(who.key)
        if most is None:
            return None
        at = (who.key.kind, who.key.namespace, who.owner if self.limits.by == "owner" else "")
        known = self._claims.get(who.uid)
        if known is not None and known[1] != at:  # it has another owner now
            self.leave(who.uid)
        line = self._lines.setdefault(at, Line(most))
        self._claims[who.uid] = who.key, at
        self._uids.setdefault(who.key, {})[who.uid] = None
        before = line.first
        given = line.put(who.uid, who.created, wants, has, run=who.run, least=who.least, share=share)
        self._told(line, before, given, who.uid)
        if not (wants or has):
            self._forget(who.uid)
        return self.look(who.uid) or Grant(0, "", 0)

    def look(self, uid: str) -> Grant | None:
        """What somebody has got; ``None`` for who has not asked."""
        known = self._claims.get(uid)
        if known is None:
            return None
        key, at = known
        line = self._lines[at]
        return Grant(line.places(uid), whose(LIMITED[key.kind], line.limit, key.namespace, at[2]), line.position(uid))

    def look_again(self, key: Key) -> None:
        """Have a resource looked at soon: nobody tells when it uses its place no more."""
        self._wake(key, AGAIN_SECONDS)

    def leave(self, uid: str) -> None:
        """Take back all that somebody has and wants."""
        known = self._claims.get(uid)
        if known is not None:
            line = self._lines[known[1]]
            before = line.first
            self._told(line, before, line.drop(uid), uid)
            self._forget(uid)

    def gone(self, key: Key, has: Callable[[str], int], *, but: str = "") -> None:
        """Take note that a resource is gone, or going.

        Args:
            key: the resource.
            has: how many places what had that name and uid uses still.
            but: uid of what has that name now.
        """
        if not but:
            self.jobs.pop(key, None)
        for uid in [uid for uid in self._uids.get(key, ()) if uid != but]:
            left = has(uid)
            if not left:
                self.leave(uid)
                continue
            line = self._lines[self._claims[uid][1]]
            self._told(line, line.first, line.put(uid, "", 0, left), uid)

    def note(self, key: Key, job: Job) -> None:
        """Take note of a job, for the workers of its cluster."""
        before = self.jobs.get(key)
        self.jobs[key] = job
        if before is not None and before.uid == job.uid and before.least != job.least:
            for uid, (claims, at) in self._claims.items():
                if self._lines[at].run(uid) == job.uid:
                    self._wake(claims, 0.0)

    def owner(self, uid: str) -> str | None:
        """In whose line somebody is; ``None`` for who has not asked."""
        known = self._claims.get(uid)
        return known[1][2] if known is not None else None

    def share(self) -> None:
        """Give all free places away, when it is known what is in use."""
        for line in self._lines.values():
            self._told(line, line.first, line.share(), "")

    def _told(self, line: Line, before: tuple[str, ...], given: list[str], asking: str) -> None:
        """Wake those that have got places, and of clusters and jobs those whose place in line is another one now."""
        for uid in given:
            if uid != asking:
                self._wake(self._claims[uid][0], 0.0)
        if before == line.first:
            return
        places = dict(zip(before, range(len(before)), strict=True))
        for place, uid in enumerate(line.first):
            key = self._claims[uid][0]
            if uid != asking and key.kind != "DaskWorkerGroup" and places.get(uid) != place:
                self._wake(key, GATHER_SECONDS)

    def _forget(self, uid: str) -> None:
        key, at = self._claims.pop(uid)
        self.makers.pop(uid, None)
        self._uids[key].pop(uid, None)
        if not self._uids[key]:
            del self._uids[key]
        if at in self._lines and not len(self._lines[at]):
            del self._lines[at]
