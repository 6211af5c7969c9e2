"""What to do about an autoscaler: from the scheduler's demand to a bounded, steady number of workers.

The number is published in the autoscaler's status and the worker group reads it there, so that nothing writes a
``replicas`` field that Git, a client or ``kubectl scale`` may own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dask_crds import names
from dask_crds.model import Condition, DaskAutoscaler, DaskAutoscalerStatus, DaskWorkerGroup
from dask_resources.metadata import owner_reference, tracked

from .actions import Ask, Outcome, Patch, Plan
from .conditions import condition, find, merge, readiness
from .demand import target_question
from .observed import ObservedAutoscaler, Problem
from .scaling_rules import Scaling, bounded, scale
from .time import Time, format_time

#: How often the scheduler is asked.
INTERVAL_SECONDS = 5.0

#: What people read of the reasons, which are those of HorizontalPodAutoscaler.
_MESSAGES = {
    "ScaleUpStabilized": "the load has not asked for so many workers throughout the window of scaling up",
    "ScaleDownStabilized": "the load has asked for more workers within the window of scaling down",
    "ScaleUpLimit": "the load wants more workers than the policies of scaling up allow for now",
    "ScaleDownLimit": "the load wants fewer workers than the policies of scaling down allow for now",
    "TooManyReplicas": "the load wants more workers than the maximum",
    "TooFewReplicas": "the load wants fewer workers than the minimum",
}


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
        and not _is_left_behind(a, group)
    )
    return min(found, key=lambda a: (a.metadata.get("creationTimestamp") or "", a.name), default=None)


def number_for(autoscaler: DaskAutoscaler | None, group: DaskWorkerGroup) -> int | None:
    """How many workers an autoscaler wants of a group; ``None`` if it has not said so of this very group.

    What it has said of another group, or of an earlier one of the same name, counts for nothing.
    """
    return None if autoscaler is None else _status_for(autoscaler, group).desired_replicas


def _status_for(autoscaler: DaskAutoscaler, group: DaskWorkerGroup | None) -> DaskAutoscalerStatus:
    """The status, but what it says of numbers only if that is about this group."""
    status = autoscaler.status
    if group is None:
        same = False
    elif status.worker_group_uid is not None:
        same = status.worker_group_uid == group.uid
    else:  # an earlier operator has written it: then it is about the group that was meant by the spec of that time
        same = status.observed_generation in (None, autoscaler.generation)
    return status if same else DaskAutoscalerStatus(conditions=status.conditions)


def _clusters(metadata: Mapping[str, Any], name: str) -> set[str]:
    """Uids of the owners that are a DaskCluster of that name."""
    return {owner["uid"] for owner in _owners(metadata) if _is_cluster(owner) and owner.get("name") == name}


def _owners(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return metadata.get("ownerReferences") or []


def _is_cluster(owner: Mapping[str, Any]) -> bool:
    return owner.get("kind") == "DaskCluster" and owner.get("apiVersion") == names.API_VERSION


def _is_left_behind(autoscaler: DaskAutoscaler, group: DaskWorkerGroup) -> bool:
    """Whether an autoscaler goes, or should, with an earlier cluster than the group's."""
    its, groups = (_clusters(value.metadata, group.spec.cluster) for value in (autoscaler, group))
    return bool(its and groups) and its.isdisjoint(groups)


def _group(o: ObservedAutoscaler) -> DaskWorkerGroup | None:
    """The group whose size this autoscaler sets, if it does."""
    if o.group is None or o.rival is not None or _is_left_behind(o.autoscaler, o.group):
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
    if not any(owner.get("uid") == o.cluster.uid for owner in _owners(o.group.metadata)):
        return ()
    if _clusters(of.metadata, o.cluster.name):
        return ()
    others = [owner for owner in _owners(of.metadata) if not _is_cluster(owner)]  # its cluster was another one before
    if any(owner.get("controller") for owner in others):
        return ()  # who controls it decides when it goes
    references = [*others, {**owner_reference(o.cluster), "controller": False}]
    metadata = {"ownerReferences": references, "resourceVersion": of.metadata.get("resourceVersion")}
    return (Patch("DaskAutoscaler", of.namespace, of.name, {"metadata": metadata}, of.uid),)


# --- how many workers it should have ----------------------------------------------------------------------------------


def plan_autoscaler(o: ObservedAutoscaler, now: Time) -> Plan:
    """Ask for the demand as long as there is a scheduler to ask.

    What the load wants wakes us when it changes. A look is due though it has not only while the number still follows.
    """
    group, adoption = _group(o), _adoption(o)
    if group is None or not any(p.ready and not p.deleting for p in o.scheduler_pods):
        return Plan(actions=adoption)
    if o.answers is None:
        return Plan(ask=Ask(every=INTERVAL_SECONDS, target=target_question(o, group)))
    scaling = _scaling(o, now)
    follows = scaling is not None and not (
        scaling.stabilized == "ReadyForNewScale" and scaling.limited not in ("ScaleUpLimit", "ScaleDownLimit")
    )
    return Plan(actions=adoption, requeue_after=INTERVAL_SECONDS if follows else None)


