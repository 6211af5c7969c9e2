from __future__ import annotations

import copy
from typing import Any

from dask_crds.kubernetes import PodSpec
from dask_crds.merge import merged

POD: PodSpec = {
    "containers": [
        {"name": "a", "image": "a:1", "args": ["x", "y"], "env": [{"name": "A", "value": "1"}]},
        {"name": "b", "image": "b:1", "ports": [{"containerPort": 80}]},
    ],
    "nodeSelector": {"zone": "1"},
    "securityContext": {"runAsUser": 1, "fsGroup": 2},
}


def test_objects_are_merged_field_by_field() -> None:
    assert merged(POD, {"securityContext": {"fsGroup": 3}})["securityContext"] == {"runAsUser": 1, "fsGroup": 3}


def test_members_of_lists_are_found_by_their_key() -> None:
    changed = merged(POD, {"containers": [{"name": "b", "image": "b:2"}, {"name": "c", "image": "c:1"}]})
    assert [(c["name"], c.get("image")) for c in changed["containers"]] == [("a", "a:1"), ("b", "b:2"), ("c", "c:1")]
    assert changed["containers"][0] == POD["containers"][0]


def test_nested_lists_are_merged_too() -> None:
    changes = {"containers": [{"name": "a", "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]}]}
    assert merged(POD, changes)["containers"][0].get("env") == changes["containers"][0]["env"]


def test_defaults_are_part_of_a_key() -> None:
    """A port without protocol is a TCP port."""
    changes = {"containers": [{"name": "b", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]}]}
    assert len(merged(POD, changes)["containers"][1].get("ports") or ()) == 1


def test_lists_without_keys_and_atomic_objects_are_replaced() -> None:
    changed = merged(POD, {"containers": [{"name": "a", "args": ["z"]}], "nodeSelector": {"gpu": "yes"}})
    assert changed["containers"][0].get("args") == ["z"]
    assert changed.get("nodeSelector") == {"gpu": "yes"}


def test_null_removes() -> None:
    changed = merged(POD, {"nodeSelector": None, "securityContext": {"fsGroup": None}})
    assert "nodeSelector" not in changed
    assert changed["securityContext"] == {"runAsUser": 1}


def test_nothing_is_changed_in_place() -> None:
    before: Any = copy.deepcopy(POD)
    merged(POD, {"containers": [{"name": "a", "env": [{"name": "B", "value": "2"}]}], "securityContext": None})
    assert before == POD


def test_no_changes() -> None:
    assert merged(POD, {}) == POD
