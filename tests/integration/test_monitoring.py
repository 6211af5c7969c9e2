"""A real Prometheus reads the running operator, by the rules that it is given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import ControlPlane
from tests.cluster.processes import free_port
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support.controller import Controller
from tests.support.prometheus import Prometheus, operator_target, operators, prometheus
from tests.support.promql import filled_in

from dask_constructs.monitoring.alerts import groups
from dask_constructs.monitoring.dashboards import dashboards
from dask_constructs.monitoring.rules import WORKERS

pytestmark = pytest.mark.control_plane

#: What shows nothing here: fake nodes run neither Dask nor tasks, nothing is lost, and nobody uses a GPU.
EMPTY = {
    "dask-operator": set[str](),
    "dask-clusters": {
        "Autoscaling",
        "What Dask's workers do",
        "Tasks by state",
        "Compute by kind of task",
        "Transfers between workers",
        "Memory of workers",
        "Deaf schedulers",
        "Workers that died at work",
        "GPUs by owner",
        "Not ready",
        "Wait for quota",
    },
}


@pytest.fixture
def served() -> int:
    """The port of the operator's metrics."""
    return free_port()


@pytest.fixture
def operator(control_plane: ControlPlane, namespace: str, served: int) -> Iterator[Controller]:
    running = Controller(control_plane, namespace, "--port", str(served))
    yield running
    running.kill()


@pytest.fixture
def ask(control_plane: ControlPlane, namespace: str, served: int, tmp_path: Path) -> Iterator[Prometheus]:
    """Queries a Prometheus that scrapes the operator as the ServiceMonitor has it, though more often."""
    rules = groups("https://example.org", namespace, {})
    with prometheus(control_plane, tmp_path, rules, [operators(operator_target(served, namespace))]) as asked:
        yield asked


def test_panels_show_what_there_is_and_alerts_what_is_wrong(
    ask: Prometheus, operator: Controller, kubectl: Kubectl, kube: Manifests, namespace: str
) -> None:
    kubectl.apply(kube.cluster_manifest("seen", workers=2))
    kubectl.wait_ready("daskcluster", "seen")
    ready = f'{WORKERS}{{namespace="{namespace}", cluster="seen", workergroup="seen-default", state="ready"}}'
    eventually(lambda: ask(f"{ready} == 2"))
    chosen = {"$namespace": namespace, "$cluster": "seen", "$__rate_interval": "30s"}

    def empty(uid: str) -> set[str]:
        (rows,) = (d.rows for d in dashboards() if d.uid == uid)
        panels = [panel for row in rows for panel in row.panels]
        return {p.title for p in panels if not all(ask(filled_in(query.expr, chosen)) for query in p.queries)}

    for uid, nothing in EMPTY.items():
        with contextlib.suppress(AssertionError):
            eventually(lambda uid=uid, nothing=nothing: empty(uid) == nothing)
        assert empty(uid) == nothing
    eventually(lambda: ask("absent(ALERTS)"))  # it may have seen that the cluster was not ready at first

    operator.kill()
    eventually(lambda: [alert["metric"]["alertname"] for alert in ask("ALERTS")] == ["DaskOperatorDown"])
