"""The example of a tenant on a real API server: what its GitOps tool and its scheduled jobs may do, and what not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import yaml
from tests.cluster import ControlPlane, images
from tests.e2e.support import eventually

pytestmark = pytest.mark.control_plane

TENANT = "analytics"
DEPLOYER = f"system:serviceaccount:{TENANT}:deployer"
STARTER = f"system:serviceaccount:{TENANT}:dask-job-starter"


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """With the aggregated roles of the operator's installation, and the tenant."""
    operator = yaml.safe_load_all((images.ROOT / "dist/operator/operator.yaml").read_text())
    roles = [m for m in operator if m["kind"] == "ClusterRole" and m["metadata"]["name"] in ("dask-view", "dask-edit")]
    assert len(roles) == 2
    manifests = yaml.safe_dump_all(roles)
    control_plane.kubectl("apply", "-f", "-", input=manifests)
    control_plane.kubectl("apply", "-k", str(images.ROOT / "dist/tenant"))
    control_plane.kubectl("wait", "--for=create", "-n", TENANT, "serviceaccount/default", "--timeout=60s")
    # The API server takes a moment to know what was granted.
    eventually(lambda: may(control_plane, DEPLOYER, "create", "daskclusters"))
    eventually(lambda: may(control_plane, STARTER, "create", "daskjobs"))
    yield control_plane
    control_plane.kubectl("delete", "-k", str(images.ROOT / "dist/tenant"), "--wait=true")
    control_plane.kubectl("delete", "-f", "-", input=manifests)


def may(plane: ControlPlane, user: str, verb: str, resource: str, namespace: str = TENANT) -> bool:
    try:
        answer = plane.kubectl("auth", "can-i", verb, resource, "-n", namespace, f"--as={user}")
    except subprocess.CalledProcessError as error:
        answer = error.stdout
    return answer.strip() == "yes"


@pytest.mark.parametrize("kind", ["daskclusters", "daskworkergroups", "daskjobs", "daskautoscalers", "cronjobs.batch"])
def test_the_gitops_tool_deploys_dask_and_cron_jobs(plane: ControlPlane, kind: str) -> None:
    assert all(may(plane, DEPLOYER, verb, kind) for verb in ("get", "list", "create", "patch", "delete"))
    assert not may(plane, DEPLOYER, "create", kind, namespace="default")


@pytest.mark.parametrize(
    "kind",
    [
        *("roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io", "resourcequotas", "namespaces"),
        *("networkpolicies.networking.k8s.io", "ingresses.networking.k8s.io", "serviceaccounts", "limitranges"),
    ],
)
def test_it_cannot_take_more_than_it_was_given(plane: ControlPlane, kind: str) -> None:
    assert not may(plane, DEPLOYER, "create", kind)


def test_scheduled_jobs_create_and_read_jobs(plane: ControlPlane) -> None:
    assert may(plane, STARTER, "create", "daskjobs")
    assert may(plane, STARTER, "get", "daskjobs")
    assert not may(plane, STARTER, "delete", "daskjobs")
    assert not may(plane, STARTER, "create", "daskjobs", namespace="default")
    assert not may(plane, STARTER, "get", "secrets")


def test_pods_are_restricted(plane: ControlPlane) -> None:
    command = ("run", "root", "-n", TENANT, "--image=registry.example.com/x:1", "--privileged", "--dry-run=server")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        plane.kubectl(*command)
    assert "violates PodSecurity" in refused.value.stderr
