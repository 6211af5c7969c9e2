"""A job as a construct, in its short form."""

from __future__ import annotations

from typing import Any

from tests.support.constructs import IMAGE, chart, container, only

from dask_constructs import DaskJob


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
    assert name().startswith("test-job-")
    assert name(name="report").startswith("report-")
    assert len({name(), name(memory="4Gi"), name(env={"DAY": "1"})}) == 3
    assert name() == name(labels={"team": "a"}), "metadata is no reason to run again"


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
