"""The four kinds as immutable values: the one source of the API.

The CRDs, the JSON schemas, the reference page and the constructs' properties all derive from these structs. Field
descriptions are what users read in the reference; ``Meta(extra_json_schema=...)`` carries what only Kubernetes knows
(CEL rules, list types).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from . import names
from .kubernetes import PodSpec, ServiceSpec

__all__ = [
    "KINDS",
    "MAX_WORKERS",
    "PERCENTAGE",
    "AutoscalerBehavior",
    "Condition",
    "DaskAutoscaler",
    "DaskAutoscalerSpec",
    "DaskAutoscalerStatus",
    "DaskCluster",
    "DaskClusterSpec",
    "DaskClusterStatus",
    "DaskJob",
    "DaskJobSpec",
    "DaskJobStatus",
    "DaskWorkerGroup",
    "DaskWorkerGroupSpec",
    "DaskWorkerGroupStatus",
    "DrainingWorker",
    "InvalidManifest",
    "JobCluster",
    "JobTemplate",
    "Kind",
    "PastRun",
    "PodFailurePolicy",
    "PodSpec",
    "Progress",
    "Recommendation",
    "RollingUpdate",
    "ScaleEvent",
    "ScalingPolicy",
    "ScalingRules",
    "Scheduler",
    "SchedulerLoss",
    "SchedulerUpdateStrategy",
    "ServiceSpec",
    "TemplateMetadata",
    "UpdateStrategy",
    "Worker",
    "dump",
    "parse",
    "stated",
]

#: Most workers that a group may be asked for. Kubernetes is tested with up to 150,000 Pods in a whole cluster
#: (https://kubernetes.io/docs/setup/best-practices/cluster-large/), so a larger number is a slip, and it costs the
#: operator time and memory.
MAX_WORKERS = 200_000
#: A percentage as a pattern: of a number of workers, up to 999 %.
PERCENTAGE = "[0-9]{1,3}%"
#: What is wrong with zero for both.
NOTHING_TO_UPDATE = "maxSurge and maxUnavailable must not both be 0: no worker could be updated"
#: The key of a label as a pattern, its length apart: rules may not cost too much.
LABEL_KEY = "([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?"
#: The value of a label as a pattern.
LABEL_VALUE = "([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?"


def rule(expression: str, message: str) -> dict[str, str]:
    """One CEL rule (``x-kubernetes-validations``)."""
    return {"rule": expression, "message": message}


def rules(*items: dict[str, str]) -> dict[str, Any]:
    """Schema extension that holds CEL rules."""
    return {"x-kubernetes-validations": list(items)}


_PodSpec = Annotated[PodSpec, Meta(extra_json_schema={"x-vendored": "PodSpec"})]
_ServiceSpec = Annotated[ServiceSpec, Meta(extra_json_schema={"x-vendored": "ServiceSpec"})]
# Bounds in `extra_json_schema` are for those who write: the API server and synth keep them. `parse` does not: an object
# from before a bound must be looked after all the same.
_IntOrPercent = Annotated[
    int | str,
    Meta(
        extra_json_schema={
            "x-kubernetes-int-or-string": True,
            "minimum": 0,
            "maximum": MAX_WORKERS,
            "pattern": f"^{PERCENTAGE}$",
        }
    ),
]
_Workers = Annotated[int, Meta(ge=0, extra_json_schema={"maximum": MAX_WORKERS})]
# Kubernetes' own bound of such numbers. Great ones do no harm, and people write them for "never" or "for ever".
_Seconds = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class _Value(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An immutable value; absent fields stay absent when it is written out."""


# --- what the kinds share ---------------------------------------------------------------------------------------------


class TemplateMetadata(_Value, frozen=True, kw_only=True):
    """Labels and annotations for the objects made from a template."""

    annotations: Annotated[dict[str, str], Meta(description="Annotations of the created objects.")] | None = None
    labels: (
        Annotated[
            dict[str, Annotated[str, Meta(extra_json_schema={"maxLength": 63, "pattern": f"^{LABEL_VALUE}$"})]],
            Meta(
                description="Labels of the created objects. They never become part of a selector.",
                extra_json_schema=rules(
                    rule(
                        f"self.all(key, key.matches('^{LABEL_KEY}$'))",
                        "a key of labels has letters, digits, '-', '_' and '.', maybe after a DNS name and '/'",
                    )
                ),
            ),
        ]
        | None
    ) = None


