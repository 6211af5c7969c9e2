"""The tools that people point at ``dist/``: kubeconform, kube-score, kustomize, kubectl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from tests.cluster import ControlPlane, components
from tests.support import template
from tests.support.checkers import KUBE_SCORE_EXCEPTIONS, VERSION, documents, kube_score, kubeconform_with, parsed
from tests.support.clusters import or_skip, upstream_crds

from dask_synth.render import render

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"

FOLDERS = [DIST, *(path.parent for path in sorted(DIST.glob("*/kustomization.yaml")))]
MANIFESTS = sorted(path for path in DIST.rglob("*.yaml") if path.name != "kustomization.yaml")
folders = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


# --- offline ----------------------------------------------------------------------------------------------------------


def test_kubernetes_own_schemas() -> None:
    for name in ("operator/operator.yaml", "operator-namespaced/operator.yaml"):
        for manifest in documents(DIST / name):
            kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.fixture(scope="module")
def kubeconform(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    return kubeconform_with(tmp_path_factory.mktemp("schemas"))


def test_kubeconform(kubeconform: Callable[..., dict[str, Any]]) -> None:
    report = kubeconform(*MANIFESTS)
    assert report.get("resources", []) == []
    assert report["summary"]["valid"] == sum(len(documents(path)) for path in MANIFESTS)


def test_kubeconform_sees_mistakes(kubeconform: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """It is not that everything passes."""
    example = (DIST / "examples/dask-cluster.yaml").read_text()
    (tmp_path / "typo.yaml").write_text(example.replace("worker:", "workers:"))
    (tmp_path / "type.yaml").write_text(example.replace("runAsUser: 1000", "runAsUser: me"))
    argocd, flux = (DIST / "argocd/applications.yaml").read_text(), (DIST / "flux/dask.yaml").read_text()
    (tmp_path / "argocd.yaml").write_text(argocd.replace("selfHeal:", "selfheal:", 1))
    (tmp_path / "flux.yaml").write_text(flux.replace("wait: true", "wait: yes please", 1))
    report = kubeconform(tmp_path)
    wrong = sorted(Path(resource["filename"]).name for resource in report["resources"])
    assert wrong == ["argocd.yaml", "flux.yaml", "type.yaml", "typo.yaml"]
    assert report["summary"]["invalid"] == 4


def test_kube_score() -> None:
    assert kube_score(*MANIFESTS) == KUBE_SCORE_EXCEPTIONS.keys()


def test_kube_score_sees_mistakes(tmp_path: Path) -> None:
    operator = (DIST / "operator/operator.yaml").read_text()
    (tmp_path / "operator.yaml").write_text(operator.replace("readOnlyRootFilesystem: true", ""))
    found = kube_score(tmp_path / "operator.yaml") - KUBE_SCORE_EXCEPTIONS.keys()
    assert {line.split(":")[0] for line in found} == {"container-security-context-readonlyrootfilesystem"}


def flux_build(repository: Path, file: str) -> dict[str, set[tuple[str, str]]]:
    """Kinds and names of what Flux makes of each Kustomization in a file whose folder is in the repository."""
    with or_skip("flux"):
        program = components.ensure(["flux"])["flux"]
    built = {}
    for wanted in documents(repository / file):
        folder = repository / wanted["spec"].get("path", "none")
        if wanted["kind"] != "Kustomization" or not folder.exists():
            continue
        name = wanted["metadata"]["name"]
        command = [str(program), "build", "kustomization", name, "--namespace", wanted["metadata"]["namespace"]]
        command += ["--path", str(folder), "--kustomization-file", str(repository / file), "--dry-run"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = list(filter(None, parsed(done.stdout)))
        assert {m["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] for m in found} == {name}
        built[name] = identities(found)
        assert built[name] == identities(m for path in folder.glob("*.yaml") for m in documents(path))
    return built


def identities(manifests: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
    """Kinds and names, kustomize's own files apart."""
    return {(m["kind"], m["metadata"]["name"]) for m in manifests if "metadata" in m}


def test_flux_builds_what_it_is_told_to_apply() -> None:
    assert flux_build(ROOT, "dist/flux/dask.yaml").keys() == {"dask-crds", "dask-operator"}


def test_flux_builds_the_template(tmp_path: Path) -> None:
    built = flux_build(template.start(tmp_path / "platform"), "dist/dev/flux/flux.yaml")
    assert built.keys() == {"dask-crds", "dask-operator", "dask-workloads"}
    assert ("DaskJob", "hello") in built["dask-workloads"]


# --- at an API server -------------------------------------------------------------------------------------------------


@folders
@pytest.mark.control_plane
def test_kustomize_builds(control_plane: ControlPlane, folder: Path) -> None:
    built = control_plane.kubectl("kustomize", str(folder))
    names = {"crds", "operator"} if folder == DIST else {folder.name}
    files = [path for path in MANIFESTS if path.parent.name in names]
    assert built.count("\nkind: ") == sum(len(documents(path)) for path in files)


@pytest.mark.control_plane
def test_argo_cds_settings_are_a_component_of_its_installation(control_plane: ControlPlane, tmp_path: Path) -> None:
    """kustomize wants relative paths."""
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    (tmp_path / "argocd-cm.yaml").write_text(json.dumps({**settings, "data": {"url": "https://argocd.example.com"}}))
    (tmp_path / "settings").mkdir()
    for path in (DIST / "argocd/settings").iterdir():
        (tmp_path / "settings" / path.name).write_bytes(path.read_bytes())
    installation = {"resources": ["argocd-cm.yaml"], "components": ["settings"]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(installation))
    merged = yaml.safe_load(control_plane.kubectl("kustomize", str(tmp_path)))
    ours = documents(DIST / "argocd/settings/argocd-cm.yaml")[0]["data"]
    assert merged["data"] == {"url": "https://argocd.example.com", **ours}


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


@pytest.mark.usefixtures("operator_namespace")
@pytest.mark.control_plane
def test_a_server_with_the_crds_of_prometheus_operator_accepts_the_monitors(control_plane: ControlPlane) -> None:
    options = ["--server-side", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"]
    monitors = (DIST / "monitoring/monitoring.yaml").read_text()
    with upstream_crds(control_plane, *components.PROMETHEUS_OPERATOR):
        applied = control_plane.kubectl("apply", *options, input=monitors)
        assert len(applied.splitlines()) == len(parsed(monitors))
        for right, wrong, reason in (
            ("honorLabels: true", "honorLabel: true", "not declared in schema"),
            ("for: 5m", "for: 5 minutes", "should match"),
        ):
            with pytest.raises(subprocess.CalledProcessError) as refused:
                control_plane.kubectl("apply", *options, input=monitors.replace(right, wrong, 1))
            assert reason in refused.value.stderr


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
