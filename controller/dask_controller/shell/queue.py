"""The work queue: which keys have to be reconciled, and when. The rules are those of client-go's workqueue.

A key waits once however often it is added, is worked on by one worker at a time, and goes to the end of the queue when
it comes back: no key can keep others from their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

#: Works on a key. Returns the seconds after which to look again though nothing was added, ``None`` for no such need.
Reconcile = Callable[[K], Awaitable[float | None]]
#: How that ended; the words are controller-runtime's.
Result = Literal["success", "requeue_after", "error"]
#: Called then with the key, the result, and the seconds that the key had waited and was worked on.
OnDone = Callable[[K, Result, float, float], None]


@dataclass
class _Run(Generic[K]):
    """What is being done."""

    reconcile: Reconcile[K]
    workers: int
    group: asyncio.TaskGroup


class Queue(Generic[K]):
    """Keys to reconcile.

    A reconcile looks at everything anew. So one that starts takes back what was planned for its key for later, and what
    it returns, or what is added meanwhile, is planned instead.

    Args:
        first_delay: seconds before a key that failed is tried again; doubled with each failure in a row.
        longest_delay: seconds that this grows to.
        jitter: part by which the delay is made longer at random, so that what failed together comes back apart.
        expected: exceptions that are logged without a traceback.
        on_done: see `OnDone`.
    """

    def __init__(
        self,
        *,
        first_delay: float = 0.2,
        longest_delay: float = 300.0,
        jitter: float = 0.2,
        expected: type[Exception] | tuple[type[Exception], ...] = (),
        on_done: OnDone[K] = lambda _key, _result, _waited, _worked: None,
    ) -> None:
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._jitter = jitter
        self._expected = expected
        self._on_done = on_done
        self._waiting: OrderedDict[K, float] = OrderedDict()  # since when, in the order of their turns
        self._active: dict[K, float] = {}  # since when
        self._dirty: set[K] = set()  # active, and added meanwhile
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}  # in a row
        self._tasks: set[asyncio.Task[None]] = set()
        self._run: _Run[K] | None = None
        self._closed = asyncio.Event()

    # --- what is to be done -------------------------------------------------------------------------------------------

    def add(self, key: K) -> None:
        """Have ``key`` reconciled as soon as it is its turn."""
        if self._closed.is_set():
            return
        if key in self._active:
            self._dirty.add(key)
        elif key not in self._waiting:
            self._waiting[key] = _now()
            self._start()

    def add_after(self, key: K, seconds: float) -> None:
        """Have ``key`` reconciled in ``seconds``, unless that happens earlier anyway."""
        if seconds <= 0:
            self.add(key)
            return
        due = _now() + seconds
        planned = self._later.get(key)
        if self._closed.is_set() or key in self._waiting or (planned is not None and planned.when() <= due):
            return
        if planned is not None:
            planned.cancel()
        self._later[key] = asyncio.get_running_loop().call_at(due, self._due, key)

    def _due(self, key: K) -> None:
        del self._later[key]
        self.add(key)

    # --- doing it -----------------------------------------------------------------------------------------------------

    async def run(self, reconcile: Reconcile[K], *, workers: int = 16) -> None:
        """Reconcile what is added, ``workers`` keys at a time, until `drain` or cancelled."""
        async with asyncio.TaskGroup() as group:
            self._run = _Run(reconcile, workers, group)
            self._start()
            try:
                await self._closed.wait()
            finally:
                self._run = None

    async def drain(self, timeout_seconds: float) -> bool:
        """Start nothing more and wait for what is being done; what takes longer is cancelled.

        Returns:
            Whether all of it came to an end by itself.
        """
        self._closed.set()
        if not self._tasks:
            return True
        _, late = await asyncio.wait(self._tasks, timeout=timeout_seconds)
        for task in late:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*late, return_exceptions=True)
        return not late

    def _start(self) -> None:
        """Give free workers their next keys."""
        run = self._run
        while run and self._waiting and len(self._active) < run.workers and not self._closed.is_set():
            key, since = self._waiting.popitem(last=False)
            planned = self._later.pop(key, None)
            if planned is not None:
                planned.cancel()
            now = _now()
            self._active[key] = now
            task = run.group.create_task(self._work(run.reconcile, key, now - since))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, reconcile: Reconcile[K], key: K, waited: float) -> None:
        result: Result
        try:
            after = await reconcile(key)
            self._failures.pop(key, None)
            result = "success" if after is None else "requeue_after"
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and (self._run is None or self._closed.is_set()):
                raise  # it was us
            after = self._failed(key, error)
            result = "error"
        finally:
            worked = _now() - self._active.pop(key)
        if key in self._dirty:
            self._dirty.remove(key)
            self.add(key)
        elif after is not None:
            self.add_after(key, after)
        self._start()
        self._on_done(key, result, waited, worked)

    def _failed(self, key: K, error: BaseException) -> float:
        """Seconds until the next attempt."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._first_delay * 2.0 ** min(failures, 64), self._longest_delay)
        delay *= random.uniform(1.0, 1.0 + self._jitter)
        traceback = None if isinstance(error, self._expected) else error
        logger.warning("%s: %s; again in %.1f s", key, error or type(error).__name__, delay, exc_info=traceback)
        return delay

    # --- how it is going ----------------------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Keys that are being reconciled."""
        return len(self._active)

    def oldest_seconds(self) -> float:
        """How long the first key has been waiting."""
        return _now() - next(iter(self._waiting.values())) if self._waiting else 0.0

    def longest_running_seconds(self) -> float:
        """How long the slowest worker has been at its key."""
        return _now() - min(self._active.values()) if self._active else 0.0


def _now() -> float:
    return asyncio.get_running_loop().time()
