"""Decisions about a job."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.states import NOW, PULL_ERROR, condition, job, scheduler_pod

from dask_controller.core.actions import Answers, Apply, Delete, Event, Patch, Progress, Versions
from dask_controller.core.conditions import condition as make_condition
from dask_controller.core.job import plan_job
from dask_controller.core.job_status import job_status
from dask_controller.core.observed import ObservedJob, Pod
from dask_controller.core.time import format_time
from dask_crds.merge import merged
from dask_crds.model import (
    DaskClusterStatus,
    JobCluster,
    OnExitCodes,
    OnPodCondition,
    PodFailurePolicy,
    PodFailureRule,
    parse,
)
from dask_resources.job import job_cluster, runner_job


class Run:
    """A job that is played through, step by step, as the controller would see it."""

    def __init__(self, **spec):
        self.job = job(**spec)
        self.cluster = None
        self.runner = None
        self.pods: tuple[Pod, ...] = ()
        self.scheduler_pods: tuple[Pod, ...] = ()
        self.answers = Answers(silent="not asked in this test")
        self.runners = 0

    @property
    def observed(self):
        return ObservedJob(
            job=self.job,
            cluster=self.cluster,
            runner=self.runner,
            pods=self.pods,
            scheduler_pods=self.scheduler_pods,
        )

    def step(self, now=NOW):
        """Plan, ask, execute, write status; returns what was done, ``Apply DaskCluster`` say."""
        o = self.observed
        plan = plan_job(o, now)
        self.asked = plan.ask
        if plan.ask is not None:
            o = msgspec.structs.replace(o, answers=self.answers)
            plan = plan_job(o, now)
        done = [self._execute(action) for action in plan.actions if not isinstance(action, Event)]
        self.job = msgspec.structs.replace(self.job, status=job_status(o, plan, [], now))
        self.requeue = plan.requeue_after
        return done

    def _execute(self, action):
        match action:
            case Apply(manifest):
                self.runners += manifest["kind"] == "Job"
                uid = f"uid-{manifest['kind']}-{self.runners}"
                manifest = {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}
                if manifest["kind"] == "DaskCluster":
                    self.cluster = parse(manifest)
                else:
                    self.runner = manifest
                return f"Apply {manifest['kind']}"
            case Delete(kind):
                if kind == "DaskCluster":
                    self.cluster, self.scheduler_pods = None, ()
                else:
                    self.runner, self.pods = None, ()
                return f"Delete {kind}"
            case Patch(kind):
                self.runner = merged(self.runner, action.patch)
                return f"Patch {kind}"

    def scheduler_becomes_ready(self):
        status = DaskClusterStatus(conditions=[make_condition("SchedulerReady", True, "Ready")])
        self.cluster = msgspec.structs.replace(self.cluster, status=status)
        self.scheduler_pods = (scheduler_pod("hello"),)

    def runner_runs(self, **fields):
        self.pods = (scheduler_pod(**({"name": "hello-runner-x", "phase": "Running"} | fields)),)
        self.runner["status"] = {"active": 1, "startTime": format_time(NOW)}

    def runner_ends(self, type, reason="", message=""):
        ending = {
            "type": type,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": format_time(NOW),
        }
        self.runner["status"] = {"conditions": [ending], "startTime": format_time(NOW)}

    def scheduler_restarts(self, **fields):
        self.scheduler_pods = (scheduler_pod("hello", **({"restarts": 1} | fields)),)

    def changed(self, **spec):
        self.job = msgspec.structs.replace(self.job, spec=msgspec.structs.replace(self.job.spec, **spec))

    def up_to_running(self):
        self.step()
        self.step()
        self.scheduler_becomes_ready()
        self.step()
        self.runner_runs()
        self.step()
        assert self.status.job_status == "Running"
        return self

    @property
    def status(self):
        return self.job.status

    def is_true(self, type):
        return condition(self.status.conditions, type).status == "True"


def test_status_is_written_before_anything_is_made():
    run = Run()
    assert run.step() == []
    assert run.status.job_status == "JobCreated"
    assert run.step() == ["Apply DaskCluster"]


def test_the_runner_waits_for_the_scheduler():
    run = Run()
    run.step(), run.step()
    assert run.step() == []
    assert run.status.job_status == "ClusterCreated"
    assert "scheduler" in condition(run.status.conditions, "Ready").message
    run.scheduler_becomes_ready()
    assert run.step() == ["Apply Job"]


def test_a_completed_run_is_terminal_before_its_cluster_is_deleted():
    run = Run().up_to_running()
    run.runner_ends("Complete")
    assert run.step() == []
    assert run.status.job_status == "Successful"
    assert run.status.end_time == format_time(NOW)
    assert (run.is_true("Complete"), run.is_true("Ready"), run.is_true("Stalled")) == (True, True, False)
    assert run.step(NOW + 61) == ["Delete DaskCluster"]
    assert run.step(NOW + 62) == []
    assert run.runner is not None, "logs stay"


def test_a_failed_run_says_why():
    run = Run().up_to_running()
    run.runner_ends("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    run.pods = (scheduler_pod(phase="Failed", problem=PULL_ERROR),)
    assert run.step() == []
    assert run.status.job_status == "Failed"
    failed = condition(run.status.conditions, "Failed")
    assert failed.reason == "BackoffLimitExceeded"
    assert PULL_ERROR.message in failed.message
    assert (run.is_true("Ready"), run.is_true("Stalled")) == (False, True)
    assert run.step() == ["Delete DaskCluster"]


def test_nothing_runs_again_whatever_is_missing_later():
    run = Run().up_to_running()
    run.runner_ends("Complete")
    run.step(), run.step()
    run.runner, run.cluster, run.pods = None, None, ()
    assert run.step() == []
    assert run.status.job_status == "Successful"


def test_a_cluster_deleted_under_the_runner_ends_the_run():
    """dask-kubernetes #975: the job stayed Running for ever."""
    run = Run().up_to_running()
    run.cluster = None
    assert run.step() == []
    assert condition(run.status.conditions, "Failed").reason == "ClusterFailed"
    assert run.step() == ["Delete Job"], "the runner would wait for its cluster for ever"


