"""Bounds within which the load decides over the number of workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Required, TypedDict, Unpack

import msgspec
from constructs import Construct

from dask_crds.model import AutoscalerBehavior, Autoscaling, DaskAutoscalerSpec, ScalingPolicy, ScalingRules, dump

from .keywords import Options, Plain
from .resource import DaskResource, Exact, Metadata
from .values import Cluster, Seconds, WorkerGroup, Workers

if TYPE_CHECKING:
    from .cluster import DaskCluster
    from .worker_group import DaskWorkerGroup


def _policy(given: Any) -> object:
    try:
        return msgspec.convert(msgspec.to_builtins(given), ScalingPolicy)
    except (TypeError, msgspec.ValidationError) as error:
        raise ValueError(f"{_POLICY}, not {given!r} ({error})") from None


_POLICY = (
    "must be a ScalingPolicy of dask_crds.model, or a mapping as {'type': 'Pods', 'value': 4, 'periodSeconds': 60}"
)
Policy = Annotated[ScalingPolicy | Mapping[str, Any], Plain(ScalingPolicy, "a ScalingPolicy", _policy)]


class ScalingOptions(TypedDict, total=False):
    """How a group of workers follows the load."""

    minimum: Workers | None
    """Least number of workers (default 0)."""
    maximum: Workers | None
    """Greatest number of workers; left out, there is no bound but the API's (200,000)."""
    scale_up_window: Seconds | None
    """Seconds of past recommendations of which the lowest is taken (default 0)."""
    scale_down_window: Seconds | None
    """Seconds of past recommendations of which the highest is taken (default 60)."""
    scale_up_policies: Sequence[Policy] | None
    """Limits of the pace of growth (default: none), ``[ScalingPolicy(type="Pods", value=4, period_seconds=60)]`` say,
    from ``dask_crds.model``."""
    scale_down_policies: Sequence[Policy] | None
    """Limits of the pace of shrinking (default: none)."""
    scale_up_select: Literal["Max", "Min", "Disabled"] | None
    """Which of several policies counts: the one that allows the most change (default) or the least; ``Disabled``: the
    group does not grow by itself."""
    scale_down_select: Literal["Max", "Min", "Disabled"] | None
    """The same for shrinking."""


class AutoscalerProps(ScalingOptions, Metadata, total=False):
    """Keyword arguments of ``DaskAutoscaler``."""

    cluster: Required[Cluster]
    """The cluster, or its name."""
    worker_group: WorkerGroup | None
    """The group, or its name (default: the cluster's default group)."""


class DaskAutoscaler(DaskResource):
    """Bounds within which a worker group follows the load."""

    KIND = "DaskAutoscaler"

    def __init__(self, scope: Construct, id: str, **props: Unpack[AutoscalerProps]) -> None:
        """Declare it with the keyword arguments of ``AutoscalerProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, AutoscalerProps)
        self._declare(_spec, options)

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskAutoscalerSpec | Mapping[str, Any], **metadata: Unpack[Metadata]
    ) -> DaskAutoscaler:
        """An autoscaler exactly as ``spec`` says: a struct, or a mapping, which may be a whole manifest."""
        return _ExactAutoscaler(scope, id, spec, metadata)


def _spec(options: Options) -> dict[str, Any]:
    cluster, group = options.get("cluster", ""), options.get("worker_group")
    return dump(DaskAutoscalerSpec(cluster=cluster, worker_group=group, **_bounds(options)))


class _ExactAutoscaler(Exact, DaskAutoscaler):
    pass


def autoscaler_of(
    scaled: DaskCluster | DaskWorkerGroup, options: ScalingOptions, worker_group: DaskWorkerGroup | None = None
) -> DaskAutoscaler:
    """An autoscaler below what it scales, named like it (so that ``KubeCluster.adapt`` finds a cluster's)."""
    return DaskAutoscaler(
        scaled,
        "autoscaler",
        name=scaled.name,
        namespace=scaled.namespace,
        cluster=scaled.name if worker_group is None else worker_group.spec["cluster"],
        worker_group=worker_group,
        **options,
    )


def stated_autoscaler(options: Options) -> dict[str, Any]:
    """The autoscaler of a group as the manifest of its cluster or job states it."""
    return dump(Autoscaling(**_bounds(options)))


def _bounds(options: Options) -> dict[str, Any]:
    """The minimum is stated in any case: what Git leaves out, others may change."""
    up, down = _rules(options, "scale_up"), _rules(options, "scale_down")
    behavior = AutoscalerBehavior(scale_up=up, scale_down=down) if up or down else None
    return {"minimum": options.get("minimum", 0), "maximum": options.get("maximum"), "behavior": behavior}


def _rules(options: Options, direction: str) -> ScalingRules | None:
    given = {
        field: options[f"{direction}_{option}"]
        for option, field in _RULES.items()
        if f"{direction}_{option}" in options
    }
    return ScalingRules(**given) if given else None


_RULES = {"window": "stabilization_window_seconds", "policies": "policies", "select": "select_policy"}
