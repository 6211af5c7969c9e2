"""Which schedules a CronJob takes: the grammar of its parser, and no more.

Kubernetes reads them with ``ParseStandard`` of https://github.com/robfig/cron (v3.0.1 in Kubernetes 1.37), which knows
no ``7`` for Sunday, no ``L``, ``W`` or ``#``; libraries for Python take these, and refuse others that it takes. So this
is its ``parser.go`` in short, quirks included: a list may have empty members, and what follows ``*-`` is ignored.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()  #: for the numbers from ``least`` on


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = "@every "
#: What Go takes for space between fields, and for a duration.
_SPACE = re.compile("[\t\n\v\f\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"[-+]?(0|({_PART.pattern})+)")
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_MOST = 2**63 - 1


def schedule_problem(schedule: str) -> str | None:
    """What is wrong with the schedule of a CronJob, for people; ``None`` if nothing is."""
    if "TZ" in schedule:
        return "Kubernetes takes no time zone here; use time_zone"
    if schedule.startswith("@"):
        if schedule in _MACROS or (schedule.startswith(_EVERY) and _is_duration(schedule.removeprefix(_EVERY))):
            return None
        return f"{schedule!r} is not one of {', '.join(_MACROS)} or '@every DURATION' such as '@every 1h30m'"
    written = [field for field in _SPACE.split(schedule) if field]
    if len(written) != len(_FIELDS):
        return f"{schedule!r} must have five fields"
    for field, text in zip(_FIELDS, written, strict=True):
        for part in text.split(","):
            if part and not _is_range(part, field):
                words = f" or {field.words[0]}-{field.words[-1]}" if field.words else ""
                return (
                    f"{part!r} is no {field.name} of a CronJob: {field.least}-{field.most}{words}, *, ranges and /steps"
                )
    return None


def _is_range(text: str, field: _Field) -> bool:
    """``*``, a number, or two with a dash between; then maybe a step."""
    range_, *steps = text.split("/")
    first, *others = range_.split("-")
    if first in ("*", "?"):
        start, end = field.least, field.most
    else:
        found = [_number(part, field) for part in (first, *others)]
        if len(found) > 2 or None in found:
            return False
        start, end = found[0] or 0, found[-1] or 0
    if steps and not others:
        end = field.most
    step = 1 if not steps else _number(steps[0], None)
    return len(steps) < 2 and bool(step) and field.least <= start <= end <= field.most


def _number(text: str, field: _Field | None) -> int | None:
    if field and text.lower() in field.words:
        return field.least + field.words.index(text.lower())
    return int(text) if re.fullmatch(r"[-+]?[0-9]+", text) and 0 <= int(text) <= _MOST else None


def _is_duration(text: str) -> bool:
    """Whether ``time.ParseDuration`` of Go takes a text."""
    if not _DURATION.fullmatch(text):
        return False
    return sum(Decimal(number) * _NANOSECONDS[unit] for number, unit in _PART.findall(text)) <= _MOST
