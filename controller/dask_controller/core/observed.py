"""The snapshots that planners look at, one for each of our kinds."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from dask_crds.model import DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup
from dask_crds.names import Annotation
from dask_resources.security import certificates_of

from .limits import WorkerPlaces
from .ownership import annotation
from .pod import Manifest, Pod, Problem
from .questions import Answers
from .queue import Queued
from .queue_workers import GroupQueue
from .record import NO_TRACES, Failure, Traces
from .signing import Signing


def _certificates(cluster: DaskCluster | None, deployment: Manifest | None) -> str:
    """What the Deployment says counts: a scheduler may be kept as it is though its cluster states something else."""
    metadata = (deployment or {}).get("metadata", {})
    if annotation(metadata, Annotation.REVISION):  # else its annotations are not known
        return annotation(metadata, Annotation.TLS_SECRET)
    return certificates_of(cluster) if cluster is not None else ""


class ObservedCluster(Struct, frozen=True, kw_only=True):
    """A DaskCluster and its children."""

    cluster: DaskCluster
    children: Mapping[str, Manifest]  #: those that exist, by kind, but for those of our kinds: see below
    groups: tuple[DaskWorkerGroup, ...]  #: every group that names this cluster, the default one included
    autoscalers: tuple[DaskAutoscaler, ...] = ()  #: every one that names this cluster
    scheduler_pods: tuple[Pod, ...]  #: those that are its own, see ``Caches.scheduler_pods``, and have not ended
    last_problem: Problem | None = None  #: why the last scheduler Pod that has ended did so
    settled: frozenset[str] = frozenset()  #: children, by `fingerprint`, for which to apply that has changed nothing
    signing: Signing = Signing()
    queued: Queued | None = None  #: if it waits in a queue or in line; then ``cluster`` is as it is to run now
    answers: Answers | None = None  #: of the scheduler; ``None``: not asked

    @property
    def signed(self) -> bool:
        """Whether its scheduler is to take signed orders only."""
        return not self.signing.refused

    @property
    def certificates(self) -> str:
        """Name of the Secret with the certificates by which its scheduler goes; empty where that speaks plain TCP."""
        return _certificates(self.cluster, self.deployment)

    @property
    def deployment(self) -> Manifest | None:
        """That of the scheduler, if it exists."""
        return self.children.get("Deployment")

    @property
    def service(self) -> Manifest | None:
        """That of the scheduler, if it exists."""
        return self.children.get("Service")


class ObservedGroup(Struct, frozen=True, kw_only=True):
    """A DaskWorkerGroup, its Pods, and what decides their number."""

    group: DaskWorkerGroup
    cluster: DaskCluster | None
    autoscaler: DaskAutoscaler | None  #: the one that sets this group's size
    pods: tuple[Pod, ...]  #: those whose controller is this group
    taken: frozenset[int] = frozenset()  #: places in the group whose Pods' names somebody else has
    scheduler_pods: tuple[Pod, ...]
    scheduler_deployment: Manifest | None = None
    queue: GroupQueue | None = None  #: if its workers need quota
    places: WorkerPlaces | None = None  #: where a limit bounds them
    ends: tuple[Failure, ...] = ()  #: of workers that have failed and go, for a record, see `worker_ends`
    answers: Answers | None = None

    @property
    def scheduler_runs(self) -> bool:
        """Whether there is a scheduler to be asked."""
        return any(pod.phase == "Running" and not pod.deleting for pod in self.scheduler_pods)

    @property
    def certificates(self) -> str:
        """Name of the Secret with the certificates by which its scheduler goes; empty where that speaks plain TCP."""
        return _certificates(self.cluster, self.scheduler_deployment)

    @property
    def cluster_key(self) -> tuple[str, str]:
        """Namespace and name of its cluster, whether that exists or not."""
        return self.group.namespace, self.group.spec.cluster


class ObservedJob(Struct, frozen=True, kw_only=True):
    """A DaskJob, and what has the names and labels of its children; what of that is its own `Run` says."""

    job: DaskJob
    cluster: DaskCluster | None
    runner: Manifest | None  #: a batch/v1 Job
    pods: tuple[Pod, ...]  #: of runners
    scheduler_pods: tuple[Pod, ...] = ()
    service: Manifest | None = None  #: one that has the name of the scheduler's
    leftovers: tuple[Pod, ...] = ()  #: of a scheduler whose cluster is gone, see ``Caches.leftover_schedulers``
    creation_problem: str = ""  #: why Kubernetes makes no Pod of the runner, by its Events
    leaving: int = 0  #: workers of the cluster that are being deleted; only known while there is such a problem
    traces: Traces = NO_TRACES  #: only known when its scheduler is about to be told of the end
    queued: Queued | None = None  #: if it waits in a queue or in line; then ``job`` is suspended meanwhile
    answers: Answers | None = None

    @property
    def cluster_key(self) -> tuple[str, str]:
        """Namespace and name of its cluster, whether that exists or not."""
        return self.job.namespace, self.job.name


class Sibling(Struct, frozen=True, kw_only=True):
    """Another worker group of the same cluster."""

    group: DaskWorkerGroup
    autoscaler: DaskAutoscaler | None
    pods: tuple[Pod, ...]


class ObservedAutoscaler(Struct, frozen=True, kw_only=True):
    """A DaskAutoscaler and the group whose size it sets."""

    autoscaler: DaskAutoscaler
    rival: DaskAutoscaler | None  #: another one that sets the same group's size and came first
    group: DaskWorkerGroup | None
    cluster: DaskCluster | None = None
    pods: tuple[Pod, ...]
    siblings: tuple[Sibling, ...] = ()
    scheduler_pods: tuple[Pod, ...]
    answers: Answers | None = None


Observed = ObservedCluster | ObservedGroup | ObservedJob | ObservedAutoscaler
