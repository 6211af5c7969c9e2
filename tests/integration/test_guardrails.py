"""The guard rails on a real API server: each user, and what it must not do (security findings 11, 13, 14)."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane
from tests.e2e.support import eventually
from tests.support.constructs import IMAGE, JsonPatch, chart, synth

from dask_constructs import DaskAutoscaler, DaskCluster, DaskGuardrails, DaskJob, DaskWorkerGroup, rbac
from dask_crds.kinds import DASK_KINDS

pytestmark = pytest.mark.control_plane

#: Users by what they may do: all that `edit` may; Dask resources alone; DaskJobs alone; scale besides.
EDITOR, DASK_ONLY, STARTER, STRANGER = "editor", "dask-only", "starter", "another-starter"
REGISTRY = "registry.example.com/data"
GOOD = f"{REGISTRY}/dask:1"
MANIFESTS: dict[str, dict[str, Any]] = {}


def manifests() -> dict[str, dict[str, Any]]:
    """What our constructs write, one of each kind."""
    if not MANIFESTS:
        c = chart()
        cluster = DaskCluster(c, "c", name="c", image=GOOD)
        group = {"name": "further", "spec": cluster.spec["worker"]["spec"]}
        cluster.api_object.add_json_patch(JsonPatch.add("/spec/workerGroups", [group]))
        DaskWorkerGroup(c, "g", name="g", cluster="c", image=GOOD)
        DaskJob(c, "j", name="j", image=GOOD, command=["true"])
        DaskAutoscaler(c, "a", name="a", cluster="c")
        MANIFESTS.update({manifest["kind"]: manifest for manifest in synth(c)})
    return copy.deepcopy(MANIFESTS)


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The PodSpecs of a manifest."""
    spec = manifest["spec"]
    found = [spec["job"]["spec"]] if "job" in spec else []
    spec = spec["cluster"]["spec"] if "job" in spec else spec
    found += [spec[part]["spec"] for part in ("scheduler", "worker") if part in spec]
    return [*found, *(group["spec"] for group in spec.get("workerGroups", ()))]


class Actors:
    """kubectl as one user or another, in the namespace of the guard rails."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane, self.namespace = plane, namespace

    def refused(self, manifest: dict[str, Any], *, user: str = EDITOR, really: bool = False) -> str:
        """What the API server says against a manifest, nothing if it takes it."""
        dry_run = [] if really else ["--dry-run=server"]
        try:
            self.plane.kubectl(
                *("-n", self.namespace, "create", f"--as={user}", *dry_run, "-f", "-"), input=json.dumps(manifest)
            )
        except subprocess.CalledProcessError as error:
            return str(error.stderr)
        return ""


def _roles(namespace: str) -> list[dict[str, Any]]:
    every = " ".join(DASK_KINDS)
    permissions = {
        EDITOR: [
            rbac.Permission(every, "create get patch delete", ""),
            rbac.Permission("DaskWorkerGroup/scale", "update patch", ""),
            rbac.Permission("Pod", "create", ""),
        ],
        DASK_ONLY: [rbac.Permission(every, "create get patch delete", "")],
        STARTER: list(rbac.JOB_STARTER),
        STRANGER: list(rbac.JOB_STARTER),
    }
    group = rbac.RBAC_GROUP
    return [
        manifest
        for user, granted in permissions.items()
        for manifest in (
            {"kind": "Role", "metadata": {"name": user, "namespace": namespace}, "rules": rbac.rules(granted)},
            {
                "kind": "RoleBinding",
                "metadata": {"name": user, "namespace": namespace},
                "roleRef": {"apiGroup": group, "kind": "Role", "name": user},
                "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
            },
        )
        if manifest.setdefault("apiVersion", f"{group}/v1")
    ]


@pytest.fixture(scope="module")
def actors(control_plane: ControlPlane) -> Iterator[Actors]:
    namespace = "guarded"
    labels = {"guarded": "yes", "pod-security.kubernetes.io/enforce": "restricted"}
    c = chart()
    DaskGuardrails(
        c,
        "rails",
        name="rails",
        namespace_labels={"guarded": "yes"},
        image_registries=[REGISTRY],
        service_accounts=["reader"],
        starters=[STARTER],
    )
    written = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        *_roles(namespace),
        *synth(c),
    ]
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(written))
    here = Actors(control_plane, namespace)
    # The API server takes a moment to know the rules, each for itself.
    eventually(lambda: all("you may not" in here.refused(manifests()[kind], user=DASK_ONLY) for kind in DASK_KINDS))
    yield here
    control_plane.kubectl("delete", "--wait=false", "-f", "-", input=yaml.safe_dump_all(written))


@pytest.mark.parametrize("kind", DASK_KINDS)
def test_what_our_constructs_write_is_taken(actors: Actors, kind: str) -> None:
    assert actors.refused(manifests()[kind]) == ""


@pytest.mark.parametrize("kind", ["DaskCluster", "DaskWorkerGroup", "DaskJob"])
def test_who_may_not_create_pods_may_not_by_a_dask_kind(actors: Actors, kind: str) -> None:
    """(security finding 11) The operator is nobody's deputy."""
    assert "you may not create Pods here" in actors.refused(manifests()[kind], user=DASK_ONLY)


