"""The whole operator against a real API server, through a relay that plays a schedule of faults.

Only kopf is left out: what its watches do, to wake a resource, is done by informers here. So an operator is a task that
can be killed right after a certain write, and many lives go on at a time, each in a namespace of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import itertools
import logging
import os
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any
from unittest import mock

from aiohttp import web
from tests.cluster import ControlPlane
from tests.cluster.processes import free_port
from tests.support.fault_proxy import Answer, CutAfter, FaultProxy, Hold, Late, is_watch, upstream_session
from tests.support.patience import Patience

from dask_controller.core import worker_group
from dask_controller.kube.api import ApiError
from dask_controller.kube.client import Kubernetes
from dask_controller.kube.credentials import Endpoint, find
from dask_controller.kube.informer import Informer
from dask_controller.kube.workqueue import Queue
from dask_controller.schedulers.pollers import SchedulerPollers
from dask_controller.shell import reconcile
from dask_controller.shell.caches import Caches, Key
from dask_controller.shell.caller import OPERATOR
from dask_controller.shell.reconcile import Reconciler
from dask_controller.shell.wakeups import wake_by
from dask_crds.kinds import RESOURCES
from dask_crds.model import KINDS

from .observer import Manifest, Observer, Record, Violation
from .schedule import ANSWERS, Fault, Schedule
from .schedulers import Schedulers as FakeSchedulers
from .stranger import MORE, Hand, Stranger, policies

#: The operator's patience with a request; shorter than in earnest, so that hanging requests cost little.
TIMEOUT_SECONDS = 4.0
#: For how long an operator must have nothing to do before a resource counts as settled.
QUIET_SECONDS, QUIET_LOOKS = 1.0, 20
#: How long anything may take; the slowest faults cost a few seconds each.
PATIENCE_SECONDS = 90.0
#: Seconds that a place whose Pods fail at once stays empty, and after which what was refused is tried again. These are
#: shorter than in earnest too.
SHORT_LIFE_SECONDS = 6.0
RETRY_SECONDS = 3.0
#: Writes of the same kind to the same object within some seconds; more are no progress but a loop.
MOST_WRITES, WRITES_SECONDS = 25, 10.0
#: What a lost scheduler adds: the end of a job's run is told of, and the start of the next one.
WRITES_FOR_A_LOSS = 8
#: Lives at a time, which mostly wait; and among strangers, where they do not: more would only make each of them slow,
#: and time-outs be met.
CONCURRENCY, AMONG_STRANGERS = 40, 16


async def operate(endpoint: Endpoint, namespace: str, queue: Queue[Key]) -> None:
    """An operator until cancelled: `dask_controller.shell.main.run` for one namespace, without kopf and probes."""
    async with (
        Kubernetes(endpoint, OPERATOR, timeout_seconds=TIMEOUT_SECONDS) as kubernetes,
        asyncio.TaskGroup() as tasks,
    ):
        caches = Caches(kubernetes, [namespace], wake_by(queue.add_after))
        for informer in caches.informers.values():
            tasks.create_task(informer.run())
        await caches.synced()
        for kind in KINDS:
            tasks.create_task(_waker(kubernetes, namespace, queue, kind).run())
        pollers = SchedulerPollers[Key](lambda key, _: queue.add(key))
        try:
            await queue.run(Reconciler(kubernetes, caches, pollers, domain="cluster.local"))
        finally:
            await pollers.close()


def _waker(kubernetes: Kubernetes, namespace: str, queue: Queue[Key], kind: str) -> Informer[Manifest]:
    def wake(old: Manifest | None, new: Manifest | None) -> None:
        queue.add(Key(kind, namespace, (new or old or {})["metadata"]["name"]))

    return Informer(kubernetes, RESOURCES[kind], project=lambda m: m, on_change=wake, namespaces=[namespace])


FAULT: web.RequestKey[Fault | None] = web.RequestKey("FAULT", object)  # type: ignore[arg-type]
NUMBER: web.RequestKey[tuple[str, int]] = web.RequestKey("NUMBER", tuple)


# --- one life ---------------------------------------------------------------------------------------------------------


class Script:
    """Counts the requests of all operators of a life, and says what the schedule has for each."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._next: Counter[str] = Counter()
        self._started = time.monotonic()
        self.busy_at = 0.0  #: when an operator had something to do last
        self.starts = 0
        self.met = 0
        self.trace: list[str] = []
        self.crashes: list[str] = []  #: exceptions that nobody expects
        self._most_often: Counter[str] = Counter()  # writes of one kind to one object in `WRITES_SECONDS`, at most
        self._writes: defaultdict[str, deque[float]] = defaultdict(deque)

    @property
    def busiest(self) -> int:
        """Writes of one kind to one object in `WRITES_SECONDS`, at most."""
        return max(self._most_often.values(), default=0)

    def loops(self, losses: int) -> list[str]:
        """What was written again and again, while so many schedulers were lost."""
        most = MOST_WRITES + WRITES_FOR_A_LOSS * losses
        found = ((write, times) for write, times in self._most_often.items() if times >= most)
        return [f"{write}: {times} times within {WRITES_SECONDS:g} s" for write, times in found]

    @property
    def writes(self) -> int:
        """Write requests so far."""
        return self._next["w"]

    @property
    def reads(self) -> int:
        return self._next["r"]

    def note(self, line: str) -> None:
        self.trace.append(f"{time.monotonic() - self._started:7.2f} {line}")

    def stir(self, line: str) -> None:
        """Something has been done that the operator has to see first."""
        self.note(line)
        self.busy_at = time.monotonic()

    def meet(self, request: web.Request) -> Any:
        """What to do to a request, in the words of `FaultProxy`."""
        reads = request.method == "GET" or "dryRun" in request.query
        to = "s" if is_watch(request) else "r" if reads else "w"
        number = self._next[to]
        self._next[to] += 1
        if to == "w":
            self.busy_at = time.monotonic()
            self._count(f"{request.method} {request.path}")
        request[NUMBER] = to, number
        request[FAULT] = fault = self.schedule.fault(to, number)
        self.met += fault is not None
        if fault is not None or to == "w":
            self.note(f"{to}{number} {request.method} {request.path}" + (f"   <-- {fault.kind}" if fault else ""))
        return _in_words_of_the_proxy(fault)

    def _count(self, write: str) -> None:
        times = self._writes[write]
        times.append(self.busy_at)
        while times[0] < self.busy_at - WRITES_SECONDS:
            times.popleft()
        self._most_often[write] = max(self._most_often[write], len(times))


