"""The names of the API on one page: group, kinds, labels, child objects, ports and environment.

Existing clients (``dask_kubernetes.operator.KubeCluster``, Flyte's Dask plugin, people's ``kubectl``
commands) select on these, so a change here breaks somebody.
"""

from __future__ import annotations

GROUP = "kubernetes.dask.org"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"

#: Longest name of a DaskCluster: its scheduler Service is ``<cluster>-scheduler`` and must be a DNS label.
MAX_CLUSTER_NAME = 63 - len("-scheduler")
#: Longest name of a DaskWorkerGroup: it is the value of a label.
MAX_GROUP_NAME = 63

# Labels that clients select on.
CLUSTER = "dask.org/cluster-name"
COMPONENT = "dask.org/component"
WORKER_GROUP = "dask.org/workergroup-name"
# Labels and annotations of our own.
REVISION = "dask.org/revision"  #: hash of what an object was made from, such as the template of a Pod
TEMPLATE = "dask.org/template"  #: hash of the Pod's template of a scheduler, with what the operator has added to it
WORKER_NAME = "dask.org/worker-name"  #: the name under which the Pod's worker registers with the scheduler
CLUSTER_REPLICAS = "dask.org/cluster-replicas"  #: the cluster's ``spec.worker.replicas`` that was handed on last
LAST_APPLIED = "dask.org/last-applied-metadata"  #: labels and annotations that an object has from its user
#: When workers were asked to restart last, as ``kubectl rollout restart`` writes it into a Deployment.
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
RUN_ID = "dask.org/run-id"  #: hash of the ``spec.runId`` that an object belongs to

SCHEDULER_ID = "dask.org/scheduler-id"  #: the life of the scheduler that a runner was started for
SUSPENDED = "dask.org/suspended"  #: when the operator has suspended a runner; without it somebody else has
MOST_WORKERS = "dask.org/most-workers"  #: Pods that a default group may have while a runner lacks room for its own

SCHEDULER = "scheduler"
WORKER = "worker"
WORKERGROUP = "workergroup"
JOB_RUNNER = "job-runner"
JOB_STARTER = "job-starter"  #: Pods of a CronJob that create DaskJobs

COMM_PORT = "tcp-comm"
COMM_PORT_NUMBER = 8786
DASHBOARD_PORT = "http-dashboard"
DASHBOARD_PORT_NUMBER = 8787

ENV_WORKER_NAME = "DASK_WORKER_NAME"
ENV_SCHEDULER_ADDRESS = "DASK_SCHEDULER_ADDRESS"

#: Who wrote a field (``metadata.managedFields``): one manager for children, one for status.
FIELD_MANAGER = "dask-operator"
STATUS_MANAGER = "dask-operator-status"


def scheduler(cluster: str) -> str:
    """Name of a cluster's scheduler Deployment and of its Service."""
    return f"{cluster}-scheduler"


def scheduler_extension(cluster: str) -> str:
    """Name of the ConfigMap with the module that a cluster's scheduler loads."""
    return f"{scheduler(cluster)}-extension"


def default_group(cluster: str) -> str:
    """Name of the worker group that a DaskCluster brings along."""
    return f"{cluster}-default"


def worker(group: str, ordinal: int) -> str:
    """Name of a worker Pod. Deterministic, so a repeated create collides (409) instead of making one too many."""
    return f"{group}-worker-{ordinal}"


def runner(job: str) -> str:
    """Name of a DaskJob's runner Job."""
    return f"{job}-runner"