def test_who_may_not_scale_may_not_by_an_autoscaler(actors: Actors) -> None:
    """(security finding 14)"""
    manifest = manifests()["DaskAutoscaler"]
    assert "you may not update daskworkergroups/scale here" in actors.refused(manifest, user=DASK_ONLY)
    manifest["spec"]["workerGroup"] = "g"
    assert "you may not update daskworkergroups/scale here" in actors.refused(manifest, user=DASK_ONLY)
    assert actors.refused(manifest) == ""


def test_a_starter_starts_plain_jobs_alone(actors: Actors) -> None:
    """(security finding 11) "Create DaskJobs and nothing else" was "become any ServiceAccount"."""
    plain = manifests()["DaskJob"]
    assert actors.refused(plain, user=STARTER) == ""
    assert "you may not create Pods here" in actors.refused(plain, user=STRANGER)
    secret = {"secretKeyRef": {"name": "s", "key": "k"}}
    for number in range(len(pods(plain))):
        for change in (
            {"serviceAccountName": "reader"},
            {"serviceAccount": "reader"},
            {"volumes": [{"name": "s", "secret": {"secretName": "s"}}]},
            {"volumes": [{"name": "s", "projected": {"sources": [{"secret": {"name": "s"}}]}}]},
        ):
            manifest = manifests()["DaskJob"]
            pods(manifest)[number].update(change)
            assert "a starter may create it all the same" in actors.refused(manifest, user=STARTER), change
        for change in ({"env": [{"name": "S", "valueFrom": secret}]}, {"envFrom": [{"secretRef": {"name": "s"}}]}):
            for containers in ("containers", "initContainers"):
                manifest = manifests()["DaskJob"]
                pod = pods(manifest)[number]
                pod[containers] = [*pod.get(containers, ()), {"name": "more", "image": GOOD, **change}]
                assert "a starter may create it all the same" in actors.refused(manifest, user=STARTER), change


@pytest.mark.parametrize("kind", ["DaskCluster", "DaskWorkerGroup", "DaskJob"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"serviceAccountName": "admin"},
            "these ServiceAccounts are not allowed here: admin; allowed: default, reader",
        ),
        ({"serviceAccount": "admin"}, "these ServiceAccounts are not allowed here: admin; allowed: default, reader"),
        ({"automountServiceAccountToken": True}, "Pods may not mount a token of the Kubernetes API here"),
        ({"automountServiceAccountToken": None}, "Pods may not mount a token of the Kubernetes API here"),
        (
            {"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "Pods may not mount a token of the Kubernetes API here",
        ),
        (
            {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]},
            "these volumes are not allowed here: hostPath; allowed",
        ),
        ({"volumes": [{"name": "n", "nfs": {"server": "s", "path": "/"}}]}, "these volumes are not allowed here: nfs"),
        ({"volumes": [{"name": "c", "csi": {"driver": "d"}}]}, "these volumes are not allowed here: csi; allowed"),
        (
            {"volumes": [{"name": "i", "image": {"reference": "docker.io/evil:1"}}]},
            f"these images are not allowed here: docker.io/evil:1; allowed: {REGISTRY}/",
        ),
    ],
)
def test_what_pods_may_have(actors: Actors, kind: str, change: dict[str, Any], message: str) -> None:
    """(security findings 11, 13) In each Pod of each kind."""
    for number in range(len(pods(manifests()[kind]))):
        manifest = manifests()[kind]
        pods(manifest)[number].update(change)
        assert message in actors.refused(manifest)


