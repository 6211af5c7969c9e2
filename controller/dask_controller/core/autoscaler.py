"""What to do about an autoscaler: from the scheduler's demand to a bounded, steady number of workers.

The number is published in the autoscaler's status and the worker group reads it there, so that nothing writes a
``replicas`` field that Git, a client or ``kubectl scale`` may own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from dask_crds.kubernetes import Container
from dask_crds.model import DaskAutoscaler, DaskAutoscalerStatus, DaskWorkerGroup, Recommendation, ScalingRules

from .actions import Ask, Outcome, Plan, Worker
from .conditions import condition, merge, readiness
from .observed import ObservedAutoscaler, Problem
from .time import Time, format_time, parse_time

#: How often the scheduler is asked.
INTERVAL_SECONDS = 5.0
#: Default stabilization windows in seconds. Down is longer, so that a burst every 20 s does not churn workers.
UP_WINDOW_SECONDS = 0
DOWN_WINDOW_SECONDS = 60


def plan_autoscaler(o: ObservedAutoscaler, now: Time) -> Plan:
    """Ask for the demand as long as there is a scheduler to ask."""
    if o.group is None or o.rival is not None:
        return Plan()
    if not any(p.ready and not p.deleting for p in o.scheduler_pods):
        return Plan()
    if o.answers is None:
        workers = tuple(Worker(p.worker_name or p.name, p.ip) for p in o.pods if not p.deleting and not p.is_finished)
        return Plan(ask=Ask(target=workers, target_resources=worker_resources(o.group)))
    return Plan(requeue_after=INTERVAL_SECONDS)


def worker_resources(group: DaskWorkerGroup) -> dict[str, float]:
    """Dask resources that one worker of a group offers, from ``--resources "GPU=1 MEM=2e9"`` in its command.

    Raises nothing: what cannot be read offers nothing, as the worker itself will report it.
    """
    container = group.spec.worker.spec["containers"][0]
    words = iter([part for word in _command(container) for part in re.split(r"(?<=--resources)=", word)])
    for word in words:
        if word == "--resources":
            pairs = re.findall(r"([^\s,=]+)=([0-9.eE+-]+)", next(words, ""))
            return {name: float(amount) for name, amount in pairs}
    return {}


def _command(container: Container) -> list[str]:
    """The words of a container's command line; a script given to a shell is split too."""
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    return [part for word in words for part in (shlex.split(word) if "--resources" in word and " " in word else [word])]


def bounded(autoscaler: DaskAutoscaler, replicas: int) -> int:
    """``replicas`` within minimum and maximum."""
    return max(autoscaler.spec.minimum, min(autoscaler.spec.maximum, replicas))


def _window(rules: ScalingRules | None, default: int) -> int:
    if rules is None or rules.stabilization_window_seconds is None:
        return default
    return rules.stabilization_window_seconds


def stabilized(current: int, recent: Sequence[tuple[Time, int]], *, up: int, down: int, now: Time) -> int:
    """The recommendation that changes least within the windows, as HorizontalPodAutoscaler v2 does it.

    Args:
        current: the number in force.
        recent: when the recommendation changed, and to what; oldest first, the last one is in force now.
        up: window of scaling up, seconds.
        down: window of scaling down, seconds.
        now: the time.
    """
    lowest, highest = min(_within(recent, now - up)), max(_within(recent, now - down))
    if lowest > current:
        return lowest
    if highest < current:
        return highest
    return current


def _within(recent: Sequence[tuple[Time, int]], start: Time) -> list[int]:
    """The values that were in force at any time since ``start``."""
    ends = [time for time, _ in recent[1:]] + [float("inf")]
    return [value for (_, value), end in zip(recent, ends, strict=True) if end > start]


def _recommendations(o: ObservedAutoscaler, raw: int, now: Time, keep: int) -> list[tuple[Time, int]]:
    """The changes of the recommendation of the last ``keep`` seconds, with the present one appended."""
    recent = [(parse_time(r.time), r.replicas) for r in o.autoscaler.status.recommendations or ()]
    if not recent or recent[-1][1] != raw:
        recent.append((now, raw))
    while len(recent) > 1 and recent[1][0] <= now - keep:
        recent.pop(0)
    return recent


def autoscaler_status(
    o: ObservedAutoscaler, plan: Plan, outcomes: Sequence[Outcome], now: Time
) -> DaskAutoscalerStatus:
    """The status after the plan was executed; ``desiredReplicas`` is what the group works towards."""
    status, spec = o.autoscaler.status, o.autoscaler.spec
    behavior = spec.behavior
    up = _window(behavior.scale_up if behavior else None, UP_WINDOW_SECONDS)
    down = _window(behavior.scale_down if behavior else None, DOWN_WINDOW_SECONDS)
    current = status.desired_replicas
    if current is None and o.group is not None:
        current = o.group.spec.worker.replicas
    recent = [(parse_time(r.time), r.replicas) for r in status.recommendations or ()]
    answered = o.answers is not None and o.answers.target is not None
    desired = current
    if answered and current is not None and o.answers is not None and o.answers.target is not None:
        recent = _recommendations(o, o.answers.target, now, max(up, down))
        desired = stabilized(current, recent, up=up, down=down, now=now)
    if desired is not None:
        desired = bounded(o.autoscaler, desired)
    waiting, problem = _waiting_for(o)
    changed = desired != status.desired_replicas
    conditions = [
        *readiness(status.conditions, problem=problem, waiting=waiting, outcomes=outcomes, now=now),
        condition("ScalingActive", answered, "ScalerActive" if answered else "NoMetrics", "" if answered else waiting),
    ]
    return DaskAutoscalerStatus(
        observed_generation=o.autoscaler.generation,
        desired_replicas=desired if o.group is not None and o.rival is None else None,
        last_scale_time=format_time(now) if changed else status.last_scale_time,
        recommendations=[Recommendation(time=format_time(time), replicas=n) for time, n in recent] or None,
        conditions=merge(status.conditions, conditions, generation=o.autoscaler.generation, now=now),
    )


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
