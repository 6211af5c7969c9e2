"""Decisions about a worker group, one situation at a time."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.questions import answers_of, parts
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

from dask_controller.core.actions import CreateWorker, Delete, Event, Outcome, Patch
from dask_controller.core.pod import Container
from dask_controller.core.questions import WorkerId
from dask_controller.core.rolling import Bounds, bounds
from dask_controller.core.time import format_time
from dask_controller.core.worker_group import free_ordinals, plan_worker_group
from dask_controller.core.worker_group_status import worker_group_status
from dask_crds.model import (
    DaskAutoscalerStatus,
    DaskWorkerGroupStatus,
    DrainingWorker,
    RollingUpdate,
    TemplateMetadata,
    UpdateStrategy,
)
from dask_crds.names import Annotation, Label
from dask_resources.worker import DEFAULT_DRAIN_TIMEOUT_SECONDS, worker_metadata, worker_revision


def created(plan):
    return [a.ordinal for a in plan.actions if isinstance(a, CreateWorker)]


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
    return answers_of(registered=frozenset(known), ranked=ranked, retirement=state)


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
    assert not plan.draining


def test_workers_are_retired_by_their_names_and_deleted_by_those_of_their_pods():
    """dask-kubernetes #855, #910: a scale-down deleted nothing, as it looked for Deployments under other names."""
    g = group(replicas=1)
    leaving = worker_pod(g, 1, worker_name="named-otherwise")
    o = observed_group(msgspec.structs.replace(g, status=draining(1)), worker_pod(g, 0), leaving)
    assert parts(plan_worker_group(o, NOW).ask).retire == (WorkerId("named-otherwise", leaving.own_ips),)
    retired = answers_of(retirement={"named-otherwise": "retired"})
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
    before = worker_metadata(group())["annotations"][Annotation.LAST_APPLIED]
    gone = worker_pod(g, 2, last_applied=before, deleting=True)
    o = observed_group(g, worker_pod(g, 0, last_applied=before), worker_pod(g, 1), gone)
    (patch,) = plan_worker_group(o, NOW).actions
    assert (patch.name, patch.uid) == (worker_pod(g, 0).name, worker_pod(g, 0).uid)
    assert patch.patch["metadata"]["labels"] == {"team": "data"}


def test_a_request_to_restart_replaces_workers():
    of = group(replicas=2)
    asked = [group(replicas=2, metadata=TemplateMetadata(annotations={Annotation.RESTARTED_AT: t})) for t in ("1", "2")]
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


def test_places_whose_names_others_have_are_left_out():
    """An orphan, a Pod of a StatefulSet: the whole group waited for one name (controller 7, strangers 10)."""
    g = group(replicas=4)
    assert free_ordinals(pods(g, 1), 3, frozenset({0, 3})) == [2, 4, 5]
    o = observed_group(g, *pods(g, 1), *pods(g, 2, deleting=True), taken=frozenset({0, 3}))
    assert created(plan_worker_group(o, NOW)) == [4, 5, 6]


