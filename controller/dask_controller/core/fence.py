"""The scheduler fence: whether a runner still has the scheduler that it was started for.

A scheduler that was restarted knows nothing of what the runner has submitted, so the runner would wait for ever, or go
on with half of its work.
"""

from __future__ import annotations

from collections.abc import Iterable

from .observed import Pod

#: What the extension notes when a client ends the scheduler (``Client.shutdown()``); programs do so at their end.
SHUT_DOWN_BY_CLIENT = "shut down by a client"


def identity(pods: Iterable[Pod], container: str) -> str | None:
    """The life of the scheduler that is ready now, another one after each restart; ``None`` while none is.

    Args:
        pods: the scheduler Pods.
        container: name of the container in them that is the scheduler.
    """
    ready = (p for p in pods if p.ready and not p.deleting)
    return next((f"{p.uid}/{p.container(container).restarts}" for p in ready), None)


def is_lost(started_for: str, pods: Iterable[Pod], container: str) -> bool:
    """Whether the life of a scheduler is over, unless it was ended on purpose.

    Args:
        started_for: the life in question; where it is not readable, nothing can be said of it.
        pods: the scheduler Pods.
        container: name of the container in them that is the scheduler.
    """
    uid, _, restarts = started_for.rpartition("/")
    if not uid or not restarts.isdecimal() or len(restarts) > 9:
        return False
    pod = next((p for p in pods if p.uid == uid and not p.deleting and not p.is_finished), None)
    if pod is None:
        return True
    scheduler = pod.container(container)
    return scheduler.restarts > int(restarts) and scheduler.last_words != SHUT_DOWN_BY_CLIENT
