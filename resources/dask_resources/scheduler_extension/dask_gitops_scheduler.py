"""Routes that the dask-gitops operator needs on a Dask scheduler: scale down without loss, and by group.

This file is mounted into the scheduler Pod and preloaded there by its path (``distributed.scheduler.preload``). It must
run with any ``distributed`` from 2024.11 on, and must never break one that it does not know. Hence: importing it needs
the standard library and tornado only; ``dask_setup`` runs where distributed logs errors and goes on
(``PreloadManager.start``); a surprise inside a route is answered with 501 and leaves the scheduler as it was.

Every answer is computed anew from the scheduler's state: asking twice is as good as asking once. Only workers that a
request names are ever touched. Routes and fields of ``/v1`` are only ever added: the operator may be newer than the
module that a running scheduler has loaded.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache, wraps
from ipaddress import ip_address
from itertools import chain, count, islice
from typing import Any, NamedTuple

from tornado.ioloop import PeriodicCallback
from tornado.web import RequestHandler

VERSION = "5"
PREFIX = "/dask-gitops/v1"

#: How often the module looks whether the scheduler is idle.
IDLE_LOOK_SECONDS = 5.0
#: A worker confirms that it works again within milliseconds; after this long it is believed to have stayed paused.
RESUME_SECONDS = 5.0

#: Where Kubernetes looks for the reason why a container has ended; the operator says so if its user has chosen a place.
TERMINATION_LOG = os.environ.get("DASK_GITOPS_TERMINATION_LOG") or "/dev/termination-log"
#: What is noted there when a client ends the scheduler (``Client.shutdown``): then its end is no loss.
SHUT_DOWN_BY_CLIENT = "shut down by a client"
#: What a request may hold. The port is reachable by others than the operator, and the scheduler's time is its users'.
MOST_BYTES = 4 * 2**20
MOST_QUESTIONS = 1_000
MOST_NAMES = 20_000  #: of workers, in one list
MOST_FOUND = 50_000  #: worker processes that one list stands for; several names may stand for the same ones
MOST_ADDRESSES = 8  #: of a worker
#: Header of a request whose workers share their addresses with nobody. Hooks of before send those of nodes as well.
OWN_ADDRESSES = "Dask-Gitops-Own-Addresses"
#: Answers to one request may hold the scheduler up for so long; then it has a turn.
TURN_SECONDS = 0.02
#: What is told at most of an error, and of versions that differ; and how many different errors are logged.
MOST_CHARACTERS = 200
MOST_SETS = 32
MOST_LOGGED = 100

#: Packages that must be the same everywhere for tasks and results to be understood.
COMPARED = ("dask", "distributed", "msgpack")

_logger = logging.getLogger("distributed.dask_gitops")
_stimuli = count()
_logged: set[str] = set()


class Pod(NamedTuple):
    """A worker Pod as the operator knows it: its worker's name, and its addresses, if any."""

    name: str
    ips: tuple[str, ...] = ()
    alone: bool = True  #: whether these are known to be its own; else other Pods may have them as well


class _Malformed(ValueError):
    """A request is not as it should be."""

    status = 400


class _TooLong(_Malformed):
    status = 413


class _Drain:
    """What the scheduler's own state does not tell of a worker that was asked to go."""

    moving = False  #: a call of Scheduler.retire_workers is under way
    unwanted = False  #: ... and was taken back meanwhile
    resumed_at = -math.inf  #: monotonic time at which the worker was told to work again


class _Left(NamedTuple):
    """What keeps a worker process from being closed."""

    why: str  #: empty: just what follows
    tasks: int = 0
    results: int = 0


#: A name that the operator has given to a worker, and what may follow it: the number of a process, say.
_OWN_NAME = re.compile(r"(.*-worker-[0-9]+-[0-9a-f]{5})(?:-.*)?", re.DOTALL)


class _Index:
    """Worker processes by what a Pod can be known by."""

    def __init__(self, workers: Iterable[Any]) -> None:
        self._exact, self._base, self._host = defaultdict(list), defaultdict(list), defaultdict(list)
        self._shared: set[str] = set()  # addresses at which somebody is who has a name from the operator
        for ws in workers:
            name, host = str(ws.name), _canonical(ws.host)
            head, _, tail = name.rpartition("-")
            own = _OWN_NAME.fullmatch(name)
            bases = {head if tail.isdecimal() else "", own[1] if own else ""} - {"", name}
            self._exact[name].append(ws)
            for base in bases:
                self._base[base].append(ws)
            self._host[host].append(ws)
            if own:
                self._shared.add(host)

    def find(self, pods: Iterable[Pod]) -> dict[Pod, list[Any]]:
        """Those of each Pod: of its name; else ``<name>-<n>`` (``dask worker --nworkers``); else at its addresses.

        Addresses are for users who name workers their own way. In the network of a node Pods share one, and whoever is
        there must not be taken for somebody else: one who is known by a name, or several who cannot all be one Pod's.
        """
        found = {pod: self._exact.get(pod.name) or self._base.get(pod.name) or [] for pod in pods}
        unnamed = [pod for pod, states in found.items() if pod.ips and not states]
        claims = Counter(ip for pod in unnamed for ip in pod.ips)
        there = sum(claims[ip] * len(self._host.get(ip, ())) for ip in claims)
        if there + sum(map(len, found.values())) > MOST_FOUND:
            raise _Malformed("too many worker processes: an address that Pods share stands for none of them")
        known = set(chain.from_iterable(found.values()))
        for pod in unnamed:
            its_own = [ip for ip in pod.ips if claims[ip] == 1 and ip not in self._shared]
            states = [ws for ip in its_own for ws in self._host.get(ip, ()) if ws not in known]
            found[pod] = states if pod.alone or _can_be_one_pod(states) else []
        return found


