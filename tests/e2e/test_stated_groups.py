"""A job with groups of two kinds and an autoscaler, from one manifest, on a real node (issue 14, point 5)."""

from __future__ import annotations

import pytest
from tests.e2e.support import Kubectl, Manifests, eventually

pytestmark = pytest.mark.node

#: Each task tells where it ran. A Dask resource stands for the GPU; the load makes the autoscaled group grow.
PROGRAM = """
import time
from distributed import Client, get_worker
def where(number, seconds=0.0):
    time.sleep(seconds)
    return get_worker().name
client = Client()
many = client.map(where, range(40), seconds=1.0, resources={"BIG": 1}, pure=False)
gpu = client.gather(client.map(where, range(5), resources={"GPU": 1}, pure=False))
assert all(name.startswith("kinds-gpu-worker-") for name in gpu), gpu
big = set(client.gather(many))
assert all(name.startswith("kinds-big-worker-") for name in big), big
assert len(big) > 1, f"the load has made no worker: {big}"
"""


def test_a_job_of_one_manifest_has_groups_of_two_kinds(kubectl: Kubectl, kube: Manifests) -> None:
    job = kube.job_manifest("kinds", PROGRAM, workers=1, minimumReadyWorkers=2)

    def further(name: str) -> dict:
        args = ["--resources", f"{name.upper()}=1"]
        worker = kube.group_manifest(name, "kinds", workers=0, args=args)["spec"]["worker"]
        return {"name": name, "spec": worker["spec"]}

    job["spec"]["cluster"]["spec"]["workerGroups"] = [
        {**further("gpu"), "replicas": 1},
        {**further("big"), "autoscaler": {"minimum": 0, "maximum": 2}},
    ]
    kubectl.apply(job)
    eventually(lambda: kubectl.status("daskjob", "kinds").get("jobStatus") == "Successful", seconds=300)
    left = "daskclusters,daskworkergroups,daskautoscalers,pods,deployments"
    selector = "dask.org/cluster-name=kinds,dask.org/component!=job-runner"
    eventually(lambda: kubectl("get", left, "-l", selector, "-o", "name") == "", seconds=90)
    kubectl("delete", "daskjob", "kinds")
    eventually(lambda: kubectl("get", "pods", "-l", "dask.org/cluster-name=kinds", "-o", "name") == "", seconds=60)
