"""Lives of the kinds: what a user does, and what has to come of it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

from dask_crds import names
from dask_crds.names import Label, Port
from dask_crds.reasons import Reason

from .invariants import (
    check_cluster,
    check_groups,
    check_job,
    check_job_among_strangers,
    check_places,
    check_quota,
    check_tracking,
    controller,
    ending,
    ill_queued,
    is_finished,
    is_ready,
    lacking,
    most_at_a_time,
    run,
    untrue,
)
from .kueue import QUEUE
from .life import SHORT_LIFE_SECONDS, Scenario, Site
from .observer import Manifest

ROLLING = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}


def _container(name: str, image: str, **fields: Any) -> Manifest:
    return {"containers": [{"name": name, "image": image, "args": [f"dask-{name}"], **fields}]}


def _worker(site: Site, replicas: int, image: str = "dask:1") -> Manifest:
    # Without strangers no scheduler answers on fake nodes.
    drain = {"drainTimeoutSeconds": 3 if site.strange else 0}
    return {"replicas": replicas, "spec": _container("worker", image), **drain, **ROLLING}


def _cluster_spec(site: Site, replicas: int, image: str = "dask:1") -> Manifest:
    ports = [{"name": Port.DASHBOARD.name, "containerPort": site.port}]
    scheduler = {"spec": _container("scheduler", "dask:1", **({"ports": ports} if site.strange else {}))}
    # No life is so long: whoever says that he has been idle for longer lies.
    timeout = {"idleTimeout": 3600} if site.strange else {}
    return {"scheduler": scheduler, "worker": _worker(site, replicas, image), **timeout}


def _resource(kind: str, name: str, spec: Manifest, queue: str = "") -> Manifest:
    metadata = {"name": name, **({"labels": {Label.QUEUE: queue}} if queue else {})}
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _guarantees(site: Site, spec: Manifest) -> Manifest:
    """One worker is part of the base where there is a queue, and each further one surplus."""
    if site.queued:
        spec["worker"] = {**spec["worker"], "guaranteed": 1}
    return spec


def _check(site: Site) -> None:
    """What holds in every life."""
    if site.queued:
        check_quota(site.record, site.stranger.deleted)
    check_groups(site.record, site.stranger.tampered)
    check_tracking(site.record)
    check_places(site.record, SHORT_LIFE_SECONDS)


# --- jobs -------------------------------------------------------------------------------------------------------------


async def _job(
    site: Site, *, code: int = 0, policy: str = "Always", backoff_limit: int = 0, runs: tuple[str, ...] = ("",)
) -> None:
    """A job runs as often as it is asked to, tidies up by its policy, and goes with all it has made."""
    job, end = functools.partial(site.record.get, "DaskJob", site.name), "Failed" if code else "Complete"
    queue = QUEUE if site.queued else ""
    for run_id in runs:
        runner = {
            "metadata": {"annotations": {"test.dask.org/exit-code": str(code)}},
            "spec": {**_container("runner", "dask:1"), "restartPolicy": "Never"},
        }
        workers = 2 if site.queued else 1
        cluster = {"spec": _guarantees(site, _cluster_spec(site, workers)), "deletionPolicy": policy}
        spec = {"job": runner, "cluster": cluster, "backoffLimit": backoff_limit} | (
            {"runId": run_id} if run_id else {}
        )
        await site.apply(_resource("DaskJob", site.name, spec, queue))
        await site.until(functools.partial(_has_ended, job, run_id), "a job ends")
    kept = policy == "Never" or (policy == "OnSuccess" and ending(job()) == "Failed")
    if not kept:
        await site.until(lambda: not _of_site(site, "DaskCluster"), "the cluster goes after the end")
        await site.until(lambda: not _of_site(site, "Deployment"), "the scheduler goes after the end")
    await site.settled()
    await site.stranger.rest()
    await site.settled()
    lost = site.stranger.made_again["*"]
    if site.strange and kept and site.record.get("DaskCluster", site.name):
        await _sized(site, "DaskCluster", names.default_group(site.name), 1, "dask:1", last=True)
    assert lost or not kept or site.record.get("DaskCluster", site.name), "the cluster was to be kept"
    await site.restarted_in_silence()
    await site.delete("DaskJob", site.name)
    await site.empty()
    if site.strange:
        losses, fails = site.stranger.losses, site.stranger.fails
        # A run that has lost its scheduler too often has failed.
        check_job_among_strangers(site.record, [end] * len(runs), losses=losses, fails=fails or losses > 3, remade=lost)
    else:
        check_job(site.record, [end] * len(runs), pods=1 + (backoff_limit if code else 0))
    _check(site)


def _has_ended(job: Callable[[], Manifest | None], run_id: str) -> bool:
    found = job()
    return found is not None and bool(ending(found)) and run(found) == run_id


def _of_site(site: Site, kind: str) -> list[Manifest]:
    """What is there of a kind, but of the stranger's."""
    return [m for m in site.record.of(kind) if not site.stranger.is_mine(m["metadata"]["uid"])]