def _can_be_one_pod(states: list[Any]) -> bool:
    """Whether worker processes are but one, or are called ``<name>-<n>``."""
    names = [str(ws.name).rpartition("-") for ws in states]
    return len(names) < 2 or (len({head for head, _, _ in names}) == 1 and all(tail.isdecimal() for *_, tail in names))


@lru_cache(maxsize=4096)
def _canonical(host: str) -> str:
    """An address in the one form of several that it has."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)


class Group(NamedTuple):
    """A worker group as the operator knows it."""

    workers: list[Pod]
    resources: dict[str, float] = {}  #: that each of its Pods offers, as far as that is known before one has started
    threads: float = 1  #: of each of its Pods, likewise
    minimum: int = 0
    maximum: float = math.inf


#: What a task needs of a worker: amounts by resource.
Need = frozenset[tuple[str, float]]
_PLAIN: Need = frozenset()


class _Kind:
    """Tasks that need the same."""

    waiting = 0  #: for a worker
    tasks = 0  #: these, and those that workers have
    seconds = 0.0  #: that all of them are expected to take

    def add(self, tasks: int, seconds: float) -> None:
        self.tasks += tasks
        self.seconds += seconds


class _Part:
    """A worker group and its share of the load."""

    load = 0.0  #: in Pods

    def __init__(self, group: Group, registered: list[list[Any]]) -> None:
        self.registered = registered  #: the worker processes of each Pod
        # Those that are leaving are no capacity, or the group would call them back for the task that they finish.
        self.staying = [
            states for states in self.registered if all(ws.status.name != "closing_gracefully" for ws in states)
        ]
        self.workers = list(chain.from_iterable(self.staying))
        self.minimum, self.maximum = group.minimum, group.maximum
        self.threads = group.threads
        if self.staying:
            self.threads = sum(ws.nthreads for ws in self.workers) / len(self.staying)
        self.offered: dict[str, float] = {}
        for ws in self.workers:
            for name, amount in ws.resources.items():
                self.offered[name] = max(amount, self.offered.get(name, 0))
        self.offered.update(group.resources)

    def slots(self, need: Need) -> float:
        """How many tasks that need this one Pod runs at a time."""
        return min([self.threads, *(self.offered.get(name, 0) // amount for name, amount in need if amount > 0)])


class Extension:
    """What the operator asks a scheduler. One lives on each scheduler, see :func:`extension`."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self._drains: dict[str, _Drain] = {}  # by worker address
        self._index: _Index | None = None  # while questions are answered together
        self._idle_since: float | None = time.monotonic()
        self._transitions: int = scheduler.transition_counter
        self._pass_on: Callable[..., None] | None = scheduler.stream_handlers.get("steal-response")
        scheduler.stream_handlers["steal-response"] = self._released
        look = PeriodicCallback(self._look, IDLE_LOOK_SECONDS * 1000)
        scheduler.periodic_callbacks["dask-gitops-idle"] = look  # the scheduler stops it when it closes
        look.start()
        self._clients: list[dict[str, str]] = []  #: versions of all clients so far; most stay for seconds only
        self._before("register-client", self._remember_client)
        self._before("terminate", self._note_shutdown)

    # --- at a glance --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The scheduler at a glance, in O(workers)."""
        import distributed

        scheduler = self.scheduler
        return {
            "version": VERSION,
            "distributed": distributed.__version__,  # type: ignore[attr-defined]
            "id": scheduler.id,
            "idle_seconds": self.idle_seconds(),
            "workers": [
                {
                    "name": str(ws.name),
                    "address": ws.address,
                    "host": ws.host,
                    "status": ws.status.name,
                    "nthreads": ws.nthreads,
                    "nbytes": ws.nbytes,
                    "processing": len(ws.processing),
                    "resources": dict(ws.resources),
                }
                for ws in scheduler.workers.values()
            ],
            "tasks": {
                "total": len(scheduler.tasks),
                "processing": sum(len(ws.processing) for ws in scheduler.workers.values()),
                "queued": len(scheduler.queued),
                "unrunnable": len(scheduler.unrunnable),
            },
        }

    def progress(self) -> dict[str, int]:
        """How far the tasks are that were submitted so far, in O(task prefixes).

        ``state_counts`` count how often tasks came to a state, also those that the scheduler has forgotten since.
        """
        prefixes = self.scheduler.task_prefixes.values()
        pending = ("waiting", "queued", "processing", "no-worker")
        left = sum(prefix.states.get(state, 0) for prefix in prefixes for state in pending)
        done = sum(prefix.state_counts.get(state, 0) for prefix in prefixes for state in ("memory", "erred"))
        return {"total": done + left, "done": done, "workers": len(self.scheduler.workers)}

    def versions(self) -> dict[str, list[dict[str, str]]]:
        """The different sets of versions that are present, by role: ``scheduler``, ``workers``, ``clients``."""
        from distributed.versions import get_versions

        present = {
            "scheduler": [get_versions()],
            "workers": [ws.versions for ws in self.scheduler.workers.values()],
        }
        found = {role: _distinct(map(_versions, some)) for role, some in present.items()}
        return {**found, "clients": self._clients}

    def _before(self, operation: str, look: Callable[..., None]) -> None:
        """Look at the requests for an operation of the scheduler before it is carried out."""
        carry_out = self.scheduler.handlers.get(operation)
        if carry_out is None:
            return

        @wraps(carry_out)  # its signature tells distributed what to pass
        async def handler(*args: Any, **kwargs: Any) -> Any:
            try:
                look(**kwargs)
            except Exception:
                _logger.exception("dask-gitops: %s", operation)
            return await carry_out(*args, **kwargs)

        self.scheduler.handlers[operation] = handler

    def _remember_client(self, versions: dict[str, Any] | None = None, **_: Any) -> None:
        self._clients = _distinct([*self._clients, _versions(versions or {})])

    @staticmethod
    def _note_shutdown(**_: Any) -> None:
        try:
            with open(TERMINATION_LOG, "w") as log:
                log.write(SHUT_DOWN_BY_CLIENT)
        except OSError as error:
            _logger.info("dask-gitops: %s: %s", TERMINATION_LOG, error)

    def idle_seconds(self) -> float | None:
        """For how long there has been nothing to do, to :data:`IDLE_LOOK_SECONDS`; ``None`` while there is.

        ``Scheduler.check_idle`` decides by the same signs, but it also carries out the scheduler's own idle timeout.
        """
        self._look()
        if self._idle_since is None:
            return None
        idle = time.monotonic() - self._idle_since
        if getattr(self.scheduler, "jupyter", False):
            activity = self.scheduler._jupyter_server_application.web_app.last_activity().timestamp()
            idle = min(idle, time.time() - activity)
        return max(0.0, idle)

    def _look(self) -> None:
        scheduler = self.scheduler
        moved = scheduler.transition_counter != self._transitions
        self._transitions = scheduler.transition_counter
        if (
            scheduler.queued
            or scheduler.unrunnable
            or getattr(scheduler, "_active_graph_updates", 0) > 0
            or any(ws.processing for ws in scheduler.workers.values())
        ):
            self._idle_since = None
        elif moved or self._idle_since is None:  # tasks came and went since the last look
            self._idle_since = time.monotonic()

    # --- whom to close ------------------------------------------------------------------------------------------------

    def workers_to_close(self, pods: Iterable[Pod], n: int | None = None) -> list[str]:
        """The first ``n`` (default: all) of the given Pods, in the order in which closing them costs least.

        First those that ``Scheduler.workers_to_close`` would take: idle, fewest bytes first. Then the others, by what
        they run. Last those that it would never take: with tasks that have seceded (``long_running``), with actors,
        or kept by a plugin, as P2P shuffles keep their workers.
        """
        found = self._find(pods)
        kept = self._kept(found)

        def cost(pod: Pod) -> tuple[bool, int, int]:
            states = found[pod]
            return (
                any(ws.long_running or ws.actors or ws in kept for ws in states),
                sum(len(ws.processing) for ws in states),
                sum(ws.nbytes for ws in states),
            )

        return [pod.name for pod in sorted(found, key=cost)][:n]

    def _kept(self, found: dict[Pod, list[Any]]) -> set[Any]:
        """Workers that a plugin of the scheduler wants to stay (``SchedulerPlugin.valid_workers_downscaling``)."""
        states = [ws for states in found.values() for ws in states]
        free = states
        for plugin in list(self.scheduler.plugins.values()):
            free = plugin.valid_workers_downscaling(self.scheduler, free)
        return set(states).difference(free)

    # --- retirement ---------------------------------------------------------------------------------------------------

    def retire(self, pods: Iterable[Pod]) -> dict[str, str]:
        """Tell Pods to go, and how far they are.

        Returns:
            By name: ``retired`` (registered, takes no tasks, runs none, holds no results), ``retiring: <what is
            left>``, ``unknown`` (not registered) or ``refused: <why>`` (it works on; asking again is fine). Of several
            worker processes of a Pod all must be retired.
        """
        found = self._find(pods)
        kept = self._kept(found)
        asked = {ws for states in found.values() for ws in states}
        leaving = asked | {self.scheduler.workers[address] for address, drain in self._drains.items() if drain.moving}
        recipients = any(ws not in leaving for ws in self.scheduler.running)
        begin: list[str] = []
        left = {ws: self._left(ws, leaving, kept, recipients, begin) for ws in asked}
        answer = {}
        for pod, states in found.items():
            answer[pod.name] = _in_words([some for ws in states if (some := left[ws])]) if states else "unknown"
        if begin:
            self.scheduler._ongoing_background_tasks.call_soon(self._move, begin)
        return answer

    def _left(self, ws: Any, leaving: set[Any], kept: set[Any], recipients: bool, begin: list[str]) -> _Left | None:
        """What keeps a worker process from being closed, if anything; ``begin`` collects whom to retire."""
        if ws.status.name not in ("running", "paused", "closing_gracefully"):
            return _Left(f"retiring: it is {ws.status.name}")
        drain = self._drains.setdefault(ws.address, _Drain())
        unique = _only_copies(ws, leaving)
        stays = _why_it_stays(ws, kept, recipients, unique)
        if stays:
            self._resume(ws)
            return _Left(stays)
        paused = ws.status.name == "closing_gracefully"
        if not paused:
            drain.resumed_at = -math.inf
        elif time.monotonic() - drain.resumed_at < RESUME_SECONDS:
            # The worker's word that it runs again is under way. It makes the scheduler send tasks, so "retired" would
            # be a lie by the time that it is read.
            return _Left("retiring: it is about to work again")
        drain.unwanted = False
        if not drain.moving and (unique or not paused):
            drain.moving = True
            begin.append(ws.address)
        if paused:
            self._release_waiting(ws)
            if not (drain.moving or ws.processing):
                return self._without_copies(ws)
        return _Left("", len(ws.processing), unique)

    async def _move(self, addresses: list[str]) -> None:
        """Pause workers and have the Active Memory Manager copy what only they hold.

        They stay registered and paused, because a worker process that ends is restarted by the kubelet. Without
        ``remove`` and ``close_workers`` this changes nothing else (``Scheduler.retire_workers``).
        """
        moved: dict[str, Any] = {}
        try:
            moved = await self.scheduler.retire_workers(workers=addresses, close_workers=False, remove=False)
        finally:
            for address in addresses:
                ws = self.scheduler.workers.get(address)
                drain = self._drains.get(address)
                if ws is None or drain is None:
                    continue
                drain.moving = False
                if drain.unwanted or address not in moved:  # then the scheduler has aborted it
                    self._resume(ws)

    def _without_copies(self, ws: Any) -> _Left | None:
        """Have a worker forget the results that others hold as well.

        Nobody may look for a result where there is nothing any more: a peer or client that has been told to fetch it
        from a Pod that is gone tries for ``distributed.comm.timeouts.connect`` (30 s) before it turns to another copy.
        ``Scheduler.retire_workers`` is through before the Active Memory Manager does this, up to 2 s later.
        """
        if not ws.has_what:
            return None
        keys = [task.key for task in ws.has_what]
        self.scheduler.request_remove_replicas(ws.address, keys, stimulus_id=_stimulus())
        return _Left(f"retiring: forgets {len(keys)} results that others hold as well")

    def _release_waiting(self, ws: Any) -> None:
        """Take back the tasks that a paused worker has not begun; it would never begin them.

        Only the worker knows which these are, and it tells when it is asked as work stealing asks (``WorkStealing
        .move_task_request``): a task that it has begun it keeps. The question comes after the order to pause in the
        same stream, so nothing is begun after the answer.
        """
        for task in list(ws.processing):
            if task not in ws.long_running:
                self._send(ws, {"op": "steal-request", "key": task.key})

    def _released(self, *, key: Any, state: str | None, stimulus_id: str, worker: str = "", **more: Any) -> None:
        """A worker's answer to a request for a task: ours are handled here, others by work stealing."""
        if not stimulus_id.startswith("dask-gitops-"):
            if self._pass_on is not None:
                self._pass_on(key=key, state=state, stimulus_id=stimulus_id, worker=worker, **more)
        elif state in ("ready", "constrained", "waiting", "released", None):  # as WorkStealing.move_task_confirm
            self.scheduler._reschedule(key, worker=worker, stimulus_id=stimulus_id)

    def resume(self, pods: Iterable[Pod]) -> dict[str, str]:
        """Take a retirement back.

        Returns:
            By name: ``resuming`` (told so; it takes tasks as soon as it confirms), ``unknown``, else its status.
        """
        answer = {}
        for pod, states in self._find(pods).items():
            resuming = [self._resume(ws) for ws in states]
            answer[pod.name] = "resuming" if any(resuming) else states[0].status.name if states else "unknown"
        return answer

    def _resume(self, ws: Any) -> bool:
        """Whether a worker is still to work again; it is told so as ``Scheduler._track_retire_worker`` does it."""
        drain = self._drains.setdefault(ws.address, _Drain())
        drain.unwanted = True  # if a retirement is just beginning, it is taken back when it is through
        if ws.status.name != "closing_gracefully":
            return drain.moving and drain.resumed_at == -math.inf
        if time.monotonic() - drain.resumed_at >= RESUME_SECONDS:
            drain.resumed_at = time.monotonic()
            self._send(ws, {"op": "worker-status-change", "status": "running"})
        return True

    def _send(self, ws: Any, message: dict[str, Any]) -> None:
        stream = self.scheduler.stream_comms.get(ws.address)
        if stream is not None:
            stream.send({**message, "stimulus_id": _stimulus()})

    # --- how many -----------------------------------------------------------------------------------------------------

    def adaptive_target(
        self, group: Group, before: Iterable[Group] = (), after: Iterable[Group] = (), target_duration: Any = None
    ) -> dict[str, Any]:
        """How many Pods one group should have: ``Scheduler.adaptive_target`` for its share of the load.

        Tasks that wait or run go to the groups that can run them and offer nothing else (see :func:`_takers`);
        several of these are filled one after the other, ``before`` first. With one group this is what distributed
        computes, with three exceptions: tasks bound to workers or hosts that are gone do not count, as no new Pod will
        have their address; the answer is never less than the tasks call for, where distributed shrinks to the busy
        workers and then grows again; and it grows for memory until half of it is used, where distributed doubles and,
        while the new workers come one by one, doubles again.
        """
        from dask import config
        from dask.utils import parse_timedelta

        goal = parse_timedelta(target_duration or config.get("distributed.adaptive.target-duration"))
        before = list(before)
        groups = [*before, group, *after]
        found = self._find(chain.from_iterable(each.workers for each in groups))
        # Each belongs to the first group that names it.
        parts = [_Part(each, [states for pod in each.workers if (states := found.pop(pod, None))]) for each in groups]
        own = parts[len(before)]
        demand = self._demand(parts)
        _share(demand, parts, own, goal)
        target = math.ceil(own.load - 1e-6) or int(own.load > 0)

        workers = own.workers
        limit, used = sum(ws.memory_limit or 0 for ws in workers), sum(ws.nbytes for ws in workers)
        if used > 0.6 * limit > 0:
            target = max(target, math.ceil(len(own.staying) * used / (0.5 * limit)))
        if target < len(own.staying):
            target = max(target, len(own.staying) - self._dispensable(own.staying))
        return {
            "target": target,
            "waiting": sum(kind.waiting for need, kind in demand.items() if own in _takers(need, parts)),
            "processing": sum(len(ws.processing) for states in own.registered for ws in states),
        }

    def _demand(self, parts: list[_Part]) -> dict[Need, _Kind]:
        """What is to be done, by what the tasks need."""
        scheduler = self.scheduler
        unrunnable = defaultdict(list)
        for task in scheduler.unrunnable:
            if not (task.worker_restrictions or task.host_restrictions) or task.loose_restrictions:
                unrunnable[_need(task)].append(task)
        demand: dict[Need, _Kind] = defaultdict(_Kind)
        takers = cache(lambda need: _takers(need, parts))
        for need in {_PLAIN, *unrunnable}:
            queued = scheduler.queued if need == _PLAIN else ()  # tasks with restrictions are never queued
            sample = list(islice(chain(queued, unrunnable[need]), 100))
            if sample:
                waiting = len(queued) + len(unrunnable[need])
                seconds = sum(_duration(scheduler, task) for task in sample) * waiting / len(sample)
                demand[need].add(waiting, seconds)
                demand[need].waiting = waiting
        for part in parts:
            for ws in chain.from_iterable(part.registered):
                needs = Counter(map(_need, ws.processing)) if ws.resources else {_PLAIN: len(ws.processing)}
                for need, number in needs.items():
                    share = number / len(ws.processing) if ws.processing else 0
                    if part not in takers(need):
                        # A guest: Dask gives tasks to any worker that can run them. No other worker is wanted for what
                        # runs there, but for what waits there.
                        share *= max(0, number - ws.nthreads) / number if number else 0
                        number = max(0, number - ws.nthreads)
                    if number:
                        demand[need].add(number, ws.occupancy * share)
        return demand

    def _dispensable(self, found: list[list[Any]]) -> int:
        """How many Pods are idle and leave the others enough memory, by ``Scheduler.workers_to_close``."""
        from distributed.diagnostics.plugin import SchedulerPlugin

        pod = {ws: number for number, states in enumerate(found) for ws in states}

        class OnlyThese(SchedulerPlugin):
            def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
                partly = {pod[ws] for ws in pod.keys() - set(workers)}
                return [ws for ws in workers if ws in pod and pod[ws] not in partly]

        name = "dask-gitops-only-these"
        self.scheduler.add_plugin(OnlyThese(), name=name)
        try:
            closing = self.scheduler.workers_to_close(memory_ratio=2, key=pod.__getitem__)
        finally:
            self.scheduler.remove_plugin(name)
        return len({pod[self.scheduler.workers[address]] for address in closing})

    # --- names --------------------------------------------------------------------------------------------------------

    def _find(self, pods: Iterable[Pod]) -> dict[Pod, list[Any]]:
        """The worker processes of each Pod."""
        for address in self._drains.keys() - self.scheduler.workers.keys():
            del self._drains[address]
        index = self._index or _Index(self.scheduler.workers.values())
        return index.find(pods)

    def registered(self, pods: Iterable[Pod]) -> list[str]:
        """The names of the Pods that have a worker process."""
        return [pod.name for pod, states in self._find(pods).items() if states]

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is asked meanwhile, and nothing else happens meanwhile, looks the workers up only once."""
        self._index = _Index(self.scheduler.workers.values())
        try:
            yield
        finally:
            self._index = None


def _stimulus() -> str:
    return f"dask-gitops-{next(_stimuli)}-{time.time()}"


def _in_words(left: list[_Left]) -> str:
    """How far a Pod's retirement is, by what is left of each of its processes."""
    if not left:
        return "retired"
    draining = (
        f"retiring: {sum(some.tasks for some in left)} tasks and {sum(some.results for some in left)} results left"
    )
    return min((some.why for some in left if some.why), default=draining)  # "refused" before "retiring"


