"""Dask's metrics for Prometheus where the image lacks ``prometheus_client``, as ``ghcr.io/dask/dask`` does.

There distributed answers ``/metrics`` with a comment and nothing else. Its collectors need no more of that package than
two classes that hold numbers and a name: they run with those below, so all is called and counted as this version of
distributed does. Workers have no module of ours, so what the scheduler knows of them by their heartbeats is told, too.
"""

from __future__ import annotations

import builtins
import importlib.util
import logging
import math
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from types import ModuleType
from typing import Any

_COLLECTORS = "distributed.http.scheduler.prometheus"
_PACKAGE = "prometheus_client"
#: Series of one metric, and workers: names of tasks and semaphores are users' own, and there may be any number.
MOST_SERIES, MOST_WORKERS = 5000, 1000
#: Series and bytes of all metrics: of a page that has more Prometheus takes nothing, see ``DaskMonitoring``.
MOST_SHOWN, MOST_BYTES = 30_000, 8_000_000
#: How old the text may be that is shown: to make it takes the time of a scheduler that has other things to do.
RENDER_SECONDS = 1.0

_logger = logging.getLogger("distributed.dask_gitops")
_SPECIAL = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_NO_NAME = re.compile(r"[^a-zA-Z0-9_:]")


class _Family:
    """What distributed needs of ``prometheus_client.core.Metric``."""

    type, ending = "gauge", ""

    def __init__(
        self,
        name: str,
        documentation: str,
        value: float | None = None,
        labels: Sequence[str] | None = None,
        unit: str = "",
    ) -> None:
        name = name.removesuffix(self.ending)
        if unit and not name.endswith(f"_{unit}"):
            name += f"_{unit}"
        self.name, self.documentation, self._labels = _NO_NAME.sub("_", name), documentation, tuple(labels or ())
        self._samples: list[tuple[Sequence[str], float]] = []
        if value is not None:
            self.add_metric((), value)

    def add_metric(self, labels: Sequence[str], value: float, **_: Any) -> None:
        """One more series; workers may say anything of themselves."""
        if len(self._samples) < MOST_SERIES:
            with suppress(TypeError, ValueError):
                self._samples.append((labels, float(value)))

    def __len__(self) -> int:
        return len(self._samples)

    def text(self) -> Iterator[str]:
        """As Prometheus reads it."""
        name = f"{self.name}{self.ending}"
        meaning = self.documentation.replace("\\", r"\\").replace("\n", r"\n")
        yield f"# HELP {name} {meaning}\n# TYPE {name} {self.type}\n"
        for values, number in self._samples:
            stated = (
                f'{key}="{str(value).translate(_SPECIAL)}"' for key, value in zip(self._labels, values, strict=False)
            )
            labels = ",".join(stated)
            yield f"{name}{{{labels}}} {number!r}\n" if labels else f"{name} {number!r}\n"


class _Counter(_Family):
    type, ending = "counter", "_total"


def _stand_in() -> ModuleType:
    """In place of ``prometheus_client``, and of its ``core``."""
    module: Any = ModuleType(_PACKAGE)
    module.Metric = module.GaugeMetricFamily = _Family
    module.CounterMetricFamily = _Counter
    module.core = module
    return module  # type: ignore[no-any-return]


_PROMETHEUS = _stand_in()


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """What ``import`` does in distributed's collectors, and nowhere else: others find the package missing still."""
    if not level and name.partition(".")[0] == _PACKAGE:
        return _PROMETHEUS
    if not level and fromlist and name.startswith(f"{_COLLECTORS}."):
        return _loaded(name)
    return builtins.__import__(name, globals, locals, fromlist or (), level)


