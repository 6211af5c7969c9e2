"""Put a planner's questions to a cluster's scheduler."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from dask_crds import names

from ..core.actions import Answers, Ask, Worker
from ..core.observed import Pod
from .dask import Scheduler, SchedulerError, State


class Schedulers:
    """Questions to schedulers, by the address of the scheduler's Pod.

    The Pod rather than the Service is asked, so that an answer is known to come from the scheduler that was observed.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def answer(self, pods: Sequence[Pod], ask: Ask) -> Answers:
        """The answers; ``silent`` says why there are none."""
        pod = next((p for p in pods if p.ip and not p.deleting), None)
        if pod is None:
            return Answers(silent="the scheduler has no address yet")
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        scheduler = Scheduler(f"http://{host}:{names.DASHBOARD_PORT_NUMBER}", self._session)
        try:
            return await _answer(scheduler, ask)
        except SchedulerError as error:
            return Answers(silent=str(error))


async def _answer(scheduler: Scheduler, ask: Ask) -> Answers:
    if ask.resume:
        await scheduler.resume(ask.resume)
    state = await scheduler.state() if ask.idle or ask.registered else None
    return Answers(
        progress=await scheduler.progress() if ask.progress else None,
        versions=await scheduler.versions() if ask.versions else None,
        idle_seconds=state.idle_seconds if state else None,
        registered=_registered(state, ask.registered) if state else None,
        ranked=tuple(await scheduler.workers_to_close(ask.rank)) if ask.rank else None,
        retirement=await scheduler.retire(ask.retire) if ask.retire else None,
        target=await scheduler.adaptive_target(ask.target) if ask.target else None,
    )


def _registered(state: State, pods: Sequence[Worker]) -> frozenset[str]:
    """Names of the Pods of which the scheduler knows a worker: by name, by ``<name>-<n>``, or by address."""
    known = {worker.name for worker in state.workers}
    known |= {head for head, _, tail in (name.rpartition("-") for name in known) if tail.isdecimal()}
    hosts = {worker.host for worker in state.workers}
    return frozenset(pod.name for pod in pods if pod.name in known or pod.ip in hosts)
