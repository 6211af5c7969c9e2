"""What must hold under every tool that applies Git to a cluster; ``test_argocd`` and ``test_flux`` run it."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import yaml
from tests.cluster.images import ROOT
from tests.e2e.support import DASK_IMAGE, eventually, ready_pods
from tests.support.controller import start_activator

from dask_controller.core.ownership import applied_by

from .conftest import Site
from .git import Manifest

OTHER_IMAGE = "ghcr.io/dask/dask:2026.7.1"
WAKING = (ROOT / "docs/waking.md").read_text()
NO_DRAIN = {"drainTimeoutSeconds": 0}  # fake nodes run no scheduler that could be asked


class Scenarios:
    tool: str  #: as docs call it

    def test_first_sync_then_another_image_and_back(self, site: Site):
        site.commit(cluster=cluster(site))
        assert images(site, "worker") == [DASK_IMAGE] * 2
        before = uids(site)
        site.commit(cluster=cluster(site, OTHER_IMAGE))
        assert images(site, "worker") == [OTHER_IMAGE] * 2
        assert images(site, "scheduler") == [OTHER_IMAGE]
        eventually(lambda: not before & uids(site))
        site.revert()
        assert images(site, "worker") == [DASK_IMAGE] * 2
        assert site.application.drift() == []

    def test_replicas_that_git_leaves_out_stay_as_scaled(self, site: Site):
        site.commit(cluster=cluster(site), group=group(site))
        for name in ("c-default", "big"):
            site.kubectl("scale", "daskworkergroup", name, "--replicas=4")
            site.kubectl.wait_ready("daskworkergroup", name)
        site.application.resync()
        assert site.application.drift() == []
        site.commit(cluster=cluster(site, OTHER_IMAGE), group=group(site, OTHER_IMAGE))
        assert images(site, "worker") == [OTHER_IMAGE] * 8
        for name in ("c-default", "big"):
            assert site.kubectl.json("get", "daskworkergroup", name)["spec"]["worker"]["replicas"] == 4
        assert site.application.drift() == []

    def test_what_is_deleted_or_changed_by_hand_comes_back(self, site: Site):
        site.commit(cluster=cluster(site), group=group(site))
        for child in ("deployment/c-scheduler", "service/c-scheduler", "daskworkergroup/c-default"):
            before = uid(site, child)
            site.kubectl("delete", child, "--wait=false")
            eventually(lambda child=child, before=before: uid(site, child) != before)
        before = uid(site, "daskworkergroup/big")
        site.kubectl("delete", "daskworkergroup", "big")
        site.application.resync()
        eventually(lambda: uid(site, "daskworkergroup/big") != before)
        patch = [{"op": "replace", "path": "/spec/worker/spec/containers/0/image", "value": OTHER_IMAGE}]
        site.kubectl("patch", "daskcluster", "c", "--type=json", "-p", json.dumps(patch))
        site.application.resync()
        site.kubectl.wait_ready("daskcluster", "c")
        eventually(lambda: images(site, "worker") == [DASK_IMAGE] * 3)
        eventually(lambda: site.application.health()[0] == "Healthy")
        assert site.application.drift() == []

    def test_what_is_removed_from_git_goes_with_its_children(self, site: Site):
        site.commit(cluster=cluster(site), other=cluster(site, name="other"))
        assert images(site, "worker", "other") == [DASK_IMAGE] * 2
        site.commit(other=None)
        kinds = "daskclusters,daskworkergroups,deployments,services,configmaps,pods"
        eventually(lambda: site.kubectl("get", kinds, "-l", "dask.org/cluster-name=other", "-o", "name") == "")
        assert images(site, "worker") == [DASK_IMAGE] * 2
        assert site.application.health()[0] == "Healthy"

    def test_a_job_runs_once_for_each_run_id(self, site: Site):
        site.commit(job=job(site))
        runner = uid(site, "job/j-runner")
        for _ in range(5):
            site.application.resync()
        site.commit(job=job(site), unrelated=config_map())
        assert site.application.drift() == []
        assert uid(site, "job/j-runner") == runner
        assert len(runners(site)) == 1
        site.commit(job=job(site, run_id="2"), unrelated=config_map())
        status = site.kubectl.status("daskjob", "j")
        assert (status["runId"], status["jobStatus"]) == ("2", "Successful")
        assert uid(site, "job/j-runner") != runner
        second = uid(site, "job/j-runner")
        site.application.resync()
        assert uid(site, "job/j-runner") == second
        assert site.application.drift() == []

    def test_a_failed_job_is_told_and_not_repeated(self, site: Site):
        site.offer(job=job(site, exit_code=3))
        eventually(lambda: site.application.health()[0] == "Degraded", seconds=90)
        runner = uid(site, "job/j-runner")
        assert site.kubectl.status("daskjob", "j")["jobStatus"] == "Failed"
        site.offer(job=job(site, exit_code=3), unrelated=config_map())
        eventually(lambda: site.kubectl("get", "configmap", "unrelated", "-o", "name"))
        assert uid(site, "job/j-runner") == runner
        assert site.kubectl.condition("daskjob", "j", "Stalled")["message"] in self.reasons(site)

    def test_a_cluster_is_suspended_by_a_commit(self, site: Site):
        site.commit(cluster=cluster(site))
        site.commit(cluster=cluster(site, suspend=True))
        eventually(lambda: uids(site) == set())
        eventually(lambda: site.application.health()[0] in ("Healthy", "Suspended"))
        assert site.application.drift() == []
        site.commit(cluster=cluster(site))
        assert images(site, "worker") == [DASK_IMAGE] * 2

    def test_a_job_is_held_and_released_by_a_commit(self, site: Site):
        held = job(site)
        held["spec"]["suspend"] = True
        site.commit(job=held)
        eventually(lambda: site.kubectl.condition("daskjob", "j", "Suspended").get("status") == "True")
        assert uids(site) == set()
        assert site.application.drift() == []
        site.commit(job=job(site))
        assert site.kubectl.status("daskjob", "j")["jobStatus"] == "Successful"
        assert len(runners(site)) == 1

    def test_a_manifest_that_cannot_work_is_told_with_its_reason(self, site: Site):
        broken = cluster(site)
        broken["spec"]["worker"]["spec"]["containers"][0]["volumeMounts"] = [{"name": "nowhere", "mountPath": "/data"}]
        site.offer(cluster=broken)
        eventually(lambda: site.application.health()[0] == "Degraded", seconds=90)
        assert site.kubectl.condition("daskcluster", "c", "Stalled")["status"] == "True"
        assert "nowhere" in self.reasons(site)
        site.commit(cluster=cluster(site))
        assert images(site, "worker") == [DASK_IMAGE] * 2

    def test_an_autoscaled_group_is_no_drift(self, site: Site):
        """Within its bounds an autoscaler holds a number even while no scheduler answers, as on fake nodes."""
        site.waits = False
        site.commit(cluster=cluster(site), group=group(site))
        for minimum in (3, 5, 2):
            site.offer(cluster=cluster(site), group=group(site), scaler=autoscaler(minimum))
            eventually(lambda n=minimum: site.kubectl.status("daskworkergroup", "big").get("readyReplicas") == n)
            assert site.kubectl.json("get", "daskworkergroup", "big")["spec"]["worker"]["replicas"] == 1
        self.undisturbed(site, "daskcluster/c", "daskworkergroup/big", "daskautoscaler/big")

    def test_a_cluster_that_is_woken_and_sleeps_again_is_no_drift(self, site: Site):
        """Whether Git leaves ``suspend`` out, or states a first value that the tool is told to let be."""
        start_activator(site.plane)
        assert site.application.health()[0] != "Degraded"  # it is there
        (said,) = re.findall(rf"of {self.tool}[ \d.]*:\n\n```yaml\n(.*?)```", WAKING, re.DOTALL)
        self.let_suspend_be(site, yaml.safe_load(said))
        stated = cluster(site, name="stated", suspend=True, wake="OnConnect")
        site.commit(stated=stated, other=cluster(site, name="other", wake="OnConnect"))
        fall_asleep(site, "other")
        for turn in range(2):
            for name in ("stated", "other"):
                wake(site, name)
            self.undisturbed(site, "daskcluster/stated", "daskcluster/other")
            for name in ("stated", "other"):
                found = site.kubectl.json("get", "daskcluster", name, "--show-managed-fields")["metadata"]
                assert applied_by(found, "spec", "suspend") == "", "or idleAction would not overrule it"
                fall_asleep(site, name)
            self.undisturbed(site, "daskcluster/stated", "daskcluster/other")
            site.commit(unrelated=config_map(str(turn)))
        eventually(lambda: uids(site) == set())

    def let_suspend_be(self, site: Site, settings: Manifest) -> None:
        """Have the tool follow what docs/waking.md says for it."""
        raise NotImplementedError

    def reasons(self, site: Site) -> str:
        """What a user of the tool reads of an unhealthy application."""
        raise NotImplementedError

    def undisturbed(self, site: Site, *resources: str) -> None:
        """Nothing in Git differs from what is there, and applying it once more changes nothing."""
        before = [generation(site, resource) for resource in resources]
        site.application.resync()
        assert site.application.drift() == []
        assert [generation(site, resource) for resource in resources] == before


# --- manifests --------------------------------------------------------------------------------------------------------


def cluster(site: Site, image: str = DASK_IMAGE, *, name: str = "c", **spec: Any) -> dict[str, Any]:
    """A cluster whose default group begins with two workers; how many there are then is the group's own affair."""
    made = site.kube.cluster_manifest(name, workers=2, scheduler_image=image, worker_extra=NO_DRAIN, **spec)
    made["spec"]["worker"]["spec"]["containers"][0]["image"] = image
    return made


