"""What a scheduler's time goes into: tasks that compute, data that moves, waiting for a worker, or nothing."""

from __future__ import annotations

import time
from typing import Any

from tornado.ioloop import PeriodicCallback

#: How often it is looked what the scheduler is at.
LOOK_SECONDS = 0.5
#: A look that comes later than this says nothing of the time before: the machine slept, or the scheduler was stopped.
LONGEST_LOOK_SECONDS = 60.0
#: What tasks' data costs, by the names under which workers report it (``TaskPrefix.all_durations``).
MOVES = ("transfer", "disk-read", "disk-write", "deserialize")


class Work:
    """Counts a scheduler's seconds."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._last = time.monotonic()
        self._transitions: int = scheduler.transition_counter
        self._busy = self._computing = self._moving = self._waiting = 0.0
        self._told = 0.0, 0.0
        look = PeriodicCallback(self.look, LOOK_SECONDS * 1000)
        scheduler.periodic_callbacks["dask-gitops-work"] = look  # the scheduler stops it when it closes
        look.start()

    def look(self) -> None:
        """Count the time since the last look as what the scheduler is at now."""
        now, scheduler = time.monotonic(), self._scheduler
        passed, self._last = now - self._last, now
        moved, self._transitions = scheduler.transition_counter != self._transitions, scheduler.transition_counter
        if passed > LONGEST_LOOK_SECONDS:
            return
        if any(ws.processing for ws in scheduler.workers.values()):
            self._busy += passed
        elif scheduler.queued or scheduler.unrunnable:
            self._waiting += passed
        elif moved and scheduler.workers:  # tasks came and went
            self._busy += passed

    def seconds(self) -> dict[str, float]:
        """Seconds so far, by what they went into; none of them ever falls.

        Time in which workers had tasks is shared out as the seconds are that all tasks together have taken since the
        last question to compute, and to get their data: many do both at the same time. Workers tell when a task has
        ended; time in which none did counts as computing.
        """
        self.look()
        computing, moving = self._of_tasks()
        computed, moved = max(0.0, computing - self._told[0]), max(0.0, moving - self._told[1])
        self._told = computing, moving
        share = moved / (computed + moved) if moved else 0.0
        self._computing += self._busy * (1 - share)
        self._moving += self._busy * share
        self._busy = 0.0
        return {"computing": self._computing, "moving": self._moving, "waiting": self._waiting}

    def _of_tasks(self) -> tuple[float, float]:
        computing = moving = 0.0
        for prefix in self._scheduler.task_prefixes.values():
            durations = prefix.all_durations
            computing += durations.get("compute", 0.0)
            moving += sum(durations.get(name, 0.0) for name in MOVES)
        return computing, moving
