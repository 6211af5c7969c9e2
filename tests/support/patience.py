"""How long to wait for something, on machines that now and then stand still."""

from __future__ import annotations

import time


class Patience:
    """Lasts for some seconds, in turns.

    A turn counts for a few seconds at most. One that took longer was not spent on waiting: the machine was paused, or
    had no time for us, and neither had what is waited for.

    Args:
        seconds: how long it lasts.
    """

    LONGEST_TURN_SECONDS = 5.0

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._turn = time.monotonic()

    def lasts(self) -> bool:
        """Whether there is any left; to be asked at each turn."""
        now = time.monotonic()
        self._left -= min(now - self._turn, self.LONGEST_TURN_SECONDS)
        self._turn = now
        return self._left > 0
