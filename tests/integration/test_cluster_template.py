"""Templates on a real API server: what somebody gets who may use one and may not create Pods, and what not."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane
from tests.e2e.support import eventually
from tests.support.constructs import chart, synth

from dask_constructs import DaskActivator, DaskCluster, DaskClusterTemplate, DaskGuardrails, DaskTenant, rbac

pytestmark = pytest.mark.control_plane

NAMESPACE, IMAGE, MAXIMUM = "templated", "registry.example.com/dask:1", 4
TEMPLATE, OTHER, NAME = "gpu-small", "gpu", "gpu-small-xb4dk"
#: Labels of the template, of which a cluster from it has all.
TEAM, QUEUED = {"team": "data"}, {"team": "data", "kueue.x-k8s.io/queue-name": "research"}
#: Labels of the namespace while guard rails hold there as well.
RAILED = {"railed": "yes"}
#: Ada and Bo may use the template; nobody else is granted the right to, but whoever may create Pods needs none.
ADA, BO, STRANGER, EDITOR = "ada", "bo", "stranger", "editor"
CONNECTING = [
    rbac.Permission("DaskCluster", "get list patch", ""),
    rbac.Permission("DaskCluster/scale DaskWorkerGroup/scale", "get patch", ""),
    rbac.Permission("DaskAutoscaler", "create patch", ""),
]
EDITING = [*CONNECTING, rbac.Permission("DaskCluster DaskWorkerGroup", "create delete get", "")]
EDITING.append(rbac.Permission("Pod", "create", ""))


class Actors:
    """kubectl as one user or another."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    def __call__(self, user: str, *command: str, **options: Any) -> str:
        """What is said against it, nothing if it is done."""
        try:
            self.plane.kubectl("-n", NAMESPACE, f"--as={user}", "--as-group=system:authenticated", *command, **options)
        except subprocess.CalledProcessError as error:
            return str(error.stderr)
        return ""

    def creates(self, manifest: dict[str, Any], user: str = ADA, *, really: bool = False) -> str:
        dry_run = [] if really else ["--dry-run=server"]
        return self(user, "create", *dry_run, "-f", "-", input=json.dumps(manifest))

    def patches(self, user: str, what: str, change: dict[str, Any], *flags: str) -> str:
        return self(user, "patch", what, "--type=merge", "--dry-run=server", "-p", json.dumps(change), *flags)


def granted(user: str, permissions: list[rbac.Permission]) -> list[dict[str, Any]]:
    api = {"apiVersion": f"{rbac.RBAC_GROUP}/v1", "metadata": {"name": user, "namespace": NAMESPACE}}
    subjects = [{"kind": "User", "name": user, "apiGroup": rbac.RBAC_GROUP}]
    role = {"apiGroup": rbac.RBAC_GROUP, "kind": "Role", "name": user}
    return [
        {**api, "kind": "Role", "rules": rbac.rules(permissions)},
        {**api, "kind": "RoleBinding", "roleRef": role, "subjects": subjects},
    ]


@functools.cache
def written() -> list[dict[str, Any]]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    c = chart()
    options: dict[str, Any] = {"namespace": NAMESPACE, "image": IMAGE, "maximum_workers": MAXIMUM}
    DaskClusterTemplate(
        c, "t", name=TEMPLATE, **options, idle_timeout=3600, no_client_timeout=600, labels=TEAM, queue="research"
    )
    DaskClusterTemplate(c, "o", name=OTHER, **options)
    DaskCluster(c, "git", name="of-git", namespace=NAMESPACE, image=IMAGE)
    DaskGuardrails(c, "rails", name="rails", namespace_labels=RAILED)
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
        *(m for user in (ADA, BO) for m in granted(user, [*CONNECTING, *rbac.template_user(TEMPLATE)])),
        *granted(STRANGER, [*CONNECTING, rbac.Permission("DaskCluster", "create delete", "")]),
        *granted(EDITOR, EDITING),
        *synth(c),
    ]


@pytest.fixture(scope="module")
def actors(control_plane: ControlPlane) -> Iterator[Actors]:
    manifests = written()
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(manifests))
    here = Actors(control_plane)
    # The API server takes a moment to know the policies, each for itself.
    eventually(lambda: "foreign" in here.creates(made(labels={"foreign": "yes"})), seconds=60)
    eventually(lambda: "must be made from a template" in here.creates(made(), STRANGER), seconds=60)
    yield here
    control_plane.kubectl("delete", "--wait=false", "-f", "-", input=yaml.safe_dump_all(manifests))


