"""What the metrics show of one resource: samples, made of what is known of it anyway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from dask_crds import metrics
from dask_crds.metrics import Metric
from dask_crds.model import Condition, DaskJob, DaskJobStatus, Usage
from dask_crds.reasons import Reason

from .pod import Pod
from .requests import Requests
from .time import time_or

#: Conditions that are shown of a resource: all of ours, and not as many as others write.
MOST_CONDITIONS = 16
#: Characters of an owner: as many as a name of a ServiceAccount with its namespace may have.
LONGEST_OWNER = 340
WORKER_STATES = ("pending", "ready", "draining", "leaving", "ended")
_REASONS = frozenset(map(str, Reason)) | metrics.KUBERNETES_REASONS

Sample = tuple[Metric, tuple[str, ...], float]


class _Metadata(Struct, frozen=True, rename="camel"):
    name: str
    namespace: str
    uid: str = ""
    creation_timestamp: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Spec(Struct, frozen=True):
    minimum: int | None = None
    maximum: int | None = None


class _Draining(Struct, frozen=True):
    name: str


class _Recommendation(Struct, frozen=True):
    replicas: int


class _Status(Struct, frozen=True, rename="camel"):
    conditions: list[Condition] | None = None
    desired_replicas: int | None = None
    draining: list[_Draining] | None = None
    recommendations: list[_Recommendation] | None = None
    usage: Usage | None = None


class Shown(Struct, frozen=True):
    """The fields of a resource that are shown; nothing else of its JSON is looked at."""

    metadata: _Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()

    def owner(self, key: str) -> str:
        """Who it belongs to, see `owner`."""
        return owner(self.metadata.labels, self.metadata.annotations, key)


def owner(labels: Mapping[str, str] | None, annotations: Mapping[str, str] | None, key: str) -> str:
    """Who a resource belongs to by its annotation of that key, else by its label; empty for nobody."""
    return str((annotations or {}).get(key) or (labels or {}).get(key) or "")[:LONGEST_OWNER]


_decode = msgspec.json.Decoder(Shown).decode


def shown(kept: bytes) -> Shown:
    """The fields of what is kept of a resource."""
    return _decode(kept)


def conditions(metric: Metric, who: tuple[str, ...], found: Sequence[Condition] | None) -> Iterator[Sample]:
    """Each condition as it is."""
    for it in (found or ())[:MOST_CONDITIONS]:
        yield metric, (*who, it.type, it.status, known(it.reason)), 1.0


def known(reason: str) -> str:
    """A reason as a label has it: one of a bounded number."""
    return reason if reason in _REASONS else metrics.OTHER_REASON


def cluster(it: Shown, owner: str, scheduler_pods: Iterable[Pod]) -> Iterator[Sample]:
    """Samples of a DaskCluster."""
    who = it.metadata.namespace, it.metadata.name
    yield metrics.CLUSTER_INFO, (*who, owner), 1.0
    yield metrics.CLUSTER_CREATED, who, time_or(it.metadata.creation_timestamp, 0.0)
    yield from conditions(metrics.CLUSTER_CONDITION, who, it.status.conditions)
    newest = max((p for p in scheduler_pods if not p.is_finished), key=lambda p: p.created, default=None)
    restarts = sum(c.restarts for c in newest.containers) if newest is not None else 0
    yield metrics.SCHEDULER_RESTARTS, who, float(restarts)


def worker_group(it: Shown, cluster: str, pods: Iterable[Pod]) -> Iterator[Sample]:
    """Samples of a DaskWorkerGroup."""
    who = it.metadata.namespace, cluster, it.metadata.name
    yield from conditions(metrics.GROUP_CONDITION, who, it.status.conditions)
    yield metrics.GROUP_DESIRED, who, float(it.status.desired_replicas or 0)
    draining = {entry.name for entry in it.status.draining or ()}
    count = Counter(_state(pod, draining) for pod in pods)
    for state in WORKER_STATES:
        yield metrics.GROUP_WORKERS, (*who, state), float(count[state])


def _state(pod: Pod, draining: set[str]) -> str:
    if pod.deleting:
        return "leaving"
    if pod.is_finished:
        return "ended"
    if pod.name in draining:
        return "draining"
    return "ready" if pod.ready else "pending"


def autoscaler(it: Shown, cluster: str) -> Iterator[Sample]:
    """Samples of a DaskAutoscaler."""
    who = it.metadata.namespace, cluster, it.metadata.name
    yield from conditions(metrics.AUTOSCALER_CONDITION, who, it.status.conditions)
    yield metrics.AUTOSCALER_MINIMUM, who, float(it.spec.minimum or 0)
    if it.spec.maximum is not None:
        yield metrics.AUTOSCALER_MAXIMUM, who, float(it.spec.maximum)
    if it.status.desired_replicas is not None:
        yield metrics.AUTOSCALER_DESIRED, who, float(it.status.desired_replicas)
    if it.status.recommendations:
        yield metrics.AUTOSCALER_RECOMMENDED, who, float(it.status.recommendations[-1].replicas)


def job(value: DaskJob, status: DaskJobStatus, owner: str) -> Iterator[Sample]:
    """Samples of a DaskJob, by its last status."""
    who = value.namespace, value.name
    yield metrics.JOB_INFO, (*who, owner), 1.0
    yield from conditions(metrics.JOB_CONDITION, who, status.conditions)
    if status.job_status:
        yield metrics.JOB_STATUS, (*who, status.job_status), 1.0
    if status.start_time:
        yield metrics.JOB_START, who, time_or(status.start_time, 0.0)
    if status.progress is not None:
        yield metrics.JOB_TASKS, (*who, "total"), float(status.progress.tasks_total)
        yield metrics.JOB_TASKS, (*who, "done"), float(status.progress.tasks_done)


def usage(who: tuple[str, str, str, str, str], total: Requests) -> Iterator[Sample]:
    """What Pods have used; ``who`` is namespace, cluster, component, name and owner."""
    if total.cpu or total.memory or total.gpu:
        yield metrics.USAGE_CPU, who, total.cpu
        yield metrics.USAGE_MEMORY, who, total.memory
    if total.gpu:
        yield metrics.USAGE_GPU, who, total.gpu
