"""Decisions about a worker group, one situation at a time."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.states import (
    NOW,
    PULL_ERROR,
    autoscaler,
    cluster,
    condition,
    group,
    observed_group,
    scheduler_pod,
    worker_pod,
)

from dask_controller.core.actions import Answers, Apply, Create, Delete, Event, Outcome, Worker
from dask_controller.core.time import format_time
from dask_controller.core.worker_group import (
    Limits,
    free_ordinals,
    limits,
    plan_worker_group,
    worker_group_status,
)
from dask_crds import names
from dask_crds.model import (
    DaskAutoscalerStatus,
    DaskWorkerGroupStatus,
    DrainingWorker,
    RollingUpdate,
    TemplateMetadata,
    UpdateStrategy,
)
from dask_resources.worker import DEFAULT_DRAIN_TIMEOUT_SECONDS, worker_metadata, worker_revision


def created(plan):
    return [a.ordinal for a in plan.actions if isinstance(a, Create)]


def deleted(plan):
    return [a.name.removeprefix("simple-default-worker-") for a in plan.actions if isinstance(a, Delete)]


def pods(of, *ordinals, **fields):
    return [worker_pod(of, n, **fields) for n in ordinals]


def draining(*ordinals, since=NOW):
    entries = [DrainingWorker(name=f"simple-default-worker-{n}", since=format_time(since)) for n in ordinals]
    return DaskWorkerGroupStatus(draining=entries)


def answers(of, *ordinals, retirement=None, registered=None):
    """The scheduler knows all given workers and would close them in the given order."""
    ranked = tuple(worker_pod(of, n).worker_name for n in ordinals)
    known = ranked if registered is None else tuple(worker_pod(of, n).worker_name for n in registered)
    state = {worker_pod(of, n).worker_name: text for n, text in (retirement or {}).items()}
    return Answers(registered=frozenset(known), ranked=ranked, retirement=state)


def test_missing_workers_are_created_on_the_lowest_free_places():
    g = group(replicas=4)
    plan = plan_worker_group(observed_group(g, *pods(g, 0, 2)), NOW)
    assert created(plan) == [1, 3]
    assert deleted(plan) == []


def test_a_group_that_is_as_asked_needs_nothing():
    g = group(replicas=2)
    plan = plan_worker_group(observed_group(g, *pods(g, 0, 1)), NOW)
    assert (plan.actions, plan.ask, plan.requeue_after) == ((), None, None)


def test_without_a_drain_timeout_nobody_is_waited_for():
    g = group(replicas=1, drain_timeout_seconds=0)
    plan = plan_worker_group(observed_group(g, *pods(g, 0, 1), answers=answers(g, 0, 1)), NOW)
    assert deleted(plan) == ["0"]
    assert not plan.notes


def test_workers_are_retired_by_their_names_and_deleted_by_those_of_their_pods():
    """dask-kubernetes #855, #910: a scale-down deleted nothing, as it looked for Deployments under other names."""
    g = group(replicas=1)
    leaving = worker_pod(g, 1, worker_name="named-otherwise")
    o = observed_group(msgspec.structs.replace(g, status=draining(1)), worker_pod(g, 0), leaving)
    assert plan_worker_group(o, NOW).ask.retire == (Worker("named-otherwise", leaving.ip),)
    retired = Answers(retirement={"named-otherwise": "retired"})
    (deletion,) = plan_worker_group(msgspec.structs.replace(o, answers=retired), NOW).actions
    assert (deletion.name, deletion.uid) == (leaving.name, leaving.uid)


def test_each_group_follows_its_own_autoscaler():
    """dask-kubernetes #933: only the default group was scaled by load."""
    small, big = group("small", replicas=1), group("big", replicas=1)
    scaler = autoscaler(worker_group="big", status=DaskAutoscalerStatus(desired_replicas=3))
    assert created(plan_worker_group(observed_group(big, worker_pod(big, 0), autoscaler=scaler), NOW)) == [1, 2]
    assert created(plan_worker_group(observed_group(small, worker_pod(small, 0)), NOW)) == []


def test_labels_are_brought_up_to_date_in_place():
    g = group(replicas=2, metadata=TemplateMetadata(labels={"team": "data"}))
    current = worker_metadata(g)["annotations"][names.LAST_APPLIED]
    o = observed_group(g, worker_pod(g, 0), worker_pod(g, 1, last_applied=current), worker_pod(g, 2, deleting=True))
    (patch,) = plan_worker_group(o, NOW).actions
    assert (patch.name, patch.uid) == (worker_pod(g, 0).name, worker_pod(g, 0).uid)
    assert patch.patch["metadata"]["labels"] == {"team": "data"}


