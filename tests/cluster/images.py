"""Container images without Docker, as docker-archives that containerd imports: pulled, or made here.

Those that are made have two layers: Debian with Python, shared, and what comes on top.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .components import ensure
from .machine import ARCHITECTURE, CACHE, Unavailable, locked, progress, run
from .releases import forced, to_download

ROOT = Path(__file__).parents[2]
PAUSE = "registry.k8s.io/pause:3.10.1"
DASK = "ghcr.io/dask/dask"
DASK_VERSION = "2026.8.0"
NOTEBOOK = "notebook.test/dask-gitops:1"  #: nobody publishes it
LAB = "lab.test/dask-gitops:1"  #: the same
OPERATOR = "ghcr.io/dask-gitops/operator:0.1.0"  #: as in dist/; a test compares them
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PAUSE_SOURCE = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void on(int s) { if (s == SIGCHLD) while (waitpid(-1, 0, WNOHANG) > 0); else _exit(0); }
int main(void) { signal(SIGTERM, on); signal(SIGINT, on); signal(SIGCHLD, on); for (;;) pause(); }
"""


def pause_image() -> Path:
    """The image that holds a Pod's namespaces: Kubernetes' own, or a static program of six lines."""
    archive = CACHE / "images" / "pause.tar"
    with locked("pause"):
        if not archive.exists():
            if own := pulled(PAUSE):
                return own
            root = CACHE / "rootfs" / "pause"
            root.mkdir(parents=True, exist_ok=True)
            command = ["gcc", "-x", "c", "-static", "-Os", "-o", str(root / "pause"), "-"]
            subprocess.run(command, input=_PAUSE_SOURCE, text=True, check=True)
            pack(archive, PAUSE, [root], entrypoint=["/pause"])
    return archive


def dask_image(version: str = DASK_VERSION, *, official: bool = False) -> Path:
    """An image with dask, distributed, what their dashboard needs, and the Python of this machine's Debian.

    Args:
        version: of Dask.
        official: whether Dask's own image does as well. Not for tests, whose clients must be of the same Python.
    """
    reference = f"{DASK}:{version}"
    packages = [f"dask=={version}", f"distributed=={version}", "bokeh", "pandas"]
    with locked(f"dask-{version}"):
        archive = CACHE / "images" / f"dask-{version}.tar"
        if not archive.exists():
            if official and (own := pulled(reference)):
                return own
            with progress(f"making the image {reference}"):
                layer = _python_layer(f"dask-{version}", packages)
                scripts = layer / "usr/local/bin"
                (scripts / "python").symlink_to("/usr/bin/python3")
                for role in ("scheduler", "worker"):
                    # With the guard: a worker's nanny imports the main module again.
                    script = f"#!/usr/bin/python3\nfrom distributed.cli.dask_{role} import main\n"
                    (scripts / f"dask-{role}").write_text(f'{script}if __name__ == "__main__":\n    main()\n')
                    (scripts / f"dask-{role}").chmod(0o755)
                pack(archive, reference, [_debian(), layer], command=["python3"])
    return archive


def pulled(reference: str) -> Path | None:
    """An image from its registry, nothing where that does not answer or lacks it.

    Raises:
        Unavailable: nothing may take its place.
    """
    archive = CACHE / "images" / f"pulled-{re.sub('[^a-z0-9.]', '_', reference)}.tar"
    with locked("pull"):
        if archive.exists():
            return archive
        if not to_download(reference.partition("/")[0]):
            return None
        archive.parent.mkdir(parents=True, exist_ok=True)
        partial = archive.with_suffix(f".{os.getpid()}")
        try:
            crane = ensure(["crane"])["crane"]
            with progress(f"pulling {reference}"):
                run([str(crane), "pull", "--platform", f"linux/{ARCHITECTURE}", reference, str(partial)])
        except Unavailable as reason:
            partial.unlink(missing_ok=True)
            if forced():
                raise
            print(f"  {str(reason).splitlines()[-1]}: made here instead", file=sys.stderr, flush=True)
            return None
        partial.rename(archive)
    return archive


def operator_image(reference: str, source: Path = ROOT) -> Path:
    """The operator's installation, as its Dockerfile makes it: non-root, nothing written at run time.

    Args:
        reference: the image's name.
        source: the project, or another version of it.
    """
    entrypoint = {"entrypoint": ["python3", "-m", "dask_controller"], "user": "65532:65532"}
    return _installation("operator", "controller,tracing", reference, source, entrypoint)


def notebook_image() -> Path:
    """What somebody has in a notebook: the client, Dask, and the Python of ``dask_image``."""
    return _installation("notebook", "client", NOTEBOOK, ROOT, {"command": ["python3"]}, f"distributed=={DASK_VERSION}")


def lab_image() -> Path:
    """The same with JupyterLab and Dask's extension of it: large, and for one test, see `lab_is_wanted`."""
    packages = [f"distributed=={DASK_VERSION}", "jupyterlab", "dask-labextension", "jupyter-server-proxy"]
    return _installation("lab", "client", LAB, ROOT, {"command": ["jupyter", "lab"]}, *packages)


def lab_is_wanted() -> bool:
    """Whether that has ever been made on this machine."""
    return any((CACHE / "images").glob("lab-*.tar"))


