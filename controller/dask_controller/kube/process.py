"""A process that is one of several replicas: who it is, and what ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import sys
from collections.abc import Coroutine
from typing import Any

from .client import Kubernetes
from .lease import Lease

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
