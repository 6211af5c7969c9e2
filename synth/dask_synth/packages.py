"""Python packages of a release: a wheel, its source, and a recipe for conda-forge.

The recipe is for those who compute: of what the constructs need, cdk8s and jsii, conda-forge has nothing.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from .failure import Failure

#: What conda-forge calls otherwise than PyPI.
_ON_CONDA = {"prometheus-client": "prometheus_client"}
_REQUIREMENT = re.compile(r"([A-Za-z0-9-]+)(?:\[[^]]*\])?\s*([^;]*)")


def python_packages(root: Path, target: Path) -> None:
    """Wheel and source of the project in ``root``, the same bytes for the same files, and the recipe made of it.

    Raises:
        Failure: hatchling does not build them.
    """
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(target.resolve())]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"no Python packages: {done.stderr.strip()}")
    (source,) = target.glob("*.tar.gz")
    stated = tomllib.loads((root / "pyproject.toml").read_text())
    (target / "recipe.yaml").write_text(recipe(stated, source.name, hashlib.sha256(source.read_bytes()).hexdigest()))


def recipe(stated: dict[str, Any], source: str, digest: str) -> str:
    """A recipe as conda-forge takes it: https://rattler.build/latest/reference/recipe_file/.

    Args:
        stated: ``pyproject.toml``.
        source: name of the source on the release's page.
        digest: its SHA-256.
    """
    project, python = stated["project"], stated["project"]["requires-python"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["client"]]
    scripts = {name: target for name, target in project["scripts"].items() if target.startswith("dask_gitops.")}
    content = {
        "schema_version": 1,
        "context": {"version": project["version"]},
        "package": {"name": project["name"], "version": "${{ version }}"},
        "source": {
            "url": f"{project['urls']['Source']}/releases/download/v{project['version']}/{source}",
            "sha256": digest,
        },
        "build": {
            "number": 0,
            "noarch": "python",
            "script": "${{ PYTHON }} -m pip install . -vv --no-deps --no-build-isolation",
            "python": {"entry_points": [f"{name} = {target}" for name, target in scripts.items()]},
        },
        "requirements": {
            "host": [f"python {python}", "pip", *map(_on_conda, stated["build-system"]["requires"])],
            "run": [f"python {python}", *map(_on_conda, needed)],
        },
        "tests": [{"python": {"imports": ["dask_gitops", "dask_crds"], "pip_check": False}}],
        "about": {
            "homepage": project["urls"]["Source"],
            "documentation": project["urls"]["Documentation"],
            "summary": project["description"],
            "license": project["license"],
            "license_file": "LICENSE",
        },
    }
    return yaml.safe_dump(content, sort_keys=False, width=116)


def _on_conda(requirement: str) -> str:
    """A requirement of PyPI as conda writes it."""
    found = _REQUIREMENT.fullmatch(requirement)
    if found is None:
        raise Failure(f"conda has nothing like {requirement!r}")
    name, versions = found.groups()
    return f"{_ON_CONDA.get(name, name)} {versions}".strip()
