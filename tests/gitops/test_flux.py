"""Flux, its real source-controller and kustomize-controller, with our operator; fake nodes run the Pods."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from tests.cluster import ControlPlane, images
from tests.e2e.support import eventually
from tests.support.clusters import or_skip

from .conftest import Site
from .flux import Flux
from .git import Manifest
from .scenarios import Scenarios, cluster, group, job

pytestmark = pytest.mark.control_plane

GUIDE = images.ROOT / "docs/migration.md"


@pytest.fixture(scope="module")
def tool(control_plane: ControlPlane) -> Flux:
    with or_skip("Flux"):
        return Flux(control_plane)


class TestFlux(Scenarios):
    tool = "Flux"

    def let_suspend_be(self, site: Site, settings: Manifest) -> None:
        patch = json.dumps({"spec": settings})
        site.kubectl("patch", "kustomization", site.kubectl.namespace, "--type=merge", "-p", patch)

    def reasons(self, site: Site) -> str:
        """Flux names the resource; the reason is in its conditions."""
        found: re.Match[str] | None = None

        def told() -> bool:  # not while it tries once more, which it does all the time
            nonlocal found
            _, message = site.application.health()
            found = re.search(r"stalled resources: \[(\w+)/[^/]+/(\w+) status: 'Failed'", message)
            return found is not None

        eventually(told)
        assert found is not None
        return site.kubectl.condition(found[1].lower(), found[2], "Stalled")["message"]

    def test_git_owns_the_spec_and_the_operator_the_status(self, site: Site):
        site.commit(cluster=cluster(site), group=group(site), job=job(site))
        site.kubectl("scale", "daskworkergroup", "big", "--replicas=3")
        site.kubectl.wait_ready("daskworkergroup", "big")
        self.undisturbed(site, "daskcluster/c", "daskworkergroup/big", "daskjob/j")
        for resource in ("daskcluster/c", "daskworkergroup/big", "daskjob/j"):
            found = site.kubectl.json("get", resource, "--show-managed-fields")["metadata"]["managedFields"]
            spec = {entry["manager"] for entry in found if entry.get("subresource") != "status"}
            assert spec - {"kubectl"} == {"kustomize-controller"}, "kubectl is the one that scaled"

    def test_the_expressions_for_statuses_of_the_existing_operator(self, site: Site):
        """As the migration guide has them: they look at ``phase`` and ``jobStatus``, which both operators write."""
        (text,) = re.findall(r"```yaml\n(healthCheckExprs:.*?)```", GUIDE.read_text(), re.DOTALL)
        assert site.application.health()[0] != "Healthy"
        patch = json.dumps({"spec": yaml.safe_load(text)})
        site.kubectl("patch", "kustomization", site.kubectl.namespace, "--type=merge", "-p", patch)
        unready = cluster(site)
        unready["spec"]["worker"]["spec"]["nodeSelector"] = {"node": "none"}
        site.commit(cluster=unready, job=job(site))
        assert site.kubectl.condition("daskcluster", "c", "Ready")["status"] == "False"
        assert site.kubectl.status("daskjob", "j")["jobStatus"] == "Successful"
        site.offer(cluster=unready, job=job(site, exit_code=3, run_id="2"))
        eventually(lambda: "DaskJob" in site.application.health()[1] and site.application.health()[0] == "Degraded")
        assert site.kubectl.status("daskjob", "j")["jobStatus"] == "Failed"
