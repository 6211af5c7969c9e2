"""Bounds within which the load decides over the number of workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Required, TypedDict, Unpack

from constructs import Construct

from dask_crds.model import AutoscalerBehavior, DaskAutoscalerSpec, ScalingRules, dump

from .resource import DaskResource, Exact, Metadata
from .values import Cluster, Seconds, WorkerGroup, Workers

if TYPE_CHECKING:
    from .cluster import DaskCluster
    from .worker_group import DaskWorkerGroup


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


class AutoscalerProps(ScalingOptions, Metadata, total=False):
    """Keyword arguments of ``DaskAutoscaler``."""

    cluster: Required[Cluster]
    """The cluster, or its name."""
    worker_group: WorkerGroup | None
    """The group, or its name (default: the cluster's default group)."""


class DaskAutoscaler(DaskResource):
    """Bounds within which a worker group follows the load.

    Args:
        props: see ``AutoscalerProps``.
    """

    KIND = "DaskAutoscaler"

    def __init__(self, scope: Construct, id: str, **props: Unpack[AutoscalerProps]) -> None:
        super().__init__(scope, id)
        options = self._accepted(props, AutoscalerProps)
        up, down = _rules(options.get("scale_up_window")), _rules(options.get("scale_down_window"))
        spec = DaskAutoscalerSpec(
            cluster=options.get("cluster", ""),
            minimum=options.get("minimum", 0),
            maximum=options.get("maximum"),
            worker_group=options.get("worker_group"),
            behavior=AutoscalerBehavior(scale_up=up, scale_down=down) if up or down else None,
        )
        self._declare(_with_minimum(spec), options)

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskAutoscalerSpec | Mapping[str, Any], **metadata: Unpack[Metadata]
    ) -> DaskAutoscaler:
        """An autoscaler exactly as ``spec`` says: a struct, or a mapping, which may be a whole manifest."""
        return _ExactAutoscaler(scope, id, spec, metadata)


class _ExactAutoscaler(Exact, DaskAutoscaler):
    @staticmethod
    def _dumped(spec: Any) -> dict[str, Any]:
        return _with_minimum(spec)


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


def _with_minimum(spec: DaskAutoscalerSpec) -> dict[str, Any]:
    """The spec with its minimum, which ``dump`` leaves out if it is 0: what Git leaves out, others may change."""
    return {"cluster": spec.cluster, "minimum": spec.minimum, **dump(spec)}


def _rules(window: int | None) -> ScalingRules | None:
    return None if window is None else ScalingRules(stabilization_window_seconds=window)
