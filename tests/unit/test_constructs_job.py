"""A job as a construct, in its short form."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.constructs import IMAGE, chart, container, errors, only

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


def test_a_job_has_several_groups_and_autoscalers_in_its_manifest() -> None:
    """(constructs, program 27) They start and end with it."""
    c = chart()
    job = DaskJob(c, "train", name="train", image=IMAGE, command=["true"], env={"MODE": "full"})
    gpus = job.add_worker_group("gpu", gpus=1, memory="16Gi", image="registry/gpu:1", workers=2)
    job.add_worker_group("big", memory="64Gi", worker_resources={"BIG": 1})
    job.autoscale(maximum=8)
    job.autoscale("big", minimum=1, maximum=4, scale_down_window=300)
    gpus.schedule_on(node_selector={"pool": "gpu"})
    spec = only(c)["spec"]["cluster"]["spec"]
    gpu, big = spec["workerGroups"]
    assert spec["autoscaler"] == {"minimum": 0, "maximum": 8}
    assert (gpu["name"], gpu["replicas"], gpu["spec"]["nodeSelector"]) == ("gpu", 2, {"pool": "gpu"})
    assert gpu["spec"]["containers"][0]["image"] == "registry/gpu:1"
    assert "replicas" not in big
    assert big["autoscaler"] == {
        "minimum": 1,
        "maximum": 4,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
    }
    for group in (gpu, big):
        assert {"name": "MODE", "value": "full"} in group["spec"]["containers"][0]["env"]
    assert big["spec"]["containers"][0]["image"] == IMAGE


def test_mistakes_in_further_groups_are_told() -> None:
    c = chart()
    job = DaskJob(c, "train", name="train", image=IMAGE, command=["true"])
    job.add_worker_group("Big", memory="64Gb", workers="2")  # type: ignore[arg-type]
    job.add_worker_group("twice")
    job.add_worker_group("twice")
    found = errors(c)
    assert "[test/train] memory: '64Gb' is not a Kubernetes quantity such as 500m, 1.5 or 4Gi" in found
    assert "[test/train] workers: must be a whole number from 0 to 200000, not '2'; write 2" in found
    assert any("spec.cluster.spec.workerGroups[0].name" in line for line in found)
    assert any("is the name of spec.cluster.spec.workerGroups[1] already" in line for line in found)
    with pytest.raises(ValueError, match="there is no group 'none': call add_worker_group first"):
        job.autoscale("none")
    once = DaskJob(c, "once", image=IMAGE, command=["true"], run_once=True)
    with pytest.raises(ValueError, match="run_once"):
        once.add_worker_group("late")
    with pytest.raises(ValueError, match="run_once"):
        once.autoscale()
