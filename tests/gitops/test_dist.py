"""``dist/argocd`` and ``dist/flux`` on an empty cluster: CRDs, operator and workloads come, and go, in order."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane, components, images
from tests.cluster.processes import free_port
from tests.e2e.support import Kubectl, Manifests, eventually, ready_pods
from tests.support import clusters, template
from tests.support.clusters import or_skip
from tests.support.constructs import chart, synth
from tests.support.controller import start_operator

from dask_constructs import ArgoCDApplications, FluxKustomizations, Source
from dask_constructs.operator_pod import VERSION
from dask_synth.app import write
from dask_synth.config import Configuration
from dask_synth.release import release

from .argocd import ArgoCD
from .flux import Flux
from .git import GitServer

pytestmark = pytest.mark.control_plane

NAMESPACE = "analytics"
APPLICATIONS = ("dask-crds", "dask-operator", "dask-workloads")
CRDS = 4


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """Without anything of ours."""
    with clusters.control_plane(crds=None) as plane:
        yield plane


@pytest.fixture
def argocd(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    """Argo CD, which knows nothing of Dask yet; kubectl in its namespace."""
    with or_skip("Argo CD"):
        kustomize = components.ensure(["kustomize"])["kustomize"]  # Argo CD calls it
        monkeypatch.setenv("PATH", f"{kustomize.parent}:{os.environ['PATH']}")
        ArgoCD(plane, settings={})
    return Kubectl(plane.kubectl, "argocd")


@pytest.fixture
def flux(plane: ControlPlane) -> Kubectl:
    """Flux; kubectl in its namespace."""
    with or_skip("Flux"):
        Flux(plane)
    return Kubectl(plane.kubectl, "flux-system")


@pytest.fixture
def dist(plane: ControlPlane, tmp_path: Path) -> Iterator[Path]:
    """The ``dist`` folder of a repository that is served, with a cluster beside it, whose namespace exists."""
    plane.kubectl("create", "namespace", NAMESPACE)
    with GitServer(tmp_path / "git") as server:
        url = f"{server.url}/platform.git"
        folder = tmp_path / "platform"
        write(folder / "dist", Configuration(repository=url, namespaces=(NAMESPACE,)))
        cluster = Manifests(plane.kubeconfig, NAMESPACE).cluster_manifest(
            "c", workers=2, worker_extra={"drainTimeoutSeconds": 0}
        )
        cluster["metadata"]["namespace"] = NAMESPACE
        cluster["spec"]["worker"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "0.1"
        (folder / "clusters").mkdir()
        (folder / "clusters/cluster.yaml").write_text(yaml.safe_dump(cluster))
        push(folder, server.folder / "platform.git")
        yield folder / "dist"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Path]:
    """The development environment of a repository that a platform team starts from, served."""
    with GitServer(tmp_path / "git") as server:
        folder = template.start(tmp_path / "platform", REPOSITORY=f"{server.url}/platform.git")
        push(folder, server.folder / "platform.git")
        yield folder / "dist/dev"


def push(folder: Path, bare: Path) -> None:
    """Make a folder a Git repository, and push it to a new one."""
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (
        ["git", "init", "--quiet", "--bare", "--initial-branch=main", bare],
        ["git", "init", "--quiet", "--initial-branch=main"],
        ["git", "add", "--all"],
        [*git, "commit", "--quiet", "--message=everything"],
        ["git", "push", "--quiet", bare, "main"],
    ):
        subprocess.run(command, cwd=folder, env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}, check=True)


@pytest.fixture
def artifact(plane: ControlPlane, tmp_path: Path) -> str:
    """A release in a registry: its ``oci://`` URL."""
    with or_skip("registry"):
        crane = components.ensure(["crane"])["crane"]
    address = f"127.0.0.1:{free_port()}"
    plane.processes.start("registry", crane, "registry", "serve", "--address", address)
    lock = images.ROOT / "controller/requirements.lock"
    digest = release(tmp_path / "release", Configuration(), lock=lock)
    push = [crane, "push", tmp_path / "release/oci", f"{address}/dask:{VERSION}"]
    plane.wait(lambda: subprocess.run(push, check=True, capture_output=True), "the registry")
    assert subprocess.check_output([crane, "digest", f"{address}/dask:{VERSION}"], text=True).strip() == digest
    return f"oci://{address}/dask"


