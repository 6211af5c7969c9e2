"""What to do about a job: its cluster, its runner, and the tidying up afterwards.

A run is terminal once ``Complete`` or ``Failed`` is True in the stored status. That is written before anything is
deleted, and nothing is started again for the same ``spec.runId``, whatever is missing later.
"""

from __future__ import annotations

from typing import Any

from dask_crds.model import DaskCluster, DaskClusterSpec
from dask_crds.names import Annotation
from dask_crds.reasons import Reason
from dask_resources.job import BY_ITS_JOB, job_cluster, runner_job
from dask_resources.scheduler import DEFAULT_CLUSTER_DOMAIN

from . import runner_room
from .actions import Action, Apply, Delete, Event, Patch, Plan
from .observed import ObservedJob
from .ownership import annotation
from .questions import Ask, PackageVersions, Question, TaskProgress
from .queue import base_actions, noting_quota, workload_of
from .queue_runner import moved, placed_runner
from .record import recorded
from .run import Run
from .run_questions import Recorded, RunEnded, TimeAtWork
from .run_words import ending
from .runner import Runner
from .time import Time, format_time, time_or

#: How often to ask for progress, which is written if it has changed.
PROGRESS_SECONDS = 15.0
#: How often to check that enough workers have registered, and their versions.
REGISTRATION_POLL_SECONDS = 2.0
#: How often to look for the reason why Kubernetes creates no runner Pod; only an Event says.
CREATION_POLL_SECONDS = 5.0
#: How often to check whether a name that somebody else has is free.
OBSTACLE_POLL_SECONDS = 10.0
#: A runner that somebody else resumes though the job is suspended is suspended again, at most this often.
SUSPEND_AGAIN_SECONDS = 60.0

#: For so long after its end a run's scheduler is told of it, even if it stays.
LAST_WORD_SECONDS = 60.0

DELETION_POLICIES = {
    "Always": ("Complete", "Failed"),
    "OnSuccess": ("Complete",),
    "Never": (),
}


def plan_job(o: ObservedJob, now: Time, *, domain: str = DEFAULT_CLUSTER_DOMAIN) -> Plan:
    """What to do about a job now."""
    plan = _plan(o, now, domain)
    told, look = base_actions(o.queued, now)
    if plan.ask is not None or not (told or look):
        return plan
    looks = [each for each in (plan.requeue_after, look) if each is not None]
    return Plan(actions=(*told, *plan.actions), requeue_after=min(looks, default=None))


def _plan(o: ObservedJob, now: Time, domain: str) -> Plan:
    run = Run(o, now)
    if run.remains:
        return Plan(actions=tuple(action for it in run.remains for action in _delete(it)))
    if run.ended:
        last_word = _last_word(run)
        return Plan(ask=last_word) if last_word is not None and run.answers is None else _tidy_up(run)
    ask = _question(run)
    if ask is not None and run.answers is None:
        return Plan(ask=ask)
    if not run.is_next and (run.begins or ending(run) or run.loss_is_new):
        return Plan()  # status first: what is written next must not happen twice, or cannot be undone
    return Plan(actions=(*_cluster(run), *_start(run, domain)), requeue_after=_next_look(run))


def _cluster(run: Run) -> list[Action]:
    """Bring up the cluster, made from the templates of the runner."""
    cluster, suspend = run.cluster, run.job.spec.suspend
    if cluster is None:
        in_the_way = run.obstacle is not None or run.leftover is not None
        return [] if in_the_way else [Apply(noting_quota(job_cluster(run.job), run.queued), new=True)]
    if run.is_outdated:
        return _delete(cluster)
    # What the job decides about its cluster, whoever has changed it; the rest is the cluster's own from now on.
    # With a timeout it would be deleted while the runner waits, see `_tidy_up`.
    spec: dict[str, Any] = dict.fromkeys(_timeouts(cluster.spec))
    if bool(cluster.spec.suspend) != bool(suspend):
        spec["suspend"] = True if suspend else None
        return [_set(cluster, {Annotation.SUSPENDED: BY_ITS_JOB if suspend else None}, **spec)]
    quota = workload_of(run.queued)
    if (annotation(cluster.metadata, Annotation.WORKLOAD) or None) != quota:
        return [_set(cluster, {Annotation.WORKLOAD: quota}, **spec)]
    return [Patch.of(cluster, {"spec": spec})] if spec else []


