"""Argo CD, its real repo-server and application-controller, with our operator; fake nodes run the Pods."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, eventually, ready_pods
from tests.support.clusters import or_skip
from tests.support.constructs import chart, synth

from dask_constructs import ArgoCDTenant, Source
from dask_constructs.argocd import argocd_settings

from .argocd import ARGO_NAMESPACE, ArgoCD
from .conftest import Site
from .git import Manifest
from .scenarios import Scenarios, cluster, config_map, group, job, uid, uids

pytestmark = pytest.mark.control_plane


@pytest.fixture(scope="module")
def tool(control_plane: ControlPlane) -> ArgoCD:
    with or_skip("Argo CD"):
        return ArgoCD(control_plane, argocd_settings())


class TestArgoCD(Scenarios):
    tool = "Argo CD"

    def let_suspend_be(self, site: Site, settings: Manifest) -> None:
        argocd = Kubectl(site.plane.kubectl, ARGO_NAMESPACE)
        argocd("patch", "application", site.kubectl.namespace, "--type=merge", "-p", json.dumps({"spec": settings}))

    def reasons(self, site: Site) -> str:
        return site.application.health()[1]

    @pytest.fixture(params=["annotation", "label"])
    def tracking(self, request: pytest.FixtureRequest, tool: ArgoCD) -> Iterator[str]:
        tool.track_by(request.param)
        yield request.param
        tool.track_by("annotation")

    def test_children_are_neither_pruned_nor_orphaned(self, site: Site, tracking: str):
        """Tracking by label takes every object for Argo CD's own that carries the label."""
        site.commit(cluster=cluster(site), group=group(site), job=job(site))
        site.kubectl("scale", "daskworkergroup", "big", "--replicas=3")
        site.kubectl.wait_ready("daskworkergroup", "big")
        of_ended_job = "dask.org/cluster-name=j,dask.org/component!=job-runner"
        eventually(lambda: not site.kubectl("get", "pods", "-l", of_ended_job, "-o", "name"))
        before = uids(site)
        manifest = site.kubectl.json("get", "daskcluster", "c")["metadata"]
        tracked = "argocd.argoproj.io/tracking-id" in manifest.get("annotations", {})
        labelled = "app.kubernetes.io/instance" in manifest.get("labels", {})
        assert (tracked, labelled) == (tracking == "annotation", tracking == "label")
        site.application.resync()
        self.undisturbed(site, "daskcluster/c", "daskworkergroup/big", "daskjob/j")
        assert uids(site) == before
        assert orphans(site) == ""
        site.kubectl.apply(config_map())
        site.application.refresh()
        eventually(lambda: "1 orphaned" in orphans(site))

    def test_a_release_waits_for_a_job_and_fails_with_it(self, site: Site):
        """As a hook; the guide of batch jobs says how."""
        site.commit(gate=hook(job(site)), unrelated=config_map("first"))
        assert site.kubectl.status("daskjob", "j")["jobStatus"] == "Successful"
        first = uid(site, "daskjob/j")
        once = '{"spec": {"syncPolicy": {"retry": {"limit": 0}}}}'
        argocd = Kubectl(site.plane.kubectl, ARGO_NAMESPACE)
        argocd("patch", "application", site.kubectl.namespace, "--type=merge", "-p", once)
        site.offer(gate=hook(job(site, exit_code=3)), unrelated=config_map("second"))

        def failed() -> bool:
            site.application.refresh()  # it looks every few minutes otherwise, until the old hook is gone
            return site.application.status()["operationState"]["phase"] == "Failed"

        eventually(failed, seconds=120)
        assert uid(site, "daskjob/j") != first
        assert site.kubectl.json("get", "configmap", "unrelated")["data"] == {"key": "first"}
        site.commit(gate=hook(job(site)), unrelated=config_map("third"))
        assert site.kubectl.json("get", "configmap", "unrelated")["data"] == {"key": "third"}

    def test_a_member_of_the_team_uses_the_actions(self, site: Site, tool: ArgoCD):
        """Through Argo CD's API server, with the rights that `ArgoCDTenant` gives and no others."""
        site.commit(cluster=cluster(site), group=group(site), job=job(site))
        application = site.kubectl.namespace
        c = chart()
        ArgoCDTenant(c, "tenant", source=Source(site.repository.url), tenant="default", groups=["team"])
        roles = next(m["spec"]["roles"] for m in synth(c) if m["kind"] == "AppProject")
        argocd = Kubectl(site.plane.kubectl, ARGO_NAMESPACE)
        argocd("patch", "appproject", "default", "--type=merge", "-p", json.dumps({"spec": {"roles": roles}}))
        server = tool.server()
        member = server.as_role("default", "team")

        offered = member.actions(application, "DaskCluster", "c")
        assert offered == {"restart": True, "resume": False, "scale": True, "suspend": True}
        assert member.actions(application, "DaskJob", "j") == {"rerun": True, "resume": False, "suspend": False}
        member.act(application, "DaskCluster", "c", "suspend")
        eventually(
            lambda: not ready_pods(site.kubectl, "c", "worker") and not ready_pods(site.kubectl, "c", "scheduler")
        )
        eventually(lambda: site.application.health()[0] == "Suspended")
        self.undisturbed(site, "daskcluster/c")
        member.act(application, "DaskCluster", "c", "resume")
        site.kubectl.wait_ready("daskcluster", "c")

        member.act(application, "DaskWorkerGroup", "big", "scale", replicas="3")
        eventually(lambda: len(ready_pods(site.kubectl, "c", "worker")) == 2 + 3)
        before = uids(site)
        member.act(application, "DaskWorkerGroup", "big", "restart")
        eventually(lambda: len(uids(site) - before) == 3 and len(uids(site)) == len(before))
        first = uid(site, "job/j-runner")
        member.act(application, "DaskJob", "j", "rerun")
        eventually(lambda: uid(site, "job/j-runner") != first)
        asked = site.kubectl.json("get", "daskjob", "j")["spec"]["runId"]

        def ran_again() -> bool:
            status = site.kubectl.status("daskjob", "j")
            return (status["runId"], status["jobStatus"]) == (asked, "Successful")

        eventually(ran_again)
        self.undisturbed(site, "daskcluster/c", "daskworkergroup/big", "daskjob/j")

        with pytest.raises(HTTPError, match="403"):
            member.request("DELETE", f"v1/applications/{application}")

    def test_replicas_that_git_states_are_kept_there(self, site: Site):
        stated = group(site)
        stated["spec"]["worker"]["replicas"] = 1
        site.commit(cluster=cluster(site), group=stated)
        site.kubectl("scale", "daskworkergroup", "big", "--replicas=3")
        eventually(lambda: site.kubectl.json("get", "daskworkergroup", "big")["spec"]["worker"]["replicas"] == 1)


def hook(manifest: dict[str, Any]) -> dict[str, Any]:
    annotations = {
        "argocd.argoproj.io/hook": "PreSync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
    }
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}


def orphans(site: Site) -> str:
    """What Argo CD says of objects in the namespace that belong to no application."""
    conditions = site.application.status().get("conditions", [])
    return "; ".join(c["message"] for c in conditions if c["type"] == "OrphanedResourceWarning")
