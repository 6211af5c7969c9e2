"""Snapshots made from raw objects: what the planners look at."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypedDict

from msgspec import Struct, field

from dask_crds import names
from dask_crds.model import DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup
from dask_resources.metadata import remembered
from dask_resources.scheduler import selector

from .actions import Answers
from .time import Time, parse_time

Manifest = Mapping[str, Any]


class Problem(Struct, frozen=True):
    """Why a Pod is not what it should be, in words a user can act on."""

    reason: str  #: CamelCase, as ``ImagePullBackOff``
    message: str


class Container(Struct, frozen=True, kw_only=True, gc=False):
    """How a container of a Pod is; that of most is the same."""

    name: str
    running: bool = False
    restarts: int = 0
    exit_code: int | None = None  #: of its present end, or of its last one
    reason: str = ""  #: of that end, as ``OOMKilled``
    finished: Time | None = None  #: when it ended, if it has and does not run again
    last_words: str = ""  #: termination message of its last end


class Pod(Struct, frozen=True, kw_only=True, gc=False):
    """What the planners need of a Pod; the rest is not kept in memory, and nothing of any length."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    owner_uid: str  #: uid of the controller reference, empty without one
    owner_kind: str = ""  #: its kind
    labels: Mapping[str, str]  #: those of ours that planners read, see `POD_LABELS`
    last_applied: str  #: labels and annotations that it has from its user, `remembered`, see ``metadata_patch``
    worker_name: str  #: under which its worker registers, empty for other Pods
    created: Time
    started: Time | None
    finished: Time | None  #: when its last container ended, if all have
    deleting: bool
    phase: str
    ready: bool
    ip: str  #: under which it is reached
    own_ips: tuple[str, ...] = ()  #: addresses by which it is known: all of its own, none that it shares with its node
    problem: Problem | None
    restart_policy: str = "Always"
    containers: tuple[Container, ...] = ()  #: in the order of its ``spec``, others' that were injected too
    ports: Mapping[str, int] = field(default_factory=lambda: _NO_PORTS)  #: of a scheduler's containers, by name

    @property
    def is_finished(self) -> bool:
        """Whether it ended for good (its ``restartPolicy`` or an eviction)."""
        return self.phase in ("Failed", "Succeeded")

    def container(self, name: str) -> Container:
        """The container of that name, wherever others stand; else the first one."""
        found = (c for c in self.containers if c.name == name)
        return next(found, None) or next(iter(self.containers), None) or Container(name=name)

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


def set_by(metadata: Manifest, *path: str) -> list[str]:
    """Those by whom a field stands as it does; empty where that is not known."""
    return [str(entry.get("manager") or "") for entry in _writers(metadata, *path)]


def stated_by(metadata: Manifest, *path: str) -> str:
    """Who states a field in a manifest that is applied again and again; empty if it was merely set by somebody."""
    for entry in _writers(metadata, *path):
        manager = str(entry.get("manager", ""))
        applied = entry.get("operation") == "Apply" or manager in _APPLIERS
        if applied and manager != names.FIELD_MANAGER:
            return manager
    return ""


# --- Pods -------------------------------------------------------------------------------------------------------------
# Whoever may write a Pod or its status may have left out any field, or have written a megabyte into it.

#: Labels that are read of a Pod.
POD_LABELS = (names.CLUSTER, names.COMPONENT, names.WORKER_GROUP, names.REVISION)
#: Characters that are kept of a message, of a container's last words, of a word such as a reason, and of an annotation
#: that is a name.
LONGEST_MESSAGE, LONGEST_WORDS, LONGEST_WORD, LONGEST_NAME = 1024, 256, 128, 300
#: Named ports, containers and addresses that are kept of a Pod.
MOST_PORTS, MOST_CONTAINERS, MOST_IPS = 16, 16, 4
_NO_PORTS: Mapping[str, int] = MappingProxyType({})


class _Ending(TypedDict, total=False):
    exitCode: int
    reason: str
    message: str
    finishedAt: str | None


