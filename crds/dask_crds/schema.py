"""From the model to the CustomResourceDefinitions and JSON schemas.

The model's JSON Schema (msgspec) is brought into the structural form that the API server accepts: references inlined,
the vendored PodSpec and ServiceSpec put in place, defaults dropped but for the few that have always existed (every
default that the server adds is a difference to a GitOps tool).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from . import names
from .kubernetes import structural_schema
from .model import KINDS, UNOBSERVED, rule
from .quantity import AMOUNT

#: Field name -> the default that the API server fills in.
DEFAULTS = {"replicas": 1}

_NAME_RULES = {
    "DaskCluster": [
        rule(
            f"size(self.metadata.name) <= {names.MAX_CLUSTER_NAME}",
            f"the name must have at most {names.MAX_CLUSTER_NAME} characters: the Service is named <name>-scheduler",
        ),
        rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "the name must be a DNS label that starts with a letter (a-z, 0-9, -): the Service is named after it",
        ),
    ],
    "DaskWorkerGroup": [
        rule(
            f"size(self.metadata.name) <= {names.MAX_GROUP_NAME}",
            f"the name must have at most {names.MAX_GROUP_NAME} characters: it is a label of the workers",
        ),
    ],
}
ROOT_RULES: dict[str, list[dict[str, str]]] = {
    **_NAME_RULES,
    "DaskJob": _NAME_RULES["DaskCluster"],
    "DaskAutoscaler": [],
}
SPEC_RULES: dict[str, list[dict[str, str]]] = {
    "DaskJob": [
        rule(
            "!has(self.podFailurePolicy) || !has(self.job.spec.restartPolicy) || "
            "self.job.spec.restartPolicy == 'Never'",
            "podFailurePolicy needs restartPolicy Never of the runner",
        )
    ],
    "DaskAutoscaler": [
        rule(
            "!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum",
            "minimum must not be greater than maximum",
        )
    ],
}

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_READY = '.status.conditions[?(@.type=="Ready")]'
_REASON = {"name": "Reason", "type": "string", "jsonPath": f"{_READY}.reason"}


#: What a new resource says of itself before anybody has looked at it. Without a generation that differs from its own,
#: Flux calls it ready; and clients, which look at nothing else, read the words of the existing operator as soon as
#: there is a status at all.
_FIRST_STATUS: dict[str, dict[str, Any]] = {
    "DaskCluster": {"observedGeneration": UNOBSERVED, "phase": "Created"},
    "DaskWorkerGroup": {"observedGeneration": UNOBSERVED},
    "DaskJob": {"observedGeneration": UNOBSERVED, "jobStatus": "JobCreated"},
    "DaskAutoscaler": {"observedGeneration": UNOBSERVED},
}


def _column(name: str, path: str, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})


_PLURALS: dict[str, dict[str, Any]] = {
    "DaskCluster": {"plural": "daskclusters", "shortNames": ["daskcluster", "dsk"]},
    "DaskWorkerGroup": {"plural": "daskworkergroups", "shortNames": ["daskworkers", "dwg"]},
    "DaskJob": {"plural": "daskjobs", "shortNames": ["djb"]},
    "DaskAutoscaler": {"plural": "daskautoscalers", "shortNames": ["das"]},
}
_SCALE = {"specReplicasPath": ".spec.worker.replicas", "statusReplicasPath": ".status.replicas"}
_SUBRESOURCES: dict[str, dict[str, Any]] = {
    "DaskCluster": {"status": {}, "scale": _SCALE},
    "DaskWorkerGroup": {"status": {}, "scale": {**_SCALE, "labelSelectorPath": ".status.selector"}},
    "DaskJob": {"status": {}},
    "DaskAutoscaler": {"status": {}},
}
_COLUMNS: dict[str, list[dict[str, Any]]] = {
    "DaskCluster": [
        _column("Workers", ".status.workers"),
        _column("Ready", f"{_READY}.status"),
        _column("Status", f"{_READY}.reason"),
        _column("Phase", ".status.phase", priority=1),  # `Running` says no more than that all of it exists
        _column("Scheduler", ".status.schedulerAddress", priority=1),
        _column("Dashboard", ".status.dashboardAddress", priority=1),
        _AGE,
    ],
    "DaskWorkerGroup": [
        _column("Cluster", ".spec.cluster"),
        _column("Desired", ".status.desiredReplicas", "integer"),
        _column("Ready", ".status.readyReplicas", "integer"),
        _column("Updated", ".status.updatedReplicas", "integer"),
        _REASON,
        _column("Autoscaler", ".status.autoscaler", priority=1),
        _AGE,
    ],
    "DaskJob": [
        _column("Status", ".status.jobStatus"),
        _column("Percent", ".status.progress.percent", "integer"),
        _REASON,
        _column("Runner", ".status.jobRunnerPodName", priority=1),
        _column("Started", ".status.startTime", "date"),
        _column("Ended", ".status.endTime", "date"),
        _AGE,
    ],
    "DaskAutoscaler": [
        _column("Cluster", ".spec.cluster"),
        _column("Minimum", ".spec.minimum", "integer"),
        _column("Maximum", ".spec.maximum", "integer"),
        _column("Desired", ".status.desiredReplicas", "integer"),
        _REASON,
        _AGE,
    ],
}


def custom_resource_definition(kind: str) -> dict[str, Any]:
    """The CRD manifest of one kind."""
    forms = _PLURALS[kind]
    singular = kind.lower()
    short = [name for name in forms["shortNames"] if name != singular]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{forms['plural']}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": forms["plural"],
                "singular": singular,
                "shortNames": short,
                "categories": ["dask"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": structural(kind)},
                    "subresources": _SUBRESOURCES[kind],
                    "additionalPrinterColumns": _COLUMNS[kind],
                }
            ],
        },
    }


def structural(kind: str) -> dict[str, Any]:
    """Structural schema (OpenAPI v3) of one kind, with defaults, list-map keys and CEL rules."""
    (root,), components = msgspec.json.schema_components([KINDS[kind]], ref_template="{name}")
    schema: dict[str, Any] = _structural(components[root["$ref"]], components)
    properties = schema["properties"]
    properties |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    properties["status"]["default"] = _FIRST_STATUS[kind]
    properties["spec"] = _walk(properties["spec"], _with_nullable_objects)
    if SPEC_RULES.get(kind):
        properties["spec"]["x-kubernetes-validations"] = SPEC_RULES[kind]
    if ROOT_RULES[kind]:
        schema["x-kubernetes-validations"] = ROOT_RULES[kind]
    schema["required"] = ["spec"]
    return schema


def json_schema(kind: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one kind for editors, ``jsonschema``, ``kubeconform``; unknown fields refused."""

    def strict(node: dict[str, Any]) -> dict[str, Any]:
        node.pop("nullable", None)  # as all nulls, see `dask_constructs.problems`
        if node.pop("x-kubernetes-int-or-string", False):
            node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        if "properties" in node and not node.pop("x-kubernetes-preserve-unknown-fields", False):
            node["additionalProperties"] = False
        return {key: value for key, value in node.items() if not key.startswith("x-kubernetes")}

    schema: dict[str, Any] = _walk(structural(kind), strict)
    schema["properties"] |= {
        "apiVersion": {"const": names.API_VERSION},
        "kind": {"const": kind},
        "metadata": {"type": "object"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{kind} {names.API_VERSION}",
        **schema,
        "required": ["apiVersion", "kind", "metadata", "spec"],
    }


def _structural(node: dict[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    """Bring one msgspec JSON Schema node, and all below it, into structural form."""
    if "x-vendored" in node:
        kept = {key: node[key] for key in ("description", "x-kubernetes-validations") if key in node}
        schema = kept | structural_schema(node["x-vendored"])
        return _strict_pod(schema) if node["x-vendored"] == "PodSpec" else schema
    if "anyOf" in node:  # X | None: the API server drops nulls of fields that are not nullable
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        if rest.get("x-kubernetes-int-or-string"):
            return rest
        return _structural({**options[0], **rest}, components)
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key not in ("$ref", "default")}
        return {**_structural(components[node["$ref"]], components), **rest}
    out = {key: value for key, value in node.items() if key not in ("title", "default", "required")}
    if "enum" in out:
        out.setdefault("type", "string")
    if "items" in out:
        out["items"] = _structural(out["items"], components)
    if isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(out["additionalProperties"], components)
    if "properties" in out:
        out["properties"] = {
            name: _structural(child, components) | _default(name, child) for name, child in out["properties"].items()
        }
        if node.get("required"):
            out["required"] = node["required"]
    return out


#: At least nothing, and written as Kubernetes wants it: other amounts would be refused with every single Pod.
_AMOUNTS = {
    "type": "object",
    "additionalProperties": {"x-kubernetes-int-or-string": True, "minimum": 0, "pattern": AMOUNT},
}


def _strict_pod(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a PodSpec with what the API server says of a Pod only when it is created, as far as it is cheap."""
    properties = schema["properties"]
    properties["containers"]["minItems"] = 1
    properties["restartPolicy"]["enum"] = ["Always", "Never", "OnFailure"]
    properties["dnsPolicy"]["enum"] = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]
    resources = [properties["resources"]]
    for field in ("containers", "initContainers"):
        container = properties[field]["items"]
        container["required"] = ["image", *container["required"]]
        container["properties"]["image"]["minLength"] = 1
        container["properties"]["imagePullPolicy"]["enum"] = ["Always", "IfNotPresent", "Never"]
        resources.append(container["properties"]["resources"])
    for amounts in resources:
        amounts["properties"] |= {"limits": _AMOUNTS, "requests": _AMOUNTS}
    return schema


def _default(name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    if name in DEFAULTS and node.get("default") == DEFAULTS[name]:
        return {"default": DEFAULTS[name]}
    return {}


def _with_nullable_objects(node: dict[str, Any]) -> dict[str, Any]:
    """A schema whose optional objects may be null.

    Server-side apply leaves null where it takes away the last field of an object that is still stated as ``{}``. The
    API server would refuse that, and so every later change.
    """
    required = node.get("required", ())
    properties = {
        name: {**child, "nullable": True} if child.get("type") == "object" and name not in required else child
        for name, child in node.get("properties", {}).items()
    }
    return {**node, "properties": properties} if properties else node


def _walk(node: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Apply ``change`` to every schema node, leaves first. Property names are not schema nodes."""
    if not isinstance(node, dict):
        return node
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: _walk(child, change) for name, child in value.items()}
        elif key in ("items", "additionalProperties"):
            out[key] = _walk(value, change)
        else:
            out[key] = value
    return change(out)
