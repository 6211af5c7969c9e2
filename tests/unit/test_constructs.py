"""The four kinds as constructs: what they write, and what they refuse."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from tests.support.constructs import JsonPatch, chart, errors, only, synth

from dask_constructs import DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup, problems
from dask_crds.kubernetes import PodSpec
from dask_crds.model import (
    DaskAutoscalerSpec,
    DaskClusterSpec,
    DaskJobSpec,
    DaskWorkerGroupSpec,
    JobCluster,
    JobTemplate,
    RollingUpdate,
    Scheduler,
    UpdateStrategy,
    Worker,
)
from dask_resources import templates

IMAGE = "ghcr.io/dask/dask:2026.8.0"
POD: PodSpec = {"containers": [{"name": "main", "image": IMAGE}]}


def container(manifest: dict[str, Any], *path: str) -> dict[str, Any]:
    """The first container of the Pod at a path below ``spec``."""
    node = manifest["spec"]
    for field in path:
        node = node[field]
    first: dict[str, Any] = node["spec"]["containers"][0]
    return first


# --- the short form ---------------------------------------------------------------------------------------------------


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


# --- worker groups ----------------------------------------------------------------------------------------------------


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
    assert errors(c) == ["[test/cluster/default] metadata.name: 'a-default' is the default group of 'a'"]


# --- autoscalers ------------------------------------------------------------------------------------------------------


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
    """The minimum is stated all the same: what Git leaves out, others may change."""
    c = chart()
    DaskCluster(c, "cluster", name="a", image=IMAGE).autoscale()
    DaskAutoscaler.from_spec(c, "b", spec=DaskAutoscalerSpec(cluster="b"), name="b")
    assert [manifest["spec"] for manifest in synth(c)[1:]] == [
        {"cluster": "a", "minimum": 0},
        {"cluster": "b", "minimum": 0},
    ]


def test_a_number_of_workers_has_one_owner() -> None:
    c = chart()
    DaskCluster(c, "cluster", image=IMAGE, workers=3).autoscale(minimum=0, maximum=9)
    assert errors(c) == ["[test/cluster/autoscaler] test/cluster states 3 workers; leave that to the autoscaler"]


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job() -> None:
    c = chart()
    DaskJob(c, "job", name="report", image=IMAGE, command=["python3", "-m", "report"], workers=4, retries=1)
    manifest = only(c)
    assert manifest["metadata"] == {"name": "report"}
    assert container(manifest, "job")["args"] == ["python3", "-m", "report"]
    assert manifest["spec"]["cluster"]["spec"]["worker"]["replicas"] == 4
    assert manifest["spec"]["backoffLimit"] == 1


def test_a_job_that_runs_once_is_named_after_its_content() -> None:
    def name(**options: Any) -> str:
        return DaskJob(chart(), "job", image=IMAGE, command=["true"], run_once=True, **options).name

    assert name() == name()
    assert name().startswith("job-")
    assert name(name="report").startswith("report-")
    assert len({name(), name(memory="4Gi"), name(env={"DAY": "1"})}) == 3
    assert name() == name(labels={"team": "a"}), "metadata is no reason to run again"


# --- the exact form ---------------------------------------------------------------------------------------------------


def test_the_exact_form_writes_what_the_spec_says() -> None:
    c = chart()
    cluster = DaskClusterSpec(
        scheduler=Scheduler(spec=POD),
        worker=Worker(spec=POD, replicas=2, update_strategy=UpdateStrategy(rolling_update=RollingUpdate(max_surge=1))),
        idle_timeout=60,
    )
    DaskCluster.from_spec(c, "c", spec=cluster, name="c", labels={"team": "a"})
    DaskWorkerGroup.from_spec(c, "g", spec=DaskWorkerGroupSpec(cluster="c", worker=Worker(spec=POD)), name="g")
    job = DaskJobSpec(cluster=JobCluster(spec=cluster), job=JobTemplate(spec=POD), run_id="1")
    DaskJob.from_spec(c, "j", spec=job, name="j")
    DaskAutoscaler.from_spec(c, "a", spec=DaskAutoscalerSpec(cluster="c", minimum=1, maximum=2), name="a")
    expected = {
        "scheduler": {"spec": POD},
        "worker": {"spec": POD, "replicas": 2, "updateStrategy": {"rollingUpdate": {"maxSurge": 1}}},
        "idleTimeout": 60,
    }
    assert [manifest["spec"] for manifest in synth(c)] == [
        expected,
        {"cluster": "c", "worker": {"spec": POD}},
        {"cluster": {"spec": expected}, "job": {"spec": POD}, "runId": "1"},
        {"cluster": "c", "minimum": 1, "maximum": 2},
    ]
    assert synth(c)[0]["metadata"] == {"name": "c", "labels": {"team": "a"}}


def test_the_exact_form_has_the_methods_of_the_short_one() -> None:
    c = chart()
    spec = DaskClusterSpec(scheduler=Scheduler(spec=POD), worker=Worker(spec=POD))
    cluster = DaskCluster.from_spec(c, "c", spec=spec, name="c")
    assert isinstance(cluster, DaskCluster)
    cluster.add_worker_group("big").autoscale(minimum=0, maximum=1)
    assert [manifest["metadata"]["name"] for manifest in synth(c)] == ["c", "c-big", "c-big"]
    assert container(synth(c)[1], "worker")["image"] == IMAGE


# --- escape hatches ---------------------------------------------------------------------------------------------------


def test_every_pod_can_be_changed() -> None:
    c = chart()
    DaskJob(
        c,
        "job",
        image=IMAGE,
        command=["true"],
        scheduler_pod=lambda pod: {**pod, "priorityClassName": "high"},
        worker_pod={"tolerations": [{"key": "gpu", "operator": "Exists"}]},
        runner_pod={"containers": [{"name": "job", "env": [{"name": "A", "value": "1"}]}]},
    )
    spec = only(c)["spec"]
    assert spec["cluster"]["spec"]["scheduler"]["spec"]["priorityClassName"] == "high"
    assert spec["cluster"]["spec"]["worker"]["spec"]["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert {"name": "A", "value": "1"} in spec["job"]["spec"]["containers"][0]["env"]


def test_a_json_patch_has_the_last_word_and_is_checked() -> None:
    c = chart()
    cluster = DaskCluster(c, "cluster", image=IMAGE)
    cluster.api_object.add_json_patch(JsonPatch.add("/spec/suspend", True))
    assert only(c)["spec"]["suspend"] is True
    cluster.api_object.add_json_patch(JsonPatch.add("/spec/suspended", True))
    assert errors(c) == ["[test/cluster] spec.suspended: unknown field, did you mean 'suspend'?"]


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_all_mistakes_are_reported_at_once_with_path_and_field() -> None:
    c = chart()
    DaskCluster(c, "long", name="a" * 54, image=IMAGE)
    DaskCluster(c, "digit", name="1a", image=IMAGE, worker_pod={"nodeSelectors": {"a": "b"}})
    DaskAutoscaler(c, "bounds", cluster="a", minimum=5, maximum=3)
    DaskJob(c, "job", image=IMAGE, command=["true"], runner_pod={"restartPolicy": "Always"})
    wrong_type: Any = [1, 2]
    DaskJob(c, "command", image=IMAGE, command=wrong_type)
    DaskCluster(c, "many", image=IMAGE, workers=6_000_000)
    DaskCluster(c, "large", image=IMAGE, env={"SCRIPT": "x" * 2**20})
    found = errors(c)
    large = [line for line in found if line.startswith("[test/large]")]
    assert len(large) == 1
    assert large[0].startswith("[test/large] spec: has 2,0")
    assert [line for line in found if line not in large] == [
        "[test/long] metadata.name: must have at most 53 characters, has 54: the Service is named <name>-scheduler",
        "[test/digit] spec.worker.spec.nodeSelectors: unknown field, did you mean 'nodeSelector'?",
        "[test/digit] metadata.name: '1a' must be a DNS label that starts with a letter: the Service is named after it",
        "[test/bounds] spec.minimum: must not be greater than spec.maximum (5 > 3)",
        "[test/job] spec.job.spec.restartPolicy: must be Never or OnFailure: a runner runs to completion",
        "[test/command] spec.job.spec.containers[0].args[0]: must be of type string, not 1",
        "[test/command] spec.job.spec.containers[0].args[1]: must be of type string, not 2",
        "[test/many] spec.worker.replicas: 6000000 is greater than the maximum of 200000",
    ]


def test_a_bad_quantity_is_reported_with_path_and_argument() -> None:
    with pytest.raises(ValueError, match=r"^\[test/a\] memory: '4GB' is not a Kubernetes quantity"):
        DaskCluster(chart(), "a", image=IMAGE, memory="4GB")
    with pytest.raises(ValueError, match=r"^\[test/a\] scheduler_cores: 'x' is not"):
        DaskCluster(chart(), "a", image=IMAGE, scheduler_cores="x")


def test_unknown_arguments_are_refused_as_python_does() -> None:
    wrong: Any = {"worker": 3}
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'worker'; did you mean 'workers'\?"):
        DaskCluster(chart(), "a", image=IMAGE, **wrong)
    with pytest.raises(TypeError, match="unexpected keyword argument 'jupyter'"):
        DaskCluster(chart(), "a", image=IMAGE).add_worker_group("g", jupyter=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'image'"):
        DaskCluster(chart(), "a")  # type: ignore[call-arg]


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


# --- the package ------------------------------------------------------------------------------------------------------


def test_no_package_shadows_constructs_of_pypi() -> None:
    """A file ``constructs/__init__.py`` would break every synth that is run from the root of the repository."""
    assert not (Path(__file__).parents[2] / "constructs" / "__init__.py").exists()


def test_every_option_is_documented() -> None:
    """The docstrings below the fields are what editors show."""
    tree = ast.parse(Path(templates.__file__).read_text())
    undocumented = [
        f"{node.name}.{ast.unparse(field.target)}"
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for field, following in zip(node.body, [*node.body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign) and not isinstance(following, ast.Expr)
    ]
    assert not undocumented
