"""Bounds within which the load decides over the number of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from constructs import Construct

from dask_crds.model import AutoscalerBehavior, DaskAutoscalerSpec, ScalingRules, dump

from .resource import DaskResource, Exact, Metadata, Validation, check_keywords, name_of

if TYPE_CHECKING:
    from .cluster import DaskCluster
    from .worker_group import DaskWorkerGroup


class DaskAutoscaler(DaskResource):
    """Bounds within which a worker group follows the load.

    Args:
        cluster: the cluster, or its name.
        minimum: least number of workers.
        maximum: greatest number of workers; left out, there is no bound but the API's (200,000).
        worker_group: the group, or its name (default: the cluster's default group).
        scale_up_window: seconds of past recommendations of which the lowest is taken (default 0).
        scale_down_window: seconds of past recommendations of which the highest is taken (default 60).
        metadata: see ``Metadata``.
    """

    KIND = "DaskAutoscaler"

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        cluster: DaskCluster | str,
        minimum: int = 0,
        maximum: int | None = None,
        worker_group: DaskWorkerGroup | str | None = None,
        scale_up_window: int | None = None,
        scale_down_window: int | None = None,
        **metadata: Unpack[Metadata],
    ) -> None:
        check_keywords(metadata, Metadata)
        up, down = _rules(scale_up_window), _rules(scale_down_window)
        spec = DaskAutoscalerSpec(
            cluster=name_of(cluster),
            minimum=minimum,
            maximum=maximum,
            worker_group=None if worker_group is None else name_of(worker_group),
            behavior=AutoscalerBehavior(scale_up=up, scale_down=down) if up or down else None,
        )
        super().__init__(scope, id, _with_minimum(spec), metadata)

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskAutoscalerSpec, **metadata: Unpack[Metadata]
    ) -> DaskAutoscaler:
        """An autoscaler exactly as ``spec`` says."""
        return _ExactAutoscaler(scope, id, spec, metadata)


class _ExactAutoscaler(Exact, DaskAutoscaler):
    def __init__(self, scope: Construct, id: str, spec: DaskAutoscalerSpec, metadata: Metadata) -> None:
        check_keywords(metadata, Metadata)
        DaskResource.__init__(self, scope, id, _with_minimum(spec), metadata)


def autoscaler_of(
    scaled: DaskCluster | DaskWorkerGroup,
    minimum: int,
    maximum: int | None,
    scale_up_window: int | None,
    scale_down_window: int | None,
    worker_group: DaskWorkerGroup | None = None,
) -> DaskAutoscaler:
    """An autoscaler below what it scales, named like it (so that ``KubeCluster.adapt`` finds a cluster's)."""
    metadata: Metadata = {"name": scaled.name}
    if scaled.namespace is not None:
        metadata["namespace"] = scaled.namespace
    autoscaler = DaskAutoscaler(
        scaled,
        "autoscaler",
        cluster=scaled.name if worker_group is None else worker_group.spec["cluster"],
        minimum=minimum,
        maximum=maximum,
        worker_group=worker_group,
        scale_up_window=scale_up_window,
        scale_down_window=scale_down_window,
        **metadata,
    )

    def one_owner() -> list[str]:
        stated = scaled.api_object.to_json()["spec"]["worker"].get("replicas")
        return [] if stated is None else [f"{scaled.node.path} states {stated} workers; leave that to the autoscaler"]

    autoscaler.node.add_validation(Validation(one_owner))
    return autoscaler


def _with_minimum(spec: DaskAutoscalerSpec) -> dict[str, Any]:
    """The spec with its minimum, which ``dump`` leaves out if it is 0: what Git leaves out, others may change."""
    return {"cluster": spec.cluster, "minimum": spec.minimum, **dump(spec)}


def _rules(window: int | None) -> ScalingRules | None:
    return None if window is None else ScalingRules(stabilization_window_seconds=window)
