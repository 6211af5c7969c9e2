"""What to do about a cluster: scheduler, Service, default worker group, idle timeout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dask_crds import names
from dask_crds.model import Condition, DaskCluster, DaskClusterStatus, DaskWorkerGroup, Worker, dump
from dask_resources.metadata import metadata_patch, remembered
from dask_resources.revision import revision
from dask_resources.scheduler import (
    DEFAULT_CLUSTER_DOMAIN,
    comm_address,
    dashboard_address,
    disruption_budget,
    extension_config_map,
    scheduler_deployment,
    scheduler_metadata,
    scheduler_revision,
    scheduler_service,
)
from dask_resources.worker import default_worker_group

from .actions import Action, Apply, Ask, Delete, Event, Outcome, Patch, Plan, step
from .conditions import condition, is_true, merge, named_problem, readiness
from .observed import Manifest, ObservedCluster, Problem, made_by_another, owner_uid, stated_by, written_by_us
from .time import Time

#: An idle cluster is looked at when its time is up, a busy one when it could be up at the earliest, and again after
#: this many seconds at most if the scheduler did not answer; that it answers again is told before.
IDLE_RETRY_SECONDS = 60.0
_SUSPEND = ("spec", "suspend")


def plan_cluster(o: ObservedCluster, now: Time) -> Plan:
    """What to do about a cluster now."""
    if made_by_another(o.cluster.name, o.deployment):
        return Plan()
    actions = step(action for action in (*_children(o), *_relabelled(o)) if action is not None)
    timeout = o.cluster.spec.idle_timeout or 0
    if not timeout or actions or o.cluster.spec.suspend or not _scheduler_ready(o):
        return Plan(actions=actions)
    if o.answers is None:
        return Plan(ask=Ask(idle=True))
    if o.answers.silent:
        return Plan(requeue_after=IDLE_RETRY_SECONDS)
    idle = o.answers.idle_seconds or 0.0
    if idle < timeout:
        return Plan(requeue_after=timeout - idle)
    return Plan(actions=_end_idleness(o.cluster))


def _end_idleness(cluster: DaskCluster) -> tuple[Action, ...]:
    """``idleAction``. A ``suspend`` that somebody's manifest states is not overruled: they would take turns."""
    identity = cluster.namespace, cluster.name
    idle = f"idle for spec.idleTimeout ({cluster.spec.idle_timeout} s)"
    if cluster.spec.idle_action != "Suspend":
        return Event("IdleTimeout", f"{idle}: deleted"), Delete("DaskCluster", *identity, cluster.uid)
    if owner := stated_by(cluster.metadata, *_SUSPEND):
        message = f"{idle}, but spec.suspend is stated by {owner}: leave it out there for idleAction to work"
        return (Event("SuspendIsStated", message, True),)
    suspend = Patch("DaskCluster", *identity, {"spec": {"suspend": True}}, cluster.uid)
    return Event("IdleTimeout", f"{idle}: suspended; set spec.suspend to false to go on"), suspend


def _children(o: ObservedCluster) -> list[Action | None]:
    """The children that are missing or not as asked. The ConfigMap first: the scheduler Pod mounts it."""
    cluster = o.cluster
    return [
        _unless_revised(o, o.config_map, extension_config_map(cluster)),
        _service(o),
        _budget(o),
        _deployment(o),
        _default_group(o),
    ]


def _relabelled(o: ObservedCluster) -> list[Action | None]:
    """Labels and annotations that come from the user brought up to date where that restarts nothing."""
    cluster = o.cluster
    pods = scheduler_metadata(cluster)
    return [
        _relabel("ConfigMap", o, o.config_map, extension_config_map(cluster)),
        _relabel("Service", o, o.service, scheduler_service(cluster)),
        _relabel("PodDisruptionBudget", o, o.disruption_budget, disruption_budget(cluster)),
        _relabel("Deployment", o, o.deployment, scheduler_deployment(cluster)),
        *(
            Patch("Pod", pod.namespace, pod.name, {"metadata": patch}, pod.uid)
            for pod in o.scheduler_pods
            if not pod.deleting and (patch := metadata_patch(pods, pod.last_applied))
        ),
    ]


