"""What to do about a cluster: scheduler, Service, default worker group, idle timeout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dask_crds.model import Condition, DaskCluster, DaskClusterStatus, DaskWorkerGroup
from dask_resources.scheduler import (
    DEFAULT_CLUSTER_DOMAIN,
    comm_address,
    dashboard_address,
    scheduler_service,
    service_selects,
)

from . import children
from .actions import Action, Apply, Ask, Delete, Event, Outcome, Patch, Plan, step
from .children import default_group
from .conditions import condition, is_true, merge, named_problem, readiness
from .observed import Manifest, ObservedCluster, Problem, made_by_another, stated_by, written_by_us
from .time import Time, parse_time

#: An idle cluster is looked at when its time is up, a busy one when it could be up at the earliest, and again after
#: this many seconds at most if the scheduler did not answer; that it answers again is told before.
IDLE_RETRY_SECONDS = 60.0
_SUSPEND = ("spec", "suspend")
#: Reason of a scheduler that its Service does not lead to.
NO_ENDPOINTS = "ServiceSelectsNothing"


def plan_cluster(o: ObservedCluster, now: Time) -> Plan:
    """What to do about a cluster now."""
    if made_by_another(o.cluster.name, o.deployment):
        return Plan()
    actions = step(children.changes(o))
    timeout = o.cluster.spec.idle_timeout or 0
    if not timeout or actions or o.cluster.spec.suspend or not _scheduler_ready(o):
        return Plan(actions=actions)
    if o.answers is None:
        return Plan(ask=Ask(idle=True))
    if o.answers.silent:
        return Plan(requeue_after=IDLE_RETRY_SECONDS)
    # No scheduler can have been idle for longer than its cluster exists.
    idle = min(o.answers.idle_seconds or 0.0, now - _created(o.cluster))
    if idle < timeout:
        return Plan(requeue_after=timeout - idle)
    return Plan(actions=_end_idleness(o.cluster))


def _created(cluster: DaskCluster) -> Time:
    created = cluster.metadata.get("creationTimestamp")
    return parse_time(created) if created else 0.0


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
    taken, held_up = children.conflict(o)
    conflict = another or taken
    problem = conflict or (
        Problem(missing.reason, missing.message) if missing and missing.reason != "Progressing" else None
    )
    suspended = bool(cluster.spec.suspend)
    written = _written(outcomes)
    waiting = held_up or (missing.message if missing and not suspended else "")
    if suspended and (o.scheduler_pods or any(g.status.replicas for g in o.groups)):
        waiting = "scheduler and workers are being stopped"
    elif not waiting and written & {"Deployment", "DaskWorkerGroup"}:
        waiting = "scheduler and workers are being brought up to date"
    conditions = [
        *readiness(
            before,
            problem=conflict if suspended or held_up else problem,
            waiting=waiting,
            outcomes=outcomes,
            generation=cluster.generation,
            now=now,
            stalled=another is not None
            or scheduler_ready.reason == NO_ENDPOINTS
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


def _scheduler_condition(o: ObservedCluster) -> Condition:
    pods = [p for p in o.scheduler_pods if not p.deleting]
    if not service_selects(o.cluster):
        message = (
            "spec.scheduler.service.selector does not match the labels of the scheduler's Pod, so nobody reaches it: "
            "leave it out, or correct it"
        )
        return condition("SchedulerReady", False, NO_ENDPOINTS, message)
    ready = next((p for p in pods if p.ready), None)
    if ready is not None and not _rolls_out(o.deployment):
        outdated = "; it still has the old template, delete it to have a new one" if children.is_outdated(o) else ""
        return condition("SchedulerReady", True, "Ready", f"{ready.name} is ready{outdated}")
    problem = next((p.problem for p in pods if p.problem), None) or _deployment_problem(o.deployment)
    if problem is None and not pods and not o.cluster.spec.suspend:
        problem = o.last_problem
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
