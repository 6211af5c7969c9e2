"""Decisions about a cluster."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.questions import answers_of
from tests.support.states import NOW, PULL_ERROR, cluster, condition, observed_cluster, scheduler_pod

from dask_controller.core.actions import Apply, Delete, Event, Outcome, Patch, Plan
from dask_controller.core.cached_child import ChildForm, cached_child
from dask_controller.core.cluster import ASKED_EVERY_SECONDS, plan_cluster
from dask_controller.core.cluster_status import cluster_status
from dask_controller.core.conditions import condition as make_condition
from dask_controller.core.questions import Idle, NoClient, PackageVersions, Versions
from dask_controller.core.telling import told
from dask_controller.core.time import format_time
from dask_crds import names
from dask_crds.model import (
    DaskClusterStatus,
    DaskWorkerGroup,
    DaskWorkerGroupStatus,
    SchedulerUpdateStrategy,
    TemplateMetadata,
    dump,
    parse,
)
from dask_crds.names import Annotation
from dask_resources.scheduler import (
    disruption_budget,
    extension_config_map,
    scheduler_deployment,
    scheduler_metadata,
    scheduler_service,
)
from dask_resources.worker_groups import stated_groups, worker_group


def applied(plan):
    return [action.manifest["kind"] for action in plan.actions if isinstance(action, Apply)]


def live_group(of, size=2, **status) -> DaskWorkerGroup:
    manifest = worker_group(of, next(stated_groups(of.spec)))
    manifest["spec"]["worker"]["replicas"] = size
    manifest["metadata"] |= {"resourceVersion": "5", "uid": "uid-group"}
    value = parse(manifest)
    status = {"observed_generation": value.generation} | status
    return msgspec.structs.replace(value, status=DaskWorkerGroupStatus(**status))


def live(manifest, uid="uid-child"):
    manifest["metadata"]["uid"] = uid
    return manifest


def complete(of, **fields):
    """A cluster all of whose children exist as asked."""
    ready = [make_condition("Ready", True, "Ready")]
    defaults = {
        "config_map": live(extension_config_map(of)),
        "deployment": live(scheduler_deployment(of)),
        "service": live(scheduler_service(of)),
        "disruption_budget": live(disruption_budget(of)),
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


def test_metadata_of_the_service_alone_is_brought_up_to_date():
    """A cloud's load balancer is set up by them; the scheduler is not restarted, and has none of them."""
    of, metadata = cluster(), TemplateMetadata(annotations={"example.com/lb": "internal"})
    scheduler = msgspec.structs.replace(of.spec.scheduler, service_metadata=metadata)
    stated = msgspec.structs.replace(of, spec=msgspec.structs.replace(of.spec, scheduler=scheduler))
    (action,) = plan_cluster(complete(stated, **live_children(of)), NOW).actions
    assert (action.kind, action.name) == ("Service", "simple-scheduler")
    assert action.patch["metadata"]["annotations"]["example.com/lb"] == "internal"
    assert plan_cluster(complete(stated), NOW).actions == ()


def live_children(of):
    """Scheduler and Service of a cluster as they were made."""
    return {"deployment": live(scheduler_deployment(of)), "service": live(scheduler_service(of))}


def test_suspending_takes_the_scheduler_down():
    o = complete(cluster(suspend=True), deployment=scheduler_deployment(cluster()))
    (action,) = [a for a in plan_cluster(o, NOW).actions if isinstance(a, Apply)]
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
    assert (ready.reason, ready.message) == ("QuotaExceeded", "scheduler: exceeded quota")


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