def _relabel(kind: str, o: ObservedCluster, live: Manifest | None, desired: Manifest) -> Action | None:
    if live is None or not _mine(o, live):
        return None
    metadata = live["metadata"]
    patch = metadata_patch(desired["metadata"], _annotation(live, names.LAST_APPLIED) or "")
    if patch is None:
        return None
    return Patch(kind, metadata["namespace"], metadata["name"], {"metadata": patch}, metadata["uid"])


def _mine(o: ObservedCluster, live: Manifest | None) -> bool:
    """Whether the child is ours to write: absent, or controlled by this very cluster."""
    return live is None or owner_uid(live) == o.cluster.uid


def _annotation(manifest: Manifest | None, key: str) -> str | None:
    return ((manifest or {}).get("metadata", {}).get("annotations") or {}).get(key)


def _unless_revised(o: ObservedCluster, live: Manifest | None, desired: dict[str, Any]) -> Action | None:
    if not _mine(o, live) or _annotation(live, names.REVISION) == _annotation(desired, names.REVISION):
        return None
    return Apply(desired, new=live is None)


def _service(o: ObservedCluster) -> Action | None:
    """The Service. What others added to it stays, what its user has taken out again does not."""
    live, desired = o.service, scheduler_service(o.cluster)
    if live is not None and not contains(live["spec"], desired["spec"]):
        return Apply(desired) if _mine(o, live) else None
    return _unless_revised(o, live, desired)


def _deployment(o: ObservedCluster) -> Action | None:
    desired = scheduler_deployment(o.cluster)
    live = o.deployment
    if not _mine(o, live):
        return None
    if live is not None and live["spec"].get("replicas") == desired["spec"]["replicas"]:
        return None if _held(o) else _unless_revised(o, live, desired)
    return Apply(desired, new=live is None)


def _outdated(o: ObservedCluster) -> bool:
    return o.deployment is not None and _annotation(o.deployment, names.REVISION) != scheduler_revision(o.cluster)


def _held(o: ObservedCluster) -> bool:
    """Whether ``updateStrategy: OnDelete`` keeps the scheduler as it is: its Pod is the one that was seen before."""
    strategy = o.cluster.spec.scheduler.update_strategy
    if strategy is None or strategy.type != "OnDelete":
        return False
    return any(p.uid == o.cluster.status.scheduler_pod_uid and not p.deleting for p in o.scheduler_pods)


def _budget(o: ObservedCluster) -> Action | None:
    """The PodDisruptionBudget, as long as there is a scheduler to protect: Kubernetes warns of one without a Pod."""
    live, desired = o.disruption_budget, disruption_budget(o.cluster)
    if not _mine(o, live):
        return None
    wanted = o.cluster.spec.scheduler.eviction_policy != "Allow" and not o.cluster.spec.suspend
    if live is None:
        return Apply(desired, new=True) if wanted and o.scheduler_pods else None
    if not wanted:
        metadata = live["metadata"]
        return Delete("PodDisruptionBudget", metadata["namespace"], metadata["name"], metadata["uid"])
    return None if contains(live["spec"], desired["spec"]) else Apply(desired)


def _default_group(o: ObservedCluster) -> Action | None:
    """The default group. Its size is handed on only when the cluster's own ``replicas`` has changed.

    Clients and ``kubectl scale`` set the size on the group itself; applying the cluster's number every time would
    undo them.
    """
    live = default_group(o)
    wanted = o.cluster.spec.worker.replicas
    if live is None:
        return Apply(default_worker_group(o.cluster, wanted), new=True)
    if not _mine(o, dump(live)):
        return None
    handed_on = _annotation(dump(live), names.CLUSTER_REPLICAS) == str(wanted)
    replicas = live.spec.worker.replicas if handed_on else wanted
    desired = default_worker_group(o.cluster, replicas)
    before, after = (_annotation(manifest, names.LAST_APPLIED) or "" for manifest in (dump(live), desired))
    same_metadata = remembered(before) == remembered(after)
    if handed_on and same_metadata and _template(live.spec.worker) == _template(o.cluster.spec.worker):
        return None
    # With the version that was read, so that a scaling in between is not undone but leads to another look.
    desired["metadata"]["resourceVersion"] = live.metadata.get("resourceVersion")
    return Apply(desired)


def _template(worker: Worker) -> str:
    """What the cluster decides about its default group: all but the number."""
    return revision({key: value for key, value in dump(worker).items() if key != "replicas"})


