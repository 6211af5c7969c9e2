"""The scheduler's workers, by the Pods that they run in, and which of these cost least to close."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from dask_gitops_requests import Malformed, Pod, canonical

MOST_FOUND = 50_000  #: worker processes that one list of names stands for; several names may stand for the same ones

#: A name that the operator gave to a worker, and what may follow it, such as the number of a process.
_OPERATOR_NAME = re.compile(r"(.*-worker-[0-9]+-[0-9a-f]{5})(?:-.*)?", re.DOTALL)


class Workers:
    """The worker processes of a scheduler, by Pod."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._index: _Index | None = None

    def of(self, pods: Iterable[Pod]) -> dict[Pod, list[Any]]:
        """The worker processes of each Pod."""
        return (self._index or _Index(self._scheduler.workers.values())).find(pods)

    @contextmanager
    def indexed_once(self) -> Iterator[None]:
        """Index the workers once for the enclosed questions. The scheduler must not have a turn meanwhile."""
        self._index = _Index(self._scheduler.workers.values())
        try:
            yield
        finally:
            self._index = None

    def registered(self, pods: Iterable[Pod]) -> list[str]:
        """The names of the Pods that have a worker process."""
        return [pod.name for pod, processes in self.of(pods).items() if processes]

    def cheapest_first(self, pods: Iterable[Pod]) -> list[str]:
        """The names of the given Pods, in the order in which closing them costs least.

        First those that ``Scheduler.workers_to_close`` would take: idle, fewest bytes first. Then the others, by what
        they run. Last those that it would never take: with tasks that have seceded (``long_running``), with actors,
        or kept by a plugin, as P2P shuffles keep their workers.
        """
        found = self.of(pods)
        kept = self.kept_by_plugins(found)

        def cost(pod: Pod) -> tuple[bool, int, int]:
            processes = found[pod]
            return (
                any(ws.long_running or ws.actors or ws in kept for ws in processes),
                sum(len(ws.processing) for ws in processes),
                sum(ws.nbytes for ws in processes),
            )

        return [pod.name for pod in sorted(found, key=cost)]

    def kept_by_plugins(self, found: dict[Pod, list[Any]]) -> set[Any]:
        """Worker processes that a scheduler plugin keeps (``SchedulerPlugin.valid_workers_downscaling``)."""
        processes = list(chain.from_iterable(found.values()))
        free = processes
        for plugin in list(self._scheduler.plugins.values()):
            free = plugin.valid_workers_downscaling(self._scheduler, free)
        return set(processes).difference(free)


class _Index:
    """Worker processes by whatever identifies a Pod."""

    def __init__(self, workers: Iterable[Any]) -> None:
        self._by_name, self._by_base, self._by_host = defaultdict(list), defaultdict(list), defaultdict(list)
        self._operators_hosts: set[str] = set()  # addresses of workers that have their names from the operator
        for ws in workers:
            name, host = str(ws.name), canonical(ws.host)
            head, _, tail = name.rpartition("-")
            given = _OPERATOR_NAME.fullmatch(name)
            bases = {head if tail.isdecimal() else "", given[1] if given else ""} - {"", name}
            self._by_name[name].append(ws)
            for base in bases:
                self._by_base[base].append(ws)
            self._by_host[host].append(ws)
            if given:
                self._operators_hosts.add(host)

    def find(self, pods: Iterable[Pod]) -> dict[Pod, list[Any]]:
        """Those of each Pod: of its name; else ``<name>-<n>`` (``dask worker --nworkers``); else at its addresses.

        Addresses are for users who name workers their own way. Pods in their node's network share its address, and no
        worker there may be taken for another Pod's: none that is known by its name, nor several that need not be one's.
        """
        found = {pod: self._by_name.get(pod.name) or self._by_base.get(pod.name) or [] for pod in pods}
        unnamed = [pod for pod, processes in found.items() if pod.ips and not processes]
        claims = Counter(ip for pod in unnamed for ip in pod.ips)
        at_addresses = sum(claims[ip] * len(self._by_host.get(ip, ())) for ip in claims)
        if at_addresses + sum(map(len, found.values())) > MOST_FOUND:
            raise Malformed("too many worker processes: an address that Pods share stands for none of them")
        known = set(chain.from_iterable(found.values()))
        for pod in unnamed:
            ips = [ip for ip in pod.ips if claims[ip] == 1 and ip not in self._operators_hosts]
            processes = [ws for ip in ips for ws in self._by_host.get(ip, ()) if ws not in known]
            found[pod] = processes if pod.owns_ips or _can_be_one_pod(processes) else []
        return found


def _can_be_one_pod(processes: list[Any]) -> bool:
    """Whether there is only one worker process, or all are called ``<name>-<n>``."""
    names = [str(ws.name).rpartition("-") for ws in processes]
    return len(names) < 2 or (len({head for head, _, _ in names}) == 1 and all(tail.isdecimal() for *_, tail in names))