JOBS: dict[str, Scenario] = {
    "job-complete": _job,
    "job-failed": functools.partial(_job, code=1),
    "job-failed-keeps-cluster": functools.partial(_job, code=1, policy="OnSuccess"),
    "job-keeps-cluster": functools.partial(_job, policy="Never"),
    "job-runs-twice": functools.partial(_job, runs=("first", "second")),
}
#: Slow, because Kubernetes waits for ten seconds before the second Pod.
RETRIED: dict[str, Scenario] = {"job-retried": functools.partial(_job, code=3, backoff_limit=1)}


# --- clusters and groups ----------------------------------------------------------------------------------------------


def _workers(site: Site, group: str) -> list[Manifest]:
    """The Pods of a group that are not on their way out."""
    owner = ((site.record.get("DaskWorkerGroup", group) or {}).get("metadata") or {}).get("uid")
    there = (pod for pod in site.record.of("Pod") if controller(pod) == owner)
    return [pod for pod in there if "deletionTimestamp" not in pod["metadata"] and not is_finished(pod)]


async def _sized(site: Site, kind: str, group: str, replicas: int, image: str, *, last: bool = False) -> None:
    """Wait until the resource is ready with exactly these Pods, and nothing is written any more.

    While strangers are about it may not stay so; when they have ended, at the last step, all is as it was asked for.
    """
    cluster = site.stranger.cluster

    def images() -> list[str]:
        return [c["image"] for pod in _workers(site, group) for c in pod["spec"]["containers"] if c["name"] == "worker"]

    def wrong() -> str:
        if not is_ready(site.record.get(kind, site.name)):
            return f"the {kind} is not ready"
        if images() != [image] * replicas:
            return f"the workers are {images()}, not {replicas} of {image}"
        if site.queued and (found := ill_queued(site.record, replicas - 1)):
            return found
        if not (site.strange and last):
            return ""
        return lacking(site.record, cluster) or untrue(site.record, cluster, group, _workers(site, group))

    if last:
        await site.stranger.rest()
    while True:
        is_about = site.stranger.is_about  # and has gone, maybe, before anybody has seen what it did
        await site.until(lambda: not wrong(), f"the {kind} is ready with {replicas} workers of {image}", why=wrong)
        await site.settled()
        if not (found := wrong()):
            return
        assert is_about, f"it did not stay as it was: {found}"


STEPS = ((3, "dask:1"), (5, "dask:1"), (2, "dask:1"), (2, "dask:2"))
#: The same in less time.
STEPS_AMONG_STRANGERS = ((3, "dask:1"), (2, "dask:2"))


def _steps(site: Site) -> tuple[tuple[int, str], ...]:
    return STEPS_AMONG_STRANGERS if site.strange else STEPS


async def _goes(site: Site, kind: str, name: str) -> None:
    """The user deletes it; nobody else may have done so."""
    assert site.record.get(kind, name), f"the {kind} was deleted, though not by its user"
    await site.delete(kind, name)


async def cluster(site: Site) -> None:
    """A cluster grows, shrinks, gets a new image, and goes with all it has made."""
    group = names.default_group(site.name)
    for replicas, image in _steps(site):
        spec = _guarantees(site, _cluster_spec(site, replicas, image))
        await site.apply(_resource("DaskCluster", site.name, spec, QUEUE if site.queued else ""))
        await _sized(site, "DaskCluster", group, replicas, image)
    if site.strange:
        await _sized(site, "DaskCluster", group, *STEPS[-1], last=True)
    await site.restarted_in_silence()
    await _goes(site, "DaskCluster", site.name)
    await site.empty()
    check_cluster(site.record, site.stranger.made_again)
    _check(site)


async def worker_group(site: Site) -> None:
    """A group of a user's does the same beside the default group, which it must leave alone."""
    await site.apply(_resource("DaskCluster", f"{site.name}-c", _cluster_spec(site, 1)))
    for replicas, image in _steps(site):
        spec = {"cluster": f"{site.name}-c", "worker": _worker(site, replicas, image)}
        await site.apply(_resource("DaskWorkerGroup", site.name, spec))
        await _sized(site, "DaskWorkerGroup", site.name, replicas, image)
    if site.strange:
        await _sized(site, "DaskWorkerGroup", site.name, *STEPS[-1], last=True)
        parent = functools.partial(site.record.get, "DaskCluster", f"{site.name}-c")
        await site.until(lambda: is_ready(parent()), "the cluster is ready too")
    await site.restarted_in_silence()
    await _goes(site, "DaskWorkerGroup", site.name)
    await site.until(lambda: not _workers(site, site.name), "the workers go with their group")
    await site.settled()
    assert len(_workers(site, names.default_group(f"{site.name}-c"))) == 1
    await _goes(site, "DaskCluster", f"{site.name}-c")
    await site.empty()
    check_cluster(site.record, site.stranger.made_again)
    _check(site)


