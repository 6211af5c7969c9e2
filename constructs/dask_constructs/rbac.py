"""What the operator and the people who use it may do, as tables: one line per permission, with its reason.

A test on a real API server compares the operator's table with the requests that it makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from dask_crds import names

#: API group of Roles and of their bindings.
RBAC_GROUP = "rbac.authorization.k8s.io"


class Permission(NamedTuple):
    """Verbs on the resources of one API group."""

    group: str
    resources: str
    verbs: str
    reason: str


_OWN = names.GROUP
_READ = "get list watch"
_WRITE = "list watch create patch"  # what is missing is created, what differs is patched by server-side apply

#: What the operator needs wherever it looks after Dask resources.
OPERATOR = (
    Permission(_OWN, "daskclusters", f"get {_WRITE} delete", "clusters of jobs come and go; idle clusters are deleted"),
    Permission(_OWN, "daskworkergroups", f"get {_WRITE}", "every cluster has a default group"),
    Permission(_OWN, "daskjobs", _READ, "they are carried out, never written"),
    Permission(_OWN, "daskautoscalers", f"{_READ} patch", "each is given its cluster as owner, to go with it"),
    Permission(
        _OWN,
        "daskclusters/status daskworkergroups/status daskjobs/status daskautoscalers/status",
        "patch",
        "what has been observed is reported by server-side apply",
    ),
    Permission(
        "", "pods", "list watch create patch delete", "workers are Pods of the group, so that it chooses which one goes"
    ),
    Permission("", "services configmaps", _WRITE, "the scheduler's address, and the module that it loads"),
    Permission("", "events", "create", "tells in `kubectl describe` what was done and what went wrong"),
    Permission("", "events", "list", "why Kubernetes makes no Pod of a Job is told by an event alone"),
    Permission("apps", "deployments", _WRITE, "the scheduler runs in a Deployment"),
    Permission("apps", "replicasets", "list watch", "a scheduler's Pod is known by the ReplicaSet of its Deployment"),
    Permission("policy", "poddisruptionbudgets", f"{_WRITE} delete", "evictions must not take the scheduler away"),
    Permission("batch", "jobs", f"{_WRITE} delete", "a DaskJob's program runs in a Job"),
)

#: What it needs in its own namespace.
LEADER_ELECTION = (
    Permission("coordination.k8s.io", "leases", "get create patch", "one replica acts, the others wait for its Lease"),
)

_KINDS = "daskclusters daskworkergroups daskjobs daskautoscalers"
_SCALES = "daskclusters/scale daskworkergroups/scale"

#: Added to the ClusterRole ``view``.
VIEW = (
    Permission(_OWN, _KINDS, _READ, "see them"),
    Permission(
        _OWN,
        "daskclusters/status daskworkergroups/status daskjobs/status daskautoscalers/status",
        "get",
        "see their status, as for the built-in kinds",
    ),
    Permission(_OWN, _SCALES, "get", "see how many workers are wanted"),
)

#: Added to the ClusterRoles ``edit`` and ``admin``. Who may edit may run Pods in the namespace already, so this gives
#: no more power than they have.
EDIT = (
    Permission(_OWN, _KINDS, "create update patch delete deletecollection", "own them"),
    Permission(_OWN, _SCALES, "update patch", "`kubectl scale`, HPA and KEDA go through the subresource"),
)


def rules(permissions: Iterable[Permission]) -> list[dict[str, Any]]:
    """The permissions as ``rules`` of a Role or ClusterRole."""
    return [
        {
            "apiGroups": [permission.group],
            "resources": permission.resources.split(),
            "verbs": permission.verbs.split(),
        }
        for permission in permissions
    ]
