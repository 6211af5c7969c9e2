"""Kubernetes quantities (``500m``, ``4Gi``) as exact numbers.

Grammar: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import Decimal

_DECIMAL = {suffix: Decimal(10) ** (3 * power) for power, suffix in enumerate(("n", "u", "m", "", "k", *"MGTPE"), -3)}
_BINARY = {f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", 1)}
_SUFFIXES = _DECIMAL | _BINARY
# Exponents come before suffixes: `1E3` is a thousand, `1E` an exa.
_QUANTITY = re.compile(r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?P<suffix>[numkMGTPE]|[KMGTPE]i)?")


def parse_quantity(quantity: str | int | float) -> Decimal:
    """The number that a quantity stands for: CPUs of ``"500m"`` (0.5), bytes of ``"1Ki"`` (1024).

    Raises:
        ValueError: not a quantity.
    """
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None or (match["suffix"] and "e" in match["number"].lower()):
        raise ValueError(f"{quantity!r} is not a Kubernetes quantity such as 500m, 1.5 or 4Gi")
    return Decimal(match["number"]) * _SUFFIXES[match["suffix"] or ""]
