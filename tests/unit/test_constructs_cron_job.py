"""Jobs on a schedule, as a construct."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.support.constructs import Manifest, chart, errors, synth

from dask_constructs import DaskCronJob, DaskJob, problems
from dask_controller.shell.main import arguments
from dask_controller.shell.scheduled_job import FAILED, OWNER, REFUSED
from dask_crds.model import DaskJobSpec, parse

IMAGE = "registry.example.com/report:1"
PROGRAM: dict[str, Any] = {"image": IMAGE, "command": ["python", "-m", "report"], "workers": 8}


def manifests(**options: Any) -> dict[str, Manifest]:
    c = chart(namespace="team")
    DaskCronJob(c, "report", **({"schedule": "0 6 * * 1-5"} | PROGRAM | options))
    return {m["kind"]: m for m in synth(c)}


def dask_job(found: dict[str, Manifest]) -> Manifest:
    (text,) = found["ConfigMap"]["data"].values()
    return yaml.safe_load(text)


def wrong(**options: Any) -> list[str]:
    c = chart(namespace=options.pop("chart_namespace", "team"))
    DaskCronJob(c, "report", **({"schedule": "@daily"} | PROGRAM | options))
    return [line.partition("] ")[2] for line in errors(c)]


def test_its_jobs_are_what_the_construct_of_a_job_makes() -> None:
    c = chart()
    DaskJob(c, "report", **PROGRAM, deadline=3600)
    (once,) = synth(c)
    scheduled = dask_job(manifests(deadline=3600))
    assert scheduled["spec"] == once["spec"]
    assert problems({**scheduled, "metadata": {"name": "x"}}) == []


def test_people_find_the_fields_of_a_cron_job() -> None:
    spec = manifests(time_zone="Europe/Vienna", starting_deadline=600, suspend=True)["CronJob"]["spec"]
    spec.pop("jobTemplate")
    assert spec == {
        "schedule": "0 6 * * 1-5",
        "timeZone": "Europe/Vienna",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 600,
        "suspend": True,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    }


def test_the_starter_may_create_and_read_jobs_of_its_namespace_and_nothing_else() -> None:
    found = manifests()
    assert found["Role"]["rules"] == [
        {"apiGroups": ["kubernetes.dask.org"], "resources": ["daskjobs"], "verbs": ["create", "get"]}
    ]
    assert found["RoleBinding"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "test-report-starter", "namespace": "team"}
    ]
    assert set(manifests(starter_service_account="dask-job-starter")) == {"ConfigMap", "CronJob"}


def test_the_starters_pod_and_the_operators_program_agree() -> None:
    found = manifests()
    job = found["CronJob"]["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    (container,), (volume, _) = pod["containers"], pod["volumes"]
    options = arguments().parse_args(container["args"])
    assert options.command == "start"
    assert str(options.file).removeprefix(container["volumeMounts"][0]["mountPath"] + "/") in found["ConfigMap"]["data"]
    assert [variable["name"] for variable in container["env"]] == list(OWNER)
    assert volume["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    assert pod["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"]
    (final,) = [rule["onExitCodes"]["values"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert final == sorted([REFUSED, FAILED])


def test_labels_are_passed_on() -> None:
    found = manifests(labels={"team": "data"})
    assert found["CronJob"]["metadata"]["labels"] == dask_job(found)["metadata"]["labels"] == {"team": "data"}


def starter(**options: Any) -> Manifest:
    template: Manifest = manifests(**options)["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]
    return template


def test_the_starter_is_let_where_the_runner_is() -> None:
    """Constructs finding 8: a mirrored operator's image could not be pulled."""
    gpu = {"key": "pool", "operator": "Exists"}
    change = {"tolerations": [gpu], "nodeSelector": {"pool": "batch"}}
    template = starter(
        image_pull_secrets=["mirror"], runner_pod=change, labels={"team": "data"}, annotations={"a": "b"}
    )
    assert template["spec"]["imagePullSecrets"] == [{"name": "mirror"}]
    assert template["spec"]["tolerations"] == [gpu]
    assert template["spec"]["nodeSelector"] == {"pool": "batch"}
    assert template["metadata"] == {
        "labels": {"team": "data", "dask.org/component": "job-starter"},
        "annotations": {"a": "b", "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "tmp"},
    }


def test_the_starter_has_no_labels_by_which_tools_track_or_that_make_it_another_component() -> None:
    labels = {"argocd.argoproj.io/instance": "app", "dask.org/component": "worker"}
    assert starter(labels=labels)["metadata"]["labels"] == {"dask.org/component": "job-starter"}


def test_what_the_starter_requests_is_its_users_to_say() -> None:
    (container,) = starter()["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "10m", "memory": "64Mi"},
        "limits": {"cpu": "1", "memory": "256Mi"},
    }
    resources: Any = {"requests": {"cpu": "20m"}, "limits": {"memory": "128Mi", "nvidia.com/gpu": 1}}
    (container,) = starter(starter_resources=resources)["spec"]["containers"]
    assert container["resources"] == resources
    told = wrong(starter_resources={"requests": {"cpu": 0.5}, "limit": {}})
    assert [line.partition(":")[0] for line in told] == [
        "starter_resources.requests.cpu",
        "starter_resources.limit",
    ]


def test_the_last_word_on_the_starter_is_its_users() -> None:
    """Constructs finding 8."""
    change = {"priorityClassName": "low", "containers": [{"name": "starter", "resources": {"requests": {"cpu": "1"}}}]}
    pod = starter(starter_pod=change)["spec"]
    assert pod["priorityClassName"] == "low"
    assert pod["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "64Mi"}
    assert pod["containers"][0]["args"][0] == "start"


def test_people_ask_it_for_its_name_and_namespace() -> None:
    """Constructs finding 8."""
    c = chart(namespace="team")
    named = DaskCronJob(c, "a", name="report", namespace="other", schedule="@daily", **PROGRAM)
    made_up = DaskCronJob(c, "b", schedule="@daily", **PROGRAM)
    assert (named.name, named.namespace) == ("report", "other")
    assert (made_up.name, made_up.namespace) == ("test-b", "team")


def test_the_exact_form() -> None:
    spec = parse({**dask_job(manifests()), "metadata": {"name": "x"}}).spec
    assert isinstance(spec, DaskJobSpec)
    c = chart(namespace="team")
    DaskCronJob.from_spec(c, "report", schedule="@daily", spec=spec)
    exact = {m["kind"]: m for m in synth(c)}
    assert dask_job(exact)["spec"]["job"] == dask_job(manifests())["spec"]["job"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "61 * * * *"}, "schedule: '61' is no minute of a CronJob"),
        ({"schedule": "0 0 6 * * *"}, "schedule: '0 0 6 * * *' must have five fields"),
        ({"schedule": "@dayly"}, "schedule: '@dayly' is not one of @yearly"),
        ({"schedule": "TZ=UTC 0 6 * * *"}, "schedule: Kubernetes takes no time zone here; use time_zone"),
        ({"time_zone": "Europe/Wien"}, "time_zone: 'Europe/Wien' is not known"),
        (
            {"concurrency_policy": "Queue"},
            "concurrency_policy: must be one of 'Allow', 'Forbid', 'Replace', not 'Queue'",
        ),
        ({"failed_history": -1}, "failed_history: must be a whole number from 0 to 2147483647, not -1"),
        ({"name": "x" * 43}, "name: metadata.name: must have at most 42 characters, has 43"),
        ({"run_id": "1"}, "run_id: spec.runId: each time is a DaskJob of its own, which runs once"),
        ({"chart_namespace": None}, "namespace: is missing here and in the chart"),
        ({"deadline": 0}, "deadline: spec.activeDeadlineSeconds: "),
    ],
)
def test_mistakes_are_told_at_synth(options: dict[str, Any], message: str) -> None:
    (found,) = wrong(**options)
    assert found.startswith(message)


def test_good_schedules() -> None:
    for schedule in ("*/5 * * * *", "@hourly", "@every 90m", "0 0 1,15 * ?", "0 6 * JAN-MAR MON"):
        assert manifests(schedule=schedule)["CronJob"]["spec"]["schedule"] == schedule


def test_to_suspend_the_schedule_suspends_no_job() -> None:
    """The two constructs have a keyword of that name."""
    found = manifests(suspend=True, worker={"node_selector": {"a": "b"}})
    spec = dask_job(found)["spec"]
    assert found["CronJob"]["spec"]["suspend"] is True
    assert "suspend" not in spec
    assert spec["cluster"]["spec"]["worker"]["spec"]["nodeSelector"] == {"a": "b"}
