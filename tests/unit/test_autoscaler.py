"""Decisions about an autoscaler."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.questions import answers_of, parts
from tests.support.states import (
    NAMESPACE,
    NOW,
    autoscaler,
    cluster,
    condition,
    group,
    observed_group,
    scheduler_pod,
    worker_pod,
)

from dask_controller.core.actions import Patch
from dask_controller.core.autoscaler import INTERVAL_SECONDS, in_charge, number_for, plan_autoscaler
from dask_controller.core.autoscaler_status import autoscaler_status
from dask_controller.core.demand import worker_processes, worker_resources, worker_threads
from dask_controller.core.observed import ObservedAutoscaler, Sibling
from dask_controller.core.questions import Claim, WorkerId
from dask_controller.core.scaling_rules import DOWN_WINDOW_SECONDS
from dask_controller.core.worker_group import plan_worker_group
from dask_controller.core.worker_group_status import worker_group_status
from dask_crds.model import (
    MAX_WORKERS,
    AutoscalerBehavior,
    Condition,
    DaskAutoscalerSpec,
    DaskAutoscalerStatus,
    DaskWorkerGroup,
    DaskWorkerGroupStatus,
    ScalingRules,
)


def observed(of, **fields):
    g = group(replicas=2)
    defaults = {"rival": None, "group": g, "pods": (worker_pod(g, 0),), "scheduler_pods": (scheduler_pod(),)}
    return ObservedAutoscaler(autoscaler=of, **(defaults | fields))


class Load:
    """An autoscaler under a changing load."""

    def __init__(self, *, desired=2, minimum=0, maximum=10, **spec):
        self.autoscaler = autoscaler(minimum, maximum, status=DaskAutoscalerStatus(desired_replicas=desired), **spec)
        self.writes = 0

    def __call__(self, target, now):
        o = observed(self.autoscaler, answers=answers_of(target=target))
        status = autoscaler_status(o, plan_autoscaler(o, now), [], now)
        self.writes += status != self.autoscaler.status
        self.autoscaler = msgspec.structs.replace(self.autoscaler, status=status)
        return status.desired_replicas


def test_it_grows_at_once():
    assert Load()(7, NOW) == 7


def test_it_stays_within_its_bounds():
    assert Load(minimum=1, maximum=5)(99, NOW) == 5
    load = Load(minimum=1, maximum=5)
    load(0, NOW)
    assert load(0, NOW + DOWN_WINDOW_SECONDS) == 1


def test_it_shrinks_only_when_the_whole_window_asked_for_less():
    load = Load(desired=8)
    load(8, NOW)
    assert load(2, NOW + 1) == 8
    assert load(2, NOW + DOWN_WINDOW_SECONDS) == 8
    assert load(2, NOW + 1 + DOWN_WINDOW_SECONDS) == 2


def test_it_shrinks_to_the_most_that_was_asked_for_within_the_window():
    load = Load(desired=8)
    for seconds, target in ((0, 8), (10, 1), (20, 5), (30, 1)):
        load(target, NOW + seconds)
    assert load(1, NOW + 10 + DOWN_WINDOW_SECONDS) == 5
    assert load(1, NOW + 30 + DOWN_WINDOW_SECONDS) == 1


def test_bursts_every_twenty_seconds_do_not_churn():
    """dask-kubernetes #633, #674, #677: adaptive clusters thrash."""
    load = Load(desired=0)
    seen = [load(6 if second % 20 < 5 else 0, NOW + second) for second in range(0, 300, 5)]
    assert set(seen) == {6}


def test_a_window_for_scaling_up_waits_for_lasting_demand():
    load = Load(desired=1, behavior=AutoscalerBehavior(scale_up=ScalingRules(stabilization_window_seconds=10)))
    load(1, NOW)
    assert load(5, NOW + 1) == 1
    assert load(5, NOW + 12) == 5


def test_an_idle_minute_writes_nothing():
    load = Load(desired=0)
    for second in range(0, 200, 5):
        load(0, NOW + second)
    settled = load.writes
    for second in range(200, 260, 5):
        load(0, NOW + second)
    assert load.writes == settled


