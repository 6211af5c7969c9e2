"""What to do about a cluster: its children, see `children`, and its end when nobody uses it."""

from __future__ import annotations

from typing import NamedTuple

from dask_crds.model import DaskCluster, DaskClusterSpec
from dask_crds.reasons import Reason
from dask_resources.security import certificates_of

from . import children
from .actions import Action, Delete, Event, Patch, Plan, PutKey, step
from .observed import ObservedCluster
from .ownership import SUSPEND, applied_by, foreign_scheduler
from .questions import Ask, Encrypted, Idle, NoClient, PackageVersions
from .queue import base_actions
from .run_questions import Recorded
from .scheduler import is_ready
from .time import Time, created

#: How often a scheduler is asked.
ASKED_EVERY_SECONDS = 15.0


class _Timeout(NamedTuple):
    """How long a cluster may go unused, in one of two ways."""

    question: Idle | NoClient
    reason: Reason  #: of the Event
    words: str

    @property
    def seconds(self) -> float:
        """The time."""
        return self.question.after


def plan_cluster(o: ObservedCluster, now: Time) -> Plan:
    """What to do about a cluster now."""
    if foreign_scheduler(o.cluster.name, o.deployment):
        return Plan()
    told, look = base_actions(o.queued, now)
    actions = step(told, children.changes(o, now))
    if actions or o.cluster.spec.suspend or not is_ready(o.scheduler_pods):
        # Of a Secret no watch tells: what else is to be done is looked for at once.
        return Plan(actions=actions, requeue_after=0.0 if any(isinstance(a, PutKey) for a in actions) else look)
    timeouts = _timeouts(o.cluster.spec)
    if o.answers is None:
        return Plan(ask=_questions(o.cluster, timeouts))
    # No scheduler can have been unused for longer than its cluster exists.
    age = now - created(o.cluster.metadata)
    exceeded = [timeout for timeout in timeouts if o.answers.of(type(timeout.question)) is not None]
    if not exceeded:
        return Plan()
    first = min(exceeded, key=lambda timeout: timeout.seconds)
    if age < first.seconds:
        return Plan(requeue_after=first.seconds - age)
    return Plan(actions=_end(o.cluster, first))


def _timeouts(spec: DaskClusterSpec) -> list[_Timeout]:
    found = []
    if seconds := spec.idle_timeout:
        found.append(_Timeout(Idle(seconds), Reason.IDLE_TIMEOUT, f"idle for spec.idleTimeout ({seconds} s)"))
    if seconds := spec.no_client_timeout:
        words = f"without a client for spec.noClientTimeout ({seconds} s)"
        found.append(_Timeout(NoClient(seconds), Reason.NO_CLIENT_TIMEOUT, words))
    return found


def _questions(cluster: DaskCluster, timeouts: list[_Timeout]) -> Ask:
    """What the scheduler has to be asked for the sake of the cluster."""
    encrypted = (Encrypted(),) if certificates_of(cluster) else ()
    kept = (Recorded(),) if cluster.spec.history is not None else ()
    asked = (*(timeout.question for timeout in timeouts), PackageVersions(), *encrypted, *kept)
    return Ask(asked, every=ASKED_EVERY_SECONDS, fresh=bool(timeouts), waits=False)


def _end(cluster: DaskCluster, timeout: _Timeout) -> tuple[Action, ...]:
    """``idleAction``. A ``suspend`` that somebody's manifest states is not overruled: they would take turns."""
    if cluster.spec.idle_action != "Suspend":
        return Event(timeout.reason, f"{timeout.words}: deleted"), Delete.of(cluster)
    if owner := applied_by(cluster.metadata, *SUSPEND):
        message = f"{timeout.words}, but spec.suspend is stated by {owner}: leave it out there for idleAction to work"
        return (Event(Reason.SUSPEND_IS_STATED, message, True),)
    suspend = Patch.of(cluster, {"spec": {"suspend": True}})
    return Event(timeout.reason, f"{timeout.words}: suspended; set spec.suspend to false to go on"), suspend
