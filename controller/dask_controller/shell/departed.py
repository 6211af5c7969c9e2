"""Pods that have gone, for as long as an account of what they used may not have been written."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from ..core.pod import Pod
from ..core.time import Time
from ..core.usage import Stay, stay

#: For how long they are remembered: status accounts for them within moments, if it can be written at all.
GONE_SECONDS = 3600.0
#: How many of them.
MOST_GONE = 20_000


class Departed:
    """The stays of Pods that have gone, by who controlled them; ``clock`` tells seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._by_owner: dict[tuple[str, str], dict[str, Stay]] = {}
        self._order: OrderedDict[str, tuple[tuple[str, str], Time]] = OrderedDict()

    def add(self, pod: Pod) -> None:
        """Take note that a Pod has gone just now."""
        now = self._clock()
        owner = pod.namespace, pod.owner_uid
        self._by_owner.setdefault(owner, {})[pod.uid] = stay(pod, now)
        self._order[pod.uid] = owner, now
        while len(self._order) > MOST_GONE or next(iter(self._order.values()))[1] < now - GONE_SECONDS:
            uid, (of, _) = self._order.popitem(last=False)
            stays = self._by_owner.get(of, {})
            stays.pop(uid, None)
            if not stays:
                self._by_owner.pop(of, None)

    def of(self, namespace: str, owner_uid: str) -> tuple[Stay, ...]:
        """Those that an object controlled."""
        return tuple(self._by_owner.get((namespace, owner_uid), {}).values())
