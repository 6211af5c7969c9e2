"""One run of a job, derived once from a snapshot and the time, and then read."""

from __future__ import annotations

from functools import cached_property

from dask_crds import names
from dask_crds.model import Condition, DaskCluster, DaskJob, DaskJobStatus, SchedulerLoss
from dask_crds.reasons import Reason
from dask_resources.job import job_revision, run_label
from dask_resources.pod import main_container
from dask_resources.scheduler import service_selects

from . import versions
from .conditions import condition, find, is_true
from .observed import ObservedJob
from .ownership import annotation, owner_uid
from .pod import Manifest, Pod, Problem
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
        is_next: whether the run that the stored status speaks of has ended and ``spec.runId`` asks for another, which
            is this one.
        is_over: whether this run has ended, by the stored status.
        status: what the stored status says of this run; empty where it speaks of the one before.
        obstacle: what has the name of a child and is not the job's, or is going.
        cluster: the job's cluster; one that is being deleted does not count.
        runner: the runner.
        former_pods: Pods of runners before this one that have not ended.
        scheduler_pods: Pods of the cluster's scheduler that have not ended.
        leftover: a scheduler that has outlived its cluster: it must not be taken for that of the next.
        creation_problem: why Kubernetes makes no Pod of the runner, by its events.
        leaving: workers of the cluster that are being deleted; only known while there is no room for the runner.
    """

    def __init__(self, o: ObservedJob, now: Time) -> None:
        self.job, self.now, self.answers = o.job, now, o.answers
        self.creation_problem, self.leaving = o.creation_problem, o.leaving
        stored = o.job.status
        ended = is_true(stored.conditions, "Complete") or is_true(stored.conditions, "Failed")
        self.is_next = ended and (o.job.spec.run_id or "") != (stored.run_id or "")
        self.is_over = ended and not self.is_next
        self.status = DaskJobStatus() if self.is_next else stored

        self.obstacle: Problem | None = None
        self.runner: Runner | None = None
        self.cluster: DaskCluster | None = None
        of_job = [pod for pod in o.pods if _is_of_a_runner(o.job, pod)]
        if o.runner is not None and owner_uid(o.runner) == o.job.uid:
            uid = o.runner["metadata"]["uid"]
            self.runner = Runner(o.job, o.runner, tuple(pod for pod in o.pods if pod.owner_uid == uid))
            of_job = [pod for pod in of_job if pod.owner_uid != uid]
        elif o.runner is not None:
            self.obstacle = _obstacle(o.job, "Job", o.runner["metadata"])
        self.former_pods = tuple(of_job)
        if o.cluster is not None:
            metadata = o.cluster.metadata
            if owner_uid({"metadata": metadata}) == o.job.uid and not metadata.get("deletionTimestamp"):
                self.cluster = o.cluster
            else:
                self.obstacle = _obstacle(o.job, "DaskCluster", metadata)
        self.scheduler_pods = tuple(p for p in o.scheduler_pods if not p.is_finished) if self.cluster else ()
        left = (pod for pod in o.leftovers if _is_of_a_scheduler(o.job, pod) and not pod.deleting)
        self.leftover = next(left, None) if self.cluster is None else None

    @cached_property
    def begins(self) -> bool:
        """Whether the status that is written next is the first of this run."""
        return self.status.job_status is None

    @cached_property
    def remains(self) -> list[Runner | DaskCluster]:
        """What the run before has left, which has to go first."""
        there = (self.runner, self.cluster) if self.is_next else ()
        this = run_label(self.job)
        return [it for it in there if it is not None and (it.metadata.get("labels") or {}).get(names.RUN_ID) != this]

    @cached_property
    def active_seconds(self) -> float:
        """How long the run has been active, not counting time suspended."""
        since = self.status.active_since
        return self.now - time_or(since, self.now) if since else 0.0

    @cached_property
    def waits(self) -> bool:
        """Whether the runner has yet to be started, or resumed."""
        return self.runner is None or self.runner.is_suspended

    @cached_property
    def is_held(self) -> bool:
        """Whether somebody else has suspended the runner."""
        return self.runner is not None and self.runner.is_held

    @cached_property
    def is_running(self) -> bool:
        """Whether a Pod of the runner has begun to work."""
        return self.runner is not None and any(p.phase != "Pending" for p in self.runner.pods)

    # --- what the runner waits for ------------------------------------------------------------------------------------

    @cached_property
    def missing(self) -> str:
        """What the runner has to wait for; empty when it may start."""
        if self.runner is None and self.former_pods:
            ending = self.former_pods[0].name
            if self.loss:
                return f"the scheduler was lost: the runner is started again when {ending} has ended"
            return f"waiting for {ending} of the run before to end"
        if not self.is_reachable:
            return "waiting for the scheduler to be ready"
        if not self.minimum_workers or self.answers is None:
            return ""
        if self.answers.progress is None:
            return f"waiting for the scheduler: {self.answers.silent}"
        registered = self.answers.progress.workers
        if registered >= self.minimum_workers:
            return ""
        return f"{registered} of {self.minimum_workers} workers have registered"

    @cached_property
    def is_reachable(self) -> bool:
        """Whether there is a scheduler, and its Service leads to it."""
        return self.scheduler_life is not None and (self.cluster is None or service_selects(self.cluster))

    @cached_property
    def minimum_workers(self) -> int:
        """Workers that must have registered before the runner starts; comparing versions takes one."""
        if self.job.spec.minimum_ready_workers is not None:
            return self.job.spec.minimum_ready_workers
        return 1 if self.enforces_versions and self.job.spec.cluster.spec.worker.replicas else 0

    @cached_property
    def least_workers(self) -> int:
        """Workers that do not stand back for the runner: without any it could do nothing, unless it was told to try."""
        stated = self.job.spec.minimum_ready_workers
        return min(1, self.job.spec.cluster.spec.worker.replicas) if stated is None else stated

    @property
    def enforces_versions(self) -> bool:
        """Whether different versions of Dask fail the run."""
        return self.job.spec.version_policy == "Enforce"

    @cached_property
    def versions(self) -> Condition | None:
        """``VersionsConsistent``, once everybody's versions are known; then it stands for the rest of the run."""
        known = find(self.status.conditions, "VersionsConsistent")
        found = self.answers.versions if self.answers else None
        if known is not None or found is None:
            return known
        if different := versions.differences(found):
            return condition("VersionsConsistent", False, Reason.VERSION_MISMATCH, different)
        return condition("VersionsConsistent", True, Reason.CONSISTENT) if versions.is_complete(found) else None

    @cached_property
    def is_outdated(self) -> bool:
        """Whether the cluster was made from other templates than those that the runner will be made from.

        Runner and cluster of a run are of the same templates. They are settled when the runner is made: nothing has run
        in the cluster until then, or all of it is lost.
        """
        if self.runner is not None or self.cluster is None:
            return False
        # One that an earlier release has made has no annotation; what it was made from stands in the job's status.
        made_from = annotation(self.cluster.metadata, names.REVISION) or self.status.revision
        return made_from not in (None, job_revision(self.job))

    # --- the scheduler fence ------------------------------------------------------------------------------------------
    # A scheduler that was restarted knows nothing of what the runner has submitted, so the runner would wait for ever,
    # or go on with half of its work.

    @cached_property
    def _scheduler_container(self) -> str:
        """By the cluster that is there: the job's template may have changed since."""
        spec = self.cluster.spec if self.cluster is not None else self.job.spec.cluster.spec
        return main_container(spec.scheduler.spec, names.SCHEDULER)

    @cached_property
    def scheduler_life(self) -> str | None:
        """The life of the scheduler that is ready now, another one after each restart; ``None`` while none is."""
        ready = next((p for p in self.scheduler_pods if p.ready and not p.deleting), None)
        return f"{ready.uid}/{ready.container(self._scheduler_container).restarts}" if ready is not None else None

    @property
    def has_its_scheduler(self) -> bool:
        """Whether the scheduler that is ready now is the one that the runner was started for."""
        return self.runner is not None and self.runner.started_for == self.scheduler_life

    @property
    def loss(self) -> SchedulerLoss | None:
        """The record of lost schedulers, as stored."""
        return self.status.scheduler_loss

    @cached_property
    def has_lost_scheduler(self) -> bool:
        """Whether the runner is one that, by the stored status, has lost its scheduler."""
        return self.runner is not None and self.loss is not None and self.loss.runner_uid == self.runner.uid

    @cached_property
    def scheduler_is_lost(self) -> bool:
        """Whether the runner goes on without the scheduler that it was started for, unless that was ended on purpose.

        Where it is not readable which one that was, nothing can be said of it.
        """
        if self.runner is None or self.waits or self.job.spec.suspend or self.runner.is_decided:
            return False
        uid, _, restarts = self.runner.started_for.rpartition("/")
        if not uid or not restarts.isdecimal() or len(restarts) > 9:
            return False
        pod = next((p for p in self.scheduler_pods if p.uid == uid and not p.deleting), None)
        if pod is None:
            return True
        scheduler = pod.container(self._scheduler_container)
        return scheduler.restarts > int(restarts) and scheduler.termination_message != SHUT_DOWN_BY_CLIENT

    @cached_property
    def loss_is_new(self) -> bool:
        """Whether the runner has just lost its scheduler and is to be started again."""
        policy = self.job.spec.on_scheduler_lost or "RestartJob"
        return policy == "RestartJob" and not self.has_lost_scheduler and self.scheduler_is_lost


