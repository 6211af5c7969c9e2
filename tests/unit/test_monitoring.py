"""Monitors, rules and dashboards: that they speak of what there is."""

from __future__ import annotations

import json
import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard as GrafanaDashboard
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.constructs import IMAGE, chart, errors, synth, synthesized
from tests.support.promql import family, filled_in, selectors

from dask_constructs import DaskCluster, DaskClusterMonitor, DaskJob, DaskMonitoring, DaskOperator
from dask_constructs.monitoring.alerts import alerts_of
from dask_constructs.monitoring.dashboards import dashboards
from dask_constructs.monitoring.rules import recordings, span
from dask_constructs.monitoring.scraping import OF_DASK
from dask_controller.kube.metrics import Metrics
from dask_crds.metrics import METRICS
from dask_crds.model import parse
from dask_crds.names import Label
from dask_resources.scheduler import scheduler_deployment
from dask_resources.worker import worker_pod

DOCS = Path(__file__).parents[2] / "docs"
ALERTS = {a.name: a for of in alerts_of("dask-operator", {"owner_cpu_hours": 100}).values() for a in of}
RECORDINGS = {recording.record: recording for recording in recordings()}
PANELS = [(d.uid, p) for d in dashboards() for row in d.rows for p in row.panels]
#: Of the operator's metrics about Dask.
LABELS = {metric.name: set(metric.labels) for metric in METRICS}
QUERIES = [
    *((alert.name, alert.expr) for alert in ALERTS.values()),
    *((recording.record, recording.expr) for recording in RECORDINGS.values()),
    *((f"{uid}: {panel.title}", query.expr) for uid, panel in PANELS for query in panel.queries),
]
VARIABLES = [
    (f"{d.uid}: {v.name}", re.fullmatch(r"label_values\((.*), \w+\)", v.values))
    for d in dashboards()
    for v in d.variables
]


# --- what is named exists ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_dask() -> Iterator[set[str]]:
    """Names of what a scheduler and a worker of Dask show."""
    with LocalCluster(
        n_workers=1, processes=False, dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0"
    ) as cluster:
        with Client(cluster) as client:
            client.submit(sum, [1, 2]).result()  # else nothing is told of kinds of tasks
        (worker,) = cluster.workers.values()
        found = set()
        for port in (cluster.scheduler.http_server.port, worker.http_server.port):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                found |= names_in(answer.read().decode())
        yield found


def names_in(text: str) -> set[str]:
    """Names of series in what is scraped; of counters, of their samples."""
    families = text_string_to_metric_families(text)
    return {f"{f.name}_total" if f.type == "counter" else f.name for f in families}


@pytest.fixture(scope="module")
def of_operator() -> set[str]:
    """Names of what the operator shows: those of the page, and those that a process has anyway."""
    listed = set(re.findall(r"`([a-z][a-z0-9_]+_[a-z0-9_]+)`", (DOCS / "metrics.md").read_text()))
    return listed | names_in(generate_latest(Metrics("dask_operator").registry).decode())


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_every_metric_of_a_query_exists(where: str, query: str, of_dask: set[str], of_operator: set[str]) -> None:
    known = of_dask | of_operator | RECORDINGS.keys()
    named = {family(metric, known) for metric, _ in selectors(query)}
    assert named
    assert named - known == set()


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_labels_of_the_operators_metrics_exist(where: str, query: str) -> None:
    for metric, labels in selectors(query):
        assert labels <= LABELS.get(metric, labels)


def test_a_metric_that_does_not_exist_is_seen(of_dask: set[str], of_operator: set[str]) -> None:
    known = of_dask | of_operator
    assert len(of_dask) > 30
    for wrong in ("dask_cluster_conditions", "dask_scheduler_task", "dask_workergroup_worker"):
        ((named, _),) = selectors(f"sum(rate({wrong}[5m])) > 0")
        assert family(named, known) not in known


@pytest.mark.parametrize(("where", "values"), VARIABLES, ids=[where for where, _ in VARIABLES])
def test_choices_are_of_metrics_that_exist(where: str, values: re.Match[str] | None, of_operator: set[str]) -> None:
    assert values is not None
    assert {metric for metric, _ in selectors(values[1])} <= of_operator


