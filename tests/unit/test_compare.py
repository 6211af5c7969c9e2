"""Whether a live object has what is stated."""

from __future__ import annotations

from typing import Any

import pytest

from dask_controller.core.compare import contains, picked


def test_lists_are_compared_as_wholes() -> None:
    assert contains({"a": [{"b": 1, "c": 2}], "d": 1}, {"a": [{"b": 1}]})
    assert not contains({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}]})
    assert not contains({}, {"a": None})


def test_of_what_is_stored_just_that_is_compared_which_is_stated() -> None:
    stored = {"a": 1, "more": 2, "list": [{"name": "x", "v": 1, "w": 2}, {"name": "y"}], "args": ["1"]}
    assert picked(stored, {"a": 0, "list": [{"name": "x", "v": 0}], "args": ["2"], "gone": 1}) == {
        "a": 1,
        "list": [{"name": "x", "v": 1}],
        "args": ["1"],
    }


@pytest.mark.parametrize(
    ("there", "wanted", "same"),
    [
        ([{"name": "b"}, {"name": "a", "x": 1}], [{"name": "a"}], True),
        ([{"name": "a", "x": 2}], [{"name": "a", "x": 1}], False),
        ([{"name": "b"}], [{"name": "a"}], False),
        ([{"name": "a"}], [{"name": "a"}, {"name": "a"}], False),
        ([{"key": "b"}, {"key": "a"}], [{"key": "a"}], False),
        (["1", "2"], ["1"], False),
        (["1"], ["1"], True),
        ([], [], True),
        (
            [{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1, "protocol": "UDP"}],
            [{"containerPort": 1, "protocol": "UDP"}],
            True,
        ),
        ("x", [], False),
    ],
)
def test_members_of_lists_are_told_apart_as_the_api_server_does(there: Any, wanted: Any, same: bool) -> None:
    assert contains(there, wanted) is same
