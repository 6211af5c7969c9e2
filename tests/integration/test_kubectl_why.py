"""`kubectl dask why` of faults that are really there: API server, its controllers, scheduler, and our operator say it.

They are all made at once, side by side, and then asked for one by one. Each is a row of the table in
docs/kubectl-dask.md, with its cause; what only a kubelet says is in tests/e2e/test_kubectl_dask.py.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support.controller import Controller
from tests.support.plugin import Dask

from dask_gitops.kubectl.cases import CASES

pytestmark = pytest.mark.control_plane

Manifest = dict[str, Any]


class Place:
    """A namespace, and what is to be there."""

    def __init__(self, plane: ControlPlane, name: str) -> None:
        self.kubectl, self.kube = Kubectl(plane.kubectl, name), Manifests(plane.kubeconfig, name)
        self.labels = dict[str, str]()
        self.manifests = list[Manifest]()

    def apply(self, manifest: Manifest) -> None:
        """All are applied at once: each call of kubectl takes its time."""
        metadata = {"namespace": self.kubectl.namespace, **manifest["metadata"]}
        self.manifests.append({**manifest, "metadata": metadata})

    def cluster(self, name: str, *, worker: Manifest | None = None, workers: int = 1, **spec: Any) -> None:
        """A cluster, with other fields in the PodSpec of its workers."""
        made = self.kube.cluster_manifest(name, workers=workers, worker_extra={"drainTimeoutSeconds": 0}, **spec)
        made["spec"]["worker"]["spec"] |= worker or {}
        self.apply(made)

    def job(
        self, name: str, *, runner: Manifest | None = None, annotations: Manifest | None = None, **spec: Any
    ) -> None:
        """A job that runs until it is told otherwise, with other fields in the PodSpec of its runner."""
        made = self.kube.job_manifest(name, "pass", **spec)
        made["spec"]["job"]["spec"] |= runner or {}
        made["spec"]["job"]["metadata"] = {"annotations": annotations or {}}
        self.apply(made)

    def own(self, kind: str, name: str, api: str = "v1", **fields: Any) -> None:
        """Any other object."""
        self.apply({"apiVersion": api, "kind": kind, "metadata": {"name": name}, **fields})


class Fault(NamedTuple):
    """Something that is wrong."""

    title: str  #: of the row
    name: str  #: what is asked for
    says: str
    make: Callable[[Place], None]
    then: Callable[[Place], bool] = lambda _: True  #: what is done when it runs, as soon as it can be
    alone: bool = False  #: whether it needs a namespace of its own


# --- how each is made -------------------------------------------------------------------------------------------------

HUGE = {"requests": {"cpu": "100k", "memory": "1Mi"}}  # a fake node has 10k


def needs(place: Place, name: str, resources: Manifest | None = None, **container: Any) -> None:
    """A cluster whose workers' container is another one."""
    (given,) = place.kube.cluster_spec(1)["worker"]["spec"]["containers"]
    changed = {**given, **container, "resources": resources or {}}
    place.cluster(name, worker={"containers": [changed]})


def pods(place: Place, cluster: str, component: str) -> list[Manifest]:
    labels = f"dask.org/cluster-name={cluster},dask.org/component={component}"
    found: list[Manifest] = place.kubectl.json("get", "pods", "-l", labels)["items"]
    return found


def coming(place: Place) -> bool:
    """As a node autoscaler says it."""
    if not (found := pods(place, "coming", "worker")):
        return False
    metadata = found[0]["metadata"]
    about = {"apiVersion": "v1", "kind": "Pod", **{key: metadata[key] for key in ("name", "namespace", "uid")}}
    said = {"involvedObject": about, "type": "Normal", "message": "pod triggered scale-up: [{pool 1->2 (max: 5)}]"}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "coming"}, "reason": "TriggeredScaleUp", **said}
    place.kubectl.apply(event)
    return True


def refuses(place: Place) -> None:
    """A policy of the cluster that wants none of these workers."""
    api, name = "admissionregistration.k8s.io/v1", place.kubectl.namespace
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    worker = "has(object.metadata.labels) && object.metadata.labels[?'dask.org/component'].orValue('') == 'worker'"
    check = {"expression": f"!({worker})", "message": "no workers on Fridays"}
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    policy = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules}, "validations": [check]}
    place.own("ValidatingAdmissionPolicy", name, api, spec=policy)
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    place.own("ValidatingAdmissionPolicyBinding", name, api, spec=binding)
    place.cluster("refused")


