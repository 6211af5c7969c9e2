"""What Flyte's Dask plugin sends and reads, on a real node.

As in flyteplugins/go/tasks/plugins/k8s/dask/dask.go, commit 007d2e67 of flyteorg/flyte.
"""

from __future__ import annotations

import copy
import json
import time
from datetime import datetime
from typing import Any

import pytest
from tests.e2e.support import DASK_IMAGE, Kubectl, eventually
from tests.support.patience import Patience

pytestmark = pytest.mark.node

NAME = "f9a8b7c6d5e4f-n0-0"  # as Flyte generates them
#: Of `DaskJobStatus` in the Go client that the plugin decodes with.
GO_STATUSES = {"JobCreated", "ClusterCreated", "Running", "Successful", "Failed"}


def dask_job(code: str) -> dict[str, Any]:
    """The JSON of the Go structs: `createSchedulerSpec`, `createWorkerSpec`, `createJobSpec`, nulls and all."""
    container = {
        "name": NAME,
        "image": DASK_IMAGE,
        "args": ["python3", "-c", code],
        "env": [{"name": "FLYTE_INTERNAL_EXECUTION_ID", "value": "f9a8b7c6d5e4f"}],
        "resources": {"limits": {"cpu": "1", "memory": "500Mi"}, "requests": {"cpu": "20m", "memory": "100Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    metadata = {
        "creationTimestamp": None,
        "labels": {"execution-id": "f9a8b7c6d5e4f", "interruptible": "false", "node-id": "n0"},
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
    }

    def pod(restart_policy: str, **changes: Any) -> dict[str, Any]:
        return {"containers": [{**copy.deepcopy(container), **changes}], "restartPolicy": restart_policy}

    worker_args = ["dask-worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "1", "--memory-limit", "500Mi"]
    scheduler = pod(
        "Always",
        name="scheduler",
        args=["dask-scheduler"],
        ports=[
            {"name": "tcp-comm", "containerPort": 8786, "protocol": "TCP"},
            {"name": "dashboard", "containerPort": 8787, "protocol": "TCP"},
        ],
        readinessProbe={
            "httpGet": {"port": "dashboard"},
            "initialDelaySeconds": 5,
            "periodSeconds": 5,
            "failureThreshold": 30,
        },
    )
    service = {
        "type": "NodePort",
        "selector": {"dask.org/cluster-name": NAME, "dask.org/component": "scheduler"},
        "ports": [
            {"name": "tcp-comm", "protocol": "TCP", "port": 8786, "targetPort": "tcp-comm"},
            {"name": "dashboard", "protocol": "TCP", "port": 8787, "targetPort": "dashboard"},
        ],
    }
    cluster = {
        "metadata": metadata,
        "spec": {
            "worker": {"replicas": 1, "spec": pod("Always", name="dask-worker", args=worker_args)},
            "scheduler": {"spec": scheduler, "service": service},
        },
        "status": {},
    }
    return {
        "kind": "DaskJob",
        "apiVersion": "kubernetes.dask.org/v1",
        "metadata": {**metadata, "name": NAME, "finalizers": ["flyte.org/finalizer-k8s"]},
        "spec": {"job": {"spec": pod("Never", name="job-runner")}, "cluster": cluster},
        "status": {"endTime": None, "jobStatus": "", "startTime": None},
    }


class Plugin:
    """Creates a job as the plugin does, and keeps what it would have read."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self.statuses: list[str] = []
        self.scheduler_was_ready = False

    def create(self, code: str) -> None:
        path = f"/apis/kubernetes.dask.org/v1/namespaces/{self._kubectl.namespace}/daskjobs"
        self._kubectl("create", "--raw", path, "-f", "-", input=json.dumps(dask_job(code)))

    def job(self) -> dict[str, Any]:
        return self._kubectl.json("get", "daskjob", NAME)

    def look(self) -> str:
        """`GetTaskPhase`: the status, and whether the one scheduler is ready."""
        status = self.job()["status"].get("jobStatus", "")
        if status not in self.statuses[-1:]:
            self.statuses.append(status)
        pods = [
            p
            for p in self._kubectl.json("get", "pods")["items"]
            if p["metadata"]["name"].startswith(NAME) and "scheduler" in p["metadata"]["name"]
        ]
        assert len(pods) <= 1, "the plugin gives up with more than one scheduler"
        for pod in pods:
            assert pod["spec"]["containers"][0]["name"] == "scheduler"
            conditions = pod["status"].get("conditions", [])
            self.scheduler_was_ready |= any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        return status

    def wait(self, *, seconds: float = 180) -> str:
        """`IsTerminal`."""
        patience = Patience(seconds)
        while (status := self.look()) not in ("Successful", "Failed"):
            assert patience.lasts(), self.job()["status"]
            time.sleep(0.3)
        return status

    def finish(self) -> None:
        """Take its finalizer off and delete the job."""
        self._kubectl("patch", "daskjob", NAME, "--type=merge", "-p", '{"metadata": {"finalizers": []}}')
        self._kubectl("delete", "daskjob", NAME)
        eventually(lambda: self._kubectl("get", "daskcluster,jobs,pods", "-o", "name") == "", seconds=90)


@pytest.mark.parametrize(("code", "end"), [("print(result)", "Successful"), ("raise SystemExit(3)", "Failed")])
def test_the_plugin_sees_a_job_through(kubectl: Kubectl, code: str, end: str) -> None:
    program = "import time; from distributed import Client; c = Client(); result = c.submit(sum, [1, 2]).result(); "
    plugin = Plugin(kubectl)
    plugin.create(program + "time.sleep(5); " + code)
    assert plugin.wait() == end
    assert set(plugin.statuses) - {""} <= GO_STATUSES
    assert plugin.statuses[-2:] == ["Running", end]
    assert plugin.scheduler_was_ready
    status = plugin.job()["status"]
    started, ended = (datetime.fromisoformat(status[field]) for field in ("startTime", "endTime"))
    assert started <= ended
    runner = kubectl.json("get", "pod", status["jobRunnerPodName"])
    assert [c["name"] for c in runner["spec"]["containers"]] == ["job-runner"]
    if end == "Successful":
        assert kubectl("logs", status["jobRunnerPodName"]).strip() == "3"
    plugin.finish()
