"""How fast an autoscaler follows the load: ``behavior`` as HorizontalPodAutoscaler v2 has it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.support.states import NOW

from dask_controller.core.scaling_rules import DOWN_WINDOW_SECONDS, UP_WINDOW_SECONDS, Scaling, bounds, scale
from dask_crds.model import (
    MAX_WORKERS,
    AutoscalerBehavior,
    DaskAutoscaler,
    DaskAutoscalerSpec,
    DaskAutoscalerStatus,
    ScalingPolicy,
    ScalingRules,
    dump,
    parse,
)


def pods(value: int, seconds: int) -> ScalingPolicy:
    return ScalingPolicy(type="Pods", value=value, period_seconds=seconds)


def percent(value: int, seconds: int) -> ScalingPolicy:
    return ScalingPolicy(type="Percent", value=value, period_seconds=seconds)


def rules(*policies: ScalingPolicy, window: int | None = 0, select: str | None = None) -> ScalingRules:
    return ScalingRules(policies=list(policies) or None, stabilization_window_seconds=window, select_policy=select)


class Run:
    """An autoscaler that remembers what it decided, in its status and nowhere else."""

    def __init__(
        self,
        *,
        up: ScalingRules | None = None,
        down: ScalingRules | None = None,
        current: int = 0,
        minimum: int = 0,
        maximum: int | None = 1000,
        through_json: bool = False,
    ) -> None:
        behavior = AutoscalerBehavior(scale_up=up, scale_down=down) if up or down else None
        self.spec = DaskAutoscalerSpec(cluster="c", minimum=minimum, maximum=maximum, behavior=behavior)
        self.status = DaskAutoscalerStatus(desired_replicas=current)
        self.history = [(-10_000.0, current)]
        self.through_json = through_json
        self.seconds = 0.0
        self.writes = 0

    def decide(self, wanted: int, seconds: float) -> Scaling:
        current = self.status.desired_replicas
        assert current is not None
        return scale(self.spec, self.status, current=current, wanted=wanted, now=NOW + seconds)

    def __call__(self, wanted: int, seconds: float) -> int:
        decision = self.decide(wanted, seconds)
        status = DaskAutoscalerStatus(
            desired_replicas=decision.replicas,
            recommendations=decision.recommendations,
            scale_events=decision.scale_events or None,
        )
        self.writes += status != self.status
        self.status = status
        self.history.append((seconds, decision.replicas))
        self.limited, self.stabilized = decision.limited, decision.stabilized
        if self.through_json:  # as a restarted operator reads it
            written = msgspec.json.decode(msgspec.json.encode(dump(DaskAutoscaler(spec=self.spec, status=self.status))))
            read = parse(written)
            assert isinstance(read, DaskAutoscaler)
            self.spec, self.status = read.spec, read.status
        return decision.replicas

    def at(self, seconds: float) -> int:
        """The number in force at a time, by the whole history."""
        return [replicas for time, replicas in self.history if time <= seconds][-1]


# --- policies ---------------------------------------------------------------------------------------------------------


def test_without_policies_it_follows_at_once_and_back_after_a_minute():
    run = Run()
    assert run(500, 0) == 500
    assert run(0, 5) == 500
    assert (run.stabilized, run.limited) == ("ScaleDownStabilized", "DesiredWithinRange")
    assert run(0, 5 + DOWN_WINDOW_SECONDS) == 0
    assert UP_WINDOW_SECONDS == 0


def test_pods_in_each_period():
    run = Run(up=rules(pods(4, 60)))
    assert [run(100, second) for second in (0, 5, 59, 60, 65, 120)] == [4, 4, 4, 8, 8, 12]
    assert run.limited == "ScaleUpLimit"


def test_percent_of_the_start_of_the_period_and_one_from_nothing():
    run = Run(up=rules(percent(100, 15)))
    assert [run(100, second) for second in range(0, 75, 15)] == [1, 2, 4, 8, 16]
    run = Run(up=rules(percent(10, 15)), current=10)
    assert [run(100, second) for second in (0, 15, 30)] == [11, 13, 15]  # rounded up, or it might never grow
    run = Run(down=rules(percent(10, 15)), current=10)
    assert [run(0, second) for second in (0, 5, 15)] == [9, 9, 8]  # rounded down, or it might never shrink


def test_the_policy_that_allows_most_unless_the_least_is_asked_for():
    four_or_double = pods(4, 15), percent(100, 15)  # the default of HorizontalPodAutoscaler
    most, least = Run(up=rules(*four_or_double)), Run(up=rules(*four_or_double, select="Min"))
    assert [most(50, second) for second in range(0, 75, 15)] == [4, 8, 16, 32, 50]
    assert [least(50, second) for second in range(0, 75, 15)] == [1, 2, 4, 8, 12]
    most = Run(down=rules(pods(4, 15), percent(50, 15)), current=20)
    least = Run(down=rules(pods(4, 15), percent(50, 15), select="Min"), current=20)
    assert [most(0, second) for second in range(0, 75, 15)] == [10, 5, 1, 0, 0]
    assert [least(0, second) for second in range(0, 75, 15)] == [16, 12, 8, 4, 2]


def test_what_was_removed_in_a_period_may_come_back():
    """The start of the period counts, as in kube-controller-manager since 1.23, not the additions alone."""
    run = Run(up=rules(pods(2, 60)), down=rules(), current=10)
    assert run(0, 0) == 0
    assert run(20, 5) == 12


def test_what_was_noted_by_a_clock_that_was_wrong_holds_nothing_up():
    """An operator whose node was a day ahead: nothing was removed, and nothing added, for a day after its successor."""
    day = 24 * 3600
    run = Run(up=rules(pods(4, 60)), down=rules(window=300), current=10)
    assert run(14, day) == 14
    assert run(10, day) == 14, "within the window"
    assert run(20, 0) == 18, "as many more as in any minute"
    run = Run(down=rules(window=300), current=10)
    assert run(10, day) == 10
    assert run(2, day) == 10
    assert run(2, 0) == 2


def test_disabled_in_one_direction():
    run = Run(up=rules(select="Disabled"), current=5)
    assert run(9, 0) == 5
    assert run.limited == "ScaleUpLimit"
    assert run(3, 60) == 5, "it still asked for nine a moment ago"
    assert run(3, 60 + DOWN_WINDOW_SECONDS) == 3
    run = Run(down=rules(pods(1, 5), select="Disabled"), current=5)
    assert run(0, 0) == 5
    assert run.limited == "ScaleDownLimit"
    assert run(9, 5) == 9


def test_the_window_comes_before_the_policies():
    run = Run(down=rules(pods(1, 10), window=30), current=5)
    assert [run(0, second) for second in range(0, 70, 10)] == [5, 5, 5, 4, 3, 2, 1]


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_reasons_at_the_bounds():
    run = Run(minimum=2, maximum=5, current=3, down=rules())
    assert (run(9, 0), run.limited) == (5, "TooManyReplicas")
    assert (run(9, 5), run.limited) == (5, "TooManyReplicas")
    assert (run(0, 10), run.limited) == (2, "TooFewReplicas")
    assert (run(2, 15), run.limited) == (2, "DesiredWithinRange")


def test_new_bounds_act_at_once_whatever_the_policies_say():
    run = Run(up=rules(pods(1, 60)), down=rules(pods(1, 60), window=300), current=10)
    run(10, 0)
    run.spec = msgspec.structs.replace(run.spec, maximum=4)
    assert run(10, 5) == 4
    run.spec = msgspec.structs.replace(run.spec, minimum=8, maximum=20)
    assert run(0, 10) == 8


def test_without_a_maximum_it_is_that_of_any_group():
    run = Run(maximum=None, down=rules())
    assert (run(100_000, 0), run.limited) == (100_000, "DesiredWithinRange")
    assert (run(10**12, 5), run.limited) == (MAX_WORKERS, "TooManyReplicas")
    assert run(0, 10) == 0
    assert bounds(DaskAutoscalerSpec(cluster="c")) == (0, MAX_WORKERS)


def test_absurd_numbers_of_old_objects_are_brought_within_the_bounds_at_once():
    """Controller finding 12, security finding 1: objects from before the API's bounds, however great their numbers."""
    most = 2**31 - 1
    absurd = rules(pods(most, 1800), percent(most, 1800))
    run = Run(minimum=0, maximum=most, current=most, up=absurd, down=absurd, through_json=True)
    assert [run(wanted, second) for second, wanted in enumerate((most, 10**400, 3, 0, most))] == [
        MAX_WORKERS,
        MAX_WORKERS,
        3,
        0,
        MAX_WORKERS,
    ]
    run = Run(minimum=most, maximum=most, current=5, up=rules(pods(most, 60)))
    assert (run(0, 0), run.limited) == (MAX_WORKERS, "TooFewReplicas")