class RollingUpdate(_Value, frozen=True, kw_only=True):
    """How many workers a rolling update may add and miss at a time."""

    max_surge: Annotated[
        _IntOrPercent,
        Meta(description="Workers above the wanted number while updating. Percentages, up to 999%, round up."),
    ] = "25%"
    max_unavailable: (
        Annotated[
            _IntOrPercent,
            Meta(
                description="Workers that may be missing while updating. Percentages, up to 999%, round down. "
                "Omitted: 0."
            ),
        ]
        | None
    ) = None


class UpdateStrategy(_Value, frozen=True, kw_only=True):
    """What happens to running workers when their template changes."""

    type: Annotated[
        Literal["RollingUpdate", "OnDelete"],
        Meta(description="`RollingUpdate` replaces outdated workers, drained first; `OnDelete` leaves that to you."),
    ] = "RollingUpdate"
    rolling_update: Annotated[
        RollingUpdate | None,
        Meta(
            extra_json_schema=rules(
                rule(
                    "!has(self.maxSurge) || !has(self.maxUnavailable) || ![self.maxSurge, self.maxUnavailable]"
                    ".all(amount, amount == 0 || (type(amount) == string && amount.matches('^0+%$')))",
                    NOTHING_TO_UPDATE,
                )
            )
        ),
    ] = None


class SchedulerUpdateStrategy(_Value, frozen=True, kw_only=True):
    """What happens to the running scheduler when its template changes. All work is lost with a scheduler."""

    type: Annotated[
        Literal["Recreate", "OnDelete"],
        Meta(description="`Recreate` replaces the scheduler at once; `OnDelete` waits until you delete its Pod."),
    ] = "Recreate"


class Scheduler(_Value, frozen=True, kw_only=True):
    """The scheduler Pod and its Service."""

    spec: Annotated[_PodSpec, Meta(description="PodSpec of the scheduler.")]
    metadata: TemplateMetadata | None = None
    service: (
        Annotated[
            _ServiceSpec,
            Meta(
                description="ServiceSpec of `<cluster>-scheduler`. Omitted: a ClusterIP Service with the ports "
                "`tcp-comm` (8786) and `http-dashboard` (8787)."
            ),
        ]
        | None
    ) = None
    update_strategy: SchedulerUpdateStrategy | None = None
    eviction_policy: (
        Annotated[
            Literal["Block", "Allow"],
            Meta(
                description="Whether the scheduler may be evicted, by `kubectl drain` say. `Block`: a "
                "PodDisruptionBudget refuses it as long as the cluster runs. Omitted: `Block`."
            ),
        ]
        | None
    ) = None


class Worker(_Value, frozen=True, kw_only=True):
    """Homogeneous worker Pods. A new `kubectl.kubernetes.io/restartedAt` in `metadata.annotations` replaces them."""

    spec: Annotated[
        _PodSpec,
        Meta(
            description="PodSpec of a worker. Its containers have `DASK_WORKER_NAME` and `DASK_SCHEDULER_ADDRESS`, to "
            "which your own variables may refer; `env` overrules them, `envFrom` does not."
        ),
    ]
    metadata: TemplateMetadata | None = None
    replicas: Annotated[
        _Workers,
        Meta(description="Number of worker Pods. Leave it out of Git to let `kubectl scale` or clients decide."),
    ] = 1
    update_strategy: UpdateStrategy | None = None
    drain_timeout_seconds: (
        Annotated[
            _Seconds,
            Meta(
                description="How long a worker that must go, but still runs a task or holds data nobody else "
                "has, is kept. Then it is deleted all the same and the loss is reported. Omitted: 300; 0: no drain."
            ),
        ]
        | None
    ) = None


