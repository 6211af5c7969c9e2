"""Mistakes that the types do not show: the API server's CEL rules, told offline, and what Kubernetes refuses later.

The API server checks most of this too (``schema.py``); here it is said at synth time, with the field's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import names
from .kubernetes import PodSpec
from .model import DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup, InvalidManifest, Kind, Worker

_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_POD_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_PERCENTAGE = re.compile(r"[0-9]+%")


def problems(value: Kind) -> list[InvalidManifest]:
    """All mistakes in a resource, in the order of its fields."""
    return [InvalidManifest(path, message) for path, message in _problems(value)]


Problems = Iterator[tuple[str, str]]


def _problems(value: Kind) -> Problems:
    if isinstance(value, DaskCluster):
        yield from _cluster_name(value.name)
        yield from _pod("spec.scheduler.spec", value.spec.scheduler.spec)
        yield from _worker("spec.worker", value.spec.worker)
    elif isinstance(value, DaskWorkerGroup):
        yield from _group_name("metadata.name", value.name)
        yield from _worker("spec.worker", value.spec.worker)
    elif isinstance(value, DaskJob):
        yield from _cluster_name(value.name)
        yield from _pod("spec.cluster.spec.scheduler.spec", value.spec.cluster.spec.scheduler.spec)
        yield from _worker("spec.cluster.spec.worker", value.spec.cluster.spec.worker)
        yield from _pod("spec.job.spec", value.spec.job.spec)
        if value.spec.job.spec.get("restartPolicy") == "Always":
            yield "spec.job.spec.restartPolicy", "must be Never or OnFailure: a runner runs to completion"
    elif isinstance(value, DaskAutoscaler) and value.spec.minimum > value.spec.maximum:
        yield "spec.minimum", f"must not be greater than spec.maximum ({value.spec.minimum} > {value.spec.maximum})"


def _cluster_name(name: str) -> Problems:
    if len(name) > names.MAX_CLUSTER_NAME:
        limit = f"must have at most {names.MAX_CLUSTER_NAME} characters, has {len(name)}"
        yield "metadata.name", f"{limit}: the Service is named <name>-scheduler"
    if not _SERVICE_NAME.fullmatch(name):
        yield "metadata.name", f"{name!r} must be a DNS label that starts with a letter: the Service is named after it"


def _group_name(path: str, name: str) -> Problems:
    if len(name) > names.MAX_GROUP_NAME:
        yield (
            path,
            f"must have at most {names.MAX_GROUP_NAME} characters, has {len(name)}: it is a label of the workers",
        )
    if not _POD_NAME.fullmatch(name):
        yield path, f"{name!r} must be a DNS name: the workers are named after it"


def _pod(path: str, spec: PodSpec) -> Problems:
    if not spec["containers"]:
        yield f"{path}.containers", "must have at least one container"
    seen: set[str] = set()
    for number, container in enumerate(spec["containers"]):
        if container["name"] in seen:
            yield f"{path}.containers[{number}].name", f"{container['name']!r} is used twice"
        seen.add(container["name"])
        if not container.get("image"):
            yield f"{path}.containers[{number}].image", "is missing"


def _worker(path: str, worker: Worker) -> Problems:
    yield from _pod(f"{path}.spec", worker.spec)
    rolling = worker.update_strategy and worker.update_strategy.rolling_update
    if rolling:
        for field, amount in (("maxSurge", rolling.max_surge), ("maxUnavailable", rolling.max_unavailable)):
            fits = amount >= 0 if isinstance(amount, int) else bool(_PERCENTAGE.fullmatch(amount))
            if not fits:
                yield f"{path}.updateStrategy.rollingUpdate.{field}", f"{amount!r} must be a number or a percentage"
