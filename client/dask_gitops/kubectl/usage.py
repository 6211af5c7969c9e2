"""What `top` shows: per cluster its workers, its progress, and the CPU and memory in use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dask_crds.quantity import parse_quantity

from .cause import State
from .facts import Manifest, at, maps, name_of, namespace_of, number, text
from .seen import Seen
from .why import why


@dataclass(frozen=True)
class Line:
    """One cluster, or one job with its cluster."""

    namespace: str
    name: str
    workers: str  #: ready/wanted
    draining: int
    progress: str
    reason: str
    state: State
    cpu: float | None = None  #: CPUs in use by its Pods; ``None`` where nobody measures
    memory: int | None = None  #: likewise bytes

    @property
    def cpu_text(self) -> str:
        """CPUs, as ``1.25``."""
        return "" if self.cpu is None else f"{self.cpu:.2f}"

    @property
    def memory_text(self) -> str:
        """Memory, as ``512Mi``."""
        return "" if self.memory is None else f"{self.memory // 2**20}Mi"

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            **{key: getattr(self, key) for key in ("namespace", "name", "workers", "draining", "progress", "reason")},
            "state": str(self.state),
            "cpu": self.cpu,
            "memoryBytes": self.memory,
        }


def lines(seen: Seen, metrics: Iterable[Manifest], now: float) -> list[Line]:
    """One line for each cluster, the greatest consumer first.

    Args:
        seen: what was read.
        metrics: PodMetrics of the same namespaces.
        now: the time in seconds since 1970.
    """
    used = {(namespace_of(each), name_of(each)): _used(each) for each in metrics}
    parts = seen.by_namespace().values()
    found = [_line(cluster, part, used, now) for part in parts for cluster in part.clusters]
    return sorted(found, key=lambda line: (-(line.cpu or 0), -(line.memory or 0), line.namespace, line.name))


def _line(cluster: Manifest, seen: Seen, used: dict[tuple[str, str], tuple[Decimal, Decimal]], now: float) -> Line:
    job = next((job for job in seen.jobs if seen.cluster_of(job) is cluster), None)
    groups = seen.groups_of(cluster)
    pods = [*seen.scheduler_pods(cluster), *(pod for group in groups for pod in seen.workers(group))]
    pods += seen.runner_pods(job) if job is not None else []
    amounts = [used[key] for pod in pods if (key := (namespace_of(pod), name_of(pod))) in used]
    found = why(job if job is not None else cluster, seen, now)
    return Line(
        namespace_of(cluster),
        name_of(cluster),
        text(cluster, "status", "workers"),
        sum(len(maps(group, "status", "draining")) for group in groups),
        _progress(job),
        found.reason,
        found.state,
        float(sum(cpu for cpu, _ in amounts)) if amounts else None,
        int(sum(memory for _, memory in amounts)) if amounts else None,
    )


def _progress(job: Manifest | None) -> str:
    if not isinstance(at(job, "status", "progress"), dict):
        return ""
    return f"{number(job, 'status', 'progress', 'percent')} %"


def _used(metrics: Manifest) -> tuple[Decimal, Decimal]:
    """CPUs and bytes of all containers of a Pod."""
    containers = maps(metrics, "containers")
    return _sum(containers, "cpu"), _sum(containers, "memory")


def _sum(containers: list[Manifest], what: str) -> Decimal:
    return sum((_amount(at(c, "usage", what)) for c in containers), Decimal(0))


def _amount(quantity: Any) -> Decimal:
    try:
        return parse_quantity(quantity)
    except ValueError:
        return Decimal(0)
