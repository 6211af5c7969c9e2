"""Roles, and who has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from constructs import Construct

from .manifest import api_object, cluster_scoped
from .rbac import RBAC_GROUP, Other, Path, Permission, rules
from .source import sync_wave

#: Before whoever needs them starts.
WAVE = -5


def cluster_role(
    scope: Construct,
    id: str,
    name: str,
    permissions: Iterable[Permission | Other | Path],
    labels: Mapping[str, str],
    subject: Mapping[str, str] | None = None,
) -> None:
    """A ClusterRole, and its binding if somebody has it."""
    metadata = {"name": name, "labels": labels, "annotations": sync_wave(WAVE)}
    api = {"apiVersion": f"{RBAC_GROUP}/v1", "metadata": metadata}
    cluster_scoped(scope, id, {**api, "kind": "ClusterRole", "rules": rules(permissions)})
    if subject is not None:
        reference = {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": name}
        binding = {"kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [dict(subject)]}
        cluster_scoped(scope, f"{id}-binding", {**api, **binding})


def role(
    scope: Construct,
    id: str,
    name: str,
    namespace: str,
    permissions: Iterable[Permission | Other | Path],
    labels: Mapping[str, str],
    subject: Mapping[str, str],
) -> None:
    """A Role and its binding."""
    metadata = {"name": name, "namespace": namespace, "labels": labels, "annotations": sync_wave(WAVE)}
    api = {"apiVersion": f"{RBAC_GROUP}/v1", "metadata": metadata}
    api_object(scope, id, {**api, "kind": "Role", "rules": rules(permissions)})
    reference = {"apiGroup": RBAC_GROUP, "kind": "Role", "name": name}
    binding = {"kind": "RoleBinding", "roleRef": reference, "subjects": [dict(subject)]}
    api_object(scope, f"{id}-binding", {**api, **binding})
