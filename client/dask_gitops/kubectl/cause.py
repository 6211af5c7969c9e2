"""What is the matter, in one reason, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

from dask_crds.reasons import Reason


class State(StrEnum):
    """Whether somebody has to do something."""

    FINE = "fine"  #: nothing to do
    WAIT = "wait"  #: it will come right by itself
    ACT = "act"  #: it will not


@dataclass(frozen=True)
class Cause:
    """Why something is as it is."""

    reason: str  #: in one word, as conditions have it
    words: str  #: which object, and what of it
    advice: str  #: what it means and what to do
    about: str = ""  #: the object where it is to be seen, as ``Pod analytics-default-worker-0``
    state: State = State.ACT

    def as_json(self) -> dict[str, str]:
        """For machines."""
        return {key: str(value) for key, value in asdict(self).items()}


#: Reasons of Kubernetes, and those that `why` finds and no status has: what each means, and what to do.
ADVICE = {
    # --- before anything runs -------------------------------------------------------------------------------------
    "NotObserved": "No operator has looked at the present spec. See whether one runs (`kubectl get deployments -A -l "
    "app.kubernetes.io/name=dask-operator`), looks after this namespace, and is not kept out of it by the label "
    "`dask.org/managed=false`.",
    "PodSecurity": "The namespace's Pod security standard forbids what the Pod asks for; the words name each field. "
    "Correct the template: the constructs make Pods that are `restricted`.",
    "PolicyRefused": "A policy of the cluster refuses the object; the words are the policy's. Do as it says, or ask "
    "who owns it.",
    "WebhookFailed": "The API server cannot reach an admission webhook and so refuses the object; whoever owns the "
    "webhook has to mend it.",
    "QuotaNeedsAmounts": "A quota of the namespace counts requests or limits, and the Pod states none; state them in "
    "the template, or have a LimitRange give defaults.",
    "LimitRangeExceeded": "A LimitRange of the namespace bounds what a container may have; ask for less, or have it "
    "changed.",
    "ServiceAccountNotFound": "The ServiceAccount of the template is not in this namespace; create it, or correct "
    "`serviceAccountName`.",
    # --- scheduling -----------------------------------------------------------------------------------------------
    "Unschedulable": "No node takes the Pod; the words say how many nodes lack what. Ask for less, add nodes, or "
    "correct selector, affinity and tolerations.",
    "TriggeredScaleUp": "A node autoscaler is adding a node for the Pod; wait.",
    "SchedulingGated": "Somebody, a queue usually, holds the Pod back by a scheduling gate; see its queue.",
    # --- starting -------------------------------------------------------------------------------------------------
    "ImagePullBackOff": "The image cannot be pulled. Correct its name or tag; for a private registry state "
    "`imagePullSecrets`.",
    "InvalidImageName": "The image's name is no name of an image; correct it.",
    "ErrImageNeverPull": "The node does not have the image and `imagePullPolicy: Never` forbids to pull it; change "
    "one of both.",
    "SecretNotFound": "A Secret that the Pod needs is not in this namespace; create it, or correct its name or key. "
    "The Pod goes on by itself then.",
    "ConfigMapNotFound": "A ConfigMap that the Pod needs is not in this namespace; create it, or correct its name or "
    "key. The Pod goes on by itself then.",
    "CreateContainerConfigError": "The container's configuration cannot be made; the words say what of it.",
    "CreateContainerError": "The node cannot create the container; the words say why.",
    "RunContainerError": "The container's command cannot be started; correct `command` or the image.",
    "FailedMount": "A volume cannot be mounted; the words say which and why.",
    "FailedAttachVolume": "A volume cannot be attached to the node; often another node still has it.",
    "FailedCreatePodSandBox": "The node cannot give the Pod a network; its network plugin is ill, or addresses have "
    "run out.",
    # --- running --------------------------------------------------------------------------------------------------
    "OOMKilled": "It needed more memory than its limit; raise the limit, or have smaller partitions. A worker's "
    "`--memory-limit` should be that of its container.",
    "CrashLoopBackOff": "Its program ends again and again; read its last words with `kubectl dask logs --previous`.",
    "Error": "Its program has failed; read its last words with `kubectl dask logs`.",
    "Unhealthy": "It runs, and its probe fails; the words say how. Its log may say more.",
    "MeshSidecar": "The proxy of a service mesh is in the Pod, and Dask's own protocol does not pass it. Leave out "
    "what turns it on (`sidecar.istio.io/inject`, `linkerd.io/inject`), and use Dask's TLS.",
    "Evicted": "The node had no room left (memory, disk, or a taint) and put the Pod out; request what it uses.",
    "Preempted": "A Pod of higher priority took its place; wait, or give it a `priorityClassName`.",
    "NodeLost": "The Pod's node does not answer; Kubernetes replaces the Pod when the node is back or removed. If it "
    "never comes back, delete the Node.",
    "DeletionHeld": "Somebody's finalizer keeps the object from going; the words name it. See who put it there.",
    # --- afterwards -----------------------------------------------------------------------------------------------
    "Draining": "Workers hand over their results before they go; wait: `drainTimeoutSeconds` bounds it.",
    "BackoffLimitExceeded": "The runner has failed more often than `backoffLimit` allows; read its last words with "
    "`kubectl dask logs`.",
    "PodFailurePolicy": "A rule of `podFailurePolicy` has ended the run; the words say which.",
}
#: Reasons that mean the same as another.
_SAME = {
    "ErrImagePull": "ImagePullBackOff",
    "RegistryUnavailable": "ImagePullBackOff",
    "ImageInspectError": "ImagePullBackOff",
    "StartError": "RunContainerError",
    "ContainerCannotRun": "RunContainerError",
    "ContainerStatusUnknown": "NodeLost",
    "Preempting": "Preempted",
    "PreemptionByScheduler": "Preempted",
    "FailedScheduling": "Unschedulable",
}
#: What is asked for, or comes right by itself.
_FINE = {
    Reason.READY,
    Reason.SUSPENDED,
    Reason.IDLE,
    Reason.COMPLETED,
    Reason.RUNNING,
    Reason.NOT_SUSPENDED,
    Reason.ENCRYPTED,
    Reason.UP_TO_DATE,
    Reason.CONSISTENT,
    Reason.ADMITTED,
}
_WAIT = {
    Reason.PROGRESSING,
    Reason.JOB_CREATED,
    Reason.CLUSTER_CREATED,
    Reason.SCHEDULER_NOT_READY,
    Reason.TERMINATING,
    Reason.QUEUED,
    Reason.QUOTA_REVOKED,
    Reason.LIMIT_REACHED,
    "TriggeredScaleUp",
    "SchedulingGated",
    "Preempted",
    "Draining",
    Reason.SUSPENDED_BY_ANOTHER,
}


def cause(reason: str, words: str, about: str = "") -> Cause:
    """A cause with what is known of its reason; one that nobody here knows is passed on as it is."""
    reason = _SAME.get(reason, reason) or "Unknown"
    state = State.FINE if reason in _FINE else State.WAIT if reason in _WAIT else State.ACT
    return Cause(reason, words, advice(reason), about, state)


def advice(reason: str) -> str:
    """What a reason means and what to do about it."""
    if reason in ADVICE:
        return ADVICE[reason]
    try:
        return Reason(reason).meaning
    except ValueError:
        return "The words are Kubernetes'; `kubectl describe` of the object shows more."
