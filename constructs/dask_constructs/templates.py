"""Pod templates from the short form: an image and a size give Pods that suit Dask and a restricted namespace.

What is made here ends up in the custom resource, where everybody can read it; the operator adds nothing to it but the
environment and the scheduler's extension.
"""

from __future__ import annotations

from typing import Any, cast

from dask_crds.kubernetes.core_v1 import (
    Container,
    EnvVar,
    PodResourceClaim,
    PodSpec,
    Probe,
    ResourceRequirements,
    SecurityContext,
    ServiceSpec,
)
from dask_crds.merge import merged
from dask_crds.model import (
    DaskClusterSpec,
    DaskJobSpec,
    JobCluster,
    JobTemplate,
    RollingUpdate,
    Scheduler,
    SchedulerUpdateStrategy,
    TemplateMetadata,
    UpdateStrategy,
    Worker,
)
from dask_crds.names import Env, Port

from . import history, processes, security
from .keywords import Options
from .options import PodChange
from .roles import RUNNER, SCHEDULER, WORKER, Role, dressed, options_of
from .spot import off_spot, on_spot
from .volumes import SPILL, mounted, spill_volume
from .writable import plain, unwritable

#: In the place of an image that was refused, so that nothing else is told of it.
_NO_IMAGE = "refused"
WORKER_DASHBOARD_PORT = 8788
LOCAL_DIRECTORY = "/tmp"


# --- specs ------------------------------------------------------------------------------------------------------------


def cluster_spec(options: Options, *, suspend: bool | None = None) -> DaskClusterSpec:
    """Spec of a DaskCluster."""
    service = cast("ServiceSpec", dict(options.get("service", {})))
    if "service_type" in options:
        service["type"] = options["service_type"]
    update = options.get("scheduler_update")
    return DaskClusterSpec(
        scheduler=Scheduler(
            spec=scheduler_pod(options),
            metadata=_metadata_of(SCHEDULER, options),
            service=service or None,
            service_metadata=_metadata(options.get("service_labels"), options.get("service_annotations")),
            update_strategy=SchedulerUpdateStrategy(type=update) if update else None,
            eviction_policy=options.get("scheduler_eviction"),
        ),
        worker=worker(options),
        idle_timeout=options.get("idle_timeout"),
        no_client_timeout=options.get("no_client_timeout"),
        idle_action=options.get("idle_action"),
        suspend=suspend,
        wake=options.get("wake"),
        security=security.stated(options.get("security"), options.get("name", "")),
        history=history.stated(options.get("history")),
    )


def worker(options: Options) -> Worker:
    """Template and number of the workers of a group."""
    return Worker(
        spec=worker_pod(options),
        metadata=_metadata_of(WORKER, options),
        replicas=options.get("workers"),
        guaranteed=options.get("guaranteed_workers"),
        update_strategy=_update_strategy(options),
        drain_timeout_seconds=options.get("drain_timeout"),
    )


def job_spec(options: Options, *, suspend: bool | None = None) -> DaskJobSpec:
    """Spec of a DaskJob."""
    cluster = JobCluster(
        spec=cluster_spec(options),
        deletion_policy=options.get("delete_cluster"),
        deletion_delay_seconds=options.get("deletion_delay"),
    )
    return DaskJobSpec(
        cluster=cluster,
        job=JobTemplate(spec=runner_pod(options), metadata=_metadata_of(RUNNER, options)),
        backoff_limit=options.get("retries"),
        active_deadline_seconds=options.get("deadline"),
        ttl_seconds_after_finished=options.get("ttl"),
        run_id=options.get("run_id"),
        minimum_ready_workers=options.get("minimum_workers"),
        on_scheduler_lost=options.get("on_scheduler_lost"),
        version_policy=options.get("versions"),
        pod_failure_policy=options.get("failure_policy"),
        suspend=suspend,
    )


def _metadata_of(role: Role, options: Options) -> TemplateMetadata | None:
    own = options.get(role.keyword, {})
    return _metadata(own.get("labels"), own.get("annotations"))


def _metadata(labels: dict[str, str] | None, annotations: dict[str, str] | None) -> TemplateMetadata | None:
    return TemplateMetadata(labels=labels, annotations=annotations) if labels or annotations else None


def _update_strategy(options: Options) -> UpdateStrategy | None:
    amounts = {name: options[name] for name in ("max_surge", "max_unavailable") if name in options}
    if not amounts and "worker_update" not in options:
        return None
    rolling = RollingUpdate(**amounts) if amounts else None
    return UpdateStrategy(type=options.get("worker_update"), rolling_update=rolling)


# --- Pods -------------------------------------------------------------------------------------------------------------


