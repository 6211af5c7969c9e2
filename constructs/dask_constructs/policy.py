"""Rules of an organisation, checked by the API server itself (ValidatingAdmissionPolicy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict, Unpack

from constructs import Construct
from msgspec import Meta

from dask_crds.kinds import DASK_KINDS
from dask_crds.model import MAX_WORKERS

from .admission import Rule, constraints, embedded, images_from, rule, with_binding
from .manifest import cluster_scoped
from .resource import DaskConstruct
from .values import Text, Workers


def _workers_of(worker: str, autoscaler: str) -> str:
    """CEL for the greatest number of workers of a group: what its autoscaler may want, else what is stated."""
    maximum = f"{autoscaler}.?maximum.orValue({MAX_WORKERS})"
    return f"({autoscaler}.orValue(null) != null ? {maximum} : {worker}.?replicas.orValue(1))"


def workers_of_cluster(spec: str) -> str:
    """CEL for the greatest numbers of workers of the groups of a cluster with a ``spec``."""
    further = _workers_of("group", "group.?autoscaler")
    groups = f"{spec}.?workerGroups.orValue([]).map(group, {further})"
    return f"[{_workers_of(f'{spec}.worker', f'{spec}.?autoscaler')}] + {groups}"


#: CEL for the numbers of workers that a resource asks for, one for each group.
_WORKERS = {
    "DaskCluster": workers_of_cluster("object.spec"),
    "DaskWorkerGroup": "[object.spec.worker.?replicas.orValue(1)]",
    "DaskJob": workers_of_cluster("object.spec.cluster.spec"),
    "DaskAutoscaler": f"[object.spec.?maximum.orValue({MAX_WORKERS})]",
}
_SCALED = "[object.spec.?replicas.orValue(0)]"


class AdmissionPolicyProps(TypedDict, total=False):
    """Keyword arguments of ``DaskAdmissionPolicy``."""

    image_registries: Annotated[Sequence[Text], Meta(min_length=1)] | None
    """Beginnings of the images that are allowed, ``registry.example.com/data`` say (default: any). Each ends where a
    part of an image's name does: ``registry.example.com`` is not ``registry.example.com.evil.io``."""
    maximum_workers: Workers | None
    """Greatest number of workers of a group (default: any)."""
    namespace_labels: Mapping[Text, str] | None
    """Labels of the namespaces that the rules are for (default: all)."""
    name: Text | None
    """Beginning of the objects' names (default ``dask``)."""


class DaskAdmissionPolicy(DaskConstruct):
    """What Dask resources may ask for: images and numbers of workers.

    A policy and a binding for each kind, and for ``kubectl scale``, HPA and KEDA, which write the scale subresource.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[AdmissionPolicyProps]) -> None:
        """Declare it with the keyword arguments of ``AdmissionPolicyProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, AdmissionPolicyProps)
        registries, maximum_workers = options.get("image_registries", ()), options.get("maximum_workers")
        if not options.keys() & {"image_registries", "maximum_workers"} and not self._mistakes:
            self._mistakes.append("image_registries, maximum_workers: one is needed, else nothing is forbidden")
        self._name, self._namespace_labels = options.get("name", "dask"), options.get("namespace_labels", {})
        for kind, row in DASK_KINDS.items():
            specs = embedded(kind, "PodSpec")
            images = [images_from(registries)] if registries and specs else []
            self._policy(row.plural, images + _at_most(maximum_workers, _WORKERS.get(kind)), specs)
            if row.scale:
                self._policy(f"{row.plural}/scale", _at_most(maximum_workers, _SCALED))

    def _policy(self, resource: str, rules: Sequence[Rule], specs: str = "") -> None:
        if not rules:
            return
        operations = ["UPDATE"] if "/" in resource else ["CREATE", "UPDATE"]
        spec: dict[str, Any] = {
            "matchConstraints": constraints(resource, operations, self._namespace_labels),
            "validations": rules,
        }
        if specs:
            spec["variables"] = [{"name": "specs", "expression": specs}]
        name = f"{self._name}-{resource.replace('/', '-')}"
        for manifest in with_binding(name, spec):
            cluster_scoped(self, f"{manifest['kind']}-{name}", manifest)


def _at_most(maximum: int | None, workers: str | None) -> list[Rule]:
    if maximum is None or workers is None:
        return []
    too_many = f"string(({workers}).filter(number, number > {maximum})[0])"
    message = f"'at most {maximum} workers are allowed here, not ' + {too_many}"
    return [rule(f"({workers}).all(number, number <= {maximum})", message)]
