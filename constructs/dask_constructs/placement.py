"""On which nodes Pods run, and what comes first there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from dask_crds.kubernetes.core_v1 import Affinity, PodSpec, Toleration, TopologySpreadConstraint
from dask_crds.names import Label

from .keywords import Options
from .shapes import shape
from .values import Named, Text, reference

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TAINT = re.compile(rf"(?P<key>[^=:]+)(=(?P<value>[^=:]*))?(:(?P<effect>{'|'.join(_EFFECTS)}))?")


def _toleration(given: Any) -> object:
    """A toleration of a taint, written as ``kubectl taint`` writes it."""
    if not isinstance(given, str):
        return given
    taint = _TAINT.fullmatch(given)
    if taint is None:
        raise ValueError(f"{given!r} is no taint; write KEY, KEY=VALUE or KEY=VALUE:EFFECT ({', '.join(_EFFECTS)})")
    key, value, effect = taint["key"], taint["value"], taint["effect"]
    toleration = {"key": key, "operator": "Exists"} if value is None else {"key": key, "value": value}
    return toleration | ({"effect": effect} if effect else {})


def _spread(given: Any) -> object:
    return {"topologyKey": given} if isinstance(given, str) else given


class Placement(TypedDict, total=False):
    """Which nodes Pods may run on."""

    node_selector: Mapping[Text, str] | None
    """Labels that a node must have."""
    tolerations: (
        Sequence[Annotated[str | Toleration, shape("Toleration", "a taint as 'KEY=VALUE:EFFECT'", _toleration)]] | None
    )
    """Taints of nodes that do not matter, as ``kubectl taint`` writes them (``"spot=true:NoSchedule"``, or ``"spot"``
    for all of that key), or as Kubernetes' mappings."""
    affinity: Annotated[Affinity, shape("Affinity")] | None
    """What Pods like to be near to, or far from."""
    topology_spread: (
        Sequence[
            Annotated[
                str | TopologySpreadConstraint,
                shape("TopologySpreadConstraint", "a node's label such as 'topology.kubernetes.io/zone'", _spread),
            ]
        ]
        | None
    )
    """Labels of nodes, ``"topology.kubernetes.io/zone"`` say, over whose values the Pods of one kind are spread evenly
    where that is possible, or Kubernetes' mappings, in which the selector may be left out."""
    priority_class: Annotated[str | Named, reference("PriorityClass")] | None
    """PriorityClass of the Pods."""
    runtime_class: Annotated[str | Named, reference("RuntimeClass")] | None
    """RuntimeClass of the Pods, ``"nvidia"`` or ``"gvisor"`` say."""
    kubernetes_scheduler: Annotated[str, Meta(min_length=1)] | None
    """The scheduler that finds a node for the Pods (``schedulerName``), if it is not Kubernetes' own."""


def placed(pod: PodSpec, options: Options, component: str) -> PodSpec:
    """The Pod where ``Placement`` wants it, in addition to what it says itself.

    Args:
        pod: the Pod.
        options: keyword arguments, of which others are passed over.
        component: ``Component`` of the Pod, to tell it from other Pods of its cluster.
    """
    fields: dict[str, Any] = {field: options[option] for option, field in _FIELDS.items() if option in options}
    if "node_selector" in options:
        fields["nodeSelector"] = {**(pod.get("nodeSelector") or {}), **options["node_selector"]}
    if "affinity" in options:
        fields["affinity"] = {**(pod.get("affinity") or {}), **options["affinity"]}
    if "tolerations" in options:
        fields["tolerations"] = [*(pod.get("tolerations") or ()), *options["tolerations"]]
    if "topology_spread" in options:
        constraints = [_constraint(given, component) for given in options["topology_spread"]]
        fields["topologySpreadConstraints"] = [*(pod.get("topologySpreadConstraints") or ()), *constraints]
    return {**pod, **fields}  # type: ignore[typeddict-item]


_FIELDS = {
    "priority_class": "priorityClassName",
    "runtime_class": "runtimeClassName",
    "kubernetes_scheduler": "schedulerName",
}


def _constraint(given: Mapping[str, Any], component: str) -> dict[str, Any]:
    """A constraint with what was left out: the Pods of the same component, in the same cluster and group."""
    constraint = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", **given}
    if "labelSelector" in constraint:
        return constraint
    return {
        **constraint,
        "labelSelector": {"matchLabels": {Label.COMPONENT: component}},
        "matchLabelKeys": [Label.CLUSTER, Label.WORKER_GROUP],
    }
