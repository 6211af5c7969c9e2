"""The same verdict offline as at the API server, in both directions, of random manifests right and wrong.

Three are asked: ``dask_constructs.problems``, the JSON schemas in ``dist/schemas``, and a real API server, which gets
the resource and then, as dry runs too, all that the operator would make of it. "Accepted, and every Pod refused" is
what hurts, so a resource counts as refused if anything that is made of it is. The three may differ in this only:

1. *What one cluster alone knows*: whether a namespace, PriorityClass, RuntimeClass ... exists. The server says 403,
   not 422, and the example is passed over.
2. *What the server takes and nobody can mean*: an empty ``preStop`` of a worker, in whose place the operator puts its
   own, a grace period below zero, which the server takes for one second, a name that ends in ``-`` in ``envFrom``,
   which no object has, and a Service that selects nothing. Refused offline.
3. *JSON schemas* know the form, not what goes together: they may accept what the others refuse, never the reverse.

``EXAMPLES=20000 pytest tests/schema/test_verdicts.py`` looks further, ``SEED=2`` elsewhere.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.cluster import ControlPlane
from tests.support.manifests import CLUSTER, POD, SPECS, manifests, metadata
from tests.support.schedules import ACCEPTED, REFUSED
from tests.support.verdicts import Server

from dask_constructs import problems
from dask_crds.kinds import ApiResource
from dask_crds.model import KINDS
from dask_crds.model.manifest import without_nulls
from dask_resources.history import MOUNT_PATH

pytestmark = pytest.mark.control_plane

SCHEMAS = Path(__file__).parents[2] / "dist/schemas/kubernetes.dask.org"
EXAMPLES, SEED = int(os.environ.get("EXAMPLES", "500")), int(os.environ.get("SEED", "1"))
#: What the server says of what it does not know, or does not allow here.
OF_THIS_CLUSTER = 403
#: What is said offline alone.
MEANT_BY_NOBODY = (
    "].configMapRef.name: 'a-' must be a DNS name",
    "].secretRef.name: 'a-' must be a DNS name",
    ".lifecycle.preStop: must have one of",
    ".spec.terminationGracePeriodSeconds: -",
    "nothing would be found behind the Service",
)


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane) -> Server:
    return Server(control_plane.port, control_plane.pki.folder)


@cache
def schema(kind: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{kind.lower()}_v1.json").read_text()))


def compare(server: Server, manifest: dict[str, Any]) -> None:
    offline = problems(manifest)
    refusals = list(server.refusals(manifest))
    if refusals and all(status == OF_THIS_CLUSTER for status, _ in refusals):
        return
    if offline and all(any(said in problem for said in MEANT_BY_NOBODY) for problem in offline):
        return
    assert bool(offline) == bool(refusals), f"offline: {offline}\nserver: {refusals}\n{json.dumps(manifest)}"
    if not refusals:
        assert not list(schema(manifest["kind"]).iter_errors(without_nulls(manifest)))


def searched(server: Server, drawn: st.SearchStrategy[dict[str, Any]]) -> None:
    """Compare the verdicts about as many manifests as are wanted."""

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def same_verdict(manifest: dict[str, Any]) -> None:
        compare(server, manifest)

    same_verdict()


@pytest.mark.parametrize("kind", KINDS)
def test_random_manifests(server: Server, kind: str) -> None:
    """Constructs findings 4, 10 and 20, and whatever else there is of their kind."""
    searched(server, manifests(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_random_metadata(server: Server, kind: str) -> None:
    """Constructs finding 10: an object's own metadata, of which no CRD says anything."""
    searched(server, metadata().map(lambda drawn: {**resource(kind, SPECS[kind]), "metadata": drawn}))


def group(**worker: Any) -> dict[str, Any]:
    return resource("DaskWorkerGroup", {"cluster": "drawn", "worker": {"spec": {**POD, **worker}}})


def resource(kind: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    metadata = metadata or {"name": "drawn"}
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": kind, "metadata": metadata, "spec": spec}


def container(**fields: Any) -> dict[str, Any]:
    return group(containers=[{**POD["containers"][0], **fields}])


def claimed(**metadata: Any) -> dict[str, Any]:
    """A group whose workers claim a volume by a template of these metadata."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    template = {"metadata": metadata, "spec": claim}
    return group(volumes=[*POD["volumes"], {"name": "claimed", "ephemeral": {"volumeClaimTemplate": template}}])


def divided(divisor: str | None) -> dict[str, Any]:
    """A variable with the container's CPUs."""
    return {"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": divisor}}}


