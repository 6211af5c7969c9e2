"""What the four kinds as constructs have in common: the exact form, escape hatches, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.constructs import IMAGE, POD, JsonPatch, chart, container, errors, only, synth

from dask_constructs import (
    DaskAutoscaler,
    DaskCluster,
    DaskCronJob,
    DaskExposure,
    DaskJob,
    DaskOperator,
    DaskTenant,
    DaskWorkerGroup,
    LocalQueue,
)

import cdk8s  # isort: skip - after dask_constructs, which finds Node.js for it
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
    DaskAutoscaler.from_spec(c, "a", spec=DaskAutoscalerSpec(cluster="d", minimum=1, maximum=2), name="a")
    expected = {
        "scheduler": {"spec": POD},
        "worker": {"spec": POD, "replicas": 2, "updateStrategy": {"rollingUpdate": {"maxSurge": 1}}},
        "idleTimeout": 60,
    }
    assert [manifest["spec"] for manifest in synth(c)] == [
        expected,
        {"cluster": "c", "worker": {"spec": POD}},
        {"cluster": {"spec": expected}, "job": {"spec": POD}, "runId": "1"},
        {"cluster": "d", "minimum": 1, "maximum": 2},
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


def test_a_json_patch_has_the_last_word_and_is_checked() -> None:
    c = chart()
    cluster = DaskCluster(c, "cluster", image=IMAGE)
    cluster.api_object.add_json_patch(JsonPatch.add("/spec/suspend", True))
    assert only(c)["spec"]["suspend"] is True
    cluster.api_object.add_json_patch(JsonPatch.add("/spec/suspended", True))
    assert errors(c) == ["[test/cluster] spec.suspended: unknown field, did you mean 'suspend'?"]


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
    assert large[0].startswith("[test/large] env: spec: has 2,0")
    assert [line for line in found if line not in large] == [
        "[test/long] name: metadata.name: must have at most 53 characters, has 54: "
        "the Service is named <name>-scheduler",
        "[test/digit] worker_pod.nodeSelectors: unknown field, did you mean 'nodeSelector'?",
        "[test/digit] name: metadata.name: '1a' must be a DNS label that starts with a letter: "
        "the Service is named after it",
        "[test/bounds] minimum, maximum: spec.minimum: must not be greater than spec.maximum (5 > 3)",
        "[test/job] runner_pod: spec.job.spec.restartPolicy: must be Never or OnFailure: a runner runs to completion",
        "[test/command] command[0]: must be text, not 1; write '1'",
        "[test/command] command[1]: must be text, not 2; write '2'",
        "[test/many] workers: must be a whole number from 0 to 200000, not 6000000",
    ]


def test_unknown_arguments_are_refused_as_python_does() -> None:
    wrong: Any = {"workerss": 3}
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'workerss'; did you mean 'workers'\?"):
        DaskCluster(chart(), "a", image=IMAGE, **wrong)
    with pytest.raises(TypeError, match="unexpected keyword argument 'jupyter'"):
        DaskCluster(chart(), "a", image=IMAGE).add_worker_group("g", jupyter=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing keyword argument 'image'"):
        DaskCluster(chart(), "a")  # type: ignore[call-arg]


@pytest.mark.parametrize("once", [False, True])
def test_names_that_are_made_up_fit(once: bool) -> None:
    """(constructs finding 15) cdk8s makes them of up to 63 characters, of which not every kind takes so many."""
    c = cdk8s.Chart(cdk8s.Testing.app(), "analytics-production-europe-west-team-data-platform", namespace="team")
    cluster = DaskCluster(c, "cluster-with-a-long-name-of-its-own", image=IMAGE)
    group = DaskWorkerGroup(c, "group-with-a-long-name-of-its-own", cluster=cluster, image=IMAGE)
    job = DaskJob(c, "job-with-a-long-name-of-its-own", image=IMAGE, command=["true"], run_once=once)
    nightly = DaskCronJob(c, "nightly-with-a-long-name", schedule="@daily", image=IMAGE, command=["true"])
    DaskAutoscaler(c, "autoscaler-with-a-long-name-of-its-own", cluster=cluster, worker_group=group)
    assert len(synth(c)) == 9
    assert len(cluster.name) <= 53
    assert len(job.name) <= 53
    assert len(nightly.name) <= 42
    assert len({cluster.name, job.name, nightly.name, group.name}) == 4


@pytest.mark.parametrize(
    ("construct", "options", "told"),
    [
        (DaskTenant, {"namespace": "Team A"}, "namespace: 'Team A' must be a DNS label"),
        (DaskTenant, {"namespace": "team\n"}, r"namespace: 'team\n' must be a DNS label"),
        (DaskTenant, {"namespace": "a", "labels": {"b c": "d"}}, "metadata.labels: 'b c' is not a key"),
        (DaskTenant, {"namespace": "a", "deployer": "B c"}, "metadata.name: 'B c' must be a DNS name"),
        (DaskTenant, {"namespace": "a", "client_namespaces": ["B c"]}, "client_namespaces[0]: 'B c' must be a DNS"),
        (DaskOperator, {"namespaces": ["a", "B c"]}, "namespaces[1]: 'B c' must be a DNS label"),
        (DaskOperator, {"namespace": "x" * 64}, "namespace: 'xxxxxxxxxxxx...xxxxxxxxxxxxx' must be a DNS label"),
        (DaskOperator, {"priority_class": "B c"}, "priority_class: 'B c' must be a DNS name"),
        (DaskOperator, {"cluster_domain": "B c"}, "cluster_domain: 'B c' must be a DNS name"),
        (DaskExposure, {"cluster": "a", "host": "b.c", "name": "D e"}, "name: 'D e' must be a DNS name"),
        (DaskExposure, {"cluster": "a", "host": "b.c", "tls_secret": "D_e"}, "tls_secret: 'D_e' must be a DNS name"),
        (DaskExposure, {"cluster": "a", "host": "b.c", "annotations": {"d e": ""}}, "metadata.annotations: 'd e'"),
        (LocalQueue, {"name": "a", "cluster_queue": "b", "namespace": "C d"}, "namespace: 'C d' must be a DNS label"),
    ],
)  # fmt: skip
def test_names_that_no_object_can_have_are_told_of_every_construct(construct: Any, options: Any, told: str) -> None:
    c = chart()
    construct(c, "x", **options)
    (found,) = errors(c)
    assert found.startswith(f"[test/x] {told}")


def test_a_namespace_may_be_named_twice() -> None:
    c, again = chart(), chart()
    DaskOperator(c, "x", namespaces=["a", "b", "a"])
    DaskOperator(again, "x", namespaces=["a", "b"])
    assert synth(c) == synth(again)
