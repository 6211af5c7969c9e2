"""What can be measured: the first line of each function's text is what the command line says of it."""

from __future__ import annotations

from collections.abc import Callable

from ..measure import Bench
from . import asleep, changed, encrypted, faults, memory, neighbours, queued, scale, schedulers

Scenario = Callable[[Bench], None]

#: In the order of a whole run: what is cheap comes first, as a run may be cut.
SCENARIOS: dict[str, Scenario] = {
    "workers": scale.workers,
    "clusters": scale.clusters,
    "beside": neighbours.beside,
    "idle": memory.idle,
    "memory": memory.per_pod,
    "large": memory.large,
    "absurd": faults.absurd,
    "asked": schedulers.asked,
    "silent": schedulers.silent,
    "queued": queued.queued,
    "encrypted": encrypted.encrypted,
    "asleep": asleep.asleep,
    "killed": faults.killed,
    "behind": neighbours.behind,
    "largest": scale.largest,
    "changed": changed.changed,
}
#: What `--brief` leaves.
BRIEF = ("workers", "clusters")


def line(scenario: Scenario) -> str:
    """What a scenario measures."""
    return (scenario.__doc__ or "").partition("\n")[0].rstrip(".")
