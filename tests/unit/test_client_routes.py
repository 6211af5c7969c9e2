"""Which way leads to a scheduler, and which link opens its dashboard."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from dask_crds.model import DaskCluster, parse
from dask_crds.names import API_VERSION
from dask_gitops import access, credentials, forward
from dask_gitops.errors import NotReady
from dask_gitops.forward import is_ready, pod_port
from dask_gitops.routes import (
    DEFAULT_LINK,
    Route,
    dashboard_link,
    exposed_link,
    is_inside,
    routes,
    service_host,
    tls_secret,
)
from dask_resources.scheduler import scheduler_deployment, scheduler_service
from dask_resources.security import certificates_of

POD = {"containers": [{"name": "x", "image": "i"}]}


def example(**spec: Any) -> DaskCluster:
    metadata = {"name": "a", "namespace": "n", "uid": "1-2"}
    stated = {"scheduler": {"spec": POD}, "worker": {"spec": POD}, **spec}
    made = parse({"apiVersion": API_VERSION, "kind": "DaskCluster", "metadata": metadata, "spec": stated})
    assert isinstance(made, DaskCluster)
    return made


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("credentials", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_there_is_always_a_way_and_none_that_needs_what_we_lack(inside, credentials, tls):
    ways = routes(inside=inside, tls=tls, credentials=credentials)
    assert ways
    assert ways[-1].via == "forward"
    assert all(credentials for way in ways if way.tls)
    assert [way.via for way in ways if way.via == "direct"] == ["direct"] * (inside and (credentials or not tls))
    if tls and not credentials:
        assert ways == [Route("forward", False, ("tcp-comm",))]


def test_the_user_may_want_one_way_alone():
    assert [way.via for way in routes(inside=True, tls=False, credentials=False, via="forward")] == ["forward"]
    assert [way.via for way in routes(inside=False, tls=False, credentials=False, via="direct")] == ["direct"]


def test_another_kubernetes_is_not_inside():
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert is_inside("https://10.96.0.1", pod)
    assert is_inside("https://10.96.0.1:443", pod)
    assert is_inside("https://kubernetes.default.svc", pod)
    assert not is_inside("https://203.0.113.7:6443", pod)
    assert not is_inside("https://10.96.0.1:6443", pod)
    assert not is_inside("https://10.96.0.1", {})


def test_credentials_are_where_the_operator_puts_them():
    def manifest(tls: dict[str, str] | None) -> dict[str, Any]:
        metadata = {"name": "a", "namespace": "n", "uid": "1-2"}
        return {"metadata": metadata, "spec": {"security": {"tls": tls}} if tls else {}}

    assert tls_secret(manifest(None)) == ""
    assert tls_secret(manifest({"mode": "Secret", "secretName": "mine"})) == "mine"
    generated = example(security={"tls": {"mode": "Generated"}})
    assert tls_secret(manifest({"mode": "Generated"})) == certificates_of(generated)


def test_a_secret_that_lacks_something_is_told():
    data = {entry: base64.b64encode(b"-----BEGIN").decode() for entry in ("ca.crt", "tls.crt", "tls.key")}
    made = credentials.security("s", data)
    assert made.require_encryption
    assert made.tls_client_key == "-----BEGIN"
    for broken in ({**data, "tls.key": "%"}, {k: v for k, v in data.items() if k != "tls.key"}):
        with pytest.raises(NotReady, match=r"Secret s has no tls\.key"):
            credentials.security("s", broken)


def test_addresses_are_those_of_status():
    metadata = {"name": "a", "namespace": "n"}
    assert service_host({"metadata": metadata}) == ("a-scheduler.n.svc", 8786)
    told = {"schedulerAddress": "tls://a-scheduler.n.svc.corp.example:8786"}
    assert service_host({"metadata": metadata, "status": told}) == ("a-scheduler.n.svc.corp.example", 8786)


@pytest.mark.parametrize("tls", [None, {"mode": "Generated"}])
def test_ports_of_the_service_that_the_operator_makes_lead_to_the_pod(tls):
    made = example(**({"security": {"tls": tls}} if tls else {}))
    service, pod = scheduler_service(made), scheduler_deployment(made)["spec"]["template"]
    for way in routes(inside=False, tls=bool(tls), credentials=True):
        assert pod_port(service, pod, way.ports) == 8786
    if tls:
        (way,) = routes(inside=False, tls=True, credentials=False)
        assert pod_port(service, pod, way.ports) == 8789
    assert pod_port(service, pod, ("http-dashboard",)) == 8787
    assert pod_port(service, pod, ("nothing",)) is None


def test_a_pod_on_its_way_out_takes_nothing():
    ready = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert is_ready(ready)
    assert not is_ready({**ready, "metadata": {"deletionTimestamp": "x"}})
    assert not is_ready({"metadata": {}})


# --- the dashboard ----------------------------------------------------------------------------------------------------


def test_a_laptop_opens_the_port_of_its_own():
    assert dashboard_link("127.0.0.1", 40000, {}, DEFAULT_LINK) == "http://127.0.0.1:40000/status"


@pytest.mark.parametrize("variable", ["JUPYTERHUB_SERVICE_PREFIX", "NB_PREFIX"])
def test_a_notebook_goes_by_its_proxy(variable):
    environment = {variable: "/user/ada/"}
    assert dashboard_link("127.0.0.1", 40000, environment, DEFAULT_LINK) == "/user/ada/proxy/40000/status"
    assert dashboard_link("a.n.svc", 8787, environment, DEFAULT_LINK) == "/user/ada/proxy/a.n.svc:8787/status"


def test_what_the_user_says_of_links_counts():
    template = "{BASE}/{host}/{port}"
    environment = {"BASE": "https://x", "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}
    assert dashboard_link("h", 1, environment, template) == "https://x/h/1"
    assert dashboard_link("h", 1, {}, template) == "http://h:1/status"


def test_what_git_publishes_is_found():
    rule = {"host": "dask.example.org"}
    assert exposed_link([{"spec": {"rules": [rule]}}]) == "http://dask.example.org/status"
    secure = {"rules": [rule], "tls": [{"hosts": ["dask.example.org"]}]}
    assert exposed_link([{}, {"spec": secure}]) == "https://dask.example.org/status"
    assert exposed_link([{"spec": {"hostnames": ["d.example.org"]}}]) == "https://d.example.org/status"
    assert exposed_link([{"spec": {"rules": [{}]}}]) == ""


# --- the port-forward -------------------------------------------------------------------------------------------------


class Api:
    """Pods that come and go, as an API server tells of them."""

    api = object()

    def __init__(self, *looks: list[dict[str, Any]]) -> None:
        self.looks = list(looks)

    async def all(self, kind: str, *, labels: dict[str, str]) -> list[dict[str, Any]]:
        assert (kind, labels) == ("Pod", {"a": "b"})
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


READY = {"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


async def test_a_scheduler_that_restarts_is_waited_for(monkeypatch):
    monkeypatch.setattr(forward, "_PAUSE", 0.01)
    found = await forward._Pods(Api([], [], [READY]), {"a": "b"}).async_ready_pods()  # type: ignore[arg-type]
    assert [pod.name for pod in found] == ["p"]


async def test_kr8s_is_not_let_try_for_ever(monkeypatch):
    monkeypatch.setattr(forward, "_PAUSE", 0.0)
    pods = forward._Pods(Api([READY]), {"a": "b"})  # type: ignore[arg-type]
    for _ in range(forward._MOST_LOOKS):
        assert len(await pods.async_ready_pods()) == 1
    with pytest.raises(ConnectionError):
        await pods.async_ready_pods()


def test_a_pod_means_its_own_namespace_and_a_kubeconfig_says_another(tmp_path, monkeypatch):
    """kr8s takes ``default`` for a ServiceAccount."""
    file = tmp_path / "namespace"
    monkeypatch.setattr(access, "_POD_NAMESPACE", file)
    pod, laptop = (SimpleNamespace(auth=SimpleNamespace(active_context=context)) for context in ("", "production"))
    assert access._own_namespace(pod) == ""
    file.write_text("lab\n")
    assert access._own_namespace(pod) == "lab"
    assert access._own_namespace(laptop) == ""
