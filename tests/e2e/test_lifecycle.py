"""Clusters, groups, jobs and autoscalers on a real node, with plain kubectl."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.e2e.support import eventually, ready_pods

pytestmark = pytest.mark.node


def test_kubectl_scale(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("scaled", workers=1))
    kubectl.wait_ready("daskcluster", "scaled")
    kubectl("scale", "daskworkergroup", "scaled-default", "--replicas=3")
    eventually(lambda: len(ready_pods(kubectl, "scaled", "worker")) == 3)
    eventually(lambda: kubectl.status("daskworkergroup", "scaled-default")["readyReplicas"] == 3)
    kubectl("scale", "daskworkergroup", "scaled-default", "--replicas=1")
    eventually(lambda: len(ready_pods(kubectl, "scaled", "worker")) == 1)
    # The number on the cluster is handed on when it changes, and only then.
    kubectl("scale", "daskcluster", "scaled", "--replicas=2")
    eventually(lambda: len(ready_pods(kubectl, "scaled", "worker")) == 2)


def test_failing_job_fails_under_the_default_restart_policy(kubectl, kube):
    """dask-kubernetes: restartPolicy defaults to OnFailure, so a failing job never ends."""
    kubectl.apply(kube.job_manifest("sad", "raise SystemExit(3)"))
    eventually(lambda: kubectl.status("daskjob", "sad").get("jobStatus") == "Failed", seconds=180)
    assert "exit code 3" in kubectl.condition("daskjob", "sad", "Failed")["message"]
    eventually(lambda: kubectl("get", "daskcluster", "-o", "name").strip() == "")


def test_idle_timeout_deletes_an_idle_cluster(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("lazy", workers=1, idleTimeout=30))
    kubectl.wait_ready("daskcluster", "lazy")
    eventually(lambda: kubectl("get", "daskcluster", "-o", "name").strip() == "", seconds=90)
    eventually(lambda: kubectl("get", "pods", "-o", "name").strip() == "", seconds=60)


def test_idle_action_suspend_takes_the_cluster_down_and_the_user_brings_it_back(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("dozing", workers=1, idleTimeout=5, idleAction="Suspend"))
    eventually(lambda: kubectl.condition("daskcluster", "dozing", "Suspended").get("reason") == "Idle", seconds=120)
    eventually(lambda: kubectl("get", "pods", "-o", "name").strip() == "", seconds=60)
    for _ in range(2):  # as often as one likes
        kubectl("patch", "daskcluster", "dozing", "--type=merge", "-p", '{"spec": {"suspend": false}}')
        eventually(lambda: kubectl.condition("daskcluster", "dozing", "Suspended")["status"] == "False")
        eventually(lambda: kubectl.condition("daskcluster", "dozing", "Suspended")["reason"] == "Idle", seconds=120)


#: A client of an older Dask that stays for a while.
VISITOR = """
import time
from distributed import Client, versions
found = versions.get_versions()
found["packages"]["dask"] = "2020.1.0"
versions.get_versions = lambda *_, **__: found
Client("localhost:8786")
time.sleep(25)
"""


def test_a_cluster_without_clients_sleeps_and_tells_of_one_that_does_not_match(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("visited", workers=1, noClientTimeout=60, idleAction="Suspend"))
    kubectl.wait_ready("daskcluster", "visited")
    (scheduler,) = ready_pods(kubectl, "visited", "scheduler")
    command = ("exec", scheduler["metadata"]["name"], "--", "python3", "-c", VISITOR)
    with ThreadPoolExecutor(1) as background:
        visit = background.submit(kubectl, *command)
        told = functools.partial(kubectl.condition, "daskcluster", "visited", "VersionsConsistent")
        eventually(lambda: told().get("reason") == "VersionMismatch", seconds=60)
        assert "dask: clients 2020.1.0, scheduler " in told()["message"]
        assert kubectl.condition("daskcluster", "visited", "Suspended")["status"] == "False"
        visit.result()
    eventually(lambda: kubectl.condition("daskcluster", "visited", "Suspended").get("reason") == "Idle", seconds=120)
    assert "NoClientTimeout" in kubectl("get", "events", "-o", "jsonpath={.items[*].reason}")


def test_labels_reach_running_pods(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("labelled", workers=1))
    kubectl.wait_ready("daskcluster", "labelled")
    pods = "-o", "jsonpath={.items[*].metadata.uid}", "get", "pods"
    before = kubectl(*pods)
    kubectl("label", "daskcluster", "labelled", "team=data")
    eventually(lambda: kubectl(*pods, "-l", "team=data") == before)
    kubectl("label", "daskcluster", "labelled", "team-")
    eventually(lambda: kubectl(*pods, "-l", "team=data") == "")
    assert kubectl(*pods) == before


def test_an_annotated_task_runs_on_the_group_that_offers_the_resource(kubectl, kube):
    manifest = kube.job_manifest(
        "annotated",
        "from distributed import Client, get_worker; c = Client(); c.wait_for_workers(2);"
        "print('ran on', c.submit(lambda: get_worker().name, resources={'BIG': 1}).result())",
    )
    kubectl.apply(manifest)
    kubectl.apply(kube.group_manifest("annotated-big", "annotated", workers=1, args=["--resources", "BIG=1"]))
    eventually(lambda: kubectl.status("daskjob", "annotated").get("jobStatus") == "Successful", seconds=180)
    assert "ran on annotated-big-worker-0" in kubectl("logs", "job/annotated-runner")


def test_suspend_and_resume(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("paused", workers=1))
    kubectl.wait_ready("daskcluster", "paused")
    kubectl("patch", "daskcluster", "paused", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    eventually(lambda: kubectl("get", "pods", "-o", "name").strip() == "", seconds=120)
    eventually(lambda: kubectl.condition("daskcluster", "paused", "Ready")["reason"] == "Suspended")
    kubectl("patch", "daskcluster", "paused", "--type=merge", "-p", '{"spec": {"suspend": false}}')
    kubectl.wait_ready("daskcluster", "paused")


def test_a_new_image_rolls_the_workers(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("rolled", workers=2))
    kubectl.wait_ready("daskcluster", "rolled")
    before = {p["metadata"]["uid"] for p in ready_pods(kubectl, "rolled", "worker")}
    kubectl.apply(kube.cluster_manifest("rolled", workers=2, worker_env={"NEW": "1"}))

    def rolled():
        now = {p["metadata"]["uid"] for p in ready_pods(kubectl, "rolled", "worker")}
        return len(now) == 2 and not now & before

    eventually(rolled, seconds=120)
    eventually(lambda: kubectl.status("daskworkergroup", "rolled-default").get("updatedReplicas") == 2)


class TestHealing:
    """Killing anything leads back to the declared state."""

    def test_scheduler_pod(self, kubectl, kube):
        kubectl.apply(kube.cluster_manifest("heal-a", workers=1))
        kubectl.wait_ready("daskcluster", "heal-a")
        (before,) = ready_pods(kubectl, "heal-a", "scheduler")
        kubectl("delete", "pod", before["metadata"]["name"], "--grace-period=1")
        eventually(
            lambda: (
                before["metadata"]["uid"]
                not in [p["metadata"]["uid"] for p in ready_pods(kubectl, "heal-a", "scheduler")]
            )
        )
        eventually(lambda: len(ready_pods(kubectl, "heal-a", "scheduler")) == 1, seconds=90)
        kubectl.wait_ready("daskcluster", "heal-a")

    def test_worker_pod(self, kubectl, kube):
        kubectl.apply(kube.cluster_manifest("heal-b", workers=2))
        kubectl.wait_ready("daskcluster", "heal-b")
        kubectl("delete", "pod", "heal-b-default-worker-0", "--grace-period=0", "--force")
        eventually(lambda: len(ready_pods(kubectl, "heal-b", "worker")) == 2, seconds=90)
        kubectl.wait_ready("daskcluster", "heal-b")

    def test_operator_while_a_cluster_starts_scales_and_goes(self, kubectl, kube, operator):
        kubectl.apply(kube.cluster_manifest("heal-c", workers=2))
        operator.kill()
        kubectl.wait_ready("daskcluster", "heal-c", seconds=180)
        kubectl("scale", "daskworkergroup", "heal-c-default", "--replicas=1")
        operator.kill()
        eventually(lambda: len(ready_pods(kubectl, "heal-c", "worker")) == 1, seconds=120)
        operator.kill()
        kubectl("delete", "daskcluster", "heal-c", "--wait=true", "--timeout=60s")
        eventually(lambda: kubectl("get", "pods", "-o", "name").strip() == "", seconds=90)

    def test_operator_while_a_job_runs(self, kubectl, kube, operator):
        code = "import time; from distributed import Client; c = Client(); time.sleep(15); print('done')"
        kubectl.apply(kube.job_manifest("heal-d", code))
        eventually(lambda: kubectl.status("daskjob", "heal-d").get("jobStatus") == "Running", seconds=120)
        operator.kill()
        eventually(lambda: kubectl.status("daskjob", "heal-d").get("jobStatus") == "Successful", seconds=180)
        eventually(lambda: kubectl("get", "daskcluster", "-o", "name").strip() == "", seconds=90)


class TestTruth:
    """Status says what is wrong, and the controller goes on."""

    def test_scheduler_image_that_cannot_be_pulled(self, kubectl, kube):
        kubectl.apply(kube.cluster_manifest("no-image", workers=1, scheduler_image="localhost:1/none:1"))

        def reason():
            return kubectl.condition("daskcluster", "no-image", "SchedulerReady").get("reason")

        eventually(lambda: reason() in ("ErrImagePull", "ImagePullBackOff"), seconds=90)
        assert kubectl.condition("daskcluster", "no-image", "Ready")["status"] == "False"
        assert kubectl.status("daskcluster", "no-image")["phase"] == "Running"

    def test_group_of_a_missing_cluster(self, kubectl, kube):
        kubectl.apply(kube.group_manifest("orphan", "nowhere", workers=1))
        eventually(lambda: kubectl.condition("daskworkergroup", "orphan", "Ready").get("reason") == "ClusterNotFound")
        assert "nowhere" in kubectl.condition("daskworkergroup", "orphan", "Ready")["message"]

    def test_worker_that_cannot_be_scheduled(self, kubectl, kube):
        kubectl.apply(kube.cluster_manifest("huge", workers=1, worker_cpu="1000"))
        eventually(
            lambda: kubectl.condition("daskworkergroup", "huge-default", "Ready").get("reason") == "Unschedulable"
        )
        eventually(lambda: "Insufficient cpu" in kubectl.condition("daskcluster", "huge", "Ready")["message"])

    def test_quota(self, kubectl, kube):
        kubectl("create", "quota", "small", "--hard=pods=1")
        kubectl.apply(kube.cluster_manifest("limited", workers=1))
        eventually(
            lambda: "exceeded quota" in kubectl.condition("daskcluster", "limited", "Ready").get("message", ""),
            seconds=90,
        )
        kubectl("delete", "quota", "small")
        kubectl.wait_ready("daskcluster", "limited", seconds=180)


def test_a_job_runs_once_for_each_run_id(kubectl, kube):
    code = "from distributed import Client; print('ran', Client().submit(sum, [1, 2]).result())"
    kubectl.apply(kube.job_manifest("again", code, runId="one"))
    eventually(lambda: kubectl.status("daskjob", "again").get("jobStatus") == "Successful", seconds=180)
    first = kubectl("get", "job", "again-runner", "-o", "jsonpath={.metadata.uid}")
    eventually(lambda: kubectl("get", "daskcluster", "-o", "name").strip() == "")
    # Applied again, as a GitOps tool does it all the time, with a change that is no new run.
    kubectl.apply(kube.job_manifest("again", code, runId="one", backoffLimit=2))
    generation = kubectl.json("get", "daskjob", "again")["metadata"]["generation"]
    eventually(lambda: kubectl.status("daskjob", "again").get("observedGeneration") == generation)
    assert kubectl("get", "job", "again-runner", "-o", "jsonpath={.metadata.uid}") == first
    kubectl.apply(kube.job_manifest("again", code, runId="two", backoffLimit=2))
    eventually(lambda: kubectl.status("daskjob", "again").get("runId") == "two")
    eventually(lambda: kubectl.status("daskjob", "again").get("jobStatus") == "Successful", seconds=180)
    assert kubectl("get", "job", "again-runner", "-o", "jsonpath={.metadata.uid}") != first
    assert "ran 3" in kubectl("logs", "job/again-runner")


def test_suspend_and_resume_a_job(kubectl, kube):
    code = "import time; from distributed import Client; Client(); time.sleep(15); print('done')"
    kubectl.apply(kube.job_manifest("held", code, suspend=True))
    eventually(lambda: kubectl.condition("daskjob", "held", "Suspended").get("status") == "True")
    eventually(lambda: kubectl.json("get", "daskcluster", "held")["spec"].get("suspend") is True)
    assert kubectl("get", "pods", "-o", "name").strip() == ""
    kubectl.apply(kube.job_manifest("held", code, suspend=False))
    eventually(lambda: kubectl.status("daskjob", "held").get("jobStatus") == "Running", seconds=120)
    kubectl.apply(kube.job_manifest("held", code, suspend=True))
    eventually(lambda: kubectl("get", "pods", "-o", "name").strip() == "", seconds=120)
    kubectl.apply(kube.job_manifest("held", code, suspend=False))
    eventually(lambda: kubectl.status("daskjob", "held").get("jobStatus") == "Successful", seconds=180)
