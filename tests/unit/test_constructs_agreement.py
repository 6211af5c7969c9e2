"""The resources of one app agree with each other, and what does not is told once per synth, at its construct."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from tests.support.constructs import IMAGE, POD, chart, errors, only, synth

from dask_constructs import DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup, manifest
from dask_constructs.resource import DaskResource

import cdk8s  # isort: skip - after dask_constructs, which finds Node.js for it


def test_a_name_is_there_once() -> None:
    c = chart()
    DaskCluster(c, "a", name="x", image=IMAGE)
    DaskCluster(c, "b", name="x", image=IMAGE)
    DaskCluster(c, "elsewhere", name="x", namespace="n", image=IMAGE)
    DaskAutoscaler(c, "other-kind", name="x", cluster="y")
    assert errors(c) == ["[test/b] name: metadata.name: test/a is a DaskCluster 'x' already"]


GPU: dict[str, Any] = {"name": "gpu", "spec": POD}


def stating(groups: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Spec of a cluster with further groups."""
    return {"scheduler": {"spec": POD}, "worker": {"spec": POD}, "workerGroups": groups, **more}


def test_what_is_made_of_a_resource_has_a_name_of_its_own() -> None:
    """The operator says NameConflict, and goes on without."""
    c = chart()
    states = stating([GPU, {**GPU, "name": "big", "autoscaler": {"maximum": 3}}], autoscaler={"maximum": 3})
    DaskCluster.from_spec(c, "states", name="x", spec=states)
    DaskWorkerGroup(c, "twin", name="x-gpu", cluster="x", image=IMAGE)
    DaskWorkerGroup(c, "others", name="x-default", cluster="y", image=IMAGE)
    DaskAutoscaler(c, "a", name="x", cluster="y")
    DaskAutoscaler(c, "b", name="x-big", cluster="y", worker_group="y-big")
    DaskWorkerGroup(c, "elsewhere", name="x-gpu", namespace="n", cluster="x", image=IMAGE)
    assert [line for line in errors(c) if "is made of" in line] == [
        f"[test/{path}] name: metadata.name: the {kind} {name!r} is made of test/states"
        for path, kind, name in (
            ("twin", "DaskWorkerGroup", "x-gpu"),
            ("others", "DaskWorkerGroup", "x-default"),
            ("a", "DaskAutoscaler", "x"),
            ("b", "DaskAutoscaler", "x-big"),
        )
    ]


def test_groups_of_two_clusters_have_names_of_their_own() -> None:
    c = chart()
    DaskCluster.from_spec(c, "a", name="a", spec=stating([{**GPU, "name": "b-c"}]))
    DaskCluster.from_spec(c, "ab", name="a-b", spec=stating([{**GPU, "name": "c"}]))
    assert errors(c) == [
        "[test/ab] name: metadata.name: its DaskWorkerGroup would have the name of one of test/a: 'a-b-c'"
    ]


@pytest.mark.parametrize("job_first", [True, False])
def test_a_job_and_a_cluster_have_names_of_their_own(job_first: bool) -> None:
    c = chart()
    if job_first:
        DaskJob(c, "j", name="x", image=IMAGE, command=["true"])
    DaskCluster(c, "c", name="x", image=IMAGE)
    if not job_first:
        DaskJob(c, "j", name="x", image=IMAGE, command=["true"])
    assert errors(c) == ["[test/c] name: metadata.name: the DaskCluster 'x' is made of test/j"]


def test_a_group_that_a_job_has_got_is_not_declared_once_more() -> None:
    c = chart()
    DaskJob(c, "j", name="x", image=IMAGE, command=["true"]).add_worker_group("gpu")
    DaskWorkerGroup(c, "g", name="x-gpu", cluster="x", image=IMAGE)
    assert errors(c) == ["[test/g] name: metadata.name: the DaskWorkerGroup 'x-gpu' is made of test/j"]


def test_a_group_is_where_its_cluster_is() -> None:
    """(constructs finding 10, program 12)"""
    c = chart(namespace="n")
    cluster = DaskCluster(c, "a", name="x", image=IMAGE)
    cluster.add_worker_group("g", namespace="other")
    DaskAutoscaler(c, "s", namespace="another", cluster=cluster)
    DaskWorkerGroup(c, "elsewhere", cluster="not-of-this-app", image=IMAGE, namespace="other")
    assert errors(c) == [
        "[test/a/g] namespace: metadata.namespace: must be that of its cluster 'x' (n), not 'other'",
        "[test/s] namespace: metadata.namespace: must be that of its cluster 'x' (n), not 'another'",
    ]


