"""What a plan is made of: actions on the API server, and how they went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, islice, zip_longest
from typing import Any, ClassVar, Protocol, Self

from msgspec import Struct

from dask_crds import names
from dask_crds.model import Certificate, DaskCluster, DaskWorkerGroup
from dask_resources.queue import Placement

from .questions import Ask


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


class PutKey(Struct, frozen=True, tag=True):
    """Have the Secret of a cluster be there, before what mounts it; the executor knows the key."""

    cluster: DaskCluster
    certificate: Certificate | None = None  #: that it holds, too
    renew: bool = False  #: whether it takes the place of another one
    needed: ClassVar[bool] = True


class CreateWorker(Struct, frozen=True, tag=True):
    """Create a worker Pod; the executor adds what makes its worker's name unique."""

    group: DaskWorkerGroup
    ordinal: int
    cluster_uid: str = ""  #: of its cluster, if that exists
    certificates: str = ""  #: name of the Secret with them, where the cluster speaks TLS
    workload: str = ""  #: whose quota it uses, where it needs some
    placement: Placement = Placement()  #: likewise where that is


class Delete(Struct, frozen=True, tag=True):
    """Delete exactly this object: another one of the same name is left alone.

    With ``resource_version`` only as it was seen: a Pod that has changed is left alone too, and looked at again.
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
    subresource: str | None = None

    @classmethod
    def of(cls, it: _Object, patch: Mapping[str, Any]) -> Self:
        """A patch of exactly ``it``."""
        return cls(it.kind, it.namespace, it.name, patch, it.uid)


class Event(Struct, frozen=True, tag=True):
    """An Event on the custom resource, for people."""

    reason: str
    message: str
    warning: bool = False


Action = Apply | PutKey | CreateWorker | Delete | Patch | Event

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


def asks_for_quota(action: Action) -> bool:
    """Whether a Workload of Kueue is made by it, on whose quota something runs later."""
    return isinstance(action, Apply) and action.manifest["kind"] == "Workload"


def described(action: Action) -> str:
    """What was done, for the log."""
    match action:
        case Apply():
            done, manifest = "created" if action.new else "applied", action.manifest
            return f"{done} {manifest['kind']} {manifest['metadata']['name']}"
        case CreateWorker():
            return f"created Pod {names.worker(action.group.name, action.ordinal)}"
        case Delete():
            return f"deleted {action.kind} {action.name}"
        case Patch():
            return f"changed {action.kind} {action.name}"
        case _:
            return type(action).__name__
