"""Decisions about a job."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.states import NOW, PULL_ERROR, condition, job, scheduler_pod

from dask_controller.core.actions import Apply, Delete, Patch
from dask_controller.core.conditions import condition as make_condition
from dask_controller.core.job import job_status, plan_job
from dask_controller.core.observed import ObservedJob, Pod
from dask_controller.core.time import format_time
from dask_crds.model import DaskClusterStatus, JobCluster, parse
from dask_resources.job import job_cluster, runner_job


class Run:
    """A job that is played through, step by step, as the controller would see it."""

    def __init__(self, **spec):
        self.job = job(**spec)
        self.cluster = None
        self.runner = None
        self.pods: tuple[Pod, ...] = ()
        self.log: list[str] = []

    @property
    def observed(self):
        return ObservedJob(job=self.job, cluster=self.cluster, runner=self.runner, pods=self.pods)

    def step(self, now=NOW):
        """Plan, execute, write status; returns what was done, ``Apply DaskCluster`` say."""
        o = self.observed
        plan = plan_job(o, now)
        done = [self._execute(action) for action in plan.actions]
        self.job = msgspec.structs.replace(self.job, status=job_status(o, plan, [], now))
        self.requeue = plan.requeue_after
        return done

    def _execute(self, action):
        match action:
            case Apply(manifest):
                manifest = {**manifest, "metadata": {**manifest["metadata"], "uid": f"uid-{manifest['kind']}"}}
                if manifest["kind"] == "DaskCluster":
                    self.cluster = parse(manifest)
                else:
                    self.runner = manifest
                return f"Apply {manifest['kind']}"
            case Delete(kind):
                if kind == "DaskCluster":
                    self.cluster = None
                else:
                    self.runner, self.pods = None, ()
                return f"Delete {kind}"
            case Patch(kind):
                return f"Patch {kind}"

    def scheduler_becomes_ready(self):
        status = DaskClusterStatus(conditions=[make_condition("SchedulerReady", True, "Ready")])
        self.cluster = msgspec.structs.replace(self.cluster, status=status)

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
    assert condition(run.status.conditions, "Failed").reason == "ClusterLost"
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
    assert run.step() == ["Delete Job"]
    assert run.status.job_status == "Successful", "the old status stands until the new run starts"
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

    def test_the_runner_knows_its_scheduler(self):
        (container,) = runner_job(job())["spec"]["template"]["spec"]["containers"]
        assert container["env"] == [
            {"name": "DASK_SCHEDULER_ADDRESS", "value": "tcp://hello-scheduler.team.svc.cluster.local:8786"}
        ]
