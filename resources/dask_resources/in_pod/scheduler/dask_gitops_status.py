"""What a scheduler tells about itself: state, progress, versions, idleness; and that a client has ended it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from functools import cache, wraps
from typing import Any

from tornado.ioloop import PeriodicCallback

#: How often the scheduler is checked for idleness.
IDLE_CHECK_SECONDS = 5.0
#: Where Kubernetes looks for the reason why a container has ended, unless its user has chosen another place.
TERMINATION_LOG = "/dev/termination-log"
#: What is noted there when a client ends the scheduler (``Client.shutdown``): then its end is no failure.
SHUT_DOWN_BY_CLIENT = "shut down by a client"
#: Packages that must be the same everywhere for tasks and results to be understood.
COMPARED = ("dask", "distributed", "msgpack")
MOST_SETS = 32  #: of versions that differ

_logger = logging.getLogger("distributed.dask_gitops")


class Status:
    """Watches a scheduler and tells about it."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._idle_since: float | None = time.monotonic()
        self._transitions: int = scheduler.transition_counter
        check = PeriodicCallback(self._check_idle, IDLE_CHECK_SECONDS * 1000)
        scheduler.periodic_callbacks["dask-gitops-idle"] = check  # the scheduler stops it when it closes
        check.start()
        self._clients: list[dict[str, str]] = []  #: versions of all clients so far; most stay for seconds only
        before(scheduler, "register-client", self._remember_client)
        before(scheduler, "terminate", _note_shutdown)

    def state(self) -> dict[str, Any]:
        """The scheduler at a glance, in O(workers)."""
        import distributed

        scheduler = self._scheduler
        return {
            "distributed": distributed.__version__,  # type: ignore[attr-defined]
            "id": scheduler.id,
            "idle_seconds": self.idle_seconds(),
            "workers": [
                {
                    "name": str(ws.name),
                    "address": ws.address,
                    "host": ws.host,
                    "status": ws.status.name,
                    "nthreads": ws.nthreads,
                    "nbytes": ws.nbytes,
                    "processing": len(ws.processing),
                    "resources": dict(ws.resources),
                }
                for ws in scheduler.workers.values()
            ],
            "tasks": {
                "total": len(scheduler.tasks),
                "processing": sum(len(ws.processing) for ws in scheduler.workers.values()),
                "queued": len(scheduler.queued),
                "unrunnable": len(scheduler.unrunnable),
            },
        }

    def progress(self) -> dict[str, int]:
        """How far the tasks submitted so far have got, in O(task prefixes).

        ``state_counts`` count how often tasks reached a state, including those that the scheduler has since forgotten.
        """
        prefixes = self._scheduler.task_prefixes.values()
        pending = ("waiting", "queued", "processing", "no-worker")
        left = sum(prefix.states.get(state, 0) for prefix in prefixes for state in pending)
        done = sum(prefix.state_counts.get(state, 0) for prefix in prefixes for state in ("memory", "erred"))
        return {"total": done + left, "done": done, "workers": len(self._scheduler.workers)}

    def versions(self) -> dict[str, list[dict[str, str]]]:
        """The different sets of versions that are present, by role: ``scheduler``, ``workers``, ``clients``."""
        return {
            "scheduler": distinct([_own_versions()]),
            "workers": distinct(compared_versions(ws.versions) for ws in self._scheduler.workers.values()),
            "clients": self._clients,
        }

    def idle_seconds(self) -> float | None:
        """How long there has been nothing to do, to within :data:`IDLE_CHECK_SECONDS`; ``None`` while there is.

        ``Scheduler.check_idle`` judges by the same signs, but also carries out the scheduler's own idle timeout.
        """
        self._check_idle()
        if self._idle_since is None:
            return None
        idle = time.monotonic() - self._idle_since
        if getattr(self._scheduler, "jupyter", False):
            activity = self._scheduler._jupyter_server_application.web_app.last_activity().timestamp()
            idle = min(idle, time.time() - activity)
        return max(0.0, idle)

    def _check_idle(self) -> None:
        scheduler = self._scheduler
        moved = scheduler.transition_counter != self._transitions
        self._transitions = scheduler.transition_counter
        if (
            scheduler.queued
            or scheduler.unrunnable
            or getattr(scheduler, "_active_graph_updates", 0) > 0
            or any(ws.processing for ws in scheduler.workers.values())
        ):
            self._idle_since = None
        elif moved or self._idle_since is None:  # tasks came and went since the last check
            self._idle_since = time.monotonic()

    def _remember_client(self, versions: dict[str, Any] | None = None, **_: Any) -> None:
        self._clients = distinct([*self._clients, compared_versions(versions or {})])


def _note_shutdown(**_: Any) -> None:
    path = os.environ.get("DASK_GITOPS_TERMINATION_LOG") or TERMINATION_LOG
    try:
        with open(path, "w") as log:
            log.write(SHUT_DOWN_BY_CLIENT)
    except OSError as error:
        _logger.info("dask-gitops: %s: %s", path, error)


def before(scheduler: Any, operation: str, look: Callable[..., None]) -> None:
    """Have ``look`` called with each request for an operation of the scheduler before it is carried out."""
    carry_out = scheduler.handlers.get(operation)
    if carry_out is None:
        return

    @wraps(carry_out)  # its signature tells distributed what to pass
    async def handler(*args: Any, **kwargs: Any) -> Any:
        try:
            look(**kwargs)
        except Exception:
            _logger.exception("dask-gitops: %s", operation)
        return await carry_out(*args, **kwargs)

    scheduler.handlers[operation] = handler


@cache
def _own_versions() -> dict[str, str]:
    from distributed.versions import get_versions

    return compared_versions(get_versions())


def compared_versions(found: dict[str, Any]) -> dict[str, str]:
    """The versions that matter in what ``distributed.versions.get_versions`` gives; of Python the minor release."""
    packages = found.get("packages") or {}
    if not packages:
        return {}  # a client that has told none
    python = str((found.get("host") or {}).get("python") or packages.get("python") or "")
    known = {name: str(packages.get(name)) for name in COMPARED}
    # What a client says of itself may be anything.
    return {name: version[:64] for name, version in {"python": ".".join(python.split(".")[:2]), **known}.items()}


def distinct(found: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Each of the sets once, and not too many."""
    unique: list[dict[str, str]] = []
    for versions in found:
        if versions and versions not in unique and len(unique) < MOST_SETS:
            unique.append(versions)
    return unique