def test_a_runner_deleted_by_hand_ends_the_run():
    run = Run().up_to_running()
    run.runner, run.pods = None, ()
    run.step()
    assert condition(run.status.conditions, "Failed").reason == "RunnerLost"


@pytest.mark.parametrize(
    ("policy", "ending", "deleted"),
    [
        ("Always", "Failed", True),
        ("OnSuccess", "Complete", True),
        ("OnSuccess", "Failed", False),
        ("Never", "Complete", False),
    ],
)
def test_deletion_policy(policy, ending, deleted):
    run = Run()
    cluster = JobCluster(spec=run.job.spec.cluster.spec, deletion_policy=policy)
    run.job = msgspec.structs.replace(run.job, spec=msgspec.structs.replace(run.job.spec, cluster=cluster))
    run.up_to_running().runner_ends(ending)
    run.step()
    assert (run.step() == ["Delete DaskCluster"]) is deleted


def test_deletion_delay_is_waited_for():
    run = Run()
    cluster = JobCluster(spec=run.job.spec.cluster.spec, deletion_delay_seconds=30)
    run.job = msgspec.structs.replace(run.job, spec=msgspec.structs.replace(run.job.spec, cluster=cluster))
    run.up_to_running().runner_ends("Complete")
    run.step()
    assert run.step(NOW + 10) == []
    assert run.requeue == 20
    assert run.step(NOW + 30) == ["Delete DaskCluster"]


def test_ttl_removes_the_runner_and_never_the_job():
    run = Run(ttl_seconds_after_finished=100).up_to_running()
    run.runner_ends("Complete")
    run.step(), run.step()
    assert run.step(NOW + 40) == []
    assert run.requeue == 60
    assert run.step(NOW + 100) == ["Delete Job"]
    assert run.step(NOW + 101) == []


