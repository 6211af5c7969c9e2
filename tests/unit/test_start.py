"""A DaskJob of a CronJob: what is created, when it is done, and what is said meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dask_controller.core.scheduled_job import Owner, Verdict, belongs_to, dask_job, verdict
from dask_crds.model import DaskJob, parse

OWNER = Owner("team", "report-29400000", "uid-1")
CONTAINERS: dict[str, Any] = {"spec": {"containers": [{"name": "c", "image": "x:1"}]}}
TEMPLATE: dict[str, Any] = {
    "kind": "DaskJob",
    "metadata": {"labels": {"team": "data"}},
    "spec": {"job": CONTAINERS, "cluster": {"spec": {"scheduler": CONTAINERS, "worker": CONTAINERS}}},
}


def test_it_is_named_as_its_job_and_goes_with_it() -> None:
    made = dask_job(TEMPLATE, OWNER)
    assert made["metadata"]["name"] == "report-29400000"
    assert made["metadata"]["labels"] == {"team": "data"}
    (reference,) = made["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["uid"]) == ("Job", "uid-1")
    assert made == dask_job(TEMPLATE, OWNER), "again after a crash, it is the same"
    assert belongs_to(made, OWNER)
    assert not belongs_to(made, Owner("team", "report-29400000", "uid-2"))
    assert not belongs_to({"metadata": {}}, OWNER)


def job(**status: Any) -> DaskJob:
    value = parse({**dask_job(TEMPLATE, OWNER), "status": status})
    assert isinstance(value, DaskJob)
    return value


def true(type: str, reason: str, message: str = "") -> dict[str, Any]:
    times = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {"type": type, "status": "True", "reason": reason, "message": message, **times}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, Verdict("waiting for the operator", None)),
        ({"jobStatus": "ClusterCreated"}, Verdict("ClusterCreated", None)),
        (
            {
                "jobStatus": "ClusterCreated",
                "conditions": [{**true("Ready", "Unschedulable", "no CPU"), "status": "False"}],
            },
            Verdict("ClusterCreated, no CPU", None),
        ),
        (
            {
                "jobStatus": "Running",
                "progress": {
                    "tasksTotal": 20,
                    "tasksDone": 8,
                    "percent": 40,
                    "workers": 2,
                    "lastUpdateTime": "2026-01-01T00:00:00Z",
                },
            },
            Verdict("Running, 40 % of 20 tasks", None),
        ),
        (
            {"jobStatus": "Successful", "conditions": [true("Complete", "Completed")]},
            Verdict("Successful: Completed", True),
        ),
        (
            {"jobStatus": "Failed", "conditions": [true("Failed", "DeadlineExceeded", "too slow")]},
            Verdict("Failed: DeadlineExceeded: too slow", False),
        ),
    ],
)
def test_it_is_done_when_the_stored_status_says_so(status: dict[str, Any], expected: Verdict) -> None:
    assert verdict(job(**status)) == expected


def test_outside_of_a_job_it_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("kind: DaskJob")
    command = [sys.executable, "-m", "dask_controller", "start", str(tmp_path / "job.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs the environment variables POD_NAMESPACE, JOB_NAME, JOB_UID" in done.stderr
    assert "Traceback" not in done.stderr
