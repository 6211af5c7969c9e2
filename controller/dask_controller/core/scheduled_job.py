"""A DaskJob on a schedule: what a CronJob's Job creates, and when it is done."""

from __future__ import annotations

from msgspec import Struct

from dask_crds import names
from dask_crds.model import DaskJob

from .conditions import find
from .ownership import owner_uid
from .pod import Manifest


class Owner(Struct, frozen=True):
    """The Job that starts a DaskJob; its Pod knows it by the downward API."""

    namespace: str
    name: str
    uid: str


class Verdict(Struct, frozen=True):
    """How it stands with a DaskJob."""

    message: str
    succeeded: bool | None  #: ``None``: it has not ended


def dask_job(template: Manifest, owner: Owner) -> Manifest:
    """The DaskJob to create.

    It is named as the Job, so that creating it again, after whatever crash, makes no second one; and it belongs to the
    Job, so that it goes with it: by the CronJob's history limits, or when ``concurrencyPolicy: Replace`` ends it.
    """
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": owner.name, "uid": owner.uid, "controller": True}
    metadata = {
        **template.get("metadata", {}),
        "namespace": owner.namespace,
        "name": owner.name,
        "ownerReferences": [reference],
    }
    return {**template, "apiVersion": names.API_VERSION, "kind": "DaskJob", "metadata": metadata}


def belongs_to(manifest: Manifest, owner: Owner) -> bool:
    """Whether a DaskJob of that name is the Job's own."""
    return owner_uid(manifest) == owner.uid


def verdict(job: DaskJob) -> Verdict:
    """How it stands with ``job``, by its stored status."""
    conditions, state = job.status.conditions, job.status.job_status or "waiting for the operator"
    for type, succeeded in (("Complete", True), ("Failed", False)):
        found = find(conditions, type)
        if found is not None and found.status == "True":
            return Verdict(": ".join(filter(None, (state, found.reason, found.message))), succeeded)
    ready, progress = find(conditions, "Ready"), job.status.progress
    told = f"{progress.percent} % of {progress.tasks_total} tasks" if progress else (ready.message if ready else "")
    return Verdict(", ".join(filter(None, (state, told))), None)
