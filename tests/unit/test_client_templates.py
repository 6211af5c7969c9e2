"""What is sent to the API server to make a cluster from a template."""

from __future__ import annotations

from typing import Any

import pytest

from dask_gitops import templates

TEMPLATE: dict[str, Any] = {
    "metadata": {"name": "small", "uid": "t", "labels": {"app.kubernetes.io/instance": "of-argo"}},
    "spec": {"suspend": True, "scheduler": {"spec": {}}, "worker": {"replicas": 1, "spec": {}}, "idleTimeout": 5},
    "status": {"phase": "Created"},
}
POD = {"metadata": {"name": "notebook", "uid": "p", "namespace": "n"}}


def made(template: dict[str, Any] = TEMPLATE, **options: Any) -> dict[str, Any]:
    options = {"user": "ada", "workers": None, "pod": None, **options}
    return templates.manifest(template, "small-bcdfg", **options)


def test_it_is_the_template_awake_with_its_owner() -> None:
    assert made() == {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {
            "name": "small-bcdfg",
            "labels": {"dask.org/made-from": "small"},
            "annotations": {"dask.org/owner": "ada"},
        },
        "spec": {**TEMPLATE["spec"], "suspend": False},
    }


def test_it_waits_in_the_queue_of_its_template_and_its_pods_carry_what_is_said_there() -> None:
    """It ran without quota: the queue is a label. What tools track their own objects by stays behind."""
    said = {
        "labels": {"kueue.x-k8s.io/queue-name": "research", "team": "data", "app.kubernetes.io/instance": "of-argo"},
        "annotations": {
            "sidecar.istio.io/inject": "false",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "argocd.argoproj.io/tracking-id": "x",
            "dask.org/owner": "git",
        },
    }
    metadata = made({**TEMPLATE, "metadata": {**TEMPLATE["metadata"], **said}})["metadata"]
    assert metadata["labels"] == {
        "kueue.x-k8s.io/queue-name": "research",
        "team": "data",
        "dask.org/made-from": "small",
    }
    assert metadata["annotations"] == {"sidecar.istio.io/inject": "false", "dask.org/owner": "ada"}


def test_it_goes_with_its_pod() -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "notebook", "uid": "p"}
    assert made(pod=POD)["metadata"]["ownerReferences"] == [owner]


def test_workers_are_asked_for_unless_they_follow_the_load() -> None:
    assert made(workers=4)["spec"]["worker"] == {"replicas": 4, "spec": {}}
    assert TEMPLATE["spec"]["worker"]["replicas"] == 1
    spec = {**TEMPLATE["spec"], "worker": {"spec": {}}, "autoscaler": {"maximum": 3}}
    assert made({**TEMPLATE, "spec": spec}, workers=4)["spec"]["worker"] == {"spec": {}}


def test_a_name_is_given_or_made_up() -> None:
    assert templates.name_of("mine", None) == "mine"
    names = {templates.name_of(None, "small") for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) == len("small-bcdfg") and name.startswith("small-") for name in names)
    for both in (("a", "b"), (None, None), ("", None), ("", "")):
        with pytest.raises(ValueError, match="either the name"):
            templates.name_of(*both)
