"""The metrics of the operator about Dask, on one page: what is collected, documented, and asked for by dashboards.

Names follow https://prometheus.io/docs/practices/naming/; none begins as Dask's own do (``dask_scheduler_``,
``dask_worker_``), which come from schedulers and workers.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """A metric as it is documented."""

    name: str  #: as it is asked for: of a counter with ``_total``
    type: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    meaning: str


_CLUSTER = ("namespace", "cluster")
_GROUP = (*_CLUSTER, "workergroup")
_JOB = ("namespace", "job")
_AUTOSCALER = (*_CLUSTER, "autoscaler")
_CONDITION = ("condition", "status", "reason")
_USAGE = (*_CLUSTER, "component", "name", "owner")
_AS_IT_IS = "1 for each condition as it is now."

CLUSTER_INFO = Metric("dask_cluster_info", "gauge", (*_CLUSTER, "owner"), "1 for each DaskCluster.")
CLUSTER_CREATED = Metric("dask_cluster_created_timestamp_seconds", "gauge", _CLUSTER, "When it was created.")
CLUSTER_CONDITION = Metric("dask_cluster_condition", "gauge", (*_CLUSTER, *_CONDITION), _AS_IT_IS)
SCHEDULER_RESTARTS = Metric(
    "dask_cluster_scheduler_restarts",
    "gauge",
    _CLUSTER,
    "How often containers of the present scheduler's Pod have been restarted.",
)
SCHEDULER_REPLACEMENTS = Metric(
    "dask_cluster_scheduler_replacements_total",
    "counter",
    _CLUSTER,
    "How often another scheduler's Pod took the place of one that was lost.",
)
GROUP_CONDITION = Metric("dask_workergroup_condition", "gauge", (*_GROUP, *_CONDITION), _AS_IT_IS)
GROUP_DESIRED = Metric("dask_workergroup_desired_workers", "gauge", _GROUP, "How many workers it works towards.")
GROUP_WORKERS = Metric(
    "dask_workergroup_workers",
    "gauge",
    (*_GROUP, "state"),
    "Worker Pods: `pending` (not ready), `ready`, `draining`, `leaving` (being deleted), `ended`.",
)
JOB_INFO = Metric("dask_job_info", "gauge", (*_JOB, "owner"), "1 for each DaskJob.")
JOB_STATUS = Metric(
    "dask_job_status",
    "gauge",
    (*_JOB, "status"),
    "1 for its `jobStatus` as it is now: `JobCreated`, `ClusterCreated`, `Running`, `Successful`, `Failed`.",
)
JOB_CONDITION = Metric("dask_job_condition", "gauge", (*_JOB, *_CONDITION), _AS_IT_IS)
JOB_START = Metric("dask_job_start_timestamp_seconds", "gauge", _JOB, "When the present run began to run.")
JOB_TASKS = Metric(
    "dask_job_tasks", "gauge", (*_JOB, "state"), "Tasks of the present run: `total` (submitted so far), `done`."
)
AUTOSCALER_CONDITION = Metric("dask_autoscaler_condition", "gauge", (*_AUTOSCALER, *_CONDITION), _AS_IT_IS)
AUTOSCALER_DESIRED = Metric(
    "dask_autoscaler_desired_workers", "gauge", _AUTOSCALER, "The number that its group works towards."
)
AUTOSCALER_RECOMMENDED = Metric(
    "dask_autoscaler_recommended_workers", "gauge", _AUTOSCALER, "What the load asks for now, within the bounds."
)
AUTOSCALER_MINIMUM = Metric("dask_autoscaler_minimum_workers", "gauge", _AUTOSCALER, "`spec.minimum`.")
AUTOSCALER_MAXIMUM = Metric(
    "dask_autoscaler_maximum_workers", "gauge", _AUTOSCALER, "`spec.maximum`; none where it states none."
)
AUTOSCALER_CHANGES = Metric(
    "dask_autoscaler_changes_total", "counter", (*_AUTOSCALER, "direction"), "Changes of the number: `up`, `down`."
)
CONDITION_SECONDS = Metric(
    "dask_condition_seconds",
    "histogram",
    ("kind", "condition", "status"),
    "How long a condition had a status, told when it changes.",
)
QUEUE_WAIT = Metric(
    "dask_queue_wait_seconds",
    "histogram",
    ("kind",),
    "From when quota was asked of Kueue until it was granted: `DaskCluster` or `DaskJob` is scheduler, runner and "
    "guaranteed workers, `DaskWorkerGroup` each further worker.",
)
JOB_WAIT = Metric("dask_job_wait_seconds", "histogram", (), "From when a run was asked for until its runner runs.")
JOB_DURATION = Metric(
    "dask_job_duration_seconds",
    "histogram",
    ("status",),
    "How long a run took, from its start to its end: `Successful`, `Failed`.",
)
DRAIN_SECONDS = Metric(
    "dask_drain_seconds",
    "histogram",
    ("outcome",),
    "From the order to go until a worker's Pod is deleted: `completed`, `timed_out`, `unknown` (its scheduler does not "
    "know it, or does not run).",
)
RESULTS_MOVED = Metric(
    "dask_drain_results_moved_total",
    "counter",
    _GROUP,
    "Results that draining workers held alone, and no longer do: others hold them, or nobody wants them any more.",
)
RESULTS_LOST = Metric(
    "dask_drain_results_lost_total",
    "counter",
    _GROUP,
    "Results that workers still held alone when their time to drain was over.",
)
TASKS_LOST = Metric(
    "dask_drain_tasks_lost_total", "counter", _GROUP, "Tasks that they still ran then, which run again elsewhere."
)
USAGE_CPU = Metric(
    "dask_usage_cpu_seconds_total",
    "counter",
    _USAGE,
    "CPUs that Pods requested, times the seconds for which they had them.",
)
USAGE_MEMORY = Metric("dask_usage_memory_byte_seconds_total", "counter", _USAGE, "Bytes of memory, likewise.")
USAGE_GPU = Metric(
    "dask_usage_gpu_seconds_total", "counter", _USAGE, "GPUs, likewise; none where none were ever requested."
)

#: All of them, in the order in which they are documented.
METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))

#: Bounds of a histogram in seconds: a drain takes one or some, a run of a job up to days.
BUCKETS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)

#: What a reason is called that is none of ours and not one of those below: a label has few values.
OTHER_REASON = "Other"
#: Reasons of Kubernetes that are shown as they are.
KUBERNETES_REASONS = frozenset(
    (
        "BackOff",
        "BackoffLimitExceeded",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "Error",
        "Evicted",
        "FailedAttachVolume",
        "FailedCreatePodSandBox",
        "FailedMount",
        "FailedScheduling",
        "ImagePullBackOff",
        "InvalidImageName",
        "NodeLost",
        "NodeShutdown",
        "OOMKilled",
        "OutOfcpu",
        "OutOfmemory",
        "OutOfpods",
        "PodFailurePolicy",
        "Preempting",
        "RunContainerError",
        "SchedulerError",
        "SchedulingGated",
        "Terminated",
        "UnexpectedAdmissionError",
        "Unhealthy",
        "Unschedulable",
    )
)
