"""How fast a number of workers follows the load: ``behavior`` of HorizontalPodAutoscaler v2.

The semantics are those of kube-controller-manager (``pkg/controller/podautoscaler/horizontal.go``): first the
stabilization windows, then the policies, then the bounds. What is remembered is in the status of the autoscaler and
nowhere else, so a restarted operator carries on. The defaults differ: a backlog of tasks is a measure of the work
itself, not a noisy ratio, hence up at once and without limit; down after a minute rather than five, as idle workers
cost money and take data along.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from msgspec import Struct

from dask_crds.model import (
    MAX_WORKERS,
    AutoscalerBehavior,
    DaskAutoscalerSpec,
    DaskAutoscalerStatus,
    Recommendation,
    ScaleEvent,
    ScalingRules,
)
from dask_crds.reasons import Reason

from .time import Time, format_time, time_or

#: Default stabilization windows in seconds.
UP_WINDOW_SECONDS = 0
DOWN_WINDOW_SECONDS = 60
#: Scale events are gathered by this part of the longest period, so that there are never many.
_EVENTS_PER_PERIOD = 60


class Scaling(Struct, frozen=True, kw_only=True):
    """A decision, and what must be remembered for the next one."""

    replicas: int
    stabilized: Reason  #: reason of ``AbleToScale``
    limited: Reason  #: reason of ``ScalingLimited``; it is limited unless this is ``DesiredWithinRange``
    recommendations: list[Recommendation]
    scale_events: list[ScaleEvent]


def scale(spec: DaskAutoscalerSpec, status: DaskAutoscalerStatus, *, current: int, wanted: int, now: Time) -> Scaling:
    """The number of workers from now on.

    Args:
        spec: bounds and behavior.
        status: what was remembered.
        current: the number in force; outside of the bounds it is brought within them at once.
        wanted: what the load asks for.
        now: the time.
    """
    behavior = spec.behavior or AutoscalerBehavior()
    up, down = behavior.scale_up or ScalingRules(), behavior.scale_down or ScalingRules()
    start, target = bounded(spec, current), bounded(spec, wanted)
    past = status.recommendations or [Recommendation(replicas=current)]
    longest = _longest_period(up, down)
    events = [event for event in status.scale_events or () if _is_near(event.time, longest, now)]

    up_window, down_window = _window(up, UP_WINDOW_SECONDS), _window(down, DOWN_WINDOW_SECONDS)
    lowest = min([target, *_within(past, up_window, now)])
    highest = max([target, *_within(past, down_window, now)])
    steady = bounded(spec, min(max(start, lowest), highest))
    stabilized, limited = Reason.READY_FOR_NEW_SCALE, Reason.DESIRED_WITHIN_RANGE
    if steady != target:
        stabilized = Reason.SCALE_UP_STABILIZED if target > start else Reason.SCALE_DOWN_STABILIZED
    elif wanted != target:
        limited = Reason.TOO_MANY_REPLICAS if wanted > target else Reason.TOO_FEW_REPLICAS

    replicas = steady
    if steady > start:
        replicas = int(min(steady, max(start, _most(up, current, events, now))))
    elif steady < start:
        replicas = int(max(steady, min(start, _least(down, current, events, now))))
    if replicas != steady:
        limited = Reason.SCALE_UP_LIMIT if steady > start else Reason.SCALE_DOWN_LIMIT
    return Scaling(
        replicas=replicas,
        stabilized=stabilized,
        limited=limited,
        recommendations=_remembered(past, target, up_window, down_window, now),
        scale_events=_events(events, replicas - current, longest, now),
    )


def bounds(spec: DaskAutoscalerSpec) -> tuple[int, int]:
    """Least and greatest number of workers.

    An omitted maximum is the greatest number that any group may be asked for, and so is a number beyond it, which an
    autoscaler from before that bound may have.
    """
    most = MAX_WORKERS if spec.maximum is None else spec.maximum
    return min(spec.least, MAX_WORKERS), min(most, MAX_WORKERS)


def bounded(spec: DaskAutoscalerSpec, replicas: int) -> int:
    """``replicas`` within minimum and maximum."""
    least, most = bounds(spec)
    return max(least, min(most, replicas))


def _window(rules: ScalingRules, default: int) -> int:
    return default if rules.stabilization_window_seconds is None else rules.stabilization_window_seconds


# --- policies ---------------------------------------------------------------------------------------------------------


def _most(rules: ScalingRules, current: int, events: Sequence[ScaleEvent], now: Time) -> float:
    """How many workers the policies allow at most."""
    if rules.select_policy == "Disabled":
        return -math.inf
    if not rules.policies:
        return math.inf
    starts = _starts(rules, current, events, now)
    # A percentage of nothing is nothing; one worker, or the group would never wake up.
    allowed = [
        start + policy.value if policy.type == "Pods" else max(1, -(-start * (100 + policy.value) // 100))
        for policy, start in zip(rules.policies, starts, strict=True)
    ]
    return min(allowed) if rules.select_policy == "Min" else max(allowed)


def _least(rules: ScalingRules, current: int, events: Sequence[ScaleEvent], now: Time) -> float:
    """How many workers the policies leave at least."""
    if rules.select_policy == "Disabled":
        return math.inf
    if not rules.policies:
        return -math.inf
    starts = _starts(rules, current, events, now)
    allowed = [
        start - policy.value if policy.type == "Pods" else start * (100 - policy.value) // 100
        for policy, start in zip(rules.policies, starts, strict=True)
    ]
    return max(allowed) if rules.select_policy == "Min" else min(allowed)


def _starts(rules: ScalingRules, current: int, events: Sequence[ScaleEvent], now: Time) -> Iterator[int]:
    """The number of workers at the start of each policy's period."""
    for policy in rules.policies or ():
        cutoff = now - policy.period_seconds
        yield max(0, current - sum(event.change for event in events if time_or(event.time, 0.0) > cutoff))