@cache
def _loaded(name: str) -> ModuleType:
    """A module of distributed, once more, for which there is a ``prometheus_client``."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = ModuleType(name)
    module.__dict__.update(
        __package__=spec.parent, __spec__=spec, __builtins__={**vars(builtins), "__import__": _import}
    )
    exec(spec.loader.get_code(name), module.__dict__)  # type: ignore[attr-defined]
    return module


def _families(scheduler: Any) -> Iterator[_Family]:
    for collector in _loaded(f"{_COLLECTORS}.core").COLLECTORS:
        yield from collector(scheduler).collect()
    yield from _of_workers(scheduler)


def _of_workers(scheduler: Any) -> Iterable[_Family]:
    """What the heartbeats of workers have told, by the names of their own metrics where these have the same."""
    from dask import config

    begin = f"{config.get('distributed.dashboard.prometheus.namespace', '') or ''}_worker".lstrip("_")
    threads = _Family(f"{begin}_threads", "Number of worker threads", labels=["worker"])
    tasks = _Family(f"{begin}_tasks", "Number of tasks at worker.", labels=["worker", "state"])
    memory = _Family(f"{begin}_memory_bytes", "Memory breakdown", labels=["worker", "type"])
    limit = _Family(f"{begin}_memory_limit_bytes", "What the worker may use", labels=["worker"])
    cpu = _Family(f"{begin}_cpu_percent", "CPU of the worker's process, 100 for each core", labels=["worker"])
    seen = _Family(f"{begin}_last_seen_seconds", "Seconds since the last heartbeat", labels=["worker"])
    for ws in islice(scheduler.workers.values(), MOST_WORKERS):
        name = str(ws.name)
        threads.add_metric([name], ws.nthreads)
        counts = ws.metrics.get("task_counts")
        for state, number in counts.items() if isinstance(counts, dict) else ():
            tasks.add_metric([name, str(state)], number)
        for type in ("managed", "unmanaged", "spilled"):
            memory.add_metric([name, type], getattr(ws.memory, type))
        limit.add_metric([name], ws.memory_limit or 0)
        cpu.add_metric([name], ws.metrics.get("cpu") or 0.0)
        seen.add_metric([name], max(0.0, time.time() - ws.last_seen))
    return threads, tasks, memory, limit, cpu, seen


def text(scheduler: Any) -> str:
    """All metrics of a scheduler in Prometheus' text format, the largest last: what is too much is theirs."""
    shown, size = [], 0
    lines = (line for family in sorted(_families(scheduler), key=len) for line in family.text())
    for line in islice(lines, MOST_SHOWN):
        size += len(line.encode())
        if size > MOST_BYTES:
            break
        shown.append(line)
    return "".join(shown)


class _Page:
    """The text for one scheduler, made anew at most once in so many seconds."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._text: str | None = None
        self._due = -math.inf
        self._failed = False

    def text(self) -> str | None:
        """All metrics; ``None`` if this distributed is not as expected."""
        if time.monotonic() >= self._due:
            try:
                self._text = text(self._scheduler)
            except Exception as error:
                self._text = None
                if not self._failed:
                    _logger.error("dask-gitops: no metrics: %s: %s", type(error).__name__, error, exc_info=error)
                self._failed = True
            self._due = time.monotonic() + RENDER_SECONDS
        return self._text


class _Maxima(defaultdict[Any, float]):
    """What was greatest since the last scrape, by what its reader calls it.

    distributed (2026.8) notes the lengths of ticks as ``tick-duration``, and shows ``tick_duration``, which is 0.
    """

    def __getitem__(self, name: Any) -> float:
        return super().__getitem__(_read_as(name))

    def __setitem__(self, name: Any, value: float) -> None:
        super().__setitem__(_read_as(name), value)


def _read_as(name: Any) -> Any:
    return "tick_duration" if name == "tick-duration" else name


def serve(scheduler: Any) -> None:
    """Show the metrics where distributed shows none for want of ``prometheus_client``, wherever it has its page."""
    from distributed.http import prometheus

    if hasattr(scheduler, "digests_max"):
        scheduler.digests_max = _Maxima(float, scheduler.digests_max)
    scheduler._dask_gitops_metrics = _Page(scheduler)
    handler: Any = prometheus.PrometheusNotAvailableHandler
    if hasattr(handler, "_dask_gitops_none"):
        return  # another scheduler of this process has done that
    none = handler._dask_gitops_none = handler.get

    def get(page: Any) -> None:
        shown = page.server.__dict__.get("_dask_gitops_metrics")
        made = shown.text() if shown is not None else None
        if made is None:
            none(page)
            return
        page.set_header("Content-Type", "text/plain; version=0.0.4")
        page.write(made)

    handler.get = get
