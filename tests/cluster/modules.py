"""The programs of a cluster: which version, from which Go module, and where its project publishes it.

Versions stand here and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from .machine import CACHE

KUBERNETES = "1.37.2"


@dataclass(frozen=True)
class Release:
    """Where a project publishes a version of its programs, with their checksums beside them.

    All are patterns that know ``{version}``, ``{program}``, ``{arch}`` (Go's name: amd64) and ``{machine}`` (x86_64).
    """

    folder: str  #: URL without ``https://``
    file: str
    sums: str  #: lines of checksum and file, or one checksum alone
    member: str = ""  #: path of the program in the archive; none where the file is the program

    @property
    def host(self) -> str:
        """Name of the server."""
        return self.folder.partition("/")[0]


@dataclass(frozen=True)
class Module:
    """A Go module and the programs built from it."""

    path: str
    version: str
    programs: tuple[str, ...]  #: import paths
    tags: str = ""
    cgo: bool = False
    ldflags: str = ""
    #: Whether it is at work all the time. Others are compiled in two thirds of the time, and run at half the speed.
    optimised: bool = False
    staging: bool = False  # whether it replaces its own parts by relative paths, as kubernetes does
    #: Whether it replaces other modules. A go.mod does so for its own program only, so ours has to repeat it.
    replaces: bool = False
    pinned: tuple[str, ...] = ()  # modules, with their versions, that its go.mod does not name or not so
    crds: str = ""  # glob of the CustomResourceDefinitions in the module
    #: Files that the module lacks, and where they belong: what a program embeds, or the program itself.
    lacks: dict[str, str] = field(default_factory=dict)
    release: Release | None = None  # none where the project publishes images alone, or no checksums

    @property
    def name(self) -> str:
        """Short name."""
        return re.sub(r"/v\d+$", "", self.path).rsplit("/", 1)[-1]

    @property
    def folder(self) -> Path:
        """Where its programs are kept."""
        return CACHE / "bin" / f"{self.name}-{self.version}"


def _on_github(project: str, file: str, sums: str, member: str = "", tag: str = "v{version}") -> Release:
    return Release(f"github.com/{project}/releases/download/{tag}", file, sums, member)


_VERSION = "k8s.io/component-base/version"
_CONTAINERD = "github.com/containerd/containerd/v2"
_ETCD = "etcd-v{version}-linux-{arch}"
_STATIC = "containerd-static-{version}-linux-{arch}"
_ARGO_CD = "github.com/argoproj/argo-cd/v3"
_REGISTRY = "github.com/google/go-containerregistry"
_SOURCE_CONTROLLER = "github.com/fluxcd/source-controller"
_KUSTOMIZE_CONTROLLER = "github.com/fluxcd/kustomize-controller"
_FLUX_CLI = "github.com/fluxcd/flux2/v2"
_KEDA = "github.com/kedacore/keda/v2"
_CERT_MANAGER = "github.com/cert-manager/cert-manager"
_PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator"
_HELM = "helm.sh/helm/v4"
_KUEUE = "sigs.k8s.io/kueue"
#: In the version that Kueue has.
_AUTOSCALER = "k8s.io/autoscaler/cluster-autoscaler/apis"
_NETWORK_POLICIES = "sigs.k8s.io/kube-network-policies"
MODULES = (
    Module(
        "k8s.io/kubernetes",
        KUBERNETES,
        tuple(
            f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubectl",
                "kubelet",
                "kube-proxy",
            )
        ),
        optimised=True,
        # Clients parse the version that the API server reports.
        ldflags=f"-X {_VERSION}.gitVersion=v{KUBERNETES} -X {_VERSION}.gitMajor=1 "
        f"-X {_VERSION}.gitMinor={KUBERNETES.split('.')[1]} -X {_VERSION}.gitTreeState=clean",
        staging=True,
        release=Release("dl.k8s.io/release/v{version}/bin/linux/{arch}", "{program}", "{program}.sha256"),
    ),
    Module(
        "go.etcd.io/etcd/server/v3",
        "3.7.3",
        ("go.etcd.io/etcd/server/v3",),
        optimised=True,
        release=_on_github("etcd-io/etcd", f"{_ETCD}.tar.gz", "SHA256SUMS", f"{_ETCD}/etcd"),
    ),
    # Its releases have no checksums.
    Module("sigs.k8s.io/kwok", "0.8.0", ("sigs.k8s.io/kwok/cmd/kwok",), optimised=True),
    Module(
        _CONTAINERD,
        "2.4.2",
        tuple(f"{_CONTAINERD}/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
        tags="no_btrfs no_zfs",
        optimised=True,
        # The other archive needs a glibc that not every machine has.
        release=_on_github(
            "containerd/containerd", f"{_STATIC}.tar.gz", f"{_STATIC}.tar.gz.sha256sum", "bin/{program}"
        ),
    ),
    # Without the seccomp tag every sandbox fails, because Pods ask for RuntimeDefault.
    Module(
        "github.com/opencontainers/runc",
        "1.5.2",
        ("github.com/opencontainers/runc",),
        tags="seccomp",
        cgo=True,
        optimised=True,
        release=_on_github("opencontainers/runc", "runc.{arch}", "runc.sha256sum"),
    ),
    Module(
        "sigs.k8s.io/kustomize/kustomize/v5",
        "5.8.2",
        ("sigs.k8s.io/kustomize/kustomize/v5",),
        release=_on_github(
            "kubernetes-sigs/kustomize",
            "kustomize_v{version}_linux_{arch}.tar.gz",
            "checksums.txt",
            "kustomize",
            tag="kustomize%2Fv{version}",
        ),
    ),
    Module(
        "github.com/yannh/kubeconform",
        "0.8.0",
        ("github.com/yannh/kubeconform/cmd/kubeconform",),
        release=_on_github("yannh/kubeconform", "kubeconform-linux-{arch}.tar.gz", "CHECKSUMS", "kubeconform"),
    ),
    Module(
        "github.com/zegl/kube-score",
        "1.20.0",
        ("github.com/zegl/kube-score/cmd/kube-score",),
        release=_on_github(
            "zegl/kube-score", "kube-score_{version}_linux_{arch}.tar.gz", "checksums.txt", "kube-score"
        ),
    ),
    Module(
        _REGISTRY,
        "0.22.1",
        (f"{_REGISTRY}/cmd/crane",),
        release=_on_github(
            "google/go-containerregistry", "go-containerregistry_Linux_{machine}.tar.gz", "checksums.txt", "crane"
        ),
    ),
    Module(
        "github.com/rhysd/actionlint",
        "1.7.12",
        ("github.com/rhysd/actionlint/cmd/actionlint",),
        release=_on_github(
            "rhysd/actionlint",
            "actionlint_{version}_linux_{arch}.tar.gz",
            "actionlint_{version}_checksums.txt",
            "actionlint",
        ),
    ),
    Module(
        _ARGO_CD,
        "3.5.7",
        (f"{_ARGO_CD}/cmd",),
        replaces=True,
        # A relative path there; published, but without a tag.
        pinned=("github.com/argoproj/argo-cd/gitops-engine v0.0.0-20260914071520-c9c369efcc5b",),
        crds="manifests/crds/*-crd.yaml",
    ),
    Module(
        _SOURCE_CONTROLLER,
        "1.9.6",
        (_SOURCE_CONTROLLER,),
        replaces=True,
        pinned=("github.com/fluxcd/pkg/artifact v0.18.1",),  # the module proxy lacks the one that it asks for
        crds="config/crd/bases/*.yaml",
    ),
    Module(_KUSTOMIZE_CONTROLLER, "1.9.6", (_KUSTOMIZE_CONTROLLER,), replaces=True, crds="config/crd/bases/*.yaml"),
    # What it embeds is for `flux install`, which nobody calls here.
    Module(
        _FLUX_CLI,
        "2.9.5",
        (f"{_FLUX_CLI}/cmd/flux",),
        lacks={"cmd/flux/manifests/none.yaml": "{}\n"},
        release=_on_github(
            "fluxcd/flux2", "flux_{version}_linux_{arch}.tar.gz", "flux_{version}_checksums.txt", "flux"
        ),
    ),
    Module(
        _KEDA,
        "2.21.0",
        (f"{_KEDA}/cmd/operator", f"{_KEDA}/cmd/adapter"),
        replaces=True,
        crds="config/crd/bases/*.yaml",
    ),
    Module(
        _CERT_MANAGER,
        "1.21.2",
        (f"{_CERT_MANAGER}/cmd/controller",),
        crds="deploy/crds/cert-manager.io_*.yaml",
        lacks={"cmd/controller/main.go": Path(__file__).with_name("cert_manager.go").read_text()},
    ),
    Module(
        _HELM,
        "4.3.1",
        (f"{_HELM}/cmd/helm",),
        release=Release(
            "get.helm.sh",
            "helm-v{version}-linux-{arch}.tar.gz",
            "helm-v{version}-linux-{arch}.tar.gz.sha256sum",
            "linux-{arch}/helm",
        ),
    ),
    Module(_KUEUE, "0.19.2", (f"{_KUEUE}/cmd/kueue",), crds="config/components/crd/bases/*.yaml", optimised=True),
    Module(_AUTOSCALER, "0.0.0-20240830133931-adfbe7e45277", (), crds="config/crd/*_provisioningrequests.yaml"),
    Module("sigs.k8s.io/gateway-api", "1.6.1", (), crds="config/crd/standard/*routes.yaml"),
    # Those of monitors and rules, of ten.
    Module(_PROMETHEUS_OPERATOR, "0.93.0", (), crds="example/prometheus-operator-crd/*[ol][re]s.yaml"),
    Module(_NETWORK_POLICIES, "0.8.0", (f"{_NETWORK_POLICIES}/cmd",)),
)
#: Those that are called otherwise than their path.
_PROGRAMS = {
    "go.etcd.io/etcd/server/v3": "etcd",
    f"{_ARGO_CD}/cmd": "argocd",
    f"{_KEDA}/cmd/operator": "keda-operator",
    f"{_KEDA}/cmd/adapter": "keda-adapter",
    f"{_CERT_MANAGER}/cmd/controller": "cert-manager-controller",
    f"{_NETWORK_POLICIES}/cmd": "kube-network-policies",
}

_CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
CONTROL_PLANE = (*_CONTROL_PLANE, "kwok")
NODE = (*_CONTROL_PLANE, "kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "runc")
TOOLS = ("kustomize", "kubeconform", "kube-score", "crane", "flux", "actionlint", "helm")
ARGO_CD = ("argocd",)
FLUX = ("source-controller", "kustomize-controller")
KEDA = ("keda-operator", "keda-adapter")
CERT_MANAGER = ("cert-manager-controller",)
KUEUE = ("kueue",)
AUTOSCALER = ("apis",)
GATEWAY_API = ("gateway-api",)
PROMETHEUS_OPERATOR = ("prometheus-operator",)


def program(import_path: str) -> str:
    """Name of the program that an import path builds."""
    return _PROGRAMS.get(import_path) or re.sub(r"/v\d+$", "", import_path).rsplit("/", 1)[-1]


def module_of(name: str) -> Module:
    """The module that a program is built from; one that only has CustomResourceDefinitions, by its own name."""
    return next(module for module in MODULES if name in ([*map(program, module.programs)] or [module.name]))
