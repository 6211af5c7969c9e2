"""What `status` shows: clusters and jobs with what belongs to them, as a tree of plain data."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from .cause import State
from .facts import (
    Manifest,
    ago,
    at,
    condition,
    controller,
    holds,
    label,
    maps,
    name_of,
    namespace_of,
    number,
    seconds,
    text,
    uid_of,
)
from .pods import is_ready, pod_cause
from .seen import Seen
from .why import why

#: Pods of a group that are shown one by one; of more, those that are not ready, and the number of the others.
MOST_PODS = 10


@dataclass(frozen=True)
class Node:
    """A line of the tree."""

    kind: str
    name: str
    state: State
    words: str  #: how it does
    detail: dict[str, Any] = field(default_factory=dict)  #: for machines
    below: tuple[Node, ...] = ()
    namespace: str = ""  #: of the roots

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        own = {"kind": self.kind, "name": self.name, "state": str(self.state), "message": self.words, **self.detail}
        return {
            **({"namespace": self.namespace} if self.namespace else {}),
            **own,
            **({"children": [node.as_json() for node in self.below]} if self.below else {}),
        }


#: Kinds of what stands at the root of a tree.
ROOTS = ("DaskCluster", "DaskJob")


def forest(seen: Seen, now: float, *, name: str = "", kinds: Collection[str] = ROOTS) -> list[Node]:
    """The trees of all jobs and clusters, or of those with a name, or of one of the kinds."""
    roots = [root for part in seen.by_namespace().values() for root in _roots(part, now, name, kinds)]
    return sorted(roots, key=lambda node: (node.namespace, node.kind, node.name))


def _roots(seen: Seen, now: float, name: str, kinds: Collection[str]) -> Iterator[Node]:
    """Those of one namespace; the cluster of a job is below it, but where only clusters are asked for."""
    jobs = seen.jobs if "DaskJob" in kinds else ()
    uids = {uid_of(job) for job in jobs}
    for job in jobs:
        if name in ("", name_of(job)):
            yield _job(job, seen, now)
    for cluster in seen.clusters if "DaskCluster" in kinds else ():
        if name in ("", name_of(cluster)) and text(controller(cluster), "uid") not in uids:
            yield _cluster(cluster, seen, now, root=True)


def _job(job: Manifest, seen: Seen, now: float) -> Node:
    found, cluster = why(job, seen, now), seen.cluster_of(job)
    pods = seen.runner_pods(job)
    runner = [_pod(pods[0], seen, now, "Runner")] if pods else []
    below = [*runner, *([_cluster(cluster, seen, now, root=False)] if cluster is not None else [])]
    words = _line(text(job, "status", "jobStatus") or "new", _progress(job), _reason(found.reason, found.state))
    progress = at(job, "status", "progress")
    detail = {
        "jobStatus": text(job, "status", "jobStatus"),
        "reason": found.reason,
        "runId": text(job, "status", "runId"),
        **({"progress": progress} if isinstance(progress, dict) else {}),
    }
    return Node("DaskJob", name_of(job), found.state, words, detail, tuple(below), namespace_of(job))


def _progress(job: Manifest) -> str:
    progress = at(job, "status", "progress")
    if not isinstance(progress, dict):
        return ""
    done, total = number(progress, "tasksDone"), number(progress, "tasksTotal")
    return f"{number(progress, 'percent')} % ({done} of {total} tasks, {number(progress, 'workers')} workers)"


def _cluster(cluster: Manifest, seen: Seen, now: float, *, root: bool) -> Node:
    found = why(cluster, seen, now)
    counts, address = text(cluster, "status", "workers"), text(cluster, "status", "schedulerAddress")
    age = ago(seconds(at(cluster, "metadata", "creationTimestamp")), now)
    below = [*(_pod(pod, seen, now, "Scheduler") for pod in seen.scheduler_pods(cluster))]
    below += [_group(group, seen, now) for group in seen.groups_of(cluster)]
    ready = "Ready" if holds(cluster, "Ready") else "not ready"
    words = _line(
        "Suspended" if at(cluster, "spec", "suspend") is True else ready,
        f"{counts} workers" if counts else "",
        _reason(found.reason, found.state),
        address if root else "",
        age,
    )
    detail = {
        "ready": holds(cluster, "Ready"),
        "reason": found.reason,
        "workers": counts,
        "schedulerAddress": address,
        "dashboardAddress": text(cluster, "status", "dashboardAddress"),
    }
    namespace = namespace_of(cluster) if root else ""
    return Node("DaskCluster", name_of(cluster), found.state, words, detail, tuple(below), namespace)


def _group(group: Manifest, seen: Seen, now: float) -> Node:
    scaler = seen.autoscaler_of(group)
    ready, desired = number(group, "status", "readyReplicas"), number(group, "status", "desiredReplicas")
    draining = maps(group, "status", "draining")
    pods = seen.workers(group)
    notes = {text(entry, "name"): entry for entry in draining}
    bounds = _bounds(scaler) if scaler is not None else ""
    state = State.FINE if holds(group, "Ready") else State.WAIT
    words = _line(f"{ready} of {desired} ready", f"{len(draining)} draining" if draining else "", bounds)
    detail = {
        "ready": ready,
        "desired": desired,
        "autoscaler": text(group, "status", "autoscaler"),
        "reason": text(condition(group, "Ready"), "reason"),
        "draining": [dict(entry) for entry in draining],
    }
    below = tuple(_workers(pods, notes, seen, now))
    return Node("DaskWorkerGroup", name_of(group), state, words, detail, below)


def _bounds(scaler: Manifest) -> str:
    least, most = number(scaler, "spec", "minimum"), at(scaler, "spec", "maximum")
    return f"DaskAutoscaler {name_of(scaler)}: {least} to {most if isinstance(most, int) else 'any'}"


def _workers(pods: list[Manifest], draining: dict[str, Manifest], seen: Seen, now: float) -> Iterator[Node]:
    """Pods one by one; of many, those that need a look."""
    shown, rest = pods, 0
    if len(pods) > MOST_PODS:
        looked_at = [pod for pod in pods if not is_ready(pod) or name_of(pod) in draining]
        shown = looked_at[:MOST_PODS]
        rest = len(pods) - len(shown)
    for pod in shown:
        yield _pod(pod, seen, now, "Worker", draining.get(name_of(pod)))
    if rest:
        ready = sum(is_ready(pod) for pod in pods) - sum(is_ready(pod) for pod in shown)
        yield Node("Workers", f"{rest} more", State.FINE if ready == rest else State.WAIT, f"{ready} ready")


def _pod(pod: Manifest, seen: Seen, now: float, kind: str, draining: Manifest | None = None) -> Node:
    found = pod_cause(pod, seen, now)
    phase = "going" if at(pod, "metadata", "deletionTimestamp") else text(pod, "status", "phase") or "Pending"
    if draining is not None:
        since = ago(seconds(draining.get("since")), now)
        words, state = f"draining for {since}: {text(draining, 'message') or 'told to go'}", State.WAIT
    elif found is not None:
        words, state = found.words.removeprefix(f"Pod {name_of(pod)}").lstrip(",: "), found.state
        words = f"{found.reason}: {words}"
    elif is_ready(pod):
        words, state = "ready", State.FINE
    else:
        words = "running, not ready" if phase == "Running" else phase
        state = State.FINE if phase == "Succeeded" else State.WAIT
    detail = {"phase": phase, "node": text(pod, "spec", "nodeName"), "group": label(pod, "dask.org/workergroup-name")}
    return Node(kind, name_of(pod), state, words, {key: value for key, value in detail.items() if value})


def _line(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _reason(reason: str, state: State) -> str:
    return "" if state is State.FINE else reason
