"""What must hold for a worker group whatever happens, in whatever order.

A simulated API server, a watch cache that lags behind, Pods that start, fail, vanish, a scheduler that is silent or
comes back, an operator that dies after any write and starts again, and users who change their minds, with any limits
of a rolling update (controller 13). After each step the properties of the design are checked; at the end everything is
left alone and must converge, with all workers at work (controller 2).
"""

from __future__ import annotations

import itertools
import os

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.questions import answers_of, parts
from tests.support.states import NOW, cluster, group, observed_group, scheduler_pod, worker_pod

from dask_controller.core.actions import CreateWorker, Delete, Plan
from dask_controller.core.conditions import is_true
from dask_controller.core.observed import ObservedGroup
from dask_controller.core.pod import Container, Pod
from dask_controller.core.questions import Answers
from dask_controller.core.rolling import bounds
from dask_controller.core.worker_group import SHORT_LIFE_SECONDS, plan_worker_group
from dask_controller.core.worker_group_status import worker_group_status
from dask_crds import names
from dask_crds.model import DaskWorkerGroup, RollingUpdate, UpdateStrategy
from dask_crds.names import Label
from dask_resources.worker import worker_revision

DRAIN_TIMEOUT = 300
LONGEST = 8
amounts = st.integers(0, 3) | st.sampled_from(["0%", "1%", "25%", "34%", "100%", "150%"])
strategies = st.builds(
    lambda surge, unavailable: UpdateStrategy(
        rolling_update=RollingUpdate(max_surge=surge, max_unavailable=unavailable)
    ),
    amounts,
    amounts,
)


