"""The programs of a cluster: found, downloaded from their projects' releases, or built from source.

Looked for in this order: the folder named by ``KUBEBUILDER_ASSETS``, the cache, and else put into the cache.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from .build import build, go_command, source
from .machine import (
    ARGO_CD_PACKAGES,
    CACHE,
    NODE_PACKAGES,
    Unavailable,
    ensure_packages,
    locked,
    progress,
    run,
    unpacked,
)
from .modules import (
    ARGO_CD,
    AUTOSCALER,
    CERT_MANAGER,
    CONTROL_PLANE,
    FLUX,
    GATEWAY_API,
    KEDA,
    KUEUE,
    MODULES,
    NODE,
    PROMETHEUS_OPERATOR,
    TOOLS,
    module_of,
    program,
)
from .releases import NotPublished, download, forced, to_download

__all__ = [
    "ARGO_CD",
    "ARGO_CD_PACKAGES",
    "AUTOSCALER",
    "CACHE",
    "CERT_MANAGER",
    "CONTROL_PLANE",
    "FLUX",
    "GATEWAY_API",
    "KEDA",
    "KUEUE",
    "MODULES",
    "NODE",
    "NODE_PACKAGES",
    "PROMETHEUS_OPERATOR",
    "TOOLS",
    "Unavailable",
    "crds",
    "ensure",
    "ensure_packages",
    "find",
    "go_command",
    "locked",
    "program",
    "progress",
    "run",
    "source",
    "unpacked",
    "upstream_crds",
]


def find(name: str) -> Path | None:
    """Where a component is, if it is somewhere."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    candidates = [Path(assets) / name] if assets else []
    candidates.append(module_of(name).folder / name)
    return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)


def ensure(names: Iterable[str]) -> dict[str, Path]:
    """All of the components, downloaded or built where missing.

    Raises:
        Unavailable: there is no Go, a build failed, or what must be downloaded is not published.
        releases.Refused: a download is not what its project says.
    """
    names = list(names)
    missing = [name for name in names if find(name) is None]
    for number, name in enumerate(missing, 1):
        with locked(f"build-{module_of(name).name}"):
            if find(name) is None:
                _make(name, f"{number} of {len(missing)}")
    return {name: path for name in names if (path := find(name)) is not None}


def _make(name: str, position: str) -> None:
    module = module_of(name)
    if module.release and to_download(module.release.host):
        try:
            with progress(f"downloading {name} {module.version} ({position})"):
                return download(module, name)
        except NotPublished as reason:
            if forced():
                raise
            print(f"  {reason}: built instead", file=sys.stderr, flush=True)
    build(name, position)


def crds(name: str) -> Path:
    """Folder of the CustomResourceDefinitions that belong to a program that was built here."""
    return module_of(name).folder / "crds"


def upstream_crds(name: str) -> list[Path]:
    """CustomResourceDefinitions that belong to a program, which need not be built for it.

    Raises:
        Unavailable: its source cannot be downloaded.
    """
    return sorted(source(name).glob(module_of(name).crds))
