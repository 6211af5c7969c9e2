"""Bounds on a real API server: what is beyond them is refused, and objects from before a bound stay usable.

Controller finding 12, security finding 1: ``kubectl scale --replicas=6000000`` was accepted, and ended the operator.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane
from tests.support.clusters import OUR_CRDS
from tests.support.constructs import chart, synth

from dask_constructs import DaskAdmissionPolicy
from dask_crds.model import KINDS, MAX_WORKERS, PERCENTAGE, parse
from dask_crds.schema import custom_resource_definition
from dask_crds.validation import problems

pytestmark = pytest.mark.control_plane

POD = {"containers": [{"name": "dask", "image": "dask"}]}
MOST = 2**31 - 1
ABSURD_WORKER = {
    "spec": POD,
    "replicas": 6_000_000,
    "updateStrategy": {"rollingUpdate": {"maxSurge": "999999999999%", "maxUnavailable": MOST}},
}
ABSURD_CLUSTER = {"scheduler": {"spec": POD}, "worker": ABSURD_WORKER}
ABSURD_RULES = {"policies": [{"type": "Percent", "value": MOST, "periodSeconds": 60}]}
#: Objects that the CRDs accepted before there were bounds.
ABSURD: dict[str, dict[str, Any]] = {
    "DaskCluster": ABSURD_CLUSTER,
    "DaskWorkerGroup": {"cluster": "old", "worker": {**ABSURD_WORKER, "replicas": MOST}},
    "DaskJob": {"cluster": {"spec": ABSURD_CLUSTER}, "job": {"spec": POD}, "minimumReadyWorkers": MOST},
    "DaskAutoscaler": {"cluster": "old", "minimum": MOST, "maximum": MOST, "behavior": {"scaleUp": ABSURD_RULES}},
}
kinds = pytest.mark.parametrize("kind", KINDS)

Kubectl = Callable[..., str]


def manifest(kind: str, spec: dict[str, Any], name: str = "old") -> dict[str, Any]:
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def without_bounds(crd: Any) -> Any:
    """A CRD as it was before the bounds."""
    if isinstance(crd, list):
        return [without_bounds(item) for item in crd]
    if not isinstance(crd, dict):
        return crd
    old = {key: without_bounds(value) for key, value in crd.items()}
    if old.get("maximum") == MAX_WORKERS:
        old["maximum"] = MOST
    if old.get("pattern") == f"^{PERCENTAGE}$":
        old["pattern"] = "^[0-9]+%$"
    return old


def refused(kubectl: Kubectl, *command: str, input: dict[str, Any] | None = None) -> str:
    """What the API server says against a command, nothing if it does it."""
    try:
        kubectl(*command, input=None if input is None else json.dumps(input))
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    return ""


@pytest.fixture(scope="module")
def kubectl(control_plane: ControlPlane) -> Iterator[Kubectl]:
    """In a namespace with absurd objects, which were made before the CRDs had bounds."""
    namespace = "before-bounds"
    control_plane.kubectl("create", "namespace", namespace)

    def kubectl(*command: str, input: str | None = None) -> str:
        return control_plane.kubectl("-n", namespace, *command, input=input)

    def accepts_absurd() -> bool:
        """The API server takes a moment to know a CRD."""
        probes = (manifest(kind, spec, "probe") for kind, spec in ABSURD.items())
        answers = [refused(kubectl, "create", "--dry-run=server", "-f", "-", input=probe) for probe in probes]
        return not any(answers)

    before = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [without_bounds(custom_resource_definition(k)) for k in KINDS],
    }
    try:
        control_plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(before))
        control_plane.wait(accepts_absurd, "the CRDs without bounds")
        for kind, spec in ABSURD.items():
            kubectl("apply", "--server-side", "-f", "-", input=json.dumps(manifest(kind, spec)))
        control_plane.install_crds(OUR_CRDS)
        for kind, spec in ABSURD.items():
            probe = manifest(kind, spec, "probe")
            control_plane.wait(
                lambda probe=probe: refused(kubectl, "create", "--dry-run=server", "-f", "-", input=probe),  # type: ignore[misc]
                "the CRDs with bounds",
            )
        yield kubectl
    finally:
        control_plane.install_crds(OUR_CRDS)
        control_plane.kubectl("delete", "namespace", namespace, "--wait=false")


# --- objects from before the bounds -----------------------------------------------------------------------------------


@kinds
def test_an_old_object_is_understood_and_its_mistakes_are_told(kubectl: Kubectl, kind: str) -> None:
    value = parse(json.loads(kubectl("get", kind, "old", "-o", "json")))
    assert any("greater than the maximum of 200000" in str(problem) for problem in problems(value))


@kinds
def test_the_status_of_an_old_object_can_be_written(kubectl: Kubectl, kind: str) -> None:
    """As the operator writes it."""
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "Progressing",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "message": "",
    }
    status = {"observedGeneration": 1, "conditions": [condition]}
    applied = {**manifest(kind, {}), "status": status}
    del applied["spec"]
    kubectl(
        *("apply", "--server-side", "--subresource=status", "--field-manager=dask-operator-status", "-f", "-"),
        input=json.dumps(applied),
    )
    assert json.loads(kubectl("get", kind, "old", "-o", "json"))["status"]["conditions"] == [condition]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("DaskCluster", {"idleTimeout": 60, "worker": {"drainTimeoutSeconds": 5}}),
        ("DaskWorkerGroup", {"worker": {"spec": {"priorityClassName": "low"}, "updateStrategy": {"type": "OnDelete"}}}),
        ("DaskJob", {"suspend": True, "cluster": {"deletionPolicy": "Never"}}),
        ("DaskAutoscaler", {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 30}}}),
    ],
)
def test_other_fields_of_an_old_object_can_be_changed(kubectl: Kubectl, kind: str, changes: dict[str, Any]) -> None:
    patch = json.dumps({"metadata": {"labels": {"changed": "yes"}}, "spec": changes})
    kubectl("patch", kind, "old", "--type=merge", "-p", patch)


@kinds
def test_git_may_go_on_applying_an_old_object(kubectl: Kubectl, kind: str) -> None:
    """Flux and Argo CD do, again and again."""
    kubectl("apply", "--server-side", "-f", "-", input=json.dumps(manifest(kind, ABSURD[kind])))


def test_an_old_object_can_be_made_sane_and_not_absurd_again(kubectl: Kubectl) -> None:
    """The last of the tests of that object."""
    assert "should be less than or equal to 200000" in refused(kubectl, "scale", "dsk/old", "--replicas=6000001")
    kubectl("scale", "dsk/old", "--replicas=3")
    assert "should be less than or equal to 200000" in refused(kubectl, "scale", "dsk/old", "--replicas=6000000")


# --- new objects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["DaskCluster", "DaskWorkerGroup"])
def test_kubectl_scale_is_refused_beyond_the_bound(control_plane: ControlPlane, namespace: str, kind: str) -> None:
    """Controller finding 12, security finding 1; HorizontalPodAutoscaler and KEDA scale in the same way."""

    def kubectl(*command: str, input: str | None = None) -> str:
        return control_plane.kubectl("-n", namespace, *command, input=input)

    spec = ABSURD[kind] | {"worker": {"spec": POD}}
    kubectl("create", "-f", "-", input=json.dumps(manifest(kind, spec, "new")))
    for replicas in (200_001, 6_000_000, MOST):
        answer = refused(kubectl, "scale", kind, "new", f"--replicas={replicas}")
        assert "spec.worker.replicas in body should be less than or equal to 200000" in answer
    for accepted in (100_000, MAX_WORKERS, 0):
        kubectl("scale", kind, "new", f"--replicas={accepted}")
        assert kubectl("get", kind, "new", "-o", "jsonpath={.spec.worker.replicas}") == str(accepted)


def test_an_autoscaler_without_bounds(control_plane: ControlPlane, namespace: str) -> None:
    """``KubeCluster.adapt()``: a merge patch with nulls, and if there is no autoscaler yet, the same is posted."""
    path = f"/apis/kubernetes.dask.org/v1/namespaces/{namespace}/daskautoscalers"

    def spec() -> Any:
        return json.loads(control_plane.kubectl("get", "--raw", f"{path}/new"))["spec"]

    def adapt(minimum: int | None, maximum: int | None) -> None:
        patch = json.dumps({"spec": {"minimum": minimum, "maximum": maximum}})
        control_plane.kubectl("-n", namespace, "patch", "das/new", "--type=merge", "-p", patch)

    body = manifest("DaskAutoscaler", {"cluster": "new", "minimum": None, "maximum": None}, "new")
    control_plane.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(body))
    assert spec() == {"cluster": "new"}
    adapt(5, 10)
    assert spec() == {"cluster": "new", "minimum": 5, "maximum": 10}
    adapt(None, 3)
    assert spec() == {"cluster": "new", "maximum": 3}
    adapt(7, None)
    assert spec() == {"cluster": "new", "minimum": 7}
    with pytest.raises(subprocess.CalledProcessError, match="returned non-zero") as caught:
        adapt(7, 6)
    assert "minimum must not be greater than maximum" in caught.value.stderr
    adapt(None, None)
    header, row = control_plane.kubectl("-n", namespace, "get", "das").splitlines()
    assert header.split()[:4] == ["NAME", "CLUSTER", "MINIMUM", "MAXIMUM"]
    assert row.split()[:2] == ["new", "new"]


def test_a_policy_counts_an_omitted_maximum_as_the_greatest(control_plane: ControlPlane, namespace: str) -> None:
    """Else an autoscaler without one would get round the organisation's limit."""
    c = chart()
    DaskAdmissionPolicy(c, "policy", name=namespace, namespace_labels={"rules": namespace}, maximum_workers=5)
    policies = yaml.safe_dump_all(synth(c))
    control_plane.kubectl("label", "namespace", namespace, f"rules={namespace}")

    def said(spec: dict[str, Any]) -> str:
        body = manifest("DaskAutoscaler", {"cluster": "new", **spec}, "new")
        return refused(control_plane.kubectl, "-n", namespace, "create", "--dry-run=server", "-f", "-", input=body)

    try:
        control_plane.kubectl("apply", "-f", "-", input=policies)
        control_plane.wait(lambda: said({"maximum": 6}), "the policy")
        assert "at most 5 workers are allowed here, not 200000" in said({})
        assert said({"maximum": 5}) == ""
    finally:
        control_plane.kubectl("delete", "-f", "-", input=policies)