class Condition(_Value, frozen=True, kw_only=True):
    """A standard Kubernetes condition."""

    type: Annotated[str, Meta(max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Meta(max_length=1024)]
    message: Annotated[str, Meta(max_length=32768)] = ""
    last_transition_time: _Time
    observed_generation: int | None = None


_Conditions = Annotated[
    list[Condition],
    Meta(
        description="`Ready`, `Progressing`, `Reconciling` and `Stalled`, and what the kind adds.",
        extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
_Generation = Annotated[
    int,
    Meta(
        description="Generation of the spec that this status speaks of.",
    ),
]


# --- DaskCluster ------------------------------------------------------------------------------------------------------


class DaskClusterSpec(_Value, frozen=True, kw_only=True):
    """Desired state of a cluster."""

    scheduler: Scheduler
    worker: Annotated[Worker, Meta(description="The default worker group, `<cluster>-default`.")]
    idle_timeout: (
        Annotated[_Seconds, Meta(description="Seconds without work after which `idleAction` is taken; 0 = never.")]
        | None
    ) = None
    idle_action: (
        Annotated[
            Literal["Delete", "Suspend"],
            Meta(
                description="What to do with an idle cluster: `Delete` it, or `Suspend` it by setting `suspend`, which "
                "your manifest must then leave out. Omitted: `Delete`."
            ),
        ]
        | None
    ) = None
    suspend: (
        Annotated[bool, Meta(description="Take scheduler and workers down to zero and keep the resource.")] | None
    ) = None


class DaskClusterStatus(_Value, frozen=True, kw_only=True):
    """Observed state of a cluster."""

    observed_generation: _Generation | None = None
    phase: (
        Annotated[
            Literal["Created", "Pending", "Running", "Error"],
            Meta(
                description="For existing clients: `Running` means that scheduler, Service and default group exist. "
                "Whether they are ready is in the conditions."
            ),
        ]
        | None
    ) = None
    replicas: Annotated[int, Meta(description="Worker Pods of the default group.")] | None = None
    ready_replicas: Annotated[int, Meta(description="Ready worker Pods of the default group.")] | None = None
    workers: Annotated[str, Meta(description="Ready and wanted workers of all groups, as `ready/wanted`.")] | None = (
        None
    )
    scheduler_address: (
        Annotated[str, Meta(description="Address for `distributed.Client` inside the cluster.")] | None
    ) = None
    dashboard_address: Annotated[str, Meta(description="URL of the dashboard inside the cluster.")] | None = None
    scheduler_pod_uid: Annotated[str, Meta(description="Uid of the scheduler Pod that was seen last.")] | None = None
    conditions: _Conditions | None = None


# --- DaskWorkerGroup --------------------------------------------------------------------------------------------------


class DaskWorkerGroupSpec(_Value, frozen=True, kw_only=True):
    """Desired state of a worker group."""

    cluster: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=names.MAX_CLUSTER_NAME,
            description="Name of the DaskCluster in the same namespace that the workers join.",
            extra_json_schema=rules(rule("self == oldSelf", "a worker group cannot move to another cluster")),
        ),
    ]
    worker: Worker


class DrainingWorker(_Value, frozen=True, kw_only=True):
    """A worker on its way out: the ledger that a restarted operator goes on with."""

    name: Annotated[str, Meta(description="Name of the Pod.")]
    since: Annotated[_Time, Meta(description="When it was told to drain.")]
    message: Annotated[str, Meta(description="What it is waiting for.")] | None = None


class DaskWorkerGroupStatus(_Value, frozen=True, kw_only=True):
    """Observed state of a worker group."""

    observed_generation: _Generation | None = None
    replicas: Annotated[int, Meta(description="Worker Pods that are not finished and not being deleted.")] | None = None
    ready_replicas: Annotated[int, Meta(description="Worker Pods that are ready.")] | None = None
    updated_replicas: Annotated[int, Meta(description="Worker Pods made from the current template.")] | None = None
    desired_replicas: (
        Annotated[
            int, Meta(description="What the group works towards: an autoscaler's number, else `spec.worker.replicas`.")
        ]
        | None
    ) = None
    autoscaler: (
        Annotated[
            str,
            Meta(
                description="Name of the DaskAutoscaler that sets the number of workers. As long as there is one, "
                "`spec.worker.replicas` changes nothing, whoever sets it."
            ),
        ]
        | None
    ) = None
    selector: (
        Annotated[str, Meta(description="Label selector of the worker Pods, for the scale subresource.")] | None
    ) = None
    draining: (
        Annotated[
            list[DrainingWorker],
            Meta(
                description="Workers on their way out.",
                extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ),
        ]
        | None
    ) = None
    last_progress_time: (
        Annotated[
            str,
            Meta(
                description="When a worker last became ready, or an outdated one went; ten minutes without, while "
                "something is missing, are a stall."
            ),
        ]
        | None
    ) = None
    conditions: _Conditions | None = None


# --- DaskJob ----------------------------------------------------------------------------------------------------------


class JobTemplate(_Value, frozen=True, kw_only=True):
    """The runner: the Pod that runs your program."""

    spec: Annotated[
        _PodSpec,
        Meta(
            description="PodSpec of the runner. `restartPolicy` is `Never` unless you say `OnFailure` and failures "
            "are retried.",
            extra_json_schema=rules(
                rule(
                    "!has(self.restartPolicy) || self.restartPolicy != 'Always'",
                    "restartPolicy of a runner must be Never or OnFailure: it runs to completion",
                )
            ),
        ),
    ]
    metadata: TemplateMetadata | None = None


class JobCluster(_Value, frozen=True, kw_only=True):
    """The cluster that lives as long as the job."""

    spec: Annotated[
        DaskClusterSpec,
        Meta(
            extra_json_schema=rules(
                rule(
                    "!has(self.idleAction) || self.idleAction == 'Delete'",
                    "the cluster of a job cannot be suspended for being idle: suspend the job",
                )
            )
        ),
    ]
    metadata: TemplateMetadata | None = None
    deletion_policy: (
        Annotated[
            Literal["Always", "OnSuccess", "Never"],
            Meta(description="Whether the cluster is removed when the runner has finished. Omitted: `Always`."),
        ]
        | None
    ) = None
    deletion_delay_seconds: (
        Annotated[_Seconds, Meta(description="How long the cluster is kept after the runner has finished. Omitted: 0.")]
        | None
    ) = None


# Bounds of batch/v1: beyond them the runner's Job would be refused.
_ExitCode = Annotated[int, Meta(extra_json_schema={"minimum": -(2**31), "maximum": 2**31 - 1})]
_ConditionType = Annotated[str, Meta(extra_json_schema={"maxLength": 317})]


class OnExitCodes(_Value, frozen=True, kw_only=True):
    """Exit codes of a failed runner that a rule is about."""

    operator: Literal["In", "NotIn"]
    values: Annotated[
        list[_ExitCode], Meta(min_length=1, max_length=255, extra_json_schema={"x-kubernetes-list-type": "set"})
    ]
    container_name: (
        Annotated[str, Meta(description="Omitted: any container.", extra_json_schema={"maxLength": 63})] | None
    ) = None


class OnPodCondition(_Value, frozen=True, kw_only=True):
    """A condition of a failed runner Pod that a rule is about."""

    type: _ConditionType
    status: Literal["True", "False", "Unknown"] = "True"


class PodFailureRule(_Value, frozen=True, kw_only=True):
    """What a failure of the runner's Pod means."""

    action: Annotated[
        Literal["FailJob", "Ignore", "Count"],
        Meta(
            description="`FailJob` ends the run, `Ignore` does not count the failure, `Count` counts it against "
            "`backoffLimit`."
        ),
    ]
    on_exit_codes: OnExitCodes | None = None
    on_pod_conditions: (
        Annotated[list[OnPodCondition], Meta(max_length=20, extra_json_schema={"x-kubernetes-list-type": "atomic"})]
        | None
    ) = None


class PodFailurePolicy(_Value, frozen=True, kw_only=True):
    """Which failures of the runner count, as in a batch/v1 Job; the first rule that fits decides."""

    rules: Annotated[
        list[PodFailureRule],
        Meta(
            max_length=20,
            extra_json_schema={
                "x-kubernetes-list-type": "atomic",
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


class DaskJobSpec(_Value, frozen=True, kw_only=True):
    """Desired state of a job."""

    cluster: JobCluster
    job: JobTemplate
    backoff_limit: (
        Annotated[
            _Count, Meta(description="Failed runner Pods that are retried before the job has failed. Omitted: 0.")
        ]
        | None
    ) = None
    active_deadline_seconds: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=2**31 - 1,
                description="Longest time that a run may take, the wait for its cluster included. Time spent suspended "
                "does not count.",
            ),
        ]
        | None
    ) = None
    pod_failure_policy: Annotated[
        PodFailurePolicy | None,  # the other way round, msgspec loses what is said of it
        Meta(
            description="Which failures of the runner count. Omitted: disruptions, such as node drains, do not count. "
            "Needs `restartPolicy: Never`, which is the default."
        ),
    ] = None
    minimum_ready_workers: (
        Annotated[
            _Workers,
            Meta(
                description="Workers that must have registered with the scheduler before the runner starts. Omitted: 0."
            ),
        ]
        | None
    ) = None
    on_scheduler_lost: (
        Annotated[
            Literal["RestartJob", "Fail", "Ignore"],
            Meta(
                description="What to do when the scheduler restarts under the runner: everything that the runner had "
                "submitted is lost. `RestartJob` runs the program again from the start, at most `backoffLimit` or "
                "three times, whichever is more. Omitted: `RestartJob`."
            ),
        ]
        | None
    ) = None
    version_policy: (
        Annotated[
            Literal["Warn", "Enforce"],
            Meta(
                description="What to do if runner, scheduler and workers do not have the same versions of Python, "
                "dask, distributed and msgpack. `Enforce` fails the run. Omitted: `Warn`."
            ),
        ]
        | None
    ) = None
    ttl_seconds_after_finished: (
        Annotated[
            _Seconds,
            Meta(
                description="When to remove what the run left (runner Pod, logs). The DaskJob itself stays, because a "
                "GitOps tool would create it, and so run it, again."
            ),
        ]
        | None
    ) = None
    suspend: Annotated[bool, Meta(description="Hold the runner and its cluster back.")] | None = None
    run_id: (
        Annotated[str, Meta(max_length=63, description="Opaque; each new value is one more run of the same job.")]
        | None
    ) = None


class Progress(_Value, frozen=True, kw_only=True):
    """How far the tasks are that the runner has submitted so far."""

    tasks_total: int
    tasks_done: Annotated[int, Meta(description="Tasks that have ended, erred ones included.")]
    percent: int
    workers: Annotated[int, Meta(description="Workers that are registered with the scheduler.")]
    last_update_time: _Time


class SchedulerLoss(_Value, frozen=True, kw_only=True):
    """The last time that the run began again because its scheduler was lost."""

    runner_uid: (
        Annotated[str, Meta(description="Uid of the runner's Job that lost it, until another has taken its place.")]
        | None
    ) = None
    count: Annotated[int, Meta(description="Losses so far.")]
    failures: Annotated[int, Meta(description="Failed runner Pods before the loss.")] = 0


class PastRun(_Value, frozen=True, kw_only=True):
    """A run that has ended and was followed by another."""

    run_id: str | None = None
    job_status: str | None = None
    reason: str | None = None
    message: Annotated[str, Meta(description="Why it ended so, in at most 512 characters.")] | None = None
    start_time: _Time | None = None
    end_time: _Time | None = None


class DaskJobStatus(_Value, frozen=True, kw_only=True):
    """Observed state of a job."""

    observed_generation: _Generation | None = None
    job_status: (
        Annotated[
            Literal["JobCreated", "ClusterCreated", "Running", "Successful", "Failed"],
            Meta(description="For existing clients; see the conditions `Complete` and `Failed` for reasons."),
        ]
        | None
    ) = None
    cluster_name: str | None = None
    job_runner_pod_name: str | None = None
    start_time: _Time | None = None
    end_time: _Time | None = None
    duration_seconds: Annotated[int, Meta(description="From `startTime` to `endTime`.")] | None = None
    run_id: Annotated[str, Meta(description="The `spec.runId` that the rest of this status speaks of.")] | None = None
    revision: Annotated[str, Meta(description="Hash of what runs: the templates of runner and cluster.")] | None = None
    active_since: (
        Annotated[
            _Time, Meta(description="When the run began, or was resumed; `activeDeadlineSeconds` counts from it.")
        ]
        | None
    ) = None
    retries: Annotated[int, Meta(description="How often the runner was started again.")] | None = None
    last_problem: (
        Annotated[
            str,
            Meta(
                description="How the runner's container ended last, if not well, or what kept it from starting. It is "
                "noted while its Pod is there: Kubernetes deletes the Pod of a failed runner with `restartPolicy: "
                "OnFailure`."
            ),
        ]
        | None
    ) = None
    progress: Progress | None = None
    scheduler_loss: SchedulerLoss | None = None
    history: (
        Annotated[
            list[PastRun],
            Meta(
                description="The runs before this one, newest first.",
                extra_json_schema={"x-kubernetes-list-type": "atomic"},
            ),
        ]
        | None
    ) = None
    conditions: _Conditions | None = None


# --- DaskAutoscaler ---------------------------------------------------------------------------------------------------


class ScalingPolicy(_Value, frozen=True, kw_only=True):
    """How much the number of workers may change within a time."""

    type: Annotated[
        Literal["Pods", "Percent"],
        Meta(description="`Percent` is of the number at the start of the period; at least one worker is let through."),
    ]
    value: Annotated[
        int,
        Meta(ge=1, description="Greatest change, in Pods or percent.", extra_json_schema={"maximum": MAX_WORKERS}),
    ]
    period_seconds: Annotated[int, Meta(ge=1, le=1800, description="The time in which it holds.")]


class ScalingRules(_Value, frozen=True, kw_only=True):
    """Scaling in one direction, as in HorizontalPodAutoscaler v2."""

    stabilization_window_seconds: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=3600,
                description="Recommendations of this many past seconds are considered, and the one that changes "
                "least is taken. Omitted: 0 up, 60 down.",
            ),
        ]
        | None
    ) = None
    policies: (
        Annotated[
            list[ScalingPolicy],
            Meta(
                min_length=1,
                max_length=10,
                description="Limits of the pace. Omitted: none.",
                extra_json_schema={"x-kubernetes-list-type": "atomic"},
            ),
        ]
        | None
    ) = None
    select_policy: (
        Annotated[
            Literal["Max", "Min", "Disabled"],
            Meta(
                description="Which policy counts: the one that allows the most change (`Max`) or the least (`Min`). "
                "`Disabled`: no scaling in this direction. Omitted: `Max`."
            ),
        ]
        | None
    ) = None


