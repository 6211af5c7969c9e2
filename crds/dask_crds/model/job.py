"""The model of a DaskJob."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .cluster import DaskClusterSpec
from .history import Bundle
from .shared import (
    ATOMIC,
    Count,
    CustomResource,
    Seconds,
    Status,
    TemplateMetadata,
    Time,
    Usage,
    Value,
    VendoredPodSpec,
    Workers,
    rule,
    rules,
)


class JobTemplate(Value, frozen=True, kw_only=True):
    """The runner: the Pod that runs your program."""

    spec: Annotated[
        VendoredPodSpec,
        Meta(
            extra_json_schema=rules(
                rule(
                    "!has(self.restartPolicy) || self.restartPolicy != 'Always'",
                    "restartPolicy of a runner must be Never or OnFailure: it runs to completion",
                )
            )
        ),
    ]
    """PodSpec of the runner. `restartPolicy` is `Never` unless you say `OnFailure` and failures are retried."""
    metadata: TemplateMetadata | None = None


class JobCluster(Value, frozen=True, kw_only=True):
    """The cluster that lives as long as the job."""

    spec: Annotated[
        DaskClusterSpec,
        Meta(
            extra_json_schema=rules(
                rule(
                    "!has(self.idleAction) || self.idleAction == 'Delete'",
                    "the cluster of a job cannot be suspended for being idle: suspend the job",
                ),
                rule(
                    "!has(self.wake) || self.wake == 'Manual'",
                    "the cluster of a job cannot be woken by a client: resume the job",
                ),
            )
        ),
    ]
    metadata: TemplateMetadata | None = None
    deletion_policy: Literal["Always", "OnSuccess", "Never"] | None = None
    """Whether the cluster is removed when the runner has finished. Omitted: `Always`."""
    deletion_delay_seconds: Seconds | None = None
    """How long the cluster is kept after the runner has finished. Omitted: 0."""


# Bounds of batch/v1: beyond them the runner's Job would be refused.
_ExitCode = Annotated[int, Meta(extra_json_schema={"minimum": -(2**31), "maximum": 2**31 - 1})]
Duration = Annotated[int, Meta(ge=0)]
_ConditionType = Annotated[str, Meta(extra_json_schema={"maxLength": 317})]


class OnExitCodes(Value, frozen=True, kw_only=True):
    """Exit codes of a failed runner that a rule is about."""

    operator: Literal["In", "NotIn"]
    """`In`: the container ended with one of `values`; `NotIn`: with another."""
    values: Annotated[
        list[_ExitCode], Meta(min_length=1, max_length=255, extra_json_schema={"x-kubernetes-list-type": "set"})
    ]
    """The exit codes."""
    container_name: Annotated[str, Meta(extra_json_schema={"maxLength": 63})] | None = None
    """Name of the container that has ended. Omitted: any container."""


class OnPodCondition(Value, frozen=True, kw_only=True):
    """A condition of a failed runner Pod that a rule is about."""

    DEFAULTS = {"status": "True"}

    type: _ConditionType
    """Type of the condition, such as `DisruptionTarget`."""
    status: Literal["True", "False", "Unknown"] | None = None
    """Status of the condition. Omitted: `True`."""


class PodFailureRule(Value, frozen=True, kw_only=True):
    """What a failure of the runner's Pod means."""

    action: Literal["FailJob", "Ignore", "Count"]
    """`FailJob` ends the run, `Ignore` does not count the failure, `Count` counts it against `backoffLimit`."""
    on_exit_codes: OnExitCodes | None = None
    on_pod_conditions: Annotated[list[OnPodCondition], Meta(max_length=20, extra_json_schema=ATOMIC)] | None = None
    """Conditions of the failed Pod, of which one must hold."""


class PodFailurePolicy(Value, frozen=True, kw_only=True):
    """Which failures of the runner count, as in a batch/v1 Job; the first rule that fits decides."""

    rules: Annotated[
        list[PodFailureRule],
        Meta(
            max_length=20,
            extra_json_schema={
                **ATOMIC,
                **rules(
                    rule(
                        "self.all(r, has(r.onExitCodes) != has(r.onPodConditions))",
                        "each rule has either onExitCodes or onPodConditions",
                    ),
                    rule(
                        "!self.exists(r, has(r.onExitCodes) && r.onExitCodes.operator == 'In' "
                        "&& 0 in r.onExitCodes.values)",
                        "exit code 0 is no failure",
                    ),
                ),
            },
        ),
    ]
    """The rules, in order."""


class DaskJobSpec(Value, frozen=True, kw_only=True):
    """Desired state of a job."""

    cluster: JobCluster
    job: JobTemplate
    backoff_limit: Count | None = None
    """Failed runner Pods that are retried before the job has failed. Omitted: 0."""
    active_deadline_seconds: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    """Longest time that a run may take, the wait for its cluster included. Time spent suspended does not count."""
    pod_failure_policy: PodFailurePolicy | None = None
    """Which failures of the runner count. Omitted: disruptions, such as node drains, do not count. Needs
    `restartPolicy: Never`, which is the default."""
    minimum_ready_workers: Workers | None = None
    """Workers that must have registered with the scheduler before the runner starts. Omitted: 0."""
    on_scheduler_lost: Literal["RestartJob", "Fail", "Ignore"] | None = None
    """What to do when the scheduler restarts under the runner: everything that the runner had submitted is lost.
    `RestartJob` runs the program again from the start, at most `backoffLimit` or three times, whichever is more.
    Omitted: `RestartJob`."""
    version_policy: Literal["Warn", "Enforce"] | None = None
    """What to do if runner, scheduler and workers do not have the same versions of Python, dask, distributed and
    msgpack. `Enforce` fails the run. Omitted: `Warn`."""
    ttl_seconds_after_finished: Seconds | None = None
    """When to remove what the run left (runner Pod, logs). The DaskJob itself stays, because a GitOps tool would create
    it, and so run it, again."""
    suspend: bool | None = None
    """Hold the runner and its cluster back."""
    run_id: Annotated[str, Meta(max_length=63)] | None = None
    """Opaque; each new value is one more run of the same job."""


