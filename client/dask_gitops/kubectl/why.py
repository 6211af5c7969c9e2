"""Why a Dask resource is as it is: objects and the time in, one cause out.

The operator's conditions say most of it. What it does not read, events, quotas, queues, and what it does not say, what
to do, is added here; and where it says nothing because it does not run, that is the cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from dask_crds.reasons import Reason

from .cause import Cause, State, cause
from .facts import Manifest, ago, at, condition, holds, maps, name_of, number, plain, seconds, text, uid_of
from .pods import is_ready, pod_cause
from .refused import refined, with_quota
from .seen import Seen

#: Seconds in which an operator has looked at a new spec.
PATIENCE = 30.0
#: Reasons of ``Ready`` behind which no Pod need be looked at: something could not even be made.
_REFUSALS = {
    Reason.NAME_CONFLICT,
    Reason.CONFLICT,
    Reason.WRITE_FAILED,
    Reason.QUOTA_EXCEEDED,
    Reason.FORBIDDEN,
    Reason.INVALID,
    Reason.BAD_REQUEST,
    Reason.TOO_LARGE,
    Reason.OUTDATED_CRDS,
    Reason.MADE_BY_ANOTHER_OPERATOR,
    Reason.SERVICE_SELECTS_NOTHING,
    Reason.CLUSTER_NOT_FOUND,
    Reason.CLUSTER_UNREADABLE,
    Reason.WORKER_GROUP_NOT_FOUND,
    Reason.FAILED_CREATE,
    "FailedCreate",
    "ReplicaFailure",
}


def why(subject: Manifest, seen: Seen, now: float) -> Cause:
    """The one cause to see to first.

    Args:
        subject: a DaskCluster, DaskWorkerGroup, DaskJob or DaskAutoscaler.
        seen: what was read of its namespace.
        now: the time in seconds since 1970.
    """
    looks = {"DaskCluster": _cluster, "DaskWorkerGroup": _group, "DaskJob": _job, "DaskAutoscaler": _autoscaler}
    found = next(_general(subject, seen, now), None) or next(looks[subject["kind"]](subject, seen, now), None)
    return found or _stated(subject, seen)


def _about(subject: Manifest) -> str:
    return f"{text(subject, 'kind')} {name_of(subject)}"


# --- of every kind ----------------------------------------------------------------------------------------------------


def _general(subject: Manifest, seen: Seen, now: float) -> Iterator[Cause]:
    about = _about(subject)
    if at(subject, "metadata", "deletionTimestamp"):
        yield _leaving(subject, about)
    observed, generation = at(subject, "status", "observedGeneration"), number(subject, "metadata", "generation")
    if observed != generation:
        since = _written(subject)
        words = f"{about}: no operator has looked at generation {generation} for {ago(since, now) or 'some time'}"
        waits = since is not None and now - since < PATIENCE
        yield (
            cause(Reason.PROGRESSING, f"{about} is new to the operator", about)
            if waits
            else cause("NotObserved", words, about)
        )


def _leaving(subject: Manifest, about: str) -> Cause:
    finalizers = at(subject, "metadata", "finalizers")
    held = [str(each) for each in finalizers] if isinstance(finalizers, list) else []
    mine = [each for each in held if each not in ("foregroundDeletion", "orphan")]
    if mine:
        return cause("DeletionHeld", f"{about} is being deleted, and held by {plain(', '.join(mine))}", about)
    return cause(Reason.TERMINATING, f"{about} is being deleted", about)


def _written(subject: Manifest) -> float | None:
    """When the spec was written last, as far as the API server noted it."""
    entries = [e for e in maps(subject, "metadata", "managedFields") if not e.get("subresource")]
    times = [at(subject, "metadata", "creationTimestamp"), *(entry.get("time") for entry in entries)]
    return max((time for each in times if (time := seconds(each)) is not None), default=None)


def _refusal(subject: Manifest, seen: Seen, type_: str = "Ready") -> Iterator[Cause]:
    found = condition(subject, type_)
    reason, words = text(found, "reason"), text(found, "message")
    better = refined(reason, words)
    if found.get("status") != "True" and (better != reason or reason in _REFUSALS):
        yield cause(better, with_quota(f"{_about(subject)}: {words or reason}", seen), _about(subject))


def _stated(subject: Manifest, seen: Seen) -> Cause:
    """What ``Ready`` says by itself."""
    about, ready, stalled = _about(subject), condition(subject, "Ready"), condition(subject, "Stalled")
    reason, words = text(ready, "reason") or Reason.PROGRESSING, text(ready, "message")
    if ready.get("status") == "True":
        return replace(cause(reason, f"{about}: {words or 'all is as asked'}", about), state=State.FINE)
    if stalled.get("status") == "True":
        reason = text(stalled, "reason") or reason
    return cause(reason, f"{about}: {words or reason}", about)


def _first_of(pods: Iterable[Manifest], seen: Seen, now: float) -> Iterator[Cause]:
    """The most frequent cause among Pods that are not ready, told by the first that has it."""
    found = [it for pod in pods if not is_ready(pod) and (it := pod_cause(pod, seen, now))]
    if found:
        counts = {it.reason: sum(other.reason == it.reason for other in found) for it in found}
        first = max(found, key=lambda it: (it.state is State.ACT, counts[it.reason]))
        more = counts[first.reason] - 1
        yield replace(first, words=f"{first.words} (and {more} more)") if more else first


# --- DaskCluster ------------------------------------------------------------------------------------------------------


def _cluster(cluster: Manifest, seen: Seen, now: float) -> Iterator[Cause]:
    if at(cluster, "spec", "suspend") is True:
        yield from _queued(cluster, seen)
        suspended = condition(cluster, "Suspended")
        reason, words = text(suspended, "reason") or Reason.SUSPENDED, text(suspended, "message")
        yield cause(reason, f"{_about(cluster)}: {words or 'suspended as asked'}", _about(cluster))
    yield from _refusal(cluster, seen, "SchedulerReady")
    if not holds(cluster, "SchedulerReady"):
        yield from _first_of(seen.scheduler_pods(cluster), seen, now)
    yield from _refusal(cluster, seen)
    groups, scalers = seen.groups_of(cluster), seen.autoscalers_of(cluster)
    for group in groups:
        yield from _general(group, seen, now)
        yield from _workers(group, seen, now)
    for scaler in scalers:
        yield from _silent(scaler)
    yield from _findings(cluster)
    if holds(cluster, "Ready"):
        for scaler in scalers:
            yield from _limited(scaler)


def _findings(subject: Manifest) -> Iterator[Cause]:
    """What is wrong beside the course of things, in the operator's words."""
    about = _about(subject)
    for found in maps(subject, "status", "conditions"):
        type_, reason = text(found, "type"), text(found, "reason")
        expires = reason == Reason.CERTIFICATE_EXPIRES
        if type_ in ("Encrypted", "VersionsConsistent") and (found.get("status") == "False" or expires):
            yield cause(reason, f"{about}: {text(found, 'message') or reason}", about)