def test_a_group_has_one_autoscaler_and_it_is_of_its_cluster() -> None:
    """(constructs finding 10, program 10)"""
    c = chart()
    x, y = DaskCluster(c, "x", name="x", image=IMAGE), DaskCluster(c, "y", name="y", image=IMAGE)
    DaskAutoscaler(c, "a", name="a", cluster=x)
    DaskAutoscaler(c, "b", name="b", cluster=x, worker_group="x-default")
    DaskAutoscaler(c, "e", name="e", cluster=x, worker_group=y.add_worker_group("g"))
    assert errors(c) == [
        "[test/b] spec.workerGroup: test/a scales 'x-default' already",
        "[test/e] spec.workerGroup: 'y-g' is a group of 'y', not of 'x'",
    ]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_number_has_one_owner(workers: int) -> None:
    """(constructs finding 10, program 10) However the autoscaler was made."""
    c = chart()
    cluster = DaskCluster(c, "x", name="x", image=IMAGE, workers=workers)
    group = cluster.add_worker_group("g", workers=workers)
    DaskAutoscaler(c, "a", name="a", cluster="x")
    group.autoscale(maximum=3)
    assert errors(c) == [
        f"[test/x/g/autoscaler] test/x/g states {workers} workers; leave that to the autoscaler",
        f"[test/a] test/x states {workers} workers; leave that to the autoscaler",
    ]


def test_a_job_waits_for_no_more_workers_than_it_asks_for() -> None:
    """(constructs finding 10)"""
    c = chart()
    job: dict[str, Any] = {"image": IMAGE, "command": ["true"], "workers": 2}
    DaskJob(c, "fits", name="fits", minimum_workers=2, **job)
    DaskJob(c, "never", name="never", minimum_workers=3, **job)
    DaskJob(c, "scaled", name="scaled", image=IMAGE, command=["true"], minimum_workers=9)
    assert errors(c) == [
        "[test/never] minimum_workers, workers: spec.minimumReadyWorkers: must not exceed the number of workers (3 > 2)"
    ]


def test_what_agrees_is_written() -> None:
    c = chart(namespace="n")
    cluster = DaskCluster(c, "x", name="x", image=IMAGE)
    cluster.add_worker_group("g").autoscale(minimum=1)
    cluster.autoscale(maximum=9)
    DaskCluster(c, "twin", name="x", namespace="m", image=IMAGE).autoscale()
    assert len(synth(c)) == 6


# --- once per synth ---------------------------------------------------------------------------------------------------


def test_each_resource_is_checked_once_per_synth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """(constructs finding 9) cdk8s validates the whole app once per chart: 100 charts took 73 s."""
    checked: list[str] = []
    real = manifest.problems
    monkeypatch.setattr("dask_constructs.origins.problems", lambda m: checked.append(m["metadata"]["name"]) or real(m))
    app = cdk8s.App(outdir=str(tmp_path))
    for team in "abcd":
        DaskCluster(cdk8s.Chart(app, team), "c", name=team, image=IMAGE)
    app.synth()
    assert checked == ["a", "b", "c", "d"]
    app.synth()
    assert checked == ["a", "b", "c", "d"] * 2, "what was changed since is looked at again"


def test_what_is_changed_between_two_synths_is_seen(tmp_path: Path) -> None:
    app = cdk8s.App(outdir=str(tmp_path))
    clusters = [DaskCluster(cdk8s.Chart(app, team), "c", name=team, image=IMAGE) for team in "ab"]
    app.synth()
    patch = clusters[1].api_object.add_json_patch
    patch(cdk8s.JsonPatch.add("/spec/suspended", True))
    for _ in range(2):
        gc.collect()
        with pytest.raises(RuntimeError, match=r"\[b/c\] spec\.suspended: unknown field"):
            app.synth()
    patch(cdk8s.JsonPatch.remove("/spec/suspended"))
    app.synth()


def test_mistakes_of_all_charts_are_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    app = cdk8s.App(outdir=str(tmp_path))
    for team in "abc":
        DaskCluster(cdk8s.Chart(app, team), "c", name=team, image=IMAGE, memory="8Gb" if team != "b" else "8Gi")
    with pytest.raises(RuntimeError) as caught:
        app.synth()
    assert [line.split()[0] for line in str(caught.value).splitlines()[1:]] == ["[a/c]", "[c/c]"]
    assert not list(tmp_path.iterdir())


def test_apps_do_not_know_of_each_other() -> None:
    for _ in range(2):
        c = chart()
        DaskCluster(c, "x", name="x", image=IMAGE)
        assert only(c)["metadata"]["name"] == "x"


def test_a_resource_tells_what_is_wrong_without_synth() -> None:
    resource: DaskResource = DaskCluster(chart(), "x", name="X", image=IMAGE, memory="8Gb")
    assert [line.partition(":")[0] for line in resource.problems()] == ["memory", "name"]
