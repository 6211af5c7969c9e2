"""What a stranger does to a life: each deed says what has to come of it.

Whatever it is: nothing of the stranger's is touched, the operator's writes come to an end, and when the stranger has
ended all is as it was asked for. `harness` and `invariants` see to that; what a deed calls for besides, it checks.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_controller.kube.api import ApiError
from dask_crds import names
from dask_crds.names import Annotation, Component, Label, Port

from .kueue import QUOTA, holds_quota, size

if TYPE_CHECKING:
    from .observer import Manifest
    from .stranger import Stranger

#: Takes a deed back.
Undo = Callable[[], Awaitable[object]]
Done = Awaitable[Undo | None]
ALL = "cluster worker-group job"
LIMITED = f"{ALL} limited"


@dataclass(frozen=True)
class Kind:
    """A deed that can be drawn.

    Attributes:
        do: plays it; raises `Absent` if what it is done to is not there (yet).
        lives: beginnings of the names of the scenarios that it suits.
        lasts: the life may not get on until it is taken back.
        stays: it can be left as it is until the end of the life.
        first: it is done before the life begins.
        loses: schedulers that are lost by it: so often a job's runner may start again.
        fails: a job may fail by it.
        makes: children that are made again, as ``Service``; ``*`` for all of a cluster.
    """

    do: Callable[[Stranger], Done]
    lives: tuple[str, ...]
    lasts: bool = False
    stays: bool = False
    first: bool = False
    loses: int = 0
    fails: bool = False
    makes: str = ""

    def suits(self, scenario: str) -> bool:
        """Whether it can be played in a scenario."""
        return scenario.startswith(self.lives)


DEEDS: dict[str, Kind] = {}


class Absent(Exception):
    """What a deed is done to is not there."""


def deed(name: str = "", lives: str = ALL, **traits: Any) -> Callable[[Callable[[Stranger], Done]], Any]:
    """Decorate a function that plays a deed and returns how to take it back, if that can be done."""

    def listed(do: Callable[[Stranger], Done]) -> Callable[[Stranger], Done]:
        DEEDS[name or do.__name__.replace("_", "-")] = Kind(do, tuple(lives.split()), **traits)
        return do

    return listed


# --- Pods come to an end ----------------------------------------------------------------------------------------------


def _ended(pod: Manifest, reason: str, phase: str = "Failed") -> Manifest:
    """The status of a Pod that is no more: it keeps its address."""
    code = 0 if phase == "Succeeded" else 137
    containers = [
        {**container, "ready": False, "state": {"terminated": {"exitCode": code, "reason": reason}}}
        for container in pod["status"].get("containerStatuses") or ()
    ]
    conditions = [{"type": "Ready", "status": "False"}]
    if reason == "Evicted":  # as the kubelet has it; a Job does not count it as a failure
        conditions += [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]
    return {"phase": phase, "reason": reason, "containerStatuses": containers, "conditions": conditions}


@deed(loses=1)
async def evict(s: Stranger) -> None:
    """The kubelet evicts the scheduler: the Pod stays, Failed, beside its successor, who counts from then on."""
    pod = await s.pod(Component.SCHEDULER)
    await s.patch(pod, {"status": _ended(pod, "Evicted")}, "status")


@deed()
async def evict_worker(s: Stranger) -> None:
    """The kubelet evicts a worker: it is replaced."""
    pod = await s.pod(Component.WORKER)
    await s.patch(pod, {"status": _ended(pod, "Evicted")}, "status")


@deed()
async def end_worker(s: Stranger) -> None:
    """A worker's process ends for good: it is replaced, but not at once, as it has not lived for long."""
    pod = await s.pod(Component.WORKER)
    await s.patch(pod, {"status": _ended(pod, "Completed", "Succeeded")}, "status")


@deed(lives=LIMITED)
async def delete_worker(s: Stranger) -> None:
    """Somebody deletes a worker: it is replaced."""
    await s.delete(await s.pod(Component.WORKER))