class Progress(Value, frozen=True, kw_only=True):
    """How far the tasks are that the runner has submitted so far."""

    tasks_total: int
    """Tasks that have been submitted."""
    tasks_done: int
    """Tasks that have ended, erred ones included."""
    percent: int
    """`tasksDone` in percent of `tasksTotal`."""
    workers: int
    """Workers that are registered with the scheduler."""
    last_update_time: Time
    """When these numbers were noted."""


class TimeSpent(Value, frozen=True, kw_only=True):
    """Where the time of the run went, in whole seconds: the parts add up to the time from `since` to `until`."""

    since: Time
    """When the run was asked for, as far as is known."""
    until: Time
    """Up to when time is accounted for."""
    state: (
        Literal[
            "queued",
            "waitingForQuota",
            "waitingForNode",
            "waitingForWorkers",
            "pulling",
            "starting",
            "running",
            "suspended",
            "ending",
        ]
        | None
    ) = None
    """The part that time from `until` on belongs to. Omitted: the run has ended."""
    queued: Duration = 0
    """Waiting for its turn: a queue held the runner back, what the run before left had to go, or nobody had looked at
    it yet."""
    waiting_for_quota: Duration = 0
    """A quota had no room for a Pod that was needed."""
    waiting_for_node: Duration = 0
    """The Pod of the scheduler or of the runner had no node."""
    waiting_for_workers: Duration = 0
    """No worker was there: for the tasks, or as many as the runner waits for."""
    pulling: Duration = 0
    """Images were pulled for the scheduler or the runner; init containers ran."""
    starting: Duration = 0
    """Volumes, networks and processes were being set up."""
    running: Duration = 0
    """The program ran, and the scheduler has not told yet what it was at."""
    computing: Duration = 0
    """The program ran and workers had tasks: the share of that in which the tasks computed."""
    moving_data: Duration = 0
    """Likewise the share in which their data was moved between workers, to disk or back."""
    idle: Duration = 0
    """The program ran, and the cluster had nothing to do."""
    suspended: Duration = 0
    """`spec.suspend` was true."""
    ending: Duration = 0
    """The program had ended, the run had not."""
    told_computing: Duration = 0
    """What the scheduler had counted of `computing` when it was asked last."""
    told_moving_data: Duration = 0
    """Likewise of `movingData`."""
    told_waiting: Duration = 0
    """Likewise of `waitingForWorkers`."""


class SchedulerLoss(Value, frozen=True, kw_only=True):
    """The last time that the run began again because its scheduler was lost."""

    runner_uid: str | None = None
    """Uid of the runner's Job that lost it, until another has taken its place."""
    count: int
    """Losses so far."""
    failures: int = 0
    """Failed runner Pods before the loss."""


class PastRun(Value, frozen=True, kw_only=True):
    """A run that has ended and was followed by another."""

    run_id: str | None = None
    """Its `spec.runId`."""
    job_status: str | None = None
    """Its last `jobStatus`."""
    reason: str | None = None
    """Why it ended so, in one word."""
    message: str | None = None
    """Why it ended so, in at most 512 characters."""
    start_time: Time | None = None
    """When it began."""
    end_time: Time | None = None
    """When it ended."""
    bundle: Bundle | None = None


class DaskJobStatus(Status, frozen=True, kw_only=True):
    """Observed state of a job."""

    job_status: Literal["JobCreated", "ClusterCreated", "Running", "Successful", "Failed"] | None = None
    """For existing clients; see the conditions `Complete` and `Failed` for reasons."""
    cluster_name: str | None = None
    """Name of the run's DaskCluster."""
    job_runner_pod_name: str | None = None
    """Name of the runner's Pod."""
    start_time: Time | None = None
    """When the run began."""
    end_time: Time | None = None
    """When the run ended."""
    duration_seconds: int | None = None
    """From `startTime` to `endTime`."""
    run_id: str | None = None
    """The `spec.runId` that the rest of this status speaks of."""
    revision: str | None = None
    """Hash of what runs: the templates of runner and cluster."""
    active_since: Time | None = None
    """When the run began, or was resumed; `activeDeadlineSeconds` counts from it."""
    retries: int | None = None
    """How often the runner was started again."""
    last_problem: str | None = None
    """How the runner's container ended last, if not well, or what kept it from starting. It is noted while its Pod is
    there: Kubernetes deletes the Pod of a failed runner with `restartPolicy: OnFailure`."""
    progress: Progress | None = None
    time_spent: TimeSpent | None = None
    bundle: Bundle | None = None
    scheduler_loss: SchedulerLoss | None = None
    history: Annotated[list[PastRun], Meta(extra_json_schema=ATOMIC)] | None = None
    """The runs before this one, newest first."""
    usage: Usage | None = None


class DaskJob(CustomResource, frozen=True, kw_only=True):
    """A program that runs to completion beside its own cluster."""

    spec: DaskJobSpec
    status: DaskJobStatus = DaskJobStatus()
