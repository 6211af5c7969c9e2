"""What goes wrong with clusters and jobs, one row each: what one sees, and the cause that `why` has to name.

``docs/kubectl-dask.md`` shows the table, and a test holds each row. Conditions are in the operator's words, all else
in those of Kubernetes.
"""

from __future__ import annotations

from typing import Any

from . import case_objects as make
from .seen import Seen

_RUNNING: dict[str, Any] = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
}


_QUOTA = (
    'pods "analytics-default-worker-1" is forbidden: '
    "exceeded quota: compute, requested: cpu=2, used: cpu=3, limited: cpu=4"
)
_FAILED = "Job has reached the specified backoff limit"
_POD_SECURITY = (
    'pods "analytics-default-worker-0" is forbidden: violates PodSecurity "restricted:latest": '
    'allowPrivilegeEscalation != false (container "worker" must set securityContext.allowPrivilegeEscalation=false)'
)
_POLICY = (
    "ValidatingAdmissionPolicy 'images.example.com' with binding 'images.example.com' denied request: "
    "image docker.io/x is not from registry.example.com"
)
_PULL = 'Back-off pulling image "registry.example.com/dask:2026.8.1": not found'
_MOUNT = 'MountVolume.SetUp failed for volume "data": secret "s3" not found'
_MESHED: dict[str, Any] = {"spec": {"initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}]}}
_starting_worker = make.worker(**make.waiting("worker", "ContainerCreating"))
_starting_scheduler = make.scheduler(**make.waiting("scheduler", "ContainerCreating"))
_unscheduled_worker = make.worker(**make.UNSCHEDULED)
_unhealthy_worker = make.worker(**_RUNNING)
_meshed_worker = make.worker(**_RUNNING, **_MESHED)
_failed = ("Failed", "True", "BackoffLimitExceeded", _FAILED)
_held = make.job(("Ready", "False", "SuspendedByAnother", "Job etl-runner is held back by kueue"))
_workload = make.resource(
    "Workload",
    "job-etl-runner-1f2e3",
    spec={"queueName": "research"},
    status={
        "conditions": [
            {
                "type": "QuotaReserved",
                "status": "False",
                "message": "couldn't assign flavors: insufficient quota for cpu",
            }
        ]
    },
    metadata={"ownerReferences": [{"kind": "Job", "name": "etl-runner", "uid": "uid-runner"}]},
)

#: All of them.
CASES: tuple[make.Case, ...] = (
    # --- images, Secrets, nodes ---------------------------------------------------------------------------------------
    make.with_scheduler(
        "An image that is not there, or may not be pulled",
        "ImagePullBackOff",
        "x7k2p, container scheduler: image registry.example.com/dask:2026.8.1: Back-off",
        make.scheduler(**make.waiting("scheduler", "ImagePullBackOff", _PULL)),
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
        _starting_worker,
        events=(make.event(_starting_worker, "FailedMount", _MOUNT),),
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
        _starting_scheduler,
        make.event(_starting_scheduler, "FailedCreatePodSandBox", "failed to setup network: no IP addresses available"),
    ),
    make.with_workers(
        "No node has room",
        "Unschedulable",
        r"0/3 nodes .*Insufficient cpu.* \(and 1 more\)",
        _unscheduled_worker,
        make.worker(1, **make.UNSCHEDULED),
    ),
    make.with_workers(
        "A node is on its way",
        "TriggeredScaleUp",
        "pod triggered scale-up",
        _unscheduled_worker,
        events=(make.event(_unscheduled_worker, "TriggeredScaleUp", "pod triggered scale-up: [{pool 1->2 (max: 5)}]"),),
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
        _unhealthy_worker,
        events=(make.event(_unhealthy_worker, "Unhealthy", "Readiness probe failed: connection refused"),),
    ),
    make.with_workers("A service mesh between the Pods", "MeshSidecar", "istio-proxy stands between", _meshed_worker),
    # --- what the API server refuses ----------------------------------------------------------------------------------
    make.refused(
        "A quota that is used up",
        "QuotaExceeded",
        _QUOTA,
        "QuotaExceeded",
        quotas=(make.resource("ResourceQuota", "compute", status={"hard": {"cpu": "4"}, "used": {"cpu": "3"}}),),
    ),
    make.refused(
        "A quota that wants amounts to be stated",
        "QuotaNeedsAmounts",
        'pods "w" is forbidden: failed quota: compute: must specify limits.memory for: worker',
    ),
    make.refused("A Pod that Pod security forbids", "PodSecurity", _POD_SECURITY),
    make.refused("A policy of the cluster", "PolicyRefused", _POLICY, "Invalid"),
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
        _held,
        workloads=(_workload,),
    ),
    make.with_runner(
        "A job whose runner somebody else holds back",
        "SuspendedByAnother",
        "held back by kueue",
        _held,
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
        f"{_FAILED}.*exit code 3.*KeyError",
        make.job(_failed),
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
        _FAILED,
        make.job(_failed, lastProblem="etl-runner-q8w2z/runner: last ended with exit code 137 (OOMKilled)"),
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
