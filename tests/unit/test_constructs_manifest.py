"""What is wrong with a plain manifest of ours."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.constructs import POD

from dask_constructs import problems


def test_problems_of_a_plain_manifest() -> None:
    assert problems({"apiVersion": "v1", "kind": "Pod"}) == [
        "v1 Pod is not one of DaskCluster, DaskWorkerGroup, DaskJob, DaskAutoscaler of kubernetes.dask.org/v1"
    ]
    manifest = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskWorkerGroup",
        "metadata": {"name": "g"},
        "spec": {"worker": {"replicas": "3", "spec": {"containers": []}, "updateStrategy": {"type": "Recreate"}}},
    }
    assert problems(manifest) == [
        "spec.worker.spec.containers: [] should be non-empty",
        "spec.worker.replicas: must be of type integer, not '3'",
        "spec.worker.updateStrategy.type: 'Recreate' is not one of ['OnDelete', 'RollingUpdate']",
        "spec.cluster: is missing",
    ]


def test_nulls_count_as_absent() -> None:
    """As at the API server; existing clients send them."""
    manifest: dict[str, Any] = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskWorkerGroup",
        "metadata": {"name": "g"},
        "spec": {"cluster": "c", "worker": {"replicas": None, "spec": {**POD, "nodeSelector": None}}},
    }
    assert problems(manifest) == []
    manifest["spec"]["cluster"] = None
    assert problems(manifest) == ["spec: Object missing required field `cluster`"]


def raw(kind: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": kind, "metadata": metadata or {"name": "a"}, "spec": spec}


def raw_cluster(service: Any = None, **scheduler: Any) -> dict[str, Any]:
    """The spec of a cluster whose scheduler has a Service and further fields."""
    return {"scheduler": {"spec": POD, "service": service, **scheduler}, "worker": {"spec": POD}}


class TestServiceThatSelectsNothing:
    """A selector copied from another cluster: nothing is behind the Service, and nobody says so (public 03)."""

    @pytest.mark.parametrize(
        ("selector", "valid"),
        [
            (None, True),
            ({}, True),
            ({"dask.org/cluster-name": "a", "dask.org/component": "scheduler"}, True),
            ({"dask.org/component": "scheduler", "team": "x"}, True),
            ({"dask.org/cluster-name": "b", "dask.org/component": "scheduler"}, False),
            ({"dask.org/cluster-name": "a", "dask.org/component": "worker"}, False),
            ({"app": "dask"}, False),
        ],
    )
    def test_of_a_cluster_and_of_a_job(self, selector: Any, valid: bool) -> None:
        spec = raw_cluster({"selector": selector}, metadata={"labels": {"team": "x"}})
        said = "does not match the scheduler's Pod, so nothing would be found behind the Service: leave it out"
        found = problems(raw("DaskCluster", spec))
        assert found == ([] if valid else [f"spec.scheduler.service.selector: {said}"])
        found = problems(raw("DaskJob", {"cluster": {"spec": spec}, "job": {"spec": POD}}))
        assert found == ([] if valid else [f"spec.cluster.spec.scheduler.service.selector: {said}"])

    def test_no_selector_knows_a_name_that_is_generated(self) -> None:
        spec = raw_cluster({"selector": {"dask.org/cluster-name": "a", "dask.org/component": "scheduler"}})
        assert len(problems(raw("DaskCluster", spec, generateName="a-"))) == 1
        assert problems(raw("DaskCluster", raw_cluster(), generateName="a-")) == []


@pytest.mark.parametrize("path", ["/etc/dask-gitops", "/etc/dask-gitops/"])
def test_a_path_that_the_operator_needs_itself(path: str) -> None:
    """The Deployment would be refused (public 19)."""
    mounts = [{"name": "v", "mountPath": "/data"}, {"name": "v", "mountPath": path}]
    pod = {"containers": [{**POD["containers"][0], "volumeMounts": mounts}], "volumes": [{"name": "v", "emptyDir": {}}]}
    assert problems(raw("DaskCluster", {"scheduler": {"spec": pod}, "worker": {"spec": pod}})) == [
        "spec.scheduler.spec.containers[0].volumeMounts[1].mountPath: /etc/dask-gitops is where the operator mounts "
        "the scheduler's module: choose another path"
    ]


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (0.5, "must be a whole number or text, not 0.5: put it in quotes, '0.5'"),
        ("200MBytes", "'200MBytes' is not a Kubernetes quantity such as 500m, 1.5 or 4Gi"),
        (True, "must be a number or a string, not True"),
        (-1, "-1 is less than the minimum of 0"),
        (1, ""),
        (2.0, ""),
        ("1.5", ""),
    ],
)
def test_amounts_as_the_api_server_takes_them(amount: Any, said: str) -> None:
    """`cpu: 0.5` without quotes passed offline only (public), `200MBytes` everywhere (node 11)."""
    pod = {"containers": [{**POD["containers"][0], "resources": {"limits": {"cpu": amount}}}]}
    found = problems(raw("DaskCluster", {"scheduler": {"spec": POD}, "worker": {"spec": pod}}))
    assert found == ([f"spec.worker.spec.containers[0].resources.limits.cpu: {said}"] if said else [])


@pytest.mark.parametrize(
    "stated", [{"history": {"claimName": "runs\n"}}, {"history": {"url": "s3://runs/dask\n"}}], ids=["name", "url"]
)
def test_the_end_of_a_line_is_no_part_of_a_name(stated: dict[str, Any]) -> None:
    """YAML's ``|`` leaves one, which Python's ``$`` lets pass and the API server's does not."""
    (told,) = problems(raw("DaskCluster", raw_cluster() | stated))
    assert told.startswith("spec.history.")
