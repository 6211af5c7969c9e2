"""A process that is one of several replicas: who it is, and what ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import sys
from collections.abc import Coroutine, Iterable
from typing import Any

from .client import Kubernetes
from .informer import Informer
from .lease import Lease
from .workqueue import Queue

#: Seconds in which nothing at all gets done though there is something to do, or a watch is silent: then reconciling has
#: stopped. That somebody waits for so long is no reason to restart for all.
STUCK_SECONDS = 300.0

logger = logging.getLogger(__name__)


def own_lease(kubernetes: Kubernetes, name: str) -> Lease:
    """The Lease of that name in this process's namespace; exits where that is not known."""
    namespace = os.environ.get("POD_NAMESPACE")
    if not namespace:
        sys.exit("--leader-elect needs the environment variable POD_NAMESPACE")
    return Lease(kubernetes, namespace, name, identity())


def identity() -> str:
    """Unique to this process: a container that restarts in its Pod must not take itself for the old leader."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"


def supervise(work: Coroutine[Any, Any, None], ending: str) -> asyncio.Task[None]:
    """Run ``work`` in the background; when it ends, so does the process, and Kubernetes starts it anew."""
    task = asyncio.get_running_loop().create_task(work, name=ending)
    task.add_done_callback(die)
    return task


def die(task: asyncio.Task[None]) -> None:
    """End the process, unless ``task`` was cancelled."""
    if not task.cancelled():
        logger.critical("%s: %r", task.get_name(), task.exception())
        os._exit(1)


def trouble(queue: Queue[Any], informers: Iterable[Informer[Any]]) -> str | None:
    """Why the process should be restarted: it is stuck, or deaf; None while its caches are being filled."""
    if queue.idle_seconds() > STUCK_SECONDS:
        return f"nothing has been reconciled for {queue.idle_seconds():.0f} s, though there is something to do"
    followed = list(informers)
    if not all(informer.synced.is_set() for informer in followed):
        return None
    silent = [informer.resource.plural for informer in followed if informer.age_seconds() > STUCK_SECONDS]
    return f"nothing heard of {', '.join(silent)}" if silent else None
