"""`dask_gitops.connect` against a real API server, as a ServiceAccount that has ``dask-notebook`` and nothing else.

Pods of kwok have no network, so that the scheduler here is one of this machine; the way through the API server to one
in a Pod is what tests/e2e/test_connect.py goes.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import dask
import pytest
from distributed import LocalCluster
from tests.cluster import ControlPlane
from tests.cluster.images import ROOT
from tests.e2e.support import Kubectl, eventually
from tests.support.constructs import IMAGE
from tests.support.notebook import Notebook, Rules, template

from dask_constructs import rbac
from dask_gitops import (
    Cluster,
    Governed,
    MissingRight,
    NoSuchCluster,
    NotReady,
    Refused,
    Unreachable,
    clusters,
    connect,
    connection,
    waking,
)
from dask_gitops.access import Access
from dask_gitops.sidebar import Sidebar

pytestmark = pytest.mark.control_plane


@pytest.fixture
def notebook(control_plane: ControlPlane, kubectl: Kubectl) -> Notebook:
    return Notebook(control_plane, kubectl)


@pytest.fixture
def laptop(notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(notebook.kubeconfig(tmp_path)))  # where kr8s looks


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every way leads to a scheduler of this machine."""
    tcp = {"protocol": "tcp", "host": "127.0.0.1"}
    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0", **tcp) as local:
        port = local.scheduler.port

        async def reached(*_: Any) -> tuple[str, int]:
            return "127.0.0.1", port

        monkeypatch.setattr(connection, "_reached", reached)
        yield


def replicas(kubectl: Kubectl, group: str) -> int:
    return kubectl.json("get", "daskworkergroup", group)["spec"]["worker"]["replicas"]


@pytest.mark.usefixtures("laptop", "controller", "scheduler")
def test_a_sleeping_cluster_wakes_is_scaled_used_and_left_as_was_said(kubectl, kube, capsys):
    kubectl.apply(kube.cluster_manifest("analytics", workers=1, suspend=True, idleTimeout=600, idleAction="Suspend"))
    eventually(lambda: kubectl.condition("daskcluster", "analytics", "Suspended").get("status") == "True")

    client = connect("analytics", workers=3, minimum=3)
    waited = capsys.readouterr().err.splitlines()
    assert "analytics: waking" in waited
    assert "3 of 3 workers are ready" in waited[-1]
    assert client.submit(lambda x: x + 1, 41).result(timeout=60) == 42
    assert kubectl.json("get", "daskcluster", "analytics")["spec"]["suspend"] is False
    assert replicas(kubectl, "analytics-default") == 3

    cluster = client.cluster
    cluster.scale(2)
    assert replicas(kubectl, "analytics-default") == 2
    assert "analytics" in repr(cluster)
    assert kubectl.namespace in cluster._repr_html_()
    eventually(lambda: "Ready is True" in str(cluster.get_logs(scheduler=False, workers=False)["Cluster"]))
    client.close()
    assert f"detached from analytics in {kubectl.namespace}" in (said := capsys.readouterr().out)
    assert "suspended after 600 s without work" in said
    assert not kubectl.json("get", "daskcluster", "analytics")["spec"]["suspend"]

    connect("analytics", workers=1, on_close="suspend").close()
    assert "suspended analytics" in capsys.readouterr().out
    assert kubectl.json("get", "daskcluster", "analytics")["spec"]["suspend"]
    assert replicas(kubectl, "analytics-default") == 2, "workers= asks for at least so many"


@pytest.mark.usefixtures("laptop", "controller", "scheduler")
async def test_all_of_it_asynchronously(kubectl, kube, notebook, capsys):
    kubectl.apply(kube.cluster_manifest("analytics", workers=1))
    client = await connect("analytics", asynchronous=True)
    assert await client.submit(sum, [1, 2]) == 3
    await client.cluster.scale(2)
    assert replicas(kubectl, "analytics-default") == 2
    adaptive = await client.cluster.adapt(minimum=1, maximum=4)
    assert (adaptive.minimum, adaptive.maximum) == (1, 4)
    assert kubectl.json("get", "daskautoscaler", "analytics")["spec"]["maximum"] == 4
    await client.close()
    assert "detached from analytics" in capsys.readouterr().out
    notebook.give([*rbac.NOTEBOOK, *rbac.EDIT])
    async with Cluster("analytics", asynchronous=True, on_close="delete"):
        pass
    eventually(lambda: kubectl("get", "daskclusters,daskautoscalers", "-o", "name") == "")
    assert [each.name for each in await clusters(asynchronous=True)] == []


def made(kubectl: Kubectl) -> list[dict[str, Any]]:
    return list(kubectl.json("get", "daskclusters", "-l", "dask.org/made-from=small")["items"])