def template(kind: str = "DaskCluster") -> dict[str, Any]:
    found = next(m for m in written() if m["kind"] == kind and m["metadata"]["name"] == TEMPLATE)
    return copy.deepcopy(found)


def made(owner: str = ADA, *, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """What ``connect(template=...)`` makes."""
    manifest = template()
    manifest["metadata"] = {
        "name": NAME,
        "labels": {"dask.org/made-from": TEMPLATE, **QUEUED, **(labels or {})},
        "annotations": {"dask.org/owner": owner},
    }
    manifest["spec"] = {**manifest["spec"], "suspend": False, **spec}
    return manifest


def with_workers(count: Any, **fields: Any) -> dict[str, Any]:
    manifest = made(**fields)
    manifest["spec"]["worker"]["replicas"] = count
    return manifest


def test_who_may_use_a_template_gets_a_cluster_of_it(actors: Actors) -> None:
    assert actors.creates(made()) == ""
    assert actors.creates(with_workers(MAXIMUM)) == ""
    assert actors.creates(made(autoscaler={"minimum": 0, "maximum": MAXIMUM})) == ""
    assert actors.creates(made(noClientTimeout=60, idleTimeout=1, idleAction="Suspend", suspend=True)) == ""
    manifest = made()
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "notebook", "uid": "a"}
    manifest["metadata"]["ownerReferences"] = [owner]
    assert actors.creates(manifest) == ""


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """A cluster in which one thing is as the user likes."""
    manifest = made()
    at: Any = manifest
    for key in path[:-1]:
        at = at[key] if isinstance(at, list) else at.setdefault(key, {})
    at[path[-1]] = to
    return manifest


