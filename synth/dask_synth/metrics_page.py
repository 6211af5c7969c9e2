"""The page of metrics, ``docs/metrics.md``: its first table is made of what the operator collects by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dask_crds.metrics import METRICS, OTHER_REASON
from dask_crds.names import Label, Port

_OPERATOR = f"""
What Prometheus finds at the operator (`/metrics`, port 8080, or 8443 with `metrics_tls`) and at each scheduler
(`/metrics`, port {Port.DASHBOARD.number}). Scrape the operator with `honorLabels: true`: `namespace` is that of the
object, not of the operator.

## The operator: clusters, worker groups, jobs, autoscalers

Shown by the replica that leads, and by no other. A series goes with its object. `owner` is the annotation
`{Label.OWNER}` of the DaskCluster or DaskJob (on a cluster from a template: who made it), else its label of that key,
else empty; `--owner-label` names another key. A job's cluster has the job's where it has none, and a worker group
its cluster's, or its own where that has none.
`reason` is one of [reasons](reasons.md) or a well-known one of Kubernetes, else `{OTHER_REASON}`.
"""

_REST = """
`component` is `scheduler`, `worker` or `job-runner`; `name` is that of the DaskCluster, DaskWorkerGroup or DaskJob; for
a job's runner `cluster` is the job's name, as its cluster has that.

Counters of what happens, and histograms, begin at zero when another replica leads; `rate` and `increase` know that.

### Usage

What Pods request, times the seconds from their start to their end. `status.usage` of a DaskCluster (its scheduler), a
DaskWorkerGroup (its workers) and a DaskJob (its runner) says how much that was up to `until`; metrics add what has come
since, from the Pods themselves. Status is the only storage, so the numbers go on through restarts of the operator and
deletions of Pods, and when another replica leads. Amount and time are written at once, so nothing counts twice. They
are written with other changes of status, when a Pod has gone, and after a quarter of an hour or more.

What is missed: a Pod that somebody else deletes while no operator runs, from `until` to its end; that a running Pod's
requests were others before they were changed, since `until`; and what Pods use after their DaskWorkerGroup,
DaskCluster or DaskJob is gone. GPUs are the resources that end with `/gpu` or begin with `gpu.intel.com/` or
`nvidia.com/mig-`.

CPU hours of the last 30 days, by namespace and owner:

```text
sum by (namespace, owner) (increase(dask_usage_cpu_seconds_total[30d])) / 3600
```

## The operator: how it does

Names of controller-runtime, client-go and its workqueue, where they have the thing:
`controller_runtime_reconcile_total`, `controller_runtime_reconcile_errors_total`,
`controller_runtime_reconcile_time_seconds`, `controller_runtime_active_workers`, `workqueue_depth`,
`workqueue_oldest_seconds`, `workqueue_longest_running_processor_seconds`, `workqueue_queue_duration_seconds`,
`workqueue_retries_total`, `rest_client_requests_total`, `leader_election_master_status`,
`dask_operator_informer_objects`, `dask_operator_informer_relists_total`, `dask_operator_informer_age_seconds`; and
those of Python's process.

## Schedulers

Dask's own, [as its documentation lists them](https://docs.dask.org/en/stable/how-to/setup-prometheus.html):
`dask_scheduler_*`, `dask_semaphore_*`, `dask_stealing_*`, whether the image has the package `prometheus_client` or not.
Where it has not, as `ghcr.io/dask/dask`, workers tell nothing, and the scheduler tells what it knows by their
heartbeats of up to 1,000 of them:
"""

_TRACES = """
## Traces

`DaskOperator(args=["--trace=http://collector.monitoring:4318"])` sends a span of each reconcile to an OpenTelemetry
collector, by OTLP over HTTP; by default there are none. `reconcile` has `k8s.namespace.name`, `dask.kind` and
`dask.name`; within it are `upkeep` (what can be told by the caches alone), `observe`, `decide`, `act`, with
`dask.actions` (the first 50) and `dask.errors`, and `report` (status). An error that has ended a span is its status.
The variables of OpenTelemetry's SDK hold, such as `OTEL_TRACES_SAMPLER`. With a NetworkPolicy (`egress=`) the
operator must be let out to the collector. Elsewhere than in the image: `pip install 'dask-gitops[controller,tracing]'`.
"""

#: Of workers, as told by `dask_gitops_metrics.py` in the scheduler.
_WORKERS = (
    ("threads", ("worker",), "Threads for tasks."),
    (
        "tasks",
        ("worker", "state"),
        "Tasks, by the worker's word for their state: `executing`, `ready`; `memory`: results that it holds.",
    ),
    ("memory_bytes", ("worker", "type"), "Of its process: `managed` (results), `unmanaged`; `spilled` to disk."),
    ("memory_limit_bytes", ("worker",), "What it may use; 0 for no limit."),
    ("cpu_percent", ("worker",), "CPU of its process, 100 for each core."),
    ("last_seen_seconds", ("worker",), "Seconds since its last heartbeat."),
)


def metrics(generated: str) -> str:
    """The page as Markdown.

    Args:
        generated: the beginning of the mark that it is generated.
    """
    mark = f"{generated}crds/dask_crds/metrics.py by `dask-synth`. Do not edit. -->\n"
    operators = _table((m.name, m.type, m.labels, m.meaning) for m in METRICS)
    workers = _table((f"dask_worker_{name}", "gauge", labels, meaning) for name, labels, meaning in _WORKERS)
    return "\n".join(["# Metrics", "", mark + _OPERATOR, *operators, _REST, *workers, _TRACES])


def _table(rows: Iterable[tuple[str, str, tuple[str, ...], str]]) -> Iterator[str]:
    yield from ("| metric | type | labels | meaning |", "| --- | --- | --- | --- |")
    for name, type, labels, meaning in rows:
        yield f"| `{name}` | {type} | {', '.join(f'`{label}`' for label in labels)} | {meaning} |"
