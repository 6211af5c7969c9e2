"""What went on in a cluster, second by second, for the plot in the docs (``docs/plots/scaling.py``)."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from distributed import Client

INTERVAL_SECONDS = 0.5


def by_value(function: Any) -> None:
    """Have a function sent as code: what runs in the cluster does not have the module that it is from."""
    function.__module__ = "__main__"


def look(dask_scheduler: Any) -> dict[str, Any]:
    """The state of a scheduler; runs there. Bytes count as moved when a key appears on one more worker."""
    seen = dask_scheduler.__dict__.setdefault("_seen_holders", {})
    for key, task in dask_scheduler.tasks.items():
        holders = {ws.address for ws in task.who_has or ()}
        known = seen.setdefault(key, set())
        if known:
            moved = len(holders - known) * max(task.nbytes, 0)
            dask_scheduler.__dict__["_moved"] = dask_scheduler.__dict__.get("_moved", 0) + moved
        known |= holders
    workers = dask_scheduler.workers.values()
    traced = dask_scheduler.task_prefixes.get("traced")
    return {
        "workers": [{"name": str(ws.name), "status": ws.status.name, "bytes": ws.nbytes} for ws in workers],
        "unique": sum(max(task.nbytes, 0) for task in dask_scheduler.tasks.values() if task.who_has),
        "processing": sum(len(ws.processing) for ws in workers),
        "finished": traced.state_counts.get("memory", 0) if traced else 0,
        "moved": dask_scheduler.__dict__.get("_moved", 0),
    }


by_value(look)


class Recording:
    """A context in which a cluster is looked at; the file is written at its end, if there is one to be written."""

    def __init__(self, client: Client, file: str | None) -> None:
        self._client = client
        self._file = file
        self._samples: list[dict[str, Any]] = []
        self._marks: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._began = time.monotonic()

    def mark(self, text: str) -> None:
        """Note that something is done to the cluster now."""
        self._marks.append({"time": time.monotonic() - self._began, "text": text})

    def __enter__(self) -> Recording:
        self._thread = threading.Thread(target=self._record, daemon=True)
        if self._file:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._file:
            self._thread.join()
            Path(self._file).write_text(json.dumps({"marks": self._marks, "samples": self._samples}))

    def _record(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            sample = self._client.run_on_scheduler(look)
            self._samples.append({"time": time.monotonic() - self._began, **sample})
