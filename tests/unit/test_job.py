"""Decisions about a job."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
from tests.support.offline import OFFLINE
from tests.support.questions import answers_of, parts
from tests.support.states import NOW, PULL_ERROR, cluster, condition, group, job, scheduler_pod

from dask_controller.core.actions import Apply, Delete, Event, Patch
from dask_controller.core.conditions import condition as make_condition
from dask_controller.core.job import plan_job
from dask_controller.core.job_status import job_status
from dask_controller.core.observed import ObservedJob
from dask_controller.core.pod import Container, Pod, Problem
from dask_controller.core.questions import Progress, Versions
from dask_controller.core.run import Run as Derived
from dask_controller.core.time import format_time
from dask_controller.shell.caches import Caches, Key
from dask_controller.shell.dispatch import snapshot
from dask_controller.shell.observe import Observer
from dask_controller.shell.wakeups import wake_by
from dask_crds import names
from dask_crds.merge import merged
from dask_crds.model import (
    DaskClusterStatus,
    JobCluster,
    OnExitCodes,
    OnPodCondition,
    PodFailurePolicy,
    PodFailureRule,
    Scheduler,
    dump,
    parse,
)
from dask_crds.names import Annotation, Component, Label
from dask_resources.job import job_cluster, job_revision, runner_job
from dask_resources.scheduler import scheduler_service


def runner_pod(name="hello-runner-x", **fields):
    """A Pod that a runner's Job has made; of which one is for `Run.observed` to say."""
    of_a_runner = {"name": name, "uid": f"uid-{name}", "owner_kind": "Job", "owner_uid": "runner"}
    return msgspec.structs.replace(scheduler_pod(), **(of_a_runner | fields))


def ended(exit_code, reason="Error", words="", name="dask", **fields):
    """A container that has ended."""
    return Container(
        name=name, exit_code=exit_code, reason=reason, termination_message=words, **({"finished": NOW} | fields)
    )


