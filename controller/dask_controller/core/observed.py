"""Snapshots made from raw objects: what the planners look at."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from dask_crds import names
from dask_crds.model import DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup
from dask_resources.scheduler import selector

from .actions import Answers
from .time import Time, parse_time

Manifest = Mapping[str, Any]


class Problem(Struct, frozen=True):
    """Why a Pod is not what it should be, in words a user can act on."""

    reason: str  #: CamelCase, as ``ImagePullBackOff``
    message: str


class Pod(Struct, frozen=True, kw_only=True):
    """What the planners need of a Pod; the rest is not kept in memory."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    owner_uid: str  #: uid of the controller reference, empty without one
    labels: Mapping[str, str]
    last_applied: str  #: labels and annotations that it has from its user, see ``metadata_patch``
    worker_name: str  #: under which its worker registers, empty for other Pods
    created: Time
    started: Time | None
    finished: Time | None  #: when its last container ended, if all have
    deleting: bool
    phase: str
    ready: bool
    ip: str
    problem: Problem | None
    exit_code: int | None = None
    restarts: int = 0  #: of its first container
    last_words: str = ""  #: termination message of its first container's last end

    @property
    def is_finished(self) -> bool:
        """Whether it ended for good (its ``restartPolicy`` or an eviction)."""
        return self.phase in ("Failed", "Succeeded")

    @property
    def ordinal(self) -> int | None:
        """The place in its group, from its name."""
        tail = self.name.rpartition("-")[2]
        return int(tail) if tail.isdecimal() else None


