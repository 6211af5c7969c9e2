"""The exact form: what is stated stays, and nothing is added."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.constructs import POD, chart, errors, only, synth

from dask_constructs import DaskAutoscaler, DaskCluster, DaskCronJob, DaskJob, DaskWorkerGroup

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


def test_a_manifest_of_another_kind_is_refused() -> None:
    manifest = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskJob", "spec": JOB}
    with pytest.raises(ValueError, match=r"must be a DaskCluster of kubernetes.dask.org/v1, not a DaskJob"):
        DaskCluster.from_spec(chart(), "x", spec=manifest)


@pytest.mark.parametrize("given", ["cluster.yaml", [CLUSTER], None])
def test_what_is_no_spec_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="must be the spec of a DaskCluster, as a struct or a mapping"):
        DaskCluster.from_spec(chart(), "x", spec=given)
