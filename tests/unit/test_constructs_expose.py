"""What of a scheduler is published by ``expose``, told path by path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import distributed
import pytest
from tests.support.constructs import IMAGE, chart, errors, synth

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
    assert tcp["kind"] == "TCPRoute"
    assert tcp["spec"] == {
        "parentRefs": [{"name": "private"}],
        "rules": [{"backendRefs": [{"name": "analytics-scheduler", "port": 8786}]}],
    }


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
