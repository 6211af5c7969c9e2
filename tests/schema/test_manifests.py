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
from dask_crds.kinds import DASK_KINDS
from dask_crds.model import KINDS, dump, parse, without_defaults
from dask_crds.schema import custom_resource_definition
from dask_resources.revision import revision

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
    """But for labels that they put beside ``metadata.labels``: kubectl refuses these, and the server drops them."""
    misplaced = [f"metadata.{key}: unknown field" for key in manifest["metadata"] if key.startswith("dask.org/")]
    assert problems(manifest) == misplaced
    value = parse(manifest)
    assert parse(dump(value)) == value


@old_clients
@pytest.mark.control_plane
def test_what_existing_clients_send_is_accepted(
    control_plane: ControlPlane, namespace: str, manifest: dict[str, Any]
) -> None:
    """Without kubectl, which would complain of metadata that clients put there: they post JSON."""
    path = f"/apis/kubernetes.dask.org/v1/namespaces/{namespace}/{DASK_KINDS[manifest['kind']].plural}"
    control_plane.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(manifest))


@pytest.mark.control_plane
def test_the_server_fills_in_what_has_always_been_filled_in(control_plane: ControlPlane, namespace: str) -> None:
    """Every default that the server adds is a difference to a GitOps tool, so there are few."""
    (manifest,) = yaml.safe_load_all((ROOT / "dist/examples/dask-cluster.yaml").read_text())
    created = json.loads(create(control_plane, namespace, manifest, "--dry-run=server"))
    assert created["spec"]["worker"].pop("replicas") == 1
    assert created["status"] == {"observedGeneration": -1, "phase": "Created"}
    assert created["spec"] == manifest["spec"]


@pytest.mark.parametrize(
    ("kind", "field", "word"), [("DaskCluster", "phase", "Created"), ("DaskJob", "jobStatus", "JobCreated")]
)
@pytest.mark.control_plane
def test_clients_can_read_a_status_from_the_first_moment(
    control_plane: ControlPlane, namespace: str, kind: str, field: str, word: str
) -> None:
    """`'status' in r and r['status']['jobStatus']` (public 11); and no name is needed (public 04)."""
    (manifest,) = yaml.safe_load_all((ROOT / f"dist/examples/{kind[:4].lower()}-{kind[4:].lower()}.yaml").read_text())
    manifest["metadata"] = {"generateName": "made-up-"}
    assert problems(manifest) == []
    created = json.loads(create(control_plane, namespace, manifest))
    assert created["metadata"]["name"].startswith("made-up-")
    assert created["status"] == {"observedGeneration": -1, field: word}


POD: dict[str, Any] = {"containers": [{"name": "worker", "image": "dask"}]}


def with_container(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{**POD["containers"][0], **fields}]}}


SET_BACK: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "strategy": ({"updateStrategy": {"type": "OnDelete"}}, {"updateStrategy": {}}),
    "rolling update": (
        {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}},
        {"updateStrategy": {"rollingUpdate": {}}},
    ),
    "metadata": ({"metadata": {"labels": {"a": "b"}}}, {"metadata": {}}),
    "labels": ({"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": {}}}),
    "annotations": ({"metadata": {"annotations": {"a": "b"}}}, {"metadata": {"annotations": {}}}),
    "security": ({"spec": {**POD, "securityContext": {"runAsUser": 1}}}, {"spec": {**POD, "securityContext": {}}}),
    "affinity": ({"spec": {**POD, "affinity": {"nodeAffinity": {}}}}, {"spec": {**POD, "affinity": {}}}),
    "resources": (
        with_container(resources={"limits": {"cpu": 1}, "requests": {"cpu": 1}}),
        with_container(resources={"limits": {}}),
    ),
    "probe": (
        with_container(lifecycle={"preStop": {"sleep": {"seconds": 1}}}),
        with_container(lifecycle={"preStop": {}}),
    ),
    "environment": (with_container(env=[{"name": "A", "value": "1"}]), with_container(env=[])),
    "volume": (
        {"spec": {**POD, "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]}},
        {"spec": {**POD, "volumes": [{"name": "v", "emptyDir": {}}]}},
    ),
}


@pytest.mark.parametrize(("before", "after"), SET_BACK.values(), ids=SET_BACK)
@pytest.mark.control_plane
def test_what_is_set_back_to_nothing_can_be_applied(
    control_plane: ControlPlane, namespace: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """`must be of type object: "null"`, for good: what server-side apply leaves of an empty object (node 1)."""

    def applied(worker: dict[str, Any]) -> dict[str, Any]:
        manifest = group({"spec": POD, **worker})
        command = ["apply", "--server-side", "--field-manager=git", "-n", namespace, "-o", "json", "-f", "-"]
        found: dict[str, Any] = json.loads(control_plane.kubectl(*command, input=json.dumps(manifest)))
        return found

    applied(before)
    found = parse(applied(after))
    wanted = parse(group({"spec": POD, **after}))
    for volume in wanted.spec.worker.spec.get("volumes", ()):  # type: ignore[union-attr]
        volume.pop("emptyDir")  # which is what a volume without a kind is
    assert revision(without_defaults(found.spec)) == revision(without_defaults(wanted.spec))
    assert applied({**after, "replicas": 3})["spec"]["worker"]["replicas"] == 3, "later changes are possible, too"


# --- columns ----------------------------------------------------------------------------------------------------------


def test_what_people_see_of_a_cluster_is_whether_it_is_ready() -> None:
    """STATUS was `Running` while its image could not be pulled (node 5); the phase is for clients."""
    (version,) = custom_resource_definition("DaskCluster")["spec"]["versions"]
    columns = {column["name"]: column for column in version["additionalPrinterColumns"]}
    shown = [name for name, column in columns.items() if not column.get("priority")]
    assert shown == ["Workers", "Ready", "Status", "Age"]
    assert columns["Ready"]["jsonPath"] == '.status.conditions[?(@.type=="Ready")].status'
    assert columns["Status"]["jsonPath"] == '.status.conditions[?(@.type=="Ready")].reason'
    assert columns["Phase"]["jsonPath"] == ".status.phase"


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_plain_kubectl_apply_can_hold_the_crd(kind: str) -> None:
    """The annotation last-applied-configuration, the whole manifest as JSON, may have 256 KiB with all others."""
    size = len(json.dumps(custom_resource_definition(kind), separators=(",", ":")))
    assert size < 262144 - 4096