def test_scaling_down_asks_the_scheduler_before_it_decides():
    g = group(replicas=1)
    plan = plan_worker_group(observed_group(g, *pods(g, 0, 1)), NOW)
    assert plan.actions == ()
    assert parts(plan.ask).rank == (
        WorkerId("simple-default-worker-1-abcde", ("10.0.0.1",)),
        WorkerId("simple-default-worker-0-abcde", ("10.0.0.0",)),
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
    assert not plan.draining


def test_a_pod_is_deleted_only_as_it_was_seen():
    """(issue 12) One that begins to run, or is taken from the group, is left alone, also if it has retired."""
    g = group(replicas=0, status=draining(1, 2, since=NOW - 1000))
    waiting = pods(g, 0, phase="Pending", ready=False, resource_version="0")
    retired = pods(g, 1, resource_version="1")
    late = pods(g, 2, resource_version="2")
    ended = pods(g, 3, phase="Failed", ready=False, resource_version="3", finished=NOW - 1000)
    said = answers(g, 1, 2, retirement={1: "retired", 2: "retiring: 1 task"})
    o = observed_group(g, *waiting, *retired, *late, *ended, answers=said)
    deletions = [a for a in plan_worker_group(o, NOW).actions if isinstance(a, Delete)]
    assert {a.name[-1]: a.resource_version for a in deletions} == {n: n for n in "0123"}


def test_unregistered_workers_go_before_registered_ones():
    g = group(replicas=1)
    o = observed_group(g, *pods(g, 0, 1), answers=answers(g, 0, 1, registered=[0]))
    assert deleted(plan_worker_group(o, NOW)) == ["1"]


def test_issue_914_only_pods_of_the_group_are_ever_considered():
    """dask-kubernetes #914: scaling one group down took workers of another. Observed are a group's own Pods only, and
    the scheduler's ranking of anybody else changes nothing."""
    g = group(replicas=1)
    foreign = answers_of(registered=frozenset({"simple-big-worker-0-abcde"}), ranked=("simple-big-worker-0-abcde",))
    plan = plan_worker_group(observed_group(g, *pods(g, 0, 1), answers=foreign), NOW)
    assert all(name.startswith("simple-default-worker-") for name in plan.draining)
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
    silent = answers_of(silent="the scheduler cannot be reached: TimeoutError")
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
    assert (
        event.message
        == "simple-default-worker-1 is deleted, as its time to drain is over (300 s): refused: it holds 2 results"
    )


class TestDrainTimeoutEvent:
    """It tells of those whose time is over, and of nobody else (controller 20)."""

    @staticmethod
    def events(o, now=NOW + 5):
        return [a.message for a in plan_worker_group(o, now).actions if isinstance(a, Event)]

    def test_a_scheduler_that_is_gone_is_no_timeout(self):
        """A cluster that is suspended five seconds into a drain."""
        g = group(replicas=0, status=draining(0))
        ending = (scheduler_pod(deleting=True),)
        o = observed_group(g, worker_pod(g, 0), cluster=cluster(suspend=True), scheduler_pods=ending)
        assert deleted(plan_worker_group(o, NOW + 5)) == ["0"]
        assert self.events(o) == []

    @pytest.mark.parametrize("state", ["retired", "unknown"])
    def test_nor_is_a_worker_that_is_through_when_its_time_is_over(self, state):
        g = group(replicas=1, status=draining(1))
        o = observed_group(g, *pods(g, 0, 1), answers=answers(g, retirement={1: state}))
        assert self.events(o, NOW + 1000) == []

    def test_a_silent_scheduler_is_named(self):
        g = group(replicas=1, status=draining(1))
        o = observed_group(g, *pods(g, 0, 1), answers=answers_of(silent="it hangs"))
        assert self.events(o) == []
        (message,) = self.events(o, NOW + 300)
        assert message.endswith("is over (300 s): waiting for the scheduler: it hangs")

    def test_the_time_that_is_told_is_that_of_now(self):
        """It was 300 s when the drain began."""
        g = group(replicas=1, status=draining(1), drain_timeout_seconds=3)
        o = observed_group(g, *pods(g, 0, 1), answers=answers(g, retirement={1: "retiring: 1 tasks"}))
        assert "(3 s)" in self.events(o)[0]


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
    assert {w.name[-7] for w in parts(plan.ask).resume} == {"1", "2"}
    plan = plan_worker_group(msgspec.structs.replace(o, answers=answers_of()), NOW)
    assert plan.actions == ()
    assert not worker_group_status(o, plan, [], NOW).draining


class TestWantedAgain:
    """A worker stays in the ledger until the scheduler says that it works again (controller 2)."""

    @staticmethod
    def look(g, *, now=NOW, on=(0, 1, 2, 3), **fields):
        """A look at the group; it, the plan, and what was asked."""
        o = observed_group(g, *pods(g, *on), **fields)
        asked = plan_worker_group(msgspec.structs.replace(o, answers=None), now).ask
        plan = plan_worker_group(o, now)
        status = worker_group_status(o, plan, [Outcome(a) for a in plan.actions], now)
        return msgspec.structs.replace(g, status=status), plan, asked

    @staticmethod
    def told(g, **states):
        return answers_of(resumption={worker_pod(g, int(n[1:])).worker_name: state for n, state in states.items()})

    @pytest.mark.parametrize("since", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
    def test_a_time_that_no_calendar_has_in_utc_ends_nobody(self, since):
        """What could be read could not be written again, and the group was not looked after any more."""
        word = "waiting for the scheduler's word to work again"
        entry = DrainingWorker(name="simple-default-worker-1", since=since, message=word)
        g = group(replicas=2, status=DaskWorkerGroupStatus(draining=[entry]))
        g, _, _ = self.look(g, on=(0, 1), answers=answers_of(silent="it hangs"))
        assert [entry.since for entry in g.status.draining] == [format_time(NOW)]

    def test_a_silent_scheduler_is_asked_until_it_answers(self):
        """Scaled 4 -> 2 -> 4: `Ready` was True, and tasks ran on two of them, for ever."""
        g = group(replicas=4, status=draining(2, 3))
        for seconds in (1, 100, 1000):
            before = g.status
            g, plan, asked = self.look(g, now=NOW + seconds, answers=answers_of(silent="it hangs"))
            assert {w.name[:-6] for w in parts(asked).resume} == {f"simple-default-worker-{n}" for n in (2, 3)}
            assert asked.every == 1.0
            assert (plan.actions, plan.requeue_after) == ((), None)
            assert [entry.message for entry in g.status.draining] == [
                "waiting for the scheduler's word to work again: it hangs"
            ] * 2
            ready = condition(g.status.conditions, "Ready")
            assert (ready.status, ready.message) == (
                "False",
                "2 workers are waiting for the scheduler's word to work again: it hangs",
            )
        assert g.status == before, "and status is not written again and again"
        g, plan, _ = self.look(g, answers=self.told(g, w2="running", w3="resuming"))
        assert [entry.name for entry in g.status.draining] == ["simple-default-worker-3"]
        assert condition(g.status.conditions, "Ready").status == "False"
        g, plan, _ = self.look(g, answers=self.told(g, w3="running"))
        assert not g.status.draining
        assert condition(g.status.conditions, "Ready").status == "True"
        _, plan, asked = self.look(g)
        assert (plan.actions, asked) == ((), None)

    @pytest.mark.parametrize("state", ["running", "paused", "unknown", "init", "something new"])
    def test_what_is_not_resuming_is_through(self, state):
        """Paused by its memory, say, or not registered: that ends without us."""
        g = group(replicas=4, status=draining(3))
        g, _, _ = self.look(g, answers=self.told(g, w3=state))
        assert not g.status.draining

    @pytest.mark.parametrize("phase", ["Pending", "Unknown"])
    def test_without_a_scheduler_it_waits(self, phase):
        g = group(replicas=4, status=draining(3))
        g, plan, _ = self.look(g, scheduler_pods=(scheduler_pod(phase=phase),))
        assert plan.actions == ()
        assert g.status.draining[0].message.endswith("there is none now")

    def test_it_counts_as_kept(self):
        g = group(replicas=4, status=draining(3))
        g, plan, _ = self.look(g, answers=answers_of(silent="it hangs"))
        assert (plan.actions, g.status.replicas, g.status.ready_replicas) == ((), 4, 4)
        bigger = group(replicas=6, status=g.status)
        _, plan, _ = self.look(bigger, answers=answers_of(silent="it hangs"))
        assert created(plan) == [4, 5]

    def test_it_takes_no_outdated_ones_place_before_it_works(self):
        """Of the two that worked one was let go while the third was still paused."""
        g = group(replicas=2, status=draining(2))
        o = observed_group(g, *pods(g, 0, 1, revision="old"), worker_pod(g, 2))
        plan = plan_worker_group(msgspec.structs.replace(o, answers=self.told(g, w2="resuming")), NOW)
        assert plan.draining.keys() == {"simple-default-worker-2"}
        g = group(replicas=2)
        plan = plan_worker_group(observed_group(g, *o.pods, answers=answers(g, 0, 1, 2)), NOW)
        assert plan.draining.keys() == {"simple-default-worker-0"}

    def test_one_that_is_not_wanted_after_all_has_all_its_time_to_drain(self):
        g = group(replicas=4, status=draining(3, since=NOW - 200))
        g, _, _ = self.look(g, answers=answers_of(silent="it hangs"))
        assert g.status.draining[0].since == format_time(NOW - 200)
        g = group(replicas=3, status=g.status)
        g, plan, asked = self.look(g, now=NOW + 1000, answers=answers(g, retirement={3: "retiring: 1 tasks"}))
        assert [w.name[:-6] for w in parts(asked).retire] == ["simple-default-worker-3"]
        assert (plan.actions, plan.requeue_after) == ((), 300)
        assert g.status.draining[0].since == format_time(NOW + 1000)
        _, plan, _ = self.look(g, now=NOW + 1299, answers=answers(g, retirement={3: "retiring: 1 tasks"}))
        assert plan.actions == ()
        _, plan, _ = self.look(g, now=NOW + 1300, answers=answers(g, retirement={3: "retiring: 1 tasks"}))
        assert deleted(plan) == ["3"]

    def test_an_outdated_one_goes_on_draining(self):
        g = group(replicas=4, status=draining(3))
        g, _, _ = self.look(g, answers=answers_of(silent="it hangs"))
        changed = group(replicas=4, image="dask:2", status=g.status)
        o = observed_group(changed, *pods(g, 0, 1, 2, 3))
        asked = plan_worker_group(o, NOW).ask
        assert ([w.name[:-6] for w in parts(asked).retire], parts(asked).resume) == (["simple-default-worker-3"], ())

    def test_a_scheduler_cannot_make_a_drain_last_by_its_words(self):
        g = group(replicas=1, status=draining(1))
        for seconds in (1, 299):
            word = "waiting for the scheduler's word to work again"
            g, plan, _ = self.look(g, now=NOW + seconds, on=(0, 1), answers=answers(g, retirement={1: word}))
            assert plan.actions == ()
        _, plan, _ = self.look(g, now=NOW + 300, on=(0, 1), answers=answers(g, retirement={1: word}))
        assert deleted(plan) == ["1"]

    def test_on_delete_takes_outdated_ones_back(self):
        """What drains for another reason than its template."""
        g = group(replicas=2, update_strategy=UpdateStrategy(type="OnDelete"), status=draining(0, 1))
        plan = plan_worker_group(observed_group(g, *pods(g, 0, 1, revision="old")), NOW)
        assert len(parts(plan.ask).resume) == 2


class TestLedgerOfOthers:
    """Whoever may write status may have written anything into the ledger (security 8)."""

    @staticmethod
    def with_since(since, *, age=1000.0):
        entry = DrainingWorker(name="simple-default-worker-1", since=since)
        g = group(replicas=1, status=DaskWorkerGroupStatus(draining=[entry], last_progress_time="long ago"))
        answered = answers(g, retirement={1: "retiring: 1 tasks"})
        return observed_group(g, worker_pod(g, 0), worker_pod(g, 1, created=NOW - age), answers=answered)

    @pytest.mark.parametrize("since", ["", "yesterday", "9999-12-31T23:59:59Z", "2027-01-15T08:00:60Z", "9" * 1000])
    def test_a_time_that_cannot_be_is_now(self, since):
        o = self.with_since(since)
        plan = plan_worker_group(o, NOW)
        assert (plan.actions, plan.requeue_after) == ((), 300)
        (entry,) = worker_group_status(o, plan, [], NOW).draining
        assert entry.since == format_time(NOW), "so that its time is over one day"

    @pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
    def test_a_worker_drains_no_longer_than_it_exists(self, since):
        o = self.with_since(since, age=10)
        plan = plan_worker_group(o, NOW)
        assert (plan.actions, plan.requeue_after) == ((), 290)

    def test_names_that_come_twice_or_are_nobodys(self):
        entries = [DrainingWorker(name=n, since=format_time(NOW)) for n in ("simple-default-worker-1", "x", "x", "")]
        g = group(replicas=1, status=DaskWorkerGroupStatus(draining=[*entries, entries[0]]))
        o = observed_group(g, *pods(g, 0, 1), answers=answers(g, retirement={1: "retiring: 1 tasks"}))
        plan = plan_worker_group(o, NOW)
        assert [entry.name for entry in worker_group_status(o, plan, [], NOW).draining] == ["simple-default-worker-1"]

    def test_a_long_note_is_clipped(self):
        g = group(replicas=1, status=draining(1))
        o = observed_group(g, *pods(g, 0, 1), answers=answers(g, retirement={1: "refused: " + "A" * 5_000_000}))
        status = worker_group_status(o, plan_worker_group(o, NOW), [], NOW)
        assert len(msgspec.json.encode(status)) < 5000


def job_cluster(most=None, *, kind="DaskJob", **spec):
    owner = {"apiVersion": "kubernetes.dask.org/v1", "kind": kind, "name": "simple", "uid": "j", "controller": True}
    of = cluster(**spec)
    annotations = {} if most is None else {Annotation.MOST_WORKERS: most}
    return msgspec.structs.replace(of, metadata=of.metadata | {"ownerReferences": [owner], "annotations": annotations})


class TestRoomForTheRunner:
    """The workers of a job leave its runner room in the quota (public 15)."""

    @staticmethod
    def desired(of, g=None, **fields):
        g = g or group(replicas=3)
        o = observed_group(g, *pods(g, 0, 1, 2), cluster=of, **fields)
        return worker_group_status(o, plan_worker_group(o, NOW), [], NOW).desired_replicas

    @pytest.mark.parametrize(("most", "desired"), [("2", 2), ("0", 0), ("3", 3), ("10", 3), (None, 3)])
    def test_so_many_at_most(self, most, desired):
        assert self.desired(job_cluster(most)) == desired

    @pytest.mark.parametrize("most", ["", "-1", "two", "1.5", " 2", "2 ", "²", "٢", "1e0", "9" * 1000, "0x1"])
    def test_what_is_no_number_is_as_if_absent(self, most):
        assert self.desired(job_cluster(most)) == 3

    def test_only_in_a_jobs_cluster_and_in_its_default_group(self):
        assert self.desired(job_cluster("1", kind="Workflow")) == 3
        metadata = cluster().metadata | {"annotations": {Annotation.MOST_WORKERS: "1"}}
        assert self.desired(msgspec.structs.replace(cluster(), metadata=metadata)) == 3
        assert self.desired(job_cluster("1"), group("simple-gpu", replicas=3)) == 3

    def test_an_autoscaler_is_bound_too(self):
        scaler = autoscaler(status=DaskAutoscalerStatus(desired_replicas=5))
        assert self.desired(job_cluster("2"), autoscaler=scaler) == 2

    def test_a_suspended_cluster_stays_so(self):
        assert self.desired(job_cluster("2", suspend=True)) == 0

    def test_one_worker_goes(self):
        g = group(replicas=3)
        o = observed_group(g, *pods(g, 0, 1), *pods(g, 2, phase="Pending", ready=False), cluster=job_cluster("2"))
        plan = plan_worker_group(msgspec.structs.replace(o, answers=answers(g, 0, 1)), NOW)
        assert deleted(plan) == ["2"]


def test_a_failed_worker_is_replaced():
    g = group(replicas=2)
    o = observed_group(g, worker_pod(g, 0), worker_pod(g, 1, phase="Failed", ready=False, finished=NOW - 100))
    plan = plan_worker_group(o, NOW)
    assert deleted(plan) == ["1"]
    assert created(plan) == [2]


def ended(of, ordinal=0, *, age=0.0, **fields):
    """A Pod that was created ``age`` seconds ago and has ended."""
    defaults = {"phase": "Failed", "ready": False, "created": NOW - age, "started": None, "finished": None}
    return worker_pod(of, ordinal, **defaults | fields)


def named_container(of):
    return of.spec.worker.spec["containers"][0]["name"]


class TestShortLives:
    """A place is filled at most once in 30 s, however its Pod ended (controller 11, public 08, strangers 4)."""

    @staticmethod
    def waits(pod, replicas=1, now=NOW):
        """Seconds until a Pod is replaced."""
        g = group(replicas=replicas)
        o = observed_group(g, pod)
        waited = 0.0
        while not (plan := plan_worker_group(o, now + waited)).actions:
            assert not plan_worker_group(o, now + waited + plan.requeue_after - 0.1).actions
            waited += plan.requeue_after
        assert (deleted(plan), len(created(plan))) == ([str(pod.ordinal)], replicas)
        return waited

    def test_one_that_the_kubelet_refuses_has_no_container_and_no_time(self):
        """Two hundred Pods in twenty seconds for one worker."""
        assert self.waits(ended(group(), age=1)) == 29
        assert self.waits(ended(group(), age=30)) == 0

    def test_a_failing_init_container_leaves_the_others_waiting(self):
        waiting = (Container(name="dask"),)
        assert self.waits(ended(group(), age=3, started=NOW - 2, containers=waiting)) == 27

    @pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
    def test_a_container_that_ends_soon(self, phase):
        assert self.waits(ended(group(), age=7, phase=phase, started=NOW - 6, finished=NOW - 5)) == pytest.approx(25)

    def test_one_that_has_waited_long_for_its_node_and_ends_at_once(self):
        assert self.waits(ended(group(), age=1000, started=NOW - 6, finished=NOW - 5)) == pytest.approx(25)

    @pytest.mark.parametrize("times", [{}, {"started": NOW - 3600, "finished": NOW - 1}, {"started": NOW - 3600}])
    def test_one_that_has_lived_long_is_replaced_at_once(self, times):
        """Evicted by its kubelet, with its containers' ends or without."""
        assert self.waits(ended(group(), age=3601, **times)) == 0

    @pytest.mark.parametrize("skew", [-600, -20, 20, 600, 1e9])
    def test_the_clock_of_the_node_does_not_matter(self, skew):
        """One ten minutes ahead of ours delayed a replacement by 630 s (controller 20)."""
        short = ended(group(), age=10, started=NOW - 9 + skew, finished=NOW - 4 + skew)
        assert 20 <= self.waits(short) <= 50
        assert self.waits(ended(group(), age=100, started=NOW - 90 + skew, finished=NOW - 20 + skew)) == 0

    @pytest.mark.parametrize("times", [(NOW + 50, NOW - 50), (NOW - 1e9, NOW - 1), (NOW - 1e9, NOW + 1e9), (0.0, 1e12)])
    def test_a_kubelet_that_says_nonsense_hastens_nothing(self, times):
        started, finished = times
        assert self.waits(ended(group(), age=1, started=started, finished=finished)) >= 28

    def test_only_its_own_place_waits(self):
        g = group(replicas=4)
        plan = plan_worker_group(observed_group(g, worker_pod(g, 0), ended(g, 1, age=1), ended(g, 2, age=40)), NOW)
        assert (deleted(plan), len(created(plan))) == (["2"], 2)

    @pytest.mark.parametrize("exit_code", [0, 1])
    @pytest.mark.parametrize(("policy", "ends"), [("Never", {0, 1}), ("OnFailure", {0}), ("Always", set())])
    def test_a_worker_that_has_ended_beside_a_sidecar_is_replaced(self, policy, ends, exit_code):
        """The Pod still runs for ever, with nobody at work (controller 20)."""
        g = group(replicas=1)
        over = Container(name=named_container(g), finished=NOW - 100, exit_code=exit_code)
        pod = worker_pod(
            g, 0, ready=False, restart_policy=policy, containers=(Container(name="proxy", running=True), over)
        )
        o = observed_group(g, pod)
        plan = plan_worker_group(o, NOW)
        assert (deleted(plan), created(plan)) == ((["0"], [1]) if exit_code in ends else ([], []))
        if exit_code in ends:
            assert worker_group_status(o, plan, [], NOW).replicas == 0

    def test_its_replacement_waits_as_well(self):
        g = group(replicas=1)
        over = Container(name=named_container(g), finished=NOW - 1, exit_code=0)
        side = Container(name="proxy", running=True)
        pod = worker_pod(
            g, 0, ready=False, restart_policy="Never", created=NOW - 4, started=NOW - 3, containers=(over, side)
        )
        o = observed_group(g, pod)
        plan = plan_worker_group(o, NOW)
        assert (plan.actions, plan.requeue_after) == ((), 29)
        ready = condition(worker_group_status(o, plan, [], NOW).conditions, "Ready")
        assert (ready.reason, "ended soon after its start" in ready.message) == ("Ended", True)

    @pytest.mark.parametrize("containers", [("proxy",), ("worker", "proxy")])
    def test_a_sidecar_that_has_ended_is_not_the_worker(self, containers):
        g = group(replicas=1)
        spec = {"containers": [{"name": "proxy"}, {"name": "worker"}]}
        worker = msgspec.structs.replace(g.spec.worker, spec=spec)
        g = msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=worker))
        over = Container(name="proxy", finished=NOW - 100, exit_code=0)
        found = tuple(over if name == "proxy" else Container(name=name, running=True) for name in containers)
        o = observed_group(g, worker_pod(g, 0, restart_policy="Never", containers=found))
        assert plan_worker_group(o, NOW).actions == ()

    def test_a_container_with_a_restart_policy_of_its_own_is_left_to_it(self):
        g = group(replicas=1)
        spec = {"containers": [{"name": "worker", "restartPolicy": "Always"}]}
        worker = msgspec.structs.replace(g.spec.worker, spec=spec)
        g = msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=worker))
        over = Container(name="worker", finished=NOW - 100, exit_code=0)
        o = observed_group(g, worker_pod(g, 0, restart_policy="Never", containers=(over,)))
        assert plan_worker_group(o, NOW).actions == ()

    @pytest.mark.parametrize("times", [{}, {"started": 0.5, "finished": 1.0}])
    def test_workers_that_never_live_cost_little(self, times):
        """Three of them, for two minutes, with a look at every change: Pods and writes of status are few."""
        g, present, made, writes, now = group(replicas=3), {}, 0, 0, NOW
        while now < NOW + 120:
            o = observed_group(g, *present.values())
            plan = plan_worker_group(o, now)
            for action in plan.actions:
                if isinstance(action, Delete):
                    del present[action.name]
            for action in plan.actions:
                if isinstance(action, CreateWorker):
                    made += 1
                    lived = {key: now + value for key, value in times.items()}
                    pod = ended(g, action.ordinal, created=now, uid=f"{made}", problem=PULL_ERROR, **lived)
                    present[pod.name] = pod
            status = worker_group_status(o, plan, [Outcome(action) for action in plan.actions], now)
            writes += status != g.status
            g = msgspec.structs.replace(g, status=status)
            if not plan.actions:
                assert condition(status.conditions, "Ready").reason == PULL_ERROR.reason
            now += 0.2
        assert made <= 3 * 4
        assert writes <= 3 * 4


