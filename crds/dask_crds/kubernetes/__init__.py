"""PodSpec and ServiceSpec of one pinned Kubernetes release: structural schemas and typed dictionaries.

``schema.json`` and ``core_v1.py`` are generated from the OpenAPI document of that release by
``python -m dask_crds.kubernetes.vendor`` and committed; nothing else in the project describes a Pod.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from .core_v1 import Container, PodSpec, ResourceRequirements, ServiceSpec

__all__ = [
    "KUBERNETES_VERSION",
    "Container",
    "PodSpec",
    "ResourceRequirements",
    "ServiceSpec",
    "definitions",
    "structural_schema",
]


@cache
def _vendored() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(files(__package__).joinpath("schema.json").read_text())
    return document


KUBERNETES_VERSION: str = _vendored()["version"]


def definitions() -> Mapping[str, Any]:
    """The structural schemas by name (``Container``), with ``$ref`` to the name of another where one is part of it."""
    found: Mapping[str, Any] = _vendored()["definitions"]
    return found


def structural_schema(name: str) -> dict[str, Any]:
    """Structural schema of ``PodSpec`` or ``ServiceSpec``, every reference inlined, without descriptions.

    Structural schemas know no ``$ref``, see
    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
    """
    inlined: dict[str, Any] = _inline(_vendored()["definitions"][name])
    return inlined


def _inline(node: Any) -> Any:
    if isinstance(node, list):
        return [_inline(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return {**_inline(_vendored()["definitions"][node["$ref"]]), **_inline(rest)}
    return {key: _inline(value) for key, value in node.items()}
