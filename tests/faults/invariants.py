"""What must hold in every life, whatever went wrong, read off the record of what really happened."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

from dask_crds import names

from .observer import Change, Manifest, Record, Violation


def expect(holds: object, what: str) -> None:
    if not holds:
        raise Violation(what)


def condition(manifest: Manifest | None, type: str) -> str:
    """``True``, ``False``, or nothing if there is no such condition."""
    conditions = ((manifest or {}).get("status") or {}).get("conditions") or []
    return next((str(c["status"]) for c in conditions if c["type"] == type), "")


def is_ready(manifest: Manifest | None) -> bool:
    """Whether Ready is True for the present generation."""
    if manifest is None or condition(manifest, "Ready") != "True":
        return False
    return bool(manifest["status"].get("observedGeneration") == manifest["metadata"]["generation"])


def ending(job: Manifest | None) -> str:
    """``Complete`` or ``Failed`` if the stored status says so."""
    return next((type for type in ("Complete", "Failed") if condition(job, type) == "True"), "")


def run(job: Manifest) -> str:
    """The run that status speaks of."""
    return str((job.get("status") or {}).get("runId") or "")


def controller(manifest: Manifest) -> str:
    owners = manifest["metadata"].get("ownerReferences") or []
    return next((str(o["uid"]) for o in owners if o.get("controller")), "")


# --- jobs -------------------------------------------------------------------------------------------------------------


def check_job(record: Record, endings: list[str], *, pods: int) -> None:
    """Each run started once, ended once and rightly, and stored its end before anything was taken away.

    Args:
        record: the life of one DaskJob.
        endings: how its runs had to end, in order.
        pods: how many runner Pods each run had to have.
    """
    stored = _ends(record)
    expect([end for _, _, end in stored] == endings, f"the runs ended {[end for _, _, end in stored]}, not {endings}")
    runners = list(record.history("Job", "ADDED"))
    expect(len(runners) == len(endings), f"{len(runners)} runners for {len(endings)} runs")
    clusters = list(record.history("DaskCluster", "ADDED"))
    expect(len(clusters) == len(endings), f"{len(clusters)} clusters for {len(endings)} runs")
    started = Counter(controller(c.manifest) for c in _pods(record, names.JOB_RUNNER) if c.type == "ADDED")
    for runner, cluster, (version, name, _) in zip(runners, clusters, stored, strict=True):
        expect(started[runner.uid] == pods, f"{started[runner.uid]} runner Pods in run {name!r}, not {pods}")
        expect(runner.version < version, f"the runner of run {name!r} was made after its end")
        for gone in (_leaves(record, runner), _leaves(record, cluster)):
            expect(gone is None or gone > version, f"something was deleted before the end of run {name!r} was stored")
    _check_progress(record)


def _ends(record: Record) -> list[tuple[int, str, str]]:
    """When (resourceVersion) each run's end was stored, the run, and how it ended; an end must stand."""
    found: list[tuple[int, str, str]] = []
    for change in record.history("DaskJob"):
        end, name = ending(change.manifest), run(change.manifest)
        if found and found[-1][1] == name:
            expect(end == found[-1][2], f"run {name!r} had ended {found[-1][2]}, and then it had not: {end or 'runs'}")
        elif end:
            found.append((change.version, name, end))
    return found


def _leaves(record: Record, made: Change) -> int | None:
    """When an object was first on its way out."""
    changes = (c for c in record.history(made.kind) if c.uid == made.uid)
    return next((c.version for c in changes if c.type == "DELETED" or c.metadata.get("deletionTimestamp")), None)


def _check_progress(record: Record) -> None:
    """``jobStatus`` never goes back within a run."""
    order = ["", "JobCreated", "ClusterCreated", "Running", "Successful", "Failed"]
    last = ("", 0)
    for change in record.history("DaskJob"):
        state = (change.manifest.get("status") or {}).get("jobStatus") or ""
        now = (run(change.manifest), order.index(state))
        expect(now[0] != last[0] or now[1] >= last[1], f"jobStatus went from {order[last[1]]!r} back to {state!r}")
        last = now


# --- clusters and groups ----------------------------------------------------------------------------------------------


def check_groups(record: Record) -> None:
    """No group ever had more Pods than it had to, those on their way out apart.

    What an older spec allows stays allowed until status says that the newer one was seen.
    """
    allowed: dict[str, dict[int, int]] = defaultdict(dict)  # by group and generation
    present: dict[str, set[str]] = defaultdict(set)
    changes = [*record.history("DaskWorkerGroup"), *_pods(record, names.WORKER)]
    for change in sorted(changes, key=lambda c: c.version):
        if change.kind == "DaskWorkerGroup":
            seen = (change.manifest.get("status") or {}).get("observedGeneration") or 0
            generations = allowed[change.uid]
            generations[change.metadata["generation"]] = _most(change.manifest["spec"]["worker"])
            for old in [generation for generation in generations if generation < seen]:
                del generations[old]
            continue
        group = controller(change.manifest)
        leaving = change.type == "DELETED" or "deletionTimestamp" in change.metadata
        (present[group].discard if leaving else present[group].add)(change.uid)
        if change.type == "ADDED" and group in allowed:
            most = max(allowed[group].values())
            expect(len(present[group]) <= most, f"{len(present[group])} Pods in a group that may have {most}")


def _most(worker: Manifest) -> int:
    strategy = worker.get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") == "OnDelete":
        return int(worker["replicas"])
    surge: Any = (strategy.get("rollingUpdate") or {}).get("maxSurge", "25%")
    if isinstance(surge, str):
        surge = math.ceil(worker["replicas"] * int(surge.rstrip("%")) / 100)
    return int(worker["replicas"]) + int(surge)


def check_cluster(record: Record) -> None:
    """A cluster's children were made once each."""
    for kind in ("Deployment", "Service", "ConfigMap", "DaskWorkerGroup"):
        made = Counter(c.metadata["name"] for c in record.history(kind, "ADDED"))
        expect(all(count == 1 for count in made.values()), f"{kind} made more than once: {dict(made)}")


def _pods(record: Record, component: str) -> list[Change]:
    found = record.history("Pod")
    return [c for c in found if (c.metadata.get("labels") or {}).get(names.COMPONENT) == component]
