"""``spot``: workers on nodes that may be taken back, schedulers and runners on others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.constructs import IMAGE, Manifest, chart, errors, only, synth

from dask_constructs import DaskCluster, DaskCronJob, DaskJob
from dask_constructs.spot import PROVIDERS
from dask_crds.model import DaskWorkerGroup, parse
from dask_resources.worker import worker_pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
Pods = dict[str, dict[str, Any]]


def pods_of(manifest: Manifest) -> Pods:
    """PodSpecs of a DaskJob, by role."""
    cluster = manifest["spec"]["cluster"]["spec"]
    return {
        "scheduler": cluster["scheduler"]["spec"],
        "worker": cluster["worker"]["spec"],
        "runner": manifest["spec"]["job"]["spec"],
    }


def pods(**options: Any) -> Pods:
    c = chart()
    DaskJob(c, "j", name="j", image=IMAGE, command=["true"], **options)
    return pods_of(only(c))


# --- what Kubernetes makes of it --------------------------------------------------------------------------------------


def fits(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement["key"])
    match requirement["operator"]:
        case "In":
            return value in requirement["values"]
        case "NotIn":
            return value not in requirement["values"]
        case "Exists":
            return value is not None
        case other:
            raise NotImplementedError(other)


def may_run_on(pod: Mapping[str, Any], labels: Mapping[str, str], taint: Mapping[str, str] | None = None) -> bool:
    """Whether kube-scheduler would put a Pod on a node: selector, required affinity, taint."""
    if any(labels.get(key) != value for key, value in (pod.get("nodeSelector") or {}).items()):
        return False
    required = ((pod.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED)
    if required is not None:
        terms = (term.get("matchExpressions") for term in required["nodeSelectorTerms"])
        if not any(term and all(fits(requirement, labels) for requirement in term) for term in terms):
            return False
    tolerated = ((each.get("key"), each.get("value")) for each in pod.get("tolerations") or ())
    return taint is None or (taint["key"], taint["value"]) in tolerated


#: As providers label their nodes, and taint them by themselves.
SPOT: dict[str, tuple[dict[str, str], dict[str, str] | None]] = {
    "eks": ({"eks.amazonaws.com/capacityType": "SPOT"}, None),
    "karpenter": ({"karpenter.sh/capacity-type": "spot"}, None),
    "gke": ({"cloud.google.com/gke-spot": "true"}, {"key": "cloud.google.com/gke-spot", "value": "true"}),
    "aks": (
        {"kubernetes.azure.com/scalesetpriority": "spot"},
        {"key": "kubernetes.azure.com/scalesetpriority", "value": "spot"},
    ),
    "pool=cheap": ({"pool": "cheap"}, {"key": "pool", "value": "cheap"}),
}
ON_DEMAND = {
    "eks": {"eks.amazonaws.com/capacityType": "ON_DEMAND"},
    "karpenter": {"karpenter.sh/capacity-type": "reserved"},
}


@pytest.mark.parametrize("spot", SPOT)
def test_workers_run_on_spot_nodes_and_all_else_on_others(spot: str) -> None:
    labels, taint = SPOT[spot]
    found = pods(spot=spot)
    assert {role for role, pod in found.items() if may_run_on(pod, labels, taint)} == {"worker"}
    assert {role for role, pod in found.items() if may_run_on(pod, labels)} == {"worker"}, "where nobody has tainted it"
    assert {role for role, pod in found.items() if may_run_on(pod, ON_DEMAND.get(spot, {}))} == {"scheduler", "runner"}


def test_all_providers_are_tested() -> None:
    assert SPOT.keys() > PROVIDERS.keys()


def test_without_it_nothing_is_said_of_nodes() -> None:
    for pod in pods().values():
        assert pod.keys().isdisjoint({"nodeSelector", "tolerations", "affinity", "terminationGracePeriodSeconds"})


# --- the drain --------------------------------------------------------------------------------------------------------


def hook_seconds(**options: Any) -> tuple[int, int]:
    """How long a worker's hook waits, and its Pod's grace period."""
    c = chart("team")
    cluster = DaskCluster(c, "c", name="c", image=IMAGE)
    cluster.add_worker_group("further", **options)
    (manifest,) = (m for m in synth(c) if m["kind"] == "DaskWorkerGroup")
    group = parse(manifest)
    assert isinstance(group, DaskWorkerGroup)
    pod = worker_pod(group, 0, "x")["spec"]
    command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    return int(command[8]), pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(
    ("spot", "expected"),
    [("eks", (90, 120)), ("karpenter", (90, 120)), ("aks", (22, 30)), ("gke", (300, 330)), ("a=b", (300, 330))],
)
def test_a_drain_ends_within_the_notice(spot: str, expected: tuple[int, int]) -> None:
    """On GKE the kubelet bounds it, and of a label of one's own nothing is known."""
    assert hook_seconds(spot=spot) == expected


def test_the_users_own_time_counts() -> None:
    assert hook_seconds(spot="aks", termination_grace_period=330) == (300, 330)
    assert hook_seconds(spot="eks", drain_timeout=60) == (60, 120)


# --- the user's own counts --------------------------------------------------------------------------------------------


