"""What to say of a keyword that does not exist: names that people know from elsewhere, and slips of the pen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

#: Names of Kubernetes, Dask, dask-kubernetes, dask-gateway and Coiled, and what says the same here.
_KNOWN = {
    "replicas": "workers",
    "n_workers": "workers",
    "num_workers": "workers",
    "nworkers": "processes (in each Pod), or workers (Pods)",
    "nthreads": "threads",
    "worker_threads": "threads",
    "cpu": "cores",
    "cpus": "cores",
    "memory_limit": "memory",
    "worker_cpu": "cores",
    "worker_cores": "cores",
    "worker_cores_limit": "cores",
    "worker_memory": "memory",
    "worker_memory_limit": "memory",
    "worker_gpu": "gpus",
    "scheduler_cpu": "scheduler_cores",
    "scheduler_cores_limit": "scheduler_cores",
    "scheduler_memory_limit": "scheduler_memory",
    "resources": "cores, memory and gpus, or worker_resources (of Dask)",
    "limits": "cores, memory and gpus",
    "requests": "cores, memory and gpus",
    "local_directory": "spill",
    "spill_disk": "spill",
    "environment": "env",
    "env_vars": "env",
    "secrets": "env_from, or volumes",
    "config_maps": "env_from, or volumes",
    "mounts": "volumes",
    "volume_mounts": "volumes",
    "service_account_name": "service_account",
    "image_pull_secret": "image_pull_secrets",
    "priority_class_name": "priority_class",
    "runtime_class_name": "runtime_class",
    "topology_spread_constraints": "topology_spread",
    "scheduler_name": "kubernetes_scheduler",
    "preemptible": "spot",
    "spot_policy": "spot",
    "run_as_user": "user",
    "security_context": "user, or worker_pod and its like",
    "update_strategy": "worker_update, scheduler_update",
    "rolling_update": "max_surge, max_unavailable",
    "scheduler_service_type": "service_type",
    "deletion_policy": "delete_cluster",
    "deletion_delay_seconds": "deletion_delay",
    "backoff_limit": "retries",
    "ttl_seconds_after_finished": "ttl",
    "active_deadline_seconds": "deadline",
    "pod_template": "worker_pod",
    "worker_template": "worker_pod",
    "worker_pod_template": "worker_pod",
    "scheduler_pod_template": "scheduler_pod",
    "extra_pod_config": "worker_pod, scheduler_pod",
    "extra_container_config": "worker_pod, scheduler_pod",
    "custom_cluster_spec": "DaskCluster.from_spec",
    "worker_options": "worker",
    "scheduler_options": "scheduler",
    "worker_groups": ".add_worker_group(...)",
    "adaptive": ".autoscale(minimum=..., maximum=...)",
    "minimum": ".autoscale(minimum=..., maximum=...)",
    "maximum": ".autoscale(minimum=..., maximum=...)",
    "scale_up_policy": "scale_up_policies",
    "scale_down_policy": "scale_down_policies",
}
_ROLE = re.compile(r"(scheduler|worker|runner)_(\w+)")


def hint_for(name: str, known: Collection[str]) -> str:
    """What was meant by a keyword, as the end of a sentence; empty if that cannot be told.

    >>> hint_for("replicas", ["workers"])
    "; write workers"

    Args:
        name: the keyword that does not exist.
        known: those that do.
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if snake in known:
        return f"; did you mean {snake!r}?"
    if snake.endswith(("_extra_pod_config", "_extra_container_config")):  # of dask-gateway
        snake = f"{snake.partition('_extra_')[0]}_pod"
        if snake in known:
            return f"; write {snake}"
    told = _KNOWN.get(snake, "")
    if any(word in known or word.startswith((".", "Dask")) for word in re.findall(r"[.\w]+", told)):
        return f"; write {told}"
    of_role = _ROLE.fullmatch(snake)
    if of_role and of_role[1] in known and of_role[2] in known:
        return f"; write {of_role[1]}={{{of_role[2]!r}: ...}}"
    close = difflib.get_close_matches(snake, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
