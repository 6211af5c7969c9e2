"""The short form's options: what is said of Pods besides their image, as keyword arguments of the constructs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from dask_crds.kubernetes.core_v1 import EnvVarSource, PodSpec
from dask_crds.model import PodFailurePolicy

#: A number, or a quantity as Kubernetes writes it: ``1.5`` or ``"500m"`` cores, ``"4Gi"`` or a number of bytes.
Quantity = int | float | str
#: Last word on a Pod: a function from PodSpec to PodSpec, or changes to lay over it (see ``dask_crds.merge.merged``).
PodChange = Callable[[PodSpec], PodSpec] | Mapping[str, Any]


class PodOptions(TypedDict, total=False):
    """What scheduler, workers and runner share."""

    env: Mapping[str, str | EnvVarSource]
    """Environment variables; a value may be a source, ``{"secretKeyRef": {"name": "s3", "key": "token"}}`` say."""
    user: int | None
    """Numeric user and group of the processes (default 1000). 0 is root, which a namespace with restricted Pod
    security refuses; ``None`` leaves the choice to the platform or the image."""
    service_account: str
    """ServiceAccount of the Pods; without one they get no Kubernetes token."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"]
    """When to pull the image (default: Kubernetes' own, ``Always`` for the tag ``latest``, else ``IfNotPresent``)."""
    image_pull_secrets: Sequence[str]
    """Names of Secrets with the registry's credentials."""
    ipv6_only: bool
    """Whether Pods have no IPv4 address (default false): Dask looks for one, and serves its dashboards there, unless it
    is told otherwise."""


class WorkerOptions(PodOptions, total=False):
    """Size and kind of the workers of a group."""

    workers: int | None
    """Number of workers. Left out, Git does not state it: it starts at 1, and ``kubectl scale``, clients and
    autoscalers decide; stated, Git decides and whatever else is set gets reverted."""
    cores: Quantity
    """CPUs of a worker (default 1), requested and limited."""
    memory: Quantity
    """Memory of a worker's container (default ``"2Gi"``), requested and limited."""
    gpus: int
    """GPUs of a worker (``nvidia.com/gpu``), also offered to tasks as the Dask resource ``GPU``."""
    threads: int
    """Threads that run tasks in a worker (default: its whole cores, at least 1)."""
    worker_resources: Mapping[str, float]
    """Dask resources of a worker, for tasks annotated with ``resources={"BIG": 1}``."""
    worker_command: Sequence[str]
    """Program that is the worker (default ``["dask-worker"]``), ``["dask-cuda-worker"]`` say."""
    worker_args: Sequence[str]
    """Further arguments of that program."""
    drain_timeout: int
    """Seconds that a worker on its way out is kept while it still runs a task or holds the only copy of a result."""
    worker_pod: PodChange
    """Last word on the worker Pods."""


class ClusterOptions(WorkerOptions, total=False):
    """A cluster: its scheduler, and the workers of its default group."""

    scheduler_cores: Quantity
    """CPUs of the scheduler (default 1), requested and limited."""
    scheduler_memory: Quantity
    """Memory of the scheduler (default ``"2Gi"``), requested and limited."""
    scheduler_args: Sequence[str]
    """Further arguments of ``dask-scheduler``."""
    jupyter: bool
    """Serve JupyterLab beside the dashboard, at ``/jupyter``."""
    idle_timeout: int
    """Seconds without work after which ``idle_action`` is taken (default 0: never)."""
    idle_action: Literal["Delete", "Suspend"]
    """What to do with an idle cluster (default ``Delete``). A GitOps tool would create a deleted one again, so
    ``Suspend`` is for clusters in Git."""
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    """Type of the scheduler's Service (default ``ClusterIP``)."""
    scheduler_eviction: Literal["Block", "Allow"]
    """Whether node drains may evict the scheduler, and so end all work (default ``Block``)."""
    scheduler_update: Literal["Recreate", "OnDelete"]
    """Whether a changed scheduler template replaces the scheduler at once (default), or when its Pod is deleted."""
    scheduler_pod: PodChange
    """Last word on the scheduler's Pod."""


class JobOptions(ClusterOptions, total=False):
    """A program and the cluster that lives as long as it runs."""

    runner_cores: Quantity
    """CPUs of the runner (default 1), requested and limited."""
    runner_memory: Quantity
    """Memory of the runner (default ``"1Gi"``), requested and limited."""
    retries: int
    """Failed runner Pods that are replaced before the job has failed (default 0)."""
    deadline: int
    """Longest time in seconds that a run may take, the wait for its cluster included."""
    ttl: int
    """Seconds after which a finished run's runner Pod and logs are removed; the DaskJob stays."""
    delete_cluster: Literal["Always", "OnSuccess", "Never"]
    """Whether the cluster goes when the runner has finished (default ``Always``)."""
    run_id: str
    """Opaque; each new value is one more run of the job."""
    minimum_workers: int
    """Workers that must have registered before the program starts (default 0)."""
    on_scheduler_lost: Literal["RestartJob", "Fail", "Ignore"]
    """What to do when the scheduler restarts under the program (default ``RestartJob``)."""
    versions: Literal["Warn", "Enforce"]
    """What to do when runner, scheduler and workers have different versions of Dask (default ``Warn``)."""
    failure_policy: PodFailurePolicy
    """Which failures of the runner count (default: all but disruptions)."""
    runner_pod: PodChange
    """Last word on the runner's Pod."""