def test_what_the_user_says_of_nodes_comes_on_top() -> None:
    found = pods(spot="gke", node_selector={"zone": "a"}, tolerations=["gpu"])
    assert found["worker"]["nodeSelector"] == {"cloud.google.com/gke-spot": "true", "zone": "a"}
    assert found["worker"]["tolerations"][1:] == [{"key": "gpu", "operator": "Exists"}]
    elsewhere = pods(spot="gke", worker={"node_selector": {"cloud.google.com/gke-spot": "false"}})
    assert elsewhere["worker"]["nodeSelector"] == {"cloud.google.com/gke-spot": "false"}


def affinity(*terms: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}, **more}}


def test_an_affinity_of_ones_own_is_kept_and_narrowed() -> None:
    """Terms are alternatives, so the exception is one of each."""
    arm, gpu = ({"key": key, "operator": "Exists"} for key in ("arm", "gpu"))
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}
    own = {**affinity([arm], [gpu], **preferred), "podAntiAffinity": {}}
    pod = pods(spot="karpenter", affinity=own)["scheduler"]
    for key in ("arm", "gpu"):
        assert may_run_on(pod, {key: ""})
        assert not may_run_on(pod, {key: "", "karpenter.sh/capacity-type": "spot"})
    assert not may_run_on(pod, {})
    assert pod["affinity"]["podAntiAffinity"] == {}
    assert pod["affinity"]["nodeAffinity"].items() > preferred.items()


@pytest.mark.parametrize("term", [{}, {"matchExpressions": []}])
def test_a_term_that_matches_nothing_still_does(term: dict[str, Any]) -> None:
    empty: Any = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}
    assert not may_run_on(pods(spot="aks", scheduler={"affinity": empty})["scheduler"], {"any": "node"})


@pytest.mark.parametrize(
    "own",
    [
        {"node_selector": {"cloud.google.com/gke-spot": "true"}},
        {"affinity": affinity([{"key": "cloud.google.com/gke-spot", "operator": "Exists"}])},
    ],
)
def test_who_wants_a_scheduler_on_spot_gets_it(own: dict[str, Any]) -> None:
    found = pods(spot="gke", scheduler=own)
    assert may_run_on(found["scheduler"], SPOT["gke"][0])
    assert not may_run_on(found["runner"], SPOT["gke"][0])


def test_the_last_word_on_a_pod_is_the_users() -> None:
    assert pods(spot="gke", scheduler_pod=lambda pod: {**pod, "affinity": {}})["scheduler"]["affinity"] == {}


# --- further groups, schedules ----------------------------------------------------------------------------------------


def test_a_further_group_on_spot_keeps_the_scheduler_away() -> None:
    """And the default group where it is; another group is on spot only if that is said of it."""
    c = chart("team")
    cluster = DaskCluster(c, "c", name="c", image=IMAGE, scheduler={"node_selector": {"zone": "a"}})
    cluster.add_worker_group("cheap", spot="eks")
    cluster.add_worker_group("other")
    found = {m["metadata"]["name"]: m["spec"] for m in synth(c)}
    spot = {**SPOT["eks"][0], "zone": "a"}
    assert may_run_on(found["c"]["scheduler"]["spec"], {"zone": "a"})
    assert not may_run_on(found["c"]["scheduler"]["spec"], spot)
    assert "nodeSelector" not in found["c"]["worker"]["spec"]
    assert may_run_on(found["c-cheap"]["worker"]["spec"], spot)
    assert "nodeSelector" not in found["c-other"]["worker"]["spec"]


def test_a_further_group_of_a_job_on_spot_keeps_scheduler_and_runner_away() -> None:
    c = chart()
    job = DaskJob(c, "j", name="j", image=IMAGE, command=["true"])
    job.add_worker_group("a", spot="eks")
    job.add_worker_group("b", spot="karpenter")
    manifest = only(c)
    for role, pod in pods_of(manifest).items():
        for labels, _ in (SPOT["eks"], SPOT["karpenter"]):
            assert may_run_on(pod, labels) == (role == "worker")
    groups = manifest["spec"]["cluster"]["spec"]["workerGroups"]
    assert [group["spec"]["nodeSelector"] for group in groups] == [SPOT["eks"][0], SPOT["karpenter"][0]]


def test_a_schedule_has_it_too() -> None:
    c = chart("team")
    DaskCronJob(c, "n", name="n", image=IMAGE, command=["true"], schedule="@daily", spot="aks")
    (config_map,) = (m for m in synth(c) if m["kind"] == "ConfigMap")
    assert "kubernetes.azure.com/scalesetpriority" in config_map["data"]["dask-job.yaml"]


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", ["aws", "GKE", "=a", "a=", "", "a b=c", "a=b c", "a=b=c", "-a=b", True, 1, ["gke"], {"gke": True}]
)
def test_what_is_no_provider_and_no_label_is_told(wrong: Any) -> None:
    c = chart("team")
    cluster = DaskCluster(c, "c", name="c", image=IMAGE)
    cluster.add_worker_group("cheap", spot=wrong)
    (message,) = errors(c)
    assert message.startswith("[test/c/cheap] spot: must be ")
    assert "'eks', 'karpenter', 'gke', 'aks', or a label" in message
