"""Pod templates from a short form: an image and a size give Pods that suit Dask and a restricted namespace.

What is made here ends up in the custom resource, where everybody can read it; the operator adds nothing to it but the
environment and the scheduler's extension. ``dask_constructs`` offers these as keyword arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from dask_crds import names
from dask_crds.kubernetes.core_v1 import (
    Container,
    EnvVar,
    EnvVarSource,
    PodSpec,
    Probe,
    ResourceRequirements,
    SecurityContext,
)
from dask_crds.merge import merged
from dask_crds.model import (
    DaskClusterSpec,
    DaskJobSpec,
    JobCluster,
    JobTemplate,
    PodFailurePolicy,
    Scheduler,
    SchedulerUpdateStrategy,
    Worker,
)
from dask_crds.quantity import parse_quantity

#: A number, or a quantity as Kubernetes writes it: ``1.5`` or ``"500m"`` cores, ``"4Gi"`` or a number of bytes.
Quantity = int | float | str
#: Last word on a Pod: a function from PodSpec to PodSpec, or changes to lay over it (see ``merge.merged``).
PodChange = Callable[[PodSpec], PodSpec] | Mapping[str, Any]

WORKER_DASHBOARD_PORT = 8788
LOCAL_DIRECTORY = "/tmp"
#: Bytes of a worker's container that are not the worker's: its nanny and the resource tracker take 60 MiB
#: (distributed 2026.8), the rest is for the kernel. The nanny acts at 95 % of what is left, which adds headroom that
#: grows with the worker.
RESERVED_MEMORY = 128 * 2**20
_MEBIBYTE = 2**20


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


# --- specs ------------------------------------------------------------------------------------------------------------


def cluster_spec(image: str, options: ClusterOptions) -> DaskClusterSpec:
    """Spec of a DaskCluster."""
    return DaskClusterSpec(
        scheduler=Scheduler(
            spec=scheduler_pod(image, options),
            service={"type": options["service_type"]} if "service_type" in options else None,
            update_strategy=SchedulerUpdateStrategy(type=options["scheduler_update"])
            if "scheduler_update" in options
            else None,
            eviction_policy=options.get("scheduler_eviction"),
        ),
        worker=worker(image, options),
        idle_timeout=options.get("idle_timeout"),
        idle_action=options.get("idle_action"),
    )


def worker(image: str, options: WorkerOptions) -> Worker:
    """Template and number of the workers of a group."""
    workers = options.get("workers")
    return Worker(
        spec=worker_pod(image, options),
        replicas=1 if workers is None else workers,
        drain_timeout_seconds=options.get("drain_timeout"),
    )


def job_spec(image: str, command: Sequence[str], options: JobOptions) -> DaskJobSpec:
    """Spec of a DaskJob that runs ``command``."""
    return DaskJobSpec(
        cluster=JobCluster(spec=cluster_spec(image, options), deletion_policy=options.get("delete_cluster")),
        job=JobTemplate(spec=runner_pod(image, command, options)),
        backoff_limit=options.get("retries"),
        active_deadline_seconds=options.get("deadline"),
        ttl_seconds_after_finished=options.get("ttl"),
        run_id=options.get("run_id"),
        minimum_ready_workers=options.get("minimum_workers"),
        on_scheduler_lost=options.get("on_scheduler_lost"),
        version_policy=options.get("versions"),
        pod_failure_policy=options.get("failure_policy"),
    )


# --- Pods -------------------------------------------------------------------------------------------------------------


def scheduler_pod(image: str, options: ClusterOptions) -> PodSpec:
    """PodSpec of a scheduler."""
    jupyter = ["--jupyter"] if options.get("jupyter") else []
    container: Container = {
        **_container("scheduler", image, options),
        # Clients read `args` of the first container (KubeCluster.from_name); the image's entrypoint stays. No `--host`:
        # so it listens at the addresses of all families.
        "args": [
            "dask-scheduler",
            *jupyter,
            *(("--dashboard-address", _everywhere(names.DASHBOARD_PORT_NUMBER)) if options.get("ipv6_only") else ()),
            *options.get("scheduler_args", ()),
        ],
        "ports": [
            {"name": names.COMM_PORT, "containerPort": names.COMM_PORT_NUMBER, "protocol": "TCP"},
            {"name": names.DASHBOARD_PORT, "containerPort": names.DASHBOARD_PORT_NUMBER, "protocol": "TCP"},
        ],
        "resources": _resources(
            options.get("scheduler_cores", 1), options.get("scheduler_memory", "2Gi"), of="scheduler_"
        ),
        "readinessProbe": _health(period=2, timeout=10, failures=15),
        # A large graph can keep the scheduler from answering for a minute or two, and a restart loses all work.
        "livenessProbe": _health(period=30, timeout=30, failures=10),
    }
    return _pod(container, options, options.get("scheduler_pod"))


def worker_pod(image: str, options: WorkerOptions) -> PodSpec:
    """PodSpec of a worker."""
    cores, memory, gpus = options.get("cores", 1), options.get("memory", "2Gi"), options.get("gpus", 0)
    resources = _resources(cores, memory, gpus=gpus)  # first, as it refuses what is no quantity
    offered = ({"GPU": gpus} if gpus else {}) | dict(options.get("worker_resources", {}))
    v6 = options.get("ipv6_only", False)
    if v6:
        options = {**options, "env": {"POD_IP": {"fieldRef": {"fieldPath": "status.podIP"}}, **options.get("env", {})}}
    container: Container = {
        **_container("worker", image, options),
        "args": [
            *options.get("worker_command", ["dask-worker"]),
            *("--name", f"$({names.ENV_WORKER_NAME})"),
            *("--nthreads", str(options.get("threads", whole_cores(cores)))),
            *("--memory-limit", str(worker_memory_limit(memory))),
            *("--local-directory", LOCAL_DIRECTORY),
            *(("--host", "[$(POD_IP)]") if v6 else ()),
            *("--dashboard", "--dashboard-address"),
            _everywhere(WORKER_DASHBOARD_PORT) if v6 else str(WORKER_DASHBOARD_PORT),
            # A worker that finds no scheduler ends, and its container starts anew.
            *("--death-timeout", "300"),
            *(("--resources", ",".join(f"{name}={amount}" for name, amount in offered.items())) if offered else ()),
            *options.get("worker_args", ()),
        ],
        "ports": [{"name": names.DASHBOARD_PORT, "containerPort": WORKER_DASHBOARD_PORT, "protocol": "TCP"}],
        "resources": resources,
        "readinessProbe": _health(period=5, timeout=10, failures=6),
        # A task that holds the GIL silences its worker for as long as it runs. The nanny restarts workers that died
        # and the scheduler forgets those that are silent for 5 minutes (`worker-ttl`): this is the last resort.
        "livenessProbe": _health(period=60, timeout=30, failures=10),
    }
    return _pod(container, options, options.get("worker_pod"))


def runner_pod(image: str, command: Sequence[str], options: JobOptions) -> PodSpec:
    """PodSpec of a runner: one run of ``command``, to which ``distributed.Client()`` connects by itself.

    Raises:
        TypeError: ``command`` is a string, which type checkers take for a sequence of strings.
    """
    if isinstance(command, str):
        raise TypeError(f"command must be a list of words, not {command!r}; for a shell: ['sh', '-c', {command!r}]")
    container: Container = {
        **_container("job", image, options),
        "args": list(command),
        "resources": _resources(options.get("runner_cores", 1), options.get("runner_memory", "1Gi"), of="runner_"),
    }
    return _pod(container, options, options.get("runner_pod"), restart_policy="Never")


def whole_cores(cores: Quantity) -> int:
    """Threads for that many CPUs: as many as run all the time without being throttled, at least one."""
    return max(1, int(parse_quantity(cores)))


def worker_memory_limit(memory: Quantity) -> int:
    """Bytes for a worker's data in a container of ``memory``.

    Less than the container's limit, because nanny and kernel count against that too: reaching it ends in the kernel's
    OOM killer, while the worker spills, pauses and restarts in good order at its own limit. Of small containers a
    quarter is held back.
    """
    total = int(parse_quantity(memory))
    limit = total - min(RESERVED_MEMORY, total // 4)
    return limit // _MEBIBYTE * _MEBIBYTE or limit


def _container(name: str, image: str, options: PodOptions) -> Container:
    """What all containers begin with."""
    container: Container = {"name": name, "image": image}
    if "image_pull_policy" in options:
        container["imagePullPolicy"] = options["image_pull_policy"]
    # An image knows no home for a user that we chose; pip, Jupyter and many others need one they can write to.
    home = {"HOME": LOCAL_DIRECTORY} if _user(options) else {}
    if env := {**home, **options.get("env", {})}:
        container["env"] = [_variable(name, value) for name, value in env.items()]
    return container


def _variable(name: str, value: str | EnvVarSource) -> EnvVar:
    return {"name": name, "value": value} if isinstance(value, str) else {"name": name, "valueFrom": value}


def _user(options: PodOptions) -> int | None:
    return options.get("user", 1000)


def _pod(
    container: Container, options: PodOptions, change: PodChange | None, *, restart_policy: str | None = None
) -> PodSpec:
    """The Pod around a container: user, scratch space, credentials; then the user's last word."""
    user = _user(options)
    security: SecurityContext = {"allowPrivilegeEscalation": False}
    if user != 0:  # who asks for root wants to install packages, mostly, and apt needs the usual capabilities
        security["capabilities"] = {"drop": ["ALL"]}
    container["securityContext"] = security
    container["volumeMounts"] = [{"name": "tmp", "mountPath": LOCAL_DIRECTORY}]
    spec: PodSpec = {
        "containers": [container],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        # Variables of a Service `dask-...` would start with DASK_, which Dask takes for configuration.
        "enableServiceLinks": False,
    }
    if options.get("ipv6_only"):
        spec["hostAliases"] = [{"ip": ip, "hostnames": [_ALL_ADDRESSES]} for ip in ("0.0.0.0", "::")]
    if restart_policy:
        spec["restartPolicy"] = restart_policy
    if user is not None:
        ids = {"runAsUser": user, "runAsGroup": user, "fsGroup": user, "runAsNonRoot": user != 0}
        spec = merged(spec, {"securityContext": ids})
    if "service_account" in options:
        spec["serviceAccountName"] = options["service_account"]
    else:
        spec["automountServiceAccountToken"] = False
    if "image_pull_secrets" in options:
        spec["imagePullSecrets"] = [{"name": name} for name in options["image_pull_secrets"]]
    if change is None:
        return spec
    return change(spec) if callable(change) else merged(spec, change)


def _resources(cores: Quantity, memory: Quantity, *, gpus: int = 0, of: str = "") -> ResourceRequirements:
    """Requests = limits: the Pod is not the first to be evicted, and gets the CPUs that its threads count on."""
    amounts: dict[str, int | float | str] = {
        "cpu": _written(f"{of}cores", cores),
        "memory": _written(f"{of}memory", memory),
    }
    limits = amounts | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {"requests": amounts, "limits": limits}


def _written(option: str, quantity: Quantity) -> str:
    """The quantity as the API server would write it, so that nothing sees a difference: ``0.5`` cores are ``500m``."""
    try:
        number = parse_quantity(quantity)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
    if not isinstance(quantity, float):
        return str(quantity)
    milli = int(number * 1000)
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


#: A name for the addresses of all families: distributed makes ``0.0.0.0`` of a port without one, and knows no ``[::]``.
_ALL_ADDRESSES = "all-addresses"


def _everywhere(port: int) -> str:
    return f"{_ALL_ADDRESSES}:{port}"


def _health(*, period: int, timeout: int, failures: int) -> Probe:
    return {
        "httpGet": {"path": "/health", "port": names.DASHBOARD_PORT},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
