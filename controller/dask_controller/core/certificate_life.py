"""When a certificate that the operator makes begins and ends: a function of its cluster's age.

So whether it has to be renewed is known without reading it.
"""

from __future__ import annotations

import math

from msgspec import Struct

from .time import Time

#: How long a certificate lasts. A program that has loaded one has a third of that left at least, and what runs for
#: longer takes the next one as it runs, but for runners and other clients.
LIFE_SECONDS = 360 * 86400.0
#: The next one is there from here on.
RENEWED_AFTER_SECONDS = LIFE_SECONDS * 2 / 3
#: Clocks of nodes may be slow.
BACKDATED_SECONDS = 3600.0


class Life(Struct, frozen=True):
    """From when to when a certificate is valid."""

    not_before: Time
    not_after: Time


def life_until(end: Time) -> Life:
    """That of the certificate that ends then."""
    return Life(end - LIFE_SECONDS - BACKDATED_SECONDS, end)


def life_at(now: Time, created: Time) -> Life:
    """That of the certificate that a cluster, created then, has now."""
    begin = created + max(0, math.floor((now - created) / RENEWED_AFTER_SECONDS)) * RENEWED_AFTER_SECONDS
    return life_until(begin + LIFE_SECONDS)
