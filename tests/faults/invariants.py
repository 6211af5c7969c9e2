"""What must hold in every life, whatever went wrong, read off the record of what really happened."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from dask_controller.core.limits import Limits
from dask_crds.model import DaskCluster, DaskWorkerGroup, parse
from dask_crds.names import Annotation, Component, Label, QueueRole
from dask_resources.cluster import children
from dask_resources.queue import RUNNER, SCHEDULER, WORKER

from .deeds import TRACKING
from .kueue import holds_quota
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
    started = Counter(controller(c.manifest) for c in _pods(record, Component.JOB_RUNNER) if c.type == "ADDED")
    for runner, cluster, (version, name, _) in zip(runners, clusters, stored, strict=True):
        expect(started[runner.uid] == pods, f"{started[runner.uid]} runner Pods in run {name!r}, not {pods}")
        expect(runner.version < version, f"the runner of run {name!r} was made after its end")
        for gone in (_leaves(record, runner), _leaves(record, cluster)):
            expect(gone is None or gone > version, f"something was deleted before the end of run {name!r} was stored")
    _check_progress(record)


def check_job_among_strangers(record: Record, endings: list[str], *, losses: int, fails: bool, remade: int) -> None:
    """Each run ended once, and never had two runners, or more of them than schedulers.

    Args:
        record: the life of one DaskJob.
        endings: how its runs had to end, in order.
        losses: how often the scheduler was lost, at most.
        fails: whether runs may have failed all the same.
        remade: clusters that may have been made again.
    """
    stored = [end for _, _, end in _ends(record)]
    allowed = [{end, "Failed"} if fails else {end} for end in endings]
    well = len(stored) == len(allowed) and all(end in one for end, one in zip(stored, allowed, strict=True))
    expect(well, f"the runs ended {stored}, not {endings}")
    job = next(record.history("DaskJob")).uid
    runners = [c for c in record.history("Job") if controller(c.manifest) == job]
    made = {c.uid for c in runners}
    most = len(endings) + losses
    expect(len(made) <= most, f"{len(made)} runners for {len(endings)} runs and {losses} lost schedulers")
    present: set[str] = set()
    for change in runners:
        (present.discard if change.type == "DELETED" else present.add)(change.uid)
        expect(len(present) <= 1, "two runners at a time")
    clusters = {c.uid for c in record.history("DaskCluster") if controller(c.manifest) == job}
    most = len(endings) + remade
    expect(len(clusters) <= most, f"{len(clusters)} clusters for {len(endings)} runs")
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


def check_groups(record: Record, uncounted: Collection[str] = ()) -> None:
    """No group ever had more Pods than it had to, those on their way out, finished, or ``uncounted`` apart.

    What an older spec allows stays allowed until status says that the newer one was seen.
    """
    allowed: dict[str, dict[int, int]] = defaultdict(dict)  # by group and generation
    present: dict[str, set[str]] = defaultdict(set)
    changes = [*record.history("DaskWorkerGroup"), *_pods(record, Component.WORKER)]
    for change in sorted(changes, key=lambda c: c.version):
        if change.kind == "DaskWorkerGroup":
            seen = (change.manifest.get("status") or {}).get("observedGeneration") or 0
            generations = allowed[change.uid]
            generations[change.metadata["generation"]] = _most(change.manifest["spec"]["worker"])
            for old in [generation for generation in generations if generation < seen]:
                del generations[old]
            continue
        group = controller(change.manifest)
        if change.uid in uncounted:
            continue
        leaving = change.type == "DELETED" or "deletionTimestamp" in change.metadata or is_finished(change.manifest)
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


def check_cluster(record: Record, made_again: Mapping[str, int] | None = None) -> None:
    """A cluster's children were made once each, and again as often as they may have been, by kind or ``*``."""
    again = made_again or {}
    for kind in ("DaskCluster", "Deployment", "Service", "ConfigMap", "DaskWorkerGroup"):
        ours = {(c.metadata["name"], c.uid) for c in record.history(kind, "ADDED") if _is_asked_for(c)}
        made = Counter(name for name, _ in ours)
        most = 1 + again.get(kind, 0) + again.get("*", 0)
        expect(all(count <= most for count in made.values()), f"{kind} made more than once: {dict(made)}")


def _is_asked_for(change: Change) -> bool:
    return change.kind.startswith("Dask") or controller(change.manifest) != ""


