"""What is shown of clusters, groups, jobs and autoscalers, from caches that a test has filled."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.offline import OFFLINE
from tests.support.states import NOW, autoscaler, cluster, group, job

from dask_controller.core.time import format_time
from dask_controller.shell.caches import Caches, Key
from dask_controller.shell.departed import Departed
from dask_controller.shell.domain_metrics import OWNER_SECONDS, DomainMetrics
from dask_crds import names
from dask_crds.metrics import METRICS, OTHER_REASON
from dask_crds.model import (
    Condition,
    DaskAutoscalerStatus,
    DaskClusterStatus,
    DaskJobStatus,
    DaskObject,
    DaskWorkerGroupStatus,
    DrainingWorker,
    Progress,
    Recommendation,
    Usage,
    dump,
)
from dask_crds.names import Label
from dask_resources.scheduler import scheduler_deployment, selector
from dask_resources.worker import worker_pod
from dask_synth.metrics_page import metrics
from dask_synth.reference import GENERATED

SINCE = format_time(NOW - 100)


def condition(type: str = "Ready", status: Any = "True", reason: str = "Ready") -> Condition:
    return Condition(type=type, status=status, reason=reason, last_transition_time=SINCE)


class Site:
    """Caches without an API server, and what is shown of them."""

    def __init__(self) -> None:
        self.now, self.leads, self._version = NOW, True, 10
        self.caches = Caches(OFFLINE, None, departed=Departed(lambda: self.now))
        registry = CollectorRegistry()
        self.registry = registry
        self.metrics = DomainMetrics(registry, self.caches, lambda: self.leads, Label.OWNER, lambda: self.now)

    def put(self, manifest: dict[str, Any], **more: Any) -> None:
        self._version += 1
        server = {"resourceVersion": str(self._version), "creationTimestamp": SINCE, "generation": 1}
        meta = {"uid": f"uid-{manifest['metadata']['name']}", "namespace": "team"} | manifest["metadata"] | server
        stored = {**manifest, "metadata": meta | more.pop("metadata", {}), **more}
        self.caches.informers[manifest["kind"]].put(json.loads(json.dumps(stored)))

    def remove(self, kind: str, name: str) -> None:
        self.caches.informers[kind].remove(f"uid-{name}")

    def shown(self, name: str) -> dict[str, float]:
        """Samples of one metric, by the values of its labels in their order."""
        labels = next(m.labels for m in METRICS if m.name == name)
        families = text_string_to_metric_families(self.metrics.text())
        found = [s for family in families for s in family.samples if s.name == name]
        return {" ".join(s.labels[label] for label in labels): s.value for s in found}

    def reported(self, value: DaskObject, status: Any, outcomes: Any = (), observed: Any = None) -> None:
        self.metrics.reported(observed, value, status, outcomes, self.now)


@pytest.fixture
def site() -> Site:
    return Site()


def pod_of(ordinal: int, phase: str = "Running", **more: Any) -> dict[str, Any]:
    manifest = worker_pod(group(), ordinal, "abcde")
    resources = {"requests": {"cpu": "500m", "memory": "1Gi"}}
    manifest["spec"]["containers"][0]["resources"] = resources
    owner = {"kind": "DaskWorkerGroup", "uid": "uid-simple-default", "controller": True}
    manifest["metadata"]["ownerReferences"] = [owner]
    ready = [{"type": "Ready", "status": "True"}] if phase == "Running" else []
    started = {"startTime": SINCE} if phase != "Pending" else {}
    return {**manifest, "status": {"phase": phase, "conditions": ready, **started}} | more


def test_a_cluster_and_its_owner(site: Site) -> None:
    status = DaskClusterStatus(conditions=[condition(), condition("Suspended", "False", "a stranger's word")])
    site.put({**dump(cluster()), "status": dump_status(status)}, metadata={"labels": {Label.OWNER: "ann"}})
    assert site.shown("dask_cluster_info") == {"team simple ann": 1}
    assert site.shown("dask_cluster_created_timestamp_seconds") == {"team simple": NOW - 100}
    assert site.shown("dask_cluster_condition") == {
        "team simple Ready True Ready": 1,
        f"team simple Suspended False {OTHER_REASON}": 1,
    }
    site.remove("DaskCluster", "simple")
    assert site.shown("dask_cluster_info") == site.shown("dask_cluster_condition") == {}


def test_an_annotation_that_a_policy_keeps_goes_before_a_label(site: Site) -> None:
    marked = {"labels": {Label.OWNER: "eve"}, "annotations": {Label.OWNER: "system:serviceaccount:team:ann"}}
    site.put(dump(cluster()), metadata=marked)
    assert site.shown("dask_cluster_info") == {"team simple system:serviceaccount:team:ann": 1}


def test_what_a_jobs_cluster_uses_is_the_jobs_owners(site: Site) -> None:
    """Labels that say whose something is are not handed on to children."""
    j = job("simple")
    j.metadata["labels"] = {Label.OWNER: "ann"}
    site.reported(j, DaskJobStatus())
    owner = {"apiVersion": names.API_VERSION, "kind": "DaskJob", "name": "simple", "uid": j.uid, "controller": True}
    site.put(dump(cluster()), metadata={"ownerReferences": [owner]})
    site.put(dump(group()))
    site.put(pod_of(0))
    assert site.shown("dask_cluster_info") == {"team simple ann": 1}
    assert [*site.shown("dask_usage_cpu_seconds_total")] == ["team simple worker simple-default ann"]


def test_what_is_used_is_nobodys_before_it_is_known_whose_it_is(site: Site) -> None:
    """A total that is shown for a moment without its owner would count twice: such moments add up by `increase`."""
    j = job("simple")
    j.metadata["labels"] = {Label.OWNER: "ann"}
    owner = {"apiVersion": names.API_VERSION, "kind": "DaskJob", "name": "simple", "uid": j.uid, "controller": True}
    accounted = Usage(cpu_seconds=1000.0, memory_gib_seconds=10.0, until=SINCE)
    status = {"status": dump_status(DaskClusterStatus(usage=accounted))}
    site.put(dump(group()))
    site.put(pod_of(0))
    site.put({**dump(cluster()), **status}, metadata={"ownerReferences": [owner]})
    assert site.shown("dask_usage_cpu_seconds_total") == {}, "nobody has told of the job yet"
    site.reported(j, DaskJobStatus())
    shown = site.shown("dask_usage_cpu_seconds_total")
    assert [*shown] == ["team simple scheduler simple ann", "team simple worker simple-default ann"]
    site.metrics.gone(Key("DaskJob", "team", "simple"))
    assert site.shown("dask_usage_cpu_seconds_total") == shown, "what it leaves is still its owner's"
    site.remove("DaskCluster", "simple")
    assert [*site.shown("dask_usage_cpu_seconds_total")] == ["team simple worker simple-default ann"]


def test_what_no_job_answers_for_is_shown_all_the_same_after_a_while(site: Site) -> None:
    """Else whoever names a job as the owner of a cluster would have it for nothing."""
    owner = {"apiVersion": names.API_VERSION, "kind": "DaskJob", "name": "other", "uid": "o", "controller": True}
    site.put(dump(cluster()), metadata={"ownerReferences": [owner]})
    site.put(dump(group()))
    site.put(pod_of(0))
    assert site.shown("dask_usage_cpu_seconds_total") == {}
    site.now += OWNER_SECONDS
    assert [*site.shown("dask_usage_cpu_seconds_total")] == ["team simple worker simple-default "]


def dump_status(status: Any) -> Any:
    return msgspec.to_builtins(status)


def test_workers_by_what_they_do(site: Site) -> None:
    drains = DrainingWorker(name="simple-default-worker-2", since=SINCE)
    status = DaskWorkerGroupStatus(desired_replicas=7, draining=[drains], conditions=[condition()])
    site.put({**dump(group()), "status": dump_status(status)})
    phases = {0: "Running", 1: "Running", 2: "Running", 3: "Pending", 4: "Failed"}
    for ordinal, phase in phases.items():
        site.put(pod_of(ordinal, phase))
    site.put(pod_of(5), metadata={"deletionTimestamp": SINCE})
    assert site.shown("dask_workergroup_desired_workers") == {"team simple simple-default": 7}
    who = "team simple simple-default"
    counted = {"ready": 2, "draining": 1, "pending": 1, "ended": 1, "leaving": 1}
    assert site.shown("dask_workergroup_workers") == {f"{who} {state}": n for state, n in counted.items()}


def test_what_workers_use_goes_on_when_they_have_gone(site: Site) -> None:
    site.put(dump(cluster()), metadata={"labels": {Label.OWNER: "ann"}})
    accounted = Usage(cpu_seconds=1000.0, memory_gib_seconds=10.0, until=format_time(NOW - 40))
    site.put({**dump(group()), "status": dump_status(DaskWorkerGroupStatus(usage=accounted))})
    site.put(pod_of(0))
    site.put(pod_of(1))
    who = "team simple worker simple-default ann"
    assert site.shown("dask_usage_cpu_seconds_total") == {who: 1000 + 2 * 40 * 0.5}
    site.now += 10
    site.caches.pods.remove(next(uid for uid, pod in site.caches.pods.store.items() if pod.name.endswith("1")))
    site.now += 100
    assert site.shown("dask_usage_cpu_seconds_total") == {who: 1000 + (150 + 50) * 0.5}
    assert site.shown("dask_usage_memory_byte_seconds_total") == {who: (10 + 200) * 2.0**30}
    assert site.shown("dask_usage_gpu_seconds_total") == {}


def test_a_schedulers_use_is_its_clusters(site: Site) -> None:
    site.put(dump(cluster()))
    deployment = scheduler_deployment(cluster())
    site.put(deployment)
    owners = {
        "ownerReferences": [{"kind": "Deployment", "uid": deployment["metadata"].get("uid", "uid-simple-scheduler")}]
    }
    owners["ownerReferences"][0]["controller"] = True
    site.put({"kind": "ReplicaSet", "metadata": {"name": "rs", "labels": selector("simple"), **owners}})
    owner = {"kind": "ReplicaSet", "uid": "uid-rs", "controller": True}
    meta = {"name": "sched", "labels": selector("simple"), "ownerReferences": [owner]}
    status = {"phase": "Running", "startTime": SINCE, "containerStatuses": [{"name": "scheduler", "restartCount": 2}]}
    spec = {"containers": [{"name": "scheduler", "resources": {"requests": {"cpu": "2"}}}]}
    site.put({"kind": "Pod", "metadata": meta, "spec": spec, "status": status})
    assert site.shown("dask_usage_cpu_seconds_total") == {"team simple scheduler simple ": 200}
    assert site.shown("dask_cluster_scheduler_restarts") == {"team simple": 2}


def test_an_autoscaler(site: Site) -> None:
    recommended = [Recommendation(replicas=9, until=SINCE), Recommendation(replicas=4)]
    status = DaskAutoscalerStatus(desired_replicas=5, recommendations=recommended)
    value = autoscaler(minimum=1, maximum=10)
    site.put({**dump(value), "status": dump_status(status)})
    who = "team simple simple"
    for name, number in (("minimum", 1), ("maximum", 10), ("desired", 5), ("recommended", 4)):
        assert site.shown(f"dask_autoscaler_{name}_workers") == {who: number}
    before = autoscaler(status=DaskAutoscalerStatus(desired_replicas=2))
    site.reported(before, status)
    site.reported(before, DaskAutoscalerStatus(desired_replicas=1))
    site.reported(before, DaskAutoscalerStatus(desired_replicas=2))
    assert site.shown("dask_autoscaler_changes_total") == {f"{who} up": 1, f"{who} down": 1}
    site.remove("DaskAutoscaler", "simple")
    assert site.shown("dask_autoscaler_changes_total") == {}


def test_a_job_is_shown_by_its_last_status_until_it_is_gone(site: Site) -> None:
    value = job()
    progress = Progress(tasks_total=8, tasks_done=3, percent=37, workers=2, last_update_time=SINCE)
    status = DaskJobStatus(job_status="Running", start_time=SINCE, progress=progress, conditions=[condition()])
    site.reported(value, status)
    assert site.shown("dask_job_info") == {"team hello ": 1}
    assert site.shown("dask_job_status") == {"team hello Running": 1}
    assert site.shown("dask_job_tasks") == {"team hello total": 8, "team hello done": 3}
    assert site.shown("dask_job_start_timestamp_seconds") == {"team hello": NOW - 100}
    assert site.shown("dask_job_condition") == {"team hello Ready True Ready": 1}
    assert site.metrics.jobs("team") == site.metrics.jobs(None) == {Key("DaskJob", "team", "hello")}
    assert site.metrics.jobs("other") == set()
    site.metrics.gone(Key("DaskJob", "team", "hello"))
    assert site.shown("dask_job_info") == {}


def test_how_long_conditions_and_runs_took(site: Site) -> None:
    waits = [condition("Ready", "False")]
    created = DaskJobStatus(job_status="ClusterCreated", active_since=SINCE, conditions=waits)
    value = msgspec.structs.replace(job(), status=created)
    running = DaskJobStatus(job_status="Running", start_time=SINCE, conditions=waits)
    site.reported(value, running)
    ended = DaskJobStatus(
        job_status="Successful", start_time=SINCE, end_time=format_time(NOW), conditions=[condition("Ready")]
    )
    site.reported(msgspec.structs.replace(value, status=running), ended)
    text = generate_latest(site.registry).decode()
    assert "dask_job_wait_seconds_sum 100.0" in text
    assert 'dask_job_duration_seconds_sum{status="Successful"} 100.0' in text
    assert 'dask_condition_seconds_sum{condition="Ready",kind="DaskJob",status="False"} 100.0' in text
    assert 'dask_condition_seconds_count{condition="Ready",kind="DaskJob",status="False"} 1.0' in text


def test_another_scheduler_in_place_of_one(site: Site) -> None:
    site.put(dump(cluster()))
    before = msgspec.structs.replace(cluster(), status=DaskClusterStatus(scheduler_pod_uid="a"))
    for uid in ("a", None, "b"):
        site.reported(before, DaskClusterStatus(scheduler_pod_uid=uid))
    assert site.shown("dask_cluster_scheduler_replacements_total") == {"team simple": 1}


def test_who_does_not_lead_shows_nothing(site: Site) -> None:
    site.put(dump(cluster()))
    site.leads = False
    assert site.shown("dask_cluster_info") == {}


def test_a_mistake_in_the_metrics_stops_nobody(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.reported(autoscaler(status=DaskAutoscalerStatus(conditions=[1])), DaskAutoscalerStatus())  # type: ignore[list-item]
    assert "metrics of DaskAutoscaler team/simple" in caplog.text


def test_names_are_proper_and_there_is_one_of_each() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names) > 25
    assert all(metric.name.endswith("_total") == (metric.type == "counter") for metric in METRICS)
    assert not [name for name in names if name.startswith(("dask_scheduler_", "dask_worker_"))], "these are Dask's"


def test_a_scrape_takes_time_in_proportion(capsys: pytest.CaptureFixture[str]) -> None:
    """With ten times as many clusters about ten times as long; how long that is, is printed."""

    def seconds(clusters: int) -> float:
        site = Site()
        types = ("Ready", "Reconciling", "Stalled", "SchedulerReady", "WorkersReady", "Suspended")
        conditions = list(map(condition, types))
        usage = Usage(cpu_seconds=1.0, memory_gib_seconds=1.0, until=SINCE)
        for number in range(clusters):
            name, of = f"c{number}", cluster(f"c{number}")
            site.put({**dump(of), "status": dump_status(DaskClusterStatus(conditions=conditions, usage=usage))})
            g = group(f"{name}-default", cluster_name=name)
            status = DaskWorkerGroupStatus(conditions=conditions[:3], desired_replicas=5, usage=usage)
            site.put({**dump(g), "status": dump_status(status)})
            for ordinal in range(5):
                pod = pod_of(ordinal)
                pod["metadata"] |= {"name": f"{name}-{ordinal}", "labels": {}}
                pod["metadata"]["ownerReferences"] = [{"uid": g.uid, "kind": g.kind, "controller": True}]
                site.put(pod)
        took = []
        for _ in range(3):
            begin = time.process_time()
            text = site.metrics.text()
            took.append(time.process_time() - begin)
        with capsys.disabled():
            print(f"\n{clusters} clusters, {5 * clusters} workers: {min(took) * 1000:.0f} ms, {len(text):,} bytes")
        return min(took)

    few, many = seconds(100), seconds(1000)
    assert many < 25 * few


def test_waits_for_quota_are_counted_by_who_leads_and_for_our_kinds_alone(site: Site) -> None:
    site.caches.queues.on_admitted("DaskJob", 7.0)
    site.caches.queues.on_admitted("a stranger's word", 7.0)
    site.leads = False
    site.caches.queues.on_admitted("DaskJob", 7.0)
    text = generate_latest(site.registry).decode()
    assert [line for line in text.splitlines() if line.startswith("dask_queue_wait_seconds_count")] == [
        'dask_queue_wait_seconds_count{kind="DaskJob"} 1.0'
    ]


def test_the_page_of_metrics_has_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    assert page == metrics(GENERATED), "run `python -m dask_synth`"
    assert all(f"| `{metric.name}` | {metric.type} |" in page for metric in METRICS)
