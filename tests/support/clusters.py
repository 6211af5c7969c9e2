"""Clusters for fixtures: what cannot be had on this machine skips the tests that need it, and says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import ControlPlane, Unavailable, components, images

OUR_CRDS = images.ROOT / "dist" / "crds"


@contextmanager
def or_skip(what: str) -> Iterator[None]:
    """Skip the test where ``what`` is unavailable."""
    try:
        yield
    except Unavailable as reason:
        pytest.skip(f"no {what}: {reason}")


@contextmanager
def upstream_crds(cluster: ControlPlane, tool: str) -> Iterator[None]:
    """The CRDs of a tool, as its module has them, for as long as the context lasts."""
    with or_skip(tool):
        files = [option for path in components.upstream_crds(tool) for option in ("-f", str(path))]
    cluster.kubectl("apply", "--server-side", *files)
    cluster.install_crds()  # until they are served
    yield
    cluster.kubectl("delete", "--wait=false", *files)


@contextmanager
def control_plane(crds: Path | None = OUR_CRDS) -> Iterator[ControlPlane]:
    """A real API server and its controllers, with two fake nodes, and the CRDs of a folder."""
    with or_skip("control plane"):
        plane = ControlPlane(kwok_nodes=2).__enter__()
    try:
        if crds is not None:
            plane.install_crds(crds)
        yield plane
    finally:
        plane.__exit__()
