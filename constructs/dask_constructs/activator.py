"""The activator's installation: what wakes clusters when somebody connects to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypedDict, Unpack

from constructs import Construct
from msgspec import Meta

from dask_crds import names
from dask_crds.kubernetes.core_v1 import Toleration
from dask_crds.names import Annotation, Label

from . import rbac
from .admission import ONLY_WAKES, with_binding
from .bindings import WAVE, cluster_role, role
from .keywords import Options
from .manifest import api_object, cluster_scoped
from .operator_pod import DEFAULT_IMAGE, SCRATCH, VERSION, probe
from .options import Resources
from .resource import DaskConstruct
from .restricted import RESTRICTED_CONTAINER, RESTRICTED_POD
from .source import sync_wave
from .values import Name, Namespace, Secret, Text

NAME = names.ACTIVATOR
#: Selectors are immutable, so they hold nothing that may change.
SELECTOR = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "activator"}
LABELS = {**SELECTOR, "app.kubernetes.io/part-of": "dask", "app.kubernetes.io/version": VERSION}
_PORT = ("http", 8080)
_RESOURCES = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


class ActivatorProps(TypedDict, total=False):
    """Keyword arguments of ``DaskActivator``."""

    image: Text | None
    """The operator's image, best with a digest (default: that of this release)."""
    namespace: Namespace | None
    """Where it runs, which must exist (default ``dask-operator``)."""
    namespaces: Annotated[Sequence[Namespace], Meta(min_length=1)] | None
    """The namespaces whose clusters it wakes (default: all). With a list its permissions are Roles in those
    namespaces."""
    replicas: Annotated[int, Meta(ge=0, le=100)] | None
    """One acts, the others are ready to take over (default 1: while there is none, clients try again)."""
    resources: Resources | None
    """Requests and limits of the container (default: 50m of CPU and 64Mi are requested, 256Mi is the limit)."""
    priority_class: Name | None
    """PriorityClass of the Pods."""
    image_pull_secrets: Sequence[Secret] | None
    """Names of Secrets in ``namespace``."""
    node_selector: Mapping[Text, str] | None
    """Labels of the nodes that it may run on."""
    tolerations: Sequence[Toleration] | None
    """Taints of nodes that it may run on all the same, as in a PodSpec."""


class DaskActivator(DaskConstruct):
    """Wakes clusters that have ``wake="OnConnect"`` when a client connects to their scheduler's Service.

    It needs the operator, and a network in which its Pods reach schedulers and clients reach its Pods: the
    ``clients`` of ``DaskNetworkPolicy`` have to include it.

    Attributes:
        deployment: the Deployment, for ``add_json_patch``.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[ActivatorProps]) -> None:
        """Declare it with the keyword arguments of ``ActivatorProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, ActivatorProps)
        self._namespace: str = options.get("namespace", "dask-operator")
        account = self._metadata(annotations=sync_wave(WAVE))
        manifest = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}
        api_object(self, "service-account", {**manifest, "automountServiceAccountToken": False})
        self._permissions(options.get("namespaces"))
        policy = {"podSelector": {"matchLabels": SELECTOR}, "policyTypes": ["Ingress"], "ingress": [{}]}
        api = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": self._metadata()}
        api_object(self, "network-policy", {**api, "spec": policy})
        spec = _deployment(options)
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": self._metadata(), "spec": spec}
        self.deployment = api_object(self, "deployment", deployment)

    def _metadata(self, **more: Any) -> dict[str, Any]:
        return {"name": NAME, "namespace": self._namespace, "labels": LABELS, **more}

    def _permissions(self, namespaces: Sequence[str] | None) -> None:
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": self._namespace}
        election = f"{NAME}-leader-election"
        role(self, "leader-election", election, self._namespace, rbac.ACTIVATOR_ELECTION, LABELS, subject)
        if namespaces is None:
            cluster_role(self, "cluster-role", NAME, rbac.ACTIVATOR, LABELS, subject)
        for namespace in namespaces or ():
            role(self, f"role-{namespace}", NAME, namespace, rbac.ACTIVATOR, LABELS, subject)
        name = NAME if self._namespace == "dask-operator" else f"{NAME}-{self._namespace}"
        for manifest in _confinement(name, f"system:serviceaccount:{self._namespace}:{NAME}"):
            metadata = {**manifest["metadata"], "labels": LABELS, "annotations": sync_wave(WAVE)}
            cluster_scoped(self, manifest["kind"], {**manifest, "metadata": metadata})


