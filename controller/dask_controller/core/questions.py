"""What a scheduler may be asked: of each question its body, the form of its answer, and what is believed of that.

To be asked, a question also needs its row in ``QUESTIONS`` of the scheduler's module, and a planner that asks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, ClassVar, Generic, TypeVar, cast

from msgspec import Meta, Struct

_Answer = TypeVar("_Answer")

#: Characters of what people read, and of a version or a package's name; packages in a set, and sets of versions.
WORDS_LENGTH, VERSION_LENGTH, MOST_VERSIONS = 200, 64, 32

#: Addresses of a scheduler that are told of, and characters of a hash.
MOST_ADDRESSES, FINGERPRINT_LENGTH = 4, 64

_Count = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_Time = Annotated[float, Meta(ge=0, le=253402300799)]  # the last of the year 9999


class Question(Struct, Generic[_Answer], frozen=True):
    """One thing that a scheduler may be asked."""

    field: ClassVar[str]  #: of the request
    answer_field: ClassVar[str]
    form: ClassVar[Any]  #: that the answer must have
    changes: ClassVar[bool] = False  #: the scheduler's state
    since: ClassVar[int | None] = None  #: the ``VERSION`` before which a module leaves it unanswered

    @property
    def body(self) -> Any:
        """What the scheduler is told."""
        return True

    @property
    def names(self) -> int:
        """How many names its answer may hold."""
        return 0

    def believe(self, said: Any) -> _Answer:
        """What is taken of an answer, which has the right form, but comes from a stranger."""
        return cast(_Answer, said)


class WorkerId(Struct, frozen=True):
    """A worker Pod as the scheduler can know it: by its worker's name, else by one of its addresses."""

    name: str
    ips: tuple[str, ...] = ()  #: empty where it shares them with other Pods


class AboutWorkers(Question[_Answer], Generic[_Answer], frozen=True):
    """A question about some workers."""

    workers: tuple[WorkerId, ...]

    @property
    def body(self) -> tuple[WorkerId, ...]:
        """The workers."""
        return self.workers

    @property
    def names(self) -> int:
        """One for each worker."""
        return len(self.workers)


class _Order(AboutWorkers[Mapping[str, str]], frozen=True):
    """Something that these shall do. It may be asked any number of times, as it asks how far they are, too."""

    form = dict[str, str]
    changes = True

    def believe(self, said: Mapping[str, str]) -> dict[str, str]:
        """The notes on these."""
        return {name: readable(said[name]) for name in _asked_for(said, self.workers)}


class Resume(_Order, frozen=True):
    """These shall work again: worker name -> ``resuming``, ``unknown``, or its status."""

    field = "resume"
    answer_field = "resumption"
    since = 5


class _Lasts(Question[float | None], frozen=True):
    """For how many seconds something has been so; ``None`` while it is not.

    Of a time that matters only from ``after`` seconds on nothing else is told: so an answer is new when it matters, and
    not each time that it is asked for.
    """

    form = Seconds | None

    after: float = 0.0

    def believe(self, said: float | None) -> float | None:
        """Nothing before ``after``, and that afterwards."""
        if said is None or said < self.after:
            return None
        return self.after or said


class Idle(_Lasts, frozen=True):
    """For how many seconds it has been idle."""

    field = "idle"
    answer_field = "idle_seconds"


class NoClient(_Lasts, frozen=True):
    """For how many seconds no client has been connected; from its start on if none ever was."""

    field = "no_client"
    answer_field = "no_client_seconds"
    since = 8


class Progress(Struct, frozen=True):
    """How far the tasks are that a scheduler was given so far."""

    total: _Count
    done: _Count
    workers: _Count  #: registered worker processes


class TaskProgress(Question[Progress], frozen=True):
    """How far the tasks are, and how many workers are registered."""

    field = "progress"
    answer_field = "progress"
    form = Progress


class Versions(Struct, frozen=True):
    """The different sets of versions (package -> version) that are present, by role."""

    scheduler: tuple[Mapping[str, str], ...]
    workers: tuple[Mapping[str, str], ...]
    clients: tuple[Mapping[str, str], ...]  #: all that have ever been there
    connected: tuple[Mapping[str, str], ...] | None = None  #: those there now; ``None``: an older module does not tell


class PackageVersions(Question[Versions], frozen=True):
    """Which versions of packages are present."""

    field = "versions"
    answer_field = "versions"
    form = Versions

    def believe(self, said: Versions) -> Versions:
        """The first sets, and of these the first packages."""
        connected = None if said.connected is None else _sets(said.connected)
        return Versions(_sets(said.scheduler), _sets(said.workers), _sets(said.clients), connected)


class _EncryptionForm(Struct, frozen=True):
    """What a scheduler says of its encryption; without a certificate why."""

    plain_listeners: list[str]
    plain_workers: _Count
    not_after: _Time | None = None
    serial: str = ""
    authority: str = ""
    problem: str = ""