def test_rolling_update_surges_first():
    g = group(replicas=4)
    old = pods(g, 0, 1, 2, 3, revision="old")
    plan = plan_worker_group(observed_group(g, *old), NOW)
    assert created(plan) == [4]
    assert deleted(plan) == []
    assert not plan.draining


def test_rolling_update_drains_an_old_worker_for_each_new_one_that_is_ready():
    g = group(replicas=4)
    o = observed_group(g, *pods(g, 0, 1, 2, 3, revision="old"), worker_pod(g, 4), answers=answers(g, 0, 1, 2, 3))
    plan = plan_worker_group(o, NOW)
    assert list(plan.draining) == ["simple-default-worker-0"]
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
    ready = condition(worker_group_status(o, plan, [], NOW).conditions, "Ready")
    assert (ready.status, ready.message) == (
        "True",
        "2 of 2 workers are ready, 2 with the old template until you delete them (OnDelete)",
    ), "without a word it was as if the new template were at work (node 11)"


@pytest.mark.parametrize(
    ("rolling", "desired", "expected"),
    [
        (None, 4, Bounds(1, 0)),
        (None, 5, Bounds(2, 0)),
        (RollingUpdate(max_surge=0, max_unavailable="25%"), 4, Bounds(0, 1)),
        (RollingUpdate(max_surge="0%", max_unavailable=0), 4, Bounds(1, 0)),
        (RollingUpdate(max_surge="100%", max_unavailable="50%"), 3, Bounds(3, 1)),
        (RollingUpdate(max_surge=-5, max_unavailable=-1), 3, Bounds(1, 0)),
        (RollingUpdate(max_surge="some", max_unavailable="-1%"), 3, Bounds(1, 0)),
        (RollingUpdate(max_surge="", max_unavailable="%"), 3, Bounds(1, 0)),
    ],
)
def test_surge_rounds_up_and_unavailable_rounds_down(rolling, desired, expected):
    """Whatever an object may hold that is older than its bounds."""
    assert bounds(UpdateStrategy(rolling_update=rolling), desired) == expected