def reasons(status: DaskAutoscalerStatus) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in status.conditions or ()}


def test_conditions_are_those_of_a_horizontal_pod_autoscaler():
    load = Load(desired=3, minimum=1, maximum=5)

    def after(target, seconds):
        load(target, NOW + seconds)
        return {k: v for k, v in reasons(load.autoscaler.status).items() if "Scal" in k}

    active = {"ScalingActive": ("True", "ValidMetricFound")}
    steady = {"AbleToScale": ("True", "ReadyForNewScale"), **active}
    assert after(3, 0) == {**steady, "ScalingLimited": ("False", "DesiredWithinRange")}
    assert after(9, 5) == {**steady, "ScalingLimited": ("True", "TooManyReplicas")}
    stabilized = {"AbleToScale": ("True", "ScaleDownStabilized"), **active}
    assert after(0, 10) == {**stabilized, "ScalingLimited": ("False", "DesiredWithinRange")}
    assert after(0, 10 + DOWN_WINDOW_SECONDS) == {**steady, "ScalingLimited": ("True", "TooFewReplicas")}


def test_while_the_scheduler_is_silent_the_last_limit_stands():
    load = Load(desired=3, maximum=5)
    load(9, NOW)
    o = observed(load.autoscaler, answers=answers_of(silent="cannot be reached"))
    status = autoscaler_status(o, plan_autoscaler(o, NOW + 5), [], NOW + 5)
    assert status.desired_replicas == 5
    assert status.recommendations == load.autoscaler.status.recommendations
    assert reasons(status)["AbleToScale"] == ("True", "SucceededGetScale")
    assert reasons(status)["ScalingActive"] == ("False", "SchedulerSilent")
    assert reasons(status)["ScalingLimited"] == ("True", "TooManyReplicas")


def test_a_change_of_the_load_beyond_the_maximum_is_not_written():
    load = Load(desired=10, maximum=10)
    for number in range(30):
        load(100 + number, NOW + 5 * number)
    settled = load.writes
    for number in range(30, 60):
        load(100 + number, NOW + 5 * number)
    assert load.writes == settled


def test_a_scheduler_that_comes_back_is_asked_at_once():
    assert plan_autoscaler(observed(autoscaler(), scheduler_pods=()), NOW).ask is None
    assert plan_autoscaler(observed(autoscaler()), NOW).ask is not None


# --- the question -----------------------------------------------------------------------------------------------------


def described(name: str, **container) -> DaskWorkerGroup:
    g = group(name)
    spec = {"containers": [{"name": "worker", "image": "x", **container}]}
    worker = msgspec.structs.replace(g.spec.worker, spec=spec)
    return msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=worker))


def test_the_other_groups_come_in_a_fixed_order_with_their_bounds():
    """The default group first, then by name; the size of a group without autoscaler is what its spec says."""
    gpu = described("simple-gpu", args=["dask-worker", "--resources", "GPU=2", "--nthreads", "8"])
    others = [
        Sibling(group=described("simple-zoo"), autoscaler=None, pods=()),
        Sibling(group=group(), autoscaler=autoscaler(1, 7), pods=(worker_pod(group(), 0),)),
        Sibling(group=described("simple-arm"), autoscaler=None, pods=()),
    ]
    (question,) = plan_autoscaler(
        observed(autoscaler(0, 4), group=gpu, pods=(), siblings=tuple(others)), NOW
    ).ask.questions
    assert question.group == Claim(workers=(), resources={"GPU": 2.0}, threads=8, minimum=0, maximum=4)
    arm = Claim(workers=(), minimum=2, maximum=2)
    default = Claim(workers=(WorkerId("simple-default-worker-0-abcde", ("10.0.0.0",)),), minimum=1, maximum=7)
    assert question.before == (default, arm)
    assert question.after == (arm,)  # simple-zoo
    (first,) = plan_autoscaler(observed(autoscaler(), siblings=tuple(others[::2])), NOW).ask.questions
    assert (first.before, first.after) == ((), (arm, arm))