def _obstacle(job: DaskJob, kind: str, metadata: Manifest) -> Problem:
    """What is to be said of an object in the way. What goes by itself is waited for."""
    owner: Manifest = next((ref for ref in metadata.get("ownerReferences") or () if ref.get("controller")), {})
    ours = (owner.get("kind"), owner.get("name")) == ("DaskJob", job.name)
    before = " of the job before" if ours and owner.get("uid") != job.uid else ""
    if before or metadata.get("deletionTimestamp"):
        return Problem(Reason.PROGRESSING, f"waiting for {kind} {metadata['name']}{before} to be gone")
    text = f"{kind} {metadata['name']} exists and belongs to somebody else; rename it or the DaskJob"
    return Problem(Reason.NAME_CONFLICT, text)


def _is_of_a_runner(job: DaskJob, pod: Pod) -> bool:
    """Whether a Pod that is still there was made for a runner of this job: the Job itself may be gone already."""
    prefix = f"{names.runner(job.name)}-"[:LONGEST_PREFIX]
    return pod.owner_kind == "Job" and pod.name.startswith(prefix) and not pod.is_finished


def _is_of_a_scheduler(job: DaskJob, pod: Pod) -> bool:
    """The same for the scheduler of a cluster of this job."""
    made = pod.owner_kind == "ReplicaSet" and pod.name.startswith(f"{names.scheduler(job.name)}-")
    return made and not pod.is_finished