# --- writes -----------------------------------------------------------------------------------------------------------


def test_nothing_changes_while_the_load_wants_the_same_or_more_than_the_maximum():
    run = Run(maximum=10, up=rules(pods(2, 30)), down=rules(percent(10, 60), window=60))
    for second in range(0, 600, 5):
        run(500 + second % 7, second)
    settled = run.writes
    for second in range(600, 900, 5):
        run(500 + second % 7, second)
    assert run.writes == settled
    assert run.status.desired_replicas == 10


def test_events_are_few_however_often_the_number_changes():
    """The longest period, and another number at each look for two hours."""
    run = Run(up=rules(pods(1000, 1800)), down=rules(pods(1000, 1800)))
    most = changes = 0
    for number in range(1440):
        changes += run((number * 7919) % 100, number * 5) != run.at(number * 5 - 5)
        most = max(most, len(run.status.scale_events or ()))
    assert changes > 1000
    assert 50 <= most <= 62
    for number in range(1440, 1440 + 400):
        run(50, number * 5)
    assert run.status.scale_events is None


def test_recommendations_are_no_more_than_there_are_numbers():
    run = Run(up=rules(window=3600), down=rules(window=3600))
    for number in range(1440):
        run((number * 7919) % 100 // 10, number * 5)
        assert len(run.status.recommendations) <= 10
    for number in range(1440, 1440 + 721):
        run(5, number * 5)
    assert len(run.status.recommendations) == 1


# --- properties -------------------------------------------------------------------------------------------------------

policies = st.builds(
    ScalingPolicy,
    type=st.sampled_from(["Pods", "Percent"]),
    value=st.integers(1, 200),
    period_seconds=st.integers(1, 60),
)
some_rules = st.none() | st.builds(
    ScalingRules,
    stabilization_window_seconds=st.none() | st.integers(0, 120),
    policies=st.none() | st.lists(policies, min_size=1, max_size=3),
    select_policy=st.sampled_from([None, "Max", "Min", "Disabled"]),
)
looks = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=30)  # seconds later, wanted


