"""The examples in ``dist/examples``: one chart, and so one file, each.

They name no namespace, and ask for little enough to run on a laptop.
"""

from __future__ import annotations

from typing import TypedDict

from cdk8s import Chart
from constructs import Construct

from dask_constructs import ClusterQueue, DaskCluster, DaskJob, LocalQueue, ResourceFlavor
from dask_crds.kubernetes import PartialPodSpec

PROGRAM = """\
from distributed import Client

with Client() as client:  # the operator sets DASK_SCHEDULER_ADDRESS
    squares = client.map(lambda number: number**2, range(10))
    print("result:", client.submit(sum, squares).result())
"""


def _request(container: str, cpu: str) -> PartialPodSpec:
    return {"containers": [{"name": container, "resources": {"requests": {"cpu": cpu}}}]}


class _Small(TypedDict):
    memory: str
    worker_pod: PartialPodSpec
    scheduler_memory: str
    scheduler_pod: PartialPodSpec


#: A tenth of a CPU is requested, up to a whole one is used: fine to try things, unfair to neighbours in production.
_SMALL: _Small = {
    "memory": "512Mi",
    "worker_pod": _request("worker", "100m"),
    "scheduler_memory": "512Mi",
    "scheduler_pod": _request("scheduler", "100m"),
}


def examples(scope: Construct, image: str) -> None:
    """One chart for each example."""
    # How many workers is not stated in Git, so it can be scaled: `kubectl scale dwg simple-default --replicas=3`.
    DaskCluster(Chart(scope, "dask-cluster"), "cluster", name="simple", image=image, **_SMALL)

    # Tasks annotated with resources={"BIG": 1} run on the second group only.
    groups = DaskCluster(Chart(scope, "worker-groups"), "cluster", name="groups", image=image, **_SMALL)
    groups.add_worker_group("big", memory="1Gi", worker_resources={"BIG": 1}, worker_pod=_request("worker", "100m"))

    adaptive = DaskCluster(Chart(scope, "autoscaler"), "cluster", name="adaptive", image=image, **_SMALL)
    adaptive.autoscale(minimum=0, maximum=3, scale_down_window=10)

    DaskCluster(Chart(scope, "idle-timeout"), "cluster", name="idle", image=image, idle_timeout=60, **_SMALL)

    _job(Chart(scope, "dask-job"), "hello", image, PROGRAM)
    _job(Chart(scope, "dask-job-failing"), "failing", image, 'raise SystemExit("failed on purpose")\n')


def queues(scope: Construct, image: str) -> None:
    """A queue of Kueue, and a cluster in it: one worker is guaranteed, two more come and go with the quota."""
    platform = Chart(scope, "platform")
    flavor = ResourceFlavor(platform, "flavor", name="any-node")
    research = ClusterQueue(platform, "queue", name="research", quota={flavor.name: {"cpu": 8, "memory": "16Gi"}})
    team = LocalQueue(platform, "local-queue", name="team", cluster_queue=research)
    chart = Chart(scope, "queued")
    DaskCluster(chart, "cluster", name="queued", image=image, queue=team, workers=3, guaranteed_workers=1, **_SMALL)


def _job(scope: Construct, name: str, image: str, program: str) -> None:
    DaskJob(
        scope,
        "job",
        name=name,
        image=image,
        command=["python3", "-c", program],
        workers=2,
        runner_memory="256Mi",
        runner_pod=_request("job", "100m"),
        **_SMALL,
    )