class TestSurge:
    """Never more Pods than desired plus surge, whatever the limits are (controller 13)."""

    @staticmethod
    def update(replicas, surge, unavailable):
        """Play an update to its end; the most Pods and the fewest ready ones that there were."""
        rolling = RollingUpdate(max_surge=surge, max_unavailable=unavailable)
        g = group(replicas=replicas, update_strategy=UpdateStrategy(rolling_update=rolling))
        present = {p.name: p for p in pods(g, *range(replicas), revision="old")}
        most, fewest, drained = replicas, replicas, {}
        for look in range(200):
            known = sorted(p.ordinal for p in present.values())
            said = {p.ordinal: "retiring" if drained.get(p.name, 0) < 2 else "retired" for p in present.values()}
            o = observed_group(g, *present.values(), answers=answers(g, *known, retirement=said))
            plan = plan_worker_group(o, NOW + look)
            for action in plan.actions:
                if isinstance(action, Delete):
                    del present[action.name]
                else:
                    pod = worker_pod(g, action.ordinal)
                    present[pod.name] = pod
            drained = {name: drained.get(name, 0) + 1 for name in plan.draining}
            status = worker_group_status(o, plan, [Outcome(action) for action in plan.actions], NOW + look)
            g = msgspec.structs.replace(g, status=status)
            most, fewest = max(most, len(present)), min(fewest, len(present.keys() - drained.keys()))
            if not plan.actions and not plan.draining:
                break
        assert all(p.labels[Label.REVISION] == worker_revision(g) for p in present.values())
        assert len(present) == replicas
        return most, fewest

    def test_the_only_worker_without_surge_goes_before_the_new_one_comes(self):
        assert self.update(1, 0, 1) == (1, 0)

    def test_all_at_once(self):
        """It was eight."""
        assert self.update(4, 0, "100%") == (4, 0)

    @pytest.mark.parametrize("replicas", [1, 3, 8])
    @pytest.mark.parametrize("surge", [0, 1, 3, "25%", "100%", "150%"])
    @pytest.mark.parametrize("unavailable", [0, 1, 20, "34%", "100%"])
    def test_any_limits(self, replicas, surge, unavailable):
        limit = bounds(
            UpdateStrategy(rolling_update=RollingUpdate(max_surge=surge, max_unavailable=unavailable)), replicas
        )
        most, fewest = self.update(replicas, surge, unavailable)
        assert most <= replicas + limit.surge
        assert fewest >= replicas - limit.unavailable

    def test_fewer_and_newer_ones_at_once_leave_enough_ready(self):
        """Six old ones, two wanted: three were too many and three others outdated, so all six went."""
        g = group(replicas=2)
        o = observed_group(g, *pods(g, *range(6), revision="old"), answers=answers(g, *range(6)))
        assert len(plan_worker_group(o, NOW).draining) <= 4

    def test_those_that_are_not_ready_go_first(self):
        g = group(replicas=2)
        unready = pods(g, 0, 1, ready=False)
        o = observed_group(g, *unready, *pods(g, 2, 3), answers=answers(g, 3, 2, 1, 0))
        assert sorted(plan_worker_group(o, NOW).draining) == sorted(p.name for p in unready)


