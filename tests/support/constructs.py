"""Charts for tests of constructs."""

from __future__ import annotations

from typing import Any

import pytest

# isort: off
from dask_constructs import Source  # first, because it finds Node.js for cdk8s
import cdk8s
# isort: on

from dask_crds.kubernetes import PodSpec

JsonPatch = cdk8s.JsonPatch

Manifest = dict[str, Any]

IMAGE = "ghcr.io/dask/dask:2026.8.0"
POD: PodSpec = {"containers": [{"name": "main", "image": IMAGE}]}
#: Where a GitOps tool finds everything.
GIT = Source(repository="https://git.example.com/platform.git")


def chart(namespace: str | None = None) -> cdk8s.Chart:
    """An empty chart named ``test``."""
    return cdk8s.Chart(cdk8s.Testing.app(), "test", namespace=namespace, disable_resource_name_hashes=True)


def synth(chart: cdk8s.Chart) -> list[Manifest]:
    """The manifests of a chart, checked."""
    manifests: list[Manifest] = cdk8s.Testing.synth(chart)
    return manifests


def only(chart: cdk8s.Chart) -> Manifest:
    """The one manifest of a chart."""
    (manifest,) = synth(chart)
    return manifest


def errors(chart: cdk8s.Chart) -> list[str]:
    """What synth complains about."""
    with pytest.raises(RuntimeError, match="Validation failed") as caught:
        synth(chart)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def container(manifest: dict[str, Any], *path: str) -> dict[str, Any]:
    """The first container of the Pod at a path below ``spec``."""
    node = manifest["spec"]
    for field in path:
        node = node[field]
    first: dict[str, Any] = node["spec"]["containers"][0]
    return first


def synthesized(construct: type, **properties: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """What a construct writes, by kind and name."""
    c = chart()
    construct(c, "it", **properties)
    return {(m["kind"], m["metadata"]["name"]): m for m in synth(c)}
