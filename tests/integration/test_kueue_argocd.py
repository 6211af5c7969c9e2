"""Queues of the real Kueue under the real Argo CD: what quota makes of a cluster is no drift, and a wait is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import eventually
from tests.gitops.argocd import ArgoCD
from tests.gitops.conftest import Site
from tests.gitops.git import GitServer
from tests.support import clusters
from tests.support.controller import start_operator
from tests.support.kueue import cluster_queue, flavor, intruder, kueue, local_queue, priority
from tests.support.queues import QUEUE, items, queued, why, workers

from dask_constructs.argocd import argocd_settings

pytestmark = pytest.mark.control_plane


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """Of its own: Argo CD watches and lists everything, and other tests count requests."""
    with clusters.control_plane() as plane:
        start_operator(plane)
        with kueue(plane):
            plane.kubectl("apply", "-f", "-", input=items(priority("high", 1000)))
            yield plane


@pytest.fixture
def site(control_plane: ControlPlane, namespace: str) -> Iterator[Site]:
    with clusters.or_skip("Argo CD"):
        tool = ArgoCD(control_plane, argocd_settings())
    with GitServer(control_plane.folder / "git") as server:
        made = Site(control_plane, tool, server, namespace)
        yield made
        made.application.forget()
        made.kubectl("delete", "--all", "daskclusters,daskjobs,jobs")


def test_what_quota_makes_of_a_cluster_is_no_drift(site: Site) -> None:
    name, kubectl = site.kubectl.namespace, site.kubectl
    chosen = flavor(name, labels={"kubernetes.io/os": "linux"})
    queues = {"flavor": chosen, "queue": cluster_queue(name, name, "4100m"), "local": local_queue(QUEUE, name)}
    site.commit(**queues, cluster=queued(site.kube.cluster_manifest("c", **workers(3, 1))))
    kubectl.wait_ready("daskcluster", "c")
    undisturbed(site)
    before = kubectl.json("get", "daskcluster", "c")["metadata"]["generation"]

    kubectl.apply(intruder("urgent", QUEUE, "3", priority_class="high"))  # by hand, so none of Argo CD's business
    eventually(lambda: kubectl.status("job", "urgent").get("active"))
    eventually(lambda: "wait for quota" in why(kubectl, "daskworkergroup", "c-default", "Ready"))
    undisturbed(site)
    kubectl("delete", "job", "urgent")
    kubectl.wait_ready("daskcluster", "c")
    undisturbed(site)
    assert kubectl.json("get", "daskcluster", "c")["metadata"]["generation"] == before, "nobody wrote its spec"

    site.offer(job=queued(site.kube.job_manifest("j", "pass", cluster={"spec": site.kube.cluster_spec(**workers(9))})))
    eventually(lambda: why(kubectl, "daskjob", "j").startswith("False Queued"))
    eventually(lambda: site.application.health()[0] == "Progressing")
    undisturbed(site)


def undisturbed(site: Site) -> None:
    site.application.resync()
    eventually(lambda: site.application.drift() == [])
    workloads = site.kubectl.json("get", "workloads")["items"]
    assert not [w for w in workloads if w["metadata"].get("deletionTimestamp")], "none of them is pruned"