def test_a_request_to_restart_replaces_workers():
    of = group(replicas=2)
    asked = [group(replicas=2, metadata=TemplateMetadata(annotations={names.RESTARTED_AT: t})) for t in ("1", "2")]
    assert len({worker_revision(g) for g in (of, *asked)}) == 3
    assert worker_revision(group(metadata=TemplateMetadata(annotations={"team": "data"}))) == worker_revision(of)
    for before, after in ((of, asked[0]), asked):
        assert len(created(plan_worker_group(observed_group(after, *pods(before, 0, 1)), NOW))) == 1


def test_the_place_of_a_pod_that_is_being_deleted_is_taken():
    g = group(replicas=1)
    plan = plan_worker_group(observed_group(g, *pods(g, 0, deleting=True)), NOW)
    assert created(plan) == [1]


def test_free_ordinals_fill_holes():
    g = group()
    assert free_ordinals(pods(g, 0, 1, 3), 3) == [2, 4, 5]


def test_scaling_down_asks_the_scheduler_before_it_decides():
    g = group(replicas=1)
    plan = plan_worker_group(observed_group(g, *pods(g, 0, 1)), NOW)
    assert plan.actions == ()
    assert plan.ask.rank == (
        Worker("simple-default-worker-1-abcde", "10.0.0.1"),
        Worker("simple-default-worker-0-abcde", "10.0.0.0"),
    )


def test_a_running_victim_is_noted_in_the_ledger_and_not_deleted():
    g = group(replicas=1)
    o = observed_group(g, *pods(g, 0, 1), answers=answers(g, 0, 1))
    plan = plan_worker_group(o, NOW)
    assert deleted(plan) == []
    status = worker_group_status(o, plan, [], NOW)
    assert [entry.name for entry in status.draining] == ["simple-default-worker-0"]
    assert status.draining[0].since == format_time(NOW)


def test_issue_659_pods_that_do_not_run_yet_go_first():
    """dask-kubernetes #659, #817: running workers were killed while others were still Pending."""
    g = group(replicas=2)
    o = observed_group(
        g,
        *pods(g, 0, 1),
        *pods(g, 2, 3, phase="Pending", ready=False),
        answers=answers(g, 0, 1),
    )
    plan = plan_worker_group(o, NOW)
    assert sorted(deleted(plan)) == ["2", "3"]
    assert not plan.notes


def test_a_waiting_pod_is_deleted_only_as_it_was_seen():
    g = group(replicas=0)
    o = observed_group(g, *pods(g, 0, phase="Pending", ready=False, resource_version="7"), answers=answers(g))
    (action,) = [a for a in plan_worker_group(o, NOW).actions if isinstance(a, Delete)]
    assert action.resource_version == "7"


def test_unregistered_workers_go_before_registered_ones():
    g = group(replicas=1)
    o = observed_group(g, *pods(g, 0, 1), answers=answers(g, 0, 1, registered=[0]))
    assert deleted(plan_worker_group(o, NOW)) == ["1"]


def test_issue_914_only_pods_of_the_group_are_ever_considered():
    """dask-kubernetes #914: scaling one group down took workers of another. Observed are a group's own Pods only, and
    the scheduler's ranking of anybody else changes nothing."""
    g = group(replicas=1)
    foreign = Answers(registered=frozenset({"simple-big-worker-0-abcde"}), ranked=("simple-big-worker-0-abcde",))
    plan = plan_worker_group(observed_group(g, *pods(g, 0, 1), answers=foreign), NOW)
    assert all(name.startswith("simple-default-worker-") for name in plan.notes)
    assert all(a.name.startswith("simple-default-worker-") for a in plan.actions if isinstance(a, Delete))


def test_a_retired_worker_is_deleted():
    g = group(replicas=1, status=draining(1))
    o = observed_group(g, *pods(g, 0, 1), answers=answers(g, retirement={1: "retired"}))
    plan = plan_worker_group(o, NOW)
    assert deleted(plan) == ["1"]
    assert created(plan) == []