class TestWords:
    """Counts that make sense (node 11)."""

    @staticmethod
    def message(o, now=NOW):
        status = worker_group_status(o, plan_worker_group(o, now), [], now)
        return condition(status.conditions, "Ready").message

    def test_one_worker_is(self):
        g = group(replicas=1, status=draining(1))
        asked = answers(g, 0, 1, retirement={1: "retiring: 1 tasks"})
        assert self.message(observed_group(g, *pods(g, 0, 1), answers=asked)) == "1 worker is draining"
        assert self.message(observed_group(g, worker_pod(g, 0))) == "1 of 1 worker is ready"
        old = observed_group(g, worker_pod(g, 0, revision="old"))
        assert self.message(old) == "1 worker still has the old template"

    def test_two_workers_are(self):
        g = group(replicas=1, status=draining(1, 2))
        asked = answers(g, 0, 1, 2, retirement={1: "retiring", 2: "retiring"})
        assert self.message(observed_group(g, *pods(g, 0, 1, 2), answers=asked)) == "2 workers are draining"
        g = group(replicas=2)
        assert self.message(observed_group(g, *pods(g, 0, 1))) == "2 of 2 workers are ready"
        old = observed_group(g, *pods(g, 0, 1, revision="old"))
        assert self.message(old) == "2 workers still have the old template"

    def test_never_more_than_all(self):
        """It was "3 of 2 workers are ready"."""
        g = group(replicas=2)
        assert self.message(observed_group(g, *pods(g, 0, 1, 2))) == "1 worker is to go: 2 wanted"


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


