"""Kubernetes' Events, as `kubectl describe` shows them."""

from __future__ import annotations

import hashlib
from typing import Any

from dask_crds import names
from dask_crds.model import DaskObject

from ..core.actions import Event
from ..core.time import format_time

#: Characters of a resource's name in that of its Event: with a dot and a digest it may have 253, as all names.
_LONGEST = 236


def event_manifest(parent: DaskObject, event: Event, now: float) -> dict[str, Any]:
    """An Event whose name stands for what it says, so that repeating it makes no second one."""
    text = f"{parent.uid}{parent.generation}{event.reason}{event.message}"
    name = f"{parent.name[:_LONGEST].rstrip('-.')}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    involved = {"apiVersion": names.API_VERSION, "kind": parent.kind, "name": parent.name}
    involved |= {"namespace": parent.namespace, "uid": parent.uid}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": parent.namespace},
        "involvedObject": involved,
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "message": event.message[:1024],
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "reportingInstance": names.FIELD_MANAGER,
        "firstTimestamp": format_time(now),
        "lastTimestamp": format_time(now),
        "count": 1,
    }
