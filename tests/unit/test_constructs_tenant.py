"""A team's namespace as a construct."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.constructs import Manifest, chart, errors, synth

from dask_constructs import DaskTenant
from dask_crds import names
from dask_synth.render import render

IMAGE = "registry.example.com/dask:1"


def tenant(**options: Any) -> list[Manifest]:
    c = chart(namespace="elsewhere")
    DaskTenant(c, "tenant", namespace="team", **options)
    return synth(c)


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [m for m in manifests if m["kind"] == kind]


def test_everything_is_in_the_tenants_namespace() -> None:
    manifests = tenant(quota={"pods": 10}, groups=["data"])
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {m["metadata"].get("namespace", "team") for m in manifests} == {"team"}
    (quota,) = of_kind(manifests, "ResourceQuota")
    assert quota["spec"] == {"hard": {"pods": 10, "services.loadbalancers": "0", "services.nodeports": "0"}}


def test_quotas_by_count() -> None:
    (quota,) = of_kind(tenant(maximum_clusters=3, maximum_jobs=9, maximum_pods=50, quota={"pods": 99}), "ResourceQuota")
    assert quota["spec"]["hard"] == {
        "services.loadbalancers": "0",
        "services.nodeports": "0",
        "count/daskclusters.kubernetes.dask.org": "3",
        "count/daskjobs.kubernetes.dask.org": "9",
        "pods": "50",
    }


def test_mistakes_are_told_at_synth() -> None:
    """(constructs finding 3) `groups="team"` bound `edit` to the groups t, e, a and m."""
    c = chart()
    DaskTenant(c, "t", namespace="n", groups="team", client_namespaces="notebooks", maximum_pods="9")  # type: ignore[arg-type]
    assert errors(c) == [
        "[test/t] groups: must be a list, not 'team'; for one, write ['team']",
        "[test/t] client_namespaces: must be a list, not 'notebooks'; for one, write ['notebooks']",
        "[test/t] maximum_pods: must be a whole number from 0 to 2147483647, not '9'; write 9",
    ]


def test_people_and_the_gitops_tool_have_the_teams_role_and_nothing_more() -> None:
    binding, starter = of_kind(tenant(groups=["data"], deployer="flux"), "RoleBinding")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "dask-tenant"}
    assert [(s["kind"], s["name"]) for s in binding["subjects"]] == [("Group", "data"), ("ServiceAccount", "flux")]
    assert starter["subjects"] == [{"kind": "ServiceAccount", "name": "dask-job-starter", "namespace": "team"}]
    (role,) = (role for role in of_kind(tenant(), "Role") if role["metadata"]["name"] == "dask-job-starter")
    assert role["rules"] == [
        {"apiGroups": ["kubernetes.dask.org"], "resources": ["daskjobs"], "verbs": ["create", "get"]}
    ]
    for kind in ("RoleBinding", "ServiceAccount"):
        assert [m["metadata"]["name"] for m in of_kind(tenant(deployer=False), kind)] == ["dask-job-starter"]


class Network:
    """What the NetworkPolicies of the tenant allow, decided as Kubernetes documents it."""

    def __init__(self, **options: Any) -> None:
        self.policies = [m["spec"] for m in of_kind(tenant(**options), "NetworkPolicy")]

    def connects(self, source: Any, target: Any, port: int, protocol: str = "TCP") -> bool:
        return self._lets("Egress", source, target, port, protocol) and self._lets(
            "Ingress", target, source, port, protocol
        )

    def _lets(self, direction: str, of: Any, peer: Any, port: int, protocol: str) -> bool:
        if of[0] != "team":
            return True  # the policies are the tenant's only
        mine = [p for p in self.policies if direction in p["policyTypes"] and selects(p["podSelector"], of[1])]
        field, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        rules = [rule for policy in mine for rule in policy.get(field, [])]
        return not mine or any(
            (peers not in rule or any(self._is(wanted, peer) for wanted in rule[peers]))
            and ("ports" not in rule or {"port": port, "protocol": protocol} in rule["ports"])
            for rule in rules
        )

    @staticmethod
    def _is(wanted: Any, peer: Any) -> bool:
        namespace, labels = peer
        if "namespaceSelector" not in wanted:
            return namespace == "team" and selects(wanted["podSelector"], labels)
        there = selects(wanted["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
        return there and selects(wanted.get("podSelector", {}), labels)


def selects(selector: Any, labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", []))


def pods() -> dict[str, Any]:
    """The Pods of a job, as they are really made, and others."""
    container = {"name": "c", "image": IMAGE}
    spec = {"containers": [container]}
    job = {
        "apiVersion": names.API_VERSION,
        "kind": "DaskJob",
        "metadata": {"name": "j"},
        "spec": {"job": {"spec": spec}, "cluster": {"spec": {"scheduler": {"spec": spec}, "worker": {"spec": spec}}}},
    }
    children = list(render(job, namespace="team", domain="cluster.local"))
    (worker,) = of_kind(children, "Pod")
    (deployment,) = of_kind(children, "Deployment")
    (runner,) = of_kind(children, "Job")
    return {
        "worker": ("team", worker["metadata"]["labels"]),
        "scheduler": ("team", deployment["spec"]["template"]["metadata"]["labels"]),
        "runner": ("team", runner["spec"]["template"]["metadata"]["labels"]),
        "starter": ("team", {"dask.org/component": "job-starter"}),
        "API server": ("kube-system", {"component": "kube-apiserver"}),
        "stranger": ("team", {"app": "web"}),
        "operator": ("dask-operator", {"app.kubernetes.io/name": "dask-operator"}),
        "notebook": ("notebooks", {"app": "jupyter"}),
        "neighbour": ("others", {"dask.org/component": "worker"}),
        "dns": ("kube-system", {"k8s-app": "kube-dns"}),
    }


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        ("worker", "scheduler", 8786),
        ("worker", "scheduler", 8788),  # the preStop hook
        ("worker", "scheduler", 8787),  # the same at a scheduler from before it had a port for orders
        ("worker", "worker", 41234),
        ("scheduler", "worker", 41234),
        ("runner", "scheduler", 8786),
        ("runner", "worker", 41234),
        ("operator", "scheduler", 8788),
        ("operator", "scheduler", 8787),
        ("notebook", "scheduler", 8786),
        ("starter", "API server", 6443),
    ],
)
def test_what_dask_needs_is_open(source: str, target: str, port: int) -> None:
    network, all_pods = Network(client_namespaces=["notebooks"]), pods()
    assert network.connects(all_pods[source], all_pods[target], port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        ("worker", "API server", 6443),
        ("starter", "scheduler", 8786),
        ("stranger", "scheduler", 8786),
        ("stranger", "worker", 41234),
        ("worker", "stranger", 80),
        ("neighbour", "worker", 41234),
        ("neighbour", "scheduler", 8786),
        ("worker", "neighbour", 41234),
        ("operator", "scheduler", 8786),
        ("operator", "worker", 8788),
        ("notebook", "scheduler", 8788),
        ("stranger", "scheduler", 8788),
        ("neighbour", "scheduler", 8788),
        ("notebook", "worker", 41234),
        ("worker", "operator", 8080),
    ],
)
def test_all_else_is_closed(source: str, target: str, port: int) -> None:
    network, all_pods = Network(client_namespaces=["notebooks"]), pods()
    assert not network.connects(all_pods[source], all_pods[target], port)


def test_names_are_resolved_and_stores_are_reached_where_that_is_said() -> None:
    all_pods = pods()
    assert Network().connects(all_pods["worker"], all_pods["dns"], 53, "UDP")
    rule = {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "others"}}}]}
    assert Network(egress=[rule]).connects(all_pods["worker"], all_pods["neighbour"], 9000)
    assert not Network(egress=[rule]).connects(all_pods["stranger"], all_pods["neighbour"], 9000)


def test_who_starts_jobs_reaches_the_api_server_alone_where_its_address_is_known() -> None:
    """(security finding 10) Any Pod with the starter's label had a way to port 443 anywhere."""
    (policy,) = (
        m["spec"]
        for m in of_kind(tenant(api_server=["192.0.2.7/32"]), "NetworkPolicy")
        if m["metadata"]["name"] == "dask-job-starters"
    )
    assert [rule["to"] for rule in policy["egress"]] == [[{"ipBlock": {"cidr": "192.0.2.7/32"}}]]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("192.0.2.9", "192.0.2.9/32"),
        ("2001:db8::7", "2001:db8::7/128"),
        ("192.0.2.9/255.255.255.0", "192.0.2.0/24"),
        *((other, "192.0.2.7/32") for other in ("192.0.2.9/33", "192.0.2.9/", "a.example", "", 3221225991)),
    ],
)
def test_an_address_that_no_policy_takes_is_told_at_synth(wrong: Any, right: str) -> None:
    c = chart()
    DaskTenant(c, "t", namespace="team", api_server=["192.0.2.0/24", "2001:db8::/64", wrong])
    (found,) = errors(c)
    assert found == f"[test/t] api_server[2]: must be a block of addresses such as '{right}', not {wrong!r}"


