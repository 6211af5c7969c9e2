"""What an autoscaler's status says."""

from __future__ import annotations

from collections.abc import Sequence

from dask_crds.model import Condition, DaskAutoscalerStatus
from dask_crds.reasons import Reason

from .actions import Outcome, Plan
from .autoscaler import current_number, is_left_behind, is_suspended, scaled_group, scaling, status_for, target
from .conditions import Standing, condition, find, merge, readiness
from .observed import ObservedAutoscaler
from .pod import Problem
from .scaling_rules import Scaling, bounded
from .scheduler import is_ready
from .time import Time, format_time

#: What people read of the reasons, which are those of HorizontalPodAutoscaler.
_MESSAGES = {
    Reason.SCALE_UP_STABILIZED: "the load has not asked for so many workers throughout the window of scaling up",
    Reason.SCALE_DOWN_STABILIZED: "the load has asked for more workers within the window of scaling down",
    Reason.SCALE_UP_LIMIT: "the load wants more workers than the policies of scaling up allow for now",
    Reason.SCALE_DOWN_LIMIT: "the load wants fewer workers than the policies of scaling down allow for now",
    Reason.TOO_MANY_REPLICAS: "the load wants more workers than the maximum",
    Reason.TOO_FEW_REPLICAS: "the load wants fewer workers than the minimum",
}


def autoscaler_status(
    o: ObservedAutoscaler, plan: Plan, outcomes: Sequence[Outcome], now: Time
) -> DaskAutoscalerStatus:
    """The status after the plan was executed; ``desiredReplicas`` is what the group works towards."""
    group, generation = scaled_group(o), o.autoscaler.generation
    before, current, decision = status_for(o.autoscaler, group), current_number(o), scaling(o, now)
    waiting, problem = _waiting_for(o)
    if group is not None and is_suspended(group):
        standing = Standing(waiting="", ready=Reason.SUSPENDED, message="the cluster is suspended")
    else:
        standing = Standing(waiting=waiting, problem=problem)
    conditions = [
        *readiness(standing, outcomes, before.conditions, generation, now),
        *_scaling_conditions(o, decision, waiting, problem),
    ]
    # As long as nobody knows what the load wants, the number stays.
    steady = None if current is None else bounded(o.autoscaler.spec, current)
    desired = decision.replicas if decision else steady
    return DaskAutoscalerStatus(
        observed_generation=generation,
        desired_replicas=desired,
        worker_group_uid=group.uid if group is not None else None,
        last_scale_time=before.last_scale_time if desired == before.desired_replicas else format_time(now),
        recommendations=decision.recommendations if decision else before.recommendations,
        scale_events=(decision.scale_events or None) if decision else before.scale_events,
        conditions=merge(before.conditions, conditions, generation=generation, now=now),
    )


def _scaling_conditions(
    o: ObservedAutoscaler, decision: Scaling | None, waiting: str, problem: Problem | None
) -> list[Condition]:
    """``AbleToScale``, ``ScalingActive`` and ``ScalingLimited`` as HorizontalPodAutoscaler has them."""
    if decision is None:
        reason = problem.reason if problem else Reason.SCHEDULER_NOT_READY
        able = current_number(o) is not None
        limited = find(o.autoscaler.status.conditions, "ScalingLimited")  # the last that is known
        return [
            condition("AbleToScale", able, Reason.SUCCEEDED_GET_SCALE if able else reason, "" if able else waiting),
            condition("ScalingActive", False, reason, waiting),
            *([limited] if limited else []),
        ]
    stabilized, limited_by = decision.stabilized, decision.limited
    is_limited = limited_by != Reason.DESIRED_WITHIN_RANGE
    return [
        condition("AbleToScale", True, stabilized, _MESSAGES.get(stabilized, "")),
        condition("ScalingActive", True, Reason.VALID_METRIC_FOUND, "the scheduler says what the load wants"),
        condition("ScalingLimited", is_limited, limited_by, _MESSAGES.get(limited_by, "")),
    ]


def _waiting_for(o: ObservedAutoscaler) -> tuple[str, Problem | None]:
    if o.rival is not None:
        text = f"DaskAutoscaler {o.rival.name} sets the size of the same group"
        return text, Problem(Reason.CONFLICT, text)
    if o.group is None:
        name, cluster = target(o.autoscaler), o.autoscaler.spec.cluster
        text = f"DaskWorkerGroup {name} of cluster {cluster} does not exist in this namespace"
        return text, Problem(Reason.WORKER_GROUP_NOT_FOUND, text)
    if is_left_behind(o.autoscaler, o.group):
        text = f"the DaskCluster {o.autoscaler.spec.cluster} that it belongs to is gone, there is another one now"
        return text, Problem(Reason.WORKER_GROUP_NOT_FOUND, text)
    if not is_ready(o.scheduler_pods):
        return "the scheduler is not ready", None
    if o.answers is not None and o.answers.silent:
        return o.answers.silent, Problem(Reason.SCHEDULER_SILENT, o.answers.silent)
    return "", None