def test_a_new_run_id_runs_once_more_after_the_old_run_is_gone():
    run = Run(run_id="one").up_to_running()
    run.runner_ends("Complete")
    run.step(), run.step()
    run.job = msgspec.structs.replace(run.job, spec=msgspec.structs.replace(run.job.spec, run_id="two"))
    run.scheduler_pods = (scheduler_pod(run.job.name),)  # garbage collection takes its time
    assert run.step() == ["Delete Job"]
    assert run.status.job_status == "Successful", "the old status stands until the new run starts"
    assert run.step() == [], "the old scheduler must not be taken for the new one"
    assert "waiting for scheduler" in condition(run.status.conditions, "Ready").message
    run.scheduler_pods = ()
    assert run.step() == ["Apply DaskCluster"]
    assert (run.status.run_id, run.status.job_status) == ("two", "JobCreated")
    run.scheduler_becomes_ready()
    assert run.step() == ["Apply Job"]
    run.runner_runs(), run.step()
    run.runner_ends("Complete"), run.step()
    assert run.status.job_status == "Successful"
    assert run.step() == ["Delete DaskCluster"]
    assert run.step() == []


def test_a_changed_spec_alone_runs_nothing_again():
    run = Run().up_to_running()
    run.runner_ends("Complete")
    run.step(), run.step()
    run.job = msgspec.structs.replace(
        run.job,
        spec=msgspec.structs.replace(run.job.spec, backoff_limit=3),
        metadata=run.job.metadata | {"generation": 2},
    )
    assert run.step() == []
    assert run.status.observed_generation == 2


def test_a_suspended_job_makes_a_suspended_cluster_and_no_runner():
    run = Run(suspend=True)
    run.step(), run.step()
    assert run.cluster.spec.suspend is True
    run.scheduler_becomes_ready()
    assert run.step() == []
    assert run.is_true("Suspended")
    assert condition(run.status.conditions, "Ready").message == "runner and cluster are being stopped"
    run.scheduler_pods = ()
    for seconds in (0, 3600):
        run.step(NOW + seconds)
        ready = condition(run.status.conditions, "Ready")
        assert (ready.status, ready.reason) == ("True", "Suspended"), "all is as asked"


def test_a_long_run_does_not_stall():
    run = Run().up_to_running()
    run.step(NOW + 3600)
    assert (run.is_true("Ready"), run.is_true("Reconciling"), run.is_true("Stalled")) == (False, True, False)
    run.runner_runs(problem=PULL_ERROR)
    run.step(NOW + 3601)
    assert not run.is_true("Stalled")


def test_a_run_that_does_not_begin_stalls():
    run = Run()
    for seconds in (0, 1, 602):
        run.step(NOW + seconds)
    assert run.is_true("Stalled")


def test_suspending_a_running_job_suspends_runner_and_cluster():
    run = Run().up_to_running()
    run.job = msgspec.structs.replace(run.job, spec=msgspec.structs.replace(run.job.spec, suspend=True))
    assert run.step() == ["Apply DaskCluster", "Patch Job"]


def test_a_cluster_of_the_same_name_that_is_not_ours_is_left_alone():
    run = Run()
    run.step()
    manifest = job_cluster(run.job)
    manifest["metadata"]["ownerReferences"] = []
    run.cluster = parse(manifest)
    assert run.step() == []
    assert condition(run.status.conditions, "Ready").reason == "NameConflict"


def test_job_status_never_goes_back():
    run = Run().up_to_running()
    run.pods = ()
    run.step()
    assert run.status.job_status == "Running"


