"""Let short work overtake long work, which waits for no more than a moment each time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar


class ShortFirst:
    """Counts the short work that is under way, and lets other work wait for a gap in it.

    On a busy API server each request of a small cluster otherwise waits for those of a large one.

    Args:
        longest_wait: seconds after which other work goes on all the same.
    """

    def __init__(self, longest_wait: float = 0.05) -> None:
        self._longest_wait = longest_wait
        self._short = 0
        self._is_short = ContextVar("short", default=False)  # of the work that asks
        self._gap = asyncio.Event()
        self._gap.set()

    @contextlib.contextmanager
    def short(self) -> Iterator[None]:
        """Marks what is done in this context as short."""
        token = self._is_short.set(True)
        try:
            with self._counted(1):
                yield
        finally:
            self._is_short.reset(token)

    @contextlib.contextmanager
    def long(self) -> Iterator[None]:
        """Marks what is done in this context as long, even within `short`."""
        with self._counted(-1) if self._is_short.get() else contextlib.nullcontext():
            yield

    async def gap(self) -> None:
        """Return when no short work is under way, or it was waited for long enough. Short work does not wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._longest_wait):  # unlike `wait_for`, makes no task for each request
                await self._gap.wait()

    @contextlib.contextmanager
    def _counted(self, number: int) -> Iterator[None]:
        self._count(number)
        try:
            yield
        finally:
            self._count(-number)

    def _count(self, number: int) -> None:
        self._short += number
        if self._short:
            self._gap.clear()
        else:
            self._gap.set()