def test_the_scheduler_is_told_no_more_than_a_group_may_have():
    """Controller finding 12: an autoscaler without a maximum, and numbers from before the API's bounds."""
    unbounded = msgspec.structs.replace(autoscaler(), spec=DaskAutoscalerSpec(cluster="simple", minimum=3))
    others = (
        Sibling(group=group(), autoscaler=autoscaler(2**31 - 1, 2**31 - 1), pods=()),
        Sibling(group=group("simple-zoo", replicas=2**31 - 1), autoscaler=None, pods=()),
    )
    gpu = described("simple-gpu")
    (question,) = plan_autoscaler(observed(unbounded, group=gpu, pods=(), siblings=others), NOW).ask.questions
    assert question.group == Claim(workers=(), minimum=3, maximum=MAX_WORKERS)
    assert question.before == question.after == (Claim(workers=(), minimum=MAX_WORKERS, maximum=MAX_WORKERS),)


@pytest.mark.parametrize(
    ("container", "threads"),
    [
        ({"args": ["dask-worker", "--nthreads", "4"]}, 4),
        ({"args": ["dask-worker", "--nthreads=4", "--nworkers", "2"]}, 8),
        ({"args": ["dask-worker", "--nworkers", "auto", "--nthreads=4"]}, 4),
        ({"args": ["dask-worker"], "resources": {"limits": {"cpu": "3500m"}}}, 4),
        ({"args": ["dask-worker", "--nthreads", "0"], "resources": {"limits": {"cpu": 2}}}, 2),
        ({"command": ["sh", "-c", "dask worker --nthreads 3 tcp://x"]}, 3),
        ({"args": ["dask-worker"]}, 1),
        ({"args": ["dask-worker", "--nthreads", "0008"]}, 8),
        ({"args": ["dask-worker", "--nthreads", "9" * 5000]}, 10**6),
        ({"args": ["dask-worker", "--nthreads", "4", "--nworkers", "9" * 5000]}, 4 * 10**6),
        ({"args": ["dask-worker"], "resources": {"limits": {"cpu": "1e999999999"}}}, 10**6),
        ({"args": ["dask-worker"], "resources": {"limits": {"cpu": "1e99999999999999999999"}}}, 1),
        ({"args": ["dask-worker"], "resources": {"limits": {"cpu": "9" * 200_000 + "x"}}}, 1),
    ],
)
def test_threads_are_read_from_the_manifest(container, threads):
    assert worker_threads(described("g", **container)) == threads


GPUS = {"limits": {"nvidia.com/gpu": "4", "cpu": "8"}}


@pytest.mark.parametrize(
    ("container", "processes"),
    [
        ({"args": ["dask-worker", "--nworkers", "2"]}, 2),
        ({"args": ["dask-worker", "--nworkers", "auto"]}, 1),
        ({"args": ["dask-worker"], "resources": GPUS}, 1),
        ({"args": ["dask-cuda-worker", "--nthreads", "2"], "resources": GPUS}, 4),
        ({"args": ["/opt/conda/bin/dask-cuda-worker"], "resources": {"limits": {"nvidia.com/mig-1g.5gb": 2}}}, 2),
        ({"command": ["dask", "cuda", "worker"], "resources": GPUS}, 4),
        ({"command": ["sh", "-c", "exec dask cuda worker --nthreads 2"], "resources": GPUS}, 4),
        ({"args": ["dask-cuda-worker"]}, 1),
        ({"args": ["dask-cuda-worker"], "resources": {"limits": {"nvidia.com/gpu": "9" * 5000}}}, 10**6),
    ],
)
def test_processes_are_read_from_the_manifest(container, processes):
    """(constructs finding 5) Each offers the Dask resources of the command line, and has the threads."""
    g = described("g", **container)
    assert worker_processes(g) == processes
    if "--nthreads" in str(container):
        assert worker_threads(g) == 2 * processes


