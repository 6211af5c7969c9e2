"""The short form's options: what is said of Pods besides their image, as keyword arguments of the constructs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from dask_crds.kubernetes.core_v1 import EnvFromSource, PodResourceClaim, PodSpec, ResourceRequirements, ServiceSpec
from dask_crds.kubernetes.partial import PartialPodSpec
from dask_crds.model import MAX_WORKERS, PERCENTAGE, PodFailurePolicy

from .history import Kept
from .keywords import Plain, Problem
from .placement import Placement
from .security import Security
from .shapes import shape, shape_problems
from .spot import Spot
from .values import (
    Cores,
    Count,
    EnvironmentValue,
    Memory,
    Named,
    Seconds,
    Secret,
    ServiceAccount,
    Text,
    Workers,
    reference,
)
from .volumes import Mountable, MountPath


def _change(given: object) -> object:
    if callable(given) or isinstance(given, Mapping):
        return given
    raise ValueError(f"must be a function from PodSpec to PodSpec, or a mapping of changes, not {given!r}")


def _change_problems(change: object) -> Iterator[Problem]:
    return shape_problems("PodSpec", change) if isinstance(change, Mapping) else iter(())


#: What a container requests and is limited to: CPU, memory, GPUs, in the place of the default.
Resources = Annotated[ResourceRequirements, shape("ResourceRequirements")]
#: Last word on a Pod: a function from PodSpec to PodSpec, or changes to lay over it (see ``dask_crds.merge.merged``).
#: ``None`` is among them, and not beside them, for the sake of mypy, which else infers nothing about a lambda.
PodChange = Annotated[
    Callable[[PodSpec], PodSpec] | PartialPodSpec | None, Plain(Any, "a change of a Pod", _change, _change_problems)
]


def _source(given: Any) -> object:
    """All of a Secret or ConfigMap as environment variables."""
    kind = getattr(given, "kind", "")
    references = {"Secret": "secretRef", "ConfigMap": "configMapRef"}
    return {references[kind]: {"name": given.name}} if kind in references else given


EnvironmentSource = Annotated[
    EnvFromSource | Named,
    shape("EnvFromSource", "a Secret, a ConfigMap, or a mapping as {'secretRef': {'name': ...}}", _source),
]


_CLAIM = "the name of a ResourceClaimTemplate, such an object, a ResourceClaim, or a mapping"


def _claim(given: Any) -> object:
    fields = {"ResourceClaim": "resourceClaimName", "ResourceClaimTemplate": "resourceClaimTemplateName"}
    kind = "ResourceClaimTemplate" if isinstance(given, str) else getattr(given, "kind", "")
    return {fields[kind]: getattr(given, "name", given)} if kind in fields else given


ResourceClaim = Annotated[str | PodResourceClaim | Named, shape("PodResourceClaim", _CLAIM, _claim)]


def _amount(given: Any) -> object:
    is_number = isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= MAX_WORKERS
    if not is_number and not (isinstance(given, str) and re.fullmatch(PERCENTAGE, given)):
        raise ValueError(f"must be a number of workers or a percentage such as '25%', not {given!r}")
    return given


Amount = Annotated[int | str, Plain(Any, "a number or a percentage", _amount)]


class ContainerOptions(Placement, total=False):
    """What can be said of Pods before and after they were made."""

    env: Mapping[Text, EnvironmentValue] | None
    """Environment variables; a value may be a source, ``{"secretKeyRef": {"name": "s3", "key": "token"}}`` say."""
    env_from: Sequence[EnvironmentSource] | None
    """Secrets and ConfigMaps each of whose keys becomes an environment variable, as objects or as
    ``{"secretRef": {"name": "s3"}}``; ``env`` overrules them."""
    volumes: Mapping[MountPath, Mountable] | None
    """What is mounted at which path: a ``Volume``, an object of cdk8s-plus, or a volume as Kubernetes writes it,
    ``{"nfs": {"server": ..., "path": ...}}`` say."""
    code: Text | None
    """An OCI image with a program's files: mounted read-only at ``/code``, which is on ``PYTHONPATH`` and the working
    directory. It is not run, so it may be built ``FROM scratch`` (Kubernetes 1.36)."""
    service_account: ServiceAccount | None
    """ServiceAccount of the Pods; without one they get no Kubernetes token."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None
    """When to pull the image (default: Kubernetes' own, ``Always`` for the tag ``latest``, else ``IfNotPresent``)."""
    image_pull_secrets: Sequence[Secret] | None
    """Names of Secrets with the registry's credentials."""
    host_users: bool | None
    """``False``: root in the Pod is nobody on its node (user namespaces)."""
    termination_grace_period: Seconds | None
    """Seconds between SIGTERM and SIGKILL; a worker's drain takes place within them."""


