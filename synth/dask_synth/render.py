"""The children that the operator would make of a resource, told without a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dask_crds.model import KINDS, DaskCluster, DaskJob, DaskObject, DaskWorkerGroup, parse
from dask_resources.cluster import children
from dask_resources.job import job_cluster, runner_job
from dask_resources.metadata import without
from dask_resources.security import certificates_of
from dask_resources.worker import worker_pod

#: Stands for what the API server and the operator make up.
_UID = "00000000-0000-0000-0000-000000000000"
_INCARNATION = "00000"


def render(
    manifest: dict[str, Any],
    *,
    namespace: str,
    domain: str,
    not_inherited: Sequence[str] = (),
    certificates: str = "",
) -> Iterator[dict[str, Any]]:
    """Manifests of the children of a resource, and of theirs, parents first.

    Args:
        manifest: one of the four kinds.
        namespace: used where the manifest names none.
        domain: DNS domain of the Kubernetes cluster.
        not_inherited: see ``DaskOperator``.
        certificates: of a DaskWorkerGroup, the Secret with those of its cluster; empty where that speaks plain TCP.
    """
    metadata = {"namespace": namespace, "uid": _UID} | manifest["metadata"]
    if not metadata.get("name"):
        metadata["name"] = f"{metadata.get('generateName', '')}{_INCARNATION}"
    value = parse({**manifest, "metadata": without(metadata, tuple(not_inherited))})
    held = isinstance(value, DaskCluster) and value.spec.suspend  # its groups have no Pods then
    if isinstance(value, DaskCluster):
        certificates = certificates_of(value)
    for child in _children(value, domain, certificates):
        yield child
        if child["kind"] in KINDS and not held:
            yield from render(
                child, namespace=namespace, domain=domain, not_inherited=not_inherited, certificates=certificates
            )


def _children(value: DaskObject, domain: str, certificates: str) -> Iterator[dict[str, Any]]:
    match value:
        case DaskCluster():
            yield from (child.build(value) for child in children(value) if child.wanted)
        case DaskWorkerGroup():
            for ordinal in range(value.spec.worker.size):
                yield worker_pod(
                    value, ordinal, _INCARNATION, domain=domain, cluster_uid=_UID, certificates=certificates
                )
        case DaskJob():
            yield job_cluster(value)
            if not value.spec.suspend:
                yield runner_job(value, domain=domain, cluster_uid=_UID)