def _start(run: Run, domain: str) -> list[Action]:
    """Start the runner, or suspend it, or resume it."""
    runner, suspended = run.runner, bool(run.job.spec.suspend)
    if runner is None:
        free = run.cluster is not None and run.obstacle is None and not run.is_outdated
        return [_runner(run, domain)] if free and not suspended and not run.missing else []
    if run.has_lost_scheduler:
        message = "the scheduler was lost, and with it all work: the runner is started again"
        return [Event(Reason.SCHEDULER_LOST, message, True), *_delete(runner)]
    due = (runner.suspended_at or 0.0) + SUSPEND_AGAIN_SECONDS
    if runner.is_adopted or (suspended and not runner.is_suspended and run.now >= due):
        return [_set(runner, {Annotation.SUSPENDED: format_time(run.now)}, suspend=True)]
    if suspended:
        return []
    if not runner.is_suspended:
        return runner_room.makes_room(run)
    if run.missing:
        return []
    life = {Annotation.SCHEDULER_ID: run.scheduler_life}
    elsewhere = moved(run)
    if runner.is_held:  # whoever holds it starts it, with the scheduler that there is then
        return [] if run.has_its_scheduler else [_set(runner, life)]
    return [_set(runner, {**life, **elsewhere.noted, Annotation.SUSPENDED: None}, **elsewhere.spec, suspend=False)]


def _runner(run: Run, domain: str) -> Apply:
    """The runner's Job, with what is left of failures and time."""
    left = run.job.spec.active_deadline_seconds
    job = runner_job(
        run.job,
        domain=domain,
        cluster_uid=run.cluster.uid if run.cluster else "",
        scheduler_id=run.scheduler_life or "",
        failures=run.loss.failures if run.loss else 0,
        deadline_seconds=max(1, int(left - run.active_seconds)) if left is not None else None,
    )
    return Apply(placed_runner(job, run), new=True)


def _question(run: Run) -> Ask | None:
    """What the scheduler has to be asked, if it can be asked at all."""
    if run.job.spec.suspend or run.is_held or run.scheduler_life is None:
        return None
    if run.waits:
        ask = Ask(_progress(run, versions=run.enforces_versions), every=REGISTRATION_POLL_SECONDS)
        return ask if run.minimum_workers else None
    if not run.is_running:
        return None
    unknown = "VersionsConsistent" not in run.conditions
    if run.runner is not None and run.runner.is_finished:
        return Ask(_progress(run, versions=unknown))  # the last word, so not one from before
    gate = run.enforces_versions and unknown
    return Ask(_progress(run, versions=unknown), every=REGISTRATION_POLL_SECONDS if gate else PROGRESS_SECONDS)


def _progress(run: Run, *, versions: bool) -> tuple[Question[Any], ...]:
    kept = (Recorded(),) if run.keeps_history else ()
    return (TaskProgress(), TimeAtWork(), *((PackageVersions(),) if versions else ()), *kept)


def _last_word(run: Run) -> Ask | None:
    """How the run has ended, for the record that its scheduler keeps: before that goes, or soon after the end."""
    return Ask((RunEnded(recorded(run.status, run.traces)),)) if has_last_word(run) else None


def has_last_word(run: Run) -> bool:
    """Whether the scheduler of a run that has ended is to be told so."""
    if not run.ended or not run.keeps_history or run.scheduler_life is None:
        return False
    since = run.now - time_or(run.status.end_time or "", 0.0)
    return since < LAST_WORD_SECONDS or bool(_tidy_up(run).actions)


