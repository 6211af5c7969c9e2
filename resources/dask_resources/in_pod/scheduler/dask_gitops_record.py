"""The files of a record, and of all records of a volume: written whole or not at all, bounded, and with an index.

``<namespace>/<cluster>/<record>/`` has ``summary.json``, ``timeline.json``, ``index.html`` and maybe ``report.html``;
the two folders above have an ``index.html`` each. Only files of these names, in folders of the names that are given
here, are ever changed or deleted: others may have theirs in the same volume.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask_gitops_pages as pages

SCHEMA = 1  #: of ``summary.json``; fields are only added
#: A record that was not written for so long, and does not say that it has ended, is of a scheduler that was killed.
LOST_SECONDS = 60.0
MOST_READ = 4 * 2**20  #: bytes of a file of a record
MOST_LISTED = 10_000  #: clusters in the index of a volume
#: What the operator tells of a run's end beside the status of its job.
TRACES = ("failures", "events")
#: Ends of containers that are kept of a run, the last ones; the fields of one, and characters of a text in it.
MOST_FAILURES, LONGEST_TEXT = 20, 2048
FAILURE = ("pod", "container", "exitCode", "reason", "finished", "restarts", "log")
FILES = ("summary.json", "timeline.json", "index.html", "report.html")
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")

_Object = dict[str, Any]


def name_of(began: float, scheduler: str) -> str:
    """The name of a scheduler's record: they sort by time."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(began))
    return f"{when}-{re.sub('[^0-9a-f]', '', scheduler.lower()).rjust(8, '0')[-8:]}"


def written_time(when: float) -> str:
    """As Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def failures(*told: Any) -> list[_Object]:
    """The ends of containers in lists of such, whatever these hold: each once, as it was told last; the newest last."""
    found: dict[tuple[str, ...], _Object] = {}
    for end in (end for ends in told if isinstance(ends, list) for end in ends if isinstance(end, dict)):
        kept = {
            field: value if isinstance(value, int) else str(value or "")[-LONGEST_TEXT:]
            for field in FAILURE
            if (value := end.get(field)) is not None
        }
        found[tuple(str(kept.get(field)) for field in ("pod", "container", "finished"))] = kept
    return sorted(found.values(), key=lambda end: str(end.get("finished") or ""))[-MOST_FAILURES:]


class Store:
    """The records of a cluster.

    Args:
        top: folder of all records of the volume.
        namespace: of the cluster.
        name: likewise.
        keep: how many of its records are kept.
    """

    def __init__(self, top: Path, namespace: str, name: str, keep: int) -> None:
        self._top, self._namespace, self._name, self._keep = top, namespace, name, keep
        self._folder = top / namespace / name
        self._listed: object = None  #: what the index says of the record that was written last

    def write(self, record: str, summary: _Object, timeline: _Object, report: str | None) -> str:
        """Write a record; returns its name."""
        folder = self._folder / record
        folder.mkdir(parents=True, exist_ok=True)
        if report is not None and not (folder / "report.html").exists():
            _write(folder / "report.html", report)
        _write(folder / "timeline.json", json.dumps(timeline))
        self._state(folder, summary, timeline)
        listed = record, summary["outcome"], summary["ended"]
        if listed != self._listed:
            self._tidy_up()
            self._listed = listed
        return record

    def tell(self, record: str, summary: _Object, timeline: _Object) -> str:
        """Add to the last record of the same run how that has ended; else there is a new one. Returns its name."""
        for last in self._records():
            known = _read(last / "summary.json")
            if known.get("run") == summary["run"] and known.get("schema") == SCHEMA:
                told = {field: summary[field] for field in ("outcome", "reason", "message", "status", *TRACES)}
                told["failures"] = failures(known.get("failures"), summary["failures"])
                ended = known.get("ended") or known.get("written")
                self._state(last, {**known, **told, "ended": ended}, _read(last / "timeline.json"))
                self._tidy_up()
                return last.name
        return self.write(record, summary, timeline, None)

    def close_lost(self, pod: str) -> None:
        """Note of records whose schedulers were killed that they were.

        Args:
            pod: who asks; an earlier scheduler of the same Pod is surely gone.
        """
        for folder in self._records():
            summary = _read(folder / "summary.json")
            if summary.get("schema") != SCHEMA or summary.get("ended"):
                continue
            written = (folder / "summary.json").stat().st_mtime
            if summary.get("pod") == pod or time.time() - written > LOST_SECONDS:
                lost = {**summary, "outcome": "Lost", "ended": summary.get("written")}
                self._state(folder, lost, _read(folder / "timeline.json"))

    def _state(self, folder: Path, summary: _Object, timeline: _Object) -> None:
        _write(folder / "summary.json", json.dumps(summary, indent=1))
        _write(folder / "index.html", pages.record(summary, timeline, has_report=(folder / "report.html").exists()))

    def _records(self) -> list[Path]:
        """The folders of the records, newest first."""
        return sorted((path for path in _folders(self._folder) if _NAME.fullmatch(path.name)), reverse=True)

    def _tidy_up(self) -> None:
        """Delete what is beyond what is kept, and write the indexes."""
        found = self._records()
        for folder in found[self._keep :]:
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
            if not os.listdir(folder):
                folder.rmdir()
        kept = [(folder.name, _read(folder / "summary.json")) for folder in found[: self._keep]]
        _write(self._folder / "index.html", pages.cluster(self._namespace, self._name, kept))
        clusters = [
            f"{namespace.name}/{cluster.name}"
            for namespace in sorted(_folders(self._top))
            for cluster in sorted(_folders(namespace))
            if any(_NAME.fullmatch(record.name) for record in _folders(cluster))
        ]
        _write(self._top / "index.html", pages.volume(clusters[:MOST_LISTED]))


def _folders(of: Path) -> Iterator[Path]:
    """The folders within one; links are none."""
    try:
        with os.scandir(of) as entries:
            yield from (Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, PermissionError):
        return


def _read(path: Path) -> _Object:
    """A JSON object; an empty one if it is none."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.loads(file.read(MOST_READ))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, text: str) -> None:
    """Whoever reads sees what was before, or all of it, whenever the scheduler is killed."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