class AutoscalerBehavior(_Value, frozen=True, kw_only=True):
    """How fast the group follows the load."""

    scale_up: ScalingRules | None = None
    scale_down: ScalingRules | None = None


class DaskAutoscalerSpec(_Value, frozen=True, kw_only=True):
    """Bounds within which one worker group follows the load."""

    cluster: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=names.MAX_CLUSTER_NAME,
            description="Name of the DaskCluster in the same namespace.",
        ),
    ]
    minimum: Annotated[_Workers, Meta(description="Least number of workers.")] = 0
    maximum: Annotated[_Workers, Meta(description=f"Greatest number of workers. Omitted: {MAX_WORKERS}.")] | None = None
    worker_group: (
        Annotated[str, Meta(min_length=1, max_length=names.MAX_GROUP_NAME, description="Omitted: `<cluster>-default`.")]
        | None
    ) = None
    behavior: AutoscalerBehavior | None = None


class Recommendation(_Value, frozen=True, kw_only=True):
    """What the load asked for, within `minimum` and `maximum`."""

    replicas: int
    until: Annotated[_Time, Meta(description="When it asked for another number. Omitted: it still does.")] | None = None


class ScaleEvent(_Value, frozen=True, kw_only=True):
    """A change of the number of workers."""

    time: _Time
    change: Annotated[int, Meta(description="Workers added; negative: removed.")]


