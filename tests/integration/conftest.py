"""A namespace of the control plane as seen by a user, and our controller for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, Manifests
from tests.support.controller import Controller


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> Kubectl:
    return Kubectl(control_plane.kubectl, namespace)


@pytest.fixture
def kube(control_plane: ControlPlane, namespace: str) -> Manifests:
    return Manifests(control_plane.kubeconfig, namespace)


@pytest.fixture
def controller(control_plane: ControlPlane, namespace: str) -> Iterator[Controller]:
    running = Controller(control_plane, namespace)
    yield running
    running.kill()