def owner_uid(manifest: Manifest) -> str:
    """Uid of the controller of an object, empty if it has none."""
    for reference in manifest["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


def made_by_another(cluster: str, deployment: Manifest | None) -> Problem | None:
    """What to say of a cluster whose scheduler the existing operator (dask-kubernetes) has made.

    It puts all labels into the Deployment's selector, which is immutable; and its workers are Deployments, one each. A
    second set of workers beside them would be wrong, and replacing the scheduler would lose what it knows.
    """
    if deployment is None or deployment["spec"]["selector"].get("matchLabels") == selector(cluster):
        return None
    message = (
        f"the scheduler of {cluster} was made by another operator, and is left alone with its workers; "
        "delete the DaskCluster and create it again"
    )
    return Problem("MadeByAnotherOperator", message)


#: Managers that write a manifest as a whole by other means than server-side apply.
_APPLIERS = ("kubectl-client-side-apply", "argocd-controller", "helm", "Helm")


def _writers(metadata: Manifest, *path: str) -> list[Manifest]:
    """The entries of ``metadata.managedFields`` for those who wrote a field."""
    found = []
    for entry in metadata.get("managedFields") or []:
        fields = entry.get("fieldsV1") or {}
        for name in path:
            fields = fields.get(f"f:{name}")
            if fields is None:
                break
        else:
            found.append(entry)
    return found


def written_by_us(metadata: Manifest, *path: str) -> bool:
    """Whether the operator was the last to set a field."""
    return any(entry.get("manager") == names.FIELD_MANAGER for entry in _writers(metadata, *path))


def stated_by(metadata: Manifest, *path: str) -> str:
    """Who states a field in a manifest that is applied again and again; empty if it was merely set by somebody."""
    for entry in _writers(metadata, *path):
        manager = str(entry.get("manager", ""))
        applied = entry.get("operation") == "Apply" or manager in _APPLIERS
        if applied and manager != names.FIELD_MANAGER:
            return manager
    return ""


def pod(manifest: Manifest) -> Pod:
    """The snapshot of a raw Pod."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    containers = status.get("containerStatuses") or []
    ended = [c["state"]["terminated"] for c in containers if "terminated" in (c.get("state") or {})]
    finish_times = [parse_time(end["finishedAt"]) for end in ended if end.get("finishedAt")]
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    annotations = metadata.get("annotations") or {}
    # The statuses are sorted by name, the containers are not.
    first = manifest["spec"]["containers"][0]["name"]
    main: Manifest = next((c for c in containers if c["name"] == first), {})
    return Pod(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        owner_uid=owner_uid(manifest),
        labels=metadata.get("labels") or {},
        last_applied=sys.intern(annotations.get(names.LAST_APPLIED, "")),  # the same for all Pods of a group
        worker_name=annotations.get(names.WORKER_NAME, ""),
        created=parse_time(metadata["creationTimestamp"]),
        started=parse_time(status["startTime"]) if status.get("startTime") else None,
        finished=max(finish_times) if finish_times and len(ended) == len(containers) else None,
        deleting="deletionTimestamp" in metadata,
        phase=status.get("phase") or "Pending",
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        ip=status.get("podIP") or "",
        problem=_problem(metadata["name"], status, conditions),
        restarts=main.get("restartCount") or 0,
        last_words=sys.intern(_last_words(main)),
        exit_code=next((end.get("exitCode") for end in ended if end.get("exitCode")), None),
    )


def _last_words(container: Manifest) -> str:
    for state in (container.get("state") or {}, container.get("lastState") or {}):
        if "terminated" in state:
            return str(state["terminated"].get("message") or "").strip()
    return ""


def _problem(name: str, status: Manifest, conditions: Mapping[str, Manifest]) -> Problem | None:
    """What keeps a Pod from working: scheduling, images, crashes, memory."""
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        reason = scheduled.get("reason") or "Unschedulable"
        return Problem(reason, f"{name}: {scheduled.get('message') or 'waiting to be scheduled'}")
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state, last = container.get("state") or {}, container.get("lastState") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        before = last.get("terminated") or {}
        killed = next((end for end in (ended, before) if end.get("reason") == "OOMKilled"), None)
        if killed and (waiting or ended):
            return Problem("OOMKilled", f"{name}/{container['name']}: {_ending(killed)}: it needs more memory")
        if waiting.get("reason") and waiting["reason"] not in ("ContainerCreating", "PodInitializing"):
            detail = waiting.get("message") or ""
            if waiting["reason"] == "CrashLoopBackOff" and before:
                detail = _ending(before)
            return Problem(waiting["reason"], f"{name}/{container['name']}: {detail or waiting['reason']}")
        if ended and ended.get("exitCode") != 0:
            return Problem(ended.get("reason") or "Error", f"{name}/{container['name']}: {_ending(ended)}")
    if status.get("phase") == "Failed":
        return Problem(status.get("reason") or "Failed", f"{name}: {status.get('message') or 'failed'}")
    return None


def _ending(terminated: Manifest) -> str:
    reason = terminated.get("reason") or "Error"
    text = f"last ended with exit code {terminated.get('exitCode')} ({reason})"
    return f"{text}: {terminated['message']}" if terminated.get("message") else text


class ObservedCluster(Struct, frozen=True, kw_only=True):
    """A DaskCluster and its children; ``None`` where one does not exist."""

    cluster: DaskCluster
    config_map: Manifest | None
    deployment: Manifest | None
    service: Manifest | None
    disruption_budget: Manifest | None
    groups: tuple[DaskWorkerGroup, ...]  #: every group that names this cluster, the default one included
    scheduler_pods: tuple[Pod, ...]
    answers: Answers | None = None  #: of the scheduler; ``None``: not asked


class ObservedGroup(Struct, frozen=True, kw_only=True):
    """A DaskWorkerGroup, its Pods, and what decides over their number."""

    group: DaskWorkerGroup
    cluster: DaskCluster | None
    autoscaler: DaskAutoscaler | None  #: the one that sets this group's size
    pods: tuple[Pod, ...]  #: those whose controller is this group
    scheduler_pods: tuple[Pod, ...]
    scheduler: Manifest | None = None  #: the cluster's Deployment
    answers: Answers | None = None


class ObservedJob(Struct, frozen=True, kw_only=True):
    """A DaskJob, its cluster, its runner."""

    job: DaskJob
    cluster: DaskCluster | None
    runner: Manifest | None  #: the batch/v1 Job
    pods: tuple[Pod, ...]  #: of the runner
    scheduler_pods: tuple[Pod, ...] = ()
    creation_problem: str = ""  #: why no Pod of the runner can be made, as the events tell
    answers: Answers | None = None


class Sibling(Struct, frozen=True, kw_only=True):
    """Another worker group of the same cluster."""

    group: DaskWorkerGroup
    autoscaler: DaskAutoscaler | None
    pods: tuple[Pod, ...]


class ObservedAutoscaler(Struct, frozen=True, kw_only=True):
    """A DaskAutoscaler and the group whose size it sets."""

    autoscaler: DaskAutoscaler
    rival: DaskAutoscaler | None  #: another one that sets the same group's size and came first
    group: DaskWorkerGroup | None
    pods: tuple[Pod, ...]
    siblings: tuple[Sibling, ...] = ()
    scheduler_pods: tuple[Pod, ...]
    answers: Answers | None = None


Observed = ObservedCluster | ObservedGroup | ObservedJob | ObservedAutoscaler
