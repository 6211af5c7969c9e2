"""The tools that people point at manifests: kubeconform and kube-score."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

from tests.cluster import components
from tests.support.clusters import or_skip

DIST = Path(__file__).parents[2] / "dist"
VERSION = "1.37.0"  #: newest release of Kubernetes whose schemas kubernetes-validate has
#: What kube-score finds fault with and we do not mend, and why.
KUBE_SCORE_EXCEPTIONS = {
    "container-resources: CPU limit is not set": "a throttled operator is a late one; its requests keep its neighbours",
    "container-image-pull-policy: ImagePullPolicy is not set to Always": "a version is never pushed twice, a digest "
    "cannot be; and Pods must start while the registry is down",
    "pod-networkpolicy: The pod does not have a matching egress NetworkPolicy": "addresses and ports of API server, "
    "DNS and schedulers differ from cluster to cluster",
    "container-ephemeral-storage-request-and-limit: Ephemeral Storage limit is not set": "see the next one",
    "container-ephemeral-storage-request-and-limit: Ephemeral Storage request is not set": "a node that does not "
    "measure it has none to give",
    "networkpolicy-targets-pod: The NetworkPolicys selector doesn't match any pods": "a tenant's policies are for the "
    "Pods that the operator makes",
}


def documents(path: Path) -> list[dict[str, Any]]:
    return parsed(path.read_text())


def parsed(text: str) -> list[dict[str, Any]]:
    return list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def kubeconform_with(schemas: Path) -> Callable[..., dict[str, Any]]:
    """Runs kubeconform, strict, with the schemas that ``dist/schemas`` offers; gives its report.

    ``schemas`` is an empty folder for those of others. Kubernetes' own schemas, which it would download, are those of
    the package kubernetes-validate; those of Argo CD, Flux, Gateway API, Kueue and Prometheus' operator of their CRDs.
    """
    with or_skip("kubeconform"):
        program = components.ensure(["kubeconform"])["kubeconform"]
        others = (components.GATEWAY_API, components.KUEUE, components.PROMETHEUS_OPERATOR)
        tools = (*components.ARGO_CD, *components.FLUX, *(tool for each in others for tool in each))
        crds = [path for tool in tools for path in components.upstream_crds(tool)]
    package = Path(kubernetes_validate.__file__).parent
    for path in (package / "kubernetes-json-schema" / f"v{VERSION}-local-strict").glob("*.json"):
        schema = json.loads(path.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
        schema.pop("$id", None)  # it would be resolved against the network
        (schemas / path.name).write_text(json.dumps(schema))
    for path in crds:
        for name, schema in strict_schemas(*documents(path)):
            (schemas / name).parent.mkdir(exist_ok=True)
            (schemas / name).write_text(json.dumps(schema))
    command = [str(program), "-strict", "-summary", "-output", "json"]
    for location in (
        f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        f"{schemas}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json",
        f"{DIST}/schemas/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json",
    ):
        command += ["-schema-location", location]

    def run(*paths: Path) -> dict[str, Any]:
        done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    return run


def strict_schemas(*crds: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """JSON schemas of custom resources that refuse unknown fields, as the API server does, by their files' names."""
    for crd in crds:
        for version in crd["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            yield f"{crd['spec']['group']}/{crd['spec']['names']['kind'].lower()}_{version['name']}.json", schema


def strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields")
    return ({"additionalProperties": False} if closed else {}) | {key: strict(item) for key, item in schema.items()}


def kube_score(*paths: Path) -> set[str]:
    """Checks of kube-score that some object fails, each with the reason."""
    with or_skip("kube-score"):
        program = components.ensure(["kube-score"])["kube-score"]
    command = [str(program), "score", "--output-format=json", f"--kubernetes-version=v{VERSION.rpartition('.')[0]}"]
    done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)
    return {
        f"{check['check']['id']}: {comment['summary']}"
        for scored in json.loads(done.stdout)
        for check in scored["checks"]
        if not check["skipped"] and check["grade"] < 10  # 10 is OK
        for comment in check["comments"]
    }