def _in_words_of_the_proxy(fault: Fault | None) -> Any:
    match fault:
        case None:
            return None
        case Fault(kind="kill"):
            return "lose"  # nobody is there to read the answer
        case Fault(kind="late"):
            return Late(fault.seconds)
        case Fault(kind="end"):
            return CutAfter(fault.seconds)
        case Fault(kind="hold"):
            return Hold(0.0, fault.seconds)
        case Fault(kind="429"):
            return Answer(429, ANSWERS["429"], (("Retry-After", "0"),))
        case Fault(kind=kind) if kind in ANSWERS:
            return Answer(int(kind), ANSWERS[kind])
        case Fault(kind=kind):
            return kind


class Site:
    """What a scenario works with.

    Attributes:
        scenario: name of the scenario.
        name: of the resource, and of the cluster of all that belongs to it.
        record: what really happens.
        script: how far the schedule is.
        strange: whether there are strangers; then schedulers answer, too.
        port: where they do.
        stranger: who plays the deeds.
    """

    def __init__(self, arena: Arena, namespace: str, schedule: Schedule) -> None:
        self._arena = arena
        self.namespace = namespace
        self.scenario = schedule.scenario
        self.name = f"x{next(arena.numbers)}"
        self.record: Record = arena.observer.record(namespace)
        self.script = Script(schedule)
        self.strange = bool(schedule.deeds)
        self.port = arena.port
        schedulers = FakeSchedulers(arena.port, lambda *args: self.stranger.patch(*args))
        self.stranger = Stranger(self, arena.hand, schedule.deeds, schedulers)
        if self.strange:
            self.record.seen = schedulers.seen
        self._restart = asyncio.Event()
        self._queue: Queue[Key] = Queue()

    # --- the user -----------------------------------------------------------------------------------------------------

    async def apply(self, manifest: Mapping[str, Any]) -> None:
        """As a user or a GitOps tool does."""
        metadata = {**manifest["metadata"], "namespace": self.namespace}
        await self._arena.kubernetes.apply({**manifest, "metadata": metadata}, manager="user")

    async def delete(self, kind: str, name: str) -> None:
        await self._arena.kubernetes.delete(kind, self.namespace, name)

    async def until(self, holds: Callable[[], Any], what: str, why: Callable[[], str] = str) -> None:
        """Wait until ``holds``; ``why`` says why it does not."""
        try:
            await self.record.until(holds, what, seconds=PATIENCE_SECONDS)
        except Violation as late:
            raise Violation(f"{late}; {why()}" if why() else str(late)) from None

    async def settled(self) -> None:
        """Wait until the operator writes no more, and has nothing to do or to try again.

        Raises:
            Violation: it goes on and on.
        """
        patience = Patience(PATIENCE_SECONDS)
        looks = 0  # that found it idle, one after the other: where the machine stalls, time alone says nothing
        while looks < QUIET_LOOKS or time.monotonic() - self.script.busy_at < QUIET_SECONDS:
            if not patience.lasts():
                raise Violation("it is at work without end though nothing changes")
            await asyncio.sleep(QUIET_SECONDS / QUIET_LOOKS)
            queue, looks = self._queue, looks + 1
            if queue.depth or queue.active or queue._failures:  # what failed waits for its next attempt
                self.script.busy_at, looks = time.monotonic(), 0

    async def restarted_in_silence(self) -> None:
        """Start another operator, which may find something that was left, and another, which must not.

        Starts cost as much as half a life: among strangers it is done once, where no fault could have left anything.
        """
        if self.strange and self.script.schedule.faults:
            return
        if not self.strange:
            await self._restarted()
        before = self.script.writes
        await self._restarted()
        if self.script.writes != before:
            raise Violation(f"{self.script.writes - before} writes by a new operator though nothing has changed")

    async def _restarted(self) -> None:
        starts = self.script.starts
        self._restart.set()
        patience = Patience(PATIENCE_SECONDS)
        while self.script.starts == starts:
            if not patience.lasts():
                raise Violation("the operator does not end though it was killed")
            await asyncio.sleep(0.05)
        self.script.busy_at = time.monotonic()
        await self.settled()

    async def empty(self) -> None:
        """Wait until nothing is left; what has no owner any more is not found by the next one either."""
        live, mine = self.record.live, self.stranger.is_mine
        await self.until(lambda: all(map(mine, live)), "nothing is left of it")
        await self.stranger.leave()
        await self.until(lambda: not live, "nothing is left of the stranger")

    # --- operators ----------------------------------------------------------------------------------------------------

    async def operators(self) -> None:
        """One operator after the other, each until it is killed."""
        while True:
            self._restart.clear()
            fault = await self._one()
            self.script.note(f"the operator is dead; the next one in {fault.seconds:g} s")
            await asyncio.sleep(fault.seconds)

    async def _before(self, request: web.Request) -> None:
        if self.strange and NUMBER in request:
            if request.method == "DELETE":
                self.stranger.hands_off(request.path.rpartition("/")[2])
            await self.stranger.before(*request[NUMBER])

    async def _one(self) -> Fault:
        killed: asyncio.Future[Fault] = asyncio.get_running_loop().create_future()

        def answered(request: web.Request) -> None:
            fault = request.get(FAULT)
            if fault is not None and fault.kind == "kill" and not killed.done():
                killed.set_result(fault)

        arena = self._arena
        async with FaultProxy(arena.upstream, arena.session) as relay:
            relay.fault = lambda request: "hang" if killed.done() else self.script.meet(request)
            relay.answered = answered
            relay.before = self._before
            self._queue = Queue(expected=ApiError)
            operator = asyncio.create_task(operate(relay.endpoint, self.namespace, self._queue))
            restart = asyncio.create_task(self._restart.wait())
            self.script.starts += 1
            try:
                await asyncio.wait({operator, killed, restart}, return_when=asyncio.FIRST_COMPLETED)
                if restart.done() and not killed.done():
                    killed.set_result(Fault("w", 0, 0, "kill"))
                if operator.done():
                    raise Violation(f"the operator ended by itself: {operator.exception()!r}")
                return killed.result()
            finally:
                if not killed.done():
                    killed.set_result(Fault("w", 0, 0, "kill"))
                restart.cancel()
                operator.cancel()  # whatever it does about that, the relay passes nothing on
                relay.cut_streams()
                await asyncio.wait({operator, restart})