def test_the_scheduler_is_asked_about_this_groups_workers():
    plan = plan_autoscaler(observed(autoscaler()), NOW)
    assert [worker.name for worker in parts(plan.ask).target.group.workers] == ["simple-default-worker-0-abcde"]
    plan = plan_autoscaler(observed(autoscaler(), answers=answers_of(target=1)), NOW)
    assert plan.requeue_after == INTERVAL_SECONDS


def test_before_the_scheduler_is_ready_the_groups_own_number_stands():
    o = observed(autoscaler(minimum=1), scheduler_pods=())
    plan = plan_autoscaler(o, NOW)
    assert plan.ask is None
    assert autoscaler_status(o, plan, [], NOW).desired_replicas == 2


def test_a_silent_scheduler_changes_nothing_and_is_reported():
    o = observed(
        autoscaler(status=DaskAutoscalerStatus(desired_replicas=6)), answers=answers_of(silent="cannot be reached")
    )
    status = autoscaler_status(o, plan_autoscaler(o, NOW), [], NOW)
    assert status.desired_replicas == 6
    assert condition(status.conditions, "Ready").reason == "SchedulerSilent"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"group": None, "pods": ()}, "WorkerGroupNotFound"), ({"rival": autoscaler()}, "Conflict")],
)
def test_an_autoscaler_that_cannot_act_says_why(fields, reason):
    o = observed(autoscaler(), **fields)
    plan = plan_autoscaler(o, NOW)
    assert plan.ask is None
    status = autoscaler_status(o, plan, [], NOW)
    assert status.desired_replicas is None
    assert condition(status.conditions, "Ready").reason == reason


@pytest.mark.parametrize(("reason", "ready"), [("Suspended", "True"), ("Progressing", "False")])
def test_the_autoscaler_of_a_suspended_cluster_is_not_waited_for(reason, ready):
    """A GitOps tool would, and after ten minutes say that it failed."""
    found = Condition(type="Ready", status=ready, reason=reason, last_transition_time="")
    of = group(replicas=2, status=DaskWorkerGroupStatus(conditions=[found]))
    o = observed(autoscaler(), group=of, pods=(), scheduler_pods=())
    told = condition(autoscaler_status(o, plan_autoscaler(o, NOW), [], NOW).conditions, "Ready")
    assert (told.status, told.reason) == (ready, reason)


@pytest.mark.parametrize(
    ("fields", "resources"),
    [
        ({"args": ["dask-worker", "--resources", "GPU=1 MEM=2e9"]}, {"GPU": 1, "MEM": 2e9}),
        ({"args": ["dask-worker", "--resources=GPU=2", "--nthreads", "1"]}, {"GPU": 2}),
        ({"args": ["--resources", "GPU=1,FOO=3"]}, {"GPU": 1, "FOO": 3}),
        ({"command": ["sh", "-c", "exec dask-worker --resources 'GPU=1' --nthreads 2"]}, {"GPU": 1}),
        ({"command": ["sh", "-c", "# it's ours\ndask-worker --resources GPU=1"]}, {"GPU": 1}),
        ({"args": ["dask-worker", "--resources", "GPU=.. MEM=e FOO=1.5"]}, {"FOO": 1.5}),
        ({"args": ["dask-worker", "--resources"]}, {}),
        ({"args": ["dask-worker"]}, {}),
        ({}, {}),
        ({"args": ["dask-worker", "--resources", "GPU=1e999 MEM=" + "9" * 400 + " FOO=2"]}, {"FOO": 2}),
        ({"args": ["dask-worker", "--resources", "x" * 200_000]}, {}),
        ({"args": ["--resources", "GPU=1 " + "x" * 200_000]}, {"GPU": 1}),
        ({"command": ["sh", "-c", "dask-worker --resources 'GPU=1' " + "x" * 200_000]}, {"GPU": 1}),
    ],
)
def test_worker_resources_are_read_from_the_command(fields, resources):
    assert worker_resources(described("g", **fields)) == resources