def _installation(
    kind: str, extra: str, reference: str, source: Path, settings: Mapping[str, Any], *packages: str
) -> Path:
    """Our wheel with an extra, and what else is asked for."""
    folders = ("crds", "resources", "controller", *(["client"] if extra == "client" else []))
    sources = sorted(p for s in folders for p in (source / s).rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for path in [source / "pyproject.toml", *(p for p in sources if "__pycache__" not in p.parts)]:
        digest.update(str(path.relative_to(source)).encode() + path.read_bytes())
    name = f"{kind}-{digest.hexdigest()[:12]}"
    suffix = re.sub("[^a-z0-9.]", "_", reference)
    archive = CACHE / "images" / f"{name}-{suffix}.tar"
    with locked(kind):
        if not archive.exists():
            for old in (CACHE / "images").glob(f"{kind}-*-{suffix}.tar"):
                old.unlink()
            with progress(f"making the image {reference}"):
                # Never into dist/, which holds the manifests.
                wheels = CACHE / "wheels" / name
                pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
                run([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(source)])
                (wheel,) = wheels.glob("*.whl")
                layer = _python_layer(name, [f"dask-gitops[{extra}] @ file://{wheel}", *packages])
                pack(archive, reference, [_debian(), layer], **settings)
                shutil.rmtree(layer)
                shutil.rmtree(wheels)
    return archive


def _debian() -> Path:
    """Root filesystem of a minimal Debian with Python."""
    root = CACHE / "rootfs" / "debian"
    with locked("debian"):
        if not (root / "complete").exists():
            mirror, suite = _mirror()
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(parents=True)
            with progress(f"making a root filesystem of Debian {suite}"):
                include = "--include=python3,ca-certificates"
                run(["debootstrap", "--variant=minbase", include, suite, str(root), mirror])
            for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
                shutil.rmtree(root / waste, ignore_errors=True)
            (root / "complete").touch()
    return root


def _mirror() -> tuple[str, str]:
    """The Debian (or Ubuntu) mirror and release of this machine.

    Raises:
        Unavailable: its package sources name none.
    """
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.M)
    for file in [*Path("/etc/apt/sources.list.d").glob("*.sources"), Path("/etc/apt/sources.list")]:
        text = file.read_text() if file.exists() else ""
        uri = re.search(r"^(?:URIs:|deb(?: \[.*?\])?)\s+(https?://\S*/(?:debian|ubuntu)/?)(?:\s|$)", text, re.M)
        if uri and release:
            return uri[1], release[1]
    raise Unavailable("the images need a Debian mirror, and this machine's package sources name none")


def _python_layer(name: str, packages: Sequence[str]) -> Path:
    """A layer with Python packages, installed for the Python of the Debian below it."""
    (library,) = (_debian() / "usr/lib").glob("python3.*")
    version = library.name.removeprefix("python")
    layer = CACHE / "rootfs" / name
    shutil.rmtree(layer, ignore_errors=True)
    target = layer / "usr/local/lib" / library.name / "dist-packages"
    target.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-compile"]
    options = ["--only-binary=:all:", f"--python-version={version}", f"--target={target}", "--ignore-installed"]
    run([*pip, *options, *packages])
    for data in ("share", "etc"):  # where Jupyter looks
        if (target / data).exists():
            shutil.move(target / data, layer / "usr/local" / data)
    scripts = layer / "usr/local/bin"
    scripts.mkdir(parents=True)
    for script in sorted((target / "bin").glob("*")) if (target / "bin").exists() else []:
        text = script.read_bytes()
        if text.startswith(b"#!"):
            script.write_bytes(b"#!/usr/bin/python3\n" + text.partition(b"\n")[2])
        shutil.move(script, scripts / script.name)
    return layer


def pack(
    archive: Path,
    reference: str,
    layers: Sequence[Path],
    *,
    command: Sequence[str] = (),
    entrypoint: Sequence[str] = (),
    user: str = "",
) -> None:
    """Write a docker-archive: a tar of layer tars, a configuration, and a manifest that names both."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    tars = [_layer_tar(layer) for layer in layers]
    settings = {"Env": [_PATH], "User": user, "Cmd": list(command) or None, "Entrypoint": list(entrypoint) or None}
    configuration = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest, _ in tars]},
        "config": settings,
        "history": [{"created_by": "dask-gitops"} for _ in tars],
    }
    partial = archive.with_suffix(f".{os.getpid()}")
    with tarfile.open(partial, "w") as out:
        blob = json.dumps(configuration).encode()
        name = f"{hashlib.sha256(blob).hexdigest()}.json"
        manifest = [{"Config": name, "RepoTags": [reference], "Layers": [f"{digest}.tar" for digest, _ in tars]}]
        _add(out, {name: blob, "manifest.json": json.dumps(manifest).encode()})
        for digest, tar in tars:
            out.add(tar, arcname=f"{digest}.tar")
    for _, tar in tars:
        tar.unlink()
    partial.rename(archive)


def _layer_tar(layer: Path) -> tuple[str, Path]:
    tar = layer.with_name(f".{layer.name}.{os.getpid()}.tar")
    done = subprocess.run(
        ["tar", "-C", str(layer), "--numeric-owner", "--sort=name", "--mtime=@0", "-cf", str(tar), "."],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"packing {layer.name} failed: {done.stderr[-500:]}")
    with tar.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest(), tar


def _add(archive: tarfile.TarFile, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
