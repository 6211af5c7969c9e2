"""The operator's installation: CRDs, namespace, permissions, Deployment and what guards it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict, Unpack

from cdk8s import ApiObject
from constructs import Construct
from msgspec import Meta

from dask_crds.kubernetes.core_v1 import Toleration
from dask_crds.model import KINDS
from dask_crds.schema import custom_resource_definition

from . import rbac
from .bindings import cluster_role, role
from .confinement import confinement
from .limits import Limits
from .manifest import api_object, cluster_scoped
from .operator_pod import LABELS, NAME, deployment, disruption_budget, network_policy, service
from .options import Resources
from .peers import AddressBlock, Peer
from .rbac import RBAC_GROUP
from .resource import DaskConstruct
from .restricted import RESTRICTED_NAMESPACE
from .source import sync_wave
from .values import Name, Namespace, Secret, Text


class DaskCustomResourceDefinitions(Construct):
    """The CRDs of the four kinds, marked so that no GitOps tool deletes them, and all Dask resources with them."""

    _ANNOTATIONS = {
        **sync_wave(-10),
        # DaskJob's CRD is large for the annotation of client-side apply, and grows with Kubernetes' PodSpec.
        "argocd.argoproj.io/sync-options": "ServerSideApply=true,Prune=false,Delete=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
        "helm.sh/resource-policy": "keep",
    }

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        for kind in KINDS:
            manifest = custom_resource_definition(kind)
            manifest["metadata"] |= {"labels": LABELS, "annotations": self._ANNOTATIONS}
            cluster_scoped(self, kind, manifest)


class OperatorProps(TypedDict, total=False):
    """Keyword arguments of ``DaskOperator``."""

    image: Text | None
    """The operator's image, best with a digest (default: that of this release)."""
    namespace: Namespace | None
    """Where it runs (default ``dask-operator``)."""
    create_namespace: bool | None
    """Whether that namespace is part of the construct (default true)."""
    namespaces: Annotated[Sequence[Namespace], Meta(min_length=1)] | None
    """The namespaces that it looks after, which must exist (default: all). With a list its permissions are Roles in
    those namespaces."""
    crds: bool | None
    """Whether the CRDs are part of the construct (default true)."""
    aggregated_roles: bool | None
    """Whether ``view``, ``edit`` and ``admin`` are extended by the Dask kinds, and ``dask-notebook`` is there for you
    to bind (default true)."""
    confined: bool | None
    """Whether a policy confines its identity to children of Dask resources, outside of Kubernetes' own namespaces
    (default true)."""
    metrics_namespaces: Sequence[Peer] | None
    """Namespaces whose Pods may read metrics, that of Prometheus say, or peers as in a NetworkPolicy (default none)."""
    metrics_tls: Secret | None
    """A Secret in ``namespace`` with ``tls.crt`` and ``tls.key``: metrics are served over TLS, at port 8443, to whom a
    ClusterRole such as ``dask-operator-metrics-reader`` lets ``get`` the path ``/metrics`` (default: over plain HTTP,
    to all whom the NetworkPolicy lets in)."""
    api_server: Sequence[AddressBlock] | None
    """Addresses of the API server as the Pods see it, ``["192.0.2.7/32"]`` say, which differ from cluster to cluster.
    With them the operator goes there (at port 443 or 6443), to DNS and to schedulers, and nowhere else (default:
    anywhere)."""
    egress: Sequence[Mapping[str, Any]] | None
    """Further rules of where it may go, an API server at another port or DNS of another kind say; as in a
    NetworkPolicy."""
    queues: bool | None
    """Whether clusters and jobs may wait in queues of Kueue (default true, with ``namespaces`` false: it takes a
    ClusterRole to read which nodes quota is for)."""
    limits: Limits | None
    """How many ``workers``, ``clusters`` and running ``jobs`` a namespace may have at a time, or (``by="owner"``) each
    owner in it, with other limits for some ``namespaces``. What is beyond that, and in no queue, waits in line
    (default: no limits)."""
    replicas: Annotated[int, Meta(ge=0, le=100)] | None
    """One leads, the others are ready to take over (default 2)."""
    cluster_domain: Name | None
    """DNS domain of the Kubernetes cluster (default ``cluster.local``)."""
    not_inherited: Sequence[Text] | None
    """Beginnings of labels and annotations that no child takes over from a Dask resource, besides those of the tools
    that are known anyway: ``["corp.example/"]``."""
    resources: Resources | None
    """Requests and limits of the container (default: 100m of CPU and 128Mi are requested, 512Mi is the limit). There is
    no CPU limit by default: a throttled operator is a late one."""
    priority_class: Name | None
    """PriorityClass of the Pods."""
    image_pull_secrets: Sequence[Secret] | None
    """Names of Secrets in ``namespace``."""
    node_selector: Mapping[Text, str] | None
    """Labels of the nodes that it may run on."""
    tolerations: Sequence[Toleration] | None
    """Taints of nodes that it may run on all the same, as in a PodSpec."""
    host_users: bool | None
    """``False``: its Pods are in user namespaces (default: Kubernetes' own, which is that of the node)."""
    args: Sequence[str] | None
    """Further arguments, see ``python -m dask_controller run --help``."""