class Encryption(Struct, frozen=True):
    """How far a cluster is encrypted, by its scheduler's account."""

    plain_listeners: tuple[str, ...]  #: addresses of the scheduler that anybody can connect to without a certificate
    plain_workers: int  #: worker processes of which the same is true
    not_after: float | None  #: when the certificate expires that the scheduler shows now
    serial: str  #: likewise, in hexadecimal digits
    authority: str  #: SHA-256 of the certificate of the CA
    problem: str  #: why it shows none that is valid


class Encrypted(Question[Encryption], frozen=True):
    """Where connections are encrypted, and by which certificate."""

    field = "encryption"
    answer_field = "encryption"
    form = _EncryptionForm
    since = 7

    def believe(self, said: _EncryptionForm) -> Encryption:
        """The first addresses, and words that can be read."""
        return Encryption(
            plain_listeners=tuple(readable(each) for each in said.plain_listeners[:MOST_ADDRESSES]),
            plain_workers=said.plain_workers,
            not_after=said.not_after,
            serial=readable(said.serial, FINGERPRINT_LENGTH),
            authority=readable(said.authority, FINGERPRINT_LENGTH),
            problem=readable(said.problem),
        )


class Registered(AboutWorkers[frozenset[str]], frozen=True):
    """Names of those of the workers (Pods) that the scheduler knows."""

    field = "registered"
    answer_field = "registered"
    form = list[str]

    def believe(self, said: Sequence[str]) -> frozenset[str]:
        """Those that were asked about."""
        return frozenset(_asked_for(said, self.workers))


class Rank(AboutWorkers[tuple[str, ...]], frozen=True):
    """Names of the workers by how little it costs to close them, first to close first."""

    field = "rank"
    answer_field = "ranked"
    form = list[str]

    def believe(self, said: Sequence[str]) -> tuple[str, ...]:
        """Those that were asked about, once each."""
        return tuple(_asked_for(said, self.workers))


class Claim(Struct, frozen=True, kw_only=True):
    """What a worker group can take of the load."""

    workers: tuple[WorkerId, ...]  #: those that it has
    resources: Mapping[str, float] = {}  #: Dask resources of one process, as far as they are known before one runs
    threads: int = 1  #: of one Pod, likewise
    processes: int = 1  #: of one Pod, likewise
    minimum: int = 0
    maximum: int


class Target(Question[int], frozen=True, kw_only=True):
    """How many workers would do for one of the groups of a cluster."""

    field = "target"
    answer_field = "target"
    form = _Count

    group: Claim
    before: tuple[Claim, ...] = ()  #: the groups that come before it where several could run a task
    after: tuple[Claim, ...] = ()

    @property
    def body(self) -> Target:
        """The groups."""
        return self


class Retire(_Order, frozen=True):
    """These shall go: worker name -> ``retired``, ``retiring``, ``unknown``, ``refused: …``."""

    field = "retire"
    answer_field = "retirement"


class Ask(Struct, frozen=True):
    """What a planner must know from the scheduler before it can decide."""

    questions: tuple[Question[Any], ...] = ()  #: one of a class; older modules are asked in this order
    #: Seconds after which the answers are renewed for as long as they are asked for; ``None``: once.
    every: float | None = None
    #: Whether something that cannot be undone follows from the answers, so that they must not be old.
    fresh: bool = False
    #: Whether nothing can be said before there are answers; otherwise status is written without them meanwhile.
    waits: bool = True

    @property
    def only_reads(self) -> bool:
        """Whether it leaves the scheduler as it is."""
        return not any(question.changes for question in self.questions)


class Answers(Struct, frozen=True):
    """What the scheduler said."""

    silent: str = ""  #: why it did not answer; nothing else is known then
    by_question: Mapping[type[Question[Any]], Any] = {}

    def of(self, question: type[Question[_Answer]]) -> _Answer | None:
        """The answer to a question; ``None`` if it was not asked, or an older module does not tell."""
        answer: _Answer | None = self.by_question.get(question)
        return answer


def readable(text: str, length: int = WORDS_LENGTH) -> str:
    """The beginning of what a stranger says, without the characters that a terminal or a log would obey."""
    return "".join(character if character.isprintable() else " " for character in text[:length])


def _asked_for(names: Iterable[str], workers: Iterable[WorkerId]) -> Iterable[str]:
    """Those of the names that were asked for, once each and in their order."""
    asked = {worker.name for worker in workers}
    return (name for name in dict.fromkeys(names) if name in asked)


def _sets(found: Sequence[Mapping[str, str]]) -> tuple[dict[str, str], ...]:
    return tuple(
        {readable(name, VERSION_LENGTH): readable(version, VERSION_LENGTH) for name, version in some}
        for some in (islice(packages.items(), MOST_VERSIONS) for packages in found[:MOST_VERSIONS])
    )