#: The life of a resource from its creation to its end; raises Violation.
Scenario = Callable[[Site], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a life went."""

    schedule: Schedule
    violation: str | None
    seconds: float
    writes: int
    reads: int
    starts: int
    met: int  #: requests that a fault was for
    deeds: int  #: of the stranger
    busiest: int  #: see `Script`
    trace: tuple[str, ...]

    def __str__(self) -> str:
        trace = "\n    ".join(self.trace[-200:])
        return f"{self.violation}\n  play it again: SCHEDULE='{self.schedule}' pytest tests/faults\n    {trace}"


# --- many lives -------------------------------------------------------------------------------------------------------

_script: contextvars.ContextVar[Script] = contextvars.ContextVar("script")


class _Log(logging.Handler):
    """What operators log goes to the trace of their life."""

    def emit(self, record: logging.LogRecord) -> None:
        script = _script.get(None)
        if script is None or (record.name.endswith(".informer") and not record.exc_info):
            return  # broken watches are many, and nothing that the schedule does not say
        script.note(f"  log: {record.getMessage()}")
        if record.exc_info:
            script.crashes.append(self.format(record))


class Arena:
    """An API server and what all lives share; see `arena`."""

    def __init__(
        self, kubernetes: Kubernetes, hand: Hand, observer: Observer, upstream: Endpoint, session: Any, prefix: str
    ):
        self.kubernetes = kubernetes
        self.hand = hand
        self.port = free_port()
        self.observer = observer
        self.upstream = upstream
        self.session = session
        self.numbers = itertools.count()
        self._prefix = prefix
        self.namespaces: list[str] = []

    async def namespace(self) -> str:
        name = f"{self._prefix}-{len(self.namespaces)}"
        self.namespaces.append(name)
        await self.kubernetes.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    async def live(self, schedule: Schedule, scenario: Scenario, namespace: str) -> Outcome:
        """Play a schedule in an empty namespace."""
        started = time.monotonic()
        site = Site(self, namespace, schedule)
        _script.set(site.script)
        operators = asyncio.create_task(site.operators())
        stranger = asyncio.create_task(site.stranger.run())
        life = asyncio.create_task(self._life(site, scenario))
        violation = None
        try:
            await asyncio.wait({operators, stranger, life}, return_when=asyncio.FIRST_COMPLETED)
            for other in (operators, stranger):
                if other.done():
                    other.result()
            life.result()
        except Exception as found:
            violation = str(found) if isinstance(found, AssertionError) and str(found) else repr(found)
            site.script.note(f"what is there:\n{site.record}")
        finally:
            for task in (life, stranger, operators):
                task.cancel()
            await asyncio.wait({life, stranger, operators})
            await site.stranger.close()
        if violation is None and site.script.crashes:
            violation = f"an exception that nobody expects: {site.script.crashes[0]}"
        if violation is None and (loops := site.script.loops(site.stranger.losses)):
            violation = f"written again and again: {', '.join(loops)}"
        script = site.script
        return Outcome(
            schedule,
            violation,
            time.monotonic() - started,
            script.writes,
            script.reads,
            script.starts,
            script.met,
            len(site.stranger.played),
            script.busiest,
            tuple(script.trace),
        )

    async def _life(self, site: Site, scenario: Scenario) -> None:
        await site.stranger.arrive()
        await scenario(site)

    async def play(
        self,
        schedules: Iterable[Schedule],
        scenarios: Mapping[str, Scenario],
        *,
        concurrency: int = int(os.environ.get("FAULTS_CONCURRENCY", "0")),
        say: Callable[[str], None] = lambda _: None,
    ) -> list[Outcome]:
        """Play schedules, several at a time; the outcomes come in no order."""
        waiting = list(schedules)
        concurrency = concurrency or (AMONG_STRANGERS if any(s.deeds for s in waiting) else CONCURRENCY)
        total, started = len(waiting), time.monotonic()
        waiting.reverse()
        outcomes: list[Outcome] = []

        async def slot() -> None:
            namespace = await self.namespace()
            while waiting:
                schedule = waiting.pop()
                outcome = await asyncio.create_task(self.live(schedule, scenarios[schedule.scenario], namespace))
                outcomes.append(outcome)
                if outcome.violation:
                    say(f"FAILED {schedule}: {outcome.violation}")
                    namespace = await self.namespace()  # something may be left in the old one
                if len(outcomes) % 50 == 0:
                    say(f"{len(outcomes)} of {total} schedules in {time.monotonic() - started:.0f} s")

        async with asyncio.TaskGroup() as slots:
            for _ in range(min(concurrency, total)):
                slots.create_task(slot())
        say(summary(outcomes, time.monotonic() - started))
        return outcomes


def summary(outcomes: Iterable[Outcome], seconds: float) -> str:
    found = list(outcomes)
    lives = sorted(o.seconds for o in found)
    return (
        f"{len(found)} schedules in {seconds:.0f} s: {sum(o.starts - 1 for o in found)} restarts of the operator, "
        f"{sum(o.writes for o in found)} writes (at most {max(o.busiest for o in found)} of one kind in "
        f"{WRITES_SECONDS:g} s), {sum(o.met for o in found)} requests broken, {sum(o.deeds for o in found)} deeds; "
        f"a life takes {lives[len(lives) // 2]:.1f} s (at most {lives[-1]:.1f}); "
        f"{sum(o.violation is not None for o in found)} failed"
    )


@contextlib.asynccontextmanager
async def arena(plane: ControlPlane) -> AsyncIterator[Arena]:
    """Where lives take place; the namespaces are gone afterwards."""
    upstream = find(str(plane.kubeconfig))
    for resource in MORE:
        RESOURCES.setdefault(resource.kind, resource)
    handler, logger = _Log(logging.WARNING), logging.getLogger("dask_controller")
    logger.addHandler(handler)
    logger.propagate = False
    shorter = contextlib.ExitStack()
    shorter.enter_context(mock.patch.object(worker_group, "SHORT_LIFE_SECONDS", SHORT_LIFE_SECONDS))
    shorter.enter_context(mock.patch.object(reconcile, "PERMANENT_RETRY_SECONDS", RETRY_SECONDS))
    try:
        async with (
            Kubernetes(upstream, OPERATOR, connections=100) as kubernetes,
            Hand(upstream, OPERATOR, connections=100) as hand,
            policies(hand),
            upstream_session(upstream) as session,
            Observer(kubernetes) as observer,
        ):
            prefix = f"faults-{os.getpid()}-{time.monotonic_ns() % 10**6}"
            made = Arena(kubernetes, hand, observer, upstream, session, prefix)
            try:
                yield made
            finally:
                for name in made.namespaces:
                    await kubernetes.delete("Namespace", None, name)
                while any(n["metadata"]["name"] in made.namespaces for n in await kubernetes.list("Namespace")):
                    await asyncio.sleep(0.5)
    finally:
        shorter.close()
        logger.removeHandler(handler)
        logger.propagate = True
