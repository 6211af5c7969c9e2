"""One run of a job, derived once from a snapshot and the time, and then read."""

from __future__ import annotations

from dask_crds import names
from dask_crds.model import Condition, DaskCluster, DaskJob, DaskJobStatus
from dask_crds.names import Annotation, Component, Label
from dask_crds.reasons import Reason
from dask_resources.job import job_revision, run_label
from dask_resources.pod import main_container
from dask_resources.scheduler import service_selects
from dask_resources.worker_groups import stated_groups

from . import versions
from .conditions import condition
from .observed import ObservedJob
from .ownership import annotation, owner_uid
from .pod import Manifest, Pod, Problem
from .questions import PackageVersions, TaskProgress
from .runner import Runner
from .time import Time, time_or

#: Characters that Kubernetes keeps of the name that a Pod's own is generated from.
LONGEST_PREFIX = 58
#: What the extension notes when a client ends the scheduler (``Client.shutdown()``); programs do so at their end.
SHUT_DOWN_BY_CLIENT = "shut down by a client"


class Run:
    """A run as it is at one moment.

    It holds only what is the job's own, so that nothing else can be used or deleted: names and labels are claims, an
    owner reference with the job's uid is a fact.

    Attributes:
        job: the job.
        now: the moment.
        answers: what the scheduler said, if it was asked.
        creation_problem: why Kubernetes makes no Pod of the runner, by its Events.
        leaving: workers of the cluster that are being deleted; only known while there is such a problem.
        queued: the queue that it waits in, if any; without quota the job is as if suspended.
        traces: what is left of it; only known when its scheduler is about to be told of the end.

        runner: the runner, if there is one.
        cluster: the job's cluster; one that is being deleted does not count.
        obstacle: what has the name of a child and is not the job's, or is going.
        former_pods: Pods of earlier runners that have not ended.
        scheduler_pods: Pods of the cluster's scheduler that have not ended.
        leftover: a scheduler that has outlived its cluster: it must not be taken for that of the next.

        is_next: whether the run that the stored status speaks of has ended and ``spec.runId`` asks for this one.
        status: what the stored status says of this run; empty where it speaks of the one before.
        conditions: those of ``status``, by type.
        ended: ``Complete`` or ``Failed`` if this run has ended, by the stored status.
        begins: whether the status that is written next is the first of this run.
        remains: what the run before has left, which has to go first.
        active_seconds: how long the run has been active, not counting time suspended.
        loss: the record of lost schedulers, as stored.

        waits: whether the runner has yet to be started, or resumed.
        is_held: whether somebody else has suspended the runner.
        is_running: whether a Pod of the runner has begun to work.
        enforces_versions: whether different versions of Dask fail the run.
        minimum_workers: workers that must have registered before the runner starts; comparing versions takes one.
        least_workers: workers that do not stand back for the runner: without any it could do nothing, unless it was
            told to try.

        scheduler_life: the life of the scheduler that is ready now, another one after each restart; ``None`` while
            none is.
        has_its_scheduler: whether that is the one that the runner was started for.
        has_lost_scheduler: whether the runner is one that, by the stored status, has lost its scheduler.
        scheduler_is_lost: whether the runner goes on without the scheduler that it was started for.
        loss_is_new: whether it has just lost it and is to be started again.

        is_reachable: whether there is a scheduler, and its Service, which may be somebody else's, leads to it.
        is_outdated: whether the cluster was made from other templates than those that the runner will be made from.
        missing: what the runner has to wait for; empty when it may start.
        keeps_history: whether the cluster keeps a record of the run.
        versions: ``VersionsConsistent``, once everybody's versions are known; then it stands for the rest of the run.
    """

    def __init__(self, o: ObservedJob, now: Time) -> None:
        self.job, self.now, self.answers = o.job, now, o.answers
        self.creation_problem, self.leaving, self.queued = o.creation_problem, o.leaving, o.queued
        self.traces = o.traces
        self._take_own(o)
        self._read_status(o.job.status)
        spec, runner = o.job.spec, self.runner
        self.waits = runner is None or runner.is_suspended
        self.is_held = runner is not None and runner.is_held
        self.is_running = runner is not None and any(p.phase != "Pending" for p in runner.pods)
        workers = sum(group.replicas for group in stated_groups(spec.cluster.spec))
        least = spec.minimum_ready_workers
        self.enforces_versions = spec.version_policy == "Enforce"
        self.minimum_workers = (1 if self.enforces_versions and workers else 0) if least is None else least
        self.least_workers = min(1, workers) if least is None else least

        self._look_for_scheduler()
        self.is_reachable = self.scheduler_life is not None and _leads_to_scheduler(o.service, self.cluster)
        self.keeps_history = self.cluster is not None and self.cluster.spec.history is not None
        self.is_outdated = _is_outdated(self)
        self.missing = _missing(self)
        self.versions = _versions(self)

    def _take_own(self, o: ObservedJob) -> None:
        self.obstacle: Problem | None = None
        self.runner: Runner | None = None
        self.cluster: DaskCluster | None = None
        uid = ""
        if o.cluster is not None:
            metadata = o.cluster.metadata
            if owner_uid({"metadata": metadata}) == o.job.uid and not metadata.get("deletionTimestamp"):
                self.cluster = o.cluster
            else:
                self.obstacle = _obstacle(o.job, "DaskCluster", metadata)
        if o.runner is not None and owner_uid(o.runner) == o.job.uid:
            uid = o.runner["metadata"]["uid"]
            self.runner = Runner(o.job, o.runner, tuple(pod for pod in o.pods if pod.owner_uid == uid))
        elif o.runner is not None:
            self.obstacle = self.obstacle or _obstacle(o.job, "Job", o.runner["metadata"])
        # Their Jobs and ReplicaSets may be gone already, so they are known by their names.
        prefix = f"{names.runner(o.job.name)}-"[:LONGEST_PREFIX]
        former = (pod for pod in o.pods if pod.owner_uid != uid and pod.owner_kind == "Job")
        self.former_pods = tuple(pod for pod in former if pod.name.startswith(prefix) and not pod.is_finished)
        there = self.cluster is not None
        self.scheduler_pods = o.scheduler_pods if there else ()
        prefix = f"{names.scheduler(o.job.name)}-"
        left = (pod for pod in o.leftovers if pod.name.startswith(prefix) and not pod.deleting)
        self.leftover = None if there else next(left, None)

    def _read_status(self, stored: DaskJobStatus) -> None:
        ended = {c.type for c in stored.conditions or () if c.status == "True" and c.type in ("Complete", "Failed")}
        self.is_next = bool(ended) and (self.job.spec.run_id or "") != (stored.run_id or "")
        self.status = DaskJobStatus() if self.is_next else stored
        self.ended = frozenset() if self.is_next else frozenset(ended)
        self.conditions = {c.type: c for c in self.status.conditions or ()}
        self.begins = self.status.job_status is None
        since = self.status.active_since
        self.active_seconds = self.now - time_or(since, self.now) if since else 0.0
        self.loss = self.status.scheduler_loss
        there = (it for it in (self.runner, self.cluster) if it is not None and self.is_next)
        self.remains = [
            it for it in there if (it.metadata.get("labels") or {}).get(Label.RUN_ID) != run_label(self.job)
        ]

    def _look_for_scheduler(self) -> None:
        """A scheduler that was restarted knows nothing of what the runner has submitted.

        So the runner would wait for ever, or go on with half of its work.
        """
        runner, policy = self.runner, self.job.spec.on_scheduler_lost or "RestartJob"
        # By the cluster that is there: the job's template may have changed since.
        spec = self.cluster.spec if self.cluster is not None else self.job.spec.cluster.spec
        container = main_container(spec.scheduler.spec, Component.SCHEDULER)
        ready = next((pod for pod in self.scheduler_pods if pod.ready and not pod.deleting), None)
        self.scheduler_life = f"{ready.uid}/{ready.container(container).restarts}" if ready is not None else None
        self.has_its_scheduler = runner is not None and runner.started_for == self.scheduler_life
        self.has_lost_scheduler = runner is not None and self.loss is not None and self.loss.runner_uid == runner.uid
        self.scheduler_is_lost = (
            runner is not None
            and not (self.waits or self.job.spec.suspend or runner.is_decided)
            and _is_lost(runner.started_for, self.scheduler_pods, container)
        )
        self.loss_is_new = policy == "RestartJob" and not self.has_lost_scheduler and self.scheduler_is_lost


