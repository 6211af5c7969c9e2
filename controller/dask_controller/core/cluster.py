"""What to do about a cluster: its children, see `children`, and its idle timeout."""

from __future__ import annotations

from dask_crds.model import DaskCluster
from dask_crds.reasons import Reason
from dask_resources.security import certificates_of

from . import children
from .actions import Action, Delete, Event, Patch, Plan, PutKey, step
from .encryption import ASKED_EVERY_SECONDS
from .observed import ObservedCluster
from .ownership import SUSPEND, applied_by, foreign_scheduler
from .questions import Ask, Encrypted, Idle
from .queue import base_actions
from .scheduler import is_ready
from .time import Time, created

#: A cluster whose scheduler did not answer is looked at again after this many seconds at most, earlier if it answers.
#: An idle one is looked at when its time is up, a busy one when it could be up at the earliest.
IDLE_RETRY_SECONDS = 60.0


def plan_cluster(o: ObservedCluster, now: Time) -> Plan:
    """What to do about a cluster now."""
    if foreign_scheduler(o.cluster.name, o.deployment):
        return Plan()
    told, look = base_actions(o.queued, now)
    actions = step(told, children.changes(o, now))
    timeout, ask = o.cluster.spec.idle_timeout or 0, _questions(o.cluster)
    if ask is None or actions or o.cluster.spec.suspend or not is_ready(o.scheduler_pods):
        # Of a Secret no watch tells: what else is to be done is looked for at once.
        return Plan(actions=actions, requeue_after=0.0 if any(isinstance(a, PutKey) for a in actions) else look)
    if o.answers is None:
        return Plan(ask=ask)
    if o.answers.silent:
        return Plan(requeue_after=IDLE_RETRY_SECONDS)
    if not timeout:
        return Plan()
    said = o.answers.of(Idle)
    # No scheduler can have been idle for longer than its cluster exists.
    idle = min(said or 0.0, now - created(o.cluster.metadata))
    if idle < timeout:
        return Plan(requeue_after=timeout - idle)
    return Plan(actions=_end_idleness(o.cluster))


def _questions(cluster: DaskCluster) -> Ask | None:
    """What the scheduler has to be asked for the sake of the cluster, if anything."""
    secured = (Encrypted(),) if certificates_of(cluster) else ()
    if cluster.spec.idle_timeout:
        return Ask((Idle(), *secured))
    return Ask(secured, every=ASKED_EVERY_SECONDS) if secured else None


def _end_idleness(cluster: DaskCluster) -> tuple[Action, ...]:
    """``idleAction``. A ``suspend`` that somebody's manifest states is not overruled: they would take turns."""
    idle = f"idle for spec.idleTimeout ({cluster.spec.idle_timeout} s)"
    if cluster.spec.idle_action != "Suspend":
        return Event(Reason.IDLE_TIMEOUT, f"{idle}: deleted"), Delete.of(cluster)
    if owner := applied_by(cluster.metadata, *SUSPEND):
        message = f"{idle}, but spec.suspend is stated by {owner}: leave it out there for idleAction to work"
        return (Event(Reason.SUSPEND_IS_STATED, message, True),)
    suspend = Patch.of(cluster, {"spec": {"suspend": True}})
    return Event(Reason.IDLE_TIMEOUT, f"{idle}: suspended; set spec.suspend to false to go on"), suspend
