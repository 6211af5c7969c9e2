"""A team's namespace: who may use it, how much of it there is, and who may talk to whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Required, TypedDict, Unpack

from cdk8s import ApiObject
from constructs import Construct

from dask_crds.kinds import DASK_KINDS
from dask_crds.names import Component

from . import rbac, template_policy
from .admission import with_binding
from .cron_job import starter_account
from .manifest import api_object, cluster_scoped
from .network import COMPUTING, SCRAPED
from .peers import ASKED, DNS, AddressBlock, Peer, components, peer, to_api_server
from .queue import local_queue, local_queue_problems
from .rbac import RBAC_GROUP
from .resource import DaskConstruct
from .restricted import RESTRICTED_NAMESPACE
from .values import Amount, Count, Named, Namespace, Secret, Text, reference

#: ServiceAccount for the scheduled jobs of the namespace: who may only edit makes no Roles.
STARTER = "dask-job-starter"
#: Role of the team, and of the GitOps tool that acts for it.
ROLE = "dask-tenant"
#: Role of those who connect to its clusters.
NOTEBOOK = "dask-notebook"
#: A Service that is open to the outside is the platform's to make. A user's ``quota`` may say otherwise.
_NO_OPEN_SERVICES = {"services.loadbalancers": "0", "services.nodeports": "0"}
#: What a container has that states no resources, so that a quota can count it.
_UNSTATED = {"cpu": "1", "memory": "2Gi"}


class Account(TypedDict):
    """A ServiceAccount."""

    name: Text
    """Its name."""
    namespace: Text
    """Where it is."""


class TenantProps(TypedDict, total=False):
    """Keyword arguments of ``DaskTenant``."""

    namespace: Required[Namespace]
    """Name of the namespace."""
    quota: Mapping[Text, Amount] | None
    """``hard`` of the ResourceQuota, ``{"requests.cpu": "64", "pods": "200"}`` say. Services with a load balancer or a
    port of the nodes are 0 unless it says otherwise."""
    maximum_clusters: Count | None
    """Greatest number of DaskClusters, those of jobs included (default: any)."""
    maximum_jobs: Count | None
    """Greatest number of DaskJobs, ended ones included (default: any)."""
    maximum_pods: Count | None
    """Greatest number of Pods, and so of workers (default: any)."""
    queue: Annotated[str | Named, reference("ClusterQueue")] | None
    """A ClusterQueue of Kueue, or its name: clusters and jobs of the namespace may name it as their ``queue``, by a
    LocalQueue of the same name (default: none)."""
    groups: Sequence[Text] | None
    """Groups of users who may edit what is in the namespace, Dask resources included."""
    deployer: Text | Literal[False] | None
    """Name of a ServiceAccount that a GitOps tool acts as in this namespace (default ``deployer``); ``False``: none."""
    notebooks: Sequence[Text | Account] | None
    """Who may find, wake, scale and use the clusters by ``dask_gitops.connect``, and make none: groups of users by
    their names, ServiceAccounts as ``{"name": "ada", "namespace": "jupyterhub"}``."""
    notebook_secrets: Sequence[Secret] | None
    """Secrets with the credentials of clusters that speak TLS, which ``notebooks`` may read besides. Without, they
    connect through the API server."""
    client_namespaces: Sequence[Peer] | None
    """Namespaces whose Pods may use the schedulers, notebooks say; or peers as in a NetworkPolicy."""
    metrics_namespaces: Sequence[Peer] | None
    """Namespaces whose Pods may read metrics of schedulers and workers, that of Prometheus say; or peers."""
    egress: Sequence[Mapping[str, Any]] | None
    """Further rules of where scheduler, workers and runners may go, object stores say; as in a NetworkPolicy."""
    api_server: Sequence[AddressBlock] | None
    """Addresses of the API server as the Pods see it, ``["192.0.2.7/32"]`` say, which differ from cluster to cluster.
    Scheduled jobs are started by Pods that talk to it; left out, these may talk to any address, at its usual ports."""
    operator_namespace: Namespace | None
    """Where the operator runs, which asks schedulers (default ``dask-operator``)."""
    labels: Mapping[Text, str] | None
    """Further labels of the namespace."""


class DaskTenant(DaskConstruct):
    """A namespace with restricted Pod security, a quota, permissions, and a network of its own.

    Pods may talk to DNS and to what belongs to a Dask cluster of the same namespace, and to nothing else but what
    ``egress`` adds; clients in other namespaces come in where ``client_namespaces`` names them. The team's role holds
    what runs Dask and what Dask needs, and not the NetworkPolicies, quotas and roles that isolate the namespace.
    Scheduled jobs have a ServiceAccount: ``DaskCronJob(..., starter_service_account="dask-job-starter")``.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[TenantProps]) -> None:
        """Declare it with the keyword arguments of ``TenantProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, TenantProps)
        metadata = {"name": self.namespace, "labels": {**RESTRICTED_NAMESPACE, **options.get("labels", {})}}
        cluster_scoped(self, "namespace", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self._object("quota", "v1", "ResourceQuota", "quota", spec={"hard": _hard(options)})
        limits = {"type": "Container", "default": _UNSTATED, "defaultRequest": _UNSTATED}
        self._object("limits", "v1", "LimitRange", "limits", spec={"limits": [limits]})
        self._permissions(options.get("groups", ()), options.get("deployer", "deployer"))
        self._notebooks(options.get("notebooks", ()), options.get("notebook_secrets", ()))
        starter_account(self, STARTER, self.namespace)
        self._queue: str = options.get("queue", "")
        if queue := self._queue:
            local_queue(self, "queue", queue, self.namespace, queue)
        for name, spec in network_policies(
            options.get("client_namespaces", ()),
            options.get("egress", ()),
            options.get("operator_namespace", "dask-operator"),
            options.get("api_server", ()),
            options.get("metrics_namespaces", ()),
        ).items():
            self._object(f"network-{name}", "networking.k8s.io/v1", "NetworkPolicy", name, spec=spec)

    def _problems(self) -> Iterator[str]:
        if self._queue:
            yield from (f"queue: {problem}" for problem in local_queue_problems(self._queue))

    @property
    def namespace(self) -> str:
        """Name of the namespace."""
        return self._namespace or ""

    @property
    def name(self) -> str:
        """Name of the namespace, so that the construct may stand where a namespace is asked for."""
        return self.namespace

    def _permissions(self, groups: Sequence[str], deployer: str | Literal[False]) -> None:
        subjects = [{"kind": "Group", "name": group, "apiGroup": RBAC_GROUP} for group in groups]
        if deployer:
            self._object("deployer", "v1", "ServiceAccount", deployer, automountServiceAccountToken=False)
            subjects.append({"kind": "ServiceAccount", "name": deployer, "namespace": self.namespace})
        if subjects:
            self._object("role", f"{RBAC_GROUP}/v1", "Role", ROLE, rules=rbac.rules(rbac.TENANT))
            role = {"apiGroup": RBAC_GROUP, "kind": "Role", "name": ROLE}
            self._object("binding", f"{RBAC_GROUP}/v1", "RoleBinding", ROLE, roleRef=role, subjects=subjects)

    def _notebooks(self, who: Sequence[str | Account], secrets: Sequence[str]) -> None:
        if not who:
            return
        subjects = [
            {"kind": "Group", "name": each, "apiGroup": RBAC_GROUP}
            if isinstance(each, str)
            else {"kind": "ServiceAccount", **each}
            for each in who
        ]
        rules = rbac.rules([*rbac.NOTEBOOK, *rbac.credentials(secrets)])
        self._object("notebook-role", f"{RBAC_GROUP}/v1", "Role", NOTEBOOK, rules=rules)
        role = {"apiGroup": RBAC_GROUP, "kind": "Role", "name": NOTEBOOK}
        # They may patch clusters to wake them: of what these are they change nothing.
        name = f"{NOTEBOOK}-{self.namespace}"
        for manifest in with_binding(name, template_policy.only_suspend(self.namespace)):
            cluster_scoped(self, f"{manifest['kind']}-{name}", manifest)
        self._object("notebook-binding", f"{RBAC_GROUP}/v1", "RoleBinding", NOTEBOOK, roleRef=role, subjects=subjects)

    def _object(self, id: str, api_version: str, kind: str, name: str, **body: Any) -> ApiObject:
        metadata = {"name": name, "namespace": self.namespace}
        return api_object(self, id, {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body})


def _hard(options: Mapping[str, Any]) -> dict[str, str | int]:
    counted = {
        "maximum_clusters": f"count/{DASK_KINDS['DaskCluster'].plural}.{DASK_KINDS['DaskCluster'].group}",
        "maximum_jobs": f"count/{DASK_KINDS['DaskJob'].plural}.{DASK_KINDS['DaskJob'].group}",
        "maximum_pods": "pods",
    }
    counts = {resource: str(options[option]) for option, resource in counted.items() if option in options}
    return {**_NO_OPEN_SERVICES, **options.get("quota", {}), **counts}


def network_policies(
    client_namespaces: Sequence[str | Mapping[str, Any]],
    egress: Sequence[Mapping[str, Any]],
    operator_namespace: str,
    api_server: Sequence[str] = (),
    metrics_namespaces: Sequence[str | Mapping[str, Any]] = (),
) -> dict[str, dict[str, Any]]:
    """Specs of the NetworkPolicies of a namespace with Dask clusters, by name.

    Which cluster of the namespace a Pod belongs to does not matter; ``DaskNetworkPolicy`` is for that. Workers listen
    on ports that they choose, so between them and the scheduler all ports are open.
    """
    dask = components(Component.SCHEDULER, Component.WORKER, Component.JOB_RUNNER)
    clients = [peer(client) for client in client_namespaces]
    policies: dict[str, dict[str, Any]] = {
        "nothing-else": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        "dns": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [DNS]},
        "dask": {
            "podSelector": dask["podSelector"],
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [dask]}],
            "egress": [{"to": [components(Component.SCHEDULER, Component.WORKER)]}, *map(dict, egress)],
        },
        "dask-job-starters": {
            "podSelector": components(Component.JOB_STARTER)["podSelector"],
            "policyTypes": ["Egress"],
            "egress": [to_api_server(api_server)],
        },
        "dask-operator": {
            "podSelector": components(Component.SCHEDULER)["podSelector"],
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [peer(operator_namespace)], "ports": ASKED}],
        },
    }
    policies |= _let_in("dask-clients", clients, COMPUTING, Component.SCHEDULER)
    readers = [peer(reader) for reader in metrics_namespaces]
    return policies | _let_in("dask-metrics", readers, SCRAPED, Component.SCHEDULER, Component.WORKER)


def _let_in(
    name: str, peers: list[dict[str, Any]], ports: list[dict[str, Any]], *kinds: str
) -> dict[str, dict[str, Any]]:
    """The policy that lets peers into Pods of some kinds; none if there are no peers."""
    ingress = [{"from": peers, "ports": ports}]
    policy = {"podSelector": components(*kinds)["podSelector"], "policyTypes": ["Ingress"], "ingress": ingress}
    return {name: policy} if peers else {}
