"""The three dashboards: of the operator, of clusters, of one job."""

from __future__ import annotations

from collections.abc import Iterator

from .grafana import Dashboard, Panel, Query, Row, Variable
from .rules import CPU, ERRORS, GPU, MEMORY, OPERATOR, TASKS, WORKERS

#: What is chosen at the top of a dashboard.
_HERE = 'namespace=~"$namespace", cluster=~"$cluster"'
_OF_JOB = 'namespace="$namespace", cluster="$job"'
_THIS_JOB = 'namespace="$namespace", job="$job"'


def dashboards() -> list[Dashboard]:
    """All of them."""
    return [_operator(), _clusters(), _job()]


def _operator() -> Dashboard:
    names = Variable("namespace", "Namespace", f"label_values(leader_election_master_status{{{OPERATOR}}}, namespace)")
    rows = [
        Row("Now", list(_operator_now())),
        Row("Reconciles", list(_reconciles())),
        Row("Kubernetes", list(_kubernetes())),
    ]
    return Dashboard("dask-operator", "Dask / Operator", "How the operator does.", rows, [names])


def _replicas(metric: str) -> str:
    return f'{metric}{{{OPERATOR}, namespace=~"$namespace"}}'


def _rate(metric: str) -> str:
    return f"rate({_replicas(metric)}[$__rate_interval])"


def _operator_now() -> Iterator[Panel]:
    for title, description, expr, unit, warn, bad in (
        (
            "Leaders",
            "Replicas that lead: one, and for seconds at a change none.",
            f"sum({_replicas('leader_election_master_status')})",
            "short",
            None,
            2,
        ),
        (
            "Oldest in the queue",
            "How long the first resource waits. Above a minute the operator does not keep up.",
            f"max({_replicas('workqueue_oldest_seconds')})",
            "s",
            10,
            60,
        ),
        (
            "Quietest watch",
            "Seconds since the API server was heard of; up to 150 is normal.",
            'max(dask_operator_informer_age_seconds{namespace=~"$namespace"})',
            "s",
            160,
            300,
        ),
        (
            "Errors",
            "Reconciles that fail, of all.",
            f'max({ERRORS}{{namespace=~"$namespace"}})',
            "percentunit",
            0.01,
            0.1,
        ),
    ):
        yield Panel(title, description, [Query(expr)], "stat", unit, width=6, height=5, warn=warn, bad=bad)


def _reconciles() -> Iterator[Panel]:
    longest = f"sum by (controller, le) ({_rate('controller_runtime_reconcile_time_seconds_bucket')})"
    waits = f"sum by (le) ({_rate('workqueue_queue_duration_seconds_bucket')})"
    yield Panel(
        "Reconciles by result",
        "A second; `error` is repeated later.",
        [
            Query(
                f"sum by (controller, result) ({_rate('controller_runtime_reconcile_total')})",
                "{{controller}} {{result}}",
            )
        ],
        unit="ops",
        width=12,
    )
    yield Panel(
        "Length of a reconcile",
        "99 of 100 are shorter.",
        [Query(f"histogram_quantile(0.99, {longest})", "{{controller}}")],
        unit="s",
        width=12,
    )
    yield Panel(
        "Time in the queue",
        "How long resources wait for their turn.",
        [Query(f"histogram_quantile({q}, {waits})", f"{q:.0%}") for q in (0.5, 0.99)],
        unit="s",
        width=12,
    )
    yield Panel(
        "Queue",
        "Resources that wait, and that are being worked on.",
        [
            Query(f"max({_replicas('workqueue_depth')})", "wait"),
            Query(f"max({_replicas('controller_runtime_active_workers')})", "worked on"),
        ],
        width=12,
    )


