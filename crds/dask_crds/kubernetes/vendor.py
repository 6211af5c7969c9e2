"""Regenerate ``schema.json``, ``core_v1.py`` and ``partial.py`` from a Kubernetes OpenAPI v3 document.

Usage: ``python -m dask_crds.kubernetes.vendor DOCUMENT VERSION`` where DOCUMENT is the ``api/v1`` document of one
release, as ``kubectl get --raw /openapi/v3/api/v1`` prints it or as the Kubernetes sources hold it
(``api/openapi-spec/v3/api__v1_openapi.json``).
"""

from __future__ import annotations

import hashlib
import json
import keyword
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOTS = {"PodSpec": "io.k8s.api.core.v1.PodSpec", "ServiceSpec": "io.k8s.api.core.v1.ServiceSpec"}
HERE = Path(__file__).parent
#: Defaults that the old CRDs had too. Others would show up as drift in GitOps tools, so only these are kept.
KEPT_DEFAULTS = {"protocol": "TCP"}
#: Extensions that structural schemas allow and that server-side apply needs.
KEPT_EXTENSIONS = {"x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"}
#: Definitions that CRDs spell in another way.
SCALARS: dict[str, dict[str, Any]] = {
    "Quantity": {"x-kubernetes-int-or-string": True},
    "IntOrString": {"x-kubernetes-int-or-string": True},
    "Time": {"type": "string", "format": "date-time"},
    "FieldsV1": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


def short(ref: str) -> str:
    """Last part of a definition's name: ``#/components/schemas/io.k8s.api.core.v1.Container`` -> ``Container``."""
    return ref.rsplit(".", 1)[-1].rsplit("/", 1)[-1]


def structural(node: dict[str, Any]) -> dict[str, Any]:
    """One OpenAPI v3 node in the subset that CRDs accept, references kept as ``{"$ref": <short name>}``."""
    ref = node.get("$ref") or next((part["$ref"] for part in node.get("allOf", []) if "$ref" in part), None)
    if ref is not None:
        kept = {key: value for key, value in node.items() if key in KEPT_EXTENSIONS}
        return SCALARS.get(short(ref)) or {"$ref": short(ref), **kept}
    out: dict[str, Any] = {"type": node["type"]}
    out |= {key: node[key] for key in ("format", "enum", *sorted(KEPT_EXTENSIONS)) if key in node}
    if "items" in node:
        out["items"] = structural(node["items"])
    if "additionalProperties" in node:
        out["additionalProperties"] = structural(node["additionalProperties"])
    if "properties" in node:
        out["properties"] = {name: structural(child) for name, child in sorted(node["properties"].items())}
        for name, default in KEPT_DEFAULTS.items():
            if name in out["properties"] and node["properties"][name].get("default") == default:
                out["properties"][name]["default"] = default
    if node.get("required"):
        out["required"] = sorted(node["required"])
    return out


def reachable(schemas: dict[str, Any]) -> dict[str, Any]:
    """Every definition that the roots use, by short name."""
    found: dict[str, Any] = {}
    waiting = list(ROOTS.values())
    while waiting:
        full = waiting.pop()
        if short(full) in found or short(full) in SCALARS:
            continue
        found[short(full)] = structural(schemas[full])
        text = json.dumps(schemas[full])
        waiting += [name for name in schemas if f'"#/components/schemas/{name}"' in text and name not in waiting]
    used = json.dumps(found)
    return {name: found[name] for name in sorted(found) if name in ROOTS or f'"$ref": "{name}"' in used}


def keyed_lists(definitions: dict[str, Any]) -> None:
    """Make list-map keys valid for a CRD: each key must be required or have a default.

    An optional key without default (``name`` of ephemeral lists, say) would be refused by the API server, so such
    a list becomes atomic.
    """
    for definition in definitions.values():
        for child in definition.get("properties", {}).values():
            keys = child.get("x-kubernetes-list-map-keys")
            if not keys:
                continue
            item = definitions[child["items"]["$ref"]]
            if any(key not in item.get("required", []) and "default" not in item["properties"][key] for key in keys):
                del child["x-kubernetes-list-map-keys"]
                child["x-kubernetes-list-type"] = "atomic"


def python_type(node: dict[str, Any]) -> str:
    """Annotation for one structural node."""
    if "$ref" in node:
        return str(node["$ref"])
    if node.get("x-kubernetes-int-or-string"):
        return "int | float | str"
    match node["type"]:
        case "array":
            return f"Sequence[{python_type(node['items'])}]"
        case "object" if "additionalProperties" in node:
            return f"Mapping[str, {python_type(node['additionalProperties'])}]"
        case "object":
            return "Mapping[str, Any]"
        case "string":
            return "str"
        case "integer":
            return "int"
        case "number":
            return "float"
        case "boolean":
            return "bool"
    raise ValueError(f"no Python type for {node}")


def typed_dicts(definitions: dict[str, Any], version: str) -> str:
    """Source of ``core_v1.py``: one TypedDict a definition, so editors complete Pod fields and mypy checks them."""
    lines = _header(f"PodSpec and ServiceSpec of Kubernetes {version} as typed dictionaries.", "Any, NotRequired")
    for name, definition in definitions.items():
        lines += _typed_dict(name, f"Kubernetes core/v1 ``{name}``.", definition, definition.get("required", []))
    return "\n".join(lines).rstrip() + "\n"


def partial_typed_dicts(definitions: dict[str, Any], version: str) -> str:
    """Source of ``partial.py``: changes of a PodSpec, of which nothing is required.

    A type that requires nothing, nor anything within, is taken from ``core_v1.py`` as it is.
    """
    uses = {name: set(re.findall(r'"\$ref": "(\w+)"', json.dumps(body))) for name, body in definitions.items()}
    within = {"PodSpec"}
    while more := set().union(*(uses[name] for name in within)) - within:
        within |= more
    partial = {name for name in within if definitions[name].get("required")} | {"PodSpec"}
    while more := {name for name in within - partial if uses[name] & partial}:
        partial |= more
    lines = _header(f"Changes of PodSpecs (Kubernetes {version}): all may be left out, None removes.", "NotRequired")
    whole = sorted(set().union(*(uses[name] for name in partial)) - partial)
    lines += ["from .core_v1 import (", *(f"    {name}," for name in whole), ")", ""]
    for name in sorted(partial):
        renamed = {field: _renamed(child, partial) for field, child in definitions[name]["properties"].items()}
        doc = f"Changes of a Kubernetes core/v1 ``{name}``."
        lines += _typed_dict(f"Partial{name}", doc, {"properties": renamed}, ())
    return "\n".join(lines).rstrip() + "\n"


def _renamed(node: Any, partial: set[str]) -> Any:
    """A structural node whose references lead to the partial types."""
    if not isinstance(node, dict):
        return node
    if node.get("$ref") in partial:
        return {**node, "$ref": f"Partial{node['$ref']}"}
    return {key: _renamed(child, partial) for key, child in node.items()}


def _header(summary: str, typing: str) -> list[str]:
    return [
        f'"""{summary} Generated by ``vendor.py``."""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import Mapping, Sequence",
        f"from typing import {typing}, TypedDict",
        "",
    ]


def _typed_dict(name: str, doc: str, definition: dict[str, Any], required: Collection[str]) -> list[str]:
    """Lines of one TypedDict."""
    fields = definition.get("properties", {})
    entries = {
        key: python_type(child) if key in required else f"NotRequired[{python_type(child)} | None]"
        for key, child in fields.items()
    }
    if any(keyword.iskeyword(key) or not key.isidentifier() for key in entries):
        body = ", ".join(f'"{key}": "{annotation}"' for key, annotation in entries.items())
        return [f'{name} = TypedDict("{name}", {{{body}}})', ""]
    lines = ["", f"class {name}(TypedDict):", f'    """{doc}"""', ""]
    return [*lines, *([f"    {key}: {annotation}" for key, annotation in entries.items()] or ["    pass"]), ""]


def main(document: str, version: str) -> None:
    """Write all three files."""
    data = Path(document).read_bytes()
    definitions = reachable(json.loads(data)["components"]["schemas"])
    keyed_lists(definitions)
    vendored = {"version": version, "sha256": hashlib.sha256(data).hexdigest(), "definitions": definitions}
    (HERE / "schema.json").write_text(json.dumps(vendored, separators=(",", ":"), sort_keys=True) + "\n")
    (HERE / "core_v1.py").write_text(typed_dicts(definitions, version))
    (HERE / "partial.py").write_text(partial_typed_dicts(definitions, version))


if __name__ == "__main__":
    main(*sys.argv[1:])