def default_group(o: ObservedCluster) -> DaskWorkerGroup | None:
    """The default group, if it exists."""
    return next((g for g in o.groups if g.name == names.default_group(o.cluster.name)), None)


def contains(live: Any, desired: Any) -> bool:
    """Whether ``live`` has all that ``desired`` says; what the API server or others added does not matter."""
    if isinstance(desired, Mapping):
        return isinstance(live, Mapping) and all(key in live and contains(live[key], desired[key]) for key in desired)
    if isinstance(desired, list):
        return (
            isinstance(live, list)
            and len(live) == len(desired)
            and all(contains(a, b) for a, b in zip(live, desired, strict=True))
        )
    return bool(live == desired)


def _scheduler_ready(o: ObservedCluster) -> bool:
    return any(p.ready and not p.deleting for p in o.scheduler_pods)


def cluster_status(
    o: ObservedCluster, plan: Plan, outcomes: Sequence[Outcome], now: Time, *, domain: str = DEFAULT_CLUSTER_DOMAIN
) -> DaskClusterStatus:
    """The status after the plan was executed."""
    cluster, before = o.cluster, o.cluster.status.conditions
    group = default_group(o)
    ready = sum(g.status.ready_replicas or 0 for g in o.groups)
    wanted = sum(_wanted(g) for g in o.groups) if group else cluster.spec.worker.replicas
    scheduler_ready, workers_ready = _scheduler_condition(o), _workers_condition(o, ready, wanted)
    lacking = [c for c in (scheduler_ready, workers_ready) if c.status != "True"]
    # What needs somebody's attention says more than what is merely on its way.
    missing = next((c for c in lacking if c.reason != "Progressing"), next(iter(lacking), None))
    another = made_by_another(cluster.name, o.deployment)
    conflict = another or _conflict(o)
    problem = conflict or (
        Problem(missing.reason, missing.message) if missing and missing.reason != "Progressing" else None
    )
    suspended = bool(cluster.spec.suspend)
    written = _written(outcomes)
    waiting = missing.message if missing and not suspended else ""
    if suspended and (o.scheduler_pods or any(g.status.replicas for g in o.groups)):
        waiting = "scheduler and workers are being stopped"
    elif not waiting and written & {"Deployment", "DaskWorkerGroup"}:
        waiting = "scheduler and workers are being brought up to date"
    conditions = [
        *readiness(
            before,
            problem=conflict if suspended else problem,
            waiting=waiting,
            outcomes=outcomes,
            generation=cluster.generation,
            now=now,
            stalled=another is not None
            or (missing is workers_ready and "DaskWorkerGroup" not in written and _group_stalls(o)),
            deadline=missing is not workers_ready or group is None,  # the group knows whether it gets on
            ready="Suspended" if suspended else "Ready",
            message="suspended as asked" if suspended else f"the scheduler and {ready} of {wanted} workers are ready",
        ),
        scheduler_ready,
        workers_ready,
        _suspended_condition(cluster),
    ]
    return DaskClusterStatus(
        observed_generation=cluster.generation,
        phase=_phase(o, outcomes, conflict),
        replicas=group.status.replicas or 0 if group else 0,
        ready_replicas=group.status.ready_replicas or 0 if group else 0,
        workers=f"{ready}/{wanted}",
        scheduler_address=comm_address(cluster.name, cluster.namespace, domain),
        dashboard_address=dashboard_address(cluster.name, cluster.namespace, domain),
        scheduler_pod_uid=_scheduler_pod_uid(o, outcomes),
        conditions=merge(before, conditions, generation=cluster.generation, now=now),
    )


def _written(outcomes: Sequence[Outcome]) -> set[str]:
    """Kinds of the children that were created or changed."""
    return {out.action.manifest["kind"] for out in outcomes if isinstance(out.action, Apply) and not out.error}


def _is_observed(group: DaskWorkerGroup) -> bool:
    """Whether a group's status speaks of its present spec."""
    return group.status.observed_generation == group.generation


def _group_stalls(o: ObservedCluster) -> bool:
    return any(_is_observed(g) and is_true(g.status.conditions, "Stalled") for g in o.groups)


def _suspended_condition(cluster: DaskCluster) -> Condition:
    if not cluster.spec.suspend:
        return condition("Suspended", False, "NotSuspended")
    if written_by_us(cluster.metadata, *_SUSPEND):
        return condition(
            "Suspended", True, "Idle", "it was idle for spec.idleTimeout; set spec.suspend to false to go on"
        )
    return condition("Suspended", True, "Suspended", "suspended as asked")


