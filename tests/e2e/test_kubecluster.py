"""The stock client, unchanged, against the operator as it is installed from ``dist/``."""

from __future__ import annotations

import time

import pytest
from dask_kubernetes.operator import make_cluster_spec
from tests.e2e.support import DASK_IMAGE, Kubectl, eventually, kube_cluster

pytestmark = pytest.mark.node


def workers_of(kubectl: Kubectl, group: str) -> set[str]:
    """Uids of the living worker Pods of a group."""
    pods = kubectl.json("get", "pods", "-l", f"dask.org/workergroup-name={group}")["items"]
    return {p["metadata"]["uid"] for p in pods if "deletionTimestamp" not in p["metadata"]}


def connected(client) -> list[str]:
    return [w["name"] for w in client.scheduler_info(n_workers=-1)["workers"].values()]


def test_create_compute_scale_group_adapt_close(kubectl, kube):
    with kube_cluster(kube, name="stock", n_workers=1) as (cluster, client):
        assert client.submit(lambda x: x + 1, 10).result(timeout=60) == 11

        cluster.scale(3)
        client.wait_for_workers(3, timeout=90)
        cluster.scale(1)
        eventually(lambda: len(workers_of(kubectl, "stock-default")) == 1)
        eventually(lambda: len(connected(client)) == 1)

        cluster.add_worker_group("big", n_workers=2, image=DASK_IMAGE)
        client.wait_for_workers(3, timeout=90)
        default, big = workers_of(kubectl, "stock-default"), workers_of(kubectl, "stock-big")
        assert (len(default), len(big)) == (1, 2)

        # Scaling one group touches no worker of the other, in both directions.
        cluster.scale(1, worker_group="big")
        eventually(lambda: len(workers_of(kubectl, "stock-big")) == 1)
        assert workers_of(kubectl, "stock-default") == default
        cluster.scale(3)
        eventually(lambda: len(workers_of(kubectl, "stock-default")) == 3)
        big = workers_of(kubectl, "stock-big")
        cluster.scale(1)
        eventually(lambda: len(workers_of(kubectl, "stock-default")) == 1)
        assert workers_of(kubectl, "stock-big") == big

        cluster.delete_worker_group("big")
        eventually(lambda: not workers_of(kubectl, "stock-big"))
        assert client.submit(sum, [1, 2, 3]).result(timeout=60) == 6

    eventually(lambda: kubectl("get", "dask", "-o", "name").strip() == "")
    eventually(
        lambda: (
            kubectl(
                "get", "pods,services,deployments,configmaps", "-l", "dask.org/cluster-name=stock", "-o", "name"
            ).strip()
            == ""
        )
    )


def test_adapt_up_and_back(kubectl, kube):
    with kube_cluster(kube, name="adaptive", n_workers=0) as (cluster, client):
        cluster.adapt(minimum=0, maximum=4)
        futures = client.map(lambda n: time.sleep(1) or n, range(40))
        eventually(lambda: len(workers_of(kubectl, "adaptive-default")) == 4, seconds=120)
        assert sorted(client.gather(futures)) == list(range(40))
        del futures
        # The window of scaling down is a minute.
        eventually(lambda: len(workers_of(kubectl, "adaptive-default")) == 0, seconds=180)
        cluster.scale(1)
        client.wait_for_workers(1, timeout=90)


def test_scaling_down_loses_no_result(kubectl, kube):
    with kube_cluster(kube, name="data", n_workers=4) as (cluster, client):
        client.wait_for_workers(4, timeout=120)
        addresses = list(client.scheduler_info(n_workers=-1)["workers"])
        futures = [
            f
            for n, a in enumerate(addresses)
            for f in client.scatter([n * 100 + i for i in range(10)], workers=[a], hash=False)
        ]
        cluster.scale(1)
        eventually(lambda: len(workers_of(kubectl, "data-default")) == 1)
        assert sorted(client.gather(futures)) == sorted(n * 100 + i for n in range(4) for i in range(10))


def test_five_clusters_in_a_row(kubectl, kube):
    """With dask-kubernetes 2026.3.0, 4 of 11 stayed Pending on the same node (#968, #976)."""
    for number in range(5):
        # What the client creates, and then what it waits for.
        kubectl.apply(make_cluster_spec(f"row-{number}", image=DASK_IMAGE, n_workers=1))
        eventually(
            lambda number=number: kubectl.status("daskcluster", f"row-{number}").get("phase") == "Running", seconds=60
        )
        kubectl.wait_ready("daskcluster", f"row-{number}", seconds=120)
        kubectl("delete", "daskcluster", f"row-{number}", "--wait=false")
    eventually(lambda: kubectl("get", "pods", "-l", "dask.org/cluster-name", "-o", "name").strip() == "", seconds=120)
