"""Recording rules and alerts.

Replicas of the operator take turns: series of its objects are of the one that leads, so they are never told apart by
Pod. An alert is about what somebody has to do; what to do is in ``docs/runbooks.md``, which has a section for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..operator_pod import NAME

#: Names of controller-runtime are those of other operators as well. prometheus-operator calls a job as its Service.
OPERATOR = f'job="{NAME}"'
#: How long an alert about what has happened once is told.
_TOLD = "15m"


@dataclass(frozen=True)
class Recording:
    """A series that is computed ahead, as ``level:metric:operations``."""

    record: str
    expr: str

    def rule(self) -> dict[str, Any]:
        """The rule as Prometheus has it."""
        return {"record": self.record, "expr": self.expr}


@dataclass(frozen=True)
class Alert:
    """An alert.

    Attributes:
        name: also that of its section in the runbook.
        expr: what is wrong, in PromQL; its labels say where.
        seconds: for how long before it is told.
        severity: ``critical``: somebody gets up; ``warning``: somebody looks at it in working hours.
        summary: one line, which names the object.
        description: what follows from it.
    """

    name: str
    expr: str
    seconds: int
    severity: Literal["critical", "warning"]
    summary: str
    description: str

    def rule(self, runbooks: str) -> dict[str, Any]:
        """The rule as Prometheus has it; ``runbooks`` is the URL of the page."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": span(self.seconds),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbooks}#{self.name.lower()}",
            },
        }


def span(seconds: int) -> str:
    """Seconds as Prometheus writes them: ``15m``."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def has_happened(metric: str, labels: str) -> str:
    """The query for a counter that has grown in the last minutes.

    ``increase`` does not see a series that begins above 0, which is how the first event of a new object shows, or the
    first that another replica of the operator has seen.
    """
    begun = f"{metric} unless {metric} offset {_TOLD}"
    return f"sum by ({labels}) (increase({metric}[{_TOLD}])) > 0 or sum by ({labels}) ({begun}) > 0"


def on_operator(function: str, metric: str, by: str = "") -> str:
    """An aggregation over the replicas of the operator, by its namespace."""
    return f"{function} by (namespace{', ' * bool(by)}{by}) ({metric})"


WORKERS = "namespace_cluster_workergroup_state:dask_workergroup_workers:max"
TASKS = "namespace_cluster_state:dask_scheduler_tasks:max"
CPU = "namespace_owner:dask_usage_cpu_seconds:rate5m"
MEMORY = "namespace_owner:dask_usage_memory_byte_seconds:rate5m"
GPU = "namespace_owner:dask_usage_gpu_seconds:rate5m"
ERRORS = "namespace_controller:controller_runtime_reconcile_errors:ratio_rate5m"
_WORKER_LABELS = "namespace, cluster, workergroup, state"


def recordings() -> list[Recording]:
    """What dashboards and alerts share, and what is worth keeping for years."""

    def usage(resource: str) -> str:
        return f"sum by (namespace, owner) (rate(dask_usage_{resource}_seconds_total[5m]))"

    failed, all_of_them = (
        on_operator("sum", f"rate(controller_runtime_{what}_total{{{OPERATOR}}}[5m])", "controller")
        for what in ("reconcile_errors", "reconcile")
    )
    return [
        Recording(WORKERS, f"max by ({_WORKER_LABELS}) (dask_workergroup_workers)"),
        Recording(TASKS, "max by (namespace, cluster, state) (dask_scheduler_tasks)"),
        Recording(CPU, usage("cpu")),
        Recording(MEMORY, usage("memory_byte")),
        Recording(GPU, usage("gpu")),
        # Where none has ever failed there is no series of failures.
        Recording(ERRORS, f"({failed} or {all_of_them} * 0) / {all_of_them}"),
    ]
