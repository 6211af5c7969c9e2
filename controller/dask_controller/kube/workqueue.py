"""The work queue: which keys have to be reconciled, and when. The rules are those of client-go's workqueue, and turns.

A key waits once however often it is added, is worked on by one worker at a time, and goes to the end of its line when
it comes back: no key can keep others from their turn. Nor can a tenant; and what a user waits for goes first: `Turns`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple

from .turns import K, Tenant, Turn, Turns

logger = logging.getLogger(__name__)

#: Works on a key. Returns the seconds after which to look again though nothing was added, ``None`` for no such need.
Reconcile = Callable[[K], Awaitable[float | None]]
#: How that ended; the words are controller-runtime's.
Result = Literal["success", "requeue_after", "error"]
#: Called then with the key, the result, and the seconds that the key had waited and was worked on.
OnDone = Callable[[K, Result, float, float], None]


class _Active(NamedTuple, Generic[K]):
    """What a worker is at."""

    turn: Turn[K]
    since: float


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

    A key is prompt if a user waits for it. What has been said once holds until the key's next start, whatever else
    brings that about. What follows, the next attempt after a failure too, is upkeep unless it is said again.

    Args:
        tenant: see `Tenant`.
        reserved: workers that only prompt keys get; one is for all.
        per_tenant: workers that a tenant gets at most, but at least one; ``None`` for no bound.
        first_delay: seconds before a key that failed is tried again; doubled with each failure in a row.
        longest_delay: seconds that this grows to.
        jitter: part by which the delay is made longer at random, so that what failed together comes back apart.
        expected: exceptions that are logged without a traceback.
        log_fields: what a line of the log about a key has besides its text.
        on_done: see `OnDone`.
    """

    def __init__(
        self,
        *,
        tenant: Tenant[K] = lambda _key: None,
        reserved: int = 0,
        per_tenant: int | None = None,
        first_delay: float = 0.2,
        longest_delay: float = 300.0,
        jitter: float = 0.2,
        expected: type[Exception] | tuple[type[Exception], ...] = (),
        log_fields: Callable[[K], Mapping[str, Any]] = lambda _: {},
        on_done: OnDone[K] = lambda _key, _result, _waited, _worked: None,
    ) -> None:
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._jitter = jitter
        self._expected = expected
        self._log_fields = log_fields
        self._on_done = on_done
        self._turns = Turns(tenant, reserved=reserved, per_tenant=per_tenant)
        self._waiting: OrderedDict[K, float] = OrderedDict()  # since when, the oldest first
        self._active: dict[K, _Active[K]] = {}
        self._dirty: set[K] = set()  # active, and added meanwhile
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._prompt: set[K] = set()  # whose next start a user waits for
        self._failures: dict[K, int] = {}  # in a row
        self._tasks: set[asyncio.Task[None]] = set()
        self._run: _Run[K] | None = None
        self._progress = 0.0  # when a reconcile ended last, or there was nothing to do
        self._closed = asyncio.Event()

    # --- what is to be done -------------------------------------------------------------------------------------------

    def add(self, key: K, *, prompt: bool = False) -> None:
        """Have ``key`` reconciled as soon as it is its turn.

        Args:
            key: what to reconcile.
            prompt: a user waits for it.
        """
        if self._closed.is_set():
            return
        if prompt:
            self._prompt.add(key)
        if key in self._active:
            self._dirty.add(key)
        elif prompt or key not in self._waiting:
            now = _now()
            if not self._waiting and not self._active:
                self._progress = now
            self._waiting.setdefault(key, now)
            self._turns.add(key, key in self._prompt)
            self._start()

    def add_after(self, key: K, seconds: float, *, prompt: bool = False) -> None:
        """Have ``key`` reconciled in ``seconds``, unless that happens earlier anyway.

        Args:
            key: what to reconcile.
            seconds: from now.
            prompt: a user waits for it; also if it happens earlier.
        """
        if seconds <= 0 or key in self._waiting:
            self.add(key, prompt=prompt)
            return
        if self._closed.is_set():
            return
        if prompt:
            self._prompt.add(key)
        due = _now() + seconds
        planned = self._later.get(key)
        if planned is not None:
            if planned.when() <= due:
                return
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
        while run and not self._closed.is_set() and (turn := self._turns.take(run.workers)):
            key, now = turn.key, _now()
            since = self._waiting.pop(key)
            planned = self._later.pop(key, None)
            if planned is not None:
                planned.cancel()
            self._prompt.discard(key)
            self._active[key] = _Active(turn, now)
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
            turn, since = self._active.pop(key)
            self._turns.done(turn)
            self._progress = _now()
            worked = self._progress - since
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
        # Once is nothing: somebody was quicker, or the server is busy.
        level = logging.INFO if traceback is None and not failures else logging.WARNING
        words, fields = str(error) or type(error).__name__, self._log_fields(key)
        logger.log(level, "%s: %s; again in %.1f s", key, words, delay, exc_info=traceback, extra=fields)
        return delay

    # --- how it is going ----------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether keys that are added are worked on: between the begin of `run` and its end."""
        return self._run is not None

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Keys that are being reconciled."""
        return len(self._active)

    def is_prompt(self, key: K) -> bool:
        """Whether ``key`` is being reconciled because a user waits for it."""
        return key in self._active and self._active[key].turn.prompt

    def oldest_seconds(self) -> float:
        """How long the key that came first has been waiting. Whose it is may be why: see `idle_seconds`."""
        return _now() - next(iter(self._waiting.values())) if self._waiting else 0.0

    def longest_running_seconds(self) -> float:
        """How long the slowest worker has been at its key."""
        return _now() - min(active.since for active in self._active.values()) if self._active else 0.0

    def idle_seconds(self) -> float:
        """For how long no reconcile has ended though there was something to do; 0 if there is nothing to do.

        However long somebody has to wait, this is small while anything at all gets done.
        """
        return _now() - self._progress if self._waiting or self._active else 0.0


def _now() -> float:
    return asyncio.get_running_loop().time()