def service(**spec: Any) -> dict[str, Any]:
    """A cluster whose Service somebody has written."""
    return resource("DaskCluster", {**CLUSTER, "scheduler": {"spec": POD, "service": spec}})


def cost(written: str) -> dict[str, Any]:
    """A group whose Pods say what their deletion costs."""
    metadata = {"annotations": {"controller.kubernetes.io/pod-deletion-cost": written}}
    return resource("DaskWorkerGroup", {"cluster": "drawn", "worker": {"spec": POD, "metadata": metadata}})


def policy(rule: dict[str, Any]) -> dict[str, Any]:
    """A job with a policy of failures."""
    policy = {"rules": [{"action": "FailJob", **rule}]}
    return resource("DaskJob", {**SPECS["DaskJob"], "podFailurePolicy": policy})


def unused(seconds: Any) -> dict[str, Any]:
    """A cluster that ends without clients."""
    return resource("DaskCluster", {**CLUSTER, "noClientTimeout": seconds})


def historic(**history: Any) -> dict[str, Any]:
    """A cluster whose scheduler keeps a record."""
    return resource("DaskCluster", {**CLUSTER, "history": history})


def mounted_at(path: str) -> dict[str, Any]:
    """A scheduler with a volume there."""
    mounts = [{"name": "data", "mountPath": path}]
    return {"spec": {**POD, "containers": [{**POD["containers"][0], "volumeMounts": mounts}]}}


