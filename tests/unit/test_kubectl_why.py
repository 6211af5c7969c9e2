"""`kubectl dask why`: each row of the table of causes, and what must hold whatever is read."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_crds.reasons import Reason
from dask_gitops.kubectl.case_objects import NOW, Case
from dask_gitops.kubectl.cases import CASES
from dask_gitops.kubectl.cause import ADVICE, State
from dask_gitops.kubectl.facts import ago, plain
from dask_gitops.kubectl.pods import pod_cause
from dask_gitops.kubectl.seen import Seen
from dask_gitops.kubectl.why import why


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_each_case_has_its_cause(case: Case) -> None:
    found = why(case.subject, case.seen, NOW)
    assert found.reason == case.reason
    assert re.search(case.says, found.words), found.words
    assert found.advice
    assert "Kubernetes'" not in found.advice, "nobody says what to do"


def test_the_table_has_what_it_promises() -> None:
    assert len(CASES) >= 20
    assert len({case.title for case in CASES}) == len(CASES)
    ours = {case.reason for case in CASES}
    assert {"QuotaExceeded", "NameConflict", "VersionMismatch", "SchedulerSilent"} <= ours & set(Reason)
    assert not set(ADVICE) & set(Reason), "what a reason of ours means stands in dask_crds.reasons alone"


# --- whatever is read -------------------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that an object consists of."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(each for key, child in inner for each in places(child, (*path, key)))]


def spoilt(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    """A copy in which something else stands at a path."""
    whole = copy.deepcopy(value)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = by
    return whole


@given(st.data())
def test_no_object_stops_it(data: st.DataObject) -> None:
    """Others write into status, and old objects lack what new ones have."""
    case = data.draw(st.sampled_from(CASES))
    everything = {"subject": case.subject} | {
        name: list(getattr(case.seen, name)) for name in ("clusters", "groups", "pods", "events", "workloads", "quotas")
    }
    # That there are objects, and of which kind, is what was asked for.
    paths = [path for path in places(everything) if len(path) > (1 if path[:1] == ("subject",) else 2)]
    paths = [path for path in paths if path[-1] != "kind" or len(path) > 3]
    spoilt_by = data.draw(ANYTHING)
    changed = spoilt(everything, data.draw(st.sampled_from(sorted(paths, key=str))), spoilt_by)
    subject = changed.pop("subject")
    found = why(subject, Seen(**{name: tuple(value) for name, value in changed.items()}), NOW)
    assert found.reason
    assert isinstance(found.state, State)


def test_what_is_as_asked_needs_nothing() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "2 of 2 workers are ready"}
    status = {"observedGeneration": 1, "conditions": [ready]}
    cluster = {"kind": "DaskCluster", "metadata": {"name": "a", "generation": 1}, "spec": {}, "status": status}
    found = why(cluster, Seen(clusters=(cluster,)), NOW)
    assert (found.reason, found.state) == ("Ready", State.FINE)


def test_a_new_resource_is_given_time() -> None:
    metadata = {"name": "a", "generation": 1, "creationTimestamp": "2027-01-15T07:59:50Z"}
    cluster = {"kind": "DaskCluster", "metadata": metadata, "spec": {}, "status": {"observedGeneration": -1}}
    assert why(cluster, Seen(), NOW).state is State.WAIT
    assert why(cluster, Seen(), NOW + 60).reason == "NotObserved"


def test_a_reason_that_nobody_here_knows_is_passed_on() -> None:
    waiting = {"reason": "FromTheFuture", "message": "so it is"}
    status = {"phase": "Pending", "containerStatuses": [{"name": "c", "state": {"waiting": waiting}}]}
    found = pod_cause({"metadata": {"name": "p"}, "status": status}, Seen(), NOW)
    assert found is not None
    assert (found.reason, found.words) == ("FromTheFuture", "Pod p, container c: so it is")
    assert "describe" in found.advice


def test_words_of_others_do_not_move_the_cursor() -> None:
    assert plain("a\x1b[31mred\x1b[0m\r\nb\u202ec\u200bd") == "a[31mred[0m bcd"
    assert len(plain("x" * 100_000)) == 1024


@pytest.mark.parametrize(("passed", "said"), [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")])
def test_how_long_ago(passed: float, said: str) -> None:
    assert ago(NOW - passed, NOW) == said
    assert ago(NOW + 5, NOW) == "0s", "another clock"
    assert ago(None, NOW) == ""