@st.composite
def runs(draw, through_json: bool = False) -> Run:
    minimum = draw(st.integers(0, 10))
    maximum = draw(st.integers(minimum, 50))
    return Run(
        up=draw(some_rules),
        down=draw(some_rules),
        minimum=minimum,
        maximum=maximum,
        current=draw(st.integers(minimum, maximum)),
        through_json=through_json,
    )


def play(run: Run, steps: list[tuple[int, int]]) -> None:
    for later, wanted in steps:
        run.seconds += later
        run(wanted, run.seconds)


@given(runs(), looks)
def test_it_is_always_within_the_bounds(run, steps):
    play(run, steps)
    assert all(run.spec.minimum <= replicas <= run.spec.maximum for _, replicas in run.history)


def allowed(run: Run, rules: ScalingRules | None, now: float, *, up: bool) -> float:
    """The policies once more, by the whole history rather than by what the status remembers of it."""
    current = run.at(now)
    if rules is not None and rules.select_policy == "Disabled":
        return current
    if rules is None or not rules.policies:
        return 10**9 if up else 0
    limits = []
    for policy in rules.policies:
        start = run.at(now - policy.period_seconds)
        if policy.type == "Pods":
            limits.append(start + policy.value if up else start - policy.value)
        else:
            exact = start * (100 + policy.value if up else 100 - policy.value)
            limits.append(max(1, -(-exact // 100)) if up else exact // 100)
    widest = (rules.select_policy or "Max") == "Max"
    limit = max(limits) if up == widest else min(limits)
    return max(limit, current) if up else min(limit, current)


@given(runs(), looks, st.integers(0, 60), st.integers(0, 60))
def test_it_is_never_beyond_the_policies(run, steps, later, wanted):
    play(run, steps)
    behavior = run.spec.behavior or AutoscalerBehavior()
    now = run.seconds + later
    most = allowed(run, behavior.scale_up, now, up=True)
    least = allowed(run, behavior.scale_down, now, up=False)
    assert least <= run.decide(wanted, now).replicas <= most


@given(runs(), looks, st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_more_load_never_means_fewer_workers(run, steps, later, some, other):
    assume(some <= other)
    play(run, steps)
    now = run.seconds + later
    assert run.decide(some, now).replicas <= run.decide(other, now).replicas


@given(runs(), looks, st.floats(0, 60), st.integers(0, 60))
def test_looking_twice_changes_nothing(run, steps, later, wanted):
    play(run, steps)
    run(wanted, run.seconds + later)
    before = run.status
    run(wanted, run.seconds + later)
    assert run.status == before


@given(st.data(), looks)
def test_a_restart_at_any_time_changes_nothing(data, steps):
    run = data.draw(runs())
    same = Run(minimum=run.spec.minimum, maximum=run.spec.maximum, through_json=True)
    same.spec, same.status, same.history = run.spec, run.status, list(run.history)
    play(run, steps)
    play(same, steps)
    assert (run.history, run.status) == (same.history, same.status)


@given(runs(), looks, st.integers(0, 60))
def test_a_steady_load_gets_what_it_asks_for_and_then_nothing_is_written(run, steps, wanted):
    behavior = run.spec.behavior or AutoscalerBehavior()
    assume(all(r is None or r.select_policy != "Disabled" for r in (behavior.scale_up, behavior.scale_down)))
    play(run, steps)
    play(run, [(60, wanted)] * 60)
    assert run.status.desired_replicas == min(max(wanted, run.spec.minimum), run.spec.maximum)
    writes = run.writes
    play(run, [(5, wanted)] * 20)
    assert run.writes == writes


@given(runs(), st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), max_size=30))
def test_little_is_remembered(run, steps):
    play(run, steps)
    remembered = [r.replicas for r in run.status.recommendations or ()]
    assert len(remembered) == len(set(remembered))


@pytest.mark.parametrize("window", [1, 60])
def test_fractions_of_seconds_do_not_shorten_a_window_by_more_than_one(window):
    run = Run(down=rules(window=window), current=5)
    run(5, 0.9)
    run(0, 1.8)
    assert run(0, 1.8 + window - 1) == 5
    assert run(0, 1.8 + window) == 0
