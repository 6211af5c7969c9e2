"""The tools that people point at ``dist/``: kubeconform, kustomize, kubectl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from tests.cluster import ControlPlane, Unavailable, components

from dask_synth.render import render

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
VERSION = "1.37.0"  #: newest release of Kubernetes whose schemas kubernetes-validate has

FOLDERS = [DIST, *(path.parent for path in sorted(DIST.glob("*/kustomization.yaml")))]
MANIFESTS = sorted(path for path in DIST.rglob("*.yaml") if path.name != "kustomization.yaml")
folders = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def documents(path: Path) -> list[dict[str, Any]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return list(yaml.load_all(path.read_text(), loader))


# --- offline ----------------------------------------------------------------------------------------------------------


def test_kubernetes_own_schemas() -> None:
    for name in ("operator/operator.yaml", "operator-namespaced/operator.yaml"):
        for manifest in documents(DIST / name):
            kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.fixture(scope="module")
def kubeconform(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Runs kubeconform, strict, with the schemas that ``dist/schemas`` offers; gives its report.

    Kubernetes' own schemas, which it would download, are those of the package kubernetes-validate.
    """
    try:
        program = components.ensure(["kubeconform"])["kubeconform"]
    except Unavailable as reason:
        pytest.skip(f"no kubeconform: {reason}")
    schemas = tmp_path_factory.mktemp("schemas")
    package = Path(kubernetes_validate.__file__).parent
    for path in (package / "kubernetes-json-schema" / f"v{VERSION}-local-strict").glob("*.json"):
        schema = json.loads(path.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
        schema.pop("$id", None)  # it would be resolved against the network
        (schemas / path.name).write_text(json.dumps(schema))
    command = [str(program), "-strict", "-summary", "-output", "json"]
    for location in (
        f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        f"{DIST}/schemas/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json",
    ):
        command += ["-schema-location", location]

    def run(*paths: Path) -> dict[str, Any]:
        done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    return run


def test_kubeconform(kubeconform: Callable[..., dict[str, Any]]) -> None:
    report = kubeconform(*MANIFESTS)
    assert report.get("resources", []) == []
    assert report["summary"]["valid"] == sum(len(documents(path)) for path in MANIFESTS)


def test_kubeconform_sees_mistakes(kubeconform: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """It is not that everything passes."""
    example = (DIST / "examples/dask-cluster.yaml").read_text()
    (tmp_path / "typo.yaml").write_text(example.replace("worker:", "workers:"))
    (tmp_path / "type.yaml").write_text(example.replace("runAsUser: 1000", "runAsUser: me"))
    report = kubeconform(tmp_path)
    assert sorted(Path(resource["filename"]).name for resource in report["resources"]) == ["type.yaml", "typo.yaml"]
    assert report["summary"]["invalid"] == 2


# --- at an API server -------------------------------------------------------------------------------------------------


@folders
@pytest.mark.control_plane
def test_kustomize_builds(control_plane: ControlPlane, folder: Path) -> None:
    built = control_plane.kubectl("kustomize", str(folder))
    names = {"crds", "operator"} if folder == DIST else {folder.name}
    files = [path for path in MANIFESTS if path.parent.name in names]
    assert built.count("\nkind: ") == sum(len(documents(path)) for path in files)


@pytest.fixture
def operator_namespace(control_plane: ControlPlane) -> Iterator[None]:
    """The operator's namespace: a dry run does not create it, and then misses it."""
    (namespace,) = [m for m in documents(DIST / "operator/operator.yaml") if m["kind"] == "Namespace"]
    existing = control_plane.kubectl("get", "namespace", "--ignore-not-found", namespace["metadata"]["name"])
    control_plane.kubectl("apply", "-f", "-", input=json.dumps(namespace))
    yield
    if not existing:
        control_plane.kubectl("delete", "namespace", namespace["metadata"]["name"])


@pytest.mark.usefixtures("operator_namespace")
@pytest.mark.parametrize("what", ["-f dist/install.yaml", "-k dist", "-k dist/operator-namespaced"])
@pytest.mark.control_plane
def test_a_dry_run_is_clean(control_plane: ControlPlane, what: str) -> None:
    """No errors and, with client-side apply, CRDs that fit into the annotation; nor a warning of Pod security."""
    option, path = what.split()
    control_plane.kubectl("apply", "--dry-run=server", option, str(ROOT / path))


@pytest.mark.usefixtures("operator_namespace")
@pytest.mark.control_plane
def test_server_side_apply_is_clean(control_plane: ControlPlane) -> None:
    options = ["--server-side", "--dry-run=server", "--warnings-as-errors", "--force-conflicts"]
    control_plane.kubectl("apply", *options, "-k", str(DIST))


@pytest.mark.control_plane
@pytest.mark.parametrize("path", sorted((DIST / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_children_of_the_examples_run_in_a_restricted_namespace(
    control_plane: ControlPlane, namespace: str, path: Path
) -> None:
    """Pods are refused there, Deployments and Jobs warned of, if they ask for more than they need."""
    modes = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    control_plane.kubectl("label", "namespace", namespace, *modes)
    children = [
        child
        for manifest in documents(path)
        if manifest["kind"] != "Kustomization"
        for child in render(manifest, namespace=namespace, domain="cluster.local")
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": children}
    if children:
        options = ["--dry-run=server", "--warnings-as-errors", "-f", "-"]
        control_plane.kubectl("create", *options, input=json.dumps(listed))
