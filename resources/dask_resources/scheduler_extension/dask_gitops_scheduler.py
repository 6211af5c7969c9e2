"""Routes that the dask-gitops operator needs on a Dask scheduler: scale down without loss, and by group.

This file is mounted into the scheduler Pod and preloaded there (``distributed.scheduler.preload``). It must run with
any ``distributed`` of the last two years and must never break a scheduler that it does not know. Hence: only the
standard library, tornado and distributed; ``dask_setup`` adds routes and nothing else, and distributed logs and goes
on if that fails; an error inside a handler is answered with status 500 and leaves the scheduler as it was.

All answers are recomputed from the scheduler's state; asking twice is as good as asking once. Only the workers that a
request names are ever touched.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed.core import Status
from distributed.http.utils import RequestHandler

try:
    from distributed import __version__ as _distributed_version  # type: ignore[attr-defined]
except ImportError:
    _distributed_version = "unknown"

VERSION = "1"
PREFIX = "/dask-gitops/v1"


class _Retirement:
    """What is remembered of a worker that was told to go: only what the scheduler's state does not show."""

    def __init__(self, last_seen: float) -> None:
        self.heartbeat = last_seen
        self.heartbeats = 0  # that came in since; the second one surely tells what a paused worker still executes
        self.busy = False  # a call of Scheduler.retire_workers is under way


def _retirements(scheduler: Any) -> dict[str, _Retirement]:
    """By worker address, kept on the scheduler so that they live and die with it."""
    known: dict[str, _Retirement] = scheduler.__dict__.setdefault("_dask_gitops_retirements", {})
    for address in set(known) - set(scheduler.workers):
        del known[address]
    return known


def _find(scheduler: Any, worker: Any) -> list[Any]:
    """The processes of one worker Pod: registered as its name or ``<name>-<n>`` (``--nworkers``), else by address."""
    name, ip = (worker, "") if isinstance(worker, str) else (worker["name"], worker.get("ip") or "")
    found = []
    for state in scheduler.workers.values():
        registered = str(state.name)
        head, _, tail = registered.rpartition("-")
        if registered == name or (head == name and tail.isdigit()) or (ip and state.host == ip):
            found.append(state)
    return found


async def _retire(scheduler: Any, addresses: list[str]) -> None:
    """Let the scheduler move unique keys away; the workers stay registered, so that nothing restarts them."""
    try:
        await scheduler.retire_workers(workers=addresses, close_workers=False, remove=False)
    finally:
        for address, retirement in _retirements(scheduler).items():
            if address in addresses:
                retirement.busy = False


def _reschedule_waiting(scheduler: Any, state: Any, retirement: _Retirement) -> None:
    """Give back the tasks that a paused worker has queued but not begun; those that run are waited for.

    What runs is known from heartbeats. The first one after the pause may have been sent before it, the second was not.
    """
    if state.last_seen != retirement.heartbeat:
        retirement.heartbeat = state.last_seen
        retirement.heartbeats += 1
    if retirement.heartbeats < 2:
        return
    running = set(state.executing) | set(state.long_running)
    for task in [task for task in state.processing if task not in running]:
        scheduler._reschedule(task.key, worker=state.address, stimulus_id=f"dask-gitops-{time.time()}")


def retire(scheduler: Any, workers: Iterable[Any]) -> dict[str, str]:
    """Tell workers to go, and how far they are.

    Returns by name: ``retired`` (no task runs there, no result is held by it alone; it stays registered),
    ``retiring: <what is left>``, ``unknown`` (not registered) or ``refused: <why>`` (for now).
    """
    found = {_name(worker): _find(scheduler, worker) for worker in workers}
    retirements = _retirements(scheduler)
    leaving = {state.address for states in found.values() for state in states}
    recipients = any(w.address not in leaving and w.status == Status.running for w in scheduler.workers.values())
    begin: list[str] = []
    answer: dict[str, str] = {}
    for name, states in found.items():
        left = [_left(state, leaving, recipients, retirements, begin, scheduler) for state in states]
        answer[name] = next((text for text in sorted(left) if text), "retired") if states else "unknown"
    if begin:
        scheduler._ongoing_background_tasks.call_soon(_retire, scheduler, begin)
    return answer


