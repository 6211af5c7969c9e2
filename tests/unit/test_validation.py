"""Mistakes that types do not show. What the API server says of the same manifests is in ``tests/schema``."""

from __future__ import annotations

from typing import Any

import pytest

from dask_crds.kubernetes import PodSpec
from dask_crds.model import (
    DaskAutoscaler,
    DaskAutoscalerSpec,
    DaskCluster,
    DaskClusterSpec,
    DaskJob,
    DaskJobSpec,
    DaskWorkerGroup,
    DaskWorkerGroupSpec,
    JobCluster,
    JobTemplate,
    Kind,
    RollingUpdate,
    Scheduler,
    TemplateMetadata,
    UpdateStrategy,
    Worker,
)
from dask_crds.validation import problems

POD: PodSpec = {"containers": [{"name": "main", "image": "dask"}]}


def cluster(name: str = "a", scheduler: Any = POD, worker: Any = POD, **fields: Any) -> DaskCluster:
    spec = DaskClusterSpec(scheduler=Scheduler(spec=scheduler), worker=Worker(spec=worker, **fields))
    return DaskCluster(metadata={"name": name}, spec=spec)


def group(name: str = "a", cluster: str = "a") -> DaskWorkerGroup:
    return DaskWorkerGroup(metadata={"name": name}, spec=DaskWorkerGroupSpec(cluster=cluster, worker=Worker(spec=POD)))


def job(name: str = "a", runner: Any = POD) -> DaskJob:
    spec = DaskJobSpec(cluster=JobCluster(spec=cluster().spec), job=JobTemplate(spec=runner))
    return DaskJob(metadata={"name": name}, spec=spec)


def autoscaler(minimum: int, maximum: int) -> DaskAutoscaler:
    spec = DaskAutoscalerSpec(cluster="a", minimum=minimum, maximum=maximum)
    return DaskAutoscaler(metadata={"name": "a"}, spec=spec)


def said(value: Kind) -> list[tuple[str, str]]:
    return [(problem.path, problem.message) for problem in problems(value)]


def paths(value: Kind) -> list[str]:
    return [problem.path for problem in problems(value)]


def container(**fields: Any) -> dict[str, Any]:
    """A Pod with one container that has these fields."""
    return {"containers": [{"name": "main", "image": "dask", **fields}]}


@pytest.mark.parametrize("value", [cluster(), group(), job(), autoscaler(1, 1)])
def test_nothing_wrong(value: Kind) -> None:
    assert problems(value) == []


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "a1", "a-1", "a" * 53])
def test_names_of_clusters(name: str) -> None:
    for value in (cluster(name), job(name), group(cluster=name)):
        assert not problems(value)


@pytest.mark.parametrize("name", ["", "1a", "-a", "a-", "A", "a.b", "a_b", "a" * 54])
def test_no_names_of_clusters(name: str) -> None:
    for value in (cluster(name), job(name)):
        assert paths(value) == ["metadata.name"]
    assert paths(group(cluster=name)) == ["spec.cluster"]


@pytest.mark.parametrize("name", ["a", "1a", "a.b", "a" * 63])
def test_names_of_groups(name: str) -> None:
    assert not problems(group(name))


@pytest.mark.parametrize("name", ["", "a" * 64, "A", "a_b", "a-"])
def test_no_names_of_groups(name: str) -> None:
    assert paths(group(name)) == ["metadata.name"]


@pytest.mark.parametrize(("value", "valid"), [("a", True), ("", True), ("A_b.c-1", True), ("a b", False), ("é", False)])
def test_labels(value: str, valid: bool) -> None:
    labelled = cluster(metadata=TemplateMetadata(labels={"team": value}))
    assert paths(labelled) == ([] if valid else ["spec.worker.metadata.labels.team"])


# --- Pods -------------------------------------------------------------------------------------------------------------


def test_containers() -> None:
    assert said(cluster(worker={"containers": []})) == [
        ("spec.worker.spec.containers", "must have at least one container")
    ]
    assert said(cluster(scheduler={"containers": [{"name": "main"}]})) == [
        ("spec.scheduler.spec.containers[0].image", "is missing")
    ]
    assert paths(cluster(worker=container(name="Main_1"))) == ["spec.worker.spec.containers[0].name"]
    assert paths(cluster(worker={**POD, "initContainers": [{"name": "x"}]})) == [
        "spec.worker.spec.initContainers[0].image"
    ]