# --- DaskWorkerGroup --------------------------------------------------------------------------------------------------


def _group(group: Manifest, seen: Seen, now: float) -> Iterator[Cause]:
    yield from _refusal(group, seen)
    cluster = seen.cluster_named(text(group, "spec", "cluster"))
    if cluster is not None:
        if at(cluster, "spec", "suspend") is True:
            yield from _cluster(cluster, seen, now)
        if not holds(cluster, "SchedulerReady"):
            yield from _refusal(cluster, seen, "SchedulerReady")
            yield from _first_of(seen.scheduler_pods(cluster), seen, now)
    yield from _workers(group, seen, now)


def _workers(group: Manifest, seen: Seen, now: float) -> Iterator[Cause]:
    """What the workers of a group lack."""
    if holds(group, "Ready"):
        return
    yield from _refusal(group, seen)
    yield from _first_of(seen.workers(group), seen, now)
    draining = maps(group, "status", "draining")
    if draining:
        yield _draining(group, draining, now)
    ready = condition(group, "Ready")
    if text(ready, "reason") not in ("", Reason.PROGRESSING):
        yield _stated(group, seen)


def _draining(group: Manifest, draining: list[Manifest], now: float) -> Cause:
    first = draining[0]
    waits = f"{text(first, 'name')} for {ago(seconds(first.get('since')), now)}: {text(first, 'message') or 'draining'}"
    silent = "waiting for the scheduler" in waits
    more = f" (and {len(draining) - 1} more)" if len(draining) > 1 else ""
    about = _about(group)
    limit = at(group, "spec", "worker", "drainTimeoutSeconds")
    bound = f"; it goes after {300 if limit is None else limit} s all the same"
    return cause(Reason.SCHEDULER_SILENT if silent else "Draining", f"{about}: {waits}{more}{bound}", about)


