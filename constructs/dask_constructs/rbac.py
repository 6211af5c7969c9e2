"""What the operator and the people who use it may do, as tables: one line per permission, with its reason.

A test on a real API server compares the operator's table with the requests that it makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from dask_crds.kinds import DASK_KINDS, RESOURCES
from dask_crds.names import MASTER_SECRET

#: API group of Roles and of their bindings.
RBAC_GROUP = "rbac.authorization.k8s.io"
#: That of cert-manager.
CERT_MANAGER_GROUP = "cert-manager.io"


class Permission(NamedTuple):
    """Verbs on kinds of one API group, or on subresources of theirs (``DaskCluster/scale``)."""

    kinds: str
    verbs: str
    reason: str
    names: tuple[str, ...] = ()  #: of the only objects that it is about; empty for all


_READ = "get list watch"
_WRITE = "list watch create patch"  # what is missing is created, what differs is patched by server-side apply
_KINDS = " ".join(DASK_KINDS)
_STATUSES = " ".join(f"{kind}/status" for kind in DASK_KINDS)
_SCALES = " ".join(f"{kind}/scale" for kind, row in DASK_KINDS.items() if row.scale)

#: What the operator needs wherever it looks after Dask resources.
OPERATOR = (
    Permission("DaskCluster", f"get {_WRITE} delete", "clusters of jobs come and go; idle clusters are deleted"),
    Permission("DaskWorkerGroup", f"get {_WRITE} delete", "every cluster has a default group, some have more"),
    Permission("DaskJob", _READ, "they are carried out, never written"),
    Permission("DaskAutoscaler", f"get {_WRITE} delete", "of groups that follow the load; each goes with its cluster"),
    Permission(_STATUSES, "patch", "what has been observed is reported by server-side apply"),
    Permission(
        "Pod", "list watch create patch delete", "workers are Pods of the group, so that it chooses which one goes"
    ),
    Permission("Service ConfigMap", _WRITE, "the scheduler's address, and the module that it loads"),
    Permission("Secret", "create", "the key by which a cluster knows its operator, and certificates; it can read none"),
    Permission("Secret", "delete", "a certificate is renewed by another Secret: to change one is to read it"),
    Permission("Event", "create", "tells in `kubectl describe` what was done and what went wrong"),
    Permission("Event", "list", "why Kubernetes makes no Pod of a Job is told by an event alone"),
    Permission("Deployment", _WRITE, "the scheduler runs in a Deployment"),
    Permission("ReplicaSet", "list watch", "a scheduler's Pod is known by the ReplicaSet of its Deployment"),
    Permission("PodDisruptionBudget", f"{_WRITE} delete", "evictions must not take the scheduler away"),
    Permission("Job", f"{_WRITE} delete", "a DaskJob's program runs in a Job"),
)

#: What it needs in its own namespace, by role.
MASTER_KEY = (
    Permission("Secret", "create", "its own key, from which those of clusters are derived, is made at the first start"),
    Permission("Secret", "get", "the same, by every replica and again when it is renewed", (MASTER_SECRET,)),
)
LEADER_ELECTION = (Permission("Lease", "get create patch", "one replica acts, the others wait for its Lease"),)

#: What the Pods of a DaskCronJob need.
JOB_STARTER = (Permission("DaskJob", "create get", "each time is a DaskJob, whose end they wait for"),)

#: Added to the ClusterRole ``view``.
VIEW = (
    Permission(_KINDS, _READ, "see them"),
    Permission(_STATUSES, "get", "see their status, as for the built-in kinds"),
    Permission(_SCALES, "get", "see how many workers are wanted"),
)

#: Added to the ClusterRoles ``edit`` and ``admin``. Who may edit may run Pods in the namespace already, so this gives
#: no more power than they have.
EDIT = (
    Permission(_KINDS, "create update patch delete deletecollection", "own them"),
    Permission(_SCALES, "update patch", "`kubectl scale`, HPA and KEDA go through the subresource"),
)


def rules(permissions: Iterable[Permission]) -> list[dict[str, Any]]:
    """The permissions as ``rules`` of a Role or ClusterRole."""
    return [_rule(permission) for permission in permissions]


def _rule(permission: Permission) -> dict[str, Any]:
    parts = [kind.partition("/") for kind in permission.kinds.split()]
    (group,) = {RESOURCES[kind].group for kind, _, _ in parts}
    return {
        "apiGroups": [group],
        "resources": [f"{RESOURCES[kind].plural}{slash}{subresource}" for kind, slash, subresource in parts],
        "verbs": permission.verbs.split(),
        **({"resourceNames": list(permission.names)} if permission.names else {}),
    }


_EVERY = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_READING = _READ.split()
#: What a team has in its namespace, see ``DaskTenant``: Dask, what programs need, and what people look at. Of the role
#: ``edit`` it lacks what isolates the namespace or opens it: NetworkPolicies, Ingresses, endpoints, ServiceAccounts.
TENANT_RULES: list[dict[str, Any]] = [
    *rules(VIEW),
    *rules(EDIT),
    {
        "apiGroups": [""],
        "resources": ["configmaps", "persistentvolumeclaims", "pods", "secrets", "services"],
        "verbs": _EVERY,
    },
    {"apiGroups": [""], "resources": ["pods/attach", "pods/exec", "pods/portforward"], "verbs": ["create", "get"]},
    {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
    {
        "apiGroups": [""],
        "resources": ["events", "limitranges", "pods/log", "pods/status", "resourcequotas", "serviceaccounts"],
        "verbs": _READING,
    },
    {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": _EVERY},
    {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": _EVERY},
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": _READING},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": _READING},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": _READING},
    {"apiGroups": [CERT_MANAGER_GROUP], "resources": ["certificates", "issuers"], "verbs": _EVERY},
]
