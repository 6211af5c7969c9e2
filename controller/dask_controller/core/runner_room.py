"""Room for the runner: where a quota has none left for its Pod, workers of the job's cluster stand back, one by one.

The workers are there first, and they would keep the runner's place for ever. What a quota counts cannot be known
beforehand (Pods, memory, what others have in the namespace), so it is found out: the cluster is told that its default
group may have one Pod less, and when that Pod is gone, Kubernetes is made to try the runner again. Both numbers stand
in annotations of objects of the job's own, so that nothing is forgotten.
"""

from __future__ import annotations

from dask_crds import names

from .actions import Action, Patch
from .observed import Manifest, ObservedJob
from .runner import annotation, lacks_pod
from .time import Time, format_time, time_or

#: Seconds in which Kubernetes, made to try again, makes the runner's Pod if there is room.
PATIENCE_SECONDS = 15.0


def is_refused(o: ObservedJob) -> bool:
    """Whether a quota refuses the runner's Pod."""
    return lacks_pod(o) and "exceeded quota" in o.creation_problem


def most_workers(o: ObservedJob) -> int | None:
    """Pods that the default group may have at present; ``None`` for no such limit."""
    text = str((o.cluster.metadata.get("annotations") or {}).get(names.MOST_WORKERS, "")) if o.cluster else ""
    return int(text) if _is_number(text) else None


def _is_number(text: str) -> bool:
    """Whether it is one of ours: anybody may have written something else into an annotation."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def makes_room(o: ObservedJob, least: int, now: Time) -> list[Action]:
    """The next step towards the runner's Pod, or the end of it.

    Args:
        o: the snapshot, of what is the job's own.
        least: workers that stay in any case.
        now: the time.
    """
    if o.cluster is None or o.runner is None:
        return []
    if not all(pod.is_finished for pod in o.pods):
        return gives_back(o)
    present, stated = o.cluster.status.replicas, most_workers(o)
    if not is_refused(o) or present is None:
        return []
    one_less: list[Action] = [_limit(o, present - 1)] if present > least else []
    if stated is None:
        return one_less
    if present > stated or o.leaving:
        return []  # a worker is on its way; until it is gone, it counts
    tried, since = _tried(o.runner)
    if tried != present:
        return [_try_again(o, f"{present} {format_time(now)}")]
    return one_less if now - since >= PATIENCE_SECONDS else []


def gives_back(o: ObservedJob) -> list[Action]:
    """No limit any more."""
    limited = o.cluster is not None and names.MOST_WORKERS in (o.cluster.metadata.get("annotations") or {})
    tried = o.runner is not None and annotation(o.runner, names.MOST_WORKERS)
    return [*([_limit(o, None)] if limited else []), *([_try_again(o, None)] if tried else [])]


def in_words(o: ObservedJob, least: int) -> str:
    """Why the runner has no Pod, and what is done about it."""
    present = o.cluster.status.replicas if o.cluster is not None else None
    if not is_refused(o) or not (present or least):
        return o.creation_problem
    if present is not None and present > least:
        return f"{o.creation_problem}; workers stand back for the runner, one by one"
    workers = "a worker" if least == 1 else f"{least} workers"
    return f"{o.creation_problem}; the job needs room for {workers} and the runner"


def _tried(runner: Manifest) -> tuple[int | None, Time]:
    """With how many workers Kubernetes was made to try again last, and when."""
    number, _, time = annotation(runner, names.MOST_WORKERS).partition(" ")
    return (int(number) if _is_number(number) else None), time_or(time, 0.0)


def _limit(o: ObservedJob, workers: int | None) -> Patch:
    assert o.cluster is not None
    return _annotated(o, "DaskCluster", o.cluster.metadata, None if workers is None else str(workers))


def _try_again(o: ObservedJob, value: str | None) -> Patch:
    """Any change of a Job makes Kubernetes look at it again; by itself it waits longer after each refusal."""
    assert o.runner is not None
    return _annotated(o, "Job", o.runner["metadata"], value)


def _annotated(o: ObservedJob, kind: str, metadata: Manifest, value: str | None) -> Patch:
    patch = {"metadata": {"annotations": {names.MOST_WORKERS: value}}}
    return Patch(kind, o.job.namespace, metadata["name"], patch, metadata["uid"])
