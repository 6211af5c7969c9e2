"""Lives of the kinds: what a user does, and what has to come of it."""

from __future__ import annotations

import functools
from typing import Any

from dask_crds import names

from .harness import Scenario, Site
from .invariants import check_cluster, check_groups, check_job, ending, is_ready, run
from .observer import Manifest

NO_DRAIN = {"drainTimeoutSeconds": 0}  # on fake nodes no scheduler answers
ROLLING = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}


def _container(name: str, image: str) -> Manifest:
    return {"containers": [{"name": name, "image": image, "args": [f"dask-{name}"]}]}


def _worker(replicas: int, image: str = "dask:1") -> Manifest:
    return {"replicas": replicas, "spec": _container("worker", image), **NO_DRAIN, **ROLLING}


def _cluster_spec(replicas: int, image: str = "dask:1") -> Manifest:
    return {"scheduler": {"spec": _container("scheduler", "dask:1")}, "worker": _worker(replicas, image)}


def _resource(kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


# --- jobs -------------------------------------------------------------------------------------------------------------


async def _job(
    site: Site, *, code: int = 0, policy: str = "Always", backoff_limit: int = 0, runs: tuple[str, ...] = ("",)
) -> None:
    """A job runs as often as it is asked to, tidies up by its policy, and goes with all it has made."""
    job, end = functools.partial(site.record.get, "DaskJob", site.name), "Failed" if code else "Complete"
    for run_id in runs:
        runner = {
            "metadata": {"annotations": {"test.dask.org/exit-code": str(code)}},
            "spec": {**_container("runner", "dask:1"), "restartPolicy": "Never"},
        }
        cluster = {"spec": _cluster_spec(1), "deletionPolicy": policy}
        spec = {"job": runner, "cluster": cluster, "backoffLimit": backoff_limit} | (
            {"runId": run_id} if run_id else {}
        )
        await site.apply(_resource("DaskJob", site.name, spec))
        await site.until(lambda run_id=run_id: ending(job()) and run(job() or {}) == run_id, "a job ends")
    kept = policy == "Never" or (policy == "OnSuccess" and end == "Failed")
    if not kept:
        await site.until(lambda: not list(site.record.of("DaskCluster")), "the cluster goes after the end")
        await site.until(lambda: not list(site.record.of("Deployment")), "the scheduler goes after the end")
    await site.settled()
    assert not kept or site.record.get("DaskCluster", site.name), "the cluster was to be kept"
    await site.restarted_in_silence()
    await site.delete("DaskJob", site.name)
    await site.empty()
    check_job(site.record, [end] * len(runs), pods=1 + (backoff_limit if code else 0))
    check_groups(site.record)


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
    labels: Any = {names.WORKER_GROUP: group}
    return [
        pod
        for pod in site.record.of("Pod")
        if labels.items() <= pod["metadata"]["labels"].items() and "deletionTimestamp" not in pod["metadata"]
    ]


async def _sized(site: Site, kind: str, group: str, replicas: int, image: str) -> None:
    """Wait until the resource is ready with exactly these Pods, and nothing is written any more."""

    def images() -> list[str]:
        return [pod["spec"]["containers"][0]["image"] for pod in _workers(site, group)]

    def right() -> bool:
        return is_ready(site.record.get(kind, site.name)) and images() == [image] * replicas

    await site.until(right, f"the {kind} is ready with {replicas} workers of {image}")
    await site.settled()
    assert right(), f"it did not stay at {replicas} workers: {images()}"


STEPS = ((3, "dask:1"), (5, "dask:1"), (2, "dask:1"), (2, "dask:2"))


async def cluster(site: Site) -> None:
    """A cluster grows, shrinks, gets a new image, and goes with all it has made."""
    for replicas, image in STEPS:
        await site.apply(_resource("DaskCluster", site.name, _cluster_spec(replicas, image)))
        await _sized(site, "DaskCluster", names.default_group(site.name), replicas, image)
    await site.restarted_in_silence()
    await site.delete("DaskCluster", site.name)
    await site.empty()
    check_cluster(site.record)
    check_groups(site.record)


async def worker_group(site: Site) -> None:
    """A group of a user's does the same beside the default group, which it must leave alone."""
    await site.apply(_resource("DaskCluster", f"{site.name}-c", _cluster_spec(1)))
    for replicas, image in STEPS:
        spec = {"cluster": f"{site.name}-c", "worker": _worker(replicas, image)}
        await site.apply(_resource("DaskWorkerGroup", site.name, spec))
        await _sized(site, "DaskWorkerGroup", site.name, replicas, image)
    await site.restarted_in_silence()
    await site.delete("DaskWorkerGroup", site.name)
    await site.until(lambda: not _workers(site, site.name), "the workers go with their group")
    await site.settled()
    assert len(_workers(site, names.default_group(f"{site.name}-c"))) == 1
    await site.delete("DaskCluster", f"{site.name}-c")
    await site.empty()
    check_cluster(site.record)
    check_groups(site.record)


CLUSTERS: dict[str, Scenario] = {"cluster": cluster}
GROUPS: dict[str, Scenario] = {"worker-group": worker_group}
ALL = JOBS | RETRIED | CLUSTERS | GROUPS