def _next_look(run: Run) -> float | None:
    """Seconds until the next look, if neither a watch nor the scheduler reports anything first."""
    looks = [OBSTACLE_POLL_SECONDS] if run.obstacle is not None else []
    deadline, runner = run.job.spec.active_deadline_seconds, run.runner
    if run.job.spec.suspend:
        if runner is not None and not runner.is_suspended:
            looks.append((runner.suspended_at or run.now) + SUSPEND_AGAIN_SECONDS - run.now)
    elif run.waits:
        if deadline is not None:
            looks.append(deadline - run.active_seconds)
    elif runner is not None and runner.lacks_pod:
        looks.append(CREATION_POLL_SECONDS)
    if run.answers is not None and run.answers.of(TaskProgress) is not None and run.status.progress is not None:
        # An answer that came too early to be written, see `job_status._progress`.
        due = time_or(run.status.progress.last_update_time, 0.0) + PROGRESS_SECONDS - run.now
        looks += [due] if due > 0 else []
    return max(0.0, min(looks)) if looks else None


def _tidy_up(run: Run) -> Plan:
    """After the run: the cluster by ``deletionPolicy``, the runner's Pod and logs by ``ttlSecondsAfterFinished``."""
    spec, actions, dues = run.job.spec, list[Action](), list[float]()

    def delete_after(seconds: int, it: Runner | DaskCluster) -> None:
        left = time_or(run.status.end_time or "", 0.0) + seconds - run.now
        if left > 0:
            dues.append(left)
        else:
            actions.extend(_delete(it))

    policy = DELETION_POLICIES[spec.cluster.deletion_policy or "Always"]
    if run.cluster is not None and not run.ended.isdisjoint(policy):
        delete_after(spec.cluster.deletion_delay_seconds or 0, run.cluster)
    elif run.cluster is not None:
        actions += _hand_over(run, run.cluster)
    if run.runner is not None and not run.runner.is_finished:
        actions += _delete(run.runner)  # it has lost its cluster and would wait for ever
    elif run.runner is not None and spec.ttl_seconds_after_finished is not None:
        delete_after(spec.ttl_seconds_after_finished, run.runner)
    return Plan(actions=tuple(actions), requeue_after=min(dues, default=None))


def _hand_over(run: Run, cluster: DaskCluster) -> list[Action]:
    """What the run has withheld from a cluster that outlives it: its timeouts, and workers that stood back.

    And life: its end may be seen when the job that was suspended meanwhile is resumed.
    """
    there, spec = _timeouts(cluster.spec), _timeouts(run.job.spec.cluster.spec)
    spec = {name: seconds for name, seconds in spec.items() if name not in there}
    if annotation(cluster.metadata, Annotation.SUSPENDED) and not run.job.spec.suspend:
        handed = [_set(cluster, {Annotation.SUSPENDED: None}, suspend=None, **spec)]
    else:
        handed = [Patch.of(cluster, {"spec": spec})] if spec else []
    return [*handed, *runner_room.gives_back(run)]


def _timeouts(spec: DaskClusterSpec) -> dict[str, Any]:
    """Those that a cluster states, by their names in manifests."""
    timeouts = {"idleTimeout": spec.idle_timeout, "noClientTimeout": spec.no_client_timeout}
    return {name: seconds for name, seconds in timeouts.items() if seconds}


def _set(it: Runner | DaskCluster, annotations: dict[str, str | None], **spec: Any) -> Patch:
    return Patch.of(it, {**({"spec": spec} if spec else {}), "metadata": {"annotations": annotations}})


def _delete(it: Runner | DaskCluster) -> list[Action]:
    """Nothing has to be done about one that is already going."""
    return [] if it.metadata.get("deletionTimestamp") else [Delete.of(it)]
