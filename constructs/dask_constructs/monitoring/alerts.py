"""The alerts: few, of symptoms, each with its section in ``docs/runbooks.md``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from dask_crds.reasons import Reason

from ..keywords import Options
from ..values import Seconds
from .rules import ERRORS, OPERATOR, TASKS, WORKERS, Alert, has_happened, on_operator, recordings, span

Positive = Annotated[float, Meta(gt=0)]


class AlertThresholds(TypedDict, total=False):
    """From where on alerts are told, as ``thresholds`` of ``DaskMonitoring`` has it."""

    cluster_not_ready: Seconds | None
    """How long a cluster may be without its scheduler, or stuck otherwise (default 15 minutes)."""
    workers_pending: Seconds | None
    """How long workers may be awaited: the time that new nodes take, and images (default 15 minutes)."""
    job_waits: Seconds | None
    """How long a job may wait until its runner runs, its turn in a queue apart (default 30 minutes)."""
    job_stands_still: Seconds | None
    """How long a job with tasks to do may finish none: longer than your longest task (default 1 hour)."""
    event_loop_seconds: Positive | None
    """How long a scheduler may be deaf at a stretch, in seconds (default 1)."""
    owner_cpu_hours: Positive | None
    """CPU-hours that an owner may use in 24 hours (default: any number)."""


def groups(runbooks: str, namespace: str, thresholds: Options) -> list[dict[str, Any]]:
    """The groups of rules, as a PrometheusRule has them.

    Args:
        runbooks: URL of the page of runbooks.
        namespace: of the operator.
        thresholds: of ``AlertThresholds``.
    """
    return [
        {"name": "dask.recording", "rules": [recording.rule() for recording in recordings()]},
        *(
            {"name": f"dask.{name}", "rules": [alert.rule(runbooks) for alert in alerts]}
            for name, alerts in alerts_of(namespace, thresholds).items()
        ),
    ]


def alerts_of(namespace: str, thresholds: Options) -> dict[str, list[Alert]]:
    """All alerts, by what they are about."""
    return {
        "operator": list(_of_operator(namespace)),
        "clusters": [*_of_clusters(thresholds), *_of_owners(thresholds)],
        "jobs": list(_of_jobs(thresholds)),
        "schedulers": list(_of_schedulers(thresholds)),
    }


#: Reasons of what waits for its turn, for as long as that takes: a queue is no fault.
_IN_LINE = "|".join((Reason.QUEUED, Reason.QUOTA_REVOKED, Reason.LIMIT_REACHED))
_CLUSTER = "{{ $labels.namespace }}/{{ $labels.cluster }}"
_GROUP = "{{ $labels.namespace }}/{{ $labels.workergroup }}"
_JOB = "{{ $labels.namespace }}/{{ $labels.job }}"


def _of_operator(namespace: str) -> Iterator[Alert]:
    leads = f'leader_election_master_status{{{OPERATOR}, namespace="{namespace}"}}'
    yield Alert(
        "DaskOperatorDown",
        # `absent` takes its labels from what it looks for.
        f"sum by (job, namespace) ({leads}) < 1 or absent({leads})",
        300,
        "critical",
        "No replica of the operator in {{ $labels.namespace }} leads, or Prometheus does not reach it.",
        "Clusters carry on as they are: no worker is added or taken away, and no job begins or ends.",
    )
    yield Alert(
        "DaskOperatorWatchStale",
        "max by (namespace, resource) "
        f"(dask_operator_informer_age_seconds and on (namespace, pod) leader_election_master_status{{{OPERATOR}}} == 1)"
        " > 300",
        300,
        "warning",
        "The operator in {{ $labels.namespace }} has heard nothing of {{ $labels.resource }} for "
        "{{ $value | humanizeDuration }}.",
        "It decides by what it saw last: it adds no Pod too many, and may add none at all.",
    )
    yield Alert(
        "DaskOperatorQueueStuck",
        f"{on_operator('max', f'workqueue_oldest_seconds{{{OPERATOR}}}')} > 60",
        600,
        "warning",
        "Resources wait for {{ $value | humanizeDuration }} for the operator in {{ $labels.namespace }}.",
        "Changes of clusters and jobs are seen late.",
    )
    yield Alert(
        "DaskOperatorReconcileErrors",
        f"{ERRORS} > 0.1",
        900,
        "warning",
        "{{ $value | humanizePercentage }} of the reconciles of {{ $labels.controller }} by the operator in "
        "{{ $labels.namespace }} fail.",
        "They are repeated; what they are about is late, or stands still.",
    )


def _of_clusters(thresholds: Options) -> Iterator[Alert]:
    awaited = f'{WORKERS}{{state="pending"}} > 0'
    yield Alert(
        "DaskClusterNotReady",
        "max by (namespace, cluster) "
        f'(dask_cluster_condition{{condition="Ready", status!="True", reason!~"{_IN_LINE}"}}) == 1 '
        f"unless on (namespace, cluster) {awaited}",
        thresholds.get("cluster_not_ready", 900),
        "warning",
        f"Cluster {_CLUSTER} is not ready.",
        "Its scheduler does not serve, or what belongs to it cannot be made.",
    )
    yield Alert(
        "DaskWorkersPending",
        awaited,
        thresholds.get("workers_pending", 900),
        "warning",
        f"{{{{ $value }}}} workers of {_GROUP} do not get ready.",
        "Computations are slower than they were meant to be, or stand still.",
    )
    yield Alert(
        "DaskSchedulerLost",
        f"{has_happened('dask_cluster_scheduler_replacements_total', 'namespace, cluster')} or "
        "max by (namespace, cluster) (dask_cluster_scheduler_restarts)"
        " > min by (namespace, cluster) (min_over_time(dask_cluster_scheduler_restarts[15m]))",
        0,
        "warning",
        f"Cluster {_CLUSTER} has lost its scheduler.",
        "What it had computed, and what was submitted, is gone; a job does as its `onSchedulerLost` says.",
    )
    yield Alert(
        "DaskResultsLost",
        has_happened("dask_drain_results_lost_total", "namespace, cluster, workergroup"),
        0,
        "warning",
        f"Workers of {_GROUP} went before they had handed on all results.",
        "Dask computes them again where it can; what was scattered is gone.",
    )


def _of_owners(thresholds: Options) -> Iterator[Alert]:
    if (hours := thresholds.get("owner_cpu_hours")) is not None:
        yield Alert(
            "DaskOwnerAboveBudget",
            f'sum by (namespace, owner) (increase(dask_usage_cpu_seconds_total{{owner!=""}}[1d])) / 3600 > {hours:g}',
            900,
            "warning",
            "{{ $labels.owner }} has used {{ $value | humanize }} CPU-hours in {{ $labels.namespace }} in 24 hours.",
            f"That is more than {hours:g}.",
        )


def _of_jobs(thresholds: Options) -> Iterator[Alert]:
    yield Alert(
        "DaskJobFailed",
        'max by (namespace, job) (dask_job_status{status="Failed"}) == 1',
        60,
        "warning",
        f"Job {_JOB} has failed.",
        "It is told for as long as the job is there and has not run again.",
    )
    yield Alert(
        "DaskJobWaits",
        'max by (namespace, job) (dask_job_status{status=~"JobCreated|ClusterCreated"}) == 1 '
        'unless on (namespace, job) (dask_job_condition{condition="Suspended", status="True"} == 1 '
        f'or dask_job_condition{{condition="Ready", status!="True", reason=~"{_IN_LINE}"}} == 1)',
        thresholds.get("job_waits", 1800),
        "warning",
        f"The runner of job {_JOB} does not start.",
        "It waits for its cluster, for `minimumReadyWorkers`, or for room.",
    )
    still = span(thresholds.get("job_stands_still", 3600))
    done = 'dask_job_tasks{state="done"}'
    yield Alert(
        "DaskJobStandsStill",
        f"max by (namespace, job) ({done}) == max by (namespace, job) ({done} offset {still})"
        f' < on (namespace, job) max by (namespace, job) (dask_job_tasks{{state="total"}})'
        ' and on (namespace, job) dask_job_status{status="Running"} == 1',
        300,
        "warning",
        f"Job {_JOB} has finished no task for {still}.",
        "Tasks hang, wait for workers that do not come, or take longer than expected.",
    )


def _of_schedulers(thresholds: Options) -> Iterator[Alert]:
    limit = thresholds.get("event_loop_seconds", 1)
    yield Alert(
        "DaskSchedulerBlocked",
        f"max by (namespace, cluster) (dask_scheduler_tick_duration_maximum_seconds) > {limit:g}",
        300,
        "warning",
        f"The scheduler of {_CLUSTER} is deaf for {{{{ $value | humanizeDuration }}}} at a stretch.",
        "Workers idle while it is busy; if it goes on, workers and clients lose it.",
    )
    yield Alert(
        "DaskTasksWithoutWorker",
        f'{TASKS}{{state="no-worker"}} > 0',
        900,
        "warning",
        f"{{{{ $value }}}} tasks of {_CLUSTER} find no worker.",
        "No worker has the resources that they ask for, or there is none.",
    )
    yield Alert(
        "DaskWorkersKilledByTasks",
        has_happened("dask_scheduler_tasks_suspicious_total", "namespace, cluster"),
        0,
        "warning",
        f"Workers of {_CLUSTER} died while they ran a task.",
        "The task is tried on other workers, three times by default, and then fails with KilledWorker.",
    )
    yield Alert(
        "DaskWorkersPaused",
        'max by (namespace, cluster) (dask_scheduler_workers{state="paused"}) > 0',
        600,
        "warning",
        f"{{{{ $value }}}} workers of {_CLUSTER} are paused: their memory is full.",
        "They take no tasks; if all are paused, nothing gets on.",
    )
