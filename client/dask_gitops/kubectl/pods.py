"""Why a Pod does not work, from what it and the events about it say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .cause import Cause, cause
from .facts import Manifest, at, condition, maps, name_of, number, plain, seconds, text
from .seen import Seen

#: Proxies of service meshes, by the names that they give their containers.
MESHES = {"istio-proxy", "linkerd-proxy", "kuma-sidecar", "consul-dataplane", "envoy-sidecar"}
#: Seconds beyond its grace period in which a Pod that is deleted should be gone.
GOING = 60.0
#: What a container waits for that isn't wrong by itself.
_STARTING = {"ContainerCreating", "PodInitializing", ""}
_NOT_FOUND = re.compile(r"(secret|configmap) \"?[^\"\s]+\"? not found|couldn't find key", re.IGNORECASE)


def pod_cause(pod: Manifest, seen: Seen, now: float) -> Cause | None:
    """What keeps a Pod from working; ``None`` if nothing does, or nothing is known."""
    if at(pod, "metadata", "deletionTimestamp"):
        return _going(pod, now)
    scheduling = condition(pod, "PodScheduled")
    if scheduling.get("status") == "False":
        return _unscheduled(pod, scheduling, seen)
    if text(pod, "status", "phase") == "Succeeded":
        return None
    if found := next(_container_causes(pod), None):
        return found
    if text(pod, "status", "phase") == "Failed":
        reason, words = text(pod, "status", "reason") or _disruption(pod), text(pod, "status", "message")
        return _of(pod, reason or "Error", words or "it has failed")
    if condition(pod, "Ready").get("reason") in ("NodeNotReady", "NodeLost"):
        return _of(pod, "NodeLost", f"node {text(pod, 'spec', 'nodeName')} does not answer")
    return _starting(pod, seen) or _unready(pod, seen)


def meshed(pod: Manifest) -> str:
    """The container of a service mesh in a Pod, empty without one."""
    containers = (*maps(pod, "spec", "containers"), *maps(pod, "spec", "initContainers"))
    return next((c["name"] for c in containers if text(c, "name") in MESHES), "")


def is_ready(pod: Manifest) -> bool:
    """Whether a Pod is ready and stays."""
    return condition(pod, "Ready").get("status") == "True" and not at(pod, "metadata", "deletionTimestamp")


def _of(pod: Manifest, reason: str, words: str, container: str = "") -> Cause:
    place = f"Pod {name_of(pod)}"
    return cause(reason, f"{place}{f', container {container}' if container else ''}: {words}", place)


def _going(pod: Manifest, now: float) -> Cause | None:
    due = seconds(at(pod, "metadata", "deletionTimestamp"))  # the grace period included
    if due is None or now < due + GOING:
        return None
    finalizers = at(pod, "metadata", "finalizers")
    if isinstance(finalizers, list) and finalizers:
        return _of(pod, "DeletionHeld", f"it is being deleted, and held by {plain(', '.join(map(str, finalizers)))}")
    return _of(pod, "NodeLost", f"node {text(pod, 'spec', 'nodeName')} does not confirm that it has ended")


def _unscheduled(pod: Manifest, scheduling: Manifest, seen: Seen) -> Cause:
    reason, words = text(scheduling, "reason") or "Unschedulable", text(scheduling, "message")
    if reason == "SchedulingGated":
        gates = ", ".join(text(gate, "name") for gate in maps(pod, "spec", "schedulingGates"))
        return _of(pod, reason, f"it waits behind {gates or 'a scheduling gate'}")
    if coming := seen.events_of(pod, "TriggeredScaleUp"):
        return _of(pod, "TriggeredScaleUp", f"{text(coming[0], 'message')}; {words}")
    return _of(pod, reason, words or "it waits to be scheduled")


def _disruption(pod: Manifest) -> str:
    found = condition(pod, "DisruptionTarget")
    reason = text(found, "reason")
    return {"DeletionByTaintManager": "Evicted", "TerminationByKubelet": "Evicted"}.get(reason, reason)


# --- containers -------------------------------------------------------------------------------------------------------


def _container_causes(pod: Manifest) -> Iterator[Cause]:
    """What is wrong with containers; one that needs memory takes others with it, so it comes first."""
    statuses = [*maps(pod, "status", "containerStatuses"), *maps(pod, "status", "initContainerStatuses")]
    found = [it for status in statuses if (it := _container_cause(pod, status, statuses))]
    return iter(sorted(found, key=lambda it: it.reason != "OOMKilled"))


def _container_cause(pod: Manifest, status: Manifest, others: list[Manifest]) -> Cause | None:
    name, waiting = text(status, "name"), text(status, "state", "waiting", "reason")
    ended, before = at(status, "state", "terminated"), at(status, "lastState", "terminated")
    killed = next((end for end in (ended, before) if at(end, "reason") == "OOMKilled"), None)
    if killed and (ended or waiting):
        return _of(pod, "OOMKilled", f"{_memory(pod, name)}; {_ending(killed)}", name)
    if waiting not in _STARTING:
        return _waits(pod, status, waiting)
    if ended and number(ended, "exitCode"):
        return _of(pod, text(ended, "reason") or "Error", _ending(ended), name)
    proxies = [text(other, "name") for other in others if text(other, "name") in MESHES]
    if ended and name not in MESHES and any(_runs(o) for o in others if text(o, "name") in MESHES):
        return _of(pod, "MeshSidecar", f"it has ended, and {proxies[0]} keeps its Pod running", name)
    return None


def _runs(status: Manifest) -> bool:
    return at(status, "state", "running") is not None


def _waits(pod: Manifest, status: Manifest, reason: str) -> Cause:
    name, words = text(status, "name"), text(status, "state", "waiting", "message")
    before = at(status, "lastState", "terminated")
    if reason == "CrashLoopBackOff" and at(before, "reason") in ("StartError", "ContainerCannotRun"):
        return _of(pod, "RunContainerError", text(before, "message") or "its command cannot be started", name)
    if reason == "CrashLoopBackOff" and before:
        return _of(pod, reason, f"{_ending(before)}, {number(status, 'restartCount')} times by now", name)
    if missing := _missing(words):
        return _of(pod, missing, words, name)
    if "Image" in reason or reason == "RegistryUnavailable":
        image = text(status, "image") or _image(pod, name)
        return _of(pod, reason, f"image {image}: {words or reason}", name)
    return _of(pod, reason, words or reason, name)


def _missing(words: str) -> str:
    """The reason of words that say that a Secret or ConfigMap, or a key of one, is missing."""
    if not _NOT_FOUND.search(words):
        return ""
    return "ConfigMapNotFound" if "configmap" in words.lower() else "SecretNotFound"


def _image(pod: Manifest, container: str) -> str:
    return next((text(c, "image") for c in maps(pod, "spec", "containers") if c.get("name") == container), "")


def _memory(pod: Manifest, container: str) -> str:
    found = (c for c in maps(pod, "spec", "containers") if c.get("name") == container)
    limit = text(next(found, {}), "resources", "limits", "memory")
    return f"it needed more than its {limit} of memory" if limit else "its node had no memory left for it"


def _ending(ended: object) -> str:
    reason, said = text(ended, "reason") or "Error", text(ended, "message")
    words = f"it ended with exit code {number(ended, 'exitCode')} ({reason})"
    return f"{words}: {said}" if said else words


# --- what events tell -------------------------------------------------------------------------------------------------


def _starting(pod: Manifest, seen: Seen) -> Cause | None:
    """What the node says while containers are yet to be created."""
    statuses = maps(pod, "status", "containerStatuses")
    if text(pod, "status", "phase") != "Pending" or any(map(_runs, statuses)):
        return None
    reasons = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
    for event in seen.events_of(pod, *reasons):
        words = text(event, "message")
        return _of(pod, _missing(words) or text(event, "reason"), words)
    return None


def _unready(pod: Manifest, seen: Seen) -> Cause | None:
    """Why a Pod runs and is not ready."""
    if is_ready(pod) or text(pod, "status", "phase") != "Running":
        return None
    proxy, events = meshed(pod), seen.events_of(pod, "Unhealthy")
    said = text(events[0], "message") if events else text(condition(pod, "Ready"), "message")
    if proxy:
        return _of(pod, "MeshSidecar", f"{proxy} stands between Dask's connections; {said or 'it is not ready'}")
    return _of(pod, "Unhealthy", said) if events else None
