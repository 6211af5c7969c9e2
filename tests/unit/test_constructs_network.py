"""NetworkPolicies of one cluster: whom its Pods are open to, told pair by pair."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.constructs import IMAGE, chart, errors, synth

from dask_constructs import DaskCluster, DaskNetworkPolicy, DaskOperator, DaskTenant
from dask_crds.model import parse
from dask_resources.scheduler import scheduler_deployment

SCHEDULER, WORKER, RUNNER = "scheduler", "worker", "job-runner"


def policies(**options: Any) -> dict[str, dict[str, Any]]:
    c = chart(namespace="team")
    DaskNetworkPolicy(c, "policy", cluster="analytics", **options)
    return {manifest["metadata"]["name"]: manifest["spec"] for manifest in synth(c)}


def pod(component: str, *, cluster: str = "analytics", namespace: str = "team", **labels: str) -> dict[str, Any]:
    own = {"dask.org/cluster-name": cluster, "dask.org/component": component} if component else {}
    return {"namespace": namespace, "labels": {**own, **labels}}


OPERATOR = pod(
    "",
    namespace="dask-operator",
    **{"app.kubernetes.io/name": "dask-operator", "app.kubernetes.io/component": "operator"},
)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = all(labels.get(e["key"], "") in e["values"] for e in selector.get("matchExpressions", ()))
    return expressions and all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


def is_peer(peer: dict[str, Any], other: dict[str, Any]) -> bool:
    if "namespaceSelector" in peer:
        here = selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other["namespace"]})
    else:
        here = other["namespace"] == "team"
    return here and selects(peer.get("podSelector", {}), other["labels"])


def may(source: dict[str, Any], target: dict[str, Any], port: int | str, **options: Any) -> bool:
    """Whether one may open a connection to the other, as far as the policies are about them."""

    def allowed(direction: str, side: str, of: dict[str, Any], other: dict[str, Any]) -> bool:
        mine = [
            spec
            for spec in policies(**options).values()
            if of["namespace"] == "team"
            and direction in spec["policyTypes"]
            and selects(spec["podSelector"], of["labels"])
        ]
        rules = [rule for spec in mine for rule in spec.get(direction.lower(), ())]
        return not mine or any(
            any(is_peer(peer, other) for peer in rule[side])
            and ("ports" not in rule or port in {entry["port"] for entry in rule["ports"]})
            for rule in rules
        )

    return allowed("Egress", "to", source, target) and allowed("Ingress", "from", target, source)


@pytest.mark.parametrize("source", [SCHEDULER, WORKER, RUNNER])
@pytest.mark.parametrize("target", [SCHEDULER, WORKER, RUNNER])
def test_the_pods_of_a_cluster_talk_to_each_other(source: str, target: str) -> None:
    assert may(pod(source), pod(target), 40_000)


@pytest.mark.parametrize("target", [SCHEDULER, WORKER, RUNNER])
@pytest.mark.parametrize("port", [8786, 8787, 8788, 40_000])
def test_nobody_else_reaches_them(target: str, port: int) -> None:
    strangers = [
        pod("", namespace="team"),
        pod("", namespace="elsewhere"),
        pod(WORKER, cluster="another"),
        pod(WORKER, namespace="elsewhere"),
        pod("", namespace="dask-operator"),
        {**OPERATOR, "namespace": "elsewhere"},
    ]
    assert not [stranger for stranger in strangers if may(stranger, pod(target), port)]


def test_the_operator_asks_the_scheduler_and_nobody_else() -> None:
    assert may(OPERATOR, pod(SCHEDULER), 8788)
    assert may(OPERATOR, pod(SCHEDULER), 8787), "one from before it had a port for orders"
    assert not may(OPERATOR, pod(SCHEDULER), 8786)
    assert not may(OPERATOR, pod(WORKER), 8787)
    other = {**OPERATOR, "namespace": "platform"}
    assert may(other, pod(SCHEDULER), 8787, operator_namespace="platform")


@pytest.mark.parametrize("kind", ["cluster", "tenant", "operator"])
def test_the_operator_finds_the_port_for_orders_wherever_a_scheduler_has_it(kind: str) -> None:
    """A sidecar that has port 8788 moves it."""
    c = chart(namespace="team")
    sidecar = {"name": "beside", "image": IMAGE, "ports": [{"containerPort": 8788}]}
    manifest = DaskCluster(c, "c", name="analytics", image=IMAGE, scheduler_pod={"containers": [sidecar]}).api_object
    pod = scheduler_deployment(parse(manifest.to_json()))["spec"]["template"]["spec"]
    declared = [port for container in pod["containers"] for port in container.get("ports", ())]
    (control,) = (port["containerPort"] for port in declared if port.get("name") == "dask-gitops")
    assert control != 8788

    d = chart(namespace="team")
    if kind == "cluster":
        DaskNetworkPolicy(d, "policy", cluster="analytics")
    elif kind == "tenant":
        DaskTenant(d, "tenant", namespace="team")
    else:
        DaskOperator(d, "operator", api_server=["192.0.2.7/32"])
    rules = [
        rule
        for manifest in synth(d)
        if manifest["kind"] == "NetworkPolicy"
        for rule in manifest["spec"].get("ingress", []) + manifest["spec"].get("egress", [])
    ]
    (asked,) = (ports for rule in rules if 8788 in (ports := [port["port"] for port in rule.get("ports", ())]))
    numbers = {port.get("name"): port["containerPort"] for port in declared}
    assert control in {numbers.get(port, port) for port in asked}


def test_clients_compute_and_dashboards_look() -> None:
    notebook, ingress = pod("", namespace="notebooks"), pod("", namespace="ingress")
    who: dict[str, Any] = {"clients": ["notebooks"], "dashboards": ["ingress"]}
    assert may(notebook, pod(SCHEDULER), 8786, **who)
    assert may(notebook, pod(SCHEDULER), 8787, **who)
    assert may(ingress, pod(SCHEDULER), 8787, **who)
    assert not may(ingress, pod(SCHEDULER), 8786, **who)
    assert not [one for one in (notebook, ingress) if may(one, pod(SCHEDULER), 8788, **who)], "orders"
    assert not may(notebook, pod(WORKER), 8788, **who)


@pytest.mark.parametrize("kind", ["cluster", "tenant"])
def test_prometheus_reads_metrics_and_computes_nothing(kind: str) -> None:
    """By the name of the port: a worker's number is that of a scheduler's orders."""
    c = chart(namespace="team")
    if kind == "cluster":
        DaskNetworkPolicy(c, "policy", cluster="analytics", metrics_namespaces=["monitoring"])
    else:
        DaskTenant(c, "tenant", namespace="team", metrics_namespaces=["monitoring"])
    prometheus = pod("", namespace="monitoring")
    letting = [
        (manifest["spec"]["podSelector"], [port["port"] for port in rule["ports"]])
        for manifest in synth(c)
        if manifest["kind"] == "NetworkPolicy"
        for rule in manifest["spec"].get("ingress", [])
        if "ports" in rule and any(is_peer(peer, prometheus) for peer in rule["from"])
    ]
    ((selector, ports),) = letting
    assert ports == ["http-dashboard"]
    for component in (SCHEDULER, WORKER):
        assert selects(selector, pod(component)["labels"])
    assert not selects(selector, pod("job-starter")["labels"])


def test_metrics_are_closed_to_all_others() -> None:
    who: dict[str, Any] = {"metrics_namespaces": ["monitoring"]}
    prometheus, other = pod("", namespace="monitoring"), pod("", namespace="elsewhere")
    for component in (SCHEDULER, WORKER):
        assert may(prometheus, pod(component), "http-dashboard", **who)
        assert not may(other, pod(component), "http-dashboard", **who)
        assert not [port for port in (8786, 8788) if may(prometheus, pod(component), port, **who)]
    assert not may(prometheus, pod(SCHEDULER), "http-dashboard"), "nobody has said so"


def test_they_reach_names_and_what_is_said_and_nothing_else() -> None:
    dns = {"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
    store = pod("", namespace="storage")
    assert may(pod(WORKER), dns, 53)
    assert not may(pod(WORKER), dns, 443)
    assert not may(pod(WORKER), store, 9000)
    rule = {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "storage"}}}],
        "ports": [{"port": 9000, "protocol": "TCP"}],
    }
    for component in (SCHEDULER, WORKER, RUNNER):
        assert may(pod(component), store, 9000, egress=[rule])


def test_a_peer_may_be_a_block_of_addresses() -> None:
    block = {"ipBlock": {"cidr": "192.0.2.0/24"}}
    assert policies(clients=[block])["analytics-scheduler"]["ingress"][1]["from"] == [block]


def test_the_cluster_may_be_handed_in_and_mistakes_are_told() -> None:
    c = chart(namespace="team")
    cluster = DaskCluster(c, "c", name="analytics", image=IMAGE)
    DaskNetworkPolicy(c, "policy", cluster=cluster)
    assert {m["metadata"]["name"] for m in synth(c)} == {"analytics", "analytics-scheduler", "analytics-members"}
    DaskNetworkPolicy(c, "wrong", cluster="x", clients="notebooks")  # type: ignore[arg-type]
    assert errors(c) == ["[test/wrong] clients: must be a list, not 'notebooks'; for one, write ['notebooks']"]