@pytest.mark.usefixtures("laptop", "controller", "scheduler")
def test_a_cluster_from_a_template_stays_within_its_bounds(control_plane, kubectl, notebook, capsys):
    with template(control_plane, notebook, kubectl, "small", image=IMAGE, maximum_workers=2, no_client_timeout=600):
        connects_from_a_template(kubectl, notebook, capsys)


def connects_from_a_template(kubectl, notebook, capsys):
    with pytest.raises(Refused, match="at most 2 workers by template small, not 3"):
        connect(template="small", workers=3)
    client = connect(template="small", workers=2, minimum=2)
    assert "left behind it ends 600 s after its last client has left" in capsys.readouterr().out
    (cluster,) = made(kubectl)
    assert cluster["metadata"]["annotations"]["dask.org/owner"] == notebook.user
    assert client.submit(sum, [1, 2]).result(timeout=60) == 3
    name = cluster["metadata"]["name"]
    assert replicas(kubectl, f"{name}-default") == 2
    with pytest.raises(Refused, match="at most 2 workers by template small, not 3"):
        client.cluster.scale(3)
    with pytest.raises(Refused, match="at most 2 workers by template small, not 9"):
        client.cluster.adapt(minimum=0, maximum=9)
    client.close()
    eventually(lambda: made(kubectl) == [])

    connect(template="small", keep=True).close()
    (kept,) = made(kubectl)
    connect(kept["metadata"]["name"], on_close="delete").close()
    eventually(lambda: made(kubectl) == [])
    with pytest.raises(NoSuchCluster, match="did you mean small"):
        connect(template="smal")
    with pytest.raises(ValueError, match="either the name"):
        connect("small", template="small")


@pytest.mark.usefixtures("laptop", "controller", "scheduler")
def test_who_decides_the_number_of_workers_is_told_and_not_fought(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("mine", workers=1))
    stated = kube.cluster_manifest("stated", workers=1, autoscaler={"minimum": 1, "maximum": 3})
    stated["spec"]["worker"].pop("replicas")
    kubectl.apply(stated)
    with Cluster("mine") as cluster:
        cluster.adapt(minimum=0, maximum=2)
        with pytest.raises(
            Governed, match="DaskAutoscaler mine sets the number of workers of mine-default, from 0 to 2"
        ):
            cluster.scale(5)
        cluster.adapt(minimum=1, maximum=5)
        assert kubectl.json("get", "daskautoscaler", "mine")["spec"]["maximum"] == 5
        owners = kubectl.json("get", "daskautoscaler", "mine")["metadata"]["ownerReferences"]
        assert [(owner["kind"], owner["name"]) for owner in owners] == [("DaskCluster", "mine")]
        with pytest.raises(ValueError, match="not bounds"):
            cluster.adapt(minimum=3, maximum=2)
        with pytest.raises(ValueError, match="between 0 and"):
            cluster.scale(-1)
    with Cluster("stated", workers=7) as cluster:  # says so, and connects
        with pytest.raises(Governed, match="change them in Git"):
            cluster.adapt(minimum=0, maximum=9)
        assert "stated sets the number of workers" in str(cluster.get_logs(scheduler=False, workers=False)["Cluster"])


@pytest.mark.usefixtures("laptop", "controller")
def test_a_quota_is_told_with_what_to_do(kubectl, kube, monkeypatch):
    monkeypatch.setattr(waking, "PATIENCE", 2.0)
    kubectl("create", "quota", "none", "--hard=pods=0")
    eventually(lambda: kubectl.status("resourcequota", "none").get("hard"))  # before, another reason is told
    kubectl.apply(kube.cluster_manifest("analytics", workers=1))
    with pytest.raises(NotReady, match=r"exceeded quota: none.*have the quota raised") as raised:
        connect("analytics")
    assert raised.value.reason == "QuotaExceeded"


@pytest.mark.usefixtures("laptop")
def test_an_operator_that_is_not_there_is_told(kubectl, kube, monkeypatch, capsys):
    monkeypatch.setattr(waking, "_UNSEEN", 2.0)
    kubectl.apply(kube.cluster_manifest("analytics", workers=1))
    with pytest.raises(NotReady, match="does the operator run"):
        connect("analytics")
    assert "analytics: the operator has yet to see the change" in capsys.readouterr().err.splitlines()


@pytest.mark.usefixtures("laptop")
def test_names_that_are_near_are_told(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("analytics", workers=1))
    with pytest.raises(NoSuchCluster, match=r'no DaskCluster "analitics" in namespace .*; did you mean analytics\?'):
        connect("analitics")
    assert [(each.namespace, each.name, each.state) for each in clusters()] == [
        (kubectl.namespace, "analytics", "coming")
    ]
    assert "<td>analytics</td>" in clusters()._repr_html_()


