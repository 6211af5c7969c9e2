"""How many workers a rolling update may have too many, and too few."""

from __future__ import annotations

import math
from collections.abc import Callable

from msgspec import Struct

from dask_crds.model import RollingUpdate, UpdateStrategy


class Bounds(Struct, frozen=True):
    """Bounds of a rolling update, in Pods."""

    surge: int
    unavailable: int


def bounds(strategy: UpdateStrategy | None, desired: int) -> Bounds:
    """``maxSurge`` rounds up, ``maxUnavailable`` rounds down, and both are never zero, as in a Deployment."""
    rolling = (strategy and strategy.rolling_update) or RollingUpdate()
    surge = _pods(rolling.effective("max_surge"), desired, math.ceil)
    unavailable = _pods(rolling.max_unavailable or 0, desired, math.floor)
    return Bounds(surge or (0 if unavailable else 1), unavailable)


def in_place(strategy: UpdateStrategy | None, desired: int) -> Bounds:
    """The same where each worker needs quota, or a place: a new one takes that of the one that it replaces."""
    stated = (strategy and strategy.rolling_update and strategy.rolling_update.max_unavailable) or 0
    return Bounds(0, max(1, _pods(stated or "25%", desired, math.floor)))


def _pods(value: int | str, desired: int, rounded: Callable[[float], int]) -> int:
    # An object from before there was a bound may have a percentage of any length, or none at all.
    if isinstance(value, int):
        return max(0, value)
    digits = value.removesuffix("%")[:9]
    return rounded(desired * int(digits) / 100) if digits.isascii() and digits.isdecimal() else 0