@pytest.mark.parametrize(
    ("pod", "path", "message"),
    [
        (
            {"containers": [*POD["containers"], *POD["containers"]]},
            "spec.worker.spec.containers[1]",
            "name 'main' is used twice",
        ),
        (
            container(env=[{"name": "A", "value": "1"}, {"name": "B"}, {"name": "A"}]),
            "spec.worker.spec.containers[0].env[2]",
            "name 'A' is used twice",
        ),
        (
            container(ports=[{"containerPort": 1}, {"containerPort": 1, "protocol": "TCP", "name": "b"}]),
            "spec.worker.spec.containers[0].ports[1]",
            "containerPort 1, protocol 'TCP' is used twice",
        ),
        (
            {**POD, "volumes": [{"name": "v"}, {"name": "v"}]},
            "spec.worker.spec.volumes[1]",
            "name 'v' is used twice",
        ),
    ],
)
def test_keys_of_lists_are_unique(pod: Any, path: str, message: str) -> None:
    assert said(cluster(worker=pod)) == [(path, message)]


def test_lists_without_keys_may_repeat() -> None:
    assert not problems(
        cluster(worker=container(args=["-v", "-v"], ports=[{"containerPort": 1}, {"containerPort": 2}]))
    )


def test_mounts_need_their_volume() -> None:
    mounts = [{"name": "data", "mountPath": "/data"}]
    assert said(cluster(worker=container(volumeMounts=mounts))) == [
        ("spec.worker.spec.containers[0].volumeMounts[0].name", "there is no volume 'data'")
    ]
    assert not problems(cluster(worker={**container(volumeMounts=mounts), "volumes": [{"name": "data"}]}))


@pytest.mark.parametrize(
    ("resources", "path", "message"),
    [
        ({"requests": {"memory": "4GB"}}, "requests.memory", "'4GB' is not a Kubernetes quantity such as"),
        (
            {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}},
            "requests.cpu",
            "must not be greater than the limit (2 > 1500m)",
        ),
    ],
)
def test_amounts(resources: Any, path: str, message: str) -> None:
    ((found, explanation),) = said(cluster(worker=container(resources=resources)))
    assert found == f"spec.worker.spec.containers[0].resources.{path}"
    assert message in explanation


def test_requests_up_to_the_limit() -> None:
    resources = {"requests": {"cpu": "1000m", "memory": "1Gi"}, "limits": {"cpu": 1, "nvidia.com/gpu": 1}}
    assert not problems(cluster(worker=container(resources=resources)))


@pytest.mark.parametrize("policy", ["Never", "OnFailure"])
def test_restart_policies(policy: str) -> None:
    """The scheduler runs in a Deployment, the runner in a Job."""
    assert paths(cluster(scheduler={**POD, "restartPolicy": policy})) == ["spec.scheduler.spec.restartPolicy"]
    assert not problems(cluster(worker={**POD, "restartPolicy": policy}))
    assert not problems(job(runner={**POD, "restartPolicy": policy}))
    assert paths(job(runner={**POD, "restartPolicy": "Always"})) == ["spec.job.spec.restartPolicy"]
    assert paths(cluster(scheduler={**POD, "activeDeadlineSeconds": 5})) == [
        "spec.scheduler.spec.activeDeadlineSeconds"
    ]


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_bounds() -> None:
    assert said(autoscaler(3, 2)) == [("spec.minimum", "must not be greater than spec.maximum (3 > 2)")]


@pytest.mark.parametrize(("amount", "valid"), [(0, True), (3, True), ("25%", True), (-1, False), ("25", False)])
def test_percentages(amount: Any, valid: bool) -> None:
    strategy = UpdateStrategy(rolling_update=RollingUpdate(max_surge=amount))
    found = paths(cluster(update_strategy=strategy))
    assert found == ([] if valid else ["spec.worker.updateStrategy.rollingUpdate.maxSurge"])


def test_mistakes_in_a_job_are_found_in_all_its_pods() -> None:
    bad: Any = {"containers": [{"name": "main"}]}
    spec = DaskJobSpec(cluster=JobCluster(spec=cluster(scheduler=bad, worker=bad).spec), job=JobTemplate(spec=bad))
    assert paths(DaskJob(metadata={"name": "a"}, spec=spec)) == [
        "spec.cluster.spec.scheduler.spec.containers[0].image",
        "spec.cluster.spec.worker.spec.containers[0].image",
        "spec.job.spec.containers[0].image",
    ]
