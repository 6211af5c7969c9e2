"""Flux, its real source-controller and kustomize-controller, with our operator; fake nodes run the Pods."""

from __future__ import annotations

import pytest
from tests.cluster import ControlPlane, Unavailable

from .harness import Flux
from .scenarios import Scenarios

pytestmark = pytest.mark.control_plane


@pytest.fixture(scope="module")
def tool(control_plane: ControlPlane) -> Flux:
    try:
        return Flux(control_plane)
    except Unavailable as reason:
        pytest.skip(f"no Flux: {reason}")


class TestFlux(Scenarios):
    pass
