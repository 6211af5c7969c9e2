"""Nodes that their provider may take back at any time: which they are, and who runs on them.

Workers do, as what they hold is handed on or computed again. A scheduler or a runner that is lost is all work lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, cast

from msgspec import Meta

from dask_crds.kubernetes.core_v1 import PodSpec
from dask_crds.validation.syntax import is_key, is_label_value

from .keywords import Plain


class SpotNodes(NamedTuple):
    """What tells such nodes from others; where they have a taint of the provider's, it is of the same key and value."""

    label: str
    value: str
    #: Seconds from the notice to the end, where the Pod's own grace period is all that bounds a drain.
    notice: int | None = None


#: By the name that users give.
PROVIDERS: Mapping[str, SpotNodes] = {
    # Managed node groups, which drain their nodes: https://docs.aws.amazon.com/eks/latest/userguide/managed-node-groups.html
    # The notice: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    "eks": SpotNodes("eks.amazonaws.com/capacityType", "SPOT", notice=120),
    # Karpenter on AWS, EKS Auto Mode: https://karpenter.sh/docs/concepts/scheduling/#well-known-labels
    "karpenter": SpotNodes("karpenter.sh/capacity-type", "spot", notice=120),
    # The taint is Autopilot's and that of node auto-provisioning. The kubelet itself ends Pods in the time that there
    # is: https://cloud.google.com/kubernetes-engine/docs/concepts/spot-vms
    "gke": SpotNodes("cloud.google.com/gke-spot", "true"),
    # All such nodes have the taint: https://learn.microsoft.com/azure/aks/spot-node-pool
    # The notice: https://learn.microsoft.com/azure/virtual-machines/spot-vms
    "aks": SpotNodes("kubernetes.azure.com/scalesetpriority", "spot", notice=30),
}


def _nodes(given: Any) -> object:
    if isinstance(given, str) and given not in PROVIDERS:
        key, _, value = given.partition("=")
        if not value or not is_key(key) or not is_label_value(value):
            raise ValueError(f"must be {_WANTED}, not {given!r}")
    return given


_WANTED = f"{', '.join(map(repr, PROVIDERS))}, or a label of nodes as 'KEY=VALUE'"
Spot = Annotated[str, Plain(Annotated[str, Meta(min_length=1)], _WANTED, _nodes)]


def _of(spot: str) -> SpotNodes:
    key, _, value = spot.partition("=")
    return PROVIDERS.get(spot) or SpotNodes(key, value)


def on_spot(pod: PodSpec, spot: str | None) -> PodSpec:
    """The Pod on such nodes; what its user says comes on top of it.

    Args:
        pod: the Pod.
        spot: value of ``Spot``; ``None`` for nothing.
    """
    if spot is None:
        return pod
    nodes = _of(spot)
    placed: PodSpec = {
        **pod,
        "nodeSelector": {nodes.label: nodes.value},
        "tolerations": [{"key": nodes.label, "value": nodes.value}],
    }
    return placed if nodes.notice is None else {**placed, "terminationGracePeriodSeconds": nodes.notice}


def off_spot(pod: PodSpec, spot: str | None) -> PodSpec:
    """The Pod on other nodes, unless what its user says of the same label leads elsewhere.

    Args:
        pod: the Pod, with all that its user says of nodes.
        spot: value of ``Spot``; ``None`` for nothing.
    """
    if spot is None or (nodes := _of(spot)).label in (pod.get("nodeSelector") or {}):
        return pod
    affinity: dict[str, Any] = dict(pod.get("affinity") or {})
    of_nodes = affinity.get("nodeAffinity") or {}
    required = of_nodes.get(_REQUIRED) or {}
    terms: list[dict[str, Any]] = required.get("nodeSelectorTerms") or []
    if any(each["key"] == nodes.label for term in terms for each in term.get("matchExpressions") or ()):
        return pod
    other = {"key": nodes.label, "operator": "NotIn", "values": [nodes.value]}
    narrowed = [
        # Terms are alternatives; one that is empty matches no node.
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), other]} if any(term.values()) else term
        for term in terms
    ]
    required = {**required, "nodeSelectorTerms": narrowed or [{"matchExpressions": [other]}]}
    return cast("PodSpec", {**pod, "affinity": {**affinity, "nodeAffinity": {**of_nodes, _REQUIRED: required}}})


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
