"""What each command asks of the API server, one line per right, with its reason.

``docs/kubectl-dask.md`` is made of it, and a test gives a user exactly these.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dask_crds.kinds import DASK_KINDS, RESOURCES, ApiResource

#: Kinds that are read and that the operator does not deal with.
OTHERS = {
    "ResourceQuota": ApiResource("", "v1", "resourcequotas", "ResourceQuota"),
    "Workload": ApiResource("kueue.x-k8s.io", "v1beta2", "workloads", "Workload"),
    "OlderWorkload": ApiResource("kueue.x-k8s.io", "v1beta1", "workloads", "Workload"),
    "PodMetrics": ApiResource("metrics.k8s.io", "v1beta1", "pods", "PodMetrics"),
}
ROWS = {**RESOURCES, **OTHERS}


class Right(NamedTuple):
    """Verbs on kinds, or on a subresource of them (``Pod/log``)."""

    verbs: str
    kinds: str
    reason: str
    optional: bool = False  #: whether the command does the rest without it, and says what it could not see

    @property
    def rules(self) -> list[dict[str, Any]]:
        """As rules of a Role, one for each verb and resource."""
        return [
            {"apiGroups": [group_of(kind)], "resources": [resource(kind)], "verbs": [verb]}
            for kind in self.kinds.split()
            for verb in self.verbs.split()
        ]


def _row(kind: str) -> ApiResource:
    return ROWS[kind.partition("/")[0]]


def group_of(kind: str) -> str:
    """The API group of a kind, or of that of a subresource; empty for Kubernetes' core."""
    return _row(kind).group


def resource(kind: str) -> str:
    """The name by which a Role knows a kind, or a subresource of it."""
    _, slash, subresource = kind.partition("/")
    return f"{_row(kind).plural}{slash}{subresource}"


_KINDS = " ".join(DASK_KINDS)
_SHOWN = (Right("list", _KINDS, "what there is"), Right("list", "Pod", "how its Pods do"))
_PORT = (
    Right("get", "DaskCluster", "where it is"),
    Right("get", "Service", "which port leads to the scheduler"),
    Right("list", "Pod", "which Pod it is"),
    Right("get create", "Pod/portforward", "the connection; which of both is asked for depends on the API server"),
)
_STATE = (
    Right("get", "DaskJob DaskCluster", "which of them has the name"),
    Right("patch", "DaskJob DaskCluster", "sets `spec.suspend`"),
)

#: By command.
RIGHTS: dict[str, tuple[Right, ...]] = {
    "status": _SHOWN,
    "why": (
        *_SHOWN,
        Right("list", "Event", "why a Pod waits on its node, and whether a node is coming", optional=True),
        Right("list", "ResourceQuota", "what a quota has left", optional=True),
        Right("list", "Workload", "what Kueue says, where it is installed", optional=True),
    ),
    "logs": (*_SHOWN, Right("get", "Pod/log", "their logs")),
    "dashboard": _PORT,
    "connect": (*_PORT, Right("get", "Secret", "the certificates, with `--tls` alone", optional=True)),
    "scale": (
        Right("get", "DaskCluster DaskWorkerGroup", "which of them has the name, and who sets its size"),
        Right("patch", "DaskCluster/scale DaskWorkerGroup/scale", "sets the number, of a cluster or of a group"),
    ),
    "suspend": _STATE,
    "resume": _STATE,
    "restart": (
        Right("get", "DaskCluster DaskWorkerGroup", "which of them has the name"),
        Right("patch", "DaskCluster DaskWorkerGroup", "writes the annotation, of a cluster or of a group"),
    ),
    "rerun": (
        Right("get", "DaskJob", "which run it is at"),
        Right("patch", "DaskJob", "sets `spec.runId`"),
    ),
    "top": (
        *_SHOWN,
        Right("list", "PodMetrics", "CPU and memory in use, where metrics-server is installed", optional=True),
    ),
}
