"""What the operator's identity may do with the rights that it has, so that nobody who takes it over has the cluster."""

from __future__ import annotations

from typing import Any

from dask_crds import names
from dask_crds.kinds import DASK_KINDS, QUEUES, RESOURCES
from dask_crds.names import Component, Label

from .admission import with_binding

#: Children that the operator makes. RBAC cannot tell those from what others have of these kinds.
_CHILDREN = ("Pod", "Service", "ConfigMap", "Secret", "Deployment", "PodDisruptionBudget", "Job")

_OWNED = (
    "[object, oldObject].filter(o, o != null).all(o, o.metadata.?ownerReferences.orValue([]).exists(r,"
    f" r.?controller.orValue(false) && r.apiVersion.startsWith('{names.GROUP}/')))"
)
#: A scheduler's Pod belongs to the ReplicaSet of its Deployment. Its labels and annotations are brought up to date.
_RELABELLED = (
    "request.resource.resource == 'pods' && request.operation == 'UPDATE' && object.spec == oldObject.spec"
    f" && oldObject.metadata.?labels[?'{Label.COMPONENT}'].orValue('') == '{Component.SCHEDULER}'"
)
#: With another type Kubernetes would put a ServiceAccount's token into it.
_PLAIN = "request.resource.resource != 'secrets' || object == null || object.?type.orValue('Opaque') == 'Opaque'"
_ELSEWHERE = (
    "!request.namespace.startsWith('kube-')"
    f" && namespaceObject.metadata.?labels[?'{Label.MANAGED}'].orValue('') != 'false'"
)


def confinement(service_account: str, namespace: str, name: str) -> list[dict[str, Any]]:
    """A policy, and its binding, for a ServiceAccount that the operator runs as.

    It may create, change and delete children of Dask resources and nothing else; and Dask resources, but in no
    namespace of Kubernetes itself, nor in one with the label ``dask.org/managed: "false"``. Its own key it may make.
    """
    own_key = (
        f"request.resource.resource == 'secrets' && request.namespace == '{namespace}'"
        f" && object != null && object.metadata.?name.orValue('') == '{names.MASTER_SECRET}'"
        " && object.?type.orValue('Opaque') == 'Opaque'"
    )
    user = f"system:serviceaccount:{namespace}:{service_account}"
    spec: dict[str, Any] = {
        "matchConstraints": {"resourceRules": [_writes(*_CHILDREN), _writes("Workload"), _writes(*DASK_KINDS)]},
        "matchConditions": [
            {"name": "operator", "expression": f"request.userInfo.username == '{user}'"},
            {"name": "not-its-own-key", "expression": f"!({own_key})"},
        ],
        "validations": [
            {
                "expression": _ELSEWHERE,
                "messageExpression": "'the operator has nothing to do in namespace ' + request.namespace",
                "reason": "Forbidden",
            },
            {
                "expression": f"request.resource.group == '{names.GROUP}' || ({_OWNED}) || ({_RELABELLED})",
                "message": "the operator may change what belongs to a Dask resource, and this does not",
                "reason": "Forbidden",
            },
            {
                "expression": _PLAIN,
                "message": "the operator may make Secrets of type Opaque, and no others",
                "reason": "Forbidden",
            },
        ],
    }
    return with_binding(name, spec)


def _writes(*kinds: str) -> dict[str, Any]:
    rows = [(RESOURCES | QUEUES)[kind] for kind in kinds]
    return {
        "apiGroups": sorted({row.group for row in rows}),
        "apiVersions": sorted({row.version for row in rows}),
        "operations": ["CREATE", "UPDATE", "DELETE"],
        "resources": [row.plural for row in rows],
    }
