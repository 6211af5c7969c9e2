"""Where the time of a run went: each second belongs to one part, and the parts add up to the whole.

What Pods tell of themselves is exact to the second, also of the time in which nobody looked; between two such points
the run is at what it was last seen at. What the program's time went into its scheduler tells, see
``dask_gitops_work``; until it does, the time counts as ``running``.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dask_crds.model import TimeSpent
from dask_crds.reasons import Reason

from . import runner_room
from .conditions import unmet
from .pod import Pod
from .queue_status import is_suspended
from .run import Run
from .run_questions import TimeAtWork
from .time import Time, created, format_time, time_or

#: The part from a point in time on.
_Point = tuple[int, str]

_FIELDS = {field.encode_name: field.name for field in msgspec.structs.fields(TimeSpent)}


def time_spent(run: Run, *, wanted: bool, end: Time | None = None) -> TimeSpent:
    """The account up to now, or to the end of the run.

    Args:
        run: the run.
        wanted: whether the account is brought up to date even if the run is at what it was at.
        end: of the run, if it has ended.
    """
    before = run.status.time_spent or _opened(run)
    since = int(time_or(before.until, run.now))
    until = max(since, int(run.now if end is None else end))
    points = [(since, before.state or "queued"), *_points(run, since, until)]
    present = (None if end is not None else _held_up(run)) or points[-1][1]
    if before is run.status.time_spent and end is None and not wanted and present == before.state:
        return before
    spent = {name: int(getattr(before, name)) for name in _FIELDS.values() if isinstance(getattr(before, name), int)}
    for (start, part), (stop, _) in zip(points, [*points[1:], (until, "")], strict=True):
        spent[_FIELDS[part]] += stop - start
    told = _told(run)
    if told is not None:
        _split(spent, told)
    if end is not None and int(end) < until:
        until -= _taken_back(spent, until - int(end), before.state or "queued")
    return TimeSpent(
        since=before.since,
        until=format_time(until),
        state=None if end is not None else present,  # type: ignore[arg-type]
        **spent,
    )


def _taken_back(spent: dict[str, int], seconds: int, part: str) -> int:
    """Take off what was counted beyond the end, as the clock that tells of it is behind; returns how much there was."""
    left, parts = seconds, [name for name in spent if not name.startswith("told_")]
    for name in (_FIELDS[part], "idle", "computing", *reversed(parts)):
        taken = min(left, spent[name])
        spent[name] -= taken
        left -= taken
    return seconds - left


def _opened(run: Run) -> TimeSpent:
    """An account with nothing in it. A later run begins when it is seen that it is asked for."""
    first = run.begins and not run.is_next and not run.status.history
    since = created(run.job.metadata) if first else time_or(run.status.active_since or "", 0.0)
    start = format_time(min(since or run.now, run.now))
    return TimeSpent(since=start, until=start, state="queued")


def _points(run: Run, since: int, until: int) -> list[_Point]:
    """What is known to have changed after ``since``, in order."""
    known = sorted(_of_pods(run), key=lambda point: point[0])
    return [(min(time, until), part) for time, part in known if time > since]


def _of_pods(run: Run) -> Iterator[_Point]:
    runner = run.runner.newest if run.runner is not None else None
    for pod in run.scheduler_pods:
        if not pod.deleting and (runner is None or pod.created <= runner.created):
            yield from _up_to_start(pod)
            if pod.stages.ready is not None and (runner is None or pod.stages.ready <= runner.created):
                yield int(pod.stages.ready), "starting"
    if runner is not None:
        yield from _up_to_start(runner)
        if runner.stages.started is not None:
            yield int(runner.stages.started), "running"
        if runner.finished is not None:
            yield int(runner.finished), "ending"


def _up_to_start(pod: Pod) -> Iterator[_Point]:
    """Of stages of one second the later one counts: points of the same time stay in this order."""
    stages = pod.stages
    yield int(pod.created), "waitingForNode"
    if stages.scheduled is not None:
        # Where the kubelet does not tell when all is prepared (Kubernetes before 1.29), that counts as pulling.
        yield int(stages.scheduled), "starting" if stages.prepared is not None else "pulling"
    if stages.prepared is not None:
        yield int(stages.prepared), "pulling"
    if stages.started is not None:
        yield int(stages.started), "starting"


def _held_up(run: Run) -> str | None:
    """What the run is at that no Pod tells; ``None`` if Pods do."""
    if run.runner is not None and run.runner.is_decided:
        return "ending"
    if run.job.spec.suspend:
        return "suspended" if is_suspended(run.queued, True) else "queued"
    if run.is_running:
        return "running"
    if (run.waits and run.is_held) or run.obstacle is not None or run.leftover is not None:
        return "queued"
    if runner_room.is_refused(run):
        return "waitingForQuota"
    if run.cluster is None:
        return "starting"
    return None if not run.waits else _waits_for_cluster(run)


def _waits_for_cluster(run: Run) -> str | None:
    conditions = run.cluster.status.conditions if run.cluster is not None else None
    lacks_workers = "registered" in run.missing
    problem = unmet(conditions, "WorkersReady" if lacks_workers else "SchedulerReady")
    if problem is not None and problem.reason == Reason.QUOTA_EXCEEDED:
        return "waitingForQuota"
    if lacks_workers:
        return "waitingForWorkers"
    return None if run.scheduler_pods else "starting"


def _told(run: Run) -> tuple[int, int, int] | None:
    work = run.answers.of(TimeAtWork) if run.answers is not None else None
    if work is None or run.runner is None:
        return None
    return int(work.computing), int(work.moving), int(work.waiting)


#: What the scheduler counts: the field for that, and the part that it is.
_COUNTED = (
    ("told_computing", "computing"),
    ("told_moving_data", "moving_data"),
    ("told_waiting", "waiting_for_workers"),
)


def _split(spent: dict[str, int], told: tuple[int, int, int]) -> None:
    """Share out what counts as ``running``. No more than that: a scheduler may say anything.

    One that has counted less than before is another one, which has begun at 0.
    """
    is_new = any(now < spent[before] for now, (before, _) in zip(told, _COUNTED, strict=True))
    for now, (before, part) in zip(told, _COUNTED, strict=True):
        share = min(now - (0 if is_new else spent[before]), spent["running"])
        spent[part] += share
        spent["running"] -= share
        spent[before] = now
    spent["idle"] += spent["running"]
    spent["running"] = 0
