"""What cluster-autoscaler decides about a Pod on a node that it would like to remove.

Its rules as they stand in 1.36.1, ``simulator/drainability/rules/rules.go`` and the folders beside it, in their order
and with the flags at their defaults. Its module cannot be had through the proxy, so they are told again here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Manifest = Mapping[str, Any]
#: The Pod, and the PodDisruptionBudgets that select it; the verdict, or ``""`` where the rule has none.
Rule = Callable[[Manifest, Sequence[Manifest]], str]

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
SAFE_VOLUMES = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
_REPLICATED = {"ReplicationController", "Job", "ReplicaSet", "StatefulSet"}


def _annotation(pod: Manifest, key: str) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(key, ""))


def _controller(pod: Manifest) -> str:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((owner["kind"] for owner in owners if owner.get("controller")), "")


def _has_local_storage(pod: Manifest) -> bool:
    safe = _annotation(pod, SAFE_VOLUMES).split(",")
    volumes = (volume for volume in pod["spec"].get("volumes") or () if volume["name"] not in safe)
    return any(
        "hostPath" in volume or ("emptyDir" in volume and volume["emptyDir"].get("medium") != "Memory")
        for volume in volumes
    )


def _is_daemon(pod: Manifest) -> bool:
    return (
        _controller(pod) == "DaemonSet"
        or _annotation(pod, f"{SAFE_TO_EVICT.partition('/')[0]}/daemonset-pod") == "true"
    )


def _says(value: str, verdict: str) -> Rule:
    return lambda pod, _: verdict if _annotation(pod, SAFE_TO_EVICT) == value else ""


RULES: Mapping[str, Rule] = {
    "Mirror": lambda pod, _: "skip" if _annotation(pod, "kubernetes.io/config.mirror") else "",
    "LongTerminating": lambda pod, _: "",  # of Pods that outlive their grace period by 30 s
    "ReplicaCount": lambda pod, _: "",  # --min-replica-count is 0, and controllers that own Pods are there
    "DaemonSet": lambda pod, _: "drainable" if _is_daemon(pod) else "",
    "SafeToEvict": _says("true", "drainable"),
    "Terminal": lambda pod, _: "",  # of Pods that have ended
    "OnCompletion": _says("on-completion", "wait"),
    "Replicated": lambda pod, _: "" if _controller(pod) in _REPLICATED else "blocked: NotReplicated",
    "System": lambda pod, budgets: (
        "blocked: UnmovableKubeSystemPod" if pod["metadata"]["namespace"] == "kube-system" and not budgets else ""
    ),
    "NotSafeToEvict": _says("false", "blocked: NotSafeToEvictAnnotation"),
    "LocalStorage": lambda pod, _: "blocked: LocalStorageRequested" if _has_local_storage(pod) else "",
    "PDB": lambda pod, budgets: (
        "blocked: NotEnoughPdb" if any(budget["status"]["disruptionsAllowed"] < 1 for budget in budgets) else ""
    ),
}


def verdicts(pod: Manifest, budgets: Sequence[Manifest]) -> dict[str, str]:
    """What each rule that has a verdict says of a Pod, in their order; the first one counts, and none is drainable."""
    return {name: verdict for name, rule in RULES.items() if (verdict := rule(pod, budgets))}
