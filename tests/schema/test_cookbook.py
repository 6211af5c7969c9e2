"""What the cookbook's programs write is what the tools and a real API server want."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import ControlPlane, components
from tests.support.checkers import KUBE_SCORE_EXCEPTIONS, documents, kube_score, kubeconform_with
from tests.support.clusters import upstream_crds
from tests.support.programs import programs, run

from dask_constructs import problems
from dask_crds import names

#: What kube-score cannot see: Services and Pods that the operator makes.
_KUBE_SCORE_EXCEPTIONS = {
    "ingress-targets-service: No service match was found",
    "networkpolicy-targets-pod: The NetworkPolicys selector doesn't match any pods",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of manifests, of each program in a folder of its own."""
    folder = tmp_path_factory.mktemp("cookbook")
    for number, program in enumerate(programs("cookbook.md")):
        run(program, folder / str(number))
    return sorted(folder.rglob("*.yaml"))


def test_there_are_more_than_ten(written: list[Path]) -> None:
    assert len({path.parts[-2] for path in written}) > 10


def test_each_is_valid(written: list[Path]) -> None:
    manifests = [manifest for path in written for manifest in documents(path)]
    ours = [manifest for manifest in manifests if manifest["apiVersion"] == names.API_VERSION]
    assert len(ours) > 10
    assert [problem for manifest in ours for problem in problems(manifest)] == []


def test_kubeconform(written: list[Path], tmp_path: Path) -> None:
    report = kubeconform_with(tmp_path)(*written)
    assert report.get("resources", []) == []
    assert report["summary"]["valid"] > 20


def test_kube_score(written: list[Path]) -> None:
    assert kube_score(*written) <= KUBE_SCORE_EXCEPTIONS.keys() | _KUBE_SCORE_EXCEPTIONS


@pytest.fixture(scope="module")
def with_gateway_api(control_plane: ControlPlane) -> Iterator[None]:
    with upstream_crds(control_plane, *components.GATEWAY_API):
        yield


@pytest.mark.control_plane
@pytest.mark.usefixtures("with_gateway_api")
def test_a_server_accepts_it(control_plane: ControlPlane, namespace: str, written: list[Path]) -> None:
    """Ours, Kubernetes' and those of Gateway API, whose rules no schema has."""
    for path in written:
        manifests = path.read_text().replace("namespace: analytics\n", f"namespace: {namespace}\n")
        options = ["--server-side", "--dry-run=server", "--validate=strict", "-f", "-"]
        control_plane.kubectl("apply", *options, input=manifests)
