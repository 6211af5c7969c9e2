"""One life: an operator after the other, and what a scenario does to it.

Only kopf is left out: what its watches do, to wake a resource, is done by informers here. So an operator is a task that
can be killed right after a certain write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web
from tests.support.fault_proxy import FaultProxy
from tests.support.patience import Patience

from dask_controller.core.limits import Limits
from dask_controller.kube.api import ApiError
from dask_controller.kube.client import Kubernetes
from dask_controller.kube.credentials import Endpoint
from dask_controller.kube.informer import Informer
from dask_controller.kube.workqueue import Queue
from dask_controller.schedulers.pollers import SchedulerPollers
from dask_controller.shell.caches import Caches, Key
from dask_controller.shell.caller import OPERATOR
from dask_controller.shell.limited import take_places
from dask_controller.shell.places import Places
from dask_controller.shell.reconcile import Reconciler
from dask_controller.shell.wakeups import wake_by
from dask_crds.kinds import RESOURCES
from dask_crds.model import KINDS
from dask_crds.names import Label

from .kueue import Kueue
from .observer import Manifest, Record, Violation
from .schedule import Fault, Schedule
from .schedulers import Schedulers as FakeSchedulers
from .script import FAULT, NUMBER, Script
from .stranger import Stranger

if TYPE_CHECKING:
    from .harness import Arena

#: The operator's patience with a request; shorter than in earnest, so that hanging requests cost little.
TIMEOUT_SECONDS = 4.0
#: For how long an operator must have nothing to do before a resource counts as settled.
QUIET_SECONDS, QUIET_LOOKS = 1.0, 20
#: How long anything may take; the slowest faults cost a few seconds each.
PATIENCE_SECONDS = 90.0
#: What a namespace may have at a time where the operator has limits.
LIMITS = Limits(jobs=2, clusters=2, workers=4)
#: Seconds that a place whose Pods fail at once stays empty, and after which what was refused is tried again. These are
#: shorter than in earnest too.
SHORT_LIFE_SECONDS = 6.0
RETRY_SECONDS = 3.0


async def operate(
    endpoint: Endpoint, namespace: str, queue: Queue[Key], *, queued: bool = False, limits: Limits | None = None
) -> None:
    """An operator until cancelled: `dask_controller.shell.main.run` for one namespace, without kopf and probes.

    It knows of Kueue where ``queued``.
    """
    places = Places(limits, Label.OWNER, queue.add_after) if limits is not None else None
    async with (
        Kubernetes(endpoint, OPERATOR, timeout_seconds=TIMEOUT_SECONDS) as kubernetes,
        asyncio.TaskGroup() as tasks,
    ):
        caches = Caches(kubernetes, [namespace], wake_by(queue.add_after), places=places)
        for informer in caches.informers.values():
            tasks.create_task(informer.run())
        if queued:
            tasks.create_task(_follow_queues(caches))
            await caches.queues.known.wait()
        await caches.synced()
        await _take_places(caches, kubernetes, namespace)
        for kind in KINDS:
            tasks.create_task(_waker(kubernetes, namespace, queue, kind).run())
        pollers = SchedulerPollers[Key](lambda key, _: queue.add(key))
        try:
            await queue.run(Reconciler(kubernetes, caches, pollers, domain="cluster.local"))
        finally:
            await pollers.close()


async def _follow_queues(caches: Caches) -> None:
    while True:
        try:
            await caches.queues.run()
        except ApiError:  # in earnest the process ends, and the next one asks again
            await asyncio.sleep(0.1)


async def _take_places(caches: Caches, kubernetes: Kubernetes, namespace: str) -> None:
    while True:
        try:
            return await take_places(caches, kubernetes, [namespace])
        except ApiError:  # likewise
            await asyncio.sleep(0.1)


def _waker(kubernetes: Kubernetes, namespace: str, queue: Queue[Key], kind: str) -> Informer[Manifest]:
    def wake(old: Manifest | None, new: Manifest | None) -> None:
        queue.add(Key(kind, namespace, (new or old or {})["metadata"]["name"]))

    return Informer(kubernetes, RESOURCES[kind], project=lambda m: m, on_change=wake, namespaces=[namespace])


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
        queued: whether what it is about waits for quota.
        kueue: who grants that.
        limits: those of the operator.
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
        self.queued = self.scenario.startswith("queued")
        self.kueue = Kueue(arena.hand, self.record, self.script.stir)
        self.limits = LIMITS if self.scenario.startswith("limited") else None
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
        Where schedulers answered otherwise for a while, the first tells what they say now: nobody had asked since.
        """
        if self.strange and self.script.schedule.faults:
            return
        if not self.strange or self.stranger.schedulers.turned:
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
            operator = asyncio.create_task(
                operate(relay.endpoint, self.namespace, self._queue, queued=self.queued, limits=self.limits)
            )
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
