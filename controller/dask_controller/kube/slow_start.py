"""Batches that grow as long as all goes well."""

from __future__ import annotations

import asyncio

#: Seconds for which it is believed that what went well does so still.
BELIEVED_SECONDS = 5.0
#: No batch has to grow beyond this.
LARGEST = 1024


class SlowStart:
    """Sizes of batches: 1, 2, 4, ... as kube-controller-manager has them; so an exhausted quota costs few calls.

    Who goes on within seconds, as with the next step of a long work, begins with the size that it had reached.
    """

    def __init__(self) -> None:
        self._reached: dict[str, tuple[int, float]] = {}  # by whose work it is: the next size, and until when

    def begin(self, whose: str) -> int:
        """Size of the first batch, and of each one until there is word of another."""
        size, until = self._reached.get(whose, (1, 0.0))
        return size if _now() < until else 1

    def went(self, whose: str, size: int, *, well: bool) -> int:
        """Size of the next batch after one of ``size``; after one that failed it starts anew."""
        now = _now()
        self._reached.pop(whose, None)
        while self._reached and next(iter(self._reached.values()))[1] <= now:  # they are in the order of their time
            del self._reached[next(iter(self._reached))]
        if not well:
            return 1
        larger = min(2 * size, LARGEST)
        self._reached[whose] = larger, now + BELIEVED_SECONDS
        return larger


def _now() -> float:
    return asyncio.get_running_loop().time()
