"""A record of what a scheduler did, in a volume or an object store: written every few seconds, so that little is lost.

The scheduler is never held up by either: what is to be written is gathered where it runs, in bounded time and size,
and written by a thread. One that hangs is reported, and ends with the process. Nothing of an environment, a command
line or an annotation gets into a record; what tasks have raised does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from tornado.ioloop import PeriodicCallback

import dask_gitops_record as records
from dask_gitops_places import place, what
from dask_gitops_requests import Malformed
from dask_gitops_status import Status
from dask_gitops_work import MOVES, Work

#: Tells what to write where, see ``dask_resources.history``.
VARIABLE = "DASK_GITOPS_HISTORY"
#: How often the record is written, and how long the end of the scheduler waits for a report, and for the last time.
WRITE_SECONDS, LAST_SECONDS = 10.0, 5.0
#: What takes longer to write does not answer.
ANSWER_SECONDS = 5.0
#: How often a point of the timeline is noted, at first. There are at most so many: then every second one goes.
POINT_SECONDS, MOST_POINTS = 1.0, 1000
#: Task prefixes, errors, changes of workers and lines of the log in a record.
MOST_PREFIXES, MOST_ERRORS, MOST_CHANGES, MOST_LINES = 200, 20, 500, 500
#: Characters of a name, of what a task has raised, where it was raised, and of a line of the log.
NAME, RAISED, TRACEBACK, LINE = 200, 1000, 4000, 300
#: Characters of what the operator tells of the run, and bytes of a performance report.
MOST_TOLD, MOST_REPORT = 64 * 1024, 16 * 2**20
#: What the timeline tells of each point; the first is in seconds since ``began``.
COLUMNS = ("seconds", "workers", "processing", "waiting", "done", "memory")

_logger = logging.getLogger("distributed.dask_gitops")


class Destination(NamedTuple):
    """Where the record goes, as the operator tells."""

    root: str  #: of the volume, or URL of the object store
    path: str  #: within it
    keep: int  #: newest records
    namespace: str
    name: str  #: of the cluster
    run: str  #: uid of the cluster: all its schedulers are of one run

    @property
    def within(self) -> str:
        """The folder of the cluster's records, within the volume or object store."""
        return "/".join(part for part in (self.path, self.namespace, self.name) if part)


