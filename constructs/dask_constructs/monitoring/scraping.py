"""How Prometheus finds the operator, schedulers and workers: specs of ServiceMonitors and PodMonitors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_crds.names import Component, Label, Port

from ..keywords import Options
from ..operator_pod import NAME, SELECTOR, metrics_port

GROUP = "monitoring.coreos.com"
API_VERSION = f"{GROUP}/v1"
INTERVAL = 30
#: The ServiceAccount's token that is in the Pod of Prometheus.
_OWN_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"

#: Pods of users say whatever they like: how much of it is read. The series of a scheduler grow with the names of tasks;
#: where workers' images lack prometheus_client, it has some ten for each of 1,000 workers.
_MOST = {
    Component.SCHEDULER: {"sampleLimit": 30_000, "bodySizeLimit": "8MB"},
    Component.WORKER: {"sampleLimit": 2_000, "bodySizeLimit": "1MB"},
}
#: What they may say: nobody but the operator has a series of the operator.
OF_DASK = "(dask_(scheduler|worker|semaphore|stealing)|process|python)_.*"

#: Labels of series of Dask, as the operator's metrics call the same thing, and the labels of Pods that they are from.
_RELABELLED = {"cluster": Label.CLUSTER, "workergroup": Label.WORKER_GROUP}


def service_monitor(options: Options, namespace: str) -> dict[str, Any]:
    """Spec of the ServiceMonitor of the operator, which is in its namespace.

    Its metrics have a label ``namespace`` of their own, that of the cluster that they are about: it counts.
    """
    endpoint: dict[str, Any] = {
        "port": metrics_port(options)[0],
        "path": "/metrics",
        "interval": f"{options.get('interval', INTERVAL)}s",
        "honorLabels": True,
    }
    if secret := options.get("metrics_tls"):
        authority = {"secret": {"name": secret, "key": "ca.crt"}}
        endpoint |= {"scheme": "https", "tlsConfig": {"ca": authority, "serverName": f"{NAME}.{namespace}.svc"}}
        if token := options.get("metrics_token"):
            endpoint["authorization"] = {"type": "Bearer", "credentials": {"name": token, "key": "token"}}
        else:
            endpoint["bearerTokenFile"] = _OWN_TOKEN
    return {"selector": {"matchLabels": SELECTOR}, "endpoints": [endpoint]}


def pod_monitor(component: str, options: Options, *, cluster: str | None = None) -> dict[str, Any]:
    """Spec of the PodMonitor of schedulers or workers: of one cluster in its own namespace, or of all.

    Args:
        component: of `Component`.
        options: ``interval``, and ``namespaces`` of the clusters (default: all).
        cluster: name of the one cluster.
    """
    labels = {Label.COMPONENT: component} | ({Label.CLUSTER: cluster} if cluster else {})
    endpoint = {
        "port": Port.DASHBOARD.name,
        "path": "/metrics",
        "interval": f"{options.get('interval', INTERVAL)}s",
        "relabelings": [_from_label(target, source) for target, source in _of(component).items()],
        "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": OF_DASK, "action": "keep"}],
    }
    where: dict[str, Any] = {"matchNames": list(options.get("namespaces", ()))}
    if "namespaces" not in options:
        where = {"any": True}
    return {
        "selector": {"matchLabels": labels},
        **({} if cluster else {"namespaceSelector": where}),
        "podMetricsEndpoints": [endpoint],
        **_MOST[component],
    }


def _of(component: str) -> Mapping[str, str]:
    return {
        target: label for target, label in _RELABELLED.items() if component == Component.WORKER or target == "cluster"
    }


def _from_label(target: str, label: str) -> dict[str, Any]:
    found = "".join(letter if letter.isalnum() else "_" for letter in label)
    return {"sourceLabels": [f"__meta_kubernetes_pod_label_{found}"], "targetLabel": target}