@pytest.mark.parametrize(
    ("seen", "times"),
    [
        (["a", "b"], 1),
        (["a", None, "b"], 1),  # nobody looked while both were there
        (["a", None, None, "a"], 0),
        ([None, "a"], 0),
        (["a", "suspended", "b"], 0),
        (["a", None, "suspended", None, "b"], 0),
    ],
)
def test_a_scheduler_in_the_place_of_another_is_counted_once(seen: list[str | None], times: int):
    status, found = DaskClusterStatus(), list[str]()
    for who in seen:
        of = msgspec.structs.replace(cluster(suspend=who == "suspended"), status=status)
        pods = (scheduler_pod(uid=who),) if who in ("a", "b") else ()
        o = complete(of, scheduler_pods=pods)
        status = cluster_status(o, plan_cluster(o, NOW), [], NOW)
        found += [count.metric.name for count in told(o, of, status, [], NOW)]
    assert found.count("dask_cluster_scheduler_replacements_total") == times


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


def test_workers_stall_when_their_group_says_so():
    """A long update of a group is no stall of its cluster."""
    status = DaskClusterStatus()
    for now, group_stalls in ((0, False), (601, False), (700, True)):
        of = msgspec.structs.replace(cluster(), status=status)
        conditions = [make_condition("Stalled", group_stalls, "ProgressDeadlineExceeded")]
        group = live_group(of, ready_replicas=1, replicas=2, desired_replicas=2, conditions=conditions)
        o = complete(of, groups=(group,))
        status = cluster_status(o, plan_cluster(o, NOW + now), [], NOW + now)
        assert (condition(status.conditions, "Stalled").status == "True") == group_stalls


def test_another_generation_has_all_its_time_again():
    broken = (scheduler_pod(ready=False, phase="Pending", problem=PULL_ERROR),)
    status = DaskClusterStatus()
    for generation, now, stalls in ((1, 0, False), (1, 601, True), (2, 700, False), (2, 1200, False), (2, 1301, True)):
        of = cluster()
        of = msgspec.structs.replace(of, status=status, metadata=of.metadata | {"generation": generation})
        o = complete(of, scheduler_pods=broken)
        status = cluster_status(o, plan_cluster(o, NOW + now), [], NOW + now)
        assert (condition(status.conditions, "Stalled").status == "True") == stalls, (generation, now)


def with_worker_image(of, image):
    worker = msgspec.structs.replace(of.spec.worker, spec={"containers": [{"name": "worker", "image": image}]})
    return msgspec.structs.replace(of, spec=msgspec.structs.replace(of.spec, worker=worker))


def test_what_was_just_changed_is_not_ready():
    """Or a tool that waits would take the children of the last generation for those of this one."""
    o = msgspec.structs.replace(complete(cluster()), cluster=with_worker_image(cluster(), "dask:2"))
    plan = plan_cluster(o, NOW)
    assert applied(plan) == ["DaskWorkerGroup"]
    status = cluster_status(o, plan, [Outcome(action) for action in plan.actions], NOW)
    assert condition(status.conditions, "Ready").status == "False"
    assert condition(status.conditions, "Reconciling").status == "True"


def test_a_group_that_has_not_looked_at_its_new_spec_is_not_ready():
    ready = [make_condition("Ready", True, "Ready")]
    group = live_group(cluster(), observed_generation=7, ready_replicas=2, desired_replicas=2, conditions=ready)
    o = complete(cluster(), groups=(group,))
    assert condition(cluster_status(o, plan_cluster(o, NOW), [], NOW).conditions, "Ready").status == "False"


def test_a_group_that_has_not_heard_of_the_resumption_is_not_ready():
    asleep = [make_condition("Ready", True, "Suspended")]
    group = live_group(cluster(), ready_replicas=0, replicas=0, desired_replicas=0, conditions=asleep)
    for suspend, ready in ((None, "False"), (True, "True")):
        of = cluster(suspend=suspend)
        o = complete(of, groups=(group,), scheduler_pods=() if suspend else (scheduler_pod(),))
        assert condition(cluster_status(o, plan_cluster(o, NOW), [], NOW).conditions, "Ready").status == ready


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}, "False"),
        ({"observedGeneration": 2, "replicas": 1}, "False"),
        ({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}, "True"),
    ],
)
def test_a_scheduler_that_is_being_replaced_is_not_ready(status, ready):
    deployment = live(scheduler_deployment(cluster())) | {"status": status}
    deployment["metadata"]["generation"] = 2
    o = complete(cluster(), deployment=deployment)
    assert condition(cluster_status(o, plan_cluster(o, NOW), [], NOW).conditions, "Ready").status == ready