class History:
    """Keeps the record of a scheduler."""

    def __init__(self, scheduler: Any, destination: Destination, status: Status, work: Work) -> None:
        self._scheduler, self._destination, self._status, self._work = scheduler, destination, status, work
        self._began = time.time()
        self._life = records.name_of(self._began, scheduler.id)
        self._store: records.Store | None = None
        self._pod = socket.gethostname()
        self._points: list[list[float]] = []
        self._interval, self._noted = POINT_SECONDS, 0.0
        self._most_workers = 0
        self._outcome: dict[str, Any] = {"outcome": "AtWork"}
        self._failures: list[dict[str, Any]] = []
        self._report: str | None = None
        self._reporting: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None
        self._writing_since = 0.0
        self._path, self._problem = "", ""
        for name, look, seconds in (
            ("point", self._note, POINT_SECONDS),
            ("record", self._write, WRITE_SECONDS),
            ("lost", self._look_back, records.LOST_SECONDS + WRITE_SECONDS / 2),  # between two of the writes
        ):
            callback = PeriodicCallback(look, seconds * 1000)
            scheduler.periodic_callbacks[f"dask-gitops-{name}"] = callback  # the scheduler stops it when it closes
            callback.start()
        self._run(self._close_lost)

    @classmethod
    def from_environment(cls, scheduler: Any, status: Status, work: Work) -> History | None:
        """The record that the operator wants to have kept, if any."""
        told = os.environ.get(VARIABLE)
        if not told:
            return None
        try:
            destination = Destination(**json.loads(told))
        except (ValueError, TypeError) as error:
            _logger.error("dask-gitops: %s: %s", VARIABLE, error)
            return None
        return cls(scheduler, destination, status, work)

    def place(self) -> dict[str, str]:
        """Where the record is within its volume, empty before there is any; and why it could not be written last.

        Whoever asks is about to note it, maybe for the last time: one that is yet to be written is so at once.
        """
        if not self._path and self._has_worked and not self._is_writing:
            self._write()
        planned = f"{self._destination.within}/{self._life}" if self._has_worked else ""
        return {"path": self._path or planned, "problem": self._problem}

    def note_failures(self, told: str) -> dict[str, str]:
        """Note how workers have ended that failed and go, by the account of the operator, as JSON."""
        try:
            ends = json.loads(told)
        except (ValueError, RecursionError):
            ends = None
        if not isinstance(ends, list):
            raise Malformed("expected the JSON of a list of ends of containers")
        self._failures = records.failures(self._failures, ends)
        return self.place()

    def ends(self, told: str) -> dict[str, str]:
        """Note how the run has ended, by the account of the operator: the status of its job, as JSON."""
        try:
            status = json.loads(told)
            conditions = {c["type"]: c for c in status.get("conditions") or () if c["status"] == "True"}
            end = conditions.get("Complete") or conditions["Failed"]
            ending = {"outcome": end["type"], "reason": end["reason"], "message": end.get("message") or ""}
            ending |= {part: status.pop(part, []) for part in records.TRACES}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Malformed("expected the JSON of the status of a run that has ended") from None
        before, self._outcome = self._outcome, {**ending, "status": status}
        if self._outcome != before:
            self._write()
            self._reporting = asyncio.ensure_future(self._reported())
        return self.place()

    async def close(self) -> None:
        """The last that is written."""
        if self._outcome["outcome"] == "AtWork":
            self._outcome = {"outcome": "Stopped"}
        if self._reporting is not None:
            await asyncio.wait({self._reporting}, timeout=LAST_SECONDS)
        end = time.monotonic() + LAST_SECONDS
        await self._written(end - LAST_SECONDS / 2)
        self._write(ended=True)
        await self._written(end)

    async def _written(self, until: float) -> None:
        thread = self._thread
        while thread is not None and thread.is_alive() and time.monotonic() < until:  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.01)

    async def _reported(self) -> None:
        """A performance report, once the run has ended: to make one takes a second or two of the scheduler's time."""
        try:
            import bokeh  # noqa: F401

            report = await self._scheduler.performance_report(start=self._began, last_count=0, mode="inline")
        except Exception as error:  # without bokeh, or without tasks
            _logger.info("dask-gitops: no performance report: %s", error)
            return
        if len(report) <= MOST_REPORT:
            self._report = report
            await self._written(time.monotonic() + LAST_SECONDS)
            self._write()

    # --- what is noted ------------------------------------------------------------------------------------------------

    def _note(self) -> None:
        """A point of the timeline."""
        scheduler, now = self._scheduler, time.time() - self._began
        self._most_workers = max(self._most_workers, len(scheduler.workers))
        if now - self._noted < self._interval * 0.9:
            return
        self._noted = now
        workers = scheduler.workers.values()
        processing = sum(len(ws.processing) for ws in workers)
        waiting = len(scheduler.queued) + len(scheduler.unrunnable)
        memory = sum(ws.metrics.get("memory") or 0 for ws in workers)
        self._points.append(
            [round(now, 1), len(scheduler.workers), processing, waiting, self._status.progress()["done"], memory]
        )
        if len(self._points) > MOST_POINTS:
            self._points, self._interval = self._points[::2], self._interval * 2

    @property
    def _has_worked(self) -> bool:
        """Whether there is anything to tell: a scheduler that was started again after its work was done has nothing."""
        return bool(self._path.endswith(self._life) or self._scheduler.transition_counter)

    @property
    def _is_writing(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _summary(self, *, ended: bool) -> dict[str, Any]:
        now = time.time()
        scheduler = self._scheduler
        return {
            "schema": records.SCHEMA,
            **{name: getattr(self._destination, name) for name in ("namespace", "name", "run")},
            "scheduler": scheduler.id,
            "pod": self._pod,
            "began": records.written_time(self._began),
            "written": records.written_time(now),
            "ended": records.written_time(now) if ended or "status" in self._outcome else None,
            **self._outcome,
            "failures": records.failures(self._failures, self._outcome.get("failures")),
            "tasks": {**self._status.progress(), "byPrefix": self._prefixes()},
            "seconds": {name: round(value, 1) for name, value in self._work.seconds().items()},
            "workers": {"now": len(scheduler.workers), "most": self._most_workers},
            "versions": self._status.versions(),
            "errors": self._errors(),
            "changes": self._changes(),
            "log": self._log(),
        }

    def _prefixes(self) -> list[dict[str, Any]]:
        """Counts of tasks by what they are called, and where their seconds went; those that took most first."""
        found = []
        for prefix in self._scheduler.task_prefixes.values():
            durations = prefix.all_durations
            counts = {state: count for state, count in prefix.state_counts.items() if state in ("memory", "erred")}
            found.append(
                {
                    "name": str(prefix.name)[:NAME],
                    "done": counts.get("memory", 0),
                    "erred": counts.get("erred", 0),
                    "computing": round(durations.get("compute", 0.0), 3),
                    "moving": round(sum(durations.get(name, 0.0) for name in MOVES), 3),
                }
            )
        return sorted(found, key=lambda one: -(one["computing"] + one["moving"]))[:MOST_PREFIXES]

    def _errors(self) -> list[dict[str, Any]]:
        """What tasks have raised last, newest first."""
        last = [task for task, _ in zip(self._scheduler.erred_tasks, range(MOST_ERRORS), strict=False)]
        return [
            {
                "task": str(task.key)[:NAME],
                "time": records.written_time(task.timestamp),
                "raised": str(task.exception_text)[:RAISED],
                "traceback": str(task.traceback_text)[-TRACEBACK:],
            }
            for task in last
        ]

    def _changes(self) -> list[list[str]]:
        """Workers that came and went, with the time; oldest first."""
        found = []
        for when, event in list(self._scheduler.get_events("all"))[-MOST_CHANGES:]:
            if isinstance(event, dict) and event.get("action") in ("add-worker", "remove-worker"):
                found.append([records.written_time(when), event["action"], str(event.get("worker"))[:NAME]])
        return found

    def _log(self) -> list[str]:
        """The last lines of the scheduler's log, oldest first."""
        lines = [str(line[-1])[:LINE] for line in self._scheduler.get_logs(n=MOST_LINES)]
        return lines[::-1]  # it has the newest first

    # --- writing ------------------------------------------------------------------------------------------------------

    def _close_lost(self, store: records.Store) -> None:
        store.close_lost(self._pod, self._life)

    def _look_back(self) -> None:
        """Once more, at what had been written too lately when we began to tell whether its scheduler was killed."""
        if not self._is_writing:
            self._scheduler.periodic_callbacks["dask-gitops-lost"].stop()
            self._run(self._close_lost)

    def _write(self, *, ended: bool = False) -> None:
        """Write the record, or add what the operator has told to that of the scheduler before."""
        life = self._life
        if not self._has_worked:
            if "status" in self._outcome:
                end, nothing = self._summary(ended=True), {"columns": COLUMNS, "points": []}
                self._run(lambda store: store.tell(life, end, nothing))
            return
        summary = self._summary(ended=ended)
        timeline = {"columns": COLUMNS, "points": list(self._points)}
        report = self._report
        self._run(lambda store: store.write(life, summary, timeline, report))

    def _opened(self) -> records.Store:
        """The store; to open it may take a library that takes a second to import, or that is not there."""
        if self._store is None:
            to = self._destination
            self._store = records.Store(place(to.root, to.path), to.namespace, to.name, to.keep)
        return self._store

    def _run(self, write: Callable[[records.Store], str | None]) -> None:
        """Do it in a thread that keeps nothing waiting, not even the end of the process."""
        if self._is_writing:
            if time.monotonic() - self._writing_since >= ANSWER_SECONDS:
                self._problem = f"the {what(self._destination.root)} does not answer"
            return

        def attempt() -> None:
            try:
                written = write(self._opened())
            except Exception as error:
                if (problem := f"{type(error).__name__}: {error}"[:NAME]) != self._problem:
                    _logger.warning("dask-gitops: the record cannot be written: %s", problem)
                self._problem = problem
            else:
                self._problem = ""
                if written:
                    self._path = f"{self._destination.within}/{written}"

        self._writing_since = time.monotonic()
        self._thread = threading.Thread(target=attempt, name="dask-gitops-history", daemon=True)
        self._thread.start()
