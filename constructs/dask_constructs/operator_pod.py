"""The operator's Deployment, and what stands around its Pods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dask_crds.names import Annotation, Component

from .keywords import Options
from .limits import written
from .peers import ASKED, DNS, components, peer, to_api_server
from .restricted import RESTRICTED_CONTAINER, RESTRICTED_POD

VERSION = "0.1.0"
DEFAULT_IMAGE = f"ghcr.io/dask-gitops/operator:{VERSION}"

NAME = "dask-operator"
#: Selectors are immutable, so they hold nothing that may change.
SELECTOR = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "operator"}
LABELS = {**SELECTOR, "app.kubernetes.io/part-of": "dask", "app.kubernetes.io/version": VERSION}
#: Name of the volume for temporary files, none of which need outlive their Pod.
SCRATCH = "tmp"
#: Of probes, and of metrics as well unless these are for some alone.
_PORT = ("http", 8080)
_METRICS_PORT = ("https-metrics", 8443)
_METRICS_TLS = "/etc/dask-operator/metrics-tls"

#: No ephemeral storage: a node that does not measure it has none to give, and the operator would stay Pending.
_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}


def service(options: Options) -> dict[str, Any]:
    """Spec of the Service, for Prometheus."""
    name, number = metrics_port(options)
    return {"selector": SELECTOR, "ports": [{"name": name, "port": number, "targetPort": name, "protocol": "TCP"}]}


def network_policy(options: Options) -> dict[str, Any]:
    """Spec of the NetworkPolicy: metrics are read by whom it names, and nothing else comes in.

    Probes come from the Pod's own node, which no NetworkPolicy keeps out. Going out is limited only where it is said
    where the API server is, which differs from cluster to cluster.
    """
    sources = [peer(source) for source in options.get("metrics_namespaces", ())]
    name, _ = metrics_port(options)
    ingress = [{"from": sources, "ports": [{"port": name, "protocol": "TCP"}]}] if sources else []
    spec: dict[str, Any] = {"podSelector": {"matchLabels": SELECTOR}, "policyTypes": ["Ingress"], "ingress": ingress}
    if egress := list(_egress(options)):
        spec |= {"policyTypes": ["Ingress", "Egress"], "egress": egress}
    return spec


def _egress(options: Options) -> Iterator[dict[str, Any]]:
    api_server, others = options.get("api_server"), options.get("egress")
    if not api_server and not others:
        return
    if api_server:
        yield to_api_server(api_server)
    yield DNS
    where = [peer(namespace) for namespace in options.get("namespaces", ())] or [{"namespaceSelector": {}}]
    yield {"to": [{**one, **components(Component.SCHEDULER)} for one in where], "ports": ASKED}
    yield from map(dict, others or ())


def metrics_port(options: Options) -> tuple[str, int]:
    """Name and number of the port where metrics are served."""
    return _METRICS_PORT if "metrics_tls" in options else _PORT


def disruption_budget() -> dict[str, Any]:
    """Spec of the PodDisruptionBudget."""
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
    if options.get("limits"):
        yield f"--limits={written(options['limits'])}"
    yield "--leader-elect"  # with one replica too: while it is rolled there are two
    yield "--log-format=json"
    yield f"--port={_PORT[1]}"
    if "metrics_tls" in options:
        yield from (f"--metrics-tls={_METRICS_TLS}", f"--metrics-port={_METRICS_PORT[1]}")
    yield from options.get("args", ())


def deployment(replicas: int, options: Options) -> dict[str, Any]:
    """Spec of the Deployment."""
    return {
        "replicas": replicas,
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": SELECTOR},
        "template": {
            "metadata": {
                "labels": LABELS,
                "annotations": {
                    # Which of the containers `kubectl logs` and `kubectl exec` mean, should a mesh inject another.
                    "kubectl.kubernetes.io/default-container": "operator",
                    Annotation.SAFE_TO_EVICT_VOLUMES: SCRATCH,
                },
            },
            "spec": _pod(options),
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
        "serviceAccountName": NAME,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": RESTRICTED_POD,
        "affinity": _APART,
        "containers": [_container(options)],
        "volumes": [volume for volume, _ in _mounted(options)],
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


def _mounted(options: Options) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Volumes, each with its mount."""
    yield {"name": SCRATCH, "emptyDir": {}}, {"name": SCRATCH, "mountPath": "/tmp"}
    if secret := options.get("metrics_tls"):
        volume = {"name": "metrics-tls", "secret": {"secretName": secret, "defaultMode": 0o440}}
        yield volume, {"name": "metrics-tls", "mountPath": _METRICS_TLS, "readOnly": True}


def _container(options: Options) -> dict[str, Any]:
    ports = dict.fromkeys((_PORT, metrics_port(options)))
    return {
        "name": "operator",
        "image": options.get("image", DEFAULT_IMAGE),
        "imagePullPolicy": "IfNotPresent",
        "args": list(_arguments(options)),
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
        "ports": [{"name": name, "containerPort": number, "protocol": "TCP"} for name, number in ports],
        "livenessProbe": probe("/healthz", failures=5),
        "readinessProbe": probe("/readyz", failures=3),
        "resources": options.get("resources", _RESOURCES),
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": [mount for _, mount in _mounted(options)],
    }


def probe(path: str, *, failures: int) -> dict[str, Any]:
    """A probe of the operator's port."""
    return {
        "httpGet": {"path": path, "port": _PORT[0]},
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
