"""The pages of records: plain HTML without scripts, which a browser opens from a folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

_Object = dict[str, Any]

#: Nothing is loaded, and nothing runs: what tasks have raised stands on the page.
_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; margin: .5em 0 1.5em }}
th, td {{ text-align: left; padding: .2em 1.2em .2em 0; vertical-align: top }}
th {{ border-bottom: 1px solid; font-weight: 600 }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums }}
pre {{ overflow: auto; padding: .6em; background: color-mix(in srgb, currentColor 7%, transparent) }}
.bar {{ display: flex; height: 1.6em; margin: .5em 0 }} .bar span {{ min-width: 1px }}
svg {{ width: 100%; height: 5em; display: block; border-bottom: 1px solid }}
polyline {{ fill: none; stroke: #e2711d; stroke-width: 1.5; vector-effect: non-scaling-stroke }}
.Complete {{ color: #2a8a3e }} .Failed, .Lost {{ color: #c22 }}
</style></head><body>
"""
_END = "</body></html>\n"
#: By this the index of all is known, also one of another release.
OF_ALL = "<h1>History</h1><ul>"
#: What the outcomes of a record mean.
OUTCOMES = {
    "AtWork": "at work when this was written",
    "Stopped": "stopped",
    "Lost": "the scheduler was killed",
    "Complete": "complete",
    "Failed": "failed",
}
#: Parts of a run's time: field of ``status.timeSpent``, words, colour.
_PARTS = (
    ("queued", "queued", "#999"),
    ("suspended", "suspended", "#ccc"),
    ("waitingForQuota", "waiting for quota", "#b55"),
    ("waitingForNode", "waiting for a node", "#d88"),
    ("waitingForWorkers", "waiting for workers", "#da6"),
    ("pulling", "pulling images", "#c9c"),
    ("starting", "starting", "#89c"),
    ("running", "running", "#7b7"),
    ("computing", "computing", "#2a8a3e"),
    ("movingData", "moving data", "#6b3"),
    ("idle", "idle", "#ddb"),
    ("ending", "ending", "#777"),
)
_CURVES = (("workers", "Workers"), ("processing", "Tasks at work"), ("waiting", "Tasks without a worker"))
_MEMORY = (("done", "Tasks done"), ("memory", "Memory of the workers"))
_WIDTH, _HEIGHT = 1000.0, 100.0


def record(summary: _Object, timeline: _Object, *, has_report: bool) -> str:
    """The page of one record; whatever the two hold."""
    title = f"{_text(summary.get('namespace'))}/{_text(summary.get('name'))}"
    body = [
        f"<p><a href='../index.html'>all records</a></p><h1>{title}</h1>{_standing(summary)}",
        "<p><a href='report.html'>performance report of Dask</a></p>" if has_report else "",
        _section("Where the time went", _waterfall(_object(_object(summary.get("status")).get("timeSpent")))),
        _section("Course", _curves(timeline)),
        _section("Tasks", _tasks(_object(summary.get("tasks")))),
        _section("Errors", "".join(map(_error, _objects(summary.get("errors"))))),
        _section("Conditions", _conditions(_object(summary.get("status")))),
        _section("Containers that failed", "".join(map(_failure, _objects(summary.get("failures"))))),
        _section("Events", _events(_objects(summary.get("events")))),
        _section("Workers that came and went", _changes(summary.get("changes"))),
        _section("Versions", _versions(_object(summary.get("versions")))),
        _section("End of the scheduler's log", _log(summary.get("log"))),
        "<p><a href='summary.json'>summary.json</a>, <a href='timeline.json'>timeline.json</a></p>",
    ]
    return _HEAD.format(title=title) + "\n".join(filter(None, body)) + _END


def cluster(namespace: str, name: str, records: Iterable[tuple[str, _Object]]) -> str:
    """The index of the records of a cluster: names and summaries, newest first."""
    title = f"{_text(namespace)}/{_text(name)}"
    rows = [
        (
            f"<a href='{_text(folder)}/index.html'>{_text(summary.get('began'))}</a>",
            _outcome(summary),
            _text(summary.get("reason")),
            _text(_object(_object(summary.get("status")).get("timeSpent")).get("computing", "")),
            _text(_object(summary.get("tasks")).get("done", "")),
            _text(_object(summary.get("workers")).get("most", "")),
        )
        for folder, summary in records
    ]
    table = _table(("began", "outcome", "reason", "computing, s", "tasks done", "most workers"), rows, numbers=3)
    return f"{_HEAD.format(title=title)}<p><a href='../../index.html'>all clusters</a></p><h1>{title}</h1>{table}{_END}"


def volume(clusters: Sequence[str]) -> str:
    """The index of all clusters of a volume, each as ``<namespace>/<name>``."""
    items = "".join(f"<li><a href='{_text(one)}/index.html'>{_text(one)}</a></li>" for one in clusters)
    return f"{_HEAD.format(title='History')}{OF_ALL}{items}</ul>{_END}"


# --- parts of a record's page -----------------------------------------------------------------------------------------


def _standing(summary: _Object) -> str:
    rows = [
        ("outcome", _outcome(summary)),
        ("why", _text(summary.get("message") or summary.get("reason"))),
        ("began", _text(summary.get("began"))),
        ("ended", _text(summary.get("ended"))),
        ("written", _text(summary.get("written"))),
        ("scheduler", _text(summary.get("pod"))),
        ("last problem", _text(_object(summary.get("status")).get("lastProblem"))),
    ]
    return "<table>" + "".join(f"<tr><td>{name}</td><td>{said}</td></tr>" for name, said in rows if said) + "</table>"


