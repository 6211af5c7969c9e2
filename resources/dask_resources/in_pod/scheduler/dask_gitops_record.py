"""The files of a record, and of all records of a place: written whole or not at all, bounded, and with an index.

``<namespace>/<cluster>/<record>/`` has ``summary.json``, ``timeline.json``, ``index.html`` and maybe ``report.html``;
the two folders above have an ``index.html`` each. Only files of these names, in folders of the names that are given
here, are ever changed or deleted: others may have theirs in the same place.
"""

from __future__ import annotations

import calendar
import errno
import json
import re
import time
from typing import Any

import dask_gitops_pages as pages
from dask_gitops_places import Place

SCHEMA = 1  #: of ``summary.json``; fields are only added
#: A record that was not written for so long, and does not say that it has ended, is of a scheduler that was killed.
LOST_SECONDS = 60.0
MOST_LISTED = 10_000  #: clusters in the index of all
#: What the operator tells of a run's end beside the status of its job.
TRACES = ("failures", "events")
#: Ends of containers that are kept of a run, the last ones; the fields of one, and characters of a text in it.
MOST_FAILURES, LONGEST_TEXT = 20, 2048
FAILURE = ("pod", "container", "exitCode", "reason", "finished", "restarts", "log")
FILES = ("summary.json", "timeline.json", "index.html", "report.html")
#: A volume that is full, or a quota of it: it stays so unless what is beyond what is kept goes before the next record.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")

_Object = dict[str, Any]


def name_of(began: float, scheduler: str) -> str:
    """The name of a scheduler's record: they sort by time."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(began))
    return f"{when}-{re.sub('[^0-9a-f]', '', scheduler.lower()).rjust(8, '0')[-8:]}"


def written_time(when: float) -> str:
    """As Kubernetes writes it."""
    return time.strftime(_TIME, time.gmtime(when))


def _time(written: Any) -> float:
    """Likewise read; long ago if it is no time."""
    try:
        return calendar.timegm(time.strptime(str(written), _TIME))
    except ValueError:
        return 0.0


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
        place: of all records.
        namespace: of the cluster.
        name: likewise.
        keep: how many of its records are kept.
    """

    def __init__(self, place: Place, namespace: str, name: str, keep: int) -> None:
        self._place, self._namespace, self._name, self._keep = place, namespace, name, keep
        self._folder = f"{namespace}/{name}"
        self._listed: object = None  #: what the index says of the record that was written last

    def write(self, record: str, summary: _Object, timeline: _Object, report: str | None) -> str:
        """Write a record; returns its name."""
        try:
            self._write(record, summary, timeline, report)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._make_room(record)
            self._write(record, summary, timeline, report)
        listed = record, summary["outcome"], summary["ended"]
        if listed != self._listed:
            self._tidy_up(record)
            self._listed = listed
        return record

    def _write(self, record: str, summary: _Object, timeline: _Object, report: str | None) -> None:
        if report is not None and not self._place.has(self._file(record, "report.html")):
            self._place.write(self._file(record, "report.html"), report)
        self._place.write(self._file(record, "timeline.json"), json.dumps(timeline))
        self._state(record, summary, timeline)

    def tell(self, record: str, summary: _Object, timeline: _Object) -> str:
        """Add to the last record of the same run how that has ended; else there is a new one. Returns its name."""
        for last in self._records():
            known = self._read(last, "summary.json")
            if known.get("run") == summary["run"] and known.get("schema") == SCHEMA:
                told = {field: summary[field] for field in ("outcome", "reason", "message", "status", *TRACES)}
                told["failures"] = failures(known.get("failures"), summary["failures"])
                ended = known.get("ended") or known.get("written")
                self._state(last, {**known, **told, "ended": ended}, self._read(last, "timeline.json"))
                self._tidy_up(last)
                return last
        return self.write(record, summary, timeline, None)

    def close_lost(self, pod: str, life: str) -> None:
        """Note of records whose schedulers were killed that they were.

        Args:
            pod: who asks; an earlier scheduler of the same Pod is surely gone.
            life: its own record.
        """
        for record in filter(life.__ne__, self._records()):
            summary = self._read(record, "summary.json")
            if summary.get("schema") != SCHEMA or summary.get("ended"):
                continue
            if summary.get("pod") == pod or time.time() - _time(summary.get("written")) > LOST_SECONDS:
                lost = {**summary, "outcome": "Lost", "ended": summary.get("written")}
                self._state(record, lost, self._read(record, "timeline.json"))

    def _file(self, record: str, name: str) -> str:
        return f"{self._folder}/{record}/{name}"

    def _read(self, record: str, name: str) -> _Object:
        """A JSON object; an empty one if it is none."""
        try:
            found = json.loads(self._place.read(self._file(record, name)))
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _state(self, record: str, summary: _Object, timeline: _Object) -> None:
        self._place.write(self._file(record, "summary.json"), json.dumps(summary, indent=1))
        has_report = self._place.has(self._file(record, "report.html"))
        self._place.write(self._file(record, "index.html"), pages.record(summary, timeline, has_report=has_report))

    def _records(self) -> list[str]:
        """The names of the records, newest first."""
        return sorted(filter(_NAME.fullmatch, self._place.folders(self._folder)), reverse=True)

    def _make_room(self, record: str) -> list[str]:
        """Delete what is beyond what is kept with this one; returns the names of what is kept, newest first.

        Args:
            record: which stays even if it seems to be old, as clocks may be behind.
        """
        others = [name for name in self._records() if name != record]
        for other in others[self._keep - 1 :]:
            self._place.delete(f"{self._folder}/{other}", FILES)
        return sorted([record, *others[: self._keep - 1]], reverse=True)

    def _tidy_up(self, record: str) -> None:
        """Leave this one and the newest others, and write the indexes."""
        kept = [(name, self._read(name, "summary.json")) for name in self._make_room(record)]
        self._place.write(f"{self._folder}/index.html", pages.cluster(self._namespace, self._name, kept))
        there = self._place.read("index.html")
        if not there or pages.OF_ALL.encode() in there:  # it may be the root of a volume that holds a site
            self._place.write("index.html", pages.volume(self._clusters()[:MOST_LISTED]))

    def _clusters(self) -> list[str]:
        """All that have records, as ``<namespace>/<name>``."""
        folders = self._place.folders
        found = (f"{namespace}/{name}" for namespace in sorted(folders("")) for name in sorted(folders(namespace)))
        return [one for one in found if not self._place.is_shared or any(map(_NAME.fullmatch, folders(one)))]
