"""Keyword arguments are checked strictly, and what is wrong with them is told in the user's own terms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Required, TypedDict, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from tests.support.constructs import IMAGE, chart, errors, only

from dask_constructs import DaskCluster
from dask_constructs.cluster import ClusterProps
from dask_constructs.conflicts import conflicts
from dask_constructs.cron_job import CronJobProps
from dask_constructs.job import JobProps
from dask_constructs.keywords import accepted, checked
from dask_constructs.templates import cluster_spec

Policy = Literal["Always", "Never"]


class Props(TypedDict, total=False):
    name: Required[str]
    count: Annotated[int, Meta(ge=0)] | None
    share: float | None
    words: Sequence[str] | None
    amounts: Mapping[str, Annotated[float, Meta(gt=0)]] | None
    policy: Policy | None
    either: int | Literal["all"] | None


def mistakes(**given: Any) -> list[str]:
    found: list[str] = []
    accepted({"name": "x", **given}, Props, found.append)
    return found


@pytest.mark.parametrize(
    ("given", "mistake"),
    [
        ({"count": "3"}, "count: must be a whole number of at least 0, not '3'; write 3"),
        ({"count": True}, "count: must be a whole number of at least 0, not True"),
        ({"count": 4.0}, "count: must be a whole number of at least 0, not 4.0"),
        ({"count": -1}, "count: must be a whole number of at least 0, not -1"),
        ({"share": "0.5"}, "share: must be a number, not '0.5'"),
        ({"words": "team"}, "words: must be a list, not 'team'; for one, write ['team']"),
        ({"words": ["a", 1]}, "words[1]: must be text, not 1; write '1'"),
        ({"words": {"a": 1}}, "words: must be a list, not {'a': 1}"),
        ({"words": b"team"}, "words: must be a list, not b'team'"),
        ({"amounts": [1]}, "amounts: must be a mapping, not [1]"),
        ({"amounts": {"GPU": 0}}, "amounts['GPU']: must be a number greater than 0, not 0"),
        ({"amounts": {1: 1}}, "amounts: a key must be text, not 1; write '1'"),
        ({"policy": "always"}, "policy: must be one of 'Always', 'Never', not 'always'; did you mean 'Always'?"),
        ({"either": "one"}, "either: must be a whole number or 'all', not 'one'"),
        ({"name": 3}, "name: must be text, not 3; write '3'"),
    ],
)
def test_a_wrong_value_is_told_with_its_keyword(given: dict[str, Any], mistake: str) -> None:
    """(constructs findings 3, 10)"""
    assert mistakes(**given) == [mistake]


def test_all_of_it_is_told_at_once() -> None:
    assert len(mistakes(count="a", share="b", words=[1, 2], policy=3)) == 5


def test_what_is_right_comes_back_as_it_was_meant() -> None:
    given = {"name": "x", "count": 0, "share": 1, "words": ("a",), "amounts": {"GPU": 2}, "either": "all"}
    assert accepted(given, Props, pytest.fail) == {**given, "words": ["a"]}


def test_none_is_left_out() -> None:
    """(constructs finding 7)"""
    assert accepted({"name": "x", "count": None, "words": None}, Props, pytest.fail) == {"name": "x"}


def test_wrong_keywords_are_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match=r"^unexpected keyword arguments 'cuont'; did you mean 'count'\?, 'zzzz'$"):
        accepted({"name": "x", "cuont": 1, "zzzz": 2}, Props, pytest.fail)
    with pytest.raises(TypeError, match=r"^missing keyword argument 'name'$"):
        accepted({"name": None}, Props, pytest.fail)


#: Whatever a program may hand in by mistake.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
)


REQUIRED = {"image": IMAGE, "command": ["true"], "schedule": "@daily"}


@pytest.mark.parametrize("declared", [ClusterProps, JobProps, CronJobProps])
@given(data=st.data())
def test_no_value_makes_it_raise(declared: type, data: st.DataObject) -> None:
    needed = {keyword: value for keyword, value in REQUIRED.items() if keyword in get_type_hints(declared)}
    keywords = sorted(get_type_hints(declared).keys() - needed.keys())
    wrong = data.draw(st.dictionaries(st.sampled_from(keywords), ANYTHING, max_size=4))
    found: list[str] = []
    right = accepted(needed | wrong, declared, found.append)
    told = {re.split(r"[.:[]", line)[0] for line in found}
    given = {keyword for keyword, value in wrong.items() if value is not None}
    assert given == (right.keys() | told) & given, "each is taken or told"
    assert not right.keys() & told
    refused = {re.split(r"[.[]", keyword)[0] for keyword, _ in conflicts(right)}
    assert cluster_spec({name: value for name, value in right.items() if name not in refused})


def test_a_value_is_checked_once_and_told_without_noise() -> None:
    """What was refused counts as left out: nothing else is told because of it."""
    c = chart()
    DaskCluster(c, "c", image="", memory="8Gb", cores="two", workers=-1, env={"N": 3})  # type: ignore[dict-item]
    assert errors(c) == [
        "[test/c] image: must be text that is not empty, not ''",
        "[test/c] memory: '8Gb' is not a Kubernetes quantity such as 500m, 1.5 or 4Gi",
        "[test/c] cores: 'two' is not a Kubernetes quantity such as 500m, 1.5 or 4Gi",
        "[test/c] workers: must be a whole number from 0 to 200000, not -1",
        "[test/c] env['N']: must be text, not 3; write '3'",
    ]


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({"memory": "-8Gi"}, "memory: must be more than 0, not -8Gi"),
        ({"memory": 8}, "memory: 8 is 8 bytes; gibibytes are written '8Gi'"),
        ({"memory": "500m"}, "memory: '500m' is 0.5 bytes; gibibytes are written"),
        ({"cores": 0}, "cores: must be more than 0, not 0"),
        ({"cores": "2Gi"}, "cores: '2Gi' is 2,147,483,648 cores"),
        ({"cores": True}, "cores: must be a number or a quantity"),
        ({"scheduler_memory": "2GB"}, "scheduler_memory: '2GB' is not a Kubernetes quantity"),
        ({"gpus": 0.5}, "gpus: must be a whole number"),
        ({"threads": 0}, "threads: must be a whole number of at least 1, not 0"),
        ({"image_pull_secrets": "registry"}, "image_pull_secrets: must be a list, not 'registry'; for one, write"),
        ({"worker_args": "--nworkers 2"}, "worker_args: must be a list"),
        ({"worker_command": []}, "worker_command: must be a list that is not empty"),
        ({"image_pull_policy": "always"}, "image_pull_policy: must be one of 'Always', 'IfNotPresent', 'Never', not"),
        ({"env": {"A": "\ud800"}}, r"env['A']: has half a character, '\ud800', which no file can hold"),
        ({"annotations": {"a\udfff": "1"}}, "annotations: has half a character"),
        ({"worker_pod": {"hostname": "\ud800"}}, "worker_pod['hostname']: has half a character"),
        ({"env": {"A": "a\x7f"}}, r"env['A']: has '\x7f', which cdk8s writes so that nobody can read the file"),
        ({"worker_args": ["--umask", "0o22"]}, "worker_args[1]: would be read as a number: write '0o22' otherwise"),
        ({"worker_command": ["sh", "-c", "\n\tdate\n"]}, r"worker_command[2]: begins with '\n\t', which cdk8s writes"),
        ({"worker_pod": "hostNetwork"}, "worker_pod: must be a function from PodSpec to PodSpec, or a mapping"),
    ],
)
def test_sizes_are_what_people_mean(options: dict[str, Any], mistake: str) -> None:
    """(constructs findings 3, 10)"""
    c = chart()
    DaskCluster(c, "c", image=IMAGE, **options)
    (found,) = errors(c)
    assert found.startswith(f"[test/c] {mistake}")


def test_what_is_left_out_is_as_if_it_had_not_been_said() -> None:
    """(constructs finding 7) `service_account=None` took `automountServiceAccountToken: false` away."""
    c, nothing = chart(), dict.fromkeys(sorted(set(ClusterProps.__annotations__) - {"image"}))
    DaskCluster(c, "c", image=IMAGE, **nothing)  # type: ignore[typeddict-item]
    other = chart()
    DaskCluster(other, "c", image=IMAGE)
    assert only(c) == only(other)


def test_a_checked_value_says_which_part_is_wrong() -> None:
    _, problems = checked(Mapping[str, Sequence[int]], {"a": [1, "2"]})
    assert problems == [("['a'][1]", "must be a whole number, not '2'; write 2")]