def _kubernetes() -> Iterator[Panel]:
    relists = 'increase(dask_operator_informer_relists_total{namespace=~"$namespace"}[1h])'
    yield Panel(
        "Requests to the API server",
        "A second, by verb and answer; 0 is none, 409 and 429 pass.",
        [Query(f"sum by (verb, code) ({_rate('rest_client_requests_total')})", "{{verb}} {{code}}")],
        unit="reqps",
        width=12,
    )
    yield Panel(
        "Complete lists",
        "Watches that began anew, in an hour: many mean that the API server or the network is in trouble.",
        [Query(f"sum by (resource) ({relists})", "{{resource}}")],
        width=12,
    )
    yield Panel(
        "Objects in caches",
        "What the operator watches.",
        [Query('max by (resource) (dask_operator_informer_objects{namespace=~"$namespace"})', "{{resource}}")],
    )
    yield Panel("CPU", "Seconds a second, by replica.", [Query(_rate("process_cpu_seconds_total"), "{{pod}}")])
    yield Panel(
        "Memory",
        "By replica; the limit is 512 MiB if nobody has said otherwise.",
        [Query(_replicas("process_resident_memory_bytes"), "{{pod}}")],
        unit="bytes",
    )


def _clusters() -> Dashboard:
    choices = [
        Variable("namespace", "Namespace", "label_values(dask_cluster_info, namespace)", many=True),
        Variable("cluster", "Cluster", 'label_values(dask_cluster_info{namespace=~"$namespace"}, cluster)', many=True),
    ]
    rows = [
        Row("Now", list(_clusters_now())),
        Row("Workers", list(_workers(_HERE))),
        Row("Work", list(_work(_HERE))),
        Row("Usage", list(_usage())),
    ]
    about = "All clusters, those of jobs included: which are in trouble, what they do, what they use."
    return Dashboard("dask-clusters", "Dask / Clusters", about, rows, choices)


def _clusters_now() -> Iterator[Panel]:
    not_ready = f'dask_cluster_condition{{condition="Ready", status!="True", {_HERE}}}'
    numbers = [
        (
            "Clusters",
            "Those that there are.",
            f"count(max by (namespace, cluster) (dask_cluster_info{{{_HERE}}}))",
            None,
        ),
        (
            "Workers ready",
            "Of all clusters.",
            f'sum({WORKERS}{{state="ready", {_HERE}}})',
            None,
        ),
        ("Workers pending", "Of all clusters.", f'sum({WORKERS}{{state="pending", {_HERE}}}) or vector(0)', 1),
        (
            "Results lost, in a day",
            "What workers had not handed on when their time to drain was over.",
            f"sum(increase(dask_drain_results_lost_total{{{_HERE}}}[1d])) or vector(0)",
            1,
        ),
        (
            "Without metrics of Dask",
            "Clusters that are ready and whose scheduler Prometheus does not read: see the NetworkPolicy.",
            f'count(dask_cluster_condition{{condition="Ready", status="True", reason!="Suspended", {_HERE}}}'
            " unless on (namespace, cluster) dask_scheduler_clients) or vector(0)",
            1,
        ),
    ]
    for title, description, expr, warn in numbers:
        yield Panel(title, description, [Query(expr)], "stat", width=4, height=8, warn=warn)
    yield Panel(
        "Not ready",
        "Clusters whose condition Ready is not true, and why.",
        [Query(f"max by (namespace, cluster, reason) ({not_ready})")],
        "table",
        width=24,
        height=6,
    )


def _workers(which: str) -> Iterator[Panel]:
    by_state = f"sum by (state) ({WORKERS}{{{which}}})"
    wanted = f"max by (namespace, cluster, workergroup) (dask_workergroup_desired_workers{{{which}}})"
    spread = {"wanted": "desired", "asked for": "recommended", "most": "maximum"}
    autoscaled = {
        legend: f"sum(max by (namespace, cluster, autoscaler) (dask_autoscaler_{what}_workers{{{which}}}))"
        for legend, what in spread.items()
    }
    yield Panel(
        "Workers by state",
        "Pods, and how many are wanted.",
        [
            Query(by_state, "{{state}}"),
            Query(f"sum({wanted})", "wanted"),
        ],
    )
    yield Panel(
        "Autoscaling",
        "What the load asks for, what is worked towards, and the bound.",
        [Query(expr, legend) for legend, expr in autoscaled.items()],
    )
    yield Panel(
        "What Dask's workers do",
        "As their scheduler sees them; paused ones have no memory left.",
        [Query(f"sum by (state) (dask_scheduler_workers{{{which}}})", "{{state}}")],
        stacked=True,
    )