class _State(TypedDict, total=False):
    waiting: _Ending | None
    running: dict[str, Any] | None
    terminated: _Ending | None


class _ContainerStatus(TypedDict, total=False):
    name: str
    restartCount: int
    state: _State | None
    lastState: _State | None


class _PodCondition(TypedDict, total=False):
    type: str
    status: str
    reason: str
    message: str


class _Address(TypedDict, total=False):
    ip: str


class _PodStatus(TypedDict, total=False):
    phase: str
    reason: str
    message: str
    podIP: str
    podIPs: list[_Address] | None
    hostIPs: list[_Address] | None
    startTime: str | None
    conditions: list[_PodCondition] | None
    initContainerStatuses: list[_ContainerStatus] | None
    containerStatuses: list[_ContainerStatus] | None


class _Port(TypedDict, total=False):
    name: str
    containerPort: int


class _Container(TypedDict, total=False):
    name: str
    ports: list[_Port] | None


class _PodSpec(TypedDict, total=False):
    containers: list[_Container]
    hostNetwork: bool | None
    restartPolicy: str


class Owner(TypedDict, total=False):
    """The fields of an owner reference."""

    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool | None
    blockOwnerDeletion: bool | None


class Metadata(TypedDict, total=False):
    """The fields of ``metadata`` that are looked at."""

    name: str
    namespace: str
    uid: str
    resourceVersion: str
    generation: int
    creationTimestamp: str | None
    deletionTimestamp: str | None
    labels: dict[str, str] | None
    annotations: dict[str, str] | None
    ownerReferences: list[Owner] | None


class PodForm(TypedDict, total=False):
    """The fields of a Pod that are looked at."""

    kind: str
    metadata: Metadata
    spec: _PodSpec
    status: _PodStatus | None


def pod(manifest: Manifest) -> Pod:
    """The snapshot of a raw Pod, or of its `PodForm`; whatever its fields hold."""
    metadata, status, spec = (_map(manifest.get(field)) for field in ("metadata", "status", "spec"))
    annotations, labels = _map(metadata.get("annotations")), _map(metadata.get("labels"))
    declared = _maps(spec.get("containers"))
    statuses = _maps(status.get("containerStatuses"))
    ended = [end for c in statuses if (end := _map(_map(c.get("state")).get("terminated")))]
    finish_times = [time for end in ended if (time := _time(end.get("finishedAt"))) is not None]
    conditions = {_text(c.get("type")): c for c in _maps(status.get("conditions"))}
    controller = _controller(metadata)
    return Pod(
        name=metadata["name"],
        namespace=sys.intern(metadata["namespace"]),
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        owner_uid=_text(controller.get("uid")),
        owner_kind=sys.intern(_text(controller.get("kind"))),
        labels={key: sys.intern(_text(labels[key])) for key in POD_LABELS if key in labels},
        # The same for all Pods of a group.
        last_applied=sys.intern(remembered(_text(annotations.get(names.LAST_APPLIED), None))),
        worker_name=_worker_name(metadata["name"], annotations),
        created=_time(metadata.get("creationTimestamp")) or 0.0,
        started=_time(status.get("startTime")),
        finished=max(finish_times) if finish_times and len(ended) == len(statuses) else None,
        deleting=bool(metadata.get("deletionTimestamp")),
        phase=sys.intern(_text(status.get("phase")) or "Pending"),
        ready=_map(conditions.get("Ready")).get("status") == "True",
        ip=_text(status.get("podIP")),
        own_ips=_own_ips(spec, status),
        problem=_problem(metadata["name"], status, conditions),
        restart_policy=sys.intern(_text(spec.get("restartPolicy")) or "Always"),
        containers=_containers(declared, statuses),
        ports=_ports(declared) if labels.get(names.COMPONENT) == names.SCHEDULER else _NO_PORTS,
    )


