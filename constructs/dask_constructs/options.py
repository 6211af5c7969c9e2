"""The short form's options: what is said of Pods besides their image, as keyword arguments of the constructs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from dask_crds.kubernetes.core_v1 import PodSpec
from dask_crds.model import PodFailurePolicy

from .keywords import Plain
from .values import Cores, Count, EnvironmentValue, Memory, Seconds, Secret, ServiceAccount, Text, Workers


def _change(given: object) -> object:
    if callable(given) or isinstance(given, Mapping):
        return given
    raise ValueError(f"must be a function from PodSpec to PodSpec, or a mapping of changes, not {given!r}")


#: Last word on a Pod: a function from PodSpec to PodSpec, or changes to lay over it (see ``dask_crds.merge.merged``).
#: ``None`` is among them, and not beside them, for the sake of mypy, which else infers nothing about a lambda.
PodChange = Annotated[Callable[[PodSpec], PodSpec] | Mapping[str, Any] | None, Plain(Any, "a change of a Pod", _change)]


class PodOptions(TypedDict, total=False):
    """What scheduler, workers and runner share."""

    env: Mapping[Text, EnvironmentValue] | None
    """Environment variables; a value may be a source, ``{"secretKeyRef": {"name": "s3", "key": "token"}}`` say."""
    user: Count | Literal["image"] | None
    """Numeric user and group of the processes (default 1000). 0 is root, which a namespace with restricted Pod
    security refuses; ``"image"`` leaves the choice to the image, or to the platform."""
    service_account: ServiceAccount | None
    """ServiceAccount of the Pods; without one they get no Kubernetes token."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None
    """When to pull the image (default: Kubernetes' own, ``Always`` for the tag ``latest``, else ``IfNotPresent``)."""
    image_pull_secrets: Sequence[Secret] | None
    """Names of Secrets with the registry's credentials."""
    ipv6_only: bool | None
    """Whether Pods have no IPv4 address (default false): Dask looks for one, and serves its dashboards there, unless it
    is told otherwise."""


class WorkerOptions(PodOptions, total=False):
    """Size and kind of the workers of a group."""

    workers: Workers | None
    """Number of workers. Left out, Git does not state it: it starts at 1, and ``kubectl scale``, clients and
    autoscalers decide; stated, Git decides and whatever else is set gets reverted."""
    cores: Cores | None
    """CPUs of a worker (default 1), requested and limited."""
    memory: Memory | None
    """Memory of a worker's container (default ``"2Gi"``), requested and limited."""
    gpus: Count | None
    """GPUs of a worker (``nvidia.com/gpu``), also offered to tasks as the Dask resource ``GPU``."""
    threads: Annotated[int, Meta(ge=1)] | None
    """Threads that run tasks in a worker (default: its whole cores, at least 1)."""
    worker_resources: Mapping[Text, Annotated[float, Meta(gt=0)]] | None
    """Dask resources of a worker, for tasks annotated with ``resources={"BIG": 1}``."""
    worker_command: Annotated[Sequence[Text], Meta(min_length=1)] | None
    """Program that is the worker (default ``["dask-worker"]``), ``["dask-cuda-worker"]`` say."""
    worker_args: Sequence[str] | None
    """Further arguments of that program."""
    drain_timeout: Seconds | None
    """Seconds that a worker on its way out is kept while it still runs a task or holds the only copy of a result."""
    worker_pod: PodChange
    """Last word on the worker Pods."""


class ClusterOptions(WorkerOptions, total=False):
    """A cluster: its scheduler, and the workers of its default group."""

    scheduler_cores: Cores | None
    """CPUs of the scheduler (default 1), requested and limited."""
    scheduler_memory: Memory | None
    """Memory of the scheduler (default ``"2Gi"``), requested and limited."""
    scheduler_args: Sequence[str] | None
    """Further arguments of ``dask-scheduler``."""
    jupyter: bool | None
    """Serve JupyterLab beside the dashboard, at ``/jupyter``."""
    idle_timeout: Seconds | None
    """Seconds without work after which ``idle_action`` is taken (default 0: never)."""
    idle_action: Literal["Delete", "Suspend"] | None
    """What to do with an idle cluster (default ``Delete``). A GitOps tool would create a deleted one again, so
    ``Suspend`` is for clusters in Git."""
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None
    """Type of the scheduler's Service (default ``ClusterIP``)."""
    scheduler_eviction: Literal["Block", "Allow"] | None
    """Whether node drains may evict the scheduler, and so end all work (default ``Block``)."""
    scheduler_update: Literal["Recreate", "OnDelete"] | None
    """Whether a changed scheduler template replaces the scheduler at once (default), or when its Pod is deleted."""
    scheduler_pod: PodChange
    """Last word on the scheduler's Pod."""


class JobOptions(ClusterOptions, total=False):
    """A program and the cluster that lives as long as it runs."""

    runner_cores: Cores | None
    """CPUs of the runner (default 1), requested and limited."""
    runner_memory: Memory | None
    """Memory of the runner (default ``"1Gi"``), requested and limited."""
    retries: Count | None
    """Failed runner Pods that are replaced before the job has failed (default 0)."""
    deadline: Seconds | None
    """Longest time in seconds that a run may take, the wait for its cluster included."""
    ttl: Seconds | None
    """Seconds after which a finished run's runner Pod and logs are removed; the DaskJob stays."""
    delete_cluster: Literal["Always", "OnSuccess", "Never"] | None
    """Whether the cluster goes when the runner has finished (default ``Always``)."""
    run_id: str | None
    """Opaque; each new value is one more run of the job."""
    minimum_workers: Workers | None
    """Workers that must have registered before the program starts (default 0)."""
    on_scheduler_lost: Literal["RestartJob", "Fail", "Ignore"] | None
    """What to do when the scheduler restarts under the program (default ``RestartJob``)."""
    versions: Literal["Warn", "Enforce"] | None
    """What to do when runner, scheduler and workers have different versions of Dask (default ``Warn``)."""
    failure_policy: PodFailurePolicy | None
    """Which failures of the runner count (default: all but disruptions)."""
    runner_pod: PodChange
    """Last word on the runner's Pod."""
