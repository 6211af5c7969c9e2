"""Jobs on a real node: every fault ends in the status that is documented for it, and nothing is left behind."""

from __future__ import annotations

import json

import pytest
from tests.e2e.support import DASK_IMAGE, eventually, ready_pods

pytestmark = pytest.mark.node

CLIENT = "import time; from distributed import Client; c = Client(); "


def status(kubectl, name: str) -> dict:
    return kubectl.status("daskjob", name)


def ends(kubectl, name: str, job_status: str, reason: str, *, seconds: float = 180) -> dict:
    """Wait for a terminal status; returns the condition that says why."""
    eventually(lambda: status(kubectl, name).get("jobStatus") == job_status, seconds=seconds)
    found = kubectl.condition("daskjob", name, "Complete" if job_status == "Successful" else "Failed")
    assert (found["status"], found["reason"]) == ("True", reason)
    return found


def runs(kubectl, name: str) -> None:
    eventually(lambda: status(kubectl, name).get("jobStatus") == "Running", seconds=120)


def cluster_is_gone(kubectl) -> None:
    eventually(lambda: kubectl("get", "daskcluster", "-o", "name").strip() == "")


@pytest.fixture
def job(kubectl, kube):
    """Applies a job; in the end deletes it and checks that nothing is left."""
    names = []

    def apply(name: str, code: str, **spec) -> None:
        names.append(name)
        kubectl.apply(kube.job_manifest(name, code, **spec))

    yield apply
    for name in names:
        kubectl("delete", "daskjob", name, "--ignore-not-found")
    everything = "daskclusters,daskworkergroups,deployments,jobs,pods,services,configmaps,poddisruptionbudgets"
    selector = "dask.org/cluster-name"
    eventually(lambda: kubectl("get", everything, "-l", selector, "-o", "name") == "", seconds=90)


def test_progress_and_versions_are_told_without_any_code_of_the_user(kubectl, job):
    code = CLIENT + "f = c.map(time.sleep, [1] * 20, pure=False); c.gather(f); time.sleep(8)"
    job("told", code, minimumReadyWorkers=1)
    eventually(lambda: status(kubectl, "told").get("progress", {}).get("tasksTotal") == 20, seconds=120)
    ends(kubectl, "told", "Successful", "Completed")
    progress = status(kubectl, "told")["progress"]
    assert (progress["tasksDone"], progress["percent"]) == (20, 100)
    assert kubectl.condition("daskjob", "told", "VersionsConsistent")["status"] == "True"
    assert status(kubectl, "told")["durationSeconds"] >= 8


def test_the_scheduler_is_killed_mid_job_and_the_run_starts_again(kubectl, job):
    job("fenced", CLIENT + "print(c.submit(sum, [1, 2]).result()); time.sleep(20)")
    runs(kubectl, "fenced")
    first = status(kubectl, "fenced")["jobRunnerPodName"]
    (scheduler,) = ready_pods(kubectl, "fenced", "scheduler")
    kubectl("delete", "pod", scheduler["metadata"]["name"], "--grace-period=0", "--force")
    eventually(lambda: status(kubectl, "fenced").get("retries") == 1, seconds=20)
    ends(kubectl, "fenced", "Successful", "Completed")
    assert status(kubectl, "fenced")["jobRunnerPodName"] != first
    assert status(kubectl, "fenced")["retries"] == 1
    cluster_is_gone(kubectl)


def test_a_scheduler_that_crashes_in_its_container_fails_the_run_where_that_is_asked_for(kubectl, job):
    job("strict", CLIENT + "time.sleep(600)", onSchedulerLost="Fail")
    runs(kubectl, "strict")
    (scheduler,) = ready_pods(kubectl, "strict", "scheduler")
    kubectl("exec", scheduler["metadata"]["name"], "--", "python3", "-c", "import os; os.kill(1, 15)")
    ends(kubectl, "strict", "Failed", "SchedulerLost", seconds=60)
    cluster_is_gone(kubectl)


def test_a_program_that_shuts_down_its_cluster_runs_once(kubectl, job):
    job("polite", CLIENT + "print(c.submit(sum, [1, 2]).result()); c.shutdown(); time.sleep(15); print('end')")
    ends(kubectl, "polite", "Successful", "Completed")
    assert "retries" not in status(kubectl, "polite")
    assert "end" in kubectl("logs", "job/polite-runner")