def unreachable(place: Place) -> None:
    """A webhook that nobody serves."""
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    webhook = {
        "name": "absent.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": rules,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.kubectl.namespace}},
    }
    api = "admissionregistration.k8s.io/v1"
    place.own("ValidatingWebhookConfiguration", place.kubectl.namespace, api, webhooks=[webhook])
    place.cluster("hooked")


def used_up(place: Place) -> None:
    place.own("ResourceQuota", "small", spec={"hard": {"pods": "3"}})
    place.cluster("many", workers=9)


def wants_amounts(place: Place) -> None:
    place.own("ResourceQuota", "counts", spec={"hard": {"limits.memory": "1Gi"}})
    place.cluster("vague")


def bounded(place: Place) -> None:
    place.own("LimitRange", "small", spec={"limits": [{"type": "Container", "max": {"memory": "200Mi"}}]})
    needs(place, "greedy", {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}})


def restricted(place: Place) -> None:
    place.labels["pod-security.kubernetes.io/enforce"] = "restricted"
    place.cluster("strict")


def taken(place: Place) -> None:
    place.own("Service", "taken-scheduler", spec={"ports": [{"port": 80}]})
    place.cluster("taken")


def aside(place: Place) -> None:
    """A Service for other Pods."""
    service = {"selector": {"app": "else"}, "ports": [{"name": "tcp-comm", "port": 8786}]}
    made = place.kube.cluster_manifest("aside", workers=1)
    made["spec"]["scheduler"]["service"] = service
    place.apply(made)


def silent(place: Place) -> None:
    place.cluster("silent")
    place.own("DaskAutoscaler", "silent", "kubernetes.dask.org/v1", spec={"cluster": "silent", "maximum": 3})


def held(place: Place) -> bool:
    patch = '{"metadata": {"finalizers": ["example.com/backup"]}}'
    place.kubectl("patch", "daskcluster", "held", "--type=merge", "-p", patch)
    place.kubectl("delete", "daskcluster", "held", "--wait=false")
    return True


def paused(place: Place) -> bool:
    patch = ["--type=merge", "-p", '{"spec": {"suspend": true}}', "--field-manager=kueue"]
    return bool(pods(place, "paused", "job-runner")) and bool(place.kubectl("patch", "job", "paused-runner", *patch))


def lost(place: Place) -> bool:
    """Its scheduler goes while the runner runs."""
    if place.kubectl.status("daskjob", "lost").get("jobStatus") != "Running":
        return False
    (scheduler,) = pods(place, "lost", "scheduler")
    place.kubectl("delete", "pod", scheduler["metadata"]["name"], "--wait=false")
    return True


FAULTS = (
    Fault("No node has room", "vast", "Insufficient cpu", lambda p: needs(p, "vast", HUGE)),
    Fault("A node is on its way", "coming", r"1->2.*Insufficient", lambda p: needs(p, "coming", HUGE), coming),
    Fault(
        "A Pod that its node put out",
        "job/evicted",
        "rejected by a test",
        lambda p: p.job("evicted", annotations={"test.dask.org/reject": "Evicted"}),
    ),
    Fault("A quota that is used up", "many", "used now: pods 3 of 3", used_up, alone=True),
    Fault("A quota that wants amounts to be stated", "vague", "limits.memory", wants_amounts, alone=True),
    Fault("An amount that a LimitRange does not allow", "greedy", "200Mi", bounded, alone=True),
    Fault("A Pod that Pod security forbids", "strict", "allowPrivilegeEscalation", restricted, alone=True),
    Fault("A policy of the cluster", "refused", "no workers on Fridays", refuses, alone=True),
    Fault("A webhook that cannot be reached", "hooked", "absent.example.com", unreachable, alone=True),
    Fault(
        "A ServiceAccount that is not there",
        "nobody",
        "not-there",
        lambda p: p.cluster("nobody", worker={"serviceAccountName": "not-there"}),
    ),
    Fault(
        "A template that makes no valid Pod",
        "invalid",
        'volumeMounts.*Not found: "nowhere"',
        lambda p: needs(p, "invalid", volumeMounts=[{"name": "nowhere", "mountPath": "/data"}]),
    ),
    Fault("A name that somebody else's object has", "taken", "Service taken-scheduler", taken),
    Fault("A Service that leads elsewhere", "aside", "selector does not match", aside),
    Fault(
        "A group without its cluster",
        "group/orphan",
        "DaskCluster absent does not exist",
        lambda p: p.apply(p.kube.group_manifest("orphan", "absent", workers=1)),
    ),
    Fault("A scheduler that does not answer", "silent", "DaskAutoscaler silent", silent),
    Fault("A cluster that was suspended", "asleep", "as asked", lambda p: p.cluster("asleep", suspend=True)),
    Fault(
        "A finalizer that keeps a resource from going",
        "held",
        "example.com/backup",
        lambda p: p.cluster("held", suspend=True),
        held,
    ),
    Fault("A job whose runner somebody else holds back", "job/paused", "kueue", lambda p: p.job("paused"), paused),
    Fault(
        "A job whose Pod waits behind a gate",
        "job/gated",
        "example.com/turn",
        lambda p: p.job("gated", runner={"schedulingGates": [{"name": "example.com/turn"}]}),
    ),
    Fault(
        "A job whose program failed",
        "job/failed",
        "exit code 3",
        lambda p: p.job("failed", annotations={"test.dask.org/exit-code": "3"}),
    ),
    Fault(
        "A job that took too long",
        "job/slow",
        r"(within|deadline of) 3 s",
        lambda p: p.job("slow", activeDeadlineSeconds=3),
    ),
    Fault(
        "A job that lost its scheduler",
        "job/lost",
        "all work was lost",
        lambda p: p.job("lost", onSchedulerLost="Fail"),
        lost,
    ),
)


