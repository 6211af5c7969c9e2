"""What Pod security at the level ``restricted`` asks for."""

from __future__ import annotations

#: Not root, and not the uid of any process on a node.
_UID = 65532
#: Labels of a namespace that enforces it; what it asks of Pods, and of their containers.
RESTRICTED_NAMESPACE = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": _UID,
    "runAsGroup": _UID,
    "fsGroup": _UID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
