"""Further workers as a construct: what they have from their cluster."""

from __future__ import annotations

import pytest
from tests.support.constructs import IMAGE, chart, container, errors, synth

from dask_constructs import DaskCluster, DaskWorkerGroup


def test_a_group_added_to_a_cluster_is_like_the_cluster() -> None:
    c = chart()
    cluster = DaskCluster(
        c, "cluster", name="a", namespace="ns", image=IMAGE, env={"A": "1"}, user=5, memory="1Gi", labels={"x": "y"}
    )
    group = cluster.add_worker_group("big", memory="64Gi", worker_resources={"BIG": 1})
    manifest = synth(c)[1]
    assert group.name == "a-big"
    assert manifest["kind"] == "DaskWorkerGroup"
    assert manifest["metadata"] == {"name": "a-big", "namespace": "ns"}
    assert manifest["spec"]["cluster"] == "a"
    assert container(manifest, "worker")["image"] == IMAGE
    assert container(manifest, "worker")["env"] == [{"name": "HOME", "value": "/tmp"}, {"name": "A", "value": "1"}]
    assert manifest["spec"]["worker"]["spec"]["securityContext"]["runAsUser"] == 5
    assert container(manifest, "worker")["resources"]["limits"] == {"cpu": "1", "memory": "64Gi"}
    assert "BIG=1" in container(manifest, "worker")["args"]


def test_what_a_group_inherits_may_be_set() -> None:
    c = chart()
    cluster = DaskCluster(c, "cluster", name="a", image=IMAGE, env={"A": "1"})
    cluster.add_worker_group("gpu", image="cuda:1", name="other", env={}, gpus=1)
    manifest = synth(c)[1]
    assert manifest["metadata"] == {"name": "other"}
    assert container(manifest, "worker")["image"] == "cuda:1"
    assert container(manifest, "worker")["env"] == [{"name": "HOME", "value": "/tmp"}]


def test_groups_do_not_share_what_they_inherit() -> None:
    cluster = DaskCluster(chart(), "cluster", name="a", image=IMAGE)
    assert [cluster.add_worker_group(id).name for id in ("x", "y")] == ["a-x", "a-y"]


@pytest.mark.parametrize("by_name", [True, False])
def test_a_group_of_its_own(by_name: bool) -> None:
    c = chart()
    cluster = DaskCluster(c, "cluster", name="a", image=IMAGE)
    DaskWorkerGroup(c, "group", name="g", cluster="a" if by_name else cluster, image=IMAGE)
    assert synth(c)[1]["spec"]["cluster"] == "a"


def test_the_name_of_the_default_group_is_taken() -> None:
    """The operator makes that group itself, and takes nothing over."""
    c = chart()
    DaskCluster(c, "cluster", name="a", image=IMAGE).add_worker_group("default")
    assert errors(c) == ["[test/cluster/default] name: metadata.name: 'a-default' is the default group of 'a'"]
