"""The operator is upgraded, and rolled back, under a computation: nothing restarts and nothing is lost."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import images
from tests.e2e.conftest import Operator
from tests.e2e.support import Kubectl, eventually
from tests.e2e.test_lossless import scale, settled
from tests.e2e.workload import cluster, workload

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore")]

IMAGE = "ghcr.io/dask-gitops/operator:previous"


@pytest.fixture
def previous(tmp_path: Path, node, operator: Operator) -> Iterator[Path]:
    """``install.yaml`` of the commit before the operator changed last, with its image on the node."""
    if node.kind != "node":
        pytest.skip("the image of the previous operator can only be loaded into a cluster of our own")
    history = ["git", "log", "-2", "--format=%H", "--", "dist", "controller", "resources", "crds"]
    commits = subprocess.check_output(history, cwd=images.ROOT, text=True).split()
    if len(commits) < 2:
        pytest.skip("this clone has no history to go back to")
    archive = subprocess.check_output(["git", "archive", commits[1]], cwd=images.ROOT)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path, filter="data")
    node.load_image(images.operator_image(IMAGE, tmp_path))
    install = tmp_path / "dist" / "install.yaml"
    install.write_text(install.read_text().replace(images.OPERATOR, IMAGE))
    assert IMAGE in install.read_text()
    yield install
    operator.install()


def pods(kubectl: Kubectl) -> dict[str, tuple[str, int]]:
    """Uid and restarts of the Pods by name."""
    return {
        p["metadata"]["name"]: (p["metadata"]["uid"], sum(s["restartCount"] for s in p["status"]["containerStatuses"]))
        for p in kubectl.json("get", "pods")["items"]
    }


def test_nothing_restarts_and_nothing_is_lost(kubectl: Kubectl, kube, operator: Operator, previous: Path) -> None:
    operator.install(previous)
    with workload(kubectl, cluster(kube, "kept", workers=3)) as load:
        load.at_stake(3)
        before = pods(kubectl)
        assert len(before) == 4
        with load.stream():
            for install in (images.ROOT / "dist" / "install.yaml", previous):  # upgrade, rollback
                operator.install(install)
                eventually(lambda: operator.leader() in {pod.removeprefix("pod/") for pod in operator.pods()})
                time.sleep(5)  # a new operator looks at everything at once
                kubectl.wait_ready("daskcluster", "kept")
                assert pods(kubectl) == before
            operator.install()
            scale(kubectl, "kept-default", 2)
            settled(kubectl, {"kept-default": 2})
        assert load.lost_keys() == set()
        assert load.wrong_results() == []
        assert load.not_once() == {}
