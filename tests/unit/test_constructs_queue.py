"""Queues of Kueue as constructs: the platform's side, and what names a queue."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from tests.support.constructs import Manifest, chart, synth

from dask_constructs import ClusterQueue, DaskCluster, DaskCronJob, DaskJob, DaskTenant, LocalQueue, ResourceFlavor
from dask_crds.names import Label

IMAGE = "dask:1"
QUOTA = {"f": {"cpu": 1}}
QUEUED = {Label.QUEUE: "research", Label.PRIORITY_CLASS: "prod"}


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def test_a_cluster_and_a_job_name_their_queue_by_labels() -> None:
    c = chart()
    options: dict[str, Any] = {"image": IMAGE, "queue": "research", "queue_priority": "prod", "labels": {"team": "a"}}
    DaskCluster(c, "cluster", name="c", workers=4, guaranteed_workers=1, **options)
    DaskJob(c, "job", name="j", command=["true"], **options)
    made = synth(c)
    for kind in ("DaskCluster", "DaskJob"):
        assert of_kind(made, kind)["metadata"]["labels"] == {"team": "a", **QUEUED}
    assert of_kind(made, "DaskCluster")["spec"]["worker"]["guaranteed"] == 1


def test_of_a_scheduled_job_each_run_is_queued_and_not_what_starts_it() -> None:
    c = chart()
    options: dict[str, Any] = {"image": IMAGE, "command": ["true"], "queue": "research", "namespace": "team"}
    DaskCronJob(c, "job", name="j", schedule="@daily", **options)
    made = synth(c)
    (text,) = of_kind(made, "ConfigMap")["data"].values()
    assert yaml.safe_load(text)["metadata"]["labels"] == {Label.QUEUE: "research"}
    for kind in ("CronJob", "ConfigMap"):
        assert Label.QUEUE not in str(of_kind(made, kind)["metadata"])
    assert Label.QUEUE not in str(of_kind(made, "CronJob"))


def test_a_tenant_has_a_queue_in_one_line() -> None:
    c = chart()
    flavor = ResourceFlavor(c, "flavor", name="spot", node_labels={"pool": "spot"})
    queue = ClusterQueue(c, "queue", name="research", quota={flavor.name: {"cpu": 64, "memory": "256Gi"}})
    DaskTenant(c, "tenant", namespace="analytics", queue=queue)
    made = synth(c)
    local = of_kind(made, "LocalQueue")
    assert (local["metadata"], local["spec"]) == (
        {"name": "research", "namespace": "analytics"},
        {"clusterQueue": "research"},
    )
    assert of_kind(made, "ResourceFlavor")["spec"] == {"nodeLabels": {"pool": "spot"}}
    (group,) = of_kind(made, "ClusterQueue")["spec"]["resourceGroups"]
    assert group["coveredResources"] == ["cpu", "memory"]
    assert "namespace" not in of_kind(made, "ClusterQueue")["metadata"]


def test_what_would_take_in_every_pod_is_told() -> None:
    c = chart()
    LocalQueue(c, "queue", name="default", cluster_queue="research")
    with pytest.raises(RuntimeError, match="each Pod and Job of the namespace by itself"):
        synth(c)


def test_nor_does_a_tenant_have_such_a_queue() -> None:
    c = chart()
    DaskTenant(c, "tenant", namespace="analytics", queue=ClusterQueue(c, "q", name="default", quota=QUOTA))
    with pytest.raises(RuntimeError, match="queue: 'default' makes Kueue queue each Pod and Job"):
        synth(c)


@pytest.mark.parametrize(
    ("of", "props", "message"),
    [
        (LocalQueue, {"name": "Team A", "cluster_queue": "q"}, "name: 'Team A' must be a DNS name"),
        (LocalQueue, {"name": "a" * 64, "cluster_queue": "q"}, "name: must have at most 63 characters"),
        (LocalQueue, {"name": "a", "cluster_queue": "Team A"}, "cluster_queue: 'Team A' must be a DNS name"),
        (DaskTenant, {"namespace": "a", "queue": "Team A"}, "queue: 'Team A' must be a DNS name"),
        (DaskTenant, {"namespace": "a", "queue": "a" * 64}, "queue: must have at most 63 characters"),
        (DaskTenant, {"namespace": "a", "quota": {"pods": "lots"}}, "'lots' is not a Kubernetes quantity"),
        (ResourceFlavor, {"name": "on_demand"}, "name: 'on_demand' must be a DNS name"),
        (ResourceFlavor, {"name": "a", "node_labels": {"pool": "no label"}}, "node_labels.pool: 'no label' is not a"),
        (ResourceFlavor, {"name": "a", "node_labels": dict.fromkeys("abcdefghi", "")}, "node_labels: at most 8"),
        (ClusterQueue, {"name": "a", "quota": {}}, "quota: must have a flavor"),
        (ClusterQueue, {"name": "a", "quota": {"f": {}}}, "quota: must have a flavor, and each flavor a resource"),
        (ClusterQueue, {"name": "a", "quota": {"On Demand": {"cpu": 1}}}, "'On Demand' must be a DNS name"),
        (ClusterQueue, {"name": "a", "quota": {"f": {"memory": "64 Gi"}}}, "'64 Gi' is not a Kubernetes quantity"),
        (ClusterQueue, {"name": "a", "quota": {"f": {"cpu": -1}}}, "must be a whole number, or a quantity"),
        (ClusterQueue, {"name": "a", "quota": {"f": {"cpu": "-1"}}}, "must not be less than 0"),
        (ClusterQueue, {"name": "a", "cohort": "A B", "quota": QUOTA}, "cohort: 'A B' must be a DNS name"),
    ],
)
def test_what_kueue_would_refuse_is_told_at_synth(of: Any, props: dict[str, Any], message: str) -> None:
    c = chart()
    of(c, "it", **props)
    with pytest.raises(RuntimeError, match=re.escape(message)):
        synth(c)


def test_flavors_of_a_queue_have_the_same_resources() -> None:
    c = chart()
    ClusterQueue(c, "queue", name="research", quota={"a": {"cpu": 1}, "b": {"memory": "1Gi"}})
    with pytest.raises(RuntimeError, match="quota: all flavors must have the same resources"):
        synth(c)
