"""The snapshot of a Pod, and why it is ill.

Whoever may write a Pod or its status may have left out any field, or have written a megabyte into it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

from msgspec import Struct, field

from dask_crds.names import Annotation, Component, Label
from dask_crds.reasons import Reason
from dask_resources.metadata import remembered

from .questions import WorkerId
from .requests import NOTHING, Requests, requests_of
from .time import Time, parse_time

Manifest = Mapping[str, Any]

#: Labels that are read of a Pod.
POD_LABELS = (Label.CLUSTER, Label.COMPONENT, Label.WORKER_GROUP, Label.REVISION)
#: Characters that are kept of a message, at the end of a termination message, of a word such as a reason, and of an
#: annotation that is a name.
LONGEST_MESSAGE, LONGEST_TERMINATION, LONGEST_WORD, LONGEST_NAME = 1024, 256, 128, 300
#: Named ports, containers and addresses that are kept of a Pod.
MOST_PORTS, MOST_CONTAINERS, MOST_IPS = 16, 16, 4
#: By which Kueue holds back a Pod that it takes for one of its own.
KUEUE_GATE = "kueue.x-k8s.io/admission"
_NO_PORTS: Mapping[str, int] = MappingProxyType({})
#: Components whose Pods a job waits for one by one.
_STAGED = (Component.SCHEDULER, Component.JOB_RUNNER)


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
    termination_message: str = ""  #: of that end


class Stages(Struct, frozen=True, gc=False):
    """When a Pod came how far, in whole seconds; what is not known to have happened is ``None``."""

    scheduled: Time | None = None  #: it had a node
    prepared: Time | None = None  #: its sandbox, network and volumes were there
    started: Time | None = None  #: the last of its containers to start did so
    ready: Time | None = None


_NO_STAGES = Stages()


class Pod(Struct, frozen=True, kw_only=True, gc=False):
    """What the planners need of a Pod; the rest is not kept in memory, and nothing of any length."""

    kind: ClassVar[str] = "Pod"

    name: str
    namespace: str
    uid: str
    resource_version: str
    owner_uid: str  #: uid of the controller reference, empty without one
    owner_kind: str = ""  #: its kind
    labels: Mapping[str, str]  #: those of ours that planners read, see `POD_LABELS`
    last_applied: str  #: labels and annotations that it has from its user, `remembered`, see ``metadata_patch``
    worker_name: str  #: under which its worker registers, empty for other Pods
    workload: str = ""  #: whose quota it uses, empty where it needs none
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
    containers: tuple[Container, ...] = ()  #: in the order of ``spec``, with those that others injected
    ports: Mapping[str, int] = field(default_factory=lambda: _NO_PORTS)  #: of a scheduler's containers, by name
    requests: Requests = NOTHING  #: what it has of its node
    stages: Stages = _NO_STAGES  #: of a scheduler or a runner

    @property
    def is_finished(self) -> bool:
        """Whether it ended for good (its ``restartPolicy`` or an eviction)."""
        return self.phase in ("Failed", "Succeeded")

    def container(self, name: str) -> Container:
        """The container of that name, wherever others stand; else the first one."""
        found = (c for c in self.containers if c.name == name)
        return next(found, None) or next(iter(self.containers), None) or Container(name=name)

    @property
    def known_as(self) -> str:
        """The name by which the scheduler can know its worker."""
        return self.worker_name or self.name

    @property
    def worker_id(self) -> WorkerId:
        """Its worker, for questions to the scheduler."""
        return WorkerId(self.known_as, self.own_ips)

    @property
    def ordinal(self) -> int | None:
        """The place in its group, from its name."""
        tail = self.name.rpartition("-")[2]
        return int(tail) if tail.isdecimal() else None


def pod(manifest: Manifest) -> Pod:
    """The snapshot of a raw Pod, or of its `pod_form.PodForm`; whatever its fields hold."""
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
        last_applied=sys.intern(remembered(_text(annotations.get(Annotation.LAST_APPLIED), None))),
        worker_name=_worker_name(metadata["name"], annotations),
        workload=sys.intern(_text(annotations.get(Annotation.WORKLOAD), LONGEST_NAME)),
        created=_time(metadata.get("creationTimestamp")) or 0.0,
        started=_time(status.get("startTime")),
        finished=max(finish_times) if finish_times and len(ended) == len(statuses) else None,
        deleting=bool(metadata.get("deletionTimestamp")),
        phase=sys.intern(_text(status.get("phase")) or "Pending"),
        ready=_map(conditions.get("Ready")).get("status") == "True",
        ip=_text(status.get("podIP")),
        own_ips=_own_ips(spec, status),
        problem=_captured(metadata["name"], spec) or _problem(metadata["name"], status, conditions),
        restart_policy=sys.intern(_text(spec.get("restartPolicy")) or "Always"),
        containers=_containers(declared, statuses),
        ports=_ports(declared) if labels.get(Label.COMPONENT) == Component.SCHEDULER else _NO_PORTS,
        requests=requests_of(spec),
        stages=_stages(statuses, conditions) if labels.get(Label.COMPONENT) in _STAGED else _NO_STAGES,
    )


def _stages(statuses: list[Manifest], conditions: Mapping[str, Manifest]) -> Stages:
    def since(type: str) -> Time | None:
        found = _map(conditions.get(type))
        return _time(found.get("lastTransitionTime")) if found.get("status") == "True" else None

    states = [_map(_map(c.get("state")).get(s)) for c in statuses for s in ("running", "terminated")]
    started = [time for state in states if (time := _time(state.get("startedAt"))) is not None]
    all_started = len(started) == len(statuses)
    return Stages(
        scheduled=since("PodScheduled"),
        prepared=since("PodReadyToStartContainers"),
        started=max(started) if started and all_started else None,
        ready=since("Ready"),
    )


def _worker_name(pod: str, annotations: Manifest) -> str:
    """The name under which the Pod's worker registers: its own with something new at its end, see ``worker_pod``.

    Another one is somebody's who wants another worker to go in its place.
    """
    name = _text(annotations.get(Annotation.WORKER_NAME), LONGEST_NAME)
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
        termination_message=sys.intern(last_words(end.get("message"))),
    )


def last_words(message: object, longest: int = LONGEST_TERMINATION) -> str:
    """The end of a termination message, which may be that of a log: whole lines, if one fits."""
    text = _text(message, None).strip()
    end = text[-longest:]
    return end if end == text else end.partition("\n")[2] or end


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


def _captured(name: str, spec: Manifest) -> Problem | None:
    """Whether Kueue holds a Pod back by itself: what of ours is queued is queued before there are Pods."""
    if not any(gate.get("name") == KUEUE_GATE for gate in _maps(spec.get("schedulingGates"))):
        return None
    return Problem(Reason.CAPTURED_BY_KUEUE, f"{name}: Kueue queues this Pod by itself; see docs/queues.md")


def _problem(name: str, status: Manifest, conditions: Mapping[str, Manifest]) -> Problem | None:
    """What keeps a Pod from working: scheduling, images, crashes, memory."""
    scheduled = _map(conditions.get("PodScheduled"))
    if scheduled.get("status") == "False":
        waits = scheduled.get("message") or "waiting to be scheduled"
        return quoted(scheduled.get("reason") or "Unschedulable", f"{name}: {waits}")
    # While an init container is at work the others just wait; later a native sidecar is but a helper of theirs.
    found = [
        problem
        for container in _maps(status.get("containerStatuses")) + _maps(status.get("initContainerStatuses"))
        if (problem := _container_problem(name, container))
    ]
    if found:  # one that needs memory takes others with it
        return next((problem for problem in found if problem.reason == "OOMKilled"), found[0])
    if status.get("phase") == "Failed":
        return quoted(status.get("reason") or "Failed", f"{name}: {status.get('message') or 'failed'}")
    return None


def quoted(reason: object, message: str) -> Problem:
    """A problem in somebody else's words, as many as are kept."""
    return Problem(sys.intern(_text(reason)), _text(message, LONGEST_MESSAGE))


