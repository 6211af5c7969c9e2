"""What a DaskCluster's status says to somebody who waits for it: pure functions over its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dask_crds.reasons import Reason

#: Reasons that waiting does not mend.
HOPELESS = frozenset(
    {
        Reason.BAD_REQUEST,
        Reason.FORBIDDEN,
        Reason.INVALID,
        Reason.MADE_BY_ANOTHER_OPERATOR,
        Reason.NAME_CONFLICT,
        Reason.OUTDATED_CRDS,
        Reason.SERVICE_SELECTS_NOTHING,
        Reason.TOO_LARGE,
        "InvalidImageName",
    }
)
#: Reasons that pass by themselves, a node that is yet to come among them.
PASSING = frozenset(
    {Reason.CONFLICT, Reason.PROGRESSING, Reason.SUSPENDED, Reason.TERMINATING, "SchedulingGated", "Unschedulable"}
)
_IMAGE = "correct the image's name, or let the Pod pull it (imagePullSecrets)"
#: What to do about reasons that come from Kubernetes.
_ADVICE = {
    "CrashLoopBackOff": "read its logs: kubectl logs, or Cluster.get_logs() of what still runs",
    "CreateContainerConfigError": "a Secret or ConfigMap that the Pod names is not there",
    "ErrImagePull": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "InvalidImageName": _IMAGE,
    "OOMKilled": "raise the memory limit",
    "Unschedulable": "no node has room: ask for less, or wait for a node",
}
#: Managers of fields that come from Git, and what people call them.
_GIT = {
    "argocd-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
    "helm": "Helm",
    "Helm": "Helm",
}


@dataclass(frozen=True)
class Standing:
    """How it stands with a cluster."""

    state: Literal["asleep", "coming", "up", "failed"]
    reason: str  #: in one word, as in its conditions
    words: str  #: for people

    @property
    def passes(self) -> bool:
        """Whether what is awaited may come by itself."""
        return self.state != "failed" and self.reason in PASSING


def standing(cluster: Mapping[str, Any], *, workers: int = 0) -> Standing:
    """What the status says, as far as it speaks of the present spec.

    Args:
        cluster: manifest of a DaskCluster.
        workers: so many ready ones of all groups are waited for; 0: only for the scheduler.
    """
    metadata, status = cluster["metadata"], cluster.get("status") or {}
    if "deletionTimestamp" in metadata:
        return Standing("failed", Reason.TERMINATING, "it is being deleted")
    if (cluster.get("spec") or {}).get("suspend"):
        suspended = condition(cluster, "Suspended")
        return Standing("asleep", suspended.get("reason") or Reason.SUSPENDED, "suspended")
    if status.get("observedGeneration") != metadata.get("generation"):
        return Standing("coming", Reason.PROGRESSING, "the operator has yet to see the change")
    scheduler, all_ready = condition(cluster, "SchedulerReady"), condition(cluster, "Ready")
    if scheduler.get("status") != "True":
        return _waiting(scheduler, all_ready)
    ready, wanted = counted(cluster)
    if ready >= workers:
        return Standing("up", Reason.READY, f"{ready} of {wanted} workers are ready{_lacking(cluster)}")
    return _waiting(condition(cluster, "WorkersReady"), all_ready)


def _lacking(cluster: Mapping[str, Any]) -> str:
    """Why workers are missing of a cluster that computes all the same; empty if they are on their way."""
    workers = condition(cluster, "WorkersReady")
    if workers.get("status") != "False" or workers.get("reason") in (Reason.PROGRESSING, Reason.SUSPENDED):
        return ""
    return f"; {workers.get('reason')}: {workers.get('message')}"


def _waiting(of: Mapping[str, Any], ready: Mapping[str, Any]) -> Standing:
    """What is waited for: a problem that is told of all says more than that a part is under way."""
    told = ready if of.get("reason") in (None, *PASSING) and ready.get("reason") not in (None, *PASSING) else of
    told = told if told.get("status") != "True" else of
    reason = str(told.get("reason") or Reason.PROGRESSING)
    message = str(told.get("message") or "the scheduler is starting")
    words = message if reason in (Reason.PROGRESSING, Reason.SUSPENDED) else f"{reason}: {message}"
    return Standing("failed" if reason in HOPELESS else "coming", reason, words)


def condition(cluster: Mapping[str, Any], type: str) -> Mapping[str, Any]:
    """A condition of its status; empty without it."""
    conditions = (cluster.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == type), {})


def counted(cluster: Mapping[str, Any]) -> tuple[int, int]:
    """Ready and wanted workers of all groups."""
    ready, _, wanted = str((cluster.get("status") or {}).get("workers") or "").partition("/")
    return (int(ready), int(wanted)) if ready.isdecimal() and wanted.isdecimal() else (0, 0)


def advice(reason: str) -> str:
    """What a user does about a reason; empty if that goes without saying."""
    if reason in _ADVICE:
        return _ADVICE[reason]
    known = next((each for each in Reason if each == reason), None)
    return known.meaning.rstrip(".") if known is not None else ""


def stated_in_git(cluster: Mapping[str, Any], *path: str) -> str:
    """Which GitOps tool has written a field; empty if none has.

    Args:
        cluster: manifest with ``metadata.managedFields``.
        path: the field, as ``"spec", "suspend"``.
    """
    for entry in cluster["metadata"].get("managedFields") or ():
        fields = entry.get("fieldsV1") or {}
        for part in path:
            fields = fields.get(f"f:{part}") if isinstance(fields, Mapping) else None
        if fields is not None and entry.get("manager") in _GIT:
            return _GIT[str(entry["manager"])]
    return ""


def ending(cluster: Mapping[str, Any]) -> str:
    """What becomes of a cluster that nobody uses any more."""
    spec = cluster.get("spec") or {}
    done = "suspended" if spec.get("idleAction") == "Suspend" else "deleted"
    bounds = {"without work": spec.get("idleTimeout"), "without a client": spec.get("noClientTimeout")}
    after = [f"after {seconds} s {what}" for what, seconds in bounds.items() if seconds]
    if not after:
        return "it goes on, and nothing ends it by itself"
    return f"it goes on, and is {done} {' or '.join(after)}"
