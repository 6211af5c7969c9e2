"""Limits of the operator: how many workers, clusters and running jobs there may be; the rest waits in line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from .values import Text, Workers

Most = Workers | Literal["none"]


class Limit(TypedDict, total=False):
    """Limits of one namespace, or of each owner in it; what is left out is as it is elsewhere."""

    workers: Most | None
    """Workers, terminating ones included."""
    clusters: Most | None
    """Clusters that run; those of jobs do not count."""
    jobs: Most | None
    """Jobs that run."""


class Limits(Limit, total=False):
    """Limits of every namespace, with exceptions."""

    by: Literal["namespace", "owner"] | None
    """Whether a limit is for all of a namespace (default), or for each owner in one by the label ``dask.org/owner``, or
    the annotation of that name."""
    namespaces: Mapping[Text, Limit] | None
    """Other limits in some namespaces, ``"none"`` for no limit."""


def written(limits: Mapping[str, Any]) -> str:
    """As the operator reads it."""
    return json.dumps(limits, sort_keys=True, separators=(",", ":"))