def _left(
    state: Any,
    leaving: set[str],
    recipients: bool,
    retirements: dict[str, _Retirement],
    begin: list[str],
    scheduler: Any,
) -> str:
    """What still keeps one worker process from being closed, empty for nothing; ``begin`` collects whom to retire."""
    retirement = retirements.setdefault(state.address, _Retirement(state.last_seen))
    unique = _only_here(state, leaving)
    if unique and not recipients:
        return f"refused: it holds {unique} results that no other worker can take"
    paused = state.status == Status.closing_gracefully
    if not retirement.busy and (not paused or unique):
        retirement.busy = True
        begin.append(state.address)
    if paused:
        _reschedule_waiting(scheduler, state, retirement)
    if paused and not unique and not state.processing and not retirement.busy:
        return ""
    return f"retiring: {len(state.processing)} tasks and {unique} results left"


def _only_here(state: Any, leaving: set[str]) -> int:
    """How many results would be lost if all that leave were gone."""
    return sum(
        1
        for task in state.has_what
        if not any(w.address not in leaving and w.status == Status.running for w in task.who_has)
    )


def resume(scheduler: Any, workers: Iterable[Any]) -> dict[str, str]:
    """Take back a retirement: the workers accept tasks again."""
    answer = {}
    for worker in workers:
        states = _find(scheduler, worker)
        answer[_name(worker)] = "running" if states else "unknown"
        for state in states:
            _retirements(scheduler).pop(state.address, None)
            if state.status == Status.closing_gracefully:
                # As Scheduler._track_retire_worker does when it finds no recipients.
                stimulus = f"dask-gitops-{time.time()}"
                scheduler.stream_comms[state.address].send(
                    {"op": "worker-status-change", "status": Status.running.name, "stimulus_id": stimulus}
                )
                answer[_name(worker)] = "resuming"
    return answer


def workers_to_close(scheduler: Any, workers: Iterable[Any]) -> list[str]:
    """The given workers in the order in which closing them costs least.

    First those that no task runs on, then by the data that would have to move; Scheduler.workers_to_close weighs the
    same, but over all workers, and keeps those that are busy.
    """

    def cost(worker: Any) -> tuple[bool, int, int]:
        states = _find(scheduler, worker)
        processing = sum(len(state.processing) for state in states)
        return processing > 0, sum(state.nbytes for state in states), processing

    return [_name(worker) for worker in sorted(workers, key=cost)]


def idle_seconds(scheduler: Any) -> float | None:
    """For how long there has been nothing to do; ``None`` while there is. Nothing is changed by asking but this note.

    ``Scheduler.check_idle`` would do, but it also carries out the scheduler's own idle timeout.
    """
    note = scheduler.__dict__.setdefault("_dask_gitops_idle", {"transitions": -1, "since": None})
    busy = (
        scheduler.transition_counter != note["transitions"]
        or scheduler.queued
        or scheduler.unrunnable
        or any(state.processing for state in scheduler.workers.values())
        or getattr(scheduler, "_active_graph_updates", 0) > 0
    )
    now = time.time()
    note["transitions"] = scheduler.transition_counter
    if busy:
        note["since"] = None
        if not (scheduler.queued or scheduler.unrunnable or any(s.processing for s in scheduler.workers.values())):
            note["since"] = now  # tasks came and went since the last look
            return 0.0
        return None
    if note["since"] is None:
        note["since"] = now
    since: float = note["since"]
    if getattr(scheduler, "jupyter", False):
        activity = scheduler._jupyter_server_application.web_app.last_activity().timestamp()
        since = max(since, activity)
    return max(0.0, now - since)


def adaptive_target(scheduler: Any, workers: Iterable[Any], resources: dict[str, float]) -> int:
    """How many Pods like the given ones would do: ``Scheduler.adaptive_target`` for one group.

    Counted are the tasks that run on these workers, those that wait for any worker, and those that no present worker
    can take but one with ``resources`` could. A task whose resources this group does not offer does not count.
    """
    pods = [states for states in (_find(scheduler, worker) for worker in workers) if states]
    mine = {state.address for states in pods for state in states}
    duration = parse_timedelta(dask.config.get("distributed.adaptive.target-duration"))

    waiting = [*scheduler.queued, *(t for t in scheduler.unrunnable if _fits(t, resources, mine))]
    processing = sum(len(state.processing) for states in pods for state in states)
    if not waiting and not processing and not any(state.has_what for states in pods for state in states):
        return 0
    sample = waiting[:100]
    occupancy = sum(scheduler._get_prefix_duration(task.prefix) for task in sample)
    if len(waiting) > len(sample):
        occupancy *= len(waiting) / len(sample)
    occupancy += sum(state.occupancy for states in pods for state in states)
    threads = min(math.ceil(occupancy / duration), len(waiting) + processing)
    per_pod = sum(state.nthreads for states in pods for state in states) / len(pods) if pods else 1
    target: int = math.ceil(threads / max(1, per_pod))
    if waiting:
        target = max(1, target)
    limit = sum(state.memory_limit or 0 for states in pods for state in states)
    used = sum(state.nbytes for states in pods for state in states)
    if limit and used > 0.6 * limit:
        target = max(target, 2 * len(pods))
    # Workers that run something or hold what nobody else has are needed; idle ones go if the rest does as well.
    needed = sum(1 for states in pods if any(s.processing or _only_here(s, {s.address}) for s in states))
    return max(target, needed)


