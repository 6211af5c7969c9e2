"""A control plane for each tool, with our operator; and for each test a repository that the tool applies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support import clusters
from tests.support.controller import start_operator

from .git import GitServer, Manifest, Repository
from .tool import Application, Tool


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """Of its own for each tool: these watch and list everything, and other tests count requests."""
    with clusters.control_plane() as plane:
        start_operator(plane)
        yield plane


@pytest.fixture(scope="module")
def git(control_plane: ControlPlane) -> Iterator[GitServer]:
    with GitServer(control_plane.folder / "git") as server:
        yield server


class Site:
    """A namespace and the repository that says what is in it."""

    def __init__(self, plane: ControlPlane, tool: Tool, git: GitServer, namespace: str) -> None:
        self.plane = plane
        self.kubectl = Kubectl(plane.kubectl, namespace)
        self.kube = Manifests(plane.kubeconfig, namespace)
        self._tool, self._namespace = tool, namespace
        self.repository = Repository(git, namespace)
        self._application: Application | None = None
        self.waits = True  #: whether the tool waits for health, where it can

    @property
    def application(self) -> Application:
        """The application; it is made when it is first asked for."""
        if self._application is None:
            self._application = self._tool.application(
                self._namespace, self._namespace, self.repository, wait=self.waits
            )
        return self._application

    def offer(self, **files: Manifest | None) -> str:
        """Commit manifests by name, ``None`` to remove one, and tell the tool. Returns the revision."""
        revision = self.repository.commit({f"{name}.yaml": manifest for name, manifest in files.items()})
        self.application.refresh()
        return revision

    def commit(self, **files: Manifest | None) -> None:
        """The same, and wait until it is applied and healthy."""
        self._settle(self.offer(**files))

    def revert(self) -> None:
        """Revert the last commit and wait until that is applied and healthy."""
        revision = self.repository.revert()
        self.application.refresh()
        self._settle(revision)

    def _settle(self, revision: str) -> None:
        self.application.sync(revision)
        eventually(lambda: self.application.health()[0] in ("Healthy", "Suspended"))


@pytest.fixture
def site(control_plane: ControlPlane, tool: Tool, git: GitServer, namespace: str) -> Iterator[Site]:
    made = Site(control_plane, tool, git, namespace)
    yield made
    control_plane.processes.check()
    made.application.forget()
