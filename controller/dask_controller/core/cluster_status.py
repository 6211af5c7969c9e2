"""What a cluster's status says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec.structs import replace

from dask_crds.model import Certificate, Condition, DaskCluster, DaskClusterStatus, DaskWorkerGroup
from dask_crds.reasons import Reason
from dask_resources.scheduler import (
    DEFAULT_CLUSTER_DOMAIN,
    comm_address,
    dashboard_address,
    scheduler_service,
    service_selects,
)
from dask_resources.security import is_generated

from . import children, queue_status, versions
from .actions import Apply, Outcome, Plan, PutKey
from .autoscaler import is_suspended
from .children import default_group
from .cluster_groups import missing_groups
from .conditions import Standing, condition, is_true, merge, named_problem, readiness, unmet
from .encryption import encrypted
from .observed import ObservedCluster
from .ownership import SUSPEND, foreign_scheduler, last_set_by_us
from .pod import Manifest, Problem
from .record import bundle
from .signing import shortcoming
from .time import Time


def cluster_status(
    o: ObservedCluster, plan: Plan, outcomes: Sequence[Outcome], now: Time, *, domain: str = DEFAULT_CLUSTER_DOMAIN
) -> DaskClusterStatus:
    """The status after the plan was executed."""
    cluster, before, group = o.cluster, o.cluster.status.conditions, default_group(o)
    ready = sum(g.status.ready_replicas or 0 for g in o.groups)
    wanted = sum(_wanted(g) for g in o.groups) + sum(g.replicas for g in missing_groups(o))
    conflict, held_up = _conflict(o)
    scheduler, workers = _scheduler_condition(o), _workers_condition(o, f"{ready} of {wanted} workers are ready")
    standing = queue_status.standing(o.queued) or _standing(o, scheduler, workers, outcomes, held_up)
    if conflict is not None:
        foreign = conflict.reason == Reason.MADE_BY_ANOTHER_OPERATOR
        standing = replace(standing, problem=conflict, lasting=standing.lasting or foreign)
    conditions = [
        *readiness(standing, outcomes, before, cluster.generation, now),
        scheduler,
        workers,
        _suspended_condition(cluster, queue_status.is_suspended(o.queued, bool(cluster.spec.suspend))),
        *queue_status.admitted(o.queued),
        *filter(None, [encrypted(o, now), versions.consistent(o)]),
    ]
    return DaskClusterStatus(
        observed_generation=cluster.generation,
        phase=_phase(o, outcomes, conflict),
        replicas=group.status.replicas or 0 if group else 0,
        ready_replicas=group.status.ready_replicas or 0 if group else 0,
        workers=f"{ready}/{wanted}",
        scheduler_address=comm_address(cluster.name, cluster.namespace, domain, tls=bool(o.certificates)),
        dashboard_address=dashboard_address(cluster.name, cluster.namespace, domain),
        scheduler_pod_uid=_scheduler_pod_uid(o, outcomes),
        certificate=_certificate(o, outcomes),
        bundle=bundle(o.cluster.status.bundle, o.cluster.spec.history, o.answers),
        conditions=merge(before, conditions, generation=cluster.generation, now=now),
    )


def _conflict(o: ObservedCluster) -> tuple[Problem | None, str]:
    """Who has what should be the cluster's: what is wrong, or what is merely waited for."""
    another = foreign_scheduler(o.cluster.name, o.deployment)
    return (another, "") if another else children.conflict(o)


def _standing(
    o: ObservedCluster, scheduler: Condition, workers: Condition, outcomes: Sequence[Outcome], held_up: str
) -> Standing:
    """How it stands with the children, conflicts not considered."""
    suspended, written = bool(o.cluster.spec.suspend), _written(outcomes)
    # What needs somebody's attention says more than what is merely on its way.
    lacking = [c for c in (scheduler, workers) if c.status != "True"]
    missing = next((c for c in lacking if c.reason != Reason.PROGRESSING), next(iter(lacking), None))
    waiting = held_up or (missing.message if missing and not suspended else "")
    if suspended and (o.scheduler_pods or any(g.status.replicas for g in o.groups)):
        waiting = "scheduler and workers are being stopped"
    elif not waiting and written & {"Deployment", "DaskWorkerGroup"}:
        waiting = "scheduler and workers are being brought up to date"
    return Standing(
        waiting=waiting,
        problem=unmet([missing], missing.type) if missing and not suspended and not held_up else None,
        lasting=scheduler.reason == Reason.SERVICE_SELECTS_NOTHING
        or (missing is workers and "DaskWorkerGroup" not in written and _group_stalls(o)),
        bounded=missing is not workers or bool(missing_groups(o)),  # the group knows whether it gets on
        ready=Reason.SUSPENDED if suspended else Reason.READY,
        message="suspended as asked" if suspended else f"the scheduler and {workers.message}",
    )


def _written(outcomes: Sequence[Outcome]) -> set[str]:
    """Kinds of the children that were created or changed."""
    return {out.action.manifest["kind"] for out in outcomes if isinstance(out.action, Apply) and not out.error}


def _is_observed(group: DaskWorkerGroup) -> bool:
    """Whether a group's status speaks of its present spec."""
    return group.status.observed_generation == group.generation


