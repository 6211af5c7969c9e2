"""What goes wrong with clusters and jobs, one row each: what one sees, and the cause that `why` has to name.

``docs/kubectl-dask.md`` shows the table, and a test holds each row. Conditions are in the operator's words, all else
in those of Kubernetes.
"""

from __future__ import annotations

from . import case_objects as make
from .seen import Seen

#: All of them.
CASES: tuple[make.Case, ...] = (
    # --- images, Secrets, nodes ---------------------------------------------------------------------------------------
    make.with_scheduler(
        "An image that is not there, or may not be pulled",
        "ImagePullBackOff",
        "x7k2p, container scheduler: image registry.example.com/dask:2026.8.1: Back-off",
        make.scheduler(**make.waiting("scheduler", "ImagePullBackOff", make.PULL)),
    ),
    make.with_scheduler(
        "A Secret for an environment variable that is not there",
        "SecretNotFound",
        'secret "s3" not found',
        make.scheduler(**make.waiting("scheduler", "CreateContainerConfigError", 'secret "s3" not found')),
    ),
    make.with_workers(
        "A Secret for a volume that is not there",
        "SecretNotFound",
        'worker-0: MountVolume.*secret "s3" not found',
        make.starting_worker,
        events=(make.event(make.starting_worker, "FailedMount", make.MOUNT),),
    ),
    make.with_scheduler(
        "A ConfigMap that is not there",
        "ConfigMapNotFound",
        'configmap "settings" not found',
        make.scheduler(**make.waiting("scheduler", "CreateContainerConfigError", 'configmap "settings" not found')),
    ),
    make.with_scheduler(
        "A node without a network for the Pod",
        "FailedCreatePodSandBox",
        "no IP addresses",
        make.starting_scheduler,
        make.event(
            make.starting_scheduler, "FailedCreatePodSandBox", "failed to setup network: no IP addresses available"
        ),
    ),
    make.with_workers(
        "No node has room",
        "Unschedulable",
        r"0/3 nodes .*Insufficient cpu.* \(and 1 more\)",
        make.unscheduled_worker,
        make.worker(1, **make.UNSCHEDULED),
    ),
    make.with_workers(
        "A node is on its way",
        "TriggeredScaleUp",
        "pod triggered scale-up",
        make.unscheduled_worker,
        events=(
            make.event(make.unscheduled_worker, "TriggeredScaleUp", "pod triggered scale-up: [{pool 1->2 (max: 5)}]"),
        ),
    ),
    make.with_workers(
        "A node that does not answer any more",
        "NodeLost",
        "node node-1 does not answer",
        make.worker(
            phase="Running",
            spec={"nodeName": "node-1"},
            conditions=[{"type": "Ready", "status": "False", "reason": "NodeNotReady"}],
        ),
    ),
    make.with_workers(
        "A Pod that its node put out",
        "Evicted",
        "low on resource: memory",
        make.worker(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
    ),
    # --- programs -----------------------------------------------------------------------------------------------------
    make.with_workers("Too little memory", "OOMKilled", "more than its 2Gi of memory", make.worker(**make.KILLED)),
    make.with_scheduler(
        "A program that ends again and again",
        "CrashLoopBackOff",
        "exit code 1 .*No module named 'lib'.*, 5 times",
        make.scheduler(
            **make.waiting(
                "scheduler",
                "CrashLoopBackOff",
                restartCount=5,
                lastState=make.ended(1, "Error", "ModuleNotFoundError: No module named 'lib'"),
            )
        ),
    ),
    make.with_scheduler(
        "A command that is not in the image",
        "RunContainerError",
        "dask-schedular.*not found",
        make.scheduler(
            **make.waiting(
                "scheduler",
                "CrashLoopBackOff",
                lastState=make.ended(128, "StartError", 'exec: "dask-schedular": executable file not found in $PATH'),
            )
        ),
    ),
    make.with_workers(
        "A probe that fails",
        "Unhealthy",
        "Readiness probe failed",
        make.unhealthy_worker,
        events=(make.event(make.unhealthy_worker, "Unhealthy", "Readiness probe failed: connection refused"),),
    ),
    make.with_workers(
        "A service mesh between the Pods", "MeshSidecar", "istio-proxy stands between", make.meshed_worker
    ),
    # --- what the API server refuses ----------------------------------------------------------------------------------
    make.refused(
        "A quota that is used up",
        "QuotaExceeded",
        make.QUOTA,
        "QuotaExceeded",
        quotas=(make.resource("ResourceQuota", "compute", status={"hard": {"cpu": "4"}, "used": {"cpu": "3"}}),),
    ),
    make.refused(
        "A quota that wants amounts to be stated",
        "QuotaNeedsAmounts",
        'pods "w" is forbidden: failed quota: compute: must specify limits.memory for: worker',
    ),
    make.refused("A Pod that Pod security forbids", "PodSecurity", make.POD_SECURITY),
    make.refused("A policy of the cluster", "PolicyRefused", make.POLICY, "Invalid"),
    make.refused(
        "A webhook that cannot be reached",
        "WebhookFailed",
        'failed calling webhook "x.example.com": connection refused',
        "InternalError",
    ),
    make.refused(
        "A ServiceAccount that is not there",
        "ServiceAccountNotFound",
        'pods "w" is forbidden: error looking up service account team/x: serviceaccount "x" not found',
    ),
    make.refused(
        "An amount that a LimitRange does not allow",
        "LimitRangeExceeded",
        'pods "w" is forbidden: maximum memory usage per Container is 200Mi, but limit is 1Gi',
    ),
    make.refused(
        "A template that makes no valid Pod", "Invalid", 'volumeMounts[0].name: Not found: "nowhere"', "Invalid"
    ),
    make.Case(
        "A name that somebody else's object has",
        "NameConflict",
        "Service analytics-scheduler",
        make.cluster(("Ready", "False", "NameConflict", "Service analytics-scheduler belongs to somebody else")),
    ),
    make.Case(
        "A Service that leads elsewhere",
        "ServiceSelectsNothing",
        "selector does not match",
        make.cluster(("Ready", "False", "ServiceSelectsNothing", "its selector does not match the scheduler's Pod")),
    ),
    make.Case(
        "A group without its cluster",
        "ClusterNotFound",
        "does not exist",
        make.group(make.unready("ClusterNotFound", "DaskCluster analytics does not exist in this namespace")),
    ),
    # --- operator, scheduler, drains ----------------------------------------------------------------------------------
    make.Case(
        "No operator looks after the namespace",
        "NotObserved",
        "no operator has looked at generation 2 for 60m",
        make.cluster(make.STARTS, generation=2),
    ),
    make.with_workers(
        "A scheduler that does not answer",
        "SchedulerSilent",
        "DaskAutoscaler analytics: no answer within 5 s",
        autoscalers=(
            make.scaler(
                ("Ready", "False", "SchedulerSilent", "no answer within 5 s"),
                ("ScalingActive", "False", "SchedulerSilent", "no answer within 5 s"),
            ),
        ),
    ),
    make.with_workers(
        "Workers beyond a limit of the operator",
        "LimitReached",
        "2 workers wait: namespace team may have 4 workers at a time",
        status=make.unready(
            "LimitReached",
            "2 of 4 workers are ready; 2 workers wait: namespace team may have 4 workers at a time",
        ),
    ),
    make.with_workers(
        "A worker that drains and waits",
        "Draining",
        "worker-1 for 3m: it runs 1 task.* after 300 s",
        status=make.unready(
            "Progressing",
            "1 worker is draining",
            draining=[
                {"name": "analytics-default-worker-1", "since": "2027-01-15T07:56:30Z", "message": "it runs 1 task"}
            ],
        ),
    ),
    make.Case(
        "An autoscaler at its maximum",
        "TooManyReplicas",
        "more workers than the maximum",
        make.cluster(make.READY, make.SCHEDULED),
        Seen(
            autoscalers=(
                make.scaler(
                    ("ScalingLimited", "True", "TooManyReplicas", "the load wants more workers than the maximum")
                ),
            ),
        ),
    ),
    make.Case(
        "A cluster beyond a limit of the operator",
        "LimitReached",
        "namespace team may have 2 running clusters at a time.*next in line",
        make.cluster(
            ("Ready", "False", "LimitReached", make.LIMIT), ("SchedulerReady", "False", "LimitReached", "in line")
        ),
    ),
    make.Case(
        "A cluster that was suspended",
        "Suspended",
        "suspended as asked",
        make.cluster(
            ("Ready", "True", "Suspended", "suspended as asked"),
            ("Suspended", "True", "Suspended", "suspended as asked"),
            spec={"suspend": True},
        ),
    ),
    make.Case(
        "A finalizer that keeps a resource from going",
        "DeletionHeld",
        "held by example.com/backup",
        make.cluster(make.READY, deletionTimestamp=make.LONG_AGO, finalizers=["example.com/backup"]),
    ),
    # --- jobs ---------------------------------------------------------------------------------------------------------
    make.with_runner(
        "A job in a queue",
        "Queued",
        "queue research: couldn't assign flavors",
        make.held,
        workloads=(make.workload,),
    ),
    make.with_runner(
        "A job beyond a limit of the operator",
        "LimitReached",
        "2 running jobs at a time.*second in line",
        make.job(("Ready", "False", "LimitReached", make.LIMIT.replace("clusters", "jobs").replace("next", "second"))),
    ),
    make.with_runner(
        "A job whose runner somebody else holds back",
        "SuspendedByAnother",
        "held back by kueue",
        make.held,
    ),
    make.with_runner(
        "A job whose Pod waits behind a gate",
        "SchedulingGated",
        "it waits behind kueue.x-k8s.io/admission",
        make.job(("Ready", "False", "SchedulingGated", "the runner")),
        pods=(make.runner(**make.GATED),),
    ),
    make.with_runner(
        "A job whose program failed",
        "Error",
        f"{make.FAILED}.*exit code 3.*KeyError",
        make.job(make.failed),
        pods=(
            make.runner(
                phase="Failed",
                containerStatuses=[{"name": "job-runner", "state": make.ended(3, "Error", "KeyError: 'date'")}],
            ),
        ),
    ),
    make.with_runner(
        "A job whose program needed more memory, its Pod gone",
        "OOMKilled",
        make.FAILED,
        make.job(make.failed, lastProblem="etl-runner-q8w2z/runner: last ended with exit code 137 (OOMKilled)"),
    ),
    make.with_runner(
        "A runner that a sidecar keeps alive",
        "MeshSidecar",
        "it has ended, and istio-proxy keeps its Pod running",
        make.job(("Ready", "False", "Progressing", "runner etl-runner-q8w2z is ending")),
        pods=(
            make.runner(
                phase="Running",
                containerStatuses=[
                    {"name": "job-runner", "state": make.ended(0, "Completed")},
                    {"name": "istio-proxy", "state": {"running": {}}},
                ],
            ),
        ),
    ),
    make.with_runner(
        "A job with different versions",
        "VersionMismatch",
        "dask: scheduler 2026.8.0, runner 2026.1.0",
        make.job(
            ("Ready", "False", "Progressing", "runner etl-runner-q8w2z is running"),
            ("VersionsConsistent", "False", "VersionMismatch", "dask: scheduler 2026.8.0, runner 2026.1.0"),
            jobStatus="Running",
        ),
    ),
    make.with_runner(
        "A job that took too long",
        "DeadlineExceeded",
        "after its deadline of 600 s",
        make.job(("Failed", "True", "DeadlineExceeded", "the runner was stopped after its deadline of 600 s")),
    ),
    make.with_runner(
        "A job that lost its scheduler",
        "SchedulerLost",
        "all work was lost",
        make.job(("Failed", "True", "SchedulerLost", "the scheduler was restarted, and with it all work was lost")),
    ),
)
