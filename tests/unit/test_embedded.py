"""Where the types of Kubernetes are in our kinds."""

from __future__ import annotations

import pytest

from dask_crds.schema import embedded_types


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (
            "DaskCluster",
            {
                "spec.scheduler.spec": "core/v1/PodSpec",
                "spec.scheduler.service": "core/v1/ServiceSpec",
                "spec.worker.spec": "core/v1/PodSpec",
                "spec.workerGroups[].spec": "core/v1/PodSpec",
            },
        ),
        ("DaskWorkerGroup", {"spec.worker.spec": "core/v1/PodSpec"}),
        (
            "DaskJob",
            {
                "spec.cluster.spec.scheduler.spec": "core/v1/PodSpec",
                "spec.cluster.spec.scheduler.service": "core/v1/ServiceSpec",
                "spec.cluster.spec.worker.spec": "core/v1/PodSpec",
                "spec.cluster.spec.workerGroups[].spec": "core/v1/PodSpec",
                "spec.job.spec": "core/v1/PodSpec",
            },
        ),
        ("DaskAutoscaler", {}),
    ],
)
def test_all_types_of_kubernetes_are_known(kind: str, fields: dict[str, str]) -> None:
    assert embedded_types(kind) == fields
