"""Queues of Kueue, the platform's side: whose quota it is, and which nodes it is for.

https://kueue.sigs.k8s.io/docs/concepts/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Required, TypedDict, Unpack

from cdk8s import ApiObject
from constructs import Construct

from dask_crds.kinds import KUEUE_GROUP, KUEUE_VERSION
from dask_crds.kubernetes.core_v1 import Toleration
from dask_crds.validation.syntax import any_name, labels_and_annotations

from .manifest import api_object, cluster_scoped
from .resource import DaskConstruct
from .values import Amount, Name, Named, Namespace, Text, reference

_API_VERSION = f"{KUEUE_GROUP}/{KUEUE_VERSION}"
#: The LocalQueue that Kueue puts every Job and Pod of a namespace into that names none, ours as well.
_CAPTURES = "default"
_LONGEST_LABEL = 63
#: Labels and tolerations of a ResourceFlavor, each, by Kueue's schema.
_MOST_OF_NODES = 8


def local_queue(scope: Construct, id: str, name: str, namespace: str | None, cluster_queue: str) -> ApiObject:
    """The LocalQueue by which a namespace reaches a ClusterQueue."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    spec = {"clusterQueue": cluster_queue}
    return api_object(scope, id, {"apiVersion": _API_VERSION, "kind": "LocalQueue", "metadata": metadata, "spec": spec})


def local_queue_problems(name: str) -> Iterator[str]:
    """What keeps clusters and jobs from using a LocalQueue of that name."""
    yield from (message for _, message in any_name("", name))
    if name == _CAPTURES:
        yield (
            f"{_CAPTURES!r} makes Kueue queue each Pod and Job of the namespace by itself, those of Dask clusters "
            "too: choose another name"
        )
    if len(name) > _LONGEST_LABEL:
        yield f"must have at most {_LONGEST_LABEL} characters, has {len(name)}: it is named by a label"


class ResourceFlavorProps(TypedDict, total=False):
    """Keyword arguments of ``ResourceFlavor``."""

    name: Required[Name]
    """Name of the flavor."""
    node_labels: Mapping[Text, str] | None
    """Labels of the nodes that quota of this flavor is for: Pods that get it run there."""
    tolerations: Sequence[Toleration] | None
    """Taints of those nodes, as in a PodSpec: Pods that get quota of this flavor tolerate them."""


class ClusterQueueProps(TypedDict, total=False):
    """Keyword arguments of ``ClusterQueue``."""

    name: Required[Name]
    """Name of the queue."""
    quota: Required[Mapping[Name, Mapping[Text, Amount]]]
    """How much there is, by flavor and resource: ``{"spot": {"cpu": 64, "memory": "256Gi"}}``. Flavors are tried in
    this order, and all have the same resources."""
    cohort: Name | None
    """Queues of the same cohort lend one another what they do not use."""
    preemption: Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"] | None
    """Whose quota in this queue is taken back for who waits (default ``LowerPriority``: so workers beyond the
    guaranteed ones give way)."""
    reclaim: Literal["Never", "LowerPriority", "Any"] | None
    """Whose quota is taken back that has borrowed it from this queue (default ``Never``)."""


class LocalQueueProps(TypedDict, total=False):
    """Keyword arguments of ``LocalQueue``."""

    name: Required[Text]
    """Name of the queue; ``default`` would take in every Pod and Job of its namespace that names no queue."""
    cluster_queue: Required[Annotated[str | Named, reference("ClusterQueue")]]
    """The ClusterQueue whose quota it gives access to, or its name."""
    namespace: Namespace | None
    """Namespace that may use it (default: that of the chart)."""


class ResourceFlavor(DaskConstruct):
    """Nodes that quota is for, as Kueue knows them."""

    def __init__(self, scope: Construct, id: str, **props: Unpack[ResourceFlavorProps]) -> None:
        """Declare it with the keyword arguments of ``ResourceFlavorProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, ResourceFlavorProps)
        self.name: str = options.get("name", "refused")
        stated = {"nodeLabels": options.get("node_labels"), "tolerations": options.get("tolerations")}
        self._spec = spec = {field: value for field, value in stated.items() if value}
        cluster_scoped(self, "Resource", _manifest("ResourceFlavor", self.name, spec))

    def _problems(self) -> Iterator[str]:
        for path, message in labels_and_annotations("", self._spec.get("nodeLabels"), None):
            yield f"{path.replace('.labels', 'node_labels')}: {message}"
        for field, keyword in (("nodeLabels", "node_labels"), ("tolerations", "tolerations")):
            if (has := len(self._spec.get(field, ()))) > _MOST_OF_NODES:
                yield f"{keyword}: at most {_MOST_OF_NODES} are possible, not {has}"


class ClusterQueue(DaskConstruct):
    """Quota that namespaces share, and who gives way in it.

    >>> ClusterQueue(chart, "queue", name="research", quota={"on-demand": {"cpu": 64, "memory": "256Gi"}})
    """

    kind = "ClusterQueue"

    def __init__(self, scope: Construct, id: str, **props: Unpack[ClusterQueueProps]) -> None:
        """Declare it with the keyword arguments of ``ClusterQueueProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, ClusterQueueProps)
        self.name: str = options.get("name", "refused")
        self._quota: Mapping[str, Mapping[str, str | int]] = options.get("quota", {})
        covered = list(next(iter(self._quota.values()), {}))
        flavors = [
            {"name": flavor, "resources": [{"name": r, "nominalQuota": amount} for r, amount in amounts.items()]}
            for flavor, amounts in self._quota.items()
        ]
        spec: dict[str, Any] = {
            "namespaceSelector": {},  # who has a LocalQueue of it
            "resourceGroups": [{"coveredResources": covered, "flavors": flavors}],
            "preemption": {
                "withinClusterQueue": options.get("preemption", "LowerPriority"),
                "reclaimWithinCohort": options.get("reclaim", "Never"),
            },
            **({"cohortName": options["cohort"]} if "cohort" in options else {}),
        }
        cluster_scoped(self, "Resource", _manifest("ClusterQueue", self.name, spec))

    def _problems(self) -> Iterator[str]:
        covered = [list(amounts) for amounts in self._quota.values()]
        if not all(covered or [[]]):
            yield "quota: must have a flavor, and each flavor a resource: of what is not named here nothing is granted"
        if any(resources != covered[0] for resources in covered):
            yield "quota: all flavors must have the same resources, in the same order"


class LocalQueue(DaskConstruct):
    """The way of a namespace to the quota of a ClusterQueue."""

    kind = "LocalQueue"

    def __init__(self, scope: Construct, id: str, **props: Unpack[LocalQueueProps]) -> None:
        """Declare it with the keyword arguments of ``LocalQueueProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, LocalQueueProps)
        self.name: str = options.get("name", "refused")
        self._cluster_queue: str = options.get("cluster_queue", "refused")
        local_queue(self, "Resource", self.name, options.get("namespace"), self._cluster_queue)

    def _problems(self) -> Iterator[str]:
        yield from (f"name: {problem}" for problem in local_queue_problems(self.name))
        yield from (f"cluster_queue: {message}" for _, message in any_name("", self._cluster_queue))


def _manifest(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": _API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
