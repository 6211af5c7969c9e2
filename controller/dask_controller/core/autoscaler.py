"""What to do about an autoscaler: from the scheduler's demand to a bounded, steady number of workers.

The number is published in the autoscaler's status and the worker group reads it there, so that nothing writes a
``replicas`` field that Git, a client or ``kubectl scale`` may own.
"""

from __future__ import annotations

from collections.abc import Sequence

from dask_crds.model import Condition, DaskAutoscalerStatus, DaskWorkerGroup

from .actions import Ask, Outcome, Plan
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


def plan_autoscaler(o: ObservedAutoscaler, now: Time) -> Plan:
    """Ask for the demand as long as there is a scheduler to ask.

    What the load wants wakes us when it changes. A look is due though it has not only while the number still follows.
    """
    if o.group is None or o.rival is not None:
        return Plan()
    if not any(p.ready and not p.deleting for p in o.scheduler_pods):
        return Plan()
    if o.answers is None:
        return Plan(ask=Ask(every=INTERVAL_SECONDS, target=target_question(o, o.group)))
    scaling = _scaling(o, now)
    follows = scaling is not None and not (
        scaling.stabilized == "ReadyForNewScale" and scaling.limited not in ("ScaleUpLimit", "ScaleDownLimit")
    )
    return Plan(requeue_after=INTERVAL_SECONDS if follows else None)


def autoscaler_status(
    o: ObservedAutoscaler, plan: Plan, outcomes: Sequence[Outcome], now: Time
) -> DaskAutoscalerStatus:
    """The status after the plan was executed; ``desiredReplicas`` is what the group works towards."""
    status, generation = o.autoscaler.status, o.autoscaler.generation
    suspended = o.group is not None and o.rival is None and is_suspended(o.group)
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
        last_scale_time=status.last_scale_time if desired == status.desired_replicas else format_time(now),
        recommendations=scaling.recommendations if scaling else status.recommendations,
        scale_events=(scaling.scale_events or None) if scaling else status.scale_events,
        conditions=conditions,
    )


def _current(o: ObservedAutoscaler) -> int | None:
    """The number in force; ``None`` if this autoscaler sets the size of no group."""
    if o.group is None or o.rival is not None:
        return None
    stated = o.autoscaler.status.desired_replicas
    return o.group.spec.worker.replicas if stated is None else stated


def _scaling(o: ObservedAutoscaler, now: Time) -> Scaling | None:
    """The decision, if the scheduler has said what the load wants."""
    current = _current(o)
    if current is None or o.answers is None or o.answers.target is None:
        return None
    return scale(o.autoscaler.spec, o.autoscaler.status, current=current, wanted=o.answers.target, now=now)


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
        name = o.autoscaler.spec.worker_group or f"{o.autoscaler.spec.cluster}-default"
        text = f"DaskWorkerGroup {name} of cluster {o.autoscaler.spec.cluster} does not exist in this namespace"
        return text, Problem("WorkerGroupNotFound", text)
    if not any(p.ready and not p.deleting for p in o.scheduler_pods):
        return "the scheduler is not ready", None
    if o.answers is not None and o.answers.silent:
        return o.answers.silent, Problem("SchedulerSilent", o.answers.silent)
    return "", None
