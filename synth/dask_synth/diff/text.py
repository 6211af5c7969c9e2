"""A report as text for people, as Markdown for a pull request, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import click
import msgspec

from .amounts import quantity
from .changes import Change, Report, Size
from .effects import span

_SIGNS = {"new": ("+", "green"), "gone": ("-", "red"), "changed": ("~", "yellow")}
_MOST_FIELDS = 8


def as_text(report: Report) -> str:
    """For a terminal, with its colours."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    for change in report.changes:
        sign, colour = _SIGNS[change.action]
        yield click.style(f"{sign} {_title(change)}", fg=colour, bold=True)
        for effect in change.effects:
            yield f"    {click.style(effect.text, fg='red') if effect.loses_work else effect.text}"
        for size in _sizes(change.before, change.after, change.action):
            yield f"    {size}"
        if change.fields:
            yield click.style(f"    {_fields(change)}", dim=True)
    if not report.changes:
        yield "Nothing changes for Dask."
        return
    yield ""
    yield f"In total: {'; '.join(_sizes(report.before, report.after, 'changed')) or 'as before'}"


def as_markdown(report: Report) -> str:
    """A table for a comment on a pull request."""
    if not report.changes:
        return "Nothing changes for Dask.\n"
    lines = ["| | what happens | workers and requests |", "|---|---|---|"]
    for change in report.changes:
        effects = "<br>".join(
            f"**{_cell(each.text)}**" if each.loses_work else _cell(each.text) for each in change.effects
        )
        fields = f"<br>{_cell(_fields(change), code=True)}" if change.fields else ""
        sizes = "<br>".join(_sizes(change.before, change.after, change.action))
        lines.append(f"| {change.action}: {_cell(_title(change))} | {effects}{fields} | {sizes} |")
    total = "; ".join(_sizes(report.before, report.after, "changed")) or "as before"
    return "\n".join([*lines, "", f"In total: {total}", ""])


def as_json(report: Report) -> str:
    """All of it: CPUs in cores, memory in bytes, each as [least, most]."""
    encoded = msgspec.json.Encoder(decimal_format="number").encode(report)
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def _title(change: Change) -> str:
    name = f"{change.namespace}/{change.name}" if change.namespace else change.name
    return f"{change.kind} {name}" + (f" ({change.place})" if change.place not in ("", ".") else "")


def _fields(change: Change) -> str:
    more = len(change.fields) - _MOST_FIELDS
    return ", ".join(change.fields[:_MOST_FIELDS]) + (f" and {more} more" if more > 0 else "")


def _cell(text: str, *, code: bool = False) -> str:
    """Text that means itself in a table of Markdown, whatever its user has written."""
    text = " ".join(text.split()).replace("|", "\\|")
    return f"`{text.replace('`', '')}`" if code else text.replace("<", "&lt;").replace("*", "\\*")


def _sizes(before: Size, after: Size, action: str) -> Iterator[str]:
    """Numbers that differ; of what is new or gone the one side that there is."""
    for name in ("workers", *sorted({*before.requests, *after.requests}, key=_rank)):
        pair = [_number(size, name) for size in (before, after)]
        if pair[0] == pair[1]:
            continue
        yield f"{name} " + {"new": pair[1], "gone": pair[0]}.get(action, " → ".join(pair))


def _rank(name: str) -> tuple[int, str]:
    known = ("cpu", "memory")
    return (known.index(name) if name in known else len(known), name)


def _number(size: Size, name: str) -> str:
    if name == "workers":
        return span(*size.workers)
    return span(*(quantity(name, amount) for amount in size.requests.get(name, (Decimal(), Decimal()))))


FORMATS = {"text": as_text, "markdown": as_markdown, "json": as_json}