def test_a_cluster_stalls_with_its_group_until_somebody_changes_something():
    stalled = [make_condition("Ready", False, "Invalid", "no"), make_condition("Stalled", True, "Invalid", "no")]
    of = cluster()
    o = complete(of, groups=(live_group(of, conditions=stalled),))
    found = condition(cluster_status(o, plan_cluster(o, NOW), [], NOW).conditions, "Stalled")
    assert (found.status, found.reason) == ("True", "Invalid")
    assert "no" in found.message
    o = msgspec.structs.replace(o, cluster=with_worker_image(of, "dask:2"))
    plan = plan_cluster(o, NOW)
    status = cluster_status(o, plan, [Outcome(action) for action in plan.actions], NOW)
    assert condition(status.conditions, "Stalled").status == "False"


class TestIdleTimeout:
    def test_without_one_the_scheduler_is_not_asked(self):
        for c in (cluster(), cluster(idle_timeout=0, no_client_timeout=0)):
            assert asked(c) == {PackageVersions()}

    def test_the_scheduler_is_asked(self):
        assert asked(cluster(idle_timeout=60)) == {Idle(60), PackageVersions()}
        assert asked(cluster(no_client_timeout=9)) == {NoClient(9), PackageVersions()}

    def test_an_answer_from_which_the_end_follows_is_fresh(self):
        asks = [plan_cluster(complete(c), NOW).ask for c in (cluster(), cluster(no_client_timeout=60))]
        assert [ask.fresh for ask in asks if ask] == [False, True]

    def test_an_answer_is_new_only_when_it_matters(self):
        """Else every idle cluster would be looked at whenever its scheduler is asked."""
        assert [Idle(60).believe(said) for said in (None, 59.9, 60.0, 1e6)] == [None, None, 60, 60]

    def test_a_busy_cluster_stays(self):
        assert plan_cluster(complete(cluster(idle_timeout=60), answers=answers_of()), NOW) == Plan()

    def test_no_cluster_was_idle_for_longer_than_it_exists(self):
        c = cluster(idle_timeout=60)
        c = msgspec.structs.replace(c, metadata=c.metadata | {"creationTimestamp": format_time(NOW - 45)})
        assert plan_cluster(complete(c, answers=self.IDLE), NOW) == Plan(requeue_after=15.0)

    def test_the_shorter_of_two_timeouts_is_named(self):
        c = cluster(idle_timeout=60, no_client_timeout=30)
        both = answers_of(idle_seconds=60.0, no_client_seconds=30.0)
        for answers, reason in ((self.IDLE, "IdleTimeout"), (both, "NoClientTimeout")):
            event, deletion = plan_cluster(complete(c, answers=answers), NOW).actions
            assert isinstance(event, Event)
            assert event.reason == reason
            assert isinstance(deletion, Delete)

    def test_a_cluster_without_clients_is_suspended_where_that_is_asked_for(self):
        c = cluster(no_client_timeout=30, idle_action="Suspend")
        event, patch = plan_cluster(complete(c, answers=answers_of(no_client_seconds=30.0)), NOW).actions
        assert isinstance(event, Event)
        assert "without a client for spec.noClientTimeout (30 s): suspended" in event.message
        assert isinstance(patch, Patch)

    def test_a_module_that_does_not_tell_of_clients_ends_nothing(self):
        assert plan_cluster(complete(cluster(no_client_timeout=1), answers=answers_of()), NOW) == Plan()

    def test_an_idle_cluster_is_deleted(self):
        plan = plan_cluster(complete(cluster(idle_timeout=60), answers=answers_of(idle_seconds=60.0)), NOW)
        event, deletion = plan.actions
        assert isinstance(event, Event)
        assert deletion == Delete("DaskCluster", "team", "simple", "uid-simple")

    IDLE = answers_of(idle_seconds=60.0)

    def test_an_idle_cluster_is_suspended_where_that_is_asked_for(self):
        c = cluster(idle_timeout=60, idle_action="Suspend")
        event, patch = plan_cluster(complete(c, answers=self.IDLE), NOW).actions
        assert "suspended" in event.message
        assert patch == Patch("DaskCluster", "team", "simple", {"spec": {"suspend": True}}, "uid-simple")

    @pytest.mark.parametrize(
        ("manager", "operation", "stated"),
        [
            ("kustomize-controller", "Apply", True),
            ("argocd-controller", "Update", True),
            ("kubectl-client-side-apply", "Update", True),
            ("kubectl-patch", "Update", False),
            (names.FIELD_MANAGER, "Update", False),
        ],
    )
    def test_a_suspend_that_git_states_is_never_overruled(self, manager, operation, stated):
        c = written_by(cluster(idle_timeout=60, idle_action="Suspend", suspend=False), manager, operation)
        event, *more = plan_cluster(complete(c, answers=self.IDLE), NOW).actions
        assert (event.warning, more == []) == (stated, stated)
        assert (manager in event.message) == stated

    def test_status_says_that_it_was_not_the_user(self):
        c = cluster(idle_timeout=60, idle_action="Suspend", suspend=True)
        for manager, reason in ((names.FIELD_MANAGER, "Idle"), ("kubectl-patch", "Suspended")):
            o = complete(written_by(c, manager, "Update"), scheduler_pods=())
            status = cluster_status(o, plan_cluster(o, NOW), [], NOW)
            assert condition(status.conditions, "Suspended").reason == reason

    def test_status_names_the_timeouts_that_there_are(self):
        for fields, words in (
            ({"idle_timeout": 1}, "it was idle for spec.idleTimeout;"),
            ({"no_client_timeout": 1}, "it was without a client for spec.noClientTimeout;"),
            ({"idle_timeout": 1, "no_client_timeout": 1}, "spec.idleTimeout or without a client"),
        ):
            c = written_by(cluster(suspend=True, idle_action="Suspend", **fields), names.FIELD_MANAGER, "Update")
            status = cluster_status(complete(c, scheduler_pods=()), Plan(), [], NOW)
            assert words in condition(status.conditions, "Suspended").message

    def test_a_silent_scheduler_is_not_an_idle_one(self):
        plan = plan_cluster(complete(cluster(idle_timeout=1), answers=answers_of(silent="gone")), NOW)
        assert plan.actions == ()