def without(kinds: str, verb: str) -> Rules:
    """``dask-notebook`` without a verb on a kind."""
    rules: Rules = []
    for each in rbac.NOTEBOOK:
        named = each.kinds if isinstance(each, rbac.Permission) else each.resources
        if kinds not in named.split():
            rules.append(each)
            continue
        field = "kinds" if isinstance(each, rbac.Permission) else "resources"
        others = " ".join(name for name in named.split() if name != kinds)
        rules += [each._replace(**{field: others})] if others else []
        verbs = " ".join(v for v in each.verbs.split() if v != verb)
        rules += [each._replace(**{field: kinds, "verbs": verbs})] if verbs else []
    return rules


LACKING = [
    ("DaskCluster", "get", "daskclusters.kubernetes.dask.org"),
    ("DaskCluster", "patch", "daskclusters.kubernetes.dask.org"),
    ("DaskWorkerGroup/scale", "get", "daskworkergroups.kubernetes.dask.org/scale"),
    ("DaskWorkerGroup/scale", "patch", "daskworkergroups.kubernetes.dask.org/scale"),
    ("DaskAutoscaler", "list", "daskautoscalers.kubernetes.dask.org"),
    ("Service", "get", "services"),
    ("Pod", "list", "pods"),
    ("pods/portforward", "create", "pods/portforward"),
    ("pods/portforward", "get", "pods/portforward"),
]


@pytest.mark.usefixtures("laptop", "controller")
def test_each_right_that_is_missing_is_named(kubectl, kube, notebook):
    for kinds, verb, resource in LACKING:
        kubectl.apply(kube.cluster_manifest("analytics", workers=1, suspend=True))
        notebook.give(without(kinds, verb))
        with pytest.raises(MissingRight) as raised:
            connect("analytics", workers=5)
        error = raised.value
        assert (error.verb, error.resource, error.namespace) == (verb, resource, kubectl.namespace), str(error)
        assert "dask-notebook" in str(error)
        kubectl("delete", "daskcluster", "analytics")
        eventually(lambda: kubectl("get", "daskworkergroups", "-o", "name") == "")


@pytest.mark.usefixtures("laptop", "controller", "scheduler")
def test_what_dask_notebook_lacks_is_refused(kubectl, kube, notebook):
    kubectl.apply(kube.cluster_manifest("analytics", workers=1))
    cluster = Cluster("analytics")
    with pytest.raises(MissingRight, match=r"may not delete daskclusters\.kubernetes\.dask\.org"):
        cluster.close(on_close="delete")
    assert cluster.status.name == "closed"
    assert kubectl.json("get", "daskcluster", "analytics")["metadata"].get("deletionTimestamp") is None
    user = f"--as={notebook.user}"
    for verb, resource in (("create", "daskclusters"), ("create", "pods"), ("get", "secrets"), ("delete", "pods")):
        with pytest.raises(subprocess.CalledProcessError):
            kubectl("auth", "can-i", verb, resource, user)
    assert kubectl("auth", "can-i", "patch", "daskclusters", user).strip() == "yes"


def test_no_kubernetes_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Unreachable):
        clusters()


def test_an_unknown_context_is_told(laptop):
    with pytest.raises(Unreachable, match="no way to Kubernetes"):
        clusters(context="nowhere")


# --- the pages --------------------------------------------------------------------------------------------------------