WORKER, SCHEDULER = ("spec", "worker", "spec"), ("spec", "scheduler", "spec")
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "one worker too many": (with_workers(MAXIMUM + 1), "at most 4 workers by template gpu-small, not 5"),
    "an autoscaler beyond the bound": (
        made(autoscaler={"minimum": 0, "maximum": 5}),
        "at most 4 workers by template gpu-small, not 5",
    ),
    "an autoscaler without a bound": (made(autoscaler={"minimum": 0}), "at most 4 workers by template gpu-small, not"),
    "an autoscaler in another way": (
        made(autoscaler={"maximum": 1, "behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}),
        "spec.autoscaler.behavior must be as in template gpu-small",
    ),
    "another image of workers": (
        changed(*WORKER, "containers", 0, "image", to="evil:1"),
        "spec.worker.spec must be as in template gpu-small",
    ),
    "another image of the scheduler": (
        changed(*SCHEDULER, "containers", 0, "image", to="evil:1"),
        "spec.scheduler must be as in template gpu-small",
    ),
    "a Secret as variables": (
        changed(*WORKER, "containers", 0, "envFrom", to=[{"secretRef": {"name": "s"}}]),
        "spec.worker.spec must be as in template",
    ),
    "another ServiceAccount": (changed(*WORKER, "serviceAccountName", to="admin"), "spec.worker.spec must be as in"),
    "a Service of one's own": (
        changed("spec", "scheduler", "service", to={"type": "LoadBalancer"}),
        "spec.scheduler must be as in template",
    ),
    "labels of Pods": (
        changed("spec", "worker", "metadata", to={"labels": {"access": "database"}}),
        "spec.worker.metadata must be as in template",
    ),
    "another group": (
        changed("spec", "workerGroups", to=[{"name": "more", "spec": template()["spec"]["worker"]["spec"]}]),
        "spec.workerGroups must be as in template gpu-small",
    ),
    "a drain for ever": (
        changed("spec", "worker", "drainTimeoutSeconds", to=10**6),
        "spec.worker.drainTimeoutSeconds must be as in template",
    ),
    "idleness for ever": (made(idleTimeout=0), "spec.idleTimeout must be at least 1 and at most 3600 s"),
    "no client for longer": (
        made(noClientTimeout=601),
        "spec.noClientTimeout must be at least 1 and at most 600 s by template gpu-small, not 601",
    ),
    "labels that Pods would have": (
        made(labels={"access": "database"}),
        "labels must be those of template gpu-small; not allowed: access",
    ),
    "a label of another value": (made(labels={"team": "board"}), "not allowed: team"),
    "annotations that Pods would have": (
        changed("metadata", "annotations", to={"dask.org/owner": ADA, "sidecar.istio.io/inject": "false"}),
        "annotations must be those of template gpu-small; not allowed: sidecar.istio.io/inject",
    ),
    "a way past the queue": (
        changed("metadata", "labels", to={"dask.org/made-from": TEMPLATE, **TEAM}),
        "labels must be those of template gpu-small; missing: kueue.x-k8s.io/queue-name",
    ),
    "a finalizer": (changed("metadata", "finalizers", to=["example.com/stay"]), "finalizers are not allowed here"),
    "an owner that is no Pod": (
        changed(
            "metadata",
            "ownerReferences",
            to=[{"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskJob", "name": "j", "uid": "a"}],
        ),
        "may belong to a Pod, and to nothing else",
    ),
    "somebody else's name": (made(BO), "annotation dask.org/owner must be ada, who asks"),
    "nobody's name": (changed("metadata", "annotations", to={}), "annotation dask.org/owner must be ada, who asks"),
    "a name of one's own": (changed("metadata", "name", to="mine"), "is gpu-small- and 5 of bcdfgh"),
    "no template": (
        changed("metadata", "labels", to={}),
        "you may not create Pods here, so a DaskCluster must be made from a template that you may use",
    ),
    "a template that is not hers": (
        changed("metadata", "labels", to={"dask.org/made-from": OTHER}),
        "a DaskCluster must be made from a template that you may use",
    ),
    "a template that there is not": (
        changed("metadata", "labels", to={"dask.org/made-from": "none"}),
        "a DaskCluster must be made from a template that you may use",
    ),
}


@pytest.mark.parametrize(("manifest", "words"), REFUSED.values(), ids=list(REFUSED))
def test_nothing_else(actors: Actors, manifest: dict[str, Any], words: str) -> None:
    assert words in actors.creates(manifest)


def test_its_name_may_be_generated_and_no_word_is_taken_for_one(actors: Actors) -> None:
    generated, word = made(), made()
    del generated["metadata"]["name"]
    generated["metadata"]["generateName"] = f"{TEMPLATE}-"
    assert actors.creates(generated) == ""
    word["metadata"]["name"] = f"{TEMPLATE}-large"
    assert "metadata.generateName: gpu-small- makes one" in actors.creates(word)


def test_who_may_only_create_dask_clusters_makes_none(actors: Actors) -> None:
    assert "must be made from a template that you may use" in actors.creates(made(STRANGER), STRANGER)


def test_who_may_create_pods_is_not_held_to_a_template(actors: Actors) -> None:
    assert actors.creates(with_workers(99), EDITOR) == ""


@pytest.fixture
def cluster(actors: Actors) -> Iterator[str]:
    """Ada's."""
    assert actors.creates(made(), really=True) == ""
    yield f"daskcluster/{NAME}"
    actors.plane.kubectl("-n", NAMESPACE, "delete", f"daskcluster/{NAME}", "--ignore-not-found")


def test_a_cluster_is_its_owners(actors: Actors, cluster: str) -> None:
    sleep = {"spec": {"suspend": True}}
    assert actors.patches(ADA, cluster, sleep) == ""
    assert "dask.org/owner must be bo, who asks; it is ada" in actors.patches(BO, cluster, sleep)
    assert actors.patches(STRANGER, cluster, sleep) == "", "as an activator or a queue does"
    mine = {"metadata": {"annotations": {"dask.org/owner": BO}}}
    assert "dask.org/owner must be bo, who asks; it is ada" in actors.patches(BO, cluster, mine)
    assert "dask.org/owner must be ada, who asks" in actors.patches(ADA, cluster, mine)
    assert f"{NAME} belongs to ada" in actors(BO, "delete", cluster)
    assert "no --cascade=orphan" in actors(ADA, "delete", cluster, "--cascade=orphan")
    path = f"/apis/kubernetes.dask.org/v1/namespaces/{NAMESPACE}/daskclusters/{NAME}"
    orphaned = {"kind": "DeleteOptions", "apiVersion": "v1", "orphanDependents": True}  # as it was said before 1.7
    assert "no --cascade=orphan" in actors(ADA, "delete", "--raw", path, "-f", "-", input=json.dumps(orphaned))
    assert actors(ADA, "delete", cluster) == ""


@pytest.mark.parametrize("user", [ADA, STRANGER])
@pytest.mark.parametrize("what", [TEMPLATE, "of-git"])
def test_nobody_ties_what_is_not_theirs(actors: Actors, user: str, what: str) -> None:
    """What belongs to something that is not there, the garbage collector deletes for who may not delete it."""
    absent = {"apiVersion": "v1", "kind": "Pod", "name": "absent", "uid": "a"}
    for tied in ({"ownerReferences": [absent]}, {"finalizers": ["example.com/stay"]}):
        for suspended in ({}, {"spec": {"suspend": True}}):
            assert actors.patches(user, f"daskcluster/{what}", {"metadata": tied, **suspended}) != ""


def test_a_cluster_is_tied_by_its_owner_alone(actors: Actors, cluster: str) -> None:
    tied = {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "absent", "uid": "a"}]}}
    assert actors.patches(BO, cluster, tied) != ""
    assert actors.patches(STRANGER, cluster, tied) != ""
    assert actors.patches(ADA, cluster, tied) == ""


