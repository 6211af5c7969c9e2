"""What the operator makes of a resource, as far as a commit can tell: scheduler, groups of workers, a run.

All of it is decided by the functions with which the operator decides (``dask_resources``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

from msgspec import Struct

from dask_crds import names
from dask_crds.model import KINDS, MAX_WORKERS, DaskAutoscaler, DaskCluster, DaskJob, DaskObject, DaskWorkerGroup, parse
from dask_resources.cluster import children
from dask_resources.job import job_cluster, job_revision, runner_job
from dask_resources.revision import revision
from dask_resources.scheduler import scheduler_revision
from dask_resources.security import certificates_of
from dask_resources.worker import drain_timeout, worker_revision

from .amounts import Amounts, requested, times, total

#: By namespace and name of a group: the autoscaler that sets its size.
Autoscalers = Callable[[str, str], DaskAutoscaler | None]


class Scheduler(Struct, frozen=True, kw_only=True):
    """The scheduler of a cluster that is not suspended."""

    revision: str  #: with another one its Pod is replaced
    on_delete: bool  #: but not before somebody deletes it
    requests: Amounts


class Group(Struct, frozen=True, kw_only=True):
    """A group of workers."""

    revision: str  #: with another one its workers are replaced
    on_delete: bool
    drains: bool  #: whether a worker hands over what it holds before it goes
    least: int
    most: int  #: differs from ``least`` where an autoscaler sets the number
    stated: bool  #: whether Git says how many, else `kubectl scale` and clients do
    requests: Amounts  #: of one worker


class State(Struct, frozen=True, kw_only=True):
    """What is there because of a resource."""

    scheduler: Scheduler | None = None
    groups: Mapping[str, Group] = {}
    runner: Amounts | None = None  #: what the runner of a job requests
    run_id: str | None = None
    runs: str | None = None  #: revision of what a job runs
    suspended: bool = False
    objects: Mapping[str, str] = {}  #: revisions of the other children, by kind and name
    bounds: str = ""  #: of an autoscaler: which group, and between which numbers

    @property
    def least_workers(self) -> int:
        """Workers when there is little to do."""
        return sum(group.least for group in self.groups.values())

    @property
    def most_workers(self) -> int:
        """Workers when there is much to do."""
        return sum(group.most for group in self.groups.values())

    def requests(self, workers: Callable[[Group], int]) -> dict[str, Decimal]:
        """What all Pods request together, those of a job as long as it runs.

        Args:
            workers: how many of a group.
        """
        pods = [times(workers(group), group.requests) for group in self.groups.values()]
        return total((*pods, self.scheduler.requests if self.scheduler else {}, self.runner or {}))


def state(value: DaskObject, *, stated: bool, autoscalers: Autoscalers, held: bool = False) -> State:
    """What is there because of a resource.

    Args:
        value: the resource.
        stated: whether its manifest states the number of workers.
        autoscalers: of the same environment.
        held: whether the cluster of a group is suspended.
    """
    match value:
        case DaskCluster():
            return _cluster(value, stated, autoscalers)
        case DaskWorkerGroup():
            return State(groups={value.name: _group(value, stated, autoscalers, held)})
        case DaskAutoscaler():
            return State(bounds=f"{target(value)}: {value.spec.least}-{_maximum(value)}")
        case DaskJob():
            return _job(value, stated, autoscalers)


def target(autoscaler: DaskAutoscaler) -> str:
    """Name of the group whose size an autoscaler sets."""
    return autoscaler.spec.worker_group or names.default_group(autoscaler.spec.cluster)


def _maximum(autoscaler: DaskAutoscaler) -> int:
    return MAX_WORKERS if autoscaler.spec.maximum is None else autoscaler.spec.maximum


def _job(job: DaskJob, stated: bool, autoscalers: Autoscalers) -> State:
    cluster = parse(job_cluster(job))
    assert isinstance(cluster, DaskCluster)
    runner = None if job.spec.suspend else requested(runner_job(job)["spec"]["template"]["spec"])
    of_cluster = _cluster(cluster, stated, autoscalers)
    return State(
        scheduler=of_cluster.scheduler,
        groups=of_cluster.groups,
        runner=runner,
        run_id=job.spec.run_id,
        runs=job_revision(job),
        suspended=bool(job.spec.suspend),
    )


def _cluster(cluster: DaskCluster, stated: bool, autoscalers: Autoscalers) -> State:
    """By what `children` yields, whatever that is one day."""
    made = [child.build(cluster) for child in children(cluster) if child.wanted]
    values = [parse(manifest) for manifest in made if manifest["kind"] in KINDS]
    own = {target(value): value for value in values if isinstance(value, DaskAutoscaler)}

    def number(namespace: str, group: str) -> DaskAutoscaler | None:
        return own.get(group) or autoscalers(namespace, group)

    held, default = bool(cluster.spec.suspend), names.default_group(cluster.name)
    groups = {
        value.name: _group(value, stated or value.name != default, number, held, certificates_of(cluster))
        for value in values
        if isinstance(value, DaskWorkerGroup)
    }
    objects = {
        f"{manifest['kind']} {manifest['metadata']['name']}": revision(manifest.get("spec") or manifest.get("data"))
        for manifest in made
        if manifest["kind"] not in ("Deployment", *KINDS)
    }
    strategy = cluster.spec.scheduler.update_strategy
    scheduler = Scheduler(
        revision=scheduler_revision(cluster),
        on_delete=strategy is not None and strategy.type == "OnDelete",
        requests=requested(cluster.spec.scheduler.spec),
    )
    return State(scheduler=None if held else scheduler, groups=groups, suspended=held, objects=objects)


def _group(group: DaskWorkerGroup, stated: bool, autoscalers: Autoscalers, held: bool, certificates: str = "") -> Group:
    worker, autoscaler = group.spec.worker, autoscalers(group.namespace, group.name)
    least = most = worker.size
    if autoscaler is not None and autoscaler.spec.cluster == group.spec.cluster:
        least, most = autoscaler.spec.least, _maximum(autoscaler)
    return Group(
        revision=worker_revision(group, certificates),
        on_delete=worker.update_strategy is not None and worker.update_strategy.type == "OnDelete",
        drains=drain_timeout(group) > 0,
        least=0 if held else least,
        most=0 if held else most,
        stated=stated,
        requests=requested(worker.spec),
    )
