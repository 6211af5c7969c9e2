"""Short work first: what takes long stands back for it, now and then, but never for long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Courtesy:
    """Counts the short work that is under way, and lets long work wait for a gap in it.

    On a busy API server each request of a small cluster otherwise waits for those of a large one.

    Args:
        longest_wait: seconds after which long work goes on all the same.
    """

    def __init__(self, longest_wait: float = 0.05) -> None:
        self._longest_wait = longest_wait
        self._short = 0
        self._gap = asyncio.Event()
        self._gap.set()

    @contextlib.contextmanager
    def short(self) -> Iterator[None]:
        """What is done meanwhile is short work."""
        with self._counted(1):
            yield

    @contextlib.contextmanager
    def long(self) -> Iterator[None]:
        """Within `short`: this part is not."""
        with self._counted(-1):
            yield

    async def gap(self) -> None:
        """Return when no short work is under way, or it was waited for long enough."""
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
