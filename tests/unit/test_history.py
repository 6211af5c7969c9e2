"""A history: what manifests say, what the scheduler's Pod gets, and what the operator tells and is told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.support.constructs import IMAGE, chart, errors, only, synth
from tests.support.questions import answers_of, parts
from tests.support.states import (
    NOW,
    cluster,
    group,
    observed_cluster,
    observed_group,
    pod_spec,
    scheduler_pod,
    worker_pod,
)
from tests.unit.test_cluster import complete
from tests.unit.test_job import Run, runner_pod
from tests.unit.test_observe import ApiServer

from dask_constructs import DaskCluster, DaskGuardrails, DaskJob, History, problems
from dask_controller.core.actions import Plan
from dask_controller.core.cluster import plan_cluster
from dask_controller.core.cluster_status import cluster_status
from dask_controller.core.observed import ObservedGroup
from dask_controller.core.pod import Container
from dask_controller.core.questions import Progress
from dask_controller.core.record import (
    LONGEST_EVENT,
    LONGEST_LOG,
    LONGEST_MESSAGE,
    MOST_EVENTS,
    MOST_TOLD,
    Traces,
    failed,
    failures,
    happened,
    recorded,
)
from dask_controller.core.run_questions import Record, Recorded, RunEnded, Work
from dask_controller.core.worker_ends import failed_and_going
from dask_controller.core.worker_group import plan_worker_group
from dask_crds.model import Bundle, Condition, DaskJobStatus, dump
from dask_crds.model import History as Stated
from dask_resources.history import MOUNT_PATH, VARIABLE
from dask_resources.scheduler import scheduler_deployment, scheduler_revision

KEPT = Stated(claim_name="runs", path="dask", keep=3)
IN_BUCKET = Stated(url="s3://runs")
PATH = "dask/team/hello/20270115T080000Z-00000000"


# --- constructs -------------------------------------------------------------------------------------------------------


def test_a_cluster_states_it() -> None:
    c = chart()
    DaskCluster(c, "c", image=IMAGE, history=History.claim("runs", path="dask", keep=3))
    assert only(c)["spec"]["history"] == {"claimName": "runs", "path": "dask", "keep": 3}


def test_a_job_states_it_of_its_cluster() -> None:
    c = chart()
    DaskJob(c, "j", image=IMAGE, command=["true"], history=History.claim("runs"))
    assert only(c)["spec"]["cluster"]["spec"]["history"] == {"claimName": "runs"}


def test_a_job_states_a_bucket() -> None:
    c = chart()
    DaskJob(c, "j", image=IMAGE, command=["true"], history=History.bucket("s3://runs/dask", keep=5))
    assert only(c)["spec"]["cluster"]["spec"]["history"] == {"url": "s3://runs/dask", "keep": 5}


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ({}, "history: must be History.claim(...) or History.bucket(...), not {}"),
        ("runs", "history: must be History.claim(...) or History.bucket(...), not 'runs'; write History.claim('runs')"),
        (History.claim(""), "history: must name a PersistentVolumeClaim, not ''"),
        (History.claim(5), "history: must name a PersistentVolumeClaim, not 5"),  # type: ignore[arg-type]
        (History.claim("runs", path="../x"), "history: path must be a folder within it, 'dask/runs' say"),
        (History.claim("runs", path=""), "history: path must be a folder within it"),
        (History.claim("runs", path=5), "history: path must be a folder"),  # type: ignore[arg-type]
        (History.claim("runs", path="a\n"), "history: path must be a folder"),
        (History.claim("runs", path="a" * 201), "of at most 200 characters"),
        (History.claim("runs", keep=0), "history: keep must be a whole number from 1 to 1000, not 0"),
        (History.claim("runs", keep=True), "history: keep must be a whole number from 1 to 1000, not True"),
        ("s3://runs", "not 's3://runs'; write History.bucket('s3://runs')"),
        (History.bucket("runs"), "history: must be a folder of an object store, 's3://bucket/folder' say, not 'runs'"),
        (History.bucket("s3://key:secret@runs"), "history: must be a folder of an object store"),
        (History.bucket("s3://runs/../x"), "history: must be a folder of an object store"),
        (History.bucket("s3://runs/"), "history: must be a folder of an object store"),
        (History.bucket("http://runs"), "history: must be a folder of an object store"),
        (History.bucket(5), "history: must be a folder of an object store"),  # type: ignore[arg-type]
        (History.bucket("s3://runs", path="/x"), "history: path must be a folder within it"),
        (History("runs", url="s3://runs"), "spec.history.url: must be left out beside claimName"),
        (History.claim("Runs"), "spec.history.claimName: 'Runs' must be a DNS name"),
    ],
)
def test_mistakes_are_told(history: Any, why: str) -> None:
    c = chart()
    DaskCluster(c, "c", image=IMAGE, history=history)
    (said,) = errors(c)
    assert why in said


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ({}, "spec.history.claimName: is missing"),
        ({"claimName": "runs", "path": "/x"}, "spec.history.path: '/x' is no folder within the volume"),
        ({"claimName": "runs", "url": "s3://runs"}, "spec.history.url: must be left out beside claimName"),
        ({"url": "file:///etc"}, "spec.history.url: 'file:///etc' is no folder of an object store"),
        ({"claimName": "runs", "keep": 0}, "spec.history.keep: 0 is less than the minimum of 1"),
    ],
)
def test_mistakes_in_manifests_are_told(history: dict[str, Any], why: str) -> None:
    manifest = dump(cluster(history=KEPT))
    manifest["spec"]["history"] = history
    (said,) = problems(manifest)
    assert said.startswith(why)


def test_guardrails_without_claims_allow_no_history() -> None:
    def rules(**options: Any) -> str:
        c = chart()
        DaskGuardrails(c, "guardrails", **options)
        return str(synth(c))

    assert "?history" not in rules()
    without = rules(volumes=["emptyDir"])
    assert "!object.spec.?history.?claimName.hasValue()" in without
    assert "!object.spec.cluster.spec.?history.?claimName.hasValue()" in without


# --- the scheduler's Pod ----------------------------------------------------------------------------------------------


def template(**spec: Any) -> dict[str, Any]:
    return scheduler_deployment(cluster(**spec))["spec"]["template"]["spec"]


def test_the_scheduler_can_write_to_the_volume_and_is_told_where() -> None:
    pod = template(history=KEPT)
    (container,) = pod["containers"]
    assert {"name": "dask-gitops-history", "persistentVolumeClaim": {"claimName": "runs"}} in pod["volumes"]
    assert {"name": "dask-gitops-history", "mountPath": MOUNT_PATH} in container["volumeMounts"]
    (told,) = [each["value"] for each in container["env"] if each["name"] == VARIABLE]
    assert json.loads(told) == {
        "root": MOUNT_PATH,
        "path": "dask",
        "keep": 3,
        "namespace": "team",
        "name": "simple",
        "run": "uid-simple",
    }


def test_for_a_bucket_there_is_no_volume() -> None:
    pod = template(history=Stated(url="s3://runs/dask"))
    assert MOUNT_PATH not in str(pod)
    (told,) = [each["value"] for each in pod["containers"][0]["env"] if each["name"] == VARIABLE]
    assert (json.loads(told)["root"], json.loads(told)["path"]) == ("s3://runs/dask", "")
    here = {"mountPath": MOUNT_PATH, "name": "mine"}
    manifest = dump(cluster(history=Stated(url="s3://runs/dask")))
    manifest["spec"]["scheduler"]["spec"] |= {"volumes": [{"name": "mine", "emptyDir": {}}]}
    manifest["spec"]["scheduler"]["spec"]["containers"][0]["volumeMounts"] = [here]
    assert problems(manifest) == []


def test_nobody_else_gets_it() -> None:
    of = cluster(history=KEPT)
    spec = msgspec.structs.replace(
        of.spec.scheduler,
        spec={**pod_spec(), "containers": [{"name": "scheduler", "image": "a"}, {"name": "logs", "image": "b"}]},
    )
    of = msgspec.structs.replace(of, spec=msgspec.structs.replace(of.spec, scheduler=spec))
    pod = scheduler_deployment(of)["spec"]["template"]["spec"]
    assert MOUNT_PATH in str(pod["containers"][0])
    assert MOUNT_PATH not in str(pod["containers"][1])


def test_without_a_history_the_pod_is_as_before() -> None:
    assert "history" not in str(template())
    assert scheduler_revision(cluster(history=KEPT)) != scheduler_revision(cluster())


# --- status -----------------------------------------------------------------------------------------------------------


def test_a_cluster_says_where_its_record_is() -> None:
    of = cluster(history=KEPT)
    said = answers_of(record=Record(PATH, ""))
    o = observed_cluster(of, scheduler_pods=(scheduler_pod(),))
    told = cluster_status(msgspec.structs.replace(o, answers=said), Plan(), [], NOW)
    assert told.bundle == Bundle(claim_name="runs", path=PATH)
    of = msgspec.structs.replace(of, status=told)
    o = observed_cluster(of, scheduler_pods=(scheduler_pod(),), answers=answers_of(silent="busy"))
    assert cluster_status(o, Plan(), [], NOW).bundle == told.bundle, "it stands"
    moved = msgspec.structs.replace(o, cluster=msgspec.structs.replace(cluster(history=IN_BUCKET), status=told))
    answered = msgspec.structs.replace(moved, answers=answers_of(record=Record("", "PermissionError: no")))
    assert cluster_status(answered, Plan(), [], NOW).bundle == Bundle(url="s3://runs", problem="PermissionError: no")
    broken = msgspec.structs.replace(o, answers=answers_of(record=Record("", "OSError: full")))
    assert cluster_status(broken, Plan(), [], NOW).bundle == Bundle(
        claim_name="runs", path=PATH, problem="OSError: full"
    )


def test_only_who_keeps_a_history_is_asked_for_it() -> None:
    def asked(**spec: Any) -> Any:
        return plan_cluster(complete(cluster(**spec)), NOW).ask

    assert not parts(asked()).recorded
    assert parts(asked(history=KEPT)).recorded is True


def historic(**spec: Any) -> Run:
    run = Run(**spec)
    of = msgspec.structs.replace(run.job.spec.cluster, spec=cluster("hello", history=KEPT).spec)
    run.changed(cluster=of)
    return run


ANSWERS = answers_of(progress=Progress(4, 4, 1), work=Work(1.0, 0.0, 0.0), record=Record(PATH, ""))


def test_a_job_says_where_its_record_is_and_its_past_runs_do() -> None:
    run = historic(run_id="one").up_to_running()
    run.answers = ANSWERS
    run.step(NOW + 20)
    assert run.status.bundle == Bundle(claim_name="runs", path=PATH)
    run.runner_ends("Complete")
    run.step(NOW + 30)
    assert run.status.bundle == Bundle(claim_name="runs", path=PATH)
    run.step(NOW + 31)
    run.runner, run.cluster, run.pods = None, None, ()
    run.changed(run_id="two")
    run.step(NOW + 40)
    assert run.status.history[0].bundle == Bundle(claim_name="runs", path=PATH)
    assert run.status.bundle is None


def test_the_scheduler_is_told_of_the_end_after_status_and_before_it_goes() -> None:
    run = historic().up_to_running()
    run.answers = ANSWERS
    run.pods = (runner_pod(phase="Failed"),)
    run.runner_ends("Failed", "BackoffLimitExceeded", "too often")
    assert run.step(NOW + 30) == []
    assert run.status.job_status == "Failed", "before anybody is told"
    assert run.step(NOW + 31) == ["Delete DaskCluster"]
    (told,) = run.asked.questions
    said = json.loads(told.status)
    assert [c["reason"] for c in said["conditions"] if c["type"] == "Failed"] == ["BackoffLimitExceeded"]
    assert said["timeSpent"]["since"]
    assert run.step(NOW + 32) == []
    assert run.asked is None, "there is nobody any more"


def test_a_silent_scheduler_goes_all_the_same() -> None:
    run = historic().up_to_running()
    run.runner_ends("Complete")
    run.step(NOW + 30)
    run.answers = answers_of(silent="not there")
    assert run.step(NOW + 31) == ["Delete DaskCluster"]


def test_one_that_is_not_ready_is_not_waited_for() -> None:
    run = historic().up_to_running()
    run.runner_ends("Complete")
    run.step(NOW + 30)
    run.scheduler_pods = (scheduler_pod("hello", ready=False),)
    assert run.step(NOW + 31) == ["Delete DaskCluster"]
    assert run.asked is None


def test_a_scheduler_that_stays_is_told_for_a_minute() -> None:
    run = historic()
    run.changed(cluster=msgspec.structs.replace(run.job.spec.cluster, deletion_policy="Never"))
    run.up_to_running().runner_ends("Complete")
    run.step(NOW + 5), run.step(NOW + 6)
    assert isinstance(run.asked.questions[0], RunEnded)
    run.step(NOW + 61)
    assert run.asked is None


def test_without_a_history_nobody_is_told() -> None:
    run = Run().up_to_running()
    run.runner_ends("Complete")
    run.step()
    assert run.step() == ["Delete DaskCluster"]
    assert run.asked is None


def test_what_gets_into_a_record_is_bounded() -> None:
    run = historic().up_to_running()
    (first, *_) = run.status.conditions
    long = msgspec.structs.replace(first, message="x" * 32_768)
    status = DaskJobStatus(conditions=[long] * 30, last_problem="y" * 100_000, history=[])
    assert len(recorded(status)) < 16 * (LONGEST_MESSAGE + 400) + LONGEST_MESSAGE < 64 * 1024
    assert "history" not in json.loads(recorded(status))


def ended(name: str, code: int, *, now: bool = True, message: str = "", restarts: int = 0) -> dict[str, Any]:
    """A Pod whose container has ended, and has been started again unless that is ``now``."""
    end = {
        "terminated": {"exitCode": code, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z", "message": message}
    }
    states = {"state": end} if now else {"state": {"running": {}}, "lastState": end}
    status = {"name": "worker", "restartCount": restarts, **states}
    return {"metadata": {"name": name}, "status": {"containerStatuses": [status]}}


def test_the_end_of_what_failed_is_told_and_nothing_of_what_did_not() -> None:
    log = "\n".join(f"line {n}" for n in range(1000))
    (end,) = failures(ended("w-0", 3, message=log))
    assert (end.pod, end.container, end.exit_code, end.reason) == ("w-0", "worker", 3, "Error")
    assert 1900 < len(end.log) <= LONGEST_LOG
    assert log.endswith(f"\n{end.log}"), "whole lines"
    (before,) = failures(ended("w-0", 1, now=False, message="bye", restarts=4))
    assert (before.log, before.restarts) == ("bye", 4)
    assert failures(ended("w-0", 0)) == failures({"metadata": {"name": "w-0"}}) == []


def test_events_are_told_in_their_order_and_not_all() -> None:
    about = {"kind": "DaskJob", "name": "j"}
    times = [f"2026-01-01T00:00:{n:02}Z" for n in range(60)]
    events = [
        {"lastTimestamp": time, "type": "Normal", "reason": "R", "message": "m" * 9999, "involvedObject": about}
        for time in reversed(times)
    ]
    told = happened(events)
    assert [it.time for it in told] == times[-MOST_EVENTS:]
    assert {(it.about, len(it.message)) for it in told} == {("DaskJob j", LONGEST_EVENT)}
    assert happened([{}])[0].reason == ""


def test_what_is_too_much_is_left_out_of_a_record() -> None:
    end = failures(ended("w-0", 1, message="\n" * 10 + "\u2028" * 2000))[0]
    traces = Traces((end,) * 30, happened([{"message": "\x01" * 900}] * 90))
    conditions = [Condition(type="T", status="True", reason="R", last_transition_time="", message="x" * 9999)] * 16
    text = recorded(DaskJobStatus(conditions=conditions), traces)
    assert len(text) <= MOST_TOLD
    assert json.loads(text)["failures"]
    few = json.loads(recorded(DaskJobStatus(), Traces((end,), traces.events[:2])))
    assert (len(few["failures"]), len(few["events"])) == (1, 2)


def test_pods_that_fail_most_are_told_of() -> None:
    def of(name: str, *containers: Container) -> Any:
        return msgspec.structs.replace(runner_pod(), name=name, containers=containers)

    pods = [of(f"p{n}", Container(name="a", exit_code=n % 2, restarts=n)) for n in range(50)]
    assert [pod.name for pod in failed(pods)] == [f"p{n}" for n in range(49, 29, -2)]


async def test_logs_and_events_are_read_when_the_scheduler_is_told_and_not_before() -> None:
    run = historic().up_to_running()
    event = {"kind": "Event", "metadata": {"name": "e"}, "reason": "BackoffLimitExceeded", "message": "too often"}
    live = ended("hello-runner-x", 3, message="bye")
    live = {"kind": "Pod", **live, "metadata": {"name": "hello-runner-x", "uid": "uid-hello-runner-x"}}
    another = {**live, "metadata": {**live["metadata"], "uid": "another"}}
    server = ApiServer(event, live, another)
    run.pods = (runner_pod(phase="Failed", containers=(Container(name="dask", exit_code=3),)),)
    run.runner_ends("Failed", "BackoffLimitExceeded", "too often")
    before = run.observed
    assert await server.observer._traced(before) is before
    assert server.asked == []
    run.step(NOW - 1)
    traces = (await server.observer._traced(run.observed)).traces
    assert [(end.pod, end.log) for end in traces.failures] == [("hello-runner-x", "bye")]
    assert {it.reason for it in traces.events} == {"BackoffLimitExceeded"}
    assert server.asked == ["list Pod", *["list Event"] * 3]


def leaving(*containers: Container, history: Stated | None = KEPT, **fields: Any) -> ObservedGroup:
    """A group whose only worker is not to be restarted in its place."""
    of = group(replicas=1)
    of.spec.worker.spec["restartPolicy"] = "Never"
    pod = worker_pod(of, 0, containers=containers, **{"restart_policy": "Never", "ready": False, **fields})
    return observed_group(of, pod, cluster=cluster(history=history) if history else cluster())


CRASHED = Container(name="dask", exit_code=3, finished=NOW - 1)
RESTARTED = Container(name="dask", exit_code=3, running=True, restarts=1)
ENDED_POD = {"phase": "Failed", "finished": NOW - 1, "created": NOW - 90, "started": NOW - 90}


@pytest.mark.parametrize(
    ("observed", "told"),
    [
        (leaving(CRASHED, **ENDED_POD), True),
        (leaving(CRASHED, history=None, **ENDED_POD), False),
        (leaving(Container(name="dask", exit_code=0, finished=NOW - 1), **ENDED_POD), False),
        (leaving(RESTARTED), False),  # it stays, and is read at the end of the run
        (leaving(RESTARTED, deleting=True), True),
        (leaving(Container(name="dask", exit_code=3, restarts=4), deleting=True), True),  # CrashLoopBackOff
        (leaving(CRASHED, deleting=True), False),  # by its deletion
        (msgspec.structs.replace(leaving(CRASHED, **ENDED_POD), scheduler_pods=()), False),
    ],
)
def test_whose_ends_are_told_before_they_go(observed: ObservedGroup, told: bool) -> None:
    assert bool(failed_and_going(observed)) == told


def test_a_worker_that_failed_is_replaced_after_its_scheduler_was_told_what_it_said() -> None:
    o = leaving(CRASHED, **ENDED_POD)
    ends = tuple(failures(ended(o.pods[0].name, 3, message="bye")))
    o = msgspec.structs.replace(o, ends=ends)
    first = plan_worker_group(o, NOW)
    assert first.actions == ()
    (told,) = json.loads(parts(first.ask).failed)
    assert (told["pod"], told["exitCode"], told["log"]) == (o.pods[0].name, 3, "bye")
    for answers in (answers_of(noted=Record(PATH)), answers_of(silent="not there")):
        plan = plan_worker_group(msgspec.structs.replace(o, answers=answers), NOW)
        assert [type(action).__name__ for action in plan.actions] == ["Delete", "CreateWorker"]


async def test_what_a_worker_said_is_read_before_it_goes() -> None:
    of = leaving(CRASHED, **ENDED_POD)
    name, uid = of.pods[0].name, of.pods[0].uid
    live = ended(name, 3, message="bye")
    live = {"kind": "Pod", **live, "metadata": {"name": name, "uid": uid}}
    server = ApiServer(live)
    found = await server.observer._last_words(of)
    assert [(end.pod, end.log) for end in found.ends] == [(name, "bye")]
    assert server.asked == ["list Pod"]
    stays = leaving(RESTARTED)
    assert await server.observer._last_words(stays) is stays


def test_that_a_pod_was_stopped_is_no_failure_and_what_came_before_is() -> None:
    stopped = ended("w-0", 143)
    stopped["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    assert failures(stopped) == []
    before = ended("w-0", 1, now=False, message="bye")["status"]["containerStatuses"][0]["lastState"]
    stopped["status"]["containerStatuses"][0]["lastState"] = before
    assert [(end.exit_code, end.log) for end in failures(stopped)] == [(1, "bye")]


def test_the_record_of_a_stranger_is_read_with_care() -> None:
    said = Recorded().believe(Record("a" * 5000, "b\x1b[31m" * 5000))
    assert len(said.path) <= 600
    assert len(said.problem) <= 200
    assert "\x1b" not in said.problem
