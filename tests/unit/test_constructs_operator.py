"""The operator's installation as a construct."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.constructs import JsonPatch, Manifest, chart, errors, synth

from dask_constructs import DaskCustomResourceDefinitions, DaskOperator, operator_pod, rbac
from dask_constructs.keywords import accepted
from dask_constructs.limits import written
from dask_constructs.operator import OperatorProps
from dask_controller.core.limits import Limits
from dask_controller.shell.main import arguments

ROOT = Path(__file__).parents[2]


def installed(**options: Any) -> list[Manifest]:
    """Manifests of an operator in a chart that has a namespace of its own."""
    c = chart(namespace="elsewhere")
    DaskOperator(c, "operator", **options)
    return synth(c)


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def pod(manifests: list[Manifest]) -> Manifest:
    (deployment,) = of_kind(manifests, "Deployment")
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


# --- where things are -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespaces", [None, ["a", "b"]])
def test_nothing_lands_in_the_charts_namespace(namespaces: list[str] | None) -> None:
    """cdk8s stamps the chart's namespace even on what has none."""
    manifests = installed(namespace="system", namespaces=namespaces)
    cluster_scoped = ("Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")
    policies = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    for manifest in manifests:
        if manifest["kind"] in (*cluster_scoped, *policies):
            assert "namespace" not in manifest["metadata"]
        else:
            assert manifest["metadata"]["namespace"] in {"system", *(namespaces or ())}