def _group_stalls(o: ObservedCluster) -> bool:
    return any(_is_observed(g) and is_true(g.status.conditions, "Stalled") for g in o.groups)


def _suspended_condition(cluster: DaskCluster, suspended: bool) -> Condition:
    if not suspended:
        return condition("Suspended", False, Reason.NOT_SUSPENDED)
    if last_set_by_us(cluster.metadata, *SUSPEND):
        spec, ways = cluster.spec, list[str]()
        if spec.idle_timeout or not spec.no_client_timeout:
            ways.append("idle for spec.idleTimeout")
        if spec.no_client_timeout:
            ways.append("without a client for spec.noClientTimeout")
        message = f"it was {' or '.join(ways)}; set spec.suspend to false to go on"
        return condition("Suspended", True, Reason.IDLE, message)
    return condition("Suspended", True, Reason.SUSPENDED, "suspended as asked")


def _scheduler_pod_uid(o: ObservedCluster, outcomes: Sequence[Outcome]) -> str | None:
    """The Pod that ``OnDelete`` waits for; not to be moved on before what its deletion set off is done.

    One that has gone is told until there is another, or is to be none: so that is known to have taken its place.
    """
    before = o.cluster.status.scheduler_pod_uid
    if any(out.error for out in outcomes):
        return before
    return next((p.uid for p in o.scheduler_pods if not p.deleting), None if o.cluster.spec.suspend else before)


def _certificate(o: ObservedCluster, outcomes: Sequence[Outcome]) -> Certificate | None:
    """The one that was made last, by this operator or by one before."""
    made = (out.action.certificate for out in outcomes if isinstance(out.action, PutKey) and not out.error)
    latest = next(filter(None, made), None) or o.signing.certificate or o.cluster.status.certificate
    return latest if is_generated(o.cluster) else None


def _wanted(group: DaskWorkerGroup) -> int:
    wanted = group.status.desired_replicas
    return group.spec.worker.size if wanted is None else wanted


def _phase(
    o: ObservedCluster, outcomes: Sequence[Outcome], conflict: Problem | None
) -> Literal["Created", "Pending", "Running", "Error"]:
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
        return condition("SchedulerReady", False, Reason.SERVICE_SELECTS_NOTHING, message)
    ready = next((p for p in pods if p.ready), None)
    if ready is not None and not _rolls_out(o.deployment):
        outdated = "; it still has the old template, delete it to have a new one" if children.is_outdated(o) else ""
        said = f"{ready.name} is ready{outdated}{shortcoming(o.signing, ready)}"
        return condition("SchedulerReady", True, Reason.READY, said)
    problem = next((p.problem for p in pods if p.problem), None) or _deployment_problem(o.deployment)
    if problem is None and not pods and not o.cluster.spec.suspend:
        problem = o.last_problem
    if problem:
        return condition("SchedulerReady", False, problem.reason, problem.message)
    if o.queued is not None and o.queued.limited is not None:
        return condition("SchedulerReady", False, o.queued.limited.reason, "waiting in line")
    if queue_status.is_waiting(o.queued):
        return condition("SchedulerReady", False, Reason.QUEUED, "waiting for quota")
    if o.cluster.spec.suspend:
        return condition("SchedulerReady", False, Reason.SUSPENDED, "suspended as asked")
    return condition("SchedulerReady", False, Reason.PROGRESSING, "the scheduler is starting")


def _rolls_out(deployment: Manifest | None) -> bool:
    """Whether the Pod may still be of an earlier template."""
    metadata, status = (deployment or {}).get("metadata", {}), (deployment or {}).get("status") or {}
    observed: bool = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    return not observed or status.get("updatedReplicas", 0) < status.get("replicas", 0)


def _deployment_problem(deployment: Manifest | None) -> Problem | None:
    """Why a Deployment could not even make a Pod: quota, Pod security, webhooks; or somebody holds it back."""
    if deployment is not None and deployment["spec"].get("paused") and _rolls_out(deployment):
        name = deployment["metadata"]["name"]
        message = f"Deployment {name} is paused by somebody: `kubectl rollout resume deployment {name}` lets it go on"
        return Problem(Reason.SUSPENDED_BY_ANOTHER, message)
    for found in ((deployment or {}).get("status") or {}).get("conditions") or []:
        if found["type"] == "ReplicaFailure" and found["status"] == "True":
            return named_problem(found.get("reason") or "ReplicaFailure", f"scheduler: {found.get('message', '')}")
    return None


def _workers_condition(o: ObservedCluster, counted: str) -> Condition:
    # What others say is of an earlier generation, or of before the cluster was resumed.
    current = [g for g in o.groups if _is_observed(g) and (o.cluster.spec.suspend or not is_suspended(g))]
    for group in current:
        if problem := unmet(group.status.conditions, "Ready"):
            return condition("WorkersReady", False, problem.reason, f"group {group.name}: {problem.message}")
    unready = len(current) < len(o.groups) or any(not is_true(g.status.conditions, "Ready") for g in current)
    if missing_groups(o) or unready:
        return condition("WorkersReady", False, Reason.PROGRESSING, counted)
    return condition("WorkersReady", True, Reason.READY, counted)