class Run:
    """A job that is played through, step by step, as the controller would see it."""

    def __init__(self, **spec):
        self.job = job(**spec)
        self.cluster = None
        self.runner = None
        self.pods: tuple[Pod, ...] = ()
        self.scheduler_pods: tuple[Pod, ...] = ()
        self.leftovers: tuple[Pod, ...] = ()
        self.service = scheduler_service
        self.answers = answers_of(silent="not asked in this test")
        self.creation_problem, self.leaving = "", 0
        self.runners = 0

    @property
    def observed(self):
        """With Pods of ``runner`` as those of the Job that there is."""
        uid = self.runner["metadata"]["uid"] if self.runner else "one that is gone"
        pods = (msgspec.structs.replace(p, owner_uid=uid) if p.owner_uid == "runner" else p for p in self.pods)
        return ObservedJob(
            job=self.job,
            cluster=self.cluster,
            runner=self.runner,
            pods=tuple(pods),
            scheduler_pods=self.scheduler_pods,
            service=self.service(self.cluster) if self.cluster else None,
            leftovers=self.leftovers,
            creation_problem=self.creation_problem,
            leaving=self.leaving,
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
                there = self.cluster.metadata if kind == "DaskCluster" else self.runner["metadata"]
                assert there["uid"] == action.uid
                if kind == "DaskCluster":
                    self.cluster, self.scheduler_pods = None, ()
                else:
                    self.runner, self.pods = None, ()
                return f"Delete {kind}"
            case Patch("DaskCluster"):
                assert self.cluster.uid == action.uid
                self.cluster = parse(merged(dump(self.cluster), action.patch))
                return "Patch DaskCluster"
            case Patch(kind):
                assert self.runner["metadata"]["uid"] == action.uid
                self.runner = merged(self.runner, action.patch)
                return f"Patch {kind}"

    def scheduler_becomes_ready(self):
        status = DaskClusterStatus(conditions=[make_condition("SchedulerReady", True, "Ready")])
        self.cluster = msgspec.structs.replace(self.cluster, status=status)
        self.scheduler_pods = (scheduler_pod("hello"),)

    def runner_runs(self, **fields):
        self.pods = (runner_pod(**fields),)
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

    def scheduler_restarts(self, restarts=1, words="", **fields):
        containers = (Container(name="dask", running=True, restarts=restarts, termination_message=words),)
        self.scheduler_pods = (scheduler_pod("hello", **({"containers": containers} | fields)),)

    def is_told(self, *conditions, **status):
        """What Kubernetes says of the runner's Job."""
        found = [{"status": "True", "lastTransitionTime": format_time(NOW), **c} for c in conditions]
        self.runner["status"] = {"startTime": format_time(NOW), "conditions": found, **status}

    def template(self, **cluster_spec):
        """A change of the cluster's template."""
        cluster = self.job.spec.cluster
        spec = msgspec.structs.replace(cluster.spec, **cluster_spec)
        self.changed(cluster=msgspec.structs.replace(cluster, spec=spec))

    @property
    def ready(self):
        return condition(self.status.conditions, "Ready")

    def up_to_cluster(self):
        self.step(), self.step()
        self.scheduler_becomes_ready()
        return self

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


@pytest.mark.parametrize("owner", [None, "of another"])
def test_the_runner_does_not_go_where_somebody_elses_service_leads(owner):
    """(strangers 2, found again by tests/faults) The scheduler was ready, so the runner was started all the same."""
    run = Run()
    run.step(), run.step()

    def foreign(cluster):
        service = scheduler_service(cluster)
        references = [{"uid": owner, "controller": True}] if owner else []
        return {**service, "metadata": {**service["metadata"], "ownerReferences": references}}

    run.service = foreign
    run.scheduler_becomes_ready()
    assert run.step() == []
    run.service = lambda _: None
    assert run.step() == []
    run.service = scheduler_service
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
    run.pods = (runner_pod(phase="Failed", problem=PULL_ERROR),)
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
    run.leftovers = (scheduler_pod(run.job.name),)  # garbage collection takes its time
    assert run.step() == ["Delete Job"]
    assert run.status.job_status == "Successful", "the old status stands until the new run starts"
    assert run.ready.message == "waiting for Job hello-runner of the run before to be gone"
    assert run.step() == [], "the old scheduler must not be taken for the new one"
    assert "waiting for scheduler" in condition(run.status.conditions, "Ready").message
    run.leftovers = ()
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
    assert run.step() == ["Patch DaskCluster", "Patch Job"]


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
        run.pods = (runner_pod(deleting=True),)
        assert run.step() == []
        expected = "the scheduler was lost: the runner is started again when hello-runner-x has ended"
        assert run.ready.message == expected, "(node 6)"
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
        run.scheduler_restarts(words="shut down by a client")
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
        assert run.step() == ["Patch DaskCluster"], "the runner waits for the scheduler"
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
        run.answers = answers_of(progress=Progress(0, 0, 2))
        assert run.step() == []
        assert parts(run.asked).progress
        assert condition(run.status.conditions, "Ready").message == "2 of 3 workers have registered"
        assert run.asked.every == 2
        run.answers = answers_of(progress=Progress(0, 0, 3))
        assert run.step() == ["Apply Job"]

    def test_a_silent_scheduler_is_waited_for(self):
        run = Run(minimum_ready_workers=1)
        run.step(), run.step()
        run.scheduler_becomes_ready()
        run.answers = answers_of(silent="it cannot be reached")
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
        run.answers = answers_of(progress=Progress(10, 4, 2), versions=SAME)
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
        run.answers = answers_of(progress=Progress(10, 5, 2))
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
        run.answers = answers_of(progress=Progress(10, 10, 2))
        run.runner_ends("Complete")
        run.step(NOW + 1)
        assert run.asked.every is None, "a fresh answer"
        assert (run.status.job_status, run.status.progress.percent) == ("Successful", 100)

    def test_a_silent_scheduler_changes_nothing(self):
        run = self.running()
        run.step()
        run.answers = answers_of(silent="busy")
        run.step(NOW + 20)
        assert run.status.progress.tasks_done == 4


V1, V2 = {"distributed": "1", "python": "3.11"}, {"distributed": "2", "python": "3.11"}
SAME = Versions((V1,), (V1,), (V1,))


class TestVersions:
    def run(self, versions, **spec):
        run = Run(**spec).up_to_running()
        run.answers = answers_of(progress=Progress(0, 0, 1), versions=versions)
        run.step()
        return run

    def test_agreement(self):
        run = self.run(SAME)
        assert run.is_true("VersionsConsistent")
        run.step(NOW + 20)
        assert not parts(run.asked).versions, "asked no more once they are known"

    def test_differences_are_told_and_tolerated(self):
        run = self.run(Versions((V1,), (V1, V2), (V2,)))
        found = condition(run.status.conditions, "VersionsConsistent")
        assert (found.status, found.message) == ("False", "distributed: scheduler 1, workers 1 and 2, runner 2")
        assert run.status.job_status == "Running"

    def test_differences_fail_the_run_where_that_is_asked_for(self):
        run = Run(version_policy="Enforce")
        run.answers = answers_of(progress=Progress(0, 0, 1), versions=Versions((V1,), (V1,), ()))
        run.up_to_running()
        run.answers = answers_of(progress=Progress(0, 0, 1), versions=Versions((V1,), (V1,), (V2,)))
        run.step()
        failed = condition(run.status.conditions, "Failed")
        assert (failed.reason, failed.message) == ("VersionMismatch", "distributed: scheduler 1, workers 1, runner 2")
        assert run.step() == ["Delete DaskCluster", "Delete Job"]

    def test_the_runner_is_not_started_on_workers_that_differ(self):
        run = Run(version_policy="Enforce")
        run.step(), run.step()
        run.scheduler_becomes_ready()
        run.answers = answers_of(progress=Progress(0, 0, 1), versions=Versions((V1,), (V2,), ()))
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


class TestWhatIsNotItsOwn:
    """(controller 4, strangers 5) A name or a label makes nothing the job's own: what others made is neither used nor
    deleted, in no run, and by no policy."""

    FOREIGN = {"ownerReferences": []}
    OF_ANOTHER = {"ownerReferences": [{"kind": "Deployment", "name": "x", "uid": "another", "controller": True}]}

    def foreign_cluster(self, run, **metadata):
        manifest = job_cluster(run.job)
        manifest["metadata"] |= {"uid": "theirs", **metadata}
        manifest["metadata"].pop("labels", None)
        return parse(manifest)

    def foreign_runner(self, run, **metadata):
        manifest = runner_job(run.job)
        return {**manifest, "metadata": {**manifest["metadata"], "labels": {}, "uid": "theirs", **metadata}}

    @pytest.mark.parametrize("metadata", [FOREIGN, OF_ANOTHER])
    def test_no_runner_starts_on_a_cluster_of_somebody_elses(self, metadata):
        run = Run()
        run.step()
        run.cluster = self.foreign_cluster(run, **metadata)
        for _ in range(3):
            assert run.step() == []
            assert run.ready.reason == "NameConflict"
            run.scheduler_becomes_ready()
        assert run.requeue == 10, "nothing tells of it when the name is free"
        run.cluster, run.scheduler_pods = None, ()
        assert run.step() == ["Apply DaskCluster"]

    def test_a_suspended_job_tells_of_it_too(self):
        run = Run(suspend=True)
        run.step()
        run.cluster = self.foreign_cluster(run, **self.FOREIGN)
        assert run.step() == []
        assert run.ready.reason == "NameConflict"

    def test_no_cluster_is_made_beside_a_job_of_somebody_elses(self):
        run = Run()
        run.step()
        run.runner = self.foreign_runner(run, **self.FOREIGN)
        assert run.step() == [] == run.step()
        assert run.ready.reason == "NameConflict"
        run.runner = None
        assert run.step() == ["Apply DaskCluster"]

    def test_a_foreign_job_that_comes_later_is_not_resumed_and_its_end_is_not_the_runs(self):
        run = Run().up_to_cluster()
        run.runner = self.foreign_runner(run, **self.FOREIGN)
        run.runner["spec"]["suspend"] = True
        assert run.step() == []
        run.is_told({"type": "Complete"})
        assert run.step() == []
        assert run.ready.reason == "NameConflict"
        assert run.status.job_status == "ClusterCreated"

    def test_a_new_run_leaves_them_alone(self):
        run = Run(run_id="one").up_to_running()
        run.runner_ends("Complete"), run.step(), run.step()
        run.cluster, run.runner = self.foreign_cluster(run, **self.FOREIGN), self.foreign_runner(run, **self.FOREIGN)
        run.changed(run_id="two")
        assert run.step() == [] == run.step()
        assert (run.ready.reason, run.status.run_id) == ("NameConflict", "two")

    @pytest.mark.parametrize("spec", [{}, {"ttl_seconds_after_finished": 0}])
    @pytest.mark.parametrize("end", ["Complete", "Failed"])
    def test_they_are_not_tidied_up(self, spec, end):
        run = Run(**spec).up_to_running()
        run.runner_ends(end), run.step(), run.step()
        run.cluster, run.runner = self.foreign_cluster(run, **self.FOREIGN), self.foreign_runner(run, **self.FOREIGN)
        for seconds in (0, 3600):
            assert run.step(NOW + seconds) == []

    def test_a_foreign_cluster_that_takes_the_place_of_the_runs_own_ends_it(self):
        run = Run().up_to_running()
        run.cluster = self.foreign_cluster(run, **self.FOREIGN)
        assert run.step() == []
        assert condition(run.status.conditions, "Failed").reason == "ClusterFailed"
        assert run.step() == ["Delete Job"], "its own"
        assert run.step() == []

    def test_a_foreign_job_that_takes_the_place_of_the_runner_ends_it(self):
        run = Run().up_to_running()
        run.runner = self.foreign_runner(run, **self.FOREIGN)
        assert run.step() == []
        failed = condition(run.status.conditions, "Failed")
        assert failed.reason == "RunnerLost"
        assert "somebody else" in failed.message
        assert run.step() == ["Delete DaskCluster"], "its own"
        assert run.step() == []

    def test_pods_with_our_labels_are_not_the_runners(self):
        run = Run().up_to_cluster()
        strangers = (
            runner_pod("hello-runner-a", owner_uid="", owner_kind=""),
            runner_pod("hello-runner-b", owner_uid="set", owner_kind="ReplicaSet"),
            runner_pod("other-runner-c", owner_uid="a job of somebody else's"),
        )
        run.pods = strangers
        assert run.step() == ["Apply Job"], "none of them is waited for"
        run.step()
        assert (run.status.job_status, run.status.job_runner_pod_name) == ("ClusterCreated", None)
        assert run.ready.message == "the runner is being created"
        run.pods = (*strangers, runner_pod())
        run.step()
        assert (run.status.job_status, run.status.job_runner_pod_name) == ("Running", "hello-runner-x")

    @pytest.mark.parametrize("name", ["hello", "h" * 53])
    def test_a_pod_of_the_run_before_is_waited_for(self, name):
        run = Run()
        run.job = msgspec.structs.replace(run.job, metadata=run.job.metadata | {"name": name})
        run.up_to_cluster()
        prefix = f"{names.runner(name)}-"[:58]  # so long a name that one is generated from may be
        run.pods = (runner_pod(f"{prefix}abcde"),)
        assert run.step() == []
        assert run.ready.message == f"waiting for {prefix}abcde of the run before to end"
        run.pods = (runner_pod(f"{prefix}abcde", phase="Failed"),)
        assert run.step() == ["Apply Job"]

    def test_a_scheduler_of_another_cluster_or_that_is_going_is_not_left_over(self):
        run = Run()
        run.step()
        run.leftovers = (scheduler_pod("another"), scheduler_pod("hello", deleting=True))
        assert run.step() == ["Apply DaskCluster"]


class TestSameNameAgain:
    """(node 7) What is left of a job of the same name is waited for, in words, and goes by itself."""

    def before(self, job, kind):
        owner = [{"kind": "DaskJob", "name": job.name, "uid": "uid-before", "controller": True}]
        manifest = job_cluster(job) if kind == "DaskCluster" else runner_job(job)
        return {**manifest, "metadata": {**manifest["metadata"], "uid": "before", "ownerReferences": owner}}

    def test_the_cluster_of_the_job_before(self):
        run = Run()
        run.step()
        run.cluster = parse(self.before(run.job, "DaskCluster"))
        assert run.step() == []
        assert run.ready.reason == "Progressing"
        assert run.ready.message == "waiting for DaskCluster hello of the job before to be gone"
        run.cluster = None
        assert run.step() == ["Apply DaskCluster"]

    def test_the_runner_of_the_job_before(self):
        run = Run().up_to_cluster()
        run.runner = self.before(run.job, "Job")
        assert run.step() == []
        assert run.ready.message == "waiting for Job hello-runner of the job before to be gone"

    def test_a_cluster_that_is_being_deleted_is_none(self):
        run = Run().up_to_cluster()
        run.cluster = msgspec.structs.replace(
            run.cluster, metadata=run.cluster.metadata | {"deletionTimestamp": format_time(NOW)}
        )
        assert run.step() == [], "no runner starts there"
        assert run.ready.message == "waiting for DaskCluster hello to be gone"

    def test_a_runner_that_is_being_deleted_is_not_deleted_again_and_waited_for(self):
        run = Run(run_id="one").up_to_running()
        run.runner_ends("Complete"), run.step(), run.step()
        run.changed(run_id="two")
        run.runner["metadata"]["deletionTimestamp"] = format_time(NOW)
        assert run.step() == [] == run.step()
        assert run.status.job_status == "Successful"
        assert run.ready.message == "waiting for Job hello-runner of the run before to be gone"
        run.runner, run.pods = None, ()
        assert run.step() == ["Apply DaskCluster"]


class TestSuspendedByAnother:
    """(controller 15, public 20, strangers 3) What the operator has not suspended it does not resume."""

    def manager(self, run, *managers):
        fields = {"f:spec": {"f:suspend": {}}}
        run.runner["metadata"]["managedFields"] = [
            {"manager": manager, "operation": "Update", "fieldsV1": fields} for manager in managers
        ]

    def held(self, *managers, **spec):
        run = Run(**spec).up_to_cluster()
        run.step()
        run.runner["spec"]["suspend"] = True
        self.manager(run, *managers)
        return run

    @pytest.mark.parametrize(
        ("managers", "who"),
        [(("kueue",), "kueue"), ((), "somebody else"), (("dask-operator",), "somebody else")],
        ids=["a queue", "nobody knows", "a webhook in our name"],
    )
    def test_it_is_left_alone_and_its_holder_told(self, managers, who):
        run = self.held(*managers)
        assert run.step() == []
        assert (run.ready.status, run.ready.reason) == ("False", "SuspendedByAnother")
        assert f"Job hello-runner is held back by {who}" in run.ready.message
        before = run.status
        for seconds in (1, 601, 7200):
            assert run.step(NOW + seconds) == []
        assert run.status == before, "no write, and no stall, however long the queue is"

    def test_it_runs_when_its_holder_lets_it_go(self):
        run = self.held("kueue")
        run.step(), run.step(NOW + 7200)
        run.runner["spec"]["suspend"] = False
        run.runner_runs(phase="Pending")
        run.runner["status"]["startTime"] = format_time(NOW + 7200)
        run.step(NOW + 7201)
        assert not run.is_true("Stalled"), "the time in the queue does not count"
        run.runner_runs()
        assert run.step(NOW + 7202) == []
        assert (run.status.job_status, run.status.retries) == ("Running", None)

    def test_the_scheduler_that_is_there_then_is_the_runners(self):
        run = self.held("kueue")
        run.step()
        run.scheduler_restarts()
        assert run.step() == ["Patch Job"], "once, and nothing but the note"
        assert run.runner["spec"]["suspend"] is True
        assert run.runner["metadata"]["annotations"][Annotation.SCHEDULER_ID].endswith("/1")
        assert run.step() == []
        run.runner["spec"]["suspend"] = False
        run.runner_runs()
        assert run.step() == []
        assert run.status.scheduler_loss is None

    def test_a_run_that_is_suspended_midway(self):
        run = Run().up_to_running()
        run.runner["spec"]["suspend"] = True
        self.manager(run, "kueue")
        run.pods = ()
        assert run.step() == []
        assert (run.status.job_status, run.ready.reason) == ("Running", "SuspendedByAnother")

    def test_suspending_the_job_changes_nothing_about_whose_it_is(self):
        run = self.held("kueue")
        run.step()
        run.changed(suspend=True)
        assert run.step() == ["Patch DaskCluster"]
        run.scheduler_pods = ()
        run.step()
        assert (run.ready.status, run.ready.reason) == ("True", "Suspended")
        run.changed(suspend=False)
        assert run.step() == ["Patch DaskCluster"]
        run.scheduler_becomes_ready()
        assert run.step() == []
        assert run.ready.reason == "SuspendedByAnother"

    def test_what_it_has_suspended_it_resumes(self):
        run = Run().up_to_running()
        run.changed(suspend=True)
        run.step()
        assert run.runner["metadata"]["annotations"][Annotation.SUSPENDED] == format_time(NOW)
        self.manager(run, "dask-operator")
        run.pods, run.scheduler_pods = (), ()
        run.changed(suspend=False)
        run.step()
        run.scheduler_becomes_ready()
        assert run.step() == ["Patch Job"]
        assert run.runner["spec"]["suspend"] is False
        assert Annotation.SUSPENDED not in run.runner["metadata"]["annotations"]

    def test_what_somebody_else_has_suspended_since_is_theirs(self):
        run = Run().up_to_running()
        run.changed(suspend=True)
        run.step()
        self.manager(run, "kueue")
        run.changed(suspend=False)
        run.pods = ()
        run.step()
        assert run.step() == []
        assert run.ready.reason == "SuspendedByAnother"

    def test_an_earlier_release_left_no_note(self):
        run = Run().up_to_running()
        run.changed(suspend=True)
        run.step()
        del run.runner["metadata"]["annotations"][Annotation.SUSPENDED]
        self.manager(run, "dask-operator")
        run.runner["metadata"]["generation"] = 2
        run.changed(suspend=False)
        run.scheduler_pods = ()
        assert run.step() == ["Patch DaskCluster", "Patch Job"]
        assert run.runner["spec"]["suspend"] is True, "not before there is a scheduler"
        run.scheduler_becomes_ready()
        assert run.step() == ["Patch Job"]
        assert run.runner["spec"]["suspend"] is False

    def test_somebody_who_resumes_a_suspended_job_is_set_right_but_not_fought(self):
        run = Run().up_to_running()
        run.changed(suspend=True)
        run.step()
        run.runner["spec"]["suspend"] = False
        self.manager(run, "kueue")
        assert run.step(NOW + 1) == []
        assert run.requeue == 59
        assert run.ready.message == "Job hello-runner was resumed by kueue; it is stopped again"
        assert run.step(NOW + 60) == ["Patch Job"]
        run.runner["spec"]["suspend"] = False
        assert run.step(NOW + 61) == []

    def test_no_worker_is_waited_for_meanwhile(self):
        run = Run(minimum_ready_workers=1).up_to_cluster()
        run.answers = answers_of(progress=Progress(0, 0, 1))
        assert run.step() == ["Apply Job"]
        run.runner["spec"]["suspend"] = True
        run.step()
        assert run.asked is None

    def test_the_deadline_of_the_job_counts_on(self):
        run = self.held("kueue", active_deadline_seconds=60)
        run.step(NOW + 60)
        failed = condition(run.status.conditions, "Failed")
        assert failed.reason == "DeadlineExceeded"
        assert "kueue" in failed.message

    @pytest.mark.parametrize("suspend", [True, False])
    def test_the_cluster_is_the_jobs_and_each_change_of_it_is_set_right_once(self, suspend):
        run = Run(suspend=suspend)
        run.step(), run.step()
        changed = msgspec.structs.replace(run.cluster.spec, suspend=not suspend)
        run.cluster = msgspec.structs.replace(run.cluster, spec=changed)
        assert run.step() == ["Patch DaskCluster"]
        assert bool(run.cluster.spec.suspend) is suspend
        assert run.step() == []


class TestIdleTimeout:
    """(controller 16) A cluster whose runner waits is not idle."""

    def run(self, **cluster):
        run = Run()
        run.template(idle_timeout=60)
        run.changed(cluster=msgspec.structs.replace(run.job.spec.cluster, **cluster))
        return run.up_to_cluster()

    def test_it_is_withheld_from_the_cluster_while_the_run_goes_on(self):
        run = self.run()
        assert not run.cluster.spec.idle_timeout
        assert run.step() == ["Apply Job"]
        run.runner_runs()
        assert run.step() == [] == run.step()

    def test_a_cluster_of_an_earlier_release_is_set_right(self):
        run = self.run()
        run.cluster = msgspec.structs.replace(run.cluster, spec=run.job.spec.cluster.spec)
        assert "Patch DaskCluster" in run.step()
        assert not run.cluster.spec.idle_timeout
        assert "Patch DaskCluster" not in run.step()

    def test_a_cluster_that_outlives_the_run_has_it(self):
        run = self.run(deletion_policy="Never")
        run.step(), run.runner_runs(), run.step()
        run.runner_ends("Complete"), run.step()
        assert run.step() == ["Patch DaskCluster"]
        assert run.cluster.spec.idle_timeout == 60
        assert run.step() == []

    def test_one_whose_run_ended_while_the_job_was_suspended_is_resumed_with_it(self):
        """Found by a schedule of strangers: it slept for ever."""
        run = self.run(deletion_policy="Never")
        run.step(), run.runner_runs(), run.step()
        run.changed(suspend=True)
        assert "Patch DaskCluster" in run.step()
        run.runner_ends("Failed"), run.step()
        assert run.step() == ["Patch DaskCluster"], "the idle timeout; it sleeps as long as its job"
        run.changed(suspend=False)
        assert run.step() == ["Patch DaskCluster"]
        assert not run.cluster.spec.suspend
        asleep = msgspec.structs.replace(run.cluster.spec, suspend=True)
        run.cluster = msgspec.structs.replace(run.cluster, spec=asleep)
        assert run.step() == [], "whoever puts it to sleep from now on may"

    def test_one_that_goes_with_the_run_has_not(self):
        run = self.run(deletion_delay_seconds=30)
        run.step(), run.runner_runs(), run.step()
        run.runner_ends("Complete"), run.step()
        assert run.step() == []
        assert run.step(NOW + 30) == ["Delete DaskCluster"]


class TestTemplates:
    """(controller 20) Runner and cluster of a run are of the same templates."""

    def test_the_job_decides_whether_its_cluster_is_suspended(self):
        run = Run()
        run.template(suspend=True)
        run.up_to_cluster()
        assert not run.cluster.spec.suspend
        assert run.step() == ["Apply Job"]
        assert run.step() == []

    def test_resuming_changes_nothing_else_about_the_cluster(self):
        run = Run().up_to_running()
        before = run.cluster.spec
        run.changed(suspend=True)
        run.step(), run.template(scheduler=Scheduler(spec={"containers": [{"name": "scheduler", "image": "dask:2"}]}))
        run.scheduler_pods, run.pods = (), ()
        run.changed(suspend=False)
        run.step(), run.scheduler_becomes_ready(), run.step()
        assert run.cluster.spec == before, "the runner is of the old template, too"
        assert not run.is_true("UpToDate")

    @pytest.mark.parametrize("suspend", [False, True])
    def test_until_the_runner_is_made_both_follow_the_template(self, suspend):
        run = Run(suspend=suspend).up_to_cluster()
        run.changed(suspend=True)
        run.step()
        run.template(scheduler=Scheduler(spec={"containers": [{"name": "scheduler", "image": "dask:2"}]}))
        assert run.step() == ["Delete DaskCluster"], "nothing has run in it"
        assert run.is_true("UpToDate")
        run.changed(suspend=False)
        assert run.step() == ["Apply DaskCluster"]
        run.scheduler_becomes_ready()
        assert run.step() == ["Apply Job"]
        assert run.cluster.spec.scheduler.spec["containers"][0]["image"] == "dask:2"
        assert run.status.revision == job_revision(run.job)
        run.step()
        assert run.is_true("UpToDate")

    def test_no_runner_starts_in_a_cluster_that_is_about_to_go(self):
        run = Run().up_to_cluster()
        run.template(idle_timeout=5)
        cluster, pods = run.cluster, run.scheduler_pods
        for _ in range(3):
            assert run.step() == ["Delete DaskCluster"]
            run.cluster, run.scheduler_pods = cluster, pods  # as a cache that lags behind has it
        assert "made anew" in run.ready.message

    def test_a_cluster_of_an_earlier_release_goes_by_the_status(self):
        run = Run().up_to_cluster()
        del run.cluster.metadata["annotations"][Annotation.REVISION]
        run.template(idle_timeout=5)
        assert run.step() == ["Delete DaskCluster"]

    def test_one_whose_templates_have_not_changed_is_kept(self):
        run = Run().up_to_cluster()
        del run.cluster.metadata["annotations"][Annotation.REVISION]
        assert run.step() == ["Apply Job"]

    def test_a_run_that_starts_again_may_be_of_new_templates_but_not_of_two(self):
        run = Run().up_to_running()
        run.scheduler_restarts()
        run.step(), run.step()
        run.template(idle_timeout=5)
        assert run.step() == ["Delete DaskCluster"]
        assert run.step() == ["Apply DaskCluster"]
        run.scheduler_becomes_ready()
        assert run.step() == ["Apply Job"]


class TestProgressAtTheEnd:
    """(controller 20) A new scheduler knows nothing of what the run has done."""

    def test_a_program_that_shuts_its_cluster_down(self):
        run = Run().up_to_running()
        run.answers = answers_of(progress=Progress(10, 4, 2), versions=SAME)
        run.step()
        run.answers = answers_of(progress=Progress(0, 0, 0))
        run.scheduler_restarts(words="shut down by a client")
        run.step(NOW + 15)
        assert run.status.progress.percent == 40
        run.runner_ends("Complete")
        run.step(NOW + 30)
        assert (run.status.job_status, run.status.progress.percent) == ("Successful", 40)

    def test_one_that_was_too_quick_to_be_asked(self):
        run = Run().up_to_running()
        run.answers = answers_of(progress=Progress(0, 0, 0))
        run.scheduler_restarts(words="shut down by a client")
        run.runner_ends("Complete")
        run.step()
        assert (run.status.job_status, run.status.progress) == ("Successful", None)

    @pytest.mark.parametrize("seen", [Progress(0, 0, 2), Progress(10, 0, 2)])
    def test_no_success_is_at_0_percent(self, seen):
        run = Run().up_to_running()
        run.answers = answers_of(progress=seen)
        run.step()
        assert run.status.progress.percent == 0
        run.scheduler_pods = ()
        run.runner_ends("Complete")
        run.step()
        assert run.status.progress is None


class TestHowItEnded:
    """(public 25) What was seen of a Pod is known when Kubernetes has deleted it."""

    def seen(self, *containers, **fields):
        run = Run(backoff_limit=1).up_to_running()
        run.runner_runs(containers=containers, **fields)
        run.step()
        return run

    def test_the_exit_code_of_a_pod_that_is_gone(self):
        again = Container(
            name="dask", running=True, restarts=1, exit_code=3, reason="Error", termination_message="no such file"
        )
        run = self.seen(again)
        expected = "hello-runner-x: the runner's container ended with exit code 3 (Error): no such file"
        assert run.status.last_problem == expected
        run.pods = ()
        run.is_told({"type": "FailureTarget", "reason": "BackoffLimitExceeded", "message": "too often"})
        assert run.step() == []
        assert (run.ready.reason, run.ready.message) == ("BackoffLimitExceeded", f"too often; {expected}")
        run.runner_ends("Failed", "BackoffLimitExceeded", "too often")
        run.step()
        assert condition(run.status.conditions, "Failed").message == f"too often; {expected}"

    def test_that_of_the_runner_and_not_of_another_container(self):
        run = Run().up_to_running()
        template = {"containers": [{"name": "proxy", "image": "p"}, {"name": "job", "image": "run:1"}]}
        run.changed(job=msgspec.structs.replace(run.job.spec.job, spec=template))
        proxy, program = ended(137, "OOMKilled", name="proxy"), ended(3, name="job")
        run.runner_runs(containers=(proxy, program), phase="Failed", problem=Problem("OOMKilled", "proxy"))
        run.step()
        assert "exit code 3" in run.status.last_problem

    def test_one_that_was_first_seen_on_its_way_out(self):
        run = self.seen()
        run.runner_runs(containers=(ended(3),), deleting=True)
        run.is_told({"type": "FailureTarget", "reason": "BackoffLimitExceeded"})
        run.step()
        assert "exit code 3" in run.status.last_problem

    def test_how_it_was_killed_tells_nothing(self):
        run = self.seen(ended(3))
        run.runner_runs(containers=(ended(137),), deleting=True)
        run.is_told({"type": "FailureTarget", "reason": "BackoffLimitExceeded"})
        run.step()
        assert "exit code 3" in run.status.last_problem

    def test_what_kept_it_from_starting(self):
        run = Run(active_deadline_seconds=25).up_to_cluster()
        run.step(), run.runner_runs(phase="Pending", problem=PULL_ERROR), run.step()
        run.pods = ()
        run.is_told({"type": "Failed", "reason": "DeadlineExceeded", "message": "longer than specified"})
        run.step(NOW + 30)
        failed = condition(run.status.conditions, "Failed")
        assert failed.message == f"the runner was stopped after its deadline of 25 s; {PULL_ERROR.message}"

    def test_what_is_past_is_forgotten(self):
        run = Run().up_to_cluster()
        run.step(), run.runner_runs(phase="Pending", problem=PULL_ERROR), run.step()
        assert run.status.last_problem == PULL_ERROR.message
        run.runner_runs(), run.step()
        assert run.status.last_problem is None

    def test_the_one_before_is_remembered_while_the_next_runs(self):
        run = self.seen()
        failed = runner_pod("hello-runner-a", phase="Failed", containers=(ended(3),), created=NOW - 9)
        run.pods = (failed, runner_pod("hello-runner-b", created=NOW))
        run.step()
        assert run.status.last_problem.startswith("hello-runner-a: ")

    def test_it_is_bounded(self):
        run = self.seen(ended(3, words="x" * 5000))
        assert len(run.status.last_problem) == 1024

    def test_a_new_run_begins_without_it(self):
        run = Run(run_id="one").up_to_running()
        run.runner_runs(containers=(ended(3),), phase="Failed")
        run.runner_ends("Failed", "BackoffLimitExceeded", "too often"), run.step(), run.step()
        run.changed(run_id="two")
        run.step(), run.step()
        assert run.status.last_problem is None
        assert run.status.history[0].message.startswith("too often; hello-runner-x: the runner's container ended")

    def test_history_tells_why_in_bounded_words(self):
        """(node 11)"""
        run = Run(run_id="one").up_to_running()
        run.runner_ends("Failed", "BackoffLimitExceeded", "y" * 5000), run.step(), run.step()
        run.changed(run_id="two")
        run.step(), run.step()
        past = run.status.history[0]
        assert (past.reason, past.message) == ("BackoffLimitExceeded", "y" * 512)

    def test_on_failure_is_never_where_nothing_is_retried(self):
        """So that the program runs once, and its logs stay."""
        j = job()
        template = msgspec.structs.replace(j.spec.job, spec=j.spec.job.spec | {"restartPolicy": "OnFailure"})
        for limit, loss, expected in ((None, 0, "Never"), (0, 0, "Never"), (2, 2, "Never"), (2, 1, "OnFailure")):
            spec = msgspec.structs.replace(j.spec, job=template, backoff_limit=limit)
            built = runner_job(msgspec.structs.replace(j, spec=spec), failures=loss)["spec"]
            assert built["template"]["spec"]["restartPolicy"] == expected
            assert ("podFailurePolicy" in built) is (expected == "Never")


class TestItsLastMoments:
    """(node 6) Kubernetes says how a Job has ended when its Pods have; until then the words tell what is going on."""

    DEADLINE = {"type": "FailureTarget", "reason": "DeadlineExceeded", "message": "longer than specified"}

    def test_the_deadline(self):
        run = Run(active_deadline_seconds=25).up_to_running()
        run.runner_runs(deleting=True)
        run.is_told(self.DEADLINE)
        words = "the runner is being stopped after its deadline of 25 s"
        for pods in (run.pods, (runner_pod(deleting=True, containers=(ended(137),)),), ()):
            run.pods = pods
            assert run.step(NOW + 26) == []
            assert (run.ready.reason, run.ready.message) == ("DeadlineExceeded", words)
            assert run.status.job_status == "Running", "its Pod may be at work until it is gone"
        run.is_told(self.DEADLINE, {**self.DEADLINE, "type": "Failed"})
        run.step(NOW + 56)
        failed = condition(run.status.conditions, "Failed")
        assert (failed.reason, failed.message) == (
            "DeadlineExceeded",
            "the runner was stopped after its deadline of 25 s",
        )

    def test_the_deadline_where_kubernetes_does_not_tell_of_it_yet(self):
        run = Run(active_deadline_seconds=25).up_to_running()
        run.runner_runs(deleting=True)
        run.step(NOW + 26)
        assert run.ready.message == "runner hello-runner-x is being stopped after its deadline of 25 s"

    def test_a_pod_that_somebody_deletes(self):
        run = Run().up_to_running()
        run.runner_runs(deleting=True)
        run.step()
        assert run.ready.message == "runner hello-runner-x is being stopped"

    def test_success(self):
        run = Run().up_to_running()
        run.is_told({"type": "SuccessCriteriaMet"})
        run.step()
        assert run.ready.message == "the runner has completed, its Pod is ending"
        assert run.status.job_status == "Running"

    @pytest.mark.parametrize("type", ["SuccessCriteriaMet", "FailureTarget"])
    def test_what_happens_to_the_cluster_then_changes_nothing(self, type):
        run = Run().up_to_running()
        run.is_told({"type": type})
        run.scheduler_restarts()
        assert run.step() == []
        assert run.status.scheduler_loss is None, "it would run again"
        run.cluster, run.scheduler_pods = None, ()
        run.step()
        assert run.status.job_status == "Running"
        run.runner_ends("Complete" if type == "SuccessCriteriaMet" else "Failed")
        run.step()
        assert run.status.job_status == ("Successful" if type == "SuccessCriteriaMet" else "Failed")

    def test_whoever_suspends_a_job_that_has_completed_is_too_late(self):
        run = Run(active_deadline_seconds=25).up_to_running()
        run.runner_ends("Complete")
        run.runner["spec"]["suspend"] = True
        run.step(NOW + 60)
        assert run.status.job_status == "Successful"

    def test_a_pod_that_has_succeeded_has_succeeded(self):
        run = Run().up_to_running()
        run.runner_runs(phase="Succeeded")
        run.scheduler_restarts()
        assert run.step() == []
        assert run.status.scheduler_loss is None

    def test_the_last_failure_is_no_retry(self):
        run = Run(backoff_limit=1).up_to_running()
        for failed, conditions, retries in (
            (1, (), 1),
            (2, ({"type": "FailureTarget"},), 1),
            (2, ({"type": "FailureTarget"}, {"type": "Failed"}), 1),
        ):
            run.is_told(*conditions, failed=failed)
            run.step()
            assert run.status.retries == retries


class TestMainContainers:
    """(controller 9, 18) Whoever injects containers may put them first."""

    def restarted(self, run, *, proxy=0, scheduler=0, words=""):
        containers = (
            Container(name="proxy", running=True, restarts=proxy),
            Container(name="dask", running=True, restarts=scheduler, termination_message=words),
        )
        run.scheduler_pods = (scheduler_pod("hello", containers=containers),)
        return run.step()

    def run(self):
        run = Run().up_to_cluster()
        self.restarted(run)
        run.runner_runs(), run.step()
        return run

    def test_the_proxys_restarts_are_not_the_schedulers(self):
        run = self.run()
        self.restarted(run, proxy=2)
        assert run.status.scheduler_loss is None
        self.restarted(run, proxy=2, scheduler=1)
        assert run.status.scheduler_loss.count == 1

    def test_the_schedulers_last_words_are_heard(self):
        run = self.run()
        self.restarted(run, scheduler=1, words="shut down by a client")
        assert run.status.scheduler_loss is None

    def test_the_container_is_that_of_the_cluster_that_runs(self):
        run = self.run()
        run.template(scheduler=Scheduler(spec={"containers": [{"name": "scheduler", "image": "dask:2"}]}))
        self.restarted(run, scheduler=1)
        assert run.status.scheduler_loss.count == 1

    @pytest.mark.parametrize("note", ["", "junk", "uid/", "uid/x", "/1", f"uid/{'9' * 4000}"])
    def test_a_note_that_somebody_has_made_unreadable_is_as_if_absent(self, note):
        run = Run().up_to_running()
        run.runner["metadata"]["annotations"][Annotation.SCHEDULER_ID] = note
        assert run.step() == []
        assert run.status.job_status == "Running"


REFUSED = 'pods "hello-runner-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3'


class TestServiceThatLeadsNowhere:
    """(public 03) The runner started, could not reach the scheduler, and the job failed without a word of the cause."""

    def test_the_runner_waits_and_it_is_said_why(self):
        run = Run()
        service = {"selector": {"dask.org/cluster-name": "another"}}
        inner = run.job.spec.cluster.spec
        inner = msgspec.structs.replace(inner, scheduler=msgspec.structs.replace(inner.scheduler, service=service))
        cluster = msgspec.structs.replace(run.job.spec.cluster, spec=inner)
        run.job = msgspec.structs.replace(run.job, spec=msgspec.structs.replace(run.job.spec, cluster=cluster))
        run.step()
        run.step()
        run.scheduler_becomes_ready()
        problem = make_condition("SchedulerReady", False, "ServiceSelectsNothing", "it does not match")
        run.cluster = msgspec.structs.replace(run.cluster, status=DaskClusterStatus(conditions=[problem]))
        assert run.step() == []
        ready = condition(run.job.status.conditions, "Ready")
        assert (ready.status, ready.reason, ready.message) == ("False", "ServiceSelectsNothing", "it does not match")


class TestQuota:
    """(public 15) Where a quota has no room for all, the runner has its place and workers stand back."""

    def run(self, workers=2, **spec):
        run = Run(**spec).up_to_cluster()
        run.answers = answers_of(progress=Progress(0, 0, workers))
        run.step()
        run.runner["status"] = {"startTime": format_time(NOW)}
        run.creation_problem = REFUSED
        self.workers(run, workers)
        return run

    def workers(self, run, count):
        status = msgspec.structs.replace(run.cluster.status, replicas=count)
        run.cluster = msgspec.structs.replace(run.cluster, status=status)

    def most(self, run):
        return (run.cluster.metadata.get("annotations") or {}).get(Annotation.MOST_WORKERS)

    def test_one_worker_goes_and_the_runner_comes(self):
        run = self.run()
        assert run.step(NOW + 5) == ["Patch DaskCluster"]
        assert self.most(run) == "1"
        assert run.ready.reason == "QuotaExceeded"
        assert run.ready.message == f"{REFUSED}; workers stand back for the runner, one by one"
        assert run.step(NOW + 10) == [], "a worker that drains has its time"
        self.workers(run, 1)
        run.leaving = 1
        assert run.step(NOW + 15) == [], "until its Pod is gone, it counts"
        run.leaving = 0
        assert run.step(NOW + 20) == ["Patch Job"], "Kubernetes is made to try again"
        assert run.step(NOW + 25) == []
        run.pods, run.creation_problem = (runner_pod(phase="Pending"),), ""
        assert run.step(NOW + 26) == ["Patch DaskCluster", "Patch Job"], "the group may have all again"
        assert self.most(run) is None
        assert run.step(NOW + 27) == []

    def test_one_is_not_always_enough(self):
        """A quota may be of memory, and somebody else may take what was free."""
        run = self.run(workers=3, minimum_ready_workers=0)
        done = []
        for seconds in range(5, 200, 5):
            done += [action for action in run.step(NOW + seconds) if action == "Patch DaskCluster"]
            if self.most(run):
                self.workers(run, min(int(self.most(run)), run.cluster.status.replicas))
        assert (self.most(run), len(done)) == ("0", 3)
        assert run.requeue == 5
        assert run.ready.message == REFUSED

    def test_the_workers_that_the_job_waits_for_stay(self):
        run = self.run(minimum_ready_workers=2)
        for seconds in (5, 25, 45):
            assert run.step(NOW + seconds) == []
        assert run.ready.reason == "QuotaExceeded"
        assert run.ready.message == f"{REFUSED}; the job needs room for 2 workers and the runner"

    def test_the_last_worker_stays(self):
        """Without any the program could do nothing, and nobody would be told why."""
        run = self.run(workers=1)
        assert run.step(NOW + 5) == []
        assert run.ready.message == f"{REFUSED}; the job needs room for a worker and the runner"

    def test_another_refusal_is_no_reason(self):
        run = self.run()
        run.creation_problem = 'pods "x" is forbidden: violates PodSecurity "restricted"'
        assert run.step(NOW + 5) == []
        assert (run.ready.reason, run.ready.message) == ("FailedCreate", run.creation_problem)

    def test_a_retry_has_its_place_too(self):
        run = self.run(backoff_limit=1)
        run.pods = (runner_pod(phase="Failed", containers=(ended(3),)),)
        assert run.step(NOW + 5) == ["Patch DaskCluster"]
        assert run.ready.reason == "QuotaExceeded"

    @pytest.mark.parametrize("junk", ["", "x", "-1", "9" * 400, "1.5"])
    def test_a_number_that_somebody_has_made_unreadable_is_as_if_absent(self, junk):
        run = self.run()
        run.cluster.metadata["annotations"][Annotation.MOST_WORKERS] = junk
        run.runner["metadata"]["annotations"][Annotation.MOST_WORKERS] = junk
        assert run.step(NOW + 5) == ["Patch DaskCluster"]
        assert self.most(run) == "1"

    def test_a_cluster_that_outlives_a_run_without_a_runner_has_all_its_workers(self):
        run = Run(active_deadline_seconds=60)
        run.changed(cluster=msgspec.structs.replace(run.job.spec.cluster, deletion_policy="Never"))
        run.up_to_cluster().step()
        run.cluster.metadata["annotations"][Annotation.MOST_WORKERS] = "1"
        run.is_told({"type": "Failed", "reason": "DeadlineExceeded"})
        run.step()
        assert run.step() == ["Patch DaskCluster"]
        assert self.most(run) is None

    def test_only_news_count(self):
        """Events stay for an hour: neither one of before the job was suspended, nor of before the last Pod."""
        run = self.run()

        def since():
            return Derived(run.observed, NOW).runner.refusals_count_from

        assert since() == NOW
        run.pods = (runner_pod(phase="Failed", created=NOW + 60),)
        assert since() == NOW + 61
        run.pods = (runner_pod(phase="Pending"),)
        assert since() is None
        run.pods, run.runner["status"] = (), {}
        assert since() is None, "Kubernetes has not tried yet"


class ApiServer:
    """An API server with some objects, from which the caches know those that have our label."""

    def __init__(self, *there):
        self.there = [{**m, "metadata": {"uid": "u", "resourceVersion": "1", **m["metadata"]}} for m in there]
        self.caches = Caches(OFFLINE, None)
        self.written = []

    async def list(self, kind, namespace, *, fields):
        wanted = [field.partition("=")[::2] for field in fields.split(",")]
        found = [m for m in self.there if m["kind"] == kind]
        return [m for m in found if kind == "Event" or ("metadata.name", m["metadata"]["name"]) in wanted]

    async def each(self, kind, namespace, *, fields):
        for manifest in await self.list(kind, namespace, fields=fields):
            yield manifest

    async def patch(self, kind, namespace, name, patch):
        (live,) = await self.list(kind, namespace, fields=f"metadata.name={name}")
        self.written.append(patch)
        return merged(live, patch)

    def looks(self, job):
        return Observer(self, self.caches, partial(snapshot, self.caches), lambda: NOW), snapshot(self.caches, job)


async def test_a_runner_whose_labels_somebody_has_taken_away_is_not_lost():
    """The end of a run cannot be taken back, so a cache alone is not believed."""
    run = Run().up_to_running()
    runner = {**run.runner, "kind": "Job", "metadata": {**run.runner["metadata"], "labels": {}}}
    server = ApiServer(runner)
    observer, seen = server.looks(run.job)
    found = await observer._found_again(seen)
    assert found.runner["metadata"]["labels"] == {Label.CLUSTER: "hello", Label.COMPONENT: Component.JOB_RUNNER}
    assert len(server.written) == 1
    assert (await observer._found_again(found)) is found


async def test_a_runner_of_somebody_elses_is_not_found():
    run = Run().up_to_running()
    server = ApiServer({**run.runner, "metadata": {**run.runner["metadata"], "labels": {}, "ownerReferences": []}})
    observer, seen = server.looks(run.job)
    assert (await observer._found_again(seen)).runner is None
    assert server.written == []


@pytest.mark.parametrize(("seconds", "told"), [(-1, ""), (0, REFUSED), (60, REFUSED)])
async def test_only_events_of_this_attempt_tell_why_there_is_no_pod(seconds, told):
    run = Run().up_to_cluster()
    run.step()
    run.runner["status"] = {"startTime": format_time(NOW)}
    old, new = (
        {"kind": "Event", "metadata": {"name": name}, "message": text, "lastTimestamp": format_time(NOW + at)}
        for name, text, at in (("old", "of another attempt", -3600), ("new", REFUSED, seconds))
    )
    server = ApiServer(new, old)
    observer, _ = server.looks(run.job)
    assert (await observer._refused(run.observed)).creation_problem == told


def test_a_group_learns_at_once_that_it_has_to_stand_back():
    """(public 15) An annotation counts as no change of a cluster otherwise."""
    woken = set()
    caches = Caches(OFFLINE, None, wake_by(lambda key, _: woken.add(key)))
    caches.groups.put(dump(group()))
    for version, found in enumerate(({}, {Annotation.MOST_WORKERS: "1"}, {Annotation.MOST_WORKERS: "1", "x": "y"}, {})):
        woken.clear()
        value = dump(cluster())
        value["metadata"] |= {"annotations": found, "resourceVersion": str(version + 1)}
        caches.clusters.put(value)
        assert (Key("DaskWorkerGroup", "team", "simple-default") in woken) is (version != 2)