def scheduler_pod(options: Options) -> PodSpec:
    """PodSpec of a scheduler."""
    options = options_of(SCHEDULER, options)
    jupyter = ["--jupyter"] if options.get("jupyter") else []
    container: Container = {
        **_container(SCHEDULER, options),
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
    pod = dressed(_pod(container, options), SCHEDULER, options)
    return changed(off_spot(pod, options.get("spot")), options, "scheduler_pod")


def worker_pod(options: Options) -> PodSpec:
    """PodSpec of a worker."""
    options = options_of(WORKER, options)
    options = {**options, "env": {**_worker_env(options), **options.get("env", {})}}
    spill = spill_volume(options)
    container: Container = {
        **_container(WORKER, options),
        "args": _worker_command(options),
        "ports": [{"name": Port.DASHBOARD.name, "containerPort": WORKER_DASHBOARD_PORT, "protocol": "TCP"}],
        "resources": _worker_resources(options),
        "readinessProbe": _health(period=5, timeout=10, failures=6),
        # A task that holds the GIL silences its worker for as long as it runs. The nanny restarts workers that died
        # and the scheduler forgets those that are silent for 5 minutes (`worker-ttl`): this is the last resort.
        "livenessProbe": _health(period=60, timeout=30, failures=10),
    }
    pod = _pod(container, options)
    if claims := options.get("resource_claims"):
        pod["resourceClaims"] = [cast("PodResourceClaim", {**claim, "name": name}) for name, claim in claims.items()]
    if spill is not None:
        pod = mounted(pod, WORKER.container, SPILL, spill)
    return changed(dressed(on_spot(pod, options.get("spot")), WORKER, options), options, "worker_pod")


def _worker_command(options: Options) -> list[str]:
    v6 = options.get("ipv6_only", False)
    return [
        *options.get("worker_command", ["dask-worker"]),
        *("--name", f"$({Env.WORKER_NAME})"),
        *processes.sizes(options),
        *("--local-directory", SPILL if "spill" in options else LOCAL_DIRECTORY),
        *(("--host", "[$(POD_IP)]") if v6 else ()),
        *("--dashboard", "--dashboard-address"),
        _everywhere(WORKER_DASHBOARD_PORT) if v6 else str(WORKER_DASHBOARD_PORT),
        # A worker that finds no scheduler ends, and its container starts anew.
        *("--death-timeout", "300"),
        *processes.offers(options),
        *options.get("worker_args", ()),
    ]


def _worker_env(options: Options) -> dict[str, Any]:
    """What a worker has to know before it starts; what its user sets counts more."""
    env: dict[str, Any] = {}
    if options.get("ipv6_only"):
        env["POD_IP"] = {"fieldRef": {"fieldPath": "status.podIP"}}
    if "spill" in options:
        env["DASK_DISTRIBUTED__WORKER__MEMORY__MAX_SPILL"] = str(processes.most_spilled(options))
    return env


def _worker_resources(options: Options) -> ResourceRequirements:
    limits = {options.get("gpu_resource", "nvidia.com/gpu"): str(gpus)} if (gpus := options.get("gpus")) else {}
    is_nodes = "spill" in options and "spill_storage_class" not in options
    disk = {"ephemeral-storage": options["spill"]} if is_nodes else {}  # so that a node with room for it is found
    resources = _resources(options.get("cores", "1"), options.get("memory", "2Gi"), requests=disk, limits=limits)
    if claims := options.get("resource_claims"):
        resources["claims"] = [{"name": name} for name in claims]
    return resources


def runner_pod(options: Options) -> PodSpec:
    """PodSpec of a runner: one run of ``command``, to which ``distributed.Client()`` connects by itself."""
    options = options_of(RUNNER, options)
    container: Container = {
        **_container(RUNNER, options),
        "args": options.get("command", []),
        "resources": _resources(options.get("runner_cores", "1"), options.get("runner_memory", "1Gi")),
    }
    pod = _pod(container, options, restart_policy="Never")
    return changed(off_spot(dressed(pod, RUNNER, options), options.get("spot")), options, "runner_pod")


def _container(role: Role, options: Options) -> Container:
    """What all containers begin with."""
    # An image knows no home for a user that we chose; pip, Jupyter and many others need one they can write to.
    home: list[EnvVar] = [{"name": "HOME", "value": LOCAL_DIRECTORY}] if _user(options) else []
    container: Container = {"name": role.container, "image": options.get("image", _NO_IMAGE)}
    return {**container, "env": home} if home else container


def _user(options: Options) -> int | None:
    user = options.get("user", 1000)
    return None if user == "image" else user


def _pod(container: Container, options: Options, *, restart_policy: str | None = None) -> PodSpec:
    """The Pod around a container: user, scratch space, no credentials."""
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
    if restart_policy:
        spec["restartPolicy"] = restart_policy
    spec["automountServiceAccountToken"] = False
    if options.get("ipv6_only"):
        spec["hostAliases"] = [{"ip": ip, "hostnames": [_ALL_ADDRESSES]} for ip in ("0.0.0.0", "::")]
    if user is not None:
        ids = {"runAsUser": user, "runAsGroup": user, "fsGroup": user, "runAsNonRoot": user != 0}
        spec = merged(spec, {"securityContext": ids})
    return spec


def changed(pod: PodSpec, options: Options, keyword: str) -> PodSpec:
    """The Pod after its user's last word.

    Raises:
        ValueError: a function has made something of it that a manifest cannot hold.
    """
    change: PodChange | None = options.get(keyword)
    if not callable(change):
        return merged(pod, change) if change else pod
    made = plain(change(pod))
    for part, message in unwritable(made, keyword, data=True):
        raise ValueError(f"{part}: {message}")
    return cast("PodSpec", made)


def _resources(
    cores: str, memory: str, *, requests: dict[str, str] | None = None, limits: dict[str, str] | None = None
) -> ResourceRequirements:
    """Requests = limits: the Pod is not the first to be evicted, and gets the CPUs that its threads count on."""
    amounts: dict[str, int | float | str] = {"cpu": cores, "memory": memory}
    return {"requests": {**amounts, **(requests or {})}, "limits": {**amounts, **(limits or {})}}


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
