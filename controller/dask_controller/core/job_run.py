"""One run of a job: whether it goes on, what it waits for, and whether it has lost its scheduler.

All of it looks at what is the job's own, see `job_own.own`.
"""

from __future__ import annotations

from msgspec.structs import replace

from dask_crds import names
from dask_crds.model import DaskCluster, DaskJob, SchedulerLoss
from dask_resources.job import job_revision, run_label
from dask_resources.pod import main_container
from dask_resources.scheduler import service_selects

from . import fence
from .conditions import is_true
from .observed import Manifest, ObservedJob, Pod, owner_uid
from .runner import (
    annotation,
    is_decided,
    is_finished,
    is_suspended,
    job_condition,
)
from .time import Time, time_or

#: Lost schedulers after which a run starts again, even with a smaller ``backoffLimit``: the program is not to blame.
RESTARTS = 3


def is_terminal(job: DaskJob) -> bool:
    """Whether the run that ``status`` speaks of has ended, as stored."""
    return is_true(job.status.conditions, "Complete") or is_true(job.status.conditions, "Failed")


def wants_new_run(job: DaskJob) -> bool:
    """Whether the last run has ended and ``spec.runId`` asks for another."""
    return is_terminal(job) and (job.spec.run_id or "") != (job.status.run_id or "")


def active_seconds(job: DaskJob, now: Time) -> float:
    """For how long the run has been going on, time spent suspended apart."""
    since = None if wants_new_run(job) else job.status.active_since
    return now - time_or(since, now) if since else 0.0


def waits(o: ObservedJob) -> bool:
    """Whether the runner is still to be started, or to be resumed."""
    return o.runner is None or is_suspended(o.runner)


def missing(o: ObservedJob) -> str:
    """What the runner has to wait for; empty when it may start."""
    if o.runner is None and o.former:
        ending = o.former[0].name
        if loss_of(o.job):
            return f"the scheduler was lost: the runner is started again when {ending} has ended"
        return f"waiting for {ending} of the run before to end"
    if not is_reachable(o):
        return "waiting for the scheduler to be ready"
    wanted = minimum_workers(o.job)
    if not wanted or o.answers is None:
        return ""
    if o.answers.progress is None:
        return f"waiting for the scheduler: {o.answers.silent}"
    registered = o.answers.progress.workers
    return "" if registered >= wanted else f"{registered} of {wanted} workers have registered"


def is_reachable(o: ObservedJob) -> bool:
    """Whether there is a scheduler, and its Service, which may be somebody else's, leads to it."""
    if o.cluster is None or o.service is None or owner_uid(o.service) != o.cluster.uid:
        return False
    return scheduler_life(o) is not None and service_selects(o.cluster)


def leftover_scheduler(o: ObservedJob) -> Pod | None:
    """A scheduler whose cluster is gone and that is not: it must not be taken for that of the next cluster."""
    return next((p for p in o.leftovers if not p.deleting), None) if o.cluster is None else None


def minimum_workers(job: DaskJob) -> int:
    """Workers that must have registered before the runner starts; to compare versions takes one."""
    if job.spec.minimum_ready_workers is not None:
        return job.spec.minimum_ready_workers
    return 1 if enforces_versions(job) and job.spec.cluster.spec.worker.replicas else 0


def least_workers(job: DaskJob) -> int:
    """Workers that do not stand back for the runner: without any it could do nothing, unless it was told to try."""
    stated = job.spec.minimum_ready_workers is not None
    return minimum_workers(job) if stated else min(1, job.spec.cluster.spec.worker.replicas)


def enforces_versions(job: DaskJob) -> bool:
    """Whether different versions of Dask fail the run."""
    return job.spec.version_policy == "Enforce"


# --- what was there before --------------------------------------------------------------------------------------------


def former_runner(o: ObservedJob) -> Manifest | None:
    """The runner of another run than the one that ``spec.runId`` asks for."""
    return o.runner if o.runner is not None and _is_of_another_run(o.job, o.runner["metadata"]) else None


def former_cluster(o: ObservedJob) -> DaskCluster | None:
    """The cluster of another run."""
    return o.cluster if o.cluster is not None and _is_of_another_run(o.job, o.cluster.metadata) else None


