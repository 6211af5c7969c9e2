"""What of a scheduler is published by ``expose``, told path by path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import distributed
import pytest
from tests.support.constructs import IMAGE, JsonPatch, chart, errors, synth

from dask_constructs import DaskCluster, DaskExposure, DaskJob


def exposed(**options: Any) -> list[dict[str, Any]]:
    c = chart(namespace="team")
    DaskCluster(c, "c", name="analytics", image=IMAGE).expose(**{"host": "dask.example.org", **options})
    return [manifest for manifest in synth(c) if manifest["kind"] != "DaskCluster"]


def mistakes(**options: Any) -> str:
    c = chart(namespace="team")
    DaskExposure(c, "dashboard", **{"cluster": "analytics", "host": "dask.example.org", **options})
    return "\n".join(errors(c))


def rules(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """How paths are matched, and with what."""
    if manifest["kind"] == "Ingress":
        (rule,) = manifest["spec"]["rules"]
        return [(path["pathType"], path["path"]) for path in rule["http"]["paths"]]
    found = [match["path"] for rule in manifest["spec"]["rules"] for match in rule["matches"]]
    return [(path["type"].removeprefix("Path"), path["value"]) for path in found]


def published(manifest: dict[str, Any], path: str) -> bool:
    """Whether a controller sends a path on, by whole elements of it, as both APIs say."""
    return any(
        path == value if kind == "Exact" else path == value or path.startswith(f"{value}/")
        for kind, value in rules(manifest)
    )


def applications() -> list[str]:
    """Paths of the plots of the installed Dask, whose module wants bokeh to be imported."""
    source = Path(distributed.__file__).with_name("dashboard") / "scheduler.py"
    return re.findall(r'^    "(/[a-z-]+)": ', source.read_text(encoding="utf-8"), re.MULTILINE)


INGRESS: dict[str, Any] = {}
ROUTE = {"gateway": "public"}


@pytest.mark.parametrize("options", [INGRESS, ROUTE], ids=["Ingress", "HTTPRoute"])
def test_all_pages_of_the_dashboard_are_published_with_their_web_sockets(options: dict[str, Any]) -> None:
    (manifest,) = exposed(**options)
    assert "/individual-cpu" in applications()
    pages = [
        "/",
        *applications(),
        "/status/ws",
        "/individual-cpu/ws",
        "/static/js/bokeh.min.js",
        "/statics/css/base.css",
    ]
    pages += ["/info/main/workers.html", "/json/counts.json", "/eventstream", "/individual-plots.json", "/sitemap.json"]
    assert [page for page in pages if not published(manifest, page)] == []


@pytest.mark.parametrize("options", [INGRESS, ROUTE, {"jupyter": True}], ids=["Ingress", "HTTPRoute", "Jupyter"])
@pytest.mark.parametrize(
    "path",
    [
        "/dask-gitops/v1/retire",
        "/DASK-GITOPS/v1/retire",
        "/dask%2Dgitops/v1/retire",
        "/dask-gitops%2Fv1%2Fretire",
        "//dask-gitops/v1/retire",
        "/api/v1/retire_workers",
        "/proxy/8787/127.0.0.1/dask-gitops/v1/retire",
        "/metrics",
        "/statusx",
    ],
)
def test_routes_that_act_and_the_proxy_to_them_are_not_published(options: dict[str, Any], path: str) -> None:
    (manifest,) = exposed(**options)
    assert not published(manifest, path)


@pytest.mark.parametrize("options", [INGRESS, ROUTE], ids=["Ingress", "HTTPRoute"])
def test_what_is_published_is_said_path_by_path(options: dict[str, Any]) -> None:
    """Nothing is matched by a pattern, whose dialect is the controller's, and only the root itself by ``/``."""
    (manifest,) = exposed(**options)
    assert {kind for kind, _ in rules(manifest)} == {"Exact", "Prefix"}
    assert [path for kind, path in rules(manifest) if not re.fullmatch("/[a-z.-]+", path)] == ["/"]
    assert ("Exact", "/") in rules(manifest)


def test_jupyterlab_is_published_only_if_asked_for() -> None:
    assert [published(exposed(jupyter=asked)[0], "/jupyter/lab") for asked in (None, False, True)] == [
        False,
        False,
        True,
    ]


