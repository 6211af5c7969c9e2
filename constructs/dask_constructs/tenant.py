"""A team's namespace: who may use it, how much of it there is, and who may talk to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdk8s import ApiObject
from constructs import Construct

from dask_crds.names import Component, Label, Port

from .cron_job import starter_account
from .manifest import api_object, cluster_scoped
from .rbac import RBAC_GROUP

_DASHBOARD = {"port": Port.DASHBOARD.number, "protocol": "TCP"}
_CONTROL = {"port": Port.CONTROL.number, "protocol": "TCP"}
_COMM = {"port": Port.COMM.number, "protocol": "TCP"}
#: ServiceAccount for the scheduled jobs of the namespace: who may only edit makes no Roles.
STARTER = "dask-job-starter"
#: The label that Kubernetes itself puts on every namespace.
_NAME_LABEL = "kubernetes.io/metadata.name"


class DaskTenant(Construct):
    """A namespace with restricted Pod security, a quota, permissions, and a network of its own.

    Pods may talk to DNS and to what belongs to a Dask cluster of the same namespace, and to nothing else but what
    ``egress`` adds; clients in other namespaces come in where ``client_namespaces`` names them. Scheduled jobs have a
    ServiceAccount: ``DaskCronJob(..., starter_service_account="dask-job-starter")``.

    Args:
        namespace: name of the namespace.
        quota: ``hard`` of the ResourceQuota, ``{"requests.cpu": "64", "pods": "200"}`` say; ``None`` for none.
        groups: groups of users who may edit what is in the namespace, Dask resources included.
        deployer: name of a ServiceAccount that a GitOps tool acts as in this namespace; ``None`` for none.
        client_namespaces: namespaces whose Pods may use the schedulers, notebooks say.
        egress: further rules of where scheduler, workers and runners may go, object stores say; as in a NetworkPolicy.
        operator_namespace: where the operator runs; it asks schedulers.
        labels: further labels of the namespace.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        namespace: str,
        quota: Mapping[str, str | int] | None = None,
        groups: Sequence[str] = (),
        deployer: str | None = "deployer",
        client_namespaces: Sequence[str] = (),
        egress: Sequence[Mapping[str, Any]] = (),
        operator_namespace: str = "dask-operator",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(scope, id)
        self._namespace = namespace
        modes = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
        metadata = {"name": namespace, "labels": {**modes, **(labels or {})}}
        cluster_scoped(self, "namespace", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        if quota is not None:
            self._object("quota", "v1", "ResourceQuota", "quota", spec={"hard": dict(quota)})
        subjects = [{"kind": "Group", "name": group, "apiGroup": RBAC_GROUP} for group in groups]
        if deployer is not None:
            self._object("deployer", "v1", "ServiceAccount", deployer, automountServiceAccountToken=False)
            subjects.append({"kind": "ServiceAccount", "name": deployer, "namespace": namespace})
        if subjects:
            # `edit` holds the Dask kinds too, see the aggregated roles of DaskOperator.
            role = {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": "edit"}
            self._object("edit", f"{RBAC_GROUP}/v1", "RoleBinding", "edit", roleRef=role, subjects=subjects)
        starter_account(self, STARTER, namespace)
        for name, spec in network_policies(client_namespaces, egress, operator_namespace).items():
            self._object(f"network-{name}", "networking.k8s.io/v1", "NetworkPolicy", name, spec=spec)

    def _object(self, id: str, api_version: str, kind: str, name: str, **body: Any) -> ApiObject:
        metadata = {"name": name, "namespace": self._namespace}
        return api_object(self, id, {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body})


def network_policies(
    client_namespaces: Sequence[str], egress: Sequence[Mapping[str, Any]], operator_namespace: str
) -> dict[str, dict[str, Any]]:
    """Specs of the NetworkPolicies of a namespace with Dask clusters, by name.

    Which cluster of the namespace a Pod belongs to does not matter; put what must not meet into different namespaces.
    Workers listen on ports that they choose, so between them and the scheduler all ports are open.
    """
    dask = _component(Component.SCHEDULER, Component.WORKER, Component.JOB_RUNNER)
    clients = [_namespace(namespace) for namespace in client_namespaces]
    kube_dns = {"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}, **_namespace("kube-system")}
    dns = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    policies: dict[str, dict[str, Any]] = {
        "nothing-else": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        "dns": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [kube_dns], "ports": dns}]},
        "dask": {
            "podSelector": dask["podSelector"],
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [dask]}],
            "egress": [{"to": [_component(Component.SCHEDULER, Component.WORKER)]}, *map(dict, egress)],
        },
        # The address of the API server differs from cluster to cluster, its port hardly does.
        "dask-job-starters": {
            "podSelector": _component(Component.JOB_STARTER)["podSelector"],
            "policyTypes": ["Egress"],
            "egress": [{"ports": [{"port": port, "protocol": "TCP"} for port in (443, 6443)]}],
        },
        "dask-operator": {
            "podSelector": _component(Component.SCHEDULER)["podSelector"],
            "policyTypes": ["Ingress"],
            # That of the dashboard for schedulers that were started before they had one for orders.
            "ingress": [{"from": [_namespace(operator_namespace)], "ports": [_CONTROL, _DASHBOARD]}],
        },
    }
    if clients:
        policies["dask-clients"] = {
            "podSelector": _component(Component.SCHEDULER)["podSelector"],
            "policyTypes": ["Ingress"],
            "ingress": [{"from": clients, "ports": [_COMM, _DASHBOARD]}],
        }
    return policies


def _component(*components: str) -> dict[str, Any]:
    expression = {"key": Label.COMPONENT, "operator": "In", "values": list(components)}
    return {"podSelector": {"matchExpressions": [expression]}}


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {_NAME_LABEL: name}}}