def _container_problem(pod: str, container: Manifest) -> Problem | None:
    state, last = _map(container.get("state")), _map(container.get("lastState"))
    waiting, ended, before = _map(state.get("waiting")), _map(state.get("terminated")), _map(last.get("terminated"))
    place, reason = f"{pod}/{_text(container.get('name'))}", waiting.get("reason")
    killed = next((end for end in (ended, before) if end.get("reason") == "OOMKilled"), None)
    if killed and (waiting or ended):
        return quoted("OOMKilled", f"{place}: {_ending(killed)}: it needs more memory")
    if reason and reason not in ("ContainerCreating", "PodInitializing"):
        if reason == "CrashLoopBackOff" and before:
            logs = f"kubectl logs {pod} -c {_text(container.get('name'))} --previous"
            return quoted(reason, f"{place}: {_ending(before)}; see `{logs}`")
        return quoted(reason, f"{place}: {waiting.get('message') or reason}")
    if ended and ended.get("exitCode") != 0:
        return quoted(ended.get("reason") or "Error", f"{place}: {_ending(ended)}")
    return None


def _ending(terminated: Manifest) -> str:
    reason = terminated.get("reason") or "Error"
    text = f"last ended with exit code {terminated.get('exitCode')} ({reason})"
    said = last_words(terminated.get("message"))
    return f"{text}: {said}" if said else text
