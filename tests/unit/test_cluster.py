"""Decisions about a cluster."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.states import NOW, PULL_ERROR, cluster, condition, observed_cluster, scheduler_pod

from dask_controller.core.actions import Answers, Apply, Delete, Event, Outcome
from dask_controller.core.cluster import cluster_status, contains, plan_cluster
from dask_controller.core.conditions import condition as make_condition
from dask_crds import names
from dask_crds.model import DaskWorkerGroup, DaskWorkerGroupStatus, dump, parse
from dask_resources.scheduler import extension_config_map, scheduler_deployment, scheduler_service
from dask_resources.worker import default_worker_group


def applied(plan):
    return [action.manifest["kind"] for action in plan.actions if isinstance(action, Apply)]


def live_group(of, size=2, **status) -> DaskWorkerGroup:
    manifest = default_worker_group(of, size)
    manifest["metadata"] |= {"resourceVersion": "5", "uid": "uid-group"}
    value = parse(manifest)
    return msgspec.structs.replace(value, status=DaskWorkerGroupStatus(**status))


def complete(of, **fields):
    """A cluster all of whose children exist as asked."""
    ready = [make_condition("Ready", True, "Ready")]
    defaults = {
        "config_map": extension_config_map(of),
        "deployment": scheduler_deployment(of),
        "service": scheduler_service(of),
        "groups": (live_group(of, ready_replicas=2, replicas=2, desired_replicas=2, conditions=ready),),
        "scheduler_pods": (scheduler_pod(of.name),),
    }
    return observed_cluster(of, **(defaults | fields))


def test_a_new_cluster_gets_its_children_the_config_map_first():
    assert applied(plan_cluster(observed_cluster(cluster()), NOW)) == [
        "ConfigMap",
        "Service",
        "Deployment",
        "DaskWorkerGroup",
    ]


def test_children_as_asked_are_left_alone():
    assert plan_cluster(complete(cluster()), NOW).actions == ()


@pytest.mark.parametrize("child", ["config_map", "service", "deployment"])
def test_a_missing_child_comes_back(child):
    assert len(applied(plan_cluster(complete(cluster(), **{child: None}), NOW))) == 1


def test_what_the_api_server_added_is_no_difference():
    service = scheduler_service(cluster())
    service["spec"] |= {"clusterIP": "10.0.0.1", "sessionAffinity": "None"}
    assert plan_cluster(complete(cluster(), service=service), NOW).actions == ()


def test_a_changed_scheduler_template_is_applied():
    assert applied(
        plan_cluster(complete(cluster(), deployment=scheduler_deployment(cluster(image="dask:0"))), NOW)
    ) == ["Deployment"]


def test_suspending_takes_the_scheduler_down():
    (action,) = plan_cluster(complete(cluster(suspend=True), deployment=scheduler_deployment(cluster())), NOW).actions
    assert action.manifest["spec"]["replicas"] == 0


def test_the_size_that_a_client_gave_the_default_group_survives_a_template_change():
    new = cluster(image="dask:2", replicas=2)
    o = complete(new, groups=(live_group(cluster(replicas=2), size=7),))
    (action,) = [a for a in plan_cluster(o, NOW).actions if a.manifest["kind"] == "DaskWorkerGroup"]
    assert action.manifest["spec"]["worker"]["replicas"] == 7
    assert action.manifest["metadata"]["resourceVersion"] == "5"


def test_the_size_that_a_client_gave_the_default_group_is_no_difference():
    o = complete(cluster(replicas=2), groups=(live_group(cluster(replicas=2), size=7),))
    assert applied(plan_cluster(o, NOW)) == []


def test_a_changed_number_on_the_cluster_is_handed_on():
    o = complete(cluster(replicas=3), groups=(live_group(cluster(replicas=2), size=7),))
    (action,) = plan_cluster(o, NOW).actions
    assert action.manifest["spec"]["worker"]["replicas"] == 3


def test_somebody_elses_child_is_never_taken_over():
    service = scheduler_service(cluster())
    service["metadata"]["ownerReferences"] = []
    service["spec"] = {"type": "NodePort"}
    o = complete(cluster(), service=service)
    plan = plan_cluster(o, NOW)
    assert plan.actions == ()
    status = cluster_status(o, plan, [], NOW)
    assert status.phase == "Error"
    ready = condition(status.conditions, "Ready")
    assert ready.reason == "NameConflict"
    assert "Service simple-scheduler" in ready.message


def test_phase_is_running_as_soon_as_all_was_written():
    o = observed_cluster(cluster())
    plan = plan_cluster(o, NOW)
    status = cluster_status(o, plan, [Outcome(a) for a in plan.actions], NOW)
    assert status.phase == "Running"
    assert condition(status.conditions, "Ready").status == "False"


def test_phase_is_not_running_when_a_write_failed():
    o = observed_cluster(cluster())
    plan = plan_cluster(o, NOW)
    status = cluster_status(o, plan, [Outcome(plan.actions[0], "no", "Unreachable")], NOW)
    assert status.phase == "Created"


def test_a_load_balancer_without_address_is_pending():
    spec = msgspec.structs.replace(cluster().spec.scheduler, service={"type": "LoadBalancer"})
    c = msgspec.structs.replace(cluster(), spec=msgspec.structs.replace(cluster().spec, scheduler=spec))
    service = scheduler_service(c)
    assert cluster_status(complete(c, service=service), plan_cluster(complete(c), NOW), [], NOW).phase == "Pending"
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}
    assert cluster_status(complete(c, service=service), plan_cluster(complete(c), NOW), [], NOW).phase == "Running"


def test_a_scheduler_that_cannot_be_pulled_says_so():
    o = complete(cluster(), scheduler_pods=(scheduler_pod(ready=False, phase="Pending", problem=PULL_ERROR),))
    status = cluster_status(o, plan_cluster(o, NOW), [], NOW)
    for type in ("Ready", "SchedulerReady"):
        assert condition(status.conditions, type).reason == "ImagePullBackOff"
    assert status.phase == "Running", "clients delete a cluster that is not Running within 60 s"


def test_a_deployment_that_cannot_make_pods_says_so():
    deployment = scheduler_deployment(cluster())
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    deployment["status"] = {"conditions": [failure]}
    o = complete(cluster(), deployment=deployment, scheduler_pods=())
    ready = condition(cluster_status(o, plan_cluster(o, NOW), [], NOW).conditions, "Ready")
    assert (ready.reason, ready.message) == ("FailedCreate", "scheduler: exceeded quota")


def test_a_complete_cluster_is_ready():
    o = complete(cluster())
    status = cluster_status(o, plan_cluster(o, NOW), [], NOW)
    assert {c.type: c.status for c in status.conditions} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "SchedulerReady": "True",
        "WorkersReady": "True",
        "Suspended": "False",
    }
    assert (status.workers, status.replicas, status.ready_replicas) == ("2/2", 2, 2)
    assert status.scheduler_address == "tcp://simple-scheduler.team.svc.cluster.local:8786"
    assert status.dashboard_address == "http://simple-scheduler.team.svc.cluster.local:8787"


def test_ready_goes_false_again_when_pods_die_and_the_time_tells_when():
    o = complete(cluster())
    before = cluster_status(o, plan_cluster(o, NOW), [], NOW)
    later = complete(msgspec.structs.replace(cluster(), status=before), scheduler_pods=())
    after = cluster_status(later, plan_cluster(later, NOW), [], NOW + 60)
    assert condition(after.conditions, "Ready").status == "False"
    assert (
        condition(after.conditions, "Ready").last_transition_time
        > condition(before.conditions, "Ready").last_transition_time
    )


def test_a_status_computed_twice_is_the_same():
    o = complete(cluster())
    first = cluster_status(o, plan_cluster(o, NOW), [], NOW)
    again = complete(msgspec.structs.replace(cluster(), status=first))
    assert cluster_status(again, plan_cluster(again, NOW), [], NOW + 500) == first


def test_what_does_not_get_ready_stalls_in_the_end():
    broken = (scheduler_pod(ready=False, phase="Pending", problem=PULL_ERROR),)
    o = complete(cluster(), scheduler_pods=broken)
    first = cluster_status(o, plan_cluster(o, NOW), [], NOW)
    assert condition(first.conditions, "Stalled").status == "False"
    o = complete(msgspec.structs.replace(cluster(), status=first), scheduler_pods=broken)
    stalled = condition(cluster_status(o, plan_cluster(o, NOW), [], NOW + 601).conditions, "Stalled")
    assert (stalled.status, stalled.reason) == ("True", "ProgressDeadlineExceeded")


class TestIdleTimeout:
    def test_without_one_the_scheduler_is_not_asked(self):
        assert plan_cluster(complete(cluster()), NOW).ask is None
        assert plan_cluster(complete(cluster(idle_timeout=0)), NOW).ask is None

    def test_the_scheduler_is_asked(self):
        assert plan_cluster(complete(cluster(idle_timeout=60)), NOW).ask.idle

    def test_a_busy_cluster_stays(self):
        plan = plan_cluster(complete(cluster(idle_timeout=60), answers=Answers()), NOW)
        assert (plan.actions, plan.requeue_after) == ((), 60)

    def test_it_is_looked_at_again_when_its_time_is_up(self):
        plan = plan_cluster(complete(cluster(idle_timeout=60), answers=Answers(idle_seconds=45.0)), NOW)
        assert (plan.actions, plan.requeue_after) == ((), 15.0)

    def test_an_idle_cluster_is_deleted(self):
        plan = plan_cluster(complete(cluster(idle_timeout=60), answers=Answers(idle_seconds=60.0)), NOW)
        event, deletion = plan.actions
        assert isinstance(event, Event)
        assert deletion == Delete("DaskCluster", "team", "simple", "uid-simple")

    def test_a_silent_scheduler_is_not_an_idle_one(self):
        plan = plan_cluster(complete(cluster(idle_timeout=1), answers=Answers(silent="gone")), NOW)
        assert plan.actions == ()


def test_contains_compares_lists_as_wholes():
    assert contains({"a": [{"b": 1, "c": 2}], "d": 1}, {"a": [{"b": 1}]})
    assert not contains({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}]})
    assert not contains({}, {"a": None})


def test_the_default_group_of_the_cluster_is_found_by_name():
    assert names.default_group("simple") == "simple-default"
    assert dump(live_group(cluster()))["metadata"]["name"] == "simple-default"
