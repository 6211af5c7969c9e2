"""Groups and autoscalers that a manifest states (issue 14, point 5): what they become, and what goes again."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.support.states import NAMESPACE, NOW, cluster, condition, job, observed_cluster, pod_spec, scheduler_pod

from dask_controller.core.actions import Apply, Delete
from dask_controller.core.cluster import plan_cluster
from dask_controller.core.cluster_status import cluster_status
from dask_crds.model import Autoscaling, DaskCluster, WorkerGroup, dump, parse
from dask_crds.names import Annotation
from dask_crds.reasons import Reason
from dask_crds.schema import custom_resource_definition
from dask_resources.cluster import children
from dask_resources.job import job_cluster, job_revision
from dask_resources.scheduler import (
    disruption_budget,
    extension_config_map,
    scheduler_deployment,
    scheduler_service,
)

OURS = ("DaskWorkerGroup", "DaskAutoscaler")
GPU = WorkerGroup(name="gpu", spec=pod_spec("gpu:1"), replicas=3)
SCALED = WorkerGroup(name="big", spec=pod_spec("big:1"), autoscaler=Autoscaling(minimum=2, maximum=9))


def built(of: DaskCluster) -> dict[tuple[str, str], Any]:
    return {(c.kind, c.name): c.build(of) for c in children(of) if c.kind in OURS}


def there(of: DaskCluster, *, made_from: DaskCluster | None = None, **fields: Any) -> Any:
    """A cluster whose children are all there, as they were made from ``made_from``."""

    def live(manifest: dict[str, Any]) -> dict[str, Any]:
        manifest["metadata"] |= {"uid": f"uid-{manifest['metadata']['name']}", "resourceVersion": "5"}
        return manifest

    made = [parse(live(manifest)) for manifest in built(made_from or of).values()]
    defaults = {
        "config_map": live(extension_config_map(of)),
        "deployment": live(scheduler_deployment(of)),
        "service": live(scheduler_service(of)),
        "disruption_budget": live(disruption_budget(of)),
        "groups": tuple(one for one in made if one.kind == "DaskWorkerGroup"),
        "autoscalers": tuple(one for one in made if one.kind == "DaskAutoscaler"),
        "scheduler_pods": (scheduler_pod(),),
    }
    return observed_cluster(of, **(defaults | fields))


def written(o: Any) -> list[tuple[str, str]]:
    actions = plan_cluster(o, NOW).actions
    return [(a.manifest["kind"], a.manifest["metadata"]["name"]) for a in actions if isinstance(a, Apply)]


def deleted(o: Any) -> list[tuple[str, str]]:
    return [(a.kind, a.name) for a in plan_cluster(o, NOW).actions if isinstance(a, Delete)]


def changed(value: Any, **metadata: Any) -> Any:
    return msgspec.structs.replace(value, metadata={**value.metadata, **metadata})


def test_groups_and_autoscalers_are_made_of_the_manifest():
    of = cluster(replicas=1, autoscaler=Autoscaling(maximum=5), worker_groups=[GPU, SCALED])
    made = built(of)
    assert list(made) == [
        ("DaskWorkerGroup", "simple-default"),
        ("DaskWorkerGroup", "simple-gpu"),
        ("DaskWorkerGroup", "simple-big"),
        ("DaskAutoscaler", "simple"),  # as `KubeCluster.adapt` names it
        ("DaskAutoscaler", "simple-big"),
    ]
    assert made["DaskWorkerGroup", "simple-gpu"]["spec"] == {
        "cluster": "simple",
        "worker": {"spec": pod_spec("gpu:1"), "replicas": 3},
    }
    assert made["DaskWorkerGroup", "simple-big"]["spec"]["worker"]["replicas"] == 2, "begins with the minimum"
    assert made["DaskAutoscaler", "simple-big"]["spec"] == {
        "cluster": "simple",
        "workerGroup": "simple-big",
        "minimum": 2,
        "maximum": 9,
    }
    assert made["DaskAutoscaler", "simple"]["spec"]["workerGroup"] == "simple-default"
    assert all(m["metadata"]["ownerReferences"][0]["uid"] == of.uid for m in made.values())


def test_nothing_is_written_while_all_is_as_stated():
    of = cluster(autoscaler=Autoscaling(maximum=5), replicas=1, worker_groups=[GPU, SCALED])
    assert plan_cluster(there(of), NOW).actions == ()


def test_a_missing_group_is_made_and_waited_for():
    of = cluster(worker_groups=[GPU])
    o = there(of, made_from=cluster())
    assert written(o) == [("DaskWorkerGroup", "simple-gpu")]
    status = cluster_status(o, plan_cluster(o, NOW), [], NOW)
    assert status.workers == "0/5", "two by default, three of the group that is still to come"
    assert condition(status.conditions, "Ready").status == "False"


def test_what_is_not_stated_any_more_goes():
    before = cluster(worker_groups=[GPU, SCALED], autoscaler=Autoscaling(maximum=5), replicas=1)
    o = there(cluster(replicas=1, worker_groups=[SCALED]), made_from=before)
    assert sorted(deleted(o)) == [("DaskAutoscaler", "simple"), ("DaskWorkerGroup", "simple-gpu")]


@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": []},
        {"ownerReferences": [{"uid": "uid-simple", "kind": "DaskCluster", "controller": False}]},  # adopted
        {"annotations": {}},  # the existing operator makes the cluster the controller of everybody's groups
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
    ],
    ids=["own", "adopted", "of dask-kubernetes", "going"],
)
def test_what_somebody_else_has_made_stays(metadata):
    o = there(cluster(), made_from=cluster(worker_groups=[GPU]))
    default, gpu = o.groups
    o = msgspec.structs.replace(o, groups=(default, changed(gpu, **metadata)))
    assert deleted(o) == []


@pytest.mark.parametrize(("field", "name"), [("groups", "simple-big"), ("autoscalers", "simple-big")])
def test_a_name_that_somebody_else_has_is_told(field, name):
    of = cluster(worker_groups=[SCALED])
    o = there(of)
    foreign = tuple(changed(one, ownerReferences=[]) if one.name == name else one for one in getattr(o, field))
    o = msgspec.structs.replace(o, **{field: foreign})
    assert written(o) == deleted(o) == []
    ready = condition(cluster_status(o, plan_cluster(o, NOW), [], NOW).conditions, "Ready")
    assert (ready.status, ready.reason) == ("False", Reason.NAME_CONFLICT)
    assert name in ready.message


def test_the_size_of_a_group_is_handed_on_only_when_the_manifest_changes_it():
    of = cluster(worker_groups=[GPU])
    o = there(of)
    default, gpu = o.groups
    worker = msgspec.structs.replace(gpu.spec.worker, replicas=7)
    scaled = msgspec.structs.replace(gpu, spec=msgspec.structs.replace(gpu.spec, worker=worker))
    o = msgspec.structs.replace(o, groups=(default, scaled))
    assert plan_cluster(o, NOW).actions == (), "kubectl scale is not undone"
    more = cluster(worker_groups=[msgspec.structs.replace(GPU, replicas=4)])
    (action,) = plan_cluster(msgspec.structs.replace(o, cluster=more), NOW).actions
    assert action.manifest["spec"]["worker"]["replicas"] == 4


def test_a_group_that_gets_an_autoscaler_keeps_the_workers_that_it_has():
    bounds = Autoscaling(minimum=0, maximum=9)
    of = cluster(worker_groups=[msgspec.structs.replace(GPU, replicas=None, autoscaler=bounds)])
    group, autoscaler = plan_cluster(there(of, made_from=cluster(worker_groups=[GPU])), NOW).actions
    assert group.manifest["spec"]["worker"]["replicas"] == 3
    assert autoscaler.manifest["kind"] == "DaskAutoscaler"


def test_a_bound_that_is_not_stated_any_more_goes():
    """Server-side apply takes it away; the annotation tells that there is something to apply."""
    of = cluster(worker_groups=[msgspec.structs.replace(SCALED, autoscaler=Autoscaling(minimum=2))])
    o = there(of, made_from=cluster(worker_groups=[SCALED]))
    assert written(o) == [("DaskAutoscaler", "simple-big")]


def test_the_cluster_of_a_job_has_its_groups_and_its_revision_covers_them():
    plain = job()
    inner = msgspec.structs.replace(plain.spec.cluster.spec, worker_groups=[GPU])
    of_cluster = msgspec.structs.replace(plain.spec.cluster, spec=inner)
    of = msgspec.structs.replace(plain, spec=msgspec.structs.replace(plain.spec, cluster=of_cluster))
    assert job_cluster(of)["spec"]["workerGroups"] == [dump(GPU)]
    assert job_revision(of) != job_revision(plain)


def test_what_earlier_releases_have_made_is_as_stated():
    """The default group's revision is of the same text as before there were others: nobody's workers restart."""
    annotations = built(cluster())["DaskWorkerGroup", "simple-default"]["metadata"]["annotations"]
    assert annotations[Annotation.CLUSTER_REPLICAS] == "2"
    assert annotations[Annotation.REVISION] == "acb055a88f"


@pytest.mark.parametrize("kind", ["DaskCluster", "DaskJob", "DaskWorkerGroup", "DaskAutoscaler"])
def test_a_definition_is_small_enough_for_kubectl_apply(kind):
    assert len(json.dumps(custom_resource_definition(kind), separators=(",", ":"))) < 262_144


def test_namespace_of_what_is_made():
    assert {m["metadata"]["namespace"] for m in built(cluster(worker_groups=[SCALED])).values()} == {NAMESPACE}
