"""Revisions: whether a running Pod was made from the template that is asked for now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any


def revision(template: Any) -> str:
    """Short hash of what a user wrote, fit for a label.

    It covers the user's template alone, not the manifest built from it, so neither the API server's defaults nor an
    upgrade of the operator restarts anything. Nor does it matter whether a default of Kubernetes is written down.
    """
    text = json.dumps(canonical(template), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def canonical(value: Any) -> Any:
    """As `compact`, and in PodSpecs without the defaults."""
    if isinstance(value, dict) and isinstance(value.get("containers"), list):
        value = _pod(value)
    return _compact(value, canonical)


def compact(value: Any) -> Any:
    """Drop null, ``{}`` and ``[]``, which clients send for what others leave out.

    Members of lists stay: there ``{}`` can mean something (an empty peer of a NetworkPolicy, say).
    """
    return _compact(value, compact)


def _compact(value: Any, inner: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        items = {key: inner(item) for key, item in value.items()}
        # `emptyDir: {}` and its like choose a kind of volume: an empty object in a volume is not nothing.
        return {
            key: item
            for key, item in items.items()
            if item is not None and ((item != [] and item != {}) or key in _CHOICES)
        }
    if isinstance(value, list):
        return [inner(item) for item in value]
    return value


_CHOICES = {"emptyDir", "podCertificate", "downwardAPI", "ephemeral"}

# --- defaults of PodSpecs, as the API server fills them in ------------------------------------------------------------
# https://github.com/kubernetes/kubernetes/blob/master/pkg/apis/core/v1/defaults.go
# Not `terminationGracePeriodSeconds`: left out, the operator chooses.

_POD = {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
_CONTAINER = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_HTTP_GET = {"scheme": "HTTP", "path": "/"}
_MODE = {"defaultMode": 0o644}


def _without(value: Any, defaults: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if key not in defaults or defaults[key] != item}


def _each(value: Any, change: Any) -> Any:
    return [change(item) if isinstance(item, dict) else item for item in value] if isinstance(value, list) else value


def _changed(value: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: changes[key](item) if key in changes else item for key, item in value.items()}


def _pod(spec: dict[str, Any]) -> dict[str, Any]:
    defaults = _POD | {"serviceAccount": spec.get("serviceAccountName")}  # its old name
    return _changed(
        _without(spec, defaults),
        containers=lambda containers: _each(containers, _container),
        initContainers=lambda containers: _each(containers, _container),
        volumes=lambda volumes: _each(volumes, _volume),
    )


def _container(container: dict[str, Any]) -> dict[str, Any]:
    defaults = _CONTAINER | {"imagePullPolicy": _pull_policy(container.get("image") or "")}
    return _changed(
        _without(container, defaults),
        ports=lambda ports: _each(ports, lambda port: _without(port, {"protocol": "TCP"})),
        env=lambda env: _each(env, lambda variable: _changed(variable, valueFrom=_source)),
        livenessProbe=_probe,
        readinessProbe=_probe,
        startupProbe=_probe,
    )


def _pull_policy(image: str) -> str:
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "IfNotPresent" if digest or tag not in ("", "latest") else "Always"


def _source(source: Any) -> Any:
    if not isinstance(source, dict):
        return source
    return _changed(source, fieldRef=lambda field: _without(field, {"apiVersion": "v1"}))


def _probe(probe: Any) -> Any:
    if not isinstance(probe, dict):
        return probe
    return _changed(_without(probe, _PROBE), httpGet=lambda get: _without(get, _HTTP_GET))


def _volume(volume: dict[str, Any]) -> dict[str, Any]:
    sources = ("secret", "configMap", "downwardAPI", "projected")
    return _changed(volume, **dict.fromkeys(sources, lambda source: _without(source, _MODE)))
