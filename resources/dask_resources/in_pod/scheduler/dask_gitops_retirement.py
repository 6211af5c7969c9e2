"""Scaling down without loss: workers are told to go, and their results moved, before anybody stops them.

For what each step relies on in distributed, see "Retirement" in ``docs/decisions/0003-scheduler-extension.md``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from itertools import count
from typing import Any, NamedTuple

from dask_gitops_requests import Pod
from dask_gitops_workers import Workers

#: A worker confirms within milliseconds that it works again; after this long it is believed to have stayed paused.
RESUME_SECONDS = 5.0

_stimuli = count()


class _Drain:
    """What the scheduler's own state does not say about a worker that was asked to go."""

    moving = False  #: a call of Scheduler.retire_workers is under way
    unwanted = False  #: ... and has been taken back since
    resumed_at = -math.inf  #: monotonic time at which the worker was told to work again


class _Remaining(NamedTuple):
    """What keeps a worker process from being closed."""

    why: str  #: if empty, only these:
    tasks: int = 0
    results: int = 0


class Retirement:
    """Retires the workers of a scheduler, and takes retirements back."""

    def __init__(self, scheduler: Any, workers: Workers) -> None:
        self._scheduler, self._workers = scheduler, workers
        self._drains: dict[str, _Drain] = {}  # by worker address
        self._work_stealing = scheduler.stream_handlers.get("steal-response")
        scheduler.stream_handlers["steal-response"] = self._on_steal_response

    def retire(self, pods: Iterable[Pod]) -> dict[str, str]:
        """Tell Pods to go, and say how far they are.

        Returns:
            By name: ``retired`` (registered, takes no tasks, runs none, holds no results), ``retiring: <what is
            left>``, ``unknown`` (not registered) or ``refused: <why>`` (it works on; asking again is fine). A Pod of
            several worker processes is retired when all of them are.
        """
        self._forget_closed()
        found = self._workers.of(pods)
        kept = self._workers.kept_by_plugins(found)
        asked = {ws for processes in found.values() for ws in processes}
        leaving = asked | {self._scheduler.workers[address] for address, drain in self._drains.items() if drain.moving}
        recipients = any(ws not in leaving for ws in self._scheduler.running)
        begin: list[str] = []
        remaining = {ws: self._remaining(ws, leaving, kept, recipients, begin) for ws in asked}
        answer = {}
        for pod, processes in found.items():
            left = [some for ws in processes if (some := remaining[ws])]
            answer[pod.name] = _in_words(left) if processes else "unknown"
        if begin:
            self._scheduler._ongoing_background_tasks.call_soon(self._move, begin)
        return answer

    def resume(self, pods: Iterable[Pod]) -> dict[str, str]:
        """Take a retirement back.

        Returns:
            By name: ``resuming`` (told so; it takes tasks as soon as it confirms), ``unknown``, else its status.
        """
        self._forget_closed()
        answer = {}
        for pod, processes in self._workers.of(pods).items():
            resuming = [self._resume(ws) for ws in processes]
            answer[pod.name] = "resuming" if any(resuming) else processes[0].status.name if processes else "unknown"
        return answer

    def _forget_closed(self) -> None:
        for address in self._drains.keys() - self._scheduler.workers.keys():
            del self._drains[address]

    def _remaining(
        self, ws: Any, leaving: set[Any], kept: set[Any], recipients: bool, begin: list[str]
    ) -> _Remaining | None:
        """What keeps a worker process from being closed, if anything; ``begin`` collects those to be retired."""
        if ws.status.name not in ("running", "paused", "closing_gracefully"):
            return _Remaining(f"retiring: it is {ws.status.name}")
        drain = self._drains.setdefault(ws.address, _Drain())
        unique = _only_copies(ws, leaving)
        stays = _why_it_stays(ws, kept, recipients, unique)
        if stays:
            self._resume(ws)
            return _Remaining(stays)
        paused = ws.status.name == "closing_gracefully"
        if not paused:
            drain.resumed_at = -math.inf
        elif time.monotonic() - drain.resumed_at < RESUME_SECONDS:
            # Once it confirms, the scheduler sends it tasks: "retired" would be untrue by the time it is read.
            return _Remaining("retiring: it is about to work again")
        drain.unwanted = False
        if not drain.moving and (unique or not paused):
            drain.moving = True
            begin.append(ws.address)
        if paused:
            self._take_back_waiting(ws)
            if not (drain.moving or ws.processing):
                return self._drop_copies(ws)
        return _Remaining("", len(ws.processing), unique)

    async def _move(self, addresses: list[str]) -> None:
        """Pause workers and have the Active Memory Manager copy what only they hold.

        They stay registered, because the kubelet restarts a worker process that ends.
        """
        moved: dict[str, Any] = {}
        try:
            moved = await self._scheduler.retire_workers(workers=addresses, close_workers=False, remove=False)
        finally:
            for address in addresses:
                ws = self._scheduler.workers.get(address)
                drain = self._drains.get(address)
                if ws is None or drain is None:
                    continue
                drain.moving = False
                if drain.unwanted or address not in moved:  # the latter if the scheduler has given up
                    self._resume(ws)

    def _drop_copies(self, ws: Any) -> _Remaining | None:
        """Have a worker forget the results that others hold as well, so that nobody looks there once it has gone.

        ``Scheduler.retire_workers`` returns before the Active Memory Manager does this, up to 2 s later.
        """
        if not ws.has_what:
            return None
        keys = [task.key for task in ws.has_what]
        self._scheduler.request_remove_replicas(ws.address, keys, stimulus_id=_stimulus())
        return _Remaining(f"retiring: forgets {len(keys)} results that others hold as well")

    def _take_back_waiting(self, ws: Any) -> None:
        """Take back the tasks that a paused worker has not begun, and never would; it alone knows which these are.

        They are asked for as in ``WorkStealing.move_task_request``. The request follows the order to pause in the same
        stream, so nothing begins after the answer.
        """
        for task in list(ws.processing):
            if task not in ws.long_running:
                self._send(ws, {"op": "steal-request", "key": task.key})

    def _on_steal_response(self, *, key: Any, state: Any, stimulus_id: str, worker: str = "", **more: Any) -> None:
        """A worker's answer to a request for a task: to ours it is handled here, to others by work stealing."""
        if not stimulus_id.startswith("dask-gitops-"):
            if self._work_stealing is not None:
                self._work_stealing(key=key, state=state, stimulus_id=stimulus_id, worker=worker, **more)
        elif state in ("ready", "constrained", "waiting", "released", None):  # as WorkStealing.move_task_confirm
            self._scheduler._reschedule(key, worker=worker, stimulus_id=stimulus_id)

    def _resume(self, ws: Any) -> bool:
        """Whether a worker has yet to work again; it is told to as ``Scheduler._track_retire_worker`` does."""
        drain = self._drains.setdefault(ws.address, _Drain())
        drain.unwanted = True  # a retirement that is just beginning is taken back when it is through
        if ws.status.name != "closing_gracefully":
            return drain.moving and drain.resumed_at == -math.inf
        if time.monotonic() - drain.resumed_at >= RESUME_SECONDS:
            drain.resumed_at = time.monotonic()
            self._send(ws, {"op": "worker-status-change", "status": "running"})
        return True

    def _send(self, ws: Any, message: dict[str, Any]) -> None:
        stream = self._scheduler.stream_comms.get(ws.address)
        if stream is not None:
            stream.send({**message, "stimulus_id": _stimulus()})