def group(site: Site, image: str = DASK_IMAGE) -> dict[str, Any]:
    """Another group of it, without ``replicas``."""
    made = site.kube.group_manifest("big", "c", workers=1)
    made["spec"]["worker"] |= NO_DRAIN
    made["spec"]["worker"]["spec"]["containers"][0]["image"] = image
    del made["spec"]["worker"]["replicas"]
    return made


def job(site: Site, *, run_id: str | None = None, exit_code: int = 0) -> dict[str, Any]:
    """A job whose runner ends on fake nodes."""
    made = site.kube.job_manifest("j", "pass", **({"runId": run_id} if run_id else {}))
    made["spec"]["job"]["metadata"] = {"annotations": {"test.dask.org/exit-code": str(exit_code)}}
    return made


def autoscaler(minimum: int) -> dict[str, Any]:
    spec = {"cluster": "c", "workerGroup": "big", "minimum": minimum, "maximum": minimum}
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler", "metadata": {"name": "big"}, "spec": spec}


def config_map(value: str = "value") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "unrelated"}, "data": {"key": value}}


# --- what is there ----------------------------------------------------------------------------------------------------


def images(site: Site, component: str, cluster: str = "c") -> list[str]:
    """Images of the Pods that are ready."""
    return [pod["spec"]["containers"][0]["image"] for pod in ready_pods(site.kubectl, cluster, component)]


