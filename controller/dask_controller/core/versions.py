"""Whether clients, scheduler and workers run the same software, in words for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dask_crds.model import Condition
from dask_crds.reasons import Reason

from .conditions import condition, find
from .observed import ObservedCluster
from .questions import PackageVersions, Versions

TYPE = "VersionsConsistent"
#: Characters of what is told of differences: what schedulers say has bounds, but together they are wide.
LONGEST_TABLE = 2_000


def is_complete(found: Versions) -> bool:
    """Whether everybody has told their versions: the scheduler, a worker, and a client, which is the runner."""
    return bool(found.scheduler and found.workers and found.clients)


def differences(found: Versions) -> str:
    """The packages of which runner, scheduler and workers have more than one version; empty if all agree.

    >>> differences(Versions(({"dask": "1"},), ({"dask": "1"}, {"dask": "2"}), ()))
    'dask: scheduler 1, workers 1 and 2'
    """
    return _table({"scheduler": found.scheduler, "workers": found.workers, "runner": found.clients})


def consistent(o: ObservedCluster) -> Condition | None:
    """The condition of a cluster: as the scheduler told last, of whom is there; ``None`` before it has told.

    A client that has left does not count for more than a moment: it has gone, and its successor may do better.
    """
    found = o.answers.of(PackageVersions) if o.answers is not None else None
    if found is None:
        stays = any(pod.uid == o.cluster.status.scheduler_pod_uid for pod in o.scheduler_pods)
        return find(o.cluster.status.conditions, TYPE) if stays else None
    clients = found.clients if found.connected is None else found.connected
    if different := _table({"clients": clients, "scheduler": found.scheduler, "workers": found.workers}):
        return condition(TYPE, False, Reason.VERSION_MISMATCH, different)
    return condition(TYPE, True, Reason.CONSISTENT)


def _table(roles: Mapping[str, Sequence[Mapping[str, str]]]) -> str:
    """A row for each package of which there is more than one version: who has which."""
    told: list[str] = []
    for package in sorted({name for sets in roles.values() for versions in sets for name in versions}):
        present = {role: sorted({v.get(package, "none") for v in sets}) for role, sets in roles.items() if sets}
        if len({version for versions in present.values() for version in versions}) > 1:
            parts = [f"{role} {' and '.join(versions)}" for role, versions in present.items()]
            told.append(f"{package}: {', '.join(parts)}")
    table = "; ".join(told)
    return table if len(table) <= LONGEST_TABLE else f"{table[:LONGEST_TABLE]}..."