def _stimulus() -> str:
    return f"dask-gitops-{next(_stimuli)}-{time.time()}"


def _in_words(left: list[_Remaining]) -> str:
    """How far a Pod's retirement is, by what remains of each of its processes."""
    if not left:
        return "retired"
    tasks, results = sum(some.tasks for some in left), sum(some.results for some in left)
    draining = f"retiring: {tasks} tasks and {results} results left"
    return min((some.why for some in left if some.why), default=draining)  # "refused" before "retiring"


def _only_copies(ws: Any, leaving: set[Any]) -> int:
    """How many results would be lost with a worker and all others that leave."""

    def stays(other: Any) -> bool:
        return other not in leaving and other.status.name in ("running", "paused")

    return sum(1 for task in ws.has_what if not any(stays(other) for other in task.who_has or ()))


def _why_it_stays(ws: Any, kept: set[Any], recipients: bool, unique: int) -> str:
    """Why a worker should work on for now rather than be paused; empty if it need not."""
    if ws.actors:  # RetireWorker in distributed.active_memory_manager gives up on these, too
        return f"refused: holds {len(ws.actors)} actors, which cannot move"
    if unique and not recipients:
        return f"refused: holds the only copy of {unique} keys and no other worker can take them"
    if ws.processing and not recipients:
        return f"refused: runs {len(ws.processing)} tasks and no other worker can take their results"
    if ws in kept:
        return "retiring: a plugin of the scheduler needs it, as P2P shuffles do until they are through"
    return ""