class TestSchedulerFence:
    """A scheduler that restarts under the runner has forgotten all that the runner had submitted."""

    def test_the_run_starts_again_with_the_new_scheduler(self):
        run = Run().up_to_running()
        run.scheduler_restarts()
        assert run.step() == [], "the loss is stored first, so that it is counted once"
        assert (run.status.scheduler_loss.count, run.status.retries) == (1, 1)
        assert run.step() == ["Delete Job"]
        assert run.status.job_status == "Running", "clients never see it go back"
        assert run.step() == ["Apply Job"]
        assert run.runner["metadata"]["annotations"]["dask.org/scheduler-id"] == "uid-hello-scheduler-x/1"
        run.runner_runs(), run.step()
        run.runner_ends("Complete"), run.step()
        assert (run.status.job_status, run.status.retries, run.runners) == ("Successful", 1, 2)

    def test_it_waits_for_the_old_runner_to_end_and_the_new_scheduler_to_be_ready(self):
        run = Run().up_to_running()
        run.scheduler_restarts(ready=False)
        run.step(), run.step()
        assert run.step() == []
        run.scheduler_restarts()
        run.pods = (scheduler_pod(name="hello-runner-x", deleting=True),)
        assert run.step() == []
        run.pods = ()
        assert run.step() == ["Apply Job"]

    @pytest.mark.parametrize(
        "pods", [(), (scheduler_pod("hello", deleting=True),), (scheduler_pod("hello", uid="new"),)]
    )
    def test_a_replaced_pod_is_a_lost_scheduler(self, pods):
        run = Run(on_scheduler_lost="Fail").up_to_running()
        run.scheduler_pods = pods
        run.step()
        assert condition(run.status.conditions, "Failed").reason == "SchedulerLost"

    def test_ignore(self):
        run = Run(on_scheduler_lost="Ignore").up_to_running()
        run.scheduler_restarts()
        assert run.step() == [] == run.step()
        assert run.status.job_status == "Running"

    def test_a_program_that_shuts_its_cluster_down_at_the_end_does_not_run_again(self):
        run = Run().up_to_running()
        run.scheduler_restarts(last_words="shut down by a client")
        assert run.step() == [] == run.step()
        run.runner_ends("Complete"), run.step()
        assert (run.status.job_status, run.status.retries) == ("Successful", None)

    def test_a_runner_that_has_completed_has_completed(self):
        run = Run().up_to_running()
        run.runner_ends("Complete")
        run.scheduler_restarts()
        run.step()
        assert run.status.job_status == "Successful"

    def test_it_does_not_start_again_for_ever(self):
        run = Run().up_to_running()
        for restarts in range(1, 4):
            run.scheduler_restarts(restarts=restarts)
            run.step(), run.step(), run.step()
            run.runner_runs(), run.step()
        assert (run.status.retries, run.runners) == (3, 4)
        run.scheduler_restarts(restarts=4)
        run.step()
        failed = condition(run.status.conditions, "Failed")
        assert (failed.status, failed.reason) == ("True", "SchedulerLost")

    def test_failures_count_on_after_it(self):
        run = Run(backoff_limit=2).up_to_running()
        run.runner["status"] = {"active": 1, "failed": 1}
        run.step()
        assert run.status.retries == 1
        run.scheduler_restarts()
        run.step()
        assert run.status.retries == 2
        run.step(), run.step()
        assert run.runner["spec"]["backoffLimit"] == 1

    def test_a_runner_that_is_deleted_by_hand_after_it_is_lost(self):
        run = Run().up_to_running()
        run.scheduler_restarts()
        run.step(), run.step(), run.step()
        run.runner_runs(), run.step()
        assert run.status.scheduler_loss.runner_uid is None
        run.runner, run.pods = None, ()
        run.step()
        assert condition(run.status.conditions, "Failed").reason == "RunnerLost"

    def test_suspending_is_no_loss(self):
        run = Run().up_to_running()
        run.changed(suspend=True)
        run.step()
        run.scheduler_pods, run.pods = (), ()
        assert run.step() == []
        run.changed(suspend=False)
        assert run.step() == ["Apply DaskCluster"], "the runner waits for the scheduler"
        run.scheduler_pods = (scheduler_pod("hello", uid="new"),)
        assert run.step() == ["Patch Job"]
        assert run.runner["metadata"]["annotations"]["dask.org/scheduler-id"] == "new/0"
        assert run.step() == []
        assert run.status.retries is None


