"""Manifests that are refused, and those that must be accepted: offline as at a real API server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dask_kubernetes.operator.kubecluster.kubecluster import (  # type: ignore[import-untyped]
    make_cluster_spec,
    make_worker_spec,
)
from tests.cluster import ControlPlane

from dask_constructs import problems
from dask_crds.model import KINDS, dump, parse
from dask_crds.schema import custom_resource_definition

ROOT = Path(__file__).parents[2]
INVALID = sorted((ROOT / "tests/schema/invalid").glob("*.yaml"))
EXAMPLES = sorted(path for path in (ROOT / "dist/examples").glob("*.yaml") if path.name != "kustomization.yaml")

invalid = pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
examples = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def create(control_plane: ControlPlane, namespace: str, manifest: dict[str, Any], *options: str) -> str:
    """What the API server says to a new object: the object as JSON, or the error."""
    command = ["create", "-n", namespace, "--validate=strict", "-o", "json", *options, "-f", "-"]
    try:
        return control_plane.kubectl(*command, input=json.dumps(manifest))
    except subprocess.CalledProcessError as error:
        return f"refused: {error.stderr}"


# --- refused ----------------------------------------------------------------------------------------------------------


@invalid
def test_a_wrong_manifest_is_explained_offline(path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    assert problems(case["manifest"]) == case["offline"]


@invalid
@pytest.mark.control_plane
def test_a_wrong_manifest_is_refused_by_the_api_server(control_plane: ControlPlane, namespace: str, path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    if "before" in case:
        create(control_plane, namespace, case["before"])
        with pytest.raises(subprocess.CalledProcessError) as caught:
            control_plane.kubectl("replace", "-n", namespace, "-f", "-", input=json.dumps(case["manifest"]))
        assert case["server"] in caught.value.stderr
        return
    answer = create(control_plane, namespace, case["manifest"], "--dry-run=server")
    if case["server"] is None:
        assert not answer.startswith("refused")
    else:
        assert answer.startswith("refused")
        assert case["server"] in answer


# --- accepted ---------------------------------------------------------------------------------------------------------


@examples
def test_an_example_is_valid(path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        assert problems(manifest) == []
        assert "namespace" not in manifest["metadata"]


@examples
@pytest.mark.control_plane
def test_an_example_is_accepted(control_plane: ControlPlane, namespace: str, path: Path) -> None:
    control_plane.kubectl("apply", "-n", namespace, "--dry-run=server", "--warnings-as-errors", "-f", str(path))


def group(worker: dict[str, Any]) -> dict[str, Any]:
    """What ``KubeCluster.add_worker_group`` sends."""
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskWorkerGroup",
        "metadata": {"name": "old-high"},
        "spec": {"cluster": "old", "worker": worker},
    }


OLD_CLIENTS: dict[str, dict[str, Any]] = {
    "defaults": make_cluster_spec("old"),
    "everything": make_cluster_spec(
        "old",
        n_workers=2,
        resources={"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        env={"A": "1"},
        worker_command="dask worker",
        scheduler_service_type="LoadBalancer",
        idle_timeout=5,
        jupyter=True,
    ),
    "nulls": make_cluster_spec("old") | {"status": None},
    "empty lists": make_cluster_spec("old", env=[], resources={}),
    "idle timeout of null": make_cluster_spec("old", idle_timeout=None),
    "worker group": group(make_worker_spec(n_workers=3, env=None, resources=None)),
    "autoscaler": {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskAutoscaler",
        "metadata": {"name": "old", "dask.org/cluster-name": "old", "dask.org/component": "autoscaler"},
        "spec": {"cluster": "old", "minimum": 0, "maximum": 3},
    },
    "autoscaler without bounds": {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskAutoscaler",
        "metadata": {"name": "old-all", "dask.org/cluster-name": "old", "dask.org/component": "autoscaler"},
        "spec": {"cluster": "old", "minimum": None, "maximum": None},
    },
}
old_clients = pytest.mark.parametrize("manifest", OLD_CLIENTS.values(), ids=OLD_CLIENTS)


@old_clients
def test_what_existing_clients_send_is_valid(manifest: dict[str, Any]) -> None:
    assert problems(manifest) == []
    value = parse(manifest)
    assert parse(dump(value)) == value


@old_clients
@pytest.mark.control_plane
def test_what_existing_clients_send_is_accepted(
    control_plane: ControlPlane, namespace: str, manifest: dict[str, Any]
) -> None:
    """Without kubectl, which would complain of metadata that clients put there: they post JSON."""
    path = f"/apis/kubernetes.dask.org/v1/namespaces/{namespace}/{manifest['kind'].lower()}s"
    control_plane.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(manifest))


@pytest.mark.control_plane
def test_the_server_fills_in_what_has_always_been_filled_in(control_plane: ControlPlane, namespace: str) -> None:
    """Every default that the server adds is a difference to a GitOps tool, so there are few."""
    (manifest,) = yaml.safe_load_all((ROOT / "dist/examples/dask-cluster.yaml").read_text())
    created = json.loads(create(control_plane, namespace, manifest, "--dry-run=server"))
    assert created["spec"]["worker"].pop("replicas") == 1
    assert created["status"] == {"observedGeneration": -1, "phase": "Created"}
    assert created["spec"] == manifest["spec"]


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_plain_kubectl_apply_can_hold_the_crd(kind: str) -> None:
    """The annotation last-applied-configuration, the whole manifest as JSON, may have 256 KiB with all others."""
    size = len(json.dumps(custom_resource_definition(kind), separators=(",", ":")))
    assert size < 262144 - 4096