def wake(site: Site, name: str) -> None:
    """Connect where the Service of a sleeping cluster leads, as a proxy on a node would, and wait for the cluster."""
    leads = ("get", "endpointslice", f"{name}-scheduler-activator")
    eventually(lambda: site.kubectl(*leads))
    doorway = site.kubectl.json(*leads)
    with socket.create_connection(("127.0.0.1", doorway["ports"][0]["port"])):
        site.kubectl.wait_ready("daskcluster", name)
        eventually(lambda: images(site, "worker", name) == [DASK_IMAGE] * 2)


def fall_asleep(site: Site, name: str) -> None:
    """As the operator does with a cluster that is idle, and wait until the activator stands in for it."""
    idle = ["--type=merge", "-p", '{"spec": {"suspend": true}}', "--field-manager=dask-operator"]
    site.kubectl("patch", "daskcluster", name, *idle)
    eventually(lambda: site.kubectl("get", "endpointslice", f"{name}-scheduler-activator", "-o", "name"))


def uid(site: Site, resource: str) -> str:
    return site.kubectl("get", resource, "-o", "jsonpath={.metadata.uid}")


def generation(site: Site, resource: str) -> str:
    return site.kubectl("get", resource, "-o", "jsonpath={.metadata.generation}")


def uids(site: Site) -> set[str]:
    return {pod["metadata"]["uid"] for pod in site.kubectl.json("get", "pods")["items"]}


def runners(site: Site) -> list[dict[str, Any]]:
    return site.kubectl.json("get", "pods", "-l", "dask.org/component=job-runner")["items"]