def test_a_timeout_that_the_template_got_later_is_not_asked_of_what_was_there(actors: Actors) -> None:
    before = made()
    before["spec"] = {k: v for k, v in before["spec"].items() if k not in ("idleTimeout", "noClientTimeout")}
    there = ("-n", NAMESPACE)
    actors.plane.kubectl(*there, "create", "-f", "-", input=json.dumps(before))
    try:
        for user in (ADA, STRANGER):
            assert actors.patches(user, f"daskcluster/{NAME}", {"spec": {"suspend": True}}) == ""
    finally:
        actors.plane.kubectl(*there, "delete", f"daskcluster/{NAME}")


def test_what_is_larger_than_a_later_bound_may_be_put_to_sleep_and_wakes_when_it_is_smaller(actors: Actors) -> None:
    there = ("-n", NAMESPACE)
    actors.plane.kubectl(*there, "create", "-f", "-", input=json.dumps(with_workers(MAXIMUM + 1)))
    try:
        for user in (ADA, STRANGER):
            assert actors.patches(user, f"daskcluster/{NAME}", {"spec": {"suspend": True}}) == ""
        asleep = ("--type=merge", "-p", json.dumps({"spec": {"suspend": True}}))
        actors.plane.kubectl(*there, "patch", f"daskcluster/{NAME}", *asleep)
        for user in (ADA, STRANGER):
            said = actors.patches(user, f"daskcluster/{NAME}", {"spec": {"suspend": False}})
            assert "at most 4 workers by template gpu-small, not 5" in said
        smaller = {"spec": {"suspend": False, "worker": {"replicas": MAXIMUM}}}
        assert actors.patches(ADA, f"daskcluster/{NAME}", smaller) == ""
    finally:
        actors.plane.kubectl(*there, "delete", f"daskcluster/{NAME}")


def test_a_cluster_goes_with_its_pod(actors: Actors) -> None:
    """The garbage collector may not create Pods either, and is let through."""
    secure = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    containers = [{"name": "notebook", "image": IMAGE, "securityContext": secure}]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "notebook"}, "spec": {"containers": containers}}
    there = ("-n", NAMESPACE)
    actors.plane.kubectl(*there, "apply", "-f", "-", input=json.dumps(pod))
    uid = actors.plane.kubectl(*there, "get", "pod", "notebook", "-o", "jsonpath={.metadata.uid}")
    manifest = made()
    manifest["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": "notebook", "uid": uid}]
    assert actors.creates(manifest, really=True) == ""
    actors.plane.kubectl(*there, "delete", "pod", "notebook", "--grace-period=1")
    eventually(lambda: NAME not in actors.plane.kubectl(*there, "get", "daskclusters", "-o", "name"), seconds=60)


