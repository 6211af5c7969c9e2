"""What to do about an autoscaler: from the scheduler's demand to a bounded, steady number of workers.

The number is published in the autoscaler's status and the worker group reads it there, so that nothing writes a
``replicas`` field that Git, a client or ``kubectl scale`` may own.
"""

from __future__ import annotations

from collections.abc import Iterable

from dask_crds import names
from dask_crds.model import DaskAutoscaler, DaskAutoscalerStatus, DaskWorkerGroup
from dask_crds.reasons import Reason
from dask_resources.metadata import tracked

from .actions import Patch, Plan
from .conditions import find
from .demand import target_question
from .observed import ObservedAutoscaler
from .ownership import adoption
from .pod import Manifest
from .questions import Ask, Target
from .scaling_rules import Scaling, scale
from .scheduler import is_ready
from .time import Time

#: How often the scheduler is asked.
INTERVAL_SECONDS = 5.0


# --- who sets the size of a group -------------------------------------------------------------------------------------


def target(autoscaler: DaskAutoscaler) -> str:
    """Name of the group whose size an autoscaler is to set."""
    return autoscaler.spec.worker_group or names.default_group(autoscaler.spec.cluster)


def in_charge(group: DaskWorkerGroup, autoscalers: Iterable[DaskAutoscaler]) -> DaskAutoscaler | None:
    """The autoscaler that sets the size of a group: the oldest of those that mean this very group.

    One that names another cluster does not, nor does one that an earlier cluster of that name has left behind.
    """
    found = (
        a
        for a in autoscalers
        if (a.namespace, a.spec.cluster, target(a)) == (group.namespace, group.spec.cluster, group.name)
        and not is_left_behind(a, group)
    )
    return min(found, key=lambda a: (a.metadata.get("creationTimestamp") or "", a.name), default=None)


def number_for(autoscaler: DaskAutoscaler | None, group: DaskWorkerGroup) -> int | None:
    """How many workers an autoscaler wants of a group; ``None`` if it has not said so of this very group.

    What it has said of another group, or of an earlier one of the same name, counts for nothing.
    """
    return None if autoscaler is None else status_for(autoscaler, group).desired_replicas


def status_for(autoscaler: DaskAutoscaler, group: DaskWorkerGroup | None) -> DaskAutoscalerStatus:
    """The status, but what it says of numbers only if that is about this group."""
    status = autoscaler.status
    if group is None:
        same = False
    elif status.worker_group_uid is not None:
        same = status.worker_group_uid == group.uid
    else:  # an earlier operator has written it: then it is about the group that was meant by the spec of that time
        same = status.observed_generation in (None, autoscaler.generation)
    return status if same else DaskAutoscalerStatus(conditions=status.conditions)


def _clusters(metadata: Manifest, name: str) -> set[str]:
    """Uids of the owners that are a DaskCluster of that name."""
    return {owner["uid"] for owner in _owners(metadata) if _is_cluster(owner) and owner.get("name") == name}


def _owners(metadata: Manifest) -> list[Manifest]:
    return metadata.get("ownerReferences") or []


def _is_cluster(owner: Manifest) -> bool:
    return owner.get("kind") == "DaskCluster" and owner.get("apiVersion") == names.API_VERSION


def is_left_behind(autoscaler: DaskAutoscaler, group: DaskWorkerGroup) -> bool:
    """Whether an autoscaler goes, or should, with an earlier cluster than the group's."""
    its, groups = (_clusters(value.metadata, group.spec.cluster) for value in (autoscaler, group))
    return bool(its and groups) and its.isdisjoint(groups)


def scaled_group(o: ObservedAutoscaler) -> DaskWorkerGroup | None:
    """The group whose size this autoscaler sets, if it does."""
    if o.group is None or o.rival is not None or is_left_behind(o.autoscaler, o.group):
        return None
    return o.group


def _adoption(o: ObservedAutoscaler) -> tuple[Patch, ...]:
    """An owner reference, so that it goes with its cluster and group, and does not take over the next of that name.

    One that a GitOps tool tracks stays without: Argo CD does not prune objects that have an owner. So does one whose
    group does not go with the cluster either; and one that belongs to an earlier cluster, which garbage collection is
    about to remove. And it is not the first thing done: an owner that is gone already, as the cache does not know yet,
    would take a new autoscaler along.
    """
    of = o.autoscaler
    if o.cluster is None or o.group is None or of.status.observed_generation is None or tracked(of.metadata):
        return ()
    goes_with_cluster = any(owner.get("uid") == o.cluster.uid for owner in _owners(o.group.metadata))
    if not goes_with_cluster or _clusters(of.metadata, o.cluster.name):
        return ()
    others = [owner for owner in _owners(of.metadata) if not _is_cluster(owner)]  # its cluster was another one before
    if any(owner.get("controller") for owner in others):
        return ()  # who controls it decides when it goes
    return (Patch.of(of, adoption(of.metadata, others, o.cluster)),)


# --- how many workers it should have ----------------------------------------------------------------------------------


def plan_autoscaler(o: ObservedAutoscaler, now: Time) -> Plan:
    """Ask for the demand as long as there is a scheduler to ask.

    A change of what the load wants wakes us. Otherwise another look is due only while the number still follows it.
    """
    group, actions = scaled_group(o), _adoption(o)
    if group is None or not is_ready(o.scheduler_pods):
        return Plan(actions=actions)
    if o.answers is None:
        return Plan(ask=Ask((target_question(o, group),), every=INTERVAL_SECONDS))
    decision = scaling(o, now)
    limits = (Reason.SCALE_UP_LIMIT, Reason.SCALE_DOWN_LIMIT)
    settled = decision is None or (decision.stabilized == Reason.READY_FOR_NEW_SCALE and decision.limited not in limits)
    return Plan(actions=actions, requeue_after=None if settled else INTERVAL_SECONDS)


def current_number(o: ObservedAutoscaler) -> int | None:
    """The number in force; ``None`` if this autoscaler sets the size of no group."""
    group = scaled_group(o)
    if group is None:
        return None
    stated = number_for(o.autoscaler, group)
    return group.spec.worker.size if stated is None else stated


def scaling(o: ObservedAutoscaler, now: Time) -> Scaling | None:
    """The decision, if the scheduler has said what the load wants."""
    current, group = current_number(o), scaled_group(o)
    wanted = o.answers.of(Target) if o.answers else None
    if current is None or group is None or wanted is None:
        return None
    status = status_for(o.autoscaler, group)
    return scale(o.autoscaler.spec, status, current=current, wanted=wanted, now=now)


def is_suspended(group: DaskWorkerGroup) -> bool:
    """Whether a group has no workers because its cluster is suspended."""
    ready = find(group.status.conditions, "Ready")
    return ready is not None and ready.status == "True" and ready.reason == Reason.SUSPENDED
