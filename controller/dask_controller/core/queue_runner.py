"""Where the runner of a job that waits in a queue of Kueue runs: where its quota is, after each admission anew."""

from __future__ import annotations

from typing import Any, NamedTuple

from dask_crds.names import Annotation
from dask_resources.metadata import noted
from dask_resources.queue import RUNNER, Placement, placed, placed_pod

from .ownership import annotation
from .run import Run

#: Of a placement, what has names.
_FIELDS = ("nodeSelector", "labels", "annotations")


class Moved(NamedTuple):
    """What changes with the nodes that the quota is for."""

    noted: dict[str, str | None]  #: annotations of the runner's Job
    spec: dict[str, Any]  #: of its ``spec``, as a merge patch


def _placement(run: Run) -> Placement | None:
    return run.queued.placements.get(RUNNER) if run.queued is not None else None


def placed_runner(job: dict[str, Any], run: Run) -> dict[str, Any]:
    """The runner's Job where its quota is, with a note of that."""
    placement = _placement(run)
    if placement is None:
        return job
    metadata = job["metadata"]
    annotations = {**metadata.get("annotations", {}), Annotation.PLACEMENT: placement.written}
    spec = {**job["spec"], "template": placed_pod(job["spec"]["template"], placement)}
    return {**job, "metadata": {**metadata, "annotations": annotations}, "spec": spec}


def moved(run: Run) -> Moved:
    """What has to be changed of a suspended runner before it is resumed: its quota may be elsewhere now.

    Kubernetes (1.36) lets the nodes of a suspended Job be changed, though it has run before.
    """
    if run.runner is None:
        return Moved({}, {})
    before = annotation(run.runner.metadata, Annotation.PLACEMENT)
    placement = _placement(run) or Placement()
    if (before or "{}") == placement.written:
        return Moved({}, {})
    gone, pod = _noted(before), placed(run.job.spec.job.spec, placement)
    selector = {**gone["nodeSelector"], **pod.get("nodeSelector", {})}
    spec = {"nodeSelector": selector or None, "tolerations": pod.get("tolerations")}
    said = {"labels": placement.labels, "annotations": placement.annotations}
    metadata = {field: {**gone[field], **said[field]} for field in said}
    template = {"spec": spec, "metadata": {field: values for field, values in metadata.items() if values}}
    return Moved({Annotation.PLACEMENT: placement.written}, {"template": template})


def _noted(text: str) -> dict[str, dict[str, None]]:
    """What a note of ours has put into a Pod, to be taken away; of what anybody else has written, nothing."""
    found = noted(text)
    parts = {field: found.get(field) for field in _FIELDS}
    return {field: dict.fromkeys(part) if isinstance(part, dict) else {} for field, part in parts.items()}