class TestWaiting:
    def test_the_runner_waits_for_workers(self):
        run = Run(minimum_ready_workers=3)
        run.step(), run.step()
        run.scheduler_becomes_ready()
        run.answers = Answers(progress=Progress(0, 0, 2))
        assert run.step() == []
        assert run.asked.progress
        assert condition(run.status.conditions, "Ready").message == "2 of 3 workers have registered"
        assert run.asked.every == 2
        run.answers = Answers(progress=Progress(0, 0, 3))
        assert run.step() == ["Apply Job"]

    def test_a_silent_scheduler_is_waited_for(self):
        run = Run(minimum_ready_workers=1)
        run.step(), run.step()
        run.scheduler_becomes_ready()
        run.answers = Answers(silent="it cannot be reached")
        assert run.step() == []
        assert "cannot be reached" in condition(run.status.conditions, "Ready").message

    def test_the_deadline_bounds_the_wait_and_says_for_what(self):
        run = Run(active_deadline_seconds=60)
        run.step(), run.step()
        assert run.step(NOW + 59) == []
        assert run.requeue == 1
        problem = make_condition("SchedulerReady", False, "ImagePullBackOff", "no such image")
        run.cluster = msgspec.structs.replace(run.cluster, status=DaskClusterStatus(conditions=[problem]))
        run.step(NOW + 60)
        failed = condition(run.status.conditions, "Failed")
        assert (failed.status, failed.reason) == ("True", "DeadlineExceeded")
        assert "no such image" in failed.message
        assert run.step(NOW + 61) == ["Delete DaskCluster"]

    def test_the_runner_gets_what_is_left_of_the_deadline(self):
        run = Run(active_deadline_seconds=60)
        run.step(), run.step()
        run.scheduler_becomes_ready()
        run.step(NOW + 45)
        assert run.runner["spec"]["activeDeadlineSeconds"] == 15

    def test_time_spent_suspended_does_not_count(self):
        run = Run(active_deadline_seconds=60, suspend=True)
        run.step(), run.step(NOW + 100)
        run.changed(suspend=False)
        run.step(NOW + 200)
        assert run.status.active_since == format_time(NOW + 200)
        assert run.status.job_status == "ClusterCreated"

    def test_what_kubernetes_tells_in_an_event_alone(self):
        run = Run().up_to_running()
        run.pods = ()
        o = msgspec.structs.replace(run.observed, creation_problem="pods x is forbidden: exceeded quota: small")
        plan = plan_job(o, NOW)
        ready = condition(job_status(o, plan, [], NOW).conditions, "Ready")
        assert (ready.reason, plan.requeue_after) == ("QuotaExceeded", 5)


class TestProgress:
    def running(self, **spec):
        run = Run(**spec).up_to_running()
        run.answers = Answers(progress=Progress(10, 4, 2), versions=SAME)
        return run

    def test_it_is_asked_for_while_the_runner_runs(self):
        run = self.running()
        run.step()
        progress = run.status.progress
        assert (progress.tasks_total, progress.tasks_done, progress.percent, progress.workers) == (10, 4, 40, 2)
        assert run.asked.every == 15

    def test_it_is_written_at_most_every_fifteen_seconds_and_only_when_it_has_changed(self):
        run = self.running()
        run.step()
        run.answers = Answers(progress=Progress(10, 5, 2))
        run.step(NOW + 14)
        assert (run.requeue, run.status.progress.tasks_done) == (1, 4)
        run.step(NOW + 15)
        assert run.status.progress.tasks_done == 5
        before = run.status
        run.step(NOW + 30)
        assert run.asked is not None
        assert run.status == before

    def test_the_last_word_is_that_of_the_end(self):
        run = self.running()
        run.step()
        run.answers = Answers(progress=Progress(10, 10, 2))
        run.runner_ends("Complete")
        run.step(NOW + 1)
        assert run.asked.every is None, "a fresh answer"
        assert (run.status.job_status, run.status.progress.percent) == ("Successful", 100)

    def test_a_silent_scheduler_changes_nothing(self):
        run = self.running()
        run.step()
        run.answers = Answers(silent="busy")
        run.step(NOW + 20)
        assert run.status.progress.tasks_done == 4


V1, V2 = {"distributed": "1", "python": "3.11"}, {"distributed": "2", "python": "3.11"}
SAME = Versions((V1,), (V1,), (V1,))


class TestVersions:
    def run(self, versions, **spec):
        run = Run(**spec).up_to_running()
        run.answers = Answers(progress=Progress(0, 0, 1), versions=versions)
        run.step()
        return run

    def test_agreement(self):
        run = self.run(SAME)
        assert run.is_true("VersionsConsistent")
        run.step(NOW + 20)
        assert not run.asked.versions, "asked no more once they are known"

    def test_differences_are_told_and_tolerated(self):
        run = self.run(Versions((V1,), (V1, V2), (V2,)))
        found = condition(run.status.conditions, "VersionsConsistent")
        assert (found.status, found.message) == ("False", "distributed: scheduler 1, workers 1 and 2, runner 2")
        assert run.status.job_status == "Running"

    def test_differences_fail_the_run_where_that_is_asked_for(self):
        run = Run(version_policy="Enforce")
        run.answers = Answers(progress=Progress(0, 0, 1), versions=Versions((V1,), (V1,), ()))
        run.up_to_running()
        run.answers = Answers(progress=Progress(0, 0, 1), versions=Versions((V1,), (V1,), (V2,)))
        run.step()
        failed = condition(run.status.conditions, "Failed")
        assert (failed.reason, failed.message) == ("VersionMismatch", "distributed: scheduler 1, workers 1, runner 2")
        assert run.step() == ["Delete DaskCluster", "Delete Job"]

    def test_the_runner_is_not_started_on_workers_that_differ(self):
        run = Run(version_policy="Enforce")
        run.step(), run.step()
        run.scheduler_becomes_ready()
        run.answers = Answers(progress=Progress(0, 0, 1), versions=Versions((V1,), (V2,), ()))
        run.step(), run.step()
        assert run.runners == 0
        assert condition(run.status.conditions, "Failed").reason == "VersionMismatch"

    def test_nothing_is_said_before_everybody_is_known(self):
        run = self.run(Versions((V1,), (), (V1,)))
        assert not any(c.type == "VersionsConsistent" for c in run.status.conditions)