@pytest.mark.parametrize(
    ("own", "whole", "threads"),
    [(None, "6", 6), ({"memory": "1Gi"}, "6", 6), ({"cpu": "2"}, "6", 2), (None, "500m", 1), (None, "x", 1)],
)
def test_threads_are_told_by_the_limit_of_the_whole_pod_where_the_container_has_none(own, whole, threads):
    """The kubelet gives it to the container (KEP 2837), and Dask counts the CPUs that it finds there."""
    container = {"name": "worker", "args": ["dask-worker"], "resources": {"limits": own}}
    spec = {"containers": [container, {"name": "logs"}], "resources": {"limits": {"cpu": whole}}}
    g = group("g")
    worker = msgspec.structs.replace(g.spec.worker, spec=spec)
    assert worker_threads(msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=worker))) == threads


@pytest.mark.parametrize("sidecar_first", [True, False])
def test_what_a_group_offers_is_told_by_its_main_container(sidecar_first):
    """Wherever a sidecar stands (controller 9)."""
    worker = {"name": "worker", "args": ["dask", "worker", "--nthreads", "4", "--resources", "GPU=2"]}
    sidecar = {"name": "logs", "args": ["--nthreads", "9"], "resources": {"limits": {"cpu": "7"}}}
    g = group()
    spec = {"containers": [sidecar, worker] if sidecar_first else [worker, sidecar]}
    template = msgspec.structs.replace(g.spec.worker, spec=spec)
    g = msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=template))
    assert (worker_threads(g), worker_resources(g)) == (4, {"GPU": 2.0})


# --- who sets the size of a group -------------------------------------------------------------------------------------


def named(
    name: str, *, created: str = "2026-01-01T00:00:00Z", owner: str = "", uid: str = "", of: str = "simple", **fields
):
    """An autoscaler for the cluster ``of``, maybe with a DaskCluster that owns it."""
    made = autoscaler(**fields)
    spec = msgspec.structs.replace(made.spec, cluster=of)
    metadata = made.metadata | {"name": name, "uid": f"uid-{name}", "creationTimestamp": created}
    if owner:
        metadata["ownerReferences"] = [reference(owner, uid or f"uid-{owner}")]
    return msgspec.structs.replace(made, metadata=metadata, spec=spec)


def reference(name: str, uid: str, **fields) -> dict[str, object]:
    body = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "name": name, "uid": uid}
    return body | {"controller": False, "blockOwnerDeletion": False} | fields


def owned_group(uid: str, name: str = "simple-default", **fields) -> DaskWorkerGroup:
    """A group of the cluster with that uid."""
    of = group(name, **fields)
    metadata = of.metadata | {"uid": f"group-of-{uid}", "ownerReferences": [reference("simple", uid, controller=True)]}
    return msgspec.structs.replace(of, metadata=metadata)