class DaskOperator(DaskConstruct):
    """The operator, ready to run in a namespace with restricted Pod security.

    Attributes:
        deployment: the Deployment, for ``add_json_patch``.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[OperatorProps]) -> None:
        """Declare it with the keyword arguments of ``OperatorProps``, where each is explained."""
        super().__init__(scope, id)
        options = dict(self._accepted(props, OperatorProps))
        self._namespace: str = options.get("namespace", NAME)
        if namespaces := options.get("namespaces"):
            options["namespaces"] = namespaces = list(dict.fromkeys(namespaces))  # one may be there twice
        if options.get("crds", True):
            DaskCustomResourceDefinitions(self, "crds")
        if options.get("create_namespace", True):
            cluster_scoped(self, "namespace", _namespace(self._namespace))
        self._object("service-account", "v1", "ServiceAccount", wave=-5, automountServiceAccountToken=False)
        self._permissions(namespaces)
        if options.get("queues", namespaces is None):
            self._queues(namespaces)
        if "metrics_tls" in options:
            self._metrics_access()
        if options.get("aggregated_roles", True):
            self._aggregated_roles()
        if options.get("confined", True):
            self._confinement()
        self._object("service", "v1", "Service", spec=service(options))
        self._object("network-policy", "networking.k8s.io/v1", "NetworkPolicy", spec=network_policy(options))
        replicas = options.get("replicas", 2)
        if replicas > 1:
            self._object("disruption-budget", "policy/v1", "PodDisruptionBudget", spec=disruption_budget())
        spec = deployment(replicas, options)
        self.deployment = self._object("deployment", "apps/v1", "Deployment", spec=spec)

    @property
    def _name_in_cluster(self) -> str:
        """Of what has no namespace: two operators in one cluster, each of its namespaces, have one each."""
        return NAME if self._namespace == NAME else f"{NAME}-{self._namespace}"

    def _confinement(self) -> None:
        for manifest in confinement(NAME, self._namespace, self._name_in_cluster):
            metadata = {**manifest["metadata"], "labels": LABELS, "annotations": sync_wave(-5)}
            cluster_scoped(self, manifest["kind"], {**manifest, "metadata": metadata})

    def _object(
        self,
        id: str,
        api_version: str,
        kind: str,
        *,
        name: str = NAME,
        namespace: str | None = None,
        wave: int | None = None,
        **body: Any,
    ) -> ApiObject:
        metadata: dict[str, Any] = {"name": name, "namespace": namespace or self._namespace, "labels": LABELS}
        if wave is not None:
            metadata["annotations"] = sync_wave(wave)
        return api_object(self, id, {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body})

    @property
    def _subject(self) -> dict[str, str]:
        return {"kind": "ServiceAccount", "name": NAME, "namespace": self._namespace}

    def _permissions(self, namespaces: Sequence[str] | None) -> None:
        for name, permissions in (("leader-election", rbac.LEADER_ELECTION), ("master-key", rbac.MASTER_KEY)):
            role(self, name, f"{NAME}-{name}", self._namespace, permissions, LABELS, self._subject)
        if namespaces is None:
            cluster_role(self, "cluster-role", NAME, rbac.OPERATOR, LABELS, self._subject)
        for namespace in namespaces or ():
            role(self, f"role-{namespace}", NAME, namespace, rbac.OPERATOR, LABELS, self._subject)

    def _queues(self, namespaces: Sequence[str] | None) -> None:
        name, workloads = self._name_in_cluster, rbac.QUEUE_WORKLOADS
        cluster_role(self, "queue-classes", f"{name}-queue-classes", rbac.QUEUE_CLASSES, LABELS, self._subject)
        if namespaces is None:
            cluster_role(self, "queues", f"{name}-queues", workloads, LABELS, self._subject)
        for namespace in namespaces or ():
            role(self, f"queues-{namespace}", f"{NAME}-queues", namespace, workloads, LABELS, self._subject)

    def _metrics_access(self) -> None:
        # Whose a token is and what they may do is asked for the whole cluster, whatever namespaces we look after.
        name = self._name_in_cluster
        access = f"{name}-metrics-access"
        cluster_role(self, "metrics-access", access, rbac.METRICS_ACCESS, LABELS, self._subject)
        cluster_role(self, "metrics-reader", f"{name}-metrics-reader", rbac.METRICS_READER, LABELS)

    def _aggregated_roles(self) -> None:
        for name, permissions, into in (
            ("dask-view", rbac.VIEW, ("view", "edit", "admin")),
            ("dask-edit", rbac.EDIT, ("edit", "admin")),
            ("dask-notebook", rbac.NOTEBOOK, ()),
        ):
            aggregate = {f"{RBAC_GROUP}/aggregate-to-{role}": "true" for role in into}
            cluster_role(self, name, name, permissions, LABELS | aggregate)


# --- parts ------------------------------------------------------------------------------------------------------------


def _namespace(name: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": LABELS | RESTRICTED_NAMESPACE, "annotations": sync_wave(-10)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
