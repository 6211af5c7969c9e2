"""Children of a DaskJob: its cluster and the native Job that runs the program."""

from __future__ import annotations

from typing import Any

from dask_crds import names
from dask_crds.model import DaskJob, dump

from .metadata import child_metadata
from .pod import NO_SIDECAR, with_environment
from .revision import revision
from .scheduler import DEFAULT_CLUSTER_DOMAIN, comm_address


def run_label(job: DaskJob) -> str:
    """Label value that stands for ``spec.runId``, which may be any string."""
    return revision(job.spec.run_id or "")


def job_cluster(job: DaskJob) -> dict[str, Any]:
    """DaskCluster named as the job."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "DaskCluster",
        "metadata": child_metadata(
            job,
            job.name,
            template=job.spec.cluster.metadata,
            labels={names.CLUSTER: job.name, names.RUN_ID: run_label(job)},
        ),
        "spec": dump(job.spec.cluster.spec),
    }


def runner_job(job: DaskJob, *, domain: str = DEFAULT_CLUSTER_DOMAIN) -> dict[str, Any]:
    """batch/v1 Job ``<job>-runner``: retries, deadline and eviction handling exist there already.

    Evictions, preemption and node drains do not count as failures (``podFailurePolicy`` on the Pod condition
    DisruptionTarget), as far as Kubernetes allows: the policy needs ``restartPolicy: Never``.
    """
    labels = {names.CLUSTER: job.name, names.COMPONENT: names.JOB_RUNNER}
    metadata = child_metadata(job, names.runner(job.name), labels={**labels, names.RUN_ID: run_label(job)})
    pod_metadata = child_metadata(job, "", template=job.spec.job.metadata, labels=labels)
    pod_metadata["labels"] = NO_SIDECAR | pod_metadata["labels"]
    environment = {names.ENV_SCHEDULER_ADDRESS: comm_address(job.name, job.namespace, domain)}
    pod = with_environment(job.spec.job.spec, environment)
    pod.setdefault("restartPolicy", "Never")
    spec: dict[str, Any] = {
        "backoffLimit": job.spec.backoff_limit or 0,
        "template": {
            "metadata": {key: pod_metadata[key] for key in ("labels", "annotations") if key in pod_metadata},
            "spec": pod,
        },
    }
    if job.spec.active_deadline_seconds is not None:
        spec["activeDeadlineSeconds"] = job.spec.active_deadline_seconds
    if pod["restartPolicy"] == "Never":
        spec["podFailurePolicy"] = {
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
