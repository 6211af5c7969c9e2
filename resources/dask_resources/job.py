"""Children of a DaskJob: its cluster and the native Job that runs the program."""

from __future__ import annotations

from typing import Any

from dask_crds import names
from dask_crds.model import DaskJob, PodFailurePolicy, dump, without_defaults
from dask_crds.names import Annotation, Component, Env, Label

from . import eviction
from .metadata import child_metadata
from .pod import NO_SIDECAR, with_environment, with_last_words
from .revision import revision
from .scheduler import DEFAULT_CLUSTER_DOMAIN, comm_address
from .security import tls_secret, with_tls

#: Value of the annotation ``dask.org/suspended`` of a job's cluster; without it somebody else has suspended it.
BY_ITS_JOB = "by-its-job"


def run_label(job: DaskJob) -> str:
    """Label value that stands for ``spec.runId``, which may be any string."""
    return revision(job.spec.run_id or "")


def job_cluster(job: DaskJob) -> dict[str, Any]:
    """DaskCluster named as the job.

    Whether it is suspended is the job's to decide, whatever its template says. Timeouts are withheld while the run goes
    on: a cluster without work is not idle as long as its runner waits for something, or has yet to connect.
    """
    withheld = ("suspend", "idleTimeout", "noClientTimeout")
    spec = {key: value for key, value in without_defaults(job.spec.cluster.spec).items() if key not in withheld}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "DaskCluster",
        "metadata": child_metadata(
            job,
            job.name,
            template=job.spec.cluster.metadata,
            labels={Label.CLUSTER: job.name, Label.RUN_ID: run_label(job)},
            annotations={Annotation.REVISION: job_revision(job)}
            | ({Annotation.SUSPENDED: BY_ITS_JOB} if job.spec.suspend else {}),
        ),
        "spec": spec | ({"suspend": True} if job.spec.suspend else {}),
    }


def job_revision(job: DaskJob) -> str:
    """Hash of what a run runs."""
    return revision([without_defaults(job.spec.cluster.spec), without_defaults(job.spec.job)])


def runner_job(
    job: DaskJob,
    *,
    domain: str = DEFAULT_CLUSTER_DOMAIN,
    cluster_uid: str = "",
    scheduler_id: str = "",
    failures: int = 0,
    deadline_seconds: int | None = None,
) -> dict[str, Any]:
    """batch/v1 Job ``<job>-runner``: retries, deadline and eviction handling exist there already.

    Evictions, preemption and node drains do not count as failures (``podFailurePolicy`` on the Pod condition
    DisruptionTarget) unless the user has a policy, as far as Kubernetes allows: it needs ``restartPolicy: Never``.

    Where no failure is retried, ``OnFailure`` means the same as ``Never``, but for what comes after: Kubernetes may
    start the container again before it gives up, and deletes the Pod with its logs. So it is ``Never`` then.

    Args:
        job: the DaskJob.
        domain: DNS domain of the Kubernetes cluster.
        cluster_uid: uid of its DaskCluster, in whose Secret its certificates may be.
        scheduler_id: the life of the scheduler that the runner is for.
        failures: failed runner Pods of this run so far.
        deadline_seconds: how long the runner may take (default: the job's deadline).
    """
    retries = max(0, (job.spec.backoff_limit or 0) - failures)
    template = _runner_template(job, retries, domain, cluster_uid)
    deadline = job.spec.active_deadline_seconds if deadline_seconds is None else deadline_seconds
    policy = _failure_policy(job.spec.pod_failure_policy, template["spec"]["restartPolicy"])
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": child_metadata(
            job,
            names.runner(job.name),
            labels={**_runner_labels(job), Label.RUN_ID: run_label(job)},
            annotations={Annotation.SCHEDULER_ID: scheduler_id} if scheduler_id else None,
        ),
        "spec": {
            "backoffLimit": retries,
            "template": template,
            **({} if deadline is None else {"activeDeadlineSeconds": deadline}),
            **({} if policy is None else {"podFailurePolicy": policy}),
        },
    }


def _runner_labels(job: DaskJob) -> dict[str, str]:
    return {Label.CLUSTER: job.name, Label.COMPONENT: Component.JOB_RUNNER}


def _runner_template(job: DaskJob, retries: int, domain: str, cluster_uid: str) -> dict[str, Any]:
    certificates = tls_secret(job.name, cluster_uid, job.spec.cluster.spec.security)
    template, labels = job.spec.job.metadata, _runner_labels(job)
    metadata = child_metadata(job, "", template=template, labels=labels, defaults=eviction.RUNNER)
    metadata["labels"] = NO_SIDECAR | metadata["labels"]
    address = comm_address(job.name, job.namespace, domain, tls=bool(certificates))
    pod = with_environment(job.spec.job.spec, {Env.SCHEDULER_ADDRESS: address})
    pod = with_last_words(pod, Component.JOB_RUNNER)
    pod = with_tls(pod, Component.JOB_RUNNER, certificates, required=True)
    if pod.get("restartPolicy") is None or (pod["restartPolicy"] == "OnFailure" and not retries):
        pod["restartPolicy"] = "Never"
    return {"metadata": {key: metadata[key] for key in ("labels", "annotations") if key in metadata}, "spec": pod}


def _failure_policy(policy: PodFailurePolicy | None, restart_policy: str) -> dict[str, Any] | None:
    """The user's policy in full, as batch/v1 wants to be told it. Else ours."""
    if policy is None:
        disrupted = {"type": "DisruptionTarget", "status": "True"}
        return {"rules": [{"action": "Ignore", "onPodConditions": [disrupted]}]} if restart_policy == "Never" else None
    written: dict[str, Any] = dump(policy)
    for rule in written["rules"]:
        for wanted in rule.get("onPodConditions", ()):
            wanted.setdefault("status", "True")
    return written
