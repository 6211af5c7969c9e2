"""Who is connected to a scheduler: since when nobody is, and which versions clients have."""

from __future__ import annotations

import time
from typing import Any

from tornado.ioloop import PeriodicCallback

from dask_gitops_status import MOST_SETS, before, compared_versions, distinct

#: How often a scheduler is checked for clients.
CHECK_SECONDS = 5.0
#: How long the versions of a client are told after it has registered, though it may have left: whoever asks less often
#: than this misses none.
TOLD_SECONDS = 60.0


class Clients:
    """Watches who connects to a scheduler.

    A client of a worker (``distributed.get_client`` in a task) lives as long as its worker, and says nothing about
    whether anybody is there. ``Worker._get_client`` names it ``worker``.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._absent_since: float | None = time.monotonic()
        self._registered: dict[str, tuple[float, dict[str, str]]] = {}  #: versions, and when last
        check = PeriodicCallback(self._check, CHECK_SECONDS * 1000)
        scheduler.periodic_callbacks["dask-gitops-clients"] = check  # the scheduler stops it when it closes
        check.start()
        before(scheduler, "register-client", self._registers)

    def absent_seconds(self) -> float | None:
        """How long no client has been connected, to within :data:`CHECK_SECONDS`; ``None`` while one is."""
        self._check()
        return None if self._absent_since is None else max(0.0, time.monotonic() - self._absent_since)

    def versions(self) -> list[dict[str, str]]:
        """The different sets of versions of clients that are connected, or have registered a moment ago."""
        self._forget()
        clients = self._scheduler.clients
        present = (
            compared_versions(clients[name].versions) for name in self._scheduler.client_comms if name in clients
        )
        return distinct([*present, *(versions for _, versions in self._registered.values())])

    def _check(self) -> None:
        # Its ``clients`` are also what keeps results: published datasets, queues, variables, ``fire_and_forget``.
        if any(_is_client(name) for name in self._scheduler.client_comms):
            self._absent_since = None
        elif self._absent_since is None:
            self._absent_since = time.monotonic()

    def _registers(self, client: str = "", versions: dict[str, Any] | None = None, **_: Any) -> None:
        found, now = compared_versions(versions or {}), time.monotonic()
        self._forget()
        if len(self._registered) < MOST_SETS or repr(found) in self._registered:
            self._registered[repr(found)] = now, found
        if self._absent_since is not None and _is_client(client):
            self._absent_since = now  # it may have left again before the next check

    def _forget(self) -> None:
        recent = time.monotonic() - TOLD_SECONDS
        self._registered = {key: seen for key, seen in self._registered.items() if seen[0] >= recent}


def _is_client(name: str) -> bool:
    """Whether a connection is that of a client that is no worker's, by its key."""
    return "-worker-" not in name