def blocks(page: str, mark: str) -> list[str]:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    return re.findall(rf"<!-- {mark} -->\n```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.usefixtures("laptop", "controller", "scheduler")
def test_what_the_pages_show_runs(kubectl, kube, capsys, monkeypatch):
    kubectl.apply(kube.cluster_manifest("analytics", workers=1))
    for page in ("notebooks", "pipelines"):
        (code,) = blocks(page, "run")
        exec(code, {"__name__": page})
    assert capsys.readouterr().out.splitlines().count("6") == 2
    assert kubectl.json("get", "daskcluster", "analytics")["spec"]["suspend"]

    (airflow,) = blocks("pipelines", "airflow")
    returned: list[int] = []
    sdk = ModuleType("airflow.sdk")  # Airflow is large: its decorators, as far as the page uses them
    vars(sdk).update(dag=lambda **_: lambda made: made, task=lambda made: lambda: returned.append(made()))
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    exec(airflow, {"__name__": "report"})
    assert returned == [6]


@pytest.mark.usefixtures("laptop", "controller", "scheduler")
def test_a_flow_of_prefect_runs(kubectl, kube, capsys):
    pytest.importorskip("prefect_dask", reason="no prefect-dask: `pip install prefect-dask` runs what the page shows")
    kubectl.apply(kube.cluster_manifest("analytics", workers=1))
    (code,) = blocks("pipelines", "prefect")
    exec(code, {"__name__": "flow"})
    assert "[1, 4, 9]" in capsys.readouterr().out


@pytest.mark.usefixtures("laptop", "controller", "scheduler")
def test_an_asset_of_dagster_is_made(kubectl, kube):
    dagster = pytest.importorskip("dagster", reason="no Dagster: `pip install dagster` runs what the page shows")
    kubectl.apply(kube.cluster_manifest("analytics", workers=1))
    (code,) = blocks("pipelines", "dagster")
    made: dict[str, Any] = {"__name__": "assets"}
    exec(code, made)
    result = dagster.materialize([made["six"]], resources={"dask": made["Dask"](cluster="analytics")})
    assert result.output_for_node("six") == 6


# --- the side bar of JupyterLab ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("laptop", "controller", "scheduler")
async def test_the_side_bar_lists_wakes_adapts_suspends_and_connects(kubectl, kube):
    reason = "no dask-labextension: `pip install dask-labextension` runs its manager"
    labextension = pytest.importorskip("dask_labextension.manager", reason=reason)
    kubectl.apply(kube.cluster_manifest("analytics", workers=1, suspend=True))
    manager = await labextension.DaskClusterManager()
    sidebar = Sidebar(manager, await Access.open())

    async def listed(name: str, workers: int) -> dict[str, Any]:
        model: dict[str, Any] = {}
        for _ in range(120):
            await sidebar.refresh()
            (model,) = manager.list_clusters()
            if (model["name"], model["workers"]) == (name, workers):
                return model
            await asyncio.sleep(0.5)
        raise AssertionError(model)

    model = await listed("analytics (suspended)", 0)
    assert (model["dashboard_link"], model["scheduler_address"]) == ("", "")
    await manager.scale_cluster(model["id"], 2)
    model = await listed("analytics", 2)
    assert model["dashboard_link"].startswith("http://127.0.0.1:")
    assert model["memory"] == "200.00 MiB"
    manager.adapt_cluster(model["id"], 1, 3)
    while "adapt" not in model:
        await asyncio.sleep(0.5)
        model = await listed("analytics", 2)
    assert model["adapt"] == {"minimum": 1, "maximum": 3}
    await manager.close_cluster(model["id"])
    await listed("analytics (suspended)", 0)

    factory = {"module": "dask_gitops", "class": "Cluster", "args": ["analytics"], "kwargs": {"quiet": True}}
    with dask.config.set({"labextension.factory": factory}):
        started = await manager.start_cluster()
    assert started["scheduler_address"].startswith("tcp://127.0.0.1:")
    await manager.close_cluster(started["id"])
    await sidebar.close()


async def test_no_copy_of_a_key_stays_behind(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kr8s makes files of what a kubeconfig holds itself, each time that it signs in."""
    inline, copies = tmp_path / "kubeconfig", tmp_path / "tmp"
    inline.write_text(control_plane.kubectl("config", "view", "--raw", "--flatten"))
    assert "client-key-data" in inline.read_text()
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    for _ in range(2):  # the second time kr8s gives what it has
        access = await Access.open(namespace, kubeconfig=str(inline))
        assert list(copies.iterdir()) == []
        await access.api.reauthenticate()
        await access.api._create_session()
        assert await access.may("list", "Pod")
        assert list(copies.iterdir()) == []


@pytest.mark.usefixtures("laptop")
async def test_what_is_open_stays_open_when_something_is_refused_or_a_token_has_expired(
    kubectl: Kubectl, notebook: Notebook
) -> None:
    """As a port-forward, which needs a Pod on a real node, this is a WebSocket of the session: a watch."""
    notebook.give([*rbac.NOTEBOOK, rbac.Permission("Pod", "watch", "a WebSocket")])
    may = ("auth", "can-i", "watch", "pods", f"--as={notebook.user}")
    eventually(lambda: kubectl(*may).strip() == "yes")
    access = await Access.open()
    watch = {"version": "v1", "url": "pods", "namespace": access.namespace, "params": {"watch": "true"}}
    async with access.api.open_websocket(**watch, headers={"Origin": access.server}) as events:
        with pytest.raises(MissingRight):  # what the side bar tries first, every few seconds
            await access.all("DaskCluster", everywhere=True)
        access.api._session.headers["Authorization"] = "Bearer expired"
        assert await access.all("Pod") == []
        container = {"name": "main", "image": "none"}
        kubectl.apply(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "seen"}, "spec": {"containers": [container]}}
        )
        assert json.loads(await events.receive_text(timeout=60))["object"]["metadata"]["name"] == "seen"
