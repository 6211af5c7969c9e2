"""Clusters and jobs in queues of the real Kueue.

Left out unless it has been built, ``python -m tests.cluster kueue``: that takes as long as Kubernetes itself.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bench.api import Api
from prometheus_client.parser import text_string_to_metric_families
from tests.cluster import ControlPlane
from tests.cluster.images import ROOT
from tests.cluster.processes import free_port
from tests.e2e.support import Kubectl
from tests.support.controller import Controller
from tests.support.kueue import PROGRAM, intruder, kueue, local_queue, priority
from tests.support.queues import QUEUE, Queue, eventually, is_true, items, queued, why, workers
from tests.support.quota import Quota

from dask_crds.names import Annotation, Label

pytestmark = pytest.mark.control_plane


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> Iterator[None]:
    with kueue(control_plane):
        control_plane.kubectl("apply", "-f", "-", input=items(priority("high", 1000), priority("low", -1000)))
        yield


@pytest.fixture
def make_queue(kubectl: Kubectl, installed: None) -> Iterator[Any]:
    made = list[Queue]()

    def make(cpu: str, **options: Any) -> Queue:
        made.append(Queue(kubectl, cpu, **options))
        return made[-1]

    yield make
    for queue in made:
        queue.kubectl("delete", "--all", "daskjobs,daskclusters,jobs")
        queue.kubectl("delete", "--wait=false", "clusterqueue,resourceflavor", queue.name)


@pytest.fixture
def never_more_than(control_plane: ControlPlane, namespace: str) -> Callable[[int], Quota]:
    return functools.partial(Quota, Api(control_plane), namespace)


def end(kubectl: Kubectl, job: str) -> None:
    """A Job's Pods end before it gives its quota back. If it were deleted, Kueue would not wait for them."""
    for pod in kubectl.json("get", "pods", "-l", f"job-name={job}")["items"]:
        kubectl("annotate", "pod", pod["metadata"]["name"], "test.dask.org/exit-code=0")
    eventually(lambda: is_true(kubectl.json("get", "job", job), "Complete"))
    kubectl("delete", "job", job)


@pytest.mark.parametrize("most", [1999, 2000])
def test_what_exceeds_quota_for_a_moment_is_seen(kubectl, namespace, control_plane, most):
    one = {"resources": {"requests": {"cpu": "1"}}, "name": "c", "image": "nothing:1"}
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{n}"}, "spec": {"containers": [one]}}
        for n in range(2)
    ]
    seen = contextlib.nullcontext() if most >= 2000 else pytest.raises(AssertionError, match="2000m of 1999m")
    with seen, Quota(Api(control_plane), namespace, most):
        kubectl("apply", "-f", "-", input=items(*pods))
        kubectl("delete", "pod", "--all")


@pytest.mark.usefixtures("controller")
def test_nothing_starts_without_quota_and_the_words_are_kueues(make_queue, kubectl, kube):
    queue = make_queue("1500m")
    kubectl.apply(queued(kube.cluster_manifest("c", **workers(2))))
    eventually(lambda: "insufficient" in why(kubectl, "daskcluster", "c"))
    assert why(kubectl, "daskcluster", "c").startswith(f"False Queued: LocalQueue {QUEUE}: ")
    assert "insufficient" in why(kubectl, "daskcluster", "c", "Ready")
    assert why(kubectl, "daskcluster", "c", "Suspended").startswith("False")
    assert queue.pods() == []
    (base,) = queue.workloads()
    assert {s["name"]: s["count"] for s in base["spec"]["podSets"]} == {"scheduler": 1, "c-default": 2}

    queue.set_quota("3")
    kubectl.wait_ready("daskcluster", "c")
    assert why(kubectl, "daskcluster", "c") == f"True Admitted: ClusterQueue {queue.name} has granted quota"
    assert {p["metadata"]["annotations"][Annotation.WORKLOAD] for p in queue.pods("worker")} == {
        base["metadata"]["name"]
    }
    eventually(lambda: is_true(queue.workloads("base")[0], "PodsReady"))
    children = kubectl.json("get", "pods,deployments,services,configmaps,daskworkergroups")["items"]
    assert [c["metadata"]["name"] for c in children if Label.QUEUE in c["metadata"].get("labels", {})] == []