def _work(which: str) -> Iterator[Panel]:
    yield Panel(
        "Tasks by state",
        "`no-worker`: none has what the task asks for. `queued`: all are busy.",
        [Query(f"sum by (state) ({TASKS}{{{which}}})", "{{state}}")],
        stacked=True,
    )
    yield Panel(
        "Compute by kind of task",
        "Seconds a second: the ten kinds that compute most.",
        [
            Query(
                "topk(10, sum by (task_prefix_name) "
                f"(rate(dask_scheduler_tasks_compute_seconds_total{{{which}}}[$__rate_interval])))",
                "{{task_prefix_name}}",
            )
        ],
        stacked=True,
    )
    yield Panel(
        "Transfers between workers",
        "Seconds a second that tasks wait for their inputs.",
        [Query(f"sum(rate(dask_scheduler_tasks_transfer_seconds_total{{{which}}}[$__rate_interval]))", "transfer")],
        unit="s",
    )
    yield from _trouble(which)


def _trouble(which: str) -> Iterator[Panel]:
    yield Panel(
        "Memory of workers",
        "`unmanaged` is what Dask does not know of: libraries, leaks, fragments. `spilled` is on disk.",
        [Query(f"sum by (type) (dask_worker_memory_bytes{{{which}}})", "{{type}}")],
        unit="bytes",
        stacked=True,
    )
    yield Panel(
        "Deaf schedulers",
        "The longest time that a scheduler did nothing else: above a second, workers idle.",
        [
            Query(
                f"max by (namespace, cluster) (dask_scheduler_tick_duration_maximum_seconds{{{which}}})", "{{cluster}}"
            )
        ],
        unit="s",
    )
    yield Panel(
        "Workers that died at work",
        "Tasks whose worker died, in 5 minutes: mostly for want of memory.",
        [
            Query(
                f"sum by (task_prefix_name) (increase(dask_scheduler_tasks_suspicious_total{{{which}}}[5m])) > 0",
                "{{task_prefix_name}}",
            )
        ],
    )


def _usage() -> Iterator[Panel]:
    for title, record, unit in (("CPUs", CPU, "short"), ("Memory", MEMORY, "bytes"), ("GPUs", GPU, "short")):
        yield Panel(
            f"{title} by owner",
            "What Pods request, by namespace and the label of the owner.",
            [Query(f'{record}{{namespace=~"$namespace"}}', "{{namespace}} {{owner}}")],
            unit=unit,
            stacked=True,
        )
    waits = "sum by (kind, le) (rate(dask_queue_wait_seconds_bucket[$__rate_interval]))"
    yield Panel(
        "Wait for quota",
        "From the queue to quota, of Kueue, in all namespaces: nine of ten are quicker. Groups: each further worker.",
        [Query(f"histogram_quantile(0.9, {waits})", "{{kind}}")],
        unit="s",
        width=24,
    )


def _job() -> Dashboard:
    choices = [
        Variable("namespace", "Namespace", "label_values(dask_job_info, namespace)"),
        Variable("job", "Job", 'label_values(dask_job_info{namespace="$namespace"}, job)'),
    ]
    rows = [
        Row("Run", list(_run())),
        Row("Workers", list(_workers(_OF_JOB))),
        Row("Work", list(_work(_OF_JOB))),
    ]
    return Dashboard("dask-job", "Dask / Job", "One job: how far it is, and what holds it up.", rows, choices, "now-3h")


def _run() -> Iterator[Panel]:
    done, total = (f'max(dask_job_tasks{{state="{state}", {_THIS_JOB}}})' for state in ("done", "total"))
    yield Panel(
        "Status",
        "Of the present run.",
        [Query(f"max by (status) (dask_job_status{{{_THIS_JOB}}}) == 1", "{{status}}")],
        "table",
        width=5,
        height=6,
    )
    yield Panel("Done", "Tasks, of those submitted.", [Query(f"{done} / {total}")], "stat", "percentunit", 4, 6)
    yield Panel(
        "Since its beginning",
        "Of the present run, or of the one that ended last.",
        [Query(f"time() - max(dask_job_start_timestamp_seconds{{{_THIS_JOB}}})")],
        "stat",
        "s",
        5,
        6,
    )
    yield Panel(
        "Tasks",
        "Submitted and done.",
        [Query(total, "submitted"), Query(done, "done")],
        width=10,
        height=6,
    )