def _longest_period(*rules: ScalingRules) -> int:
    return max((policy.period_seconds for each in rules for policy in each.policies or ()), default=0)


def _events(events: Sequence[ScaleEvent], change: int, longest: int, now: Time) -> list[ScaleEvent]:
    """The events that some policy still looks at, with the present one."""
    if not longest:
        return []
    kept = {event.time: event.change for event in events}
    if change:
        step = max(1, longest // _EVENTS_PER_PERIOD)
        time = format_time(math.ceil(now / step) * step)  # rounded up: it must not be forgotten too early
        kept[time] = kept.get(time, 0) + change
    return [ScaleEvent(time=time, change=change) for time, change in kept.items() if change]


def _is_near(noted: str, window: int, now: Time) -> bool:
    """Whether what was noted matters still; in a future as far away it was noted by a clock that was wrong."""
    return abs(now - time_or(noted, 0.0)) < window


# --- stabilization windows --------------------------------------------------------------------------------------------


def _within(past: Sequence[Recommendation], window: int, now: Time) -> list[int]:
    """What was recommended at any time of a window, not counting the present moment."""
    return [r.replicas for r in past if (_is_near(r.until, window, now) if r.until else window > 0)]


def _remembered(
    past: Sequence[Recommendation], wanted: int, up_window: int, down_window: int, now: Time
) -> list[Recommendation]:
    """The recommendations that a window may still look at, with the present one.

    A higher one matters for the window down, a lower one for the window up; an equal one is renewed. So there are never
    more than there were different numbers, and none is written while the load asks for the same.
    """

    def matters(entry: Recommendation) -> bool:
        window = down_window if entry.replicas > wanted else up_window
        return entry.replicas != wanted and _is_near(entry.until or "", window, now)

    ended = [Recommendation(replicas=r.replicas, until=r.until or format_time(now)) for r in past]
    return [*filter(matters, ended), Recommendation(replicas=wanted)]
