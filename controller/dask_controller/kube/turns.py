"""Whose turn it is: what a user waits for goes first, and no tenant keeps others from theirs."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)

#: Says whose a key is; always the same for the same key.
Tenant = Callable[[K], Hashable]

#: Of so many starts that prompt and upkeep both could have, one is upkeep's: it is late then, but not forgotten.
UPKEEP_EVERY = 4


class Turn(NamedTuple, Generic[K]):
    """A key that may start.

    Attributes:
        key: what to reconcile.
        tenant: whose it is.
        prompt: whether a user waits for it.
    """

    key: K
    tenant: Hashable
    prompt: bool


class Turns(Generic[K]):
    """Whose turn it is, and who has to wait though a worker is free.

    A key is *prompt* if a user waits for it, else *upkeep*. In each of the two classes tenants take turns, and a
    tenant's keys go in the order in which they came. Prompt goes before upkeep, but for one start in `UPKEEP_EVERY`.

    A turn may take long. So the tenant with the fewest workers at keys of the class goes first; only among equals it is
    who has waited longest for a turn. A key waits for what its own tenant has under way or has put before it, and for
    one turn of each other tenant, however much those add and however long that takes. And some workers are kept from
    upkeep, and each tenant from some: what a user waits for finds one free, and a newcomer soon.

    A step costs the same however many keys wait: it looks at no more tenants than there are workers.

    Args:
        tenant: see `Tenant`.
        reserved: workers that upkeep does not get; it always gets one.
        per_tenant: workers that a tenant gets at most, but at least one; ``None`` for no bound.
    """

    def __init__(self, tenant: Tenant[K], *, reserved: int = 0, per_tenant: int | None = None) -> None:
        self._tenant = tenant
        self._reserved = reserved
        self._per_tenant = math.inf if per_tenant is None else max(1, per_tenant)
        # Of each class, by whether it is prompt: keys by tenant, in the order of turns, and busy workers by tenant.
        self._lines: dict[bool, OrderedDict[Hashable, OrderedDict[K, None]]]
        self._lines = {True: OrderedDict(), False: OrderedDict()}
        self._busy: dict[bool, Counter[Hashable]] = {True: Counter(), False: Counter()}
        self._contests = 0  # starts that both classes could have had, modulo UPKEEP_EVERY

    def add(self, key: K, prompt: bool) -> None:
        """Let ``key`` wait for its turn. If it does so already, it moves up if it now is prompt, and never down."""
        tenant = self._tenant(key)
        if prompt and key in self._lines[False].get(tenant, ()):
            self._remove(Turn(key, tenant, False))
        if prompt or key not in self._lines[True].get(tenant, ()):
            self._lines[prompt].setdefault(tenant, OrderedDict())[key] = None

    def take(self, workers: int) -> Turn[K] | None:
        """What one of ``workers`` starts now, until `done`; ``None`` if nothing may start."""
        at_upkeep = self._busy[False].total()
        if self._busy[True].total() + at_upkeep >= workers:
            return None
        prompt = self._first(True)
        upkeep = self._first(False) if at_upkeep < max(1, workers - self._reserved) else None
        turn = prompt or upkeep
        if prompt and upkeep:
            self._contests = (self._contests + 1) % UPKEEP_EVERY
            turn = prompt if self._contests else upkeep
        if turn:
            self._lines[turn.prompt].move_to_end(turn.tenant)
            self._remove(turn)
            self._busy[turn.prompt][turn.tenant] += 1
        return turn

    def done(self, turn: Turn[K]) -> None:
        """The worker is free again."""
        busy = self._busy[turn.prompt]
        busy[turn.tenant] -= 1
        if not busy[turn.tenant]:
            del busy[turn.tenant]

    def _first(self, prompt: bool) -> Turn[K] | None:
        """Whose turn it is in this class."""
        first, fewest = None, math.inf
        busy, elsewhere = self._busy[prompt], self._busy[not prompt]
        for tenant, keys in self._lines[prompt].items():
            if busy[tenant] < fewest and busy[tenant] + elsewhere[tenant] < self._per_tenant:
                first, fewest = Turn(next(iter(keys)), tenant, prompt), busy[tenant]
                if not fewest:  # nobody has less; whom we have passed over has a worker
                    break
        return first

    def _remove(self, turn: Turn[K]) -> None:
        tenants = self._lines[turn.prompt]
        del tenants[turn.tenant][turn.key]
        if not tenants[turn.tenant]:
            del tenants[turn.tenant]
