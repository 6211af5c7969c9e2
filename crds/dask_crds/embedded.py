"""Where the types of Kubernetes are in our kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from .model import KINDS


def embedded_types(kind: str) -> dict[str, str]:
    """Fields of a kind that hold types of Kubernetes, as ``spec.worker.spec``: ``core/v1/PodSpec``.

    A tool that knows them takes a CPU of ``0.1`` and one of ``100m`` for the same.
    """
    _, components = msgspec.json.schema_components([KINDS[kind]], ref_template="{name}")
    return dict(_embedded(components[kind]["properties"]["spec"], components, "spec"))


def _embedded(
    node: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]], path: str
) -> Iterator[tuple[str, str]]:
    for option in node.get("anyOf", [node]):
        if vendored := option.get("x-vendored", node.get("x-vendored")):
            yield path, f"core/v1/{vendored}"
            return
        for field, child in components.get(option.get("$ref", ""), option).get("properties", {}).items():
            yield from _embedded(child, components, f"{path}.{field}")