def _obstacle(job: DaskJob, kind: str, metadata: Manifest) -> Problem:
    """What is to be said of an object in the way. What goes by itself is waited for."""
    owner: Manifest = next((ref for ref in metadata.get("ownerReferences") or () if ref.get("controller")), {})
    ours = (owner.get("kind"), owner.get("name")) == ("DaskJob", job.name)
    before = " of the job before" if ours and owner.get("uid") != job.uid else ""
    if before or metadata.get("deletionTimestamp"):
        return Problem(Reason.PROGRESSING, f"waiting for {kind} {metadata['name']}{before} to be gone")
    text = f"{kind} {metadata['name']} exists and belongs to somebody else; rename it or the DaskJob"
    return Problem(Reason.NAME_CONFLICT, text)


def _is_lost(life: str, scheduler_pods: tuple[Pod, ...], container: str) -> bool:
    """Whether the life of a scheduler is over, unless it was ended on purpose.

    Where it is not readable which life is meant, nothing can be said of it.
    """
    uid, _, restarts = life.rpartition("/")
    if not uid or not restarts.isdecimal() or len(restarts) > 9:
        return False
    pod = next((pod for pod in scheduler_pods if pod.uid == uid and not pod.deleting), None)
    if pod is None:
        return True
    scheduler = pod.container(container)
    return scheduler.restarts > int(restarts) and scheduler.termination_message != SHUT_DOWN_BY_CLIENT


