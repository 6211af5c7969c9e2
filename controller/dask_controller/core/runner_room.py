"""Room for the runner: where a quota has none left for its Pod, workers of the job's cluster stand back, one by one.

The workers are there first, and they would keep the runner's place for ever. What a quota counts cannot be known
beforehand (Pods, memory, what others have in the namespace), so it is found out: the cluster is told that its default
group may have one Pod less, and when that Pod is gone, Kubernetes is made to try the runner again. Both numbers stand
in annotations of objects of the job's own, so that nothing is forgotten.
"""

from __future__ import annotations

from dask_crds.model import DaskCluster
from dask_crds.names import Annotation

from .actions import Action, Patch
from .ownership import annotation, number
from .run import Run
from .runner import Runner
from .time import Time, format_time, time_or

#: Seconds in which Kubernetes, made to try again, makes the runner's Pod if there is room.
PATIENCE_SECONDS = 15.0


def is_refused(run: Run) -> bool:
    """Whether a quota refuses the runner's Pod."""
    return run.runner is not None and run.runner.lacks_pod and "exceeded quota" in run.creation_problem


def makes_room(run: Run) -> list[Action]:
    """The next step towards the runner's Pod, or the end of it."""
    cluster, runner, least = run.cluster, run.runner, run.least_workers
    if cluster is None or runner is None:
        return []
    if not all(pod.is_finished for pod in runner.pods):
        return gives_back(run)
    present, stated = cluster.status.replicas, number(annotation(cluster.metadata, Annotation.MOST_WORKERS))
    if not is_refused(run) or present is None:
        return []
    one_less: list[Action] = [_annotated(cluster, str(present - 1))] if present > least else []
    if stated is None:
        return one_less
    if present > stated or run.leaving:
        return []  # a worker is on its way; until it is gone, it counts
    tried, since = _tried(runner)
    if tried != present:
        # Any change of a Job makes Kubernetes look at it again; by itself it waits longer after each refusal.
        return [_annotated(runner, f"{present} {format_time(run.now)}")]
    return one_less if run.now - since >= PATIENCE_SECONDS else []


def gives_back(run: Run) -> list[Action]:
    """No limit any more."""
    limited = run.cluster is not None and Annotation.MOST_WORKERS in (run.cluster.metadata.get("annotations") or {})
    tried = run.runner is not None and annotation(run.runner.metadata, Annotation.MOST_WORKERS)
    held = (run.cluster if limited else None, run.runner if tried else None)
    return [_annotated(it, None) for it in held if it is not None]


def in_words(run: Run) -> str:
    """Why the runner has no Pod, and what is done about it."""
    present, least = run.cluster.status.replicas if run.cluster is not None else None, run.least_workers
    if not is_refused(run) or not (present or least):
        return run.creation_problem
    if present is not None and present > least:
        return f"{run.creation_problem}; workers stand back for the runner, one by one"
    workers = "a worker" if least == 1 else f"{least} workers"
    return f"{run.creation_problem}; the job needs room for {workers} and the runner"


def _tried(runner: Runner) -> tuple[int | None, Time]:
    """With how many workers Kubernetes was made to try again last, and when."""
    workers, _, time = annotation(runner.metadata, Annotation.MOST_WORKERS).partition(" ")
    return number(workers), time_or(time, 0.0)


def _annotated(it: DaskCluster | Runner, value: str | None) -> Patch:
    return Patch.of(it, {"metadata": {"annotations": {Annotation.MOST_WORKERS: value}}})
