"""Dashboards of Grafana from small pieces: queries in panels, panels in rows, rows below each other.

The JSON is of Grafana's dashboard schema, version 41 (Grafana 11): https://grafana.com/docs/grafana/latest/visualizations/
dashboards/build-dashboards/view-dashboard-json-model/. A test reads it with Grafana's own classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

#: Columns of Grafana's grid.
COLUMNS = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """A query of Prometheus.

    Attributes:
        expr: in PromQL.
        legend: what a series is called, ``{{pod}}`` stands for one of its labels.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A graph, a number or a table.

    Attributes:
        title: heading.
        description: what it shows and what to do about it.
        queries: what is drawn, each with its legend.
        kind: how it is drawn; ``stat`` and ``table`` show what is now.
        unit: of the values, by Grafana's name: ``s``, ``bytes``, ``percentunit``, ``short``.
        width: in columns, of 24.
        height: in lines.
        stacked: whether series are put on top of each other, as parts of a whole.
        warn: from here a ``stat`` is orange.
        bad: from here a ``stat`` is red.
    """

    title: str
    description: str
    queries: Sequence[Query]
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    stacked: bool = False
    warn: float | None = None
    bad: float | None = None

    def json(self, id: int, x: int, y: int) -> dict[str, Any]:
        """The panel at a place of the grid."""
        return {
            "id": id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": _DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [self._target(number, query) for number, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": _OPTIONS[self.kind],
            **({"transformations": _WITHOUT_TIME} if self.kind == "table" else {}),
        }

    def _target(self, number: int, query: Query) -> dict[str, Any]:
        now = self.kind != "timeseries"
        return {
            "refId": chr(ord("A") + number),
            "datasource": _DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": now,
            "range": not now,
            "format": "table" if self.kind == "table" else "time_series",
        }

    def _defaults(self) -> dict[str, Any]:
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        steps += [{"color": "orange", "value": self.warn}] if self.warn is not None else []
        steps += [{"color": "red", "value": self.bad}] if self.bad is not None else []
        defaults: dict[str, Any] = {"unit": self.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
        if self.kind == "timeseries":
            stacking = {"mode": "normal" if self.stacked else "none", "group": "A"}
            defaults["custom"] = {"fillOpacity": 30 if self.stacked else 5, "showPoints": "never", "stacking": stacking}
        return defaults


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": True,
    },
    "table": {
        "showHeader": True,
        "cellHeight": "sm",
        "footer": {"show": False, "reducer": ["sum"], "countRows": False},
    },
}
_WITHOUT_TIME = [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}]


@dataclass(frozen=True)
class Row:
    """Panels under a heading, from left to right."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard: the values of a label.

    Attributes:
        name: as queries write it, ``$namespace``.
        label: as people read it.
        values: the series and the label: ``label_values(series, label)``.
        many: whether several may be chosen, and all.
    """

    name: str
    label: str
    values: str
    many: bool = False

    def json(self) -> dict[str, Any]:
        """The variable as Grafana has it."""
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {"query": self.values, "refId": f"variable-{self.name}"},
            "refresh": 2,  # whenever the time range changes: clusters come and go
            "sort": 1,
            "multi": self.many,
            "includeAll": self.many,
            **({"allValue": ".*"} if self.many else {}),
        }


@dataclass(frozen=True)
class Dashboard:
    """A dashboard.

    Attributes:
        uid: by which links find it, at most 40 characters.
        title: heading.
        description: what it is for.
        rows: from top to bottom.
        variables: what can be chosen, besides the Prometheus.
        span: the time that is shown at first, ``now-1h`` say.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()
    span: str = "now-1h"

    def json(self) -> dict[str, Any]:
        """The dashboard as Grafana imports it."""
        source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["dask"],
            "schemaVersion": 41,
            "editable": True,
            "graphTooltip": 1,  # one cross hair for all panels
            "refresh": "30s",
            "time": {"from": self.span, "to": "now"},
            "timezone": "browser",
            "templating": {"list": [source, *(variable.json() for variable in self.variables)]},
            "links": [{"title": "Dask", "type": "dashboards", "tags": ["dask"], "asDropdown": True, "keepTime": True}],
            "panels": list(self._placed()),
        }

    def _placed(self) -> Iterator[dict[str, Any]]:
        id = y = 0
        for row in self.rows:
            id += 1
            place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
            yield {"id": id, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
            y, x, lowest = y + 1, 0, 0
            for panel in row.panels:
                if x + panel.width > COLUMNS:
                    x, y, lowest = 0, y + lowest, 0
                id += 1
                yield panel.json(id, x, y)
                x, lowest = x + panel.width, max(lowest, panel.height)
            y += lowest
