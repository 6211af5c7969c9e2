"""The exact form: what is stated stays, and nothing is added."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.support.constructs import POD, chart, errors, only, synth

from dask_constructs import DaskAutoscaler, DaskCluster, DaskCronJob, DaskJob, DaskWorkerGroup
from dask_crds import model
from dask_crds.model.shared import CustomResource, Status, Value

WORKER: dict[str, Any] = {"replicas": 1, "spec": POD}
CLUSTER: dict[str, Any] = {"worker": WORKER, "scheduler": {"spec": POD}, "idleTimeout": 0}
JOB: dict[str, Any] = {"job": {"spec": POD}, "cluster": {"spec": CLUSTER}}
SPECS = [
    (DaskCluster, CLUSTER),
    (DaskWorkerGroup, {"cluster": "other", "worker": WORKER}),
    (DaskJob, JOB),
    (DaskAutoscaler, {"cluster": "other", "maximum": 2}),
]


@pytest.mark.parametrize(("construct", "spec"), SPECS, ids=lambda given: getattr(given, "__name__", ""))
def test_a_mapping_is_written_as_it_is_with_the_defaults_that_it_states(construct: Any, spec: dict[str, Any]) -> None:
    """Constructs finding 6: without ``replicas: 1`` Git no longer owns the number."""
    c = chart()
    construct.from_spec(c, "x", spec=spec, name="x")
    assert only(c)["spec"] == spec


def structs(of: type = Value) -> Iterator[type[Value]]:
    for struct in of.__subclasses__():
        yield struct
        yield from structs(struct)


SAID = [struct for struct in structs() if not issubclass(struct, CustomResource | Status)]
OBSERVED = (model.Condition, model.SchedulerLoss, model.TimeSpent)


@pytest.mark.parametrize("struct", SAID, ids=lambda struct: struct.__name__)
def test_a_default_that_a_struct_states_stays_and_what_it_leaves_out_is_left_out(struct: type[Value]) -> None:
    """Constructs finding 6, of structs: msgspec leaves out a field that has its default, whoever said so."""
    for field in msgspec.structs.fields(struct):
        assert field.default in (msgspec.NODEFAULT, None) or struct in OBSERVED, f"{field.name} would be lost"
    required = {field.name: {} for field in msgspec.structs.fields(struct) if field.required}
    left_out = struct(**required)
    assert model.dump(left_out).keys() == {
        field.encode_name for field in msgspec.structs.fields(struct) if field.required
    }
    for name, default in struct.DEFAULTS.items():
        said = struct(**required, **{name: default})
        assert default in model.dump(said).values()
        assert said.effective(name) == left_out.effective(name) == default
        assert model.without_defaults(said) == model.without_defaults(left_out), "is not another object for it"


def test_a_struct_is_written_as_it_is() -> None:
    """Constructs finding 6: ``replicas: 1`` says that Git owns the number."""
    c = chart()
    strategy = model.UpdateStrategy(type="RollingUpdate", rolling_update=model.RollingUpdate(max_surge="25%"))
    worker = model.Worker(spec=POD, replicas=1, update_strategy=strategy)
    scheduler = model.Scheduler(spec=POD, update_strategy=model.SchedulerUpdateStrategy(type="Recreate"))
    groups = [model.WorkerGroup(name="gpu", spec=POD, autoscaler=model.Autoscaling(minimum=0))]
    cluster = model.DaskClusterSpec(scheduler=scheduler, worker=worker, worker_groups=groups)
    DaskCluster.from_spec(c, "x", spec=cluster, name="x")
    DaskWorkerGroup.from_spec(
        c, "g", spec=model.DaskWorkerGroupSpec(cluster="x", worker=model.Worker(spec=POD)), name="g"
    )
    written, group = (one["spec"] for one in synth(c))
    assert written["worker"]["replicas"] == 1
    assert written["worker"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}
    assert written["scheduler"]["updateStrategy"] == {"type": "Recreate"}
    assert written["workerGroups"][0]["autoscaler"] == {"minimum": 0}
    assert group["worker"].keys() == {"spec"}


def test_a_keyword_that_is_a_struct_is_written_as_it_is() -> None:
    """Constructs finding 6."""
    c = chart()
    condition = model.OnPodCondition(type="DisruptionTarget", status="True")
    policy = model.PodFailurePolicy(rules=[model.PodFailureRule(action="Ignore", on_pod_conditions=[condition])])
    DaskJob(c, "x", name="x", image="a:1", command=["a"], failure_policy=policy)
    (rule,) = only(c)["spec"]["podFailurePolicy"]["rules"]
    assert rule["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]


@pytest.mark.parametrize(("construct", "spec"), SPECS, ids=lambda given: getattr(given, "__name__", ""))
def test_a_whole_manifest_brings_its_metadata(construct: Any, spec: dict[str, Any]) -> None:
    """As ``make_cluster_spec`` of dask-kubernetes makes it, nulls included."""
    c = chart()
    metadata = {"name": "theirs", "labels": {"a": "b"}, "annotations": None}
    manifest = {"apiVersion": "kubernetes.dask.org/v1", "kind": construct.KIND, "metadata": metadata, "spec": spec}
    construct.from_spec(c, "x", spec=manifest)
    construct.from_spec(c, "y", spec=manifest, name="mine", namespace="elsewhere")
    assert [one["metadata"] for one in synth(c)] == [
        {"name": "theirs", "labels": {"a": "b"}},
        {"name": "mine", "namespace": "elsewhere", "labels": {"a": "b"}},
    ]


def test_a_schedule_takes_a_mapping_too() -> None:
    c = chart(namespace="team")
    DaskCronJob.from_spec(c, "x", spec=JOB, name="x", schedule="@daily")
    (manifest,) = (one for one in synth(c) if one["kind"] == "ConfigMap")
    assert "replicas: 1" in manifest["data"]["dask-job.yaml"]


@pytest.mark.parametrize(("construct", "spec"), SPECS, ids=lambda given: getattr(given, "__name__", ""))
def test_what_is_missing_or_unknown_in_a_mapping_is_told_at_synth(construct: Any, spec: dict[str, Any]) -> None:
    for wrong in ({}, {**spec, "nonsense": 1}):
        c = chart()
        construct.from_spec(c, "x", spec=wrong, name="x")
        told = errors(c)
        assert told
        assert all(line.startswith("[test/x] spec") for line in told)


def test_text_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spec\['cluster'\]: has half a character, '.ud800'"):
        DaskAutoscaler.from_spec(chart(), "x", spec={"cluster": "\ud800", "maximum": 2})


def test_a_manifest_of_another_kind_is_refused() -> None:
    manifest = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskJob", "spec": JOB}
    with pytest.raises(ValueError, match=r"must be a DaskCluster of kubernetes.dask.org/v1, not a DaskJob"):
        DaskCluster.from_spec(chart(), "x", spec=manifest)


@pytest.mark.parametrize("given", ["cluster.yaml", [CLUSTER], None])
def test_what_is_no_spec_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="must be the spec of a DaskCluster, as a struct or a mapping"):
        DaskCluster.from_spec(chart(), "x", spec=given)
