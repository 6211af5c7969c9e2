"""What of a snapshot is a job's own: names and labels are claims, an owner reference with the job's uid is a fact."""

from __future__ import annotations

from msgspec.structs import replace

from dask_crds import names
from dask_crds.model import DaskJob

from .observed import Manifest, ObservedJob, Pod, Problem, owner_uid

#: Characters that Kubernetes keeps of the name that a Pod's own is generated from.
LONGEST_PREFIX = 58


def own(o: ObservedJob) -> ObservedJob:
    """The snapshot without what is not the job's own, so that nothing of it can be used or deleted.

    What has the name of a child of ours is told in ``obstacle``. A cluster that is being deleted is none any more.
    """
    cluster, runner, obstacle = o.cluster, o.runner, o.obstacle
    if runner is not None and owner_uid(runner) != o.job.uid:
        obstacle, runner = _obstacle(o.job, "Job", runner["metadata"]), None
    if cluster is not None:
        foreign = owner_uid({"metadata": cluster.metadata}) != o.job.uid
        if foreign or cluster.metadata.get("deletionTimestamp"):
            obstacle, cluster = _obstacle(o.job, "DaskCluster", cluster.metadata), None
    uid = runner["metadata"]["uid"] if runner is not None else None
    return replace(
        o,
        cluster=cluster,
        runner=runner,
        pods=tuple(pod for pod in o.pods if pod.owner_uid == uid),
        former=(*o.former, *(pod for pod in o.pods if pod.owner_uid != uid and _is_of_a_runner(o.job, pod))),
        scheduler_pods=tuple(pod for pod in o.scheduler_pods if not pod.is_finished) if cluster is not None else (),
        leftovers=tuple(pod for pod in o.leftovers if _is_of_a_scheduler(o.job, pod)),
        obstacle=obstacle,
    )


def _obstacle(job: DaskJob, kind: str, metadata: Manifest) -> Problem:
    """What is to be said of an object in the way. What goes by itself is waited for."""
    owner: Manifest = next((ref for ref in metadata.get("ownerReferences") or () if ref.get("controller")), {})
    ours = (owner.get("kind"), owner.get("name")) == ("DaskJob", job.name)
    before = " of the job before" if ours and owner.get("uid") != job.uid else ""
    if before or metadata.get("deletionTimestamp"):
        return Problem("Progressing", f"waiting for {kind} {metadata['name']}{before} to be gone")
    text = f"{kind} {metadata['name']} exists and belongs to somebody else; rename it or the DaskJob"
    return Problem("NameConflict", text)


def _is_of_a_runner(job: DaskJob, pod: Pod) -> bool:
    """Whether a Pod that is still there was made for a runner of this job: the Job itself may be gone already."""
    prefix = f"{names.runner(job.name)}-"[:LONGEST_PREFIX]
    return pod.owner_kind == "Job" and pod.name.startswith(prefix) and not pod.is_finished


def _is_of_a_scheduler(job: DaskJob, pod: Pod) -> bool:
    """The same for the scheduler of a cluster of this job."""
    made = pod.owner_kind == "ReplicaSet" and pod.name.startswith(f"{names.scheduler(job.name)}-")
    return made and not pod.is_finished
