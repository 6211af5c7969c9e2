"""Rules of an organisation, checked by the API server itself (ValidatingAdmissionPolicy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdk8s import ApiObject
from constructs import Construct

from dask_crds import names
from dask_crds.kinds import DASK_KINDS
from dask_crds.model import MAX_WORKERS
from dask_crds.schema import embedded_types

from .manifest import cluster_scoped

#: CEL for the number of workers that a resource asks for.
_WORKERS = {
    "DaskCluster": "object.spec.worker.?replicas.orValue(1)",
    "DaskWorkerGroup": "object.spec.worker.?replicas.orValue(1)",
    "DaskJob": "object.spec.cluster.spec.worker.?replicas.orValue(1)",
    "DaskAutoscaler": f"object.spec.?maximum.orValue({MAX_WORKERS})",
}
_SCALED = "object.spec.?replicas.orValue(0)"


class DaskAdmissionPolicy(Construct):
    """What Dask resources may ask for: images and numbers of workers.

    A policy and a binding for each kind, and for ``kubectl scale``, HPA and KEDA, which write the scale subresource.

    Args:
        image_registries: beginnings of the images that are allowed, ``registry.example.com/data/`` say; empty for any.
        maximum_workers: greatest number of workers of a group; ``None`` for any.
        namespace_labels: labels of the namespaces that the rules are for; empty for all.
        name: beginning of the objects' names.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        image_registries: Sequence[str] = (),
        maximum_workers: int | None = None,
        namespace_labels: Mapping[str, str] | None = None,
        name: str = "dask",
    ) -> None:
        super().__init__(scope, id)
        if isinstance(image_registries, str):
            raise TypeError(f"image_registries is a list of texts, not {image_registries!r}")
        if not image_registries and maximum_workers is None:
            raise ValueError("a policy needs image_registries or maximum_workers, else it forbids nothing")
        self._name, self._namespace_labels = name, dict(namespace_labels or {})
        for kind, row in DASK_KINDS.items():
            specs = [f"object.{field}" for field, type in embedded_types(kind).items() if type == "core/v1/PodSpec"]
            images = [_images(list(image_registries))] if image_registries and specs else []
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
    """CEL for all images of some PodSpecs."""
    lists = [
        containers for spec in specs for containers in (f"{spec}.containers", f"{spec}.?initContainers.orValue([])")
    ]
    return " + ".join(f"{containers}.map(c, c.?image.orValue(''))" for containers in lists)


def _images(registries: list[str]) -> dict[str, str]:
    allowed = " || ".join(f"image.startsWith({_quoted(registry)})" for registry in registries)
    return {
        "expression": f"variables.images.all(image, {allowed})",
        "messageExpression": "'these images are not allowed here: ' + "
        f"variables.images.filter(image, !({allowed})).join(', ') + {_quoted('; allowed: ' + ', '.join(registries))}",
        "reason": "Forbidden",
    }


def _at_most(maximum: int | None, workers: str | None) -> list[dict[str, str]]:
    if maximum is None or workers is None:
        return []
    return [
        {
            "expression": f"{workers} <= {maximum}",
            "messageExpression": f"'at most {maximum} workers are allowed here, not ' + string({workers})",
            "reason": "Forbidden",
        }
    ]


def _quoted(text: str) -> str:
    """A CEL string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
