from __future__ import annotations

import copy
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_crds.kubernetes import PodSpec, definitions
from dask_crds.kubernetes.unions import TYPED, UNIONS
from dask_crds.merge import _merged, merged

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


# --- fields that exclude each other (constructs finding 4, programs 03 and 05) ----------------------------------------


def with_container(**fields: Any) -> PodSpec:
    return cast("PodSpec", {"containers": [{"name": "a", "image": "a:1", **fields}]})


def with_volume(**source: Any) -> PodSpec:
    return cast("PodSpec", {"containers": [], "volumes": [{"name": "tmp", **source}]})


CLAIM = {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}
LOCALHOST = {"type": "Localhost", "localhostProfile": "a.json"}


@pytest.mark.parametrize(
    ("base", "changes", "expected"),
    [
        (with_volume(emptyDir={}), with_volume(ephemeral=CLAIM), with_volume(ephemeral=CLAIM)),
        (with_volume(emptyDir={"medium": "Memory"}), with_volume(), with_volume(emptyDir={"medium": "Memory"})),
        (
            with_container(readinessProbe={"httpGet": {"port": 80}, "periodSeconds": 5}),
            with_container(readinessProbe={"exec": {"command": ["true"]}}),
            with_container(readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 5}),
        ),
        (
            with_container(env=[{"name": "A", "value": "1"}]),
            with_container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            with_container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        ),
        (
            with_container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            with_container(env=[{"name": "A", "value": ""}]),
            with_container(env=[{"name": "A", "value": ""}]),
        ),
        (
            with_container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            with_container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]),
            with_container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]),
        ),
        (
            with_container(lifecycle={"preStop": {"exec": {"command": ["a"]}}, "postStart": {"sleep": {"seconds": 1}}}),
            with_container(lifecycle={"preStop": {"sleep": {"seconds": 5}}}),
            with_container(lifecycle={"preStop": {"sleep": {"seconds": 5}}, "postStart": {"sleep": {"seconds": 1}}}),
        ),
        (
            with_container(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "a"}]),
            with_container(volumeMounts=[{"mountPath": "/v", "subPathExpr": "$(A)"}]),
            with_container(volumeMounts=[{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)"}]),
        ),
        (
            with_container(securityContext={"seccompProfile": LOCALHOST}),
            with_container(securityContext={"seccompProfile": {"type": "RuntimeDefault"}}),
            with_container(securityContext={"seccompProfile": {"type": "RuntimeDefault"}}),
        ),
        (
            with_container(securityContext={"appArmorProfile": LOCALHOST}),
            with_container(securityContext={"appArmorProfile": {"localhostProfile": "b"}}),
            with_container(securityContext={"appArmorProfile": {"type": "Localhost", "localhostProfile": "b"}}),
        ),
        (with_volume(emptyDir={}), with_volume(emptyDir=None, ephemeral=CLAIM), with_volume(ephemeral=CLAIM)),
        (with_volume(emptyDir={}), with_volume(emptyDir=None), with_volume()),
        (
            cast("PodSpec", {"containers": [], "resourceClaims": [{"name": "g", "resourceClaimName": "a"}]}),
            cast("PodSpec", {"resourceClaims": [{"name": "g", "resourceClaimTemplateName": "b"}]}),
            cast("PodSpec", {"containers": [], "resourceClaims": [{"name": "g", "resourceClaimTemplateName": "b"}]}),
        ),
    ],
)
def test_a_new_member_of_a_union_takes_the_place_of_the_old(base: PodSpec, changes: PodSpec, expected: PodSpec) -> None:
    assert merged(base, changes) == expected


def objects(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of a definition with at most one member of its union; what the members hold does not matter."""
    members, others = UNIONS[name].members, sorted(set(definitions()[name]["properties"]) - set(UNIONS[name].members))
    one = st.one_of(st.just({}), st.sampled_from(members).map(lambda member: {member: "x"}))
    rest = st.dictionaries(st.sampled_from(others), st.just("y")) if others else st.just({})
    return st.builds(lambda first, second: first | second, one, rest)


@pytest.mark.parametrize("name", UNIONS)
@given(data=st.data())
def test_of_every_union_at_most_one_member_is_left(name: str, data: st.DataObject) -> None:
    base, changes = data.draw(objects(name)), data.draw(objects(name))
    found = _merged({"$ref": name}, base, changes)
    given_members = [member for member in UNIONS[name].members if found.get(member) is not None]
    assert len(given_members) <= 1
    assert changes.items() <= found.items()
    assert {**base, **changes}.keys() - set(UNIONS[name].members) <= found.keys()


def test_unions_are_of_fields_that_there_are() -> None:
    """A new release of Kubernetes may rename them."""
    for name, union in UNIONS.items():
        assert set(union.members) <= definitions()[name]["properties"].keys()
    for name, fields in TYPED.items():
        assert {"type", *fields.values()} <= definitions()[name]["properties"].keys()