AUTOSCALER = {"cluster": "drawn"}
OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "b", "controller": True}
FOUND: dict[str, tuple[dict[str, Any], bool]] = {
    "two sources of a volume": (group(volumes=[{"name": "data", "emptyDir": {}, "image": {"reference": "a"}}]), False),
    "a volume without a source": (group(volumes=[{"name": "data"}]), True),
    "two handlers": (
        container(readinessProbe={"exec": {"command": ["true"]}, "httpGet": {"port": 80}}),
        False,
    ),
    "the time of an affinity that there is not": (service(sessionAffinityConfig={}), True),
    "a time of no affinity": (service(sessionAffinityConfig={"clientIP": {"timeoutSeconds": 0}}), True),
    "a time of an affinity that is none": (
        service(sessionAffinity="None", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 0}}),
        True,
    ),
    "a time of an affinity that is too short": (
        service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 0}}),
        False,
    ),
    "a timeout": (unused(120), True),
    "no timeout": (unused(0), True),
    "a timeout that is null": (unused(None), True),
    "a timeout before it begins": (unused(-1), False),
    "a timeout beyond int32": (unused(2**31), False),
    "a timeout in words": (unused("2m"), False),
    "half a second": (unused(0.5), False),
    "an affinity of no time": (service(sessionAffinity="ClientIP", sessionAffinityConfig={}), True),
    "a divisor of nothing": (container(env=[divided("")]), False),
    "a divisor that is null": (container(env=[divided(None)]), True),
    "a divisor": (container(env=[divided("1m")]), True),
    "a size of nothing": (group(volumes=[{"name": "data", "emptyDir": {"sizeLimit": ""}}]), False),
    "no handler": (container(livenessProbe={"periodSeconds": 1}), False),
    "a list for a time": (claimed(creationTimestamp=[]), False),
    "a list of times for a time": (claimed(managedFields=[{"time": ["2026-01-31T00:00:00Z"]}]), False),
    "a time of a claim as exported": (claimed(creationTimestamp=None), True),
    "a value and a source": (
        container(env=[{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        False,
    ),
    "no value and a source": (
        container(env=[{"name": "A", "value": "", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        True,
    ),
    "a device without limit": (container(resources={"requests": {"nvidia.com/gpu": 1}}), False),
    "a device with limit": (container(resources={"limits": {"nvidia.com/gpu": 1}}), True),
    "half a device": (container(resources={"limits": {"nvidia.com/gpu": "500m"}}), False),
    "a resource of no kind": (container(resources={"limits": {"gpu": 1}}), False),
    "two names of ports": (
        container(ports=[{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]),
        False,
    ),
    "a port beyond int32": (container(ports=[{"containerPort": 2**31}]), False),
    "a profile of no type": (container(securityContext={"seccompProfile": {"type": "Localhost"}}), False),
    "debug containers": (group(ephemeralContainers=[{"name": "debug", "image": "a"}]), False),
    "a label key of two": (resource("DaskAutoscaler", AUTOSCALER, name="a", labels={"a/b/c": "d"}), False),
    "a namespace that cannot be": (resource("DaskAutoscaler", AUTOSCALER, name="a", namespace="A_b"), False),
    "a namespace that is a number": (resource("DaskAutoscaler", AUTOSCALER, name="a", namespace=5), False),
    "a name that is a number": (resource("DaskAutoscaler", AUTOSCALER, name=0.5), False),
    "a prefix that is nothing": (resource("DaskAutoscaler", AUTOSCALER, name="a", generateName=0), False),
    "an annotation that is null": (resource("DaskAutoscaler", AUTOSCALER, name="a", annotations={"a": None}), True),
    "a label that is null": (resource("DaskAutoscaler", AUTOSCALER, name="a", labels={"a": None}), True),
    "a label that is a number": (resource("DaskAutoscaler", AUTOSCALER, name="a", labels={"a": 5}), False),
    "a field that metadata do not have": (resource("DaskAutoscaler", AUTOSCALER, name="a", clusterName=None), False),
    "a finalizer of no name": (resource("DaskAutoscaler", AUTOSCALER, name="a", finalizers=["a b"]), False),
    "a time of creation as exported": (
        resource("DaskAutoscaler", AUTOSCALER, name="a", creationTimestamp=None, generation=1.0),
        True,
    ),
    "a day of creation": (resource("DaskAutoscaler", AUTOSCALER, name="a", creationTimestamp="2026-01-31"), False),
    "an owner": (resource("DaskAutoscaler", AUTOSCALER, name="a", ownerReferences=[OWNER]), True),
    "two controllers": (
        resource("DaskAutoscaler", AUTOSCALER, name="a", ownerReferences=[OWNER, {**OWNER, "uid": "c"}]),
        False,
    ),
    "one controller, said twice": (
        resource("DaskAutoscaler", AUTOSCALER, name="a", ownerReferences=[OWNER, OWNER]),
        True,
    ),
    "one controller, said in two ways": (
        resource(
            "DaskAutoscaler", AUTOSCALER, name="a", ownerReferences=[OWNER, {**OWNER, "blockOwnerDeletion": True}]
        ),
        False,
    ),
    "a prefix of the greatest length": (resource("DaskAutoscaler", AUTOSCALER, generateName="a" * 253), True),
    "a prefix that is too long": (resource("DaskAutoscaler", AUTOSCALER, generateName="a" * 254), False),
    "a prefix that is too long and not used": (
        resource("DaskAutoscaler", AUTOSCALER, name="a", generateName="a" * 254),
        False,
    ),
    "an owner without uid": (
        resource("DaskAutoscaler", AUTOSCALER, name="a", ownerReferences=[{**OWNER, "uid": ""}]),
        False,
    ),
    "many annotations": (
        resource("DaskAutoscaler", AUTOSCALER, name="a", annotations={"a": "x" * 262_143}),
        True,
    ),
    "too many annotations": (
        resource("DaskAutoscaler", AUTOSCALER, name="a", annotations={"a": "x" * 262_144}),
        False,
    ),
    "annotations that children cannot have": (
        resource(
            "DaskWorkerGroup", {"cluster": "drawn", "worker": {"spec": POD}}, name="a", annotations={"a": "x" * 200_000}
        ),
        False,
    ),
    "annotations that children can have": (
        resource(
            "DaskWorkerGroup", {"cluster": "drawn", "worker": {"spec": POD}}, name="a", annotations={"a": "x" * 130_000}
        ),
        True,
    ),
    "exit codes out of order": (policy({"onExitCodes": {"operator": "In", "values": [2, 1]}}), False),
    "exit codes of no container": (
        policy({"onExitCodes": {"operator": "In", "values": [1], "containerName": "none"}}),
        False,
    ),
    "no condition": (policy({"onPodConditions": []}), False),
    "a condition of no name": (policy({"onPodConditions": [{"type": "a b"}]}), False),
    "a cost that is none": (cost("much"), False),
    "a cost with a plus": (cost("+5"), False),
    "a cost": (cost("-5"), True),
    "no cost": (cost(""), False),
    # Habits of manifests that were written for dask-kubernetes (public findings, 16 sources).
    "a name that is made up": (resource("DaskCluster", CLUSTER, generateName="habit-"), True),
    "an amount without quotes": (container(resources={"limits": {"cpu": 0.5}}), False),
    "a whole amount without quotes": (container(resources={"limits": {"cpu": 1.0, "memory": 2**31}}), True),
    "a volume of our name": (
        resource(
            "DaskCluster",
            {**CLUSTER, "scheduler": {"spec": {**POD, "volumes": [*POD["volumes"], {"name": "dask-gitops"}]}}},
        ),
        True,
    ),
    "a Service of its own ports": (
        service(type="NodePort", ports=[{"name": "tcp-comm", "port": 8786, "targetPort": "tcp-comm"}]),
        True,
    ),
    "a Service with one port of no name": (service(ports=[{"port": 81}]), True),
    "a Service with two ports of no name": (service(ports=[{"port": 8786}, {"port": 8787}]), False),
    "a nodePort of no node": (service(ports=[{"port": 8786, "nodePort": 30_000}]), False),
    "a name beside a wrong prefix": (resource("DaskAutoscaler", AUTOSCALER, name="a", generateName="A"), False),
    "a history": (historic(claimName="runs", path="dask/runs_1.x", keep=3), True),
    "a history of a job": (
        resource("DaskJob", {**SPECS["DaskJob"], "cluster": {"spec": {**CLUSTER, "history": {"claimName": "runs"}}}}),
        True,
    ),
    "a history that is nowhere": (historic(), False),
    "a history of no name": (historic(claimName=""), False),
    "a history that leads out": (historic(claimName="runs", path="a/../../b"), False),
    "a history at the root": (historic(claimName="runs", path="/a"), False),
    "a history that is hidden": (historic(claimName="runs", path="a/.b"), False),
    "a history in no folder": (historic(claimName="runs", path=""), False),
    "a history that ends in nothing": (historic(claimName="runs", path="a/"), False),
    "a history of nothing": (historic(claimName="runs", keep=0), False),
    "a history of too much": (historic(claimName="runs", keep=1001), False),
    "a history in another volume": (historic(claimName="runs", nfs={}), False),
    "a mount where the history is": (
        resource("DaskCluster", {**CLUSTER, "scheduler": mounted_at(MOUNT_PATH), "history": {"claimName": "runs"}}),
        False,
    ),
    "a mount where no history is": (resource("DaskCluster", {**CLUSTER, "scheduler": mounted_at(MOUNT_PATH)}), True),
    "a volume of the history's name": (
        resource(
            "DaskCluster",
            {
                **CLUSTER,
                "scheduler": {"spec": {**POD, "volumes": [*POD["volumes"], {"name": "dask-gitops-history"}]}},
                "history": {"claimName": "runs"},
            },
        ),
        True,
    ),
    "a cluster that cannot be": (resource("DaskAutoscaler", {"cluster": "Always"}), False),
}


@pytest.mark.parametrize(("manifest", "accepted"), FOUND.values(), ids=FOUND)
def test_what_was_found_before(server: Server, manifest: dict[str, Any], accepted: bool) -> None:
    assert (not problems(manifest)) == accepted
    compare(server, manifest)


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schedules", "accepted"), [(ACCEPTED, True), (REFUSED, False)], ids=["accepted", "refused"])
def test_schedules(server: Server, schedules: tuple[str, ...], accepted: bool) -> None:
    """``tests/unit/test_schedule.py`` says the same offline (constructs finding 10, program 20)."""
    cron_job = ApiResource("batch", "v1", "cronjobs", "CronJob")
    pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
    for schedule in schedules:
        spec = {"schedule": schedule, "jobTemplate": {"spec": {"template": {"spec": pod}}}}
        manifest = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"}, "spec": spec}
        status, said = server.dry_run(manifest, cron_job)
        assert (status < 300) == accepted, f"{schedule!r}: {said.get('message')}"
