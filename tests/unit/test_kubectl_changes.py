"""What the commands of `kubectl dask` write, what they refuse to, and what they say of whose field it is."""

from __future__ import annotations

from typing import Any

import pytest

from dask_gitops.kubectl.changes import (
    Impossible,
    check_stated_size,
    rerun,
    restart,
    scale,
    stated,
    suspend,
)
from dask_gitops.kubectl.connections import environment_of, tls_secret

NOW = "2027-01-15T08:00:00Z"


def resource(kind: str, name: str = "analytics", *, owner: Any = None, **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": "u-1", "generation": 4, "resourceVersion": "77", **fields.pop("metadata", {})}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "uid": "u-0", "controller": True}]
    return {"kind": kind, "metadata": metadata, **fields}


def written(manager: str, operation: str, fields: Any, **entry: Any) -> dict[str, Any]:
    return {"managedFields": [{"manager": manager, "operation": operation, "fieldsV1": fields, **entry}]}


SUSPEND = {"f:spec": {"f:suspend": {}}}


def test_suspend_and_resume() -> None:
    change = suspend(resource("DaskCluster", spec={}), suspended=True)
    assert (change.kind, change.patch) == ("DaskCluster", {"spec": {"suspend": True}})
    assert change.words == "DaskCluster analytics is suspended"
    assert suspend(resource("DaskJob", spec={}), suspended=False).words == "DaskJob analytics is resumed already"


@pytest.mark.parametrize("change", [lambda it: suspend(it, suspended=True), lambda it: scale(it, None, 3)])
def test_the_cluster_of_a_job_is_the_jobs(change: Any) -> None:
    with pytest.raises(Impossible, match="belongs to DaskJob etl"):
        change(resource("DaskCluster", "etl", owner=("DaskJob", "etl"), spec={}))


def test_another_run() -> None:
    job = resource("DaskJob", spec={}, status={"jobStatus": "Successful"})
    assert rerun(job, None).patch == {"spec": {"runId": "generation-4"}}
    assert "when the present run has ended" not in rerun(job, "x").words
    assert "when the present run has ended" in rerun({**job, "status": {"jobStatus": "Running"}}, "x").words
    with pytest.raises(Impossible, match="already"):
        rerun({**job, "spec": {"runId": "x"}}, "x")


def test_scale_goes_by_the_subresource() -> None:
    change = scale(resource("DaskCluster", spec={}), None, 1)
    assert (change.subresource, change.patch) == ("scale", {"spec": {"replicas": 1}})
    assert change.words == "DaskCluster analytics is to have 1 worker"


@pytest.mark.parametrize(
    ("cluster", "group"),
    [
        (resource("DaskCluster", spec={}), resource("DaskWorkerGroup", status={"autoscaler": "analytics"})),
        (resource("DaskCluster", spec={"autoscaler": {"maximum": 3}}), None),
    ],
)
def test_an_autoscaler_is_not_fought(cluster: Any, group: Any) -> None:
    with pytest.raises(Impossible, match="DaskAutoscaler analytics sets the number"):
        scale(cluster, group, 3)


def test_the_size_of_a_stated_group_is_its_clusters() -> None:
    group = resource("DaskWorkerGroup", "analytics-big")
    check_stated_size(group, resource("DaskCluster", spec={"workerGroups": [{"name": "big"}]}))
    check_stated_size(group, None)
    with pytest.raises(Impossible, match="states the number of workers of analytics-big"):
        check_stated_size(group, resource("DaskCluster", spec={"workerGroups": [{"name": "big", "replicas": 2}]}))


def test_restart_writes_the_annotation_of_rollout_restart() -> None:
    annotated = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": NOW}}}
    cluster = resource(
        "DaskCluster", spec={"workerGroups": [{"name": "big", "spec": {}, "replicas": 2}, {"name": "x"}]}
    )
    assert restart(cluster, NOW).patch == {"spec": {"worker": annotated}}
    patch = restart(cluster, NOW, group="big").patch
    assert patch["metadata"] == {"resourceVersion": "77"}, "a list is replaced as a whole"
    assert patch["spec"]["workerGroups"] == [{"name": "big", "spec": {}, "replicas": 2, **annotated}, {"name": "x"}]
    assert "metadata" not in cluster["spec"]["workerGroups"][0]
    with pytest.raises(Impossible, match="states no group y; it states big, x"):
        restart(cluster, NOW, group="y")


def test_a_group_that_a_cluster_makes_is_restarted_by_its_cluster() -> None:
    owner = ("DaskCluster", "analytics")
    with pytest.raises(Impossible, match=r"restart cluster/analytics --group big$"):
        restart(resource("DaskWorkerGroup", "analytics-big", owner=owner), NOW)
    with pytest.raises(Impossible, match=r"restart cluster/analytics$"):
        restart(resource("DaskWorkerGroup", "analytics-default", owner=owner), NOW)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (written("argocd-controller", "Update", SUSPEND), "Argo CD states spec.suspend from Git"),
        (written("kustomize-controller", "Apply", SUSPEND), "Flux states spec.suspend from Git"),
        (written("ci", "Apply", SUSPEND), "stands in a manifest that ci applied"),
        (
            written("kubectl-client-side-apply", "Update", SUSPEND),
            "stands in a manifest that kubectl-client-side-apply",
        ),
        (written("kubectl-edit", "Update", SUSPEND), ""),
        (written("kustomize-controller", "Apply", {"f:spec": {"f:worker": {}}}), ""),
        (written("argocd-controller", "Update", SUSPEND, subresource="status"), ""),
        ({"managedFields": [{"fieldsV1": []}, 3]}, ""),
        ({}, ""),
    ],
)
def test_whose_a_field_is(metadata: Any, says: str) -> None:
    found = stated(resource("DaskCluster", metadata=metadata), "spec", "suspend")
    assert (says in found) if says else not found


def test_the_environment_of_clients() -> None:
    assert environment_of(5, {}) == {"DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:5"}
    found = environment_of(5, {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": "/x/ca.crt"})
    assert found["DASK_SCHEDULER_ADDRESS"] == "tls://127.0.0.1:5"
    assert found["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"


def test_where_certificates_are() -> None:
    assert tls_secret(resource("DaskCluster", spec={})) == ""
    mine = {"security": {"tls": {"mode": "Secret", "secretName": "mine"}}}
    assert tls_secret(resource("DaskCluster", spec=mine)) == "mine"
    generated = tls_secret(resource("DaskCluster", spec={"security": {"tls": {"mode": "Generated"}}}))
    assert generated.startswith("analytics-security-")