def asked(c):
    ask = plan_cluster(complete(c), NOW).ask
    assert ask is not None
    assert (ask.every, ask.waits) == (ASKED_EVERY_SECONDS, False)
    return set(ask.questions)


class TestVersions:
    """What the condition ``VersionsConsistent`` says."""

    OLD, NEW = {"dask": "1", "python": "3.11"}, {"dask": "2", "python": "3.11"}

    def told(self, c, answers, **fields):
        status = cluster_status(complete(c, answers=answers, **fields), Plan(), [], NOW)
        found = [one for one in status.conditions or () if one.type == "VersionsConsistent"]
        return found[0] if found else None

    def test_it_is_unknown_until_the_scheduler_has_told(self):
        assert self.told(cluster(), None) is None
        assert self.told(cluster(), answers_of(silent="gone")) is None
        assert self.told(cluster(), answers_of()) is None, "an older module"

    def test_a_client_that_does_not_match_is_told_with_all_that_have_other_versions(self):
        found = self.told(cluster(), answers_of(versions=Versions((self.NEW,), (self.NEW,), (), (self.OLD, self.NEW))))
        assert (found.status, found.reason) == ("False", "VersionMismatch")
        assert found.message == "dask: clients 1 and 2, scheduler 2, workers 2"

    def test_a_client_that_has_left_counts_no_more(self):
        found = self.told(cluster(), answers_of(versions=Versions((self.NEW,), (self.NEW,), (self.OLD,), ())))
        assert (found.status, found.reason) == ("True", "Consistent")

    def test_an_older_module_tells_of_all_clients_that_ever_were(self):
        found = self.told(cluster(), answers_of(versions=Versions((self.NEW,), (self.NEW,), (self.OLD,))))
        assert found.status == "False"

    def test_it_stands_while_the_same_scheduler_is_silent_and_goes_with_it(self):
        before = make_condition("VersionsConsistent", False, "VersionMismatch", "dask: ...")
        c = cluster()
        c = msgspec.structs.replace(
            c, status=DaskClusterStatus(scheduler_pod_uid=scheduler_pod().uid, conditions=[before])
        )
        for answers in (None, answers_of(silent="gone")):
            found = self.told(c, answers)
            assert (found.status, found.message) == ("False", "dask: ...")
            assert self.told(c, answers, scheduler_pods=(scheduler_pod(uid="another"),)) is None

    def test_what_many_strangers_say_fits_into_a_condition(self):
        sets = tuple({f"{n}-{package}" * 4: "v" * 64 for package in range(32)} for n in range(32))
        assert len(self.told(cluster(), answers_of(versions=Versions(sets, sets, sets, sets))).message) < 3000


