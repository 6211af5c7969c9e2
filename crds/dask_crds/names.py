"""The names of the API on one page: group, labels, annotations, components, ports, environment and child objects.

Existing clients (``dask_kubernetes.operator.KubeCluster``, Flyte's Dask plugin, people's ``kubectl``
commands) select on these, so a change here breaks somebody.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

GROUP = "kubernetes.dask.org"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"

#: Longest name of a DaskCluster: its scheduler Service is ``<cluster>-scheduler`` and must be a DNS label.
MAX_CLUSTER_NAME = 63 - len("-scheduler")
#: Longest name of a DaskWorkerGroup: it is the value of a label.
MAX_GROUP_NAME = 63

#: Kubernetes appends five of these to ``generateName``. They make no words: `gpu-small` is not generated from `gpu`.
#: See https://github.com/kubernetes/apimachinery/blob/master/pkg/util/rand/rand.go.
SUFFIX_LETTERS, SUFFIX_LENGTH = "bcdfghjklmnpqrstvwxz2456789", 5

#: A DNS label as a pattern, its length apart.
DNS_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
#: Name within its cluster of the worker group that a DaskCluster brings along; no other has it.
DEFAULT_GROUP = "default"

#: Who wrote a field (``metadata.managedFields``): one manager for children, one for status.
FIELD_MANAGER = "dask-operator"
STATUS_MANAGER = "dask-operator-status"

#: Who writes what the activator writes; it manages the EndpointSlices that it leads to itself.
ACTIVATOR = "dask-activator"

#: The Secret with the operator's own key, in its namespace.
MASTER_SECRET = "dask-operator-master"


# Plain strings, not members of a StrEnum: they stand in manifests, and ``yaml.safe_dump`` writes no other strings.
class Label:
    """Keys of labels; clients select on the first three."""

    CLUSTER: Final = "dask.org/cluster-name"
    COMPONENT: Final = "dask.org/component"
    WORKER_GROUP: Final = "dask.org/workergroup-name"
    REVISION: Final = "dask.org/revision"  #: of a worker's Pod: hash of the template that it was made from
    RUN_ID: Final = "dask.org/run-id"  #: hash of the ``spec.runId`` that an object belongs to
    MADE_FROM: Final = "dask.org/made-from"  #: of a cluster: the template that it was made from
    SERVICE: Final = "kubernetes.io/service-name"  #: of an EndpointSlice: the Service that it belongs to
    SLICE_MANAGER: Final = "endpointslice.kubernetes.io/managed-by"  #: of an EndpointSlice: who looks after it
    OWNER: Final = "dask.org/owner"  #: of a cluster or a job: who uses it, as metrics of usage tell
    MANAGED: Final = "dask.org/managed"  #: of a namespace: ``false`` keeps the operator out of it
    QUEUE: Final = "kueue.x-k8s.io/queue-name"  #: the LocalQueue of Kueue that a cluster or job waits in
    PRIORITY_CLASS: Final = "kueue.x-k8s.io/priority-class"  #: its WorkloadPriorityClass
    QUEUE_ROLE: Final = "dask.org/queue-role"  #: of a Workload: what it asks quota for, see `QueueRole`


class Annotation:
    """Keys of annotations."""

    REVISION: Final = "dask.org/revision"  #: hash of what an object was made from
    OWNER: Final = "dask.org/owner"  #: the user who has made a cluster from a template
    #: Hash of the template of a scheduler's Pod, with what the operator has added to it.
    TEMPLATE: Final = "dask.org/template"
    WORKER_NAME: Final = "dask.org/worker-name"  #: the name under which a Pod's worker registers with the scheduler
    #: The cluster's ``spec.worker.replicas`` that was handed on last.
    CLUSTER_REPLICAS: Final = "dask.org/cluster-replicas"
    LAST_APPLIED: Final = "dask.org/last-applied-metadata"  #: labels and annotations that an object has from its user
    #: When workers were asked to restart last, as ``kubectl rollout restart`` writes it into a Deployment.
    RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"
    #: Whether cluster-autoscaler may evict a Pod; which of its volumes on the node it need not keep the Pod for.
    SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"
    SAFE_TO_EVICT_VOLUMES: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
    DO_NOT_DISRUPT: Final = "karpenter.sh/do-not-disrupt"  #: whether Karpenter leaves a Pod where it is
    SCHEDULER_ID: Final = "dask.org/scheduler-id"  #: the life of the scheduler that a runner was started for
    SUSPENDED: Final = "dask.org/suspended"  #: when the operator has suspended a runner; that it has a job's cluster
    #: Of a scheduler's Deployment: the Secret with the certificates by which its cluster speaks TLS.
    TLS_SECRET: Final = "dask.org/tls-secret"
    #: Pods that a default group may have while a runner lacks room for its own.
    MOST_WORKERS: Final = "dask.org/most-workers"
    #: Of a worker's Pod, and of the cluster of a job: the Workload whose quota it uses.
    WORKLOAD: Final = "dask.org/queue-workload"
    PLACEMENT: Final = "dask.org/queue-placement"  #: of a runner's Job: the nodes that its quota is for, as JSON


class Component:
    """Values of `Label.COMPONENT`."""

    SCHEDULER: Final = "scheduler"
    WORKER: Final = "worker"
    WORKER_GROUP: Final = "workergroup"
    JOB_RUNNER: Final = "job-runner"
    JOB_STARTER: Final = "job-starter"  #: Pods of a CronJob that create DaskJobs


class QueueRole:
    """Values of `Label.QUEUE_ROLE`."""

    BASE: Final = "base"  #: scheduler, runner and guaranteed workers, all or nothing
    SURPLUS: Final = "surplus"  #: one further worker


class NamedPort(NamedTuple):
    """A port by its two names."""

    name: str
    number: int


class Port:
    """Ports of a scheduler; workers have a dashboard of the same name."""

    COMM: Final = NamedPort("tcp-comm", 8786)
    TLS: Final = NamedPort("tls-comm", 8786)  #: what the Service calls that port where only TLS is spoken there
    LOOPBACK: Final = NamedPort("tcp-comm", 8789)  #: then the plain one, at the Pod's loopback: for port-forwards
    DASHBOARD: Final = NamedPort("http-dashboard", 8787)
    CONTROL: Final = NamedPort("dask-gitops", 8788)  #: where a scheduler takes the operator's orders


class Env:
    """Environment variables that containers of Dask get from the operator."""

    WORKER_NAME: Final = "DASK_WORKER_NAME"
    SCHEDULER_ADDRESS: Final = "DASK_SCHEDULER_ADDRESS"


def scheduler(cluster: str) -> str:
    """Name of a cluster's scheduler Deployment and of its Service."""
    return f"{cluster}-scheduler"


