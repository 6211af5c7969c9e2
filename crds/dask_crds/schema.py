"""From the model to the CustomResourceDefinitions and JSON schemas.

The model's JSON Schema (msgspec) is brought into the structural form that the API server accepts: references inlined,
the vendored PodSpec and ServiceSpec put in place, defaults dropped but for the few that have always existed (every
default that the server adds is a difference to a GitOps tool).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from . import names
from .descriptions import schema_components
from .kinds import DASK_KINDS
from .kubernetes import structural_schema
from .model import UNOBSERVED
from .quantity import AMOUNT

#: What numbers of a format can be.
_BOUNDS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def custom_resource_definition(kind: str) -> dict[str, Any]:
    """The CRD manifest of one kind."""
    row = DASK_KINDS[kind]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{row.plural}.{row.group}"},
        "spec": {
            "group": row.group,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": row.plural,
                "singular": kind.lower(),
                "shortNames": list(row.short_names),
                "categories": ["dask"],
            },
            "versions": [
                {
                    "name": row.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": structural(kind)},
                    "subresources": {"status": {}} | ({"scale": row.scale} if row.scale else {}),
                    "additionalPrinterColumns": list(row.columns),
                }
            ],
        },
    }


def structural(kind: str) -> dict[str, Any]:
    """Structural schema (OpenAPI v3) of one kind, with defaults, list-map keys and CEL rules."""
    row, components = DASK_KINDS[kind], schema_components()
    schema: dict[str, Any] = _structural(components[kind], components)
    properties = schema["properties"]
    properties |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    properties["status"]["default"] = {"observedGeneration": UNOBSERVED, **row.first_status}
    properties["spec"] = _walk(properties["spec"], _with_nullable_objects)
    if row.spec_rules:
        properties["spec"]["x-kubernetes-validations"] = list(row.spec_rules)
    if row.rules:
        schema["x-kubernetes-validations"] = list(row.rules)
    schema["required"] = ["spec"]
    typed: dict[str, Any] = _walk(schema, _with_type_before_format)
    return typed


def json_schema(kind: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one kind for editors, ``jsonschema``, ``kubeconform``; unknown fields refused."""
    schema: dict[str, Any] = _walk(structural(kind), _strict)
    schema["properties"] |= {
        "apiVersion": {"const": names.API_VERSION},
        "kind": {"const": kind},
        # Names only: of its own, Kubernetes writes nulls, which not all take for left out.
        "metadata": {
            "type": "object",
            "properties": {field: {} for field in structural_schema("ObjectMeta")["properties"]},
            "additionalProperties": False,
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{kind} {names.API_VERSION}",
        **schema,
        "required": ["apiVersion", "kind", "metadata", "spec"],
    }


def partial_schema(kubernetes_type: str) -> dict[str, Any]:
    """JSON Schema of a type of Kubernetes in which nothing is required; unknown fields refused."""

    def partial(node: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in _strict(node).items() if key != "required"}

    schema: dict[str, Any] = _walk(structural_schema(kubernetes_type), partial)
    return schema


def _strict(node: dict[str, Any]) -> dict[str, Any]:
    """A structural node as JSON Schema."""
    node.pop("nullable", None)  # as all nulls, see `dask_constructs.problems`
    if node.get("format") in _BOUNDS:  # which JSON Schema takes for a remark
        least, most = _BOUNDS[node["format"]]
        node = {"minimum": least, "maximum": most, **node}
    if node.pop("x-kubernetes-int-or-string", False):
        node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in node and not node.pop("x-kubernetes-preserve-unknown-fields", False):
        node["additionalProperties"] = False
    return {key: value for key, value in node.items() if not key.startswith("x-kubernetes")}


def embedded_types(kind: str) -> dict[str, str]:
    """Fields of a kind that hold types of Kubernetes, as ``spec.worker.spec``: ``core/v1/PodSpec``.

    Those of the members of a list are as ``spec.workerGroups[].spec``.
    """
    components = schema_components()
    return dict(_embedded(components[kind]["properties"]["spec"], components, "spec"))


def _embedded(node: Mapping[str, Any], components: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for option in node.get("anyOf", [node]):
        if vendored := option.get("x-vendored", node.get("x-vendored")):
            yield path, f"core/v1/{vendored}"
            return
        if "items" in option:
            yield from _embedded(option["items"], components, f"{path}[]")
        for field, child in components.get(option.get("$ref", ""), option).get("properties", {}).items():
            yield from _embedded(child, components, f"{path}.{field}")


def _structural(node: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    """Bring one msgspec JSON Schema node, and all below it, into structural form."""
    if "x-default" in node:
        rest = {key: value for key, value in node.items() if key != "x-default"}
        return {**_structural(rest, components), "default": node["x-default"]}
    if "x-vendored" in node:
        kept = {key: node[key] for key in ("description", "x-kubernetes-validations") if key in node}
        schema = kept | structural_schema(node["x-vendored"])
        return _strict_pod(schema) if node["x-vendored"] == "PodSpec" else schema
    if "anyOf" in node:  # X | None: the API server drops nulls of fields that are not nullable
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        if rest.get("x-kubernetes-int-or-string"):
            return rest
        return _structural({**rest, **options[0]}, components)
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
        out["properties"] = {name: _structural(child, components) for name, child in out["properties"].items()}
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
    # Never part of a new Pod, and large: a manifest with a list that is not empty makes no Pod.
    properties["ephemeralContainers"] = {"type": "array", "maxItems": 0, "items": {"type": "object"}}
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


def _with_type_before_format(node: dict[str, Any]) -> dict[str, Any]:
    """A schema whose times are text.

    Beside a ``format`` the API server does not look at the ``type`` of a list: it would take ``[]`` for a time (the
    type validator of k8s.io/kube-openapi, pkg/validation/validate/type.go). Apart from each other, both hold.
    """
    if node.get("type") == "string" and "format" in node:
        return {**{key: value for key, value in node.items() if key != "format"}, "allOf": [{"format": node["format"]}]}
    return node


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
