"""Rules of an organisation, checked by the API server itself (ValidatingAdmissionPolicy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict, Unpack

from cdk8s import ApiObject
from constructs import Construct
from msgspec import Meta

from dask_crds import names
from dask_crds.kinds import DASK_KINDS
from dask_crds.model import MAX_WORKERS
from dask_crds.schema import embedded_types

from .manifest import cluster_scoped
from .resource import DaskConstruct
from .values import Text, Workers


def _workers_of(worker: str, autoscaler: str) -> str:
    """CEL for the greatest number of workers of a group: what its autoscaler may want, else what is stated."""
    maximum = f"{autoscaler}.?maximum.orValue({MAX_WORKERS})"
    return f"({autoscaler}.orValue(null) != null ? {maximum} : {worker}.?replicas.orValue(1))"


def _workers_of_cluster(spec: str) -> str:
    further = _workers_of("group", "group.?autoscaler")
    groups = f"{spec}.?workerGroups.orValue([]).map(group, {further})"
    return f"[{_workers_of(f'{spec}.worker', f'{spec}.?autoscaler')}] + {groups}"


#: CEL for the numbers of workers that a resource asks for, one for each group.
_WORKERS = {
    "DaskCluster": _workers_of_cluster("object.spec"),
    "DaskWorkerGroup": "[object.spec.worker.?replicas.orValue(1)]",
    "DaskJob": _workers_of_cluster("object.spec.cluster.spec"),
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

    Args:
        props: see ``AdmissionPolicyProps``.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[AdmissionPolicyProps]) -> None:
        super().__init__(scope, id)
        options = self._accepted(props, AdmissionPolicyProps)
        image_registries = [f"{registry.rstrip('/')}/" for registry in options.get("image_registries", ())]
        maximum_workers = options.get("maximum_workers")
        if not options.keys() & {"image_registries", "maximum_workers"} and not self._mistakes:
            self._mistakes.append("image_registries, maximum_workers: one is needed, else nothing is forbidden")
        self._name, self._namespace_labels = options.get("name", "dask"), options.get("namespace_labels", {})
        for kind, row in DASK_KINDS.items():
            specs = [f"object.{field}" for field, type in embedded_types(kind).items() if type == "core/v1/PodSpec"]
            images = [_images(image_registries)] if image_registries and specs else []
            self._policy(row.plural, images + _at_most(maximum_workers, _WORKERS.get(kind)), specs)
            if row.scale:
                self._policy(f"{row.plural}/scale", _at_most(maximum_workers, _SCALED))

    def _policy(self, resource: str, rules: Sequence[Mapping[str, str]], specs: Sequence[str] = ()) -> None:
        if not rules:
            return
        constraints: dict[str, Any] = {
            "resourceRules": [
                {
                    "apiGroups": [names.GROUP],
                    "apiVersions": [names.VERSION],
                    "operations": ["UPDATE"] if "/" in resource else ["CREATE", "UPDATE"],
                    "resources": [resource],
                }
            ]
        }
        if self._namespace_labels:
            constraints["namespaceSelector"] = {"matchLabels": self._namespace_labels}
        spec: dict[str, Any] = {"failurePolicy": "Fail", "matchConstraints": constraints, "validations": rules}
        if specs:
            spec["variables"] = [{"name": "images", "expression": _all_images(specs)}]
        name = f"{self._name}-{resource.replace('/', '-')}"
        self._object(name, "ValidatingAdmissionPolicy", spec)
        self._object(name, "ValidatingAdmissionPolicyBinding", {"policyName": name, "validationActions": ["Deny"]})

    def _object(self, name: str, kind: str, spec: Mapping[str, Any]) -> ApiObject:
        manifest = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        return cluster_scoped(self, f"{kind}-{name}", manifest)


def _all_images(specs: Sequence[str]) -> str:
    """CEL for the images of some PodSpecs, a list for each; a path like ``a.b[].c`` leads into a list."""
    single = ", ".join(_images_of(spec) for spec in specs if "[]" not in spec)
    lists = [f"[{single}]"]
    for path, _, field in (spec.partition("[].") for spec in specs if "[]" in spec):
        parent, _, members = path.rpartition(".")
        lists.append(f"{parent}.?{members}.orValue([]).map(member, {_images_of(f'member.{field}')})")
    return " + ".join(lists)


def _images_of(spec: str) -> str:
    images = "map(c, c.?image.orValue(''))"
    volumes = f"{spec}.?volumes.orValue([]).filter(v, v.?image.hasValue()).map(v, v.image.?reference.orValue(''))"
    return f"{spec}.containers.{images} + {spec}.?initContainers.orValue([]).{images} + {volumes}"


def _images(registries: list[str]) -> dict[str, str]:
    allowed = " || ".join(f"image.startsWith({_quoted(registry)})" for registry in registries)
    return {
        "expression": f"variables.images.all(pod, pod.all(image, {allowed}))",
        "messageExpression": "'these images are not allowed here: ' + "
        f"variables.images.map(pod, pod.exists(image, !({allowed})), pod.filter(image, !({allowed})).join(', '))"
        f".join(', ') + {_quoted('; allowed: ' + ', '.join(registries))}",
        "reason": "Forbidden",
    }


def _at_most(maximum: int | None, workers: str | None) -> list[dict[str, str]]:
    if maximum is None or workers is None:
        return []
    return [
        {
            "expression": f"({workers}).all(number, number <= {maximum})",
            "messageExpression": f"'at most {maximum} workers are allowed here, not ' + "
            f"string(({workers}).filter(number, number > {maximum})[0])",
            "reason": "Forbidden",
        }
    ]


def _quoted(text: str) -> str:
    """A CEL string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