class TestRuns:
    def test_past_runs_are_remembered(self):
        run = Run(run_id="one").up_to_running()
        run.runner_ends("Failed", "BackoffLimitExceeded"), run.step(), run.step()
        for run_id in ["two", "three", "four", "five", "six", "seven"]:
            run.changed(run_id=run_id)
            run.step(), run.step(), run.scheduler_becomes_ready(), run.step()
            run.runner_runs(), run.step()
            run.runner_ends("Complete"), run.step(), run.step()
        history = run.status.history
        assert [past.run_id for past in history] == ["six", "five", "four", "three", "two"]
        assert (history[0].job_status, history[0].reason) == ("Successful", "Completed")
        assert run.runners == 7

    def test_a_changed_template_says_that_it_does_not_run_by_itself(self):
        run = Run().up_to_running()
        run.runner_ends("Complete"), run.step(), run.step()
        assert run.is_true("UpToDate")
        run.changed(backoff_limit=3)
        run.step()
        assert run.is_true("UpToDate"), "nothing that runs has changed"
        run.changed(
            job=msgspec.structs.replace(run.job.spec.job, spec={"containers": [{"name": "x", "image": "run:2"}]})
        )
        assert run.step() == []
        found = condition(run.status.conditions, "UpToDate")
        assert (found.status, found.reason) == ("False", "SpecChanged")
        assert "spec.runId" in found.message
        run.changed(run_id="again")
        run.step(), run.step()
        assert run.is_true("UpToDate")

    def test_how_long_it_took(self):
        run = Run().up_to_running()
        run.runner_ends("Complete")
        run.runner["status"]["conditions"][0]["lastTransitionTime"] = format_time(NOW + 90)
        run.step(NOW + 91)
        assert run.status.duration_seconds == 90


class TestRunnerJob:
    def test_disruptions_do_not_count_as_failures(self):
        spec = runner_job(job())["spec"]
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
        assert spec["backoffLimit"] == 0
        assert spec["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["type"] == "DisruptionTarget"

    def test_on_failure_has_no_failure_policy_because_kubernetes_refuses_it(self):
        j = job(backoff_limit=2)
        spec = j.spec.job.spec | {"restartPolicy": "OnFailure"}
        template = msgspec.structs.replace(j.spec.job, spec=spec)
        j = msgspec.structs.replace(j, spec=msgspec.structs.replace(j.spec, job=template))
        built = runner_job(j)["spec"]
        assert "podFailurePolicy" not in built
        assert built["backoffLimit"] == 2

    def test_a_users_failure_policy_is_passed_through(self):
        rules = [
            PodFailureRule(action="FailJob", on_exit_codes=OnExitCodes(operator="In", values=[42])),
            PodFailureRule(action="Ignore", on_pod_conditions=[OnPodCondition(type="DisruptionTarget")]),
        ]
        spec = runner_job(job(pod_failure_policy=PodFailurePolicy(rules=rules)))["spec"]
        assert spec["podFailurePolicy"]["rules"] == [
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]

    def test_the_runner_knows_its_scheduler(self):
        (container,) = runner_job(job())["spec"]["template"]["spec"]["containers"]
        assert container["env"] == [
            {"name": "DASK_SCHEDULER_ADDRESS", "value": "tcp://hello-scheduler.team.svc.cluster.local:8786"}
        ]