def _outcome(summary: _Object) -> str:
    outcome = str(summary.get("outcome"))
    return f"<b class='{_text(outcome)}'>{_text(OUTCOMES.get(outcome, outcome))}</b>"


def _waterfall(spent: _Object) -> str:
    parts = [(words, seconds, colour) for name, words, colour in _PARTS if (seconds := _number(spent.get(name))) > 0]
    whole = sum(seconds for _, seconds, _ in parts)
    if not parts:
        return ""
    bar = "".join(
        f"<span title='{words}: {seconds:.0f} s' style='flex:{seconds:.0f};background:{colour}'></span>"
        for words, seconds, colour in parts
    )
    rows = [
        (f"<span style='color:{colour}'>&#9632;</span> {words}", f"{seconds:.0f}", f"{100 * seconds / whole:.0f} %")
        for words, seconds, colour in parts
    ]
    table = _table(("", "seconds", "share"), [*rows, ("together", f"{whole:.0f}", "")], numbers=2)
    return f"<div class='bar'>{bar}</div>{table}"


def _curves(timeline: _Object) -> str:
    columns = [str(name) for name in timeline.get("columns") or ()]
    points = [point for point in timeline.get("points") or () if isinstance(point, list) and len(point) == len(columns)]
    if len(points) < 2:
        return ""
    lasted = max(_number(points[-1][0]), 1.0)
    curves = (
        _curve(words, [(_number(point[0]) / lasted, _number(point[columns.index(name)])) for point in points], unit)
        for curves, unit in ((_CURVES, _count), (_MEMORY[:1], _count), (_MEMORY[1:], _bytes))
        for name, words in curves
        if name in columns
    )
    return "".join(curves) + f"<p>{lasted:,.0f} s</p>"


def _curve(words: str, points: Sequence[tuple[float, float]], unit: Callable[[float], str]) -> str:
    most = max(value for _, value in points)
    line = " ".join(f"{_WIDTH * x:.1f},{_HEIGHT * (1 - y / (most or 1)):.1f}" for x, y in points)
    svg = f"<svg viewBox='0 0 {_WIDTH:.0f} {_HEIGHT:.0f}' preserveAspectRatio='none'><polyline points='{line}'/></svg>"
    return f"<p>{words}: at most {unit(most)}</p>{svg}"


def _tasks(tasks: _Object) -> str:
    rows = [
        (
            _text(one.get("name")),
            *(_text(one.get(count)) for count in ("done", "erred")),
            *(f"{_number(one.get(seconds)):.1f}" for seconds in ("computing", "moving")),
        )
        for one in _objects(tasks.get("byPrefix"))
    ]
    told = f"<p>{_text(tasks.get('done'))} of {_text(tasks.get('total'))} done</p>" if "total" in tasks else ""
    head = ("task", "done", "erred", "computing, task-s", "moving data, task-s")
    return told + (_table(head, rows, numbers=4) if rows else "")


def _error(error: _Object) -> str:
    head = f"<p>{_text(error.get('time'))} <b>{_text(error.get('task'))}</b></p>"
    return f"{head}<pre>{_text(error.get('raised'))}\n\n{_text(error.get('traceback'))}</pre>"


def _failure(end: _Object) -> str:
    where = f"{_text(end.get('pod'))}/{_text(end.get('container'))}"
    how = f"exit code {_text(end.get('exitCode'))} ({_text(end.get('reason'))}), {_text(end.get('restarts'))} restarts"
    log = f"<pre>{_text(end.get('log'))}</pre>" if end.get("log") else ""
    return f"<p>{_text(end.get('finished'))} <b>{where}</b>: {how}</p>{log}"


def _events(events: Sequence[_Object]) -> str:
    fields = ("time", "type", "reason", "about", "message")
    rows = [[_text(one.get(field)) for field in fields] for one in events]
    return _table(("time", "type", "reason", "about", "message"), rows) if rows else ""


def _conditions(status: _Object) -> str:
    fields = ("type", "status", "reason", "message", "lastTransitionTime")
    rows = [[_text(one.get(field)) for field in fields] for one in _objects(status.get("conditions"))]
    return _table(("condition", "status", "reason", "message", "since"), rows) if rows else ""


def _changes(changes: Any) -> str:
    rows = [[_text(cell) for cell in change] for change in changes or () if isinstance(change, list)]
    return _table(("time", "what", "worker"), rows) if rows else ""


def _versions(versions: _Object) -> str:
    rows = [
        (_text(role), ", ".join(f"{_text(name)} {_text(version)}" for name, version in packages.items()))
        for role, sets in versions.items()
        for packages in _objects(sets)
    ]
    return _table(("", "versions"), rows) if rows else ""


def _log(lines: Any) -> str:
    return "<pre>" + "\n".join(map(_text, lines)) + "</pre>" if isinstance(lines, list) and lines else ""


def _section(title: str, content: str) -> str:
    return f"<h2>{title}</h2>{content}" if content else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A table of cells that are HTML; the last ``numbers`` columns are numbers."""
    first = len(head) - numbers
    kinds = ["" if at < first else " class='n'" for at in range(len(head))]
    titles = "".join(f"<th{kind}>{cell}</th>" for kind, cell in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=False)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{titles}</tr>{body}</table>"


def _text(value: Any) -> str:
    return "" if value is None else escape(str(value), quote=True)


def _object(value: Any) -> _Object:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[_Object]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _bytes(value: float) -> str:
    return f"{value / 2**30:,.2f} GiB" if value >= 2**30 else f"{value / 2**20:,.0f} MiB"