@deed(loses=1)
async def delete_scheduler(s: Stranger) -> None:
    """Somebody deletes the scheduler's Pod: its Deployment makes another."""
    await s.delete(await s.pod(Component.SCHEDULER))


@deed(lives="job")
async def evict_runner(s: Stranger) -> None:
    """The kubelet evicts the runner: its Job makes another, and counts no failure."""
    pod = await s.pod(Component.JOB_RUNNER)
    await s.patch(pod, {"status": _ended(pod, "Evicted")}, "status")


@deed(lasts=True)
async def reject(s: Stranger) -> Undo:
    """The kubelet rejects new workers: one at a time is tried for each, with a pause, and the reason is told."""
    return await s.admission("reject", "OutOfcpu")


@deed(lasts=True)
async def unready_worker(s: Stranger) -> Undo:
    """A worker is not ready for a while: nobody says that it is, and it is kept."""
    return await _unready(s, await s.pod(Component.WORKER))


@deed(lasts=True)
async def unready_scheduler(s: Stranger) -> Undo:
    """The scheduler is not ready for a while: the same one goes on afterwards."""
    return await _unready(s, await s.pod(Component.SCHEDULER))


async def _unready(s: Stranger, pod: Manifest) -> Undo:
    conditions = pod["status"]["conditions"]
    if any(c["type"] == "Ready" and c["status"] != "True" for c in conditions):
        raise Absent  # it is so already, and whoever did that takes it back
    changed = [{**c, "status": "False"} if c["type"] == "Ready" else c for c in conditions]
    await s.patch_seen(pod, {"status": {"conditions": changed}}, "status")
    return lambda: s.patch(pod, {"status": {"conditions": conditions}}, "status")


@deed(loses=1)
async def crash(s: Stranger) -> None:
    """The scheduler's container starts again: all work is lost, so a job's runner starts again too."""
    pod = await s.pod(Component.SCHEDULER)
    await s.patch(pod, {"status": _restarted(pod, "scheduler")}, "status")


@deed()
async def proxy_crash(s: Stranger) -> None:
    """A proxy that was injected into the scheduler's Pod starts again: nothing is lost, so nothing happens."""
    pod = await s.pod(Component.SCHEDULER)
    if all(container["name"] == "scheduler" for container in pod["spec"]["containers"]):
        raise Absent
    await s.patch(pod, {"status": _restarted(pod, PROXY)}, "status")


def _restarted(pod: Manifest, name: str) -> Manifest:
    last = {"terminated": {"exitCode": 1, "reason": "Error"}}
    return {
        "containerStatuses": [
            {**c, "restartCount": c["restartCount"] + 1, "lastState": last} if c["name"] == name else c
            for c in pod["status"]["containerStatuses"]
        ]
    }


@deed(lives=LIMITED, lasts=True)
async def linger(s: Stranger) -> Undo:
    """All Pods that are there take long to go: their names stay taken, and what is going is asked nothing."""
    held = []
    for pod in [*await s.pods(Component.SCHEDULER), *await s.pods(Component.WORKER)]:
        with contextlib.suppress(Absent, ApiError):  # it has gone meanwhile
            held.append(await s.patch(pod, {"metadata": {"finalizers": [FINALIZER]}}))
    if not held:
        raise Absent

    async def let_go() -> None:
        for pod in held:
            await s.let_go(pod)

    return let_go


PROXY = "proxy"  #: the container that is injected, see `stranger.POLICIES`
FINALIZER = "test.dask.org/linger"


@deed(lasts=True)
async def inject(s: Stranger) -> Undo:
    """A mesh puts its proxy before all other containers of new Pods: what is ours is found by name."""
    return await s.admission("inject", "true")


# --- foreign objects --------------------------------------------------------------------------------------------------