def test_an_ingress_leads_to_the_dashboard_of_the_cluster() -> None:
    (ingress,) = exposed(ingress_class="nginx", tls_secret="tls", annotations={"a/b": "c"})
    assert ingress["metadata"] == {
        "name": "analytics-dashboard",
        "namespace": "team",
        "labels": {"dask.org/cluster-name": "analytics"},
        "annotations": {"a/b": "c"},
    }
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["dask.example.org"], "secretName": "tls"}]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "dask.example.org"
    service = {"service": {"name": "analytics-scheduler", "port": {"number": 8787}}}
    assert all(path["backend"] == service for path in rule["http"]["paths"])


def test_a_route_belongs_to_its_gateway_and_has_no_more_matches_than_gateway_api_takes() -> None:
    gateway = {"name": "public", "namespace": "gateways", "sectionName": "https"}
    (route,) = exposed(gateway=gateway, jupyter=True)
    assert route["spec"]["parentRefs"] == [gateway]
    assert route["spec"]["hostnames"] == ["dask.example.org"]
    assert all(len(rule["matches"]) <= 64 for rule in route["spec"]["rules"])
    assert all(
        rule["backendRefs"] == [{"name": "analytics-scheduler", "port": 8787}] for rule in route["spec"]["rules"]
    )


def test_the_comm_port_is_published_only_if_asked_for() -> None:
    assert [manifest["kind"] for manifest in exposed(gateway="public")] == ["HTTPRoute"]
    _, tcp = exposed(gateway="public", comm_gateway="private")
    assert (tcp["apiVersion"], tcp["kind"]) == ("gateway.networking.k8s.io/v1", "TCPRoute")
    assert tcp["spec"] == {
        "parentRefs": [{"name": "private"}],
        "rules": [{"backendRefs": [{"name": "analytics-scheduler", "port": 8786}]}],
    }


def test_clusters_share_a_listener_by_their_hosts() -> None:
    _, tls = exposed(gateway="public", comm_gateway="private", comm_host="a.dask.example.org")
    assert (tls["apiVersion"], tls["kind"]) == ("gateway.networking.k8s.io/v1", "TLSRoute")
    assert tls["spec"] == {
        "parentRefs": [{"name": "private"}],
        "hostnames": ["a.dask.example.org"],
        "rules": [{"backendRefs": [{"name": "analytics-scheduler", "port": 8786}]}],
    }
    assert "comm_host: says nothing without comm_gateway" in mistakes(comm_host="a.dask.example.org")
    assert "comm_host: must be a host" in mistakes(comm_gateway="private", comm_host="tls://a.dask.example.org:443")


# --- ports of the Service ---------------------------------------------------------------------------------------------

COMM = {"name": "tcp-comm", "port": 443, "targetPort": "tcp-comm"}
DASHBOARD = {"name": "http-dashboard", "port": 80, "targetPort": "http-dashboard"}


def ports_of(manifests: list[dict[str, Any]]) -> list[int]:
    """All ports that are published."""
    return sorted(set(map(int, re.findall(r"'(?:port|number)': (\d+)", str(manifests)))))


@pytest.mark.parametrize("kind", ["DaskCluster", "DaskJob"])
@pytest.mark.parametrize("gateway", [None, "public"])
def test_ports_that_are_numbered_otherwise_are_found_by_name(kind: str, gateway: str | None) -> None:
    c = chart(namespace="team")
    service: Any = {"ports": [DASHBOARD, COMM]}
    if kind == "DaskJob":
        made: Any = DaskJob(c, "c", name="analytics", image=IMAGE, command=["true"], service=service)
    else:
        made = DaskCluster(c, "c", name="analytics", image=IMAGE, service=service)
        assert made.dashboard_url == "http://analytics-scheduler.team:80/status"
        assert made.scheduler_address == "tcp://analytics-scheduler.team:443"
    made.expose(host="dask.example.org", gateway=gateway, comm_gateway="private")
    DaskExposure(c, "e", cluster=made, host="dask.example.org", name="other")
    assert ports_of(synth(c)[1:]) == [80, 443]


def test_ports_that_a_patch_has_changed_are_found() -> None:
    c = chart(namespace="team")
    cluster = DaskCluster(c, "c", name="analytics", image=IMAGE)
    cluster.api_object.add_json_patch(JsonPatch.add("/spec/scheduler/service", {"ports": [DASHBOARD, COMM]}))
    cluster.expose(host="dask.example.org", gateway="public")
    assert ports_of(synth(c)[1:]) == [80]


def test_ports_that_are_changed_after_they_were_published_are_told() -> None:
    c = chart(namespace="team")
    cluster = DaskCluster(c, "c", name="analytics", image=IMAGE)
    cluster.expose(host="dask.example.org")
    cluster.api_object.add_json_patch(JsonPatch.add("/spec/scheduler/service", {"ports": [DASHBOARD]}))
    told = "cluster: 'http-dashboard' of its Service was changed later: publish it after that"
    assert errors(c) == [f"[test/c/dashboard] {told}"]