def test_a_cluster_stays_within_the_bounds(actors: Actors, cluster: str) -> None:
    for change, words in (
        ({"worker": {"replicas": 5}}, "at most 4 workers by template gpu-small, not 5"),
        ({"worker": {"spec": {"serviceAccountName": "admin"}}}, "spec.worker.spec must be as in template gpu-small"),
        ({"worker": {"drainTimeoutSeconds": 1}}, "spec.worker.drainTimeoutSeconds must be as in template"),
        ({"noClientTimeout": None}, "spec.noClientTimeout must be at least 1"),
    ):
        assert words in actors.patches(ADA, cluster, {"spec": change})
    assert actors.patches(ADA, cluster, {"spec": {"worker": {"replicas": 4}}}) == ""
    for number, words in ((5, "at most 4 workers by template gpu-small, not 5"), (4, "")):
        said = actors.patches(ADA, cluster, {"spec": {"replicas": number}}, "--subresource=scale")
        assert words in said
        assert bool(words) == bool(said)
    unqueued = {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": None}}}
    assert "missing: kueue.x-k8s.io/queue-name" in actors.patches(ADA, cluster, unqueued)
    unmade = {"metadata": {"labels": {"dask.org/made-from": None}}}
    assert "not made from a template" in actors.patches(ADA, cluster, unmade)


def test_the_template_and_what_git_states_stay_as_they_are(actors: Actors) -> None:
    assert f"{TEMPLATE} is a template" in actors.patches(ADA, f"daskcluster/{TEMPLATE}", {"spec": {"suspend": False}})
    assert "belongs to Git" in actors(ADA, "delete", f"daskcluster/{TEMPLATE}", "--dry-run=server")
    assert "belongs to Git" in actors(ADA, "delete", "daskcluster/of-git", "--dry-run=server")
    more = {"spec": {"worker": {"replicas": 2}}}
    assert "you may change spec.suspend alone" in actors.patches(ADA, "daskcluster/of-git", more)
    relabelled = {"metadata": {"labels": {"access": "database"}}}
    assert "you may change spec.suspend alone" in actors.patches(ADA, "daskcluster/of-git", relabelled)
    for user in (ADA, STRANGER):
        assert actors.patches(user, "daskcluster/of-git", {"spec": {"suspend": True}}) == ""


def test_the_notebooks_of_a_tenant_wake_clusters_and_change_nothing_else(control_plane: ControlPlane) -> None:
    c = chart()
    DaskTenant(c, "tenant", namespace="waking", notebooks=["students"])
    DaskCluster(c, "git", name="of-git", namespace="waking", image=IMAGE)
    left = made()
    left["metadata"] = {**left["metadata"], "namespace": "waking"}  # by a template that is there no more
    tenant = yaml.safe_dump_all([*synth(c), left])
    control_plane.kubectl("apply", "-f", "-", input=tenant)

    def said(change: dict[str, Any], of: str = "of-git") -> str:
        actor = ("-n", "waking", "--as=cy", "--as-group=students")
        patch = ("patch", f"daskcluster/{of}", "--type=merge", "--dry-run=server", "-p", json.dumps(change))
        try:
            control_plane.kubectl(*actor, *patch)
        except subprocess.CalledProcessError as error:
            return str(error.stderr)
        return ""

    def refused(*what: Any) -> bool:
        return "you may change spec.suspend alone" in said(*what)

    try:
        for change in (
            {"spec": {"worker": {"spec": {"serviceAccountName": "admin"}}}},
            {"metadata": {"labels": {"access": "database"}}},
            {"metadata": {"labels": {"dask.org/made-from": "none"}}, "spec": {"worker": {"replicas": 2}}},
            {"metadata": {"finalizers": ["example.com/stay"]}},
            {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "absent", "uid": "a"}]}},
        ):
            for of in ("of-git", NAME):
                eventually(functools.partial(refused, change, of), seconds=60)
        assert said({"spec": {"suspend": True}}) == ""
        assert said({"spec": {"suspend": True}}, NAME) == ""
    finally:
        control_plane.kubectl("delete", "--wait=false", "-f", "-", input=tenant)


