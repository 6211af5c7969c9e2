"""The model of a DaskAutoscaler."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .. import names
from .shared import ATOMIC, MAX_WORKERS, ClusterName, CustomResource, Status, Time, Value, Workers, rule


class ScalingPolicy(Value, frozen=True, kw_only=True):
    """How much the number of workers may change within a time."""

    type: Literal["Pods", "Percent"]
    """`Percent` is of the number at the start of the period; at least one worker is let through."""
    value: Annotated[int, Meta(ge=1, extra_json_schema={"maximum": MAX_WORKERS})]
    """Greatest change, in Pods or percent."""
    period_seconds: Annotated[int, Meta(ge=1, le=1800)]
    """The time in which it holds."""


class ScalingRules(Value, frozen=True, kw_only=True):
    """Scaling in one direction, as in HorizontalPodAutoscaler v2."""

    stabilization_window_seconds: Annotated[int, Meta(ge=0, le=3600)] | None = None
    """Recommendations of this many past seconds are considered, and the one that changes least is taken. Omitted: 0 up,
    60 down."""
    policies: Annotated[list[ScalingPolicy], Meta(min_length=1, max_length=10, extra_json_schema=ATOMIC)] | None = None
    """Limits of the pace. Omitted: none."""
    select_policy: Literal["Max", "Min", "Disabled"] | None = None
    """Which policy counts: the one that allows the most change (`Max`) or the least (`Min`). `Disabled`: no scaling in
    this direction. Omitted: `Max`."""


class AutoscalerBehavior(Value, frozen=True, kw_only=True):
    """How fast the group follows the load."""

    scale_up: ScalingRules | None = None
    scale_down: ScalingRules | None = None


class Autoscaling(Value, frozen=True, kw_only=True):
    """Bounds within which a worker group follows the load."""

    DEFAULTS = {"minimum": 0}

    minimum: Workers | None = None
    """Least number of workers. Omitted: 0."""
    maximum: Workers | None = None
    """Greatest number of workers. Omitted: 200000."""
    behavior: AutoscalerBehavior | None = None

    @property
    def least(self) -> int:
        """The least number of workers."""
        return int(self.effective("minimum"))


#: What is wrong with bounds that leave nothing between them, and CEL that tells.
BOUNDS_RULE = rule(
    "!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum",
    "minimum must not be greater than maximum",
)


class DaskAutoscalerSpec(Autoscaling, frozen=True, kw_only=True):
    """Bounds within which one worker group follows the load."""

    cluster: ClusterName
    """Name of the DaskCluster in the same namespace."""
    worker_group: Annotated[str, Meta(min_length=1, max_length=names.MAX_GROUP_NAME)] | None = None
    """Name of the DaskWorkerGroup that is scaled. Omitted: `<cluster>-default`."""


class Recommendation(Value, frozen=True, kw_only=True):
    """What the load asked for, within `minimum` and `maximum`."""

    replicas: int
    """Number of workers."""
    until: Time | None = None
    """When it asked for another number. Omitted: it still does."""


class ScaleEvent(Value, frozen=True, kw_only=True):
    """A change of the number of workers."""

    time: Time
    """When the number changed."""
    change: int
    """Workers added; negative: removed."""


class DaskAutoscalerStatus(Status, frozen=True, kw_only=True):
    """Observed state of an autoscaler."""

    desired_replicas: int | None = None
    """The number of workers that the group works towards."""
    worker_group_uid: str | None = None
    """Uid of the DaskWorkerGroup that the numbers are about: others ignore them."""
    last_scale_time: Time | None = None
    """When `desiredReplicas` last changed."""
    recommendations: Annotated[list[Recommendation], Meta(extra_json_schema=ATOMIC)] | None = None
    """Recommendations that the stabilization windows still look at; the last one holds now."""
    scale_events: Annotated[list[ScaleEvent], Meta(extra_json_schema=ATOMIC)] | None = None
    """Changes within the longest period of a policy."""


class DaskAutoscaler(CustomResource, frozen=True, kw_only=True):
    """Bounds within which a worker group follows the load."""

    spec: DaskAutoscalerSpec
    status: DaskAutoscalerStatus = DaskAutoscalerStatus()