def test_a_retiring_worker_is_waited_for_and_status_says_why():
    g = group(replicas=1, status=draining(1))
    o = observed_group(g, *pods(g, 0, 1), answers=answers(g, retirement={1: "retiring: 3 tasks and 0 results left"}))
    plan = plan_worker_group(o, NOW)
    assert plan.actions == ()
    assert plan.requeue_after == 300, "when its time is up; what changes before is told"
    assert plan_worker_group(msgspec.structs.replace(o, answers=None), NOW).ask.every == 1.0
    assert worker_group_status(o, plan, [], NOW).draining[0].message == "retiring: 3 tasks and 0 results left"


def test_a_deletion_that_failed_keeps_the_worker_in_the_ledger():
    g = group(replicas=1, status=draining(1))
    o = observed_group(g, *pods(g, 0, 1), answers=answers(g, retirement={1: "retired"}))
    plan = plan_worker_group(o, NOW)
    outcome = Outcome(plan.actions[0], "timed out", "Unreachable")
    assert [entry.name for entry in worker_group_status(o, plan, [outcome], NOW).draining] == [
        "simple-default-worker-1"
    ]


def test_issue_807_a_silent_scheduler_never_leads_to_blind_killing():
    """dask-kubernetes #807: workers were killed at random when the scheduler could not be asked."""
    g = group(replicas=1)
    silent = Answers(silent="the scheduler cannot be reached: TimeoutError")
    o = observed_group(g, *pods(g, 0, 1), answers=silent)
    plan = plan_worker_group(o, NOW)
    assert deleted(plan) == []
    status = worker_group_status(o, plan, [], NOW)
    assert len(status.draining) == 1

    later = msgspec.structs.replace(o, group=msgspec.structs.replace(g, status=status))
    plan = plan_worker_group(later, NOW + 10)
    assert deleted(plan) == []
    assert "cannot be reached" in worker_group_status(later, plan, [], NOW + 10).draining[0].message


def test_after_the_drain_timeout_the_worker_goes_and_the_loss_is_reported():
    g = group(replicas=1, status=draining(1))
    o = observed_group(g, *pods(g, 0, 1), answers=answers(g, retirement={1: "refused: it holds 2 results"}))
    plan = plan_worker_group(o, NOW + DEFAULT_DRAIN_TIMEOUT_SECONDS)
    assert deleted(plan) == ["1"]
    (event,) = [a for a in plan.actions if isinstance(a, Event)]
    assert event.warning
    assert "holds 2 results" in event.message


def test_a_drain_timeout_of_zero_deletes_at_once():
    g = group(replicas=1, status=draining(1), drain_timeout_seconds=0)
    o = observed_group(g, *pods(g, 0, 1), answers=answers(g, retirement={1: "retiring: 1 tasks"}))
    assert deleted(plan_worker_group(o, NOW)) == ["1"]


def test_without_a_scheduler_there_is_nothing_to_save():
    g = group(replicas=0)
    plan = plan_worker_group(observed_group(g, *pods(g, 0, 1), scheduler_pods=()), NOW)
    assert sorted(deleted(plan)) == ["0", "1"]


def test_a_drain_is_undone_when_the_group_grows_again():
    g = group(replicas=3, status=draining(1, 2))
    o = observed_group(g, *pods(g, 0, 1, 2))
    plan = plan_worker_group(o, NOW)
    assert {w.name for w in plan.ask.resume} == {"simple-default-worker-1-abcde", "simple-default-worker-2-abcde"}
    plan = plan_worker_group(msgspec.structs.replace(o, answers=Answers()), NOW)
    assert plan.actions == ()
    assert not worker_group_status(o, plan, [], NOW).draining


def test_a_failed_worker_is_replaced():
    g = group(replicas=2)
    o = observed_group(g, worker_pod(g, 0), worker_pod(g, 1, phase="Failed", ready=False, finished=NOW - 100))
    plan = plan_worker_group(o, NOW)
    assert deleted(plan) == ["1"]
    assert created(plan) == [2]


def test_workers_that_end_as_soon_as_they_start_are_replaced_slowly():
    g = group(replicas=1)
    dead = worker_pod(g, 0, phase="Failed", ready=False, started=NOW - 6, finished=NOW - 5)
    plan = plan_worker_group(observed_group(g, dead), NOW)
    assert plan.actions == ()
    assert plan.requeue_after == pytest.approx(25)
    plan = plan_worker_group(observed_group(g, dead), NOW + 25)
    assert (deleted(plan), created(plan)) == (["0"], [1])


def test_rolling_update_surges_first():
    g = group(replicas=4)
    old = pods(g, 0, 1, 2, 3, revision="old")
    plan = plan_worker_group(observed_group(g, *old), NOW)
    assert created(plan) == [4]
    assert deleted(plan) == []
    assert not plan.notes