def _worker_name(pod: str, annotations: Manifest) -> str:
    """The name under which the Pod's worker registers: its own with something new at its end, see ``worker_pod``.

    Another one is somebody's who wants another worker to go in its place.
    """
    name = _text(annotations.get(names.WORKER_NAME), LONGEST_NAME)
    return name if name.startswith(f"{pod}-") else ""


def _own_ips(spec: Manifest, status: Manifest) -> tuple[str, ...]:
    """All addresses of a Pod, but those of its node: on the host's network Pods share them."""
    if spec.get("hostNetwork"):
        return ()
    hosts = {address.get("ip") for address in _maps(status.get("hostIPs"))}
    listed = [_text(address.get("ip")) for address in _maps(status.get("podIPs"))[:MOST_IPS]]
    return tuple(ip for ip in dict.fromkeys([_text(status.get("podIP")), *listed]) if ip and ip not in hosts)


@lru_cache(maxsize=1024)
def _same_containers(containers: tuple[Container, ...]) -> tuple[Container, ...]:
    """The same object for all Pods whose containers are the same: most are."""
    return containers


def _containers(declared: list[Manifest], statuses: list[Manifest]) -> tuple[Container, ...]:
    """The containers of a Pod, in the order of its ``spec``: statuses are sorted by name."""
    by_name = {_text(status.get("name")): status for status in statuses}
    named = [sys.intern(_text(container.get("name"))) for container in declared[:MOST_CONTAINERS]]
    return _same_containers(tuple(_container(name, by_name.get(name, {})) for name in named))


def _container(name: str, status: Manifest) -> Container:
    state, last = _map(status.get("state")), _map(status.get("lastState"))
    ended, before = _map(state.get("terminated")), _map(last.get("terminated"))
    end, restarts = ended or before, status.get("restartCount")
    code = end.get("exitCode")
    return Container(
        name=name,
        running=isinstance(state.get("running"), dict),
        restarts=restarts if isinstance(restarts, int) else 0,
        exit_code=code if isinstance(code, int) else None,
        reason=sys.intern(_text(end.get("reason"))),
        finished=_time(ended.get("finishedAt")),
        last_words=sys.intern(_text(end.get("message"), LONGEST_WORDS).strip()),
    )


def _map(value: object) -> Manifest:
    return value if isinstance(value, dict) else {}


def _maps(value: object) -> list[Manifest]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object, longest: int | None = LONGEST_WORD) -> str:
    return value[:longest] if isinstance(value, str) else ""


def _time(value: object) -> Time | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):  # a year of 0, say
        return None


def _controller(metadata: Manifest) -> Manifest:
    return next((owner for owner in _maps(metadata.get("ownerReferences")) if owner.get("controller")), {})


def _ports(containers: list[Manifest]) -> Mapping[str, int]:
    ports = [port for container in containers for port in _maps(container.get("ports"))]
    named = [(name, port.get("containerPort")) for port in ports if (name := _text(port.get("name")))]
    # Of two with the same name the first counts, as for a Service.
    return {name: number for name, number in reversed(named[:MOST_PORTS]) if isinstance(number, int)}


def _problem(name: str, status: Manifest, conditions: Mapping[str, Manifest]) -> Problem | None:
    """What keeps a Pod from working: scheduling, images, crashes, memory."""
    scheduled = _map(conditions.get("PodScheduled"))
    if scheduled.get("status") == "False":
        waits = scheduled.get("message") or "waiting to be scheduled"
        return told(scheduled.get("reason") or "Unschedulable", f"{name}: {waits}")
    # While an init container is at work the others just wait; later a native sidecar is but a helper of theirs.
    found = [
        problem
        for container in _maps(status.get("containerStatuses")) + _maps(status.get("initContainerStatuses"))
        if (problem := _container_problem(name, container))
    ]
    if found:  # one that needs memory takes others with it
        return next((problem for problem in found if problem.reason == "OOMKilled"), found[0])
    if status.get("phase") == "Failed":
        return told(status.get("reason") or "Failed", f"{name}: {status.get('message') or 'failed'}")
    return None


