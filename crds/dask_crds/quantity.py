"""Kubernetes quantities (``500m``, ``4Gi``) as exact numbers.

Grammar: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
import reprlib
from decimal import Decimal, InvalidOperation

_DECIMAL = {suffix: Decimal(10) ** (3 * power) for power, suffix in enumerate(("n", "u", "m", "", "k", *"MGTPE"), -3)}
_BINARY = {f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", 1)}
_SUFFIXES = _DECIMAL | _BINARY
#: Kubernetes takes whatever is larger for this.
_MOST = Decimal(2**63 - 1)
#: A quantity that is an amount of something, as a pattern of JSON Schema.
AMOUNT = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
# Exponents come before suffixes: `1E3` is a thousand, `1E` an exa. A digit fits in one place only, or else the time for
# what is no quantity would grow with the square of its length.
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?P<suffix>[numkMGTPE]|[KMGTPE]i)?"
)


def parse_quantity(quantity: str | int | float) -> Decimal:
    """The number that a quantity stands for: CPUs of ``"500m"`` (0.5), bytes of ``"1Ki"`` (1024).

    As in Kubernetes, it never exceeds 2^63 - 1, whatever is written.

    Raises:
        ValueError: not a quantity.
    """
    match = _QUANTITY.fullmatch(str(quantity))
    try:
        if match is None or (match["suffix"] and "e" in match["number"].lower()):
            raise ValueError
        number = Decimal(match["number"])
    except (ValueError, InvalidOperation):  # the latter of an exponent that no Decimal can have
        raise ValueError(f"{reprlib.repr(quantity)} is not a Kubernetes quantity such as 500m, 1.5 or 4Gi") from None
    return _bounded(_bounded(number) * _SUFFIXES[match["suffix"] or ""])


def _bounded(number: Decimal) -> Decimal:
    return max(-_MOST, min(number, _MOST))


def not_whole(number: float) -> str:
    """What to say of a number where the API server takes whole ones and text only."""
    return f"must be a whole number or text, not {number!r}: put it in quotes, '{number!r}'"