def test_what_users_pods_say_is_dasks_own_and_nothing_of_the_operators(
    of_dask: set[str], of_operator: set[str]
) -> None:
    kept = {name for name in of_dask if re.fullmatch(OF_DASK, name)}
    assert {name for name in of_dask if name.startswith("dask_")} <= kept
    assert len(LABELS) > 20
    assert [name for name in LABELS if re.fullmatch(OF_DASK, name)] == []


# --- monitors find what they are for ----------------------------------------------------------------------------------


def monitors(**options: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return synthesized(DaskMonitoring, **options)


def is_selected(spec: dict[str, Any], labels: dict[str, str]) -> bool:
    return spec["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("tls", [{}, {"metrics_tls": "certificate"}], ids=["plain", "tls"])
def test_the_operators_service_is_found(tls: dict[str, Any]) -> None:
    operator = synthesized(DaskOperator, crds=False, **tls)
    service = operator["Service", "dask-operator"]
    spec = monitors(**tls)["ServiceMonitor", "dask-operator"]["spec"]
    assert is_selected(spec, service["metadata"]["labels"])
    (endpoint,), (port,) = spec["endpoints"], service["spec"]["ports"]
    assert endpoint["port"] == port["name"]
    assert endpoint["honorLabels"], "its metrics are of others' namespaces"
    if tls:
        assert endpoint["scheme"] == "https"
        assert endpoint["tlsConfig"]["ca"]["secret"] == {"name": "certificate", "key": "ca.crt"}
        assert endpoint["tlsConfig"]["serverName"] == "dask-operator.dask-operator.svc"
        assert "bearerTokenFile" in endpoint


def test_a_token_of_ones_own_takes_the_place_of_that_of_prometheus() -> None:
    spec = monitors(metrics_tls="certificate", metrics_token="reader")["ServiceMonitor", "dask-operator"]["spec"]
    (endpoint,) = spec["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "reader", "key": "token"}
    assert "bearerTokenFile" not in endpoint


@pytest.fixture(scope="module")
def pods() -> dict[str, dict[str, Any]]:
    """Templates of the Pods of a cluster."""
    c = chart(namespace="team")
    cluster = DaskCluster(c, "c", name="analytics", image=IMAGE)
    group = cluster.add_worker_group("big")
    scheduler = scheduler_deployment(parse(cluster.api_object.to_json()))["spec"]["template"]
    return {"schedulers": scheduler, "workers": worker_pod(parse(group.api_object.to_json()), 0, "a")}  # type: ignore[arg-type]


@pytest.mark.parametrize("which", ["schedulers", "workers"])
def test_pods_of_clusters_are_found(which: str, pods: dict[str, dict[str, Any]]) -> None:
    pod, made = pods[which], monitors(namespaces=["team"])
    spec = made["PodMonitor", f"dask-{which}"]["spec"]
    other = made["PodMonitor", f"dask-{({'schedulers', 'workers'} - {which}).pop()}"]["spec"]
    assert is_selected(spec, pod["metadata"]["labels"])
    assert not is_selected(other, pod["metadata"]["labels"])
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["port"] in {p["name"] for c in pod["spec"]["containers"] for p in c.get("ports", ())}
    assert "honorLabels" not in endpoint, "who says whose Pod it is is Kubernetes"
    assert spec["namespaceSelector"] == {"matchNames": ["team"]}
    assert monitors()["PodMonitor", f"dask-{which}"]["spec"]["namespaceSelector"] == {"any": True}
    meta = {
        "__meta_kubernetes_pod_label_" + re.sub(r"[^a-zA-Z0-9]", "_", k): v
        for k, v in pod["metadata"]["labels"].items()
    }
    told = {rule["targetLabel"]: meta[rule["sourceLabels"][0]] for rule in endpoint["relabelings"]}
    assert told["cluster"] == "analytics"
    assert told.get("workergroup") == (None if which == "schedulers" else "analytics-big")


@pytest.mark.parametrize("kind", ["cluster", "job", "name"])
def test_one_cluster_may_have_monitors_of_its_own(kind: str, pods: dict[str, dict[str, Any]]) -> None:
    c = chart(namespace="team")
    options: Any = {"labels": {"release": "ours"}, "interval": 15}
    if kind == "name":
        DaskClusterMonitor(c, "m", cluster="analytics", **options)
    else:
        made = DaskCluster if kind == "cluster" else DaskJob
        rest: Any = {} if kind == "cluster" else {"command": ["x"]}
        made(c, "c", name="analytics", image=IMAGE, **rest).monitor(**options)
    found = {m["metadata"]["name"]: m for m in synth(c) if m["kind"] == "PodMonitor"}
    assert found.keys() == {"analytics-schedulers", "analytics-workers"}
    for which, pod in pods.items():
        manifest = found[f"analytics-{which}"]
        assert manifest["metadata"]["labels"]["release"] == "ours"
        assert manifest["metadata"].get("namespace") == "team"
        assert is_selected(manifest["spec"], pod["metadata"]["labels"])
        assert not is_selected(manifest["spec"], {**pod["metadata"]["labels"], "dask.org/cluster-name": "other"})
        assert "namespaceSelector" not in manifest["spec"], "its own namespace"
        assert manifest["spec"]["podMetricsEndpoints"][0]["interval"] == "15s"


def test_options_decide_what_is_made() -> None:
    kinds = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"}
    assert {kind for kind, _ in monitors()} == kinds
    assert {kind for kind, _ in monitors(clusters=False)} == kinds - {"PodMonitor"}
    assert {kind for kind, _ in monitors(rules=False)} == kinds - {"PrometheusRule"}
    assert {kind for kind, _ in monitors(dashboards=False)} == kinds - {"ConfigMap"}
    made = monitors(namespace="system", labels={"release": "r"}, dashboard_labels={"d": "1"}, dashboard_folder="Ours")
    for (kind, _), manifest in made.items():
        assert manifest["metadata"]["namespace"] == "system"
        assert (manifest["metadata"]["labels"].get("release") == "r") == (kind != "ConfigMap")
        if kind == "ConfigMap":
            assert manifest["metadata"]["labels"]["d"] == "1"
            assert manifest["metadata"]["annotations"] == {"grafana_folder": "Ours"}
    rules = made["PrometheusRule", "dask-operator"]["spec"]["groups"]
    (down,) = [r for group in rules for r in group["rules"] if r.get("alert") == "DaskOperatorDown"]
    assert 'namespace="system"' in down["expr"]


def test_mistakes_are_told() -> None:
    c = chart()
    thresholds: Any = {"job_waits": "1h", "jobs": 1, "event_loop_seconds": 0}
    DaskMonitoring(c, "it", thresholds=thresholds, interval=0)
    assert errors(c) == [
        "[test/it] thresholds['jobs']: unknown option; did you mean 'job_waits'?",
        "[test/it] thresholds['job_waits']: must be whole seconds, or a Duration, not '1h'",
        "[test/it] thresholds['event_loop_seconds']: must be a number greater than 0, not 0",
        "[test/it] interval: must be a whole number from 1 to 3600, not 0",
    ]


# --- alerts -----------------------------------------------------------------------------------------------------------


def rules(**options: Any) -> dict[str, dict[str, Any]]:
    """Alerts by name, as Prometheus gets them."""
    groups = monitors(**options)["PrometheusRule", "dask-operator"]["spec"]["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    sections = re.findall(r"^## (.*)$", (DOCS / "runbooks.md").read_text(), re.MULTILINE)
    assert sections == list(ALERTS)
    base = "https://github.com/dask-gitops/dask-gitops/blob/main/docs/runbooks.md"
    for name, rule in rules().items():
        # GitHub's anchor of a heading of one word is that word in lower case.
        assert rule["annotations"]["runbook_url"] == f"{base}#{name.lower()}"
    own = rules(runbooks="https://wiki.example.org/dask")["DaskJobFailed"]
    assert own["annotations"]["runbook_url"] == "https://wiki.example.org/dask#daskjobfailed"


def test_each_runbook_says_how_urgent_it_is_and_what_to_do() -> None:
    parts = re.split(r"^## ", (DOCS / "runbooks.md").read_text(), flags=re.MULTILINE)[1:]
    for part in parts:
        name, text = part.split("\n", 1)
        assert text.strip().startswith(f"*{ALERTS[name].severity}.* ")
        assert "\n$ kubectl " in text or "\n- " in text, name


def test_an_owner_is_not_looked_for_by_a_selector_which_finds_no_annotation() -> None:
    (text,) = re.findall(
        r"^## DaskOwnerAboveBudget$(.*?)^## ", (DOCS / "runbooks.md").read_text(), re.DOTALL | re.MULTILINE
    )
    asked = shlex.split(re.findall(r"^\$ (.*)$", text, re.MULTILINE)[0])
    assert "-l" not in asked
    key = Label.OWNER.replace(".", r"\.")
    assert {f".metadata.annotations.{key}", f".metadata.labels.{key}"} <= set(re.split("[:,]", asked[-1]))


def test_the_page_lists_the_alerts_as_they_are() -> None:
    row = r"^\| \[(\w+)\]\(runbooks\.md#(\w+)\) \| (\w+) \| (.*) \|$"
    listed = re.findall(row, (DOCS / "monitoring.md").read_text(), re.MULTILINE)
    after = {name: span(alert.seconds) if alert.seconds else "at once" for name, alert in ALERTS.items()}
    assert listed == [(name, name.lower(), alert.severity, after[name]) for name, alert in ALERTS.items()]


def test_thresholds_reach_the_rules() -> None:
    changed = rules(
        thresholds={
            "cluster_not_ready": 120,
            "workers_pending": 7200,
            "job_waits": 45,
            "job_stands_still": 600,
            "event_loop_seconds": 2.5,
            "owner_cpu_hours": 64,
        }
    )
    assert changed["DaskClusterNotReady"]["for"] == "2m"
    assert changed["DaskWorkersPending"]["for"] == "2h"
    assert changed["DaskJobWaits"]["for"] == "45s"
    assert "offset 10m" in changed["DaskJobStandsStill"]["expr"]
    assert changed["DaskSchedulerBlocked"]["expr"].endswith("> 2.5")
    assert changed["DaskOwnerAboveBudget"]["expr"].endswith("> 64")
    assert "DaskOwnerAboveBudget" not in rules()
    assert [span(seconds) for seconds in (0, 59, 60, 90, 3600, 86400)] == ["0s", "59s", "1m", "90s", "1h", "24h"]


# --- dashboards -------------------------------------------------------------------------------------------------------


def test_grafana_knows_all_of_them() -> None:
    """Its own classes keep each field that they know, and no other; and have one for each kind of panel."""
    plugins.register_default_plugins()
    for manifest in (m for (kind, _), m in monitors().items() if kind == "ConfigMap"):
        ((file, text),) = manifest["data"].items()
        ours = json.loads(text)
        assert file == f"{ours['uid']}.json"
        theirs = json.loads(JSONEncoder().encode(GrafanaDashboard.from_json(json.loads(text))))
        assert missing(ours, theirs) == []
        assert len(ours["uid"]) <= 40


def missing(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Fields of one JSON that another has not, or has otherwise."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        gone = [f"{path}.{key}" for key in ours.keys() - theirs.keys() if ours[key] is not None]
        return gone + [
            m for key in ours.keys() & theirs.keys() for m in missing(ours[key], theirs[key], f"{path}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [m for number, pair in pairs for m in missing(*pair, f"{path}[{number}]")]
    return [] if ours == theirs else [f"{path}: {ours!r} is {theirs!r}"]


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard.uid)
def test_panels_have_a_place_each(dashboard: Any) -> None:
    panels = dashboard.json()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    drawn = [panel for panel in panels if panel["type"] != "row"]
    assert len({panel["title"] for panel in drawn}) == len(drawn) > 9
    chosen = [variable["name"] for variable in dashboard.json()["templating"]["list"]]
    for panel in drawn:
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"]
        for target in panel["targets"]:
            used = set(re.findall(r"\$([a-z]+)", target["expr"]))
            assert used <= set(chosen)
            assert filled_in(target["expr"])


def test_titles_and_uids_are_unique() -> None:
    made = dashboards()
    assert len({d.uid for d in made}) == len({d.title for d in made}) == len(made) == 3
