"""Prometheus' text format, as its own library reads it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from dask_controller.kube.exposition import family

text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\x00"), max_size=20)


@given(st.dictionaries(st.tuples(text, text), st.floats(allow_nan=False), max_size=5))
def test_whatever_a_label_holds_is_read_as_it_was(samples: dict[tuple[str, str], float]) -> None:
    (read,) = text_string_to_metric_families(family("x", "gauge", "Some.", ("a", "b"), samples.items()))
    assert (read.name, read.type, read.documentation) == ("x", "gauge", "Some.")
    assert {(s.labels["a"], s.labels["b"]): s.value for s in read.samples} == samples


def test_a_counter_is_read_as_one() -> None:
    (read,) = text_string_to_metric_families(family("x_total", "counter", "Some.", ("a",), [(("b",), 2.0)]))
    assert (read.type, [(s.name, s.value) for s in read.samples]) == ("counter", [("x_total", 2.0)])