# --- limits -----------------------------------------------------------------------------------------------------------


def _within_limits(site: Site, what: str) -> None:
    """Never more ran than may; and all that may, where nothing went wrong."""
    assert site.limits is not None
    most, limit = most_at_a_time(site.record, site.limits), getattr(site.limits, what)
    undisturbed = not (site.script.schedule.faults or site.strange)
    assert most[what] == limit or not undisturbed, (
        f"{most[what]} {what} at a time, though there were places for {limit}"
    )
    _check(site)


async def _limited_jobs(site: Site) -> None:
    """Four jobs run two at a time, all to their end but one that its user deletes while it runs."""
    endless, ending_jobs = f"{site.name}-1", [site.name, *(f"{site.name}-{n}" for n in (2, 3))]
    cluster = {"spec": _cluster_spec(site, 1)}
    for name in (endless, *ending_jobs):
        noted = {} if name == endless else {"metadata": {"annotations": {"test.dask.org/exit-code": "0"}}}
        runner = {**noted, "spec": {**_container("runner", "dask:1"), "restartPolicy": "Never"}}
        await site.apply(_resource("DaskJob", name, {"job": runner, "cluster": cluster}))

    def ended(*wanted: str) -> bool:
        return all(_has_ended(functools.partial(site.record.get, "DaskJob", name), "") for name in wanted)

    await site.until(lambda: any(map(ended, ending_jobs)), "a job ends")
    await site.delete("DaskJob", endless)
    await site.until(lambda: ended(*ending_jobs), "all jobs end")
    await site.settled()
    await site.stranger.rest()
    await site.settled()
    await site.restarted_in_silence()
    for name in ending_jobs:
        found = site.record.get("DaskJob", name)
        assert ending(found) == "Complete" or site.stranger.losses > 3, f"{name} has {ending(found)}"
        await site.delete("DaskJob", name)
    await site.empty()
    _within_limits(site, "jobs")


async def _limited_clusters(site: Site) -> None:
    """Three clusters run two at a time, and share the workers that there may be; what one gives back the others get."""
    first, second, third = site.name, f"{site.name}-1", f"{site.name}-2"

    async def sized(name: str, replicas: int, **fields: Any) -> None:
        await site.apply(_resource("DaskCluster", name, {**_cluster_spec(site, replicas), **fields}))

    async def run(wanted: dict[str, int]) -> None:
        def there() -> dict[str, int]:
            return {name: len(_workers(site, names.default_group(name))) for name in wanted}

        await site.until(lambda: there() == wanted, f"there are workers {wanted}", why=lambda: f"there are {there()}")

    for name in (first, second, third):
        await sized(name, 2)
    waiting = functools.partial(_waiting, site, first, second, third)
    await site.until(lambda: len(waiting()) == 1 or site.strange, "one waits for its place in line")
    gone = next(name for name in (second, third) if name not in waiting())
    left = third if gone == second else second
    await site.delete("DaskCluster", gone)
    await run({first: 2, left: 2})
    await sized(first, 4)
    await sized(left, 2, suspend=True)
    await run({first: 4, left: 0})
    await sized(left, 2)
    await sized(first, 1)
    await run({first: 1, left: 2})
    await site.settled()
    await site.stranger.rest()
    await run({first: 1, left: 2})
    for name in (first, left):
        await site.until(lambda name=name: is_ready(site.record.get("DaskCluster", name)), f"{name} is ready")
    await site.settled()
    await site.restarted_in_silence()
    for name in (first, left):
        await _goes(site, "DaskCluster", name)
    await site.empty()
    # One is deleted while it comes up: who has not seen that yet makes what was collected again.
    check_cluster(site.record, site.stranger.made_again + Counter("*"))
    _within_limits(site, "clusters")


def _waiting(site: Site, *clusters: str) -> list[str]:
    """Those that have been told that they wait for a limit."""

    def reason(name: str) -> str:
        status = (site.record.get("DaskCluster", name) or {}).get("status") or {}
        return next((c["reason"] for c in status.get("conditions") or () if c["type"] == "Admitted"), "")

    return [name for name in clusters if reason(name) == Reason.LIMIT_REACHED]


CLUSTERS: dict[str, Scenario] = {"cluster": cluster}
GROUPS: dict[str, Scenario] = {"worker-group": worker_group}
QUEUED: dict[str, Scenario] = {"queued-cluster": cluster, "queued-job": _job}
LIMITED: dict[str, Scenario] = {"limited-cluster": _limited_clusters, "limited-job": _limited_jobs}
ALL = QUEUED | LIMITED | JOBS | RETRIED | CLUSTERS | GROUPS