def test_the_wait_for_quota_is_counted_once_for_each_workload(make_queue, control_plane, namespace, kubectl, kube):
    queue, port = make_queue("1500m"), free_port()
    controller = Controller(control_plane, namespace, "--port", str(port))
    try:
        kubectl.apply(queued(kube.cluster_manifest("c", **workers(3, 2))))
        eventually(lambda: "insufficient" in why(kubectl, "daskcluster", "c"))
        began = time.monotonic()
        time.sleep(5)
        queue.set_quota("4")
        kubectl.wait_ready("daskcluster", "c")
        eventually(lambda: waits(port, "count") == {"DaskCluster": 1, "DaskWorkerGroup": 1})
        assert 5 <= waits(port, "sum")["DaskCluster"] <= time.monotonic() - began + 10
        assert waits(port, "sum")["DaskWorkerGroup"] <= time.monotonic() - began - 4
    finally:
        controller.kill()


def waits(port: int, what: str) -> dict[str, float]:
    """``count`` or ``sum`` of the seconds that Workloads have waited, by the kind that they are for."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = (sample for family in families for sample in family.samples)
    return {s.labels["kind"]: s.value for s in samples if s.name == f"dask_queue_wait_seconds_{what}"}


@pytest.mark.usefixtures("controller")
def test_flavors_reach_the_pods_and_never_the_users_object(make_queue, control_plane, kubectl, kube):
    control_plane.kubectl("label", "--overwrite", "node", "kwok-1", "pool=fast")
    taint = {"key": "spot", "operator": "Exists", "effect": "NoSchedule"}
    queue = make_queue("9", labels={"pool": "fast"}, tolerations=[taint])
    job = queued(kube.job_manifest("j", "pass", cluster={"spec": kube.cluster_spec(**workers(2, 1))}))
    (runner,) = job["spec"]["job"]["spec"]["containers"]
    runner["resources"] = {"requests": {"cpu": "10m"}}  # without any, quota says nothing of its node
    kubectl.apply(job)
    eventually(lambda: len(queue.pods()) == 4)  # scheduler, runner, one guaranteed worker and another
    for pod in queue.pods():
        assert pod["spec"]["nodeSelector"] == {"pool": "fast"}
        assert taint in pod["spec"]["tolerations"]
    eventually(lambda: {pod["spec"].get("nodeName") for pod in queue.pods()} == {"kwok-1"})
    for kind in ("daskjob", "daskcluster"):
        assert "nodeSelector" not in json.dumps(kubectl.json("get", kind, "j")["spec"])
    (written,) = (
        fields["manager"] for fields in _managers(kubectl, "daskjob", "j") if "f:spec" in fields.get("fieldsV1", {})
    )
    assert written.startswith("kubectl")


def _managers(kubectl: Kubectl, kind: str, name: str) -> list[dict[str, Any]]:
    return list(kubectl.json("get", kind, name, "--show-managed-fields")["metadata"]["managedFields"])


@pytest.mark.usefixtures("controller")
def test_preemption_takes_as_many_surplus_workers_as_it_needs(make_queue, never_more_than, kubectl, kube):
    queue = make_queue("4100m")
    with never_more_than(4100):
        kubectl.apply(queued(kube.cluster_manifest("c", **workers(4, 1))))
        kubectl.wait_ready("daskcluster", "c")
        assert (queue.admitted("base"), queue.admitted("surplus")) == (1, 3)
        scheduler = queue.pods("scheduler")[0]["metadata"]["uid"]

        kubectl.apply(intruder("urgent", QUEUE, "2", priority_class="high"))
        eventually(lambda: kubectl.status("job", "urgent").get("active"))
        eventually(lambda: len(queue.pods("worker")) == 2)
        assert (queue.admitted("base"), queue.admitted("surplus")) == (1, 1)
        assert queue.pods("scheduler")[0]["metadata"]["uid"] == scheduler
        eventually(lambda: "2 workers wait for quota" in why(kubectl, "daskworkergroup", "c-default", "Ready"))

        end(kubectl, "urgent")
        kubectl.wait_ready("daskcluster", "c")
        assert len(queue.pods("worker")) == 4
        assert queue.pods("scheduler")[0]["metadata"]["uid"] == scheduler


@pytest.mark.usefixtures("controller")
def test_a_smaller_group_gives_surplus_quota_back_and_keeps_what_is_guaranteed(make_queue, kubectl, kube):
    queue = make_queue("9")
    kubectl.apply(queued(kube.cluster_manifest("c", **workers(5, 2))))
    kubectl.wait_ready("daskcluster", "c")
    assert queue.admitted("surplus") == 3
    (base,) = queue.workloads("base")
    kubectl("scale", "daskworkergroup", "c-default", "--replicas=3")
    eventually(lambda: len(queue.workloads("surplus")) == 1 and len(queue.pods("worker")) == 3)
    on_base = [p for p in queue.pods("worker") if _workload(p) == base["metadata"]["name"]]
    assert len(on_base) == 2
    kubectl("delete", "pod", on_base[0]["metadata"]["name"])  # a new one takes its place in the base
    eventually(lambda: sum(_workload(p) == base["metadata"]["name"] for p in queue.pods("worker")) == 2)
    assert len(queue.workloads("surplus")) == 1


def _workload(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["annotations"][Annotation.WORKLOAD])


@pytest.mark.usefixtures("controller")
def test_a_job_whose_base_is_preempted_runs_again_and_counts_no_failure(make_queue, never_more_than, kubectl, kube):
    queue = make_queue("3")
    job = kube.job_manifest("j", "pass", cluster={"spec": kube.cluster_spec(**workers(2))})
    with never_more_than(3000):
        kubectl.apply(queued(job))
        eventually(lambda: kubectl.status("daskjob", "j").get("jobStatus") == "Running")
        kubectl.apply(intruder("urgent", QUEUE, "2", priority_class="high"))
        eventually(lambda: kubectl.status("job", "urgent").get("active"))
        assert queue.pods() == []
        eventually(lambda: why(kubectl, "daskjob", "j").startswith("False Queued"))
        assert not is_true(kubectl.json("get", "daskjob", "j"), "Failed")
        end(kubectl, "urgent")
        eventually(lambda: len(queue.pods("job-runner")) == 1)
    (runner,) = queue.pods("job-runner")
    kubectl("annotate", "pod", runner["metadata"]["name"], "test.dask.org/exit-code=0")
    eventually(lambda: kubectl.status("daskjob", "j").get("jobStatus") == "Successful")
    assert "retries" not in kubectl.status("daskjob", "j")
    eventually(lambda: is_true(queue.workloads("base")[0], "Finished") and not queue.workloads("surplus"))


@pytest.mark.usefixtures("controller")
def test_who_runs_a_queue_can_hold_back_a_workload_and_drain_the_queue(make_queue, kubectl, kube):
    queue = make_queue("9")
    kubectl.apply(queued(kube.cluster_manifest("c", **workers(2, 1))))
    kubectl.wait_ready("daskcluster", "c")
    (base,) = queue.workloads("base")
    for active in ("false", "true"):
        patch = f'-p={{"spec":{{"active":{active}}}}}'
        kubectl("patch", "workload", base["metadata"]["name"], "--type=merge", patch)
        if active == "false":
            eventually(lambda: queue.pods() == [] and "is not active" in why(kubectl, "daskcluster", "c"))
            eventually(lambda: not is_true(queue.workloads("base")[0], "QuotaReserved"))
    kubectl.wait_ready("daskcluster", "c")
    queue.stop("HoldAndDrain")
    eventually(lambda: queue.pods() == [])
    queue.stop("None")
    kubectl.wait_ready("daskcluster", "c")
    assert queue.workloads("base")[0]["metadata"]["uid"] == base["metadata"]["uid"]


@pytest.mark.usefixtures("controller")
def test_suspended_and_deleted_clusters_give_all_quota_back(make_queue, kubectl, kube):
    queue = make_queue("9")
    kubectl.apply(queued(kube.cluster_manifest("c", **workers(2, 1))))
    kubectl.wait_ready("daskcluster", "c")
    kubectl("patch", "daskcluster", "c", "--type=merge", '-p={"spec":{"suspend":true}}')
    eventually(lambda: queue.workloads() == [] and queue.pods() == [])
    kubectl("patch", "daskcluster", "c", "--type=merge", '-p={"spec":{"suspend":null}}')
    kubectl.wait_ready("daskcluster", "c")
    kubectl("delete", "daskcluster", "c")
    eventually(lambda: queue.workloads() == [])


@pytest.mark.usefixtures("controller")
def test_other_resources_are_queued_for_anew(make_queue, never_more_than, kubectl, kube):
    queue = make_queue("4100m")
    kubectl.apply(queued(kube.cluster_manifest("c", **workers(2))))
    kubectl.wait_ready("daskcluster", "c")
    with never_more_than(4100):
        kubectl.apply(queued(kube.cluster_manifest("c", **(workers(2) | {"worker_cpu": "2"}))))
        eventually(lambda: queue.used() == 4020)
        kubectl.wait_ready("daskcluster", "c")


@pytest.mark.usefixtures("controller")
def test_another_image_is_run_on_the_quota_that_there_is(make_queue, never_more_than, kubectl, kube):
    queue = make_queue("4100m")
    with never_more_than(4100):
        kubectl.apply(queued(kube.cluster_manifest("c", **workers(4, 2))))
        kubectl.wait_ready("daskcluster", "c")
        granted = {w["metadata"]["uid"] for w in queue.workloads()}
        scheduler = queue.pods("scheduler")[0]["metadata"]["uid"]
        patch = [{"op": "replace", "path": "/spec/worker/spec/containers/0/image", "value": "dask:2"}]
        kubectl("patch", "daskcluster", "c", "--type=json", "--patch", json.dumps(patch))
        eventually(lambda: [p["spec"]["containers"][0]["image"] for p in queue.pods("worker")] == ["dask:2"] * 4)
        kubectl.wait_ready("daskcluster", "c")
        assert {w["metadata"]["uid"] for w in queue.workloads()} == granted
        assert queue.pods("scheduler")[0]["metadata"]["uid"] == scheduler


@pytest.mark.usefixtures("controller")
def test_a_label_that_comes_or_goes(make_queue, kubectl, kube):
    queue = make_queue("1")
    kubectl.apply(kube.cluster_manifest("c", **workers(2)))
    kubectl.wait_ready("daskcluster", "c")
    kubectl("label", "daskcluster", "c", f"{Label.QUEUE}={QUEUE}")
    eventually(lambda: queue.pods() == [] and "insufficient" in why(kubectl, "daskcluster", "c"))
    kubectl("label", "daskcluster", "c", f"{Label.QUEUE}-")
    kubectl.wait_ready("daskcluster", "c")
    eventually(lambda: queue.workloads() == [])
    assert why(kubectl, "daskcluster", "c") == ""


def test_an_operator_that_is_killed_goes_on_where_it_was(
    make_queue, never_more_than, control_plane, namespace, kubectl, kube
):
    queue = make_queue("4100m")
    states = [
        lambda: queue.workloads("base"),
        lambda: queue.admitted("base"),
        lambda: queue.pods("scheduler"),
        lambda: queue.workloads("surplus"),
        lambda: len(queue.pods("worker")) > 1,
    ]
    controller = Controller(control_plane, namespace)
    try:
        with never_more_than(4100):
            kubectl.apply(queued(kube.cluster_manifest("c", **workers(4, 1))))
            for reached in states:
                eventually(reached)
                controller.kill()
                controller.start()
            kubectl.wait_ready("daskcluster", "c")
            kubectl.apply(intruder("urgent", QUEUE, "4", priority_class="high"))
            for left in (4, 2, 0):
                eventually(lambda left=left: len(queue.pods("worker")) <= left)
                controller.kill()
                controller.start()
            eventually(lambda: kubectl.status("job", "urgent").get("active"))
            end(kubectl, "urgent")
            kubectl.wait_ready("daskcluster", "c")
    finally:
        controller.kill()
    assert (queue.admitted("base"), queue.admitted("surplus"), len(queue.pods("worker"))) == (1, 3, 4)
    assert len({_workload(p) for p in queue.pods("worker")}) == 4


@pytest.mark.usefixtures("controller", "installed")
def test_pods_that_kueue_takes_by_itself_are_told(make_queue, kubectl, kube):
    queue = make_queue("0")
    kubectl.apply(local_queue("default", queue.name))
    kubectl.apply(kube.cluster_manifest("c", **workers(1)))
    eventually(lambda: "CapturedByKueue" in why(kubectl, "daskcluster", "c", "Ready"))


@pytest.mark.usefixtures("controller")
def test_running_clusters_do_not_notice_that_kueue_is_down(make_queue, control_plane, kubectl, kube):
    queue = make_queue("9")
    kubectl.apply(queued(kube.cluster_manifest("c", **workers(1))))
    kubectl.wait_ready("daskcluster", "c")
    before = {p["metadata"]["uid"] for p in queue.pods()}
    process = control_plane.processes.running(PROGRAM)
    process.send_signal(19)  # SIGSTOP: nobody answers its webhooks
    try:
        kubectl.apply(queued(kube.cluster_manifest("later", **workers(1))))
        eventually(lambda: "webhook" in why(kubectl, "daskcluster", "later", "Ready"), seconds=90)
        assert {p["metadata"]["uid"] for p in queue.pods()} == before
    finally:
        process.send_signal(18)
    kubectl.wait_ready("daskcluster", "later")
    assert {p["metadata"]["uid"] for p in queue.pods()} >= before


@pytest.mark.usefixtures("controller", "installed")
def test_the_example_of_dist_works(kubectl):
    folder = str(ROOT / "dist" / "queues")
    kubectl("apply", "-k", folder)
    try:
        kubectl.wait_ready("daskcluster", "queued", seconds=180)
        assert len(kubectl.json("get", "workloads")["items"]) == 3
        kubectl("delete", "daskcluster", "queued")
    finally:
        kubectl("delete", "--wait=false", "--ignore-not-found", "-k", folder)
