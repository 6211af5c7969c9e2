"""The real cert-manager beside a cluster of the tests: its CRDs, and its controllers where they have been built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.cluster import ControlPlane, components
from tests.support.clusters import upstream_crds

(PROGRAM,) = components.CERT_MANAGER


@contextlib.contextmanager
def crds(cluster: ControlPlane) -> Iterator[None]:
    """Its CRDs."""
    with upstream_crds(cluster, PROGRAM):
        yield


@contextlib.contextmanager
def controllers(cluster: ControlPlane, namespace: str) -> Iterator[None]:
    """Its controllers, which look after one namespace."""
    program = components.find(PROGRAM)
    if program is None:
        pytest.skip(f"no cert-manager: `python -m tests.cluster {PROGRAM}` builds it")
    kubeconfig = f"--kubeconfig={cluster.kubeconfig}"
    cluster.processes.start(PROGRAM, program, kubeconfig, f"--namespace={namespace}")
    yield
    cluster.processes.check()
    cluster.processes.stop(PROGRAM)