def test_rolling_update_drains_an_old_worker_for_each_new_one_that_is_ready():
    g = group(replicas=4)
    o = observed_group(g, *pods(g, 0, 1, 2, 3, revision="old"), worker_pod(g, 4), answers=answers(g, 0, 1, 2, 3))
    plan = plan_worker_group(o, NOW)
    assert list(plan.notes) == ["simple-default-worker-0"]
    assert created(plan) == []


def test_rolling_update_pauses_while_the_new_worker_is_not_ready():
    g = group(replicas=4)
    new = worker_pod(g, 4, ready=False, phase="Pending", problem=PULL_ERROR)
    o = observed_group(g, *pods(g, 0, 1, 2, 3, revision="old"), new)
    plan = plan_worker_group(o, NOW)
    assert plan.actions == ()
    ready = condition(worker_group_status(o, plan, [], NOW).conditions, "Ready")
    assert (ready.status, ready.reason) == ("False", "ImagePullBackOff")


def test_on_delete_leaves_outdated_workers_alone():
    g = group(replicas=2, update_strategy=UpdateStrategy(type="OnDelete"))
    o = observed_group(g, *pods(g, 0, 1, revision="old"))
    plan = plan_worker_group(o, NOW)
    assert (plan.actions, plan.ask) == ((), None)
    assert condition(worker_group_status(o, plan, [], NOW).conditions, "Ready").status == "True"


@pytest.mark.parametrize(
    ("rolling", "desired", "expected"),
    [
        (None, 4, Limits(1, 0)),
        (None, 5, Limits(2, 0)),
        (RollingUpdate(max_surge=0, max_unavailable="25%"), 4, Limits(0, 1)),
        (RollingUpdate(max_surge="0%", max_unavailable=0), 4, Limits(1, 0)),
        (RollingUpdate(max_surge="100%", max_unavailable="50%"), 3, Limits(3, 1)),
    ],
)
def test_surge_rounds_up_and_unavailable_rounds_down(rolling, desired, expected):
    assert limits(UpdateStrategy(rolling_update=rolling), desired) == expected


def test_an_autoscaler_decides_over_the_size():
    g = group(replicas=1)
    scaler = autoscaler(status=DaskAutoscalerStatus(desired_replicas=3))
    assert created(plan_worker_group(observed_group(g, worker_pod(g, 0), autoscaler=scaler), NOW)) == [1, 2]


def test_an_autoscaler_that_has_not_decided_yet_changes_nothing():
    g = group(replicas=1)
    assert created(plan_worker_group(observed_group(g, worker_pod(g, 0), autoscaler=autoscaler()), NOW)) == []


def test_a_suspended_cluster_has_no_workers():
    g = group(replicas=2)
    o = observed_group(g, cluster=cluster(suspend=True))
    assert plan_worker_group(o, NOW).actions == ()
    ready = condition(worker_group_status(o, plan_worker_group(o, NOW), [], NOW).conditions, "Ready")
    assert (ready.status, ready.reason) == ("True", "Suspended")


def test_a_group_of_a_missing_cluster_waits_and_says_so():
    g = group(replicas=2)
    o = observed_group(g, cluster=None, scheduler_pods=())
    plan = plan_worker_group(o, NOW)
    assert plan.actions == ()
    ready = condition(worker_group_status(o, plan, [], NOW).conditions, "Ready")
    assert (ready.reason, ready.message) == (
        "ClusterNotFound",
        "DaskCluster simple does not exist in this namespace",
    )


def test_a_group_made_by_a_client_is_adopted():
    plan = plan_worker_group(observed_group(group(replicas=0, owned=False)), NOW)
    (action,) = plan.actions
    assert isinstance(action, Apply)
    (reference,) = action.manifest["metadata"]["ownerReferences"]
    assert (reference["uid"], reference["controller"], reference["blockOwnerDeletion"]) == ("uid-simple", False, False)


@pytest.mark.parametrize(
    "tracking",
    [
        {"annotations": {"argocd.argoproj.io/tracking-id": "app"}},
        {"labels": {"kustomize.toolkit.fluxcd.io/name": "app"}},
        {"labels": {"app.kubernetes.io/instance": "app"}},
        {"annotations": {"meta.helm.sh/release-name": "app"}},
    ],
)
def test_a_group_that_a_gitops_tool_tracks_is_not_adopted(tracking):
    g = group(replicas=0, owned=False)
    g = msgspec.structs.replace(g, metadata=g.metadata | tracking)
    assert plan_worker_group(observed_group(g), NOW).actions == ()