def _only_copies(ws: Any, leaving: set[Any]) -> int:
    """How many results would be lost if a worker and all others that leave were gone."""

    def stays(other: Any) -> bool:
        return other not in leaving and other.status.name in ("running", "paused")

    return sum(1 for task in ws.has_what if not any(stays(other) for other in task.who_has or ()))


def _why_it_stays(ws: Any, kept: set[Any], recipients: bool, unique: int) -> str:
    """Why a worker should go on working for now rather than be paused; empty if it need not."""
    if ws.actors:  # RetireWorker in distributed.active_memory_manager gives up on these, too
        return f"refused: holds {len(ws.actors)} actors, which cannot move"
    if unique and not recipients:
        return f"refused: holds the only copy of {unique} keys and no other worker can take them"
    if ws.processing and not recipients:
        return f"refused: runs {len(ws.processing)} tasks and no other worker can take their results"
    if ws in kept:
        # P2P shuffles bind tasks to their workers: a paused one would hold them up, a lost one makes them start again.
        return "retiring: a plugin of the scheduler needs it, as P2P shuffles do until they are through"
    return ""


def _need(task: Any) -> Need:
    return frozenset((task.resource_restrictions or {}).items())


def _takers(need: Need, parts: list[_Part]) -> list[_Part]:
    """The groups for tasks of a kind: those that can run them and offer the fewest other resources.

    So tasks without restrictions make no group with GPUs grow, unless there is no group without.
    """
    able = [part for part in parts if part.maximum > 0 and part.slots(need) > 0]
    fewest = min((len(part.offered) for part in able), default=0)
    return [part for part in able if len(part.offered) == fewest]