class DaskAutoscalerStatus(_Value, frozen=True, kw_only=True):
    """Observed state of an autoscaler."""

    observed_generation: _Generation | None = None
    desired_replicas: Annotated[int, Meta(description="The number of workers that the group works towards.")] | None = (
        None
    )
    worker_group_uid: (
        Annotated[str, Meta(description="Uid of the DaskWorkerGroup that the numbers are about: others ignore them.")]
        | None
    ) = None
    last_scale_time: _Time | None = None
    recommendations: (
        Annotated[
            list[Recommendation],
            Meta(
                description="Recommendations that the stabilization windows still look at; the last one holds now.",
                extra_json_schema={"x-kubernetes-list-type": "atomic"},
            ),
        ]
        | None
    ) = None
    scale_events: (
        Annotated[
            list[ScaleEvent],
            Meta(
                description="Changes within the longest period of a policy.",
                extra_json_schema={"x-kubernetes-list-type": "atomic"},
            ),
        ]
        | None
    ) = None
    conditions: _Conditions | None = None


# --- resources --------------------------------------------------------------------------------------------------------


class _Resource(_Value, frozen=True, kw_only=True):
    """A namespaced custom resource; ``metadata`` is plain Kubernetes metadata."""

    metadata: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return str(self.metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        """``metadata.namespace``."""
        return str(self.metadata.get("namespace", ""))

    @property
    def uid(self) -> str:
        """``metadata.uid``, empty before the API server has seen the object."""
        return str(self.metadata.get("uid", ""))

    @property
    def generation(self) -> int:
        """``metadata.generation``, 0 before the API server has seen the object."""
        return int(self.metadata.get("generation", 0))

    @property
    def kind(self) -> str:
        """Kind, which is the name of the class."""
        return type(self).__name__


class DaskCluster(_Resource, frozen=True, kw_only=True):
    """A scheduler, its Service and a default worker group."""

    spec: DaskClusterSpec
    status: DaskClusterStatus = DaskClusterStatus()


class DaskWorkerGroup(_Resource, frozen=True, kw_only=True):
    """Homogeneous workers attached to a cluster, scaled like a Deployment."""

    spec: DaskWorkerGroupSpec
    status: DaskWorkerGroupStatus = DaskWorkerGroupStatus()


class DaskJob(_Resource, frozen=True, kw_only=True):
    """A program that runs to completion beside its own cluster."""

    spec: DaskJobSpec
    status: DaskJobStatus = DaskJobStatus()


class DaskAutoscaler(_Resource, frozen=True, kw_only=True):
    """Bounds within which a worker group follows the load."""

    spec: DaskAutoscalerSpec
    status: DaskAutoscalerStatus = DaskAutoscalerStatus()


Kind = DaskCluster | DaskWorkerGroup | DaskJob | DaskAutoscaler
KINDS: dict[str, type[Kind]] = {
    "DaskCluster": DaskCluster,
    "DaskWorkerGroup": DaskWorkerGroup,
    "DaskJob": DaskJob,
    "DaskAutoscaler": DaskAutoscaler,
}


class InvalidManifest(ValueError):
    """A manifest that does not fit the API.

    Attributes:
        path: the field, as ``spec.worker.replicas``; empty for the whole object.
        message: what is wrong with it, for the person who wrote the manifest.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


def parse(manifest: dict[str, Any]) -> Kind:
    """The typed value of a manifest.

    Explicit nulls count as absent, as they do at the API server; existing clients send them. Unknown fields are
    ignored (strict validation is the business of synth and of the API server).

    Raises:
        InvalidManifest: not one of the four kinds, or a field of the wrong type or out of bounds.
    """
    kind = manifest.get("kind")
    if manifest.get("apiVersion") != names.API_VERSION or kind not in KINDS:
        raise InvalidManifest(
            "", f"{manifest.get('apiVersion')} {kind} is not one of {', '.join(KINDS)} of {names.API_VERSION}"
        )
    try:
        return _as_observed(msgspec.convert(_without_nulls(manifest), KINDS[kind]))
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidManifest(path.rstrip("`"), message) from None


#: ``observedGeneration`` in the status that the API server gives a new resource.
UNOBSERVED = -1


def _as_observed(value: Kind) -> Kind:
    """Without what status says before anybody has looked: it is there for clients, and speaks of nothing yet."""
    status = value.status
    if status.observed_generation == UNOBSERVED:
        return msgspec.structs.replace(value, status=type(status)())
    if isinstance(value, DaskJob) and value.status.revision is None:
        return msgspec.structs.replace(value, status=_since_the_first(value))
    return value


def _since_the_first(job: DaskJob) -> DaskJobStatus:
    """The status of a job of which it was not noted what runs.

    Either nothing could be done about it but to say why, so that no run has begun. Or an operator who took the first
    status for its own has begun one and not noted which: that of the present spec, which must not be repeated.
    """
    status = job.status
    if status.job_status in (None, "JobCreated"):
        return msgspec.structs.replace(status, job_status=None)
    return msgspec.structs.replace(status, run_id=status.run_id or job.spec.run_id)


def dump(value: Struct) -> dict[str, Any]:
    """Plain JSON data of a value; of a resource, its whole manifest with ``apiVersion`` and ``kind``."""
    data: dict[str, Any] = msgspec.to_builtins(value)
    if isinstance(value, _Resource):
        return {"apiVersion": names.API_VERSION, "kind": value.kind, **data}
    return data


def stated(value: Struct) -> dict[str, Any]:
    """As `dump`, but of objects that are there with their defaults, and without those in which nothing is stated.

    So what somebody else makes of a default is a difference, and is set right by applying this. And server-side apply
    makes null of an empty object from which it takes away the last field that it had.
    """
    data: dict[str, Any] = _stated(value)
    return data


def _stated(value: Any) -> Any:
    if isinstance(value, Struct):
        fields = msgspec.structs.fields(value)
        members = {field.encode_name: _stated(getattr(value, field.name)) for field in fields}
        return {key: member for key, member in members.items() if member not in (None, {}, [])}
    return msgspec.to_builtins(value)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