class TestInCharge:
    """Autoscalers with wrong targets (controller 19), and stale ones (node 2)."""

    def test_the_oldest_is(self):
        first, second = named("z", created="2026-01-01T00:00:00Z"), named("a", created="2026-01-02T00:00:00Z")
        assert in_charge(group(), [second, first]) == first
        assert in_charge(group(), [named("b"), named("a")]).name == "a"
        assert in_charge(group(), []) is None

    def test_an_older_one_that_means_another_cluster_is_not(self):
        """The group is of the cluster `simple`."""
        wrong = named("wrong", created="2020-01-01T00:00:00Z", of="other", worker_group="simple-default")
        right = named("right")
        assert in_charge(group(), [wrong, right]) == right
        assert in_charge(group(), [wrong]) is None

    def test_one_that_means_another_group_is_not(self):
        assert in_charge(group(), [named("a", worker_group="simple-gpu")]) is None
        assert in_charge(group("simple-gpu"), [named("a", worker_group="simple-gpu")]).name == "a"

    def test_one_of_another_namespace_is_not(self):
        of = named("a")
        elsewhere = msgspec.structs.replace(of, metadata=of.metadata | {"namespace": f"{NAMESPACE}-2"})
        assert in_charge(group(), [elsewhere]) is None

    def test_one_of_an_earlier_cluster_of_that_name_is_not(self):
        stale, fresh = named("old", owner="simple", uid="first", created="2020-01-01T00:00:00Z"), named("new")
        assert in_charge(owned_group("second"), [stale]) is None
        assert in_charge(owned_group("second"), [stale, fresh]) == fresh
        assert in_charge(owned_group("first"), [stale, fresh]) == stale
        moved = named("moved", owner="other")  # its spec named another cluster before
        assert in_charge(owned_group("second"), [moved]) == moved

    def test_one_that_was_left_behind_says_so(self):
        o = observed(
            named("old", owner="simple", uid="first"), group=owned_group("second"), answers=answers_of(target=0)
        )
        assert plan_autoscaler(o, NOW) == plan_autoscaler(observed(autoscaler(), group=None, pods=()), NOW)
        status = autoscaler_status(o, plan_autoscaler(o, NOW), [], NOW)
        assert status.desired_replicas is None
        ready = condition(status.conditions, "Ready")
        assert (ready.reason, ready.message) == (
            "WorkerGroupNotFound",
            "the DaskCluster simple that it belongs to is gone, there is another one now",
        )


class TestMovedTarget:
    """A number is about one group: another one must not be given it (controller 19: 50 workers instead of 2)."""

    def after(self, of, target_group, answers=None, **fields):
        o = observed(of, group=target_group, pods=(), answers=answers, **fields)
        return msgspec.structs.replace(of, status=autoscaler_status(o, plan_autoscaler(o, NOW), [], NOW))

    def moved(self, of, **spec):
        """The same with another spec."""
        metadata = of.metadata | {"generation": of.generation + 1}
        return msgspec.structs.replace(of, metadata=metadata, spec=msgspec.structs.replace(of.spec, **spec))

    def test_another_group(self):
        first, second = group(replicas=1), group("simple-gpu", replicas=2)
        of = self.after(named("a", maximum=100), first, answers_of(target=50))
        assert number_for(of, first) == 50
        assert number_for(of, second) is None
        of = self.moved(of, worker_group="simple-gpu")
        assert number_for(of, second) is None
        of = self.after(of, second)
        assert number_for(of, second) == of.status.desired_replicas == 2
        assert number_for(of, first) is None
        assert of.status.recommendations is None

    def test_a_group_of_the_same_name_in_the_next_cluster(self):
        of = self.after(named("a", maximum=100), owned_group("first", replicas=2), answers_of(target=50))
        again = owned_group("second", replicas=2)
        assert number_for(of, again) is None
        assert self.after(of, again).status.desired_replicas == 2

    def test_a_changed_bound_is_no_other_group(self):
        of = self.after(named("a", maximum=100), group(), answers_of(target=50))
        of = self.moved(of, maximum=80)
        assert number_for(of, group()) == 50
        assert self.after(of, group()).status.desired_replicas == 50

    def test_what_an_earlier_operator_wrote_still_counts(self):
        """Else an upgrade would take workers away. It did not note of which group it spoke."""
        old = DaskAutoscalerStatus(desired_replicas=50, observed_generation=1)
        of = msgspec.structs.replace(named("a", maximum=100), status=old)
        assert number_for(of, group(replicas=2)) == 50
        assert self.after(of, group(replicas=2)).status.desired_replicas == 50
        assert number_for(self.moved(of, worker_group="simple-gpu"), group("simple-gpu")) is None

    def test_no_autoscaler_says_nothing(self):
        assert number_for(None, group()) is None


