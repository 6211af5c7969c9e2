"""Argo CD, its real repo-server and application-controller, with our operator; fake nodes run the Pods."""

from __future__ import annotations

import pytest
from tests.cluster import ControlPlane, Unavailable

from .harness import ArgoCD
from .scenarios import Scenarios

pytestmark = pytest.mark.control_plane


@pytest.fixture(scope="module")
def tool(control_plane: ControlPlane) -> ArgoCD:
    try:
        return ArgoCD(control_plane)
    except Unavailable as reason:
        pytest.skip(f"no Argo CD: {reason}")


class TestArgoCD(Scenarios):
    pass
