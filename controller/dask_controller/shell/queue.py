"""A work queue of keys: each once, one worker a key at a time, backoff after failures.

The shape is client-go's ``workqueue``; kopf's own queue keeps every event and is per object.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 300.0


class Queue(Generic[K]):
    """Keys that are due, in the order in which they became due, so that no key waits for another's thousand Pods.

    Args:
        reconcile: brings one key up to date; returns the seconds after which to look again, or ``None``.
        observe: told key, seconds taken and the error, if any, after each call.
    """

    def __init__(
        self,
        reconcile: Callable[[K], Awaitable[float | None]],
        *,
        observe: Callable[[K, float, BaseException | None], None] = lambda *_: None,
    ) -> None:
        self._reconcile = reconcile
        self._observe = observe
        self._due: asyncio.Queue[K] = asyncio.Queue()
        self._since: dict[K, float] = {}  # due keys, and since when
        self._active: set[K] = set()
        self._again: set[K] = set()  # became due while active
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._since)

    def oldest_seconds(self) -> float:
        """How long the first key has waited."""
        return time.monotonic() - min(self._since.values(), default=time.monotonic())

    def add(self, key: K, delay: float = 0.0) -> None:
        """Make ``key`` due after ``delay`` seconds; the earliest time asked for wins."""
        if delay > 0:
            self._add_after(key, delay)
            return
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        elif key not in self._since:
            self._since[key] = time.monotonic()
            self._due.put_nowait(key)

    def _add_after(self, key: K, delay: float) -> None:
        if key in self._since or key in self._again:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + delay:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self.add, key)

    async def run(self, workers: int = 16) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._due.get()
            del self._since[key]
            self._active.add(key)
            began = time.monotonic()
            again: float | None
            try:
                again = await self._reconcile(key)
                self._failures.pop(key, None)
                self._observe(key, time.monotonic() - began, None)
            except Exception as error:
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                again = min(FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 20), LONGEST_BACKOFF_SECONDS)
                again *= random.uniform(0.8, 1.2)
                logger.warning("%s: %s: %s; again in %.1f s", key, type(error).__name__, error, again)
                self._observe(key, time.monotonic() - began, error)
            finally:
                self._active.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif again is not None:
                self.add(key, max(again, 0.001))

    @property
    def idle(self) -> bool:
        """Whether nothing is due or being worked on; what is planned for later does not count."""
        return not self._since and not self._active and not self._again
