"""The reasons of conditions and Events, on one page.

Those that come from Kubernetes, such as ``ImagePullBackOff`` or ``OOMKilled``, are passed on and do not stand here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Why a condition is as it is, or why an Event was made."""

    meaning: str  #: What it means, and what a user does about it.

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """A member that is its value, and knows its meaning; ``Reason(value)`` finds it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # --- of every kind ------------------------------------------------------------------------------------------------
    READY = "Ready", "All is as asked; nothing to do."
    PROGRESSING = "Progressing", "It is under way, and the message says what is awaited; wait."
    PROGRESS_DEADLINE_EXCEEDED = (
        "ProgressDeadlineExceeded",
        "Nothing has been achieved for ten minutes; the message of `Ready` says what is awaited, look there.",
    )
    SUSPENDED = "Suspended", "`spec.suspend` is true and all has been stopped; set it to false to go on."
    NAME_CONFLICT = (
        "NameConflict",
        "Somebody else's object has the name of a child and is left alone; rename it or the resource.",
    )
    CONFLICT = (
        "Conflict",
        "Somebody else wrote the same object at the same time, which passes; or, of a DaskAutoscaler, an older one "
        "sets the size of the same group: delete one of the two.",
    )
    TERMINATING = "Terminating", "An object that was here before is still being deleted; wait."
    WRITE_FAILED = "WriteFailed", "The API server refused a change for the reason in the message; mend that."
    QUOTA_EXCEEDED = (
        "QuotaExceeded",
        "The namespace's quota has no room for a Pod; ask for less, or have the quota raised.",
    )
    FORBIDDEN = "Forbidden", "The API server does not allow a change; the message names the permission or the policy."
    INVALID = "Invalid", "The spec, or what follows from it, is not valid; the message names the field, correct it."
    BAD_REQUEST = "BadRequest", "The API server does not understand a change; the message names the field, correct it."
    TOO_LARGE = "TooLarge", "The spec is larger than the operator reads; move what makes it large into a ConfigMap."
    OUTDATED_CRDS = "OutdatedCRDs", "The CRDs are older than the operator; apply those of its release."
    MADE_BY_ANOTHER_OPERATOR = (
        "MadeByAnotherOperator",
        "The scheduler was made by dask-kubernetes and is left alone; delete the DaskCluster and create it again.",
    )

    # --- DaskCluster --------------------------------------------------------------------------------------------------
    SERVICE_SELECTS_NOTHING = (
        "ServiceSelectsNothing",
        "`spec.scheduler.service.selector` does not match the scheduler's Pod; leave it out, or correct it.",
    )
    ENCRYPTED = "Encrypted", "Only the loopback of the scheduler's Pod takes plain connections; nothing to do."
    PLAIN_LISTENER = (
        "PlainListener",
        "The scheduler accepts plain connections from anywhere; leave out your own `DASK_DISTRIBUTED__COMM__*` and "
        "`--protocol`, or delete its Pod where it waits for that.",
    )
    PLAIN_WORKERS = (
        "PlainWorkers",
        "Workers accept plain connections from anywhere; leave out your own `DASK_DISTRIBUTED__COMM__*` and "
        "`--protocol`.",
    )
    CERTIFICATE_INVALID = (
        "CertificateInvalid",
        "The scheduler has no certificate that its own cluster would believe; the message says why, mend its Secret.",
    )
    CERTIFICATE_EXPIRES = (
        "CertificateExpires",
        "The certificate ends within a week and was not renewed; see who should have: cert-manager, you, or the "
        "operator, whose key may be lost: then suspend the cluster and resume it.",
    )
    NO_CERTIFICATE = (
        "NoCertificate",
        "The operator may not make the Secret with the certificate; the message names the permission or the policy.",
    )
    NOT_SUSPENDED = "NotSuspended", "`spec.suspend` is not true; nothing to do."
    IDLE = (
        "Idle",
        "The cluster was idle for `spec.idleTimeout`, or without a client for `spec.noClientTimeout`, and has been "
        "suspended; set `spec.suspend` to false.",
    )
    IDLE_TIMEOUT = "IdleTimeout", "An Event: the cluster was idle for `spec.idleTimeout`; `idleAction` has been done."
    NO_CLIENT_TIMEOUT = (
        "NoClientTimeout",
        "An Event: no client was connected to the cluster for `spec.noClientTimeout`; `idleAction` has been done.",
    )
    SUSPEND_IS_STATED = (
        "SuspendIsStated",
        "An Event: the unused cluster is not suspended, as a manifest states `spec.suspend`; leave it out there.",
    )
    WOKEN = "Woken", "An Event: a client connected to the suspended cluster, so it was resumed (`wake: OnConnect`)."

    # --- of what a queue of Kueue admits ------------------------------------------------------------------------------
    ADMITTED = "Admitted", "The queue has granted quota; nothing to do."
    QUEUED = (
        "Queued",
        "It waits for quota, and the message says in Kueue's words for what; wait, ask for less, or see the queue.",
    )
    QUOTA_REVOKED = (
        "QuotaRevoked",
        "Kueue has taken the quota back, for a higher priority say; it is being stopped and is queued again; wait.",
    )
    QUEUE_UNAVAILABLE = (
        "QueueUnavailable",
        "A queue is named and cannot be asked: Kueue is not installed, or the operator may not read it; the message "
        "says which. Nothing new starts, what runs goes on.",
    )
    PLACEMENT_CONFLICT = (
        "PlacementConflict",
        "The nodes that the quota is for and the template's own `nodeSelector` exclude one another; change the "
        "template, or see the ResourceFlavor.",
    )
    CAPTURED_BY_KUEUE = (
        "CapturedByKueue",
        "Kueue queues a Pod by itself, beside our Workload or without any; see docs/queues.md: the namespace has a "
        "default LocalQueue, or Kueue manages what names no queue.",
    )

    # --- of what the operator's own limits bound ----------------------------------------------------------------------
    LIMIT_REACHED = (
        "LimitReached",
        "The namespace, or its owner, has as many clusters, running jobs or workers as the operator's `limits` let it; "
        "it waits in line and starts by itself. End what is not needed, or have the limit raised.",
    )

    # --- DaskWorkerGroup ----------------------------------------------------------------------------------------------
    CLUSTER_NOT_FOUND = (
        "ClusterNotFound",
        "There is no DaskCluster of the name in `spec.cluster` in this namespace; create it, or correct the name.",
    )
    CLUSTER_UNREADABLE = "ClusterUnreadable", "The DaskCluster cannot be read; its own status says why, mend that."
    ENDED = "Ended", "Workers end soon after their start and are replaced slowly; read their logs."
    DRAIN_TIMEOUT = (
        "DrainTimeout",
        "An Event: a worker went before it had handed over all; if results are missed, raise `drainTimeoutSeconds`.",
    )

    # --- DaskJob ------------------------------------------------------------------------------------------------------
    JOB_CREATED = "JobCreated", "The run has not ended: its cluster is being created; wait."
    CLUSTER_CREATED = (
        "ClusterCreated",
        "The run has not ended: the cluster exists, the runner is yet to start; wait.",
    )
    RUNNING = "Running", "The run has not ended: the runner is running; wait."
    COMPLETED = "Completed", "The runner has completed; nothing to do."
    FAILED = "Failed", "The runner, or a Pod, has failed and Kubernetes gives no closer reason; read its logs."
    FAILED_CREATE = "FailedCreate", "Kubernetes cannot create the runner's Pod; the message says why, mend that."
    DEADLINE_EXCEEDED = (
        "DeadlineExceeded",
        "The run was active for longer than `activeDeadlineSeconds`; raise it, or find what took so long.",
    )
    RUNNER_LOST = "RunnerLost", "Somebody deleted the runner's Job; for another run set `spec.runId` to a new value."
    CLUSTER_FAILED = (
        "ClusterFailed",
        "Somebody deleted the cluster under the runner; for another run set `spec.runId` to a new value.",
    )
    SCHEDULER_LOST = (
        "SchedulerLost",
        "The scheduler was restarted and all work was lost; see why (often memory), and see `onSchedulerLost`.",
    )
    SUSPENDED_BY_ANOTHER = (
        "SuspendedByAnother",
        "Somebody else, such as a queue, has suspended the runner's Job, or paused the scheduler's Deployment; "
        "it goes on when they resume it.",
    )
    CONSISTENT = "Consistent", "Clients, scheduler and workers have the same versions; nothing to do."
    VERSION_MISMATCH = (
        "VersionMismatch",
        "Clients, scheduler and workers have different versions; use one image. For jobs, `versionPolicy` decides.",
    )
    UP_TO_DATE = "UpToDate", "What runs, or has run, is what the templates say; nothing to do."
    SPEC_CHANGED = (
        "SpecChanged",
        "The templates have changed since the run began; to run them set `spec.runId` to a new value.",
    )

    # --- DaskAutoscaler: as HorizontalPodAutoscaler has them ----------------------------------------------------------
    WORKER_GROUP_NOT_FOUND = (
        "WorkerGroupNotFound",
        "The group whose size is to be set does not exist, or belongs to a later cluster of that name; the message "
        "names it: create it, correct the spec, or delete the autoscaler.",
    )
    SCHEDULER_NOT_READY = "SchedulerNotReady", "The scheduler is not ready, so nobody knows the load; wait."
    SCHEDULER_SILENT = "SchedulerSilent", "The scheduler does not answer; the message says why, its logs may say more."
    SUCCEEDED_GET_SCALE = "SucceededGetScale", "The group was found; nothing to do."
    VALID_METRIC_FOUND = "ValidMetricFound", "The scheduler says what the load wants; nothing to do."
    READY_FOR_NEW_SCALE = "ReadyForNewScale", "The number may follow the load at once; nothing to do."
    SCALE_UP_STABILIZED = (
        "ScaleUpStabilized",
        "The load has not asked for so many workers throughout the window of scaling up; wait, or see `behavior`.",
    )
    SCALE_DOWN_STABILIZED = (
        "ScaleDownStabilized",
        "The load has asked for more workers within the window of scaling down; wait, or see `behavior`.",
    )
    DESIRED_WITHIN_RANGE = "DesiredWithinRange", "The load wants a number within the bounds; nothing to do."
    TOO_MANY_REPLICAS = "TooManyReplicas", "The load wants more workers than `maximum`; raise it if that is worth it."
    TOO_FEW_REPLICAS = "TooFewReplicas", "The load wants fewer workers than `minimum`; lower it to save them."
    SCALE_UP_LIMIT = (
        "ScaleUpLimit",
        "The policies of scaling up allow no more for now; wait, or see `behavior`.",
    )
    SCALE_DOWN_LIMIT = (
        "ScaleDownLimit",
        "The policies of scaling down allow no fewer for now; wait, or see `behavior`.",
    )
