"""Charts for tests of constructs."""

from __future__ import annotations

from typing import Any

import pytest

# isort: off
import dask_constructs  # noqa: F401 - first, because it finds Node.js for cdk8s
import cdk8s
# isort: on

JsonPatch = cdk8s.JsonPatch

Manifest = dict[str, Any]


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