def test_out_of_memory(kubectl, kube, job):
    manifest = kube.job_manifest("greedy", "x = bytearray(10**9); x[::4096] = b'1' * len(x[::4096])")
    manifest["spec"]["job"]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    kubectl.apply(manifest)
    found = ends(kubectl, "greedy", "Failed", "BackoffLimitExceeded")
    assert "OOMKilled" in found["message"]
    job("greedy", "pass", runId="again")  # cleans up


def test_an_image_that_cannot_be_pulled_and_a_deadline(kubectl, kube, job):
    manifest = kube.job_manifest("stuck", "pass", activeDeadlineSeconds=20)
    manifest["spec"]["cluster"]["spec"]["scheduler"]["spec"]["containers"][0]["image"] = "localhost:1/none:1"
    kubectl.apply(manifest)
    found = ends(kubectl, "stuck", "Failed", "DeadlineExceeded", seconds=90)
    assert "localhost:1/none:1" in found["message"]
    cluster_is_gone(kubectl)


def test_the_runners_pod_is_deleted_and_it_is_tried_again(kubectl, job):
    job("tried", CLIENT + "time.sleep(10)", backoffLimit=1)
    runs(kubectl, "tried")
    kubectl("delete", "pod", status(kubectl, "tried")["jobRunnerPodName"], "--grace-period=1")
    ends(kubectl, "tried", "Successful", "Completed")


def test_the_cluster_is_deleted_by_hand_mid_job(kubectl, job):
    job("undone", CLIENT + "time.sleep(600)")
    runs(kubectl, "undone")
    kubectl("delete", "daskcluster", "undone")
    ends(kubectl, "undone", "Failed", "ClusterFailed", seconds=60)


def test_a_worker_is_lost_mid_job(kubectl, job):
    job("hardy", CLIENT + "print(sum(c.gather(c.map(lambda n: time.sleep(1) or n, range(20), pure=False))))", workers=2)
    runs(kubectl, "hardy")
    kubectl("delete", "pod", "hardy-default-worker-0", "--grace-period=0", "--force")
    ends(kubectl, "hardy", "Successful", "Completed")
    assert "190" in kubectl("logs", "job/hardy-runner")


def test_a_failure_policy_ends_the_run_at_once(kubectl, job):
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    job("final", "raise SystemExit(42)", backoffLimit=5, podFailurePolicy={"rules": rules})
    ends(kubectl, "final", "Failed", "PodFailurePolicy")


def test_a_quota_keeps_the_runner_waiting_and_says_so(kubectl, job):
    kubectl("create", "quota", "small", "--hard=pods=2")  # scheduler and worker
    job("poor", CLIENT + "print('rich')", minimumReadyWorkers=1)
    eventually(lambda: kubectl.condition("daskjob", "poor", "Ready").get("reason") == "QuotaExceeded", seconds=120)
    kubectl("delete", "quota", "small")
    ends(kubectl, "poor", "Successful", "Completed")


def test_the_namespace_is_deleted_mid_job(node, kubectl, kube):
    name = f"{kubectl.namespace}-doomed"
    node.kubectl("create", "namespace", name)
    node.kubectl(
        "-n", name, "apply", "-f", "-", input=json.dumps(kube.job_manifest("doomed", CLIENT + "time.sleep(600)"))
    )
    eventually(lambda: node.kubectl("-n", name, "get", "pods", "-o", "name").count("pod/") >= 2, seconds=120)
    node.kubectl("delete", "namespace", name, "--timeout=120s")


def test_versions_that_differ_fail_the_run_where_that_is_asked_for(kubectl, job):
    # The program says that it is another version, as an image of another date would.
    code = "import distributed.versions as v; old = v.get_versions;\n"
    code += "def get_versions(*a, **k):\n    found = old(*a, **k); found['packages']['msgpack'] = '0.1'; return found\n"
    code += "v.get_versions = get_versions\n"
    job("mixed", code + CLIENT + "time.sleep(600)", versionPolicy="Enforce")
    found = ends(kubectl, "mixed", "Failed", "VersionMismatch", seconds=120)
    assert "msgpack" in found["message"]
    assert "runner 0.1" in found["message"]


def test_dask_image_is_the_same_everywhere(kube):
    """What the tests above rely on: runner, scheduler and workers have the same versions."""
    assert json.dumps(kube.job_manifest("x", "pass")).count(DASK_IMAGE) == 3