def doorway(cluster: str) -> str:
    """Name of the EndpointSlice by which a sleeping cluster's Service leads to the activator."""
    return f"{scheduler(cluster)}-activator"


def scheduler_extension(cluster: str) -> str:
    """Name of the ConfigMap with the module that a cluster's scheduler loads."""
    return f"{scheduler(cluster)}-extension"


def security(cluster: str, uid: str) -> str:
    """Name of the Secret of a cluster: another one for each that had the name, as nobody reads whose it is."""
    return f"{cluster}-security-{hashlib.sha256(uid.encode()).hexdigest()[:8]}"


def worker_group(cluster: str, name: str) -> str:
    """Name of the DaskWorkerGroup of a group that a cluster states under ``name``."""
    return f"{cluster}-{name}"


def default_group(cluster: str) -> str:
    """Name of the worker group that a DaskCluster brings along."""
    return worker_group(cluster, DEFAULT_GROUP)


def worker(group: str, ordinal: int) -> str:
    """Name of a worker Pod. Deterministic, so a repeated create collides (409) instead of making one too many."""
    return f"{group}-worker-{ordinal}"


def base_workload(kind: str, name: str, uid: str, run_id: str = "") -> str:
    """Name of the Workload of a DaskCluster or DaskJob: another one for each run."""
    return f"{kind.lower()}-{name}-{hashlib.sha256(f'{uid}/{run_id}'.encode()).hexdigest()[:5]}"


def surplus_workload(group: str, number: int) -> str:
    """Name of the Workload of a worker beyond the guaranteed ones."""
    return f"{group}-surplus-{number}"


def runner(job: str) -> str:
    """Name of a DaskJob's runner Job."""
    return f"{job}-runner"
