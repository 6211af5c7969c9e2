"""Each fault raises its alert and no other: real operators, a real Prometheus, and the rules of ``dist/monitoring``.

One thing is changed in these: what must last for a minute before it is told lasts for two seconds, see `FASTER`. All
faults go on at the same time, each where the labels of its alert tell it from the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane, images
from tests.e2e.support import Kubectl
from tests.support.alert_site import Site, site_of
from tests.support.fault_proxy import Answer, Late
from tests.support.patience import Patience
from tests.support.prometheus import Prometheus, operator_target, operators, prometheus
from tests.support.troubled_dask import TROUBLES

from dask_constructs.monitoring.alerts import groups
from dask_constructs.monitoring.rules import span
from dask_constructs.monitoring.scraping import OF_DASK
from dask_crds.names import API_VERSION

pytestmark = pytest.mark.control_plane

#: By how much each ``for:`` is shorter here.
FASTER = 30
#: Options of ``DaskMonitoring``: what users choose, and what is told within a minute.
THRESHOLDS = {"owner_cpu_hours": 1, "job_stands_still": 15, "job_waits": 900, "event_loop_seconds": 2}
#: Within what a fault is told, and what the expression of this alert itself waits for before it is true.
SECONDS, ITSELF = 60, {"DaskOperatorQueueStuck": 60}
IMAGE = {"metadata": {"annotations": {"test.dask.org/waiting": "ImagePullBackOff"}}}


def rules() -> list[dict[str, Any]]:
    """The groups of ``dist/monitoring``; of alerts whose thresholds are chosen, as ``DaskMonitoring`` makes them."""
    documents = yaml.safe_load_all((images.ROOT / "dist" / "monitoring" / "monitoring.yaml").read_text())
    (found,) = (d["spec"]["groups"] for d in documents if d["kind"] == "PrometheusRule")
    chosen = groups("https://example.org", "dask-operator", THRESHOLDS)
    stated = {rule["alert"]: _what(rule) for group in found for rule in group["rules"] if "alert" in rule}
    for group, other in zip(found, chosen, strict=True):
        others = [rule for rule in other["rules"] if "alert" in rule and stated.get(rule["alert"]) != _what(rule)]
        names = {rule["alert"] for rule in others}
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert") not in names] + others
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = span(_seconds(rule["for"]) // FASTER)
    return found


def _what(rule: Mapping[str, Any]) -> tuple[str, str]:
    return rule["expr"], rule["for"]


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


# --- faults -----------------------------------------------------------------------------------------------------------


async def operator_down(site: Site) -> None:
    site.running["down"].kill()


async def api_refuses_lists(site: Site) -> None:
    await site.operator("blind")
    site.relays["blind"].fault = lambda r: (
        Answer(403, "Forbidden") if r.method == "GET" and r.path.endswith("/pods") else None
    )


async def api_slow(site: Site) -> None:
    site.relays["slow"].fault = lambda r: Late(20) if "/daskautoscalers/" in r.path else None
    for n in range(8):  # of no cluster, so nothing else is late
        manifest = {"apiVersion": API_VERSION, "kind": "DaskAutoscaler", "metadata": {"name": f"a{n}"}}
        await site.apply("slow", {**manifest, "spec": {"cluster": "none", "minimum": 1, "maximum": 2}})


async def api_refuses_writes(site: Site) -> None:
    site.relays["refused"].fault = lambda r: Answer(500, "InternalError") if r.method != "GET" else None
    await site.cluster("refused", "c")


async def api_throttles(site: Site) -> None:
    """Half a second of each two: what the API server does under load, and clients take as it comes."""
    throttled = Answer(429, "TooManyRequests", (("Retry-After", "1"),))
    site.relays["throttled"].fault = lambda r: throttled if r.method != "GET" and time.monotonic() % 2 < 0.5 else None
    await site.cluster("throttled", "c", workers=5)


async def scheduler_cannot_be_pulled(site: Site) -> None:
    await site.cluster("main", "no-scheduler", scheduler_extra=IMAGE)


async def workers_cannot_be_pulled(site: Site) -> None:
    await site.cluster("main", "no-workers", worker_extra=IMAGE)


async def scheduler_goes(site: Site) -> None:
    labels = "dask.org/cluster-name=loses,dask.org/component=scheduler"
    for name in await site.user.names("Pod", site.namespace("main"), labels=labels):
        await site.user.delete("Pod", site.namespace("main"), name)


async def worker_keeps_results(site: Site) -> None:
    await site.user.patch("DaskCluster", site.namespace("main"), "drains", {"spec": {"worker": {"replicas": 1}}})


async def owner_uses_much(site: Site) -> None:
    await site.cluster("main", "dear", worker_cpu="1000", labels={"dask.org/owner": "ann"})


async def job_fails(site: Site) -> None:
    await site.job("fails", code=1)


async def job_waits(site: Site) -> None:
    await site.job("waits", minimumReadyWorkers=1, played=False)


async def job_stands_still(site: Site) -> None:
    await site.job("still")


def dask_in_trouble(trouble: str) -> Callable[[Site], Awaitable[None]]:
    async def begin(site: Site) -> None:
        site.dask(trouble)

    return begin


async def quota_exceeded(site: Site) -> None:
    kubectl = Kubectl(site.plane.kubectl, site.namespace("quota"))
    await asyncio.to_thread(kubectl, "create", "quota", "q", "--hard=pods=2")
    await site.cluster("quota", "c", workers=3)


@dataclass(frozen=True)
class Row:
    """A fault, and the alert that it must raise; ``None``: it must be borne."""

    inject: Callable[[Site], Awaitable[None]]
    alert: str | None
    #: By which the alert says where; of a namespace, the last part of its name.
    labels: Mapping[str, str]


def _of(where: str, **labels: str) -> Mapping[str, str]:
    return {"namespace": where, **labels}


#: In the order in which they are injected: first what takes longest.
FAULTS = [
    Row(api_slow, "DaskOperatorQueueStuck", _of("slow")),
    Row(job_waits, "DaskJobWaits", _of("main", job="waits")),
    Row(job_stands_still, "DaskJobStandsStill", _of("main", job="still")),
    Row(api_refuses_lists, "DaskOperatorWatchStale", _of("blind", resource="pods")),
    Row(api_refuses_writes, "DaskOperatorReconcileErrors", _of("refused", controller="daskcluster")),
    Row(dask_in_trouble("deaf"), "DaskSchedulerBlocked", _of("dask", cluster="deaf")),
    Row(dask_in_trouble("idle"), "DaskTasksWithoutWorker", _of("dask", cluster="idle", state="no-worker")),
    Row(dask_in_trouble("killed"), "DaskWorkersKilledByTasks", _of("dask", cluster="killed")),
    Row(dask_in_trouble("paused"), "DaskWorkersPaused", _of("dask", cluster="paused")),
    Row(scheduler_cannot_be_pulled, "DaskClusterNotReady", _of("main", cluster="no-scheduler")),
    Row(
        workers_cannot_be_pulled,
        "DaskWorkersPending",
        _of("main", cluster="no-workers", workergroup="no-workers-default", state="pending"),
    ),
    Row(owner_uses_much, "DaskOwnerAboveBudget", _of("main", owner="ann")),
    Row(job_fails, "DaskJobFailed", _of("main", job="fails")),
    Row(scheduler_goes, "DaskSchedulerLost", _of("main", cluster="loses")),
    Row(worker_keeps_results, "DaskResultsLost", _of("main", cluster="drains", workergroup="drains-default")),
    Row(operator_down, "DaskOperatorDown", {"namespace": "dask-operator", "job": "dask-operator"}),
    Row(quota_exceeded, "DaskClusterNotReady", _of("quota", cluster="c")),
    Row(api_throttles, None, {}),
]


# --- the test ---------------------------------------------------------------------------------------------------------

Told = tuple[str, frozenset[tuple[str, str]]]
#: Who is well before anything is injected.
LEADERS = {"main", "slow", "refused", "throttled", "dask-operator"}


@pytest.fixture
async def site(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_of(control_plane, namespace, tmp_path) as made:
        yield made


def _scrapes(site: Site) -> list[dict[str, Any]]:
    """All that is scraped, as the monitors of ``dist/monitoring`` have it."""
    names = ("main", "down", "slow", "refused", "throttled", "blind")
    where = {name: "dask-operator" if name == "down" else site.namespace(name) for name in names}
    own = operators(*(operator_target(site.port(name), namespace) for name, namespace in where.items()))
    dask = [
        {"targets": [f"127.0.0.1:{site.port(name)}"], "labels": {"namespace": site.namespace("dask"), "cluster": name}}
        for name in TROUBLES
    ]
    kept = {"source_labels": ["__name__"], "regex": OF_DASK, "action": "keep"}
    theirs = {"job_name": "dask-schedulers", "static_configs": dask, "metric_relabel_configs": [kept]}
    return [{**own, **_every(2)}, {**theirs, **_every(5)}]


def _every(seconds: int) -> dict[str, str]:
    return {"scrape_interval": f"{seconds}s", "scrape_timeout": f"{seconds}s"}


def _told(ask: Prometheus, prefix: str, since: float) -> dict[Told, float]:
    """All alerts that were told since then, and when first."""
    found: dict[Told, float] = {}
    for series in ask('ALERTS{alertstate="firing"}[30m]'):
        labels = {key: text.removeprefix(f"{prefix}-") for key, text in series["metric"].items()}
        name = labels.pop("alertname")
        where = {k: v for k, v in labels.items() if k not in ("__name__", "alertstate", "severity")}
        if times := [float(at) for at, _ in series["values"] if at > since]:
            found[name, frozenset(where.items())] = times[0]
    return found


def test_each_alert_has_its_fault() -> None:
    stated = {rule["alert"] for group in rules() for rule in group["rules"] if "alert" in rule}
    assert {row.alert for row in FAULTS if row.alert} == stated


async def test_each_fault_raises_its_alert_and_no_other(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with prometheus(site.plane, tmp_path, rules(), _scrapes(site)) as ask:
        leading = functools.partial(asyncio.to_thread, _leading, ask, site.prefix)
        patience = Patience(60)
        while (found := await leading()) != LEADERS and patience.lasts():
            await asyncio.sleep(0.5)
        assert found == LEADERS
        # What was told before it had looked at everybody is of its own beginning.
        told = functools.partial(asyncio.to_thread, _told, ask, site.prefix, time.time())
        await asyncio.sleep(3)
        assert await told() == {}
        injected: dict[Told, float] = {}
        for row in FAULTS:
            await row.inject(site)
            if row.alert:
                injected[row.alert, frozenset(row.labels.items())] = time.time()
        patience = Patience(SECONDS + max(ITSELF.values()))
        while not injected.keys() <= (seen := await told()).keys() and patience.lasts():
            await asyncio.sleep(1)
    right = injected.keys() & seen.keys()
    late = {it[0]: seen[it] - injected[it] for it in right}
    with capsys.disabled():
        print(
            f"\n{len(FAULTS)} faults: precision {len(right) / max(1, len(seen)):.3f}, recall "
            f"{len(right) / len(injected):.3f}; told after {', '.join(f'{n} {s:.0f} s' for n, s in late.items())}"
        )
    assert (seen.keys() - right, injected.keys() - right) == (set(), set())
    assert {name: s for name, s in late.items() if s > SECONDS + ITSELF.get(name, 0)} == {}


def _leading(ask: Prometheus, prefix: str) -> set[str]:
    """The namespaces of operators that lead, as far as it has heard."""
    with contextlib.suppress(OSError):
        found = ask("leader_election_master_status == 1")
        return {series["metric"]["namespace"].removeprefix(f"{prefix}-") for series in found}
    return set()
