"""What `kubectl dask status`, `logs` and `top` make of what was read, and how it looks."""

from __future__ import annotations

import io
from typing import Any

from dask_gitops.kubectl import case_objects as make
from dask_gitops.kubectl import shown
from dask_gitops.kubectl.case_objects import NOW
from dask_gitops.kubectl.cause import State, cause
from dask_gitops.kubectl.logs import main_container, pods_of
from dask_gitops.kubectl.seen import Seen
from dask_gitops.kubectl.tree import forest
from dask_gitops.kubectl.usage import lines

READY: dict[str, Any] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


def cluster_with(workers: int, *unready: int, **status: Any) -> Seen:
    cluster = make.cluster(make.READY, make.SCHEDULED)
    cluster["status"]["workers"] = f"{workers - len(unready)}/{workers}"
    group = make.group(
        make.status(("Ready", str(not unready), "Ready", ""), readyReplicas=workers - len(unready), **status)
    )
    pods = [make.worker(number, **({"phase": "Pending"} if number in unready else READY)) for number in range(workers)]
    return Seen(clusters=(cluster,), groups=(group,), pods=(make.scheduler(**READY), *pods))


def rendered(seen: Seen, *, name: str = "", namespaces: bool = False) -> str:
    file = io.StringIO()
    console = shown.console(file)
    for tree in shown.tree_of(forest(seen, NOW, name=name), namespaces=namespaces):
        console.print(tree, crop=False)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def test_a_cluster_as_a_tree() -> None:
    assert rendered(cluster_with(2, desiredReplicas=2)) == (
        "✓ DaskCluster analytics  Ready, 2/2 workers, 60m\n"
        "├── ✓ Scheduler analytics-scheduler-5d9c-x7k2p  ready\n"
        "└── ✓ DaskWorkerGroup analytics-default  2 of 2 ready\n"
        "    ├── ✓ Worker analytics-default-worker-0  ready\n"
        "    └── ✓ Worker analytics-default-worker-1  ready"
    )


def test_of_many_workers_those_that_need_a_look_are_shown() -> None:
    text = rendered(cluster_with(40, 7, 20, desiredReplicas=40))
    assert [line for line in text.splitlines() if "orker" in line][2:] == [
        "    ├── … Worker analytics-default-worker-7  Pending",
        "    ├── … Worker analytics-default-worker-20  Pending",
        "    └── ✓ Workers 38 more  38 ready",
    ]


def test_what_runs_is_not_ready_yet() -> None:
    seen = Seen(clusters=(make.cluster(make.STARTS),), pods=(make.scheduler(phase="Running"),))
    assert "… Scheduler analytics-scheduler-5d9c-x7k2p  running, not ready" in rendered(seen)


def test_drains_are_told() -> None:
    entry = {"name": "analytics-default-worker-1", "since": "2027-01-15T07:57:00Z", "message": "it runs 2 tasks"}
    text = rendered(cluster_with(2, desiredReplicas=1, draining=[entry]))
    assert "2 of 1 ready, 1 draining" in text
    assert "… Worker analytics-default-worker-1  draining for 3m: it runs 2 tasks" in text


def test_a_job_has_its_cluster_below_it() -> None:
    job = make.job(("Ready", "False", "Running", ""), jobStatus="Running", progress={"percent": 42, "tasksDone": 21})
    cluster = make.resource(
        "DaskCluster", "etl", owner={"kind": "DaskJob", "name": "etl", "uid": "uid-DaskJob-etl"}, status={}, spec={}
    )
    (root,) = forest(Seen(jobs=(job,), clusters=(cluster,), pods=(make.runner(**READY),)), NOW)
    assert [(node.kind, node.name) for node in root.below] == [("Runner", "etl-runner-q8w2z"), ("DaskCluster", "etl")]
    assert "42 % (21 of 0 tasks, 0 workers)" in root.words
    assert root.as_json()["progress"] == {"percent": 42, "tasksDone": 21}
    seen = Seen(jobs=(job,), clusters=(cluster,))
    for kind in ("DaskCluster", "DaskJob"):
        assert [root.kind for root in forest(seen, NOW, name="etl", kinds=[kind])] == [kind], "as it was asked for"


def test_a_cluster_of_another_owner_of_the_name_is_no_part_of_the_job() -> None:
    job = make.job(("Ready", "False", "NameConflict", ""))
    cluster = make.resource("DaskCluster", "etl", status={}, spec={})
    roots = forest(Seen(jobs=(job,), clusters=(cluster,)), NOW)
    assert [(root.kind, root.name) for root in roots] == [("DaskCluster", "etl"), ("DaskJob", "etl")]


def test_pods_with_our_labels_that_are_not_ours_are_left_out() -> None:
    claims = make.pod("analytics-scheduler-5d9c-evil", {"kind": "Job", "name": "x", "uid": "u"}, "scheduler", **READY)
    seen = Seen(clusters=(make.cluster(make.READY),), pods=(claims,))
    assert "evil" not in rendered(seen)


def test_namespaces_are_named_where_there_may_be_several() -> None:
    assert "DaskCluster team/analytics" in rendered(cluster_with(1), namespaces=True)
    assert rendered(cluster_with(1), name="other") == ""


def test_nothing_of_others_is_markup_or_moves_the_cursor() -> None:
    file = io.StringIO()
    shown.console(file).print(shown.cause_of(cause("Error", "[red]x[/red] :smile:")), soft_wrap=True)
    assert file.getvalue().startswith("✗ Error\n  [red]x[/red] :smile:\n  → ")


def test_logs_of_whom() -> None:
    seen = cluster_with(2)
    (cluster,), (group,) = seen.clusters, seen.groups
    names = [pod["metadata"]["name"] for pod in pods_of(cluster, seen, part="all")]
    assert names == ["analytics-scheduler-5d9c-x7k2p", "analytics-default-worker-0", "analytics-default-worker-1"]
    assert len(pods_of(cluster, seen, part="")) == 1
    assert len(pods_of(group, seen, part="")) == 2
    assert pods_of(cluster, seen, part="runner") == []
    assert main_container({"spec": {"containers": [{"name": "istio-proxy"}, {"name": "worker"}]}}) == "worker"


def test_usage() -> None:
    metrics = [
        {
            "metadata": {"name": name, "namespace": "team"},
            "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": "64Mi"}}],
        }
        for name, cpu in (("analytics-default-worker-0", "250m"), ("analytics-default-worker-1", "?"), ("other", "9"))
    ]
    (line,) = lines(cluster_with(2), metrics, NOW)
    assert (line.cpu_text, line.memory_text, line.workers, line.state) == ("0.25", "128Mi", "2/2", State.FINE)
    assert line.as_json()["memoryBytes"] == 128 * 2**20
    (line,) = lines(cluster_with(2), [], NOW)
    assert (line.cpu, line.cpu_text) == (None, "")
    file = io.StringIO()
    shown.console(file).print(shown.usage_table([line], namespaces=True, measured=False))
    assert file.getvalue().split()[:3] == ["NAMESPACE", "NAME", "WORKERS"]
