"""Pod templates from the short form: an image and a size give Pods that suit Dask and a restricted namespace.

What is made here ends up in the custom resource, where everybody can read it; the operator adds nothing to it but the
environment and the scheduler's extension.
"""

from __future__ import annotations

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
    Scheduler,
    SchedulerUpdateStrategy,
    Worker,
)
from dask_crds.names import Env, Port
from dask_crds.quantity import parse_quantity

from .keywords import Options
from .options import PodChange

#: In the place of an image that was refused, so that nothing else is told of it.
_NO_IMAGE = "refused"
WORKER_DASHBOARD_PORT = 8788
LOCAL_DIRECTORY = "/tmp"
#: Bytes of a worker's container that are not the worker's: its nanny and the resource tracker take 60 MiB
#: (distributed 2026.8), the rest is for the kernel. The nanny acts at 95 % of what is left, which adds headroom that
#: grows with the worker.
RESERVED_MEMORY = 128 * 2**20
_MEBIBYTE = 2**20


# --- specs ------------------------------------------------------------------------------------------------------------


def cluster_spec(options: Options) -> DaskClusterSpec:
    """Spec of a DaskCluster."""
    return DaskClusterSpec(
        scheduler=Scheduler(
            spec=scheduler_pod(options),
            service={"type": options["service_type"]} if "service_type" in options else None,
            update_strategy=SchedulerUpdateStrategy(type=options["scheduler_update"])
            if "scheduler_update" in options
            else None,
            eviction_policy=options.get("scheduler_eviction"),
        ),
        worker=worker(options),
        idle_timeout=options.get("idle_timeout"),
        idle_action=options.get("idle_action"),
    )


def worker(options: Options) -> Worker:
    """Template and number of the workers of a group."""
    workers = options.get("workers")
    return Worker(
        spec=worker_pod(options),
        replicas=1 if workers is None else workers,
        drain_timeout_seconds=options.get("drain_timeout"),
    )


