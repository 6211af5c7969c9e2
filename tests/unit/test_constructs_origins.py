"""A finding names the keywords that it comes from, whichever call they were in, whatever the fields are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.constructs import IMAGE, POD, chart, errors

from dask_constructs import DaskAutoscaler, DaskCluster, DaskCronJob, DaskJob, DaskWorkerGroup, Volume
from dask_crds.model import OnExitCodes, PodFailurePolicy, PodFailureRule

Chart = Any
JOB: dict[str, Any] = {"name": "j", "image": IMAGE, "command": ["true"]}
#: A worker whose program takes more memory than there is.
GREEDY: dict[str, Any] = {"worker_args": ["--memory-limit", "9GiB"]}
TOO_MUCH = "args: --memory-limit 9GiB exceeds the container's memory (2Gi)"


def cluster(c: Chart, **options: Any) -> DaskCluster:
    return DaskCluster(c, "it", name="c", image=IMAGE, **options)


def job(c: Chart, **options: Any) -> DaskJob:
    return DaskJob(c, "it", **JOB, **options)


def cron_job(c: Chart, **options: Any) -> DaskCronJob:
    return DaskCronJob(c, "it", namespace="n", schedule="@daily", **JOB, **options)


def group(c: Chart, **options: Any) -> DaskWorkerGroup:
    return DaskWorkerGroup(c, "it", cluster="c", image=IMAGE, **options)


EXIT: Any = PodFailurePolicy(
    rules=[PodFailureRule(action="FailJob", on_exit_codes=OnExitCodes(operator="In", values=[3], container_name="x"))]
)
RETRIED: Any = PodFailurePolicy(
    rules=[PodFailureRule(action="FailJob", on_exit_codes=OnExitCodes(operator="In", values=[3]))]
)


@pytest.mark.parametrize("construct", [cluster, job, cron_job, group], ids=lambda construct: construct.__name__)
@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        (GREEDY, "worker_args"),
        ({"worker_pod": {"volumes": [{"name": "tmp", "hostPath": {"path": "x/.."}}]}}, "worker_pod"),
        ({"max_surge": 0, "max_unavailable": 0}, "max_surge, max_unavailable"),
        ({"volumes": {"/d": {"name": "tmp", "nfs": {"server": "s", "path": "/"}}}}, "volumes"),
        ({"env": {"a=b": "x"}}, "env"),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}, "tolerations"),
        ({"labels": {"a": "b c"}}, "labels"),
        ({"annotations": {"a b": "c"}}, "annotations"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_pods_have_in_all_constructs(
    construct: Callable[..., object], options: dict[str, Any], keywords: str
) -> None:
    c = chart()
    construct(c, **options)
    found = errors(c)
    assert found
    assert [line for line in found if not line.startswith(f"[test/it] {keywords}")] == []


@pytest.mark.parametrize(
    ("construct", "options", "keywords"),
    [
        (job, {"workers": 2, "minimum_workers": 3}, "workers, minimum_workers"),
        (cron_job, {"workers": 2, "minimum_workers": 3}, "workers, minimum_workers"),
        (job, {"failure_policy": EXIT}, "failure_policy"),
        (
            job,
            {"failure_policy": RETRIED, "runner_pod": {"restartPolicy": "OnFailure"}},
            "failure_policy, runner_pod",
        ),
        (job, {"idle_action": "Suspend"}, "idle_action"),
        (cron_job, {"idle_action": "Suspend"}, "idle_action"),
        (cron_job, {"run_id": "1"}, "run_id"),
        (cluster, {"service_type": "ClusterIP", "service": {"externalTrafficPolicy": "Local"}}, "service"),
        (cluster, {"service": {"ports": [{"port": 1}, {"port": 1}]}}, "service"),
        (cluster, {"scheduler": {"labels": {"a": "b c"}}}, "scheduler"),
        (cluster, {"ipv6_only": True, "env": {"A": "b", "a=b": "c"}}, "env"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_fields_that_must_agree(construct: Callable[..., object], options: dict[str, Any], keywords: str) -> None:
    """(constructs finding 10) `minimum_workers > workers` was told of `spec.minimumReadyWorkers` alone."""
    c = chart()
    construct(c, **options)
    found = errors(c)
    assert [line for line in found if not line.startswith(f"[test/it] {keywords}: spec.")] == []


def test_what_later_calls_have_said() -> None:
    c = chart()
    one = job(c, workers=3)
    one.add_worker_group("gpu", **GREEDY)
    one.add_worker_group("big", workers=2)
    one.autoscale(minimum=1)
    one.autoscale("big", minimum=5, maximum=2)
    at = "spec.cluster.spec"
    left_out = "must be left out: "
    assert sorted(errors(c)) == [
        f"[test/it] minimum, maximum: {at}.workerGroups[1].autoscaler.minimum: must not be greater than "
        f"{at}.workerGroups[1].autoscaler.maximum (5 > 2)",
        f"[test/it] workers: {at}.worker.replicas: {left_out}{at}.autoscaler decides the number of workers",
        f"[test/it] workers: {at}.workerGroups[1].replicas: {left_out}{at}.workerGroups[1].autoscaler decides the "
        "number of workers",
    ]


def test_the_command_line_of_a_group_that_a_job_has_got() -> None:
    c = chart()
    job(c).add_worker_group("gpu", **GREEDY)
    assert errors(c) == [f"[test/it] worker_args: spec.cluster.spec.workerGroups[0].spec.containers[0].{TOO_MUCH}"]


@pytest.mark.parametrize("construct", [DaskCluster, DaskJob, DaskCronJob])
def test_the_command_lines_of_all_groups_are_looked_at(construct: Any) -> None:
    """(constructs finding 10) Also of those that a manifest states, and in what runs on a schedule."""
    container = {"name": "worker", "image": IMAGE, "args": ["dask-worker", "--nthreads", "0"]}
    spec: Any = {
        "scheduler": {"spec": POD},
        "worker": {"spec": POD},
        "workerGroups": [{"name": "a", "spec": POD}, {"name": "b", "spec": {"containers": [container]}}],
    }
    path = "spec.workerGroups[1].spec"
    if construct is not DaskCluster:
        spec = {"cluster": {"spec": spec}, "job": {"spec": POD}}
        path = f"spec.cluster.{path}"
    c = chart(namespace="n")
    construct.from_spec(c, "it", spec=spec, name="x", **({"schedule": "@daily"} if construct is DaskCronJob else {}))
    (found,) = errors(c)
    assert found.startswith(f"[test/it] {path}.containers[0].args: --nthreads 0 takes as many threads")


def test_a_finding_about_others_names_keywords_too() -> None:
    c = chart(namespace="n")
    one = cluster(c)
    DaskCluster(c, "twin", name="c", image=IMAGE)
    DaskAutoscaler(c, "elsewhere", name="e", cluster=one, namespace="other")
    DaskWorkerGroup(c, "default", name="c-default", cluster="c", image=IMAGE)
    assert [line.partition(": must")[0].partition(": test")[0].partition(": 'c")[0] for line in errors(c)] == [
        "[test/twin] name: metadata.name",
        "[test/elsewhere] namespace: metadata.namespace",
        "[test/default] name: metadata.name",
    ]


def test_what_no_keyword_has_said_is_told_of_its_field() -> None:
    """A patch, for instance; and a function that counts on what another keyword has made is no hindrance."""
    import cdk8s

    c = chart()
    one = cluster(
        c,
        volumes={"/d": Volume.claim("x")},
        worker_pod=lambda pod: {**pod, "priorityClassName": pod["volumes"][1]["name"]},
        idle_timeout=5,
    )
    one.api_object.add_json_patch(cdk8s.JsonPatch.add("/spec/idleTimeout", -1))
    assert errors(c) == ["[test/it] spec.idleTimeout: -1 is less than the minimum of 0"]
