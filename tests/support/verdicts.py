"""What an API server says to a manifest, and to all that the operator would make of it."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dask_crds.kinds import RESOURCES, ApiResource
from dask_crds.model import DaskCluster, DaskJob, DaskWorkerGroup, parse
from dask_resources.cluster import children
from dask_resources.job import job_cluster, runner_job
from dask_resources.worker import worker_pod


class Server:
    """Dry runs by an administrator, over one connection.

    Args:
        port: of the API server on this machine.
        pki: folder with the certificates of a `tests.cluster.ControlPlane`.
    """

    def __init__(self, port: int, pki: Path) -> None:
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)

    def dry_run(
        self, manifest: dict[str, Any], row: ApiResource | None = None, *, strict: bool = False
    ) -> tuple[int, dict[str, Any]]:
        """HTTP status and answer to the creation of an object; ``row`` says of which kind others than ours are."""
        row = row or RESOURCES[manifest["kind"]]
        where = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
        if row.namespaced:
            where += f"/namespaces/{quote(str(manifest['metadata'].get('namespace') or 'default'), safe='')}"
        query = "?dryRun=All" + ("&fieldValidation=Strict" if strict else "")
        body = json.dumps(_as_in_yaml(manifest)).encode()
        self._connection.request("POST", f"{where}/{row.plural}{query}", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        # Of a path that leads nowhere, such as one through a namespace with a slash, it says so in plain words.
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json else {"message": text.decode()}

    def refusals(self, manifest: dict[str, Any]) -> Iterator[tuple[int, str]]:
        """What is said against a manifest, or else against what becomes of it: status and message."""
        status, answer = self.dry_run(manifest, strict=True)
        if status == 404:  # no such namespace: could there be one?
            namespace = {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": manifest["metadata"]["namespace"]},
            }
            created, _ = self.dry_run(namespace, ApiResource("", "v1", "namespaces", "Namespace", namespaced=False))
            yield (403 if created < 300 else 422), "no such namespace"
            return
        if status >= 300:
            yield status, answer.get("message", "")
            return
        answer["metadata"].setdefault("namespace", "default")
        for child in made_of(answer):
            status, said = self.dry_run(child)
            if status >= 300:
                yield status, f"{child['kind']}: {said.get('message', '')}"


def made_of(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the operator makes of a manifest that the API server has accepted, as far as it depends on the manifest."""
    value = parse(manifest)
    if isinstance(value, DaskJob):
        runner = runner_job(value)
        yield runner
        yield _pod_of(runner)
        cluster = job_cluster(value)
        cluster["metadata"]["uid"] = value.uid
        yield from made_of(cluster)
    elif isinstance(value, DaskCluster):
        for child in children(value):
            if child.kind in ("Service", "Deployment", "DaskWorkerGroup"):
                made = child.build(value)
                yield made
                if child.kind == "Deployment":
                    yield _pod_of(made)
                if child.kind == "DaskWorkerGroup":
                    made["metadata"]["uid"] = value.uid
                    yield from made_of(made)
    elif isinstance(value, DaskWorkerGroup):
        yield worker_pod(value, 0, "abcde")


def _as_in_yaml(value: Any) -> Any:
    """With 1 for 1.0: so cdk8s writes it and kubectl reads it."""
    if isinstance(value, dict):
        return {key: _as_in_yaml(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_as_in_yaml(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    """The Pod that a Deployment's or Job's controller would make: of a Pod more is asked than of its template."""
    template = workload["spec"]["template"]
    metadata = {**template["metadata"], "name": "made-of-template", "namespace": workload["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
