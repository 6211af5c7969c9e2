"""What to do about a worker group: how many Pods, which ones go, which ones are replaced.

First every Pod is put into a bucket, then the buckets are counted. The words:

finished   ended for good; deleted, and replaced by a new one.
draining   in the ledger: told to hand over its work and data, deleted when the scheduler says that it has. One that is
           wanted again stays in the ledger until the scheduler says that it works again.
kept       all others that are not being deleted.
outdated   kept, but made from another template than the group's present one.
waiting    kept, but its worker does not run or the scheduler does not know it: nothing is lost with it.
revoked    neither kept nor draining yet, and without quota: it has to go, see `queue_workers`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain, islice

from msgspec import Struct

from dask_crds import names
from dask_crds.model import DaskCluster, DaskWorkerGroup, UpdateStrategy
from dask_crds.names import Annotation, Component, Label
from dask_resources.metadata import metadata_patch, tracked
from dask_resources.pod import main_container
from dask_resources.worker import drain_timeout, stop_seconds, worker_metadata, worker_revision

from .actions import STEP, CreateWorker, Delete, Patch, Plan, step
from .autoscaler import number_for
from .ledger import DRAIN_POLL_SECONDS, MOST_DRAINING, drained, is_wanted, since, timeouts
from .observed import ObservedGroup
from .ownership import adoption, annotation, foreign_scheduler, number
from .pod import Pod
from .questions import Ask, Rank, Registered, Resume, Retire
from .queue_workers import free, staying, surplus_actions
from .record import ends_told
from .rolling import Bounds, bounds, in_place
from .run_questions import WorkersFailed
from .time import Time

#: A Pod that has lived for less than this is not replaced before as much time has passed again, else a broken image, an
#: init container that fails or a kubelet that refuses would make Pods as fast as the API server takes them.
SHORT_LIFE_SECONDS = 30.0
#: Workers that the scheduler is asked to compare when some have to go.
MOST_COMPARED = 5000


class Buckets(Struct, frozen=True, kw_only=True):
    """The Pods of a group by what can be done with them, newest first."""

    finished: tuple[Pod, ...]
    draining: tuple[Pod, ...]
    kept: tuple[Pod, ...]
    outdated: tuple[Pod, ...]  #: those of ``kept`` that are outdated
    revoked: tuple[Pod, ...] = ()

    @property
    def compared(self) -> tuple[Pod, ...]:
        """Those of ``kept`` among which is chosen who goes, outdated ones first."""
        if len(self.kept) <= MOST_COMPARED:
            return self.kept
        outdated = {p.name for p in self.outdated}
        return tuple(sorted(self.kept, key=lambda p: p.name not in outdated)[:MOST_COMPARED])


def buckets(o: ObservedGroup) -> Buckets:
    """Sort the Pods of a group. Pods that are being deleted are in no bucket: they are gone already."""
    revision = worker_revision(o.group, o.certificates)
    ledger = {entry.name for entry in o.group.status.draining or ()}
    living = sorted((p for p in o.pods if not p.deleting), key=lambda p: (-p.created, -(p.ordinal or 0)))
    ended = {p.name for p in living if has_ended(p, o)}
    active = [p for p in living if p.name not in ended]
    kept = tuple(p for p in active if p.name not in ledger and not _is_revoked(p, o))
    return Buckets(
        finished=tuple(p for p in living if p.name in ended),
        draining=tuple(p for p in active if p.name in ledger),
        kept=kept,
        outdated=tuple(p for p in kept if p.labels.get(Label.REVISION) != revision),
        revoked=tuple(p for p in active if p.name not in ledger and _is_revoked(p, o)),
    )


def _is_revoked(pod: Pod, o: ObservedGroup) -> bool:
    return o.queue is not None and o.queue.is_revoked(pod)


def has_ended(pod: Pod, o: ObservedGroup) -> bool:
    """Whether a Pod will not work again: it has ended, or its worker has, while a sidecar is still up."""
    if pod.is_finished:
        return True
    name = main_container(o.group.spec.worker.spec, Component.WORKER)
    main = next((c for c in pod.containers if c.name == name), None)
    if main is None or main.running or main.finished is None:
        return False
    declared = next(c for c in o.group.spec.worker.spec["containers"] if c["name"] == name)
    if "restartPolicy" in declared:  # has rules of its own
        return False
    return pod.restart_policy == "Never" or (pod.restart_policy == "OnFailure" and main.exit_code == 0)


def desired_replicas(o: ObservedGroup) -> int:
    """How many workers the group works towards now."""
    if o.cluster is None or o.cluster.spec.suspend:
        return 0
    stated = number_for(o.autoscaler, o.group)
    desired = o.group.spec.worker.size if stated is None else stated
    most = _most_workers(o.group, o.cluster)
    return max(0, desired if most is None else min(desired, most))


def reachable_replicas(o: ObservedGroup) -> int:
    """How many of these may run now: each needs quota if the cluster waits in a queue, or a place within a limit."""
    desired = desired_replicas(o)
    if o.places is not None:
        desired = min(desired, o.places.count)
    return desired if o.queue is None or o.queue.left else min(desired, o.queue.granted(o.pods))


def _most_workers(group: DaskWorkerGroup, cluster: DaskCluster) -> int | None:
    """How many workers a job leaves room for in the quota, so that its runner can start; ``None`` for no limit."""
    owners = cluster.metadata.get("ownerReferences") or ()
    of_job = any(owner.get("controller") and owner.get("kind") == "DaskJob" for owner in owners)
    limited = of_job and group.name == names.default_group(cluster.name)
    return number(annotation(cluster.metadata, Annotation.MOST_WORKERS)) if limited else None


def alive(pods: Iterable[Pod]) -> int:
    """How many have not ended, terminating ones included."""
    return sum(1 for pod in pods if not pod.is_finished)


class Decision(Struct, frozen=True, kw_only=True):
    """How many Pods to add and which ones to let go."""

    create: int
    resume: tuple[Pod, ...]  #: draining ones that are wanted again; they count as kept
    excess: int  #: how many kept Pods must go because the group is too large
    roll: int  #: how many outdated Pods may go because newer ones have taken their place
    spare: int  #: how many of these may be ready ones

    @property
    def resumed(self) -> Set[str]:
        """Names of those that are wanted again."""
        return {p.name for p in self.resume}


def decide(o: ObservedGroup, b: Buckets, now: Time) -> Decision:
    """Count. Never more Pods than desired plus surge, not counting finished ones and those being deleted.

    Nor are there ever fewer ready ones than desired minus unavailable because of what is decided here.
    """
    desired = reachable_replicas(o)
    strategy = o.group.spec.worker.update_strategy or UpdateStrategy()
    revision = worker_revision(o.group, o.certificates)
    accepts_outdated = strategy.type == "OnDelete"
    current = [p for p in b.draining if accepts_outdated or p.labels.get(Label.REVISION) == revision]
    recoverable = [p for p in current if not _is_revoked(p, o)]
    # Until the last outdated one is gone: one that drains takes its place still.
    rolling = desired > 0 and not accepts_outdated and bool(b.outdated or len(current) < len(b.draining))
    bounded = o.queue is not None or o.places is not None
    limit = (in_place if bounded else bounds)(strategy, desired) if rolling else Bounds(0, 0)
    most = desired + limit.surge
    outdated = len(b.outdated) if rolling else 0

    # Wanted again: what drains is taken back before anything new is made, unless it is outdated.
    missing = max(0, min(desired - (len(b.kept) - outdated), most - len(b.kept)))
    resume = tuple(recoverable[:missing])
    kept = len(b.kept) + len(resume)
    draining = sum(1 for p in b.draining if not _is_revoked(p, o)) - len(resume)

    held_back = sum(1 for p in b.finished if replaceable_at(p, o, now) > now)
    create = max(0, min(missing - len(resume), most - kept - draining) - held_back)
    if o.places is not None:
        create = max(0, min(create, o.places.count - alive(o.pods)))

    excess = max(0, kept - most)
    ready = sum(1 for p in b.kept if p.ready)  # one that is wanted again is paused until the scheduler says otherwise
    broken = sum(1 for p in b.outdated if not p.ready)
    spare = max(0, ready - excess - (desired - limit.unavailable))
    # Outdated Pods that are not ready serve nobody: they may go as soon as there is something to replace them with.
    roll = min(outdated - min(excess, outdated), spare + broken)
    return Decision(create=create, resume=resume, excess=excess, roll=roll, spare=spare)


def replaceable_at(pod: Pod, o: ObservedGroup, now: Time) -> Time:
    """When a finished Pod may be replaced.

    By the API server's clock, as `now` is: those of the nodes may be minutes off. Of theirs it counts for how long the
    Pod lived, and when it ended, as far as that can be; neither can hasten anything, nor delay it for long.
    """
    ended = pod.finished
    if ended is None:
        ended = pod.container(main_container(o.group.spec.worker.spec, Component.WORKER)).finished
    lived = max(0.0, ended - pod.started) if ended is not None and pod.started is not None else 0.0
    if lived >= SHORT_LIFE_SECONDS:
        return pod.created + SHORT_LIFE_SECONDS
    known = ended if ended is not None and ended <= now else pod.created
    return max(pod.created + lived, known) + SHORT_LIFE_SECONDS


def plan_worker_group(o: ObservedGroup, now: Time) -> Plan:
    """What to do about a group now."""
    if foreign_scheduler(o.group.spec.cluster, o.scheduler_deployment):
        return Plan()
    b = buckets(o)
    decision = decide(o, b, now)
    ask = _questions(o, b, decision) if o.scheduler_runs else None
    if ask is not None and o.answers is None:
        return Plan(ask=ask)

    chosen = [*victims(b, decision, o), *b.revoked]
    drains = o.scheduler_runs and drain_timeout(o.group) > 0
    at_once = [p for p in chosen if not drains or _is_waiting(p, o)]
    begun = [p for p in chosen if drains and not _is_waiting(p, o)][: max(0, MOST_DRAINING - len(b.draining))]
    gone = drained(o, b.draining, decision.resumed, now)
    ended = chain((p for p in b.finished if replaceable_at(p, o, now) <= now), gone.due)
    grace = stop_seconds(o.group)
    new = _creations(o, free_ordinals(o.pods, min(decision.create, STEP), o.taken))
    used = {worker.workload for worker in new}
    actions = step(
        # As they were seen: one that has begun to run meanwhile, or was taken from the group, is left alone.
        (Delete.of(p, version=p.resource_version, grace_seconds=grace) for p in chain(at_once, ended)),
        chain(_adoption(o), _relabelled(o, (*b.kept, *b.draining))),
        new,
        timeouts(o, gone.late),
        surplus_actions(o.group, o.queue, o.pods, desired_replicas(o), now, used, staying(o.group, b.kept, b.outdated)),
    )
    # Those that are deleted now stay in the ledger until they are seen to be gone: the deletion may fail.
    draining = gone.notes | {p.name: "" for p in (*begun, *gone.due)}
    return Plan(actions=actions, requeue_after=_next_look(o, b, begun, draining, now), draining=draining)


def _creations(o: ObservedGroup, places: Sequence[int]) -> list[CreateWorker]:
    """New workers, each on quota where it needs some."""
    uid, quota = o.cluster.uid if o.cluster else "", free(o.queue, o.pods)
    return [CreateWorker(o.group, n, uid, o.certificates, *granted) for n, granted in zip(places, quota, strict=False)]


def _next_look(
    o: ObservedGroup, b: Buckets, begun: Sequence[Pod], draining: Mapping[str, str], now: Time
) -> float | None:
    """Seconds until the next look, if neither a watch nor the scheduler reports anything first."""
    looks = [wait for p in b.finished if (wait := replaceable_at(p, o, now) - now) > 0]
    if begun:
        looks.append(DRAIN_POLL_SECONDS)
    times = (time for name, time in since(o, now).items() if name in draining and not is_wanted(draining[name]))
    looks += [max(DRAIN_POLL_SECONDS, time + drain_timeout(o.group) - now) for time in times]
    return min(looks, default=None)


def _questions(o: ObservedGroup, b: Buckets, decision: Decision) -> Ask | None:
    compared = b.compared if decision.excess + decision.roll else ()
    registered = (*compared, *(p for p in b.revoked if p.phase == "Running"))
    going = [p for p in b.draining if p.name not in decision.resumed]
    noted = (WorkersFailed(ends_told(o.ends)),) if o.ends else ()
    if not (registered or going or decision.resume or noted):
        return None
    about = (
        Resume(tuple(p.worker_id for p in decision.resume)),
        Registered(tuple(p.worker_id for p in registered)),
        Rank(tuple(p.worker_id for p in compared if p.phase == "Running")),
        Retire(tuple(p.worker_id for p in going)),
    )
    every = DRAIN_POLL_SECONDS if going or decision.resume else None
    return Ask((*noted, *(question for question in about if question.workers)), every=every)


def _is_waiting(pod: Pod, o: ObservedGroup) -> bool:
    """Whether nothing can be lost with a Pod: its worker does not run, or the scheduler does not know it."""
    registered = o.answers.of(Registered) if o.answers else None
    return pod.phase != "Running" if registered is None else pod.known_as not in registered


def victims(b: Buckets, decision: Decision, o: ObservedGroup) -> list[Pod]:
    """The Pods that go.

    Not running or not registered first (newest first), then not ready, then outdated, then by the scheduler. Those that
    run on the quota of the whole cluster last: they would give none back.
    """
    ranked = (o.answers and o.answers.of(Rank)) or ()
    rank = {name: position for position, name in enumerate(ranked)}
    outdated = {p.name for p in b.outdated}

    def order(pod: Pod) -> tuple[bool, bool, bool, bool, int, float]:
        return (
            o.queue is not None and o.queue.is_guaranteed(pod),
            not _is_waiting(pod, o),
            pod.ready,
            pod.name not in outdated,
            rank.get(pod.known_as, len(rank)),
            -pod.created,
        )

    first = sorted(b.compared, key=order)[: decision.excess]
    going = {p.name for p in first}
    rest = sorted((p for p in b.compared if p.name in outdated - going), key=order)
    broken = [p for p in rest if not p.ready]
    replaced = [*broken, *[p for p in rest if p.ready][: decision.spare]]
    return [*first, *replaced[: decision.roll]]


def free_ordinals(pods: Iterable[Pod], count: int, taken: Set[int] = frozenset()) -> list[int]:
    """The ``count`` lowest places that are free.

    Pods that are being deleted have theirs still, and others may have taken names: these are ``taken``.
    """
    present = {p.ordinal for p in pods} | taken
    return list(islice((place for place in itertools.count() if place not in present), count))


def _adoption(o: ObservedGroup) -> Sequence[Patch]:
    """An owner reference for a group that a client made, or that has lost its cluster, so that it goes with this one.

    A group that a GitOps tool tracks stays without: Argo CD does not prune objects that have an owner.
    """
    if o.cluster is None or not o.cluster.uid or tracked(o.group.metadata):
        return []
    owners = o.group.metadata.get("ownerReferences") or []
    # Of an earlier cluster: the garbage collector is about to take it, and would spare it for the sake of this one.
    if any(o.cluster.uid == owner.get("uid") or owner.get("kind") == o.cluster.kind for owner in owners):
        return []
    return [Patch.of(o.group, adoption(o.group.metadata, owners, o.cluster))]


def _relabelled(o: ObservedGroup, pods: Iterable[Pod]) -> Iterator[Patch]:
    """Labels and annotations of running workers brought up to date; that needs no restart."""
    desired = worker_metadata(o.group)
    return (Patch.of(pod, {"metadata": patch}) for pod in pods if (patch := metadata_patch(desired, pod.last_applied)))