def _somebodys(name: str, labels: Manifest | None = None) -> Manifest:
    spec = {"containers": [{"name": "main", "image": "somebody:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


async def _free_worker(s: Stranger) -> str:
    """The name of the worker that comes next, so that somebody else can have it."""
    group = await s.live("DaskWorkerGroup", s.group)
    there = {pod["metadata"]["name"] for pod in await s.all("Pod")}
    return next(name for n in range(99) if (name := names.worker(group["metadata"]["name"], n)) not in there)


@deed(stays=True)
async def taken(s: Stranger) -> Undo:
    """A foreign Pod has the name of the next worker: the place after it is taken."""
    pod = await s.make(_somebodys(await _free_worker(s)))
    return lambda: s.remove(pod)


@deed(stays=True)
async def taken_labelled(s: Stranger) -> Undo:
    """The same with all of our labels and another controller: a label is a claim."""
    labels = {Label.CLUSTER: s.cluster, Label.COMPONENT: Component.WORKER, Label.WORKER_GROUP: s.group}
    pod = await s.make(_somebodys(await _free_worker(s), labels), controlled=True)
    return lambda: s.remove(pod)


@deed(stays=True)
async def impostor(s: Stranger) -> Undo:
    """A Pod with the scheduler's labels says that it has been idle for a year: it is never asked."""
    labels = {Label.CLUSTER: s.cluster, Label.COMPONENT: Component.SCHEDULER}
    manifest = _somebodys(f"{names.scheduler(s.cluster)}-impostor-{s.number()}", labels)
    manifest["spec"]["containers"][0]["ports"] = [{"name": Port.DASHBOARD.name, "containerPort": s.site.port}]
    pod = await s.make(manifest, controlled=s.rng.random() < 0.5)
    s.distrusts(pod)
    return lambda: s.remove(pod)


def _squatter(kind: str, make: Callable[[Stranger], Manifest], *told: str, about: str = "DaskCluster") -> Any:
    async def squat(s: Stranger) -> Undo:
        """Somebody has the name of a child before it is made: that is told, and nothing is done to his object."""
        manifest = make(s)
        if s.rng.random() < 0.5:
            manifest["metadata"]["labels"] = {Label.CLUSTER: s.cluster}
        made = await s.make(manifest)

        async def leave() -> None:
            await s.told(about, s.name if about == "DaskJob" else s.cluster, told, made)
            runners = [job for job in await s.all("Job") if not s.is_mine(job["metadata"]["uid"])]
            s.expect(kind == "Job" or not runners, f"a runner was started though the {kind} is somebody else's")
            await s.remove(made)

        return leave

    return squat


def _child(api_version: str, kind: str, name: Callable[[str], str], spec: Manifest, of_job: bool = False) -> Any:
    def make(s: Stranger) -> Manifest:
        metadata = {"name": name(s.name if of_job else s.cluster)}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **spec}

    return make


_OTHERS = {"app": "other"}
_CONTAINERS = [{"name": "main", "image": "somebody:1"}]
_TEMPLATE: Manifest = {"metadata": {"labels": _OTHERS}, "spec": {"containers": _CONTAINERS}}
_DEPLOYMENT = {"spec": {"replicas": 0, "selector": {"matchLabels": _OTHERS}, "template": _TEMPLATE}}
_SERVICE = {"spec": {"selector": _OTHERS, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}
_TASK = {"spec": {"suspend": True, "template": {"spec": {**_TEMPLATE["spec"], "restartPolicy": "Never"}}}}
_CLUSTER = {
    "spec": {
        "scheduler": {"spec": {"containers": [{"name": "scheduler", "image": "somebody:1"}]}},
        "worker": {"replicas": 0, "spec": {"containers": [{"name": "worker", "image": "somebody:1"}]}},
    }
}
_SQUATS = {
    "squat-service": _squatter("Service", _child("v1", "Service", names.scheduler, _SERVICE), "NameConflict"),
    "squat-configmap": _squatter(
        "ConfigMap", _child("v1", "ConfigMap", names.scheduler_extension, {"data": {"a": "b"}}), "NameConflict"
    ),
    "squat-deployment": _squatter(
        "Deployment",
        _child("apps/v1", "Deployment", names.scheduler, _DEPLOYMENT),
        *("NameConflict", "MadeByAnotherOperator"),
    ),
}
for _name, _do in _SQUATS.items():
    deed(_name, lasts=True, first=True)(_do)
deed("squat-job", "job", lasts=True, first=True)(
    _squatter("Job", _child("batch/v1", "Job", names.runner, _TASK, True), "NameConflict", about="DaskJob")
)
deed("squat-cluster", "job", lasts=True, first=True)(
    _squatter(
        "DaskCluster",
        _child(names.API_VERSION, "DaskCluster", lambda name: name, _CLUSTER, True),
        "NameConflict",
        about="DaskJob",
    )
)


# --- children are changed ---------------------------------------------------------------------------------------------


def _edit(name: str, kind: str, of: Callable[[str], str], change: Callable[[Manifest], Manifest], **traits: Any) -> Any:
    """A change of a child by somebody; what was said of it is set right, once, and what was not is left alone."""

    async def edit(s: Stranger) -> None:
        live = await s.live(kind, of(s.cluster))
        await s.patch(live, change(live))

    edit.__doc__ = _edit.__doc__
    deed(name, **traits)(edit)


def _ports(change: Callable[[list[Manifest]], list[Manifest]]) -> Callable[[Manifest], Manifest]:
    return lambda live: {"spec": {"ports": change(live["spec"]["ports"])}}


def _containers(live: Manifest, *path: str, **fields: Any) -> Manifest:
    """A patch that changes all containers below a path."""
    found = functools.reduce(lambda value, key: value[key], path, live)
    changed: Any = {"containers": [{**container, **fields} for container in found["containers"]]}
    for key in reversed(path):
        changed = {key: changed}
    return dict(changed)


def _swapped(ports: list[Manifest]) -> list[Manifest]:
    return [{**port, "name": other["name"]} for port, other in zip(ports, reversed(ports), strict=True)]


_ANOTHER_PORT = {"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP"}
_LONG = "x" * 2000
_service = functools.partial(_edit, kind="Service", of=names.scheduler)
_service("ports", change=_ports(lambda ports: [{**p, "port": p["port"] + 10_000} for p in ports]))
_service("ports-swapped", change=_ports(_swapped))
_service("port-added", change=_ports(lambda ports: [*ports, _ANOTHER_PORT]))
_service("port-removed", change=_ports(lambda ports: ports[:1]))
_service("selector", change=lambda _: {"spec": {"selector": {Label.CLUSTER: "other"}}})
_service("selector-added", change=lambda _: {"spec": {"selector": {"app": "other"}}})
_service("service-fields", change=lambda _: {"spec": {"sessionAffinity": "ClientIP", "externalIPs": []}})
_service("service-labels", change=lambda _: {"metadata": {"labels": {Label.COMPONENT: None}}})
_module = functools.partial(_edit, kind="ConfigMap", of=names.scheduler_extension)
_module("module", change=lambda live: {"data": dict.fromkeys(live.get("data") or (), "raise SystemExit")})
_module("module-removed", change=lambda live: {"data": dict.fromkeys(live.get("data") or ())})
_module("module-added", change=lambda _: {"data": {"other.py": "pass"}})
_deployment = functools.partial(_edit, kind="Deployment", of=names.scheduler)
_deployment("image", change=lambda live: _containers(live, "spec", "template", "spec", image="evil:1"), loses=2)
_deployment("scale-scheduler", change=lambda _: {"spec": {"replicas": 3}}, loses=1)
_deployment("stop-scheduler", change=lambda _: {"spec": {"replicas": 0}}, loses=1)
_deployment(
    "restart-scheduler",
    change=lambda _: {"spec": {"template": {"metadata": {"annotations": {Annotation.RESTARTED_AT: "now"}}}}},
    loses=2,
)


@deed(lasts=True)
async def pause_rollout(s: Stranger) -> Undo:
    """Somebody pauses the scheduler's Deployment: that is his to end."""
    live = await s.live("Deployment", names.scheduler(s.cluster))
    await s.patch(live, {"spec": {"paused": True}})
    return lambda: s.patch(live, {"spec": {"paused": None}})


@deed(lasts=True)
async def group_strategy(s: Stranger) -> Undo:
    """Somebody holds the updates of a group. Where the cluster states no strategy, that is added, and his to end."""
    live = await s.live("DaskWorkerGroup", names.default_group(s.cluster))
    before = (live["spec"]["worker"].get("updateStrategy") or {}).get("type")
    await s.patch(live, {"spec": {"worker": {"updateStrategy": {"type": "OnDelete"}}}})
    return lambda: s.patch(live, {"spec": {"worker": {"updateStrategy": {"type": before}}}})


_budget = functools.partial(_edit, kind="PodDisruptionBudget", of=names.scheduler)
_budget("budget", change=lambda _: {"spec": {"maxUnavailable": 1}})
_default = functools.partial(_edit, kind="DaskWorkerGroup", of=names.default_group)
_default("group-image", change=lambda live: _containers(live, "spec", "worker", "spec", image="evil:1"))
_default("group-field", change=lambda _: {"spec": {"worker": {"drainTimeoutSeconds": 77}}})
_default("group-added", change=lambda _: {"spec": {"worker": {"metadata": {"labels": {"team": "x"}}}}})
_default("group-garbled", change=lambda _: {"metadata": {"annotations": {Annotation.CLUSTER_REPLICAS: "many"}}})
_GARBLED = {"metadata": {"annotations": {Annotation.REVISION: _LONG, Annotation.LAST_APPLIED: "{[nonsense"}}}
_service("garble-service", change=lambda _: _GARBLED)
_module("garble-module", change=lambda _: _GARBLED)
_deployment("garble-deployment", change=lambda _: _GARBLED, loses=1)


def _deleted(name: str, kind: str, of: Callable[[str], str], **traits: Any) -> None:
    async def delete(s: Stranger) -> None:
        """Somebody deletes a child: it is made again."""
        await s.delete(await s.live(kind, of(s.cluster)))

    deed(name, makes=kind, **traits)(delete)


_deleted("delete-service", "Service", names.scheduler)
_deleted("delete-deployment", "Deployment", names.scheduler, loses=1)
_deleted("delete-module", "ConfigMap", names.scheduler_extension)
_deleted("delete-budget", "PodDisruptionBudget", names.scheduler)
_deleted("delete-group", "DaskWorkerGroup", names.default_group)


async def _change_worker(s: Stranger, change: Manifest) -> None:
    await s.patch(await s.pod(Component.WORKER), {"metadata": change})


@deed()
async def relabel_worker(s: Stranger) -> None:
    """A worker's revision is another one: it is replaced as any that is outdated."""
    await _change_worker(s, {"labels": {Label.REVISION: "other"}})


@deed()
async def unlabel_worker(s: Stranger) -> None:
    """A worker loses the label of its group, but not its owner: it still is one of the group's."""
    await _change_worker(s, {"labels": {Label.WORKER_GROUP: None}})


@deed()
async def garble_worker(s: Stranger) -> None:
    """A worker's annotations are nonsense: as if they were absent."""
    await _change_worker(s, {"annotations": {Annotation.LAST_APPLIED: "[1, {", Annotation.WORKER_NAME: _LONG}})


@deed(stays=True)
async def hide_worker(s: Stranger) -> Undo:
    """A worker loses the label of our objects: another is made in a free place. If it comes back, one is too many."""
    pod = await s.pod(Component.WORKER)
    s.tampers(pod)
    await s.patch(pod, {"metadata": {"labels": {Label.CLUSTER: None}}})
    return lambda: s.patch(pod, {"metadata": {"labels": {Label.CLUSTER: pod["metadata"]["labels"][Label.CLUSTER]}}})


@deed(stays=True)
async def disown_worker(s: Stranger) -> Undo:
    """A worker's owner is taken away: it is nobody's, its place is left to it, and nothing is done to it."""
    pod = await s.pod(Component.WORKER)
    owners = {owner["uid"] for owner in pod["metadata"].get("ownerReferences") or ()}
    if owners.isdisjoint({group["metadata"]["uid"] for group in await s.all("DaskWorkerGroup")}):
        raise Absent  # Kubernetes itself collects it already
    s.tampers(pod)
    pod = await s.patch(pod, {"metadata": {"ownerReferences": None}})
    s.claims(pod)
    return lambda: s.remove(pod)


def _disowned(name: str, kind: str, of: Callable[[str], str]) -> None:
    async def disown(s: Stranger) -> Undo:
        """A child's owner is taken away: it is not ours for that time, and that is told."""
        live = await s.live(kind, of(s.cluster))
        owners = live["metadata"].get("ownerReferences")
        if not owners:
            raise Absent
        await s.patch_seen(live, {"metadata": {"ownerReferences": None}})

        async def give_back() -> None:
            await s.told("DaskCluster", s.cluster, ("NameConflict",), live)
            await s.patch(live, {"metadata": {"ownerReferences": owners}})

        return give_back

    deed(name, lives="cluster worker-group", lasts=True)(disown)


_disowned("disown-service", "Service", names.scheduler)
_disowned("disown-module", "ConfigMap", names.scheduler_extension)
_disowned("disown-deployment", "Deployment", names.scheduler)
_disowned("disown-group", "DaskWorkerGroup", names.default_group)


# --- the user's own objects are changed -------------------------------------------------------------------------------

#: By these, tools know what they have applied, may prune, or hold back. No child may carry them. (A queue's label is no
#: stranger's to put: it holds the cluster until Kueue grants its quota.)
TRACKING: dict[str, dict[str, str]] = {
    "labels": {
        "app.kubernetes.io/instance": "x",
        "applyset.kubernetes.io/part-of": "applyset-x",
        "kro.run/instance-id": "x",
        "kapp.k14s.io/app": "1",
        "kueue.x-k8s.io/priority-class": "x",
        "objectset.rio.cattle.io/hash": "x",
        "configmanagement.gke.io/managed": "enabled",
        "kustomize.toolkit.fluxcd.io/name": "x",
    },
    "annotations": {
        "argocd.argoproj.io/tracking-id": "x:apps/Deployment:x/x",
        "objectset.rio.cattle.io/id": "x",
        "kapp.k14s.io/identity": "v1;x",
        "configsync.gke.io/declared-version": "v1",
        "meta.helm.sh/release-name": "x",
    },
}


@deed(stays=True)
async def track(s: Stranger) -> Undo:
    """Tools put the labels by which they track and queue on the user's object: no child carries them."""
    live = await s.parent()
    await s.patch(live, {"metadata": TRACKING})
    return lambda: s.patch(live, {"metadata": {field: dict.fromkeys(keys) for field, keys in TRACKING.items()}})


@deed(lives="cluster worker-group", lasts=True)
async def scale(s: Stranger) -> Undo:
    """``kubectl scale`` by somebody: that is what is asked for, until he takes it back."""
    stated = 0

    async def to(number: Callable[[Manifest], int]) -> None:
        """Change it from what it is, not from what it was: its user may state another number at any time."""
        while True:
            group = await s.live("DaskWorkerGroup", s.group)
            version, replicas = group["metadata"]["resourceVersion"], number(await stating(group))
            try:
                await s.patch(
                    group, {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}, "scale"
                )
            except ApiError as error:
                if error.status != 409:
                    raise
            else:
                return

    async def stating(group: Manifest) -> Manifest:
        parent = await s.parent()
        return parent if parent["kind"] == "DaskCluster" else group

    def more(live: Manifest) -> int:
        nonlocal stated
        stated = live["spec"]["worker"]["replicas"]
        return stated + 2

    def back(live: Manifest) -> int:
        number: int = live["spec"]["worker"]["replicas"]
        return stated if number == stated + 2 else number

    await to(more)
    return lambda: to(back)


@deed(lives="cluster worker-group", lasts=True)
async def autoscale(s: Stranger) -> Undo:
    """Somebody's autoscaler sets the size for a while: without it that is as it was."""
    group = await s.live("DaskWorkerGroup", s.group)
    spec = {"cluster": s.cluster, "workerGroup": group["metadata"]["name"], "minimum": 1, "maximum": 2}
    metadata = {"name": f"scaler-{s.number()}"}
    made = {"apiVersion": names.API_VERSION, "kind": "DaskAutoscaler", "metadata": metadata, "spec": spec}
    made = await s.create(made)
    return lambda: s.delete(made)


async def _suspend(s: Stranger, live: Manifest) -> Undo:
    await s.patch(live, {"spec": {"suspend": True}})
    return lambda: s.patch(live, {"spec": {"suspend": None}})


@deed(lives=LIMITED, lasts=True, loses=1)
async def suspend(s: Stranger) -> Undo:
    """The cluster, or the whole job, is suspended for a while: it goes on afterwards."""
    return await _suspend(s, await s.live("DaskJob", s.name) if s.of_job else await s.live("DaskCluster", s.cluster))


@deed(lives="job", lasts=True, loses=1)
async def suspend_cluster(s: Stranger) -> Undo:
    """A job's cluster is suspended by somebody: no fight, and the job goes on afterwards."""
    return await _suspend(s, await s.live("DaskCluster", s.cluster))


@deed(lives="job", lasts=True)
async def hold_runner(s: Stranger) -> Undo:
    """A queue suspends the runner's Job: it is not released by anybody else."""
    live = await s.live("Job", names.runner(s.name))
    ended = any(c["type"] in ("Complete", "Failed") for c in (live.get("status") or {}).get("conditions") or ())
    if ended or live["spec"].get("suspend"):  # somebody else holds it, who would release it before we do
        raise Absent
    await s.patch_seen(live, {"spec": {"suspend": True}})

    async def release() -> None:
        there = next((job for job in await s.all("Job") if job["metadata"]["uid"] == live["metadata"]["uid"]), None)
        ended = there is None or any(c["type"] == "Complete" for c in (there["status"].get("conditions") or ()))
        s.expect(ended or (there or {})["spec"].get("suspend"), "the runner was released, though not by its holder")
        await s.patch(live, {"spec": {"suspend": False}})

    return release


@deed(lives="job", fails=True, loses=1)
async def delete_runner(s: Stranger) -> None:
    """The runner's Job is deleted: a run that has begun has failed, and one that has not gets another."""
    await s.delete(await s.live("Job", names.runner(s.name)))


@deed(lives="job", fails=True, loses=1, makes="*")
async def delete_cluster(s: Stranger) -> None:
    """A job's cluster is deleted: a run that has begun has failed, and one that has not gets another."""
    await s.delete(await s.live("DaskCluster", s.cluster))


@deed(lives="cluster limited-cluster", lasts=True, makes="*")
async def replace(s: Stranger) -> Undo:
    """``kubectl replace --force``: the new cluster is there while the old scheduler still goes, and says it is idle."""
    live = await s.live("DaskCluster", s.cluster)
    pod = await s.pod(Component.SCHEDULER)
    await s.patch(pod, {"metadata": {"finalizers": [FINALIZER]}})
    s.schedulers.moods[pod["metadata"]["uid"]] = "idle"
    await s.delete(live)
    await s.gone(live)
    again = {field: live[field] for field in ("apiVersion", "kind", "spec")}
    await s.create({**again, "metadata": {"name": live["metadata"]["name"]}})
    return lambda: s.let_go(pod)


@deed(lives="cluster worker-group")
async def forget_status(s: Stranger) -> None:
    """A restored backup has no status: it is told anew."""
    kind, name = s.rng.choice([("DaskCluster", s.cluster), ("DaskWorkerGroup", s.group)])
    live = await s.live(kind, name)
    await s.patch(live, {"status": None}, "status")


# --- schedulers -------------------------------------------------------------------------------------------------------


def _mood(mood: str) -> None:
    async def speak(s: Stranger) -> Undo:
        """The scheduler does not answer, or not as agreed, or lies: see `schedulers.MOODS`."""
        s.schedulers.speak(mood)

        async def again() -> None:
            s.schedulers.speak("honest")

        return again

    deed(f"scheduler-{mood}", lasts=True)(speak)


for _mood_name in ("silent", "refusing", "idle", "forgetful", "hasty", "nonsense", "drip"):
    _mood(_mood_name)


# --- admission --------------------------------------------------------------------------------------------------------


@deed(lasts=True)
async def quota(s: Stranger) -> Undo:
    """The quota of Pods is exhausted: that is told, few are tried, and with more quota it goes on."""
    spec = {"hard": {"pods": str(len(await s.all("Pod")))}}
    metadata = {"name": f"quota-{s.number()}"}
    made = await s.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec})
    return lambda: s.delete(made)


def _refused(plural: str, lives: str = ALL) -> None:
    async def refuse(s: Stranger) -> Undo:
        """A policy refuses all that is made or changed of a kind: that is told, and later it goes on."""
        return await s.admission("refuse", plural)

    deed(f"refuse-{plural}", lives, lasts=True)(refuse)


for _plural in ("pods", "services", "configmaps", "deployments", "poddisruptionbudgets"):
    _refused(_plural)
_refused("daskworkergroups", "cluster job")  # users make no groups there
_refused("jobs", "job")
_refused("daskclusters", "job")
_refused("workloads", "queued")


# --- queues -----------------------------------------------------------------------------------------------------------


def _preemption(name: str, number: Callable[[Stranger], int], **traits: Any) -> None:
    async def preempt(s: Stranger) -> Undo:
        """Somebody more important gets quota for a while: Workloads are evicted, and queued again."""
        held = sum(size(w) for w in s.site.kueue.workloads() if holds_quota(w))
        if not held:
            raise Absent
        takes = QUOTA - held + number(s)
        s.site.kueue.taken += takes

        async def give_back() -> None:
            s.site.kueue.taken -= takes

        return give_back

    deed(name, "queued", lasts=True, **traits)(preempt)


_preemption("preempt", lambda s: s.rng.choice((1, 1, 2)), loses=1)
_preemption("preempt-all", lambda s: QUOTA, loses=1)


@deed(lives="queued", lasts=True)
async def stop_kueue(s: Stranger) -> Undo:
    """Kueue answers nothing for a while: what runs goes on, and what waits is admitted later."""
    kueue = s.site.kueue
    if not kueue.answers:
        raise Absent
    kueue.answers = False

    async def again() -> None:
        kueue.answers = True

    return again


@deed(lives="queued", lasts=True, loses=1)
async def time_out(s: Stranger) -> Undo:
    """Kueue evicts what it takes for not ready, and lets it wait for a while."""
    workload = s.workload()
    await s.site.kueue.evict(workload, "PodsReadyTimeout")
    s.site.kueue.waiting.add(workload["metadata"]["uid"])

    async def again() -> None:
        s.site.kueue.waiting.discard(workload["metadata"]["uid"])

    return again


@deed(lives="queued", lasts=True, loses=1)
async def deactivate(s: Stranger) -> Undo:
    """Whoever runs the queue holds a Workload back for a while."""
    workload = await s.patch(s.workload(), {"spec": {"active": False}})
    return lambda: s.patch(workload, {"spec": {"active": True}})


@deed(lives="queued", loses=1)
async def delete_workload(s: Stranger) -> None:
    """Somebody deletes a Workload: what runs on it stops, and is queued anew."""
    await s.delete(s.workload())


@deed(lives="queued", loses=1)
async def garble_workload(s: Stranger) -> None:
    """A Workload's note of its templates is nonsense: surplus is asked for again."""
    await s.patch(s.workload(), {"metadata": {"annotations": {Annotation.REVISION: "[1, {"}}})
