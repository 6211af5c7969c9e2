"""Questions to Dask schedulers, put outside of the queue: whoever asks one keeps nobody waiting.

A reconcile leaves its question here and ends. One poller per scheduler puts the questions of all that belong to its
cluster in one request, again and again for as long as they are asked, and wakes those for whom the answer is new. A
scheduler that does not answer is left alone for a while, and costs one connection while it is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from ..core.questions import Answers, Ask
from .answers import Reply, Request, SchedulerError
from .client import SchedulerClient
from .signing import Key

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

#: Seconds for which a scheduler that did not answer is left alone: doubled with each time in a row.
FIRST_REST = 5.0
LONGEST_REST = 60.0
#: Seconds after which an asker is told that there is no answer yet; and the age up to which one that was asked for
#: once, or must be fresh, is of use: an idle cluster may be at work again by then.
PATIENCE = 10.0
FRESH = 5.0
#: Requests under way at a time for the schedulers of one namespace: those that have answered or were not asked yet,
#: and those that were silent. The silent ones take seconds each; let the others not wait for them.
SPEAKING, SILENT = 32, 8


class Address(NamedTuple):
    """The life of a scheduler, and where it is reached; another one after each restart, and when it becomes ready."""

    namespace: str
    life: str
    url: str
    keys: tuple[Key, ...] = ()  #: one of which it has; empty if it takes orders unsigned


@dataclass(eq=False)
class _Interest:
    """What somebody wants to know."""

    ask: Ask
    since: float
    due: float  #: when it is to be asked next
    prompt: bool  #: whether a user waits for it
    answers: Answers | None = None
    answered_at: float = 0.0

    @property
    def is_current(self) -> bool:
        """Whether the answer is renewed by itself, or says that there is none."""
        return self.ask.every is not None or self.is_silent

    @property
    def is_silent(self) -> bool:
        """Whether the answer is that there is none."""
        return self.answers is not None and bool(self.answers.silent)


@dataclass(eq=False)
class _Poller(Generic[K]):
    """The questions to one scheduler."""

    address: Address
    scheduler: SchedulerClient
    interests: dict[K, _Interest] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    silent: str = ""  #: why the last request was not answered
    failures: int = 0  #: in a row
    resting_until: float = 0.0
    reply: Reply | None = None
    request: Request | None = None  #: that it answers
    task: asyncio.Task[None] | None = None

    def put(self, asks: tuple[Ask, ...]) -> Request:
        """The request with these, the same object as long as they are the same."""
        if self.request is None or self.request.asks != asks:
            self.request, self.reply = Request(asks), None
        return self.request


class SchedulerPollers(Generic[K]):
    """What planners want to know of schedulers.

    The scheduler's Pod rather than its Service is asked, so that an answer is known to come from the scheduler that was
    observed.

    Args:
        wake: called with an asker for whom there is something new, and whether a user waits for it.
        client: makes the client of the scheduler at an address.
    """

    def __init__(
        self,
        wake: Callable[[K, bool], None],
        client: Callable[[Address], SchedulerClient] = lambda address: SchedulerClient(address.url, keys=address.keys),
    ) -> None:
        self._wake = wake
        self._client = client
        self._pollers: dict[Address, _Poller[K]] = {}
        self._asked: dict[K, _Poller[K]] = {}
        self._in_namespace = Counter[str]()  # pollers
        self._turns: dict[tuple[str, bool], asyncio.Semaphore] = {}

    def answer(self, key: K, address: Address | None, ask: Ask, *, prompt: bool = False) -> Answers | None:
        """The scheduler's answers; ``None``: they are being asked for, and `wake` will tell.

        Args:
            key: who asks; one question each, that replaces the one before.
            address: the scheduler; ``None`` if it has none yet.
            ask: the question.
            prompt: whether a user waits for the answer.
        """
        if address is None:
            self.forget(key)
            return Answers(silent="the scheduler has no address yet")
        poller, now = self._poller(key, address), _now()
        interest = poller.interests.get(key)
        if interest is None or interest.ask != ask:
            interest = poller.interests[key] = _Interest(ask, since=now, due=now, prompt=prompt)
            if poller.silent:
                interest.answers = Answers(silent=poller.silent)
            poller.changed.set()
        interest.prompt |= prompt
        if interest.answers is None:
            late = now - interest.since >= PATIENCE
            return Answers(silent="the scheduler has not answered yet") if late else None
        if not interest.is_current:
            self.forget(key)  # asked for once, used once
            if now - interest.answered_at > FRESH:
                return self.answer(key, address, ask, prompt=prompt)
        elif ask.fresh and not interest.is_silent and now - interest.answered_at > FRESH:
            interest.answers, interest.since, interest.due = None, now, now
            poller.changed.set()
        return interest.answers

    def forget(self, key: K) -> None:
        """``key`` does not want to know anything any more."""
        poller = self._asked.pop(key, None)
        if poller is None:
            return
        poller.interests.pop(key, None)
        if not poller.interests:
            poller.changed.set()  # it ends

    @property
    def silent(self) -> int:
        """Schedulers that did not answer when they were asked last."""
        return sum(1 for poller in self._pollers.values() if poller.silent)

    @property
    def asked(self) -> int:
        """Schedulers of whom somebody wants to know something."""
        return len(self._pollers)

    async def close(self) -> None:
        """Stop asking."""
        tasks = [poller.task for poller in self._pollers.values() if poller.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _poller(self, key: K, address: Address) -> _Poller[K]:
        """The poller of a scheduler, to which ``key`` belongs from now on."""
        poller = self._pollers.get(address)
        if poller is None:
            poller = self._pollers[address] = _Poller(address, self._client(address))
            self._in_namespace[address.namespace] += 1
            poller.task = asyncio.get_running_loop().create_task(self._poll(poller), name=f"asking {address.url}")
        if self._asked.get(key) is not poller:
            self.forget(key)
            self._asked[key] = poller
        return poller

    async def _poll(self, poller: _Poller[K]) -> None:
        """Put what is due for as long as somebody asks."""
        try:
            while poller.interests:
                poller.changed.clear()
                due = max(min(interest.due for interest in poller.interests.values()), poller.resting_until)
                if due > _now():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(min(due, _now() + 3600)):
                            await poller.changed.wait()
                    continue
                async with self._turn(poller):
                    await self._put(poller)
        finally:
            poller.scheduler.close()
            self._end(poller.address)

    def _end(self, address: Address) -> None:
        del self._pollers[address]
        self._in_namespace[address.namespace] -= 1
        if not self._in_namespace[address.namespace]:
            del self._in_namespace[address.namespace]
            for silent in (False, True):
                self._turns.pop((address.namespace, silent), None)

    async def _put(self, poller: _Poller[K]) -> None:
        """One request with all that is due, and word to those for whom the answer is new."""
        now = _now()
        due = {key: interest for key, interest in poller.interests.items() if interest.due <= now}
        if not due:
            return  # forgotten meanwhile
        request = poller.put(tuple(interest.ask for interest in due.values()))
        try:
            poller.reply = await poller.scheduler.put(request, poller.reply)
        except SchedulerError as error:
            self._rests(poller, str(error))
            return
        except Exception:  # whatever a stranger answers: the others are to be asked all the same
            logger.exception("asking %s", poller.address.url)
            self._rests(poller, "the scheduler cannot be asked because of an error of the operator")
            return
        poller.silent, poller.failures, now = "", 0, _now()
        for (key, interest), answers in zip(due.items(), poller.reply.answers, strict=True):
            interest.due = float("inf") if interest.ask.every is None else now + interest.ask.every
            self._told(poller, key, interest, answers, now)

    def _rests(self, poller: _Poller[K], why: str) -> None:
        """Leave a scheduler alone that did not answer; everybody who asks is told so."""
        rest = min(FIRST_REST * 2.0 ** min(poller.failures, 10), LONGEST_REST) * random.uniform(1.0, 1.2)
        poller.silent, poller.failures, poller.reply = why, poller.failures + 1, None
        poller.resting_until = now = _now() + rest
        for key, interest in list(poller.interests.items()):
            interest.due = now
            self._told(poller, key, interest, Answers(silent=why), now)

    def _told(self, poller: _Poller[K], key: K, interest: _Interest, answers: Answers, now: float) -> None:
        interest.answered_at = now
        if poller.interests.get(key) is not interest or interest.answers == answers:
            return
        interest.answers = answers
        self._wake(key, interest.prompt)
        interest.prompt = False

    # --- turns --------------------------------------------------------------------------------------------------------

    def _turn(self, poller: _Poller[K]) -> asyncio.Semaphore:
        """What bounds the requests of a namespace that are under way."""
        silent = bool(poller.silent)
        lane = poller.address.namespace, silent
        if lane not in self._turns:
            self._turns[lane] = asyncio.Semaphore(SILENT if silent else SPEAKING)
        return self._turns[lane]


def _now() -> float:
    return asyncio.get_running_loop().time()
