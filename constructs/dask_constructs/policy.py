"""Rules of an organisation, checked by the API server itself (ValidatingAdmissionPolicy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdk8s import ApiObject
from constructs import Construct

from dask_crds import names
from dask_crds.model import MAX_WORKERS

from .manifest import cluster_scoped

_POD_SPECS = {
    "daskclusters": ["object.spec.scheduler.spec", "object.spec.worker.spec"],
    "daskworkergroups": ["object.spec.worker.spec"],
    "daskjobs": [
        "object.spec.job.spec",
        "object.spec.cluster.spec.scheduler.spec",
        "object.spec.cluster.spec.worker.spec",
    ],
}
_REPLICAS = {
    "daskclusters": "object.spec.worker.?replicas.orValue(1)",
    "daskworkergroups": "object.spec.worker.?replicas.orValue(1)",
    "daskjobs": "object.spec.cluster.spec.worker.?replicas.orValue(1)",
    "daskautoscalers": f"object.spec.?maximum.orValue({MAX_WORKERS})",
    "daskclusters/scale": "object.spec.?replicas.orValue(0)",
    "daskworkergroups/scale": "object.spec.?replicas.orValue(0)",
}


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
        for resource in _REPLICAS:
            rules = []
            if image_registries and resource in _POD_SPECS:
                rules.append(_images(list(image_registries)))
            if maximum_workers is not None:
                rules.append(_workers(resource, maximum_workers))
            if rules:
                self._policy(f"{name}-{resource.replace('/', '-')}", resource, rules, namespace_labels or {})

    def _policy(
        self, name: str, resource: str, rules: list[dict[str, str]], namespace_labels: Mapping[str, str]
    ) -> None:
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
        if namespace_labels:
            constraints["namespaceSelector"] = {"matchLabels": dict(namespace_labels)}
        spec: dict[str, Any] = {"failurePolicy": "Fail", "matchConstraints": constraints, "validations": rules}
        if specs := _POD_SPECS.get(resource):
            spec["variables"] = [{"name": "images", "expression": _all_images(specs)}]
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


def _workers(resource: str, maximum: int) -> dict[str, str]:
    replicas = _REPLICAS[resource]
    return {
        "expression": f"{replicas} <= {maximum}",
        "messageExpression": f"'at most {maximum} workers are allowed here, not ' + string({replicas})",
        "reason": "Forbidden",
    }


def _quoted(text: str) -> str:
    """A CEL string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
