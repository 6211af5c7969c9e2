"""What a plan is made of: questions to the scheduler, actions on the API server, and how they went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, islice, zip_longest
from typing import Any, Protocol, Self

from msgspec import Struct

from dask_crds.model import DaskWorkerGroup

# --- questions to the scheduler ---------------------------------------------------------------------------------------


class WorkerId(Struct, frozen=True):
    """A worker Pod as the scheduler can know it: by its worker's name, else by one of its addresses."""

    name: str
    ips: tuple[str, ...] = ()  #: empty where it shares them with other Pods


class Claim(Struct, frozen=True, kw_only=True):
    """What a worker group can take of the load."""

    workers: tuple[WorkerId, ...]  #: those that it has
    resources: Mapping[str, float] = {}  #: Dask resources of one worker, as far as they are known before one runs
    threads: int = 1  #: of one Pod, likewise
    minimum: int = 0
    maximum: int


class TargetQuestion(Struct, frozen=True, kw_only=True):
    """How many workers would do for one of the groups of a cluster."""

    group: Claim
    before: tuple[Claim, ...] = ()  #: the groups that come before it where several could run a task
    after: tuple[Claim, ...] = ()


class Ask(Struct, frozen=True, kw_only=True):
    """What a planner must know from the scheduler before it can decide.

    ``retire`` and ``resume`` change the scheduler's state, yet they are questions all the same: "these shall go, how
    far are they?". Both may be asked any number of times.
    """

    #: Seconds after which the answer is renewed for as long as it is asked for; ``None``: once.
    every: float | None = None
    idle: bool = False
    progress: bool = False  #: how far the tasks are, and how many workers are registered
    versions: bool = False
    registered: tuple[WorkerId, ...] = ()  #: which of these the scheduler knows
    rank: tuple[WorkerId, ...] = ()  #: order these by how little it costs to close them
    retire: tuple[WorkerId, ...] = ()
    resume: tuple[WorkerId, ...] = ()
    target: TargetQuestion | None = None

    @property
    def only_reads(self) -> bool:
        """Whether it leaves the scheduler as it is."""
        return not (self.retire or self.resume)


class Progress(Struct, frozen=True):
    """How far the tasks are that a scheduler was given so far."""

    total: int
    done: int
    workers: int  #: registered worker processes


class Versions(Struct, frozen=True):
    """The different sets of versions (package -> version) that are present, by role."""

    scheduler: tuple[Mapping[str, str], ...]
    workers: tuple[Mapping[str, str], ...]
    clients: tuple[Mapping[str, str], ...]


class Answers(Struct, frozen=True, kw_only=True):
    """What the scheduler said. Fields that were not asked for are ``None``."""

    silent: str = ""  #: why it did not answer; the other fields are then ``None``
    idle_seconds: float | None = None  #: ``None`` while it is busy
    registered: frozenset[str] | None = None  #: names of the workers (Pods) that it knows
    ranked: tuple[str, ...] | None = None  #: worker names, first to close first
    #: Worker name -> ``retired``, ``retiring``, ``unknown``, ``refused: …``.
    retirement: Mapping[str, str] | None = None
    #: Worker name -> ``resuming``, ``unknown``, its status; ``None`` too if the module does not tell.
    resumption: Mapping[str, str] | None = None
    target: int | None = None
    progress: Progress | None = None
    versions: Versions | None = None


# --- actions on the API server ----------------------------------------------------------------------------------------


class _Object(Protocol):
    """What tells an object from all others."""

    @property
    def kind(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...


class Apply(Struct, frozen=True, tag=True):
    """Server-side apply."""

    manifest: Mapping[str, Any]
    new: bool = False  #: no such object has been seen: it is created, which costs the API server half as much
    needed: bool = False  #: by the other objects: they are written after it, and not at all if it fails


class CreateWorker(Struct, frozen=True, tag=True):
    """Create a worker Pod; the executor adds what makes its worker's name unique."""

    group: DaskWorkerGroup
    ordinal: int


class Delete(Struct, frozen=True, tag=True):
    """Delete exactly this object: another one of the same name is left alone.

    With ``resource_version`` only as it was seen: a Pod that has started to run meanwhile is left alone too.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str | None = None
    grace_seconds: int | None = None  #: ``None``: as the Pod says

    @classmethod
    def of(cls, it: _Object, *, version: str | None = None, grace_seconds: int | None = None) -> Self:
        """The deletion of ``it``."""
        return cls(it.kind, it.namespace, it.name, it.uid, version, grace_seconds)


class Patch(Struct, frozen=True, tag=True):
    """Merge patch; with ``uid`` of exactly this object."""

    kind: str
    namespace: str
    name: str
    patch: Mapping[str, Any]
    uid: str | None = None

    @classmethod
    def of(cls, it: _Object, patch: Mapping[str, Any]) -> Self:
        """A patch of exactly ``it``."""
        return cls(it.kind, it.namespace, it.name, patch, it.uid)


class Event(Struct, frozen=True, tag=True):
    """An Event on the custom resource, for people."""

    reason: str
    message: str
    warning: bool = False


Action = Apply | CreateWorker | Delete | Patch | Event

#: Actions of one plan at most. The rest follows at the next look, at once: so memory, the age of status, and how long
#: others wait do not depend on anybody's size.
STEP = 200


def step(*kinds: Iterable[Action]) -> tuple[Action, ...]:
    """As many actions as a plan holds, of each kind in turn: none waits for another one to come to an end."""
    in_turns = chain.from_iterable(zip_longest(*kinds))
    return tuple(islice((action for action in in_turns if action is not None), STEP))


class Plan(Struct, frozen=True, kw_only=True):
    """What should happen now.

    ``ask`` comes first: where it is set, there are no actions, and the shell plans again when it has the answers.
    """

    actions: tuple[Action, ...] = ()
    ask: Ask | None = None
    requeue_after: float | None = None  #: seconds until the next look, though nothing may have changed
    draining: Mapping[str, str] = {}  #: the ledger as it is to be: by a Pod's name, how far it is


class Outcome(Struct, frozen=True):
    """An action and the error that it met, if any."""

    action: Action
    error: str = ""
    reason: str = ""  #: of the API server, as ``Forbidden``; empty where there was no error
    permanent: bool = False  #: whether repeating it is pointless until somebody changes something
