"""Each alert is told when it must be, and no other with it: Prometheus' own tool plays series to the rules."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import components
from tests.support.clusters import or_skip
from tests.support.promql import filled_in, selectors

from dask_constructs.monitoring.alerts import alerts_of, groups
from dask_constructs.monitoring.dashboards import dashboards
from dask_crds.metrics import METRICS

THRESHOLDS = {"owner_cpu_hours": 100}
ALERTS = {a.name: a for of in alerts_of("dask-operator", THRESHOLDS).values() for a in of}
RUNBOOKS = "https://example.org/runbooks"

#: Labels of what Prometheus has from one replica of the operator, and from the other.
ONE, OTHER = ('job="dask-operator", namespace="dask-operator", pod="o-' + number + '"' for number in "01")
#: Of series about a cluster, a group and a job.
CLUSTER, GROUP, JOB = (
    'namespace="team", ' + rest for rest in ('cluster="c"', 'cluster="c", workergroup="g"', 'job="j"')
)
#: Of a scheduler's own.
POD = CLUSTER + ', pod="c-scheduler-0", job="dask-operator/dask-schedulers"'
LEADS = {f"leader_election_master_status{{{ONE}}}": "1x300", f"leader_election_master_status{{{OTHER}}}": "0x300"}


@dataclass(frozen=True)
class Case:
    """What happens, a sample a minute, and what is told of it.

    Series are written as promtool has it: ``1x5`` is 1 and five times more, ``_x5`` is five times nothing.
    """

    what: str
    series: Mapping[str, str]
    minutes: int
    #: The alert, its labels, and its summary; ``None``: nothing is told.
    told: tuple[str, Mapping[str, str], str] | None = None
    leads: Mapping[str, str] = field(default_factory=lambda: LEADS)


def fires(alert: str, summary: str, **labels: str) -> tuple[str, Mapping[str, str], str]:
    return alert, labels, summary


OPERATOR_DOWN = fires(
    "DaskOperatorDown",
    "No replica of the operator in dask-operator leads, or Prometheus does not reach it.",
    job="dask-operator",
    namespace="dask-operator",
)
OF_CLUSTER, OF_GROUP, OF_JOB = (
    {"namespace": "team", **rest} for rest in ({"cluster": "c"}, {"cluster": "c", "workergroup": "g"}, {"job": "j"})
)
NOT_READY = f'dask_cluster_condition{{{CLUSTER}, condition="Ready", status="False", reason="%s"}}'
LOST = fires("DaskSchedulerLost", "Cluster team/c has lost its scheduler.", **OF_CLUSTER)
RESULTS = fires("DaskResultsLost", "Workers of team/g went before they had handed on all results.", **OF_GROUP)
KILLED = fires("DaskWorkersKilledByTasks", "Workers of team/c died while they ran a task.", **OF_CLUSTER)
REPLACED, RESTARTED = "dask_cluster_scheduler_replacements_total", "dask_cluster_scheduler_restarts"


def tasks_of_job(done: str, status: str = "Running") -> dict[str, str]:
    return {
        f'dask_job_tasks{{{JOB}, state="done"}}': done,
        f'dask_job_tasks{{{JOB}, state="total"}}': "10x200",
        f'dask_job_status{{{JOB}, status="{status}"}}': "1x200",
    }


def reconciles(errors: str) -> dict[str, str]:
    return {
        f'controller_runtime_reconcile_errors_total{{{ONE}, controller="daskjob"}}': errors,
        f'controller_runtime_reconcile_total{{{ONE}, controller="daskjob", result="success"}}': "0+20x60",
        f'controller_runtime_reconcile_total{{{ONE}, controller="daskjob", result="error"}}': errors,
    }


CASES = [
    # --- the operator -------------------------------------------------------------------------------------------------
    Case("no replica leads", {}, 10, OPERATOR_DOWN, dict.fromkeys(LEADS, "0x20")),
    Case("nobody is scraped", {}, 10, OPERATOR_DOWN, {}),
    Case("another operator's leads", {}, 10, OPERATOR_DOWN, {'leader_election_master_status{job="x"}': "1x20"}),
    Case("none leads for a moment", {}, 14, None, dict(zip(LEADS, ("1x10 0x20", "0x13 1x20"), strict=True))),
    Case(
        "a watch is silent",
        {f'dask_operator_informer_age_seconds{{{ONE}, resource="pods"}}': "0+60x20"},
        15,
        fires(
            "DaskOperatorWatchStale",
            "The operator in dask-operator has heard nothing of pods for 15m 0s.",
            namespace="dask-operator",
            resource="pods",
        ),
    ),
    Case(
        "one that waits watches nothing",
        {f'dask_operator_informer_age_seconds{{{OTHER}, resource="pods"}}': "9999x20"},
        15,
    ),
    Case("a watch is quiet", {f'dask_operator_informer_age_seconds{{{ONE}, resource="pods"}}': "150x20"}, 15),
    Case(
        "the queue is stuck",
        {f"workqueue_oldest_seconds{{{ONE}}}": "90x20", f"workqueue_oldest_seconds{{{OTHER}}}": "0x20"},
        15,
        fires(
            "DaskOperatorQueueStuck",
            "Resources wait for 1m 30s for the operator in dask-operator.",
            namespace="dask-operator",
        ),
    ),
    Case("another operator's is", {'workqueue_oldest_seconds{job="x", namespace="dask-operator"}': "90x20"}, 15),
    Case("it is busy for five minutes", {f"workqueue_oldest_seconds{{{ONE}}}": "90x5 0x20"}, 15),
    Case(
        "reconciles fail",
        reconciles("0+5x60"),
        40,
        fires(
            "DaskOperatorReconcileErrors",
            "20% of the reconciles of daskjob by the operator in dask-operator fail.",
            namespace="dask-operator",
            controller="daskjob",
        ),
    ),
    Case("one of a hundred fails", reconciles("0+0.2x60"), 40),
    # --- clusters -----------------------------------------------------------------------------------------------------
    Case(
        "a cluster is not ready, for one reason and then another",
        {NOT_READY % "ImagePullBackOff": "1x10 _x20", NOT_READY % "Ended": "_x11 1x20"},
        20,
        fires("DaskClusterNotReady", "Cluster team/c is not ready.", **OF_CLUSTER),
    ),
    Case("it starts", {NOT_READY % "Progressing": "1x9 _x30"}, 25),
    Case(
        "it is suspended",
        {f'dask_cluster_condition{{{CLUSTER}, condition="Ready", status="True", reason="Suspended"}}': "1x40"},
        30,
    ),
    Case("it waits in a queue", {NOT_READY % "Queued": "1x40"}, 30),
    Case("somebody more important has its quota", {NOT_READY % "QuotaRevoked": "1x40"}, 30),
    Case("it waits in line for others to end", {NOT_READY % "LimitReached": "1x40"}, 30),
    Case("it waited long, and starts", {NOT_READY % "Queued": "1x20 _x20", NOT_READY % "Progressing": "_x21 1x20"}, 30),
    Case(
        "workers are awaited, and so the cluster is not ready",
        {
            NOT_READY % "Unschedulable": "1x40",
            f'dask_workergroup_workers{{{GROUP}, state="pending"}}': "3x40",
            f'dask_workergroup_workers{{{GROUP}, state="ready"}}': "2x40",
        },
        30,
        fires("DaskWorkersPending", "3 workers of team/g do not get ready.", **OF_GROUP, state="pending"),
    ),
    Case("they come", {f'dask_workergroup_workers{{{GROUP}, state="pending"}}': "3x10 0x40"}, 30),
    Case("the scheduler is replaced", {f"{REPLACED}{{{CLUSTER}}}": "0x10 1x50"}, 15, LOST),
    Case("it is told of a cluster for the first time", {f"{REPLACED}{{{CLUSTER}}}": "_x10 1x50"}, 15, LOST),
    Case("its container restarts", {f"{RESTARTED}{{{CLUSTER}}}": "0x10 1x50"}, 15, LOST),
    Case("that of a young cluster restarts", {f"{RESTARTED}{{{CLUSTER}}}": "_x10 0x3 1x50"}, 15, LOST),
    Case("one is told of for the first time that restarted long ago", {f"{RESTARTED}{{{CLUSTER}}}": "_x10 3x50"}, 15),
    Case("that was long ago", {f"{RESTARTED}{{{CLUSTER}}}": "0x10 1x50", f"{REPLACED}{{{CLUSTER}}}": "0x10 1x50"}, 40),
    Case(
        "another replica leads, whose counter begins anew",
        {
            f'{REPLACED}{{{CLUSTER}, pod="o-0"}}': "3x20 _x40",
            f'{REPLACED}{{{CLUSTER}, pod="o-1"}}': "_x21 0x40",
            f'{RESTARTED}{{{CLUSTER}, pod="o-0"}}': "3x20 _x40",
            f'{RESTARTED}{{{CLUSTER}, pod="o-1"}}': "_x21 3x40",
        },
        30,
    ),
    Case(
        "another replica leads, and sees it happen again",
        {f'{REPLACED}{{{CLUSTER}, pod="o-0"}}': "1x20 _x40", f'{REPLACED}{{{CLUSTER}, pod="o-1"}}': "_x24 1x40"},
        30,
        LOST,
    ),
    Case("results are lost", {f"dask_drain_results_lost_total{{{GROUP}}}": "0x10 7x50"}, 15, RESULTS),
    Case(
        "by a group of which nothing was told", {f"dask_drain_results_lost_total{{{GROUP}}}": "_x10 7x50"}, 15, RESULTS
    ),
    Case("none are", {f"dask_drain_results_lost_total{{{GROUP}}}": "_x10 0x50"}, 15),
    Case(
        "an owner uses much",
        {
            f'dask_usage_cpu_seconds_total{{{CLUSTER}, component="worker", name="{name}", owner="ann"}}': "0+3000x200"
            for name in "ab"
        },
        120 + 15,
        fires(
            "DaskOwnerAboveBudget",
            "ann has used 225 CPU-hours in team in 24 hours.",
            namespace="team",
            owner="ann",
        ),
    ),
    Case(
        "nobody does", {f'dask_usage_cpu_seconds_total{{{CLUSTER}, component="worker", owner=""}}': "0+6000x200"}, 135
    ),
    # --- jobs ---------------------------------------------------------------------------------------------------------
    Case(
        "a job fails",
        {
            f'dask_job_status{{{JOB}, status="Running"}}': "1x9 _x20",
            f'dask_job_status{{{JOB}, status="Failed"}}': "_x10 1x20",
        },
        20,
        fires("DaskJobFailed", "Job team/j has failed.", **OF_JOB),
    ),
    Case("it succeeds", {f'dask_job_status{{{JOB}, status="Successful"}}': "1x30"}, 20),
    Case(
        "a job waits",
        {
            f'dask_job_status{{{JOB}, status="JobCreated"}}': "1x9 _x60",
            f'dask_job_status{{{JOB}, status="ClusterCreated"}}': "_x10 1x60",
        },
        45,
        fires("DaskJobWaits", "The runner of job team/j does not start.", **OF_JOB),
    ),
    Case(
        "it is suspended",
        {
            f'dask_job_status{{{JOB}, status="JobCreated"}}': "1x60",
            f'dask_job_condition{{{JOB}, condition="Suspended", status="True", reason="Suspended"}}': "1x60",
        },
        45,
    ),
    *(
        Case(
            f"it waits for its turn: {reason}",
            {
                f'dask_job_status{{{JOB}, status="JobCreated"}}': "1x60",
                f'dask_job_condition{{{JOB}, condition="Suspended", status="False", reason="NotSuspended"}}': "1x60",
                f'dask_job_condition{{{JOB}, condition="Ready", status="False", reason="{reason}"}}': "1x60",
            },
            45,
        )
        for reason in ("Queued", "QuotaRevoked", "LimitReached")
    ),
    Case(
        "a job stands still",
        tasks_of_job("4x200"),
        70,
        fires("DaskJobStandsStill", "Job team/j has finished no task for 1h.", **OF_JOB),
    ),
    Case("it gets on slowly", tasks_of_job("0x40 1x40 2x40 3x40"), 110),
    Case("all is done", tasks_of_job("10x200"), 100),
    Case("it has ended", tasks_of_job("4x200", "Successful"), 100),
    Case("it has just begun", tasks_of_job("_x60 0x100"), 100),
    # --- schedulers ---------------------------------------------------------------------------------------------------
    Case(
        "a scheduler is deaf",
        {f"dask_scheduler_tick_duration_maximum_seconds{{{POD}}}": "1.5x20"},
        10,
        fires("DaskSchedulerBlocked", "The scheduler of team/c is deaf for 1.5s at a stretch.", **OF_CLUSTER),
    ),
    Case("once", {f"dask_scheduler_tick_duration_maximum_seconds{{{POD}}}": "0.02x4 9 0.02x20"}, 10),
    Case(
        "tasks find no worker",
        {
            f'dask_scheduler_tasks{{{POD}, state="no-worker"}}': "4x40",
            f'dask_scheduler_tasks{{{POD}, state="processing"}}': "9x40",
        },
        30,
        fires("DaskTasksWithoutWorker", "4 tasks of team/c find no worker.", **OF_CLUSTER, state="no-worker"),
    ),
    Case("tasks are queued", {f'dask_scheduler_tasks{{{POD}, state="queued"}}': "4x40"}, 30),
    Case(
        "a worker dies",
        {
            f'dask_scheduler_tasks_suspicious_total{{{POD}, task_prefix_name="{p}"}}': "0x10 1x40"
            for p in ("inc", "sum")
        },
        15,
        KILLED,
    ),
    Case("none dies", {f'dask_scheduler_tasks_suspicious_total{{{POD}, task_prefix_name="inc"}}': "_x10 0x40"}, 15),
    Case(
        "workers are paused",
        {
            f'dask_scheduler_workers{{{POD}, state="paused"}}': "2x30",
            f'dask_scheduler_workers{{{POD}, state="idle"}}': "1x30",
        },
        15,
        fires("DaskWorkersPaused", "2 workers of team/c are paused: their memory is full.", **OF_CLUSTER),
    ),
    Case("for a moment", {f'dask_scheduler_workers{{{POD}, state="paused"}}': "2x3 0x30"}, 15),
]


@pytest.fixture(scope="module")
def promtool() -> Path:
    with or_skip("promtool"):
        return components.unpacked("prometheus", "usr/bin/promtool")


def test_each_alert_is_told_in_some_case() -> None:
    assert {case.told[0] for case in CASES if case.told} == ALERTS.keys()


def test_series_have_the_labels_that_the_operator_gives_them() -> None:
    labels = {metric.name: {*metric.labels, "pod"} for metric in METRICS}
    played = [named for case in CASES for series in case.series for named in selectors(series) if named[0] in labels]
    assert len({name for name, _ in played}) > 6
    assert [(name, found) for name, found in played if not found <= labels[name]] == []


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_alerts(promtool: Path, tmp_path: Path, case: Case) -> None:
    expected: list[dict[str, Any]] = []
    for name, alert in ALERTS.items():
        alerts = []
        if case.told and case.told[0] == name:
            _, labels, summary = case.told
            runbook = f"{RUNBOOKS}#{name.lower()}"
            said = {"summary": summary, "description": alert.description, "runbook_url": runbook}
            alerts = [{"exp_labels": {**labels, "severity": alert.severity}, "exp_annotations": said}]
        expected.append({"eval_time": f"{case.minutes}m", "alertname": name, "exp_alerts": alerts})
    series = [{"series": name, "values": values} for name, values in {**case.leads, **case.series}.items()]
    test = {"interval": "1m", "input_series": series, "alert_rule_test": expected}
    assert played(promtool, tmp_path, test) == ""


def played(promtool: Path, folder: Path, test: dict[str, Any]) -> str:
    """What the tool finds fault with."""
    (folder / "rules.yaml").write_text(json.dumps({"groups": groups(RUNBOOKS, "dask-operator", THRESHOLDS)}))
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (folder / "test.yaml").write_text(json.dumps(content))
    done = subprocess.run(
        [promtool, "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_the_tool_finds_fault(promtool: Path, tmp_path: Path) -> None:
    """It is not that everything passes."""
    wrong = {"eval_time": "10m", "alertname": "DaskOperatorDown", "exp_alerts": []}
    assert "DaskOperatorDown" in played(promtool, tmp_path, {"interval": "1m", "alert_rule_test": [wrong]})


def test_prometheus_understands_all_panels(promtool: Path, tmp_path: Path) -> None:
    """Its own parser, by way of rules: the tool knows no other way to hand it a query."""
    queries = [query.expr for d in dashboards() for row in d.rows for panel in row.panels for query in panel.queries]
    rules = [{"record": f"panel:{number}", "expr": filled_in(query)} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", "rules.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(queries)} rules found" in done.stdout
