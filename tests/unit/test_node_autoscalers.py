"""What cluster-autoscaler and Karpenter make of our Pods: which of them let their node go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from tests.support.constructs import IMAGE, Manifest, chart, synth
from tests.support.drainability import SAFE_TO_EVICT, verdicts
from tests.support.states import NOW, cluster, group, observed_cluster, observed_group, scheduler_pod
from tests.support.states import worker_pod as live_worker

from dask_constructs import DaskActivator, DaskCronJob, DaskJob, DaskOperator
from dask_controller.core.actions import Patch
from dask_controller.core.cluster import plan_cluster
from dask_controller.core.worker_group import plan_worker_group
from dask_crds.model import DaskCluster, TemplateMetadata
from dask_resources.scheduler import scheduler_metadata
from dask_resources.worker import worker_metadata
from dask_synth.render import render

DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"


def replaced(value: Any, path: str, new: Any) -> Any:
    """A copy of nested structs in which one field is another."""
    field, _, rest = path.partition(".")
    return msgspec.structs.replace(value, **{field: replaced(getattr(value, field), rest, new) if rest else new})


# --- cluster-autoscaler -----------------------------------------------------------------------------------------------


def pod_of(template: Manifest, controller: str) -> Manifest:
    """The Pod that a native controller makes of its template."""
    owner = {"kind": controller, "name": "it", "controller": True}
    return {
        "spec": template["spec"],
        "metadata": {"namespace": "team", **template["metadata"], "ownerReferences": [owner]},
    }


def pods_of(manifests: list[Manifest]) -> dict[str, tuple[Manifest, list[Manifest]]]:
    """The Pods that come of manifests, owned as they are in a cluster, each with its budgets, by component."""
    budgets = [m for m in manifests if m["kind"] == "PodDisruptionBudget"]
    found = {}
    for manifest in manifests:
        match manifest["kind"]:
            case "Pod":
                pod = manifest
            case "Deployment":
                pod = pod_of(manifest["spec"]["template"], "ReplicaSet")
            case "Job":
                pod = pod_of(manifest["spec"]["template"], "Job")
            case "CronJob":
                pod = pod_of(manifest["spec"]["jobTemplate"]["spec"]["template"], "Job")
            case _:
                continue
        labels = pod["metadata"]["labels"]
        own = [
            {"status": {"disruptionsAllowed": budget["spec"]["maxUnavailable"]}}
            for budget in budgets
            if budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        ]
        component = labels.get("dask.org/component") or labels["app.kubernetes.io/component"]
        found[component] = pod, own
    return found


def of_job(**options: Any) -> dict[str, tuple[Manifest, list[Manifest]]]:
    """The Pods of a job and of its cluster, from the constructs' templates."""
    c = chart("team")
    DaskJob(c, "j", name="j", image=IMAGE, command=["true"], workers=1, **options)
    (manifest,) = synth(c)
    return pods_of(list(render(manifest, namespace="team", domain="cluster.local")))


def of_installation() -> dict[str, tuple[Manifest, list[Manifest]]]:
    """The Pods of an operator, and of a schedule."""
    c = chart("team")
    DaskOperator(c, "operator")
    DaskActivator(c, "activator")
    DaskCronJob(c, "nightly", name="nightly", image=IMAGE, command=["true"], schedule="@daily")
    return pods_of(synth(c))


#: What the first rule with a verdict says, and what those after it would have said.
BLOCKED, STORED = "blocked: NotReplicated", "blocked: LocalStorageRequested"
VERDICTS: Mapping[str, dict[str, str]] = {
    "worker": {"SafeToEvict": "drainable", "Replicated": BLOCKED, "LocalStorage": STORED},
    "scheduler": {"LocalStorage": STORED, "PDB": "blocked: NotEnoughPdb"},
    "job-runner": {"NotSafeToEvict": "blocked: NotSafeToEvictAnnotation", "LocalStorage": STORED},
    "job-starter": {},
    "operator": {},
    "activator": {},
}


def test_each_pod_is_held_against_each_of_its_rules() -> None:
    found = of_job() | of_installation()
    assert {component: verdicts(*found[component]) for component in found} == VERDICTS


def test_a_scheduler_that_may_be_evicted_lets_its_node_go() -> None:
    assert verdicts(*of_job(scheduler_eviction="Allow")["scheduler"]) == {
        "SafeToEvict": "drainable",
        "LocalStorage": STORED,
    }


@pytest.mark.parametrize("spill", [{"spill": "10Gi"}, {"spill": "10Gi", "spill_storage_class": "fast"}, {}])
def test_no_volume_of_a_worker_keeps_its_node(spill: Mapping[str, Any]) -> None:
    first, *_ = verdicts(*of_job(**spill)["worker"]).values()
    assert first == "drainable"


# --- the user's own counts --------------------------------------------------------------------------------------------