def autoscaler_status(
    o: ObservedAutoscaler, plan: Plan, outcomes: Sequence[Outcome], now: Time
) -> DaskAutoscalerStatus:
    """The status after the plan was executed; ``desiredReplicas`` is what the group works towards."""
    group, generation = _group(o), o.autoscaler.generation
    status = _status_for(o.autoscaler, group)
    suspended = group is not None and is_suspended(group)
    waiting, problem = ("", None) if suspended else _waiting_for(o)
    ready = readiness(
        status.conditions,
        problem=problem,
        waiting=waiting,
        outcomes=outcomes,
        generation=generation,
        now=now,
        ready="Suspended" if suspended else "Ready",
        message="the cluster is suspended" if suspended else "",
    )
    scaling = _scaling(o, now)
    conditions = merge(status.conditions, [*ready, *_scaling_conditions(o, scaling)], generation=generation, now=now)
    desired = scaling.replicas if scaling else _steady(o)
    return DaskAutoscalerStatus(
        observed_generation=generation,
        desired_replicas=desired,
        worker_group_uid=group.uid if group is not None else None,
        last_scale_time=status.last_scale_time if desired == status.desired_replicas else format_time(now),
        recommendations=scaling.recommendations if scaling else status.recommendations,
        scale_events=(scaling.scale_events or None) if scaling else status.scale_events,
        conditions=conditions,
    )


def _current(o: ObservedAutoscaler) -> int | None:
    """The number in force; ``None`` if this autoscaler sets the size of no group."""
    group = _group(o)
    if group is None:
        return None
    stated = number_for(o.autoscaler, group)
    return group.spec.worker.replicas if stated is None else stated


def _scaling(o: ObservedAutoscaler, now: Time) -> Scaling | None:
    """The decision, if the scheduler has said what the load wants."""
    current, group = _current(o), _group(o)
    if current is None or group is None or o.answers is None or o.answers.target is None:
        return None
    status = _status_for(o.autoscaler, group)
    return scale(o.autoscaler.spec, status, current=current, wanted=o.answers.target, now=now)


def _steady(o: ObservedAutoscaler) -> int | None:
    """The number while nobody knows what the load wants."""
    current = _current(o)
    return None if current is None else bounded(o.autoscaler.spec, current)


def _scaling_conditions(o: ObservedAutoscaler, scaling: Scaling | None) -> list[Condition]:
    """``AbleToScale``, ``ScalingActive`` and ``ScalingLimited`` as HorizontalPodAutoscaler has them."""
    waiting, problem = _waiting_for(o)
    able = _current(o) is not None
    limited = find(o.autoscaler.status.conditions, "ScalingLimited")  # the last that is known
    if scaling is None:
        reason = problem.reason if problem else "SchedulerNotReady"
        return [
            condition("AbleToScale", able, "SucceededGetScale" if able else reason, "" if able else waiting),
            condition("ScalingActive", False, reason, waiting),
            *([limited] if limited else []),
        ]
    return [
        condition("AbleToScale", True, scaling.stabilized, _MESSAGES.get(scaling.stabilized, "")),
        condition("ScalingActive", True, "ValidMetricFound", "the scheduler says what the load wants"),
        condition(
            "ScalingLimited",
            scaling.limited != "DesiredWithinRange",
            scaling.limited,
            _MESSAGES.get(scaling.limited, ""),
        ),
    ]


def is_suspended(group: DaskWorkerGroup) -> bool:
    """Whether a group has no workers because its cluster is suspended."""
    ready = find(group.status.conditions, "Ready")
    return ready is not None and ready.status == "True" and ready.reason == "Suspended"


def _waiting_for(o: ObservedAutoscaler) -> tuple[str, Problem | None]:
    if o.rival is not None:
        text = f"DaskAutoscaler {o.rival.name} sets the size of the same group"
        return text, Problem("Conflict", text)
    if o.group is None:
        name, cluster = target(o.autoscaler), o.autoscaler.spec.cluster
        text = f"DaskWorkerGroup {name} of cluster {cluster} does not exist in this namespace"
        return text, Problem("WorkerGroupNotFound", text)
    if _is_left_behind(o.autoscaler, o.group):
        text = f"the DaskCluster {o.autoscaler.spec.cluster} that it belongs to is gone, there is another one now"
        return text, Problem("WorkerGroupNotFound", text)
    if not any(p.ready and not p.deleting for p in o.scheduler_pods):
        return "the scheduler is not ready", None
    if o.answers is not None and o.answers.silent:
        return o.answers.silent, Problem("SchedulerSilent", o.answers.silent)
    return "", None
