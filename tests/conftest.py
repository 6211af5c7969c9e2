"""Clusters for the tests; each is brought up once, when the first test asks for it."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.cluster import ControlPlane, External, Node, images
from tests.support import clusters
from tests.support.clusters import or_skip

_numbers = itertools.count()

# The machine may be busy: how long an example takes says nothing.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure() -> None:
    """Let programs leave what they leave in one folder: cdk8s, jsii and ``argocd`` clear nothing up.

    Folders of pytest itself stay where people look for them, and those of clusters go with these.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:  # they inherit it
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="dask-gitops-tests-")
    tempfile.tempdir = os.environ["PYTEST_DEBUG_TEMPROOT"]


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A real API server and its controllers, with two fake nodes, and our CRDs."""
    with clusters.control_plane() as plane:
        yield plane


@pytest.fixture(scope="session")
def node() -> Iterator[Node | External]:
    """A real node with the images of Dask and of the operator; the cluster of ``KUBECONFIG`` where that is set."""
    cluster: Node | External
    with or_skip("real node"):
        if os.environ.get("KUBECONFIG"):
            cluster = External().__enter__()
        else:
            cluster = Node(audit=True)
            archives = [images.dask_image(), images.operator_image(images.OPERATOR)]
            cluster.__enter__()
            for archive in archives:
                cluster.load_image(archive)
    try:
        yield cluster
    finally:
        cluster.__exit__()


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace in whichever cluster the test uses; it is deleted afterwards, whole."""
    cluster = request.getfixturevalue("node" if request.node.get_closest_marker("node") else "control_plane")
    name = f"test-{os.getpid()}-{next(_numbers)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


class _ByWhatTheyWaitFor(LoadScopeScheduling):
    """Those that wait for Pods of the real node by one worker, those that wait for nothing by another, and the rest.

    Each has its own clusters.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((part for part in ("tests/e2e/", "tests/unit/") if nodeid.startswith(part)), "rest")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _ByWhatTheyWaitFor(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What runs beside the real node takes what processors that leaves: its Pods have probes and deadlines to keep.

    What waits for nothing takes what all others leave, and the programs that are being built for them.
    """
    if os.environ.get("PYTEST_XDIST_WORKER") and not item.get_closest_marker("node"):
        os.setpriority(os.PRIO_PROCESS, 0, 19 if item.nodeid.startswith("tests/unit/") else 10)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, and why, in one place."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.getreports("skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] = reasons.get(reason.removeprefix("Skipped: "), 0) + 1
    terminalreporter.section("left out")
    for reason, count in reasons.items():
        terminalreporter.line(f"{count} tests: {reason}")
    if not reasons:
        terminalreporter.line("nothing")
