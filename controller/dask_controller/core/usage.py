"""What Pods use: what they request, for as long as they have it, accounted for in status so that nothing is lost.

``status.usage`` says how much it was up to some time. What comes on top is told by the Pods alone, by when they were
started and when they ended: so an operator that starts anew goes on where the last one was, neither counting a second
twice, as the amounts and the time are written at once, nor leaving one out, but of Pods that went while nobody looked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from msgspec import Struct, structs

from dask_crds.model import DaskClusterStatus, DaskJobStatus, DaskWorkerGroupStatus, Usage

from .pod import Pod
from .requests import NOTHING, Requests
from .time import Time, time_or

#: How old the account in status may be while Pods run: a write costs the API server more than two reads.
ACCOUNT_SECONDS = 900.0
#: How long a Pod may take to be seen to have started: up to then no account is closed over its head.
START_SECONDS = 60.0
_GIB = 2.0**30

Accounted = DaskClusterStatus | DaskJobStatus | DaskWorkerGroupStatus


class Stay(Struct, frozen=True, gc=False):
    """A Pod's time on its node."""

    uid: str
    requests: Requests
    created: Time
    started: Time | None  #: ``None``: not yet, as far as is known
    ended: Time | None  #: ``None``: not yet
    placed: bool = True  #: whether it may have started unseen

    def seconds(self, since: Time, until: Time) -> float:
        """How much of it lies between two times; the clock of its node counts as far as it can be right."""
        if self.started is None:
            return 0.0
        end = until if self.ended is None else min(self.ended, until)
        return max(0.0, end - max(self.started, self.created, since))


def stay(pod: Pod, gone: Time | None = None) -> Stay:
    """The stay of a Pod; ``gone`` is when it ceased to exist, if it has."""
    ended = (pod.finished or pod.started) if pod.is_finished else gone
    if gone is not None and ended is not None:
        ended = min(ended, gone)
    return Stay(pod.uid, pod.requests, pod.created, pod.started, ended, placed=pod.problem is None)


def used(usage: Usage | None, stays: Iterable[Stay], now: Time) -> Requests:
    """Amounts times seconds, up to now: what is accounted for, and what has come since."""
    since = _until(usage, now)
    new = sum((s.requests.times(s.seconds(since, now)) for s in stays), NOTHING)
    return _accounted(usage) + new


def _accounted(usage: Usage | None) -> Requests:
    """What status says; others may have written anything there."""
    if usage is None:
        return NOTHING
    return Requests(usage.cpu_seconds, usage.memory_gib_seconds * _GIB, usage.gpu_seconds or 0.0) | NOTHING


def _until(usage: Usage | None, now: Time) -> Time:
    return 0.0 if usage is None else min(now, time_or(usage.until, now))


def with_usage(before: Accounted, after: Accounted, stays: Sequence[Stay], now: Time) -> Accounted:
    """A status as it is to be written, with an account of what the Pods have used.

    The account is brought up to date where something is written anyway, a Pod has gone, or it is old: else each look
    would be a write.
    """
    carried = structs.replace(after, usage=before.usage)
    since, until = _until(before.usage, now), _closing(stays, now)
    if until <= since or not any(s.seconds(since, until) for s in stays):
        return carried
    has_gone = any(s.ended is not None and since < s.ended <= until for s in stays)
    if carried == before and not has_gone and before.usage is not None and until - since < ACCOUNT_SECONDS:
        return carried
    return structs.replace(after, usage=_account(used(before.usage, stays, until), until))


def _closing(stays: Iterable[Stay], now: Time) -> Time:
    """Up to when an account can be closed: no Pod may turn out to have started before."""
    awaited = (s.created for s in stays if s.started is None and s.placed and s.ended is None)
    return min(now, max(now - START_SECONDS, min(awaited, default=now)))


def _account(total: Requests, until: Time) -> Usage:
    return Usage(
        cpu_seconds=round(total.cpu, 3),
        memory_gib_seconds=round(total.memory / _GIB, 3),
        gpu_seconds=round(total.gpu, 3) or None,
        until=datetime.fromtimestamp(until, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