def _share(demand: dict[Need, _Kind], parts: list[_Part], own: _Part, goal: float) -> None:
    """Add up each group's load, in Pods: first what each has anyway (its minimum), then in order up to its maximum.

    What is left over counts for ``own``, so that it can say that it would need more.
    """
    choices = {need: _takers(need, parts) for need in demand}
    for need in sorted(
        demand, key=lambda need: (len(choices[need]), sorted(need))
    ):  # those with the least choice first
        kind, takers = demand[need], choices[need]
        rest = min(kind.tasks, max(kind.seconds, 1e-9) / goal)  # threads; a few long tasks need but a few
        for bound in ("minimum", "maximum"):
            for part in takers:
                given = min(rest, max(0.0, getattr(part, bound) - part.load) * part.slots(need))
                part.load += given / part.slots(need)
                rest -= given
        if own in takers:
            own.load += rest / own.slots(need)


def _versions(found: dict[str, Any]) -> dict[str, str]:
    """Versions that matter, of what ``distributed.versions.get_versions`` gives; of Python the minor release."""
    packages = found.get("packages") or {}
    if not packages:
        return {}  # somebody who has told none
    python = str((found.get("host") or {}).get("python") or packages.get("python") or "")
    known = {name: str(packages.get(name)) for name in COMPARED}
    # What a client says of itself may be anything.
    return {name: version[:64] for name, version in {"python": ".".join(python.split(".")[:2]), **known}.items()}