# --- DaskJob ----------------------------------------------------------------------------------------------------------


def _job(job: Manifest, seen: Seen, now: float) -> Iterator[Cause]:
    if holds(job, "Complete") or holds(job, "Failed"):
        yield _ended(job, seen, now)
    if at(job, "spec", "suspend") is True:
        yield from _queued(job, seen)
        yield cause(Reason.SUSPENDED, f"{_about(job)}: suspended as asked", _about(job))
    if text(condition(job, "Ready"), "reason") == Reason.SUSPENDED_BY_ANOTHER:
        yield from _queued(job, seen)
        yield _stated(job, seen)
    yield from _refusal(job, seen)
    yield from _first_of(seen.runner_pods(job)[:1], seen, now)
    yield from _findings(job)
    cluster = seen.cluster_of(job)
    if cluster is not None and text(job, "status", "jobStatus") != "Running":
        yield from _queued(cluster, seen)
        of_cluster = why(cluster, seen, now)
        if of_cluster.state is not State.FINE and of_cluster.reason != Reason.PROGRESSING:
            yield of_cluster


def _ended(job: Manifest, seen: Seen, now: float) -> Cause:
    """How a job has ended: the reason of its runner's end where it has failed by itself."""
    end = condition(job, "Complete" if holds(job, "Complete") else "Failed")
    about, reason = _about(job), text(end, "reason")
    words = f"{about}: {text(end, 'message') or reason}"
    if holds(job, "Complete"):
        return cause(reason or Reason.COMPLETED, words, about)
    closer = next(_first_of(seen.runner_pods(job)[:1], seen, now), None)
    last = text(job, "status", "lastProblem")
    if reason in (Reason.FAILED, "BackoffLimitExceeded"):
        if closer is not None:
            return replace(closer, words=f"{words}; {closer.words}")
        if "OOMKilled" in last or "OOMKilled" in words:
            reason = "OOMKilled"
    return cause(refined(reason, words), words, about)


def _queued(held: Manifest, seen: Seen) -> Iterator[Cause]:
    """What Kueue says of what it holds back."""
    for workload in seen.workloads:
        owners = {text(owner, "uid") for owner in maps(workload, "metadata", "ownerReferences")}
        mine = uid_of(held) in owners or any(
            text(owner, "name") == f"{name_of(held)}-runner" for owner in maps(workload, "metadata", "ownerReferences")
        )
        if mine and not holds(workload, "Admitted"):
            said = text(condition(workload, "QuotaReserved"), "message") or text(
                condition(workload, "Admitted"), "message"
            )
            queue = text(workload, "spec", "queueName")
            words = f"{_about(held)}: queue {queue or 'of Kueue'}: {said or 'it has not been admitted'}"
            yield cause(Reason.QUEUED, words, f"Workload {name_of(workload)}")


# --- DaskAutoscaler ---------------------------------------------------------------------------------------------------


def _autoscaler(scaler: Manifest, seen: Seen, now: float) -> Iterator[Cause]:
    yield from _refusal(scaler, seen)
    yield from _silent(scaler)
    cluster = seen.cluster_named(text(scaler, "spec", "cluster"))
    if cluster is not None and not holds(scaler, "Ready"):
        yield from _cluster(cluster, seen, now)
    yield from _limited(scaler)


def _silent(scaler: Manifest) -> Iterator[Cause]:
    active = condition(scaler, "ScalingActive")
    if active.get("reason") == Reason.SCHEDULER_SILENT:
        yield cause(Reason.SCHEDULER_SILENT, f"{_about(scaler)}: {text(active, 'message')}", _about(scaler))


def _limited(scaler: Manifest) -> Iterator[Cause]:
    """More workers are wanted than there may be."""
    limited = condition(scaler, "ScalingLimited")
    if limited.get("status") == "True" and limited.get("reason") == Reason.TOO_MANY_REPLICAS:
        yield cause(Reason.TOO_MANY_REPLICAS, f"{_about(scaler)}: {text(limited, 'message')}", _about(scaler))