# --- and found --------------------------------------------------------------------------------------------------------


NAMESPACE = {"apiVersion": "v1", "kind": "Namespace"}


def apply(plane: ControlPlane, *manifests: Manifest) -> None:
    plane.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))


@pytest.fixture(scope="module")
def places(control_plane: ControlPlane) -> Iterator[dict[str, Place]]:
    """Where each fault is, by its title. All have been made, and happen."""
    numbers = itertools.count()

    def place() -> Place:
        return Place(control_plane, f"why-{os.getpid()}-{next(numbers)}")

    shared = place()
    found = {fault.title: place() if fault.alone else shared for fault in FAULTS}
    for fault in FAULTS:
        fault.make(found[fault.title])
    first, *others = every = list({each.kubectl.namespace: each for each in found.values()}.values())
    namespaces = [each.kubectl.namespace for each in every]
    apply(control_plane, *({"metadata": {"name": e.kubectl.namespace, "labels": e.labels}} | NAMESPACE for e in every))
    apply(control_plane, *(manifest for each in every for manifest in each.manifests))
    # Now, as the policies are at work.
    options = (option for each in others for option in ("--namespace", each.kubectl.namespace))
    controller = Controller(control_plane, first.kubectl.namespace, *options)
    try:
        for fault in FAULTS:
            eventually(lambda fault=fault: fault.then(found[fault.title]))
        yield found
    finally:
        controller.kill()
        held = '{"metadata": {"finalizers": null}}'
        shared.kubectl("patch", "daskcluster", "held", "--type=merge", "-p", held)
        control_plane.kubectl("delete", "namespace", "--wait=false", *namespaces)
        for kind in (
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ):
            control_plane.kubectl("delete", "--ignore-not-found", kind, *namespaces)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.title)
def test_a_fault_is_named(control_plane: ControlPlane, places: dict[str, Place], fault: Fault) -> None:
    (row,) = (case for case in CASES if case.title == fault.title)
    dask = Dask(control_plane.kubeconfig, places[fault.title].kubectl.namespace)
    told: Manifest = {}

    def named() -> bool:
        told.update(dask.json("why", fault.name))
        return bool(told["reason"] == row.reason and re.search(fault.says, told["words"]))

    try:
        eventually(named, seconds=90)
    except AssertionError:
        wanted = f"{row.reason}: {fault.says}"
        raise AssertionError(f"{wanted} is not what was told: {json.dumps(told, indent=1)}") from None


def test_no_operator(control_plane: ControlPlane, kubectl: Kubectl, kube: Manifests, monkeypatch: Any) -> None:
    kubectl.apply(kube.cluster_manifest("alone", workers=1))
    dask = Dask(control_plane.kubeconfig, kubectl.namespace)
    assert dask.why("alone") == "Progressing", "it has just been made"
    monkeypatch.setattr("dask_gitops.kubectl.why.PATIENCE", 0.0)
    assert dask.why("alone") == "NotObserved"
