"""What a scheduler may be asked about a run as a whole: what its time went into, and where the record of it is."""

from __future__ import annotations

from msgspec import Struct

from .questions import Question, Seconds, readable

#: Characters of a folder: of one that a manifest may name, with a namespace, a name, and that of a record.
PATH_LENGTH = 600


class Work(Struct, frozen=True):
    """What a scheduler's time went into so far, in seconds; the rest of it nothing was to be done."""

    computing: Seconds
    moving: Seconds  #: data
    waiting: Seconds  #: for a worker: there were tasks


class TimeAtWork(Question[Work], frozen=True):
    """What the cluster's time went into."""

    field = "work"
    answer_field = "work"
    form = Work
    since = 8


class Record(Struct, frozen=True):
    """Where a scheduler keeps the record of what it does."""

    path: str = ""  #: within the volume or store; empty where there is none
    problem: str = ""  #: why it could not be written last


class _AboutRecord(Question[Record], frozen=True):
    form = Record
    since = 8

    def believe(self, said: Record) -> Record:
        """Words that can be read."""
        return Record(readable(said.path, PATH_LENGTH), readable(said.problem))


class Recorded(_AboutRecord, frozen=True):
    """Where the record is."""

    field = "recorded"
    answer_field = "record"


class RunEnded(_AboutRecord, frozen=True):
    """The run has ended so: that is to be in the record."""

    field = "end"
    answer_field = "ending"
    changes = True

    status: str  #: of the job, as JSON

    @property
    def body(self) -> str:
        """The status."""
        return self.status


class WorkersFailed(_AboutRecord, frozen=True):
    """Workers that go have ended so: that is to be in the record, as their Pods tell nothing once they have gone."""

    field = "failed"
    answer_field = "noted"
    changes = True
    since = 11

    ends: str  #: of their containers, as JSON

    @property
    def body(self) -> str:
        """The ends."""
        return self.ends
