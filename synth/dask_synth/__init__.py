"""The cdk8s app of this repository, and what the programs of users take from it.

``dask-synth`` writes ``dist/``; ``dask-synth init DIR`` starts a repository of your own, which uses ``output``,
``kustomization`` and ``schemas``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import kustomization, schemas
    from .folders import output

__all__ = ["kustomization", "output", "schemas"]

_HOMES = {"kustomization": "app", "output": "folders", "schemas": "app"}


def __getattr__(name: str) -> Any:
    """Import on demand: cdk8s starts Node.js, for which no ``--help`` has to wait."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
