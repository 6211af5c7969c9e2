"""What a scheduler needs to keep a record of what its cluster did: to be told where, and a volume if it is in one.

See ``dask_gitops_history`` in ``in_pod/scheduler``, which writes it.
"""

from __future__ import annotations

import json
from typing import Any

from dask_crds.model import DaskCluster, dump
from dask_crds.names import Component

from .pod import main_container, with_volume
from .revision import revision

#: Where the volume is.
MOUNT_PATH = "/var/lib/dask-gitops-history"
#: Tells the module what to write where.
VARIABLE = "DASK_GITOPS_HISTORY"
_VOLUME = "dask-gitops-history"


def with_history(spec: dict[str, Any], cluster: DaskCluster) -> dict[str, Any]:
    """A scheduler's PodSpec with what it takes to keep a history, if its cluster does."""
    history = cluster.spec.history
    if history is None:
        return spec
    main = main_container(spec, Component.SCHEDULER)
    told = {
        "root": history.url or MOUNT_PATH,
        "path": history.path or "",
        "keep": history.effective("keep"),
        "namespace": cluster.namespace,
        "name": cluster.name,
        "run": cluster.uid,
    }

    def telling(container: dict[str, Any]) -> dict[str, Any]:
        theirs = [variable for variable in container.get("env") or () if variable["name"] != VARIABLE]
        return {**container, "env": [*theirs, {"name": VARIABLE, "value": json.dumps(told)}]}

    spec = {**spec, "containers": [telling(c) if c["name"] == main else c for c in spec["containers"]]}
    if history.claim_name is None:
        return spec
    source = {"persistentVolumeClaim": {"claimName": history.claim_name}}
    return with_volume(spec, main, name=_VOLUME, source=source, path=MOUNT_PATH, read_only=False)


def historic_revision(of: str, cluster: DaskCluster) -> str:
    """Revision of a scheduler that keeps a history; without one, that of the rest of it."""
    return revision([of, dump(cluster.spec.history)]) if cluster.spec.history is not None else of
