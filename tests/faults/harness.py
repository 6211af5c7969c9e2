"""The whole operator against a real API server, through a relay that plays a schedule of faults.

Many lives go on at a time, each in a namespace of its own.
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
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any
from unittest import mock

from tests.cluster import ControlPlane
from tests.cluster.processes import free_port
from tests.support.fault_proxy import upstream_session

from dask_controller.core import worker_group
from dask_controller.kube.client import Kubernetes
from dask_controller.kube.credentials import Endpoint, find
from dask_controller.shell import reconcile

from .life import RETRY_SECONDS, SHORT_LIFE_SECONDS, Scenario, Site
from .observer import Observer
from .schedule import Schedule
from .script import WRITES_SECONDS, Script
from .stranger import STRANGER, Hand, policies

#: Lives at a time, which mostly wait; and among strangers, where they do not: more would only make each of them slow,
#: and time-outs be met.
CONCURRENCY, AMONG_STRANGERS = 40, 16


#: Resources of a life where the operator has limits, at most.
MOST_RESOURCES = 4


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
        others = {operators, stranger, *([asyncio.create_task(site.kueue.run())] if site.queued else [])}
        violation = None
        try:
            await asyncio.wait({life, *others}, return_when=asyncio.FIRST_COMPLETED)
            for other in others:
                if other.done():
                    other.result()
            life.result()
        except Exception as found:
            violation = str(found) if isinstance(found, AssertionError) and str(found) else repr(found)
            site.script.note(f"what is there:\n{site.record}")
        finally:
            for task in (life, *others):
                task.cancel()
            await asyncio.wait({life, *others})
            await site.stranger.close()
        if violation is None and site.script.crashes:
            violation = f"an exception that nobody expects: {site.script.crashes[0]}"
        losses = site.stranger.losses + site.queued  # a new image: it is queued anew, and so starts again
        losses += (MOST_RESOURCES - 1) * bool(site.limits)  # each of several is made, and tells of itself
        if violation is None and (loops := site.script.loops(losses)):
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
async def arena(plane: ControlPlane, *, queued: bool = False) -> AsyncIterator[Arena]:
    """Where lives take place, ``queued`` ones too if it has Kueue's CRDs; the namespaces are gone afterwards."""
    upstream = find(str(plane.kubeconfig))
    handler, logger = _Log(logging.WARNING), logging.getLogger("dask_controller")
    logger.addHandler(handler)
    logger.propagate = False
    shorter = contextlib.ExitStack()
    shorter.enter_context(mock.patch.object(worker_group, "SHORT_LIFE_SECONDS", SHORT_LIFE_SECONDS))
    shorter.enter_context(mock.patch.object(reconcile, "PERMANENT_RETRY_SECONDS", RETRY_SECONDS))
    try:
        async with (
            Kubernetes(upstream, STRANGER, connections=100) as kubernetes,
            Hand(upstream, STRANGER, connections=100) as hand,
            policies(hand),
            upstream_session(upstream) as session,
            Observer(kubernetes, queued=queued) as observer,
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