def is_finished(pod: Manifest) -> bool:
    """Whether a Pod has ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


# --- limits -----------------------------------------------------------------------------------------------------------


def most_at_a_time(record: Record, limits: Limits) -> Counter[str]:
    """How many clusters, jobs and workers ran at a time, at most, which was never more than the limits.

    A cluster runs as long as any of its Pods has not ended, terminating ones included. So does a job until its run has
    ended; what is left of its cluster then counts no more.
    """
    kinds = {change.uid: change.kind for change in record.changes}
    owners = {change.uid: controller(change.manifest) for change in record.changes}
    ended, present, most = set[str](), dict[str, str](), Counter[str]()
    workers = set[str]()

    for change in sorted([*record.history("DaskJob"), *record.history("Pod")], key=lambda c: c.version):
        if change.kind == "DaskJob":
            (ended.add if ending(change.manifest) else ended.discard)(change.uid)
            continue
        root = change.uid
        while owners.get(root):
            root = owners[root]
        if change.type == "DELETED" or is_finished(change.manifest):
            present.pop(change.uid, None)
            workers.discard(change.uid)
        elif kinds.get(root) in ("DaskCluster", "DaskJob"):
            present[change.uid] = root
            if change.metadata["labels"].get(Label.COMPONENT) == Component.WORKER:
                workers.add(change.uid)
        running = Counter(kinds[uid] for uid in {*present.values()} - ended)
        now = {"clusters": running["DaskCluster"], "jobs": running["DaskJob"], "workers": len(workers)}
        for what, number in now.items():
            most[what] = max(most[what], number)
            limit = getattr(limits, what)
            expect(number <= limit, f"{number} {what} at a time, not {limit}: {change.metadata['name']} {change.type}")
    return most


# --- queues -----------------------------------------------------------------------------------------------------------


def check_quota(record: Record, deleted: Collection[str]) -> None:
    """At no time had a Workload more Pods than it was granted, and none had no quota; those that go count, too.

    When the user, or the job at its end, has deleted the cluster, Kubernetes collects Workloads and Pods in any order.

    Args:
        record: the life.
        deleted: uids of what somebody has deleted, whose Pods run on until the operator hears of it.
    """
    ends = (
        c.version for c in record.history("DaskCluster") if c.metadata.get("deletionTimestamp") or c.type == "DELETED"
    )
    end = min(ends, default=math.inf)
    granted: dict[str, tuple[str, Mapping[str, float]]] = {}  # by Workload: its role, and Pods by PodSet
    present: dict[str, tuple[str, str]] = {}  # by Pod: its Workload, and the PodSet
    for change in sorted([*record.history("Workload"), *record.history("Pod")], key=lambda c: c.version):
        name = str(change.metadata["name"])
        if change.version >= end:
            return
        if change.kind == "Workload":
            role = str(change.metadata["labels"][Label.QUEUE_ROLE])
            sets = {s["name"]: s["count"] for s in change.manifest["spec"]["podSets"]}
            if change.type == "DELETED" and change.uid in deleted:
                granted[name] = role, dict.fromkeys(sets, math.inf)
            elif change.type != "DELETED" and holds_quota(change.manifest):
                granted[name] = role, sets
            elif name in granted and math.inf not in granted[name][1].values():
                del granted[name]
        elif change.type == "DELETED" or is_finished(change.manifest):
            present.pop(change.uid, None)
        elif controller(change.manifest):
            present.setdefault(change.uid, _workload_of(change.manifest, granted))
        for (of, pod_set), number in Counter(present.values()).items():
            _, most = granted.get(of, ("", {}))
            text = f"{number} Pods of {pod_set} on Workload {of!r}, which has quota for {dict(most)}: {name}"
            expect(number <= most.get(pod_set, 0), f"{text} {change.type} at {change.version}")


def _workload_of(pod: Manifest, granted: Mapping[str, tuple[str, Mapping[str, float]]]) -> tuple[str, str]:
    """The Workload whose quota a Pod uses, and the PodSet there."""
    labels, noted = pod["metadata"]["labels"], pod["metadata"].get("annotations") or {}
    component = labels.get(Label.COMPONENT)
    if component == Component.WORKER:
        name = noted.get(Annotation.WORKLOAD, "")
        role, _ = granted.get(name, ("", {}))
        return name, labels[Label.WORKER_GROUP] if role == QueueRole.BASE else WORKER
    base = next((name for name, (role, _) in granted.items() if role == QueueRole.BASE), "")
    return base, RUNNER if component == Component.JOB_RUNNER else SCHEDULER


def ill_queued(record: Record, surplus: int) -> str:
    """What is not as it should be with the Workloads when all is at rest; empty if nothing."""
    there = list(record.of("Workload"))
    roles = Counter(w["metadata"]["labels"][Label.QUEUE_ROLE] for w in there)
    if roles != Counter({QueueRole.BASE: 1, QueueRole.SURPLUS: surplus}):
        return f"there are Workloads {dict(roles)}, not 1 base and {surplus} surplus"
    for workload in there:
        for type in ("Admitted", "PodsReady"):
            if condition(workload, type) != "True":
                return f"{type} of Workload {workload['metadata']['name']} is not True"
    return ""


# --- among strangers --------------------------------------------------------------------------------------------------


def lacking(record: Record, name: str) -> str:
    """What the children of a cluster lack of what it states; empty if nothing."""
    manifest = record.get("DaskCluster", name)
    if manifest is None:
        return f"there is no DaskCluster {name}"
    cluster = parse(manifest)
    assert isinstance(cluster, DaskCluster)
    for child in children(cluster, signed=False):  # as the operators of a life have no key
        if not child.wanted:
            continue
        live = record.get(child.kind, child.name)
        if live is None:
            return f"there is no {child.kind} {child.name}"
        if controller(live) != manifest["metadata"]["uid"]:
            return f"{child.kind} {child.name} is not the cluster's"
        if differences := list(_differences(live, child.build(cluster), cluster)):
            return "; ".join(differences)
    return ""


def _differences(live: Manifest, desired: Manifest, cluster: DaskCluster) -> Iterator[str]:
    if desired["kind"] != "DaskWorkerGroup":
        parts = {**desired, "metadata": {"labels": desired["metadata"]["labels"]}}
        return _lacks(live, parts, desired["kind"])
    group = parse(live)  # what one states, the other may leave to a default
    assert isinstance(group, DaskWorkerGroup)
    # Nor does a group know how many of its workers are guaranteed: that is the business of the base.
    worker = msgspec.structs.replace(cluster.spec.worker, replicas=group.spec.worker.replicas, guaranteed=None)
    return _lacks(group.spec.worker, worker, "the default group")


def _lacks(live: Any, desired: Any, path: str) -> Iterator[str]:
    """Where ``live`` does not hold what ``desired`` says; what others have added does not matter."""
    if isinstance(desired, msgspec.Struct) and isinstance(live, msgspec.Struct):
        for field in desired.__struct_fields__:
            if (value := getattr(desired, field)) is not None:
                yield from _lacks(getattr(live, field), value, f"{path}.{field}")
    elif isinstance(desired, Mapping):
        for key, value in desired.items():
            yield from _lacks((live or {}).get(key), value, f"{path}.{key}")
    elif isinstance(desired, list) and all(isinstance(item, Mapping) and "name" in item for item in desired):
        there = {item.get("name"): item for item in live or ()}
        for item in desired:
            yield from _lacks(there.get(item["name"]), item, f"{path}[{item['name']}]")
    elif live != desired:
        yield f"{path} is {str(live)[:100]!r}, not {str(desired)[:100]!r}"


def untrue(record: Record, name: str, group: str, workers: Collection[Manifest]) -> str:
    """What the status of a cluster or of its group says wrongly when all is at rest; empty if nothing."""
    cluster, ready = record.get("DaskCluster", name) or {}, sum(condition(pod, "Ready") == "True" for pod in workers)
    found = record.get("DaskWorkerGroup", group) or {}
    status = found.get("status") or {}
    for field, number in (
        ("replicas", len(workers)),
        ("readyReplicas", ready),
        ("updatedReplicas", len(workers)),
        ("desiredReplicas", len(workers)),
        ("draining", None),
    ):
        if status.get(field) != number:
            return f"{field} of {group} is {status.get(field)}, not {number}"
    schedulers = [
        pod["metadata"]["name"]
        for pod in record.of("Pod")
        if pod["metadata"]["labels"].get(Label.COMPONENT) == Component.SCHEDULER
        and pod["metadata"]["labels"].get(Label.CLUSTER) == name
        and condition(pod, "Ready") == "True"
        and any(owner["kind"] == "ReplicaSet" for owner in pod["metadata"].get("ownerReferences") or ())
        and "deletionTimestamp" not in pod["metadata"]
    ]
    conditions = (cluster.get("status") or {}).get("conditions") or ()
    said = next((str(c.get("message")) for c in conditions if c["type"] == "SchedulerReady"), "")
    if len(schedulers) != 1 or schedulers[0] not in said:
        return f"SchedulerReady says {said!r}, and the scheduler is {schedulers}"
    return ""


def check_tracking(record: Record) -> None:
    """No child has what tools track or queue their own objects by."""
    for change in record.changes:
        if not controller(change.manifest):
            continue
        for field, keys in TRACKING.items():
            inherited = keys.keys() & (change.metadata.get(field) or {}).keys()
            expect(not inherited, f"{change.kind} {change.metadata['name']} has {sorted(inherited)}")


def check_places(record: Record, seconds: float) -> None:
    """A place whose Pod has failed at once gets no other one before some seconds have passed."""
    last: dict[tuple[str, str], Change] = {}
    for change in _pods(record, Component.WORKER):
        place = controller(change.manifest), str(change.metadata["name"])
        before = last.get(place)
        if before is not None and before.uid != change.uid and is_finished(before.manifest):
            status = before.manifest.get("status") or {}
            passed = _created(change) - _created(before)
            # Times are whole seconds; and what somebody ends later is another matter.
            expect(
                status.get("reason") != "OutOfcpu" or passed > seconds - 2,
                f"{change.metadata['name']} was made again {passed:.0f} s after one that was rejected",
            )
        last[place] = change


def _created(change: Change) -> float:
    return datetime.fromisoformat(change.metadata["creationTimestamp"]).timestamp()


def _pods(record: Record, component: str) -> list[Change]:
    found = record.history("Pod")
    return [c for c in found if (c.metadata.get("labels") or {}).get(Label.COMPONENT) == component]
