"""How things look on a terminal; colours are for terminals alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from .cause import Cause, State
from .tree import Node
from .usage import Line

_COLOURS = {State.FINE: "green", State.WAIT: "yellow", State.ACT: "red"}
_MARKS = {State.FINE: "✓", State.WAIT: "…", State.ACT: "✗"}
#: Columns where nobody looks: lines are for `grep`, so none is broken.
_WIDE = 10_000


def console(file: IO[str] | None = None) -> Console:
    """Where it is shown. Words of others are no markup."""
    made = Console(file=file, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made = Console(file=file, markup=False, highlight=False, emoji=False, width=_WIDE, color_system=None)
    return made


def as_json(value: Any) -> str:
    """For machines."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def tree_of(roots: Sequence[Node], *, namespaces: bool) -> list[Tree]:
    """Trees, of which each root names its namespace if there may be several."""
    return [_tree(root, f"{root.namespace}/" if namespaces else "") for root in roots]


def _tree(node: Node, prefix: str = "") -> Tree:
    branch = Tree(_labelled(node, prefix), guide_style="dim")
    for child in node.below:
        branch.children.append(_tree(child))
    return branch


def _labelled(node: Node, prefix: str) -> Text:
    mark = Text(f"{_MARKS[node.state]} ", style=_COLOURS[node.state])
    return (
        mark + Text(f"{node.kind} ", style="dim") + Text(f"{prefix}{node.name}", style="bold") + Text(f"  {node.words}")
    )


def cause_of(cause: Cause) -> Text:
    """One cause: its reason, where it is seen, what to do."""
    colour = _COLOURS[cause.state]
    head = Text(f"{_MARKS[cause.state]} {cause.reason}", style=f"bold {colour}")
    return head + Text(f"\n  {cause.words}\n  → {cause.advice}")


def usage_table(lines: Iterable[Line], *, namespaces: bool, measured: bool) -> Table:
    """What `top` shows."""
    table = Table(box=None, pad_edge=False)
    heads = ["NAMESPACE"] if namespaces else []
    for head in (*heads, "NAME", "WORKERS", "DRAINING", "PROGRESS", "CPU", "MEMORY", "STATE"):
        table.add_column(head, no_wrap=True, justify="right" if head in ("DRAINING", "CPU", "MEMORY") else "left")
    for line in lines:
        cells = [Text(line.namespace)] if namespaces else []
        numbers = (line.cpu_text, line.memory_text) if measured else ("", "")
        cells += [Text(each) for each in (line.name, line.workers, str(line.draining), line.progress, *numbers)]
        table.add_row(*cells, Text(line.reason, style=_COLOURS[line.state]))
    return table
