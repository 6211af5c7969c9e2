"""What somebody reads who waits for a cluster, and when waiting ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dask_crds.reasons import Reason
from dask_gitops.errors import NotReady
from dask_gitops.standing import HOPELESS, PASSING, Standing, advice, counted, ending, standing, stated_in_git
from dask_gitops.waking import PATIENCE, Waking


def cluster(*conditions: dict[str, str], workers: str = "0/0", seen: int = 3, **spec: Any) -> dict[str, Any]:
    status = {"observedGeneration": seen, "workers": workers, "conditions": list(conditions)}
    return {"metadata": {"name": "a", "namespace": "n", "generation": 3}, "spec": spec, "status": status}


def told(type: str, status: str, reason: str = "", message: str = "") -> dict[str, str]:
    return {"type": type, "status": status, "reason": reason, "message": message}


UP = told("SchedulerReady", "True", "Ready")


def test_the_scheduler_is_enough_unless_workers_are_asked_for():
    without = cluster(UP, told("WorkersReady", "False", "Progressing", "1 of 4 workers are ready"), workers="1/4")
    assert standing(without) == Standing("up", "Ready", "1 of 4 workers are ready")
    assert standing(without, workers=1).state == "up"
    assert standing(without, workers=2) == Standing("coming", "Progressing", "1 of 4 workers are ready")


def test_why_workers_are_missing_is_told_of_a_cluster_that_computes():
    refused = told("WorkersReady", "False", "QuotaExceeded", "group a-default: exceeded quota")
    assert standing(cluster(UP, refused, workers="1/4")) == Standing(
        "up", "Ready", "1 of 4 workers are ready; QuotaExceeded: group a-default: exceeded quota"
    )


def test_status_of_an_earlier_spec_says_nothing():
    assert standing(cluster(UP, seen=2)).state == "coming"
    assert standing({"metadata": {"generation": 1}, "spec": {}}).state == "coming"
    assert standing({"metadata": {"generation": 1}, "spec": {}, "status": {"observedGeneration": -1}}).state == "coming"


def test_it_is_asleep_or_on_its_way_out_whatever_status_says():
    assert standing(cluster(UP, told("Suspended", "True", "Idle"), suspend=True)) == Standing(
        "asleep", "Idle", "suspended"
    )
    gone = cluster(UP)
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert standing(gone).state == "failed"


def test_words_are_those_of_the_conditions():
    image = told("SchedulerReady", "False", "ImagePullBackOff", "a-scheduler-x: no such image")
    assert standing(cluster(image)) == Standing(
        "coming", "ImagePullBackOff", "ImagePullBackOff: a-scheduler-x: no such image"
    )
    starting = told("SchedulerReady", "False", "Progressing", "the scheduler is starting")
    assert standing(cluster(starting)).words == "the scheduler is starting"
    conflict = told("Ready", "False", "NameConflict", "Service a-scheduler is somebody else's")
    assert standing(cluster(starting, conflict)) == Standing(
        "failed", "NameConflict", "NameConflict: Service a-scheduler is somebody else's"
    )


@pytest.mark.parametrize("text", ["", "x/y", "3", "-1/2", "1/2/3"])
def test_a_count_that_cannot_be_read_is_none(text):
    assert counted(cluster(workers=text)) == (0, 0)


def test_every_reason_of_a_problem_has_advice():
    assert advice("ImagePullBackOff").startswith("correct the image")
    assert advice(Reason.QUOTA_EXCEEDED).endswith("raised")
    assert advice("Whatever") == ""
    assert [reason for reason in HOPELESS if not advice(reason)] == []
    assert frozenset() == HOPELESS & PASSING


def test_git_is_named_where_it_states_the_field():
    fields = {"f:spec": {"f:suspend": {}}}
    stated = cluster(suspend=True)
    for manager, tool in (("argocd-controller", "Argo CD"), ("kustomize-controller", "Flux"), ("kubectl-edit", "")):
        stated["metadata"]["managedFields"] = [{"manager": manager, "fieldsV1": fields}]
        assert stated_in_git(stated, "spec", "suspend") == tool
    stated["metadata"]["managedFields"] = [{"manager": "argocd-controller", "fieldsV1": {"f:spec": {"f:worker": {}}}}]
    assert stated_in_git(stated, "spec", "suspend") == ""


def test_what_becomes_of_it():
    assert "nothing ends it" in ending(cluster())
    assert "deleted after 60 s" in ending(cluster(idleTimeout=60))
    assert "suspended after 60 s" in ending(cluster(idleTimeout=60, idleAction="Suspend"))
    both = ending(cluster(idleTimeout=60, noClientTimeout=9))
    assert both.endswith("deleted after 60 s without work or after 9 s without a client")


# --- waiting ----------------------------------------------------------------------------------------------------------


def waking(timeout: float = 600.0) -> Waking:
    return Waking(None, "a", workers=None, minimum=0, timeout=timeout, say=print, note=print)  # type: ignore[arg-type]


def waited(state: Standing, seconds: float) -> str:
    """What is raised after so many seconds of the same; empty if nothing is."""
    one = waking()
    one._judge(state, 1000.0, 1600.0)
    try:
        one._judge(state, 1000.0 + seconds, 1600.0)
    except NotReady as error:
        return str(error)
    return ""


def test_what_may_pass_is_waited_for_until_the_time_is_over():
    for reason in ("Progressing", "Unschedulable"):
        state = Standing("coming", reason, "x")
        assert waited(state, 599) == ""
        assert "for 600 s" in waited(state, 601)


def test_a_problem_is_given_a_minute_and_told_with_what_to_do():
    state = Standing("coming", "QuotaExceeded", "QuotaExceeded: no room")
    assert waited(state, PATIENCE - 1) == ""
    said = waited(state, PATIENCE + 1)
    assert said == f"a does not come up: QuotaExceeded: no room; {advice('QuotaExceeded')}"


def test_another_problem_has_a_minute_of_its_own():
    one = waking()
    one._judge(Standing("coming", "ErrImagePull", "x"), 0.0, 600.0)
    one._judge(Standing("coming", "CreateContainerConfigError", "x"), PATIENCE - 1, 600.0)
    one._judge(Standing("coming", "CreateContainerConfigError", "x"), PATIENCE + 1, 600.0)
    with pytest.raises(NotReady):
        one._judge(Standing("coming", "CreateContainerConfigError", "x"), 2 * PATIENCE, 600.0)


def test_an_operator_that_does_not_look_is_named():
    state = standing(cluster(UP, seen=2))
    assert waited(state, 20) == ""
    assert "does the operator run" in waited(state, 31)


def test_a_cluster_is_woken_once_and_then_waited_for():
    states = [cluster(suspend=True), cluster(UP, seen=2), cluster(UP, workers="1/1")]

    class Fake:
        patches: list[Any] = []

        async def get(self, kind: str, name: str) -> dict[str, Any]:
            return states.pop(0)

        async def patch(self, *patch: Any) -> dict[str, Any]:
            self.patches.append(patch)
            return {}

    said: list[str] = []
    up = Waking(Fake(), "a", workers=None, minimum=0, timeout=10, say=said.append, note=said.append)  # type: ignore[arg-type]
    asyncio.run(up.up())
    assert Fake.patches == [("DaskCluster", "a", {"spec": {"suspend": False}})]
    assert said == ["a: waking", "a: the operator has yet to see the change", "a: 1 of 1 workers are ready"]