class PodOptions(ContainerOptions, total=False):
    """What scheduler, workers and runner share."""

    user: Count | Literal["image"] | None
    """Numeric user and group of the processes (default 1000). 0 is root, which a namespace with restricted Pod
    security refuses; ``"image"`` leaves the choice to the image, or to the platform."""
    ipv6_only: bool | None
    """Whether Pods have no IPv4 address (default false): Dask looks for one, and serves its dashboards there, unless it
    is told otherwise."""


class TemplateOptions(TypedDict, total=False):
    """Metadata of the Pods of one kind."""

    labels: Mapping[Text, str] | None
    """Labels of these Pods."""
    annotations: Mapping[Text, str] | None
    """Annotations of these Pods."""


class RoleOptions(PodOptions, TemplateOptions, total=False):
    """What only the scheduler, only the workers or only the runner have.

    Mappings are added to what all Pods have, key by key; anything else takes its place.
    """

    image: Text | None
    """Container image."""


class PodChangeOption(TypedDict, total=False):
    """The last word by itself."""

    pod: PodChange
    """Last word on a Pod."""


class RoleChanges(ContainerOptions, TemplateOptions, total=False):
    """What can be added to the Pods of one kind after they were made."""


class WorkerOptions(PodOptions, total=False):
    """Size and kind of the workers of a group."""

    workers: Workers | None
    """Number of workers. Left out, Git does not state it: it starts at 1, and ``kubectl scale``, clients and
    autoscalers decide; stated, Git decides and whatever else is set gets reverted."""
    guaranteed_workers: Workers | None
    """With a ``queue``: workers that get quota together with the scheduler or not at all; each further one gets it by
    itself, and may lose it (default: ``minimum_workers`` of a job, the minimum of an autoscaler, else all)."""
    cores: Cores | None
    """CPUs of a worker (default 1), requested and limited."""
    memory: Memory | None
    """Memory of a worker's container (default ``"2Gi"``), requested and limited."""
    gpus: Count | None
    """GPUs of a worker, also offered to tasks as the Dask resource ``GPU``."""
    gpu_resource: Text | None
    """What Kubernetes calls such a GPU (default ``"nvidia.com/gpu"``), ``"amd.com/gpu"`` or ``"nvidia.com/mig-1g.5gb"``
    say."""
    resource_claims: Mapping[Text, ResourceClaim] | None
    """Devices by dynamic resource allocation: a ResourceClaimTemplate of which each worker gets one, by a name of your
    own, or ``{"resourceClaimName": ...}`` for one that all share."""
    processes: Annotated[int, Meta(ge=1, le=1000)] | None
    """Worker processes in each Pod (default 1, with dask-cuda one for each GPU). They share its cores, memory, GPUs and
    spill disk evenly."""
    threads: Annotated[int, Meta(ge=1)] | None
    """Threads that run tasks in each process (default: its share of the whole cores, at least 1)."""
    worker_resources: Mapping[Text, Annotated[float, Meta(gt=0)]] | None
    """Dask resources of each process, for tasks annotated with ``resources={"BIG": 1}``."""
    spill: Memory | None
    """Size of a disk of its own that a worker spills to, ``"100Gi"`` say (default: no bound, on the node's disk). What
    does not fit stays in memory."""
    spill_storage_class: Annotated[str | Named, reference("StorageClass")] | None
    """StorageClass of that disk, which comes and goes with its worker (default: a part of the node's own disk)."""
    worker_command: Annotated[Sequence[Text], Meta(min_length=1)] | None
    """Program that is the worker (default ``["dask-worker"]``), ``["dask-cuda-worker"]`` say."""
    worker_args: Sequence[str] | None
    """Further arguments of that program."""
    spot: Spot | None
    """Workers on nodes that their provider may take back: ``"eks"`` (managed node groups), ``"karpenter"``, ``"gke"``,
    ``"aks"``, or a label of such nodes, ``"pool=spot"`` say, whose taint of the same key and value they tolerate. The
    grace period is the time that the provider gives; scheduler and runner are kept away. What you say of nodes and of
    ``termination_grace_period`` counts more."""
    drain_timeout: Seconds | None
    """Seconds that a worker on its way out is kept while it still runs a task or holds the only copy of a result."""
    worker_update: Literal["RollingUpdate", "OnDelete"] | None
    """Whether a changed worker template replaces the workers one after the other, drained first (default), or those
    that you delete."""
    max_surge: Amount | None
    """Workers above the wanted number while they are replaced, or a percentage of it (default ``"25%"``)."""
    max_unavailable: Amount | None
    """Workers that may be missing while they are replaced, or a percentage (default 0)."""
    worker_pod: PodChange
    """Last word on the worker Pods."""