def written_by(c, manager, operation):
    entry = {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:suspend": {}}}}
    return msgspec.structs.replace(c, metadata=c.metadata | {"managedFields": [entry]})


class TestDisruptionBudget:
    def test_the_scheduler_is_protected_as_long_as_there_is_one(self):
        assert applied(plan_cluster(complete(cluster(), disruption_budget=None), NOW)) == ["PodDisruptionBudget"]
        assert plan_cluster(complete(cluster(), disruption_budget=None, scheduler_pods=()), NOW).actions == ()
        assert plan_cluster(complete(cluster(), scheduler_pods=()), NOW).actions == (), "another Pod is on its way"
        actions = plan_cluster(complete(cluster(suspend=True)), NOW).actions
        assert [(a.kind, a.name) for a in actions] == [("PodDisruptionBudget", "simple-scheduler")]
        assert isinstance(actions[0], Delete)

    def test_who_allows_evictions_gets_none(self):
        c = with_scheduler(cluster(), eviction_policy="Allow")
        (deletion, annotation) = plan_cluster(complete(c), NOW).actions
        assert isinstance(deletion, Delete)
        assert isinstance(annotation, Patch), "node autoscalers are told as well"
        told = scheduler_pod(last_applied=scheduler_metadata(c)["annotations"][Annotation.LAST_APPLIED])
        assert plan_cluster(complete(c, disruption_budget=None, scheduler_pods=(told,)), NOW).actions == ()

    def test_somebody_elses_is_left_alone(self):
        theirs = disruption_budget(cluster())
        theirs["metadata"]["ownerReferences"] = []
        o = complete(cluster(suspend=True), disruption_budget=theirs)
        assert plan_cluster(o, NOW).actions == ()


def with_scheduler(c, **fields):
    scheduler = msgspec.structs.replace(c.spec.scheduler, **fields)
    return msgspec.structs.replace(c, spec=msgspec.structs.replace(c.spec, scheduler=scheduler))


class TestSchedulerOnDelete:
    """A changed template waits until the user deletes the scheduler's Pod."""

    def changed(self, *, seen, pods):
        c = with_scheduler(cluster(image="dask:2"), update_strategy=SchedulerUpdateStrategy(type="OnDelete"))
        c = msgspec.structs.replace(c, status=DaskClusterStatus(scheduler_pod_uid=seen))
        old = live(scheduler_deployment(cluster()))
        return complete(c, deployment=old, scheduler_pods=pods, groups=(live_group(c),))

    def test_a_running_scheduler_stays(self):
        pod = scheduler_pod()
        o = self.changed(seen=pod.uid, pods=(pod,))
        assert plan_cluster(o, NOW).actions == ()
        status = cluster_status(o, plan_cluster(o, NOW), [], NOW)
        assert status.scheduler_pod_uid == pod.uid
        assert "old template" in condition(status.conditions, "SchedulerReady").message

    def test_a_deleted_one_is_replaced_by_a_new_one(self):
        pod = scheduler_pod(deleting=True)
        assert applied(plan_cluster(self.changed(seen=pod.uid, pods=(pod,)), NOW)) == ["Deployment"]

    def test_a_deletion_that_the_operator_missed_counts_too(self):
        o = self.changed(seen="uid-of-the-one-before", pods=(scheduler_pod(),))
        plan = plan_cluster(o, NOW)
        assert applied(plan) == ["Deployment"]
        failed = [Outcome(action, "no", "Timeout") for action in plan.actions]
        assert cluster_status(o, plan, failed, NOW).scheduler_pod_uid == "uid-of-the-one-before"
        done = [Outcome(action) for action in plan.actions]
        assert cluster_status(o, plan, done, NOW).scheduler_pod_uid == scheduler_pod().uid


@pytest.mark.parametrize(("updated", "told"), [(0, "SuspendedByAnother"), (1, "Ready")])
def test_a_scheduler_that_somebody_holds_back_is_told(updated, told):
    """By `kubectl rollout pause`: it was said to be starting, for ever. Until there is a change it holds nothing up."""
    manifest = live(scheduler_deployment(cluster()))
    manifest["spec"]["paused"] = True
    manifest["status"] = {"replicas": 1, "updatedReplicas": updated}
    seen = cached_child(msgspec.convert(manifest, ChildForm)).manifest
    o = complete(cluster(), deployment=seen)
    ready = condition(cluster_status(o, plan_cluster(o, NOW), [], NOW).conditions, "SchedulerReady")
    assert ready.reason == told
    assert ("kubectl rollout resume deployment simple-scheduler" in ready.message) == (updated == 0)


class TestLabels:
    """Labels and annotations come and go in place."""

    def labelled(self, c, **labels):
        return msgspec.structs.replace(c, metadata=c.metadata | {"labels": labels})

    def test_children_follow_the_cluster(self):
        o = complete(self.labelled(cluster(), team="data"))
        old = complete(cluster())
        mixed = msgspec.structs.replace(old, cluster=o.cluster)
        plan = plan_cluster(mixed, NOW)
        patched = {a.kind: a.patch["metadata"]["labels"] for a in plan.actions if isinstance(a, Patch)}
        kinds = {"ConfigMap", "Service", "PodDisruptionBudget", "Deployment", "Pod"}
        assert patched == {kind: {"team": "data"} for kind in kinds}
        assert applied(plan) == ["DaskWorkerGroup"]

    def test_what_is_up_to_date_is_left_alone(self):
        c = self.labelled(cluster(), team="data")
        pod = scheduler_pod(last_applied=scheduler_metadata(c)["annotations"][Annotation.LAST_APPLIED])
        assert plan_cluster(complete(c, scheduler_pods=(pod,)), NOW).actions == ()

    def test_a_changed_label_restarts_no_scheduler(self):
        c = with_scheduler(cluster(), metadata=TemplateMetadata(labels={"a": "1"}))
        assert applied(plan_cluster(msgspec.structs.replace(complete(cluster()), cluster=c), NOW)) == []


def test_the_default_group_of_the_cluster_is_found_by_name():
    assert names.default_group("simple") == "simple-default"
    assert dump(live_group(cluster()))["metadata"]["name"] == "simple-default"
