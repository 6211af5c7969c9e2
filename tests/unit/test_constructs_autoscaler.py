"""An autoscaler as a construct."""

from __future__ import annotations

from tests.support.constructs import IMAGE, chart, errors, synth

from dask_constructs import DaskAutoscaler, DaskCluster
from dask_crds.model import DaskAutoscalerSpec


def test_autoscaling_a_cluster() -> None:
    """The name is that of the cluster, where KubeCluster.adapt and KubeCluster.scale look for it."""
    c = chart(namespace="ns")
    DaskCluster(c, "cluster", name="a", image=IMAGE).autoscale(minimum=0, maximum=9, scale_down_window=120)
    manifest = synth(c)[1]
    assert manifest["metadata"] == {"name": "a", "namespace": "ns"}
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 120}}
    assert manifest["spec"] == {"cluster": "a", "minimum": 0, "maximum": 9, "behavior": behavior}


def test_autoscaling_a_group() -> None:
    c = chart()
    group = DaskCluster(c, "cluster", name="a", image=IMAGE).add_worker_group("big")
    group.autoscale(minimum=1, maximum=2)
    manifest = synth(c)[2]
    assert manifest["metadata"] == {"name": "a-big"}
    assert manifest["spec"] == {"cluster": "a", "workerGroup": "a-big", "minimum": 1, "maximum": 2}


def test_autoscaling_without_bounds() -> None:
    """What Git leaves out, others may change: the minimum is stated, but for the exact form."""
    c = chart()
    DaskCluster(c, "cluster", name="a", image=IMAGE).autoscale()
    DaskAutoscaler.from_spec(c, "b", spec=DaskAutoscalerSpec(cluster="b"), name="b")
    assert [manifest["spec"] for manifest in synth(c)[1:]] == [
        {"cluster": "a", "minimum": 0},
        {"cluster": "b"},
    ]


def test_a_number_of_workers_has_one_owner() -> None:
    c = chart()
    DaskCluster(c, "cluster", image=IMAGE, workers=3).autoscale(minimum=0, maximum=9)
    assert errors(c) == ["[test/cluster/autoscaler] test/cluster states 3 workers; leave that to the autoscaler"]