class ClusterOptions(WorkerOptions, total=False):
    """A cluster: its scheduler, and the workers of its default group."""

    queue: Annotated[str | Named, reference("LocalQueue")] | None
    """LocalQueue of Kueue, or its name: nothing runs before there is quota."""
    queue_priority: Text | None
    """WorkloadPriorityClass of Kueue: who waits, and who gives way, in that queue."""
    scheduler: RoleOptions | None
    """What only the scheduler's Pod has: all that may be said of all Pods, labels, annotations, another image."""
    worker: RoleOptions | None
    """What only the workers of the default group have."""
    scheduler_cores: Cores | None
    """CPUs of the scheduler (default 1), requested and limited."""
    scheduler_memory: Memory | None
    """Memory of the scheduler (default ``"2Gi"``), requested and limited."""
    scheduler_args: Sequence[str] | None
    """Further arguments of ``dask-scheduler``."""
    security: Security | None
    """TLS between scheduler, workers, runner and clients (default: none): ``Tls.cert_manager()`` with cert-manager,
    ``Tls.secret(...)`` with certificates of your own, ``Tls.generated()`` where the operator is to make them."""
    history: Kept | None
    """Where the scheduler keeps a record of what ran (default: nowhere): ``History.claim("runs")``, a
    PersistentVolumeClaim, or ``History.bucket("s3://runs/dask")``."""
    jupyter: bool | None
    """Serve JupyterLab beside the dashboard, at ``/jupyter``."""
    idle_timeout: Seconds | None
    """Seconds without work after which ``idle_action`` is taken (default 0: never)."""
    no_client_timeout: Seconds | None
    """Seconds without a connected client after which ``idle_action`` is taken, whatever is still running (default 0:
    never)."""
    idle_action: Literal["Delete", "Suspend"] | None
    """What to do with an idle cluster, or one without clients (default ``Delete``). A GitOps tool would create a
    deleted one again, so ``Suspend`` is for clusters in Git."""
    wake: Literal["Manual", "OnConnect"] | None
    """What ends a suspension: whoever sets ``suspend`` (default), or a client that connects, as well
    (``OnConnect``; needs ``DaskActivator``)."""
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None
    """Type of the scheduler's Service (default ``ClusterIP``)."""
    service: Annotated[ServiceSpec, shape("ServiceSpec")] | None
    """More of that Service's spec, ``{"loadBalancerSourceRanges": ["10.0.0.0/8"]}`` say."""
    service_labels: Mapping[Text, str] | None
    """Labels of that Service."""
    service_annotations: Mapping[Text, str] | None
    """Annotations of that Service, such as those by which a cloud's load balancer is set up."""
    scheduler_eviction: Literal["Block", "Allow"] | None
    """Whether node drains may evict the scheduler, and so end all work (default ``Block``)."""
    scheduler_update: Literal["Recreate", "OnDelete"] | None
    """Whether a changed scheduler template replaces the scheduler at once (default), or when its Pod is deleted."""
    scheduler_pod: PodChange
    """Last word on the scheduler's Pod."""


class JobOptions(ClusterOptions, total=False):
    """A program and the cluster that lives as long as it runs."""

    runner: RoleOptions | None
    """What only the runner's Pod has."""
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
    deletion_delay: Seconds | None
    """Seconds that the cluster is kept after that (default 0)."""
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