def test_a_token_goes_with_a_service_account_of_the_list(actors: Actors) -> None:
    manifest = manifests()["DaskCluster"]
    pods(manifest)[0].update(serviceAccountName="reader", automountServiceAccountToken=True)
    assert actors.refused(manifest) == ""


@pytest.mark.parametrize(
    "image", [f"{REGISTRY}.evil.io/x:1", f"{REGISTRY}-evil/x:1", "x:1", f"docker.io/{REGISTRY}/x:1", IMAGE]
)
def test_a_registry_ends_where_its_name_does(actors: Actors, image: str) -> None:
    """(security finding 13)"""
    for containers in ("containers", "initContainers"):
        manifest = manifests()["DaskCluster"]
        pod = pods(manifest)[1]
        pod[containers] = [*pod.get(containers, ()), {"name": "more", "image": image}]
        assert f"these images are not allowed here: {image}" in actors.refused(manifest)


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ({"type": "LoadBalancer"}, "the type of the scheduler's Service must be one of: ClusterIP"),
        ({"type": "NodePort"}, "the type of the scheduler's Service must be one of: ClusterIP"),
        ({"externalIPs": ["192.0.2.1"]}, "externalIPs of the scheduler's Service is not allowed here"),
        ({"externalName": "evil.io"}, "externalName of the scheduler's Service is not allowed"),
        ({"loadBalancerIP": "192.0.2.1"}, "loadBalancerIP of the scheduler's Service is not allowed here"),
        ({"selector": {"app": "bank"}}, "selector of the scheduler's Service is not allowed here"),
    ],
)
@pytest.mark.parametrize("kind", ["DaskCluster", "DaskJob"])
def test_a_service_leads_to_its_scheduler_and_no_further(
    actors: Actors, kind: str, service: dict[str, Any], message: str
) -> None:
    """(security finding 11)"""
    manifest = manifests()[kind]
    spec = manifest["spec"]["cluster"]["spec"] if kind == "DaskJob" else manifest["spec"]
    spec["scheduler"]["service"] = service
    assert message in actors.refused(manifest)


def test_dask_runs_nowhere_without_pod_security(actors: Actors) -> None:
    """(security finding 11)"""
    label = ("label", "namespace", actors.namespace, "--overwrite")
    actors.plane.kubectl(*label, "pod-security.kubernetes.io/enforce=privileged")
    try:
        eventually(lambda: "must enforce Pod security" in actors.refused(manifests()["DaskCluster"]))
    finally:
        actors.plane.kubectl(*label, "pod-security.kubernetes.io/enforce=restricted")
    eventually(lambda: actors.refused(manifests()["DaskCluster"]) == "")


def test_what_was_there_may_be_tidied_up(actors: Actors) -> None:
    """Labels, owners and finalizers change without a question: the garbage collector may not create Pods either."""
    assert actors.refused(manifests()["DaskCluster"], really=True) == ""

    def patch(what: dict[str, Any]) -> None:
        command = (
            "-n",
            actors.namespace,
            "patch",
            "dsk/c",
            "--type=merge",
            f"--as={DASK_ONLY}",
            "-p",
            json.dumps(what),
        )
        actors.plane.kubectl(*command)

    patch({"metadata": {"labels": {"a": "b"}, "finalizers": ["example.com/x"]}})
    patch({"metadata": {"finalizers": None}})
    with pytest.raises(subprocess.CalledProcessError) as caught:
        patch({"spec": {"worker": {"replicas": 2}}})
    assert "you may not create Pods here" in caught.value.stderr
    actors.plane.kubectl("-n", actors.namespace, "delete", "dsk/c", f"--as={DASK_ONLY}")