def _fits(task: Any, resources: dict[str, float], mine: set[str]) -> bool:
    wanted = task.resource_restrictions or {}
    if any(resources.get(name, 0) < amount for name, amount in wanted.items()):
        return False
    restrictions = task.worker_restrictions or task.host_restrictions
    return not restrictions or bool(mine & set(task.worker_restrictions or ())) or bool(wanted)


def state(scheduler: Any) -> dict[str, Any]:
    """What the operator wants to know at a glance; cheap with a thousand workers."""
    return {
        "version": VERSION,
        "distributed": _distributed_version,
        "id": scheduler.id,
        "idle_seconds": idle_seconds(scheduler),
        "workers": [
            {
                "name": str(worker.name),
                "address": worker.address,
                "host": worker.host,
                "status": worker.status.name,
                "nthreads": worker.nthreads,
                "nbytes": worker.nbytes,
                "processing": len(worker.processing),
                "resources": dict(worker.resources),
            }
            for worker in scheduler.workers.values()
        ],
        "tasks": {
            "total": len(scheduler.tasks),
            "queued": len(scheduler.queued),
            "unrunnable": len(scheduler.unrunnable),
        },
    }


def _name(worker: Any) -> str:
    return worker if isinstance(worker, str) else str(worker["name"])


def _workers(body: Any) -> Iterator[Any]:
    """The workers that a request names, checked for their shape."""
    workers = body.get("workers") if isinstance(body, dict) else None
    if not isinstance(workers, list):
        raise ValueError('expected {"workers": [...]}')
    for worker in workers:
        if not (isinstance(worker, str) or (isinstance(worker, dict) and isinstance(worker.get("name"), str))):
            raise ValueError('a worker is a name or {"name": ..., "ip": ...}')
        yield worker


class _State(RequestHandler):
    def get(self) -> None:
        self.write(json.dumps(state(self.server)))


class _Question(RequestHandler):
    """A question about named workers."""

    def answer(self, workers: list[Any], body: dict[str, Any]) -> Any:
        raise NotImplementedError

    def post(self) -> None:
        try:
            body = json.loads(self.request.body)
            workers = list(_workers(body))
        except ValueError as error:
            self.set_status(400)
            self.write(json.dumps({"message": str(error)}))
            return
        self.write(json.dumps(self.answer(workers, body)))


class _Retire(_Question):
    def answer(self, workers: list[Any], body: dict[str, Any]) -> Any:
        return {"workers": retire(self.server, workers)}


class _Resume(_Question):
    def answer(self, workers: list[Any], body: dict[str, Any]) -> Any:
        return {"workers": resume(self.server, workers)}


class _WorkersToClose(_Question):
    def answer(self, workers: list[Any], body: dict[str, Any]) -> Any:
        return {"workers": workers_to_close(self.server, workers)}


class _AdaptiveTarget(_Question):
    def answer(self, workers: list[Any], body: dict[str, Any]) -> Any:
        return {"target": adaptive_target(self.server, workers, body.get("resources") or {})}


def dask_setup(scheduler: Any) -> None:
    """Called by distributed when the scheduler has started (preload)."""
    handlers = {
        "state": _State,
        "retire": _Retire,
        "resume": _Resume,
        "workers_to_close": _WorkersToClose,
        "adaptive_target": _AdaptiveTarget,
    }
    scheduler.http_application.add_handlers(
        r".*", [(f"{PREFIX}/{name}", handler, {"dask_server": scheduler}) for name, handler in handlers.items()]
    )