def test_no_two_objects_are_the_same() -> None:
    keys = [
        (m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in installed(namespaces=["a", "b"])
    ]
    assert len(keys) == len(set(keys))


def test_parts_can_be_left_out() -> None:
    kinds = {m["kind"] for m in installed(crds=False, create_namespace=False, aggregated_roles=False, replicas=1)}
    assert kinds.isdisjoint({"CustomResourceDefinition", "Namespace", "PodDisruptionBudget"})
    assert len(of_kind(installed(aggregated_roles=False, queues=False), "ClusterRole")) == 1


# --- the Pod ----------------------------------------------------------------------------------------------------------


def test_it_runs_under_restricted_pod_security() -> None:
    manifests = installed()
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spec = pod(manifests)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


@pytest.mark.parametrize(
    "limits",
    [
        {"workers": 40, "by": "owner", "namespaces": {"big": {"workers": "none", "jobs": 3}}},
        {"clusters": 0, "jobs": 200_000, "by": "namespace"},
    ],
)
def test_limits_reach_the_controller(limits: dict[str, Any]) -> None:
    found = arguments().parse_args(pod(installed(crds=False, limits=limits))["containers"][0]["args"]).limits
    assert found == Limits.read(written(limits))
    assert (found.by, found.of("workers", "big")) == (limits["by"], None)


def test_the_controller_judges_limits_as_synth_does() -> None:
    wrong: list[dict[str, Any]] = [
        {"clusters": -1},
        {"workers": 200_001},
        {"workers": True},
        {"workers": 1.5},
        {"workers": "all"},
        {"worker": 1},
        {"by": "user"},
        {"namespaces": {"big": {"worker": 1}}},
        {"namespaces": {"big": 1}},
    ]
    for limits in wrong:
        told: list[str] = []
        accepted({"limits": limits}, OperatorProps, told.append)
        assert [one.partition("[")[0] for one in told] == ["limits"]
        with pytest.raises(msgspec.DecodeError):
            Limits.read(written(limits))


def test_without_limits_none_are_stated() -> None:
    for limits in (None, {}):
        assert not any("limits" in one for one in pod(installed(crds=False, limits=limits))["containers"][0]["args"])


@pytest.mark.parametrize("namespaces", [None, ["a", "b"]])
def test_the_controller_understands_its_arguments(namespaces: list[str] | None) -> None:
    manifests = installed(
        namespaces=namespaces,
        cluster_domain="example.org",
        not_inherited=["corp.example/", "queue"],
        args=["--verbose"],
    )
    options = arguments().parse_args(pod(manifests)["containers"][0]["args"])
    assert options.command == "run"
    assert (options.all_namespaces, options.namespace) == (namespaces is None, namespaces)
    assert (options.cluster_domain, options.leader_elect, options.log_format) == ("example.org", True, "json")
    assert options.verbose
    assert options.not_inherited == ["corp.example/", "queue"]
    (port,) = pod(manifests)["containers"][0]["ports"]
    assert options.port == port["containerPort"]


@pytest.mark.parametrize(
    ("wrong", "mistake"),
    [
        # Of letters, a text is a list; and with nothing each key begins.
        ({"not_inherited": "corp.example/"}, "not_inherited: must be a list, not 'corp.example/'"),
        ({"not_inherited": [""]}, "not_inherited[0]: must be text that is not empty, not ''"),
        ({"namespaces": "team"}, "namespaces: must be a list that is not empty, not 'team'; for one, write ['team']"),
        ({"namespaces": []}, "namespaces: must be a list that is not empty, not []"),
        ({"api_server": "192.0.2.7/32"}, "api_server: must be a list, not '192.0.2.7/32'"),
        ({"api_server": ["192.0.2.7"]}, "api_server[0]: must be a block of addresses such as '192.0.2.7/32'"),
        ({"egress": [{}, "team"]}, "egress[1]: must be a mapping, not 'team'"),
        ({"replicas": "2"}, "replicas: must be a whole number from 0 to 100, not '2'; write 2"),
    ],
)
def test_mistakes_are_told_at_synth(wrong: dict[str, Any], mistake: str) -> None:
    """(constructs finding 3)"""
    c = chart()
    DaskOperator(c, "operator", **wrong)
    (found,) = errors(c)
    assert found.startswith(f"[test/operator] {mistake}")


def test_it_runs_where_the_platform_wants_it() -> None:
    spec = pod(installed(node_selector={"pool": "system"}, tolerations=[{"key": "system", "operator": "Exists"}]))
    assert spec["nodeSelector"] == {"pool": "system"}
    assert spec["tolerations"] == [{"key": "system", "operator": "Exists"}]


def test_its_identity_is_confined() -> None:
    """(security finding 12) Shown on a real API server by tests/integration/test_confinement.py."""
    kinds = {m["kind"] for m in installed()}
    assert {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} <= kinds
    (policy,) = (m for m in installed(namespace="system") if m["kind"] == "ValidatingAdmissionPolicy")
    condition, _ = policy["spec"]["matchConditions"]
    assert condition["expression"] == "request.userInfo.username == 'system:serviceaccount:system:dask-operator'"
    assert "ValidatingAdmissionPolicy" not in {m["kind"] for m in installed(confined=False)}


def test_all_that_it_may_write_is_confined() -> None:
    """(security finding 12) But for statuses, and Events, which change nothing."""
    (policy,) = (m for m in installed() if m["kind"] == "ValidatingAdmissionPolicy")
    rules = policy["spec"]["matchConstraints"]["resourceRules"]
    confined = {(group, one) for rule in rules for group in rule["apiGroups"] for one in rule["resources"]}
    assert all(set(rule["operations"]) == {"CREATE", "UPDATE", "DELETE"} for rule in rules)
    written = {
        (group, resource)
        for permission in rbac.OPERATOR
        if {"create", "update", "patch", "delete"} & set(permission.rule["verbs"])
        for group in permission.rule["apiGroups"]
        for resource in permission.rule["resources"]
    }
    assert {one for one in written - confined if not one[1].endswith("/status")} == {("", "events")}


def test_probes_and_service_name_the_same_port() -> None:
    manifests = installed()
    (container,) = pod(manifests)["containers"]
    (service,) = of_kind(manifests, "Service")
    (port,) = container["ports"]
    assert port["name"] == service["spec"]["ports"][0]["targetPort"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}


def test_nobody_but_who_is_named_reaches_its_port() -> None:
    """Security finding 15: every source was let in."""
    (policy,) = of_kind(installed(), "NetworkPolicy")
    assert (policy["spec"]["policyTypes"], policy["spec"]["ingress"]) == (["Ingress"], [])
    address = {"ipBlock": {"cidr": "192.0.2.0/24"}}
    (policy,) = of_kind(installed(metrics_namespaces=["monitoring", address]), "NetworkPolicy")
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    rule = {"from": [monitoring, address], "ports": [{"port": "http", "protocol": "TCP"}]}
    assert policy["spec"]["ingress"] == [rule]


def egress(**options: Any) -> list[Manifest] | None:
    """Rules of where the operator may go; ``None``: anywhere."""
    (policy,) = of_kind(installed(**options), "NetworkPolicy")
    rules: list[Manifest] | None = policy["spec"].get("egress")
    assert ("Egress" in policy["spec"]["policyTypes"]) == (rules is not None)
    return rules


def test_it_goes_anywhere_unless_it_is_said_where_the_api_server_is() -> None:
    """Of a taken-over operator (security finding 12): addresses differ, so that none could be a default."""
    assert egress() is None
    assert egress(api_server=[]) is None
    assert egress(egress=[]) is None


@pytest.mark.parametrize("namespaces", [None, ["a", "b"]])
def test_with_the_api_servers_address_it_goes_there_to_dns_and_to_schedulers(namespaces: list[str] | None) -> None:
    """(security finding 12) Of schedulers, their port for orders, and that of those from before they had one."""
    api_server, dns, schedulers = egress(api_server=["192.0.2.7/32", "2001:db8::7/128"], namespaces=namespaces) or []
    assert [peer["ipBlock"]["cidr"] for peer in api_server["to"]] == ["192.0.2.7/32", "2001:db8::7/128"]
    assert [port["port"] for port in api_server["ports"]] == [443, 6443]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert {port["port"] for port in schedulers["ports"]} == {8788, "dask-gitops", 8787, "http-dashboard"}
    component = {"key": "dask.org/component", "operator": "In", "values": ["scheduler"]}
    where = [{"matchLabels": {"kubernetes.io/metadata.name": name}} for name in namespaces] if namespaces else [{}]
    assert schedulers["to"] == [
        {"namespaceSelector": selector, "podSelector": {"matchExpressions": [component]}} for selector in where
    ]


def test_it_goes_where_else_is_said() -> None:
    """An API server at another port, or names that are found by other Pods than those of ``kube-dns``."""
    rule = {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"port": 16443, "protocol": "TCP"}]}
    without, with_it = egress(api_server=["192.0.2.7/32"]) or [], egress(api_server=["192.0.2.7/32"], egress=[rule])
    assert with_it == [*without, rule]
    assert egress(egress=[rule]) == [*without[1:], rule], "the rule is the API server's"