def from_release(construct: type, url: str, **options: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """What installs CRDs and operator from there; workloads come from elsewhere."""
    c = chart()
    construct(c, "it", source=Source(repository=url, revision=VERSION, manifests="."), **options)
    return {(m["kind"], m["metadata"]["name"]): m for m in synth(c) if m["metadata"]["name"] != "dask-workloads"}


def test_argo_cd_installs_a_release(plane: ControlPlane, argocd: Kubectl, artifact: str):
    credentials = {"type": "oci", "url": artifact, "insecureOCIForceHttp": "true"}
    label = {"argocd.argoproj.io/secret-type": "repository"}
    metadata = {"name": "registry", "labels": label}
    argocd.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": credentials})
    for manifest in from_release(ArgoCDApplications, artifact, server=f"https://127.0.0.1:{plane.port}").values():
        argocd.apply(manifest)
    for name in ("dask-crds", "dask-operator"):
        eventually(lambda name=name: argocd.status("application", name)["sync"]["status"] == "Synced", seconds=180)
    assert len(crds(plane)) == CRDS
    assert plane.kubectl("-n", "dask-operator", "get", "deployments", "-o", "name").strip()


def test_flux_installs_a_release(plane: ControlPlane, flux: Kubectl, artifact: str):
    found = from_release(FluxKustomizations, artifact)
    found["OCIRepository", "dask"]["spec"]["insecure"] = True  # plain HTTP
    for manifest in found.values():
        flux.apply(manifest)
    for name in ("dask-crds", "dask-operator"):
        ready = ("kustomization", name, "Ready")
        eventually(lambda ready=ready: flux.condition(*ready).get("status") == "True", seconds=300)
    assert len(crds(plane)) == CRDS
    assert plane.kubectl("-n", "dask-operator", "get", "deployments", "-o", "name").strip()


def readdress(plane: ControlPlane, applications: Path) -> None:
    """Argo CD runs outside of the cluster here, so that has another address."""
    address = f"https://127.0.0.1:{plane.port}"
    applications.write_text(applications.read_text().replace("https://kubernetes.default.svc", address))


def test_argo_cd_runs_the_template(plane: ControlPlane, argocd: Kubectl, platform: Path):
    readdress(plane, platform / "argocd/argocd.yaml")
    argocd("apply", "--server-side", "--field-manager=dask", "-k", str(platform / "argocd"))
    eventually(lambda: len(crds(plane)) == CRDS, seconds=180)
    start_operator(plane)
    for name in ("dask-crds", "dask-operator", "dask-workloads"):
        eventually(lambda name=name: argocd.status("application", name)["sync"]["status"] == "Synced", seconds=180)
    runs(plane)


def test_flux_runs_the_template(plane: ControlPlane, flux: Kubectl, platform: Path):
    flux("apply", "-k", str(platform / "flux"))
    eventually(lambda: len(crds(plane)) == CRDS, seconds=180)
    start_operator(plane)
    ready = ("kustomization", "dask-operator", "Ready")
    eventually(lambda: flux.condition(*ready).get("status") == "True", seconds=300)
    runs(plane)


def runs(plane: ControlPlane) -> None:
    """The team's namespace with its rules, and in it the cluster and the job. What it computes: tests/e2e."""
    team = Kubectl(plane.kubectl, "analytics")
    assert team("get", "resourcequota,networkpolicy", "-o", "name").count("/") > 3
    assert team("get", "validatingadmissionpolicybindings", "-o", "name").strip()
    eventually(lambda: team.condition("daskcluster", "analytics", "SchedulerReady").get("status") == "True")
    eventually(lambda: len(ready_pods(team, "hello", "job-runner")) == 1, seconds=120)


def crds(plane: ControlPlane) -> list[str]:
    return [name for name in plane.kubectl("get", "crd", "-o", "name").split() if "kubernetes.dask.org" in name]


def cpu(workloads: Kubectl) -> str:
    path = "{.spec.worker.spec.containers[0].resources.requests.cpu}"
    return workloads("get", "daskcluster", "c", "-o", f"jsonpath={path}")


def refresh(argocd: Kubectl, name: str) -> None:
    """It looks every few minutes otherwise: changes of status alone do not wake it."""
    argocd("annotate", "application", name, "argocd.argoproj.io/refresh=normal", "--overwrite")


def looked_at(argocd: Kubectl, name: str) -> str:
    """The time of its last look, in seconds: it is asked to look until there was one in another second."""
    refresh(argocd, name)
    return argocd.status("application", name)["reconciledAt"]


def settle(argocd: Kubectl, name: str) -> None:
    """Wait until an application is synced and healthy."""

    def settled() -> bool:
        status = argocd.status("application", name)
        if (status["sync"]["status"], status["health"]["status"]) == ("Synced", "Healthy"):
            return True
        refresh(argocd, name)
        return False

    try:
        eventually(settled, seconds=180)
    except AssertionError:
        raise AssertionError(json.dumps(argocd.status("application", name), indent=1)) from None


def test_argo_cd(plane: ControlPlane, argocd: Kubectl, dist: Path):
    workloads = Kubectl(plane.kubectl, NAMESPACE)
    settings = dist / "argocd/settings/argocd-cm.yaml"
    argocd("apply", "--server-side", "--force-conflicts", "--field-manager=dask", "-f", str(settings))
    readdress(plane, dist / "argocd/applications.yaml")
    argocd("apply", "-k", str(dist / "argocd"))

    settle(argocd, "dask-crds")
    start_operator(plane)
    for name in APPLICATIONS:
        settle(argocd, name)
    workloads.wait_ready("daskcluster", "c")

    # The same number, written otherwise, is no drift; another one is, and is healed.
    for number, healed in (("100m", "100m"), ("200m", "0.1")):
        path = "/spec/worker/spec/containers/0/resources/requests/cpu"
        patch = f'[{{"op": "replace", "path": "{path}", "value": "{number}"}}]'
        workloads("patch", "daskcluster", "c", "--type=json", "-p", patch)
        before = argocd.status("application", "dask-workloads")["reconciledAt"]
        eventually(lambda t=before: looked_at(argocd, "dask-workloads") != t)
        settle(argocd, "dask-workloads")
        eventually(lambda healed=healed: cpu(workloads) == healed)

    finalizer = '{"metadata": {"finalizers": ["resources-finalizer.argocd.argoproj.io"]}}'
    for name in reversed(APPLICATIONS):
        argocd("patch", "application", name, "--type=merge", "-p", finalizer)
        argocd("delete", "application", name, "--timeout=120s")
        if name == "dask-workloads":
            assert workloads("get", "daskclusters", "-o", "name") == ""
            assert plane.kubectl("-n", "dask-operator", "get", "deployments", "-o", "name")
    assert "dask-operator" not in plane.kubectl("get", "deployments", "--all-namespaces", "-o", "name")
    assert len(crds(plane)) == CRDS


def test_flux(plane: ControlPlane, flux: Kubectl, dist: Path):
    workloads = Kubectl(plane.kubectl, NAMESPACE)
    flux("apply", "-k", str(dist / "flux"))

    def ready(name: str) -> bool:
        return flux.condition("kustomization", name, "Ready").get("status") == "True"

    # What does not succeed at once, beside controllers that are starting, is tried again a minute later.
    eventually(lambda: ready("dask-crds"), seconds=300)
    start_operator(plane)
    eventually(lambda: ready("dask-workloads"), seconds=300)
    assert all(map(ready, APPLICATIONS))
    # It has waited for the cluster, not for the resource alone.
    assert workloads.condition("daskcluster", "c", "Ready")["status"] == "True"

    for name in reversed(APPLICATIONS):
        flux("delete", "kustomization", name, "--timeout=120s")
        if name == "dask-workloads":
            assert workloads("get", "daskclusters", "-o", "name") == ""
            assert plane.kubectl("-n", "dask-operator", "get", "deployments", "-o", "name")
    eventually(lambda: "dask-operator" not in plane.kubectl("get", "deployments", "--all-namespaces", "-o", "name"))
    assert len(crds(plane)) == CRDS