def _is_of_another_run(job: DaskJob, metadata: Manifest) -> bool:
    return (metadata.get("labels") or {}).get(names.RUN_ID) != run_label(job)


def is_outdated(o: ObservedJob) -> bool:
    """Whether the cluster was made from other templates than those that the runner will be made from.

    Runner and cluster of a run are of the same templates. They are settled when the runner is made: nothing has run in
    the cluster until then, or all of it is lost.
    """
    if o.runner is not None or o.cluster is None:
        return False
    # One that an earlier release has made has no annotation; what it was made from stands in the job's status.
    made_from = (o.cluster.metadata.get("annotations") or {}).get(names.REVISION) or o.job.status.revision
    return made_from not in (None, job_revision(o.job))


# --- the scheduler fence ----------------------------------------------------------------------------------------------


def scheduler_life(o: ObservedJob) -> str | None:
    """The life of the scheduler that is ready now; ``None`` while none is."""
    return fence.identity(o.scheduler_pods, _scheduler_container(o))


def _scheduler_container(o: ObservedJob) -> str:
    """By the cluster that is there: the job's template may have changed since."""
    spec = o.cluster.spec if o.cluster is not None else o.job.spec.cluster.spec
    return main_container(spec.scheduler.spec, names.SCHEDULER)


def has_its_scheduler(o: ObservedJob) -> bool:
    """Whether the scheduler that is ready now is the one that the runner was started for."""
    return o.runner is not None and annotation(o.runner, names.SCHEDULER_ID) == scheduler_life(o)


def loss_of(job: DaskJob) -> SchedulerLoss | None:
    """The record of lost schedulers of the present run, as stored."""
    return None if wants_new_run(job) else job.status.scheduler_loss


def is_condemned(o: ObservedJob) -> bool:
    """Whether the runner is one that, by stored status, has lost its scheduler."""
    loss = loss_of(o.job)
    return o.runner is not None and loss is not None and loss.runner_uid == o.runner["metadata"]["uid"]


def scheduler_is_lost(o: ObservedJob) -> bool:
    """Whether the runner goes on without the scheduler that it was started for."""
    if o.runner is None or o.job.spec.suspend or is_suspended(o.runner) or is_decided(o):
        return False
    started_for = annotation(o.runner, names.SCHEDULER_ID)
    return fence.is_lost(started_for, o.scheduler_pods, _scheduler_container(o))


def loses_scheduler(o: ObservedJob) -> bool:
    """Whether the runner is to be condemned now."""
    policy = o.job.spec.on_scheduler_lost or "RestartJob"
    return policy == "RestartJob" and not is_condemned(o) and scheduler_is_lost(o)


def scheduler_loss(o: ObservedJob) -> SchedulerLoss | None:
    """The record of losses as it is to be stored."""
    loss = loss_of(o.job)
    if o.runner is not None and loses_scheduler(o):
        before = loss or SchedulerLoss(count=0)
        failed = (o.runner.get("status") or {}).get("failed") or 0
        uid = o.runner["metadata"]["uid"]
        return SchedulerLoss(runner_uid=uid, count=before.count + 1, failures=before.failures + failed)
    if loss is not None and loss.runner_uid and o.runner is not None and not is_condemned(o):
        return replace(loss, runner_uid=None)  # its successor is there
    return loss


def retries(o: ObservedJob) -> int:
    """How often the runner was started again, for whatever reason."""
    loss = scheduler_loss(o)
    before = loss.count + loss.failures if loss else 0
    if o.runner is None or (loss is not None and loss.runner_uid == o.runner["metadata"]["uid"]):
        return before or (o.job.status.retries or 0 if not wants_new_run(o.job) else 0)
    failed = (o.runner.get("status") or {}).get("failed") or 0
    if is_finished(o.runner):
        return before + max(0, failed - (1 if job_condition(o.runner, "Failed") else 0))
    limit = max(0, (o.job.spec.backoff_limit or 0) - (loss.failures if loss else 0))
    return before + (min(failed, limit) if is_decided(o) else failed)  # the last failure may be counted already
