"""Records of jobs that end in every way, read out of the volume when scheduler and workers have gone.

All are started at once, because most of the time is spent on waiting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.support import DASK_IMAGE, RESTRICTED, Kubectl, Manifests, eventually

from dask_controller.core.time import parse_time

pytestmark = pytest.mark.node

CLIENT = "import time; from distributed import Client; c = Client(); "
WORK = "c.gather(c.map(time.sleep, [1] * 6, pure=False)); "
CRASH = """
def die():
    print("the last words of a worker", flush=True)
    __import__("os")._exit(7)
c.wait_for_workers(1)
c.run(die, on_error="return")
"""
#: How old a record may be when its scheduler is killed.
OLDEST_SECONDS = 10
READ = """
import json, pathlib
print(json.dumps({str(p.relative_to("/records")): p.read_text() for p in pathlib.Path("/records").rglob("*.*")
                  if p.is_file() and p.name != "report.html"}))
"""


def volume(name: str) -> list[dict[str, Any]]:
    """A claim, what it is bound to, and a Pod that reads it; anybody may write there."""
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    on_node = {"path": f"/var/tmp/dask-gitops-{name}", "type": "DirectoryOrCreate"}
    storage = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "hostPath": on_node}
    reader = {
        "name": "reader",
        "image": DASK_IMAGE,
        "command": ["sh", "-c", "chmod 777 /records; exec sleep 3600"],
        "volumeMounts": [{"name": "records", "mountPath": "/records"}],
    }
    mounted = {"name": "records", "persistentVolumeClaim": {"claimName": "runs"}}
    return [
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": named}, "spec": spec}
        for kind, named, spec in (
            ("PersistentVolume", name, {**storage, "storageClassName": ""}),
            ("PersistentVolumeClaim", "runs", {**claim, "storageClassName": "", "volumeName": name}),
            ("Pod", "reader", {"containers": [reader], "volumes": [mounted], "terminationGracePeriodSeconds": 0}),
        )
    ]


def keeping(job: dict[str, Any]) -> dict[str, Any]:
    job["spec"]["cluster"]["spec"]["history"] = {"claimName": "runs", "path": "dask", "keep": 3}
    # Kubernetes' own: what is written at the end takes a moment, longer than other tests give their schedulers.
    job["spec"]["cluster"]["spec"]["scheduler"]["spec"]["terminationGracePeriodSeconds"] = 30
    return job


def with_scheduler(job: dict[str, Any], **container: Any) -> dict[str, Any]:
    job["spec"]["cluster"]["spec"]["scheduler"]["spec"]["containers"][0] |= container
    return job


def replacing_workers(job: dict[str, Any]) -> dict[str, Any]:
    """Of a worker that ends another Pod takes the place, and nothing is left of it in Kubernetes."""
    job["spec"]["cluster"]["spec"]["worker"]["spec"]["restartPolicy"] = "Never"
    return job


@pytest.fixture
def jobs(kubectl: Kubectl, kube: Manifests) -> Iterator[None]:
    for manifest in volume(kubectl.namespace):
        kubectl.apply(manifest)
    kubectl("wait", "pod/reader", "--for=condition=Ready", "--timeout=60s")
    hungry = "time.sleep(12); c.run_on_scheduler(lambda: len(b'1' * 10**9)); time.sleep(600)"
    for job in (
        kube.job_manifest("done", CLIENT + WORK),
        replacing_workers(kube.job_manifest("fails", CLIENT + CRASH + WORK + "raise SystemExit('its last words')")),
        kube.job_manifest("late", CLIENT + WORK + "time.sleep(600)", activeDeadlineSeconds=100),
        kube.job_manifest("undone", CLIENT + WORK + "f = c.submit(lambda: 1 / 0); time.sleep(600)"),
        with_scheduler(
            kube.job_manifest("hungry", CLIENT + WORK + hungry, onSchedulerLost="Fail"),
            resources={"limits": {"memory": "400Mi"}},
        ),
    ):
        # All of one user: what one has made in the volume, another might not write to.
        kubectl.apply(keeping(with_scheduler(job, securityContext=RESTRICTED)))
    yield
    kubectl("exec", "reader", "--", "sh", "-c", "rm -rf /records/*")  # of a volume of the node nobody else does
    kubectl("delete", "daskjobs,pods,pvc", "--all", "--wait=false")
    kubectl("delete", "pv", kubectl.namespace, "--wait=false")


def test_that_an_image_lacks_the_library_of_a_bucket_is_told(kubectl: Kubectl, kube: Manifests) -> None:
    """And what it costs: nothing."""
    kubectl.apply(kube.cluster_manifest("stored", workers=0, history={"url": "s3://runs/dask"}))
    told = {"url": "s3://runs/dask", "problem": "ImportError: Install s3fs to access S3"}
    eventually(lambda: kubectl.status("daskcluster", "stored").get("bundle") == told, seconds=120)
    kubectl.wait_ready("daskcluster", "stored")
    kubectl("delete", "daskcluster", "stored")


def ended(kubectl: Kubectl, name: str, reason: str) -> dict[str, Any]:
    """The status of a job that has ended so, once its cluster has gone."""

    def is_over() -> bool:
        status = kubectl.status("daskjob", name)
        over = any(c["status"] == "True" and c["reason"] == reason for c in status.get("conditions") or ())
        return (
            over
            and "endTime" in status
            and not kubectl(
                "get", "pods", "-l", f"dask.org/cluster-name={name},dask.org/component=scheduler", "-o", "name"
            )
        )

    eventually(is_over, seconds=240)
    return kubectl.status("daskjob", name)


def test_a_record_stays_of_each_job_however_it_ends(kubectl: Kubectl, jobs: None) -> None:
    eventually(lambda: kubectl.status("daskjob", "undone")["bundle"]["path"], seconds=300)
    eventually(lambda: kubectl.status("daskjob", "undone")["progress"]["tasksDone"] == 7)
    kubectl("delete", "daskcluster", "undone")
    statuses = {
        name: ended(kubectl, name, reason)
        for name, reason in (
            ("done", "Completed"),
            ("fails", "BackoffLimitExceeded"),
            ("late", "DeadlineExceeded"),
            ("undone", "ClusterFailed"),
            ("hungry", "SchedulerLost"),
        )
    }
    files = json.loads(kubectl("exec", "reader", "--", "python3", "-c", READ))
    assert {name for name, status in statuses.items() if "problem" in status.get("bundle", ["problem"])} == set()
    records = {name: json.loads(files[f"{status['bundle']['path']}/summary.json"]) for name, status in statuses.items()}

    assert (records["done"]["outcome"], records["done"]["tasks"]["done"]) == ("Complete", 6)
    assert records["done"]["status"]["timeSpent"] == statuses["done"]["timeSpent"]
    worker, runner = records["fails"]["failures"]
    assert (worker["container"], worker["exitCode"], worker["restarts"]) == ("worker", 7, 0)
    assert "the last words of a worker" in worker["log"].splitlines(), "whose Pod had gone before the run ended"
    assert (runner["container"], runner["exitCode"]) == ("runner", 1)
    # A client that is slow to close as Python ends complains after them.
    assert runner["log"].splitlines()[0] == "its last words"
    assert "BackoffLimitExceeded" in {event["reason"] for event in records["fails"]["events"]}
    assert records["done"]["failures"] == []
    assert (records["late"]["outcome"], records["late"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert (records["undone"]["outcome"], records["undone"]["tasks"]["done"]) == ("Stopped", 7)
    assert "ZeroDivisionError" in records["undone"]["errors"][0]["raised"]
    assert records["hungry"]["outcome"] != "Complete"
    assert records["hungry"]["tasks"]["done"] == 6
    killed = parse_time(statuses["hungry"]["endTime"])
    assert killed - parse_time(records["hungry"]["written"]) <= OLDEST_SECONDS + 5, "which somebody has to notice"
    for name, status in statuses.items():
        record = status["bundle"]["path"].rpartition("/")[2]
        assert f"{record}/index.html" in files[f"dask/{kubectl.namespace}/{name}/index.html"]
        assert f"{kubectl.namespace}/{name}/index.html" in files["dask/index.html"]

    spent = statuses["done"]["timeSpent"]
    wall = parse_time(statuses["done"]["endTime"]) - parse_time(spent["since"])
    parts = sum(value for name, value in spent.items() if isinstance(value, int) and not name.startswith("told"))
    assert abs(parts - wall) <= max(1, wall / 100)
    # Of a run that ends soon the scheduler may be asked too late; here its answer has been seen.
    assert 5 <= statuses["undone"]["timeSpent"]["computing"] <= 12, "six tasks of a second, one after the other"