@pytest.mark.parametrize("namespaces", [None, ["a"]])
def test_metrics_can_be_for_some_alone(namespaces: list[str] | None) -> None:
    """Security finding 15: they were unauthenticated. Shown by tests/integration/test_metrics_access.py."""
    options: Any = {"metrics_tls": "metrics-tls", "metrics_namespaces": ["monitoring"], "namespaces": namespaces}
    manifests = installed(namespace="system", **options)
    (container,) = pod(manifests)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    read = arguments().parse_args(container["args"])
    assert ports == {"http": read.port, "https-metrics": read.metrics_port}
    (service,), (policy,) = of_kind(manifests, "Service"), of_kind(manifests, "NetworkPolicy")
    assert service["spec"]["ports"][0]["targetPort"] == "https-metrics"
    assert policy["spec"]["ingress"][0]["ports"] == [{"port": "https-metrics", "protocol": "TCP"}]
    assert container["livenessProbe"]["httpGet"]["port"] == "http"
    (volume,) = [volume for volume in pod(manifests)["volumes"] if "secret" in volume]
    assert volume["secret"]["secretName"] == "metrics-tls"
    assert {"name": volume["name"], "mountPath": str(read.metrics_tls), "readOnly": True} in container["volumeMounts"]

    roles = {m["metadata"]["name"]: m["rules"] for m in of_kind(manifests, "ClusterRole")}
    assert ("ClusterRole", None, "dask-operator-system-metrics-access") in granted(manifests, "dask-operator")
    assert [rule["resources"] for rule in roles["dask-operator-system-metrics-access"]] == [
        ["tokenreviews"],
        ["subjectaccessreviews"],
    ]
    assert roles["dask-operator-system-metrics-reader"] == [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]


def test_no_permission_of_metrics_without_them() -> None:
    assert "metrics" not in str([m["rules"] for m in of_kind(installed(), "Role", "ClusterRole")])
    assert not [m for m in of_kind(installed(), "ClusterRole") if "metrics" in m["metadata"]["name"]]