def test_status_counts_and_names_the_worst_problem():
    g = group(replicas=3)
    bad = [worker_pod(g, n, ready=False, phase="Pending", problem=PULL_ERROR) for n in (1, 2)]
    o = observed_group(g, worker_pod(g, 0), *bad)
    status = worker_group_status(o, plan_worker_group(o, NOW), [], NOW)
    assert (status.replicas, status.ready_replicas, status.updated_replicas, status.desired_replicas) == (3, 1, 3, 3)
    assert status.selector == (
        "dask.org/cluster-name=simple,dask.org/component=worker,dask.org/workergroup-name=simple-default"
    )
    ready = condition(status.conditions, "Ready")
    assert ready.reason == "ImagePullBackOff"
    assert "1 of 3 workers are ready" in ready.message
    assert "(and 1 more)" in ready.message
    assert condition(status.conditions, "Reconciling").status == "True"


def test_a_forbidden_creation_stalls_with_the_servers_words():
    g = group(replicas=1)
    o = observed_group(g)
    plan = plan_worker_group(o, NOW)
    outcome = Outcome(plan.actions[0], "exceeded quota: team", "Forbidden", True)
    status = worker_group_status(o, plan, [outcome], NOW)
    assert condition(status.conditions, "Stalled").status == "True"
    assert condition(status.conditions, "Ready").message == "exceeded quota: team"
    assert status.replicas == 0


class TestProgressDeadline:
    """As of a Deployment: what gets on may take its time."""

    def statuses(self, *states):
        """Whether it is stalled, in each state: seconds, and the places of ready and of outdated Pods."""
        status = DaskWorkerGroupStatus()
        for seconds, ready, outdated in states:
            g = msgspec.structs.replace(group(replicas=4), status=status)
            found = pods(g, *ready)
            found += [
                msgspec.structs.replace(p, labels={**p.labels, names.REVISION: "old"}) for p in pods(g, *outdated)
            ]
            o = observed_group(g, *found)
            status = worker_group_status(o, plan_worker_group(o, NOW), [], NOW + seconds)
            yield condition(status.conditions, "Stalled").status == "True"

    def test_nothing_for_ten_minutes_is_a_stall_until_something_happens(self):
        states = [
            (0, [0], []),
            (601, [0], []),
            (700, [0], []),
            (800, [0, 1], []),
            (1399, [0, 1], []),
            (1401, [0, 1], []),
        ]
        assert list(self.statuses(*states)) == [False, True, True, False, False, True]

    def test_a_long_update_does_not_stall(self):
        states = [(0, [4], [0, 1, 2, 3]), (500, [4], [1, 2, 3]), (1000, [4], [2, 3]), (1599, [4], [2, 3])]
        assert not any(self.statuses(*states))

    def test_one_that_does_not_get_on_does(self):
        assert list(self.statuses((0, [], [0, 1, 2, 3]), (601, [], [0, 1, 2, 3]))) == [False, True]

    def test_workers_that_die_and_come_back_in_vain_stall(self):
        """Creating them once more is no progress."""
        g = group(replicas=1)
        for seconds, found in ((0, pods(g, 0, ready=False)), (300, []), (601, pods(g, 0, ready=False))):
            o = observed_group(g, *found)
            plan = plan_worker_group(o, NOW)
            status = worker_group_status(o, plan, [Outcome(action) for action in plan.actions], NOW + seconds)
            g = msgspec.structs.replace(g, status=status)
        assert condition(g.status.conditions, "Stalled").status == "True"

    def test_draining_is_bounded_by_its_own_time(self):
        g = group(replicas=1, drain_timeout_seconds=3600)
        for seconds in (0, 601):
            asked = answers(g, 0, 1, retirement={1: "retiring: 1 tasks and 0 results left"})
            o = observed_group(g, *pods(g, 0, 1), answers=asked)
            status = worker_group_status(o, plan_worker_group(o, NOW + seconds), [], NOW + seconds)
            g = msgspec.structs.replace(g, status=status)
            assert g.status.draining
        assert condition(g.status.conditions, "Stalled").status == "False"


def test_scheduler_starting_counts_as_not_there():
    g = group(replicas=0)
    starting = scheduler_pod(phase="Pending", ready=False)
    assert deleted(plan_worker_group(observed_group(g, *pods(g, 0), scheduler_pods=(starting,)), NOW)) == ["0"]
