"""Who is found in the caches, and whom a change wakes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from tests.support.offline import OFFLINE
from tests.support.states import NAMESPACE, NOW, autoscaler, cluster, group, job, metadata
from tests.support.virtual_time import virtual_time

from dask_controller.core.observed import ObservedCluster
from dask_controller.core.worker_group import plan_worker_group
from dask_controller.shell.caches import TAKEN_SECONDS, Caches, Key
from dask_controller.shell.dispatch import snapshot
from dask_controller.shell.wakeups import (
    AUTOSCALER_GATHER_SECONDS,
    CLUSTER_GATHER_SECONDS,
    GATHER_SECONDS,
    wake_by,
)
from dask_crds import names
from dask_crds.model import DaskClusterStatus, DaskObject, DaskWorkerGroupStatus, DrainingWorker, dump
from dask_crds.names import Label
from dask_resources.job import runner_job
from dask_resources.scheduler import scheduler_deployment, scheduler_service, selector
from dask_resources.worker import worker_pod

CLUSTER, GROUP, OTHER = (
    Key("DaskCluster", NAMESPACE, "simple"),
    Key("DaskWorkerGroup", NAMESPACE, "simple-default"),
    Key("DaskWorkerGroup", NAMESPACE, "simple-gpu"),
)
JOB, SCALER, GPU_SCALER = (
    Key("DaskJob", NAMESPACE, "simple"),
    Key("DaskAutoscaler", NAMESPACE, "simple"),
    Key("DaskAutoscaler", NAMESPACE, "gpu"),
)


class Site:
    """Caches into which objects are put, and whom that wakes."""

    def __init__(self) -> None:
        self.woken: dict[Key, float] = {}
        self.caches = Caches(OFFLINE, None, wake_by(self._wake))
        self._version = 0

    def _wake(self, key: Key, delay: float) -> None:
        self.woken[key] = min(delay, self.woken.get(key, delay))

    def put(self, manifest: dict[str, Any] | DaskObject, **changes: Any) -> dict[Key, float]:
        """Have an object created or changed; tells who was woken."""
        self._version += 1
        manifest = json.loads(json.dumps(manifest if isinstance(manifest, dict) else dump(manifest)))
        manifest["metadata"].update(resourceVersion=str(self._version), **changes)
        manifest["metadata"].setdefault("uid", f"uid-{manifest['metadata']['name']}")
        self.woken.clear()
        for informer in self.caches.informers.values():
            informer.put(manifest)
        return dict(self.woken)

    def remove(self, kind: str, uid: str) -> dict[Key, float]:
        self.woken.clear()
        self.caches.informers[kind].remove(uid)
        return dict(self.woken)


@pytest.fixture
def site() -> Site:
    """A cluster with two groups, of which each has an autoscaler; and another cluster with one of each."""
    site = Site()
    for value in (cluster(), group(), group("simple-gpu"), autoscaler()):
        site.put(value)
    site.put(msgspec.structs.replace(autoscaler(worker_group="simple-gpu"), metadata=metadata("gpu")))
    for value in (cluster("other"), group("other-default", cluster_name="other")):
        site.put(value)
    site.put(autoscaler_of("other"))
    return site


def autoscaler_of(cluster: str, name: str = "other") -> dict[str, Any]:
    manifest = dump(autoscaler())
    manifest["metadata"] = metadata(name)
    manifest["spec"]["cluster"] = cluster
    return manifest


def scheduler_pod(**metadata_fields: Any) -> dict[str, Any]:
    labels = selector("simple")
    spec = {"containers": [{"name": "scheduler"}]}
    return {"kind": "Pod", "metadata": metadata("scheduler-x", labels=labels, **metadata_fields), "spec": spec}


def replica_set() -> dict[str, Any]:
    return {"kind": "ReplicaSet", "metadata": metadata("scheduler", labels=selector("simple"))}


# --- whom a change wakes ----------------------------------------------------------------------------------------------


def test_a_worker_concerns_its_group_and_all_autoscalers_of_its_cluster(site: Site) -> None:
    """The question of each autoscaler names all workers of the cluster."""
    woken = site.put(worker_pod(group(), 0, "abcde"))
    scalers = {SCALER: AUTOSCALER_GATHER_SECONDS, GPU_SCALER: AUTOSCALER_GATHER_SECONDS}
    assert woken == {GROUP: GATHER_SECONDS, **scalers}
    assert site.put(worker_pod(group(), 0, "abcde"), deletionTimestamp="2026-01-01T00:00:00Z") == woken
    assert site.remove("Pod", "uid-simple-default-worker-0") == woken


def test_a_scheduler_concerns_all_whose_questions_go_to_it(site: Site) -> None:
    woken = site.put(scheduler_pod())
    groups = {GROUP: GATHER_SECONDS, OTHER: GATHER_SECONDS}
    assert woken == {
        CLUSTER: CLUSTER_GATHER_SECONDS,
        **groups,
        SCALER: GATHER_SECONDS,
        GPU_SCALER: GATHER_SECONDS,
    }


def test_a_scheduler_concerns_the_job_that_waits_for_it_to_come_or_to_go(site: Site) -> None:
    owner = {"apiVersion": names.API_VERSION, "kind": "DaskJob", "name": "simple", "uid": "x", "controller": True}
    assert JOB in site.put(cluster(), ownerReferences=[owner])
    assert site.put(scheduler_pod())[JOB] == 0.0
    site.remove("DaskCluster", "uid-simple")
    assert JOB in site.remove("Pod", "uid-scheduler-x")


def test_what_a_cluster_asks_for_concerns_its_groups_and_its_status_does_not(site: Site) -> None:
    groups = {GROUP: GATHER_SECONDS, OTHER: GATHER_SECONDS}
    assert site.put(cluster(), generation=2) == groups
    assert site.put({**dump(cluster()), "status": {"phase": "Running"}}, generation=2) == {}
    assert site.remove("DaskCluster", "uid-simple") == groups


def test_what_a_group_asks_for_concerns_all_autoscalers_of_its_cluster_and_its_status_does_not(site: Site) -> None:
    scalers = {SCALER: AUTOSCALER_GATHER_SECONDS, GPU_SCALER: AUTOSCALER_GATHER_SECONDS}
    assert site.put(group(replicas=3), generation=2) == {CLUSTER: CLUSTER_GATHER_SECONDS, **scalers}
    status = {"readyReplicas": 3}
    assert site.put({**dump(group()), "status": status}, generation=2) == {CLUSTER: CLUSTER_GATHER_SECONDS}
    suspended = {"type": "Ready", "status": "True", "reason": "Suspended", "lastTransitionTime": "x"}
    woken = site.put({**dump(group()), "status": {"conditions": [suspended]}}, generation=2)
    assert woken == {CLUSTER: CLUSTER_GATHER_SECONDS, SCALER: GATHER_SECONDS}


def test_what_an_autoscaler_asks_for_concerns_all_autoscalers_of_its_cluster_and_its_status_does_not(
    site: Site,
) -> None:
    """Else they would wake one another without end: each writes its status when it has been woken."""
    scalers = {SCALER: AUTOSCALER_GATHER_SECONDS, GPU_SCALER: AUTOSCALER_GATHER_SECONDS}
    told = {GROUP: 0.0, CLUSTER: CLUSTER_GATHER_SECONDS, **scalers}  # its cluster may state it
    assert site.put(autoscaler(maximum=20), generation=2) == told
    status = {"desiredReplicas": 3}
    assert site.put({**dump(autoscaler()), "status": status}, generation=2) == {GROUP: 0.0}


def test_an_autoscaler_that_turns_to_another_group_concerns_the_one_it_has_left(site: Site) -> None:
    woken = site.put(autoscaler(worker_group="simple-gpu"), generation=2)
    scalers = {SCALER: GATHER_SECONDS, GPU_SCALER: GATHER_SECONDS}
    assert woken == {GROUP: 0.0, OTHER: 0.0, CLUSTER: CLUSTER_GATHER_SECONDS, **scalers}


def test_what_comes_and_goes_concerns_its_rivals(site: Site) -> None:
    assert site.put(autoscaler_of("simple", "rival"))[SCALER] == GATHER_SECONDS
    assert site.remove("DaskAutoscaler", "uid-rival")[SCALER] == GATHER_SECONDS


def test_children_concern_their_cluster_or_job(site: Site) -> None:
    deployment = scheduler_deployment(cluster())
    by_cluster = {CLUSTER: CLUSTER_GATHER_SECONDS}
    assert site.put(deployment) == by_cluster | dict.fromkeys((GROUP, OTHER), GATHER_SECONDS), "another operator's?"
    assert site.put(deployment) == by_cluster
    assert site.put(scheduler_service(cluster())) == by_cluster
    assert site.put(runner_job(job("simple"))) == {JOB: GATHER_SECONDS}


def test_a_service_concerns_the_job_whose_program_finds_the_scheduler_by_it(site: Site) -> None:
    """Found by tests/faults: a job that looked while it was away waited for the scheduler for ever."""
    owner = {"apiVersion": names.API_VERSION, "kind": "DaskJob", "name": "simple", "uid": "x", "controller": True}
    site.put(cluster(), ownerReferences=[owner])
    service = scheduler_service(cluster())
    assert site.put(service) == {CLUSTER: CLUSTER_GATHER_SECONDS, JOB: GATHER_SECONDS}
    assert JOB in site.remove("Service", "uid-simple-scheduler")


def test_a_child_that_names_another_cluster_concerns_the_one_it_has_left(site: Site) -> None:
    service = scheduler_service(cluster())
    site.put(service)
    woken = site.put(service, labels={Label.CLUSTER: "other"})
    assert woken == dict.fromkeys((CLUSTER, Key("DaskCluster", NAMESPACE, "other")), CLUSTER_GATHER_SECONDS)


@pytest.mark.parametrize(
    ("manifest", "of_another", "left", "found"),
    [
        (worker_pod(group(), 0, "abcde"), {Label.WORKER_GROUP: "simple-gpu"}, GROUP, OTHER),
        (scheduler_pod(), {Label.CLUSTER: "other"}, CLUSTER, Key("DaskCluster", NAMESPACE, "other")),
        (scheduler_pod(), {Label.COMPONENT: "none"}, CLUSTER, CLUSTER),
        (replica_set(), {Label.CLUSTER: "other"}, CLUSTER, Key("DaskCluster", NAMESPACE, "other")),
    ],
    ids=["worker", "scheduler", "nothing", "ReplicaSet"],
)
def test_a_pod_that_somebody_labels_anew_concerns_whom_it_has_left(
    site: Site, manifest: dict[str, Any], of_another: dict[str, str], left: Key, found: Key
) -> None:
    site.put(manifest)
    woken = site.put(manifest, labels=manifest["metadata"]["labels"] | of_another)
    assert {left, found} <= woken.keys()


def test_without_autoscalers_a_worker_wakes_nobody_else() -> None:
    site = Site()
    assert site.put(worker_pod(group(), 0, "abcde")) == {GROUP: GATHER_SECONDS}


# --- lookups ----------------------------------------------------------------------------------------------------------


def test_workers_are_those_in_the_groups_own_namespace(site: Site) -> None:
    """Security finding 6: a uid in an owner reference is what somebody says; of another namespace it is nothing."""
    site.put(worker_pod(group(), 0, "abcde"))
    site.put(worker_pod(group(), 1, "abcde"), namespace="evil", uid="evil")
    assert [pod.uid for pod in site.caches.workers_of(group())] == ["uid-simple-default-worker-0"]


def test_a_worker_is_found_by_its_owner_whatever_its_labels_say(site: Site) -> None:
    site.put(worker_pod(group(), 0, "abcde"), labels=selector("simple"))
    assert len(site.caches.workers_of(group())) == 1


@pytest.mark.parametrize(
    "spec",
    [
        {**dump(cluster())["spec"], "idleTimeout": "soon"},
        {**dump(cluster())["spec"], "idleAction": "x" * 300_000},
    ],
    ids=["does not parse", "too large"],
)
def test_a_cluster_that_cannot_be_read_is_not_one_that_is_gone(site: Site, spec: Any) -> None:
    """Finding 10 of the controller: its workers would be deleted."""
    caches = site.caches
    assert not caches.is_unreadable(NAMESPACE, "simple")
    site.put({**dump(cluster()), "spec": spec}, generation=2)
    assert caches.cluster(NAMESPACE, "simple") is None
    assert caches.is_unreadable(NAMESPACE, "simple")
    assert not caches.is_unreadable(NAMESPACE, "other")
    assert not caches.is_unreadable("elsewhere", "simple")
    assert caches.cached(CLUSTER) is None
    site.put({**dump(cluster()), "spec": spec}, generation=3, deletionTimestamp="2026-01-01T00:00:00Z")
    assert not caches.is_unreadable(NAMESPACE, "simple")
    assert not caches.is_unreadable(NAMESPACE, "never there")


def test_what_is_being_deleted_is_not_there(site: Site) -> None:
    caches = site.caches
    assert len(caches.groups_of(NAMESPACE, "simple")) == 2
    for value in (cluster(), group(), autoscaler()):
        site.put(value, deletionTimestamp="2026-01-01T00:00:00Z")
    assert caches.cluster(NAMESPACE, "simple") is None
    assert [g.name for g in caches.groups_of(NAMESPACE, "simple")] == ["simple-gpu"]
    assert caches.autoscaler_of(group()) is None


def test_the_oldest_autoscaler_is_in_charge(site: Site) -> None:
    site.put(autoscaler(), creationTimestamp="2026-01-02T00:00:00Z")
    site.put(autoscaler_of("simple", "rival"), creationTimestamp="2026-01-01T00:00:00Z")
    found = site.caches.autoscaler_of(group())
    assert found is not None
    assert found.name == "rival"


def test_a_whole_resource_is_found_by_its_key(site: Site) -> None:
    for key in (CLUSTER, GROUP, SCALER):
        manifest = site.caches.cached(key)
        assert manifest is not None
        assert (manifest["kind"], manifest["metadata"]["name"]) == (key.kind, key.name)
    assert site.caches.cached(JOB) is None
    assert site.caches.cached(Key("DaskCluster", NAMESPACE, "none")) is None
    site.put(group(), annotations={"note": "x" * 100_000})
    assert site.caches.cached(GROUP) is None
    assert len(site.caches.groups_of(NAMESPACE, "simple")) == 2


def test_a_resource_whose_present_spec_no_status_speaks_of_is_known(site: Site) -> None:
    """A replica that begins to lead looks at those first: of a thousand others nobody waits for any."""
    observed = {"status": {"observedGeneration": 1}}
    for value in (cluster(), group(), group("simple-gpu"), autoscaler()):
        site.put(dump(value) | observed)
    for key in (CLUSTER, GROUP, SCALER):
        assert key not in set(site.caches.unobserved())
    site.put(dump(group()) | observed, generation=2)
    site.put(dump(group("simple-gpu")) | observed, generation=2, deletionTimestamp="2026-01-01T00:00:00Z")
    assert {key for key in site.caches.unobserved() if key.name.startswith("simple")} == {GROUP}


class TestSchedulerPods:
    """(security 5, strangers 7) Two labels made any Pod the scheduler; what counts is who has made it."""

    def test_they_are_found_from_owner_to_owner(self, site: Site) -> None:
        site.put(scheduler_deployment(cluster()), uid="deployment")
        assert CLUSTER in site.put(replica_set("set", "deployment"))
        site.put(scheduler("mine", "set"))
        assert [pod.uid for pod in site.caches.scheduler_pods(cluster())] == ["mine"]

    @pytest.mark.parametrize(
        ("of_deployment", "of_set", "of_pod"),
        [
            ("uid-simple", "deployment", "another set"),
            ("uid-simple", "another deployment", "set"),
            ("of an earlier cluster", "deployment", "set"),
            ("uid-simple", "deployment", None),
        ],
    )
    def test_a_claim_is_not_enough(self, site: Site, of_deployment: str, of_set: str, of_pod: str | None) -> None:
        deployment = scheduler_deployment(cluster())
        deployment["metadata"]["ownerReferences"][0]["uid"] = of_deployment
        site.put(deployment, uid="deployment")
        site.put(replica_set("set", of_set))
        site.put(scheduler("theirs", of_pod))
        assert site.caches.scheduler_pods(cluster()) == ()

    def test_one_in_another_namespace_is_not_taken(self, site: Site) -> None:
        """(security 6)"""
        site.put(scheduler_deployment(cluster()), uid="deployment")
        site.put(replica_set("set", "deployment"))
        site.put(scheduler("theirs", "set"), namespace="elsewhere")
        assert site.caches.scheduler_pods(cluster()) == ()

    def test_one_that_was_evicted_is_no_scheduler_but_tells_why(self, site: Site) -> None:
        """(controller 1, strangers 8) It stays beside its successor, with its address."""
        site.put(scheduler_deployment(cluster()), uid="deployment")
        site.put(replica_set("set", "deployment"))
        evicted = scheduler("evicted", "set")
        evicted["status"] = {"phase": "Failed", "reason": "Evicted", "message": "no disk", "podIP": "10.0.0.1"}
        site.put(evicted)
        observed = snapshot(site.caches, cluster())
        assert isinstance(observed, ObservedCluster)
        assert observed.scheduler_pods == ()
        assert observed.last_problem is not None
        assert observed.last_problem.reason == "Evicted"
        site.put(scheduler("successor", "set"))
        for value in (cluster(), group(), autoscaler(), job("simple")):
            assert [pod.uid for pod in snapshot(site.caches, value).scheduler_pods] == ["successor"], value.kind

    def test_one_whose_deployment_is_out_of_sight_is_the_scheduler_still(self, site: Site) -> None:
        """Somebody has taken our labels from the Deployment: no run is lost by that, no worker deleted undrained."""
        seen = msgspec.structs.replace(cluster(), status=DaskClusterStatus(scheduler_pod_uid="mine"))
        ledger = [DrainingWorker(name="simple-default-worker-0", since="2027-01-15T08:00:00Z")]
        drains = group(replicas=0, status=DaskWorkerGroupStatus(draining=ledger))
        site.put(seen)
        site.put(scheduler_deployment(cluster()), uid="deployment")
        site.put(replica_set("set", "deployment"))
        for pod in (scheduler("mine", "set"), scheduler("theirs", "another set")):
            site.put({**pod, "status": {"phase": "Running"}})
        site.put({**worker_pod(drains, 0, "abcde"), "status": {"phase": "Running"}})
        for labels in (selector("simple"), {}):
            site.put(scheduler_deployment(cluster()), uid="deployment", labels=labels)
            for value in (seen, drains, autoscaler(), job("simple")):
                assert [pod.uid for pod in snapshot(site.caches, value).scheduler_pods] == ["mine"], value.kind
            plan = plan_worker_group(snapshot(site.caches, drains), NOW)  # type: ignore[arg-type]
            assert (plan.ask is not None, plan.actions) == (True, ())
        assert site.caches.scheduler_pods(cluster()) == (), "another cluster of that name has not seen it"

    def test_what_a_cluster_that_is_gone_has_left(self, site: Site) -> None:
        site.put(scheduler("garbage", "set"))
        site.put(scheduler("a claim", None))
        ended = scheduler("ended", "set")
        ended["status"] = {"phase": "Failed"}
        site.put(ended)
        assert [pod.uid for pod in site.caches.leftover_schedulers(NAMESPACE, "simple")] == ["garbage"]


def replica_set(uid: str, deployment: str) -> dict[str, Any]:
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": deployment, "controller": True}
    labels = selector("simple")
    return {"kind": "ReplicaSet", "metadata": metadata(uid, uid=uid, labels=labels, ownerReferences=[owner])}


def scheduler(uid: str, owner: str | None) -> dict[str, Any]:
    owners = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": owner, "controller": True}]
    references = {"ownerReferences": owners} if owner else {}
    return {
        "kind": "Pod",
        "metadata": metadata(f"pod-{uid}".replace(" ", "-"), uid=uid, labels=selector("simple"), **references),
        "spec": {"containers": [{"name": "scheduler"}]},
    }


class TestLookedOver:
    """(strangers 9) Of some children only metadata is cached: their version tells that somebody changed them."""

    def test_another_version_is_not_known_to_be_as_stated(self, site: Site) -> None:
        seen = {"metadata": {"uid": "x", "resourceVersion": "1"}}
        site.caches.verify(seen)
        assert site.caches.is_verified(seen)
        assert not site.caches.is_verified({"metadata": {"uid": "x", "resourceVersion": "2"}})
        assert not site.caches.is_verified({"metadata": {"uid": "y", "resourceVersion": "1"}})

    def test_status_does_not_count_where_there_is_a_generation(self, site: Site) -> None:
        site.caches.verify({"metadata": {"uid": "x", "resourceVersion": "1", "generation": 3}})
        assert site.caches.is_verified({"metadata": {"uid": "x", "resourceVersion": "9", "generation": 3}})

    def test_what_had_no_effect_is_known_for_that_version(self, site: Site) -> None:
        seen = {"metadata": {"uid": "x", "resourceVersion": "1"}}
        site.caches.settle(seen, "digest")
        assert site.caches.settled(None, seen) == {"digest"}
        assert site.caches.settled({"metadata": {"uid": "x", "resourceVersion": "2"}}) == frozenset()

    def test_it_is_forgotten_with_the_child(self, site: Site) -> None:
        site.put(scheduler_deployment(cluster()), uid="deployment", generation=1)
        seen = site.caches.deployment(NAMESPACE, "simple")
        assert seen is not None
        site.caches.verify(seen)
        site.caches.settle(seen, "digest")
        site.remove("Deployment", "deployment")
        assert not site.caches.is_verified(seen)
        assert site.caches.settled(seen) == frozenset()


@virtual_time
async def test_a_name_is_believed_to_be_taken_for_some_time() -> None:
    """(controller 7, strangers 10)"""
    caches = Site().caches
    caches.take(NAMESPACE, "simple-default", 0)
    assert caches.taken(NAMESPACE, "simple-default") == {0}
    assert caches.taken(NAMESPACE, "other") == frozenset()
    await asyncio.sleep(TAKEN_SECONDS)
    assert caches.taken(NAMESPACE, "simple-default") == frozenset()