CONTROL = "'http-dashboard' of its Service leads to the port for the operator's orders"
PORTS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], list[str]]] = {
    "absent": ([COMM], {}, ["its Service has no port 'http-dashboard' (only 'tcp-comm'): call that so"]),
    "both absent": (
        [{"name": "dashboard", "port": 8787}],
        {"comm_gateway": "private"},
        [
            "its Service has no port 'http-dashboard' (only 'dashboard'): call that so",
            "its Service has no port 'tcp-comm' (only 'dashboard'): call that so",
        ],
    ),
    "absent and not published": ([DASHBOARD], {}, []),
    "orders by name": ([{**DASHBOARD, "targetPort": "dask-gitops"}], {}, [CONTROL]),
    "orders by number": ([{**DASHBOARD, "targetPort": 8788}], {}, [CONTROL]),
    "orders by default": ([{"name": "http-dashboard", "port": 8788}], {}, [CONTROL]),
}


@pytest.mark.parametrize(("ports", "options", "told"), PORTS.values(), ids=PORTS)
def test_ports_that_cannot_be_published_are_told(
    ports: list[dict[str, Any]], options: dict[str, Any], told: list[str]
) -> None:
    c = chart(namespace="team")
    cluster = DaskCluster(c, "c", name="analytics", image=IMAGE, service={"ports": ports})  # type: ignore[typeddict-item]
    cluster.expose(host="dask.example.org", **options)
    found = errors(c) if told else synth(c) and []
    assert found == [f"[test/c/dashboard] cluster: {line}" for line in told]


def test_the_port_for_orders_is_where_the_operator_opens_it() -> None:
    """At the next free number, if a container of the user's has a port of that number."""
    c = chart(namespace="team")
    taken: Any = {"containers": [{"name": "proxy", "image": "x", "ports": [{"containerPort": 8788}]}]}
    ports: Any = [{**DASHBOARD, "targetPort": 8789}]
    cluster = DaskCluster(c, "c", name="analytics", image=IMAGE, service={"ports": ports}, scheduler_pod=taken)
    cluster.expose(host="dask.example.org")
    assert errors(c) == [f"[test/c/dashboard] cluster: {CONTROL}"]


def test_a_cluster_is_published_twice_under_two_names() -> None:
    c = chart(namespace="team")
    cluster = DaskCluster(c, "c", name="analytics", image=IMAGE)
    inside = cluster.expose("inside", host="dask.internal")
    outside = cluster.expose("outside", host="dask.example.org", tls_secret="tls")
    assert [one["metadata"]["name"] for one in synth(c)[1:]] == ["analytics-inside", "analytics-outside"]
    assert (inside.url, outside.url) == ("http://dask.internal/status", "https://dask.example.org/status")


def test_a_job_is_published_as_the_cluster_of_its_name() -> None:
    c = chart(namespace="team")
    job = DaskJob(c, "j", name="report", image=IMAGE, command=["true"], run_once=True)
    job.expose(host="dask.example.org")
    (path, *_) = synth(c)[1]["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["name"] == f"{job.name}-scheduler"


def test_addresses_from_within_are_properties_of_a_cluster() -> None:
    cluster = DaskCluster(chart(namespace="team"), "c", name="analytics", image=IMAGE)
    assert cluster.service_name == "analytics-scheduler"
    assert cluster.dashboard_url == "http://analytics-scheduler.team:8787/status"
    assert cluster.scheduler_address == "tcp://analytics-scheduler.team:8786"


@pytest.mark.parametrize(
    "host", ["https://dask.example.org", "dask.example.org:8787", "dask.example.org/x", "Dask", ""]
)
def test_a_host_is_a_host(host: str) -> None:
    assert "host: must be a host such as dask.example.org" in mistakes(host=host)


def test_what_an_ingress_has_is_refused_of_a_route() -> None:
    told = mistakes(gateway="public", tls_secret="tls", ingress_class="nginx")
    assert "tls_secret: is for an Ingress" in told
    assert "ingress_class: is for an Ingress" in told


@pytest.mark.parametrize("gateway", [{"namespace": "gateways"}, {"name": ""}])
def test_a_gateway_has_a_name(gateway: dict[str, str]) -> None:
    assert "gateway: needs the name of the Gateway" in mistakes(gateway=gateway)
