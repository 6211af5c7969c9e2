"""Workloads: what a cluster, a job or a worker asks a queue of Kueue for, and what the answer means to a Pod.

A Workload is made by whoever owns the Pods, and holds of their templates what counts against quota and decides which
nodes fit. https://kueue.sigs.k8s.io/docs/concepts/workload/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from dask_crds import names
from dask_crds.kinds import QUEUES
from dask_crds.kubernetes import PodSpec
from dask_crds.model import DaskCluster, DaskClusterSpec, DaskJob, DaskObject, DaskWorkerGroup
from dask_crds.names import Annotation, Label, QueueRole
from dask_crds.quantity import parse_quantity

from .metadata import owner_reference
from .revision import revision
from .worker_groups import StatedGroup, stated_groups

#: Names of PodSets beside those of groups, which have the group's name and so a dash.
SCHEDULER, RUNNER, WORKER = "scheduler", "runner", "worker"
#: Kueue's bound is 18 PodSets in a Workload; two are scheduler and runner.
MOST_GROUPS = 16
#: Fields of a PodSpec that decide how much quota it takes and on which nodes it may run.
_RELEVANT = (
    "affinity",
    "hostNetwork",
    "nodeSelector",
    "overhead",
    "resourceClaims",
    "resources",
    "runtimeClassName",
    "tolerations",
    "topologySpreadConstraints",
)
#: Fields with quantities.
_AMOUNTS = ("limits", "overhead", "requests")
_OF_CONTAINER = ("name", "image", "ports", "resources", "restartPolicy")


class Priority(Struct, frozen=True):
    """The priority of a Workload, and the WorkloadPriorityClass that says so, if one does."""

    value: int = 0
    class_name: str = ""


class PodSet(Struct, frozen=True):
    """Pods that are alike, as a Workload states them."""

    name: str
    count: int
    template: dict[str, Any]  #: PodSpec, as far as it matters to a queue

    @property
    def revision(self) -> str:
        """Hash of what quota is for: the same for another image or name, and for an amount that is written otherwise.

        Where it changes a cluster stops, with all that it holds.
        """
        return revision(_counted(self.template))


class Placement(Struct, frozen=True, kw_only=True):
    """The nodes that quota was granted for, and what admission checks have to say to a Pod."""

    node_selector: Mapping[str, str] = {}
    tolerations: tuple[Mapping[str, Any], ...] = ()
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}

    @property
    def written(self) -> str:
        """As it is kept in an annotation."""
        wanted = {
            "nodeSelector": dict(self.node_selector),
            "tolerations": list(self.tolerations),
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
        }
        return json.dumps({key: value for key, value in wanted.items() if value}, sort_keys=True)


def pod_set(name: str, count: int, spec: PodSpec | Mapping[str, Any]) -> PodSet:
    """Pods of a template."""
    template: dict[str, Any] = {key: spec[key] for key in _RELEVANT if spec.get(key)}  # type: ignore[literal-required]
    for field in ("initContainers", "containers"):
        containers: list[Mapping[str, Any]] = spec.get(field) or []  # type: ignore[assignment]
        if containers:
            template[field] = [_container(each, all_ports=bool(spec.get("hostNetwork"))) for each in containers]
    return PodSet(name, count, template)


def _container(given: Mapping[str, Any], *, all_ports: bool) -> dict[str, Any]:
    """What matters of a container; of its ports those that it takes of its node."""
    kept = {key: given[key] for key in _OF_CONTAINER if given.get(key)}
    ports = [port for port in kept.pop("ports", ()) if all_ports or port.get("hostPort")]
    return {**kept, "ports": ports} if ports else kept


def _counted(value: Any, within: str = "") -> Any:
    """A template without what quota does not depend on."""
    if isinstance(value, list):
        return [_counted(each, within) for each in value]
    if not isinstance(value, Mapping):
        return value
    if within in _AMOUNTS:
        return {key: _number(amount) for key, amount in value.items()}
    left_out = ("image", "name") if within in ("initContainers", "containers") else ()
    return {key: _counted(each, key) for key, each in value.items() if key not in left_out}


def _number(amount: Any) -> str:
    """A quantity as everybody else writes it as well: ``1`` for ``"1000m"``."""
    try:
        return f"{parse_quantity(amount).normalize():f}"
    except ValueError:  # it is refused elsewhere
        return str(amount)


def base_pod_sets(of: DaskCluster | DaskJob) -> list[PodSet]:
    """What runs together or not at all: scheduler, runner, and the guaranteed workers of each group."""
    spec = of.spec.cluster.spec if isinstance(of, DaskJob) else of.spec
    found = [pod_set(SCHEDULER, 1, spec.scheduler.spec)]
    minimum = 0
    if isinstance(of, DaskJob):
        found.append(pod_set(RUNNER, 1, of.spec.job.spec))
        minimum = of.spec.minimum_ready_workers or 0
    return [*found, *_guaranteed(of.name, spec, minimum)]


def _guaranteed(cluster: str, spec: DaskClusterSpec, minimum: int) -> Iterator[PodSet]:
    for group in stated_groups(spec):
        count = guaranteed(group, minimum if group.name == names.DEFAULT_GROUP else 0)
        if count:
            yield pod_set(names.worker_group(cluster, group.name), count, group.template.spec)


def guaranteed(group: StatedGroup, minimum: int = 0) -> int:
    """Workers of a group that are part of the base; ``minimum``: those that a job waits for."""
    stated = group.template.guaranteed
    if stated is not None:
        return stated
    return minimum or group.replicas


def base_workload(of: DaskCluster | DaskJob, queue: str, priority: Priority) -> dict[str, Any]:
    """Workload of a cluster, or of a run of a job, and so of the cluster that it makes.

    Args:
        of: whose it is.
        queue: name of the LocalQueue.
        priority: of the workload.
    """
    run_id = (of.spec.run_id or "") if isinstance(of, DaskJob) else ""
    name = names.base_workload(of.kind, of.name, of.uid, run_id)
    return _workload(of, name, of.name, QueueRole.BASE, queue, priority, base_pod_sets(of))


def surplus_workload(group: DaskWorkerGroup, number: int, queue: str, priority: Priority) -> dict[str, Any]:
    """Workload of one worker beyond the guaranteed ones.

    It belongs to the group: what belongs to a job or cluster is taken for the one Workload of it.
    """
    name = names.surplus_workload(group.name, number)
    cluster, sets = group.spec.cluster, [pod_set(WORKER, 1, group.spec.worker.spec)]
    return _workload(group, name, cluster, QueueRole.SURPLUS, queue, priority, sets)


def _workload(
    owner: DaskObject, name: str, cluster: str, role: str, queue: str, priority: Priority, sets: list[PodSet]
) -> dict[str, Any]:
    reference = {"group": QUEUES["Workload"].group, "kind": "WorkloadPriorityClass", "name": priority.class_name}
    return {
        "apiVersion": QUEUES["Workload"].api_version,
        "kind": "Workload",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": {Label.CLUSTER: cluster, Label.QUEUE_ROLE: role},
            "annotations": {Annotation.REVISION: revisions(sets)},
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": {
            "queueName": queue,
            "priority": priority.value,
            **({"priorityClassRef": reference} if priority.class_name else {}),
            "podSets": [{"name": s.name, "count": s.count, "template": {"spec": s.template}} for s in sets],
        },
    }


def revisions(sets: list[PodSet]) -> str:
    """The templates of a Workload, each by its hash, as an annotation notes them: the API server fills in defaults."""
    return json.dumps({s.name: s.revision for s in sets}, sort_keys=True)


def placed(spec: Mapping[str, Any], placement: Placement) -> dict[str, Any]:
    """A copy of a PodSpec that runs where its quota is."""
    selector = {**(spec.get("nodeSelector") or {}), **placement.node_selector}
    tolerations = list(spec.get("tolerations") or ())
    tolerations += [each for each in placement.tolerations if each not in tolerations]
    return {
        **spec,
        **({"nodeSelector": selector} if selector else {}),
        **({"tolerations": tolerations} if tolerations else {}),
    }


def placed_pod(manifest: Mapping[str, Any], placement: Placement, workload: str = "") -> dict[str, Any]:
    """A copy of a Pod, or of a Pod's template, that runs where its quota is; with ``workload``, it says whose that is.

    What it has already stays: a name that an admission check sets may not be one of ours.
    """
    metadata = dict(manifest.get("metadata") or {})
    noted = {Annotation.WORKLOAD: workload} if workload else {}
    for field, added in (("labels", placement.labels), ("annotations", {**placement.annotations, **noted})):
        if added:
            metadata[field] = {**added, **(metadata.get(field) or {})}
    return {**manifest, "metadata": metadata, "spec": placed(manifest["spec"], placement)}