def _leads_to_scheduler(service: Manifest | None, cluster: DaskCluster | None) -> bool:
    if service is None or cluster is None or owner_uid(service) != cluster.uid:
        return False
    return service_selects(cluster)


def _is_outdated(run: Run) -> bool:
    """Runner and cluster of a run are of the same templates. They are settled when the runner is made.

    Nothing has run in the cluster until then, or all of it is lost.
    """
    if run.runner is not None or run.cluster is None:
        return False
    # One that an earlier release has made has no annotation; what it was made from stands in the job's status.
    made_from = annotation(run.cluster.metadata, Annotation.REVISION) or run.status.revision
    return made_from not in (None, job_revision(run.job))


def _missing(run: Run) -> str:
    if run.runner is None and run.former_pods:
        ending = run.former_pods[0].name
        if run.loss:
            return f"the scheduler was lost: the runner is started again when {ending} has ended"
        return f"waiting for {ending} of the run before to end"
    if not run.is_reachable:
        return "waiting for the scheduler to be ready"
    if not run.minimum_workers or run.answers is None:
        return ""
    progress = run.answers.of(TaskProgress)
    if progress is None:
        return f"waiting for the scheduler: {run.answers.silent}"
    few = f"{progress.workers} of {run.minimum_workers} workers have registered"
    return few if progress.workers < run.minimum_workers else ""


def _versions(run: Run) -> Condition | None:
    known = run.conditions.get("VersionsConsistent")
    found = run.answers.of(PackageVersions) if run.answers else None
    if known is not None or found is None:
        return known
    if different := versions.differences(found):
        return condition("VersionsConsistent", False, Reason.VERSION_MISMATCH, different)
    return condition("VersionsConsistent", True, Reason.CONSISTENT) if versions.is_complete(found) else None
