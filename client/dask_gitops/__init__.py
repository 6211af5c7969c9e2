"""Dask clusters that Git owns, for those who compute: find, wake, use and leave them.

>>> from dask_gitops import connect
>>> client = connect("analytics", workers=4)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import Cluster
    from .connecting import connect
    from .errors import (
        DaskGitopsError,
        Governed,
        MissingRight,
        NoSuchCluster,
        NotInstalled,
        NotReady,
        Refused,
        Unreachable,
    )
    from .listing import clusters

_MODULES = {"Cluster": "cluster", "connect": "connecting", "clusters": "listing"}

__all__ = [
    "Cluster",
    "DaskGitopsError",
    "Governed",
    "MissingRight",
    "NoSuchCluster",
    "NotInstalled",
    "NotReady",
    "Refused",
    "Unreachable",
    "clusters",
    "connect",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and no more: ``kubectl dask`` shall not wait for distributed."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)
