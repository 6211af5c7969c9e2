"""Worker Pods."""

from __future__ import annotations

from typing import Any

from dask_crds import names
from dask_crds.model import DaskWorkerGroup
from dask_crds.names import Annotation, Component, Env, Label

from . import eviction
from .metadata import child_metadata
from .pod import NO_SIDECAR, with_environment, with_last_words
from .scheduler import DEFAULT_CLUSTER_DOMAIN, comm_address, host
from .security import secured_revision, with_tls
from .worker_hook import DEFAULT_GRACE_SECONDS, with_drain

DEFAULT_DRAIN_TIMEOUT_SECONDS = 300


def worker_labels(group: DaskWorkerGroup) -> dict[str, str]:
    """Labels by which the workers of ``group`` are found."""
    return {
        Label.CLUSTER: group.spec.cluster,
        Label.COMPONENT: Component.WORKER,
        Label.WORKER_GROUP: group.name,
    }


def worker_revision(group: DaskWorkerGroup, certificates: str = "") -> str:
    """Revision of the workers that the group asks for.

    It is that of their PodSpec, the last request to restart them, and the Secret with the certificates of the cluster.
    """
    worker = group.spec.worker
    restarted_at = ((worker.metadata and worker.metadata.annotations) or {}).get(Annotation.RESTARTED_AT)
    return secured_revision(worker.spec if restarted_at is None else [worker.spec, restarted_at], certificates)


def worker_metadata(group: DaskWorkerGroup) -> dict[str, Any]:
    """What the metadata of the group's workers have in common; it may change without a restart."""
    template, labels = group.spec.worker.metadata, worker_labels(group)
    metadata = child_metadata(group, "", template=template, labels=labels, defaults=eviction.WORKER)
    return metadata | {"labels": NO_SIDECAR | metadata["labels"]}


def drain_timeout(group: DaskWorkerGroup) -> int:
    """Seconds that a worker on its way out is kept while it still runs or holds something."""
    seconds = group.spec.worker.drain_timeout_seconds
    return DEFAULT_DRAIN_TIMEOUT_SECONDS if seconds is None else seconds


def stop_seconds(group: DaskWorkerGroup) -> int | None:
    """Grace period for deleting a worker that has nothing to lose; ``None``: the one that its user has set."""
    return None if "terminationGracePeriodSeconds" in group.spec.worker.spec else DEFAULT_GRACE_SECONDS


def worker_pod(
    group: DaskWorkerGroup,
    ordinal: int,
    incarnation: str,
    *,
    domain: str = DEFAULT_CLUSTER_DOMAIN,
    cluster_uid: str = "",
    certificates: str = "",
) -> dict[str, Any]:
    """Worker Pod ``<group>-worker-<ordinal>``.

    The Pod's name says which place in the group it fills, so that creating it twice is refused by the API server.
    Its worker registers as ``<pod>-<incarnation>``, because a scheduler refuses a name that it still knows
    (distributed, ``Scheduler.add_worker``: "name taken"), and after the loss of a node it knows it for minutes.

    Args:
        group: that it is of.
        ordinal: its place in the group.
        incarnation: what makes its worker's name another one.
        domain: DNS domain of the Kubernetes cluster.
        cluster_uid: uid of its DaskCluster, for the key with which its hook signs; empty if there is none yet.
        certificates: name of the Secret with the certificates of that cluster; empty where it speaks plain TCP.
    """
    name = names.worker(group.name, ordinal)
    worker_name = f"{name}-{incarnation}"
    environment = {
        Env.WORKER_NAME: worker_name,
        Env.SCHEDULER_ADDRESS: comm_address(group.spec.cluster, group.namespace, domain, tls=bool(certificates)),
    }
    metadata = worker_metadata(group) | {"name": name}
    metadata["labels"] = metadata["labels"] | {Label.REVISION: worker_revision(group, certificates)}
    metadata["annotations"] = metadata.get("annotations", {}) | {Annotation.WORKER_NAME: worker_name}
    told = with_last_words(with_environment(group.spec.worker.spec, environment), Component.WORKER)
    spec = with_drain(
        with_tls(told, Component.WORKER, certificates, required=True),
        host=host(group.spec.cluster, group.namespace, domain),
        worker_name=worker_name,
        drain_seconds=drain_timeout(group),
        secret=names.security(group.spec.cluster, cluster_uid) if cluster_uid else None,
    )
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