@pytest.mark.parametrize("owners", [[], [{"uid": "of-another", "kind": "Workflow", "controller": True}]])
def test_a_group_made_by_a_client_is_adopted(owners):
    """Or one that has lost its cluster by ``--cascade=orphan``: of what we once applied nothing must go (node 8)."""
    g = group(replicas=0, owned=False)
    g = msgspec.structs.replace(g, metadata=g.metadata | {"ownerReferences": owners, "resourceVersion": "7"})
    (action,) = plan_worker_group(observed_group(g), NOW).actions
    assert isinstance(action, Patch)
    assert (action.kind, action.namespace, action.name, action.uid) == ("DaskWorkerGroup", "team", g.name, g.uid)
    assert action.patch["metadata"].keys() == {"ownerReferences", "resourceVersion"}
    assert action.patch["metadata"]["resourceVersion"] == "7"
    *others, reference = action.patch["metadata"]["ownerReferences"]
    assert others == owners
    assert (reference["uid"], reference["controller"], reference["blockOwnerDeletion"]) == ("uid-simple", False, False)


def test_what_an_earlier_cluster_has_left_to_the_garbage_collector_is_not_kept_from_it():
    """A cluster that is deleted and created again: its old default group would have outlived it."""
    g = group(replicas=0)
    owner = {"uid": "of-before", "kind": "DaskCluster", "name": "simple", "controller": True}
    g = msgspec.structs.replace(g, metadata=g.metadata | {"ownerReferences": [owner]})
    assert plan_worker_group(observed_group(g), NOW).actions == ()


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
                msgspec.structs.replace(p, labels={**p.labels, Label.REVISION: "old"}) for p in pods(g, *outdated)
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