class TestAdoption:
    """An autoscaler goes with its cluster, else it takes over the next one of that name (node 2)."""

    OURS = reference("simple", "uid-simple")

    def plan(self, of=None, **fields):
        of = named("a") if of is None else of
        seen = fields.pop("status", DaskAutoscalerStatus(observed_generation=1))
        of = msgspec.structs.replace(of, status=seen, metadata=of.metadata | fields.pop("metadata", {}))
        return plan_autoscaler(observed(of, **({"cluster": cluster(), "answers": answers_of(target=1)} | fields)), NOW)

    def adopted(self, **fields):
        (patch,) = self.plan(**fields).actions
        assert isinstance(patch, Patch)
        assert (patch.kind, patch.name, patch.uid) == ("DaskAutoscaler", "a", "uid-a")
        assert patch.patch["metadata"]["resourceVersion"] == "1", "so that nobody else's reference is lost"
        return patch.patch["metadata"]["ownerReferences"]

    def test_its_cluster_owns_it(self):
        assert self.adopted() == [self.OURS]
        assert self.plan(of=named("a", owner="simple")).actions == ()

    def test_also_while_there_is_nobody_to_ask_and_if_it_is_not_in_charge(self):
        assert self.adopted(scheduler_pods=()) == [self.OURS]
        assert self.adopted(rival=named("b")) == [self.OURS]

    def test_the_scheduler_is_asked_all_the_same(self):
        assert self.plan(answers=None).ask is not None

    @pytest.mark.parametrize("key", ["argocd.argoproj.io/tracking-id", "kustomize.toolkit.fluxcd.io/name"])
    def test_one_that_a_tool_tracks_lives_as_long_as_it_is_in_git(self, key):
        assert self.plan(metadata={"labels": {key: "x"}}).actions == ()

    def test_the_cluster_must_be_known_for_a_while(self):
        """The cache may still have the one before; garbage collection would take the autoscaler along with it."""
        assert self.plan(status=DaskAutoscalerStatus()).actions == ()
        assert self.plan(cluster=None).actions == ()
        assert self.plan(group=owned_group("earlier")).actions == ()

    def test_one_whose_group_stays_stays_too(self):
        """A group that a GitOps tool tracks has no owner either."""
        assert self.plan(group=group(owned=False)).actions == ()
        assert self.plan(group=None, pods=()).actions == ()

    def test_one_of_an_earlier_cluster_is_not_taken_over(self):
        assert self.plan(of=named("a", owner="simple", uid="earlier")).actions == ()

    def test_another_cluster_in_its_spec(self):
        assert self.adopted(of=named("a", owner="other")) == [self.OURS]

    def test_others_that_own_it_stay_and_one_that_controls_it_decides(self):
        other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}
        assert self.adopted(metadata={"ownerReferences": [other]}) == [other, self.OURS]
        assert self.plan(metadata={"ownerReferences": [other | {"controller": True}]}).actions == ()


class TestWhatTheGroupSays:
    """`kubectl scale` printed "scaled" and nothing happened, without a word on the group (node 2)."""

    def status(self, of, *, replicas=4):
        g = group(replicas=replicas)
        pods = [worker_pod(g, ordinal) for ordinal in range(2)]
        o = observed_group(g, *pods, autoscaler=of)
        return worker_group_status(o, plan_worker_group(o, NOW), [], NOW)

    def test_who_sets_its_size(self):
        number = DaskAutoscalerStatus(desired_replicas=2, worker_group_uid="uid-simple-default")
        status = self.status(msgspec.structs.replace(named("mine"), status=number))
        assert (status.desired_replicas, status.autoscaler) == (2, "mine")
        ready = condition(status.conditions, "Ready")
        assert ready.message == "2 of 2 workers are ready; DaskAutoscaler mine sets the number"

    @pytest.mark.parametrize(
        "number", [DaskAutoscalerStatus(), DaskAutoscalerStatus(desired_replicas=50, worker_group_uid="another")]
    )
    def test_one_that_has_said_nothing_of_it_does_not(self, number):
        """A number for another group was taken over (controller 19)."""
        status = self.status(msgspec.structs.replace(named("mine"), status=number), replicas=2)
        assert (status.desired_replicas, status.autoscaler) == (2, None)
        assert condition(status.conditions, "Ready").message == "2 of 2 workers are ready"
