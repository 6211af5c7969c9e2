"""The operator's installation: CRDs, namespace, permissions, Deployment and what guards it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypedDict, Unpack

from cdk8s import ApiObject
from constructs import Construct
from msgspec import Meta

from dask_crds.kubernetes.core_v1 import Toleration
from dask_crds.model import KINDS
from dask_crds.names import Annotation
from dask_crds.schema import custom_resource_definition

from . import rbac
from .confinement import confinement
from .keywords import Options
from .manifest import api_object, cluster_scoped
from .rbac import RBAC_GROUP
from .resource import DaskConstruct
from .source import sync_wave
from .values import Namespace, Secret, Text

VERSION = "0.1.0"
DEFAULT_IMAGE = f"ghcr.io/dask-gitops/operator:{VERSION}"

_NAME = "dask-operator"
#: Selectors are immutable, so they hold nothing that may change.
SELECTOR = {"app.kubernetes.io/name": _NAME, "app.kubernetes.io/component": "operator"}
_LABELS = {**SELECTOR, "app.kubernetes.io/part-of": "dask", "app.kubernetes.io/version": VERSION}
_PORT = 8080
#: Name of the volume for temporary files, none of which need outlive their Pod.
SCRATCH = "tmp"
#: Not root, and not the uid of any process on a node.
_UID = 65532
#: Labels of a namespace that enforces restricted Pod security; what it asks for.
RESTRICTED_NAMESPACE = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": _UID,
    "runAsGroup": _UID,
    "fsGroup": _UID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}

#: No ephemeral storage: a node that does not measure it has none to give, and the operator would stay Pending.
_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}


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
            manifest["metadata"] |= {"labels": _LABELS, "annotations": self._ANNOTATIONS}
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
    """Whether ``view``, ``edit`` and ``admin`` are extended by the Dask kinds (default true)."""
    confined: bool | None
    """Whether a policy confines its identity to children of Dask resources, outside of Kubernetes' own namespaces
    (default true)."""
    replicas: Annotated[int, Meta(ge=0, le=100)] | None
    """One leads, the others are ready to take over (default 2)."""
    cluster_domain: Text | None
    """DNS domain of the Kubernetes cluster (default ``cluster.local``)."""
    not_inherited: Sequence[Text] | None
    """Beginnings of labels and annotations that no child takes over from a Dask resource, besides those of the tools
    that are known anyway: ``["corp.example/"]``."""
    resources: Mapping[Text, Any] | None
    """Requests and limits of the container. There is no CPU limit: a throttled operator is a late one."""
    priority_class: Text | None
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
        options = self._accepted(props, OperatorProps)
        self._namespace = options.get("namespace", _NAME)
        namespaces = options.get("namespaces")
        if options.get("crds", True):
            DaskCustomResourceDefinitions(self, "crds")
        if options.get("create_namespace", True):
            cluster_scoped(self, "namespace", _namespace(self._namespace))
        self._object("service-account", "v1", "ServiceAccount", wave=-5, automountServiceAccountToken=False)
        self._permissions(namespaces)
        if options.get("aggregated_roles", True):
            self._aggregated_roles()
        if options.get("confined", True):
            self._confinement()
        self._object("service", "v1", "Service", spec=_service())
        self._object("network-policy", "networking.k8s.io/v1", "NetworkPolicy", spec=_network_policy())
        replicas = options.get("replicas", 2)
        if replicas > 1:
            self._object("disruption-budget", "policy/v1", "PodDisruptionBudget", spec=_disruption_budget())
        spec = _deployment(replicas, _pod(options))
        self.deployment = self._object("deployment", "apps/v1", "Deployment", spec=spec)

    def _confinement(self) -> None:
        # Two operators in one cluster, each of its namespaces, have a policy each.
        name = _NAME if self._namespace == _NAME else f"{_NAME}-{self._namespace}"
        for manifest in confinement(_NAME, self._namespace, name):
            metadata = {**manifest["metadata"], "labels": _LABELS, "annotations": sync_wave(-5)}
            cluster_scoped(self, manifest["kind"], {**manifest, "metadata": metadata})

    def _object(
        self,
        id: str,
        api_version: str,
        kind: str,
        *,
        name: str = _NAME,
        namespace: str | None = None,
        wave: int | None = None,
        **body: Any,
    ) -> ApiObject:
        metadata: dict[str, Any] = {"name": name, "namespace": namespace or self._namespace, "labels": _LABELS}
        if wave is not None:
            metadata["annotations"] = sync_wave(wave)
        return api_object(self, id, {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body})

    def _permissions(self, namespaces: Sequence[str] | None) -> None:
        subject = {"kind": "ServiceAccount", "name": _NAME, "namespace": self._namespace}
        leases = rbac.rules(rbac.LEADER_ELECTION)
        self._role("leader-election", f"{_NAME}-leader-election", self._namespace, leases, subject)
        self._role("master-key", f"{_NAME}-master-key", self._namespace, rbac.rules(rbac.MASTER_KEY), subject)
        permissions = rbac.rules(rbac.OPERATOR)
        if namespaces is None:
            metadata = {"name": _NAME, "labels": _LABELS, "annotations": sync_wave(-5)}
            role = {"apiVersion": f"{RBAC_GROUP}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": permissions}
            cluster_scoped(self, "cluster-role", role)
            binding = {
                "apiVersion": f"{RBAC_GROUP}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": _NAME},
                "subjects": [subject],
            }
            cluster_scoped(self, "cluster-role-binding", binding)
        for namespace in namespaces or ():
            self._role(f"role-{namespace}", _NAME, namespace, permissions, subject)

    def _role(self, id: str, name: str, namespace: str, rules: list[dict[str, Any]], subject: dict[str, str]) -> None:
        where: dict[str, Any] = {"name": name, "namespace": namespace, "wave": -5}
        self._object(id, f"{RBAC_GROUP}/v1", "Role", **where, rules=rules)
        reference = {"apiGroup": RBAC_GROUP, "kind": "Role", "name": name}
        self._object(f"{id}-binding", f"{RBAC_GROUP}/v1", "RoleBinding", **where, roleRef=reference, subjects=[subject])

    def _aggregated_roles(self) -> None:
        for name, permissions, into in (
            ("dask-view", rbac.VIEW, ("view", "edit", "admin")),
            ("dask-edit", rbac.EDIT, ("edit", "admin")),
        ):
            aggregate = {f"{RBAC_GROUP}/aggregate-to-{role}": "true" for role in into}
            metadata = {"name": name, "labels": _LABELS | aggregate, "annotations": sync_wave(-5)}
            manifest = {"apiVersion": f"{RBAC_GROUP}/v1", "kind": "ClusterRole", "metadata": metadata}
            cluster_scoped(self, name, {**manifest, "rules": rbac.rules(permissions)})


# --- parts ------------------------------------------------------------------------------------------------------------


def _namespace(name: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": _LABELS | RESTRICTED_NAMESPACE, "annotations": sync_wave(-10)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _service() -> dict[str, Any]:
    """For Prometheus."""
    return {"selector": SELECTOR, "ports": [{"name": "http", "port": _PORT, "targetPort": "http", "protocol": "TCP"}]}


def _network_policy() -> dict[str, Any]:
    """Metrics and probes come in, nothing else.

    Going out is not limited: addresses and ports of the API server, and of DNS, differ from cluster to cluster.
    """
    return {
        "podSelector": {"matchLabels": SELECTOR},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": "http", "protocol": "TCP"}]}],
    }


def _disruption_budget() -> dict[str, Any]:
    return {
        "maxUnavailable": 1,
        "selector": {"matchLabels": SELECTOR},
        # A replica that is not ready does not work, so it must not keep a node from being drained.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


def _arguments(options: Options) -> Iterator[str]:
    yield "run"
    if "namespaces" not in options:
        yield "--all-namespaces"
    for namespace in options.get("namespaces", ()):
        yield f"--namespace={namespace}"
    yield f"--cluster-domain={options.get('cluster_domain', 'cluster.local')}"
    for prefix in options.get("not_inherited", ()):
        yield f"--not-inherited={prefix}"
    yield "--leader-elect"  # with one replica too: while it is rolled there are two
    yield "--log-format=json"
    yield f"--port={_PORT}"
    yield from options.get("args", ())


def _deployment(replicas: int, pod: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "replicas": replicas,
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": SELECTOR},
        "template": {
            "metadata": {
                "labels": _LABELS,
                "annotations": {
                    # Which of the containers `kubectl logs` and `kubectl exec` mean, should a mesh inject another.
                    "kubectl.kubernetes.io/default-container": "operator",
                    Annotation.SAFE_TO_EVICT_VOLUMES: SCRATCH,
                },
            },
            "spec": pod,
        },
    }


#: Rather on different nodes than on one, but rather on one than not at all.
_APART = {
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "podAffinityTerm": {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchLabels": SELECTOR},
                },
            }
        ]
    }
}


def _pod(options: Options) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "serviceAccountName": _NAME,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": RESTRICTED_POD,
        "affinity": _APART,
        "containers": [_container(options)],
        "volumes": [{"name": SCRATCH, "emptyDir": {}}],
    }
    stated = {
        "priorityClassName": options.get("priority_class"),
        "imagePullSecrets": [{"name": name} for name in options.get("image_pull_secrets", ())],
        "nodeSelector": options.get("node_selector"),
        "tolerations": options.get("tolerations"),
    }
    if "host_users" in options:
        pod["hostUsers"] = options["host_users"]
    return pod | {field: value for field, value in stated.items() if value}


def _container(options: Options) -> dict[str, Any]:
    return {
        "name": "operator",
        "image": options.get("image", DEFAULT_IMAGE),
        "imagePullPolicy": "IfNotPresent",
        "args": list(_arguments(options)),
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
        "ports": [{"name": "http", "containerPort": _PORT, "protocol": "TCP"}],
        "livenessProbe": _probe("/healthz", failures=5),
        "readinessProbe": _probe("/readyz", failures=3),
        "resources": options.get("resources", _RESOURCES),
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": [{"name": SCRATCH, "mountPath": "/tmp"}],
    }


def _probe(path: str, *, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
