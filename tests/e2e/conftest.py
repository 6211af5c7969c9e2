"""The operator, installed from ``dist/`` as a user would, and a namespace for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.images import ROOT
from tests.e2e.support import Kubectl, Manifests, eventually

NAMESPACE = "dask-operator"


class Operator:
    """The installed operator."""

    def __init__(self, node) -> None:
        self._kubectl = Kubectl(node.kubectl, NAMESPACE)

    def install(self, manifests: Path = ROOT / "dist" / "install.yaml") -> None:
        self._kubectl("apply", "--server-side", "--force-conflicts", "-f", str(manifests))
        self._kubectl("rollout", "status", "deployment/dask-operator", "--timeout=180s")

    def pods(self) -> list[str]:
        return self._kubectl("get", "pods", "-l", "app.kubernetes.io/name=dask-operator", "-o", "name").split()

    def leader(self) -> str:
        """Name of the Pod that leads."""
        identity = self._kubectl("get", "lease", "dask-operator", "-o", "jsonpath={.spec.holderIdentity}")
        return identity.partition("_")[0]

    def kill(self) -> None:
        """Kill the leader, without letting it give its lease back; the other replica takes over."""
        pod = self.leader()
        self._kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        eventually(lambda: self.leader() not in ("", pod), seconds=90)

    def logs(self) -> str:
        return "\n".join(self._kubectl("logs", pod, "--tail=-1") for pod in self.pods())


@pytest.fixture(scope="session")
def operator(node) -> Operator:
    installed = Operator(node)
    installed.install()
    return installed


@pytest.fixture
def kubectl(node, namespace: str, operator: Operator) -> Kubectl:
    return Kubectl(node.kubectl, namespace)


@pytest.fixture
def kube(node, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Manifests:
    monkeypatch.setenv("KUBECONFIG", str(node.kubeconfig))  # where KubeCluster looks
    return Manifests(node.kubeconfig, namespace)