def test_the_activator_wakes_clusters_and_changes_nothing_else(actors: Actors) -> None:
    c = chart()
    DaskActivator(c, "activator")
    kinds = (
        "DaskCluster",
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    )
    user, told = "system:serviceaccount:dask-operator:dask-activator", "the activator may resume clusters"
    elsewhere = ("-n", "default")  # where no template's policies are
    DaskCluster(c, "git", name="dozing", namespace="default", image=IMAGE)
    read = granted(user, [rbac.Permission("DaskCluster", "get", "")])  # as kubectl does before it patches
    for each in read:
        each["metadata"]["namespace"] = "default"
    manifests = yaml.safe_dump_all([*read, *(m for m in synth(c) if m["kind"] in kinds)])
    actors.plane.kubectl("apply", "-f", "-", input=manifests)

    def said(change: dict[str, Any]) -> str:
        return actors.patches(user, "daskcluster/dozing", change, *elsewhere)

    absent = {"apiVersion": "v1", "kind": "Pod", "name": "absent", "uid": "a"}
    try:
        eventually(lambda: told in said({"spec": {"suspend": True}}), seconds=60)
        for change in (
            {"spec": {"workerGroups": [{"name": "more", "spec": template()["spec"]["worker"]["spec"]}]}},
            {"spec": {"idleTimeout": 0}},
            {"metadata": {"labels": {"access": "database"}}},
            {"metadata": {"ownerReferences": [absent]}},
            {"metadata": {"finalizers": ["example.com/stay"]}},
        ):
            assert told in said(change)
        assert said({"spec": {"suspend": False}}) == ""
    finally:
        actors.plane.kubectl("delete", "-f", "-", input=manifests)


def group(of: str) -> dict[str, Any]:
    spec = template()["spec"]["worker"]
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskWorkerGroup",
        "metadata": {"name": f"{of}-default"},
        "spec": {"cluster": of, "worker": {"replicas": 1, "spec": spec["spec"]}},
    }


def test_scaling_is_bounded_too(actors: Actors) -> None:
    """``kubectl scale``, and autoscalers beside the cluster."""
    assert actors.creates(group(NAME), EDITOR, really=True) == ""
    name = f"daskworkergroup/{NAME}-default"
    early = actors.patches(ADA, name, {"spec": {"replicas": 5}}, "--subresource=scale")
    assert "at most 4 workers by template gpu-small, not 5" in early, "before the operator has written its status"
    status = {"status": {"selector": f"dask.org/cluster-name={NAME},dask.org/workergroup-name={NAME}-default"}}
    actors.plane.kubectl(
        "-n", NAMESPACE, "patch", name, "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )
    scaled = ("--subresource=scale",)
    assert actors.patches(ADA, name, {"spec": {"replicas": MAXIMUM}}, *scaled) == ""
    refused = actors.patches(ADA, name, {"spec": {"replicas": 5}}, *scaled)
    assert "at most 4 workers by template gpu-small, not 5" in refused
    forged = {"spec": {"replicas": 5}, "status": {"selector": "a=b"}}
    assert "at most 4 workers by template gpu-small, not 5" in actors.patches(ADA, name, forged, *scaled)
    autoscaler = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler", "metadata": {"name": "a"}}
    for maximum, words in ((5, "at most 4 workers by template gpu-small, not 5"), (MAXIMUM, "")):
        said = actors.creates({**autoscaler, "spec": {"cluster": NAME, "minimum": 0, "maximum": maximum}})
        assert words in said
        assert bool(words) == bool(said)
    actors.plane.kubectl("-n", NAMESPACE, "delete", name)


def test_guard_rails_let_users_of_a_template_make_clusters_and_wake_those_of_git(actors: Actors) -> None:
    actors.plane.kubectl("label", "namespace", NAMESPACE, "railed=yes")
    try:
        of_another = changed(*WORKER, "serviceAccountName", to="admin")
        eventually(lambda: "these ServiceAccounts are not" in actors.creates(of_another, EDITOR), seconds=60)
        assert actors.creates(made()) == ""
        assert actors.patches(STRANGER, "daskcluster/of-git", {"spec": {"suspend": True}}) == ""
        more = {"spec": {"worker": {"replicas": 2}}}
        assert actors.patches(STRANGER, "daskcluster/of-git", more) != ""
    finally:
        actors.plane.kubectl("label", "namespace", NAMESPACE, "railed-")


def test_without_its_template_nobody_gets_a_cluster(actors: Actors) -> None:
    actors.plane.kubectl("-n", NAMESPACE, "delete", f"daskcluster/{TEMPLATE}")
    try:
        eventually(lambda: actors.creates(made()) != "")
        assert "failed to configure binding" in actors.creates(made()) or "not found" in actors.creates(made())
    finally:
        actors.plane.kubectl("apply", "-f", "-", input=json.dumps(template()))
    eventually(lambda: actors.creates(made()) == "")