def _distinct(found: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    unique: list[dict[str, str]] = []
    for versions in found:
        if versions and versions not in unique and len(unique) < MOST_SETS:
            unique.append(versions)
    return unique


def _duration(scheduler: Any, task: Any) -> float:
    """Seconds that a task is expected to take."""
    of_prefix = getattr(scheduler, "_get_prefix_duration", None)  # not yet in distributed 2024.11
    seconds: float = of_prefix(task.prefix) if of_prefix else scheduler.get_task_duration(task)
    return seconds


def extension(scheduler: Any) -> Extension:
    """The extension of a scheduler: made on first use, kept on it, so that it lives and dies with it."""
    found = scheduler.__dict__.get("_dask_gitops")
    if found is None:
        found = scheduler.__dict__["_dask_gitops"] = Extension(scheduler)
    known: Extension = found
    return known


# --- HTTP -------------------------------------------------------------------------------------------------------------


class _Route(RequestHandler):
    """A question and its answer in JSON."""

    def initialize(self, dask_server: Any) -> None:  # the name by which distributed's get_handlers passes the scheduler
        self.scheduler = dask_server

    def _answer(self, answer: Callable[[], Any]) -> None:
        try:
            self._say(answer())
        except Exception as error:
            self._refuse(error)

    def _say(self, content: Any) -> None:
        text = json.dumps(content)
        self.set_header("Content-Type", "application/json")
        self.write(text)

    def _refuse(self, error: Exception) -> None:
        status, message = _refusal(error)
        self.set_status(status)
        self._say({"message": message})

    def _body(self) -> Any:
        # Browsers send JSON to other sites only after asking, and say where it comes from also to a site that only
        # claims to be the page's own (DNS rebinding). So a web page cannot act for a user of the dashboard.
        if not self.request.headers.get("Content-Type", "").startswith("application/json"):
            raise _Malformed("expected Content-Type: application/json")
        if "Origin" in self.request.headers:
            raise _Malformed("web pages are not answered")
        if len(self.request.body) > MOST_BYTES:
            raise _TooLong(f"a request has at most {MOST_BYTES:,} bytes")
        try:
            return json.loads(self.request.body)
        except (ValueError, RecursionError) as error:
            raise _Malformed(f"expected JSON: {error}") from None


def _refusal(error: Exception) -> tuple[int, str]:
    """The status and the message for a question that cannot be answered."""
    if isinstance(error, _Malformed):
        return error.status, str(error)[:MOST_CHARACTERS]
    message = f"this scheduler is not as expected: {type(error).__name__}: {error}"[:MOST_CHARACTERS]
    if message not in _logged and len(_logged) < MOST_LOGGED:  # the same is asked every second
        _logged.add(message)
        _logger.error("dask-gitops: %s", message, exc_info=error)
    return 501, message


class _State(_Route):
    def get(self) -> None:
        self._answer(lambda: extension(self.scheduler).state())


class _Progress(_Route):
    def get(self) -> None:
        self._answer(lambda: extension(self.scheduler).progress())


class _Versions(_Route):
    def get(self) -> None:
        self._answer(lambda: extension(self.scheduler).versions())


class _Question(_Route):
    """A question about named workers."""

    def post(self) -> None:
        self._answer(self._ask)

    def _ask(self) -> dict[str, Any]:
        body = self._body()
        if not (isinstance(body, dict) and isinstance(body.get("workers"), list)):
            raise _Malformed('expected {"workers": [...]}')
        alone = OWN_ADDRESSES in self.request.headers
        pods = [pod._replace(alone=alone) for pod in _pods(body, "workers")]
        return self.ask(extension(self.scheduler), pods, body)

    def ask(self, asked: Extension, pods: list[Pod], body: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class _Retire(_Question):
    def ask(self, asked: Extension, pods: list[Pod], body: dict[str, Any]) -> dict[str, Any]:
        return {"workers": asked.retire(pods)}


class _Resume(_Question):
    def ask(self, asked: Extension, pods: list[Pod], body: dict[str, Any]) -> dict[str, Any]:
        return {"workers": asked.resume(pods)}


class _WorkersToClose(_Question):
    def ask(self, asked: Extension, pods: list[Pod], body: dict[str, Any]) -> dict[str, Any]:
        n = body.get("n")
        if n is not None and (not isinstance(n, int) or n < 0):
            raise _Malformed("n is a number of workers")
        return {"workers": asked.workers_to_close(pods, n)}


class _AdaptiveTarget(_Question):
    def get(self) -> None:
        """For the whole cluster, as distributed sees it: what KEDA and the like can read."""
        self._answer(lambda: {"target": self.scheduler.adaptive_target()})

    def ask(self, asked: Extension, pods: list[Pod], body: dict[str, Any]) -> dict[str, Any]:
        duration = body.get("target_duration")
        if duration is not None and not (_is_number(duration) and duration > 0):
            raise _Malformed("target_duration is a number of seconds above 0")
        return asked.adaptive_target(*_groups(body, body), duration)


class _Ask(_Route):
    """Several questions in one request: those of all that the operator does for a cluster."""

    gone = False  #: whoever asked

    def on_connection_close(self) -> None:
        self.gone = True

    async def post(self) -> None:
        answers: list[dict[str, Any]] = []
        try:
            questions = _list(self._body(), "questions", MOST_QUESTIONS)
            asked, rest = extension(self.scheduler), iter(questions)
            while True:
                answers += _in_turn(asked, rest)
                if len(answers) == len(questions) or self.gone:
                    break
                await asyncio.sleep(0)
            self._say({"answers": answers})
        except Exception as error:
            self._refuse(error)


def _in_turn(asked: Extension, questions: Iterator[Any]) -> list[dict[str, Any]]:
    """The answers to as many questions as have time now; what fails is said in its place."""
    answers: list[dict[str, Any]] = []
    ends = time.monotonic() + TURN_SECONDS
    with asked.at_once():
        for question in questions:
            try:
                answers.append(_answered(asked, question))
            except Exception as error:
                answers.append({"error": _refusal(error)[1]})
            if time.monotonic() > ends:
                break
    return answers


def _answered(asked: Extension, question: Any) -> dict[str, Any]:
    question = _object(question, "a question is an object")
    named = ("resume", "registered", "rank", "retire")
    pods = {field: _pods(question, field) for field in named if question.get(field) is not None}
    target = question.get("target")
    groups = None if target is None else _groups(_object(target, "target is an object").get("group"), target)
    answer: dict[str, Any] = {}
    if "resume" in pods:
        answer["resumption"] = asked.resume(pods["resume"])
    if question.get("idle"):
        answer["idle_seconds"] = asked.idle_seconds()
    if question.get("progress"):
        answer["progress"] = asked.progress()
    if question.get("versions"):
        answer["versions"] = asked.versions()
    if "registered" in pods:
        answer["registered"] = asked.registered(pods["registered"])
    if "rank" in pods:
        answer["ranked"] = asked.workers_to_close(pods["rank"])
    if groups is not None:
        answer["target"] = asked.adaptive_target(*groups)["target"]
    if "retire" in pods:
        answer["retirement"] = asked.retire(pods["retire"])
    return answer


def _object(value: Any, otherwise: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Malformed(otherwise)
    return value


def _list(body: Any, field: str, most: int) -> list[Any]:
    found = _object(body, f"expected an object with {field}").get(field)
    if not isinstance(found, list | None):
        raise _Malformed(f"{field} is a list")
    if found and len(found) > most:
        raise _Malformed(f"{field} has at most {most:,} items")
    return found or []


def _pods(body: Any, field: str = "workers") -> list[Pod]:
    return [_pod(worker) for worker in _list(body, field, MOST_NAMES)]


def _pod(worker: Any) -> Pod:
    if isinstance(worker, str):
        worker = {"name": worker}
    name, ips = None, []
    if isinstance(worker, dict):
        name, ips = worker.get("name"), [worker.get("ip") or "", *_list(worker, "ips", MOST_ADDRESSES)]
    if not (name and isinstance(name, str) and all(isinstance(ip, str) and len(ip) < 64 for ip in ips)):
        raise _Malformed('a worker is a name or {"name": ..., "ip": ..., "ips": [...]}')
    return Pod(name, tuple(dict.fromkeys(_canonical(ip) for ip in ips if ip)))


def _groups(own: Any, others: dict[str, Any]) -> tuple[Group, list[Group], list[Group]]:
    """The group that is asked about, those before it, and those after it."""
    before, after = (_list(others, side, MOST_QUESTIONS) for side in ("before", "after"))
    if sum(len(_list(group, "workers", MOST_NAMES)) for group in (own, *before, *after)) > MOST_NAMES:
        raise _Malformed(f"the groups have at most {MOST_NAMES:,} workers together")
    return _group(own), [_group(group) for group in before], [_group(group) for group in after]


def _group(body: Any) -> Group:
    body, workers = _object(body, "a group is an object"), _pods(body)
    resources = body.get("resources") or {}
    if not (isinstance(resources, dict) and all(map(_is_number, resources.values()))):
        raise _Malformed("resources are numbers by name")
    numbers = {name: body[name] for name in ("threads", "minimum", "maximum") if body.get(name) is not None}
    if not all(_is_number(number) and number >= 0 for number in numbers.values()) or numbers.get("threads") == 0:
        raise _Malformed("threads, minimum and maximum are numbers, none below 0, and threads above it")
    return Group(workers, resources, **numbers)


def _is_number(value: Any) -> bool:
    """Whether it is one to compute with: no ``NaN``, no infinity, no integer of a thousand digits."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


#: Also of use to ``distributed.scheduler.http.routes``, if somebody prefers to load the module that way.
routes: list[tuple[str, type[RequestHandler], dict[str, Any]]] = [
    (f"{PREFIX}/state", _State, {}),
    (f"{PREFIX}/progress", _Progress, {}),
    (f"{PREFIX}/versions", _Versions, {}),
    (f"{PREFIX}/workers_to_close", _WorkersToClose, {}),
    (f"{PREFIX}/retire", _Retire, {}),
    (f"{PREFIX}/resume", _Resume, {}),
    (f"{PREFIX}/adaptive_target", _AdaptiveTarget, {}),
    (f"{PREFIX}/ask", _Ask, {}),
]


# --- preload ----------------------------------------------------------------------------------------------------------


async def dask_setup(scheduler: Any) -> None:
    """Called by distributed when the scheduler has started."""
    extension(scheduler)
    served = [(path, handler, {**options, "dask_server": scheduler}) for path, handler, options in routes]
    scheduler.http_application.add_handlers(r".*", served)
    await _preload_hidden(scheduler)


async def dask_teardown(scheduler: Any) -> None:
    """Called by distributed when the scheduler closes."""
    hidden = scheduler.__dict__.get("_dask_gitops_hidden")
    if hidden is not None:
        await hidden.teardown()


async def _preload_hidden(scheduler: Any) -> None:
    """Load what the user's YAML files ask to preload.

    The environment variable that names this module hides it: dask's configuration does not merge lists. Preloads from
    the command line, or others in that variable, would have hidden it as well; then there is nothing to do.
    """
    if len(scheduler.preloads) != 1:
        return
    from dask import config
    from distributed.preloading import process_preloads

    files = config.collect(env={})
    names = config.get("distributed.scheduler.preload", None, config=files) or []
    arguments = config.get("distributed.scheduler.preload-argv") or config.get(
        "distributed.scheduler.preload-argv", [], config=files
    )
    if names:
        scheduler._dask_gitops_hidden = process_preloads(scheduler, names, arguments)
        await scheduler._dask_gitops_hidden.start()