def _scheduler_pod_uid(o: ObservedCluster, outcomes: Sequence[Outcome]) -> str | None:
    """The Pod that ``OnDelete`` waits for; not to be moved on before what its deletion set off is done."""
    if any(out.error for out in outcomes):
        return o.cluster.status.scheduler_pod_uid
    return next((p.uid for p in o.scheduler_pods if not p.deleting), None)


def _wanted(group: DaskWorkerGroup) -> int:
    wanted = group.status.desired_replicas
    return group.spec.worker.replicas if wanted is None else wanted


def _phase(o: ObservedCluster, outcomes: Sequence[Outcome], conflict: Problem | None) -> Any:
    """For existing clients: Running as soon as all is under way, and a LoadBalancer has its address."""
    if conflict is not None or any(out.error and out.permanent for out in outcomes):
        return "Error"
    written = _written(outcomes)
    there = {
        "Service": o.service is not None,
        "Deployment": o.deployment is not None,
        "DaskWorkerGroup": default_group(o) is not None,
    }
    if not all(exists or kind in written for kind, exists in there.items()):
        return "Created" if not any(there.values()) else "Pending"
    service = o.service or scheduler_service(o.cluster)
    balancer = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress")
    if service["spec"].get("type") == "LoadBalancer" and not balancer:
        return "Pending"
    return "Running"


def _conflict(o: ObservedCluster) -> Problem | None:
    group = default_group(o)
    children = [
        ("ConfigMap", o.config_map),
        ("Service", o.service),
        ("PodDisruptionBudget", o.disruption_budget),
        ("Deployment", o.deployment),
    ]
    for kind, live in [*children, ("DaskWorkerGroup", dump(group) if group else None)]:
        if live is not None and not _mine(o, live):
            return Problem(
                "NameConflict",
                f"{kind} {live['metadata']['name']} exists and belongs to somebody else; rename it or the cluster",
            )
    return None


def _scheduler_condition(o: ObservedCluster) -> Any:
    pods = [p for p in o.scheduler_pods if not p.deleting]
    if any(p.ready for p in pods) and not _rolls_out(o.deployment):
        outdated = "; it still has the old template, delete it to have a new one" if _outdated(o) else ""
        return condition("SchedulerReady", True, "Ready", f"{pods[0].name} is ready{outdated}")
    problem = next((p.problem for p in pods if p.problem), None) or _deployment_problem(o.deployment)
    if problem:
        return condition("SchedulerReady", False, problem.reason, problem.message)
    if o.cluster.spec.suspend:
        return condition("SchedulerReady", False, "Suspended", "suspended as asked")
    return condition("SchedulerReady", False, "Progressing", "the scheduler is starting")


def _rolls_out(deployment: Manifest | None) -> bool:
    """Whether the Pod may still be of an earlier template."""
    metadata, status = (deployment or {}).get("metadata", {}), (deployment or {}).get("status") or {}
    observed: bool = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    return not observed or status.get("updatedReplicas", 0) < status.get("replicas", 0)


def _deployment_problem(deployment: Manifest | None) -> Problem | None:
    """Why a Deployment could not even make a Pod: quota, Pod security, webhooks."""
    for found in ((deployment or {}).get("status") or {}).get("conditions") or []:
        if found["type"] == "ReplicaFailure" and found["status"] == "True":
            return named_problem(found.get("reason") or "ReplicaFailure", f"scheduler: {found.get('message', '')}")
    return None


def _workers_condition(o: ObservedCluster, ready: int, wanted: int) -> Any:
    current = [g for g in o.groups if _is_observed(g)]  # what others say is of an earlier generation
    for group in current:
        found = next((c for c in group.status.conditions or () if c.type == "Ready" and c.status != "True"), None)
        if found is not None and found.reason != "Progressing":
            return condition("WorkersReady", False, found.reason, f"group {group.name}: {found.message}")
    unready = len(current) < len(o.groups) or any(not is_true(g.status.conditions, "Ready") for g in current)
    if default_group(o) is None or unready:
        return condition("WorkersReady", False, "Progressing", f"{ready} of {wanted} workers are ready")
    return condition("WorkersReady", True, "Ready", f"{ready} of {wanted} workers are ready")
