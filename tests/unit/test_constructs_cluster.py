"""A cluster as a construct, in its short form."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.constructs import IMAGE, chart, container, only, synth

from dask_constructs import DaskCluster, DaskJob


def test_an_image_and_a_size_make_a_cluster() -> None:
    c = chart()
    DaskCluster(c, "cluster", name="analytics", image=IMAGE, workers=3, cores=2, memory="8Gi")
    manifest = only(c)
    assert (manifest["apiVersion"], manifest["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    assert manifest["metadata"] == {"name": "analytics"}
    assert manifest["spec"]["worker"]["replicas"] == 3
    assert container(manifest, "scheduler")["args"][0] == "dask-scheduler"
    assert container(manifest, "worker")["resources"]["limits"] == {"cpu": "2", "memory": "8Gi"}


def test_metadata() -> None:
    c = chart()
    DaskCluster(c, "c", image=IMAGE, name="n", namespace="ns", labels={"team": "a"}, annotations={"x/y": "z"})
    assert only(c)["metadata"] == {
        "name": "n",
        "namespace": "ns",
        "labels": {"team": "a"},
        "annotations": {"x/y": "z"},
    }


def test_names_and_namespaces_left_out_are_the_charts() -> None:
    c = chart(namespace="data")
    cluster = DaskCluster(c, "cluster", image=IMAGE)
    manifest = only(c)
    assert manifest["metadata"] == {"name": "test-cluster", "namespace": "data"}
    assert (cluster.name, cluster.namespace) == ("test-cluster", "data")


@pytest.mark.parametrize(
    ("workers", "stated"),
    [({}, {}), ({"workers": None}, {}), ({"workers": 1}, {"replicas": 1}), ({"workers": 0}, {"replicas": 0})],
)
def test_git_states_the_number_of_workers_if_asked_to(workers: Any, stated: dict[str, int]) -> None:
    """1 is the API's default, but stated it is enforced."""
    c = chart()
    cluster = DaskCluster(c, "cluster", image=IMAGE, **workers)
    cluster.add_worker_group("more", **workers)
    DaskJob(c, "job", image=IMAGE, command=["true"], **workers)
    first, group, job = synth(c)
    for worker in (first["spec"]["worker"], group["spec"]["worker"], job["spec"]["cluster"]["spec"]["worker"]):
        assert {key: value for key, value in worker.items() if key == "replicas"} == stated


def test_scheduler_address() -> None:
    assert DaskCluster(chart(), "c", name="a", image=IMAGE).scheduler_address == "tcp://a-scheduler:8786"
    cluster = DaskCluster(chart(), "c", name="a", namespace="ns", image=IMAGE)
    assert cluster.scheduler_address == "tcp://a-scheduler.ns:8786"