def told(reason: object, message: str) -> Problem:
    """A problem by the words of somebody else, as many as are kept."""
    return Problem(sys.intern(_text(reason)), _text(message, LONGEST_MESSAGE))


def _container_problem(pod: str, container: Manifest) -> Problem | None:
    state, last = _map(container.get("state")), _map(container.get("lastState"))
    waiting, ended, before = _map(state.get("waiting")), _map(state.get("terminated")), _map(last.get("terminated"))
    place, reason = f"{pod}/{_text(container.get('name'))}", waiting.get("reason")
    killed = next((end for end in (ended, before) if end.get("reason") == "OOMKilled"), None)
    if killed and (waiting or ended):
        return told("OOMKilled", f"{place}: {_ending(killed)}: it needs more memory")
    if reason and reason not in ("ContainerCreating", "PodInitializing"):
        if reason == "CrashLoopBackOff" and before:
            logs = f"kubectl logs {pod} -c {_text(container.get('name'))} --previous"
            return told(reason, f"{place}: {_ending(before)}; see `{logs}`")
        return told(reason, f"{place}: {waiting.get('message') or reason}")
    if ended and ended.get("exitCode") != 0:
        return told(ended.get("reason") or "Error", f"{place}: {_ending(ended)}")
    return None


def _ending(terminated: Manifest) -> str:
    reason = terminated.get("reason") or "Error"
    text = f"last ended with exit code {terminated.get('exitCode')} ({reason})"
    return f"{text}: {terminated['message']}" if terminated.get("message") else text


class ObservedCluster(Struct, frozen=True, kw_only=True):
    """A DaskCluster and its children."""

    cluster: DaskCluster
    children: Mapping[str, Manifest]  #: those that exist, by kind, but for the default group: that is in ``groups``
    groups: tuple[DaskWorkerGroup, ...]  #: every group that names this cluster, the default one included
    scheduler_pods: tuple[Pod, ...]  #: those that are its own, see ``World.scheduler_pods``, and have not ended
    last_problem: Problem | None = None  #: why the last scheduler Pod that has ended did so
    settled: frozenset[str] = frozenset()  #: children, by `fingerprint`, for which to apply that has changed nothing
    answers: Answers | None = None  #: of the scheduler; ``None``: not asked

    @property
    def deployment(self) -> Manifest | None:
        """That of the scheduler, if it exists."""
        return self.children.get("Deployment")

    @property
    def service(self) -> Manifest | None:
        """That of the scheduler, if it exists."""
        return self.children.get("Service")


class ObservedGroup(Struct, frozen=True, kw_only=True):
    """A DaskWorkerGroup, its Pods, and what decides over their number."""

    group: DaskWorkerGroup
    cluster: DaskCluster | None
    autoscaler: DaskAutoscaler | None  #: the one that sets this group's size
    pods: tuple[Pod, ...]  #: those whose controller is this group
    taken: frozenset[int] = frozenset()  #: places in the group whose Pods' names somebody else has
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
    service: Manifest | None = None  #: that has the name of the scheduler's
    leftovers: tuple[Pod, ...] = ()  #: of a scheduler whose cluster is gone, as far as can be told by their labels
    former: tuple[Pod, ...] = ()  #: of runners before this one that have not ended, see `job_own.own`
    obstacle: Problem | None = None  #: what has the name of a child and is not the job's, likewise
    creation_problem: str = ""  #: why no Pod of the runner can be made, as the events tell
    leaving: int = 0  #: workers of the cluster that are being deleted; only known while no Pod can be made
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
    cluster: DaskCluster | None = None
    pods: tuple[Pod, ...]
    siblings: tuple[Sibling, ...] = ()
    scheduler_pods: tuple[Pod, ...]
    answers: Answers | None = None


Observed = ObservedCluster | ObservedGroup | ObservedJob | ObservedAutoscaler