def _confinement(name: str, user: str) -> list[dict[str, Any]]:
    """A policy, and its binding, by which ``user`` may do what the activator does and nothing else."""
    rules = [
        {"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": [resource]}
        for group, resource, operations in (
            (names.GROUP, "daskclusters", ["UPDATE"]),
            ("discovery.k8s.io", "endpointslices", ["CREATE", "UPDATE", "DELETE"]),
        )
    ]
    slices = (
        "[object, oldObject].filter(o, o != null).all(o,"
        f" o.metadata.?labels[?'{Label.SLICE_MANAGER}'].orValue('') == '{NAME}'"
        " && o.metadata.?ownerReferences.orValue([]).exists(r,"
        f" r.?controller.orValue(false) && r.kind == 'DaskCluster' && r.apiVersion.startsWith('{names.GROUP}/')))"
    )
    woken = f"!object.spec.?suspend.orValue(false) && {ONLY_WAKES}"
    spec: dict[str, Any] = {
        "matchConstraints": {"resourceRules": rules},
        "matchConditions": [{"name": "activator", "expression": f"request.userInfo.username == '{user}'"}],
        "validations": [
            {
                "expression": f"request.resource.resource == 'endpointslices' ? ({slices}) : ({woken})",
                "message": "the activator may resume clusters and lead their Services to itself, and nothing else",
                "reason": "Forbidden",
            }
        ],
    }
    return with_binding(name, spec)


def _deployment(options: Options) -> dict[str, Any]:
    return {
        "replicas": options.get("replicas", 1),
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": SELECTOR},
        "template": {
            "metadata": {
                "labels": LABELS,
                "annotations": {
                    "kubectl.kubernetes.io/default-container": "activator",
                    Annotation.SAFE_TO_EVICT_VOLUMES: SCRATCH,
                },
            },
            "spec": _pod(options),
        },
    }


def _pod(options: Options) -> dict[str, Any]:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": SELECTOR}}
    apart = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
    pod: dict[str, Any] = {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": RESTRICTED_POD,
        "affinity": {"podAntiAffinity": apart},
        "containers": [_container(options)],
        "volumes": [{"name": SCRATCH, "emptyDir": {}}],  # Python wants a folder for temporary files
    }
    stated = {
        "priorityClassName": options.get("priority_class"),
        "imagePullSecrets": [{"name": name} for name in options.get("image_pull_secrets", ())],
        "nodeSelector": options.get("node_selector"),
        "tolerations": options.get("tolerations"),
    }
    return pod | {field: value for field, value in stated.items() if value}


def _arguments(options: Options) -> Iterator[str]:
    if "namespaces" not in options:
        yield "--all-namespaces"
    yield from (f"--namespace={namespace}" for namespace in options.get("namespaces", ()))
    yield from ("--leader-elect", f"--port={_PORT[1]}")


def _container(options: Options) -> dict[str, Any]:
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_IP": "status.podIP"}
    return {
        "name": "activator",
        "image": options.get("image", DEFAULT_IMAGE),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "dask_controller.activator"],
        "args": list(_arguments(options)),
        "env": [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()],
        "ports": [{"name": _PORT[0], "containerPort": _PORT[1], "protocol": "TCP"}],
        "livenessProbe": probe("/healthz", failures=5),
        "readinessProbe": probe("/readyz", failures=3),
        "resources": options.get("resources", _RESOURCES),
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": [{"name": SCRATCH, "mountPath": "/tmp"}],
    }
