"""Dashboards drawn for the docs from what Prometheus has answered, each panel where Grafana would put it."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from PIL import Image

from dask_constructs.monitoring.grafana import COLUMNS

#: Inches of a column and of a line of Grafana's grid.
_COLUMN, _LINE = 0.5, 0.3
_COLOURS = {"green": "#2a8a3e", "orange": "#e2711d", "red": "#c22222"}
_GREY, _EDGE, _GROUND = "#333333", "#dddddd", "#f4f5f5"
#: Answers to the queries of a panel, in their order: series as Prometheus gives them.
Answers = Callable[[Mapping[str, Any]], Sequence[Sequence[Mapping[str, Any]]]]

mpl.use("agg")


def draw(dashboard: Mapping[str, Any], answers: Answers, path: Path) -> None:
    """Write the picture of a dashboard.

    Args:
        dashboard: as Grafana imports it.
        answers: to the queries of a panel; of a ``timeseries`` series with ``values``, of others with one ``value``.
        path: of the picture, a PNG.
    """
    panels = dashboard["panels"]
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 1
    figure = plt.figure(figsize=(COLUMNS * _COLUMN, lines * _LINE), facecolor=_GROUND)
    figure.text(0.01, 1 - 0.5 / lines, dashboard["title"], va="center", fontsize=12, weight="bold")
    for panel in panels:
        place = panel["gridPos"]
        left, top = place["x"] / COLUMNS, 1 - (place["y"] + 1) / lines
        if panel["type"] == "row":
            figure.text(left + 0.01, top - 0.5 / lines, panel["title"], va="center", fontsize=10, weight="bold")
            continue
        figure.text(left + 0.01, top - 0.6 / lines, panel["title"], va="center", fontsize=8, color=_GREY)
        size = place["w"] / COLUMNS, place["h"] / lines
        figure.add_artist(Rectangle((left, top - size[1]), *size, facecolor="white", edgecolor=_EDGE, zorder=-1))
        below = top - (place["h"] - 1.2) / lines
        axes = figure.add_axes((left + 0.045, below, place["w"] / COLUMNS - 0.055, (place["h"] - 2.3) / lines))
        _DRAWN[panel["type"]](axes, panel, answers(panel))
    with io.BytesIO() as drawn:
        figure.savefig(drawn, dpi=100)
        plt.close(figure)
        Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)  # else it is three times as large


def _graph(axes: Any, panel: Mapping[str, Any], answers: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    drawn = [
        (_legend(target, series["metric"]), {float(t): float(v) for t, v in series["values"]})
        for target, found in zip(panel["targets"], answers, strict=True)
        for series in found
    ]
    times = sorted({t for _, values in drawn for t in values})
    if defaults["custom"]["stacking"]["mode"] == "normal" and drawn:
        heights = [[values.get(t, 0.0) for t in times] for _, values in drawn]
        axes.stackplot(times, heights, labels=[name for name, _ in drawn], alpha=0.7)
    else:
        for name, values in drawn:
            axes.plot(times, [values.get(t, math.nan) for t in times], label=name, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, defaults["unit"]))
    begin = times[0] if times else 0.0
    axes.xaxis.set_major_formatter(lambda value, _: f"{value - begin:.0f} s")
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=6)
    axes.spines[["top", "right"]].set_visible(False)
    if any(name for name, _ in drawn):
        axes.legend(fontsize=5.5, edgecolor="white", framealpha=0.6, loc="upper left", ncols=2 if len(drawn) > 4 else 1)


def _number(axes: Any, panel: Mapping[str, Any], answers: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    axes.axis("off")
    text, colour = "No data", _GREY
    if answers[0]:
        value = float(answers[0][0]["value"][1])
        steps = defaults["thresholds"]["steps"]
        reached = next(step["color"] for step in reversed(steps) if step["value"] is None or value >= step["value"])
        text, colour = shown(value, defaults["unit"]), _COLOURS[reached]
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=18, color=colour)


def _table(axes: Any, _: Mapping[str, Any], answers: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    rows = [series["metric"] for series in answers[0]]
    columns = sorted({label for row in rows for label in row})
    axes.axis("off")
    for number, column in enumerate(columns):
        text = "\n".join([column, *(row.get(column, "") for row in rows)])
        axes.text(number / len(columns), 1, text, va="top", fontsize=7, linespacing=1.6, color=_GREY)


_DRAWN = {"timeseries": _graph, "stat": _number, "table": _table}


def _legend(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """What Grafana calls a series: labels that it lacks are empty."""
    text = re.sub(r"\{\{(\w+)\}\}", lambda label: labels.get(label[1], ""), target["legendFormat"])
    return textwrap.shorten(text, 40) if text != "__auto" else ""


def shown(value: float, unit: str) -> str:
    """A number in a unit of Grafana."""
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "bytes":
        power = min(int(math.log(value, 1024)), 4) if value >= 1 else 0
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g}{ {'s': ' s', 'ops': ' /s', 'reqps': ' /s'}.get(unit, '') }"
