"""What ServiceMonitors and PodMonitors select, for a Prometheus that knows no Kubernetes, as Debian's does.

It reads from files what there is, with the labels that Prometheus' own discovery gives, from which relabelings choose:
https://prometheus.io/docs/prometheus/latest/configuration/configuration/#kubernetes_sd_config.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.cluster import ControlPlane

_META = "__meta_kubernetes"
_NAMESPACE, _POD, _SERVICE = f"{_META}_namespace", f"{_META}_pod_name", f"{_META}_service_name"
_PORT_OF_POD, _PORT_OF_SERVICE = f"{_META}_pod_container_port_name", f"{_META}_endpointslice_port_name"


def look(plane: ControlPlane, folder: Path) -> None:
    """Write down what there is to read; again and again, as Pods come and go."""
    found = json.loads(plane.kubectl("get", "pods,endpointslices", "-A", "-o", "json"))["items"]
    for kind, targets in (("Pod", _of_pod), ("EndpointSlice", _of_slice)):
        text = json.dumps([target for each in found if each["kind"] == kind for target in targets(each)])
        new = folder / f"{kind}.new"
        new.write_text(text)
        new.rename(folder / f"{kind}.json")


def scrape(monitor: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What prometheus-operator makes of a monitor, as far as ours go.

    Args:
        monitor: manifest with one endpoint.
        folder: where `look` writes.
    """
    spec, metadata = monitor["spec"], monitor["metadata"]
    of_pods = monitor["kind"] == "PodMonitor"
    (endpoint,) = spec["podMetricsEndpoints" if of_pods else "endpoints"]
    where = spec.get("namespaceSelector", {"matchNames": [metadata["namespace"]]})
    relabelings = [
        *(_keep(*_label("pod" if of_pods else "service", *label)) for label in spec["selector"]["matchLabels"].items()),
        _keep(_PORT_OF_POD if of_pods else _PORT_OF_SERVICE, endpoint["port"]),
        *([] if where.get("any") else [_keep(_NAMESPACE, "|".join(where["matchNames"]))]),
        _copy(_NAMESPACE, "namespace"),
        _copy(_POD, "pod"),
        _copy(_SERVICE, "job"),
        *map(_snake, endpoint.get("relabelings", ())),
    ]
    return {
        "job_name": f"{metadata['namespace']}/{metadata['name']}",
        "metrics_path": endpoint["path"],
        "honor_labels": endpoint.get("honorLabels", False),
        "file_sd_configs": [{"files": [f"{folder}/{'Pod' if of_pods else 'EndpointSlice'}.json"]}],
        "relabel_configs": relabelings,
        "metric_relabel_configs": [*map(_snake, endpoint.get("metricRelabelings", ()))],
        **_snake({name: spec[name] for name in ("sampleLimit", "bodySizeLimit") if name in spec}),
    }


def _of_pod(pod: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    metadata, address = pod["metadata"], pod["status"].get("podIP")
    labels = {_NAMESPACE: metadata["namespace"], _POD: metadata["name"]}
    labels |= dict(_label("pod", *label) for label in metadata.get("labels", {}).items())
    for container in pod["spec"]["containers"] if address else ():
        for port in container.get("ports", ()):
            named = {**labels, _PORT_OF_POD: port.get("name", "")}
            yield {"targets": [f"{address}:{port['containerPort']}"], "labels": named}


def _of_slice(slice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Kubernetes puts the labels of the Service on it."""
    metadata = slice["metadata"]
    labels = {_NAMESPACE: metadata["namespace"], _SERVICE: metadata["labels"].get("kubernetes.io/service-name", "")}
    labels |= dict(_label("service", *label) for label in metadata["labels"].items())
    for endpoint in slice.get("endpoints") or ():
        pod = {_POD: (endpoint.get("targetRef") or {}).get("name", "")}
        for port in slice.get("ports") or ():
            named = {**labels, **pod, _PORT_OF_SERVICE: port.get("name", "")}
            yield {"targets": [f"{endpoint['addresses'][0]}:{port['port']}"], "labels": named}


def _label(kind: str, name: str, value: str) -> tuple[str, str]:
    return f"{_META}_{kind}_label_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}", value


def _keep(source: str, value: str) -> dict[str, Any]:
    return {"source_labels": [source], "regex": value, "action": "keep"}


def _copy(source: str, target: str) -> dict[str, Any]:
    return {"source_labels": [source], "regex": "(.+)", "target_label": target}


def _snake(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in settings.items()}