class WorkerGroupMachine(RuleBasedStateMachine):
    """The world of one group, and of another one that must be left alone."""

    @initialize(replicas=st.integers(0, 4), strategy=st.none() | strategies)
    def start(self, replicas: int, strategy: UpdateStrategy | None) -> None:
        self.now = NOW
        self.strategy = strategy
        self.group = group(replicas=replicas, drain_timeout_seconds=DRAIN_TIMEOUT, update_strategy=strategy)
        self.pods: dict[str, Pod] = {}  # the truth, by uid
        self.cache: dict[str, Pod] = {}
        self.log: list[tuple[str, Pod | None]] = []  # watch events that the cache has not seen yet
        self.uids = itertools.count()
        self.versions = itertools.count()
        self.incarnations = itertools.count()
        self.most = replicas + bounds(strategy, replicas).surge
        self.silent = False
        self.data: dict[str, int] = {}  # worker name -> unique results that only it holds
        self.retiring: set[str] = set()
        self.resuming: set[str] = set()  # told so; at work when asked the next time
        self.lost: list[str] = []
        self.names_seen: set[str] = set()

    # --- the API server and kubelet -----------------------------------------------------------------------------------

    def _write(self, pod: Pod | None, uid: str) -> None:
        if pod is None:
            del self.pods[uid]
        else:
            pod = self.pods[uid] = msgspec.structs.replace(pod, resource_version=str(next(self.versions)))
        self.log.append((uid, pod))

    def _create(self, ordinal: int) -> bool:
        name = names.worker(self.group.name, ordinal)
        if any(p.name == name for p in self.pods.values()):
            return False  # AlreadyExists
        self._there_is_room()
        worker_name = f"{name}-{next(self.incarnations)}"
        assert worker_name not in self.names_seen, "a worker's name was used twice"
        self.names_seen.add(worker_name)
        uid = f"uid-{next(self.uids)}"
        pod = worker_pod(
            self.group,
            ordinal,
            uid=uid,
            worker_name=worker_name,
            phase="Pending",
            ready=False,
            created=self.now,
            started=self.now,
        )
        self._write(pod, uid)
        self.cache[uid] = self.pods[uid]  # the answer to a write goes into the cache
        return True

    def _there_is_room(self) -> None:
        """For one more Pod, without surge if none is outdated."""
        desired, revision = self.group.spec.worker.replicas, worker_revision(self.group)
        living = self._living()
        updating = any(p.labels[Label.REVISION] != revision for p in living)
        surge = bounds(self.strategy, desired).surge if updating else 0
        assert len(living) < desired + surge, f"{len(living)} of {desired} plus {surge}"
        young = [p for p in self.pods.values() if self._has_died(p) and self.now - p.created < SHORT_LIFE_SECONDS]
        assert len(living) + len([p for p in young if not p.deleting]) < desired + surge, "a hot loop"

    def _living(self) -> list[Pod]:
        return [p for p in self.pods.values() if not p.deleting and not self._has_died(p)]

    @staticmethod
    def _has_died(pod: Pod) -> bool:
        return pod.is_finished or not (pod.phase == "Pending" or pod.containers[0].running)

    def _delete(self, action: Delete) -> None:
        pod = self.pods.get(action.uid)
        if pod is None or pod.deleting or action.resource_version not in (None, pod.resource_version):
            return
        if self.data.pop(pod.worker_name, 0) and pod.phase == "Running":
            self.lost.append(pod.name)
        gone = msgspec.structs.replace(pod, deleting=True)
        self._write(gone, action.uid)
        self.cache[action.uid] = self.pods[action.uid]

    def _running(self) -> list[Pod]:
        return [p for p in self._living() if p.phase == "Running"]

    # --- the scheduler ------------------------------------------------------------------------------------------------

    def _ask(self, ask) -> Answers:
        if self.silent:
            return answers_of(silent="cannot be reached")
        asked = parts(ask)
        known = {p.worker_name for p in self._running()}
        resumption = {w.name: self._resumed(w.name) if w.name in known else "unknown" for w in asked.resume}
        retirement = {}
        for worker in asked.retire:
            if worker.name not in known:
                retirement[worker.name] = "unknown"
                continue
            self.retiring.add(worker.name)
            self.resuming.discard(worker.name)
            heirs = sorted(known - self.retiring)
            if self.data.get(worker.name) and not heirs:
                retirement[worker.name] = "refused: nobody can take it"
            elif self.data.get(worker.name):
                self.data[heirs[0]] = self.data.get(heirs[0], 0) + self.data.pop(worker.name)
                retirement[worker.name] = "retiring"
            else:
                retirement[worker.name] = "retired"
        return answers_of(
            registered=frozenset(known) if asked.registered else None,
            ranked=tuple(sorted((w.name for w in asked.rank), key=lambda n: self.data.get(n, 0)))
            if asked.rank
            else None,
            retirement=retirement,
            resumption=resumption,
        )

    def _resumed(self, name: str) -> str:
        if name in self.resuming:
            self.resuming.discard(name)
            self.retiring.discard(name)
        if name in self.retiring:
            self.resuming.add(name)
            return "resuming"
        return "running"

    # --- the operator -------------------------------------------------------------------------------------------------

    @rule(dies_after=st.one_of(st.none(), st.integers(0, 5)))
    def reconcile(self, dies_after: int | None = None) -> None:
        writes = itertools.count()

        def crash() -> bool:
            return dies_after is not None and next(writes) >= dies_after

        observed = self._observe()
        plan = plan_worker_group(observed, self.now)
        if plan.ask is not None:
            observed = msgspec.structs.replace(observed, answers=self._ask(plan.ask))
            plan = plan_worker_group(observed, self.now)
        if any(isinstance(a, CreateWorker) for a in plan.actions):
            self._catch_up()  # the shell lists Pods afresh before it makes any
            observed = msgspec.structs.replace(self._observe(), answers=observed.answers)
            plan = plan_worker_group(observed, self.now)
        self._leaves_enough_ready(observed, plan)
        for action in plan.actions:
            if crash():
                return self._restart()
            match action:
                case CreateWorker():
                    self._create(action.ordinal)
                case Delete():
                    pod = self.pods.get(action.uid)
                    assert pod is None or pod.owner_uid == self.group.uid
                    self._delete(action)
        if crash():
            return self._restart()
        status = worker_group_status(observed, plan, [], self.now)
        self.group = msgspec.structs.replace(self.group, status=status)
        if is_true(status.conditions, "Ready"):
            known = {p.worker_name for p in observed.pods if not p.deleting and not p.is_finished}
            assert not known & self.retiring, "ready, though a worker is paused"
        return None

    def _leaves_enough_ready(self, observed: ObservedGroup, plan: Plan) -> None:
        """What is decided leaves as many ready ones as there have to be, or takes none, as far as it can be known."""
        if self.cache != self.pods:
            return
        ledger = {entry.name for entry in self.group.status.draining or ()}
        desired = self.group.spec.worker.replicas
        ready = {p.name for p in observed.pods if p.ready and not p.deleting and p.name not in ledger}
        left = ready - plan.draining.keys() - {a.name for a in plan.actions if isinstance(a, Delete)}
        enough = desired - bounds(self.strategy, desired).unavailable
        assert len(left) == len(ready) or len(left) >= enough, f"{len(ready)} ready, then {len(left)} of {enough}"

    def _observe(self):
        pods = tuple(self.cache.values())
        return observed_group(self.group, *pods, cluster=cluster(), scheduler_pods=(scheduler_pod(),))

    def _restart(self) -> None:
        self._catch_up()

    def _catch_up(self) -> None:
        self.cache, self.log = dict(self.pods), []

    @rule(events=st.integers(1, 5))
    def cache_catches_up(self, events: int) -> None:
        for uid, pod in self.log[:events]:
            if pod is None:
                self.cache.pop(uid, None)
            elif not (uid in self.cache and self.cache[uid].deleting):
                self.cache[uid] = pod
        del self.log[:events]

    # --- the world ----------------------------------------------------------------------------------------------------

    @rule(replicas=st.integers(0, LONGEST))
    def scale(self, replicas: int) -> None:
        self._change(msgspec.structs.replace(self.group.spec.worker, replicas=replicas))
        self.most = max(self.most, replicas + bounds(self.strategy, replicas).surge)

    @rule(image=st.sampled_from(["dask:1", "dask:2", "dask:3"]))
    def change_template(self, image: str) -> None:
        spec = {"containers": [{"name": "dask", "image": image}]}
        self._change(msgspec.structs.replace(self.group.spec.worker, spec=spec))

    def _change(self, worker) -> None:
        self.group = msgspec.structs.replace(self.group, spec=msgspec.structs.replace(self.group.spec, worker=worker))

    @precondition(lambda self: any(p.phase == "Pending" and not p.deleting for p in self.pods.values()))
    @rule(data=st.data())
    def pod_starts(self, data) -> None:
        pending = sorted(
            (p for p in self.pods.values() if p.phase == "Pending" and not p.deleting), key=lambda p: p.uid
        )
        pod = data.draw(st.sampled_from(pending))
        self._write(self._started(pod), pod.uid)

    @staticmethod
    def _started(pod: Pod) -> Pod:
        return msgspec.structs.replace(
            pod, phase="Running", ready=True, containers=(Container(name="dask", running=True),)
        )

    @precondition(lambda self: self._living())
    @rule(data=st.data(), how=st.sampled_from(["Failed", "rejected", "beside a sidecar", "vanishes"]))
    def pod_dies(self, data, how: str) -> None:
        pod = data.draw(st.sampled_from(sorted(self._living(), key=lambda p: p.uid)))
        self.data.pop(pod.worker_name, None)  # not the operator's doing
        over = (Container(name="dask", finished=self.now, exit_code=1),)
        match how:
            case "vanishes":
                self._write(None, pod.uid)
            case "Failed":
                dead = msgspec.structs.replace(pod, phase="Failed", ready=False, finished=self.now, containers=over)
                self._write(dead, pod.uid)
            case "rejected":
                self._write(msgspec.structs.replace(pod, phase="Failed", ready=False, started=None), pod.uid)
            case "beside a sidecar":
                fields = {"phase": "Running", "ready": False, "restart_policy": "Never"}
                containers = (*over, Container(name="proxy", running=True))
                self._write(msgspec.structs.replace(pod, **fields, containers=containers), pod.uid)

    @precondition(lambda self: self._running())
    @rule(data=st.data())
    def a_probe_fails_or_succeeds(self, data) -> None:
        pod = data.draw(st.sampled_from(sorted(self._running(), key=lambda p: p.uid)))
        self._write(msgspec.structs.replace(pod, ready=not pod.ready), pod.uid)

    @precondition(lambda self: any(p.deleting for p in self.pods.values()))
    @rule()
    def kubelet_finishes_a_deletion(self) -> None:
        self._write(None, next(uid for uid, p in self.pods.items() if p.deleting))

    @precondition(lambda self: [p for p in self._running() if p.worker_name not in self.retiring])
    @rule(data=st.data())
    def a_worker_computes_a_result(self, data) -> None:
        taking = sorted(p.worker_name for p in self._running() if p.worker_name not in self.retiring)
        name = data.draw(st.sampled_from(taking))
        self.data[name] = self.data.get(name, 0) + 1

    @rule(silent=st.booleans())
    def scheduler_falls_silent_or_comes_back(self, silent: bool) -> None:
        self.silent = silent

    @rule(seconds=st.sampled_from([1, 10, 40]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    # --- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def never_too_many_pods(self) -> None:
        if not hasattr(self, "pods"):
            return
        assert len(self._living()) <= self.most

    @invariant()
    def nothing_is_lost_before_the_drain_timeout(self) -> None:
        if not hasattr(self, "pods") or not self.lost:
            return
        since = {entry.name for entry in self.group.status.draining or ()}
        assert self.now - NOW >= DRAIN_TIMEOUT, f"{self.lost} went with data; draining: {since}"

    def teardown(self) -> None:
        """Left alone with a scheduler that answers, the group becomes what it should be; then nothing is written."""
        if not hasattr(self, "pods"):
            return
        self.silent = False
        for _ in range(120):
            self._settle()
            self.reconcile()
            self.now += 31
        self._settle()
        desired: DaskWorkerGroup = self.group
        living = [p for p in self.pods.values() if not p.deleting]
        assert len(living) == desired.spec.worker.replicas
        assert all(p.labels[Label.REVISION] == worker_revision(desired) for p in living)
        assert plan_worker_group(self._observe(), self.now).actions == ()
        assert not desired.status.draining
        assert not self.retiring & {p.worker_name for p in living}, "paused, and nobody knows"

    def _settle(self) -> None:
        for uid, pod in list(self.pods.items()):
            if pod.deleting:
                self._write(None, uid)
            elif pod.phase == "Pending" or (pod in self._running() and not pod.ready):
                self._write(self._started(pod), uid)
        self._catch_up()


WorkerGroupMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("SCHEDULES", "500")),
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
TestWorkerGroup = WorkerGroupMachine.TestCase