def job_spec(options: Options) -> DaskJobSpec:
    """Spec of a DaskJob."""
    return DaskJobSpec(
        cluster=JobCluster(spec=cluster_spec(options), deletion_policy=options.get("delete_cluster")),
        job=JobTemplate(spec=runner_pod(options)),
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


def scheduler_pod(options: Options) -> PodSpec:
    """PodSpec of a scheduler."""
    jupyter = ["--jupyter"] if options.get("jupyter") else []
    container: Container = {
        **_container("scheduler", options),
        # Clients read `args` of the first container (KubeCluster.from_name); the image's entrypoint stays. No `--host`:
        # so it listens at the addresses of all families.
        "args": [
            "dask-scheduler",
            *jupyter,
            *(("--dashboard-address", _everywhere(Port.DASHBOARD.number)) if options.get("ipv6_only") else ()),
            *options.get("scheduler_args", ()),
        ],
        "ports": [
            {"name": Port.COMM.name, "containerPort": Port.COMM.number, "protocol": "TCP"},
            {"name": Port.DASHBOARD.name, "containerPort": Port.DASHBOARD.number, "protocol": "TCP"},
        ],
        "resources": _resources(options.get("scheduler_cores", "1"), options.get("scheduler_memory", "2Gi")),
        "readinessProbe": _health(period=2, timeout=10, failures=15),
        # A large graph can keep the scheduler from answering for a minute or two, and a restart loses all work.
        "livenessProbe": _health(period=30, timeout=30, failures=10),
    }
    return _pod(container, options, options.get("scheduler_pod"))


def worker_pod(options: Options) -> PodSpec:
    """PodSpec of a worker."""
    cores, memory, gpus = options.get("cores", "1"), options.get("memory", "2Gi"), options.get("gpus", 0)
    offered = ({"GPU": gpus} if gpus else {}) | dict(options.get("worker_resources", {}))
    v6 = options.get("ipv6_only", False)
    if v6:
        options = {**options, "env": {"POD_IP": {"fieldRef": {"fieldPath": "status.podIP"}}, **options.get("env", {})}}
    container: Container = {
        **_container("worker", options),
        "args": [
            *options.get("worker_command", ["dask-worker"]),
            *("--name", f"$({Env.WORKER_NAME})"),
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
        "ports": [{"name": Port.DASHBOARD.name, "containerPort": WORKER_DASHBOARD_PORT, "protocol": "TCP"}],
        "resources": _resources(cores, memory, gpus=gpus),
        "readinessProbe": _health(period=5, timeout=10, failures=6),
        # A task that holds the GIL silences its worker for as long as it runs. The nanny restarts workers that died
        # and the scheduler forgets those that are silent for 5 minutes (`worker-ttl`): this is the last resort.
        "livenessProbe": _health(period=60, timeout=30, failures=10),
    }
    return _pod(container, options, options.get("worker_pod"))


def runner_pod(options: Options) -> PodSpec:
    """PodSpec of a runner: one run of ``command``, to which ``distributed.Client()`` connects by itself."""
    container: Container = {
        **_container("job", options),
        "args": options.get("command", []),
        "resources": _resources(options.get("runner_cores", "1"), options.get("runner_memory", "1Gi")),
    }
    return _pod(container, options, options.get("runner_pod"), restart_policy="Never")


def whole_cores(cores: str) -> int:
    """Threads for that many CPUs: as many as run all the time without being throttled, at least one."""
    return max(1, int(parse_quantity(cores)))


def worker_memory_limit(memory: str) -> int:
    """Bytes for a worker's data in a container of ``memory``.

    Less than the container's limit, because nanny and kernel count against that too: reaching it ends in the kernel's
    OOM killer, while the worker spills, pauses and restarts in good order at its own limit. Of small containers a
    quarter is held back.
    """
    total = int(parse_quantity(memory))
    limit = total - min(RESERVED_MEMORY, total // 4)
    return limit // _MEBIBYTE * _MEBIBYTE or limit


def _container(name: str, options: Options) -> Container:
    """What all containers begin with."""
    container: Container = {"name": name, "image": options.get("image", _NO_IMAGE)}
    if "image_pull_policy" in options:
        container["imagePullPolicy"] = options["image_pull_policy"]
    # An image knows no home for a user that we chose; pip, Jupyter and many others need one they can write to.
    home = {"HOME": LOCAL_DIRECTORY} if _user(options) else {}
    if env := {**home, **options.get("env", {})}:
        container["env"] = [_variable(name, value) for name, value in env.items()]
    return container


def _variable(name: str, value: str | EnvVarSource) -> EnvVar:
    return {"name": name, "value": value} if isinstance(value, str) else {"name": name, "valueFrom": value}


def _user(options: Options) -> int | None:
    user = options.get("user", 1000)
    return None if user == "image" else user


def _pod(
    container: Container, options: Options, change: PodChange | None, *, restart_policy: str | None = None
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
    return changed(spec, change)


def changed(spec: PodSpec, change: PodChange | None) -> PodSpec:
    """The Pod with its user's last word."""
    if change is None:
        return spec
    return change(spec) if callable(change) else merged(spec, change)


def _resources(cores: str, memory: str, *, gpus: int = 0) -> ResourceRequirements:
    """Requests = limits: the Pod is not the first to be evicted, and gets the CPUs that its threads count on."""
    amounts: dict[str, int | float | str] = {"cpu": cores, "memory": memory}
    limits = amounts | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {"requests": amounts, "limits": limits}


#: A name for the addresses of all families: distributed makes ``0.0.0.0`` of a port without one, and knows no ``[::]``.
_ALL_ADDRESSES = "all-addresses"


def _everywhere(port: int) -> str:
    return f"{_ALL_ADDRESSES}:{port}"


def _health(*, period: int, timeout: int, failures: int) -> Probe:
    return {
        "httpGet": {"path": "/health", "port": Port.DASHBOARD.name},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