OWN = {SAFE_TO_EVICT: "own", DO_NOT_DISRUPT: "4h"}


def test_the_users_own_counts_for_all_kinds_of_pods() -> None:
    roles: Any = {role: {"annotations": OWN} for role in ("worker", "scheduler", "runner")}
    for pod, _ in of_job(scheduler_eviction="Allow", **roles).values():
        assert pod["metadata"]["annotations"].items() >= OWN.items()


def test_what_is_said_of_the_whole_resource_counts_as_well() -> None:
    """Annotations are inherited, and what a template says counts more than what is inherited."""
    for pod, _ in of_job(
        scheduler_eviction="Allow", annotations=OWN, worker={"annotations": {SAFE_TO_EVICT: "mine"}}
    ).values():
        annotations = pod["metadata"]["annotations"]
        is_worker = pod["metadata"]["labels"]["dask.org/component"] == "worker"
        assert annotations[SAFE_TO_EVICT] == ("mine" if is_worker else "own")
        assert annotations[DO_NOT_DISRUPT] == "4h"
    c = chart("team")
    DaskCronJob(
        c, "n", name="n", image=IMAGE, command=["true"], schedule="@daily", annotations={SAFE_TO_EVICT: "false"}
    )
    ((pod, _),) = pods_of(synth(c)).values()
    assert pod["metadata"]["annotations"][SAFE_TO_EVICT] == "false"


# --- Karpenter --------------------------------------------------------------------------------------------------------


def blocks_karpenter(pod: Manifest, budgets: list[Manifest]) -> bool:
    """Whether a Pod keeps its node from being consolidated, as of Karpenter 1.14 (``ValidatePodsDisruptable``).

    Who owns it and what volumes it has does not matter there.
    """
    annotated = pod["metadata"].get("annotations", {}).get(DO_NOT_DISRUPT) == "true"
    return annotated or any(budget["status"]["disruptionsAllowed"] < 1 for budget in budgets)


def test_karpenter_moves_workers_and_leaves_schedulers_and_runners() -> None:
    found = of_job() | of_installation()
    assert {component for component, pod in found.items() if blocks_karpenter(*pod)} == {"scheduler", "job-runner"}
    allowing = of_job(scheduler_eviction="Allow", runner={"annotations": {DO_NOT_DISRUPT: "4h"}})
    assert not any(blocks_karpenter(*pod) for pod in allowing.values()), "how long such a time lasts is Karpenter's"


def test_a_grace_period_is_stated_so_that_a_forced_drain_begins_in_time() -> None:
    """Karpenter deletes what is left on a node that long before its deadline (``needsForceDelete``)."""
    pod, _ = of_job(drain_timeout=600)["worker"]
    assert pod["spec"]["terminationGracePeriodSeconds"] == 630


# --- Pods that live ---------------------------------------------------------------------------------------------------


def annotations_written(plan: Any) -> list[dict[str, Any]]:
    """What a plan writes into annotations of Pods, but for our note of it."""
    written = [a.patch["metadata"]["annotations"] for a in plan.actions if isinstance(a, Patch) and a.kind == "Pod"]
    return [{key: value for key, value in each.items() if not key.startswith("dask.org/")} for each in written]


def test_a_worker_that_runs_is_brought_up_to_date_in_place() -> None:
    """One of an earlier release, one whose user has changed his mind, and one that is as it should be."""
    own = group(metadata=TemplateMetadata(annotations={SAFE_TO_EVICT: "false"}))
    g = group(replicas=3)
    noted = worker_metadata(own)["annotations"]["dask.org/last-applied-metadata"]
    before = [live_worker(g, 0, last_applied=""), live_worker(g, 1, last_applied=noted), live_worker(g, 2)]
    assert annotations_written(plan_worker_group(observed_group(g, *before), NOW)) == [{SAFE_TO_EVICT: "true"}] * 2
    now = observed_group(own, live_worker(own, 0, last_applied=""), live_worker(own, 1))
    assert annotations_written(plan_worker_group(now, NOW)) == [{SAFE_TO_EVICT: "false"}]


def test_a_scheduler_that_runs_follows_its_eviction_policy_without_a_restart() -> None:
    blocked: DaskCluster = cluster()
    allowed = replaced(blocked, "spec.scheduler.eviction_policy", "Allow")
    noted = scheduler_metadata(allowed)["annotations"]["dask.org/last-applied-metadata"]
    for of, last_applied, written in (
        (allowed, "", [{SAFE_TO_EVICT: "true"}]),
        (allowed, noted, []),
        (blocked, noted, [{SAFE_TO_EVICT: None}]),
        (blocked, "", []),
    ):
        pod = scheduler_pod(last_applied=last_applied)
        assert annotations_written(plan_cluster(observed_cluster(of, scheduler_pods=(pod,)), NOW)) == written
