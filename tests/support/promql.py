"""Queries of Prometheus: what they name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser

#: What Grafana puts in; any value does.
_OF_GRAFANA = {"$__rate_interval": "5m", "$namespace": "team", "$cluster": "c", "$job": "j"}


def filled_in(query: str, values: Mapping[str, str] = _OF_GRAFANA) -> str:
    """A query of a panel as Prometheus gets it.

    Raises:
        ValueError: a variable that no dashboard has.
    """
    for variable, value in values.items():
        query = query.replace(variable, value)
    if "$" in query:
        raise ValueError(f"unknown variable: {query}")
    return query


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that a query names, with the labels that it must have there.

    Raises:
        ValueError: it is no PromQL.
    """
    yield from _selectors(promql_parser.parse(filled_in(query)))


def _selectors(node: Any) -> Iterator[tuple[str, set[str]]]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
        return
    for attribute in ("vector_selector", "expr", "lhs", "rhs", "param"):
        child = getattr(node, attribute, None)
        if child is not None and not isinstance(child, str):
            yield from _selectors(child)
    for argument in getattr(node, "args", ()) or ():
        yield from _selectors(argument)


def family(metric: str, known: Mapping[str, Any] | set[str]) -> str:
    """The name that a list has: that of a histogram for one of its three series."""
    stem = re.sub(r"_(bucket|count|sum)$", "", metric)
    return stem if metric not in known and stem in known else metric