def test_the_teams_role_lacks_what_isolates_it() -> None:
    """(security finding 10) `edit` may write NetworkPolicies."""
    (role,) = (role for role in of_kind(tenant(), "Role") if role["metadata"]["name"] == "dask-tenant")
    written = {
        resource
        for rule in role["rules"]
        for resource in rule["resources"]
        if {"create", "update", "patch", "delete"} & set(rule["verbs"])
    }
    assert {"daskclusters", "daskjobs", "pods", "secrets", "cronjobs"} <= written
    assert not written & {
        "networkpolicies",
        "resourcequotas",
        "limitranges",
        "roles",
        "rolebindings",
        "serviceaccounts",
    }
    assert not written & {"ingresses", "endpoints", "endpointslices", "daskclusters/status", "*"}


def test_notebooks_connect_and_make_nothing_that_runs() -> None:
    manifests = tenant(notebooks=["students", {"name": "ada", "namespace": "hub"}], notebook_secrets=["tls"])
    (role,) = [m for m in of_kind(manifests, "Role") if m["metadata"]["name"] == "dask-notebook"]
    (binding,) = [m for m in of_kind(manifests, "RoleBinding") if m["metadata"]["name"] == "dask-notebook"]
    assert binding["subjects"] == [
        {"kind": "Group", "name": "students", "apiGroup": "rbac.authorization.k8s.io"},
        {"kind": "ServiceAccount", "name": "ada", "namespace": "hub"},
    ]
    (secrets,) = [rule for rule in role["rules"] if "secrets" in rule["resources"]]
    assert (secrets["verbs"], secrets["resourceNames"]) == (["get"], ["tls"])
    bound = [m["metadata"]["name"] for m in of_kind(manifests, "ValidatingAdmissionPolicyBinding")]
    assert bound == ["dask-notebook-team"], "of a cluster they change nothing but whether it sleeps"
    creates = {resource for rule in role["rules"] if "create" in rule["verbs"] for resource in rule["resources"]}
    assert creates == {"daskautoscalers", "pods/portforward"}
    assert not [rule for rule in role["rules"] if {"*", "delete", "update"} & set(rule["verbs"])]


def test_without_notebooks_there_is_no_role_for_them() -> None:
    assert [m for m in tenant() if m["metadata"]["name"] == "dask-notebook"] == []


def test_a_notebook_of_no_kind_is_told() -> None:
    c = chart()
    DaskTenant(c, "t", namespace="n", notebooks=[3])  # type: ignore[list-item]
    (error,) = errors(c)
    assert error.startswith("[test/t] notebooks[0]: ")