def test_selectors_hold_nothing_that_a_release_changes() -> None:
    manifests = installed()
    (deployment,) = of_kind(manifests, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        of_kind(manifests, "Service")[0]["spec"]["selector"],
        of_kind(manifests, "NetworkPolicy")[0]["spec"]["podSelector"]["matchLabels"],
        of_kind(manifests, "PodDisruptionBudget")[0]["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector == {"app.kubernetes.io/name": "dask-operator", "app.kubernetes.io/component": "operator"}
        assert selector.items() <= labels.items()


def test_image_and_size_can_be_chosen() -> None:
    resources = {"limits": {"memory": "2Gi"}}
    image = "registry/operator:1@sha256:" + "0" * 64
    options: Any = {"image": image, "resources": resources, "priority_class": "high", "image_pull_secrets": ["key"]}
    manifests = installed(**options, replicas=3)
    (container,) = pod(manifests)["containers"]
    assert (container["image"], container["resources"]) == (image, resources)
    assert pod(manifests)["priorityClassName"] == "high"
    assert pod(manifests)["imagePullSecrets"] == [{"name": "key"}]
    assert of_kind(manifests, "Deployment")[0]["spec"]["replicas"] == 3


def test_the_deployment_can_be_patched() -> None:
    c = chart()
    DaskOperator(c, "o").deployment.add_json_patch(JsonPatch.add("/spec/template/spec/dnsPolicy", "Default"))
    assert pod(synth(c))["dnsPolicy"] == "Default"


def test_the_image_is_that_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == operator_pod.VERSION
    assert operator_pod.DEFAULT_IMAGE.endswith(f":{project['version']}")


# --- permissions ------------------------------------------------------------------------------------------------------


def granted(manifests: list[Manifest], account: str) -> list[tuple[str, str | None, str]]:
    """Kind, namespace and name of the roles that are bound to a ServiceAccount."""
    return [
        (binding["roleRef"]["kind"], binding["metadata"].get("namespace"), binding["roleRef"]["name"])
        for binding in of_kind(manifests, "RoleBinding", "ClusterRoleBinding")
        if any(subject["name"] == account for subject in binding["subjects"])
    ]


def test_cluster_wide_permissions() -> None:
    assert granted(installed(), "dask-operator") == [
        ("Role", "dask-operator", "dask-operator-leader-election"),
        ("Role", "dask-operator", "dask-operator-master-key"),
        ("ClusterRole", None, "dask-operator"),
        ("ClusterRole", None, "dask-operator-queue-classes"),
        ("ClusterRole", None, "dask-operator-queues"),
    ]


def test_permissions_in_some_namespaces_are_roles() -> None:
    manifests = installed(namespace="system", namespaces=["a", "b"])
    assert granted(manifests, "dask-operator") == [
        ("Role", "system", "dask-operator-leader-election"),
        ("Role", "system", "dask-operator-master-key"),
        ("Role", "a", "dask-operator"),
        ("Role", "b", "dask-operator"),
    ]
    subjects = [s for b in of_kind(manifests, "RoleBinding") for s in b["subjects"]]
    assert {subject["namespace"] for subject in subjects} == {"system"}


@pytest.mark.parametrize("namespaces", [None, ["a", "b"]])
def test_the_operator_reads_no_secret_but_its_own(namespaces: list[str] | None) -> None:
    """Security finding 12: taken over, it knows its own key, and what it makes of it."""
    manifests = installed(namespaces=namespaces)
    for role in of_kind(manifests, "Role", "ClusterRole"):
        for rule in (rule for rule in role["rules"] if "secrets" in rule["resources"]):
            own = role["metadata"].get("namespace") == "dask-operator" and "dask-operator-master"
            # To delete one tells nothing of it; to patch one would be answered with its content.
            assert rule["verbs"] in ([["get"]] if rule.get("resourceNames") else [["create"], ["delete"]])
            assert rule.get("resourceNames", [own]) == [own]


def test_people_may_do_with_dask_what_they_may_do_with_pods() -> None:
    roles = {m["metadata"]["name"]: m for m in of_kind(installed(), "ClusterRole")}
    prefix = "rbac.authorization.k8s.io/aggregate-to-"

    def aggregated(name: str) -> set[str]:
        labels = roles[name]["metadata"]["labels"]
        return {label.removeprefix(prefix) for label in labels if label.startswith(prefix)}

    assert aggregated("dask-view") == {"view", "edit", "admin"}
    assert aggregated("dask-edit") == {"edit", "admin"}
    assert aggregated("dask-operator") == set()
    writes = {verb for rule in roles["dask-view"]["rules"] for verb in rule["verbs"]} - {"get", "list", "watch"}
    assert not writes
    (scale,) = [rule for rule in roles["dask-edit"]["rules"] if "daskworkergroups/scale" in rule["resources"]]
    assert scale["verbs"] == ["update", "patch"]


# --- CRDs -------------------------------------------------------------------------------------------------------------


def test_no_gitops_tool_deletes_the_crds() -> None:
    c = chart()
    DaskCustomResourceDefinitions(c, "crds")
    assert [m["spec"]["names"]["kind"] for m in synth(c)] == [
        "DaskCluster",
        "DaskWorkerGroup",
        "DaskJob",
        "DaskAutoscaler",
    ]
    for manifest in synth(c):
        annotations = manifest["metadata"]["annotations"]
        assert "Prune=false" in annotations["argocd.argoproj.io/sync-options"]
        assert annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled"
        assert annotations["helm.sh/resource-policy"] == "keep"


def test_waves_put_crds_and_permissions_before_the_deployment() -> None:
    def wave(manifest: Manifest) -> int:
        return int(manifest["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0))

    waves = {manifest["kind"]: wave(manifest) for manifest in installed(namespaces=["a"])}
    assert waves["CustomResourceDefinition"] == waves["Namespace"] < waves["ServiceAccount"] == waves["Role"]
    assert waves["Role"] < waves["Deployment"] == 0


@pytest.mark.parametrize("host_users", [True, False])
def test_its_pods_may_be_in_user_namespaces(host_users: bool) -> None:
    """Not by default: on a node that knows none they would not start."""
    assert pod(installed(host_users=host_users))["hostUsers"] is host_users
    assert "hostUsers" not in pod(installed())
