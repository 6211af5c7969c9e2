"""Flux, its real source-controller and kustomize-controller, with our operator; fake nodes run the Pods."""

from __future__ import annotations

import re

import pytest
from tests.cluster import ControlPlane
from tests.support.clusters import or_skip

from .conftest import Site
from .harness import Flux
from .scenarios import Scenarios, cluster, group, job

pytestmark = pytest.mark.control_plane


@pytest.fixture(scope="module")
def tool(control_plane: ControlPlane) -> Flux:
    with or_skip("Flux"):
        return Flux(control_plane)


class TestFlux(Scenarios):
    def reasons(self, site: Site) -> str:
        """Flux names the resource; the reason is in its conditions."""
        _, message = site.application.health()
        found = re.search(r"stalled resources: \[(\w+)/[^/]+/(\w+) status: 'Failed'", message)
        assert found, message
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
